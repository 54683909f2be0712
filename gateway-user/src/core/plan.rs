//! The plan: what brings the kernel's maps from what they hold to what they shall hold, in an order that never
//! leaves a binding pointing at what is not there.
//!
//! Owns the order. Must not know how an operation is done.

mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use gateway_ebpf::abi::{BindingKey, ServiceWord};
use gateway_ebpf::names::{MAX_BACKENDS, MAX_BINDINGS, MAX_SERVICES};

use self::slots::Services;

use super::snapshot::{BackendKey, BindingImage, MapImage, Path, Ways};

/// One step. Each can be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Remove a binding.
    DeleteBinding(BindingKey),
    /// Write a backend, with the way to it if forwarding takes one.
    PutBackend(u32, BackendKey, Option<Path>),
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
    /// Let no new flow take the way to a backend that is written; the relay serves it.
    DeletePath(u32),
    /// Let new flows come to an address.
    PutLocal(IpAddr),
    /// Let none come to it any more.
    DeleteLocal(IpAddr),
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

/// The steps from `have` to `want`; none if they are the same.
///
/// A range of slots is written only if no program can still read it: in the gaps between the ranges in use, or, where
/// those do not hold everything, in ranges that this very plan gave up, after a grace period. A plan ends with a grace
/// period if it gave anything up, so that the next may use all that `have` does not name.
///
/// # Errors
/// [`Full`] if a table does not hold what is wanted.
pub fn plan(have: &Have, want: &MapImage) -> Result<Plan, Full> {
    fits("BINDINGS", want.bindings.len(), MAX_BINDINGS)?;
    // Ids index counters and arrays: the largest one says how large a table must be.
    let dense = |ids: &mut dyn Iterator<Item = u32>| ids.max().map_or(0, |id| id as usize + 1);
    fits("LOOKUPS", dense(&mut want.bindings.values().map(|b| b.id)), MAX_BINDINGS)?;
    fits("SERVICES", dense(&mut want.services.keys().copied()), MAX_SERVICES)?;
    fits("BACKENDS", dense(&mut want.backends.keys().copied()), MAX_BACKENDS)?;

    let mut plan = Plan::default();
    for key in have.image.bindings.keys().filter(|key| !want.bindings.contains_key(*key)) {
        plan.withdraw.push(Op::DeleteBinding(*key));
    }
    plan.withdraw.extend(gone_addresses(&have.image.ways, &want.ways));
    plan.withdraw.extend(changed_paths(&have.image, want));
    plan.install.extend(changed_backends(&have.image, want));
    let mut services = Services::new(have, want);
    services.write(&mut plan.install)?;
    let mut rebound = false;
    for (key, image) in &want.bindings {
        let old = have.image.bindings.get(key);
        if old != Some(image) {
            rebound |= old.is_some();
            plan.install.push(Op::PutBinding(*key, *image));
        }
    }
    let gone_services: Vec<u32> = services.gone().collect();
    let gone_backends = have.image.backends.keys().filter(|id| !want.backends.contains_key(*id));
    let mut gone: Vec<Op> = gone_services.into_iter().map(Op::DeleteService).collect();
    gone.extend(gone_backends.map(|id| Op::DeleteBackend(*id)));
    if services.released() || rebound || !gone.is_empty() {
        plan.install.push(Op::GracePeriod);
    }
    plan.install.append(&mut gone);
    plan.install.extend(new_addresses(&have.image.ways, &want.ways));
    Ok(plan)
}

/// The steps that a change of the host's network takes: of the image only the ways have changed.
#[must_use]
pub fn follow(have: &Ways, want: &MapImage) -> Vec<Op> {
    let image = MapImage { backends: want.backends.clone(), ways: have.clone(), ..MapImage::default() };
    let mut ops: Vec<Op> = gone_addresses(have, &want.ways).collect();
    ops.extend(changed_paths(&image, want));
    ops.extend(changed_backends(&image, want));
    ops.extend(new_addresses(have, &want.ways));
    ops
}

/// A program may be half-way through reading a backend: its way is taken from it, and no other written before nobody
/// can still read the one before, so that no flow gets half of each. A backend that goes keeps its way until no slot
/// leads to it any more.
fn changed_paths(have: &MapImage, want: &MapImage) -> Vec<Op> {
    let changed = have.ways.paths.iter().filter(|(id, path)| {
        let other = |key| want.ways.paths.get(id) != Some(path) || have.backends.get(id) != Some(key);
        want.backends.get(id).is_some_and(other)
    });
    let mut ops: Vec<Op> = changed.map(|(id, _)| Op::DeletePath(*id)).collect();
    if !ops.is_empty() {
        ops.push(Op::GracePeriod);
    }
    ops
}

fn changed_backends(have: &MapImage, want: &MapImage) -> impl Iterator<Item = Op> {
    want.backends.iter().filter_map(|(id, key)| {
        let path = want.ways.paths.get(id);
        let same = have.backends.get(id) == Some(key) && have.ways.paths.get(id) == path;
        (!same).then(|| Op::PutBackend(*id, *key, path.copied()))
    })
}

fn gone_addresses<'a>(have: &'a Ways, want: &'a Ways) -> impl Iterator<Item = Op> + 'a {
    have.local.difference(&want.local).map(|address| Op::DeleteLocal(*address))
}

fn new_addresses<'a>(have: &'a Ways, want: &'a Ways) -> impl Iterator<Item = Op> + 'a {
    want.local.difference(&have.local).map(|address| Op::PutLocal(*address))
}

fn fits(table: &'static str, want: usize, capacity: u32) -> Result<(), Full> {
    if want <= capacity as usize { Ok(()) } else { Err(Full::Table { table, want, capacity }) }
}
