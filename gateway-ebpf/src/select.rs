//! The decisions that kernel and agent both make: from the 5-tuple to a hash, a slot, a backend and a worker.
//!
//! Owns their being the same on both sides. Must not look anything up itself: what a map holds is an argument.

use crate::abi::{Address, ServiceWord};

/// A connection or UDP flow as its first packet shows it: the client's side is the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    let mut h = mix(MIX, word(&tuple.source, 0));
    h = mix(h, word(&tuple.source, 8));
    h = mix(h, word(&tuple.destination, 0));
    h = mix(h, word(&tuple.destination, 8));
    h = mix(
        h,
        tuple.source_port as u64 | ((tuple.destination_port as u64) << 16) | ((tuple.protocol as u64) << 32),
    );
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// Position of a flow within a table of `1 << size_class` slots, by the hash's upper half.
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

/// The two workers that a flow may go to, by the hash's lower half: different ones if there are two.
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
