//! The maps that steering and forwarding share, as `names::MAPS` says. Both objects name them; the second one that is
//! loaded finds them pinned.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use gateway_ebpf::abi::{Backend, Binding, BindingKey, META_ENTRIES};
use gateway_ebpf::names::{MAX_BACKENDS, MAX_BINDINGS, MAX_SERVICES, MAX_SLOTS, MMAPABLE};

/// Address, port, protocol → what to do.
#[map]
pub(crate) static BINDINGS: HashMap<BindingKey, Binding> = HashMap::with_max_entries(MAX_BINDINGS, 0);

/// Service id → `ServiceWord`.
#[map]
pub(crate) static SERVICES: Array<u64> = Array::with_max_entries(MAX_SERVICES, MMAPABLE);

/// Slot → backend id.
#[map]
pub(crate) static SLOTS: Array<u64> = Array::with_max_entries(MAX_SLOTS, MMAPABLE);

/// Backend id → where it is and how it is reached.
#[map]
pub(crate) static BACKENDS: Array<Backend> = Array::with_max_entries(MAX_BACKENDS, MMAPABLE);

/// Contract version and settings.
#[map]
pub(crate) static META: Array<u64> = Array::with_max_entries(META_ENTRIES, 0);

/// Whether this CPU's TC program is asking for a socket just now.
#[map]
pub(crate) static PROBING: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
