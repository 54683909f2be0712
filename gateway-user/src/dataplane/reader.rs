//! Reads the kernel's counters.
//!
//! Owns the sums over CPUs and the fill of the maps. Must not know what a binding is called.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use gateway_ebpf::abi::{Lookups, META_ENTRIES, ServiceWord};
use gateway_ebpf::names::{
    BACKENDS, BINDINGS, LOOKUPS, MAPS, META, MISSES, PROBING, SERVICES, SLOTS, SOCKETS,
};

use super::Error;
use super::maps::{Maps, Part, RawBinding, RawKey, backends_used, bindings};
use super::pins::Pins;
use super::program::Programs;
use super::sys::Words;

/// Reads the counters; independent of the [`super::Dataplane`] that made it, and cheap to clone.
#[derive(Clone)]
pub struct Reader(Arc<Handles>);

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("workers", &self.0.workers).finish_non_exhaustive()
    }
}

struct Handles {
    bindings: HashMap<MapData, RawKey, RawBinding>,
    lookups: PerCpuArray<MapData, Lookups>,
    misses: PerCpuArray<MapData, u64>,
    sockets: Arc<AtomicU32>,
    services: Arc<Words>,
    backends: Part,
    workers: u32,
}

impl Reader {
    pub(super) fn open(pins: &Pins, maps: &Maps, workers: u32) -> Result<Self, Error> {
        let data = |name| Programs::map(pins, name);
        let typed = |name| Error::map(name, "finding its type");
        let (services, backends) = maps.counted();
        Ok(Self(Arc::new(Handles {
            bindings: Map::HashMap(data(BINDINGS)?).try_into().map_err(typed(BINDINGS))?,
            lookups: Map::PerCpuArray(data(LOOKUPS)?).try_into().map_err(typed(LOOKUPS))?,
            misses: Map::PerCpuArray(data(MISSES)?).try_into().map_err(typed(MISSES))?,
            sockets: maps.registered(),
            services,
            backends,
            workers,
        })))
    }

    /// The counters as they are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counts(&self) -> Result<Counts, Error> {
        let handles = &*self.0;
        let lookups = self.lookups()?;
        let misses = handles.misses.get(&0, 0).map_err(Error::map(MISSES, "reading it"))?;
        let maps = MAPS
            .iter()
            .map(|spec| {
                Ok(MapUse {
                    name: spec.name,
                    kind: spec.kind.name(),
                    capacity: spec.max_entries,
                    used: handles.used(spec.name, lookups.len() as u32)?,
                    key_bytes: spec.key_size,
                    value_bytes: spec.value_size,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Counts { lookups, misses: misses.iter().sum(), maps })
    }

    /// Lookups by binding id and verdict alone, without looking through the other maps.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lookups(&self) -> Result<BTreeMap<u32, [u64; 4]>, Error> {
        let handles = &*self.0;
        let mut lookups = BTreeMap::new();
        for (_, binding) in bindings(&handles.bindings)? {
            let per_cpu = handles.lookups.get(&binding.id, 0).map_err(Error::map(LOOKUPS, "reading it"))?;
            let mut sum = Lookups::default();
            for counts in per_cpu.iter() {
                for (total, count) in sum.iter_mut().zip(counts) {
                    *total += count;
                }
            }
            lookups.insert(binding.id, sum);
        }
        Ok(lookups)
    }
}

impl Handles {
    fn used(&self, name: &str, bindings: u32) -> Result<u32, Error> {
        let services = || {
            let words = self.services.get().iter();
            words.map(|word| ServiceWord(word.load(Ordering::Acquire))).filter(|word| word.exists())
        };
        Ok(match name {
            // A binding has one entry in each.
            BINDINGS | LOOKUPS => bindings,
            SERVICES => services().count() as u32,
            SLOTS => services().map(|word| 1 << word.size_class()).sum(),
            BACKENDS => backends_used(&self.backends)?,
            SOCKETS => self.sockets.load(Ordering::Relaxed),
            META => META_ENTRIES,
            MISSES | PROBING => 1,
            // LOADS: one for each worker.
            _ => self.workers,
        })
    }
}

/// Possible CPUs, as per-CPU maps count them.
pub(super) fn cpus() -> Result<usize, Error> {
    aya::util::nr_cpus().map_err(|(file, e)| Error::io(format!("cannot read {file}"))(e))
}

/// The kernel's counters, summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lookups that found a binding, by binding id and [`gateway_ebpf::abi::Verdict`], since the binding was made.
    pub lookups: BTreeMap<u32, [u64; 4]>,
    /// Lookups that found none, since the maps were made.
    pub misses: u64,
    /// The maps, in the contract's order.
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
    /// Size of a value in bytes; of a per-CPU map, on each CPU.
    pub value_bytes: u32,
}
