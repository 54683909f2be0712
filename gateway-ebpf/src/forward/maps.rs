//! The maps that forwarding alone uses, as `names::FORWARD_MAPS` says (the agent compares each one with that table when
//! it loads).

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf, Stack};
use gateway_ebpf::abi::Binding;
use gateway_ebpf::flow::{
    CURSOR_ENTRIES, Flow, FragmentKey, PROGRAM_ENTRIES, Reason, Traffic, TrafficKey, TupleKey, Words,
};
use gateway_ebpf::names::{
    EVENT_BYTES, FLOW_CAPACITY, MAX_BACKENDS, MAX_FRAGMENTS, MAX_LOCAL, MAX_TRAFFIC, MMAPABLE, NO_PREALLOC,
    OPENING_CAPACITY,
};

use crate::parse::Packet;
use crate::reset::Reset;
use crate::route::Way;

/// A packet's 5-tuple → which half of which flow.
#[map]
pub(crate) static TUPLES: HashMap<TupleKey, u64> = HashMap::with_max_entries(2 * FLOW_CAPACITY, 0);

/// Flows.
#[map]
pub(crate) static FLOWS: Array<Flow> = Array::with_max_entries(FLOW_CAPACITY, MMAPABLE);

/// Places in FLOWS that were given back.
#[map]
pub(crate) static FREE: Stack<u32> = Stack::with_max_entries(FLOW_CAPACITY, 0);

/// Half-open flows, a ring.
#[map]
pub(crate) static OPENING: Array<u64> = Array::with_max_entries(OPENING_CAPACITY, 0);

/// How far each of the cursors has come.
#[map]
pub(crate) static CURSORS: Array<u64> = Array::with_max_entries(CURSOR_ENTRIES, MMAPABLE);

/// Backend id → the source port to try next.
#[map]
pub(crate) static SNAT_PORTS: Array<u64> = Array::with_max_entries(MAX_BACKENDS, 0);

/// Addresses that packets to us may have.
#[map]
pub(crate) static LOCAL: HashMap<Words, u32> = HashMap::with_max_entries(MAX_LOCAL, NO_PREALLOC);

/// A datagram in fragments → its half of a flow.
#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, u64> = LruHashMap::with_max_entries(MAX_FRAGMENTS, 0);

/// What ended flows carried.
#[map]
pub(crate) static TRAFFIC: PerCpuHashMap<TrafficKey, Traffic> =
    PerCpuHashMap::with_max_entries(MAX_TRAFFIC, NO_PREALLOC);

/// Packets by reason.
#[map]
pub(crate) static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::ALL.len() as u32, 0);

/// Flows that are over.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);

/// What a packet goes on with.
#[map]
pub(crate) static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(PROGRAM_ENTRIES, 0);

/// Room for what does not fit onto a program's stack.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// What a program works on.
#[repr(C)]
pub(crate) struct Scratch {
    /// The packet.
    pub(crate) packet: Packet,
    /// The tuple of its answers.
    pub(crate) reply: TupleKey,
    /// The binding that it is for.
    pub(crate) binding: Binding,
    /// The way that its answers go.
    pub(crate) way: Way,
    /// The packet that it quotes.
    pub(crate) quoted: Packet,
    /// The reset that it becomes.
    pub(crate) reset: Reset,
    /// Bytes that are quoted of it, and the sum over them.
    pub(crate) length: u32,
    pub(crate) sum: u32,
    /// ICMP errors of this CPU in this second.
    pub(crate) answers: u32,
    pub(crate) second: u32,
}
