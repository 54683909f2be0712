//! Moves the flows from one set of tables to another while their packets go on.
//!
//! Owns what is copied, and that nothing of what is learned meanwhile is lost. Whoever calls sees to it that no flow begins
//! or ends until all is done.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;

use aya::maps::{Array, HashMap, Map, MapData};
use gateway_ebpf::flow::{Cursor, Flow, HalfRef, TupleKey};
use gateway_ebpf::life::{LIVE, State, state};
use gateway_ebpf::names::{FLOWS, OPENING, TUPLES};

use super::layout;
use super::sets::Tables;
use super::table::WORDS;
use crate::dataplane::Error;
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::Words;

/// The tables that flows come from.
#[derive(Debug)]
pub(super) struct Source {
    places: Words,
    /// Words of a flow.
    each: usize,
    layout: u32,
    cursors: Words,
}

/// A key of TUPLES as aya takes it.
type RawKey = [u64; size_of::<TupleKey>() / 8];

/// The tables that they go to: nobody uses them yet.
pub(super) struct Target {
    places: Words,
    tuples: HashMap<MapData, RawKey, u64>,
    opening: Array<MapData, u64>,
    ring: u32,
    cursors: Words,
}

/// Flows that were copied, in the order of their new places.
#[derive(Debug)]
pub(super) struct Copied(Vec<Then>);

/// Where a flow was, and what was known of it when it was copied.
#[derive(Debug)]
struct Then {
    place: u32,
    life: u64,
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl Source {
    pub(super) fn open(pins: &Pins, tables: &Tables) -> Result<Self, Error> {
        let layout = tables.layout();
        let size = layout::size(layout).ok_or_else(|| Error::Layout {
            path: tables.path(pins, FLOWS),
            found: layout,
            expected: gateway_ebpf::flow::LAYOUT,
        })?;
        let each = size / 8;
        Ok(Self { places: tables.places(pins, each)?, each, layout, cursors: tables.cursors(pins)? })
    }

    fn get(&self, place: u32) -> Flow {
        let words = &self.places.get()[place as usize * self.each..][..self.each];
        let words: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
        layout::read(self.layout, bytemuck::cast_slice(&words)).unwrap_or_default()
    }

    /// Living flows and their places.
    fn living(&self) -> impl Iterator<Item = (u32, Flow)> {
        let used = self.cursors.get()[Cursor::Fresh as usize].load(Relaxed);
        let capacity = self.places.get().len() / self.each;
        let used = used.min(capacity as u64) as u32;
        (0..used).map(|place| (place, self.get(place))).filter(|(_, flow)| flow.life as u32 & LIVE != 0)
    }

    /// How many flows there are.
    pub(super) fn count(&self) -> u32 {
        self.living().count() as u32
    }
}

impl Target {
    pub(super) fn open(pins: &Pins, tables: &Tables) -> Result<Self, Error> {
        let typed = |name| Error::map(name, "finding its type");
        Ok(Self {
            places: tables.places(pins, WORDS)?,
            tuples: Map::HashMap(tables.map(pins, TUPLES)?).try_into().map_err(typed(TUPLES))?,
            opening: Map::Array(tables.map(pins, OPENING)?).try_into().map_err(typed(OPENING))?,
            ring: tables.opening,
            cursors: tables.cursors(pins)?,
        })
    }

    /// Copies the flows that live; they move together, so that no place between them is free.
    pub(super) fn copy(&mut self, source: &Source) -> Result<Copied, Error> {
        let mut copied = Vec::new();
        let mut half_open = Vec::new();
        for (place, (before, flow)) in (0u32..).zip(source.living()) {
            let capacity = (self.places.get().len() / WORDS) as u32;
            if place >= capacity {
                return Err(Error::OutOfRange { map: FLOWS, index: place.into(), capacity });
            }
            let generation = (flow.life >> 32) as u32;
            for (key, reply) in [(flow.client.key, false), (flow.reply.key, true)] {
                let half = HalfRef::new(place, reply, generation);
                self.tuples
                    .insert(bytemuck::cast::<_, RawKey>(key), half.0, 0)
                    .map_err(Error::map(TUPLES, "copying a flow's tuples"))?;
            }
            let there = &self.places.get()[place as usize * WORDS..][..WORDS];
            let words = bytemuck::cast_slice::<_, u64>(std::slice::from_ref(&flow));
            there.iter().zip(words).for_each(|(there, word)| there.store(*word, Relaxed));
            if state(flow.life as u32) == State::Opening {
                half_open.push((flow.begun, HalfRef::new(place, false, generation)));
            }
            let Flow { life, packets, bytes, .. } = flow;
            copied.push(Then { place: before, life, packets, bytes });
        }
        // The ring is in the order in which they began; those that do not fit any more end by their time.
        half_open.sort_unstable_by_key(|(begun, half)| (*begun, half.index()));
        let first = half_open.len().saturating_sub(self.ring as usize);
        let ring = &half_open[first..];
        for (at, (_, half)) in (0u32..).zip(ring) {
            let word = &self.places.get()[half.index() as usize * WORDS + offset_of!(Flow, ring) / 8];
            let shift = 8 * (offset_of!(Flow, ring) % 8);
            let rest = word.load(Relaxed) & !(u64::from(u32::MAX) << shift);
            word.store(rest | (u64::from(at) << shift), Relaxed);
            self.opening.set(at, half.0, 0).map_err(Error::map(OPENING, "copying a half-open flow"))?;
        }
        for (cursor, value) in [(Cursor::Fresh, copied.len()), (Cursor::Opening, ring.len())] {
            self.cursors.get()[cursor as usize].store(value as u64, Relaxed);
        }
        Ok(Copied(copied))
    }

    /// Adds what became of the flows at their old places since they were copied. At the new ones more may have been learned
    /// already.
    pub(super) fn catch_up(&self, source: &Source, copied: &Copied) {
        for (place, then) in copied.0.iter().enumerate() {
            let now = source.get(then.place);
            let place = &self.places.get()[place * WORDS..][..WORDS];
            let word = |offset: usize| &place[offset / 8];
            word(offset_of!(Flow, life)).fetch_or((now.life & !then.life) & u64::from(u32::MAX), Relaxed);
            word(offset_of!(Flow, seen)).fetch_max(now.seen, Relaxed);
            let add = |offset: usize, now: [u64; 2], then: [u64; 2]| {
                for direction in 0..2 {
                    let more = now[direction].wrapping_sub(then[direction]);
                    let _before = word(offset + 8 * direction).fetch_add(more, Relaxed);
                }
            };
            add(offset_of!(Flow, packets), now.packets, then.packets);
            add(offset_of!(Flow, bytes), now.bytes, then.bytes);
        }
    }
}

impl Copied {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}
