//! The harness: network namespaces, peers to talk to, and the real agent inside a namespace.
//!
//! It knows `sluice` only as a program with a command line, never as a library, so that `cargo xtask demo` and
//! the benchmarks can use it on a machine that cannot build BPF yet. What it cannot do (no privilege, no tool)
//! it says by a panic: a skipped test looks like a passed one.

pub mod agent;
pub mod bpffs;
pub mod client;
pub mod docs;
pub mod lab;
pub mod netns;
pub mod objects;
pub mod packets;
pub mod peers;
