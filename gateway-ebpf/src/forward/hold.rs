//! In the place of `open` while flows move from one set of tables to another: no flow begins or ends meanwhile. Clients ask
//! again: what they repeat opens a flow in the new tables.
//!
//! Owns that what comes for a binding that is forwarded is dropped, if it is of no flow (what `open` would leave to the relay
//! too: it cannot be known), and that nothing else is.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::flow::Reason;

use crate::context::{discard, pass};
use crate::open::forwarded_by;
use crate::parse::{Kind, parsed};

/// The entry: its name is `names::HOLD`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_hold(ctx: TcContext) -> i32 {
    let Some(scratch) = parsed(&ctx, Kind::Transport) else { return pass(&ctx) };
    match forwarded_by(&ctx, &scratch.packet.key) {
        Some(_) => discard(&ctx, Reason::Held),
        None => pass(&ctx),
    }
}
