//! Words that several CPUs write at once.
//!
//! Owns their atomicity. Of `core`, BPF has the intrinsics only; each becomes one instruction (instruction set v3,
//! Linux 5.12).

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

/// A word as it is now.
#[inline(always)]
pub(crate) fn load(word: *const u64) -> u64 {
    // SAFETY: callers pass an aligned word of a map's value, which lives as long as the program.
    unsafe { word.read_volatile() }
}

/// Writes a word that nobody adds to.
#[inline(always)]
pub(crate) fn store(word: *mut u64, value: u64) {
    // SAFETY: as above.
    unsafe { word.write_volatile(value) }
}

/// Adds to a counter.
#[inline(always)]
pub(crate) fn add(word: *mut u64, value: u64) {
    // SAFETY: as above. Relaxed: what it was is not asked for.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, value) };
}

/// Adds one, and returns what it was: no two callers get the same.
#[inline(always)]
pub(crate) fn next(word: *mut u64) -> u64 {
    // SAFETY: as above. Not relaxed: LLVM leaves the old value away then.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word, 1) }
}

/// Sets bits.
#[inline(always)]
pub(crate) fn set(word: *mut u64, bits: u64) {
    // SAFETY: as above.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::Relaxed }>(word, bits) };
}

/// Replaces a word if it still is `old`; of several callers one succeeds.
#[inline(always)]
pub(crate) fn replace(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: as above.
    let (found, _) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new)
    };
    found == old
}
