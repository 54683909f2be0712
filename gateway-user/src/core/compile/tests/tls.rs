//! HTTPS listeners: certificates, grants, and what becomes of a listener without one.

use super::{check, compiled};

#[test]
fn an_https_listener_serves_httproutes() {
    check(
        "gateway gw\nlistener s HTTPS 443 cert=a\nlistener h HTTP 80\nsecret a\nhttp r",
        "listener gw/s Accepted=True
         listener gw/s ResolvedRefs=True:ResolvedRefs
         listener gw/s Programmed=True
         listener gw/s attached=1 kinds=[HTTPRoute]
         gateway gw Accepted=True:Accepted
         bound *:443 https default/gw/s
         bound *:80 http default/gw/h",
    );
}

#[test]
fn a_bad_reference_is_named_and_its_listener_serves_nothing() {
    for (reference, says) in [
        ("cert=missing", "there is no Secret default/missing (create it"),
        ("cert=example.com/Secret!a", "kind Secret of group \"example.com\" is not supported"),
        ("cert=ConfigMap!a", "kind ConfigMap of group \"\" is not supported"),
        ("cert=broken", "Secret default/broken: no-PEM"),
    ] {
        check(
            &format!(
                "gateway gw\nlistener s HTTPS 443 {reference}\nlistener h HTTP 80\nsecret a\nsecret broken bad=no-PEM\nhttp r"
            ),
            &format!(
                "listener gw/s Accepted=True:Accepted
                 listener gw/s ResolvedRefs=False:InvalidCertificateRef
                 listener gw/s ResolvedRefs says tls.certificateRefs[0]: {says}
                 listener gw/s Programmed=False:Invalid
                 listener gw/s Conflicted=False
                 listener gw/s attached=1 kinds=[HTTPRoute]
                 listener gw/h Programmed=True
                 gateway gw Accepted=True:ListenersNotValid
                 gateway gw Accepted says listeners not valid: s; accepted: h
                 gateway gw Programmed=True
                 HTTPRoute r @gw Accepted=True
                 bound *:80 http default/gw/h
                 !bound *:443"
            ),
        );
    }
}

#[test]
fn a_listener_without_references_has_no_certificate() {
    check(
        "gateway gw\nlistener s HTTPS 443",
        "listener gw/s ResolvedRefs=False:InvalidCertificateRef
         listener gw/s ResolvedRefs says tls.certificateRefs: none is given
         listener gw/s Programmed=False:Invalid
         gateway gw Accepted=True:ListenersNotValid
         gateway gw Programmed=False:Invalid
         gateway gw addresses []
         !bound",
    );
}

#[test]
fn a_secret_of_another_namespace_needs_a_grant() {
    let secrets = "secret other/a\ngateway gw\nlistener s HTTPS 443 cert=other/a";
    let refused = "listener gw/s ResolvedRefs=False:RefNotPermitted
        listener gw/s ResolvedRefs says tls.certificateRefs[0]: Secret other/a: no ReferenceGrant in namespace \"other\"
        listener gw/s Programmed=False:Invalid
        !bound";
    let served = "listener gw/s ResolvedRefs=True\nlistener gw/s Programmed=True\nbound *:443 https";
    for (grant, wanted) in [
        ("", refused),
        ("grant other/g from=Gateway/default kind=Secret", served),
        ("grant other/g from=Gateway/default kind=Secret to=a", served),
        ("grant other/g from=Gateway/default kind=Secret to=b", refused),
        ("grant other/g from=Gateway/elsewhere kind=Secret", refused),
        ("grant other/g from=HTTPRoute/default kind=Secret", refused),
        ("grant other/g from=Gateway/default kind=Service", refused),
        ("grant default/g from=Gateway/default kind=Secret", refused),
    ] {
        check(&format!("{secrets}\n{grant}"), wanted);
    }
}

#[test]
fn nobody_learns_of_a_secret_that_they_may_not_refer_to() {
    let says = |secret: &str| {
        let snapshot =
            compiled(&format!("{secret}\ngateway gw\nlistener s HTTPS 443 cert=other/a cert=b"), &[]);
        let listener = &snapshot.report.gateways.values().next().unwrap().listeners[0];
        listener.conditions.iter().find(|c| c.kind == "ResolvedRefs").unwrap().clone()
    };
    let here = says("secret other/a");
    assert_eq!(here, says("secret other/a bad=no-PEM"));
    assert_eq!(here, says(""));
    assert_eq!(here.reason, "RefNotPermitted");
}

#[test]
fn one_bad_certificate_of_several_leaves_the_others() {
    check(
        "gateway gw\nlistener s HTTPS 443 cert=a cert=missing cert=b\nsecret a\nsecret b",
        "listener gw/s ResolvedRefs=False:InvalidCertificateRef
         listener gw/s ResolvedRefs says tls.certificateRefs[1]: there is no Secret default/missing
         listener gw/s Programmed=True
         gateway gw Accepted=True:Accepted
         bound *:443 https",
    );
    let snapshot =
        compiled("gateway gw\nlistener s HTTPS 443 cert=b cert=missing cert=a\nsecret a\nsecret b", &[]);
    let bound = snapshot.bindings.values().next().unwrap();
    let names: Vec<_> = bound.tls.as_ref().unwrap().find("").unwrap().iter().map(|c| &*c.chain[0]).collect();
    assert_eq!(names, [b"b", b"a"]);
}

#[test]
fn https_listeners_are_distinct_by_hostname_and_each_has_its_certificate() {
    let snapshot = compiled(
        "gateway gw\nlistener a HTTPS 443 cert=a hostname=a.org\nlistener w HTTPS 443 cert=w hostname=*.org\nlistener x HTTPS 443 cert=x
         secret a\nsecret w\nsecret x",
        &[],
    );
    let bound = snapshot.bindings.values().next().unwrap();
    assert_eq!(&*bound.label, "default/gw/a,default/gw/w,default/gw/x");
    let of = |name: &str| bound.tls.as_ref().unwrap().find(name).map(|c| c[0].chain[0].to_vec());
    for (name, want) in [("a.org", "a"), ("b.org", "w"), ("a.com", "x"), ("", "x")] {
        assert_eq!(of(name), Some(want.as_bytes().to_vec()), "{name}");
    }
}

#[test]
fn listeners_that_have_names_in_common_say_so() {
    check(
        "gateway gw\nlistener a HTTPS 443 cert=a hostname=a.org\nlistener w HTTPS 443 cert=a hostname=*.org\nlistener v HTTPS 443 cert=a hostname=*.b.org
         listener o HTTPS 443 cert=a hostname=a.com\nlistener p HTTPS 444 cert=a hostname=b.org\nlistener h HTTP 80\nlistener i HTTP 80 hostname=a.org\nsecret a",
        "listener gw/a OverlappingTLSConfig=True:OverlappingHostnames
         listener gw/a OverlappingTLSConfig says listener default/gw/w has some of its names
         listener gw/w OverlappingTLSConfig=True:OverlappingHostnames
         listener gw/w Programmed=True
         listener gw/v OverlappingTLSConfig=True:OverlappingHostnames
         !listener gw/o OverlappingTLSConfig
         !listener gw/p OverlappingTLSConfig
         !listener gw/h OverlappingTLSConfig
         !listener gw/i OverlappingTLSConfig",
    );
    check(
        "gateway gw\nlistener a HTTPS 443 cert=a hostname=a.org\nlistener b HTTPS 443 cert=a hostname=b.org\nlistener x HTTPS 443 cert=a\nsecret a",
        "listener gw/a OverlappingTLSConfig=True
         listener gw/b OverlappingTLSConfig says listener default/gw/x
         listener gw/x OverlappingTLSConfig=True",
    );
}

#[test]
fn http_and_https_share_no_port() {
    check(
        "gateway gw\nlistener h HTTP 80 hostname=a.org\nlistener s HTTPS 80 hostname=b.org cert=a\nsecret a",
        "listener gw/h Conflicted=True:ProtocolConflict
         listener gw/h Conflicted says port 80: HTTP and listener \"s\" with HTTPS cannot share a port
         listener gw/s Conflicted=True:ProtocolConflict
         gateway gw Accepted=False:ListenersNotValid
         !bound",
    );
    check(
        "gateway old created=1\nlistener h HTTP 80 hostname=a.org\ngateway new created=2\nlistener s HTTPS 80 hostname=b.org cert=a\nsecret a",
        "listener old/h Conflicted=False
         listener new/s Conflicted=True:ProtocolConflict
         listener new/s Conflicted says port 80: the older Gateway default/old has it with listener \"h\"
         bound *:80 http default/old/h",
    );
    check(
        "gateway gw\nlistener s HTTPS 443 hostname=a.org cert=a\nlistener t HTTPS 443 hostname=a.org cert=a\nsecret a",
        "listener gw/s Conflicted=True:HostnameConflict
         listener gw/t Conflicted=True:HostnameConflict",
    );
}

#[test]
fn a_listener_without_certificate_keeps_its_port_from_younger_gateways() {
    check(
        "gateway old created=1\nlistener s HTTPS 443 cert=missing\ngateway new created=2\nlistener s HTTPS 443 cert=a\nsecret a",
        "listener old/s Programmed=False:Invalid
         listener new/s Conflicted=True:HostnameConflict
         !bound",
    );
}

#[test]
fn gateways_share_a_port_for_https() {
    check(
        "gateway a created=1\nlistener s HTTPS 443 hostname=a.org cert=a\ngateway b created=2\nlistener s HTTPS 443 hostname=b.org cert=a\nsecret a",
        "listener a/s Programmed=True
         listener b/s Programmed=True
         bound *:443 https default/a/s,default/b/s",
    );
}
