//! A packet that becomes another one: cut to length, and freed of what the kernel knows of its checksum.
//!
//! Owns what must be done before a packet is written anew. Must not know what it becomes.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_change_tail, bpf_skb_pull_data};
use aya_ebpf::programs::TcContext;

use crate::context::{field, skb};
use crate::parse::read;
use crate::translate::write;

/// Cuts a packet to `length` bytes and appends `zeros` (at least one) bytes of zero. It no longer is one that the kernel
/// put together, and no sum over it is known any more. False: it could not be done, and the packet is of no more use.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cut(skb: *mut __sk_buff, length: u32, zeros: u32) -> bool {
    // SAFETY: no memory but the packet's, here and below. The helper fails where a packet would end before the place for
    // a checksum that is still to be computed.
    unsafe {
        bpf_skb_change_tail(skb, length, 0) == 0
            && bpf_skb_pull_data(skb, length) == 0
            // A packet that grows loses its sum.
            && bpf_skb_change_tail(skb, length + zeros, 0) == 0
    }
}

/// Cuts off again what was appended.
#[inline(always)]
pub(crate) fn trim(ctx: &TcContext, length: u32) -> bool {
    // SAFETY: no memory but the packet's.
    unsafe { bpf_skb_change_tail(skb(ctx), length, 0) == 0 }
}

/// Whether the transport checksum at `offset` is one of the pseudo header only: whoever puts the packet onto a wire
/// completes it, by a sum from the transport header to the packet's end. The kernel tells in one way alone: of such a
/// checksum it does not change what a change of the packet's contents would.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn is_partial(skb: *mut __sk_buff, offset: u32) -> bool {
    let ctx = &TcContext::new(skb);
    let Some(before) = read::<u16>(ctx, offset) else { return false };
    // SAFETY: no memory but the packet's.
    let failed = unsafe { bpf_l4_csum_replace(skb, offset, 0, 1, 0) } != 0;
    let Some(after) = read::<u16>(ctx, offset) else { return false };
    write(ctx, offset, &before) && !failed && before == after
}

/// Exchanges the link addresses: back to whoever sent it.
#[inline(always)]
pub(crate) fn turn_around(ctx: &TcContext) -> bool {
    let Some([a, b, c, d, e, f]) = read::<[u16; 6]>(ctx, 0) else { return false };
    write(ctx, 0, &[d, e, f, a, b, c])
}

/// The interface that the packet came in by.
#[inline(always)]
pub(crate) fn arrival(ctx: &TcContext) -> u32 {
    field!(ctx, ifindex)
}
