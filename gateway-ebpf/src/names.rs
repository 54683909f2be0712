//! Names of maps, programs and pins, and the maps' capacities.
//!
//! Owns what both sides call a thing. A map is pinned under its own name.

/// `BindingKey` → `Binding`, hash.
pub const BINDINGS: &str = "BINDINGS";
/// Service id → `ServiceWord`, array, mmapable.
pub const SERVICES: &str = "SERVICES";
/// Slot → backend id in a u64, array, mmapable.
pub const SLOTS: &str = "SLOTS";
/// Backend id → `Backend`, array.
pub const BACKENDS: &str = "BACKENDS";
/// `socket_index` → listening socket, sockmap.
pub const SOCKETS: &str = "SOCKETS";
/// Worker → open connections, array of u64, mmapable: written by the workers.
pub const LOADS: &str = "LOADS";
/// Binding id × `VERDICTS` + verdict → lookups, per-CPU array of u64.
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
