//! Random configurations, and random packets for them: some of flows that live, some that may begin one, some strange.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use fastrand::Rng;
use gateway_ebpf::abi::{Action, Affinity, TCP, UDP};
use gateway_ebpf::life::{ACK, FIN, RST, SYN};
use gateway_ebpf::select::Tuple;
use gateway_tests::packets::{self, ETHERNET, Packet, Transport};
use gateway_user::core::forward::{Arrival, Flow, Flows};
use gateway_user::core::snapshot::{BackendKey, BindingImage, MapImage, Path, ServiceImage};

use super::ground::{ASKED, CLIENTS, CONNECTED, CONNECTED_PORT, ENDPOINTS, Ground, Interface};
use crate::bed::key;
use crate::differential::pick;

const PORTS: [u16; 3] = [80, CONNECTED_PORT, 53];
const PUSH: u8 = 8;

/// A packet, and how it comes in.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) arrival: Arrival,
    pub(crate) interface: Interface,
}

fn one_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

/// Some services that are referred to are missing, some slots and backends refuse, some backends have no way.
pub(crate) fn random_image(rng: &mut Rng, ground: &Ground) -> MapImage {
    let mut image = MapImage::default();
    for id in 1..=10u32 {
        // The first half is of IPv4.
        let ip: IpAddr = ENDPOINTS[rng.usize(..4) + if id > 5 { 4 } else { 0 }].parse().unwrap();
        let backend = BackendKey { at: SocketAddr::new(ip, pick(rng, &PORTS)), protocol: TCP };
        image.backends.insert(id, backend);
        if !one_in(rng, 6) {
            let source = if ip.is_ipv4() { "10.9.3.1" } else { "fd09:3::1" };
            let path = Path {
                interface: ground.interfaces[2].index,
                next_hop: ip,
                source: (!one_in(rng, 8)).then(|| source.parse().unwrap()),
                mtu: pick(rng, &[1500, 1500, 1400, 700]),
                local: rng.bool(),
            };
            image.ways.paths.insert(id, path);
        }
    }
    for id in 0..6 {
        // Of one family mostly: IPv4 if its number is even.
        let slot = |rng: &mut Rng| match rng.u32(..20) {
            0..2 => 0,
            2 => rng.u32(1..=10),
            _ => rng.u32(1..=5) + if id % 2 == 0 { 0 } else { 5 },
        };
        let slots = (0..1usize << rng.u8(0..5)).map(|_| slot(rng)).collect();
        let affinity = pick(rng, &[Affinity::None, Affinity::ClientIp]);
        image.services.insert(id, ServiceImage { slots, affinity });
    }
    let mut id = 0;
    for asked in ASKED.iter().map(|asked| asked.parse().ok()).chain([None::<IpAddr>]) {
        for (port, protocol) in PORTS.iter().flat_map(|port| [(*port, TCP), (*port, UDP)]) {
            if one_in(rng, 3) {
                continue;
            }
            let action = if one_in(rng, 8) { Action::Steer } else { Action::Forward };
            let v6 = asked.map_or(rng.bool(), |asked: IpAddr| asked.is_ipv6());
            let service = if one_in(rng, 12) { rng.u32(0..7) } else { rng.u32(0..3) * 2 + u32::from(v6) };
            let service = (action == Action::Forward).then_some(service);
            let idle = NonZeroU32::new(pick(rng, &[0, 0, 1, 7, 4000]));
            image.bindings.insert(key(asked, port, protocol), BindingImage { action, id, service, idle });
            id += 1;
        }
    }
    image.ways.local = ASKED.iter().map(|asked| asked.parse().unwrap()).collect();
    image.ways.local.remove(&ASKED[rng.usize(1..3)].parse().unwrap());
    image
}

/// A 5-tuple that may mean something, and the flow that it is of, with the side.
struct Aim {
    tuple: Tuple,
    flow: Option<(Flow, bool)>,
}

fn tuple(source: SocketAddr, destination: SocketAddr, protocol: u8) -> Tuple {
    Tuple {
        source: crate::bed::address(source.ip()),
        destination: crate::bed::address(destination.ip()),
        source_port: source.port(),
        destination_port: destination.port(),
        protocol,
    }
}

fn aim(rng: &mut Rng, flows: &Flows) -> Aim {
    let protocol = pick(rng, &[TCP, TCP, UDP]);
    let new = |tuple| Aim { tuple, flow: None };
    let roll = rng.u32(..100);
    if roll < 58
        && let Some(flow) = flows.living().nth(rng.usize(..flows.len().max(1)))
    {
        let flow = flow.clone();
        return match roll {
            // The client talks to the endpoint itself, or somebody to the client, as the endpoint would.
            0..4 => new(flow.reply.reverse()),
            4..6 => new(flow.client.reverse()),
            _ if rng.bool() => Aim { tuple: flow.client, flow: Some((flow, false)) },
            _ => Aim { tuple: flow.reply, flow: Some((flow, true)) },
        };
    }
    let (client, asked): (IpAddr, IpAddr) = loop {
        let client = if one_in(rng, 8) { pick(rng, &ENDPOINTS) } else { pick(rng, &CLIENTS) };
        let asked = pick(rng, &ASKED);
        if client.contains(':') == asked.contains(':') {
            break (client.parse().unwrap(), asked.parse().unwrap());
        }
    };
    if one_in(rng, 12) {
        let clients = CONNECTED[usize::from(protocol == UDP)];
        let v6 = asked.is_ipv6();
        let host = ASKED[if v6 { 3 } else { 0 }].parse().unwrap();
        let client = clients[usize::from(v6)].parse().unwrap();
        return new(tuple(client, SocketAddr::new(host, CONNECTED_PORT), protocol));
    }
    let port = if one_in(rng, 30) { 81 } else { pick(rng, &PORTS) };
    new(tuple(SocketAddr::new(client, rng.u16(1024..1044)), SocketAddr::new(asked, port), protocol))
}

fn flags(rng: &mut Rng, of_flow: bool, reply: bool) -> u8 {
    match (of_flow, reply) {
        (false, _) => pick(rng, &[SYN, SYN, SYN, SYN, SYN, SYN, SYN, ACK, SYN | ACK, RST, FIN, SYN | RST, 0]),
        (true, false) => pick(rng, &[SYN, SYN, SYN, ACK, ACK, ACK | PUSH, ACK, FIN | ACK, RST, RST | ACK]),
        (true, true) => pick(rng, &[SYN | ACK, SYN | ACK, ACK, ACK, ACK | PUSH, FIN | ACK, RST | ACK, SYN]),
    }
}

fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    rng.fill(&mut bytes);
    bytes
}

/// A packet that is whole and valid.
fn packet(rng: &mut Rng, aim: &Aim) -> Packet {
    let at = |address, port| SocketAddr::new(std::net::Ipv6Addr::from(address).to_canonical(), port);
    let Tuple { source, destination, source_port, destination_port, protocol } = aim.tuple;
    let reply = aim.flow.as_ref().is_some_and(|(_, reply)| *reply);
    let transport = if protocol == TCP {
        let options = if one_in(rng, 3) { vec![1; 4 * rng.usize(1..=10)] } else { Vec::new() };
        Transport::Tcp { flags: flags(rng, aim.flow.is_some(), reply), options }
    } else {
        Transport::Udp { checksum: !one_in(rng, 4) }
    };
    let mut packet = Packet {
        source: at(source, source_port),
        destination: at(destination, destination_port),
        ttl: if one_in(rng, 20) { rng.u8(..3) } else { rng.u8(3..) },
        options: Vec::new(),
        whole: rng.bool(),
        transport,
        payload: Vec::new(),
    };
    if packet.source.is_ipv4() && one_in(rng, 6) {
        packet.options = vec![1; 4 * rng.usize(1..=10)];
    }
    let length = match &aim.flow {
        // Just what the way takes, or a byte more.
        Some((flow, reply)) if one_in(rng, 6) => {
            let way = if *reply { flow.back } else { flow.forth };
            (way.mtu as usize + rng.usize(..2)).saturating_sub(packet.ip().len())
        }
        _ => pick(rng, &[0, 0, 1, 2, 11, 100, 101, 536, 1200]),
    };
    packet.payload = bytes(rng, length);
    packet
}

/// An ICMP error about a packet that was sent for a flow, or that looks like it.
fn error(rng: &mut Rng, flows: &Flows) -> Option<Packet> {
    let flow = flows.living().nth(rng.usize(..flows.len().max(1)))?;
    let mut half = if rng.bool() { flow.client } else { flow.reply };
    if one_in(rng, 8) {
        half.source_port ^= 1 << rng.u8(..16);
    }
    let quoted = packet(rng, &Aim { tuple: half.reverse(), flow: None });
    let (mut source, destination) = (quoted.destination, quoted.source);
    let v6 = source.is_ipv6();
    if rng.bool() {
        let router: IpAddr = if v6 { "fd77::1" } else { "10.77.0.1" }.parse().unwrap();
        source.set_ip(router);
    }
    let header = if v6 { 40 } else { 20 + quoted.options.len() };
    let mut quote = quoted.ip();
    if !one_in(rng, 4) {
        quote.truncate(header + pick(rng, &[8, 8, 20, 32, 64, 500, 7]));
    }
    let kind = if v6 {
        pick(rng, &[[1, 4], [2, 0], [3, 0], [4, 1], [128, 0], [137, 0]])
    } else {
        pick(rng, &[[3, 4], [3, 3], [11, 0], [12, 0], [8, 0], [5, 1]])
    };
    let destination = if one_in(rng, 12) {
        let ip = if v6 { ASKED[3] } else { ASKED[0] };
        SocketAddr::new(ip.parse().unwrap(), 0)
    } else {
        destination
    };
    Some(Packet {
        source,
        destination,
        ttl: if one_in(rng, 20) { rng.u8(..3) } else { 64 },
        options: Vec::new(),
        whole: true,
        transport: Transport::Icmp { kind, rest: [0, 0, 5, rng.u8(..)] },
        payload: quote,
    })
}

/// A packet and how it comes in. `parts`: fragments that are still to come.
pub(crate) fn shot(rng: &mut Rng, ground: &Ground, flows: &Flows, parts: &mut Vec<Vec<u8>>) -> Shot {
    let aim = aim(rng, flows);
    let mut packet = packet(rng, &aim);
    if one_in(rng, 12)
        && let Some(error) = error(rng, flows)
    {
        packet = error;
    }
    let interface = ground.interfaces[rng.usize(..2)];
    let (mut gso_size, mut gso_segs) = (0, 0);
    if !matches!(packet.transport, Transport::Icmp { .. }) && one_in(rng, 6) {
        gso_size = pick(rng, &[100, 536, 648, 1300, 1448, 1460]);
        // A test run takes no more than 3.4 kB.
        let count = rng.u32(1..=3000 / gso_size);
        let length = (count - 1) * gso_size + rng.u32(1..=gso_size);
        packet.payload = bytes(rng, length as usize);
        gso_segs = if one_in(rng, 5) { 0 } else { count };
    }
    let mut ip = packet.ip();
    // What the Ethernet header says, whatever the IP header will.
    let mut v6 = packet.source.is_ipv6();
    if gso_size == 0 {
        ip = strange(rng, ip);
        if one_in(rng, 20) && ip.len() > 100 && is_whole(&ip) {
            *parts = packets::fragments(&ip, 8 * rng.usize(3..=20), rng.u32(..));
            if !one_in(rng, 10) {
                ip = parts.remove(0);
            }
        } else if !parts.is_empty() && one_in(rng, 4) {
            ip = parts.swap_remove(rng.usize(..parts.len()));
            v6 = ip[0] >> 4 == 6;
        }
    }
    // Without an Ethernet header a test run takes the family from where it would be.
    let family: &[u8] = if ip[0] >> 4 == 6 { &[0x86, 0xdd] } else { &[8, 0] };
    if ip.get(12..14) == Some(family) && ip.len() >= least(&ip) && rng.bool() {
        let host = ip[..6] == interface.mac;
        return Shot { arrival: Arrival { bytes: ip, ethernet: false, host, gso_size, gso_segs }, interface };
    }
    let mac = match rng.u32(..40) {
        0 => [0xff; 6],
        1 => [2, 9, 9, 9, 9, 9],
        2 => [0x33, 0x33, 0, 0, 0, 1],
        _ => interface.mac,
    };
    let mut frame = packets::ethernet(mac, &ip);
    frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
    if gso_size == 0 {
        match rng.u32(..60) {
            0 => frame = packets::tagged(&frame, 7),
            // Too short for Ethernet, and filled up.
            1..6 => {
                let count = rng.usize(1..20);
                frame.extend(bytes(rng, count));
            }
            6 => frame[12..14].copy_from_slice(&pick(rng, &[[8, 6], [0x86, 0xdd], [8, 0], [0x88, 0xcc]])),
            7..10 => frame.truncate(rng.usize(ETHERNET + 1..frame.len())),
            _ => {}
        }
        frame.resize(frame.len().max(least(&frame)), 0);
    }
    let arrival = Arrival { bytes: frame, ethernet: true, host: mac == interface.mac, gso_size, gso_segs };
    Shot { arrival, interface }
}

/// Whether it is one that can be cut into fragments here.
fn is_whole(ip: &[u8]) -> bool {
    let fragment = if ip[0] >> 4 == 6 { ip[6] == 44 } else { ip[6] & 0x3f != 0 || ip[7] != 0 };
    !fragment && packets::verify(ip).is_ok()
}

/// The length that a frame must have for a test run.
fn least(frame: &[u8]) -> usize {
    ETHERNET
        + match frame[12..14] {
            [8, 0] => 20,
            [0x86, 0xdd] => 40,
            _ => 1,
        }
}

/// Something that is wrong with a packet, or seldom, now and then.
fn strange(rng: &mut Rng, mut ip: Vec<u8>) -> Vec<u8> {
    let v6 = ip[0] >> 4 == 6;
    let header = if v6 { 40 } else { usize::from(ip[0] & 15) * 4 };
    match rng.u32(..80) {
        // A checksum or what it covers.
        0..3 => {
            let at = rng.usize(header..ip.len());
            ip[at] ^= 1 << rng.u8(..8);
            ip
        }
        7 if !v6 => {
            ip[10] ^= 1 << rng.u8(..8);
            ip
        }
        // Version and header length.
        8 => {
            ip[0] = rng.u8(..);
            ip
        }
        // Another protocol, or an extension header.
        9 => {
            ip[if v6 { 6 } else { 9 }] = pick(rng, &[0, 1, 43, 44, 47, 58, 60, 132]);
            ip
        }
        // The length.
        10 => {
            let at = if v6 { 4 } else { 2 };
            ip[at..at + 2].copy_from_slice(&rng.u16(..100).to_be_bytes());
            ip
        }
        // IPv4 addresses in IPv6's header.
        11 if v6 => {
            let mapped = |ip: &str| crate::bed::address(ip.parse().unwrap());
            ip[8..24].copy_from_slice(&mapped("10.9.1.2"));
            ip[24..40].copy_from_slice(&mapped(ASKED[0]));
            ip
        }
        _ => ip,
    }
}
