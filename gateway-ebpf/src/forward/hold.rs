//! In the place of `open` while flows move from one set of tables to another: no flow begins or ends meanwhile. Clients ask
//! again: what they repeat opens a flow in the new tables.
//!
//! Owns that what comes for a binding that is forwarded is dropped, if it is of no flow (what `open` would leave to the relay
//! too: it cannot be known), and that nothing else is.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::flow::Reason;

use crate::context::{discard, pass, skb};
use crate::maps::SCRATCH;
use crate::open::forwarded_by;
use crate::parse::{Kind, parse_packet};

/// The entry: its name is `names::HOLD`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_hold(ctx: TcContext) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return pass(&ctx) };
    // SAFETY: this CPU's own value, which no other program uses before this one ends.
    let scratch = unsafe { &mut *scratch };
    if parse_packet(skb(&ctx), &raw mut scratch.packet) != Kind::Transport as u32 {
        return pass(&ctx);
    }
    match forwarded_by(&ctx, &scratch.packet.key) {
        Some(_) => discard(&ctx, Reason::Held),
        None => pass(&ctx),
    }
}
