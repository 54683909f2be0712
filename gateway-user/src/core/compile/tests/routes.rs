//! Attachment, backends and conditions of HTTPRoutes.

use super::{check, compiled, targets};
use crate::core::route::RequestView;
use crate::core::snapshot::BoundService;

const GW: &str = "gateway gw\nlistener http HTTP 80\nlistener alt HTTP 81\n";
const SVC: &str = "service svc 80\nendpoints svc 10.1.0.1:8080 10.1.0.2:8080\n";

#[test]
fn a_parent_ref_selects_by_name_section_and_port() {
    check(
        &format!("{GW}http a generation=9\nhttp b parent=gw#alt\nhttp c parent=gw:80\nhttp d parent=gw#alt:81\nhttp e parent=gw#alt:80\nhttp f parent=gw#none\nhttp g parent=gw:99"),
        "HTTPRoute a @gw Accepted=True:Accepted gen=9
         HTTPRoute a @gw ResolvedRefs=True:ResolvedRefs gen=9
         HTTPRoute b @gw#alt Accepted=True
         HTTPRoute c @gw Accepted=True
         HTTPRoute d @gw#alt Accepted=True
         HTTPRoute e @gw#alt Accepted=False:NoMatchingParent
         HTTPRoute e @gw#alt Accepted says parentRefs: Gateway default/gw has no listener with the name \"alt\" on port 80
         HTTPRoute f @gw#none Accepted=False:NoMatchingParent
         HTTPRoute g @gw Accepted=False:NoMatchingParent
         listener gw/http attached=2
         listener gw/alt attached=3",
    );
}

#[test]
fn a_parent_that_is_missing_or_no_gateway_is_reported() {
    check(
        &format!("{GW}http a parent=none\nhttp b parent=other/gw\nhttp c parent=Service!svc parent=gw"),
        "HTTPRoute a @!none Accepted=False:NoMatchingParent
         !HTTPRoute a @!none ResolvedRefs
         note HTTPRoute default/a: parentRefs: there is no Gateway default/none
         HTTPRoute b @!gw Accepted=False:NoMatchingParent
         HTTPRoute c @!svc Accepted=False:NoMatchingParent
         HTTPRoute c @gw Accepted=True",
    );
}

#[test]
fn several_parent_refs_count_a_route_once_a_listener() {
    check(
        &format!("{GW}http a parent=gw#http parent=gw:80"),
        "listener gw/http attached=1\n listener gw/alt attached=0",
    );
}

#[test]
fn routes_of_other_namespaces_must_be_allowed() {
    check(
        "gateway gw\nlistener same HTTP 80\nlistener all HTTP 81 from=All\nlistener none HTTP 82 from=None\nlistener some HTTP 83 from=team:a
         namespace x team=a\nnamespace y team=b
         http x/a parent=default/gw\nhttp x/b parent=default/gw#same\nhttp x/c parent=default/gw#some\nhttp y/c parent=default/gw#some
         http own parent=gw#none",
        "HTTPRoute x/a @gw Accepted=True
         HTTPRoute x/b @gw#same Accepted=False:NotAllowedByListeners
         HTTPRoute x/b @gw#same Accepted says Gateway default/gw: allowedRoutes.namespaces of listener \"same\"…\"x\"
         HTTPRoute x/c @gw#some Accepted=True
         HTTPRoute y/c @gw#some Accepted=False:NotAllowedByListeners
         HTTPRoute own @gw#none Accepted=False:NotAllowedByListeners
         listener gw/same attached=0
         listener gw/all attached=1
         listener gw/none attached=0
         listener gw/some attached=2",
    );
}

#[test]
fn selectors() {
    let allowed = |selector: &str, is: bool| {
        let status = if is { "True" } else { "False" };
        check(
            &format!(
                "gateway gw\nlistener l HTTP 80 from={selector}\nnamespace x team=a\nhttp x/r parent=default/gw"
            ),
            &format!("HTTPRoute x/r @gw Accepted={status}"),
        );
    };
    for (selector, is) in [
        ("team:a", true),
        ("team:b", false),
        ("team:a,size:1", false),
        ("team:a|b", true),
        ("team:b|c", false),
        ("size:1|2", false),
        ("team!b|c", true),
        ("team!a|b", false),
        ("size!1", true),
        ("+team", true),
        ("+size", false),
        ("-size", true),
        ("-team", false),
        ("kubernetes.io/metadata.name:x", true),
        ("kubernetes.io/metadata.name:y", false),
    ] {
        allowed(selector, is);
    }
}

#[test]
fn a_namespace_that_was_not_written_has_its_name_as_a_label() {
    check(
        "gateway gw\nlistener l HTTP 80 from=kubernetes.io/metadata.name:x\nhttp x/r parent=default/gw\nhttp y/r parent=default/gw",
        "HTTPRoute x/r @gw Accepted=True\n HTTPRoute y/r @gw Accepted=False:NotAllowedByListeners",
    );
}

#[test]
fn a_listener_that_names_its_routes_takes_no_others() {
    check(
        "gateway infra/gw\nlistener l HTTP 80 from=All named=HTTPRoute/my-route named=TCPRoute/t
         http my-route parent=infra/gw\nhttp other parent=infra/gw\nhttp t parent=infra/gw",
        "HTTPRoute my-route @gw Accepted=True
         HTTPRoute other @gw Accepted=False:NotAllowedByListeners
         HTTPRoute t @gw Accepted=False:NotAllowedByListeners
         listener infra/gw/l attached=1",
    );
}

#[test]
fn hostnames_must_meet() {
    for (listener, route, meet) in [
        ("a.org", "a.org", true),
        ("a.org", "b.org", false),
        ("*.a.org", "x.a.org", true),
        ("*.a.org", "y.x.a.org", true),
        ("*.a.org", "a.org", false),
        ("*.a.org", "xa.org", false),
        ("x.a.org", "*.a.org", true),
        ("*.a.org", "*.x.a.org", true),
        ("*.x.a.org", "*.a.org", true),
        ("*.a.org", "*.b.org", false),
        ("*.a.org", "*.xa.org", false),
    ] {
        let reason = if meet { "True:Accepted" } else { "False:NoMatchingListenerHostname" };
        let attached = u32::from(meet);
        check(
            &format!("gateway gw\nlistener l HTTP 80 hostname={listener}\nhttp r host={route}"),
            &format!("HTTPRoute r @gw Accepted={reason}\n listener gw/l attached={attached}"),
        );
    }
}

#[test]
fn kind_must_fit_the_listener() {
    check(
        "gateway gw\nlistener h HTTP 80\nlistener t TCP 81\nhttp r parent=gw#t\ntcp s parent=gw#h\ntcp u",
        "HTTPRoute r @gw#t Accepted=False:NotAllowedByListeners
         TCPRoute s @gw#h Accepted=False:NotAllowedByListeners
         TCPRoute u @gw Accepted=True
         listener gw/h attached=0
         listener gw/t attached=1",
    );
}

#[test]
fn a_service_leads_to_its_ready_endpoints() {
    assert_eq!(targets(&format!("{GW}{SVC}http r\nto svc:80")), "svc:80=10.1.0.1:8080,10.1.0.2:8080*1");
    let half = "service svc 80\nendpoints svc 10.1.0.1:8080! 10.1.0.2:8080 10.1.0.3:8080~\n";
    assert_eq!(targets(&format!("{GW}{half}http r\nto svc:80")), "svc:80=10.1.0.2:8080*1");
}

#[test]
fn endpoints_that_end_serve_if_none_is_ready() {
    let ending = "service svc 80\nendpoints svc 10.1.0.1:8080! 10.1.0.3:8080~\n";
    assert_eq!(targets(&format!("{GW}{ending}http r\nto svc:80")), "svc:80=10.1.0.3:8080*1");
}

#[test]
fn no_endpoint_is_503_and_no_condition() {
    let none = format!("{GW}service svc 80\nendpoints svc 10.1.0.1:8080!\nhttp r\nto svc:80");
    assert_eq!(targets(&none), "svc:80=503*1");
    check(&none, "HTTPRoute r @gw ResolvedRefs=True");
    assert_eq!(targets(&format!("{GW}service svc 80\nhttp r\nto svc:80")), "svc:80=503*1");
}

#[test]
fn ports_of_a_service_are_told_apart_by_name() {
    let two = "service svc 80 90\nendpoints svc 10.1.0.1:8080 port=80\nendpoints svc 10.1.0.1:9090 port=90\n";
    assert_eq!(
        targets(&format!("{GW}{two}http r\nto svc:90 weight=3\nto svc:80")),
        "svc:90=10.1.0.1:9090*3 svc:80=10.1.0.1:8080*1"
    );
}

#[test]
fn references_that_cannot_be_resolved() {
    for (to, objects, reason, says) in [
        ("none:80", "", "BackendNotFound", "there is no Service default/none"),
        ("svc:81", "", "BackendNotFound", "has no port 81 (it has: 80)"),
        ("svc", "", "BackendNotFound", "no port is named"),
        ("svc:80 kind=ConfigMap", "", "InvalidKind", "kind ConfigMap"),
        ("x/svc:80", "service x/svc 80", "RefNotPermitted", "no ReferenceGrant in namespace \"x\""),
        ("x/none:80", "", "RefNotPermitted", "no ReferenceGrant in namespace \"x\""),
        ("u:53", "service u 53:UDP", "UnsupportedProtocol", "its protocol is UDP"),
        ("h:80", "service h 80:TCP:kubernetes.io/h2c", "UnsupportedProtocol", "kubernetes.io/h2c"),
        ("h:80", "service h 80:TCP:kubernetes.io/ws", "UnsupportedProtocol", "kubernetes.io/ws"),
        ("h:80", "service h 80:TCP:https", "UnsupportedProtocol", "\"https\""),
        ("svc:80", "tls p svc", "UnsupportedProtocol", "BackendTLSPolicy default/p"),
    ] {
        let all = format!("{GW}{SVC}{objects}\nhttp r\nto svc:80 weight=0\nto {to}");
        let wanted = format!(
            "HTTPRoute r @gw Accepted=True\n HTTPRoute r @gw ResolvedRefs=False:{reason}\n HTTPRoute r @gw ResolvedRefs says spec.rules[0].backendRefs[…{says}"
        );
        check(&all, &wanted);
        let targets = targets(&all);
        assert!(targets.ends_with("=500*1"), "{to}: {targets}");
    }
}

#[test]
fn app_protocols_that_are_http_or_nobodys() {
    for protocol in ["http", "kubernetes.io/http", "example.com/own"] {
        let objects =
            format!("{GW}service svc 80:TCP:{protocol}\nendpoints svc 10.1.0.1:80\nhttp r\nto svc:80");
        assert_eq!(targets(&objects), "svc:80=10.1.0.1:80*1", "{protocol}");
    }
}

#[test]
fn a_reference_grant_allows_another_namespace() {
    let other = "service x/svc 80\nendpoints x/svc 10.1.0.9:80\n";
    for (grant, permitted) in [
        ("grant x/g from=HTTPRoute/default", true),
        ("grant x/g from=HTTPRoute/default to=svc", true),
        ("grant x/g from=HTTPRoute/default to=other", false),
        ("grant x/g from=TCPRoute/default", false),
        ("grant x/g from=HTTPRoute/y", false),
        ("grant default/g from=HTTPRoute/default", false),
    ] {
        let got = targets(&format!("{GW}{other}{grant}\nhttp r\nto x/svc:80"));
        assert_eq!(got, if permitted { "x/svc:80=10.1.0.9:80*1" } else { "x/svc:80=500*1" }, "{grant}");
    }
}

#[test]
fn a_tls_policy_for_one_port_leaves_the_others() {
    let objects = "service svc 80 90\nendpoints svc 10.1.0.1:8080 port=80\nendpoints svc 10.1.0.1:9090 port=90\ntls p svc:90\n";
    assert_eq!(
        targets(&format!("{GW}{objects}http r\nto svc:80\nto svc:90")),
        "svc:80=10.1.0.1:8080*1 svc:90=500*1"
    );
}

#[test]
fn a_route_without_backends_has_none() {
    let objects = format!("{GW}http r");
    assert_eq!(targets(&objects), "");
    check(&objects, "HTTPRoute r @gw Accepted=True\n HTTPRoute r @gw ResolvedRefs=True");
}

#[test]
fn a_refused_rule_answers_500_while_the_others_serve() {
    let objects = format!(
        "{GW}{SVC}http r\nrule refuse=spec.rules[0].filters[0]\nto svc:80\nrule\nmatch prefix=/ok\nto svc:80"
    );
    assert_eq!(targets(&objects), "500");
    check(
        &objects,
        "HTTPRoute r @gw Accepted=True:Accepted
         HTTPRoute r @gw PartiallyInvalid=True:UnsupportedValue
         HTTPRoute r @gw PartiallyInvalid says Dropped Rule: spec.rules[0].filters[0]: is not built
         listener gw/http attached=1",
    );
}

#[test]
fn a_route_of_refused_rules_is_not_accepted_and_still_not_passed_by() {
    for refused in [
        "http r\nrule refuse=filters\nto svc:80",
        "http r refuse=spec.x\nto svc:80",
        "http r\nto svc:80 refuse=filters",
    ] {
        let objects = format!("{GW}{SVC}{refused}");
        assert_eq!(targets(&objects), "500");
        check(
            &objects,
            "HTTPRoute r @gw Accepted=False:UnsupportedValue
             !HTTPRoute r @gw PartiallyInvalid
             listener gw/http attached=0",
        );
    }
}

#[test]
fn a_bad_expression_refuses_its_rule() {
    check(
        &format!("{GW}{SVC}http r\nmatch regex=/[\nmatch prefix=/x\nto svc:80\nrule\nmatch prefix=/ok\nto svc:80\nhttp s\nmatch headerre=x:(\nto svc:80"),
        "HTTPRoute r @gw PartiallyInvalid says Dropped Rule: spec.rules[0].matches[0].path: the regular expression \"/[\" is refused: unclosed
         HTTPRoute s @gw Accepted=False:UnsupportedValue
         HTTPRoute s @gw Accepted says spec.rules[0].matches[0].headers: x: the regular expression \"(\"",
    );
}

#[test]
fn timeouts_of_zero_are_none() {
    for (rule, request, backend) in [
        ("rule", None, None),
        ("rule request=0 backend=0", None, None),
        ("rule request=500 backend=20", Some(500), Some(20)),
    ] {
        let snapshot = compiled(&format!("{GW}http r\n{rule}"), &[]);
        let BoundService::Http(table) = &snapshot.bindings.values().next().unwrap().service else { panic!() };
        let headers = http::HeaderMap::new();
        let view = RequestView { host: "h", path: "/", query: None, method: "GET", headers: &headers };
        let found = table.find(&view).rule.unwrap();
        let millis = |t: Option<std::time::Duration>| t.map(|t| t.as_millis());
        assert_eq!((millis(found.request_timeout), millis(found.backend_timeout)), (request, backend));
    }
}

#[test]
fn series_are_one_for_each_listener_route_rule_and_backend() {
    let snapshot = compiled(
        &format!(
            "{GW}{SVC}http r parent=gw#http\nrule name=1\nto svc:80\nto svc:80\nto none:1\nrule\nto svc:80"
        ),
        &[],
    );
    let series: Vec<String> = snapshot
        .series
        .iter()
        .flat_map(|block| block.iter())
        .map(|s| format!("{}|{}|{}|{}", s.listener, s.route, s.rule, s.backend))
        .collect();
    assert_eq!(
        series,
        [
            "default/gw/http|||",
            "default/gw/http|default/r|1|",
            "default/gw/http|default/r|1|default/svc:80",
            "default/gw/http|default/r|1|default/none:1",
            "default/gw/alt|||",
        ]
    );
}
