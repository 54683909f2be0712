//! The plan: what brings the kernel's maps from what they hold to what they shall hold, in an order that never
//! leaves a binding pointing at what is not there.
//!
//! Owns the order. Must not know how an operation is done.

use gateway_ebpf::abi::{BindingKey, ServiceWord};

use super::snapshot::{BackendKey, BindingImage};

/// One step. Each can be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Remove a binding.
    DeleteBinding(BindingKey),
    /// Write a backend.
    PutBackend(u32, BackendKey),
    /// Write backend ids into a range of slots that no live service refers to.
    WriteSlots {
        /// First slot.
        offset: u32,
        /// Backend ids.
        slots: std::sync::Arc<[u32]>,
    },
    /// Point a service at its slots, atomically.
    PutService(u32, ServiceWord),
    /// Write a binding, atomically.
    PutBinding(BindingKey, BindingImage),
    /// Wait until no program that began before can still read: ranges and ids released so far may be used again.
    GracePeriod,
    /// Clear a service that no binding refers to.
    DeleteService(u32),
    /// Clear a backend that no slot refers to.
    DeleteBackend(u32),
}

/// The steps in two halves: the workers switch to the new snapshot between them, so that a binding that goes is
/// gone before they forget it, and one that comes is known to them before it is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Before the workers switch.
    pub withdraw: Vec<Op>,
    /// After it.
    pub install: Vec<Op>,
}

/// What the kernel's maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// Bindings, services (their slots read back) and backends.
    pub image: super::snapshot::MapImage,
    /// Where the services' slots are.
    pub words: std::collections::BTreeMap<u32, ServiceWord>,
}
