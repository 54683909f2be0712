//! Names of maps, programs and pins, and the maps' capacities.
//!
//! Owns what both sides call a thing. A map is pinned under its own name; but see [`TABLES`].

use crate::abi::{Backend, Binding, BindingKey, Load, Lookups, META_ENTRIES};
use crate::flow::{
    CURSOR_ENTRIES, Flow, FragmentKey, PROGRAM_ENTRIES, Reason, Traffic, TrafficKey, TupleKey, Words,
};

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

/// Whether TC is just asking for a socket, per-CPU array of one u32: `sk_lookup`, which the kernel runs for that, then
/// keeps out of it.
pub const PROBING: &str = "PROBING";

/// `TupleKey` → `HalfRef`, hash.
pub const TUPLES: &str = "TUPLES";
/// Index → `Flow`, array, mmapable.
pub const FLOWS: &str = "FLOWS";
/// Indices in `FLOWS` that were given back, stack: the next flow takes the place that is still in the CPU's cache.
pub const FREE: &str = "FREE";
/// Place → half-open flow (its index, and its generation from bit 32 on), array: a ring.
pub const OPENING: &str = "OPENING";
/// `Cursor` → u64, array, mmapable.
pub const CURSORS: &str = "CURSORS";
/// Backend id → the port after the one that was taken last towards it, array of u64.
pub const SNAT_PORTS: &str = "SNAT_PORTS";
/// Address (`Words`) → 1 if it is the host's own or a Gateway's, hash.
pub const LOCAL: &str = "LOCAL";
/// `FragmentKey` → `HalfRef`, LRU hash.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// `TrafficKey` → `Traffic`, per-CPU hash.
pub const TRAFFIC: &str = "TRAFFIC";
/// `Reason` → packets, per-CPU array of u64.
pub const REASONS: &str = "REASONS";
/// `Flow` that is over, ring buffer.
pub const EVENTS: &str = "EVENTS";
/// Room for a program to work in, per-CPU array. Its value is the programs' own: no part of the contract.
pub const SCRATCH: &str = "SCRATCH";
/// `Slot` → program, program array.
pub const PROGRAMS: &str = "PROGRAMS";

/// The `sk_lookup` program.
pub const SK_LOOKUP: &str = "sluice_sk_lookup";
/// The pin of its link.
pub const SK_LOOKUP_LINK: &str = "link_sk_lookup";

/// What is attached to an interface with Ethernet headers: goes on with `Slot::Packet`.
pub const STUB_ETHERNET: &str = "sluice_ether";
/// What is attached to an interface without.
pub const STUB_RAW: &str = "sluice_raw";
/// The program of each [`crate::flow::Slot`], in their order.
pub const FORWARD_PROGRAMS: [&str; 6] =
    ["sluice_packet", "sluice_open", "sluice_icmp", "sluice_answer", "sluice_fragment", "sluice_reset"];
/// Not attached: run by the agent, it gives up flows that are over.
pub const SWEEP: &str = "sluice_sweep";
/// In `Slot::Open` while flows move to other tables.
pub const HOLD: &str = "sluice_hold";

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

/// Flows, unless the agent is told otherwise (37 MiB, and their tuples as much again).
pub const FLOW_CAPACITY: u32 = 131_072;
/// Half-open flows, likewise. Each takes one of the places for flows.
pub const OPENING_CAPACITY: u32 = 16_384;
/// Addresses of the host and of Gateways.
pub const MAX_LOCAL: u32 = 16_384;
/// Datagrams in fragments on their way.
pub const MAX_FRAGMENTS: u32 = 8_192;
/// Pairs of binding and backend that traffic is counted for.
pub const MAX_TRAFFIC: u32 = 65_536;
/// Bytes of the log's buffer.
pub const EVENT_BYTES: u32 = 1 << 20;

/// Kind of a map, by the kernel's number.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    ProgramArray = 3,
    /// `BPF_MAP_TYPE_PERCPU_HASH`.
    PerCpuHash = 5,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash = 9,
    /// `BPF_MAP_TYPE_SOCKMAP`.
    SockMap = 15,
    /// `BPF_MAP_TYPE_STACK`.
    Stack = 23,
    /// `BPF_MAP_TYPE_RINGBUF`.
    RingBuf = 27,
}

impl MapKind {
    /// Its name as the kernel's tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Array => "array",
            Self::ProgramArray => "prog_array",
            Self::PerCpuHash => "percpu_hash",
            Self::PerCpuArray => "percpu_array",
            Self::LruHash => "lru_hash",
            Self::SockMap => "sockmap",
            Self::Stack => "stack",
            Self::RingBuf => "ringbuf",
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

/// `BPF_F_NO_PREALLOC`.
pub const NO_PREALLOC: u32 = 1;

/// The maps that belong together, as they refer to places in `FLOWS` or hold flows: when capacities or the layout of flows
/// change, all of them are made anew, and pinned under their name, `_` and the number of their set (`Meta::Tables`); of
/// set 0 under their name alone.
pub const TABLES: [&str; 7] = [TUPLES, FLOWS, FREE, OPENING, CURSORS, FRAGMENTS, EVENTS];

/// The maps of steering: every agent has them.
pub const MAPS: [MapSpec; 10] = [
    spec::<BindingKey, Binding>(BINDINGS, MapKind::Hash, MAX_BINDINGS, 0),
    spec::<u32, u64>(SERVICES, MapKind::Array, MAX_SERVICES, MMAPABLE),
    spec::<u32, u64>(SLOTS, MapKind::Array, MAX_SLOTS, MMAPABLE),
    spec::<u32, Backend>(BACKENDS, MapKind::Array, MAX_BACKENDS, MMAPABLE),
    spec::<u32, u32>(SOCKETS, MapKind::SockMap, MAX_SOCKETS, 0),
    spec::<u32, Load>(LOADS, MapKind::Array, MAX_WORKERS, MMAPABLE),
    spec::<u32, Lookups>(LOOKUPS, MapKind::PerCpuArray, MAX_BINDINGS, 0),
    spec::<u32, u64>(MISSES, MapKind::PerCpuArray, 1, 0),
    spec::<u32, u64>(META, MapKind::Array, META_ENTRIES, 0),
    spec::<u32, u32>(PROBING, MapKind::PerCpuArray, 1, 0),
];

/// The maps of forwarding: an agent has them if it forwards. The capacities of `TUPLES` (twice that of `FLOWS`),
/// `FLOWS`, `FREE` and `OPENING` are the agent's to choose.
pub const FORWARD_MAPS: [MapSpec; 12] = [
    spec::<TupleKey, u64>(TUPLES, MapKind::Hash, 2 * FLOW_CAPACITY, 0),
    spec::<u32, Flow>(FLOWS, MapKind::Array, FLOW_CAPACITY, MMAPABLE),
    spec::<(), u32>(FREE, MapKind::Stack, FLOW_CAPACITY, 0),
    spec::<u32, u64>(OPENING, MapKind::Array, OPENING_CAPACITY, 0),
    spec::<u32, u64>(CURSORS, MapKind::Array, CURSOR_ENTRIES, MMAPABLE),
    spec::<u32, u64>(SNAT_PORTS, MapKind::Array, MAX_BACKENDS, 0),
    spec::<Words, u32>(LOCAL, MapKind::Hash, MAX_LOCAL, NO_PREALLOC),
    spec::<FragmentKey, u64>(FRAGMENTS, MapKind::LruHash, MAX_FRAGMENTS, 0),
    spec::<TrafficKey, Traffic>(TRAFFIC, MapKind::PerCpuHash, MAX_TRAFFIC, NO_PREALLOC),
    spec::<u32, u64>(REASONS, MapKind::PerCpuArray, Reason::ALL.len() as u32, 0),
    spec::<(), ()>(EVENTS, MapKind::RingBuf, EVENT_BYTES, 0),
    spec::<u32, u32>(PROGRAMS, MapKind::ProgramArray, PROGRAM_ENTRIES, 0),
];
