//! Names of maps, programs and pins, and the maps' capacities.
//!
//! Owns what both sides call a thing. A map is pinned under its own name.

use crate::abi::{Backend, Binding, BindingKey, Load, Lookups, META_ENTRIES};

/// `BindingKey` → `Binding`, hash.
pub const BINDINGS: &str = "BINDINGS";
/// Service id → `ServiceWord`, array, mmapable.
pub const SERVICES: &str = "SERVICES";
/// Slot → backend id in a u64, array, mmapable.
pub const SLOTS: &str = "SLOTS";
/// Backend id → `Backend`, array, mmapable.
pub const BACKENDS: &str = "BACKENDS";
/// `socket_index` → listening socket, sockmap.
pub const SOCKETS: &str = "SOCKETS";
/// Worker → `Load`, array, mmapable: written by the workers and by the kernel, a cache line each.
pub const LOADS: &str = "LOADS";
/// Binding id → `Lookups`, per-CPU array.
pub const LOOKUPS: &str = "LOOKUPS";
/// 0 → lookups that found no binding, per-CPU array of u64.
pub const MISSES: &str = "MISSES";
/// `Meta` → u64, array.
pub const META: &str = "META";

/// The `sk_lookup` program.
pub const SK_LOOKUP: &str = "sluice_sk_lookup";
/// The pin of its link.
pub const SK_LOOKUP_LINK: &str = "link_sk_lookup";

/// Bindings.
pub const MAX_BINDINGS: u32 = 16_384;
/// Services: rules with backends at L4.
pub const MAX_SERVICES: u32 = 16_384;
/// Slots of all services together (8 MiB).
pub const MAX_SLOTS: u32 = 1 << 20;
/// Backends, id 0 included.
pub const MAX_BACKENDS: u32 = 65_536;
/// Workers.
pub const MAX_WORKERS: u32 = 256;
/// Sockets: four a worker, and a sink for each family.
pub const MAX_SOCKETS: u32 = MAX_WORKERS * 4 + 2;

/// Kind of a map, by the kernel's number.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_SOCKMAP`.
    SockMap = 15,
}

impl MapKind {
    /// Its name as the kernel's tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Array => "array",
            Self::PerCpuArray => "percpu_array",
            Self::SockMap => "sockmap",
        }
    }
}

/// `BPF_F_MMAPABLE`.
pub const MMAPABLE: u32 = 1 << 10;

/// What a map must be: a pinned one that differs is of another contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Its name, and that of its pin.
    pub name: &'static str,
    /// Its kind.
    pub kind: MapKind,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes.
    pub value_size: u32,
    /// Its capacity in entries.
    pub max_entries: u32,
    /// Flags of `BPF_MAP_CREATE`.
    pub flags: u32,
}

const fn spec<K, V>(name: &'static str, kind: MapKind, max_entries: u32, flags: u32) -> MapSpec {
    MapSpec {
        name,
        kind,
        key_size: size_of::<K>() as u32,
        value_size: size_of::<V>() as u32,
        max_entries,
        flags,
    }
}

/// Every map of the contract.
pub const MAPS: [MapSpec; 9] = [
    spec::<BindingKey, Binding>(BINDINGS, MapKind::Hash, MAX_BINDINGS, 0),
    spec::<u32, u64>(SERVICES, MapKind::Array, MAX_SERVICES, MMAPABLE),
    spec::<u32, u64>(SLOTS, MapKind::Array, MAX_SLOTS, MMAPABLE),
    spec::<u32, Backend>(BACKENDS, MapKind::Array, MAX_BACKENDS, MMAPABLE),
    spec::<u32, u32>(SOCKETS, MapKind::SockMap, MAX_SOCKETS, 0),
    spec::<u32, Load>(LOADS, MapKind::Array, MAX_WORKERS, MMAPABLE),
    spec::<u32, Lookups>(LOOKUPS, MapKind::PerCpuArray, MAX_BINDINGS, 0),
    spec::<u32, u64>(MISSES, MapKind::PerCpuArray, 1, 0),
    spec::<u32, u64>(META, MapKind::Array, META_ENTRIES, 0),
];
