//! The arithmetic of Internet checksums (RFC 1071, RFC 1624): what a change of words does to a sum over them.
//!
//! Owns that both sides compute the same. Sums are of 16-bit words as they lie in memory: the one's complement sum does
//! not depend on the byte order (RFC 1071, 2(B)).

use crate::flow::{TupleKey, Words};

/// The sum of two sums.
#[inline(always)]
#[must_use]
pub const fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// A sum in 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[inline(always)]
const fn word(sum: u32, word: u64) -> u32 {
    add(add(sum, word as u32), (word >> 32) as u32)
}

#[inline(always)]
const fn address(sum: u32, address: &Words) -> u32 {
    word(word(sum, address[0]), address[1])
}

/// What is to be added to a sum over a packet's addresses when `from` becomes `to`. (The bytes that map an IPv4 address
/// are the same in both and cancel out.)
#[inline(always)]
#[must_use]
pub const fn addresses(from: &TupleKey, to: &TupleKey) -> u32 {
    moved(from, &to.source, &to.destination)
}

/// The same for its ports.
#[inline(always)]
#[must_use]
pub const fn ports(from: &TupleKey, to: &TupleKey) -> u32 {
    add(to.ports, !from.ports)
}

/// The sum over a pseudo header (RFC 9293, 3.1; RFC 8200, 8.1); what follows the IP header has `length` bytes.
#[inline(always)]
#[must_use]
pub const fn pseudo(source: &Words, destination: &Words, protocol: u8, length: u32) -> u32 {
    // The bytes that map an IPv4 address sum up to nothing.
    let sum = address(address(0, source), destination);
    add(add(sum, (protocol as u32).to_be()), length.to_be())
}

/// What is to be added to a sum over the tuple's addresses when they become others.
#[inline(always)]
#[must_use]
pub const fn moved(from: &TupleKey, source: &Words, destination: &Words) -> u32 {
    let new = address(address(0, source), destination);
    let old = address(address(0, &from.source), &from.destination);
    add(new, !old)
}

/// What is to be added to a sum when one of its words becomes another.
#[inline(always)]
#[must_use]
pub const fn difference(from: u16, to: u16) -> u32 {
    add(to as u32, !(from as u32))
}

/// A checksum field after its words have changed by `difference` (RFC 1624, equation 3).
#[inline(always)]
#[must_use]
pub const fn replace(field: u16, difference: u32) -> u16 {
    !fold(add(!field as u32 & 0xffff, difference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{TCP, mapped};
    use crate::select::Tuple;

    fn checksum(bytes: &[u8]) -> u16 {
        let sum = bytes
            .chunks_exact(2)
            .fold(0, |sum, pair| add(sum, u16::from_ne_bytes([pair[0], pair[1]]).into()));
        !fold(sum)
    }

    fn key(seed: u8) -> TupleKey {
        let [a, b, c, d] = [seed, seed.wrapping_mul(17), seed ^ 0xa5, 255 - seed];
        TupleKey::from(&Tuple {
            source: mapped([a, b, c, d]),
            destination: mapped([d, c, b, a]),
            source_port: u16::from_be_bytes([a, d]),
            destination_port: u16::from_be_bytes([c, b]),
            protocol: TCP,
        })
    }

    #[test]
    fn a_changed_tuple_changes_the_checksum_as_summing_again_does() {
        let bytes = |key: &TupleKey| {
            let mut bytes = vec![0x45, 0, 0x12, 0x34, 0xff, 0xff];
            for word in key.source.iter().chain(&key.destination) {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(key.ports.to_ne_bytes());
            bytes
        };
        for (from, to) in (0..=255).flat_map(|a| (0..=255).step_by(7).map(move |b| (key(a), key(b)))) {
            let difference = add(addresses(&from, &to), ports(&from, &to));
            let (have, want) = (replace(checksum(&bytes(&from)), difference), checksum(&bytes(&to)));
            // Zero has two forms; no sum of a header is 0, so the field is never 0xffff.
            assert_eq!(have % 0xffff, want % 0xffff, "{from:?} {to:?}");
        }
    }

    #[test]
    fn changes_one_after_the_other_cancel_out() {
        let (a, b) = (key(3), key(200));
        let field = 0x1c46;
        assert_eq!(replace(replace(field, addresses(&a, &b)), addresses(&b, &a)), field);
    }
}
