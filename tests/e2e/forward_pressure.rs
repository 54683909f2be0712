//! More than there is room for: the relay has what does not fit, and what is established is not hurt.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
};

use gateway_ebpf::{flow::Reason, life::SYN};
use gateway_tests::{
    agent::Agent,
    client,
    netns::NetNs,
    packets::{Packet, Transport},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::forward_bed::{Bed, CASES, alive, all_forwarded, close, connect, count};

fn relayed(agent: &Agent<'_>) -> f64 {
    agent.metric("sluice_connections_total")
}

#[test]
fn what_finds_no_place_is_relayed() {
    const PLACES: usize = 16;
    let bed = Bed::new("full");
    let listeners = bed.listeners();
    let client = &bed.lab.client;
    for (case, listener) in CASES.iter().zip(&listeners) {
        let agent = bed.agent(&["--flows", "16", "--opening-flows", "16"]);
        let flows: Vec<_> = (0..PLACES).map(|_| connect(client, case.asked(), listener)).collect();
        all_forwarded(&agent);
        let (near, far, _) = connect(client, case.asked(), listener);
        alive(&near, &far);
        assert_eq!(relayed(&agent), 1.0, "{case:?}");
        assert_eq!(count(&agent, Reason::TableFull), 1, "{case:?}");
        close(&near, &far);
        for (near, far, seen) in &flows {
            assert!(case.fits(*seen, near.local_addr().expect("an address")), "{case:?}: {seen}");
            alive(near, far);
        }
        // One that ends makes room for another.
        let (near, far, _) = &flows[0];
        close(near, far);
        agent.wait("a place to be free", || {
            let (near, far, seen) = connect(client, case.asked(), listener);
            alive(&near, &far);
            close(&near, &far);
            case.fits(seen, near.local_addr().expect("an address"))
        });
    }
}

#[test]
fn what_finds_no_source_port_is_relayed() {
    let bed = Bed::new("no-port");
    let listeners = bed.listeners();
    let client = &bed.lab.client;
    let agent = bed.agent(&["--snat-ports", "30000-30003"]);
    for (case, listener) in CASES.iter().zip(&listeners) {
        let (before, counted) = (relayed(&agent), count(&agent, Reason::NoPort));
        let flows: Vec<_> = (0..4).map(|_| connect(client, case.asked(), listener)).collect();
        assert_eq!(relayed(&agent), before, "{case:?}");
        let more: Vec<_> = (0..2).map(|_| connect(client, case.asked(), listener)).collect();
        let want = if case.local { 0 } else { 2 };
        assert_eq!(relayed(&agent) - before, f64::from(want), "{case:?}");
        assert_eq!(count(&agent, Reason::NoPort) - counted, want as u64, "{case:?}");
        for (near, far, _) in flows.iter().chain(&more) {
            alive(near, far);
        }
    }
}

/// Sends SYNs from addresses and ports at random.
fn flood(ns: &NetNs, to: SocketAddr, count: usize) {
    ns.enter(|| {
        let socket =
            Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(255))).expect("a raw socket");
        if to.is_ipv4() {
            socket.set_header_included_v4(true).expect("an option");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..count {
            let [a, b, c] = [random.u8(..), random.u8(..), random.u8(1..)];
            let source: IpAddr = match to {
                SocketAddr::V4(_) => [10, 128 | a, b, c].into(),
                SocketAddr::V6(_) => [0xfd09, 0xffff, 0, 0, 0, a.into(), b.into(), c.into()].into(),
            };
            let packet = Packet {
                source: (source, random.u16(1024..)).into(),
                destination: to,
                ttl: 64,
                options: Vec::new(),
                whole: true,
                transport: Transport::Tcp { flags: SYN, options: Vec::new() },
                payload: Vec::new(),
            };
            // Where the headers come with the packet, the port is none.
            let to = SocketAddr::new(to.ip(), 0);
            socket.send_to(&packet.ip(), &to.into()).expect("a packet");
        }
    });
}

#[test]
fn a_flood_of_syns_hurts_nobody() {
    const OPENING: usize = 64;
    const FLOWS: usize = 512;
    let bed = Bed::new("flood");
    let _echoes = bed.echoes();
    // Answers to whoever does not exist come back to where the flood is from.
    bed.lab.gateway.run("ip -4 route add 10.128.0.0/9 via 10.9.1.2");
    bed.lab.gateway.run("ip -6 route add fd09:ffff::/32 via fd09:1::2");
    let client = &bed.lab.client;
    let agent = bed.agent(&["--flows", &FLOWS.to_string(), "--opening-flows", &OPENING.to_string()]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let transfers: Vec<_> = CASES
            .iter()
            .map(|case| {
                let stream = client.enter(|| TcpStream::connect(case.asked())).expect("a connection");
                let stop = &stop;
                scope.spawn(move || client::steady(stream, stop))
            })
            .collect();
        for case in &CASES {
            let before = count(&agent, Reason::OpeningEvicted);
            flood(client, case.asked(), 10 * FLOWS);
            let evicted = count(&agent, Reason::OpeningEvicted) - before;
            assert!(evicted as usize >= 8 * FLOWS, "{case:?}: {evicted} made room");
            assert_eq!(client::tcp(client, case.asked(), 100_000).expect("an echo"), case.name);
        }
        stop.store(true, Ordering::Relaxed);
        for transfer in transfers {
            assert!(transfer.join().expect("a client").expect("every byte comes back") > 0);
        }
    });
    assert_eq!(count(&agent, Reason::TableFull), 0, "half-open ones take no more than their part");
    all_forwarded(&agent);
}
