//! A packet's bytes: what its headers say, and what they say after a translation.
//!
//! Owns reading and writing them, as the RFCs have it. Must not know flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gateway_ebpf::abi::{Address, TCP, UDP};
use gateway_ebpf::select::Tuple;

use super::checksum;

/// Length of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMP6: u8 = 58;
const FRAGMENT: u8 = 44;

/// What arrives at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its bytes, from the Ethernet header on if there is one.
    pub bytes: Vec<u8>,
    /// Whether it begins with an Ethernet header.
    pub ethernet: bool,
    /// Whether its Ethernet header names this host (`PACKET_HOST`).
    pub host: bool,
    /// The length of the segments that it was put together from, without headers; 0 if it was not.
    pub gso_size: u32,
    /// How many there are; 0 if nobody has counted.
    pub gso_segs: u32,
}

impl Arrival {
    /// Its 5-tuple, if it is one of TCP or UDP that shows its ports.
    #[must_use]
    pub fn tuple(&self) -> Option<Tuple> {
        match read(self) {
            Kind::Transport(packet) => Some(packet.tuple),
            _ => None,
        }
    }
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Its 5-tuple; without ports unless it is [`Kind::Transport`].
    pub(super) tuple: Tuple,
    /// Whether it is of IPv6.
    pub(super) v6: bool,
    /// Where the IP header begins.
    pub(super) l3: usize,
    /// Where the transport header begins.
    pub(super) l4: usize,
    /// Length of the IP packet.
    pub(super) length: usize,
    /// Length of IP and transport header.
    pub(super) headers: usize,
    /// Time to live, or hop limit.
    pub(super) ttl: u8,
    /// Flags of TCP, 0 for UDP.
    pub(super) flags: u8,
    /// Whether other fragments follow this first one.
    pub(super) first: bool,
    /// What its fragments have in common.
    pub(super) id: u32,
}

impl Packet {
    /// What its fragments have in common.
    pub(super) fn datagram(&self) -> (Tuple, u32) {
        (Tuple { source_port: 0, destination_port: 0, ..self.tuple }, self.id)
    }
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// TCP or UDP, whole or the first fragment.
    Transport(Packet),
    /// ICMP of either family.
    Icmp(Packet),
    /// A fragment that is not the first.
    Later(Packet),
    /// Anything else, also what is cut short or contradicts itself.
    Other,
}

/// Reads a packet.
pub(super) fn read(arrival: &Arrival) -> Kind {
    read_with(arrival, 20)
}

/// Reads a packet of whose TCP header there need be so many bytes only.
pub(super) fn read_with(arrival: &Arrival, tcp: usize) -> Kind {
    let bytes = &arrival.bytes;
    let l3 = if arrival.ethernet { ETHERNET } else { 0 };
    // Without an Ethernet header the kernel knows the family by other means, and the packet says the same.
    let family = match (arrival.ethernet, bytes.get(12..14), bytes.get(l3).map(|byte| byte >> 4)) {
        (true, Some([0x08, 0x00]), Some(4)) | (false, _, Some(4)) => network4(arrival, l3, tcp),
        (true, Some([0x86, 0xdd]), Some(6)) | (false, _, Some(6)) => network6(arrival, l3, tcp),
        _ => None,
    };
    family.unwrap_or(Kind::Other)
}

fn network4(arrival: &Arrival, l3: usize, tcp: usize) -> Option<Kind> {
    let ip = arrival.bytes.get(l3..)?;
    let header = usize::from(ip.first()? & 15) * 4;
    if header < 20 || ip.len() < header {
        return None;
    }
    let address = |at: usize| Ipv4Addr::from(quad(&ip[at..at + 4])).to_ipv6_mapped().octets();
    let tuple = Tuple {
        source: address(12),
        destination: address(16),
        source_port: 0,
        destination_port: 0,
        protocol: ip[9],
    };
    let length = length(arrival, l3, word(&ip[2..4]).into())?;
    let (l4, ttl, id) = (l3 + header, ip[8], word(&ip[4..6]).into());
    // More fragments, and the offset.
    let (first, later) = match word(&ip[6..8]) & 0x3fff {
        0x2000 => (true, false),
        fragment => (false, fragment & 0x1fff != 0),
    };
    let packet = Packet { tuple, v6: false, l3, l4, length, headers: header, ttl, flags: 0, first, id };
    match tuple.protocol {
        _ if later => Some(Kind::Later(packet)),
        ICMP => Some(Kind::Icmp(packet)),
        _ => transport(arrival, packet, tcp),
    }
}

fn network6(arrival: &Arrival, l3: usize, tcp: usize) -> Option<Kind> {
    let ip = arrival.bytes.get(l3..).filter(|ip| ip.len() >= 40)?;
    let (source, destination) = (sixteen(&ip[8..24]), sixteen(&ip[24..40]));
    // An IPv4 address in this form is never on the wire (RFC 4291, 2.5.5.2): it would be mistaken for IPv4's.
    if [source, destination].into_iter().any(|address| Ipv6Addr::from(address).to_ipv4_mapped().is_some()) {
        return None;
    }
    let mut tuple = Tuple { source, destination, source_port: 0, destination_port: 0, protocol: ip[6] };
    let length = length(arrival, l3, usize::from(word(&ip[4..6])) + 40)?;
    let (mut header, mut first, mut later, mut id) = (40, false, false, 0);
    if tuple.protocol == FRAGMENT {
        let extension = ip.get(40..48)?;
        tuple.protocol = extension[0];
        header = 48;
        later = word(&extension[2..4]) & 0xfff8 != 0;
        first = !later && extension[3] & 1 != 0;
        id = u32::from_be_bytes(quad(&extension[4..8]));
    }
    let (l4, ttl) = (l3 + header, ip[7]);
    let packet = Packet { tuple, v6: true, l3, l4, length, headers: header, ttl, flags: 0, first, id };
    match tuple.protocol {
        _ if later => Some(Kind::Later(packet)),
        ICMP6 => Some(Kind::Icmp(packet)),
        _ => transport(arrival, packet, tcp),
    }
}

/// The length of an IP packet: what its header says, which must be there; what follows it is Ethernet's padding. Of one
/// that was put together the header need not tell.
fn length(arrival: &Arrival, l3: usize, told: usize) -> Option<usize> {
    let there = arrival.bytes.len() - l3;
    if arrival.gso_size != 0 {
        return Some(there);
    }
    (told <= there).then_some(told)
}

fn transport(arrival: &Arrival, mut packet: Packet, tcp: usize) -> Option<Kind> {
    let segment = &arrival.bytes[packet.l4..packet.l3 + packet.length.max(packet.headers)];
    let least = match packet.tuple.protocol {
        TCP => tcp,
        UDP => 8,
        _ => return None,
    };
    let header = segment.get(..least)?;
    packet.tuple.source_port = word(&header[..2]);
    packet.tuple.destination_port = word(&header[2..4]);
    if packet.tuple.protocol == TCP && tcp > 13 {
        packet.flags = header[13];
        packet.headers += usize::from(header[12] >> 4) * 4;
    } else {
        packet.headers += 8;
    }
    Some(Kind::Transport(packet))
}

/// The bytes of a packet that leaves with another tuple, its time to live one less.
pub(super) fn translate(arrival: &Arrival, packet: &Packet, to: &Tuple) -> Vec<u8> {
    let mut bytes = arrival.bytes.clone();
    let old = [ip(packet.tuple.source), ip(packet.tuple.destination)];
    let new = [ip(to.source), ip(to.destination)];
    let end = packet.l3 + packet.length;
    // The transport header first: of the old packet its checksum is needed.
    let udp = packet.tuple.protocol == UDP;
    let field = if udp { 6 } else { 16 };
    let sum = |[a, b]: [IpAddr; 2], bytes: &[u8]| {
        checksum::transport(a, b, packet.tuple.protocol, field, &bytes[packet.l4..end])
    };
    let before = sum(old, &bytes);
    bytes[packet.l4..packet.l4 + 2].copy_from_slice(&to.source_port.to_be_bytes());
    bytes[packet.l4 + 2..packet.l4 + 4].copy_from_slice(&to.destination_port.to_be_bytes());
    let after = sum(new, &bytes);
    let at = packet.l4 + field;
    let had = word(&bytes[at..at + 2]);
    if !(udp && had == 0) {
        let has = checksum::follow(had, before, after, packet.tuple.protocol);
        bytes[at..at + 2].copy_from_slice(&has.to_be_bytes());
    }
    readdress(&mut bytes, packet, &to.source, &to.destination);
    framed(arrival, bytes)
}

/// The bytes of a later fragment, which has no ports, likewise.
pub(super) fn translate_later(arrival: &Arrival, packet: &Packet, to: &Tuple) -> Vec<u8> {
    let mut bytes = arrival.bytes.clone();
    readdress(&mut bytes, packet, &to.source, &to.destination);
    framed(arrival, bytes)
}

/// Writes other addresses and a time to live that is one less into the IP header.
pub(super) fn readdress(bytes: &mut [u8], packet: &Packet, source: &Address, destination: &Address) {
    let l3 = packet.l3;
    if packet.v6 {
        bytes[l3 + 7] = packet.ttl - 1;
        bytes[l3 + 8..l3 + 24].copy_from_slice(source);
        bytes[l3 + 24..l3 + 40].copy_from_slice(destination);
        return;
    }
    change_header4(&mut bytes[l3..], |header| {
        header[8] = packet.ttl - 1;
        header[12..16].copy_from_slice(&source[12..]);
        header[16..20].copy_from_slice(&destination[12..]);
    });
}

/// Changes an IPv4 header, and its checksum with it.
pub(super) fn change_header4(bytes: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let length = usize::from(bytes[0] & 15) * 4;
    let header = &mut bytes[..length];
    let sum = |header: &[u8]| checksum::of(&[&header[..10], &header[12..]]);
    let before = sum(header);
    change(header);
    let has = checksum::follow(word(&header[10..12]), before, sum(header), 0);
    header[10..12].copy_from_slice(&has.to_be_bytes());
}

/// What leaves without an Ethernet header gets an empty one, which the kernel fills in.
pub(super) fn framed(arrival: &Arrival, mut bytes: Vec<u8>) -> Vec<u8> {
    if !arrival.ethernet {
        bytes.splice(..0, [0; ETHERNET]);
    }
    bytes
}

/// An address as the maps hold it, as one of its family.
pub(super) fn ip(address: Address) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

/// An address as the maps hold it.
pub(super) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub(super) fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub(super) fn quad(bytes: &[u8]) -> [u8; 4] {
    std::array::from_fn(|at| bytes[at])
}

pub(super) fn sixteen(bytes: &[u8]) -> Address {
    std::array::from_fn(|at| bytes[at])
}
