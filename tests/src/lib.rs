//! The harness: network namespaces, peers to talk to, and the real agent inside a namespace.
//!
//! It knows `sluice` only as a program with a command line, never as a library, so that `cargo xtask demo` and
//! the benchmarks can use it on a machine that cannot build BPF yet. What it cannot do (no privilege, no tool)
//! it says by a panic: a skipped test looks like a passed one.

pub mod agent;
pub mod bpffs;
pub mod client;
pub mod cluster;
pub mod docs;
pub mod installed;
pub mod lab;
pub mod netns;
pub mod objects;
pub mod packets;
pub mod peers;

use std::io;

/// Does what waits on a socket, again when a signal has ended the wait: where there is a time limit the kernel does not go
/// on by itself, not even after a process was stopped or frozen (signal(7)). `read_exact` and its like need no help.
///
/// # Errors
/// All of `wait` but [`io::ErrorKind::Interrupted`].
pub fn uninterrupted<T>(mut wait: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
