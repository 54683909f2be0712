//! Keys and values of the maps that forwarding in TC keeps: tuples, flows, what they carried, and how they ended.
//!
//! Owns their layout. Must not decide anything: that is `life`, `select` and `rewrite`.
//!
//! Addresses are words here, not bytes: the program that meets every packet compares and copies them eight bytes at a
//! time, and the verifier follows it through a thirtieth of the states. The bytes of a word are in wire order.

use crate::abi::{Address, Affinity, TCP, UDP};
pub use crate::reason::{Reason, ReasonKind};
use crate::select::{self, Tuple};

/// An address as two words, its 16 bytes in wire order.
pub type Words = [u64; 2];

/// A packet's 5-tuple: key of `TUPLES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct TupleKey {
    /// Source address.
    pub source: Words,
    /// Destination address.
    pub destination: Words,
    /// Source port, destination port: four bytes in wire order.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u32,
}

impl TupleKey {
    /// The tuple of the packets that go the other way.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: self.ports.rotate_left(16),
            protocol: self.protocol,
        }
    }

    /// Source port, in the host's byte order.
    #[inline(always)]
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        let [high, low, _, _] = self.ports.to_ne_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Destination port, in the host's byte order.
    #[inline(always)]
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        let [_, _, high, low] = self.ports.to_ne_bytes();
        u16::from_be_bytes([high, low])
    }

    /// What `select::hash` is of the tuple.
    #[inline(always)]
    #[must_use]
    pub const fn hash(&self) -> u64 {
        let (source_port, destination_port) = (self.source_port(), self.destination_port());
        select::hash_words(self.source, self.destination, source_port, destination_port, self.protocol as u8)
    }

    /// What `select::slot_hash` is of the tuple.
    #[inline(always)]
    #[must_use]
    pub const fn slot_hash(&self, affinity: Affinity) -> u64 {
        select::slot_hash_words(self.hash(), self.source, affinity)
    }

    /// Whether it is of IPv6: its addresses are not mapped ones.
    #[inline(always)]
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        !is_v4(&self.destination)
    }
}

/// Whether an address is an IPv4 one, mapped.
#[inline(always)]
#[must_use]
pub const fn is_v4(address: &Words) -> bool {
    address[0] == 0 && address[1] as u32 == MAPPED
}

/// Bytes 8 to 11 of a mapped address, as the lower half of its second word.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// An IPv4 address, its four bytes in wire order, mapped.
#[inline(always)]
#[must_use]
pub const fn mapped_words(v4: u32) -> Words {
    [0, MAPPED as u64 | ((v4 as u64) << 32)]
}

/// The four bytes of a mapped address, in wire order.
#[inline(always)]
#[must_use]
pub const fn v4(address: &Words) -> u32 {
    (address[1] >> 32) as u32
}

const _: () =
    assert!(cfg!(target_endian = "little"), "the halves of a word change places on a big-endian machine");

/// An address as words.
#[must_use]
pub const fn words(address: &Address) -> Words {
    let a = address;
    [
        u64::from_ne_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]),
        u64::from_ne_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]),
    ]
}

/// An address as bytes.
#[must_use]
pub const fn bytes(words: &Words) -> Address {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
        (words[0].to_ne_bytes(), words[1].to_ne_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

impl From<&Tuple> for TupleKey {
    fn from(tuple: &Tuple) -> Self {
        let ([a, b], [c, d]) = (tuple.source_port.to_be_bytes(), tuple.destination_port.to_be_bytes());
        Self {
            source: words(&tuple.source),
            destination: words(&tuple.destination),
            ports: u32::from_ne_bytes([a, b, c, d]),
            protocol: tuple.protocol.into(),
        }
    }
}

impl From<&TupleKey> for Tuple {
    fn from(key: &TupleKey) -> Self {
        Self {
            source: bytes(&key.source),
            destination: bytes(&key.destination),
            source_port: key.source_port(),
            destination_port: key.destination_port(),
            protocol: key.protocol as u8,
        }
    }
}

/// Which half of a flow a tuple is, and of which flow: value of `TUPLES`, one word.
/// Bits 0–30: index in `FLOWS`; 31: set for the backend's packets; 32–63: the flow's generation. A tuple whose
/// generation is not the flow's is a left-over of an earlier flow in the same place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfRef(pub u64);

impl HalfRef {
    /// The half of a flow.
    #[inline(always)]
    #[must_use]
    pub const fn new(index: u32, reply: bool, generation: u32) -> Self {
        Self(index as u64 | ((reply as u64) << 31) | ((generation as u64) << 32))
    }
    /// Index in `FLOWS`.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 as u32 & 0x7fff_ffff
    }
    /// Whether these are the backend's packets.
    #[inline(always)]
    #[must_use]
    pub const fn is_reply(self) -> bool {
        self.0 & (1 << 31) != 0
    }
    /// The flow's generation.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The packets of a flow in one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Half {
    /// Their tuple as they arrive. They leave with the reverse of the other half's.
    pub key: TupleKey,
    /// The neighbour that they are handed to; zero: the kernel looks the route up.
    pub next_hop: Words,
    /// The interface that they leave by.
    pub interface: u32,
    /// The largest IP packet there, in bytes.
    pub mtu: u32,
    /// What `rewrite::addresses` says of the change.
    pub addresses: u32,
    /// What `rewrite::ports` says of the change.
    pub ports: u32,
}

/// The number of [`Flow`]'s layout: another one whenever a field moves, comes or goes. The agent moves the flows of a layout
/// before (`dataplane::forward::layout`).
pub const LAYOUT: u32 = if cfg!(feature = "other-layout") { u32::MAX } else { 1 };

/// A flow: value of `FLOWS`, and, when it is over, record of `EVENTS`. Everything that its packets need is in it, so that
/// the end of a backend, a service or a binding changes nothing for it. What each packet and the sweep look at comes first:
/// one line of the cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Flow {
    /// Moves what comes after it.
    #[cfg(feature = "other-layout")]
    pub first: [u64; 2],
    /// Bits 0–31: what has been seen of it (`life`), 0 if nobody has this place; 32–63: generation, another one for each
    /// flow. One word, so that both change together.
    pub life: u64,
    /// When its last packet came: nanoseconds of CLOCK_MONOTONIC.
    pub seen: u64,
    /// Seconds without a packet after which it is over, once it is established.
    pub idle: u32,
    /// Its entry of `OPENING`, while it is half open.
    pub ring: u32,
    /// Packets by direction: the client's, the backend's. Of a packet that the kernel put together (GRO), its segments.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction, likewise.
    pub bytes: [u64; 2],
    /// Id of the backend.
    pub backend: u32,
    /// How many backends were tried before this one and did not answer.
    pub tries: u32,
    /// The client's packets.
    pub client: Half,
    /// The backend's packets.
    pub reply: Half,
    /// Moves what comes after it, further.
    #[cfg(feature = "other-layout")]
    pub second: u64,
    /// Id of the binding.
    pub binding: u32,
    /// Id of the service.
    pub service: u32,
    /// When its first packet came, nanoseconds of CLOCK_MONOTONIC.
    pub begun: u64,
    /// When its place was given up, likewise; 0 while it lives.
    pub ended: u64,
    /// For the sequence numbers, timestamps and windows of a spliced connection. Zero.
    pub reserved: [u64; 7],
}

/// What flows with one binding and backend carried, and how they ended: key of `TRAFFIC`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct TrafficKey {
    /// Id of the binding.
    pub binding: u32,
    /// Id of the service.
    pub service: u32,
    /// Id of the backend.
    pub backend: u32,
    /// Always zero: part of the hashed key.
    pub pad: u32,
}

/// Value of `TRAFFIC`, one for each CPU. What living flows carried is in `FLOWS` and not in here yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Traffic {
    /// Flows that began.
    pub begun: u64,
    /// Flows whose place was given up: what they carried is counted below.
    pub ended: u64,
    /// Of those, the ones that the backend never answered.
    pub unanswered: u64,
    /// Packets by direction: the client's, the backend's.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction.
    pub bytes: [u64; 2],
}

/// Of a datagram in fragments: key of `FRAGMENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct FragmentKey {
    /// Source address.
    pub source: Words,
    /// Destination address.
    pub destination: Words,
    /// Identification, its bytes in wire order.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u32,
}

/// Entries of `CURSORS`: words that only rise, each taken by an atomic addition.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Entries of `FLOWS` that were ever used: the next one that is new.
    Fresh = 0,
    /// Places of `OPENING` that were ever used: the next one, modulo its capacity.
    Opening = 1,
    /// Where the hand is that looks for flows that are over, modulo the capacity of `FLOWS`.
    Hand = 2,
}

/// Number of entries of `CURSORS`.
pub const CURSOR_ENTRIES: u32 = Cursor::Hand as u32 + 1;

/// Entries of `PROGRAMS`: what a stub or another program goes on with.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Every packet: those of a known flow are translated and sent on.
    Packet = 0,
    /// A packet that may open a flow.
    Open = 1,
    /// ICMP: errors that quote a flow.
    Icmp = 2,
    /// A packet that gets an ICMP error for an answer.
    Answer = 3,
    /// A fragment that is not the first.
    Fragment = 4,
    /// A packet of a TCP connection that the configuration ended: both sides get a reset.
    Reset = 5,
}

impl Slot {
    /// Every slot, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::Packet, Self::Open, Self::Icmp, Self::Answer, Self::Fragment, Self::Reset];
}

/// Number of entries of `PROGRAMS`.
pub const PROGRAM_ENTRIES: u32 = 8;

/// What a program did with a packet: it writes this into word [`MARK_DECISION`] of the packet's control block, where a
/// test run finds it (a run shows every redirect alike).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// None yet.
    None = 0,
    /// Not ours: the next program, then the host.
    Next = 1,
    /// Translated and sent on; the interface is in word [`MARK_INTERFACE`].
    Forwarded = 2,
    /// Dropped.
    Dropped = 3,
    /// Answered with an ICMP error.
    Answered = 4,
    /// Turned into a reset for its receiver, and one for its sender.
    Reset = 5,
}

/// Word of the control block (`__sk_buff.cb`) that holds, in bits 0–3, where the IP header begins: 14, or 0 without Ethernet
/// header.
pub const MARK_L3: usize = 0;
/// Word that holds a [`Decision`].
pub const MARK_DECISION: usize = 1;
/// Word that holds the [`Reason`], plus one; 0 for none.
pub const MARK_REASON: usize = 2;
/// Word that holds the interface that the packet leaves by; for an ICMP answer about its size, the MTU.
pub const MARK_INTERFACE: usize = 3;

/// Whether a protocol is one that is forwarded.
#[inline(always)]
#[must_use]
pub const fn is_forwarded(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP)
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<TupleKey>() == 40 && offset_of!(TupleKey, ports) == 32);
    assert!(size_of::<Half>() == 72 && offset_of!(Half, next_hop) == 40 && offset_of!(Half, interface) == 56);
    let (first, second) = if cfg!(feature = "other-layout") { (16, 24) } else { (0, 0) };
    assert!(size_of::<Flow>() == 288 + second && offset_of!(Flow, client) == 64 + first);
    assert!(offset_of!(Flow, binding) == 208 + second && offset_of!(Flow, packets) == 24 + first);
    assert!(size_of::<TrafficKey>() == 16 && size_of::<Traffic>() == 56);
    assert!(size_of::<FragmentKey>() == 40);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::mapped;

    #[test]
    fn a_tuple_becomes_words_and_comes_back() {
        for (source, destination) in
            [(mapped([10, 0, 0, 1]), mapped([192, 0, 2, 7])), ([1; 16], *b"\x20\x01\x0d\xb8abcdefghijkl")]
        {
            let tuple =
                Tuple { source, destination, source_port: 0x1234, destination_port: 80, protocol: TCP };
            let key = TupleKey::from(&tuple);
            assert_eq!(Tuple::from(&key), tuple);
            assert_eq!(key.hash(), select::hash(&tuple));
            for affinity in [Affinity::None, Affinity::ClientIp] {
                assert_eq!(key.slot_hash(affinity), select::slot_hash(&tuple, affinity));
            }
            assert_eq!((key.source_port(), key.destination_port()), (0x1234, 80));
            let back = key.reverse();
            assert_eq!((back.source, back.destination), (key.destination, key.source));
            assert_eq!((back.source_port(), back.destination_port()), (80, 0x1234));
            assert_eq!(back.reverse(), key);
            assert_eq!(key.is_v6(), source == [1; 16]);
        }
        let v4_words = mapped_words(u32::from_ne_bytes([10, 0, 0, 1]));
        assert_eq!(v4_words, words(&mapped([10, 0, 0, 1])));
        assert_eq!(v4(&v4_words).to_ne_bytes(), [10, 0, 0, 1]);
        assert!(is_v4(&v4_words) && !is_v4(&[0, 0]) && !is_v4(&[1, v4_words[1]]));
    }

    #[test]
    fn a_half_is_found_again() {
        for (index, reply, generation) in [(0, false, 1), (7, true, u32::MAX), (0x7fff_ffff, true, 0)] {
            let half = HalfRef::new(index, reply, generation);
            assert_eq!((half.index(), half.is_reply(), half.generation()), (index, reply, generation));
        }
    }
}
