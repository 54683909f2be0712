//! The ledger: from what the kernel counts under ids, for ended flows and for living ones, to figures under names that
//! only ever rise.
//!
//! Owns what an id stood for when it was counted. The kernel adds what a flow carried to its totals when the flow ends;
//! totals are read first, then the living flows, so that a flow that ends in between is missed once and never counted
//! twice: what a key has shown is never taken back. A key whose ids come to stand for something else goes on from
//! there under its new name. What has left the configuration is kept while flows of it live, and for some minutes more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_ebpf::flow::{Traffic, TrafficKey};

use super::living::Living;
use super::names::{Labels, Names};

/// How long what left the configuration is kept after its last flow, in nanoseconds: until it was scraped a last time.
pub const KEEP: u64 = 300 * 1_000_000_000;

/// Packets and bytes, each by direction: the client's, the backend's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Packets.
    pub packets: [u64; 2],
    /// Bytes of IP packets.
    pub bytes: [u64; 2],
}

impl Carried {
    /// Adds.
    pub fn add(&mut self, other: &Self) {
        for direction in 0..2 {
            self.packets[direction] += other.packets[direction];
            self.bytes[direction] += other.bytes[direction];
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Flows that began.
    pub connections: u64,
    /// Flows that ended without an answer of the backend.
    pub unanswered: u64,
    /// What they carried.
    pub carried: Carried,
}

impl Counts {
    /// What ended flows and living ones come to.
    fn of(ended: Option<&Traffic>, living: Option<&Carried>) -> Self {
        let ended = ended.copied().unwrap_or_default();
        let mut carried = Carried { packets: ended.packets, bytes: ended.bytes };
        carried.add(&living.copied().unwrap_or_default());
        Self { connections: ended.begun, unanswered: ended.unanswered, carried }
    }

    fn each(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let pair = |a: [u64; 2], b: [u64; 2]| [f(a[0], b[0]), f(a[1], b[1])];
        Self {
            connections: f(self.connections, other.connections),
            unanswered: f(self.unanswered, other.unanswered),
            carried: Carried {
                packets: pair(self.carried.packets, other.carried.packets),
                bytes: pair(self.carried.bytes, other.carried.bytes),
            },
        }
    }

    fn plus(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    fn highest(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    fn is_below(self, other: Self) -> bool {
        self.highest(other) != self
    }
}

/// What a key of the kernel stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    labels: Arc<Labels>,
    /// What it had counted when it came to stand for that.
    baseline: Counts,
    /// The highest that was seen.
    high: Counts,
    /// When no flow could begin with it any more, or none lived any more.
    idle_since: Option<u64>,
}

/// Figures of keys that are gone, under a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Past {
    counts: Counts,
    idle_since: Option<u64>,
}

/// What is kept of a ledger over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The names of the snapshot that served last.
    pub names: Names,
    /// What keys stood for that are not in there, or had counted for something else: name, baseline.
    pub keys: BTreeMap<TrafficKey, (Labels, Counts)>,
    /// Figures of keys that are gone.
    pub past: BTreeMap<Labels, Counts>,
}

/// The ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    names: Names,
    keys: BTreeMap<TrafficKey, Entry>,
    past: BTreeMap<Arc<Labels>, Past>,
}

impl Ledger {
    /// Goes on where the agent before stopped. What its baselines are above of was made anew since (after a boot, or
    /// `uninstall`), and so is everything else.
    #[must_use]
    pub fn restore(kept: Kept, ended: &BTreeMap<TrafficKey, Traffic>, living: &Living) -> Self {
        let anew = kept.keys.iter().any(|(key, (_, baseline))| {
            Counts::of(ended.get(key), living.carried.get(key)).is_below(*baseline)
        });
        let mut ledger = Self { names: kept.names, ..Self::default() };
        if !anew && !ended.is_empty() {
            for (key, (labels, baseline)) in kept.keys {
                let labels = Arc::new(labels);
                ledger.keys.insert(key, Entry { labels, baseline, high: baseline, idle_since: None });
            }
            let past = |counts| Past { counts, idle_since: None };
            ledger.past = kept.past.into_iter().map(|(l, counts)| (Arc::new(l), past(counts))).collect();
        }
        ledger.look(ended, living);
        ledger
    }

    /// What shall outlive a restart.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let stays = |key: &TrafficKey, entry: &Entry| {
            entry.baseline != Counts::default() || self.names.get(key).as_ref() != Some(&*entry.labels)
        };
        let keys = self.keys.iter().filter(|(key, entry)| stays(key, entry));
        Kept {
            names: self.names.clone(),
            keys: keys.map(|(key, e)| (*key, (Labels::clone(&e.labels), e.baseline))).collect(),
            past: self.past.iter().map(|(labels, past)| (Labels::clone(labels), past.counts)).collect(),
        }
    }

    /// What a key is called.
    #[must_use]
    pub fn name(&self, key: &TrafficKey) -> Arc<Labels> {
        match self.keys.get(key) {
            Some(entry) => Arc::clone(&entry.labels),
            None => Arc::new(self.names.get(key).unwrap_or_default()),
        }
    }

    /// Takes over what was counted.
    fn look(&mut self, ended: &BTreeMap<TrafficKey, Traffic>, living: &Living) {
        for key in ended.keys().chain(living.carried.keys()) {
            let counts = Counts::of(ended.get(key), living.carried.get(key));
            let names = &self.names;
            let entry = self.keys.entry(*key).or_insert_with(|| Entry {
                labels: Arc::new(names.get(key).unwrap_or_default()),
                baseline: Counts::default(),
                high: Counts::default(),
                idle_since: None,
            });
            entry.high = entry.high.highest(counts);
        }
    }

    /// The figures by name: what was counted, and a zero for everything that flows can begin with.
    pub fn read(
        &mut self,
        ended: &BTreeMap<TrafficKey, Traffic>,
        living: &Living,
    ) -> BTreeMap<Arc<Labels>, Counts> {
        self.look(ended, living);
        let mut figures: BTreeMap<Arc<Labels>, Counts> =
            self.past.iter().map(|(labels, past)| (Arc::clone(labels), past.counts)).collect();
        for entry in self.keys.values() {
            let sum = figures.entry(Arc::clone(&entry.labels)).or_default();
            *sum = sum.plus(entry.high.minus(entry.baseline));
        }
        for labels in self.names.keys().filter_map(|key| self.names.get(&key)) {
            figures.entry(Arc::new(labels)).or_default();
        }
        figures
    }

    /// Another snapshot begins to serve. To be called before the kernel knows of it.
    pub fn turn(&mut self, names: Names, ended: &BTreeMap<TrafficKey, Traffic>, living: &Living) {
        if names == self.names {
            return;
        }
        self.look(ended, living);
        for (key, entry) in &mut self.keys {
            let Some(labels) = names.get(key).filter(|labels| *labels != *entry.labels) else { continue };
            let past = self.past.entry(Arc::clone(&entry.labels)).or_default();
            past.counts = past.counts.plus(entry.high.minus(entry.baseline));
            *entry =
                Entry { labels: Arc::new(labels), baseline: entry.high, high: entry.high, idle_since: None };
        }
        self.names = names;
    }

    /// Time passed: forgets what left the configuration long enough ago. Returns the keys that the kernel may forget,
    /// too: no flow has them, and none can begin with them.
    pub fn sweep(&mut self, living: &Living, now: u64) -> Vec<TrafficKey> {
        let mut gone = Vec::new();
        for (key, entry) in &mut self.keys {
            if living.carried.contains_key(key) || self.names.get(key).is_some() {
                entry.idle_since = None;
            } else if now.saturating_sub(*entry.idle_since.get_or_insert(now)) >= KEEP {
                gone.push(*key);
            }
        }
        let entries: Vec<_> = gone.iter().filter_map(|key| self.keys.remove(key)).collect();
        let current: BTreeSet<Labels> = self.names.keys().filter_map(|key| self.names.get(&key)).collect();
        let used: BTreeSet<_> = self.keys.values().map(|entry| Arc::clone(&entry.labels)).collect();
        let shown = |labels: &Arc<Labels>| used.contains(labels) || current.contains(&**labels);
        // The name is still there, under other ids: its figures go on from what these had counted.
        for entry in entries.into_iter().filter(|entry| shown(&entry.labels)) {
            let past = self.past.entry(entry.labels).or_default();
            past.counts = past.counts.plus(entry.high.minus(entry.baseline));
        }
        self.past.retain(|labels, past| {
            if shown(labels) {
                past.idle_since = None;
                return true;
            }
            now.saturating_sub(*past.idle_since.get_or_insert(now)) < KEEP
        });
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::testing::{key, names};
    use super::*;

    type Ended = BTreeMap<TrafficKey, Traffic>;

    /// Begun, ended, packets of ended flows.
    fn traffic(begun: u64, ended: u64, packets: [u64; 2]) -> Traffic {
        Traffic { begun, ended, unanswered: 0, packets, bytes: [packets[0] * 100, packets[1] * 100] }
    }

    fn living(flows: &[(TrafficKey, [u64; 2])]) -> Living {
        let mut living = Living::default();
        for (key, packets) in flows {
            let bytes = [packets[0] * 100, packets[1] * 100];
            living.carried.entry(*key).or_default().add(&Carried { packets: *packets, bytes });
        }
        living
    }

    /// Connections, and the client's packets, by endpoint.
    fn shown(ledger: &mut Ledger, ended: &Ended, living: &Living) -> Vec<(String, u64, u64)> {
        let figures = ledger.read(ended, living);
        figures
            .iter()
            .map(|(labels, counts)| {
                let at = labels.backend.map(|at| at.to_string()).unwrap_or_default();
                (at, counts.connections, counts.carried.packets[0])
            })
            .collect()
    }

    fn one() -> Names {
        names(&["0 *:80/tcp 0"], &["0 1 10.0.0.1:80"])
    }

    fn ledger(names: Names) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.turn(names, &Ended::new(), &Living::default());
        ledger
    }

    fn at(number: u8, connections: u64, packets: u64) -> (String, u64, u64) {
        (format!("10.0.0.{number}:80"), connections, packets)
    }

    #[test]
    fn a_figure_is_what_ended_flows_and_living_ones_come_to() {
        let mut ledger = ledger(one());
        assert_eq!(shown(&mut ledger, &Ended::new(), &Living::default()), [at(1, 0, 0)]);
        let key = key(0, 0, 1);
        let ended = Ended::from([(key, traffic(5, 3, [30, 20]))]);
        let living = living(&[(key, [4, 3]), (key, [1, 0])]);
        let figures = ledger.read(&ended, &living);
        let counts = Counts {
            connections: 5,
            unanswered: 0,
            carried: Carried { packets: [35, 23], bytes: [3500, 2300] },
        };
        assert_eq!(figures.into_values().collect::<Vec<_>>(), [counts]);
    }

    #[test]
    fn a_flow_that_ends_between_the_two_looks_takes_nothing_back() {
        let mut ledger = ledger(one());
        let key = key(0, 0, 1);
        let before = Ended::from([(key, traffic(2, 0, [0, 0]))]);
        assert_eq!(shown(&mut ledger, &before, &living(&[(key, [7, 7]), (key, [2, 2])])), [at(1, 2, 9)]);
        // The totals were read before it ended, the flows after.
        assert_eq!(shown(&mut ledger, &before, &living(&[(key, [3, 3])])), [at(1, 2, 9)]);
        let after = Ended::from([(key, traffic(2, 1, [7, 7]))]);
        assert_eq!(shown(&mut ledger, &after, &living(&[(key, [3, 3])])), [at(1, 2, 10)]);
    }

    #[test]
    fn what_left_the_configuration_keeps_its_name_while_a_flow_of_it_lives() {
        let mut ledger = ledger(names(&["0 *:80/tcp 0"], &["0 1 10.0.0.1:80", "0 2 10.0.0.2:80"]));
        let old = key(0, 0, 2);
        let mut ended = Ended::from([(old, traffic(1, 0, [0, 0]))]);
        let mut alive = living(&[(old, [4, 4])]);
        ledger.turn(one(), &ended, &alive);
        assert_eq!(ledger.name(&old).backend, Some("10.0.0.2:80".parse().unwrap()));
        assert_eq!(ledger.sweep(&alive, 10 * KEEP), [], "it lives");
        alive.carried.clear();
        ended.insert(old, traffic(1, 1, [6, 5]));
        assert_eq!(ledger.sweep(&alive, 10 * KEEP), []);
        assert_eq!(ledger.sweep(&alive, 11 * KEEP - 1), []);
        assert_eq!(shown(&mut ledger, &ended, &alive), [at(1, 0, 0), at(2, 1, 6)]);
        assert_eq!(ledger.sweep(&alive, 11 * KEEP), [old]);
        ended.clear();
        assert_eq!(shown(&mut ledger, &ended, &alive), [at(1, 0, 0)]);
    }

    #[test]
    fn ids_that_come_to_stand_for_another_go_on_under_its_name() {
        let mut ledger = ledger(one());
        let key = key(0, 0, 1);
        let mut ended = Ended::from([(key, traffic(3, 3, [30, 30]))]);
        ledger.turn(names(&["0 *:80/tcp 0"], &["0 1 10.0.0.9:80"]), &ended, &Living::default());
        assert_eq!(shown(&mut ledger, &ended, &Living::default()), [at(1, 3, 30), at(9, 0, 0)]);
        ended.insert(key, traffic(5, 5, [34, 34]));
        assert_eq!(shown(&mut ledger, &ended, &Living::default()), [at(1, 3, 30), at(9, 2, 4)]);
        ledger.sweep(&Living::default(), KEEP);
        assert_eq!(ledger.sweep(&Living::default(), 2 * KEEP), [], "the key is in use");
        assert_eq!(shown(&mut ledger, &ended, &Living::default()), [at(9, 2, 4)]);
    }

    #[test]
    fn a_name_under_other_ids_goes_on_from_what_the_old_ones_counted() {
        let mut ledger = ledger(one());
        let (old, new) = (key(0, 0, 1), key(0, 0, 2));
        let mut ended = Ended::from([(old, traffic(3, 3, [30, 30]))]);
        ledger.turn(names(&["0 *:80/tcp 0"], &["0 2 10.0.0.1:80"]), &ended, &Living::default());
        ended.insert(new, traffic(1, 1, [2, 2]));
        assert_eq!(shown(&mut ledger, &ended, &Living::default()), [at(1, 4, 32)]);
        ledger.sweep(&Living::default(), 0);
        assert_eq!(ledger.sweep(&Living::default(), KEEP), [old]);
        ended.remove(&old);
        assert_eq!(shown(&mut ledger, &ended, &Living::default()), [at(1, 4, 32)]);
    }

    #[test]
    fn figures_and_names_outlive_a_restart() {
        let mut before = ledger(names(&["0 *:80/tcp 0"], &["0 1 10.0.0.1:80", "0 2 10.0.0.2:80"]));
        let (same, left) = (key(0, 0, 1), key(0, 0, 2));
        let ended = Ended::from([(same, traffic(3, 3, [30, 30])), (left, traffic(1, 0, [0, 0]))]);
        let alive = living(&[(left, [4, 4])]);
        before.turn(names(&["0 *:80/tcp 0"], &["0 1 10.0.0.9:80"]), &ended, &alive);
        let want = [at(1, 3, 30), at(2, 1, 4), at(9, 0, 0)];
        assert_eq!(shown(&mut before, &ended, &alive), want);
        let mut after = Ledger::restore(before.kept(), &ended, &alive);
        assert_eq!(after.kept(), before.kept());
        assert_eq!(shown(&mut after, &ended, &alive), want);
        // A flow that began after the last change, by a backend that is gone when the next agent comes.
        let mut after = Ledger::restore(ledger(one()).kept(), &ended, &alive);
        after.turn(names(&["0 *:80/tcp 0"], &["0 3 10.0.0.3:80"]), &ended, &alive);
        assert_eq!(after.name(&same).backend, Some("10.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn maps_that_were_made_anew_count_from_zero() {
        let mut before = ledger(one());
        let key = key(0, 0, 1);
        let ended = Ended::from([(key, traffic(3, 3, [30, 30]))]);
        before.turn(names(&["0 *:80/tcp 0"], &["0 1 10.0.0.9:80"]), &ended, &Living::default());
        for (counted, want) in [(None, at(9, 0, 0)), (Some(traffic(1, 1, [2, 2])), at(9, 1, 2))] {
            let ended: Ended = counted.map(|traffic| (key, traffic)).into_iter().collect();
            let mut after = Ledger::restore(before.kept(), &ended, &Living::default());
            assert_eq!(shown(&mut after, &ended, &Living::default()), [want]);
        }
    }

    #[test]
    fn what_nobody_remembers_is_counted_without_a_name() {
        let mut ledger = Ledger::default();
        let ended = Ended::from([(key(9, 9, 9), traffic(3, 3, [30, 30]))]);
        assert_eq!(shown(&mut ledger, &ended, &Living::default()), [(String::new(), 3, 30)]);
    }
}
