//! Reads the kernel's counters.
//!
//! Owns the sums over CPUs and the fill of the maps. Must not know what a binding is called.

use std::collections::BTreeMap;

use super::Error;

/// Reads the counters; independent of the [`super::Dataplane`] that made it.
#[derive(Clone, Debug)]
pub struct Reader {}

impl Reader {
    /// The counters as they are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counts(&self) -> Result<Counts, Error> {
        Err(Error::Stub)
    }
}

/// The kernel's counters, summed over CPUs, since the maps were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lookups that found a binding, by binding id and [`gateway_ebpf::abi::Verdict`]. Ids that are not in use and
    /// never counted are left out.
    pub lookups: BTreeMap<u32, [u64; 4]>,
    /// Lookups that found none.
    pub misses: u64,
    /// The maps, in a constant order.
    pub maps: Vec<MapUse>,
}

/// Size and fill of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUse {
    /// Its name.
    pub name: &'static str,
    /// `hash`, `array`, `percpu_array` or `sockmap`.
    pub kind: &'static str,
    /// Entries that it has room for.
    pub capacity: u32,
    /// Entries in use.
    pub used: u32,
    /// Size of a key in bytes.
    pub key_bytes: u32,
    /// Size of a value in bytes.
    pub value_bytes: u32,
}
