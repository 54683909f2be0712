//! Every map of the contract, as `names::MAPS` says (the agent compares each one with that table when it loads).

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, SockMap};
use gateway_ebpf::abi::{Backend, Binding, BindingKey, Load, Lookups, META_ENTRIES};
use gateway_ebpf::names::{
    MAX_BACKENDS, MAX_BINDINGS, MAX_SERVICES, MAX_SLOTS, MAX_SOCKETS, MAX_WORKERS, MMAPABLE,
};

/// Address, port, protocol → what to do.
#[map]
pub(crate) static BINDINGS: HashMap<BindingKey, Binding> = HashMap::with_max_entries(MAX_BINDINGS, 0);

/// Service id → `ServiceWord`.
#[map]
pub(crate) static SERVICES: Array<u64> = Array::with_max_entries(MAX_SERVICES, MMAPABLE);

/// Slot → backend id.
#[map]
pub(crate) static SLOTS: Array<u64> = Array::with_max_entries(MAX_SLOTS, MMAPABLE);

/// Backend id → where it is. No program of today reads it: it is here so that it is made and pinned with the others.
#[map]
pub(crate) static BACKENDS: Array<Backend> = Array::with_max_entries(MAX_BACKENDS, MMAPABLE);

/// Worker × family × protocol → its socket.
#[map]
pub(crate) static SOCKETS: SockMap = SockMap::with_max_entries(MAX_SOCKETS, 0);

/// Worker → its open connections.
#[map]
pub(crate) static LOADS: Array<Load> = Array::with_max_entries(MAX_WORKERS, MMAPABLE);

/// Binding id → its lookups by verdict.
#[map]
pub(crate) static LOOKUPS: PerCpuArray<Lookups> = PerCpuArray::with_max_entries(MAX_BINDINGS, 0);

/// Lookups that found no binding.
#[map]
pub(crate) static MISSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Contract version and settings.
#[map]
pub(crate) static META: Array<u64> = Array::with_max_entries(META_ENTRIES, 0);
