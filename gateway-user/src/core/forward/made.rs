//! Packets that are this node's own, and ICMP errors that quote others.
//!
//! Owns what is in them, as the RFCs have it. Must not know flows.

use gateway_ebpf::abi::{TCP, UDP};
use gateway_ebpf::life::{ACK, RST};
use gateway_ebpf::select::Tuple;

use super::checksum;
use super::packet::{
    Arrival, ETHERNET, ICMP, ICMP6, Kind, Packet, change_header4, framed, ip, read_with, readdress, word,
};

/// What an error quotes at most, so that it is as long as every host must accept: RFC 1812, 4.3.2.3; RFC 4443, 2.4(c).
const QUOTE: [usize; 2] = [576 - 28, 1280 - 48];
/// Length of an ICMP error's header.
const HEADER: usize = 8;

/// What an ICMP error quotes.
pub(super) struct Quoted {
    /// The tuple of the packet.
    pub(super) tuple: Tuple,
    /// Where its transport header begins.
    l4: usize,
}

/// The packet that an ICMP error quotes; `None` if it is none that its sender can have sent for a flow. The error itself
/// is one about a packet: unreachable, time exceeded, parameter problem, and of IPv6 too big.
pub(super) fn quoted(arrival: &Arrival, packet: &Packet) -> Option<Quoted> {
    // Read on its own, it is an arrival that ends early.
    let at = packet.l4 + HEADER;
    let inner = arrival.bytes.get(at..packet.l3 + packet.length)?;
    let told = match inner.first()? >> 4 {
        4 if !packet.v6 => word(inner.get(2..4)?).into(),
        6 if packet.v6 => usize::from(word(inner.get(4..6)?)) + 40,
        _ => return None,
    };
    // Filled up to what it says; of its transport header eight bytes are certain.
    let mut bytes = inner.to_vec();
    bytes.resize(told.max(bytes.len()), 0);
    let whole = Arrival { bytes, ethernet: false, host: true, gso_size: 0, gso_segs: 0 };
    match read_with(&whole, 8) {
        Kind::Transport(found) if found.l4 + 8 <= inner.len() => {
            Some(Quoted { tuple: found.tuple, l4: at + found.l4 })
        }
        _ => None,
    }
}

/// Whether an ICMP packet is an error about a packet.
pub(super) fn is_error(arrival: &Arrival, packet: &Packet) -> bool {
    let kind = arrival.bytes.get(packet.l4).filter(|_| packet.length >= packet.headers + HEADER);
    match kind {
        Some(kind) if packet.v6 => matches!(kind, 1..=4),
        Some(kind) => matches!(kind, 3 | 11 | 12),
        None => false,
    }
}

/// An ICMP error that goes on to somebody else, with other addresses, and with a packet in it that that one has sent.
pub(super) fn translate_error(
    arrival: &Arrival,
    packet: &Packet,
    quoted: &Quoted,
    to: &Tuple,
    sent: &Tuple,
) -> Vec<u8> {
    let mut bytes = arrival.bytes.clone();
    let end = packet.l3 + packet.length;
    let sum = |bytes: &[u8], tuple: &Tuple| {
        let message = &bytes[packet.l4..end];
        if packet.v6 {
            checksum::transport(ip(tuple.source), ip(tuple.destination), ICMP6, 2, message)
        } else {
            checksum::of(&[&message[..2], &message[4..]])
        }
    };
    let before = sum(&bytes, &packet.tuple);
    quote_as(&mut bytes[..end], packet, quoted, sent);
    let after = sum(&bytes, to);
    let at = packet.l4 + 2;
    let has = checksum::follow(word(&bytes[at..at + 2]), before, after, 0);
    bytes[at..at + 2].copy_from_slice(&has.to_be_bytes());
    readdress(&mut bytes, packet, &to.source, &to.destination);
    framed(arrival, bytes)
}

/// The quoted packet becomes one with another tuple; it ends where `bytes` end.
fn quote_as(bytes: &mut [u8], packet: &Packet, quoted: &Quoted, sent: &Tuple) {
    let l3 = packet.l4 + HEADER;
    let protocol = quoted.tuple.protocol;
    let field = if protocol == UDP { 6 } else { 16 };
    let sum = |bytes: &[u8], tuple: &Tuple| {
        checksum::transport(ip(tuple.source), ip(tuple.destination), protocol, field, &bytes[quoted.l4..])
    };
    let at = quoted.l4 + field;
    let before = (bytes.len() >= at + 2).then(|| sum(bytes, &quoted.tuple));
    bytes[quoted.l4..quoted.l4 + 2].copy_from_slice(&sent.source_port.to_be_bytes());
    bytes[quoted.l4 + 2..quoted.l4 + 4].copy_from_slice(&sent.destination_port.to_be_bytes());
    if let Some(before) = before {
        let had = word(&bytes[at..at + 2]);
        if !(protocol == UDP && had == 0) {
            let has = checksum::follow(had, before, sum(bytes, sent), protocol);
            bytes[at..at + 2].copy_from_slice(&has.to_be_bytes());
        }
    }
    if packet.v6 {
        bytes[l3 + 8..l3 + 24].copy_from_slice(&sent.source);
        bytes[l3 + 24..l3 + 40].copy_from_slice(&sent.destination);
    } else {
        change_header4(&mut bytes[l3..], |header| {
            header[12..16].copy_from_slice(&sent.source[12..]);
            header[16..20].copy_from_slice(&sent.destination[12..]);
        });
    }
}

/// The ICMP error that answers a packet: it is too big for this MTU, or at the end of its time to live. Its source is the
/// address that the packet was sent to.
pub(super) fn answer(arrival: &Arrival, packet: &Packet, mtu: Option<u32>) -> Vec<u8> {
    let quote = packet.length.min(QUOTE[usize::from(packet.v6)]);
    let kind = match (packet.v6, mtu) {
        (false, Some(_)) => [3, 4],
        (false, None) => [11, 0],
        (true, Some(_)) => [2, 0],
        (true, None) => [3, 0],
    };
    let mut message = [&kind[..], &[0; 2]].concat();
    message.extend(mtu.unwrap_or(0).to_be_bytes());
    message.extend(&arrival.bytes[packet.l3..packet.l3 + quote]);
    let back = packet.tuple.reverse();
    let (protocol, sum) = if packet.v6 {
        (ICMP6, checksum::transport(ip(back.source), ip(back.destination), ICMP6, 2, &message))
    } else {
        (ICMP, checksum::of(&[&message]))
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = turned(arrival);
    bytes.extend(header(&back, protocol, message.len()));
    bytes.extend(message);
    bytes
}

/// The reset that the receiver of a packet gets in its place: with the sequence number that it expects next.
pub(super) fn reset(arrival: &Arrival, packet: &Packet, to: &Tuple) -> Vec<u8> {
    let had = &arrival.bytes[packet.l4..packet.l4 + 20];
    let flags = packet.flags & ACK | RST;
    let acknowledgement = if packet.flags & ACK == 0 { &[0; 4] } else { &had[8..12] };
    let ports = [to.source_port.to_be_bytes(), to.destination_port.to_be_bytes()].concat();
    let mut tcp = [&ports[..], &had[4..8], acknowledgement, &[5 << 4, flags], &[0; 6]].concat();
    let sum = checksum::transport(ip(to.source), ip(to.destination), TCP, 16, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = arrival.bytes[..packet.l3].to_vec();
    bytes.extend(header(to, TCP, tcp.len()));
    bytes.extend(tcp);
    framed(arrival, bytes)
}

/// The Ethernet header, if there is one, of a frame that goes back to where it came from.
fn turned(arrival: &Arrival) -> Vec<u8> {
    if !arrival.ethernet {
        return Vec::new();
    }
    let header = &arrival.bytes[..ETHERNET];
    [&header[6..12], &header[..6], &header[12..]].concat()
}

/// An IP header of this node's own: not to be fragmented, and with the time to live of RFC 1700.
fn header(tuple: &Tuple, protocol: u8, length: usize) -> Vec<u8> {
    const TTL: u8 = 64;
    if ip(tuple.destination).is_ipv6() {
        let length = (length as u16).to_be_bytes();
        return [&[0x60, 0, 0, 0], &length[..], &[protocol, TTL], &tuple.source, &tuple.destination].concat();
    }
    let length = (20 + length as u16).to_be_bytes();
    let (source, destination) = (&tuple.source[12..], &tuple.destination[12..]);
    let mut header =
        [&[0x45, 0, length[0], length[1]], &[0, 0, 0x40, 0], &[TTL, protocol, 0, 0], source, destination]
            .concat();
    let sum = checksum::of(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}
