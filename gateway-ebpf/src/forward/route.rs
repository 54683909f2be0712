//! The way to an address: interface, neighbour and MTU.
//!
//! Owns what the kernel's routing table is asked.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_check_mtu, bpf_fib_lookup};
use aya_ebpf::programs::TcContext;
use gateway_ebpf::flow::{TupleKey, Words, mapped_words, v4};

use crate::context::{field, skb};

/// `AF_INET`.
const AF_INET: u8 = 2;
/// `AF_INET6`.
const AF_INET6: u8 = 10;
/// The way is known, the neighbour's link address too.
const SUCCESS: i64 = 0;
/// This interface does not forward.
const FORWARDING_DISABLED: i64 = 5;
/// The way is known, the neighbour's link address not yet, and then the kernel does not tell the MTU.
const NO_NEIGHBOUR: i64 = 7;
/// Do not ask for the neighbour's link address (since Linux 6.3; before, the flag is refused).
const SKIP_NEIGHBOUR: u32 = 1 << 2;

/// A way.
#[repr(C)]
pub(crate) struct Way {
    pub(crate) interface: u32,
    pub(crate) mtu: u32,
    /// Zero: the kernel looks it up for each packet.
    pub(crate) next_hop: Words,
}

/// `struct bpf_fib_lookup`.
#[repr(C)]
struct Lookup {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    /// In: length of the packet. Out: the route's MTU.
    length: u16,
    interface: u32,
    tos: u32,
    source: [u32; 4],
    destination: [u32; 4],
    rest: [u32; 4],
}

#[inline(always)]
fn halves(address: &Words) -> [u32; 4] {
    let [a, b] = [address[0], address[1]];
    [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
}

/// The way for the answers to a packet that has just come in, from its destination to its source. Where the interface
/// does not forward, which is the rule on a plain host and which nobody changes for us, it is the one back.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn way_back(skb: *mut __sk_buff, packet: *const TupleKey, way: *mut Way) -> bool {
    // SAFETY: pointers that are not null are to what they say, to the verifier's knowledge too.
    let (Some(packet), Some(way)) = (unsafe { (packet.as_ref(), way.as_mut()) }) else { return false };
    let found = back(&TcContext::new(skb), packet.is_v6(), &packet.destination, &packet.source);
    let there = found.is_some();
    if let Some(found) = found {
        *way = found;
    }
    there
}

#[inline(always)]
fn back(ctx: &TcContext, v6: bool, source: &Words, destination: &Words) -> Option<Way> {
    let arrival = field!(ctx, ingress_ifindex);
    let arrival = if arrival == 0 { field!(ctx, ifindex) } else { arrival };
    let mut lookup = Lookup {
        family: if v6 { AF_INET6 } else { AF_INET },
        protocol: 0,
        ports: [0; 2],
        // Any that fits: with none, no MTU is told.
        length: 1,
        interface: arrival,
        tos: 0,
        source: if v6 { halves(source) } else { [v4(source), 0, 0, 0] },
        destination: if v6 { halves(destination) } else { [v4(destination), 0, 0, 0] },
        rest: [0; 4],
    };
    let mut found = ask(ctx, &mut lookup, SKIP_NEIGHBOUR);
    if found < 0 {
        found = ask(ctx, &mut lookup, 0);
    }
    if found == NO_NEIGHBOUR {
        lookup.length = device_mtu(ctx, lookup.interface) as u16;
    }
    match found {
        SUCCESS | NO_NEIGHBOUR => {
            let [a, b, c, d] = lookup.destination;
            let next_hop = if v6 {
                [u64::from(a) | (u64::from(b) << 32), u64::from(c) | (u64::from(d) << 32)]
            } else {
                mapped_words(a)
            };
            // A route to a gateway of the other family (RFC 5549): the kernel knows.
            let next_hop =
                if lookup.family == (if v6 { AF_INET6 } else { AF_INET }) { next_hop } else { [0; 2] };
            Some(Way { interface: lookup.interface, mtu: lookup.length.into(), next_hop })
        }
        FORWARDING_DISABLED => {
            Some(Way { interface: arrival, mtu: device_mtu(ctx, arrival), next_hop: [0; 2] })
        }
        _ => None,
    }
}

#[inline(always)]
fn ask(ctx: &TcContext, lookup: &mut Lookup, flags: u32) -> i64 {
    let lookup: *mut Lookup = lookup;
    // SAFETY: the helper reads and writes the value, which is as long as it says.
    unsafe { bpf_fib_lookup(skb(ctx).cast(), lookup.cast(), size_of::<Lookup>() as i32, flags) }
}

#[inline(always)]
fn device_mtu(ctx: &TcContext, interface: u32) -> u32 {
    let mut mtu = 0u32;
    // SAFETY: the helper reads and writes the word.
    unsafe { bpf_check_mtu(skb(ctx).cast(), interface, &raw mut mtu, 0, 0) };
    mtu
}

const _: () = assert!(size_of::<Lookup>() == 64 && core::mem::offset_of!(Lookup, source) == 16);
