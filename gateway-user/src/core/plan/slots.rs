//! Where services' slots lie.
//!
//! Owns the ranges of `SLOTS`: which are in use, which are free, which become free after a grace period.

use std::collections::{BTreeMap, BTreeSet};

use gateway_ebpf::abi::ServiceWord;
use gateway_ebpf::names::MAX_SLOTS;

use super::{Full, Have, Op};
use crate::core::snapshot::{MapImage, ServiceImage};

/// The services on their way from one image to another.
pub(super) struct Services<'a> {
    have: &'a Have,
    /// Services to be written.
    changed: Vec<(u32, &'a ServiceImage)>,
    /// Services that keep their slots, with another word for them.
    renamed: Vec<(u32, ServiceWord)>,
    /// Services to be cleared, and whether no binding refers to them any more once the withdrawals are done.
    gone: BTreeMap<u32, bool>,
    /// Free ranges: first slot → number.
    free: BTreeMap<u32, u32>,
    released: bool,
}

impl<'a> Services<'a> {
    pub(super) fn new(have: &'a Have, want: &'a MapImage) -> Self {
        let (mut changed, mut renamed) = (Vec::new(), Vec::new());
        for (id, service) in &want.services {
            let before = have.image.services.get(id).filter(|before| before.slots == service.slots);
            match have.words.get(id).filter(|_| before.is_some()) {
                Some(word) if word.affinity() == service.affinity => {}
                Some(word) => renamed.push((*id, word.with(service.affinity))),
                None => changed.push((*id, service)),
            }
        }
        // The largest first: the small ones fit into what is left.
        changed.sort_by_key(|(id, service)| (std::cmp::Reverse(service.slots.len()), *id));
        let still: BTreeSet<u32> = have
            .image
            .bindings
            .iter()
            .filter(|(key, _)| want.bindings.contains_key(*key))
            .filter_map(|(_, binding)| binding.service)
            .collect();
        let gone = have.words.keys().filter(|id| !want.services.contains_key(*id));
        let gone = gone.map(|id| (*id, !still.contains(id))).collect();
        let used = have.words.values().map(|word| (word.offset(), size(*word)));
        Self { have, changed, renamed, gone, free: gaps(used.collect()), released: false }
    }

    /// Writes every changed service: in one go if the gaps hold all of them, else in several with a grace period
    /// between.
    pub(super) fn write(&mut self, ops: &mut Vec<Op>) -> Result<(), Full> {
        self.released |= !self.renamed.is_empty();
        ops.extend(self.renamed.drain(..).map(|(id, word)| Op::PutService(id, word)));
        let mut waiting = std::mem::take(&mut self.changed);
        let mut first = true;
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut given_up = Vec::new();
            waiting.retain(|(id, ServiceImage { slots, affinity })| {
                let Some(offset) = self.take(slots.len() as u32) else { return true };
                let old = self.have.words.get(id);
                let generation = old.map_or(0, |word| word.generation() + 1);
                let class = slots.len().trailing_zeros() as u8;
                ops.push(Op::WriteSlots { offset, slots: slots.clone() });
                ops.push(Op::PutService(*id, ServiceWord::new(offset, class, *affinity, generation)));
                given_up.extend(old.map(|word| (word.offset(), size(*word))));
                false
            });
            self.released |= !given_up.is_empty();
            if waiting.is_empty() {
                break;
            }
            let unused = if first { self.unused() } else { Vec::new() };
            if waiting.len() == before && unused.is_empty() {
                let want = waiting[0].1.slots.len() as u32;
                return Err(self.full(want));
            }
            // What nothing refers to is cleared now, so that its range can be used; programs that began before its
            // binding was withdrawn may still read it.
            if !given_up.is_empty() || !unused.is_empty() {
                ops.push(Op::GracePeriod);
            }
            for id in unused {
                ops.push(Op::DeleteService(id));
                given_up.extend(self.have.words.get(&id).map(|word| (word.offset(), size(*word))));
            }
            for (offset, count) in given_up {
                self.give(offset, count);
            }
            first = false;
        }
        Ok(())
    }

    /// Services that are still to be cleared.
    pub(super) fn gone(&self) -> impl Iterator<Item = u32> {
        self.gone.keys().copied()
    }

    /// Whether a word was replaced that programs may still go by.
    pub(super) fn released(&self) -> bool {
        self.released
    }

    fn unused(&mut self) -> Vec<u32> {
        let unused: Vec<u32> = self.gone.iter().filter(|(_, unused)| **unused).map(|(id, _)| *id).collect();
        self.gone.retain(|_, unused| !*unused);
        unused
    }

    /// Takes a part of the smallest free range that is large enough. It begins at a multiple of its size, a power of
    /// two, so that small ranges do not come to lie across the places of large ones.
    fn take(&mut self, count: u32) -> Option<u32> {
        let aligned = |start: u32| start.next_multiple_of(count.max(1));
        let fitting = self.free.iter().filter(|(start, have)| aligned(**start) + count <= **start + **have);
        let (start, have) = fitting.min_by_key(|(start, have)| (**have, **start)).map(|(s, h)| (*s, *h))?;
        let offset = aligned(start);
        self.free.remove(&start);
        if offset > start {
            self.free.insert(start, offset - start);
        }
        if start + have > offset + count {
            self.free.insert(offset + count, start + have - offset - count);
        }
        Some(offset)
    }

    /// Gives a range back, joined with its neighbours.
    fn give(&mut self, offset: u32, count: u32) {
        let (mut start, mut end) = (offset, offset + count);
        if let Some((&before, &have)) = self.free.range(..start).next_back()
            && before + have == start
        {
            start = before;
        }
        if let Some(have) = self.free.remove(&end) {
            end += have;
        }
        self.free.insert(start, end - start);
    }

    fn full(&self, want: u32) -> Full {
        let largest = self.free.values().copied().max().unwrap_or(0);
        Full::Slots { want, largest, free: self.free.values().sum(), capacity: MAX_SLOTS }
    }
}

/// How many slots a word names.
fn size(word: ServiceWord) -> u32 {
    1u32.checked_shl(word.size_class().into()).unwrap_or(u32::MAX)
}

/// What lies between the ranges in use, whatever these are.
fn gaps(mut used: Vec<(u32, u32)>) -> BTreeMap<u32, u32> {
    used.sort_unstable();
    let mut free = BTreeMap::new();
    let mut at = 0;
    for (offset, count) in used.into_iter().chain([(MAX_SLOTS, 0)]) {
        let offset = offset.min(MAX_SLOTS);
        if offset > at {
            free.insert(at, offset - at);
        }
        at = at.max(offset.saturating_add(count)).min(MAX_SLOTS);
    }
    free
}
