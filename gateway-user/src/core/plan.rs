//! The plan: what brings the kernel's maps from what they hold to what they shall hold, in an order that never
//! leaves a binding pointing at what is not there.
//!
//! Owns the order. Must not know how an operation is done.

use std::collections::BTreeMap;

use gateway_ebpf::abi::{BindingKey, ServiceWord};

use super::snapshot::{BackendKey, BindingImage, MapImage};

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

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.withdraw.is_empty() && self.install.is_empty()
    }
}

/// What the kernel's maps hold, as the dataplane read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// Bindings, slots and backends. A service that exists is in `services` with the slots that its word names.
    pub image: MapImage,
    /// The words of the services that exist.
    pub words: BTreeMap<u32, ServiceWord>,
}

/// A table that does not hold what it would have to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// More entries than the map has.
    #[error("{table}: {want} entries wanted, {capacity} fit (use fewer, or build with a larger table)")]
    Table {
        /// Name of the map.
        table: &'static str,
        /// How many are wanted.
        want: usize,
        /// How many fit.
        capacity: u32,
    },
    /// No range of slots is free that is large enough.
    #[error(
        "SLOTS: {want} slots in one range wanted, the largest free range has {largest}, {free} of {capacity} are free (use fewer TCPRoutes or endpoints)"
    )]
    Slots {
        /// Slots that the service wants.
        want: u32,
        /// The largest free range.
        largest: u32,
        /// Free slots altogether.
        free: u32,
        /// Slots altogether.
        capacity: u32,
    },
}

/// The steps from `have` to `want`.
///
/// # Errors
/// [`Full`] if a table does not hold what is wanted.
pub fn plan(_have: &Have, _want: &MapImage) -> Result<Plan, Full> {
    Ok(Plan::default())
}
