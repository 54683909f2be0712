//! The specification by data: small packets, and what becomes of them and of their flows.

use std::net::IpAddr;

use gateway_ebpf::abi::{Action, Affinity, BindingKey};
use gateway_ebpf::life::{ESTABLISHED, FIN, SECOND};

use gateway_ebpf::abi::Address;

use super::*;
use crate::core::snapshot::{ServiceImage, Ways};

const CLIENT: &str = "192.0.2.7:1000";
const ASKED: &str = "10.0.0.1:80";
const ENDPOINT: &str = "10.0.1.1:8080";
const NODE: &str = "10.0.1.254";
const NOW: u64 = 1_000 * SECOND;

fn at(text: &str) -> (Address, u16) {
    let at: std::net::SocketAddr = text.parse().unwrap();
    (address(at.ip()), at.port())
}

fn tuple(source: &str, destination: &str, protocol: u8) -> Tuple {
    let ((source, source_port), (destination, destination_port)) = (at(source), at(destination));
    Tuple { source, destination, source_port, destination_port, protocol }
}

/// An IPv4 packet of TCP with these flags, or of UDP, its checksums right.
fn packet(tuple: &Tuple, flags: u8, payload: &[u8]) -> Arrival {
    let ports = [tuple.source_port.to_be_bytes(), tuple.destination_port.to_be_bytes()].concat();
    let (mut segment, field) = if tuple.protocol == TCP {
        ([&ports[..], &[0, 0, 0, 1, 0, 0, 0, 2, 5 << 4, flags], &[0; 6]].concat(), 16)
    } else {
        ([&ports[..], &(8 + payload.len() as u16).to_be_bytes(), &[0; 2]].concat(), 6)
    };
    segment.extend(payload);
    let (source, destination) = (ip(tuple.source), ip(tuple.destination));
    let sum = checksum::transport(source, destination, tuple.protocol, field, &segment);
    segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let length = (20 + segment.len() as u16).to_be_bytes();
    let mut header = [&[0x45, 0], &length[..], &[0, 9, 0, 0, 64, tuple.protocol, 0, 0]].concat();
    header.extend([&tuple.source[12..], &tuple.destination[12..]].concat());
    let sum = checksum::of(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let bytes = [&[2; 12][..], &[8, 0], &header, &segment].concat();
    Arrival { bytes, ethernet: true, host: true, gso_size: 0, gso_segs: 0 }
}

/// A Gateway with one binding, whose service has these slots; the endpoint is backend 1, another one backend 2.
struct Scene {
    flows: Flows,
    image: MapImage,
    settings: Settings,
    answers: Answers,
    now: u64,
}

impl Scene {
    fn new(slots: &[u32], protocol: u8) -> Self {
        let (address, port) = at(ASKED);
        let mut image = MapImage::default();
        let key = BindingKey { address, port, protocol, pad: 0 };
        image
            .bindings
            .insert(key, BindingImage { action: Action::Forward, id: 5, service: Some(3), idle: None });
        image.services.insert(3, ServiceImage::new(slots));
        for (id, endpoint) in [(1, ENDPOINT), (2, "10.0.1.2:8080")] {
            let endpoint: std::net::SocketAddr = endpoint.parse().unwrap();
            image.backends.insert(id, BackendKey { at: endpoint, protocol });
            let source = Some(NODE.parse().unwrap());
            let path = Path { interface: 8, next_hop: endpoint.ip(), source, mtu: 1400, local: true };
            image.ways.paths.insert(id, path);
        }
        image.ways.local.insert(ip(address));
        Self {
            flows: Flows::default(),
            image,
            settings: Settings { ports: (40_000, 2), idle: [100, 50], flows: 4, opening: 3 },
            answers: Answers {
                back: Some(Way { interface: 7, next_hop: None, mtu: 1500 }),
                ..Answers::default()
            },
            now: NOW,
        }
    }

    fn path(&mut self) -> &mut Path {
        self.image.ways.paths.get_mut(&1).unwrap()
    }

    fn send(&mut self, arrival: &Arrival) -> Result<Outcome, Fault> {
        forward(&mut self.flows, &self.image, &self.settings, arrival, &self.answers, self.now)
    }

    fn client(&mut self, flags: u8) -> Outcome {
        self.send(&packet(&tuple(CLIENT, ASKED, TCP), flags, b"client")).unwrap()
    }

    fn backend(&mut self, flags: u8) -> Outcome {
        self.send(&packet(&tuple(ENDPOINT, CLIENT, TCP), flags, b"backend")).unwrap()
    }

    fn flow(&self) -> &Flow {
        self.flows.living().next().unwrap()
    }
}

/// The outcome's packet.
fn left(outcome: &Outcome) -> Packet {
    let arrival =
        Arrival { bytes: outcome.bytes.clone(), ethernet: true, host: true, gso_size: 0, gso_segs: 0 };
    match packet::read(&arrival) {
        Kind::Transport(packet) | Kind::Icmp(packet) | Kind::Later(packet) => packet,
        Kind::Other => panic!("{outcome:?}"),
    }
}

#[test]
fn a_connection_goes_to_the_endpoint_and_back() {
    let mut scene = Scene::new(&[1], TCP);
    let opened = scene.client(SYN);
    let Decision::Forwarded(way) = opened.decision else { panic!("{opened:?}") };
    assert_eq!((way.interface, way.next_hop), (8, Some(ip(at(ENDPOINT).0))));
    assert_eq!((left(&opened).tuple, left(&opened).ttl), (tuple(CLIENT, ENDPOINT, TCP), 63));
    assert_eq!(opened.bytes, with_ttl(packet(&tuple(CLIENT, ENDPOINT, TCP), SYN, b"client")));
    let answer = scene.backend(SYN | ACK);
    assert_eq!(answer.decision, Decision::Forwarded(scene.answers.back.unwrap()));
    assert_eq!(answer.bytes, with_ttl(packet(&tuple(ASKED, CLIENT, TCP), SYN | ACK, b"backend")));
    scene.client(ACK);
    let flow = scene.flow();
    assert_eq!((flow.packets, flow.bytes, flow.binding), ([2, 1], [92, 47], 5));
    assert!(flow.bits & ESTABLISHED != 0);
    // What belongs to nobody is the host's.
    let stray = packet(&tuple("192.0.2.8:1", ASKED, TCP), ACK, b"");
    assert_eq!(scene.send(&stray).unwrap().decision, Decision::Next);
}

/// The bytes of a packet that has passed one router.
fn with_ttl(mut arrival: Arrival) -> Vec<u8> {
    packet::change_header4(&mut arrival.bytes[14..], |header| header[8] -= 1);
    arrival.bytes
}

#[test]
fn each_question_leads_to_its_reason() {
    type Change = fn(&mut Scene);
    let cases: [(&str, Change, Option<Reason>); 9] = [
        ("not local", |s| s.image.ways = Ways::default(), None),
        ("no binding", |s| s.image.bindings.clear(), None),
        ("refused", |s| drop(s.image.services.insert(3, ServiceImage::new([0]))), None),
        ("no way", |s| s.image.ways.paths.clear(), Some(Reason::NotRoutable)),
        ("socket", |s| s.answers.socket = true, Some(Reason::HostSocket)),
        ("no way back", |s| s.answers.back = None, Some(Reason::NoRouteBack)),
        ("full", |s| s.settings.flows = 0, Some(Reason::TableFull)),
        ("remote", |s| (s.path().local, s.path().source) = (false, None), Some(Reason::TupleTaken)),
        ("no port", |s| (s.path().local, s.settings.ports.1) = (false, 0), Some(Reason::NoPort)),
    ];
    for (what, change, reason) in cases {
        let mut scene = Scene::new(&[1], TCP);
        change(&mut scene);
        let outcome = scene.client(SYN);
        assert_eq!((outcome.decision, outcome.reason), (Decision::Next, reason), "{what}");
        assert_eq!(scene.flows.len(), 0, "{what}");
    }
}

#[test]
fn the_endpoint_sees_the_client_unless_it_must_not() {
    for (what, local, client, taken) in [
        ("remote", false, CLIENT, false),
        ("the endpoint itself", true, "10.0.1.1:1000", false),
        ("the tuple is taken", true, CLIENT, true),
    ] {
        let mut scene = Scene::new(&[1], TCP);
        if taken {
            scene.client(SYN);
            let asked = at("10.0.0.2:80");
            let key = BindingKey { address: asked.0, port: asked.1, protocol: TCP, pad: 0 };
            scene.image.bindings = scene.image.bindings.into_values().map(|binding| (key, binding)).collect();
            scene.image.ways.local.insert("10.0.0.2".parse::<IpAddr>().unwrap());
        }
        let asked = if taken { "10.0.0.2:80" } else { ASKED };
        scene.path().local = local;
        let open = packet(&tuple(client, asked, TCP), SYN, b"");
        for (port, fault) in [(Some(39_999), true), (Some(40_002), true), (None, true), (Some(40_001), false)]
        {
            scene.answers.port = port;
            let outcome = scene.send(&open);
            if fault {
                assert_eq!(outcome, Err(Fault::Port(port)), "{what}");
                continue;
            }
            let seen = left(&outcome.unwrap()).tuple;
            assert_eq!(seen, tuple(&format!("{NODE}:40001"), ENDPOINT, TCP), "{what}");
        }
    }
}

#[test]
fn a_port_goes_to_the_next_connection_once_its_own_has_ended() {
    let (client, backend) = ((false, FIN | ACK), (true, FIN | ACK));
    for (what, packets, rest) in [
        ("it lives", vec![], None),
        ("half of it", vec![client], None),
        ("the client ended it first", vec![client, backend], Some(SECOND / 2)),
        ("the backend did, and waits", vec![backend, client], Some(60 * SECOND)),
        ("it was reset", vec![(true, RST)], Some(SECOND / 2)),
    ] {
        let mut scene = Scene::new(&[1], TCP);
        scene.path().local = false;
        scene.settings.ports.1 = 1;
        scene.answers.port = Some(40_000);
        let seen = format!("{NODE}:40000");
        for (reply, flags) in [(false, SYN), (true, SYN | ACK), (false, ACK)].into_iter().chain(packets) {
            let tuple = if reply { tuple(ENDPOINT, &seen, TCP) } else { tuple(CLIENT, ASKED, TCP) };
            scene.send(&packet(&tuple, flags, b"")).unwrap();
        }
        let next = packet(&tuple("192.0.2.8:1", ASKED, TCP), SYN, b"");
        scene.now += rest.unwrap_or(99 * SECOND);
        assert_eq!(scene.send(&next), Err(Fault::Port(Some(40_000))), "{what}");
        scene.answers.port = None;
        assert_eq!(scene.send(&next).unwrap().reason, Some(Reason::NoPort), "{what}");
        if rest.is_some() {
            scene.now += 1;
            assert_eq!(scene.send(&next), Err(Fault::Port(None)), "{what}");
            scene.answers.port = Some(40_000);
            assert_eq!(left(&scene.send(&next).unwrap()).tuple, tuple(&seen, ENDPOINT, TCP), "{what}");
            assert_eq!((scene.flows.len(), scene.flows.ended.len()), (1, 1), "{what}");
        }
    }
}

#[test]
fn a_backend_that_is_silent_is_left_for_another_if_there_is_one() {
    for (slots, other) in [(vec![1, 2, 0, 0], true), (vec![1; 4], false), (vec![1, 0, 1, 0], false)] {
        let mut scene = Scene::new(&slots, TCP);
        // A client whose first slot is the first backend's.
        let client = (1..).map(|port| tuple(&format!("192.0.2.7:{port}"), ASKED, TCP));
        let service = ServiceImage::new(slots.clone());
        let first = |tuple: &Tuple| service.backend(tuple, 0) == 1;
        let client = client.into_iter().find(first).unwrap();
        let syn = packet(&client, SYN, b"");
        scene.send(&syn).unwrap();
        scene.now += SECOND / 4;
        scene.send(&syn).unwrap();
        assert_eq!(scene.flow().packets, [2, 0], "a copy");
        scene.now += SECOND;
        scene.send(&syn).unwrap();
        let flow = scene.flow();
        assert_eq!((flow.tries, flow.backend, flow.packets), (1, if other { 2 } else { 1 }, [1, 0]));
        assert_eq!(scene.flows.reasons.contains_key(&Reason::NextBackend), other, "{slots:?}");
        let traffic: Vec<_> = scene.flows.traffic.values().collect();
        assert_eq!(traffic.iter().map(|t| (t.begun, t.ended, t.unanswered)).sum_all(), (2, 1, 1));
    }
}

#[test]
fn with_affinity_a_client_has_one_backend_and_one_to_go_on_to() {
    for client in ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"] {
        let mut scene = Scene::new(&[1, 2, 1, 2, 2, 1, 2, 1], TCP);
        scene.settings.flows = 40;
        scene.image.services.get_mut(&3).unwrap().affinity = Affinity::ClientIp;
        let syn = |port| packet(&tuple(&format!("{client}:{port}"), ASKED, TCP), SYN, b"");
        let all = |scene: &mut Scene| -> Vec<u32> {
            for port in 1..=20 {
                scene.send(&syn(port)).unwrap();
            }
            scene.flows.living().map(|flow| flow.backend).collect()
        };
        let first = all(&mut scene);
        assert_eq!((first.len(), first.iter().collect::<BTreeSet<_>>().len()), (3, 1), "{client}");
        scene.settings.opening = 40;
        scene.now += 2 * SECOND;
        let next = all(&mut scene);
        let tried: BTreeSet<_> = scene.flows.living().map(|flow| (flow.tries, flow.backend)).collect();
        // Those that were evicted come for the first time.
        let (first, other) = (first[0], 3 - first[0]);
        assert_eq!((next.len(), tried), (20, BTreeSet::from([(0, first), (1, other)])), "{client}");
    }
}

#[test]
fn a_bindings_own_idle_time_goes_before_the_agents() {
    for (protocol, own, want) in [(TCP, 0, 100), (UDP, 0, 50), (TCP, 7, 7), (UDP, 7, 7)] {
        let mut scene = Scene::new(&[1], protocol);
        let binding = scene.image.bindings.values_mut().next().unwrap();
        binding.idle = NonZeroU32::new(own);
        scene.send(&packet(&tuple(CLIENT, ASKED, protocol), SYN, b"")).unwrap();
        assert_eq!(scene.flow().idle, want, "{protocol} {own}");
    }
}

trait SumAll {
    fn sum_all(self) -> (u64, u64, u64);
}

impl<I: Iterator<Item = (u64, u64, u64)>> SumAll for I {
    fn sum_all(self) -> (u64, u64, u64) {
        self.fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
    }
}

#[test]
fn only_what_is_over_may_be_given_up() {
    let mut scene = Scene::new(&[1], TCP);
    scene.client(SYN);
    scene.answers.swept = BTreeSet::from([tuple(CLIENT, ASKED, TCP)]);
    let other = packet(&tuple("192.0.2.8:1", ASKED, TCP), SYN, b"");
    assert_eq!(scene.send(&other), Err(Fault::NotOver(tuple(CLIENT, ASKED, TCP))));
    scene.now += 41 * SECOND;
    assert!(matches!(scene.send(&other).unwrap().decision, Decision::Forwarded(_)));
    assert_eq!((scene.flows.len(), scene.flows.ended.len()), (1, 1));
    // Of half-open ones three have room.
    scene.answers.swept.clear();
    for port in 2..5 {
        scene.send(&packet(&tuple(&format!("192.0.2.8:{port}"), ASKED, TCP), SYN, b"")).unwrap();
    }
    assert_eq!((scene.flows.len(), scene.flows.reasons[&Reason::OpeningEvicted]), (3, 1));
}

#[test]
fn a_tuple_of_a_flow_is_nobody_elses() {
    let mut scene = Scene::new(&[1], TCP);
    scene.client(SYN);
    for (what, source, destination) in
        [("the endpoint calls", ENDPOINT, CLIENT), ("the client calls the endpoint", CLIENT, ENDPOINT)]
    {
        let outcome = scene.send(&packet(&tuple(source, destination, TCP), SYN, b"")).unwrap();
        assert_eq!(
            (outcome.decision, outcome.reason),
            (Decision::Dropped, Some(Reason::Collision)),
            "{what}"
        );
    }
    // One that is over makes room for the next.
    scene.backend(FIN | ACK);
    scene.client(FIN | ACK);
    scene.client(SYN);
    assert_eq!((scene.flow().packets, scene.flows.ended.len()), ([1, 0], 1));
}

#[test]
fn a_packet_that_cannot_go_on_is_answered() {
    let mut scene = Scene::new(&[1], UDP);
    let asked = tuple(CLIENT, ASKED, UDP);
    let mut late = packet(&asked, 0, b"late");
    packet::change_header4(&mut late.bytes[14..], |header| header[8] = 1);
    for (arrival, reason, kind) in [
        (late, Reason::TimeExceeded, [11, 0, 0, 0, 0, 0]),
        (packet(&asked, 0, &[7; 1400]), Reason::TooBig, [3, 4, 0, 0, 5, 0x78]),
    ] {
        let outcome = scene.send(&arrival).unwrap();
        assert_eq!((outcome.decision, outcome.reason), (Decision::Answered, Some(reason)));
        let message = &outcome.bytes[34..];
        assert_eq!([&message[..2], &message[4..8]].concat(), kind);
        let quote = &arrival.bytes[14..];
        assert_eq!(message[8..], quote[..quote.len().min(548)]);
        assert_eq!(left(&outcome).tuple.destination, asked.source);
        assert_eq!((checksum::of(&[message]), checksum::of(&[&outcome.bytes[14..34]])), (0, 0));
        let passing = Arrival { host: false, ..arrival };
        assert_eq!(scene.send(&passing).unwrap().decision, Decision::Dropped);
    }
    assert_eq!(scene.flow().packets, [0, 0]);
    // Put together from segments that fit, it goes on, and counts as so many.
    let long = Arrival { gso_size: 1000, gso_segs: 0, ..packet(&asked, 0, &[7; 2500]) };
    assert!(matches!(scene.send(&long).unwrap().decision, Decision::Forwarded(_)));
    assert_eq!((scene.flow().packets, scene.flow().bytes), ([3, 0], [2500 + 3 * 28, 0]));
}

#[test]
fn an_error_about_a_packet_goes_to_its_sender() {
    let mut scene = Scene::new(&[1], TCP);
    let sent = scene.client(SYN);
    // A router quotes what it cannot pass on: the IP header, eight bytes of TCP's, or all of it.
    for length in [28, 46] {
        let mut message = [&[3, 4, 0, 0, 0, 0, 5, 0], &sent.bytes[14..14 + length]].concat();
        let sum = checksum::of(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let router = tuple("10.9.9.9:0", CLIENT, TCP);
        let mut error = packet(&router, 0, &[]);
        error.bytes.truncate(34);
        packet::change_header4(&mut error.bytes[14..], |header| {
            header[9] = packet::ICMP;
            header[2..4].copy_from_slice(&(20 + message.len() as u16).to_be_bytes());
        });
        error.bytes.extend(message);
        let outcome = scene.send(&error).unwrap();
        assert_eq!(outcome.decision, Decision::Forwarded(scene.answers.back.unwrap()), "{length}");
        assert_eq!(left(&outcome).tuple.source, router.source, "it keeps its address");
        let message = &outcome.bytes[34..];
        assert_eq!(checksum::of(&[message]), 0);
        let quoted = with_ttl(packet(&tuple(CLIENT, ASKED, TCP), SYN, b"client"));
        assert_eq!(message[8..], quoted[14..14 + length], "what the client has sent");
    }
    assert_eq!(scene.flow().packets, [1, 0], "no sign of life");
}

#[test]
fn fragments_follow_their_first() {
    let mut scene = Scene::new(&[1], UDP);
    let mut parts =
        [packet(&tuple(CLIENT, ASKED, UDP), 0, &[1; 16]), packet(&tuple(CLIENT, ASKED, UDP), 0, &[])];
    for (part, field) in parts.iter_mut().zip([[0x20, 0], [0, 3]]) {
        packet::change_header4(&mut part.bytes[14..], |header| header[6..8].copy_from_slice(&field));
    }
    let [first, later] = parts;
    assert_eq!(scene.send(&later).unwrap().decision, Decision::Next, "too early");
    assert!(matches!(scene.send(&first).unwrap().decision, Decision::Forwarded(_)));
    let outcome = scene.send(&later).unwrap();
    assert!(matches!(outcome.decision, Decision::Forwarded(_)));
    assert_eq!(outcome.bytes[34..], later.bytes[34..], "what would be ports is data");
    assert_eq!(left(&outcome).tuple.destination, at(ENDPOINT).0);
    assert_eq!(scene.flow().packets, [2, 0]);
}

#[test]
fn what_the_configuration_ended_is_reset_on_both_sides() {
    let mut scene = Scene::new(&[1], TCP);
    scene.client(SYN);
    scene.flows.of_client(&tuple(CLIENT, ASKED, TCP)).unwrap().bits |= WITHDRAWN;
    let outcome = scene.client(ACK);
    assert!(matches!(outcome.decision, Decision::Reset(way) if way.interface == 8));
    let reset = left(&outcome);
    assert_eq!((reset.tuple, reset.flags, reset.length), (tuple(CLIENT, ENDPOINT, TCP), RST | ACK, 40));
    assert!(scene.flow().bits & TOLD != 0);
    // What cannot be one.
    let passing = Arrival { host: false, ..packet(&tuple(CLIENT, ASKED, TCP), ACK, b"") };
    let outcome = scene.send(&passing).unwrap();
    assert_eq!((outcome.decision, outcome.reason), (Decision::Dropped, Some(Reason::Withdrawn)));
}

#[test]
fn what_is_broken_is_the_hosts() {
    let good = packet(&tuple(CLIENT, ASKED, TCP), SYN, b"");
    type Change = fn(&mut Arrival);
    let cases: [(&str, Change); 7] = [
        ("cut short", |a| a.bytes.truncate(50)),
        ("ends in Ethernet's padding", |a| a.bytes[17] -= 1),
        ("another version", |a| a.bytes[14] = 0x65),
        ("a header of 16 bytes", |a| a.bytes[14] = 0x44),
        ("another protocol", |a| a.bytes[23] = 47),
        ("another EtherType", |a| a.bytes[13] = 6),
        ("IPv6 with IPv4's addresses", |a| {
            let addresses = [at(CLIENT).0, at(ASKED).0].concat();
            let transport = a.bytes.split_off(34);
            a.bytes.truncate(12);
            a.bytes.extend([&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64], &addresses[..], &transport].concat());
        }),
    ];
    for (what, change) in cases {
        let mut scene = Scene::new(&[1], TCP);
        let mut broken = good.clone();
        change(&mut broken);
        assert_eq!(scene.send(&broken).unwrap().decision, Decision::Next, "{what}");
        assert!(scene.flows.is_empty(), "{what}");
    }
    // A wrong checksum is for the receiver to find.
    let mut scene = Scene::new(&[1], TCP);
    let mut wrong = good;
    wrong.bytes[51] ^= 1;
    let mut want = packet(&tuple(CLIENT, ENDPOINT, TCP), SYN, b"");
    want.bytes[51] ^= 1;
    assert_eq!(scene.send(&wrong).unwrap().bytes.len(), want.bytes.len());
    assert_ne!(scene.send(&wrong).unwrap().bytes, with_ttl(packet(&tuple(CLIENT, ENDPOINT, TCP), SYN, b"")));
}
