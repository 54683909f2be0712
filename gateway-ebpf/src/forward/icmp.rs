//! ICMP errors about packets that were sent for a flow: they are translated as the flow's own are, and what they quote
//! becomes what the side that they go to has sent.
//!
//! Owns what is changed in them. They are no sign of life: neither the flow's time nor its counters change. One that
//! quotes no flow, that is longer than the link takes, or that is not understood, is left to the host or dropped, and
//! nobody is told (RFC 1122, 3.2.2).

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::UDP;
use gateway_ebpf::flow::{Half, Reason, Words};
use gateway_ebpf::rewrite;

use crate::context::{discard, is_for_host, l3, pass, skb};
use crate::count::count;
use crate::maps::LOCAL;
use crate::packet::{find, halves};
use crate::parse::{Kind, Packet, parse_quoted, parsed, read};
use crate::translate::{TCP_CHECKSUM, UDP_CHECKSUM, network4, network6, send, write};

/// Length of an ICMP error's header.
const HEADER: u32 = 8;
/// What is certain of a quoted transport header.
const QUOTED: u32 = 8;
/// Offset of the checksum in it.
const CHECKSUM: u32 = 2;

/// The entry of `Slot::Icmp`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_icmp(ctx: TcContext) -> i32 {
    let Some(scratch) = parsed(&ctx, Kind::Icmp) else { return pass(&ctx) };
    let (packet, quoted) = (&scratch.packet, &mut scratch.quoted);
    if packet.first || !is_for_host(&ctx) || !is_error(&ctx, packet) {
        return pass(&ctx);
    }
    if parse_quoted(skb(&ctx), packet.l4 + HEADER, &raw mut *quoted) != Kind::Transport as u32 {
        return unknown(&ctx, packet);
    }
    if quoted.l4 + QUOTED > l3(&ctx) + packet.length {
        // What follows is Ethernet's padding, and in no checksum.
        return unknown(&ctx, packet);
    }
    // What was sent is the reverse of what comes back.
    scratch.reply = quoted.key.reverse();
    let Some((half, flow, _)) = find(&scratch.reply) else { return unknown(&ctx, packet) };
    let (half, other) = halves(flow, half.is_reply());
    // SAFETY: places within a map's value, whose fields do not change while the flow lives.
    let (half, other) = unsafe { (&*half, &*other) };
    if packet.key.destination != half.key.destination {
        return unknown(&ctx, packet);
    }
    if packet.ttl <= 1 {
        return discard(&ctx, Reason::TimeExceeded);
    }
    if packet.length > half.mtu {
        return discard(&ctx, Reason::TooBig);
    }
    if !translate(&ctx, packet, quoted, half, other) {
        return discard(&ctx, Reason::Failed);
    }
    send(&ctx, packet.v6, half.interface, &half.next_hop)
}

/// Whether it is one of the errors about a packet: unreachable, time exceeded, a wrong parameter; and, of IPv6, too big
/// (RFC 792, RFC 4443). A redirect is none.
#[inline(always)]
fn is_error(ctx: &TcContext, packet: &Packet) -> bool {
    if packet.headers + HEADER > packet.length {
        return false;
    }
    let Some(kind) = read::<u8>(ctx, packet.l4) else { return false };
    if packet.v6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 11 | 12) }
}

/// The host's; counted if it is for the host and not for another one that it passes on its way to.
#[inline(always)]
fn unknown(ctx: &TcContext, packet: &Packet) -> i32 {
    // SAFETY: asked for its presence only.
    if unsafe { LOCAL.get(packet.key.destination) }.is_some() {
        count(Reason::IcmpUnknown);
    }
    pass(ctx)
}

#[inline(always)]
fn translate(ctx: &TcContext, packet: &Packet, quoted: &Packet, half: &Half, other: &Half) -> bool {
    let destination: Words = [other.key.source[0], other.key.source[1]];
    // A router on the way keeps its address.
    let source: Words = if packet.key.source == half.key.source {
        [other.key.destination[0], other.key.destination[1]]
    } else {
        [packet.key.source[0], packet.key.source[1]]
    };
    let outer = rewrite::moved(&packet.key, &source, &destination);
    let Some(inner) = translate_quoted(ctx, packet, quoted, half, other) else { return false };
    let at = packet.l4 + CHECKSUM;
    let Some(checksum) = read::<u16>(ctx, at) else { return false };
    // ICMPv6 has a pseudo header.
    let change = if packet.v6 { rewrite::add(outer, inner) } else { inner };
    if !write(ctx, at, &rewrite::replace(checksum, change)) {
        return false;
    }
    if packet.v6 {
        // In a sum over the whole packet the checksum makes up for the addresses.
        network6(ctx, packet, &source, &destination, 0)
    } else {
        network4(ctx, packet, &source, &destination, outer)
    }
}

/// Translates the quoted packet: it becomes what the other half's packets are as they arrive. Returns what that is to a
/// sum over the whole of it.
#[inline(always)]
fn translate_quoted(
    ctx: &TcContext,
    packet: &Packet,
    quoted: &Packet,
    half: &Half,
    other: &Half,
) -> Option<u32> {
    let at = packet.l4 + HEADER;
    let (from, to) = (&other.key.source, &other.key.destination);
    // The words that change are those that change in the half's own packets, in other places.
    let tuple = rewrite::add(half.addresses, half.ports);
    let mut change = tuple;
    let written = if packet.v6 {
        write(ctx, at + 8, &[from[0], from[1], to[0], to[1]])
    } else {
        let checksum = rewrite::replace(quoted.checksum, half.addresses);
        change = rewrite::add(change, rewrite::difference(quoted.checksum, checksum));
        // Two bytes before the addresses.
        write(ctx, at + 10, &checksum)
            && write(ctx, at + 12, &[gateway_ebpf::flow::v4(from), gateway_ebpf::flow::v4(to)])
    };
    if !written || !write(ctx, quoted.l4, &other.key.ports) {
        return None;
    }
    let udp = quoted.key.protocol == u32::from(UDP);
    let at = quoted.l4 + if udp { UDP_CHECKSUM } else { TCP_CHECKSUM };
    // Eight bytes are certain, which do not reach TCP's.
    if at + 2 > l3(ctx) + packet.length {
        return Some(change);
    }
    let Some(before) = read::<u16>(ctx, at) else { return Some(change) };
    if udp && before == 0 {
        return Some(change);
    }
    let after = rewrite::replace(before, tuple);
    let after = if udp && after == 0 { 0xffff } else { after };
    write(ctx, at, &after).then_some(rewrite::add(change, rewrite::difference(before, after)))
}
