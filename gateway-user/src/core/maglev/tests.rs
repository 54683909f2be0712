//! Shares and disruption.

use std::net::SocketAddr;

use gateway_ebpf::abi::TCP;
use proptest::prelude::*;

use super::{SMALLEST, Share, seed};
use crate::core::snapshot::BackendKey;

fn slots(shares: &[Share]) -> Vec<u32> {
    super::slots(shares, SMALLEST[0])
}

fn shares(weights: &[u32]) -> Vec<Share> {
    let one = |(at, weight): (usize, &u32)| {
        let at_ = SocketAddr::from(([10, 1, (at >> 8) as u8, at as u8], 8080));
        let key = BackendKey { at: at_, protocol: TCP };
        Share { id: at as u32 + 1, seed: seed(&key), share: u128::from(*weight) << 48 }
    };
    weights.iter().enumerate().map(one).collect()
}

fn count(table: &[u32], id: u32) -> usize {
    table.iter().filter(|slot| **slot == id).count()
}

#[test]
fn sizes() {
    for (backends, size) in [(0, 0), (1, 1), (2, 1024), (16, 1024), (17, 2048), (500, 32_768), (3000, 65_536)]
    {
        assert_eq!(slots(&shares(&vec![1; backends])).len(), size, "{backends}");
    }
}

#[test]
fn smaller_tables_are_as_exact_as_they_can_be() {
    for smallest in SMALLEST {
        let table = super::slots(&shares(&[90, 10]), smallest);
        assert_eq!(table.len(), smallest);
        let exact = smallest as f64 / 10.0;
        assert!((count(&table, 2) as f64 - exact).abs() < 1.0, "{smallest}");
    }
    assert_eq!(super::slots(&shares(&[1; 3]), 128).len(), 256);
}

#[test]
fn more_backends_than_slots_is_no_harm() {
    let table = slots(&shares(&vec![1; 70_000]));
    assert_eq!(table.len(), 65_536);
}

/// How many slots change their backend though it is still there, in thousandths of the table.
fn moved(before: &[Share], after: &[Share]) -> usize {
    let (old, new) = (slots(before), slots(after));
    let stays = |id: u32| after.iter().any(|s| s.id == id && s.share > 0);
    let moves = old.iter().zip(&new).filter(|(o, n)| o != n && stays(**o)).count();
    moves * 1000 / old.len()
}

#[test]
fn few_slots_move_when_a_backend_leaves() {
    for backends in [3, 5, 10, 16, 100, 900] {
        let all = shares(&vec![1; backends]);
        let without: Vec<Share> = all.iter().copied().filter(|s| s.id != 2).collect();
        let moved = moved(&all, &without);
        assert!(moved <= 60, "{backends} backends: {moved} of 1000 slots moved");
    }
}

#[test]
fn the_order_of_backends_does_not_matter() {
    let all = shares(&[5, 1, 9, 3]);
    let mut turned = all.clone();
    turned.reverse();
    let moves = slots(&all).iter().zip(slots(&turned)).filter(|(a, b)| **a != *b).count();
    assert_eq!(moves, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shares_are_exact_to_less_than_one_slot(weights in prop::collection::vec(0..1_000_000u32, 2..40)) {
        let shares = shares(&weights);
        let table = slots(&shares);
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        for (share, weight) in shares.iter().zip(&weights) {
            let exact = table.len() as f64 * f64::from(*weight) / total.max(1) as f64;
            let got = count(&table, share.id) as f64;
            prop_assert!((got - exact).abs() < 1.0, "{got} slots for {exact}");
        }
    }
}
