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

#[cfg(test)]
mod tests {
    use super::*;

    /// `previous` and the result: `KEY:ID …`.
    fn check(wanted: &str, previous: &str, capacity: u32, mut next: u32, result: &str) {
        let pairs = |text: &str| -> BTreeMap<char, u32> {
            let pair = |p: &str| (p.chars().next().unwrap(), p[2..].parse().unwrap());
            text.split_whitespace().map(pair).collect()
        };
        let wanted: BTreeSet<char> = wanted.chars().collect();
        let ids = assign(&wanted, &pairs(previous), |_| None, std::iter::empty(), 0..capacity, &mut next);
        assert_eq!(ids, pairs(result), "{wanted:?} after {previous}");
    }

    #[test]
    fn what_stays_keeps_its_id_and_the_new_get_the_next() {
        check("abc", "a:0 c:5", 10, 6, "a:0 b:6 c:5");
    }

    #[test]
    fn an_id_that_became_free_is_passed_over() {
        check("bc", "a:0 b:1", 10, 0, "b:1 c:2");
    }

    #[test]
    fn it_goes_round_at_the_end() {
        check("abc", "a:8", 10, 9, "a:8 b:9 c:0");
    }

    #[test]
    fn it_is_taken_if_there_is_no_other() {
        check("bc", "a:0 b:1", 2, 0, "b:1 c:0");
    }

    #[test]
    fn beyond_the_capacity_ids_go_on() {
        check("abcd", "a:1", 2, 0, "a:1 b:0 c:2 d:3");
    }

    #[test]
    fn of_two_with_the_same_id_one_keeps_it() {
        check("ab", "a:3 b:3", 10, 4, "a:3 b:4");
    }
}
