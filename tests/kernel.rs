//! Loads the real programs and holds them against the pure functions that kernel and agent share. Needs root.
#![expect(clippy::unwrap_used, reason = "a test: what cannot be done here fails it, with the place")]

#[path = "kernel/addresses.rs"]
mod addresses;
#[path = "kernel/bed.rs"]
mod bed;
#[path = "kernel/differential.rs"]
mod differential;
#[path = "kernel/flows.rs"]
mod flows;
#[path = "kernel/forward.rs"]
mod forward;
#[path = "kernel/forward_errors.rs"]
mod forward_errors;
#[path = "kernel/forward_fragments.rs"]
mod forward_fragments;
#[path = "kernel/forward_line.rs"]
mod forward_line;
#[path = "kernel/forward_resets.rs"]
mod forward_resets;
#[path = "kernel/hooks.rs"]
mod hooks;
#[path = "kernel/host.rs"]
mod host;
#[path = "kernel/pins.rs"]
mod pins;
#[path = "kernel/plans.rs"]
mod plans;
#[path = "kernel/steering.rs"]
mod steering;
