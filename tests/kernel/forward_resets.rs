//! Connections that the configuration ended: both sides are reset.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use gateway_ebpf::flow::{Decision, Reason};
use gateway_ebpf::life::{ACK, FIN, RST, SYN, TOLD};
use gateway_tests::packets::{Packet, Transport, verify};
use gateway_tests::uninterrupted;

use crate::bed::WAIT;
use crate::forward_line::{Capture, Line, asked, client, endpoint, node};

const TCP_RST: usize = 13;

#[test]
fn both_sides_of_a_withdrawn_connection_are_reset() {
    for (local, v6) in [(true, false), (false, false), (true, true), (false, true)] {
        let line = Line::hooked("resets", local, 1500);
        // Complete what is left to be done, for the captures.
        for device in ["front", "back"] {
            line.gateway.run(&format!("ethtool -K {device} tx off"));
        }
        let listener = line.endpoint.enter(|| TcpListener::bind(endpoint(v6)).unwrap());
        // Who sends what the other one waits for, and whether the checksum is left to others.
        for (back, tx) in [(false, true), (true, true), (false, false), (true, false)] {
            for ns in [&line.client, &line.endpoint] {
                ns.run(&format!("ethtool -K eth0 tx {}", if tx { "on" } else { "off" }));
            }
            let before = line.count(Reason::Withdrawn);
            resets(&line, &listener, v6, back);
            assert!(line.count(Reason::Withdrawn) > before, "{local} {v6} {back} {tx}");
        }
    }
}

/// One connection that is withdrawn, after which one side sends something.
fn resets(line: &Line, listener: &TcpListener, v6: bool, back: bool) {
    let mut asking = line.client.enter(|| TcpStream::connect(asked(v6)).unwrap());
    let (mut answering, _) = listener.accept().unwrap();
    let (from, to) = (&mut asking, &mut answering);
    from.write_all(b"hello").unwrap();
    to.read_exact(&mut [0; 5]).unwrap();
    to.write_all(b"there").unwrap();
    from.read_exact(&mut [0; 5]).unwrap();
    let captures = [Capture::new(&line.client), Capture::new(&line.endpoint)];
    for place in 0..line.flows.all().count() {
        line.flows.withdraw(place);
    }
    let sender = if back { &mut answering } else { &mut asking };
    sender.write_all(&vec![7; 3000]).unwrap();
    for end in [&mut asking, &mut answering] {
        end.set_read_timeout(Some(WAIT)).unwrap();
        let reset = uninterrupted(|| end.read(&mut [0; 9])).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset, "{v6} {back}");
    }
    let header = if v6 { 40 } else { 20 };
    for capture in captures {
        let tcp = if v6 { 6 } else { 9 };
        let reset = capture.next(v6, |ip| ip[tcp] == 6 && ip[header + TCP_RST] & RST != 0);
        assert_eq!(verify(&reset), Ok(true), "{v6} {back}: {reset:x?}");
        assert_eq!(reset.len(), header + 20);
    }
    assert!(line.living().iter().any(|flow| flow.life as u32 & TOLD != 0));
}

#[test]
fn what_cannot_be_turned_into_a_reset_is_dropped() {
    for v6 in [false, true] {
        let mut line = Line::new("no-resets", false, 1500);
        let tcp = |flags| Transport::Tcp { flags, options: vec![1; 8] };
        let packet = |from, to, flags| Packet {
            source: from,
            destination: to,
            ttl: 9,
            options: Vec::new(),
            whole: true,
            transport: tcp(flags),
            payload: vec![1; 99],
        };
        let open = packet(client(v6), asked(v6), SYN);
        assert_eq!(line.run(false, &open.ip(), 0).decision, Decision::Forwarded as u32);
        let seen = SocketAddr::new(node(v6), line.port());
        line.flows.withdraw(0);
        // What its receiver gets; what its sender gets is sent beside it.
        for (back, from, to, (a, b)) in [
            (false, client(v6), asked(v6), (seen, endpoint(v6))),
            (true, endpoint(v6), seen, (asked(v6), client(v6))),
        ] {
            for flags in [ACK, ACK | FIN, SYN | ACK, RST, RST | ACK] {
                let gone = line.run(back, &packet(from, to, flags).ip(), 0);
                assert_eq!(gone.decision, Decision::Reset as u32, "{v6} {back} {flags}");
                let mut want = packet(a, b, RST | flags & ACK);
                want.ttl = 64;
                want.transport = Transport::Tcp { flags: RST | flags & ACK, options: Vec::new() };
                want.payload.clear();
                let mut want = want.ip();
                // The window is none, and the sum is as much larger.
                let at = if v6 { 40 } else { 20 };
                let window = u16::from_be_bytes([want[at + 14], want[at + 15]]);
                let sum = u16::from_be_bytes([want[at + 16], want[at + 17]]);
                let (sum, carry) = sum.overflowing_add(window);
                want[at + 14..at + 16].fill(0);
                want[at + 16..at + 18].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
                assert_eq!(verify(&want), Ok(true));
                assert_eq!(gone.ip, want, "{v6} {back} {flags}");
            }
        }
        if !v6 {
            let odd = Packet { options: vec![1; 4], ..packet(client(v6), asked(v6), ACK) };
            assert_eq!(line.run(false, &odd.ip(), 0).decision, Decision::Dropped as u32);
        }
        // Who opens anew gets a new flow.
        let gone = line.run(false, &open.ip(), 0);
        assert_eq!(gone.decision, Decision::Forwarded as u32);
        assert_eq!(line.living().len(), 1);
    }
}
