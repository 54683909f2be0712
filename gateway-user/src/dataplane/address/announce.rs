//! Tells neighbours that an address is here now: a gratuitous ARP request (RFC 5227, 3) or an unsolicited neighbour
//! advertisement (RFC 4861, 7.2.6), so that whoever remembers another host for it forgets that at once.
//!
//! Owns the two packets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};

use super::place::Link;
use crate::dataplane::sys;

/// Announces an address on a link.
pub(super) fn announce(address: IpAddr, link: Link) -> io::Result<()> {
    match address {
        IpAddr::V4(v4) => sys::broadcast_arp(link.index, &arp(v4, link.mac)),
        IpAddr::V6(v6) => advertise(v6, link),
    }
}

/// Sent by the address to the address: a question that everyone hears and nobody answers.
fn arp(address: Ipv4Addr, mac: [u8; 6]) -> [u8; 28] {
    let mut packet = [0; 28];
    // Ethernet, IPv4, lengths 6 and 4, request.
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..28].copy_from_slice(&address.octets());
    packet
}

fn advertise(address: Ipv6Addr, link: Link) -> io::Result<()> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_multicast_if_v6(link.index)?;
    // Receivers drop it if a router could have forwarded it.
    socket.set_multicast_hops_v6(255)?;
    socket.bind(&SocketAddrV6::new(address, 0, 0, link.index).into())?;
    socket
        .send_to(&advertisement(address, link.mac), &SocketAddrV6::new(ALL_NODES, 0, 0, link.index).into())?;
    Ok(())
}

/// The kernel fills the checksum in.
fn advertisement(address: Ipv6Addr, mac: [u8; 6]) -> [u8; 32] {
    let mut packet = [0; 32];
    packet[0] = 136;
    // Override: replaces what neighbours remember.
    packet[4] = 0x20;
    packet[8..24].copy_from_slice(&address.octets());
    // Option: target link-layer address, one unit of 8 bytes.
    packet[24..26].copy_from_slice(&[2, 1]);
    packet[26..32].copy_from_slice(&mac);
    packet
}
