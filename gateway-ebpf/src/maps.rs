//! The maps that steering alone uses, as `names::MAPS` says (the agent compares each one with that table when it loads).

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, SockMap};
use gateway_ebpf::abi::{Load, Lookups};
use gateway_ebpf::names::{MAX_BINDINGS, MAX_SOCKETS, MAX_WORKERS, MMAPABLE};

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
