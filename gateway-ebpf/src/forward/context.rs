//! The packet's context (`__sk_buff`), field by field, and what is left in it for a test run to see.
//!
//! Owns how fields are read: by volatile loads, since the compiler would merge those of two branches into one by a
//! computed pointer, which the verifier refuses.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::programs::TcContext;
use gateway_ebpf::flow::{Decision, MARK_DECISION, MARK_INTERFACE, MARK_L3, MARK_REASON, Reason, Slot};

use crate::count::count;
use crate::maps::PROGRAMS;

/// The next program on the interface, then the host (TCX_NEXT is the same number).
pub(crate) const NEXT: i32 = TC_ACT_UNSPEC;

/// A field of the context.
macro_rules! field {
    ($ctx:expr, $($field:tt)+) => {
        // SAFETY: the context is valid for the run of the program; the verifier checks offset and size.
        unsafe { (&raw const (*$ctx.skb.skb).$($field)+).read_volatile() }
    };
}
pub(crate) use field;

/// The packet's raw context, as helpers take it.
#[inline(always)]
pub(crate) fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.skb.skb
}

/// Where the IP header begins: 14, or 0.
#[inline(always)]
pub(crate) fn l3(ctx: &TcContext) -> u32 {
    field!(ctx, cb[MARK_L3]) & 0xf
}

/// `PACKET_HOST`: for this host, not one that only passes by.
const PACKET_HOST: u32 = 0;

/// Whether the packet's link address is this host's.
#[inline(always)]
pub(crate) fn is_for_host(ctx: &TcContext) -> bool {
    field!(ctx, pkt_type) == PACKET_HOST
}

#[inline(always)]
fn mark(ctx: &TcContext, word: usize, value: u32) {
    // SAFETY: as `field`.
    unsafe { (&raw mut (*ctx.skb.skb).cb[word]).write_volatile(value) };
}

/// Notes a decision.
#[inline(always)]
pub(crate) fn decide(ctx: &TcContext, decision: Decision, interface: u32) {
    mark(ctx, MARK_DECISION, decision as u32);
    mark(ctx, MARK_INTERFACE, interface);
}

/// The packet is not ours.
#[inline(always)]
pub(crate) fn pass(ctx: &TcContext) -> i32 {
    decide(ctx, Decision::Next, 0);
    NEXT
}

/// The packet goes up to the host, for a reason that is counted.
#[inline(always)]
pub(crate) fn fall_back(ctx: &TcContext, reason: Reason) -> i32 {
    blame(ctx, reason);
    pass(ctx)
}

/// Counts and notes why the packet is not forwarded.
#[inline(always)]
pub(crate) fn blame(ctx: &TcContext, reason: Reason) {
    count(reason);
    mark(ctx, MARK_REASON, reason as u32 + 1);
}

/// The packet is dropped, for a reason that is counted.
#[inline(always)]
pub(crate) fn discard(ctx: &TcContext, reason: Reason) -> i32 {
    blame(ctx, reason);
    decide(ctx, Decision::Dropped, 0);
    TC_ACT_SHOT
}

/// Goes on with another program. Where it is missing the packet goes up to the host.
#[inline(always)]
pub(crate) fn go_on(ctx: &TcContext, slot: Slot) -> i32 {
    // SAFETY: on success it does not return; the program is of this contract, since the agent put it there.
    unsafe { PROGRAMS.tail_call(ctx, slot as u32) };
    pass(ctx)
}

/// Begins: notes where the IP header is.
#[inline(always)]
pub(crate) fn begin(ctx: &TcContext, l3: u32) -> i32 {
    mark(ctx, MARK_L3, l3);
    mark(ctx, MARK_REASON, 0);
    go_on(ctx, Slot::Packet)
}

/// Beside the place of the IP header: headers were made readable.
const PULLED: u32 = 1 << 4;
/// Bytes that are made readable without a helper, where the packet has them: Ethernet, IPv4 with all its options or IPv6
/// with a fragment header, and what is read of TCP.
const HEADERS: u32 = 14 + 60 + 20;

/// Beside the place of the IP header: the packet is of a flow, which it may end.
const KNOWN: u32 = 1 << 5;

/// Goes on with `open`, which a packet of a flow reaches if it may end it.
#[inline(always)]
pub(crate) fn open_again(ctx: &TcContext) -> i32 {
    mark(ctx, MARK_L3, field!(ctx, cb[MARK_L3]) | KNOWN);
    go_on(ctx, Slot::Open)
}

/// Whether the packet is of a flow, as far as `packet` knows.
#[inline(always)]
pub(crate) fn is_known(ctx: &TcContext) -> bool {
    field!(ctx, cb[MARK_L3]) & KNOWN != 0
}

/// Begins again with headers that can be read without a helper. (Most packets come so; to move bytes about in each, where
/// what it carries lies elsewhere, would cost more than all the rest.)
#[inline(always)]
pub(crate) fn pull(ctx: &TcContext) -> i32 {
    let place = field!(ctx, cb[MARK_L3]);
    let length = field!(ctx, len);
    let wanted = if length < HEADERS { length } else { HEADERS };
    if place & PULLED != 0 || ctx.pull_data(wanted).is_err() {
        return pass(ctx);
    }
    mark(ctx, MARK_L3, place | PULLED);
    go_on(ctx, Slot::Packet)
}
