//! Real connections through the attached program, over a veth pair, in both families.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use gateway_ebpf::abi::{Action, TCP, UDP, Verdict};
use gateway_tests::netns::NetNs;
use gateway_tests::uninterrupted;

use crate::bed::{Bed, WAIT, backend_key, image, key};

/// Addresses of the gateway's end: two of each family.
const GATEWAY: [&str; 4] = ["10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"];

fn gateway(v6: bool) -> [IpAddr; 2] {
    let at = if v6 { 2 } else { 0 };
    [GATEWAY[at].parse().unwrap(), GATEWAY[at + 1].parse().unwrap()]
}

/// A client namespace joined to the gateway's.
fn client(bed: &Bed) -> NetNs {
    let client = NetNs::new("kernel-client");
    bed.ns.veth("client", &client, "eth0");
    for address in GATEWAY {
        let address: IpAddr = address.parse().unwrap();
        bed.ns.address("client", address, if address.is_ipv6() { 64 } else { 24 });
    }
    client.address("eth0", "10.77.0.9".parse().unwrap(), 24);
    client.address("eth0", "fd77::9".parse().unwrap(), 64);
    client
}

fn connect(ns: &NetNs, ip: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    ns.enter(|| TcpStream::connect_timeout(&SocketAddr::new(ip, port), WAIT))
}

fn verdicts(bed: &Bed, id: u32) -> [u64; 4] {
    bed.dataplane.reader().counts().unwrap().lookups[&id]
}

/// The client sees a reset. That it took no second SYN is to be seen in the counts.
fn assert_reset(ns: &NetNs, ip: IpAddr, port: u16) {
    let error = connect(ns, ip, port).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip} {port}: {error}");
}

#[test]
fn the_exact_address_comes_before_any() {
    let mut bed = Bed::new("exact", 2);
    let client = client(&bed);
    for v6 in [false, true] {
        let [exact, other] = gateway(v6);
        let port = if v6 { 8006 } else { 8004 };
        let bindings = [(key(None, port, TCP), Action::Steer), (key(Some(exact), port, TCP), Action::Reject)];
        bed.install(&image(&bindings));
        assert_reset(&client, exact, port);
        let _connection = connect(&client, other, port).unwrap();
        bed.accepted(v6);
        assert_eq!(verdicts(&bed, 0)[Verdict::Steered as usize], 1, "any");
        assert_eq!(verdicts(&bed, 1)[Verdict::Rejected as usize], 1, "exact");
        bed.dataplane.apply(&crate::bed::undo(&image(&bindings))).unwrap();
    }
}

#[test]
fn a_worker_sees_the_address_that_was_asked_for() {
    let mut bed = Bed::new("asked", 1);
    let client = client(&bed);
    for v6 in [false, true] {
        bed.install(&image(&[(key(None, 8080, TCP), Action::Steer)]));
        let stream = connect(&client, gateway(v6)[1], 8080).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), SocketAddr::new(gateway(v6)[1], 8080));
        let socket = &bed.sockets[&(0, v6, TCP)];
        let (accepted, peer) = socket.accept().unwrap();
        let local = accepted.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local, stream.peer_addr().unwrap());
        assert_eq!(peer.as_socket().unwrap(), stream.local_addr().unwrap());
    }
}

#[test]
fn without_a_binding_the_host_is_left_alone() {
    let mut bed = Bed::new("host", 2);
    let client = client(&bed);
    for v6 in [false, true] {
        let [ip, _] = gateway(v6);
        let host = bed.ns.enter(|| TcpListener::bind(SocketAddr::new(ip, 9000)).unwrap());
        bed.install(&image(&[(key(Some(ip), 9001, TCP), Action::Steer)]));
        let misses = bed.dataplane.reader().counts().unwrap().misses;
        let _connection = connect(&client, ip, 9000).unwrap();
        host.accept().unwrap();
        assert_reset(&client, ip, 9002);
        assert_eq!(bed.dataplane.reader().counts().unwrap().misses - misses, 2, "listener and nobody");
    }
}

#[test]
fn a_slot_without_backend_is_a_reset_in_its_share() {
    let mut bed = Bed::new("share", 2);
    let client = client(&bed);
    for v6 in [false, true] {
        let [ip, _] = gateway(v6);
        let mut image = image(&[(key(Some(ip), 8000, TCP), Action::Forward)]);
        image.backends.insert(1, backend_key("198.51.100.1:80"));
        image.services.insert(0, [0, 1, 1, 1].into());
        image.bindings.values_mut().for_each(|binding| binding.service = Some(0));
        bed.install(&image);
        let mut refused = 0;
        for _ in 0..200 {
            match connect(&client, ip, 8000) {
                Ok(_) => {
                    bed.accepted(v6);
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
                    refused += 1;
                }
            }
        }
        // A quarter of 200, within five deviations.
        assert!((20..=81).contains(&refused), "{refused} of 200 were refused");
        let counted = verdicts(&bed, 0);
        assert_eq!(counted, [200 - refused, refused, 0, 0]);
        bed.dataplane.apply(&crate::bed::undo(&image)).unwrap();
    }
}

#[test]
fn a_dead_agent_is_a_reset_and_a_new_one_serves_on() {
    let mut bed = Bed::new("dead", 2);
    let client = client(&bed);
    bed.install(&image(&[(key(None, 8000, TCP), Action::Steer)]));
    for v6 in [false, true] {
        connect(&client, gateway(v6)[0], 8000).unwrap();
    }
    // What a killed process leaves: pins, and no socket.
    let Bed { dataplane, sockets, fs, ns } = bed;
    let reader = dataplane.reader();
    drop((dataplane, sockets));
    for v6 in [false, true] {
        assert_reset(&client, gateway(v6)[0], 8000);
    }
    assert_eq!(reader.counts().unwrap().lookups[&0], [2, 0, 2, 0]);

    let (dataplane, sockets) = crate::bed::start(&ns, &crate::bed::config(&fs, 1));
    let bed = Bed { dataplane, sockets, fs, ns };
    for v6 in [false, true] {
        connect(&client, gateway(v6)[0], 8000).unwrap();
        assert_eq!(bed.accepted(v6), 0, "the one worker that is left");
    }
    assert_eq!(verdicts(&bed, 0), [4, 0, 2, 0], "the counters go on");
}

#[test]
fn syn_cookies_are_accepted_whichever_worker_the_ack_goes_to() {
    let mut bed = Bed::new("cookies", 4);
    let client = client(&bed);
    bed.ns.sysctl("ipv4/tcp_syncookies", "2");
    bed.install(&image(&[(key(None, 8000, TCP), Action::Steer)]));
    let loads = bed.dataplane.loads();
    for v6 in [false, true] {
        let mut connections = Vec::new();
        for n in 0u64..40 {
            // The pick for the ACK differs from that for the SYN as often as possible.
            for worker in 0..4u64 {
                loads
                    .worker(worker as usize)
                    .open
                    .store((n + worker) % 4, std::sync::atomic::Ordering::Relaxed);
            }
            connections.push(connect(&client, gateway(v6)[0], 8000).unwrap());
        }
        for _ in &connections {
            bed.accepted(v6);
        }
    }
    let sent = bed.ns.run("nstat -asz TcpExtSyncookiesRecv");
    let received: u64 = sent
        .lines()
        .find_map(|l| l.strip_prefix("TcpExtSyncookiesRecv"))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(received, 80, "every connection was made by a cookie: {sent}");
}

#[test]
fn a_burst_spreads_evenly_before_anything_is_accepted() {
    let mut bed = Bed::new("burst", 2);
    let client = client(&bed);
    bed.install(&image(&[(key(None, 8000, TCP), Action::Steer)]));
    for v6 in [false, true] {
        let burst: Vec<_> = (0..64).map(|_| connect(&client, gateway(v6)[0], 8000).unwrap()).collect();
        let first = burst.iter().filter(|_| bed.accepted(v6) == 0).count();
        assert_eq!(first, 32);
    }
}

#[test]
fn a_refused_datagram_is_answered_with_silence() {
    let mut bed = Bed::new("udp", 1);
    let client = client(&bed);
    for v6 in [false, true] {
        let [ip, _] = gateway(v6);
        bed.install(&image(&[(key(Some(ip), 5300, UDP), Action::Reject)]));
        let any = SocketAddr::new(if v6 { "::".parse().unwrap() } else { "0.0.0.0".parse().unwrap() }, 0);
        let socket = client.enter(|| UdpSocket::bind(any).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut buffer = [0; 16];
        socket.connect((ip, 5300)).unwrap();
        socket.send(b"hello").unwrap();
        let error = uninterrupted(|| socket.recv(&mut buffer)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "silence: {error}");
        assert_eq!(verdicts(&bed, 0)[Verdict::Rejected as usize], 1);
        // Without a binding the same client is told.
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket.connect((ip, 5301)).unwrap();
        socket.send(b"hello").unwrap();
        assert_eq!(
            uninterrupted(|| socket.recv(&mut buffer)).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        bed.dataplane
            .apply(&crate::bed::undo(&image(&[(key(Some(ip), 5300, UDP), Action::Reject)])))
            .unwrap();
    }
}

#[test]
fn a_thousand_bindings_take_no_more_sockets() {
    let mut bed = Bed::new("thousand", 2);
    let client = client(&bed);
    // As the agent tells, and as the namespace shows: listening, or bound for datagrams.
    let sockets = |bed: &Bed| {
        let counts = bed.dataplane.reader().counts().unwrap();
        let told = counts.maps.iter().find(|m| m.name == "SOCKETS").unwrap().used;
        (told, bed.ns.run("ss -Htuln").lines().count())
    };
    let before = sockets(&bed);
    assert_eq!(before, (6, 6), "a socket a worker and family, a sink a family");
    let mut bindings = Vec::new();
    for at in 0..500 {
        for v6 in [false, true] {
            bindings.push((key(Some(gateway(v6)[at % 2]), 10_000 + at as u16, TCP), Action::Steer));
        }
    }
    bed.install(&image(&bindings));
    assert_eq!(sockets(&bed), before);
    for at in [0, 77, 499] {
        for v6 in [false, true] {
            connect(&client, gateway(v6)[at % 2], 10_000 + at as u16).unwrap();
            bed.accepted(v6);
        }
    }
    assert_eq!(bed.dataplane.reader().counts().unwrap().lookups.len(), 1000);
}
