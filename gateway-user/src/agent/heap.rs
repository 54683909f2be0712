//! Gives memory back: reading and compiling need several times what is kept. Not at each change, or the next one
//! would wait for fresh pages.

#![expect(unsafe_code, reason = "the allocator's own call has no safe binding")]

/// Returns what the allocator holds free to the system. The allocator would do so only as it is used further, and a
/// control plane is mostly idle.
pub(super) fn give_back() {
    // SAFETY: the allocator allows it at any time, from any thread; it frees only what nobody refers to.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
