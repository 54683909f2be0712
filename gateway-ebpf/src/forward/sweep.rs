//! The sweep, which the agent runs: it gives up flows that are over, so that their ends are known soon also where
//! nobody opens new ones. Each run looks at one place.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::end::sweep_one;
use crate::packet::now;

/// The entry: its name is `names::SWEEP`.
#[classifier]
pub(crate) fn sluice_sweep(_ctx: TcContext) -> i32 {
    let _over = sweep_one(now(), false);
    0
}
