//! The BPF programs that forward, at the TC ingress of every interface that traffic or endpoints use.
//!
//! Owns the entries: a stub on each interface goes on with a program out of `PROGRAMS`, so that one write there
//! switches all interfaces over. What is decided is in the library (`life`, `select`, `rewrite`); what is shared with
//! the agent is in its `abi` and `flow`.
//!
//! A packet goes from `stub` to `packet`, which translates it if its flow is known, and else to one of the others.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "atomics of the BPF target: core::sync::atomic has loads and stores only"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "fields of map values behind raw pointers: one reason holds for all that stand together"
)]
#![expect(unsafe_code, reason = "helpers and map values are raw pointers; each use says why it holds")]

mod answer;
mod atomic;
mod compose;
mod context;
mod count;
mod cut;
mod end;
mod fragment;
mod hold;
mod icmp;
mod maps;
mod open;
mod packet;
mod parse;
mod reset;
mod route;
#[path = "../shared.rs"]
mod shared;
mod socket;
mod stub;
mod sweep;
mod translate;

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
