//! Fragments that are not the first of their datagram: they go where the first went, by what identifies the datagram.
//!
//! Owns `FRAGMENTS`. Only addresses are changed: the ports are in the first fragment alone, whose checksum, changed
//! there, is that of the datagram.
//!
//! What follows from that, and is as it is with any translation that does not put datagrams together: a fragment that
//! overtakes its first one is the host's and is lost with its datagram, and so is one of two datagrams that two clients
//! send at the same moment, with the same identification, to the same endpoint behind the same address of this node.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::flow::{FragmentKey, HalfRef, Reason};
use gateway_ebpf::life::WITHDRAWN;

use crate::atomic;
use crate::context::{discard, pass};
use crate::maps::FRAGMENTS;
use crate::packet::{carry, halves, living, now};
use crate::parse::{Kind, Packet, parsed};
use crate::translate::translate_later;

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.key.source,
        destination: packet.key.destination,
        id: packet.id,
        protocol: packet.key.protocol,
    }
}

/// Others follow this first fragment.
#[inline(always)]
pub(crate) fn expect(packet: &Packet, half: HalfRef) {
    // Without it they are lost, as they are on their way now and then.
    let _room = FRAGMENTS.insert(key(packet), half.0, BPF_ANY.into());
}

/// The entry of `Slot::Fragment`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_fragment(ctx: TcContext) -> i32 {
    let Some(scratch) = parsed(&ctx, Kind::Later) else { return pass(&ctx) };
    let packet = &scratch.packet;
    // SAFETY: the word is copied at once.
    let Some(half) = unsafe { FRAGMENTS.get(key(packet)) }.map(|half| HalfRef(*half)) else {
        return pass(&ctx);
    };
    let Some((flow, life)) = living(half) else { return pass(&ctx) };
    if life as u32 & WITHDRAWN != 0 {
        return discard(&ctx, Reason::Withdrawn);
    }
    let reply = half.is_reply();
    let (half, other) = halves(flow, reply);
    // Nobody is told: an ICMP error is about a first fragment or none (RFC 1122, 3.2.2).
    if packet.ttl <= 1 {
        return discard(&ctx, Reason::TimeExceeded);
    }
    // SAFETY: a place within a map's value; the field does not change while the flow lives.
    if packet.length > unsafe { (*half).mtu } {
        return discard(&ctx, Reason::TooBig);
    }
    // SAFETY: as above.
    atomic::store(unsafe { &raw mut (*flow).seen }, now());
    carry(flow, reply, 1, packet.length);
    translate_later(&ctx, packet, half, other)
}
