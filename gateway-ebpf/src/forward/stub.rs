//! The stubs: all that is attached to an interface.
//!
//! Owns nothing but the step into `PROGRAMS`. They change as seldom as can be, for a new one is a new attachment.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use crate::context::begin;

/// Length of an Ethernet header.
const ETHERNET: u32 = 14;

/// The entry of interfaces with Ethernet headers: its name is `names::STUB_ETHERNET`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_ether(ctx: TcContext) -> i32 {
    begin(&ctx, ETHERNET)
}

/// The entry of interfaces without: its name is `names::STUB_RAW`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_raw(ctx: TcContext) -> i32 {
    begin(&ctx, 0)
}
