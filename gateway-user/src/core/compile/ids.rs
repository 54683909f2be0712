//! Dense ids: what keeps its identity keeps its id.
//!
//! Owns their allocation. A new id is the next free one after the last that was given out, round and round, and not
//! one that became free in this very compilation, unless there is no other: kernel programs and counters may still
//! carry that. Beyond the capacity ids go on, for `plan` to refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Gives every key of `wanted` an id. `previous` says which ids were in use and for what, `hint` which id a key that
/// is not in there shall have if nothing else has it.
pub(super) fn assign<K: Ord + Clone>(
    wanted: &BTreeSet<K>,
    previous: &BTreeMap<K, u32>,
    hint: impl Fn(&K) -> Option<u32>,
    also_freed: impl Iterator<Item = u32>,
    capacity: Range<u32>,
    next: &mut u32,
) -> BTreeMap<K, u32> {
    let mut ids = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let known = |key: &K| previous.get(key).copied();
    for choose in [&known as &dyn Fn(&K) -> Option<u32>, &hint] {
        for key in wanted {
            if let Some(id) = choose(key)
                && capacity.contains(&id)
                && !ids.contains_key(key)
                && taken.insert(id)
            {
                ids.insert(key.clone(), id);
            }
        }
    }
    if ids.len() == wanted.len() {
        return ids;
    }
    let freed: BTreeSet<u32> =
        previous.values().copied().chain(also_freed).filter(|id| capacity.contains(id)).collect();
    let from = (*next).clamp(capacity.start, capacity.end);
    let fresh = (from..capacity.end).chain(capacity.start..from).filter(|id| !freed.contains(id));
    let again = freed.iter().copied();
    let mut free = fresh.chain(again).filter(|id| !taken.contains(id)).chain(capacity.end..=u32::MAX);
    for key in wanted {
        if !ids.contains_key(key) {
            // There are more numbers than keys fit into memory.
            let Some(id) = free.next() else { break };
            *next = id.saturating_add(1);
            ids.insert(key.clone(), id);
        }
    }
    ids
}
