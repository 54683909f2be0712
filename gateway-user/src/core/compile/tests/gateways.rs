//! Gateways and listeners.

use super::{check, check_on};

#[test]
fn a_gateway_without_address_is_on_every_local_one() {
    check(
        "gateway gw generation=7\nlistener http HTTP 80",
        "gateway gw Accepted=True:Accepted gen=7
         gateway gw Programmed=True:Programmed gen=7
         gateway gw addresses [192.0.2.1 2001:db8::1 127.0.0.1]
         listener gw/http Accepted=True:Accepted gen=7
         listener gw/http Programmed=True:Programmed gen=7
         listener gw/http ResolvedRefs=True:ResolvedRefs gen=7
         listener gw/http Conflicted=False:NoConflicts gen=7
         listener gw/http attached=0 kinds=[HTTPRoute]
         bound *:80 http default/gw/http
         !bring up",
    );
}

#[test]
fn a_static_address_is_the_only_one_and_is_brought_up_if_the_host_lacks_it() {
    check(
        "gateway gw address=10.0.0.1 address=192.0.2.1 address=fd00::1 address=::ffff:10.0.0.1\nlistener http HTTP 80",
        "gateway gw addresses [10.0.0.1 192.0.2.1 fd00::1]
         bound 10.0.0.1:80 http
         bound 192.0.2.1:80 http
         bound fd00::1:80 http
         !bound *
         bring up 10.0.0.1
         bring up fd00::1
         !bring up 192.0.2.1",
    );
}

#[test]
fn addresses_that_cannot_be_given() {
    check(
        "gateway a address=pool\nlistener http HTTP 80\ngateway b address=Hostname:x.org address=10.0.0.1\nlistener http HTTP 80
         gateway c address=::\nlistener http HTTP 80\ngateway d address=224.0.0.1 address=10.0.0.4\nlistener http HTTP 80",
        "gateway a Accepted=True:Accepted
         gateway a Programmed=False:AddressNotAssigned
         listener a/http Programmed=False:Pending
         gateway b Accepted=False:UnsupportedAddress
         gateway b Accepted says spec.addresses[0]: Hostname:x.org
         gateway b Programmed=False:Invalid
         gateway c Programmed=False:AddressNotUsable
         gateway d Programmed=False:AddressNotUsable
         bound 10.0.0.4:80 http
         !bound *
         !bound 10.0.0.1",
    );
}

#[test]
fn without_classes_every_gateway_is_ours_with_classes_only_our_own() {
    check("gateway gw class=istio\nlistener http HTTP 80", "gateway gw Accepted=True:Accepted");
    check(
        "class mine sluice-gateway.dev/controller generation=3\nclass theirs istio.io/x\nclass odd sluice-gateway.dev/controller refuse=spec.parametersRef
         gateway a class=mine\nlistener http HTTP 80\ngateway b class=theirs\nlistener http HTTP 81
         gateway c class=none\nlistener http HTTP 82\ngateway d class=odd\nlistener http HTTP 83
         http r parent=b parent=a",
        "class mine Accepted=True:Accepted gen=3
         class odd Accepted=False:InvalidParameters
         !class theirs
         gateway a Accepted=True
         !gateway b
         !gateway c
         gateway d Accepted=False:InvalidParameters
         note Gateway default/b: GatewayClass \"theirs\" belongs to
         note Gateway default/c: …no GatewayClass \"none\"
         HTTPRoute r @a Accepted=True
         !HTTPRoute r @b
         !HTTPRoute r @!b
         bound *:80
         !bound *:81
         !bound *:83",
    );
}

#[test]
fn what_a_gateway_asks_for_and_is_not_built_refuses_it() {
    check(
        "gateway a refuse=spec.tls\nlistener http HTTP 80
         gateway c\nlistener one HTTP 82 refuse=allowedRoutes.x\nlistener two HTTP 83",
        "gateway a Accepted=False:Invalid
         gateway a Accepted says spec.tls: is not built
         listener a/http Programmed=False:Invalid
         gateway c Accepted=True:ListenersNotValid
         gateway c Accepted says listeners not valid: one; accepted: two
         gateway c Programmed=True
         listener c/one Accepted=False:UnsupportedValue
         listener c/one Programmed=False:Invalid
         listener c/two Accepted=True
         !bound *:80
         !bound *:82
         bound *:83",
    );
}

#[test]
fn protocols_that_are_not_built() {
    check(
        "gateway gw\nlistener b TLS 444\nlistener d example.com/x 99\nhttp r parent=gw#b",
        "listener gw/b Accepted=False:UnsupportedProtocol
         listener gw/b attached=0 kinds=[]
         listener gw/d Accepted=False:UnsupportedProtocol
         listener gw/d Accepted says protocol example.com/x
         gateway gw Accepted=False:ListenersNotValid
         gateway gw Programmed=False:Invalid
         gateway gw addresses []
         HTTPRoute r @gw#b Accepted=False:NotAllowedByListeners
         !bound",
    );
}

#[test]
fn http_listeners_are_distinct_by_hostname() {
    check(
        "gateway gw\nlistener a HTTP 80\nlistener b HTTP 80 hostname=b.org\nlistener c HTTP 80 hostname=*.b.org\nlistener d HTTP 81",
        "gateway gw Accepted=True:Accepted
         bound *:80 http default/gw/a,default/gw/b,default/gw/c
         bound *:81 http default/gw/d",
    );
}

#[test]
fn none_of_two_equal_listeners_wins() {
    check(
        "gateway gw\nlistener a HTTP 80 hostname=x.org\nlistener b HTTP 80 hostname=x.org\nlistener c HTTP 80\nhttp r parent=gw#a",
        "listener gw/a Conflicted=True:HostnameConflict
         listener gw/a Conflicted says port 80, hostname x.org: the same as listener \"b\"
         listener gw/a Accepted=False:HostnameConflict
         listener gw/a Programmed=False:Invalid
         listener gw/a attached=1
         listener gw/b Conflicted=True:HostnameConflict
         listener gw/c Accepted=True
         gateway gw Accepted=True:ListenersNotValid
         gateway gw Programmed=True
         HTTPRoute r @gw#a Accepted=True:Accepted
         bound *:80 http default/gw/c",
    );
}

#[test]
fn tcp_excludes_every_other_listener_on_its_port_but_udp() {
    check(
        "gateway gw\nlistener t TCP 80\nlistener h HTTP 80\nlistener s HTTPS 80\nlistener u UDP 80
         gateway two\nlistener t TCP 90\nlistener u UDP 90",
        "listener gw/t Conflicted=True:ProtocolConflict
         listener gw/h Conflicted=True:ProtocolConflict
         listener gw/s Conflicted=True:ProtocolConflict
         listener gw/u Conflicted=False
         gateway gw Accepted=True:ListenersNotValid
         listener two/t Accepted=True
         listener two/t attached=0 kinds=[TCPRoute]
         !bound *:80 …
         bound *:80/udp reject
         bound *:90 reject
         bound *:90/udp reject",
    );
}

#[test]
fn gateways_share_an_address_if_all_listeners_of_the_port_are_compatible() {
    check(
        "gateway a created=2\nlistener x HTTP 80 hostname=a.org\nlistener y HTTP 81
         gateway b created=1\nlistener x HTTP 80 hostname=b.org\nlistener y HTTP 82",
        "gateway a Accepted=True:Accepted
         gateway b Accepted=True:Accepted
         bound *:80 http default/b/x,default/a/x
         bound *:81 http default/a/y
         bound *:82 http default/b/y",
    );
}

#[test]
fn of_gateways_in_conflict_the_younger_loses_the_port() {
    check(
        "gateway a created=2\nlistener x HTTP 80 hostname=a.org\nlistener z HTTP 80\nlistener y HTTP 81
         gateway b created=1\nlistener x HTTP 80",
        "listener a/x Conflicted=True:HostnameConflict
         listener a/z Conflicted=True:HostnameConflict
         listener a/z Conflicted says port 80: the older Gateway default/b has it with listener \"x\"
         listener a/y Accepted=True
         gateway a Accepted=True:ListenersNotValid
         listener b/x Accepted=True
         bound *:80 http default/b/x
         bound *:81 http default/a/y",
    );
    check(
        "gateway a\nlistener x TCP 80\ngateway b\nlistener x HTTP 80 hostname=b.org\ngateway x/a\nlistener x HTTP 80",
        "listener a/x Accepted=True
         listener b/x Conflicted=True:ProtocolConflict
         listener x/a/x Conflicted=True:ProtocolConflict
         gateway b Accepted=False:ListenersNotValid",
    );
}

#[test]
fn the_exact_address_wins_over_any_address() {
    check(
        "gateway any created=1\nlistener x HTTP 80\nlistener y TCP 81\ngateway one created=2 address=192.0.2.1\nlistener x TCP 80
         gateway two address=10.0.0.9\nlistener x HTTP 90",
        "listener any/x Accepted=True
         listener one/x Accepted=True
         gateway any addresses [2001:db8::1 127.0.0.1]
         gateway one addresses [192.0.2.1]
         bound *:80 http
         bound 192.0.2.1:80 reject",
    );
}

#[test]
fn gateways_on_different_addresses_never_conflict() {
    check(
        "gateway a address=10.0.0.1\nlistener x HTTP 80\ngateway b address=10.0.0.2\nlistener x HTTP 80
         gateway c address=10.0.0.2 address=10.0.0.3\nlistener x HTTP 80",
        "listener a/x Accepted=True
         listener b/x Accepted=True
         listener c/x Conflicted=True:HostnameConflict
         !bound 10.0.0.3
         !bring up 10.0.0.3",
    );
}

#[test]
fn a_port_that_a_process_has_is_not_taken() {
    let any = "gateway gw\nlistener http HTTP 80\nlistener tcp TCP 81";
    let refused = "listener gw/http Accepted=False:PortUnavailable
        listener gw/http Accepted says port 80: nginx (pid 7) listens on
        listener gw/tcp Accepted=True
        !bound *:80
        bound *:81";
    for at in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "127.0.0.53:80", "[::ffff:192.0.2.1]:80"] {
        check_on(any, &[at], refused);
    }
    for at in ["0.0.0.0:8080", "10.9.9.9:80"] {
        check_on(any, &[at], "listener gw/http Accepted=True");
    }
}

#[test]
fn a_port_of_a_static_address_is_taken_only_by_who_listens_there() {
    let own = "gateway gw address=192.0.2.1\nlistener http HTTP 80";
    for at in ["0.0.0.0:80", "192.0.2.1:80"] {
        check_on(
            own,
            &[at],
            "listener gw/http Accepted=False:PortUnavailable\n gateway gw Accepted=False:ListenersNotValid",
        );
    }
    for at in ["[::]:80", "127.0.0.1:80", "192.0.2.1:81"] {
        check_on(own, &[at], "listener gw/http Accepted=True");
    }
    // Nobody else can be meant by an address that the agent itself brings up.
    check_on(
        "gateway gw address=10.0.0.1\nlistener http HTTP 80",
        &["0.0.0.0:80"],
        "listener gw/http Accepted=True",
    );
}

#[test]
fn a_process_that_comes_later_does_not_take_the_port() {
    let model = super::model("gateway gw\nlistener http HTTP 80");
    let first = super::compile(&model, &super::host(&[]), &super::Ids::default(), 1);
    let second = super::compile(&model, &super::host(&["0.0.0.0:80"]), &first.ids, 2);
    assert_eq!(second.image, first.image);
    let lines = super::lines(&second);
    assert!(
        lines.iter().any(|l| l.starts_with("note Gateway default/gw: listener \"http\": nginx (pid 7)")),
        "{lines:#?}"
    );
}

#[test]
fn kinds_that_a_listener_cannot_take() {
    check(
        "gateway gw\nlistener a HTTP 80 kind=TCPRoute\nlistener b HTTP 81 kind=HTTPRoute kind=GRPCRoute\nlistener c HTTP 82 kind=example.com/HTTPRoute
         listener d HTTP 83 kind=HTTPRoute\nhttp r parent=gw#b",
        "listener gw/a ResolvedRefs=False:InvalidRouteKinds
         listener gw/a attached=0 kinds=[]
         listener gw/a Accepted=False:UnsupportedValue
         listener gw/b ResolvedRefs=False:InvalidRouteKinds
         listener gw/b attached=1 kinds=[HTTPRoute]
         listener gw/b Accepted=True
         listener gw/b Programmed=True
         listener gw/c ResolvedRefs=False:InvalidRouteKinds
         listener gw/d ResolvedRefs=True
         HTTPRoute r @gw#b Accepted=True
         bound *:81 http
         !bound *:80",
    );
}

#[test]
fn status_names_at_most_sixteen_addresses() {
    let mut host = super::host(&[]);
    let addresses = (0..30).map(|n| std::net::IpAddr::from([192, 0, 2, n])).collect();
    host.interfaces = [("eth0".into(), addresses)].into();
    let model = super::model("gateway gw\nlistener http HTTP 80");
    let snapshot = super::compile(&model, &host, &super::Ids::default(), 1);
    let status = snapshot.report.gateways.values().next().unwrap();
    assert_eq!(status.addresses.len(), 16);
}

#[test]
fn objects_of_kinds_that_are_not_built_are_refused() {
    check(
        "set s generation=4\ntls p svc\nunbuilt GRPCRoute g parent=gw parent=none\nunbuilt TLSRoute u\ngateway gw\nlistener http HTTP 80",
        "ListenerSet s Accepted=False:NotAllowed gen=4
         BackendTLSPolicy p Accepted=False:Invalid
         GRPCRoute g @gw Accepted=False:NotAllowedByListeners
         GRPCRoute g @gw Accepted says GRPCRoute is not supported yet
         GRPCRoute g @!none Accepted=False:NoMatchingParent
         TLSRoute u @gw Accepted=False:NotAllowedByListeners
         listener gw/http attached=0",
    );
}
