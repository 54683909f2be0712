//! TCPRoutes: which serves, and with which slots.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use gateway_ebpf::abi::Affinity;

use super::{check, compiled};

const GW: &str = "gateway gw\nlistener t TCP 9000\n";
const TWO: &str = "service a 80\nendpoints a 10.1.0.1:1 10.1.0.2:1\nservice b 80\nendpoints b 10.1.0.3:1\n";

/// Shares of the slots in thousandths by endpoint, `-` for what is refused: of the only service.
fn shares(objects: &str) -> String {
    let snapshot = compiled(objects, &[]);
    let slots = &snapshot.image.services.values().next().expect("a service").slots;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for id in slots.iter() {
        let name = snapshot.image.backends.get(id).map_or("-".to_owned(), |b| b.at.to_string());
        *counts.entry(name).or_default() += 1;
    }
    let share = |(name, count): (&String, &usize)| {
        format!("{name}={}", (count * 1000 + slots.len() / 2) / slots.len())
    };
    format!("{} {}", slots.len(), counts.iter().map(share).collect::<Vec<_>>().join(" "))
}

#[test]
fn all_routes_are_accepted_and_the_oldest_serves() {
    check(
        &format!("{GW}{TWO}tcp young created=2\nto a:80\ntcp old created=1\nto b:80"),
        "TCPRoute young @gw Accepted=True:Accepted
         TCPRoute young @gw Accepted says the route is accepted, but gets no traffic: the older TCPRoute default/old serves listener default/gw/t
         TCPRoute old @gw Accepted=True:Accepted
         TCPRoute old @gw Accepted says the route is accepted
         listener gw/t attached=2 kinds=[TCPRoute]
         bound *:9000 tcp old default/gw/t",
    );
}

#[test]
fn a_route_serves_every_listener_that_it_names() {
    check(
        &format!(
            "gateway gw\nlistener s TCP 1\nlistener t TCP 2\nlistener u TCP 3\n{TWO}tcp a created=1 parent=gw#t\nto a:80\ntcp b created=2\nto b:80"
        ),
        "bound *:1 tcp b
         bound *:2 tcp a
         bound *:3 tcp b
         TCPRoute b @gw Accepted says the route is accepted, but does not serve every listener
         listener gw/s attached=1
         listener gw/t attached=2",
    );
}

#[test]
fn one_backend_has_one_slot() {
    assert_eq!(shares(&format!("{GW}{TWO}tcp r\nto b:80")), "1 10.1.0.3:1=1000");
}

#[test]
fn endpoints_of_a_service_share_its_weight() {
    assert_eq!(
        shares(&format!("{GW}{TWO}tcp r\nto a:80 weight=50\nto b:80 weight=50")),
        "1024 10.1.0.1:1=250 10.1.0.2:1=250 10.1.0.3:1=500"
    );
}

#[test]
fn weight_zero_gets_nothing() {
    assert_eq!(
        shares(&format!("{GW}{TWO}tcp r\nto a:80\nto b:80 weight=0")),
        "1024 10.1.0.1:1=500 10.1.0.2:1=500"
    );
}

#[test]
fn the_same_endpoint_twice_has_the_sum() {
    assert_eq!(
        shares(&format!("{GW}{TWO}tcp r\nto b:80 weight=1\nto a:80 weight=2\nto b:80 weight=1")),
        "1024 10.1.0.1:1=250 10.1.0.2:1=250 10.1.0.3:1=500"
    );
}

#[test]
fn invalid_and_unavailable_backends_are_refused_in_proportion() {
    for bad in ["none:80", "empty:80", "u:53", "x/svc:80", "e:80"] {
        let objects = format!(
            "{GW}{TWO}service empty 80\nservice u 53:UDP\nservice e 80 external=x.org\ntcp r\nto {bad} weight=80\nto b:80 weight=20"
        );
        assert_eq!(shares(&objects), "1024 -=800 10.1.0.3:1=200", "{bad}");
    }
}

#[test]
fn one_service_that_asks_for_affinity_decides_for_its_route() {
    let three = "service a 80\nendpoints a 10.1.0.1:1\nservice b 80 affinity=ClientIP\nendpoints b 10.1.0.3:1\n\
                 service x/b 80 affinity=ClientIP\nendpoints x/b 10.1.0.4:1\nservice e 80 affinity=ClientIP\n";
    for (backends, affinity) in [
        ("to a:80", Affinity::None),
        ("to b:80", Affinity::ClientIp),
        ("to a:80 weight=9\nto b:80", Affinity::ClientIp),
        ("to b:80\nto a:80 weight=9", Affinity::ClientIp),
        // Whatever it gets: it has no endpoint, no such port, or no weight.
        ("to a:80\nto e:80", Affinity::ClientIp),
        ("to a:80\nto b:81", Affinity::ClientIp),
        ("to a:80\nto b:80 weight=0", Affinity::ClientIp),
        // There is none, or it may not be referred to.
        ("to a:80\nto c:80", Affinity::None),
        ("to a:80\nto x/b:80", Affinity::None),
    ] {
        let snapshot = compiled(&format!("{GW}{three}tcp r\n{backends}"), &[]);
        let services: Vec<Affinity> = snapshot.image.services.values().map(|s| s.affinity).collect();
        assert_eq!(services, [affinity], "{backends}");
    }
}

#[test]
fn affinity_changes_no_slot() {
    for backends in ["to a:80\nto b:80", "to a:80 weight=3\nto b:80 weight=2\nto none:80 weight=1"] {
        let of = |more: &str| {
            let objects = TWO.replace("service b 80", &format!("service b 80{more}"));
            compiled(&format!("{GW}{objects}tcp r\n{backends}"), &[]).image.services[&0].clone()
        };
        let (by_tuple, by_client) = (of(""), of(" affinity=ClientIP"));
        assert_eq!(by_tuple.slots, by_client.slots);
        assert_eq!((by_tuple.affinity, by_client.affinity), (Affinity::None, Affinity::ClientIp));
    }
}

#[test]
fn a_routes_idle_time_is_that_of_its_bindings() {
    let objects = format!(
        "gateway gw\nlistener s TCP 1\nlistener t TCP 2\nlistener u TCP 3\nlistener h HTTP 80\n{TWO}\
         tcp a parent=gw#s parent=gw#t idle=30\nto a:80\ntcp b parent=gw#u\nto b:80"
    );
    let snapshot = compiled(&objects, &[]);
    let idle = snapshot.image.bindings.iter().map(|(key, b)| (key.port, b.idle.map_or(0, NonZeroU32::get)));
    assert_eq!(idle.collect::<Vec<_>>(), [(1, 30), (2, 30), (3, 0), (80, 0)]);
}

#[test]
fn where_nothing_is_valid_the_binding_rejects() {
    for route in [
        "",
        "tcp r",
        "tcp r\nto none:80",
        "tcp r\nto b:80 weight=0",
        "tcp r\nto empty:80",
        "tcp r\nrule refuse=x\nto b:80",
        "tcp r refuse=spec.x\nto b:80",
    ] {
        check(&format!("{GW}{TWO}service empty 80\n{route}"), "bound *:9000 reject");
    }
}

#[test]
fn a_refused_route_keeps_its_listener_from_younger_ones() {
    check(
        &format!(
            "{GW}{TWO}tcp old created=1\nrule refuse=spec.rules[0].x\nto b:80\ntcp young created=2\nto b:80"
        ),
        "TCPRoute old @gw Accepted=False:UnsupportedValue
         TCPRoute young @gw Accepted=True
         listener gw/t attached=1
         bound *:9000 reject",
    );
}

#[test]
fn any_application_protocol_goes_over_tcp_but_a_tls_policy_holds() {
    let h2c = "service h 80:TCP:kubernetes.io/h2c\nendpoints h 10.1.0.5:1\n";
    assert_eq!(shares(&format!("{GW}{h2c}tcp r\nto h:80")), "1 10.1.0.5:1=1000");
    check(
        &format!("{GW}{h2c}tls p h\ntcp r\nto h:80"),
        "bound *:9000 reject\n TCPRoute r @gw ResolvedRefs=False:UnsupportedProtocol",
    );
}

#[test]
fn grants_name_the_kind_of_route() {
    let objects = format!("{GW}service x/s 80\nendpoints x/s 10.1.0.5:1\ntcp r\nto x/s:80");
    check(
        &objects,
        "TCPRoute r @gw Accepted=True\n TCPRoute r @gw ResolvedRefs=False:RefNotPermitted\n bound *:9000 reject",
    );
    check(
        &format!("{objects}\ngrant x/g from=HTTPRoute/default"),
        "TCPRoute r @gw ResolvedRefs=False:RefNotPermitted",
    );
    check(
        &format!("{objects}\ngrant x/g from=TCPRoute/default"),
        "TCPRoute r @gw ResolvedRefs=True\n bound *:9000 tcp r",
    );
}

#[test]
fn what_a_route_refers_to_is_listed_whatever_becomes_of_it() {
    let grant = "namespace other\nservice other/c 80\nendpoints other/c 10.1.0.9:1\n";
    for (route, listed) in [
        ("to a:80\nto b:80", "10.1.0.1:1 10.1.0.2:1 10.1.0.3:1"),
        ("to a:80 weight=0\nto b:80", "10.1.0.1:1 10.1.0.2:1 10.1.0.3:1"),
        ("to a:80 weight=0", "10.1.0.1:1 10.1.0.2:1"),
        // Not ready; ending; ending beside one that is ready.
        ("to n:80", "10.1.0.4:1"),
        ("to e:80", "10.1.0.5:1 10.1.0.6:1"),
        // A route that is refused as a whole refers to them all the same.
        ("to a:80\nrule\nto b:80", "10.1.0.1:1 10.1.0.2:1 10.1.0.3:1"),
        // What may not be referred to, or is not there.
        ("to other/c:80\nto b:80", "10.1.0.3:1"),
        ("to b:81\nto gone:80", ""),
    ] {
        let objects = format!(
            "{GW}{TWO}{grant}service n 80\nendpoints n 10.1.0.4:1!\nservice e 80\nendpoints e 10.1.0.5:1~ 10.1.0.6:1\ntcp r\n{route}"
        );
        let snapshot = compiled(&objects, &[]);
        let all: Vec<_> = snapshot.listed.values().collect();
        let [only] = all[..] else { panic!("{route}: {all:?}") };
        let text: Vec<_> = only.iter().map(ToString::to_string).collect();
        assert_eq!(text.join(" "), listed, "{route}");
    }
    let none = compiled(&format!("{GW}{TWO}"), &[]);
    assert_eq!((none.bindings.len(), none.listed.len()), (1, 0), "nobody refers to anything");
}
