//! A packet of a TCP connection that the configuration ended: its receiver gets a reset in its place, and its sender
//! another one.
//!
//! Owns these resets. Each has the sequence number that its receiver expects next, if nothing else is on its way; if
//! something is, the receiver asks (RFC 5961, 3.2), and what it asks with is a packet of the flow again.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_REDIRECT};
use aya_ebpf::helpers::generated::bpf_clone_redirect;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::TCP;
use gateway_ebpf::flow::{Decision, Reason, TupleKey};
use gateway_ebpf::life::{ACK, RST, TOLD, WITHDRAWN};
use gateway_ebpf::rewrite;

use crate::atomic;
use crate::compose::{header4, header6};
use crate::context::{blame, decide, discard, is_for_host, l3, pass, skb};
use crate::cut::{arrival, cut, is_partial, trim, turn_around};
use crate::packet::{find, halves, now};
use crate::parse::{Kind, Packet, parsed, read};
use crate::translate::{TCP_CHECKSUM, send, write};

/// Length of a TCP header without options.
const HEADER: u32 = 20;

/// A TCP header without options (RFC 9293, 3.1), every field as it lies there.
#[repr(C)]
struct Tcp {
    ports: u32,
    sequence: u32,
    acknowledgement: u32,
    offset_flags: u16,
    window: u16,
    checksum: u16,
    urgent: u16,
}

/// A reset, integers in wire order.
#[repr(C)]
pub(crate) struct Reset {
    /// Its tuple.
    key: TupleKey,
    sequence: u32,
    acknowledgement: u32,
    flags: u32,
    /// Whether its checksum is completed by whoever sends it.
    partial: u32,
}

/// The entry of `Slot::Reset`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_reset(ctx: TcContext) -> i32 {
    let Some(scratch) = parsed(&ctx, Kind::Transport) else { return pass(&ctx) };
    let (packet, reset) = (&scratch.packet, &mut scratch.reset);
    let Some((half, flow, life)) = find(&packet.key) else { return pass(&ctx) };
    // A packet with IP options or in fragments is not written anew.
    let plain = packet.l4.wrapping_sub(l3(&ctx)) == if packet.v6 { 40 } else { 20 } && !packet.first;
    if life as u32 & WITHDRAWN == 0 || !plain || !is_for_host(&ctx) || !prepare(&ctx, packet, reset) {
        return discard(&ctx, Reason::Withdrawn);
    }
    let flags = u32::from(packet.flags);
    // Never a reset for a reset; and what has no ACK is a SYN, which opens another flow.
    if flags & u32::from(ACK | RST) == u32::from(ACK) {
        let (sequence, acknowledgement) = (reset.sequence, reset.acknowledgement);
        reset.key = packet.key.reverse();
        (reset.sequence, reset.acknowledgement, reset.flags) = (acknowledgement, 0, RST.into());
        if write_reset(skb(&ctx), reset) && (l3(&ctx) == 0 || turn_around(&ctx)) {
            // SAFETY: no memory but the packet's.
            let _sent = unsafe { bpf_clone_redirect(skb(&ctx), arrival(&ctx), 0) };
        }
        (reset.sequence, reset.acknowledgement) = (sequence, acknowledgement);
    }
    let (half, other) = halves(flow, half.is_reply());
    // SAFETY: places within a map's value, whose fields do not change while the flow lives.
    let (half, other) = unsafe { (&*half, &*other) };
    reset.key = other.key.reverse();
    reset.flags = flags & u32::from(ACK) | u32::from(RST);
    if !write_reset(skb(&ctx), reset) {
        return discard(&ctx, Reason::Withdrawn);
    }
    // SAFETY: places within a map's value.
    let (life, seen) = unsafe { (&raw mut (*flow).life, &raw mut (*flow).seen) };
    atomic::set(life, TOLD.into());
    atomic::store(seen, now());
    blame(&ctx, Reason::Withdrawn);
    let verdict = send(&ctx, packet.v6, half.interface, &half.next_hop);
    if verdict == TC_ACT_REDIRECT {
        decide(&ctx, Decision::Reset, half.interface);
    }
    verdict
}

/// Takes from the packet what its resets need, and cuts it to its headers.
#[inline(always)]
fn prepare(ctx: &TcContext, packet: &Packet, reset: &mut Reset) -> bool {
    let Some([_, sequence, acknowledgement]) = read::<[u32; 3]>(ctx, packet.l4) else { return false };
    (reset.sequence, reset.acknowledgement) = (sequence, acknowledgement);
    reset.partial = is_partial(skb(ctx), packet.l4 + TCP_CHECKSUM).into();
    let length = packet.l4 + HEADER;
    cut(skb(ctx), length, 1) && trim(ctx, length)
}

/// Writes a reset over the packet, which is as long.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn write_reset(skb: *mut __sk_buff, reset: *const Reset) -> bool {
    // SAFETY: a pointer that is not null is to a reset, to the verifier's knowledge too.
    let Some(reset) = (unsafe { reset.as_ref() }) else { return false };
    let ctx = &TcContext::new(skb);
    let start = l3(ctx);
    let key = &reset.key;
    let acknowledgement = if reset.flags & u32::from(ACK) == 0 { 0 } else { reset.acknowledgement };
    // Five words long.
    let offset_flags = u16::from_ne_bytes([5 << 4, reset.flags as u8]);
    let pseudo = rewrite::pseudo(&key.source, &key.destination, TCP, HEADER);
    let checksum = if reset.partial == 0 {
        [key.ports, reset.sequence, acknowledgement, offset_flags.into()]
            .iter()
            .fold(pseudo, |sum, word| rewrite::add(sum, *word))
    } else {
        // It is completed by the sum of what follows.
        !u32::from(rewrite::fold(pseudo))
    };
    let tcp = Tcp {
        ports: key.ports,
        sequence: reset.sequence,
        acknowledgement,
        offset_flags,
        window: 0,
        checksum: !rewrite::fold(checksum),
        urgent: 0,
    };
    if key.is_v6() {
        write(ctx, start, &header6(&key.source, &key.destination, TCP, HEADER))
            && write(ctx, start + 40, &tcp)
    } else {
        write(ctx, start, &header4(&key.source, &key.destination, TCP, HEADER))
            && write(ctx, start + 20, &tcp)
    }
}
