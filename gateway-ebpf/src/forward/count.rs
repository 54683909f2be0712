//! Counting by reason.

use gateway_ebpf::flow::Reason;

use crate::maps::REASONS;

/// Counts one.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own word; a program is not moved to another CPU while it runs.
        unsafe { *counter += 1 };
    }
}
