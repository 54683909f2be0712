//! What a run has met: its kinds of packets, decisions and flows by name, and those that a long one must meet.

use gateway_ebpf::abi::{Affinity, BindingKey, TCP, UDP};
use gateway_ebpf::flow::Reason;
use gateway_ebpf::life::SNAT;
use gateway_tests::packets::{ETHERNET, verify};
use gateway_user::core::forward::{Arrival, Decision, Flow, Outcome};
use gateway_user::core::snapshot::MapImage;

/// Of each family.
const OF_FAMILY: [&str; 15] = [
    "answered: time_exceeded",
    "answered: too_big",
    "dropped: collision",
    "dropped: time_exceeded",
    "dropped: too_big",
    "dropped: withdrawn",
    "forwarded: no reason",
    "next: host_socket",
    "next: no reason",
    "next: no_port",
    "next: no_route_back",
    "next: not_routable",
    "next: table_full",
    "next: tuple_taken",
    "reset: withdrawn",
];
/// Of either.
const OTHERS: [&str; 30] = [
    "GSO forwarded",
    "GSO answered",
    "GSO without a count forwarded",
    "ICMP forwarded",
    "ICMP dropped",
    "ICMP next",
    "IPv4 options forwarded",
    "TCP forwarded",
    "TCP dropped",
    "UDP forwarded",
    "UDP dropped",
    "UDP without checksum forwarded",
    "VLAN next",
    "broken forwarded",
    "icmp_unknown",
    "later fragment dropped",
    "later fragment forwarded",
    "later fragment next",
    "next_backend",
    "not for the host next",
    "opened",
    "opened anew",
    "opened by a binding of any address",
    "opened by the client's address",
    "opened once more",
    "opened to the client itself",
    "opened with an address of this node",
    "opened with an idle time of its own",
    "opened with the port of a flow that had ended",
    "opening_evicted",
];

/// What a long run must meet.
pub(crate) fn all() -> impl Iterator<Item = String> {
    let of_family =
        ["IPv4", "IPv6"].into_iter().flat_map(|family| OF_FAMILY.map(|what| format!("{family} {what}")));
    of_family.chain(OTHERS.map(str::to_owned)).chain(["without Ethernet forwarded".to_owned()])
}

/// What a packet is, with what becomes of it.
pub(crate) fn packet(arrival: &Arrival, wanted: &Outcome) -> Vec<String> {
    let ip = &arrival.bytes[if arrival.ethernet { ETHERNET } else { 0 }..];
    let v6 = ip[0] >> 4 == 6;
    let decision = match wanted.decision {
        Decision::Next => "next",
        Decision::Forwarded(_) => "forwarded",
        Decision::Dropped => "dropped",
        Decision::Answered => "answered",
        Decision::Reset(_) => "reset",
    };
    let reason = wanted.reason.map_or("no reason", Reason::name);
    let protocol = arrival.tuple().map(|tuple| tuple.protocol);
    let valid = verify(packet_alone(ip));
    let later = match ip {
        [_, _, _, _, _, _, 44, ..] if v6 => ip.len() > 43 && (ip[42] != 0 || ip[43] & 0xf8 != 0),
        _ => !v6 && ip.len() > 20 && (ip[6] & 0x1f != 0 || ip[7] != 0),
    };
    let kinds = [
        ("GSO", arrival.gso_size != 0),
        ("GSO without a count", arrival.gso_size != 0 && arrival.gso_segs == 0),
        ("ICMP", ip.len() > 20 && ip[if v6 { 6 } else { 9 }] == if v6 { 58 } else { 1 }),
        ("IPv4 options", !v6 && ip[0] & 15 > 5),
        ("TCP", protocol == Some(TCP)),
        ("UDP", protocol == Some(UDP)),
        ("UDP without checksum", protocol == Some(UDP) && valid == Ok(false)),
        ("VLAN", arrival.ethernet && arrival.bytes[12..14] == [0x81, 0]),
        ("broken", valid.is_err()),
        ("later fragment", later),
        ("not for the host", !arrival.host),
        ("without Ethernet", !arrival.ethernet),
    ];
    let family = if v6 { "IPv6" } else { "IPv4" };
    let kinds = kinds.into_iter().filter(|(_, is)| *is).map(|(kind, _)| format!("{kind} {decision}"));
    kinds.chain([format!("{family} {decision}: {reason}")]).collect()
}

/// What a flow is that has begun. `again`: another flow of the client had ended for it; `resting`: one of another client had,
/// for its source port.
pub(crate) fn flow(image: &MapImage, flow: &Flow, again: bool, resting: bool) -> Vec<String> {
    let (address, port) = (flow.client.destination, flow.client.destination_port);
    let exact = BindingKey { address, port, protocol: flow.client.protocol, pad: 0 };
    let binding = image.bindings.values().find(|binding| binding.id == flow.binding);
    let affinity = image.services.get(&flow.service).map(|service| service.affinity);
    let kinds = [
        ("opened", flow.bits & SNAT == 0),
        ("opened with an address of this node", flow.bits & SNAT != 0),
        ("opened with the port of a flow that had ended", resting),
        ("opened to the client itself", flow.client.source == flow.reply.source),
        ("opened by a binding of any address", !image.bindings.contains_key(&exact)),
        ("opened by the client's address", affinity == Some(Affinity::ClientIp)),
        ("opened with an idle time of its own", binding.is_some_and(|binding| binding.idle.is_some())),
        ("opened anew", again && flow.tries == 0),
        ("opened once more", again && flow.tries > 0),
    ];
    kinds.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind.to_owned()).collect()
}

/// The IP packet, without what Ethernet has behind it.
pub(crate) fn packet_alone(bytes: &[u8]) -> &[u8] {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    let length = if bytes[0] >> 4 == 4 { word(2) } else { word(4).map(|length| length + 40) };
    &bytes[..length.map_or(bytes.len(), |length| length.min(bytes.len()))]
}
