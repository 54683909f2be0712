//! Whether a socket of this host has a connection.
//!
//! Owns the question. The kernel has no answer without looking for listeners too, and for that it runs our own
//! `sk_lookup` program, which is told to keep out of it.

use aya_ebpf::bindings::{__sk_buff, BPF_F_CURRENT_NETNS};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::TCP;
use gateway_ebpf::flow::{TupleKey, v4};

use crate::context::skb;
use crate::shared::PROBING;

/// There is none.
const NONE: u32 = 0;
/// `TCP_TIME_WAIT`: whoever opens anew may have the tuple.
const TIME_WAIT: u32 = 6;
/// `TCP_CLOSE`: also a UDP socket that is not connected.
const CLOSE: u32 = 7;
/// `TCP_LISTEN`.
const LISTEN: u32 = 10;

/// `struct bpf_sock_tuple`, IPv6's part; IPv4's is the first twelve bytes of the other layout.
#[repr(C)]
struct Tuple6 {
    source: [u32; 4],
    destination: [u32; 4],
    ports: u32,
}

/// IPv4's part.
#[repr(C)]
struct Tuple4 {
    source: u32,
    destination: u32,
    ports: u32,
}

#[inline(always)]
fn words(address: &[u64; 2]) -> [u32; 4] {
    [address[0] as u32, (address[0] >> 32) as u32, address[1] as u32, (address[1] >> 32) as u32]
}

/// Whether a socket that is not just listening would get a packet with this tuple.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn has_connection(skb: *mut __sk_buff, key: *const TupleKey) -> bool {
    // SAFETY: a pointer that is not null is to a tuple, to the verifier's knowledge too.
    let Some(key) = (unsafe { key.as_ref() }) else { return false };
    let ctx = &TcContext::new(skb);
    let v6 = key.is_v6();
    let mut tuple6;
    let mut tuple4;
    let (tuple, size): (*mut core::ffi::c_void, u32) = if v6 {
        tuple6 =
            Tuple6 { source: words(&key.source), destination: words(&key.destination), ports: key.ports };
        ((&raw mut tuple6).cast(), size_of::<Tuple6>() as u32)
    } else {
        tuple4 = Tuple4 { source: v4(&key.source), destination: v4(&key.destination), ports: key.ports };
        ((&raw mut tuple4).cast(), size_of::<Tuple4>() as u32)
    };
    let Some(probing) = PROBING.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own word.
    unsafe { probing.write_volatile(1) };
    let state = if key.protocol == u32::from(TCP) { tcp(ctx, tuple, size) } else { udp(ctx, tuple, size) };
    // SAFETY: this CPU's own word.
    unsafe { probing.write_volatile(0) };
    !matches!(state, NONE | TIME_WAIT | CLOSE | LISTEN)
}

/// The state of the socket that a lookup finds. Two functions, since what the two lookups find are different types to
/// the verifier, and the compiler would read both by one instruction.
macro_rules! state {
    ($name:ident, $lookup:ident) => {
        #[inline(never)]
        fn $name(ctx: &TcContext, tuple: *mut core::ffi::c_void, size: u32) -> u32 {
            let namespace = BPF_F_CURRENT_NETNS as i32 as i64 as u64;
            // SAFETY: the tuple is as long as it says; the verifier holds that what is found is let go of.
            let found = unsafe { $lookup(skb(ctx).cast(), tuple.cast(), size, namespace, 0) };
            if found.is_null() {
                return NONE;
            }
            // SAFETY: not null, and held until it is released.
            let state = unsafe { (&raw const (*found).state).read_volatile() };
            // SAFETY: it is ours to release, once.
            unsafe { bpf_sk_release(found.cast()) };
            state
        }
    };
}

state!(tcp, bpf_skc_lookup_tcp);
state!(udp, bpf_sk_lookup_udp);
