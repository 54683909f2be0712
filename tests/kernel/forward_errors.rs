//! ICMP errors: those about a flow's packets are translated, and packets that cannot go on are answered with one.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use gateway_ebpf::flow::{Decision, Reason};
use gateway_ebpf::life::{ACK, SYN};
use gateway_tests::packets::{Packet, Transport, fragments, verify};
use gateway_tests::uninterrupted;
use socket2::SockRef;

use crate::bed::close;
use crate::forward_line::{Capture, Line, asked, client, datagrams, endpoint, mac, node};

const FORWARDED: u32 = Decision::Forwarded as u32;
const ANSWERED: u32 = Decision::Answered as u32;
const DROPPED: u32 = Decision::Dropped as u32;
const NEXT: u32 = Decision::Next as u32;

fn packet(source: SocketAddr, destination: SocketAddr, transport: Transport, payload: usize) -> Packet {
    let payload = (0..payload).map(|n| n as u8).collect();
    Packet { source, destination, ttl: 60, options: Vec::new(), whole: true, transport, payload }
}

fn tcp(flags: u8) -> Transport {
    Transport::Tcp { flags, options: vec![1; 4] }
}

/// An error from somebody about a packet of which it quotes so many bytes.
fn error(from: IpAddr, to: IpAddr, kind: [u8; 2], quoted: &[u8]) -> Packet {
    let transport = Transport::Icmp { kind, rest: [0, 0, 5, 0x14] };
    let at = |ip| SocketAddr::new(ip, 0);
    Packet { payload: quoted.to_vec(), ..packet(at(from), at(to), transport, 0) }
}

/// What it is after one hop.
fn aged(packet: &Packet) -> Packet {
    Packet { ttl: packet.ttl - 1, ..packet.clone() }
}

fn kinds(v6: bool) -> Vec<[u8; 2]> {
    if v6 { vec![[1, 4], [2, 0], [3, 0], [4, 1]] } else { vec![[3, 3], [3, 4], [11, 0], [12, 0]] }
}

#[test]
fn errors_about_a_flow_are_translated_both_ways() {
    for local in [true, false] {
        for (v6, transport) in [false, true].into_iter().flat_map(|v6| {
            [tcp(SYN), Transport::Udp { checksum: true }, Transport::Udp { checksum: false }].map(|t| (v6, t))
        }) {
            if v6 && matches!(transport, Transport::Udp { checksum: false }) {
                continue;
            }
            let mut line = Line::new("errors", local, 1500);
            let options = if v6 { Vec::new() } else { vec![1; 8] };
            let request = Packet { options, ..packet(client(v6), asked(v6), transport.clone(), 100) };
            let sent = line.run(false, &request.ip(), 0);
            assert_eq!((sent.decision, sent.interface), (FORWARDED, line.back));
            let seen = if local { client(v6) } else { SocketAddr::new(node(v6), line.port()) };
            let reply_flags =
                if matches!(transport, Transport::Tcp { .. }) { tcp(SYN | ACK) } else { transport };
            let reply = packet(endpoint(v6), seen, reply_flags, 60);
            let returned = line.run(true, &reply.ip(), 0);
            assert_eq!(returned.decision, FORWARDED);

            line.flows.set_seen(0, 5);
            let before = line.living();
            let router = if v6 { "fd08:7::7" } else { "10.8.7.7" }.parse().unwrap();
            for kind in kinds(v6) {
                let headers = if v6 { 40 } else { 28 };
                for length in [headers + 8, headers + 16, headers + 18, headers + 19, sent.ip.len()] {
                    for from in [endpoint(v6).ip(), router] {
                        let come = error(from, seen.ip(), kind, &sent.ip[..length]);
                        let come = if v6 { come } else { Packet { options: vec![1; 4], ..come } };
                        let gone = line.run(true, &come.ip(), 0);
                        let from = if from == router { from } else { asked(v6).ip() };
                        let quoted = &aged(&request).ip()[..length];
                        let want =
                            Packet { options: come.options, ..error(from, client(v6).ip(), kind, quoted) };
                        assert_eq!(gone.decision, FORWARDED, "{local} {v6} {kind:?} {length}");
                        assert_eq!(gone.ip, aged(&want).ip(), "{local} {v6} {kind:?} {length}");
                    }
                }
                let headers = if v6 { 40 } else { 20 };
                for length in [headers + 8, headers + 18, returned.ip.len()] {
                    for from in [client(v6).ip(), router] {
                        let come = error(from, asked(v6).ip(), kind, &returned.ip[..length]);
                        let gone = line.run(false, &come.ip(), 0);
                        let from = if from == router { from } else { seen.ip() };
                        let want = error(from, endpoint(v6).ip(), kind, &aged(&reply).ip()[..length]);
                        assert_eq!((gone.decision, gone.interface), (FORWARDED, line.back));
                        assert_eq!(gone.ip, aged(&want).ip(), "{local} {v6} {kind:?} {length}");
                    }
                }
            }
            assert_eq!(line.living(), before, "errors are no sign of life, and not the flow's packets");
        }
    }
}

#[test]
fn errors_about_nothing_that_was_sent_are_the_hosts() {
    let mut line = Line::new("unknown", true, 1500);
    for v6 in [false, true] {
        let kind = kinds(v6)[0];
        let request = packet(client(v6), asked(v6), Transport::Udp { checksum: true }, 9);
        let sent = line.run(false, &request.ip(), 0);
        assert_eq!(sent.decision, FORWARDED);
        let endpoint = endpoint(v6);
        let other =
            packet(SocketAddr::new(asked(v6).ip(), 81), client(v6), Transport::Udp { checksum: true }, 9);
        let foreign = if v6 { "fd08:9::9" } else { "10.8.9.9" }.parse().unwrap();
        let echo = if v6 { [128, 0] } else { [8, 0] };
        let counted = line.count(Reason::IcmpUnknown);
        for (at, come) in [
            // Of no flow; of a flow, but for another; cut short; no error.
            (1, error(client(v6).ip(), asked(v6).ip(), kind, &other.ip())),
            (2, error(endpoint.ip(), asked(v6).ip(), kind, &sent.ip)),
            (3, error(endpoint.ip(), asked(v6).ip(), kind, &sent.ip[..20])),
            (3, error(endpoint.ip(), foreign, kind, &sent.ip)),
            (3, error(endpoint.ip(), client(v6).ip(), echo, &sent.ip)),
        ] {
            let gone = line.run(true, &come.ip(), 0);
            assert_eq!((gone.decision, gone.ip), (NEXT, come.ip()));
            assert_eq!(line.count(Reason::IcmpUnknown), counted + at);
        }
        // One that has no time left tells nobody.
        let late = error(endpoint.ip(), client(v6).ip(), kind, &sent.ip);
        let gone = line.run(true, &Packet { ttl: 1, ..late }.ip(), 0);
        assert_eq!(gone.decision, DROPPED);
    }
}

#[test]
fn what_cannot_go_on_is_answered() {
    for (local, v6) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut line = Line::new("answers", local, 1300);
        let (old, big) = if v6 { ([3, 0], [2, 0]) } else { ([11, 0], [3, 4]) };
        let (limit, headers) = if v6 { (1232, 40) } else { (548, 20) };
        for transport in [tcp(ACK), Transport::Udp { checksum: true }] {
            let opening =
                if matches!(transport, Transport::Tcp { .. }) { tcp(SYN) } else { transport.clone() };
            let request = packet(client(v6), asked(v6), opening, 0);
            assert_eq!(line.run(false, &request.ip(), 0).decision, FORWARDED);
            let flow = *line.living().last().unwrap();
            let seen =
                if local { client(v6) } else { SocketAddr::new(node(v6), flow.reply.key.destination_port()) };
            let fits = 1300 - headers - if matches!(transport, Transport::Tcp { .. }) { 24 } else { 8 };
            let before = (line.count(Reason::TooBig), line.count(Reason::TimeExceeded));
            for (back, from, to) in [(false, client(v6), asked(v6)), (true, endpoint(v6), seen)] {
                for payload in [0, 1, 3, 77, 128, fits] {
                    let come = packet(from, to, transport.clone(), payload);
                    let come = Packet { ttl: 1, ..come };
                    let gone = line.run(back, &come.ip(), 0);
                    let mut want =
                        error(to.ip(), from.ip(), old, come.ip().get(..limit).unwrap_or(&come.ip()));
                    want.transport = Transport::Icmp { kind: old, rest: [0; 4] };
                    assert_eq!(gone.decision, ANSWERED, "{local} {v6} {back} {payload}");
                    assert_eq!(gone.ip, Packet { ttl: 64, ..want }.ip(), "{local} {v6} {back} {payload}");
                    assert_eq!(gone.link, [[2, 0, 0, 0, 0, 1], mac(if back { 2 } else { 1 })]);
                }
            }
            for (payload, gso_size, decision) in [
                (fits, 0, FORWARDED),
                (fits + 1, 0, ANSWERED),
                (2 * fits, fits as u32, FORWARDED),
                (2 * fits, fits as u32 + 1, ANSWERED),
            ] {
                let come = packet(client(v6), asked(v6), transport.clone(), payload);
                let gone = line.run(false, &come.ip(), gso_size);
                assert_eq!(gone.decision, decision, "{local} {v6} {payload} {gso_size}");
                if decision == ANSWERED {
                    let want = error(asked(v6).ip(), client(v6).ip(), big, &come.ip()[..limit]);
                    assert_eq!(gone.ip, Packet { ttl: 64, ..want }.ip(), "{local} {v6} {payload} {gso_size}");
                }
            }
            let after = (line.count(Reason::TooBig), line.count(Reason::TimeExceeded));
            assert_eq!(after, (before.0 + 2, before.1 + 12));
            let flow = *line.living().last().unwrap();
            assert_eq!(flow.packets, [4, 0], "what was answered is not carried");
        }
        // Of a datagram in fragments only the first.
        let come = packet(client(v6), asked(v6), Transport::Udp { checksum: true }, 600);
        let parts = fragments(&Packet { ttl: 1, ..come }.ip(), 304, 7);
        let decisions: Vec<u32> = parts.iter().map(|part| line.run(false, part, 0).decision).collect();
        assert_eq!(decisions, [ANSWERED, DROPPED]);
    }
}

/// Turns an offload on or off.
fn offload(ns: &gateway_tests::netns::NetNs, device: &str, what: &str, on: bool) {
    ns.run(&format!("ethtool -K {device} {what} {}", if on { "on" } else { "off" }));
}

#[test]
fn ends_hear_that_nobody_listens() {
    for (local, v6) in [(true, false), (false, false), (true, true), (false, true)] {
        let line = Line::hooked("refused", local, 1500);
        let asking = datagrams(&line.client, client(v6), asked(v6));
        asking.send(b"is anybody there?").unwrap();
        let refused = uninterrupted(|| asking.recv(&mut [0; 9])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{local} {v6}");

        let seen = if local { client(v6) } else { SocketAddr::new(node(v6), line.port()) };
        let answering = datagrams(&line.endpoint, endpoint(v6), seen);
        asking.send(b"once more").unwrap();
        assert_eq!(uninterrupted(|| answering.recv(&mut [0; 99])).unwrap(), 9);
        line.client.enter(|| close(vec![asking.into()]));
        answering.send(b"too late").unwrap();
        let refused = uninterrupted(|| answering.recv(&mut [0; 9])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{local} {v6}");
    }
}

#[test]
fn an_answer_is_valid_whoever_computes_the_checksum() {
    for v6 in [false, true] {
        // Whether what is quoted comes with a checksum that is still to be completed.
        for partial in [true, false] {
            let line = Line::hooked("partial", true, 1500);
            offload(&line.client, "eth0", "tx", partial);
            // Completes what is left to be done.
            offload(&line.gateway, "front", "tx", false);
            let asking = datagrams(&line.client, client(v6), asked(v6));
            let option = SockRef::from(&asking);
            if v6 { option.set_unicast_hops_v6(1) } else { option.set_ttl_v4(1) }.unwrap();
            let capture = Capture::new(&line.client);
            for length in [1, 2, 333, 1400] {
                asking.send(&vec![7; length]).unwrap();
                let (at, kind) = if v6 { (40, 3) } else { (20, 11) };
                let answer = capture.next(v6, |ip| ip[if v6 { 6 } else { 9 }] != 17 && ip[at] == kind);
                assert_eq!(verify(&answer), Ok(true), "{v6} {partial} {length}: {answer:x?}");
                assert_eq!(answer.len(), (28 + length + at + 8 + at - 20).min(if v6 { 1280 } else { 576 }));
            }
        }
    }
}

/// Sends so much through, and reads it.
fn transfer(mut from: TcpStream, mut to: TcpStream, length: usize) {
    let data: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    // Far more than an emulated machine takes: a way that swallows packets fails here.
    to.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            from.write_all(&data).unwrap();
            drop(from);
        });
        let mut got = Vec::new();
        to.read_to_end(&mut got).unwrap();
        assert!(got == data, "{} of {length} bytes", got.len());
    });
}

#[test]
fn senders_learn_of_a_narrow_way() {
    for (local, v6) in [(true, false), (false, false), (true, true), (false, true)] {
        for offloads in [true, false] {
            let line = Line::hooked("narrow", local, 1300);
            for (ns, device) in [
                (&line.client, "eth0"),
                (&line.endpoint, "eth0"),
                (&line.gateway, "front"),
                (&line.gateway, "back"),
            ] {
                for what in ["tso", "gso", "gro", "tx"] {
                    offload(ns, device, what, offloads);
                }
            }
            // What the client sends must fit through that link; it still offers to take segments for 1500.
            line.gateway.run("ip link set front mtu 1400");
            line.client.run("ip route replace 10.8.1.0/24 dev eth0 src 10.8.1.2 mtu 1400 advmss 1460");
            line.client.run("ip -6 route replace fd08:1::/64 dev eth0 metric 256 mtu 1400 advmss 1440");
            let listener = line.endpoint.enter(|| TcpListener::bind(endpoint(v6)).unwrap());
            // First what leaves the client's way as it is: who knows of a narrow one asks for small segments at once.
            for back in [true, false] {
                let asking = line.client.enter(|| TcpStream::connect(asked(v6)).unwrap());
                let (answering, _) = listener.accept().unwrap();
                let before = line.count(Reason::TooBig);
                if back {
                    transfer(answering, asking, 150_000);
                } else {
                    transfer(asking, answering, 150_000);
                };
                assert!(line.count(Reason::TooBig) > before, "{local} {v6} {offloads} {back}");
            }
        }
    }
}
