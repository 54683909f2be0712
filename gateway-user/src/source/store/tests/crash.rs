//! After a crash at any call the store is the old or the new state, never another; after an error it is the old one,
//! and goes on.

use super::sim::{Fault, Sim};
use super::{Contents, changed, contents, key, open};
use crate::source::store::FEW;
use crate::source::store::index::Key;

const ROUNDS: u64 = 1000;

/// A change of up to four of six objects, or now and then of many: written, changed or removed.
fn change(rng: &mut fastrand::Rng, tag: usize) -> Vec<(Key, Option<String>)> {
    let (names, most) = if rng.u8(..10) == 0 { (2 * FEW, 2 * FEW) } else { (6, 4) };
    let mut names: Vec<String> = (0..names).map(|number| format!("n{number}")).collect();
    rng.shuffle(&mut names);
    let some = names.into_iter().take(rng.usize(1..=most));
    some.map(|name| {
        let text = (rng.u8(..4) > 0).then(|| format!("{name}: {tag}\n").repeat(rng.usize(0..20)));
        (key(&name), text)
    })
    .collect()
}

/// A store with a history.
fn history(rng: &mut fastrand::Rng) -> (Sim, Contents) {
    let disk = Sim::default();
    let (mut store, mut state) = open(disk.clone()).unwrap();
    for tag in 0..rng.usize(0..6) {
        let change = change(rng, tag);
        store.commit(&change).unwrap();
        state = changed(&state, &change);
    }
    (disk, state)
}

/// The calls that a change makes on a store that is opened anew: those of opening, and all.
fn calls(disk: &Sim, change: &[(Key, Option<String>)]) -> (usize, usize) {
    let disk = disk.copy();
    let before = disk.calls();
    let (mut store, _) = open(disk.clone()).unwrap();
    let opened = disk.calls() - before;
    store.commit(change).unwrap();
    (opened, disk.calls() - before)
}

#[test]
fn a_crash_at_any_call_leaves_the_old_or_the_new_state() {
    let mut crashes = 0;
    for round in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(round);
        let (disk, old) = history(&mut rng);
        let change = change(&mut rng, 99);
        let new = changed(&old, &change);
        let (opened, all) = calls(&disk, &change);
        for at in 0..all {
            let told = format!("round {round}, call {at} of {all}");
            let broken = disk.copy();
            broken.plan(at, Fault::Crash { after: rng.bool() });
            let done = match open(broken.clone()) {
                Ok((mut store, _)) => store.commit(&change).is_ok(),
                Err(_) => false,
            };
            // A second crash, while the first is recovered from.
            let broken = broken.power_cycle(&mut rng);
            broken.plan(rng.usize(0..opened), Fault::Crash { after: rng.bool() });
            drop(open(broken.clone()));
            let after = broken.power_cycle(&mut rng);
            let (mut store, state) = open(after.clone()).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert!(state == old || state == new, "{told}: {state:?} is neither {old:?} nor {new:?}");
            assert!(!done || state == new, "{told}: what was said to be kept is lost");
            // Nothing is left over, and the store can be used.
            assert_eq!(after.files().len(), state.len() + 1, "{told}: {:?}", after.files());
            store.commit(&change).unwrap();
            assert_eq!(open(after).unwrap().1, new, "{told}");
            crashes += 1;
        }
    }
    println!("{ROUNDS} rounds, {crashes} crashes");
}

#[test]
fn an_error_at_any_call_leaves_the_old_state_and_a_store_that_goes_on() {
    let mut errors = 0;
    for round in 0..ROUNDS {
        let mut rng = fastrand::Rng::with_seed(round);
        let (disk, old) = history(&mut rng);
        let change = change(&mut rng, 99);
        let new = changed(&old, &change);
        let (opened, all) = calls(&disk, &change);
        for at in 0..all - opened {
            let told = format!("round {round}, call {at}");
            let broken = disk.copy();
            let (mut store, _) = open(broken.clone()).unwrap();
            let errno = if rng.bool() { libc::ENOSPC } else { libc::EIO };
            let times = [1, 2, 3, 5, usize::MAX][rng.usize(..5)];
            broken.plan(at, Fault::Error { errno, times });
            let done = store.commit(&change);
            let expected = if done.is_ok() { &new } else { &old };
            // The power goes at once: only if taking it back failed as well, what failed may hold.
            let (_, state) = open(broken.power_cycle(&mut rng)).unwrap();
            assert!(state == *expected || times > 1 && state == new, "{told}, {times} times: {done:?}");
            broken.heal();
            assert_eq!(contents(&store), *expected, "{told}: {done:?}");
            let again = super::crash::change(&mut rng, 100);
            store.commit(&again).unwrap_or_else(|error| panic!("{told}: {error}"));
            let last = changed(expected, &again);
            assert_eq!(contents(&store), last, "{told}");
            let (_, state) = open(broken.power_cycle(&mut rng)).unwrap();
            assert_eq!(state, last, "{told}");
            errors += 1;
        }
    }
    println!("{ROUNDS} rounds, {errors} errors");
}

#[test]
fn an_error_while_it_is_opened_touches_nothing() {
    let mut rng = fastrand::Rng::with_seed(7);
    let (disk, state) = history(&mut rng);
    let (opened, _) = calls(&disk, &[]);
    for at in 0..opened {
        let broken = disk.copy();
        broken.plan(at, Fault::Error { errno: libc::EIO, times: usize::MAX });
        drop(open(broken.clone()));
        broken.heal();
        assert_eq!(open(broken).unwrap().1, state, "call {at}");
    }
}
