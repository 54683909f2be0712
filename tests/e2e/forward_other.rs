//! Traffic that is not for a Gateway: routed through the same interfaces, it is as it was.

use std::{io::Read as _, net::SocketAddr, time::Duration};

use gateway_tests::{
    client,
    lab::{BACKEND4, BACKEND6, CLIENT4, CLIENT6},
    netns::NetNs,
    packets::{Packet, Transport},
    peers::echo,
    uninterrupted,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::at;
use super::forward_bed::{Bed, PORT, all_forwarded};

/// `ETH_P_ALL`, in wire order.
const EVERY_PROTOCOL: i32 = 0x0003u16.to_be() as i32;

/// Sends a packet as it is.
fn send(ns: &NetNs, packet: &Packet) {
    ns.enter(|| {
        let domain = Domain::for_address(packet.destination);
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(255))).expect("a raw socket");
        if packet.destination.is_ipv4() {
            socket.set_header_included_v4(true).expect("an option");
        }
        // Where the headers come with the packet, the port is none.
        let to = SocketAddr::new(packet.destination.ip(), 0);
        socket.send_to(&packet.ip(), &to.into()).expect("a packet");
    });
}

#[test]
fn what_is_routed_keeps_its_bytes_and_its_time_to_live() {
    let bed = Bed::new("routed");
    bed.lab.gateway.sysctl("ipv4/ip_forward", "1");
    bed.lab.gateway.sysctl("ipv6/conf/all/forwarding", "1");
    let _echoes = bed.echoes();
    let agent = bed.agent(&[]);
    let mut arrivals = bed
        .lab
        .backend
        .enter(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(EVERY_PROTOCOL))))
        .expect("a packet socket");
    arrivals.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut buffer = vec![0; 2048];
    for (from, to) in [(CLIENT4, BACKEND4), (CLIENT6, BACKEND6)] {
        // The very ports of a listener and an endpoint, and others.
        for (source_port, port) in [(4000, 5001), (4001, PORT), (5001, 4002)] {
            let icmp = if to.is_ipv4() { [8, 0] } else { [128, 0] };
            for transport in [
                Transport::Tcp { flags: 2, options: vec![2, 4, 5, 0xb4] },
                Transport::Tcp { flags: 0x10, options: Vec::new() },
                Transport::Tcp { flags: 4, options: Vec::new() },
                Transport::Udp { checksum: true },
                Transport::Icmp { kind: icmp, rest: [0, 7, 0, 1] },
                Transport::Other(253),
            ] {
                let packet = Packet {
                    source: at(from, source_port),
                    destination: at(to, port),
                    ttl: 17,
                    options: if to.is_ipv4() { vec![1; 4] } else { Vec::new() },
                    whole: true,
                    transport,
                    payload: (0..100).collect(),
                };
                send(&bed.lab.client, &packet);
                let want = Packet { ttl: 16, ..packet }.ip();
                loop {
                    let length = uninterrupted(|| arrivals.read(&mut buffer))
                        .unwrap_or_else(|e| panic!("{want:x?}: {e}"));
                    if buffer[..length] == want {
                        break;
                    }
                }
            }
        }
    }
    // What is captured has room for a few packets only.
    drop(arrivals);
    for to in [BACKEND4, BACKEND6] {
        let direct = echo::tcp(&bed.lab.backend, at(to, PORT + 1), "direct");
        assert_eq!(client::tcp(&bed.lab.client, direct.address, 10_000_000).expect("an echo"), "direct");
    }
    all_forwarded(&agent);
}
