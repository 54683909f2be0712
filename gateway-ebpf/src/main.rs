//! The BPF program that steers: `sk_lookup`.
//!
//! Owns the entry. What they decide is in the library's `select`; what they share with the agent is in its `abi`.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "helpers and map values are raw pointers; each use says why it holds")]

mod maps;
mod shared;
mod sk_lookup;

/// The kernel hands some helpers to programs under the GPL only; these programs are under both licences.
// SAFETY: the section is the one that loaders read the licence from, and nothing else goes into it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The verifier admits no path that gets here: there is nothing to unwind to.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
