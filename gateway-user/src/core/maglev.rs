//! Weighted Maglev tables: slots that name backends in proportion to their shares, of which few change when a backend
//! comes or goes (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Owns the tables' size and filling. Must not know what a backend is.

use gateway_ebpf::abi::{ANY, MAX_SIZE_CLASS, wire};
use gateway_ebpf::select::{Tuple, hash};

use super::snapshot::BackendKey;

/// A backend's part of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What the slots hold.
    pub id: u32,
    /// What the backend's order of preference comes from: the same on every node, whatever its id there.
    pub seed: u64,
    /// Its share in any unit, at most 2^100.
    pub share: u128,
}

/// The smallest table for more than one backend: usually the first, in which shares are met to a thousandth, but where
/// there are so many tables that they would not fit, the next.
pub const SMALLEST: [usize; 4] = [1024, 512, 256, 128];
/// Slots for each backend, so that they differ by few percent.
const EACH: usize = 64;

/// The seed of a backend: a hash of its address, port and protocol.
#[must_use]
pub fn seed(key: &BackendKey) -> u64 {
    let (source, source_port) = (wire(key.at.ip()), key.at.port());
    hash(&Tuple { source, destination: ANY, source_port, destination_port: 0, protocol: key.protocol })
}

/// The size of a table for so many backends: one slot for a single one, else a power of two from `smallest` up to
/// 65,536.
#[must_use]
pub fn size(backends: usize, smallest: usize) -> usize {
    match backends {
        0 | 1 => backends,
        _ => (backends * EACH).next_power_of_two().clamp(smallest, 1 << MAX_SIZE_CLASS),
    }
}

/// The table, of the [`size`] for its shares. Every backend has its exact
/// share of the slots but for less than one. Empty if there is no share.
#[must_use]
pub fn slots(shares: &[Share], smallest: usize) -> Vec<u32> {
    let mut shares: Vec<Share> = shares.iter().copied().filter(|s| s.share > 0).collect();
    // The order in which they were given must not matter.
    shares.sort_unstable_by_key(|s| (s.seed, s.id));
    match &*shares {
        [] => Vec::new(),
        [only] => vec![only.id],
        _ => fill(&shares, size(shares.len(), smallest)),
    }
}

/// How many of `size` slots each has: the largest remainders are rounded up.
fn quotas(shares: &[Share], size: usize) -> Vec<usize> {
    let total: u128 = shares.iter().map(|s| s.share).sum();
    let exact = |share: u128| (share * size as u128 / total, share * size as u128 % total);
    let mut quotas: Vec<usize> = shares.iter().map(|s| exact(s.share).0 as usize).collect();
    let missing = size - quotas.iter().sum::<usize>();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(exact(shares[at].share).1));
    for &at in order.iter().take(missing) {
        quotas[at] += 1;
    }
    quotas
}

fn fill(shares: &[Share], size: usize) -> Vec<u32> {
    /// A backend that still wants slots.
    struct Seeker {
        /// The slot it wants next, and how far it goes from there: odd, so that it comes to every slot.
        at: usize,
        step: usize,
        quota: usize,
        credit: usize,
    }
    let quotas = quotas(shares, size);
    let most = quotas.iter().copied().max().unwrap_or(0).max(1);
    let mut seekers: Vec<Seeker> = shares
        .iter()
        .zip(&quotas)
        .map(|(share, &quota)| Seeker {
            at: share.seed as usize % size,
            step: ((share.seed >> 32) as usize % size) | 1,
            quota,
            credit: 0,
        })
        .collect();
    let mut table: Vec<Option<u32>> = vec![None; size];
    // The one with most slots takes one in each round, the others as often as is their due: together exactly `size`.
    for _ in 0..most {
        for (seeker, share) in seekers.iter_mut().zip(shares) {
            seeker.credit += seeker.quota;
            if seeker.credit < most {
                continue;
            }
            seeker.credit -= most;
            while table[seeker.at].is_some() {
                seeker.at = (seeker.at + seeker.step) % size;
            }
            table[seeker.at] = Some(share.id);
        }
    }
    table.into_iter().map(|slot| slot.unwrap_or(gateway_ebpf::abi::REJECT_BACKEND)).collect()
}

#[cfg(test)]
mod tests;
