//! Real peers to talk to: an HTTP, a TCP and a UDP echo that tell who answered and what they saw, and a raw server
//! that does whatever a test says.
//!
//! Each runs on a thread of its own inside its namespace and stops when dropped.

pub mod echo;
pub mod raw;
pub mod server;
pub mod udp;
