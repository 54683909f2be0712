//! End to end: the real binary in namespaces, real peers on both sides of it.

#[path = "e2e/harness.rs"]
mod harness;
