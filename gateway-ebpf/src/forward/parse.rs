//! What a packet says of itself: its 5-tuple, and where its headers are.
//!
//! Owns the reading of headers. Must not change anything.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::{TCP, UDP};
use gateway_ebpf::flow::{TupleKey, is_v4, mapped_words};

use crate::context::{field, l3, skb};

/// `ETH_P_IP`, in wire order.
const IPV4: u32 = 0x0800u16.to_be() as u32;
/// `ETH_P_IPV6`, in wire order.
const IPV6: u32 = 0x86ddu16.to_be() as u32;
/// IP protocol number of ICMP (RFC 792).
const ICMP: u8 = 1;
/// IP protocol number of ICMPv6 (RFC 4443).
const ICMP6: u8 = 58;
/// IP protocol number of IPv6's fragment header (RFC 8200, 4.5).
pub(crate) const FRAGMENT6: u8 = 44;

/// What a packet is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// TCP or UDP, or the first fragment of it.
    Transport,
    /// ICMP of either family.
    Icmp,
    /// A fragment that is not the first.
    Later,
    /// Nothing that forwarding knows.
    Other,
}

/// A packet of TCP or UDP. All integers are in the host's byte order unless they are said to be in wire order.
pub(crate) struct Packet {
    /// Its 5-tuple; without ports for ICMP and later fragments.
    pub(crate) key: TupleKey,
    /// Offset of the transport header.
    pub(crate) l4: u32,
    /// Length of the IP packet in bytes: what its header says, or, of one that the kernel put together, all there is.
    pub(crate) length: u32,
    /// Length of IP and transport header together.
    pub(crate) headers: u32,
    /// Time to live, or hop limit.
    pub(crate) ttl: u8,
    /// Flags of TCP; 0 for UDP.
    pub(crate) flags: u8,
    /// Whether it is of IPv6.
    pub(crate) v6: bool,
    /// Whether it is the first of several fragments.
    pub(crate) first: bool,
    /// IPv4: the header's checksum, as it lies there.
    pub(crate) checksum: u16,
    /// Identification of the datagram that this is a fragment of, its bytes in wire order.
    pub(crate) id: u32,
}

/// The first 20 bytes of an IPv4 header (RFC 791, 3.1), every field as it lies there.
#[repr(C)]
struct V4 {
    version_length: u8,
    tos: u8,
    length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

/// An IPv6 header (RFC 8200, 3), likewise.
#[repr(C)]
struct V6 {
    version_class: u8,
    class_flow: [u8; 3],
    length: u16,
    next: u8,
    hops: u8,
    addresses: [u64; 4],
}

/// An IPv6 fragment header (RFC 8200, 4.5), likewise: `next` is next header, reserved, offset and flags.
#[repr(C)]
struct Fragment {
    next: u32,
    id: u32,
}

/// A UDP header (RFC 768), likewise.
#[repr(C)]
struct Udp {
    ports: u32,
    length_checksum: u32,
}

/// A TCP header (RFC 9293, 3.1), likewise.
#[repr(C)]
struct Tcp {
    ports: u32,
    sequence: u32,
    acknowledgement: u32,
    offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

/// A header where it lies: all that can be read without a helper, which `context::begin` has seen to. The program that
/// meets every packet, ours or not, reads it so; a header that is not there makes the packet one that it does not know.
#[derive(Clone, Copy)]
struct Bytes {
    start: usize,
    end: usize,
}

impl Bytes {
    #[inline(always)]
    fn new(ctx: &TcContext) -> Self {
        Self { start: ctx.data(), end: ctx.data_end() }
    }

    /// The header at an offset. Its fields lie as the kernel aligns them: so that IP headers begin at a word.
    #[inline(always)]
    fn at<T>(self, offset: u32) -> Option<*const T> {
        let start = self.start + offset as usize;
        (start + size_of::<T>() <= self.end).then_some(start as *const T)
    }
}

/// A field of a header.
macro_rules! of {
    ($header:expr, $($field:tt)+) => {
        // SAFETY: the header is within the packet; the verifier holds it to that.
        unsafe { (&raw const (*$header).$($field)+).read() }
    };
}

/// Reads a part of the packet; `None` if it is not that long.
#[inline(always)]
pub(crate) fn read<T>(ctx: &TcContext, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the whole value or fails.
    let result = unsafe {
        bpf_skb_load_bytes(skb(ctx).cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32)
    };
    if result != 0 {
        return None;
    }
    // SAFETY: written; every `T` used here is integers only.
    Some(unsafe { value.assume_init() })
}

/// Reads the packet's headers.
#[inline(always)]
pub(crate) fn parse(ctx: &TcContext, packet: &mut Packet) -> Kind {
    if field!(ctx, vlan_present) != 0 {
        return Kind::Other;
    }
    match field!(ctx, protocol) {
        IPV4 => v4(ctx, packet),
        IPV6 => v6(ctx, packet),
        _ => Kind::Other,
    }
}

#[inline(always)]
fn v4(ctx: &TcContext, packet: &mut Packet) -> Kind {
    let (start, bytes) = (l3(ctx), Bytes::new(ctx));
    let Some(ip) = bytes.at::<V4>(start) else { return Kind::Other };
    let version_length = of!(ip, version_length);
    let header = u32::from(version_length & 0xf) * 4;
    if version_length >> 4 != 4 || header < 20 {
        return Kind::Other;
    }
    let fragment = u16::from_be(of!(ip, fragment));
    let protocol = of!(ip, protocol);
    packet.v6 = false;
    packet.key.source = mapped_words(of!(ip, source));
    packet.key.destination = mapped_words(of!(ip, destination));
    packet.key.ports = 0;
    packet.key.protocol = protocol.into();
    packet.l4 = start + header;
    packet.headers = header;
    let Some(length) = length(ctx, u16::from_be(of!(ip, length)).into()) else { return Kind::Other };
    packet.length = length;
    packet.ttl = of!(ip, ttl);
    packet.checksum = of!(ip, checksum);
    packet.id = of!(ip, id).into();
    packet.flags = 0;
    // More fragments, and the offset.
    packet.first = fragment & 0x3fff == 0x2000;
    if fragment & 0x1fff != 0 {
        return Kind::Later;
    }
    if protocol == ICMP { Kind::Icmp } else { transport(bytes, packet) }
}

#[inline(always)]
fn v6(ctx: &TcContext, packet: &mut Packet) -> Kind {
    let (start, bytes) = (l3(ctx), Bytes::new(ctx));
    let Some(ip) = bytes.at::<V6>(start) else { return Kind::Other };
    if of!(ip, version_class) >> 4 != 6 {
        return Kind::Other;
    }
    let next = of!(ip, next);
    packet.v6 = true;
    packet.key.source = [of!(ip, addresses[0]), of!(ip, addresses[1])];
    packet.key.destination = [of!(ip, addresses[2]), of!(ip, addresses[3])];
    packet.key.ports = 0;
    packet.key.protocol = next.into();
    packet.l4 = start + 40;
    packet.headers = 40;
    // An IPv4 address in this form is never on the wire (RFC 4291, 2.5.5.2), and its tuple is that of IPv4.
    if is_v4(&packet.key.source) || is_v4(&packet.key.destination) {
        return Kind::Other;
    }
    let Some(length) = length(ctx, u32::from(u16::from_be(of!(ip, length))) + 40) else { return Kind::Other };
    packet.length = length;
    packet.ttl = of!(ip, hops);
    packet.checksum = 0;
    packet.id = 0;
    packet.flags = 0;
    packet.first = false;
    if next == FRAGMENT6 {
        // Next header, reserved, offset and flags (two bytes), identification.
        let Some(fragment) = bytes.at::<Fragment>(packet.l4) else { return Kind::Other };
        let [next, _, high, low] = of!(fragment, next).to_ne_bytes();
        let offset = u16::from_be_bytes([high, low]);
        packet.key.protocol = next.into();
        packet.id = of!(fragment, id);
        packet.l4 = start + 48;
        packet.headers = 48;
        packet.first = offset & 1 != 0;
        if offset & 0xfff8 != 0 {
            return Kind::Later;
        }
    }
    if packet.key.protocol == u32::from(ICMP6) { Kind::Icmp } else { transport(bytes, packet) }
}

/// The length of an IP packet whose header says this; `None` if it was cut short. One that the kernel put together is all
/// there is, and its header may not hold it.
#[inline(always)]
fn length(ctx: &TcContext, told: u32) -> Option<u32> {
    let there = field!(ctx, len) - l3(ctx);
    if field!(ctx, gso_size) != 0 {
        return Some(there);
    }
    (told <= there).then_some(told)
}

#[inline(always)]
fn transport(bytes: Bytes, packet: &mut Packet) -> Kind {
    if packet.key.protocol == u32::from(TCP) {
        let Some(tcp) = bytes.at::<Tcp>(packet.l4) else { return Kind::Other };
        if packet.headers + size_of::<Tcp>() as u32 > packet.length {
            // What follows is Ethernet's padding.
            return Kind::Other;
        }
        packet.key.ports = of!(tcp, ports);
        packet.flags = of!(tcp, flags);
        packet.headers += u32::from(of!(tcp, offset) >> 4) * 4;
        Kind::Transport
    } else if packet.key.protocol == u32::from(UDP) {
        let Some(udp) = bytes.at::<Udp>(packet.l4) else { return Kind::Other };
        packet.headers += size_of::<Udp>() as u32;
        if packet.headers > packet.length {
            return Kind::Other;
        }
        packet.key.ports = of!(udp, ports);
        Kind::Transport
    } else {
        Kind::Other
    }
}

impl Packet {
    /// Room for a packet that is to be read.
    #[inline(always)]
    pub(crate) fn empty() -> Self {
        Self {
            key: TupleKey { source: [0; 2], destination: [0; 2], ports: 0, protocol: 0 },
            l4: 0,
            length: 0,
            headers: 0,
            ttl: 0,
            flags: 0,
            v6: false,
            first: false,
            checksum: 0,
            id: 0,
        }
    }
}
