//! Flows as they are read: datagrams are forwarded, and totals, living flows and the buffer of those that are over say
//! what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use gateway_ebpf::abi::{Action, UDP};
use gateway_ebpf::flow::{Flow, Reason, Traffic, TrafficKey};
use gateway_ebpf::life::State;
use gateway_tests::lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab};
use gateway_tests::netns::NetNs;
use gateway_tests::uninterrupted;
use gateway_user::core::flows::ending::{Ending, ending};
use gateway_user::core::flows::ledger::Carried;
use gateway_user::core::flows::{asked, backend, client, node, protocol, state_of};
use gateway_user::core::locality::{stub, ways};
use gateway_user::core::plan::Op;
use gateway_user::core::snapshot::{BackendKey, BindingImage, MapImage, ServiceImage};
use gateway_user::dataplane::{Dataplane, FlowCounts, FlowReader, Forwarding, Networks, Wanted};

use crate::bed::{WAIT, config, key, ops, start};

/// Small, since the machines that this runs on may be.
fn forwarding() -> Forwarding {
    Forwarding {
        flows: 64,
        opening: 32,
        ports: 40_000..=40_999,
        tcp_idle: Duration::from_secs(7200),
        udp_idle: Duration::from_secs(1),
        clsact: false,
    }
}

/// Forwards UDP on port 53 of an address to an endpoint, as the agent would.
fn forward(lab: &Lab, dataplane: &mut Dataplane, own: IpAddr, endpoint: SocketAddr) {
    let endpoints = BTreeSet::from([endpoint.ip()]);
    let network = lab
        .gateway
        .block_on(async move || Networks::open().unwrap().reader().read(&endpoints).await.unwrap());
    let links = network.links.iter().filter_map(|(index, link)| {
        let stub = stub(link, &network, &[]).ok()?;
        Some((*index, Wanted { name: link.name.clone(), stub }))
    });
    let wanted: BTreeMap<_, _> = links.collect();
    let hooked = lab.gateway.enter(|| dataplane.hook(&wanted)).unwrap();
    assert!(hooked.len() == 2 && hooked.values().all(Result::is_ok), "{hooked:?}");
    let backends = BTreeMap::from([(7, BackendKey { at: endpoint, protocol: UDP })]);
    let image = MapImage {
        bindings: [(
            key(Some(own), 53, UDP),
            BindingImage { action: Action::Forward, id: 3, service: Some(5), idle: None },
        )]
        .into(),
        services: [(5, ServiceImage::new([7]))].into(),
        ways: ways(&backends, &network, &hooked.into_keys().collect()),
        backends,
    };
    assert!(image.ways.paths[&7].local, "{:?}", image.ways);
    dataplane.apply(&ops(&image)).unwrap();
    dataplane.apply(&[Op::PutLocal(own)]).unwrap();
}

fn socket(ns: &NetNs, at: SocketAddr) -> UdpSocket {
    let socket = ns.enter(|| UdpSocket::bind(at)).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket
}

/// What ended flows and living ones come to.
fn sum(counts: &FlowCounts) -> (Traffic, Carried) {
    let key = TrafficKey { binding: 3, service: 5, backend: 7, pad: 0 };
    let ended = counts.ended.get(&key).copied().unwrap_or_default();
    let mut carried = Carried { packets: ended.packets, bytes: ended.bytes };
    carried.add(&counts.living.carried.get(&key).copied().unwrap_or_default());
    (ended, carried)
}

fn walked(reader: &FlowReader, most: u32) -> Vec<Flow> {
    let (mut flows, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = reader
            .walk(at, most, |_, flow| {
                flows.push(*flow);
                true
            })
            .unwrap();
    }
    flows
}

#[test]
fn what_is_read_is_what_was_sent() {
    for (own, far, headers) in [(GATEWAY4, BACKEND4, 28), (GATEWAY6, BACKEND6, 48)] {
        let lab = Lab::new("kernel-flows");
        let fs = gateway_tests::bpffs::BpfFs::new();
        let (mut dataplane, _sockets) = start(&lab.gateway, &config(&fs, 1));
        assert!(dataplane.flows().unwrap().is_none(), "forwarding is off");
        lab.gateway.enter(|| dataplane.forward(&forwarding())).unwrap();
        let (reader, mut events) = dataplane.flows().unwrap().expect("forwarding is on");
        assert_eq!(reader.counts().unwrap(), FlowCounts::default());
        let endpoint = SocketAddr::new(far, 5353);
        forward(&lab, &mut dataplane, own, endpoint);

        let server = socket(&lab.backend, endpoint);
        let any = SocketAddr::new(if own.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }, 0);
        let clients: Vec<UdpSocket> = (0..5).map(|_| socket(&lab.client, any)).collect();
        let (mut packets, mut bytes, mut buffer) = (0, [0, 0], [0; 2048]);
        for round in 0..4u64 {
            for (number, client) in (0u64..).zip(&clients) {
                let length = 1 + round * 200 + number;
                client.connect(SocketAddr::new(own, 53)).unwrap();
                client.send(&buffer[..length as usize]).unwrap();
                let (got, from) = uninterrupted(|| server.recv_from(&mut buffer)).unwrap();
                assert_eq!((got as u64, from), (length, client.local_addr().unwrap()));
                server.send_to(&buffer[..2 * got], from).unwrap();
                assert_eq!(uninterrupted(|| client.recv(&mut buffer)).unwrap() as u64, 2 * length);
                packets += 1;
                bytes = [bytes[0] + length + headers, bytes[1] + 2 * length + headers];
            }
        }
        let want = Carried { packets: [packets; 2], bytes };
        let counts = reader.counts().unwrap();
        let (ended, carried) = sum(&counts);
        assert_eq!((ended.begun, ended.ended, carried), (5, 0, want));
        assert_eq!((counts.living.states, counts.living.count()), ([0, 5, 0, 0, 0], 5));
        assert!(counts.living.ports.is_empty(), "the endpoint sees the clients");
        for most in [1, 2, u32::MAX] {
            let flows = walked(&reader, most);
            let seen: BTreeSet<_> = flows.iter().map(client).collect();
            let sent: BTreeSet<_> = clients.iter().map(|socket| socket.local_addr().unwrap()).collect();
            assert_eq!(seen, sent, "{most} at once");
            for flow in &flows {
                assert_eq!((asked(flow), backend(flow)), (SocketAddr::new(own, 53), endpoint));
                assert_eq!((node(flow), protocol(flow), state_of(flow)), (None, UDP, State::Established));
                assert_eq!((flow.binding, flow.service, flow.backend), (3, 5, 7));
            }
        }
        let used: BTreeMap<_, _> =
            reader.maps(&counts).unwrap().iter().map(|m| (m.name, (m.used, m.capacity))).collect();
        assert_eq!((used["FLOWS"], used["TUPLES"], used["FREE"]), ((5, 64), (10, 128), (0, 64)));
        assert_eq!((used["TRAFFIC"].0, used["LOCAL"].0, used["OPENING"]), (1, 1, (0, 32)));
        assert_eq!(reader.ports().unwrap(), 1000);
        assert!(events.pop().is_none(), "none is over");

        // A second without a packet, and they are over.
        let mut over = Vec::new();
        let end = std::time::Instant::now() + WAIT;
        while over.len() < 5 {
            assert!(std::time::Instant::now() < end, "the flows do not end: {over:?}");
            dataplane.sweep().unwrap();
            events.wait(Duration::from_millis(50)).unwrap();
            over.extend(std::iter::from_fn(|| events.pop()));
        }
        assert!(over.iter().all(|flow| ending(flow.life as u32) == Ending::Idle && flow.ended > flow.seen));
        let told = over.iter().fold(Carried::default(), |mut sum, flow| {
            sum.add(&Carried { packets: flow.packets, bytes: flow.bytes });
            sum
        });
        let counts = reader.counts().unwrap();
        let (ended, carried) = sum(&counts);
        assert_eq!((told, carried, counts.living.count()), (want, want, 0));
        assert_eq!((ended.begun, ended.ended, ended.unanswered), (5, 5, 0));
        assert_eq!(reader.reasons().unwrap(), [0; Reason::ALL.len()]);
        reader.forget(&counts.ended.keys().copied().collect::<Vec<_>>()).unwrap();
        assert!(reader.counts().unwrap().ended.is_empty());
    }
}
