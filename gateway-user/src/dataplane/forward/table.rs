//! The places for flows, in the memory that the programs work on.
//!
//! Owns how they are read while packets come, and the little that may be written from outside. Must not know what a flow
//! is up to.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;

use gateway_ebpf::flow::Flow;
use gateway_ebpf::life::{LIVE, WITHDRAWN};

use super::sets::Tables;
use crate::dataplane::Error;
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::Words;

/// Words that a flow takes.
pub(in crate::dataplane) const WORDS: usize = size_of::<Flow>() / 8;

/// The places for flows.
#[derive(Debug)]
pub struct FlowTable(Words);

impl FlowTable {
    pub(in crate::dataplane) fn open(pins: &Pins, tables: &Tables) -> Result<Self, Error> {
        tables.places(pins, WORDS).map(Self)
    }

    /// What a place holds, also if its flow is over. Each word is as it was at some moment meanwhile.
    #[must_use]
    pub fn get(&self, place: usize) -> Flow {
        let place = &self.0.get()[place * WORDS..][..WORDS];
        let words: [u64; WORDS] = std::array::from_fn(|at| place[at].load(Relaxed));
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words))
    }

    /// The same of every place.
    pub fn all(&self) -> impl Iterator<Item = Flow> {
        (0..self.0.get().len() / WORDS).map(|place| self.get(place))
    }

    /// Its life, and when its last packet came: what changes with every packet of a flow.
    #[must_use]
    pub fn life_and_seen(&self, place: usize) -> (u64, u64) {
        let word = |offset: usize| self.0.get()[place * WORDS + offset / 8].load(Relaxed);
        (word(offset_of!(Flow, life)), word(offset_of!(Flow, seen)))
    }

    /// Says when the last packet of the flow in a place came: how tests make time pass.
    pub fn set_seen(&self, place: usize, seen: u64) {
        self.0.get()[place * WORDS + offset_of!(Flow, seen) / 8].store(seen, Relaxed);
    }

    /// Ends a flow that was read in a place, unless it is over by now or ended already. Whether it did.
    #[must_use]
    pub fn end(&self, place: usize, flow: &Flow) -> bool {
        let lives = |life: u64| life >> 32 == flow.life >> 32 && life as u32 & (LIVE | WITHDRAWN) == LIVE;
        let ended = |life: u64| lives(life).then_some(life | u64::from(WITHDRAWN));
        let life = &self.0.get()[place * WORDS + offset_of!(Flow, life) / 8];
        life.fetch_update(Relaxed, Relaxed, ended).is_ok()
    }

    /// Ends the flow in a place, whichever it is: its packets are dropped from now on.
    pub fn withdraw(&self, place: usize) {
        self.0.get()[place * WORDS + offset_of!(Flow, life) / 8].fetch_or(WITHDRAWN.into(), Relaxed);
    }
}
