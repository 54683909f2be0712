//! How memory is taken and given back: in small pages, and at rest.
//!
//! Gives memory back: reading and compiling need several times what is kept. Not at each change, or the next one
//! would wait for fresh pages.
//!
//! The allocator has a heap for each thread, and only the thread itself can give back what is free there.

#![expect(unsafe_code, reason = "the allocator's own call has no safe binding")]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often it was asked for.
static ASKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// How often it had been asked for when this thread did it last.
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Returns what the allocator holds free to the system. The allocator would do so only as it is used further, and a
/// control plane is mostly idle. The runtime's other threads do it as they go idle. Must be called on the runtime.
pub(super) fn give_back() {
    ASKED.fetch_add(1, Ordering::Relaxed);
    on_idle();
    // Who is woken for a task wakes the next one: all of them go idle anew.
    tokio::spawn(async {});
}

/// Takes memory in small pages from now on: huge ones are held for as long as anything in them is in use, which is a quarter
/// of what an agent with thousands of routes takes. To be called before there are threads.
pub(super) fn small_pages() {
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "memory is taken in huge pages");
    }
}

/// To be called by each thread of the runtime that goes idle.
pub(super) fn on_idle() {
    let asked = ASKED.load(Ordering::Relaxed);
    if DONE.replace(asked) != asked {
        // SAFETY: the allocator allows it at any time, from any thread; it frees only what nobody refers to.
        unsafe { libmimalloc_sys::mi_collect(true) }
    }
}
