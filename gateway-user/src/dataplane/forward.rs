//! Forwarding: the second object loaded on the pinned maps, its programs put into PROGRAMS, its settings into META.
//!
//! Owns that. Must not know which interfaces are hooked and why, nor what a flow is. Everything outlives the process:
//! the stubs by their attachment, what they go on with by PROGRAMS, the maps by their pins. A new agent writes each
//! slot of PROGRAMS once, and switches all interfaces over with that; then each stub, one at a time.

pub(super) mod hook;
pub(super) mod layout;
mod moving;
mod reserved;
mod sets;
pub(super) mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::SchedClassifier;
use gateway_ebpf::abi::Meta;
use gateway_ebpf::flow::{Cursor, Flow, LAYOUT, Slot};
use gateway_ebpf::names::{
    BACKENDS, BINDINGS, EVENTS, FLOWS, FORWARD_MAPS, FORWARD_PROGRAMS, FREE, HOLD, MAPS, META, MapSpec,
    OPENING, PROBING, PROGRAMS, SERVICES, SLOTS, STUB_ETHERNET, STUB_RAW, SWEEP, TABLES, TUPLES,
};

use super::flows::FlowEvents;
use super::maps::{Maps, is_missing};
use super::pins::Pins;
use super::program::{self, Programs};
use super::sys::{self, Words};
use super::{Error, SkBuff};
use hook::{Hook, Hooks, Wanted};
use moving::{Source, Target};
pub use sets::Tables;
use table::FlowTable;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-forward"));

/// The maps of steering that forwarding reads.
const SHARED: [&str; 6] = [BINDINGS, SERVICES, SLOTS, BACKENDS, META, PROBING];

/// What forwarding is opened with.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// How many flows there may be, half-open ones included.
    pub flows: u32,
    /// How many half-open ones.
    pub opening: u32,
    /// Where the source ports are taken from that remote endpoints see.
    pub ports: RangeInclusive<u16>,
    /// How long a TCP connection may be silent.
    pub tcp_idle: Duration,
    /// How long a UDP flow may be.
    pub udp_idle: Duration,
    /// Whether hooks are attached as before Linux 6.6, whatever the kernel has.
    pub clsact: bool,
}

impl Forwarding {
    /// The kernel memory that its tables take, in bytes: allocated when they are made, whether used or not.
    #[must_use]
    pub fn memory(&self) -> u64 {
        // Of a hash map's element: `struct htab_elem` before the key, then key and value; and a bucket each, their
        // number a power of two.
        const ELEMENT: u64 = 48 + 40 + 8;
        const BUCKET: u64 = 16;
        let (flows, tuples) = (u64::from(self.flows), 2 * u64::from(self.flows));
        let free = 4;
        flows * (size_of::<Flow>() as u64 + free)
            + tuples * ELEMENT
            + tuples.next_power_of_two() * BUCKET
            + u64::from(self.opening) * 8
    }
}

/// The programs in the kernel, and where they are attached.
pub(super) struct Forward {
    ebpf: Ebpf,
    hooks: Hooks,
    cursors: Words,
    tables: Tables,
    /// Flows that were over when they would have moved, and of which nobody was told.
    untold: Vec<Flow>,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Forward {
    /// Loads the programs and switches PROGRAMS over to them. Hooks that are there go on with the new ones at once; no
    /// new hook is made. Flows in tables of another capacity or layout move. After an error running flows go on, and what
    /// would begin one goes to the host.
    pub(super) fn open(pins: &Pins, maps: &mut Maps, config: &Forwarding) -> Result<Self, Error> {
        let opened = Self::take_over(pins, maps, config);
        if opened.is_err()
            && let Err(error) = give_up(pins, maps)
        {
            tracing::warn!(%error, "new connections may be held up: remove the pins with `sluice uninstall`");
        }
        opened
    }

    fn take_over(pins: &Pins, maps: &mut Maps, config: &Forwarding) -> Result<Self, Error> {
        let before = Tables::in_force(pins, maps)?;
        let left = sets::remove_others(pins, before.as_ref())?;
        if !left.is_empty() {
            tracing::warn!(pins = left.join(", "), "removed what an agent left that did not finish");
        }
        let change = before.as_ref().map(|before| change(pins, before, config)).transpose()?.flatten();
        let (tables, source) = match (change, &before) {
            (Some((tables, source)), Some(before)) => (tables, Some((before, source))),
            (None, Some(before)) => (before.clone(), None),
            (_, None) => (Tables::new(config.flows, config.opening), None),
        };
        let mut ebpf = program::load(OBJECT, &wanted_maps(pins, &tables), None)?;
        let names = FORWARD_PROGRAMS.into_iter().chain([STUB_ETHERNET, STUB_RAW, SWEEP, HOLD]);
        for name in names {
            classifier(&mut ebpf, name)?.load().map_err(failed(name, "loading it"))?;
        }
        settle(maps, config)?;
        let mut slots = Slots::open(pins)?;
        let untold = if let Some((before, source)) = source {
            move_flows(pins, maps, &mut ebpf, &mut slots, (before, &source), &tables)?
        } else {
            tables.enforce(maps)?;
            slots.switch(&mut ebpf, |_| true)?;
            Vec::new()
        };
        let cursors = tables.cursors(pins)?;
        Ok(Self { ebpf, hooks: Hooks::new(config.clsact), cursors, tables, untold })
    }

    /// The places for flows, in memory.
    pub(super) fn table(&self, pins: &Pins) -> Result<FlowTable, Error> {
        FlowTable::open(pins, &self.tables)
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The buffer of flows that are over.
    pub(super) fn events(&mut self, pins: &Pins) -> Result<FlowEvents, Error> {
        let events = FlowEvents::new(self.tables.map(pins, EVENTS)?, LAYOUT)?;
        Ok(events.after(std::mem::take(&mut self.untold)))
    }

    /// Attaches what is wanted and not attached, detaches what is not wanted any more, and says for each that is wanted
    /// what became of it.
    pub(super) fn hook(
        &mut self,
        pins: &Pins,
        wanted: &BTreeMap<u32, Wanted>,
    ) -> Result<BTreeMap<u32, Result<Hook, Error>>, Error> {
        self.hooks.sync(pins, &mut self.ebpf, wanted)
    }

    /// Looks once at every place for a flow that was ever used, and gives up those that are over.
    pub(super) fn sweep(&mut self) -> Result<(), Error> {
        use std::sync::atomic::Ordering::Relaxed;
        let used = self.cursors.get()[Cursor::Fresh as usize].load(Relaxed);
        let used = u32::try_from(used).unwrap_or(u32::MAX).min(self.tables.flows);
        if used == 0 {
            return Ok(());
        }
        self.run(SWEEP, &mut vec![0; 64], None, used).map(drop)
    }

    /// Runs a program on a packet.
    pub(super) fn run(
        &mut self,
        name: &'static str,
        packet: &mut Vec<u8>,
        context: Option<&mut SkBuff>,
        repeat: u32,
    ) -> Result<u32, Error> {
        let program = classifier(&mut self.ebpf, name)?.fd().map_err(failed(name, "finding it"))?;
        sys::test_run_packet(program.as_fd(), packet, context, repeat)
            .map_err(Error::io(format!("cannot run the program {name}")))
    }
}

fn range(first: u64, width: u64) -> Option<RangeInclusive<u16>> {
    let last = (first + width).checked_sub(1)?;
    Some(u16::try_from(first).ok()?..=u16::try_from(last).ok()?).filter(|_| width > 0)
}

/// Gives the reserved ports back to the host.
pub(super) fn release_ports(maps: &mut Maps) -> Result<(), Error> {
    let Some(before) = range(maps.meta(Meta::SnatFirst)?, maps.meta(Meta::SnatWidth)?) else { return Ok(()) };
    reserved::reserve(Some(before), None)
        .map_err(Error::io("cannot take the ports out of net.ipv4.ip_local_reserved_ports"))?;
    maps.set_meta(Meta::SnatWidth, 0)
}

/// Removes hooks and reserved ports; the pins are left to who calls. What cannot be read is of another contract, and of
/// its ports nothing is known.
pub(super) fn uninstall(pins: Option<&Pins>) -> Result<Vec<String>, Error> {
    let removed = hook::remove_all(pins)?;
    let meta = pins.filter(|pins| pins.path(META).exists());
    let meta: Option<Array<_, u64>> =
        meta.and_then(|pins| Map::Array(Programs::map(pins, META).ok()?).try_into().ok());
    let entry = |entry: Meta| meta.as_ref().and_then(|meta| meta.get(&(entry as u32), 0).ok());
    if let (Some(first), Some(width)) = (entry(Meta::SnatFirst), entry(Meta::SnatWidth))
        && let Some(before) = range(first, width)
    {
        reserved::reserve(Some(before), None)
            .map_err(Error::io("cannot take the ports out of net.ipv4.ip_local_reserved_ports"))?;
    }
    Ok(removed)
}

/// Removes what forwarding has beside steering: hooks and maps, so that none of its flows goes on.
pub(super) fn remove(pins: &Pins, maps: &mut Maps) -> Result<Vec<String>, Error> {
    sets::none(maps)?;
    let mut removed = hook::remove_all(Some(pins))?;
    removed.extend(sets::remove_others(pins, None)?);
    for spec in FORWARD_MAPS.iter().filter(|spec| !TABLES.contains(&spec.name)) {
        let path = pins.path(spec.name);
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path.display().to_string()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(format!("cannot remove the pin {}", path.display()))(e)),
        }
    }
    Ok(removed)
}

/// The tables that flows are to move to, and where they come from; `None`: they stay.
fn change(pins: &Pins, before: &Tables, config: &Forwarding) -> Result<Option<(Tables, Source)>, Error> {
    if before.fits(config.flows, config.opening) {
        return Ok(None);
    }
    let source = Source::open(pins, before)?;
    if before.layout() != LAYOUT {
        // They must, however many there are.
        return Ok(Some((before.next(config.flows.max(before.flows), config.opening), source)));
    }
    // Some more may begin until none may.
    let (count, more) = (source.count(), before.opening.min(config.flows / 2));
    if count.saturating_add(more) > config.flows {
        tracing::warn!(
            "--flows {}: there are {count} now, which would not fit well; the tables keep their capacity of {} until a \
             start that finds fewer",
            config.flows,
            before.flows
        );
        return Ok(None);
    }
    Ok(Some((before.next(config.flows, config.opening), source)))
}

/// Moves the flows, and switches everything over to the new tables. Returns flows that are over and that nobody was told of.
fn move_flows(
    pins: &Pins,
    maps: &mut Maps,
    ebpf: &mut Ebpf,
    slots: &mut Slots,
    (before, source): (&Tables, &Source),
    tables: &Tables,
) -> Result<Vec<Flow>, Error> {
    let start = Instant::now();
    let mut target = Target::open(pins, tables)?;
    // From here on no flow begins or ends.
    slots.set(ebpf, Slot::Open, HOLD)?;
    maps.wait_for_programs()?;
    let copied = target.copy(source)?;
    let untold = FlowEvents::new(before.map(pins, EVENTS)?, before.layout())?.drain();
    tables.enforce(maps)?;
    slots.switch(ebpf, |slot| slot != Slot::Open)?;
    maps.wait_for_programs()?;
    target.catch_up(source, &copied);
    slots.switch(ebpf, |slot| slot == Slot::Open)?;
    let _removed = sets::remove_others(pins, Some(tables))?;
    tracing::info!(
        flows = copied.count(),
        took_ms = start.elapsed().as_millis(),
        "flows moved to new tables"
    );
    Ok(untold)
}

/// Lets nobody hold what would begin a flow, and removes tables that nobody works on.
fn give_up(pins: &Pins, maps: &Maps) -> Result<(), Error> {
    if pins.path(PROGRAMS).exists() {
        Slots::open(pins)?.clear(Slot::Open)?;
    }
    sets::remove_others(pins, Tables::in_force(pins, maps)?.as_ref()).map(drop)
}

/// What the maps shall be and where they are pinned: the contract, with the tables' capacities.
fn wanted_maps(pins: &Pins, tables: &Tables) -> Vec<(MapSpec, PathBuf)> {
    let capacity = |spec: &MapSpec| match spec.name {
        FLOWS | FREE => tables.flows,
        TUPLES => tables.flows * 2,
        OPENING => tables.opening,
        _ => spec.max_entries,
    };
    let own = FORWARD_MAPS.iter().map(|spec| MapSpec { max_entries: capacity(spec), ..*spec });
    let shared = MAPS.iter().filter(|spec| SHARED.contains(&spec.name)).copied();
    shared.chain(own).map(|spec| (spec, tables.path(pins, spec.name))).collect()
}

/// Writes what programs read for the first flow on.
fn settle(maps: &mut Maps, config: &Forwarding) -> Result<(), Error> {
    let (first, last) = (*config.ports.start(), *config.ports.end());
    let before = range(maps.meta(Meta::SnatFirst)?, maps.meta(Meta::SnatWidth)?);
    if let Err(error) = reserved::reserve(before, Some(config.ports.clone())) {
        tracing::warn!(
            %error,
            "--snat-ports {first}-{last} cannot be reserved in net.ipv4.ip_local_reserved_ports: the host's own \
             connections may take ports of that range, whose answers forwarding could swallow; reserve them by hand"
        );
    }
    for (entry, value) in [
        (Meta::SnatFirst, first.into()),
        (Meta::SnatWidth, u64::from(last) - u64::from(first) + 1),
        (Meta::TcpIdle, config.tcp_idle.as_secs()),
        (Meta::UdpIdle, config.udp_idle.as_secs()),
    ] {
        maps.set_meta(entry, value)?;
    }
    Ok(())
}

/// PROGRAMS: what every hook goes on with.
struct Slots(ProgramArray<MapData>);

impl Slots {
    fn open(pins: &Pins) -> Result<Self, Error> {
        let map = Map::ProgramArray(Programs::map(pins, PROGRAMS)?);
        map.try_into().map(Self).map_err(Error::map(PROGRAMS, "finding its type"))
    }

    fn set(&mut self, ebpf: &mut Ebpf, slot: Slot, name: &'static str) -> Result<(), Error> {
        let program = classifier(ebpf, name)?.fd().map_err(failed(name, "finding it"))?;
        self.0.set(slot as u32, program, 0).map_err(Error::map(PROGRAMS, "switching a program"))
    }

    /// Empties a slot: who goes on with it leaves the packet to the host.
    fn clear(&mut self, slot: Slot) -> Result<(), Error> {
        match self.0.clear_index(&(slot as u32)) {
            Err(e) if !is_missing(&e) => Err(Error::map(PROGRAMS, "emptying a slot")(e)),
            _ => Ok(()),
        }
    }

    /// Puts the programs of some slots into them.
    fn switch(&mut self, ebpf: &mut Ebpf, which: impl Fn(Slot) -> bool) -> Result<(), Error> {
        for (slot, name) in Slot::ALL.into_iter().zip(FORWARD_PROGRAMS).filter(|(slot, _)| which(*slot)) {
            self.set(ebpf, slot, name)?;
        }
        Ok(())
    }
}

pub(super) fn classifier<'e>(
    ebpf: &'e mut Ebpf,
    name: &'static str,
) -> Result<&'e mut SchedClassifier, Error> {
    ebpf.program_mut(name).ok_or(Error::Missing(name))?.try_into().map_err(failed(name, "finding its type"))
}

pub(super) fn failed(
    name: &'static str,
    what: &'static str,
) -> impl FnOnce(aya::programs::ProgramError) -> Error {
    move |source| Error::Program { name, what, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_tables_take_what_is_said_of_them() {
        let config = |flows, opening| Forwarding {
            flows,
            opening,
            ports: 40_000..=59_999,
            tcp_idle: Duration::from_secs(1),
            udp_idle: Duration::from_secs(1),
            clsact: false,
        };
        assert_eq!(config(131_072, 16_384).memory() >> 20, 64);
        assert_eq!(config(1, 0).memory(), size_of::<Flow>() as u64 + 4 + 2 * 96 + 2 * 16);
    }
}
