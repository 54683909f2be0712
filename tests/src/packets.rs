//! Packets as bytes: made whole, in fragments and as ICMP errors that quote others, and checked.
//!
//! Owns that what it makes is valid, as etherparse has it. Must not know the gateway.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    IpFragOffset, IpNumber, IpSlice, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header, TcpHeader,
    TcpSlice, UdpHeader, UdpSlice,
};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// The EtherType of a VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
const FRAGMENT: u8 = 44;

/// A packet to be made.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Where it comes from. The port counts for TCP and UDP only.
    pub source: SocketAddr,
    /// Where it goes to, of the same family.
    pub destination: SocketAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// IPv4: options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// Whether it may not be fragmented (IPv4).
    pub whole: bool,
    /// What is in it.
    pub transport: Transport,
    /// What is in that.
    pub payload: Vec<u8>,
}

/// What a packet is of.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Byte 13 of its header.
        flags: u8,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
    },
    /// UDP.
    Udp {
        /// Whether it has a checksum.
        checksum: bool,
    },
    /// ICMP of the packet's family.
    Icmp {
        /// Type and code.
        kind: [u8; 2],
        /// What follows the checksum, before the payload.
        rest: [u8; 4],
    },
    /// Another protocol; its bytes are the payload.
    Other(u8),
}

impl Packet {
    /// Its bytes from the IP header on.
    ///
    /// # Panics
    /// If its addresses are of different families, or a part is longer than its header can say.
    pub fn ip(&self) -> Vec<u8> {
        let (protocol, segment) = self.segment();
        let mut bytes = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let length = u16::try_from(segment.len()).expect("an IPv4 packet has 16 bits of length");
                let (source, destination) = (source.octets(), destination.octets());
                let mut ip = Ipv4Header::new(length, self.ttl, IpNumber(protocol), source, destination)
                    .expect("it is not that long");
                ip.options = Ipv4Options::try_from(&self.options[..]).expect("a multiple of four, up to 40");
                ip.total_len += u16::from(ip.options.len_u8());
                ip.dont_fragment = self.whole;
                ip.header_checksum = ip.calc_header_checksum();
                ip.to_bytes().to_vec()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ip = Ipv6Header {
                    payload_length: u16::try_from(segment.len()).expect("it is not that long"),
                    next_header: IpNumber(protocol),
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                ip.to_bytes().to_vec()
            }
            _ => panic!("{} and {} are of different families", self.source, self.destination),
        };
        bytes.extend(segment);
        bytes
    }

    fn segment(&self) -> (u8, Vec<u8>) {
        let (from, to) = (self.source.port(), self.destination.port());
        let mut bytes = match &self.transport {
            Transport::Tcp { flags, options } => {
                let mut tcp = TcpHeader::new(from, to, 0x1234_5678, 0xfff0);
                [tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr] =
                    std::array::from_fn(|bit| flags & (1 << bit) != 0);
                if tcp.ack {
                    tcp.acknowledgment_number = 0x8765_4321;
                }
                tcp.set_options_raw(options).expect("a multiple of four, up to 40");
                tcp.to_bytes().to_vec()
            }
            Transport::Udp { .. } => {
                let length = u16::try_from(UdpHeader::LEN + self.payload.len()).expect("it is not that long");
                UdpHeader { source_port: from, destination_port: to, length, checksum: 0 }.to_bytes().to_vec()
            }
            Transport::Icmp { kind, rest } => [kind, &[0; 2], &rest[..]].concat(),
            Transport::Other(_) => Vec::new(),
        };
        bytes.extend_from_slice(&self.payload);
        let (protocol, field) = match &self.transport {
            Transport::Tcp { .. } => (IpNumber::TCP.0, Some(16)),
            Transport::Udp { checksum } => (IpNumber::UDP.0, checksum.then_some(6)),
            Transport::Icmp { .. } if self.source.is_ipv4() => (IpNumber::ICMP.0, Some(2)),
            Transport::Icmp { .. } => (IpNumber::IPV6_ICMP.0, Some(2)),
            Transport::Other(protocol) => (*protocol, None),
        };
        if let Some(field) = field {
            let sum = checksum(protocol, self.source.ip(), self.destination.ip(), &bytes)
                .expect("it is a header that was just made");
            bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        (protocol, bytes)
    }
}

/// The checksum that a segment shall have.
fn checksum(protocol: u8, source: IpAddr, destination: IpAddr, segment: &[u8]) -> Result<u16, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let words = |bytes: &[u8]| Sum16BitWords::new().add_slice(bytes);
    if segment.len() < 8 {
        return Err(format!("{} bytes are no segment of protocol {protocol}", segment.len()));
    }
    let sum = match (IpNumber(protocol), source, destination) {
        (IpNumber::TCP, IpAddr::V4(a), IpAddr::V4(b)) => {
            let tcp = TcpSlice::from_slice(segment).map_err(|e| text(&e))?;
            return tcp.calc_checksum_ipv4(a.octets(), b.octets()).map_err(|e| text(&e));
        }
        (IpNumber::TCP, IpAddr::V6(a), IpAddr::V6(b)) => {
            let tcp = TcpSlice::from_slice(segment).map_err(|e| text(&e))?;
            return tcp.calc_checksum_ipv6(a.octets(), b.octets()).map_err(|e| text(&e));
        }
        (IpNumber::UDP, IpAddr::V4(a), IpAddr::V4(b)) => {
            let udp = UdpSlice::from_slice(segment).map_err(|e| text(&e))?;
            let sum = udp.to_header().calc_checksum_ipv4_raw(a.octets(), b.octets(), udp.payload());
            return sum.map_err(|e| text(&e));
        }
        (IpNumber::UDP, IpAddr::V6(a), IpAddr::V6(b)) => {
            let udp = UdpSlice::from_slice(segment).map_err(|e| text(&e))?;
            let sum = udp.to_header().calc_checksum_ipv6_raw(a.octets(), b.octets(), udp.payload());
            return sum.map_err(|e| text(&e));
        }
        (IpNumber::ICMP, ..) => words(&segment[4..]).add_2bytes([segment[0], segment[1]]),
        (IpNumber::IPV6_ICMP, IpAddr::V6(a), IpAddr::V6(b)) => words(&segment[4..])
            .add_2bytes([segment[0], segment[1]])
            .add_16bytes(a.octets())
            .add_16bytes(b.octets())
            .add_4bytes((segment.len() as u32).to_be_bytes())
            .add_2bytes([0, protocol]),
        _ => return Err(format!("protocol {protocol} has no checksum that is known here")),
    };
    Ok(sum.ones_complement().to_be())
}

/// An IP packet behind an Ethernet header.
pub fn ethernet(destination: [u8; 6], ip: &[u8]) -> Vec<u8> {
    let kind: u16 = if ip.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 };
    [&destination[..], &[2, 0, 0, 0, 0, 1], &kind.to_be_bytes(), ip].concat()
}

/// A frame with a VLAN tag in its Ethernet header.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &VLAN.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// An IP packet in fragments with so many bytes each (a multiple of eight), the last one shorter.
///
/// # Panics
/// If it is none that [`Packet::ip`] has made.
pub fn fragments(ip: &[u8], size: usize, id: u32) -> Vec<Vec<u8>> {
    assert!(size.is_multiple_of(8), "fragments are counted in eight bytes");
    let (header, payload) = match ip[0] >> 4 {
        4 => ip.split_at(usize::from(ip[0] & 15) * 4),
        _ => ip.split_at(Ipv6Header::LEN),
    };
    let last = payload.len().div_ceil(size) - 1;
    let fragment = |(at, part): (usize, &[u8])| {
        let offset = IpFragOffset::try_new((at * size / 8) as u16).expect("a packet has 16 bits of length");
        let more = at != last;
        let head = if ip[0] >> 4 == 4 {
            let (mut head, _) = Ipv4Header::from_slice(header).expect("it was made here");
            (head.fragment_offset, head.more_fragments, head.dont_fragment) = (offset, more, false);
            head.identification = id as u16;
            head.total_len = (header.len() + part.len()) as u16;
            head.header_checksum = head.calc_header_checksum();
            head.to_bytes().to_vec()
        } else {
            let (mut head, _) = Ipv6Header::from_slice(header).expect("it was made here");
            let extension = Ipv6FragmentHeader::new(head.next_header, offset, more, id);
            head.next_header = IpNumber(FRAGMENT);
            head.payload_length = (8 + part.len()) as u16;
            [&head.to_bytes()[..], &extension.to_bytes()].concat()
        };
        [head, part.to_vec()].concat()
    };
    payload.chunks(size).enumerate().map(fragment).collect()
}

/// Reads an IP packet, and everything in it that has a checksum. A datagram that has none is told by `Ok(false)`.
///
/// # Errors
/// What is wrong with it. Of a fragment only its header can be checked.
pub fn verify(ip: &[u8]) -> Result<bool, String> {
    let slice = IpSlice::from_slice(ip).map_err(|e| e.to_string())?;
    if let IpSlice::Ipv4(v4) = &slice {
        let header = v4.header().to_header();
        if header.calc_header_checksum() != header.header_checksum {
            return Err(format!("the IPv4 header's checksum is wrong: {header:?}"));
        }
    }
    let payload = slice.payload();
    if payload.fragmented {
        return Ok(true);
    }
    let protocol = payload.ip_number;
    let segment = payload.payload;
    let field = match protocol {
        IpNumber::TCP => 16,
        IpNumber::UDP => 6,
        _ => 2,
    };
    let want = checksum(protocol.0, slice.source_addr(), slice.destination_addr(), segment)?;
    let have = u16::from_be_bytes([segment[field], segment[field + 1]]);
    if protocol == IpNumber::UDP && have == 0 {
        return Ok(false);
    }
    if have == want { Ok(true) } else { Err(format!("checksum {have:#06x} instead of {want:#06x}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(v6: bool, transport: Transport, payload: usize) -> Packet {
        let [source, destination] =
            if v6 { ["[2001:db8::1]:1234", "[2001:db8::2]:80"] } else { ["192.0.2.1:1234", "192.0.2.2:80"] };
        Packet {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ttl: 64,
            options: if v6 { Vec::new() } else { vec![1; 8] },
            whole: true,
            transport,
            payload: (0..payload).map(|n| n as u8).collect(),
        }
    }

    #[test]
    fn what_is_made_is_valid_until_a_bit_is_changed() {
        for v6 in [false, true] {
            for transport in [
                Transport::Tcp { flags: 0x12, options: vec![1; 12] },
                Transport::Udp { checksum: true },
                Transport::Icmp { kind: [if v6 { 2 } else { 3 }, 0], rest: [0, 0, 5, 0xdc] },
            ] {
                for payload in [0, 1, 40, 333] {
                    let made = packet(v6, transport.clone(), payload).ip();
                    assert_eq!(verify(&made), Ok(true), "{transport:?} {payload}");
                    let mut broken = made.clone();
                    // The sequence number, the checksum, and the rest: a byte of which each transport has checked.
                    let at = broken.len() - payload - 1;
                    broken[at] ^= 4;
                    assert!(verify(&broken).is_err(), "{transport:?} {payload}");
                }
            }
        }
        let none = packet(false, Transport::Udp { checksum: false }, 9).ip();
        assert_eq!(verify(&none), Ok(false));
    }

    #[test]
    fn a_header_that_was_changed_is_found() {
        let mut made = packet(false, Transport::Udp { checksum: false }, 9).ip();
        made[8] -= 1;
        assert!(
            verify(&made).unwrap_err().contains("IPv4 header"),
            "the time to live is covered by it alone"
        );
    }

    #[test]
    fn fragments_put_together_are_the_packet() {
        for v6 in [false, true] {
            let whole = packet(v6, Transport::Udp { checksum: true }, 1000).ip();
            let parts = fragments(&whole, 256, 77);
            assert_eq!(parts.len(), 4);
            let header = if v6 { 48 } else { 28 };
            let payload: Vec<u8> = parts.iter().flat_map(|part| part[header..].to_vec()).collect();
            assert_eq!(payload, whole[if v6 { 40 } else { 28 }..]);
            for part in &parts {
                assert_eq!(verify(part), Ok(true));
            }
        }
    }

    #[test]
    fn frames_tell_what_is_in_them() {
        let frame = ethernet([9; 6], &packet(true, Transport::Udp { checksum: true }, 3).ip());
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!(tagged(&frame, 7)[12..18], [0x81, 0, 0, 7, 0x86, 0xdd]);
        assert_eq!(ethernet([9; 6], &[0x45])[12..14], [8, 0]);
    }
}
