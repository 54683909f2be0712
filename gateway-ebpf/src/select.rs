//! The decisions that kernel and agent both make: from the 5-tuple to hashes, a slot, a backend and a worker.
//!
//! Owns their being the same on both sides. Must not look anything up itself: what a map holds is an argument.

use crate::abi::{Address, Affinity, ServiceWord, TCP};

/// A connection or UDP flow as its first packet shows it: the client's side is the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// The client's address.
    pub source: Address,
    /// The address that the client asked for.
    pub destination: Address,
    /// The client's port, in the host's byte order.
    pub source_port: u16,
    /// The port that the client asked for, in the host's byte order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// The tuple of the packets that go the other way.
    #[must_use]
    pub const fn reverse(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let h = (hash ^ word).wrapping_mul(MIX);
    h ^ (h >> 32)
}

/// One 64-bit word of an address, byte by byte: the same on any alignment and byte order.
#[inline(always)]
const fn word(a: &Address, at: usize) -> u64 {
    u64::from_le_bytes([a[at], a[at + 1], a[at + 2], a[at + 3], a[at + 4], a[at + 5], a[at + 6], a[at + 7]])
}

/// Hash of a 5-tuple, finished as in MurmurHash3 so that every bit of it can be used.
#[inline(always)]
#[must_use]
pub const fn hash(tuple: &Tuple) -> u64 {
    hash_words(
        [word(&tuple.source, 0), word(&tuple.source, 8)],
        [word(&tuple.destination, 0), word(&tuple.destination, 8)],
        tuple.source_port,
        tuple.destination_port,
        tuple.protocol,
    )
}

/// The same of addresses as words, their bytes in wire order.
#[inline(always)]
#[must_use]
pub const fn hash_words(
    source: [u64; 2],
    destination: [u64; 2],
    source_port: u16,
    destination_port: u16,
    protocol: u8,
) -> u64 {
    let mut h = mix(MIX, source[0]);
    h = mix(h, source[1]);
    h = mix(h, destination[0]);
    h = mix(h, destination[1]);
    h = mix(h, source_port as u64 | ((destination_port as u64) << 16) | ((protocol as u64) << 32));
    finish(h)
}

#[inline(always)]
const fn finish(hash: u64) -> u64 {
    let mut h = hash ^ (hash >> 33);
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// The hash that a flow's slot is found by, as its service wants it: the flow's own, or that of the client's address.
#[inline(always)]
#[must_use]
pub const fn slot_hash(tuple: &Tuple, affinity: Affinity) -> u64 {
    slot_hash_words(hash(tuple), [word(&tuple.source, 0), word(&tuple.source, 8)], affinity)
}

/// The same of the flow's own hash and the client's address as words.
#[inline(always)]
#[must_use]
pub const fn slot_hash_words(hash: u64, source: [u64; 2], affinity: Affinity) -> u64 {
    match affinity {
        Affinity::None => hash,
        Affinity::ClientIp => finish(mix(mix(MIX, source[0]), source[1])),
    }
}

/// The hash that a flow's slot is found by at the `attempt`th attempt; before any failed it is that of [`slot_hash`].
#[inline(always)]
#[must_use]
pub const fn retry(hash: u64, attempt: u32) -> u64 {
    if attempt == 0 { hash } else { mix(hash, attempt as u64) }
}

/// Position of a flow within a table of `1 << size_class` slots, by the upper half of its slot's hash.
#[inline(always)]
#[must_use]
pub const fn slot(hash: u64, size_class: u8) -> u32 {
    ((hash >> 32) as u32) & ((1 << size_class) - 1)
}

/// Index in `SLOTS` of a flow's slot.
#[inline(always)]
#[must_use]
pub const fn slot_index(hash: u64, service: ServiceWord) -> u32 {
    service.offset() + slot(hash, service.size_class())
}

/// A flow's backend id out of a service's own slots (their number is a power of two); `REJECT_BACKEND` if it has
/// none. The kernel does the same in two lookups.
#[must_use]
pub fn backend(hash: u64, slots: &[u32]) -> u32 {
    if slots.is_empty() {
        return crate::abi::REJECT_BACKEND;
    }
    slots[slot(hash, slots.len().trailing_zeros() as u8) as usize]
}

/// The two workers that a flow may go to, by the lower half of its own hash: different ones if there are two.
#[inline(always)]
#[must_use]
pub const fn two_workers(hash: u64, workers: u32) -> (u32, u32) {
    if workers < 2 {
        return (0, 0);
    }
    let first = (hash as u32 & 0xffff) % workers;
    let second = (first + 1 + ((hash as u32) >> 16) % (workers - 1)) % workers;
    (first, second)
}

/// The less loaded of two workers, the first if they are equal.
#[inline(always)]
#[must_use]
pub const fn less_loaded((first, second): (u32, u32), first_load: u64, second_load: u64) -> u32 {
    if second_load < first_load { second } else { first }
}

/// What a worker is busy with: connections that are open, and those that are on their way to it. Without the latter a
/// burst would all go to whoever is told last.
#[inline(always)]
#[must_use]
pub const fn load(open: u64, assigned: u64, settled: u64) -> u64 {
    open.saturating_add(assigned.saturating_sub(settled))
}

/// How many of the connections assigned to a worker are settled, given how many it has accepted (and given up) and how
/// many were assigned so long ago that those not accepted by now never will be.
#[must_use]
pub const fn settled(settled: u64, long_ago: u64, assigned: u64) -> u64 {
    let settled = if settled < long_ago { long_ago } else { settled };
    if settled < assigned { settled } else { assigned }
}

/// The worker that a flow goes to: for TCP the less loaded of two; for anything else by its hash alone, since every
/// datagram of a flow asks again and must find the same one. The other worker is the second choice.
#[inline(always)]
#[must_use]
pub const fn workers(pair: (u32, u32), protocol: u8, first_load: u64, second_load: u64) -> (u32, u32) {
    if protocol == TCP && less_loaded(pair, first_load, second_load) != pair.0 {
        return (pair.1, pair.0);
    }
    pair
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{REJECT_BACKEND, UDP, mapped};

    fn tuple(client: u32, port: u16) -> Tuple {
        Tuple {
            source: mapped(client.to_be_bytes()),
            destination: mapped([192, 0, 2, 1]),
            source_port: port,
            destination_port: 80,
            protocol: TCP,
        }
    }

    /// Chi squared of `counts` against an even spread.
    fn chi_squared(counts: &[u32]) -> f64 {
        let mean = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        counts.iter().map(|&c| (f64::from(c) - mean).powi(2) / mean).sum()
    }

    #[test]
    fn neighbours_spread_over_slots_and_workers() {
        // One client with rising ports, and rising clients with one port: what hashes usually fail on. For n cells,
        // chi squared has mean n - 1 and deviation sqrt(2(n - 1)): six deviations never happen by chance.
        let by_port = (0..60_000).map(|n| tuple(0x0a00_0001, n));
        let by_client = (0..60_000).map(|n| tuple(0x0a00_0000 + n, 40_000));
        for tuples in [by_port.collect::<Vec<_>>(), by_client.collect()] {
            for cells in [2u32, 16, 256, 1024] {
                let limit = f64::from(cells - 1) + 6.0 * f64::from(2 * (cells - 1)).sqrt();
                let mut slots = vec![0; cells as usize];
                let mut first = vec![0; cells as usize];
                let mut second = vec![0; cells as usize];
                for t in &tuples {
                    let h = hash(t);
                    slots[slot(h, cells.trailing_zeros() as u8) as usize] += 1;
                    let (a, b) = two_workers(h, cells);
                    first[a as usize] += 1;
                    second[b as usize] += 1;
                }
                for (what, counts) in [("slots", &slots), ("first", &first), ("second", &second)] {
                    let found = chi_squared(counts);
                    assert!(found < limit, "{what} of {cells}: chi squared {found}, limit {limit}");
                }
            }
        }
    }

    #[test]
    fn every_field_of_the_tuple_counts() {
        let base = tuple(0x0a00_0001, 40_000);
        let mut other = vec![
            Tuple { source_port: 40_001, ..base },
            Tuple { destination_port: 81, ..base },
            Tuple { protocol: UDP, ..base },
        ];
        for byte in 0..16 {
            let (mut source, mut destination) = (base.source, base.destination);
            source[byte] ^= 1;
            destination[byte] ^= 1;
            other.extend([Tuple { source, ..base }, Tuple { destination, ..base }]);
        }
        for t in other {
            assert_ne!(hash(&t), hash(&base), "{t:?}");
        }
    }

    #[test]
    fn with_affinity_the_clients_address_alone_counts() {
        let base = tuple(0x0a00_0001, 40_000);
        let slot_of = |t: &Tuple| slot_hash(t, Affinity::ClientIp);
        for port in 0..=u16::MAX {
            assert_eq!(slot_of(&tuple(0x0a00_0001, port)), slot_of(&base), "{port}");
        }
        let (mut other, mut far) = (base.source, base.destination);
        far[15] ^= 1;
        for same in [
            Tuple { destination_port: 81, ..base },
            Tuple { protocol: UDP, ..base },
            Tuple { destination: far, ..base },
        ] {
            assert_eq!(slot_of(&same), slot_of(&base), "{same:?}");
        }
        for byte in 0..16 {
            other[byte] ^= 1;
            assert_ne!(slot_of(&Tuple { source: other, ..base }), slot_of(&base), "byte {byte}");
            other[byte] ^= 1;
        }
        assert_eq!(slot_hash(&base, Affinity::None), hash(&base));
    }

    #[test]
    fn with_affinity_clients_spread_evenly() {
        // Neighbours of IPv4, and hosts and networks of IPv6; chi squared as above.
        let v4 = |n: u32| tuple(0x0a00_0000 + n, 40_000).source;
        let host = |n: u32| ((0xfd09_u128 << 112) | u128::from(n)).to_be_bytes();
        let network = |n: u32| ((0xfd09_u128 << 112) | (u128::from(n) << 64) | 1).to_be_bytes();
        for source in [v4 as fn(u32) -> Address, host, network] {
            for cells in [2u32, 16, 256, 1024] {
                let mut counts = vec![0; cells as usize];
                for n in 0..60_000 {
                    let h = slot_hash(&Tuple { source: source(n), ..tuple(0, 1) }, Affinity::ClientIp);
                    counts[slot(h, cells.trailing_zeros() as u8) as usize] += 1;
                }
                let limit = f64::from(cells - 1) + 6.0 * f64::from(2 * (cells - 1)).sqrt();
                let found = chi_squared(&counts);
                assert!(found < limit, "{cells}: chi squared {found}, limit {limit}");
            }
        }
    }

    #[test]
    fn what_goes_the_other_way_is_reversed() {
        let there = tuple(0x0a00_0001, 40_000);
        let back = there.reverse();
        assert_eq!((back.source, back.source_port), (there.destination, there.destination_port));
        assert_eq!((back.destination, back.destination_port), (there.source, there.source_port));
        assert_eq!((back.protocol, back.reverse()), (there.protocol, there));
    }

    #[test]
    fn a_slot_is_within_the_service() {
        for class in [0, 1, 7, crate::abi::MAX_SIZE_CLASS] {
            let word = ServiceWord::new(1000, class, Affinity::None, 0);
            for h in [0, 1, u64::MAX, 0xdead_beef_0bad_cafe] {
                let index = slot_index(h, word);
                assert!((1000..1000 + (1 << class)).contains(&index), "class {class}: {index}");
            }
        }
    }

    #[test]
    fn a_backend_is_what_its_slot_says() {
        assert_eq!(backend(u64::MAX, &[]), REJECT_BACKEND);
        assert_eq!(backend(u64::MAX, &[7]), 7);
        let slots: Vec<u32> = (0..8).map(|n| n * 10).collect();
        for n in 0..8u64 {
            assert_eq!(backend(n << 32 | 0xffff, &slots), n as u32 * 10);
        }
    }

    #[test]
    fn two_workers_differ_if_there_are_two() {
        assert_eq!(two_workers(u64::MAX, 0), (0, 0));
        assert_eq!(two_workers(u64::MAX, 1), (0, 0));
        for workers in [2, 3, 16, crate::names::MAX_WORKERS] {
            for n in 0..5_000 {
                let (a, b) = two_workers(hash(&tuple(n, 1)), workers);
                assert!(a < workers && b < workers && a != b, "{a} {b} of {workers}");
            }
        }
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_is_settled() {
        for (open, assigned, accepted, want) in [(0, 0, 0, 0), (3, 10, 10, 3), (3, 12, 10, 5), (3, 10, 12, 3)]
        {
            assert_eq!(load(open, assigned, accepted), want, "{open} {assigned} {accepted}");
        }
        for (accepted, long_ago, assigned, want) in
            [(5, 0, 9, 5), (5, 7, 9, 7), (9, 7, 9, 9), (10, 7, 9, 9), (0, 9, 9, 9)]
        {
            assert_eq!(settled(accepted, long_ago, assigned), want, "{accepted} {long_ago} {assigned}");
        }
    }

    #[test]
    fn the_less_loaded_worker_is_picked_and_only_for_tcp() {
        for (first_load, second_load, tcp, udp) in
            [(0, 0, (3, 5), (3, 5)), (1, 0, (5, 3), (3, 5)), (0, 1, (3, 5), (3, 5)), (9, 8, (5, 3), (3, 5))]
        {
            assert_eq!(workers((3, 5), TCP, first_load, second_load), tcp, "{first_load} {second_load}");
            assert_eq!(workers((3, 5), UDP, first_load, second_load), udp, "{first_load} {second_load}");
        }
    }
}
