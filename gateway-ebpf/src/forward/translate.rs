//! Translation: the packet's tuple becomes the reverse of the other half's, its checksums follow, and it leaves.
//!
//! Owns every change to a packet of a flow. Must not decide whether it is changed.
//!
//! Checksums change by a difference that was computed when the flow began (`rewrite`). The helper knows what the program
//! cannot see: whether the checksum is complete, partial or not yet computed. A change of IPv6 addresses has no header
//! checksum that makes up for it in a sum over the whole packet, which the helper does not consider (before Linux 6.16
//! it cannot be told): that sum is set right by hand.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_redirect_neigh, bpf_skb_change_head, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::UDP;
use gateway_ebpf::flow::{Half, Reason, Words, v4};
use gateway_ebpf::rewrite;

use crate::context::{discard, l3, skb};
use crate::packet::forwarded;
use crate::parse::Packet;

/// `AF_INET`.
const AF_INET: u32 = 2;
/// `AF_INET6`.
const AF_INET6: u32 = 10;
/// Offset of the checksum in a TCP header.
pub(crate) const TCP_CHECKSUM: u32 = 16;
/// Offset of the checksum in a UDP header.
pub(crate) const UDP_CHECKSUM: u32 = 6;

/// Writes into the packet.
#[inline(always)]
pub(crate) fn write<T>(ctx: &TcContext, offset: u32, value: &T) -> bool {
    // SAFETY: the helper reads the whole value, which is integers without padding.
    unsafe {
        bpf_skb_store_bytes(
            skb(ctx).cast(),
            offset,
            core::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
            0,
        ) == 0
    }
}

/// Translates a packet of `half` and sends it on.
#[inline(always)]
pub(crate) fn translate(ctx: &TcContext, packet: &Packet, half: *const Half, other: *const Half) -> i32 {
    // SAFETY: places within a map's value, whose fields do not change while the flow lives.
    let (half, other) = unsafe { (&*half, &*other) };
    let ports = other.key.ports.rotate_left(16);
    let changes = ports != packet.key.ports;
    let translated = network(ctx, packet, half, other)
        && checksum(ctx, packet, half, changes)
        && (!changes || write(ctx, packet.l4, &ports));
    if !translated {
        return discard(ctx, Reason::Failed);
    }
    send(ctx, packet.v6, half.interface, &half.next_hop)
}

/// The same for a fragment that has no transport header.
#[inline(always)]
pub(crate) fn translate_later(
    ctx: &TcContext,
    packet: &Packet,
    half: *const Half,
    other: *const Half,
) -> i32 {
    // SAFETY: as above.
    let (half, other) = unsafe { (&*half, &*other) };
    if !network(ctx, packet, half, other) {
        return discard(ctx, Reason::Failed);
    }
    send(ctx, packet.v6, half.interface, &half.next_hop)
}

/// Time to live and addresses.
#[inline(always)]
fn network(ctx: &TcContext, packet: &Packet, half: &Half, other: &Half) -> bool {
    let source: Words = [other.key.destination[0], other.key.destination[1]];
    let destination: Words = [other.key.source[0], other.key.source[1]];
    if packet.v6 {
        network6(ctx, packet, &source, &destination, half.addresses)
    } else {
        network4(ctx, packet, &source, &destination, half.addresses)
    }
}

/// What is written over bytes 8 to 19 of an IPv4 header.
#[repr(C)]
struct Tail4 {
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

/// Time to live, addresses and checksum of an IPv4 header.
#[inline(always)]
pub(crate) fn network4(
    ctx: &TcContext,
    packet: &Packet,
    source: &Words,
    destination: &Words,
    difference: u32,
) -> bool {
    let protocol = packet.key.protocol as u8;
    let ttl = packet.ttl.wrapping_sub(1);
    let word = |ttl: u8| u32::from(u16::from_ne_bytes([ttl, protocol]));
    let aged = rewrite::add(word(ttl), !word(packet.ttl));
    let checksum = rewrite::replace(packet.checksum, rewrite::add(difference, aged));
    let tail = Tail4 { ttl, protocol, checksum, source: v4(source), destination: v4(destination) };
    write(ctx, l3(ctx) + 8, &tail)
}

/// Hop limit and addresses of an IPv6 header.
#[inline(always)]
pub(crate) fn network6(
    ctx: &TcContext,
    packet: &Packet,
    source: &Words,
    destination: &Words,
    difference: u32,
) -> bool {
    let hops = packet.ttl.wrapping_sub(1);
    let word = |hops: u8| u32::from(u16::from_ne_bytes([0, hops]));
    let aged = rewrite::add(word(hops), !word(packet.ttl));
    // SAFETY: no memory but the context's. It does nothing unless there is a sum over the whole packet.
    let _unless_complete = unsafe { bpf_csum_update(skb(ctx), rewrite::add(difference, aged)) };
    let addresses = [source[0], source[1], destination[0], destination[1]];
    write(ctx, l3(ctx) + 7, &hops) && write(ctx, l3(ctx) + 8, &addresses)
}

/// The checksum of the transport header. `changes`: whether its ports do.
#[inline(always)]
fn checksum(ctx: &TcContext, packet: &Packet, half: &Half, changes: bool) -> bool {
    let (offset, flags) = if packet.key.protocol == u32::from(UDP) {
        // A checksum that is not there stays away, and one that comes out as zero is written as its other form.
        (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
    } else {
        (TCP_CHECKSUM, 0)
    };
    let at = packet.l4 + offset;
    let pseudo = flags | u64::from(BPF_F_PSEUDO_HDR);
    // SAFETY: no memory but the packet's.
    let addresses = unsafe { bpf_l4_csum_replace(skb(ctx), at, 0, half.addresses.into(), pseudo) };
    if addresses != 0 || !changes {
        return addresses == 0;
    }
    // SAFETY: as above.
    unsafe { bpf_l4_csum_replace(skb(ctx), at, 0, half.ports.into(), flags) == 0 }
}

/// The neighbour that a packet is handed to (`struct bpf_redir_neigh`).
#[repr(C)]
struct Neighbour {
    family: u32,
    address: [u32; 4],
}

/// Sends the packet out of an interface, to a neighbour, or to the one that the kernel's routes say.
#[inline(always)]
pub(crate) fn send(ctx: &TcContext, v6: bool, interface: u32, next_hop: &Words) -> i32 {
    if l3(ctx) == 0 {
        // The helper takes an Ethernet header away again; without one it loses the packet without a word.
        // SAFETY: no memory but the packet's.
        if unsafe { bpf_skb_change_head(skb(ctx), 14, 0) } != 0 {
            return discard(ctx, Reason::Failed);
        }
    }
    forwarded(ctx, interface);
    if next_hop[1] == 0 && next_hop[0] == 0 {
        // SAFETY: no memory is involved.
        return unsafe { bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) } as i32;
    }
    let mut to = if v6 {
        let [a, b] = [next_hop[0], next_hop[1]];
        Neighbour { family: AF_INET6, address: [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32] }
    } else {
        Neighbour { family: AF_INET, address: [v4(next_hop), 0, 0, 0] }
    };
    // SAFETY: the helper reads the value, which is as long as it says.
    unsafe { bpf_redirect_neigh(interface, (&raw mut to).cast(), size_of::<Neighbour>() as i32, 0) as i32 }
}
