//! UDPRoutes: what differs from TCPRoutes, and what must not get in the way of these.

use std::collections::BTreeSet;

use super::{check, check_on, compiled};
use crate::core::transport::Transport;

const GW: &str = "gateway gw\nlistener t TCP 9000\nlistener u UDP 9000\n";
const DNS: &str = "service dns 53:UDP\nendpoints dns 10.1.0.1:53 10.1.0.2:53 protocol=UDP\n";
const BOTH: &str = "service both 53:TCP 53:UDP\nendpoints both 10.1.0.3:1 port=53\nendpoints both 10.1.0.4:2 port=53 protocol=UDP\n";

#[test]
fn a_listener_takes_routes_of_its_own_protocol() {
    check(
        &format!("{GW}{DNS}udp r\nto dns:53"),
        "listener gw/u attached=1 kinds=[UDPRoute]
         listener gw/t attached=0
         UDPRoute r @gw Accepted=True
         UDPRoute r @gw ResolvedRefs=True
         bound *:9000 reject default/gw/t
         bound *:9000/udp udp r default/gw/u",
    );
    check(
        &format!("{GW}{DNS}udp r parent=gw#t\nto dns:53"),
        "UDPRoute r @gw#t Accepted=False:NotAllowedByListeners
         bound *:9000/udp reject",
    );
}

#[test]
fn routes_of_both_kinds_may_have_one_name_and_one_port() {
    let snapshot = compiled(&format!("{GW}{BOTH}tcp r\nto both:53\nudp r\nto both:53"), &[]);
    let services: Vec<_> = snapshot.ids.services.iter().map(|((kind, ..), id)| (*kind, *id)).collect();
    assert_eq!(services, [(Transport::Tcp, 0), (Transport::Udp, 1)]);
    let backends: BTreeSet<String> = snapshot
        .image
        .backends
        .values()
        .map(|backend| format!("{}/{}", backend.at, Transport::of(backend.protocol).lower()))
        .collect();
    assert_eq!(backends.into_iter().collect::<Vec<_>>(), ["10.1.0.3:1/tcp", "10.1.0.4:2/udp"]);
}

#[test]
fn the_services_port_must_be_of_the_routes_protocol() {
    for (objects, reason, says) in [
        (
            "service t 53\nudp r\nto t:53",
            "UnsupportedProtocol",
            "its protocol is TCP, not UDP (use a UDP port)",
        ),
        ("service t 53:SCTP\nudp r\nto t:53", "UnsupportedProtocol", "its protocol is SCTP, not UDP"),
        ("udp r\nto none:53", "BackendNotFound", "there is no Service default/none"),
        ("udp r\nto dns:54", "BackendNotFound", "has no port 54"),
        ("service x/dns 53:UDP\nudp r\nto x/dns:53", "RefNotPermitted", "allows UDPRoutes of namespace"),
    ] {
        let wanted = format!(
            "UDPRoute r @gw ResolvedRefs=False:{reason}\n UDPRoute r @gw ResolvedRefs says …{says}\n bound *:9000/udp reject"
        );
        check(&format!("{GW}{DNS}{objects}"), &wanted);
    }
}

#[test]
fn what_no_backend_is_named_for_is_dropped() {
    for route in ["", "udp r", "udp r\nto dns:53 weight=0", "udp r\nrule refuse=x\nto dns:53"] {
        check(&format!("{GW}{DNS}{route}"), "bound *:9000/udp reject");
    }
}

#[test]
fn a_route_has_one_rule() {
    check(
        &format!("{GW}{DNS}udp r\nto dns:53\nrule\nto dns:53"),
        "UDPRoute r @gw Accepted=False:UnsupportedValue
         UDPRoute r @gw Accepted says spec.rules[1]: a UDPRoute has one rule",
    );
}

#[test]
fn of_two_routes_the_older_serves_and_both_are_attached() {
    check(
        &format!("{GW}{DNS}udp young created=2\nto dns:53\nudp old created=1\nto dns:53"),
        "listener gw/u attached=2
         UDPRoute young @gw Accepted=True
         UDPRoute young @gw Accepted says the route is accepted, but gets no traffic: the older UDPRoute default/old
         bound *:9000/udp udp old",
    );
}

#[test]
fn gateways_are_in_conflict_by_protocol() {
    check(
        "gateway a created=1\nlistener u UDP 53\ngateway b created=2\nlistener t TCP 53\nlistener u UDP 53",
        "listener b/t Conflicted=False
         listener b/u Conflicted=True:ProtocolConflict
         bound *:53 reject default/b/t
         bound *:53/udp reject default/a/u",
    );
}

#[test]
fn a_process_has_a_port_of_its_own_protocol() {
    let objects = "gateway gw\nlistener t TCP 53\nlistener u UDP 53";
    check_on(
        objects,
        &["udp 0.0.0.0:53"],
        "listener gw/t Accepted=True\n listener gw/u Accepted=False:PortUnavailable\n bound *:53 reject",
    );
    check_on(
        objects,
        &["0.0.0.0:53"],
        "listener gw/t Accepted=False:PortUnavailable\n listener gw/u Accepted=True\n bound *:53/udp reject",
    );
}

#[test]
fn grants_name_the_kind_of_route() {
    let objects =
        format!("{GW}service x/s 53:UDP\nendpoints x/s 10.1.0.5:1 protocol=UDP\nudp r\nto x/s:53\n");
    check(&format!("{objects}grant x/g from=TCPRoute/default"), "bound *:9000/udp reject");
    check(&format!("{objects}grant x/g from=UDPRoute/default"), "bound *:9000/udp udp r");
}
