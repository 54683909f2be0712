//! The plan on a pure model of the maps, which complains about every step that the kernel's programs could see go
//! wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gateway_ebpf::abi::{ANY, Action, Affinity, BindingKey, REJECT_BACKEND, ServiceWord, TCP};
use gateway_ebpf::names::{MAX_BINDINGS, MAX_SLOTS};
use proptest::prelude::*;

use super::{Full, Have, Op, Plan, follow, plan};
use crate::core::snapshot::{BackendKey, BindingImage, MapImage, Path, ServiceImage, Ways};

const UNWRITTEN: u32 = u32::MAX;

/// The maps, with what programs that are still running may read.
#[derive(Clone)]
struct Maps {
    bindings: BTreeMap<BindingKey, BindingImage>,
    words: BTreeMap<u32, ServiceWord>,
    /// `UNWRITTEN` where nothing was ever written.
    slots: Vec<u32>,
    backends: BTreeMap<u32, BackendKey>,
    ways: Ways,
    /// Backends whose way was taken: still read until a grace period.
    old_paths: BTreeSet<u32>,
    /// Words that were replaced or cleared, and bindings that were: readable until a grace period.
    old_words: Vec<ServiceWord>,
    old_services: BTreeSet<u32>,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            bindings: BTreeMap::new(),
            words: BTreeMap::new(),
            slots: vec![UNWRITTEN; MAX_SLOTS as usize],
            backends: BTreeMap::new(),
            ways: Ways::default(),
            old_paths: BTreeSet::new(),
            old_words: Vec::new(),
            old_services: BTreeSet::new(),
        }
    }
}

impl Maps {
    fn slots(&self, word: ServiceWord) -> &[u32] {
        let range = Self::range(word);
        &self.slots[range.start as usize..range.end as usize]
    }

    fn range(word: ServiceWord) -> std::ops::Range<u32> {
        word.offset()..word.offset() + (1 << word.size_class())
    }

    fn unbind(&mut self, old: Option<BindingImage>) {
        self.old_services.extend(old.and_then(|b| b.service));
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::DeleteBinding(key) => {
                let old = self.bindings.remove(key);
                self.unbind(old);
            }
            Op::PutBackend(id, key, path) => {
                assert!(!self.ways.paths.contains_key(id), "backend {id} may be read half of each");
                assert!(!self.old_paths.contains(id), "backend {id} is still read");
                self.backends.insert(*id, *key);
                self.ways.paths.extend(path.map(|path| (*id, path)));
            }
            Op::DeletePath(id) => {
                self.ways.paths.remove(id).expect("it had one");
                self.old_paths.insert(*id);
            }
            Op::PutLocal(ip) => assert!(self.ways.local.insert(*ip)),
            Op::DeleteLocal(ip) => assert!(self.ways.local.remove(ip)),
            Op::WriteSlots { offset, slots } => {
                let range = *offset..*offset + slots.len() as u32;
                assert!(range.end <= MAX_SLOTS);
                for word in self.words.values().chain(&self.old_words) {
                    let used = Self::range(*word);
                    assert!(
                        used.end <= range.start || range.end <= used.start,
                        "{range:?} is still read: {used:?}"
                    );
                }
                for id in slots.iter().collect::<BTreeSet<_>>() {
                    assert!(
                        *id == REJECT_BACKEND || self.backends.contains_key(id),
                        "backend {id} is missing"
                    );
                }
                self.slots[range.start as usize..range.end as usize].copy_from_slice(slots);
            }
            Op::PutService(id, word) => {
                assert!(!self.slots(*word).contains(&UNWRITTEN), "slots are missing");
                self.old_words.extend(self.words.insert(*id, *word));
            }
            Op::PutBinding(key, image) => {
                let old = self.bindings.insert(*key, *image);
                self.unbind(old);
            }
            Op::GracePeriod => {
                self.old_words.clear();
                self.old_services.clear();
                self.old_paths.clear();
            }
            Op::DeleteService(id) => {
                assert!(!self.old_services.contains(id), "service {id} may still be looked up");
                self.words.remove(id);
            }
            Op::DeleteBackend(id) => {
                let mut read = self.words.values().chain(&self.old_words).map(|w| self.slots(*w));
                assert!(read.all(|slots| !slots.contains(id)), "a slot still names backend {id}");
                self.backends.remove(id);
                self.ways.paths.remove(id);
            }
        }
        for binding in self.bindings.values() {
            assert!(
                binding.service.is_none_or(|id| self.words.contains_key(&id)),
                "{binding:?} without slots"
            );
        }
    }

    fn apply(&mut self, plan: &Plan) {
        plan.withdraw.iter().chain(&plan.install).for_each(|op| self.step(op));
        assert!(self.old_words.is_empty(), "the next plan would use ranges that are still read");
    }

    fn have(&self) -> Have {
        let service =
            |word: ServiceWord| ServiceImage { slots: self.slots(word).into(), affinity: word.affinity() };
        let image = MapImage {
            bindings: self.bindings.clone(),
            services: self.words.iter().map(|(id, word)| (*id, service(*word))).collect(),
            backends: self.backends.clone(),
            ways: self.ways.clone(),
        };
        Have { image, words: self.words.clone() }
    }
}

fn key(port: u16) -> BindingKey {
    BindingKey { address: ANY, port, protocol: TCP, pad: 0 }
}

fn backend(n: u8) -> BackendKey {
    BackendKey { at: ([10, 0, 0, n], 80).into(), protocol: TCP }
}

/// An image with the services given by id, size class and the id in their slots, each on the binding of its id.
fn image(services: &[(u32, u8, u32)]) -> MapImage {
    let mut image = MapImage::default();
    for &(id, class, backend_id) in services {
        image.services.insert(id, ServiceImage::new(vec![backend_id; 1 << class]));
        if backend_id != REJECT_BACKEND {
            image.backends.insert(backend_id, backend(backend_id as u8));
        }
        let binding = BindingImage { action: Action::Forward, id, service: Some(id), idle: None };
        image.bindings.insert(key(id as u16), binding);
    }
    image
}

fn advance(maps: &mut Maps, want: &MapImage) -> Plan {
    let plan = plan(&maps.have(), want).expect("it fits");
    maps.apply(&plan);
    assert_eq!(maps.have().image, *want);
    assert!(super::plan(&maps.have(), want).expect("it fits").is_empty(), "a second plan does nothing");
    plan
}

#[test]
fn a_new_service_is_there_before_its_binding() {
    let plan = advance(&mut Maps::default(), &image(&[(0, 2, 1)]));
    let names: Vec<&str> = plan
        .install
        .iter()
        .map(|op| match op {
            Op::PutBackend(..) => "backend",
            Op::WriteSlots { .. } => "slots",
            Op::PutService(..) => "service",
            Op::PutBinding(..) => "binding",
            _ => "other",
        })
        .collect();
    assert_eq!(names, ["backend", "slots", "service", "binding"]);
    assert!(plan.withdraw.is_empty());
}

#[test]
fn a_changed_service_gets_a_new_range_and_generation() {
    let mut maps = Maps::default();
    advance(&mut maps, &image(&[(0, 2, 1)]));
    let before = maps.words[&0];
    advance(&mut maps, &image(&[(0, 2, 2)]));
    let after = maps.words[&0];
    assert_ne!(before.offset(), after.offset());
    assert_eq!(after.generation(), before.generation() + 1);
    advance(&mut maps, &image(&[(0, 2, 1)]));
    assert_eq!(maps.words[&0].offset(), before.offset(), "the old range is free again");
}

#[test]
fn another_affinity_takes_a_word_and_no_slots() {
    // No range is free.
    let full: Vec<_> = (0..16).map(|id| (id, 16, 1)).collect();
    let mut want = image(&full);
    let mut maps = Maps::default();
    advance(&mut maps, &want);
    for affinity in [Affinity::ClientIp, Affinity::None] {
        let before = maps.words[&3];
        want.services.get_mut(&3).unwrap().affinity = affinity;
        let plan = advance(&mut maps, &want);
        let word = ServiceWord::new(before.offset(), 16, affinity, before.generation() + 1);
        assert_eq!(plan.install, [Op::PutService(3, word), Op::GracePeriod]);
        assert_eq!(plan.withdraw, []);
    }
}

#[test]
fn another_idle_time_takes_a_binding() {
    let mut want = image(&[(0, 2, 1)]);
    let mut maps = Maps::default();
    advance(&mut maps, &want);
    let binding = want.bindings.get_mut(&key(0)).unwrap();
    binding.idle = std::num::NonZeroU32::new(30);
    let put = Op::PutBinding(key(0), *binding);
    assert_eq!(advance(&mut maps, &want).install, [put, Op::GracePeriod]);
}

#[test]
fn a_binding_that_goes_is_withdrawn_before_anything_is_installed() {
    let mut maps = Maps::default();
    advance(&mut maps, &image(&[(0, 0, 1), (1, 0, 2)]));
    let plan = advance(&mut maps, &image(&[(1, 0, 2)]));
    assert_eq!(plan.withdraw, [Op::DeleteBinding(key(0))]);
    assert_eq!(plan.install, [Op::GracePeriod, Op::DeleteService(0), Op::DeleteBackend(1)]);
}

#[test]
fn a_full_table_is_used_to_its_end_with_grace_periods_between() {
    // 16 services of the largest class are all there is.
    let full: Vec<_> = (0..16).map(|id| (id, 16, 1)).collect();
    let mut maps = Maps::default();
    advance(&mut maps, &image(&full));
    // One goes, its range serves the next, whose range serves the next.
    let mut changed: Vec<_> = (0..15).map(|id| (id, 16, 2)).collect();
    let plan = advance(&mut maps, &image(&changed));
    assert!(plan.install.iter().filter(|op| **op == Op::GracePeriod).count() >= 15);
    // A smaller service and a gap.
    changed[3].1 = 4;
    advance(&mut maps, &image(&changed));
    advance(&mut maps, &image(&full[..15]));
}

#[test]
fn what_does_not_fit_is_said_with_numbers() {
    let full: Vec<_> = (0..16).map(|id| (id, 16, 1)).collect();
    let mut maps = Maps::default();
    advance(&mut maps, &image(&full));
    let mut more = image(&full);
    more.services.insert(16, ServiceImage::new(vec![1; 1024]));
    let error = plan(&maps.have(), &more).expect_err("it does not fit");
    assert_eq!(error, Full::Slots { want: 1024, largest: 0, free: 0, capacity: MAX_SLOTS });
    assert!(error.to_string().contains("1024 slots"), "{error}");
    let mut bindings = MapImage::default();
    for n in 0..=MAX_BINDINGS {
        let key = BindingKey { address: (u128::from(n)).to_be_bytes(), ..key(80) };
        let binding = BindingImage { action: Action::Steer, id: n, service: None, idle: None };
        bindings.bindings.insert(key, binding);
    }
    let error = plan(&Have::default(), &bindings).expect_err("it does not fit");
    assert_eq!(
        error,
        Full::Table { table: "BINDINGS", want: MAX_BINDINGS as usize + 1, capacity: MAX_BINDINGS }
    );
}

fn path(interface: u32) -> Path {
    let hop = [10, 0, 1, interface as u8].into();
    Path { interface, next_hop: hop, source: Some(hop), mtu: 1500, local: interface.is_multiple_of(2) }
}

#[test]
fn a_change_of_the_network_writes_what_it_changes_and_nothing_else() {
    let mut want = image(&[(0, 1, 1), (1, 1, 2), (2, 0, 3)]);
    want.ways.paths = [(1, path(2)), (2, path(3))].into();
    want.ways.local = [1, 2].map(|n| IpAddr::from([10, 0, 0, n])).into();
    let mut maps = Maps::default();
    advance(&mut maps, &want);
    let before = std::mem::take(&mut want.ways);
    want.ways.paths = [(1, path(2)), (2, path(4)), (3, path(5))].into();
    want.ways.local = [2, 3].map(|n| IpAddr::from([10, 0, 0, n])).into();
    let ops = follow(&before, &want);
    let expected = [
        Op::DeleteLocal([10, 0, 0, 1].into()),
        Op::DeletePath(2),
        Op::GracePeriod,
        Op::PutBackend(2, backend(2), Some(path(4))),
        Op::PutBackend(3, backend(3), Some(path(5))),
        Op::PutLocal([10, 0, 0, 3].into()),
    ];
    assert_eq!(ops, expected);
    ops.iter().for_each(|op| maps.step(op));
    assert_eq!(maps.have().image, want);
    assert_eq!(follow(&want.ways, &want), []);
}

#[test]
fn an_id_that_comes_to_stand_for_another_endpoint_loses_its_way_first() {
    let mut want = image(&[(0, 1, 1)]);
    want.ways.paths = [(1, path(2))].into();
    let mut maps = Maps::default();
    advance(&mut maps, &want);
    want.backends.insert(1, backend(7));
    let plan = advance(&mut maps, &want);
    assert_eq!(plan.withdraw, [Op::DeletePath(1), Op::GracePeriod]);
}

#[test]
fn a_backend_that_goes_keeps_its_way_until_no_slot_leads_to_it() {
    let mut want = image(&[(0, 1, 1)]);
    want.ways.paths = [(1, path(2))].into();
    let mut maps = Maps::default();
    advance(&mut maps, &want);
    let mut next = image(&[(0, 1, 2)]);
    next.ways.paths = [(2, path(3))].into();
    let plan = advance(&mut maps, &next);
    assert_eq!(plan.withdraw, []);
    assert_eq!(plan.install.last(), Some(&Op::DeleteBackend(1)));
}

/// Images small enough to collide, with slots that may nearly fill the table.
fn any_image() -> impl Strategy<Value = MapImage> {
    let class = prop_oneof![Just(0u8), Just(1), Just(4), Just(15), Just(16)];
    let affinity = prop_oneof![Just(Affinity::None), Just(Affinity::ClientIp)];
    let service = (0..6u32, class, prop::collection::vec(0..5u32, 1..3), affinity);
    let binding = (0..8u16, prop::option::of(0..6u32), 0..3u32, 0..2u32);
    let ways =
        (prop::collection::btree_map(1..5u32, 0..4u32, 0..4), prop::collection::btree_set(0..4u8, 0..3));
    (prop::collection::vec(service, 0..5), prop::collection::vec(binding, 0..6), 0..5u8, ways).prop_map(
        |(services, bindings, extra, (paths, local))| {
            let mut image = MapImage::default();
            for (id, class, ids, affinity) in services {
                let slots: Vec<u32> = (0..1usize << class).map(|at| ids[at % ids.len()]).collect();
                for id in slots.iter().take(2).filter(|id| **id != REJECT_BACKEND) {
                    image.backends.insert(*id, backend(*id as u8));
                }
                image.services.insert(id, ServiceImage { slots: slots.into(), affinity });
            }
            image.backends.insert(9, backend(extra));
            let paths = paths.into_iter().filter(|(id, _)| image.backends.contains_key(id));
            image.ways.paths = paths.map(|(id, interface)| (id, path(interface))).collect();
            image.ways.local = local.into_iter().map(|n| [10, 0, 0, n].into()).collect();
            for (port, service, id, idle) in bindings {
                let service = service.filter(|s| image.services.contains_key(s));
                let action = if service.is_some() { Action::Forward } else { Action::Steer };
                let idle = std::num::NonZeroU32::new(idle);
                image.bindings.insert(key(port), BindingImage { action, id, service, idle });
            }
            image
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_a_plan_gives_what_is_wanted_and_no_step_shows_a_gap(images in prop::collection::vec(any_image(), 1..5)) {
        let mut maps = Maps::default();
        for want in &images {
            advance(&mut maps, want);
        }
    }

    #[test]
    fn a_plan_cut_short_is_taken_up_again(first in any_image(), second in any_image(), cut in 0..20usize) {
        let mut maps = Maps::default();
        advance(&mut maps, &first);
        let cut_short = plan(&maps.have(), &second).expect("it fits");
        for op in cut_short.withdraw.iter().chain(&cut_short.install).take(cut) {
            maps.step(op);
        }
        // The agent has died and come back: no program of that time still runs.
        maps.step(&Op::GracePeriod);
        advance(&mut maps, &second);
    }
}
