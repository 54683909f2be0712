//! A packet of a flow that cannot go on becomes the ICMP error that tells its sender so: too big for the next link, or at
//! the end of its time to live. (The kernel would not: what is redirected passes none of the code that does.)
//!
//! Owns these errors, and how many there may be. IPv4 packets that may be fragmented are answered as those that may not:
//! nothing is fragmented here.
//!
//! The source of an error is the address that the packet was sent to: the one that its sender is sure to know, and the
//! one that an error about the path to it may have. It goes back to the neighbour that the packet came from.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_redirect, bpf_skb_adjust_room};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::UDP;
use gateway_ebpf::flow::{Decision, Reason, TupleKey};
use gateway_ebpf::life::SECOND;
use gateway_ebpf::rewrite;

use crate::compose::{header4, header6};
use crate::context::{blame, decide, discard, is_for_host, l3, pass, skb};
use crate::cut::{arrival, cut, is_partial, trim, turn_around};
use crate::maps::{SCRATCH, Scratch};
use crate::packet::{find, halves, now};
use crate::parse::{ICMP, ICMP6, Kind, Packet, V4, V6, parsed, read};
use crate::translate::{TCP_CHECKSUM, UDP_CHECKSUM, write};

/// Errors a second, on each CPU: what Linux allows by default (`icmp_msgs_per_sec`).
const RATE: u32 = 1_000;
/// What an IPv4 error quotes at most: with its headers it is as long as every host must accept (RFC 1812, 4.3.2.3).
const QUOTE4: u32 = 576 - 28;
/// The same for IPv6 (RFC 4443, 2.4(c)).
const QUOTE6: u32 = 1280 - 48;
/// Bytes that are summed at a time.
const BLOCK: u32 = 128;

/// The entry of `Slot::Answer`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_answer(ctx: TcContext) -> i32 {
    let Some(scratch) = parsed(&ctx, Kind::Transport) else { return pass(&ctx) };
    let packet = &scratch.packet;
    let Some((half, flow, _)) = find(&packet.key) else { return pass(&ctx) };
    let (half, _) = halves(flow, half.is_reply());
    // SAFETY: a place within a map's value; the field does not change while the flow lives.
    let mtu = unsafe { (*half).mtu };
    let (reason, mtu) = if packet.ttl <= 1 { (Reason::TimeExceeded, 0) } else { (Reason::TooBig, mtu) };
    if !is_for_host(&ctx) || !may_answer(scratch) {
        return discard(&ctx, reason);
    }
    let answered = quote(skb(&ctx))
        && if scratch.packet.v6 { head6(skb(&ctx), mtu) } else { head4(skb(&ctx), mtu) }
        && (l3(&ctx) == 0 || turn_around(&ctx));
    if !answered {
        return discard(&ctx, reason);
    }
    blame(&ctx, reason);
    decide(&ctx, Decision::Answered, mtu);
    // SAFETY: no memory is involved.
    unsafe { bpf_redirect(arrival(&ctx), 0) as i32 }
}

/// Whether this CPU may send one more.
#[inline(always)]
fn may_answer(scratch: &mut Scratch) -> bool {
    let second = (now() / SECOND) as u32;
    if scratch.second != second {
        scratch.second = second;
        scratch.answers = 0;
    }
    scratch.answers += 1;
    scratch.answers <= RATE
}

/// Cuts the packet to what is quoted of it. `Scratch::sum` is the sum over it, and `Scratch::length` its length.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn quote(skb: *mut __sk_buff) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own value, which its caller does not use meanwhile.
    let scratch = unsafe { &mut *scratch };
    let ctx = &TcContext::new(skb);
    let packet = &scratch.packet;
    let start = l3(ctx);
    let limit = if packet.v6 { QUOTE6 } else { QUOTE4 };
    let length = if packet.length < limit { packet.length } else { limit };
    let header = packet.l4.wrapping_sub(start);
    if length < header.wrapping_add(8) {
        return false;
    }
    let udp = packet.key.protocol == u32::from(UDP);
    let at = packet.l4 + if udp { UDP_CHECKSUM } else { TCP_CHECKSUM };
    let partial = is_partial(skb, at);
    let blocks = length.div_ceil(BLOCK);
    // The last block is full, and one byte more, since something must be appended.
    if !cut(skb, start + length, blocks * BLOCK + 1 - length) {
        return false;
    }
    scratch.length = length;
    scratch.sum = if partial { partial_sum(ctx, packet, start, at) } else { sum(skb, start, blocks) };
    trim(ctx, start + length)
}

/// The sum over some blocks of a packet.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn sum(skb: *mut __sk_buff, start: u32, blocks: u32) -> u32 {
    let ctx = &TcContext::new(skb);
    let mut sum = 0;
    for block in 0..QUOTE6.div_ceil(BLOCK) {
        if block >= blocks {
            break;
        }
        let Some(mut words) = read::<[u32; BLOCK as usize / 4]>(ctx, start + block * BLOCK) else { break };
        // SAFETY: the helper reads the words, as many as it is told.
        sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, words.as_mut_ptr(), BLOCK, sum) } as u32;
    }
    sum
}

/// The sum over a quoted packet once its transport checksum is complete: from there on it is the complement of what its
/// place holds now, whatever follows. The IPv4 header sums up to nothing.
#[inline(always)]
fn partial_sum(ctx: &TcContext, packet: &Packet, start: u32, at: u32) -> u32 {
    let seed = !u32::from(read::<u16>(ctx, at).unwrap_or(0));
    if !packet.v6 {
        return seed;
    }
    let header = read::<[u32; 10]>(ctx, start).unwrap_or_default();
    header.iter().fold(seed, |sum, word| rewrite::add(sum, *word))
}

/// What stands before the quote in an IPv4 error.
#[repr(C)]
struct Head4 {
    ip: V4,
    icmp: Icmp,
}

/// The same for IPv6.
#[repr(C)]
struct Head6 {
    ip: V6,
    icmp: Icmp,
}

/// The header of an ICMP error.
#[repr(C)]
struct Icmp {
    type_code: u16,
    checksum: u16,
    rest: u32,
}

impl Icmp {
    /// `sum`: over everything else that the checksum covers.
    #[inline(always)]
    fn new(kind: u8, code: u8, rest: u32, sum: u32) -> Self {
        let type_code = u16::from_ne_bytes([kind, code]);
        let checksum = !rewrite::fold(rewrite::add(rewrite::add(sum, type_code.into()), rest));
        Self { type_code, checksum, rest }
    }
}

/// Room for what stands before the quote.
#[inline(always)]
fn make_room<T>(ctx: &TcContext, head: &T) -> bool {
    let length = size_of::<T>() as i32;
    // SAFETY: no memory but the packet's.
    unsafe { bpf_skb_adjust_room(skb(ctx), length, BPF_ADJ_ROOM_MAC, 0) == 0 && write(ctx, l3(ctx), head) }
}

/// What the heads are made of: the packet's tuple, the length of the quote, the sum over it.
#[inline(always)]
fn parts() -> Option<(&'static TupleKey, u32, u32)> {
    // SAFETY: this CPU's own value, which nobody changes meanwhile.
    let scratch = unsafe { &*SCRATCH.get_ptr(0)? };
    Some((&scratch.packet.key, scratch.length, scratch.sum))
}

/// Puts the headers of an IPv4 error before the quote: for no MTU, that of a time to live that is over.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn head4(skb: *mut __sk_buff, mtu: u32) -> bool {
    let ctx = &TcContext::new(skb);
    let Some((key, length, sum)) = parts() else { return false };
    let icmp = if mtu == 0 {
        Icmp::new(11, 0, 0, sum)
    } else {
        // The second half of four bytes (RFC 1191, 4).
        Icmp::new(3, 4, (if mtu < 0xffff { mtu } else { 0xffff }).to_be(), sum)
    };
    make_room(ctx, &Head4 { ip: header4(&key.destination, &key.source, ICMP, 8 + length), icmp })
}

/// The same for IPv6.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn head6(skb: *mut __sk_buff, mtu: u32) -> bool {
    let ctx = &TcContext::new(skb);
    let Some((key, length, sum)) = parts() else { return false };
    let sum = rewrite::add(sum, rewrite::pseudo(&key.source, &key.destination, ICMP6, 8 + length));
    let icmp = if mtu == 0 { Icmp::new(3, 0, 0, sum) } else { Icmp::new(2, 0, mtu.to_be(), sum) };
    make_room(ctx, &Head6 { ip: header6(&key.destination, &key.source, ICMP6, 8 + length), icmp })
}
