//! What a packet says of itself: its 5-tuple, and where its headers are.
//!
//! Owns the reading of headers. Must not change anything.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::{TCP, UDP};
use gateway_ebpf::flow::{TupleKey, is_v4, mapped_words};

use crate::context::{field, l3, skb};
use crate::maps::{SCRATCH, Scratch};

/// `ETH_P_IP`, in wire order.
const IPV4: u32 = 0x0800u16.to_be() as u32;
/// `ETH_P_IPV6`, in wire order.
const IPV6: u32 = 0x86ddu16.to_be() as u32;
/// IP protocol number of ICMP (RFC 792).
pub(crate) const ICMP: u8 = 1;
/// IP protocol number of ICMPv6 (RFC 4443).
pub(crate) const ICMP6: u8 = 58;
/// IP protocol number of IPv6's fragment header (RFC 8200, 4.5).
pub(crate) const FRAGMENT6: u8 = 44;

/// What a packet is.
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// TCP or UDP, or the first fragment of it.
    Transport = 0,
    /// ICMP of either family.
    Icmp = 1,
    /// A fragment that is not the first.
    Later = 2,
    /// Nothing that forwarding knows.
    Other = 3,
    /// Not to be read: its headers end early, or lie where only a helper reads them.
    Short = 4,
}

/// Whose packet it is whose headers are read, for they may end early.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// The one that came.
    Yes,
    /// The one that an ICMP error quotes: of its transport header, eight bytes are certain.
    Quoted,
}

/// A packet. All integers are in the host's byte order unless they are said to be in wire order.
#[repr(C)]
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
pub(crate) struct V4 {
    pub(crate) version_length: u8,
    pub(crate) tos: u8,
    pub(crate) length: u16,
    pub(crate) id: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: u32,
    pub(crate) destination: u32,
}

/// An IPv6 header (RFC 8200, 3), likewise.
#[repr(C)]
pub(crate) struct V6 {
    pub(crate) version: u32,
    pub(crate) length: u16,
    pub(crate) next: u8,
    pub(crate) hops: u8,
    pub(crate) addresses: [u64; 4],
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

/// Reads a header. Those of the packet itself are read without a helper: every packet goes through this, ours or not.
#[inline(always)]
fn header<T>(ctx: &TcContext, offset: u32, whole: Whole) -> Option<T> {
    if whole == Whole::Quoted {
        return read(ctx, offset);
    }
    let start = ctx.data() + offset as usize;
    if start + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: within the packet, which the verifier holds it to. Its fields lie as the kernel aligns them, so that IP
    // headers begin at a word; where that does not hold, x86 does not mind, and neither does BPF's instruction set.
    Some(unsafe { (start as *const T).read() })
}

/// Reads the packet's headers.
#[inline(always)]
pub(crate) fn parse(ctx: &TcContext, packet: &mut Packet) -> Kind {
    if field!(ctx, vlan_present) != 0 {
        return Kind::Other;
    }
    network(ctx, l3(ctx), packet, Whole::Yes)
}

#[inline(always)]
fn network(ctx: &TcContext, start: u32, packet: &mut Packet, whole: Whole) -> Kind {
    match field!(ctx, protocol) {
        IPV4 => v4(ctx, start, packet, whole),
        IPV6 => v6(ctx, start, packet, whole),
        _ => Kind::Other,
    }
}

/// This CPU's room with the packet in it, if it is of this kind.
#[inline(always)]
pub(crate) fn parsed(ctx: &TcContext, kind: Kind) -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's own value, which no other program uses before this one ends.
    let scratch = unsafe { &mut *SCRATCH.get_ptr_mut(0)? };
    (parse_packet(skb(ctx), &raw mut scratch.packet) == kind as u32).then_some(scratch)
}

/// What `parse` does, apart from the program that calls it, for the verifier: what follows need not be followed for each
/// of the ways that headers may be laid out. Returns a [`Kind`].
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn parse_packet(skb: *mut __sk_buff, packet: *mut Packet) -> u32 {
    // SAFETY: a pointer that is not null is to a packet, to the verifier's knowledge too.
    let Some(packet) = (unsafe { packet.as_mut() }) else { return Kind::Other as u32 };
    parse(&TcContext::new(skb), packet) as u32
}

/// The same for the packet that an ICMP error quotes from `start` on: its ports, its checksum, and where its headers are.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn parse_quoted(skb: *mut __sk_buff, start: u32, packet: *mut Packet) -> u32 {
    // SAFETY: as above.
    let Some(packet) = (unsafe { packet.as_mut() }) else { return Kind::Other as u32 };
    network(&TcContext::new(skb), start, packet, Whole::Quoted) as u32
}

#[inline(always)]
fn v4(ctx: &TcContext, start: u32, packet: &mut Packet, whole: Whole) -> Kind {
    let Some(ip) = header::<V4>(ctx, start, whole) else { return Kind::Short };
    let header = u32::from(ip.version_length & 0xf) * 4;
    if ip.version_length >> 4 != 4 || header < 20 {
        return Kind::Other;
    }
    let fragment = u16::from_be(ip.fragment);
    packet.v6 = false;
    packet.key.source = mapped_words(ip.source);
    packet.key.destination = mapped_words(ip.destination);
    packet.key.ports = 0;
    packet.key.protocol = ip.protocol.into();
    packet.l4 = start + header;
    packet.headers = header;
    let Some(length) = length(ctx, u16::from_be(ip.length).into(), whole) else { return Kind::Other };
    packet.length = length;
    packet.ttl = ip.ttl;
    packet.checksum = ip.checksum;
    packet.id = ip.id.into();
    packet.flags = 0;
    // More fragments, and the offset.
    packet.first = fragment & 0x3fff == 0x2000;
    if fragment & 0x1fff != 0 {
        return Kind::Later;
    }
    if ip.protocol == ICMP { Kind::Icmp } else { transport(ctx, packet, whole) }
}

#[inline(always)]
fn v6(ctx: &TcContext, start: u32, packet: &mut Packet, whole: Whole) -> Kind {
    let Some(ip) = header::<V6>(ctx, start, whole) else { return Kind::Short };
    let [version, _, _, _] = ip.version.to_ne_bytes();
    if version >> 4 != 6 {
        return Kind::Other;
    }
    packet.v6 = true;
    packet.key.source = [ip.addresses[0], ip.addresses[1]];
    packet.key.destination = [ip.addresses[2], ip.addresses[3]];
    packet.key.ports = 0;
    packet.key.protocol = ip.next.into();
    packet.l4 = start + 40;
    packet.headers = 40;
    // An IPv4 address in this form is never on the wire (RFC 4291, 2.5.5.2), and its tuple is that of IPv4.
    if is_v4(&packet.key.source) || is_v4(&packet.key.destination) {
        return Kind::Other;
    }
    let told = u32::from(u16::from_be(ip.length)) + 40;
    let Some(length) = length(ctx, told, whole) else { return Kind::Other };
    packet.length = length;
    packet.ttl = ip.hops;
    packet.checksum = 0;
    packet.id = 0;
    packet.flags = 0;
    packet.first = false;
    if ip.next == FRAGMENT6 {
        // Next header, reserved, offset and flags (two bytes), identification.
        let Some(fragment) = header::<[u32; 2]>(ctx, packet.l4, whole) else { return Kind::Short };
        let [next, _, high, low] = fragment[0].to_ne_bytes();
        let offset = u16::from_be_bytes([high, low]);
        packet.key.protocol = next.into();
        packet.id = fragment[1];
        packet.l4 = start + 48;
        packet.headers = 48;
        packet.first = offset & 1 != 0;
        if offset & 0xfff8 != 0 {
            return Kind::Later;
        }
    }
    if packet.key.protocol == u32::from(ICMP6) { Kind::Icmp } else { transport(ctx, packet, whole) }
}

/// The length of an IP packet whose header says this; `None` if it was cut short. One that the kernel put together is all
/// there is, and its header may not hold it.
#[inline(always)]
fn length(ctx: &TcContext, told: u32, whole: Whole) -> Option<u32> {
    if whole == Whole::Quoted {
        return Some(told);
    }
    let there = field!(ctx, len) - l3(ctx);
    if field!(ctx, gso_size) != 0 {
        return Some(there);
    }
    (told <= there).then_some(told)
}

#[inline(always)]
fn transport(ctx: &TcContext, packet: &mut Packet, whole: Whole) -> Kind {
    if packet.key.protocol == u32::from(TCP) && whole == Whole::Yes {
        let Some(tcp) = header::<Tcp>(ctx, packet.l4, whole) else { return Kind::Short };
        if packet.headers + size_of::<Tcp>() as u32 > packet.length {
            // What follows is Ethernet's padding.
            return Kind::Other;
        }
        packet.key.ports = tcp.ports;
        packet.flags = tcp.flags;
        packet.headers += u32::from(tcp.offset >> 4) * 4;
        Kind::Transport
    } else if matches!(packet.key.protocol as u8, TCP | UDP) {
        let Some(udp) = header::<[u32; 2]>(ctx, packet.l4, whole) else { return Kind::Short };
        packet.headers += 8;
        if packet.headers > packet.length {
            return Kind::Other;
        }
        packet.key.ports = udp[0];
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
