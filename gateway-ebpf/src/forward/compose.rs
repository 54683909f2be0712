//! Headers of packets that are this node's own.
//!
//! Owns what is in them. Must not know what follows them.

use gateway_ebpf::flow::{Words, v4};
use gateway_ebpf::rewrite;

use crate::parse::{V4, V6};

/// Time to live: what RFC 1700 recommends and Linux uses.
const TTL: u8 = 64;
/// "Don't fragment": then the identification means nothing (RFC 6864).
const DONT_FRAGMENT: u16 = 0x4000;

/// An IPv4 header with `length` bytes after it.
#[inline(always)]
pub(crate) fn header4(source: &Words, destination: &Words, protocol: u8, length: u32) -> V4 {
    let (source, destination) = (v4(source), v4(destination));
    let length = ((20 + length) as u16).to_be();
    let first = u16::from_ne_bytes([0x45, 0]);
    let fragment = DONT_FRAGMENT.to_be();
    let fifth = u16::from_ne_bytes([TTL, protocol]);
    let halves = u32::from(first) + u32::from(length) + u32::from(fragment) + u32::from(fifth);
    let checksum = !rewrite::fold(rewrite::add(rewrite::add(halves, source), destination));
    V4 {
        version_length: 0x45,
        tos: 0,
        length,
        id: 0,
        fragment,
        ttl: TTL,
        protocol,
        checksum,
        source,
        destination,
    }
}

/// The same for IPv6.
#[inline(always)]
pub(crate) fn header6(source: &Words, destination: &Words, protocol: u8, length: u32) -> V6 {
    V6 {
        version: 0x6000_0000u32.to_be(),
        length: (length as u16).to_be(),
        next: protocol,
        hops: TTL,
        addresses: [source[0], source[1], destination[0], destination[1]],
    }
}
