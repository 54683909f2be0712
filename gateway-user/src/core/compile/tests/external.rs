//! ExternalName Services: where a name leads, where it may not, and what is said of it.

use std::net::IpAddr;

use super::{compile, host, targets_of};
use crate::core::host::{Host, Role};
use crate::core::names::{Names, Resolution};
use crate::core::snapshot::{Ids, Snapshot};
use crate::core::testing::model;

const OBJECTS: &str = "gateway gw address=192.0.2.7\nlistener http HTTP 80\nlistener tcp TCP 5432\nservice svc external=db.example.org\nhttp r parent=gw#http\nto svc:8443\ntcp t parent=gw#tcp\nto svc:5432\n";

/// The host of these tests, where `db.example.org` resolves to these addresses, and `problem` if it is not empty.
fn resolving(addresses: &[&str], problem: &str, allowed: &[&str]) -> Host {
    let resolution = Resolution {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        problem: (!problem.is_empty()).then(|| problem.to_owned()),
    };
    let names = Names {
        allowed: allowed.iter().map(|net| net.parse().unwrap()).collect(),
        known: [("db.example.org".into(), resolution)].into(),
    };
    Host { names, ..host(&[]) }
}

fn snapshot(objects: &str, host: &Host) -> Snapshot {
    compile(&model(objects), host, &Ids::default(), 1)
}

/// The endpoints of the TCPRoute's slots, and `reject`.
fn slots(snapshot: &Snapshot) -> Vec<String> {
    let Some(service) = snapshot.image.services.values().next() else { return vec!["none".to_owned()] };
    let name = |id: &u32| {
        snapshot.image.backends.get(id).map_or_else(|| "reject".to_owned(), |backend| backend.at.to_string())
    };
    let mut list: Vec<String> = service.slots.iter().map(name).collect();
    list.sort();
    list.dedup();
    list
}

fn resolved_refs(snapshot: &Snapshot) -> Vec<String> {
    let statuses = snapshot.report.routes.values().flat_map(|entries| entries.iter());
    let conditions = statuses.flat_map(|parent| &parent.conditions).filter(|c| c.kind == "ResolvedRefs");
    conditions.map(|c| format!("{} {} {}", c.status, c.reason, c.message)).collect()
}

#[test]
fn a_name_leads_to_its_addresses_at_the_references_port() {
    let snapshot =
        snapshot(OBJECTS, &resolving(&["203.0.113.2", "2001:db8:1::2", "::ffff:203.0.113.1"], "", &[]));
    assert_eq!(targets_of(&snapshot), "svc:8443=203.0.113.1:8443,203.0.113.2:8443,[2001:db8:1::2]:8443*1");
    assert_eq!(slots(&snapshot), ["203.0.113.1:5432", "203.0.113.2:5432", "[2001:db8:1::2]:5432"]);
    assert!(resolved_refs(&snapshot).iter().all(|c| c.starts_with("true")), "{:?}", resolved_refs(&snapshot));
    let external = &snapshot.report.external.values().next().unwrap();
    assert_eq!(
        (&*external.name, external.addresses.len(), external.left_out.len()),
        ("db.example.org", 3, 0)
    );
    assert_eq!(external.problem, None);
}

#[test]
fn in_a_cluster_a_name_leads_nowhere_unless_it_is_permitted() {
    for (role, allowed, want) in [
        (Role::Alone, &[][..], 1),
        (Role::Leader, &[], 0),
        (Role::Follower, &[], 0),
        (Role::Leader, &["203.0.113.0/24"], 1),
    ] {
        let snapshot = snapshot(OBJECTS, &Host { role, ..resolving(&["203.0.113.2"], "", allowed) });
        let external = snapshot.report.external.values().next().unwrap();
        assert_eq!((external.addresses.len(), external.refused), (want, want == 0), "{role:?} {allowed:?}");
    }
}

#[test]
fn a_name_without_addresses_is_a_service_without_endpoints() {
    let never = host(&[]);
    for (host, problem) in [
        (&never, "it has not been looked up yet"),
        (&resolving(&[], "there is no such name", &[]), "there is no such name"),
    ] {
        let snapshot = snapshot(OBJECTS, host);
        assert_eq!(targets_of(&snapshot), "svc:8443=503*1");
        assert_eq!(slots(&snapshot), ["none"]);
        assert!(resolved_refs(&snapshot).iter().all(|c| c.starts_with("true")));
        let external = &snapshot.report.external.values().next().unwrap();
        assert_eq!(external.problem.as_deref(), Some(problem));
    }
}

#[test]
fn the_last_good_answer_is_used_whatever_the_newest_look_up_said() {
    let snapshot = snapshot(OBJECTS, &resolving(&["203.0.113.2"], "no answer in time", &[]));
    assert_eq!(targets_of(&snapshot), "svc:8443=203.0.113.2:8443*1");
    let external = &snapshot.report.external.values().next().unwrap();
    assert_eq!(external.problem.as_deref(), Some("no answer in time"));
}

/// Where a name may not lead, and what is said of it. The host has 192.0.2.1 and 2001:db8::1, the Gateway 192.0.2.7.
const GUARDED: &[(&str, &str)] = &[
    ("127.0.0.1", "a loopback address"),
    ("127.255.255.254", "a loopback address"),
    ("::1", "a loopback address"),
    ("::ffff:127.0.0.1", "a loopback address"),
    ("::127.0.0.1", "a loopback address"),
    ("64:ff9b::7f00:1", "a loopback address"),
    ("64:ff9b:1::7f00:1", "a loopback address"),
    ("2002:7f00:1::", "a loopback address"),
    ("0.0.0.0", "an unspecified address"),
    ("0.1.2.3", "an unspecified address"),
    ("::", "an unspecified address"),
    ("::ffff:0.0.0.0", "an unspecified address"),
    ("169.254.169.254", "a cloud's metadata address"),
    ("::ffff:169.254.169.254", "a cloud's metadata address"),
    ("64:ff9b::a9fe:a9fe", "a cloud's metadata address"),
    ("100.100.100.200", "a cloud's metadata address"),
    ("168.63.129.16", "a cloud's metadata address"),
    ("fd00:ec2::254", "a cloud's metadata address"),
    ("fd20:ce::254", "a cloud's metadata address"),
    ("169.254.0.1", "a link-local address"),
    ("fe80::1", "a link-local address"),
    ("febf::1", "a link-local address"),
    ("fec0::1", "a site-local address"),
    ("224.0.0.1", "a multicast address"),
    ("ff02::1", "a multicast address"),
    ("255.255.255.255", "a reserved or broadcast address"),
    ("240.0.0.1", "a reserved or broadcast address"),
    ("192.0.2.1", "an address of this host"),
    ("::ffff:192.0.2.1", "an address of this host"),
    ("64:ff9b::c000:201", "an address of this host"),
    ("2001:db8::1", "an address of this host"),
    ("192.0.2.7", "a Gateway's address"),
    ("::ffff:192.0.2.7", "a Gateway's address"),
];

#[test]
fn a_name_may_not_lead_to_the_host_its_link_or_a_gateway() {
    for (ip, what) in GUARDED {
        let refused = snapshot(OBJECTS, &resolving(&[ip], "", &[]));
        assert_eq!(targets_of(&refused), "svc:8443=500*1", "{ip}");
        assert_eq!(slots(&refused), ["none"], "{ip}");
        let canonical = ip.parse::<IpAddr>().unwrap().to_canonical();
        let conditions = resolved_refs(&refused);
        assert_eq!(conditions.len(), 2);
        for condition in conditions {
            assert!(condition.starts_with("false RefNotPermitted "), "{ip}: {condition}");
            for part in
                [*what, "\"db.example.org\"", "default/svc", &format!("--allow-external-name {canonical}/")]
            {
                assert!(condition.contains(part), "{ip}: {part} is not in: {condition}");
            }
        }
        // Among others it is left out, and the others serve.
        let mixed = snapshot(OBJECTS, &resolving(&[ip, "203.0.113.2"], "", &[]));
        assert_eq!(targets_of(&mixed), "svc:8443=203.0.113.2:8443*1", "{ip}");
        let external = mixed.report.external.values().next().unwrap();
        assert_eq!(external.left_out.len(), 1);
        assert!(external.left_out[0].1.contains(what), "{ip}: {:?}", external.left_out);
        // Whoever allows it gets it.
        let network = format!("{canonical}/{}", if canonical.is_ipv4() { 32 } else { 128 });
        let allowed = snapshot(OBJECTS, &resolving(&[ip], "", &[&network]));
        let at = std::net::SocketAddr::new(canonical, 8443);
        assert_eq!(targets_of(&allowed), format!("svc:8443={at}*1"), "{ip}");
    }
}

#[test]
fn neighbours_of_guarded_addresses_are_not_guarded() {
    for ip in [
        "1.0.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "169.255.0.1",
        "223.255.255.255",
        "10.0.0.1",
        "192.0.2.2",
        "192.0.2.6",
        "2001:db8::2",
        "fd00::1",
        "fe00::1",
        "2003::1",
        "64:ff9b::cb00:7102",
    ] {
        let snapshot = snapshot(OBJECTS, &resolving(&[ip], "", &["127.0.0.0/8"]));
        let at = std::net::SocketAddr::new(ip.parse().unwrap(), 8443);
        assert_eq!(targets_of(&snapshot), format!("svc:8443={at}*1"));
    }
}

#[test]
fn a_family_that_the_host_lacks_is_left_out() {
    let mut only4 = resolving(&["203.0.113.2", "2001:db8:1::2"], "", &[]);
    let addresses =
        ["192.0.2.1", "127.0.0.1", "::1", "fe80::1"].iter().map(|ip| ip.parse().unwrap()).collect();
    only4.interfaces = [("eth0".into(), addresses)].into();
    let left = snapshot(OBJECTS, &only4);
    assert_eq!(targets_of(&left), "svc:8443=203.0.113.2:8443*1");
    let external = left.report.external.values().next().unwrap();
    assert_eq!(external.left_out[0].1, "the host has no IPv6 address to connect from");
    // That is nobody's fault: no endpoints, not a bad reference.
    only4.names = resolving(&["2001:db8:1::2"], "", &[]).names;
    let none = snapshot(OBJECTS, &only4);
    assert_eq!(targets_of(&none), "svc:8443=503*1");
    assert!(resolved_refs(&none).iter().all(|c| c.starts_with("true")));
}

#[test]
fn ports_and_policies_hold_for_names_too() {
    let with = |service: &str, to: &str| {
        let objects = format!("gateway gw\nlistener http HTTP 80\n{service}\nhttp r\nto {to}");
        let snapshot = snapshot(&objects, &resolving(&["203.0.113.2"], "", &[]));
        format!("{} {}", targets_of(&snapshot), resolved_refs(&snapshot).join(" "))
    };
    for (service, to, wanted) in [
        ("service svc 80 external=db.example.org", "svc:80", "svc:80=203.0.113.2:80*1 true"),
        ("service svc 80 external=db.example.org", "svc:81", "svc:81=203.0.113.2:81*1 true"),
        ("service svc external=db.example.org", "svc", "svc=500*1 false BackendNotFound"),
        ("service svc 80:UDP external=db.example.org", "svc:80", "svc:80=500*1 false UnsupportedProtocol"),
        (
            "service svc 80:TCP:https external=db.example.org",
            "svc:80",
            "svc:80=500*1 false UnsupportedProtocol",
        ),
        (
            "service svc external=db.example.org\ntls p svc",
            "svc:80",
            "svc:80=500*1 false UnsupportedProtocol",
        ),
        ("service svc external=203.0.113.9", "svc:80", "svc:80=500*1 false BackendNotFound"),
        ("service x/svc external=db.example.org", "x/svc:80", "x/svc:80=500*1 false RefNotPermitted"),
        (
            "service x/svc external=db.example.org\ngrant x/g from=HTTPRoute/default",
            "x/svc:80",
            "x/svc:80=203.0.113.2:80*1 true",
        ),
    ] {
        let got = with(service, to);
        assert!(got.starts_with(wanted), "{service}, {to}: {got}");
    }
}
