//! Reads what forwarding keeps: living flows, totals of ended ones, reasons, the fill of its maps, and the buffer of
//! flows that are over.
//!
//! Owns that a flow is copied whole: never half of one and half of the next in the same place. Must not know what a
//! flow is called.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use gateway_ebpf::abi::Meta;
use gateway_ebpf::flow::{Cursor, Flow, FragmentKey, Reason, Traffic, TrafficKey};
use gateway_ebpf::life::LIVE;
use gateway_ebpf::names::{
    EVENTS, FLOWS, FORWARD_MAPS, FORWARD_PROGRAMS, FRAGMENTS, FREE, LOCAL, META, OPENING, PROGRAMS, REASONS,
    SNAT_PORTS, TRAFFIC, TUPLES,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Error;
use super::forward::table::WORDS as FLOW_WORDS;
use super::forward::{Tables, layout};
use super::maps::is_missing;
use super::pins::Pins;
use super::reader::MapUse;
use super::sys::Words;
use crate::core::flows::living::Living;

/// The word of a flow that is its life.
const LIFE: usize = offset_of!(Flow, life) / 8;
/// Flows whose memory is mapped at once: a quarter of a MiB.
const MAPPED: u32 = 1024;

/// Keys and values as aya takes them.
type RawTrafficKey = [u8; size_of::<TrafficKey>()];
type RawTraffic = [u64; size_of::<Traffic>() / 8];
type RawFragmentKey = [u8; size_of::<FragmentKey>()];

/// Reads the maps of forwarding; cheap to clone.
#[derive(Clone)]
pub struct FlowReader(Arc<Handles>);

struct Handles {
    flows: MapData,
    /// Capacities that are the agent's to choose: of FLOWS, of OPENING.
    capacity: u32,
    opening: u32,
    cursors: Words,
    traffic: Mutex<PerCpuHashMap<MapData, RawTrafficKey, RawTraffic>>,
    reasons: PerCpuArray<MapData, u64>,
    local: HashMap<MapData, [u8; 16], u32>,
    fragments: HashMap<MapData, RawFragmentKey, u64>,
    meta: Array<MapData, u64>,
}

impl fmt::Debug for FlowReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowReader").field("capacity", &self.0.capacity).finish_non_exhaustive()
    }
}

/// What the kernel has counted of flows, ended ones first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Flows that began, and what ended ones carried, summed over CPUs.
    pub ended: BTreeMap<TrafficKey, Traffic>,
    /// Living flows, looked at afterwards.
    pub living: Living,
}

impl FlowReader {
    pub(super) fn open(pins: &Pins, tables: &Tables) -> Result<Self, Error> {
        let data = |name| tables.map(pins, name);
        let typed = |name| Error::map(name, "finding its type");
        let entries = |map: &MapData, name| {
            map.info().map(|info| info.max_entries()).map_err(Error::map(name, "examining it"))
        };
        let flows = data(FLOWS)?;
        let cursors = tables.cursors(pins)?;
        let traffic = Map::PerCpuHashMap(data(TRAFFIC)?).try_into().map_err(typed(TRAFFIC))?;
        Ok(Self(Arc::new(Handles {
            capacity: entries(&flows, FLOWS)?,
            opening: entries(&data(OPENING)?, OPENING)?,
            flows,
            cursors,
            traffic: Mutex::new(traffic),
            reasons: Map::PerCpuArray(data(REASONS)?).try_into().map_err(typed(REASONS))?,
            local: Map::HashMap(data(LOCAL)?).try_into().map_err(typed(LOCAL))?,
            fragments: Map::LruHashMap(data(FRAGMENTS)?).try_into().map_err(typed(FRAGMENTS))?,
            meta: Map::Array(data(META)?).try_into().map_err(typed(META))?,
        })))
    }

    /// What was counted: first the totals, then the living flows, so that none is counted twice.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counts(&self) -> Result<FlowCounts, Error> {
        let ended = self.0.ended()?;
        let mut living = Living::default();
        self.walk(0, u32::MAX, |_, flow| {
            living.add(flow);
            true
        })?;
        Ok(FlowCounts { ended, living })
    }

    /// Looks at living flows, from the place `from` on and at so many places at most, until `see` says that it is enough.
    /// Returns the place after the last that was looked at; `None`: there are no more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn walk(
        &self,
        from: u32,
        most: u32,
        mut see: impl FnMut(u32, &Flow) -> bool,
    ) -> Result<Option<u32>, Error> {
        let used = self.0.used();
        let end = from.saturating_add(most).min(used);
        let mut at = from;
        while at < end {
            let count = MAPPED.min(end - at);
            let words =
                Words::map(self.0.flows.fd().as_fd(), at as usize * FLOW_WORDS, count as usize * FLOW_WORDS)
                    .map_err(Error::io(format!("cannot map the memory of {FLOWS}")))?;
            for (index, words) in (at..).zip(words.get().chunks_exact(FLOW_WORDS)) {
                if let Some(flow) = copy(words)
                    && !see(index, &flow)
                {
                    return Ok((index + 1 < used).then_some(index + 1));
                }
            }
            at += count;
        }
        Ok((end < used).then_some(end))
    }

    /// How often each reason was met, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn reasons(&self) -> Result<[u64; Reason::ALL.len()], Error> {
        let mut sums = [0; Reason::ALL.len()];
        for (index, sum) in (0u32..).zip(&mut sums) {
            let per_cpu = self.0.reasons.get(&index, 0).map_err(Error::map(REASONS, "reading it"))?;
            *sum = per_cpu.iter().sum();
        }
        Ok(sums)
    }

    /// How many ports there are for the connections to a backend.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ports(&self) -> Result<u64, Error> {
        self.0.meta.get(&(Meta::SnatWidth as u32), 0).map_err(Error::map(META, "reading it"))
    }

    /// Forgets totals that nobody adds to any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&self, keys: &[TrafficKey]) -> Result<(), Error> {
        let mut traffic = self.0.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            match traffic.remove(&bytemuck::cast(*key)) {
                Err(e) if !is_missing(&e) => return Err(Error::map(TRAFFIC, "deleting an entry")(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Size and fill of the maps. Of EVENTS the kernel says no fill.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn maps(&self, counts: &FlowCounts) -> Result<Vec<MapUse>, Error> {
        let handles = &*self.0;
        let living = u32::try_from(counts.living.count()).unwrap_or(u32::MAX);
        let fragments = handles.fragments.keys().filter(Result::is_ok).count();
        let local = handles.local.keys().filter(Result::is_ok).count();
        let maps = FORWARD_MAPS.iter().filter(|spec| spec.name != EVENTS).map(|spec| {
            let (capacity, used) = match spec.name {
                FLOWS => (handles.capacity, living),
                // Each flow has two.
                TUPLES => (handles.capacity.saturating_mul(2), living.saturating_mul(2)),
                FREE => (handles.capacity, handles.used().saturating_sub(living)),
                OPENING => (handles.opening, (counts.living.states[0] as u32).min(handles.opening)),
                LOCAL => (spec.max_entries, local as u32),
                FRAGMENTS => (spec.max_entries, fragments as u32),
                TRAFFIC => (spec.max_entries, counts.ended.len() as u32),
                PROGRAMS => (spec.max_entries, FORWARD_PROGRAMS.len() as u32),
                // Backends that ports are in use towards.
                SNAT_PORTS => (spec.max_entries, counts.living.ports.len() as u32),
                // CURSORS, REASONS: all of them.
                _ => (spec.max_entries, spec.max_entries),
            };
            MapUse {
                name: spec.name,
                kind: spec.kind.name(),
                capacity,
                used,
                key_bytes: spec.key_size,
                value_bytes: spec.value_size,
            }
        });
        Ok(maps.collect())
    }
}

impl Handles {
    /// How many places of FLOWS were ever used.
    fn used(&self) -> u32 {
        let fresh = self.cursors.get()[Cursor::Fresh as usize].load(Ordering::Acquire);
        u32::try_from(fresh).unwrap_or(u32::MAX).min(self.capacity)
    }

    fn ended(&self) -> Result<BTreeMap<TrafficKey, Traffic>, Error> {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = BTreeMap::new();
        for key in traffic.keys() {
            let raw = key.map_err(Error::map(TRAFFIC, "reading it"))?;
            let per_cpu = traffic.get(&raw, 0).map_err(Error::map(TRAFFIC, "reading it"))?;
            let sum = per_cpu.iter().fold(RawTraffic::default(), |mut sum, cpu| {
                sum.iter_mut().zip(cpu).for_each(|(sum, count)| *sum += count);
                sum
            });
            ended.insert(bytemuck::cast(raw), bytemuck::cast(sum));
        }
        Ok(ended)
    }
}

/// A copy of the flow in a place, if one lives there and has not ended meanwhile.
fn copy(words: &[AtomicU64]) -> Option<Flow> {
    let life = &words[LIFE];
    let before = life.load(Ordering::Acquire);
    if before as u32 & LIVE == 0 {
        return None;
    }
    let mut copied: [u64; FLOW_WORDS] = std::array::from_fn(|at| words[at].load(Ordering::Relaxed));
    fence(Ordering::Acquire);
    let after = life.load(Ordering::Relaxed);
    // The place is given up before it is taken again, each time with another generation.
    if after as u32 & LIVE == 0 || after >> 32 != before >> 32 {
        return None;
    }
    copied[LIFE] = after;
    Some(bytemuck::pod_read_unaligned(bytemuck::cast_slice(&copied)))
}

/// The buffer of flows that are over. There is one reader of it.
pub struct FlowEvents {
    /// Flows that come before those in the buffer, the last one first.
    first: Vec<Flow>,
    ring: RingBuf<MapData>,
    layout: u32,
}

impl fmt::Debug for FlowEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowEvents").finish_non_exhaustive()
    }
}

impl FlowEvents {
    /// `layout`: that of the flows in it.
    pub(super) fn new(map: MapData, layout: u32) -> Result<Self, Error> {
        let ring = Map::RingBuf(map).try_into().map_err(Error::map(EVENTS, "mapping its memory"))?;
        Ok(Self { first: Vec::new(), ring, layout })
    }

    /// The same, after some others.
    pub(super) fn after(mut self, mut flows: Vec<Flow>) -> Self {
        flows.reverse();
        self.first = flows;
        self
    }

    /// All that is there.
    pub(super) fn drain(mut self) -> Vec<Flow> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Waits until a flow is over, at most so long.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(&self, most: Duration) -> io::Result<()> {
        let most = if self.first.is_empty() { most } else { Duration::ZERO };
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next flow that is over; `None`: no other is yet.
    pub fn pop(&mut self) -> Option<Flow> {
        if let Some(flow) = self.first.pop() {
            return Some(flow);
        }
        let item = self.ring.next()?;
        layout::read(self.layout, &item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(flow: Flow) -> Vec<AtomicU64> {
        let words = bytemuck::bytes_of(&flow).chunks_exact(8);
        words.map(|word| AtomicU64::new(bytemuck::pod_read_unaligned(word))).collect()
    }

    #[test]
    fn what_lives_is_copied_whole_and_nothing_else() {
        let flow = Flow { life: (9 << 32) | u64::from(LIVE), packets: [3, 4], ended: 0, ..Flow::default() };
        assert_eq!(copy(&words(flow)), Some(flow));
        assert_eq!(copy(&words(Flow { life: 9 << 32, ..flow })), None);
    }
}
