//! Sluice: a Gateway API gateway whose data plane is eBPF. See ARCHITECTURE.md for the picture.
//!
//! Modules in reading order, top layer last. Layers point downward only:
//! `main → cli → agent → {source, dataplane, proxy, admin, metrics} → core → gateway_ebpf`.

pub mod core;

pub mod admin;
pub mod dataplane;
pub mod metrics;
pub mod proxy;
pub mod source;

pub mod agent;
pub mod cli;
