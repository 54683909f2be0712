//! Every packet: those of a known flow are translated and sent on, those that may open one go to `open`, and the others
//! are the host's or that of a program of their own.
//!
//! Owns the fast path. Must not make or end a flow.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::TCP;
use gateway_ebpf::flow::{Flow, Half, HalfRef, Reason, Slot, TupleKey};
use gateway_ebpf::life::{self, ACK, ESTABLISHED, IS_TCP, LIVE, Next, RST, SYN};

use crate::atomic;
use crate::context::{decide, discard, field, go_on, open_again, pass, pull};
use crate::fragment::expect;
use crate::maps::{FLOWS, TUPLES};
use crate::open::leave_ring;
use crate::parse::{Kind, Packet, parse};
use crate::translate::translate;

/// The entry of `Slot::Packet`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_packet(ctx: TcContext) -> i32 {
    let mut packet = Packet::empty();
    match parse(&ctx, &mut packet) {
        Kind::Transport => {}
        Kind::Icmp => return go_on(&ctx, Slot::Icmp),
        Kind::Later => return go_on(&ctx, Slot::Fragment),
        Kind::Other => return pass(&ctx),
        Kind::Short => return pull(&ctx),
    }
    let opens = packet.key.protocol != u32::from(TCP) || packet.flags & (SYN | ACK | RST) == SYN;
    let Some((half, flow, life)) = find(&packet.key) else {
        return if opens { go_on(&ctx, Slot::Open) } else { pass(&ctx) };
    };
    known(&ctx, &packet, half, flow, life)
}

/// The living flow that a tuple belongs to, and its life.
#[inline(always)]
pub(crate) fn find(key: &TupleKey) -> Option<(HalfRef, *mut Flow, u64)> {
    // SAFETY: the word is copied at once.
    let half = HalfRef(*unsafe { TUPLES.get(key) }?);
    let (flow, life) = living(half)?;
    Some((half, flow, life))
}

/// The flow of a half, if it lives, and its life.
#[inline(always)]
pub(crate) fn living(half: HalfRef) -> Option<(*mut Flow, u64)> {
    let flow = FLOWS.get_ptr_mut(half.index())?;
    // SAFETY: a place within a map's value.
    let life = atomic::load(unsafe { &raw const (*flow).life });
    let lives = (life >> 32) as u32 == half.generation() && life as u32 & LIVE != 0;
    lives.then_some((flow, life))
}

#[inline(always)]
fn known(ctx: &TcContext, packet: &Packet, half: HalfRef, flow: *mut Flow, life: u64) -> i32 {
    let reply = half.is_reply();
    let bits = life as u32;
    let now = now();
    // SAFETY: a place within a map's value.
    let seen = unsafe { &raw mut (*flow).seen };
    let quiet = now.saturating_sub(atomic::load(seen));
    match life::next(bits, reply, packet.key.protocol as u8, packet.flags, quiet) {
        Next::Forward => {}
        Next::Anew | Next::Retry => return open_again(ctx),
        Next::Collision => return discard(ctx, Reason::Collision),
        Next::Withdrawn if bits & IS_TCP != 0 => return go_on(ctx, Slot::Reset),
        Next::Withdrawn => return discard(ctx, Reason::Withdrawn),
    }
    if packet.first {
        expect(packet, half);
    }
    let place = half;
    let (half, other) = halves(flow, reply);
    // SAFETY: a place within a map's value; the field does not change while the flow lives.
    let mtu = unsafe { (*half).mtu };
    if packet.ttl <= 1 || too_big(ctx, packet, mtu) {
        return go_on(ctx, Slot::Answer);
    }
    let new = life::learn(bits, reply, packet.flags);
    if new != 0 {
        // SAFETY: as above.
        atomic::set(unsafe { &raw mut (*flow).life }, new.into());
        if new & ESTABLISHED != 0 {
            leave_ring(flow, place);
        }
    }
    if quiet != 0 {
        atomic::store(seen, now);
    }
    let (packets, bytes) = size(ctx, packet);
    carry(flow, reply, packets, bytes);
    translate(ctx, packet, half, other)
}

/// The half of a flow that a packet is of, and the other one, whose reverse it becomes.
#[inline(always)]
pub(crate) fn halves(flow: *const Flow, reply: bool) -> (*const Half, *const Half) {
    // SAFETY: places within a map's value.
    let (client, backend) = unsafe { (&raw const (*flow).client, &raw const (*flow).reply) };
    if reply { (backend, client) } else { (client, backend) }
}

/// Counts what a flow carries.
#[inline(always)]
pub(crate) fn carry(flow: *mut Flow, reply: bool, packets: u32, bytes: u32) {
    let direction = usize::from(reply);
    // SAFETY: a place within a map's value.
    atomic::add(unsafe { &raw mut (*flow).packets[direction] }, packets.into());
    // SAFETY: as above.
    atomic::add(unsafe { &raw mut (*flow).bytes[direction] }, bytes.into());
}

/// The time: it runs in the kernel's ticks, and costs a load.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no memory is involved.
    unsafe { aya_ebpf::helpers::bpf_ktime_get_coarse_ns() }
}

/// Whether the packet, or the largest segment of one that the kernel put together, is too big for a link.
#[inline(always)]
pub(crate) fn too_big(ctx: &TcContext, packet: &Packet, mtu: u32) -> bool {
    let segment = field!(ctx, gso_size);
    let length = if segment == 0 { packet.length } else { packet.headers + segment };
    length > mtu
}

/// How many packets these are on the wire, and their bytes of IP: each segment has headers of its own.
#[inline(always)]
fn size(ctx: &TcContext, packet: &Packet) -> (u32, u32) {
    let segment = field!(ctx, gso_size);
    if segment == 0 {
        return (1, packet.length);
    }
    let mut segments = field!(ctx, gso_segs);
    if segments == 0 {
        // Nobody has counted: virtio leaves that to whoever needs it.
        segments = packet.length.saturating_sub(packet.headers).div_ceil(segment).max(1);
    }
    (segments, packet.length.wrapping_add((segments - 1).wrapping_mul(packet.headers)))
}

/// Notes that a packet goes out.
#[inline(always)]
pub(crate) fn forwarded(ctx: &TcContext, interface: u32) {
    decide(ctx, gateway_ebpf::flow::Decision::Forwarded, interface);
}
