//! Datagrams in fragments, both ways.

use std::net::SocketAddr;

use gateway_ebpf::flow::{Decision, Reason};
use gateway_tests::packets::{Packet, Transport, fragments, verify};
use gateway_tests::uninterrupted;

use crate::forward_line::{Line, asked, client, datagrams, endpoint, node};

const FORWARDED: u32 = Decision::Forwarded as u32;
const DROPPED: u32 = Decision::Dropped as u32;
const NEXT: u32 = Decision::Next as u32;

fn datagram(source: SocketAddr, destination: SocketAddr) -> Packet {
    let transport = Transport::Udp { checksum: true };
    let payload = (0..3000).map(|n| (n % 251) as u8).collect();
    Packet { source, destination, ttl: 9, options: Vec::new(), whole: false, transport, payload }
}

#[test]
fn fragments_follow_their_first() {
    for (local, v6) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut line = Line::new("fragments", local, 1500);
        let request = datagram(client(v6), asked(v6));
        let parts = fragments(&request.ip(), 1448, 0x1_2345);
        assert_eq!(parts.len(), 3);
        let early = line.run(false, &parts[1], 0);
        assert_eq!((early.decision, early.ip), (NEXT, parts[1].clone()), "its first is not known yet");
        for back in [false, true] {
            let seen = |line: &Line| {
                if local { client(v6) } else { SocketAddr::new(node(v6), line.port()) }
            };
            let (come, id) =
                if back { (datagram(endpoint(v6), seen(&line)), 9) } else { (request.clone(), 0x1_2345) };
            let parts = fragments(&come.ip(), 1448, id);
            let gone: Vec<_> = parts.iter().map(|part| line.run(back, part, 0)).collect();
            let want =
                if back { datagram(asked(v6), client(v6)) } else { datagram(seen(&line), endpoint(v6)) };
            let want = fragments(&Packet { ttl: 8, ..want }.ip(), 1448, id);
            for (gone, want) in gone.iter().zip(&want) {
                assert_eq!(gone.decision, FORWARDED, "{local} {v6} {back}");
                assert_eq!(verify(&gone.ip), Ok(true));
                assert!(gone.ip == *want, "{local} {v6} {back}");
            }
        }
        let [flow] = line.living().try_into().unwrap();
        let headers = if v6 { 48 } else { 20 };
        assert_eq!((flow.packets, flow.bytes), ([3, 3], [3008 + 3 * headers; 2]));
        // The way has grown narrow: each by itself.
        let request = datagram(client(v6), asked(v6));
        let big = fragments(&Packet { payload: vec![7; 3200], ..request.clone() }.ip(), 1600, 7);
        let small = fragments(&request.ip(), 1448, 7);
        assert_eq!(line.run(false, &small[0], 0).decision, FORWARDED);
        let before = line.count(Reason::TooBig);
        assert_eq!(line.run(false, &big[1], 0).decision, DROPPED);
        assert_eq!(line.count(Reason::TooBig), before + 1);
        assert_eq!(line.run(false, &small[2], 0).decision, FORWARDED);
        // With the flow goes what follows.
        line.flows.withdraw(0);
        assert_eq!(line.run(false, &small[2], 0).decision, DROPPED);
    }
}

#[test]
fn large_datagrams_arrive_both_ways() {
    for (local, v6) in [(true, false), (false, false), (true, true), (false, true)] {
        let line = Line::hooked("large", local, 1500);
        let server = line.endpoint.enter(|| std::net::UdpSocket::bind(endpoint(v6)).unwrap());
        server.set_read_timeout(Some(crate::bed::WAIT)).unwrap();
        let asking = datagrams(&line.client, client(v6), asked(v6));
        for length in [1473, 4000, 60_000] {
            let sent: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            asking.send(&sent).unwrap();
            let mut buffer = vec![0; 1 << 16];
            let (got, from) = uninterrupted(|| server.recv_from(&mut buffer)).unwrap();
            assert!(buffer[..got] == sent, "{local} {v6}: {got} of {length}");
            server.send_to(&sent, from).unwrap();
            let got = uninterrupted(|| asking.recv(&mut buffer)).unwrap();
            assert!(buffer[..got] == sent, "{local} {v6}: {got} of {length} come back");
        }
    }
}
