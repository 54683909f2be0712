//! `sk_lookup`: which socket a packet to a binding goes to. The kernel asks when it finds no established connection:
//! for a SYN, a stray segment, and every datagram to a socket that is not connected.
//!
//! Owns the order of the lookups and the counting: every lookup is counted exactly once. Must not decide by itself
//! what `select` decides.

use core::mem::offset_of;

use aya_ebpf::bindings::BPF_SK_LOOKUP_F_NO_REUSEPORT;
use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::macros::sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use aya_log_ebpf::{debug, warn};
use gateway_ebpf::abi::{
    ANY, Action, Address, Binding, BindingKey, Load, Meta, REJECT_BACKEND, ServiceWord, TCP, Verdict, mapped,
    sink_index, socket_index,
};
use gateway_ebpf::select::{self, Tuple};

use crate::maps::{LOADS, LOOKUPS, MISSES, SOCKETS};
use crate::shared::{BINDINGS, META, PROBING, SERVICES, SLOTS};

/// `AF_INET6`, the same on every architecture.
const AF_INET6: u32 = 10;
/// `ENOENT`, the same on every architecture: what aya returns for an empty entry of a sockmap.
const ENOENT: i32 = 2;

/// The entry: its name is `names::SK_LOOKUP`.
#[sk_lookup]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_sk_lookup(ctx: SkLookupContext) -> u32 {
    // A TC program asks whether this host has a connection: the kernel asks here since it found none.
    if PROBING.get(0).is_some_and(|probing| *probing != 0) {
        return SK_PASS;
    }
    let packet = packet(&ctx);
    let Some(binding) = binding(&packet.tuple) else {
        count_miss();
        return SK_PASS;
    };
    let (verdict, answer) = match try_sk_lookup(&ctx, &packet, &binding) {
        Ok(Done::Assigned) => (Verdict::Steered, SK_PASS),
        // The sink's filter drops the datagram; SK_DROP would answer port unreachable.
        Ok(Done::Swallowed) => (Verdict::Rejected, SK_PASS),
        Ok(Done::Refused) => (Verdict::Rejected, SK_DROP),
        Err(Failure::NoSocket) => {
            warn!(&ctx, "binding {}: no worker has a socket", binding.id);
            (Verdict::NoSocket, SK_DROP)
        }
        Err(Failure::Assign(error)) => {
            warn!(&ctx, "binding {}: the socket is refused: {}", binding.id, error);
            (Verdict::Failed, SK_DROP)
        }
        Err(Failure::Unknown) => {
            warn!(&ctx, "binding {}: action {} or its service is unknown", binding.id, binding.action);
            (Verdict::Failed, SK_DROP)
        }
    };
    debug!(&ctx, "binding {} port {}: verdict {}", binding.id, packet.tuple.destination_port, verdict as u32);
    count(binding.id, verdict);
    answer
}

/// What is known of the packet.
struct Packet {
    tuple: Tuple,
    v6: bool,
}

/// What was done for a lookup that found a binding.
enum Done {
    /// A worker has it.
    Assigned,
    /// Refused with a reset.
    Refused,
    /// Refused in silence.
    Swallowed,
}

/// Why nothing could be done.
enum Failure {
    /// No worker has a socket.
    NoSocket,
    /// The kernel does not take the socket.
    Assign(i32),
    /// A map holds what this contract does not know.
    Unknown,
}

#[inline(always)]
fn try_sk_lookup(ctx: &SkLookupContext, packet: &Packet, binding: &Binding) -> Result<Done, Failure> {
    let hash = select::hash(&packet.tuple);
    match Action::from_number(binding.action).ok_or(Failure::Unknown)? {
        Action::Reject => refuse(ctx, packet),
        Action::Steer => steer(ctx, packet, hash),
        Action::Forward => {
            if backend(binding.service, &packet.tuple)? == REJECT_BACKEND {
                refuse(ctx, packet)
            } else {
                steer(ctx, packet, hash)
            }
        }
    }
}

/// The 5-tuple out of the context. Every field is read, of either family (the other one's reads as zero), and by
/// volatile loads: the compiler would merge the branches' loads into one by a computed pointer, and the verifier
/// refuses that ("dereference of modified ctx ptr").
#[inline(always)]
fn packet(ctx: &SkLookupContext) -> Packet {
    macro_rules! field {
        ($($field:tt)+) => {
            // SAFETY: the context is valid for the run of the program; the verifier checks offset and size.
            unsafe { (&raw const (*ctx.lookup).$($field)+).read_volatile() }
        };
    }
    let v6 = field!(family) == AF_INET6;
    let (remote4, local4) = (field!(remote_ip4), field!(local_ip4));
    let remote6 =
        [field!(remote_ip6[0]), field!(remote_ip6[1]), field!(remote_ip6[2]), field!(remote_ip6[3])];
    let local6 = [field!(local_ip6[0]), field!(local_ip6[1]), field!(local_ip6[2]), field!(local_ip6[3])];
    let (source, destination) = if v6 {
        (address(remote6), address(local6))
    } else {
        (mapped(remote4.to_ne_bytes()), mapped(local4.to_ne_bytes()))
    };
    let tuple = Tuple {
        source,
        destination,
        source_port: u16::from_be(field!(remote_port)),
        destination_port: field!(local_port) as u16,
        protocol: field!(protocol) as u8,
    };
    Packet { tuple, v6 }
}

/// Words in network order as bytes in wire order.
#[inline(always)]
fn address([a, b, c, d]: [u32; 4]) -> Address {
    let [a, b, c, d] = [a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes()];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// The exact address, then any.
#[inline(always)]
fn binding(tuple: &Tuple) -> Option<Binding> {
    let mut key = BindingKey {
        address: tuple.destination,
        port: tuple.destination_port,
        protocol: tuple.protocol,
        pad: 0,
    };
    // SAFETY: the value is copied at once; an element that is replaced meanwhile is a lookup a moment later.
    if let Some(found) = unsafe { BINDINGS.get(key) } {
        return Some(*found);
    }
    key.address = ANY;
    // SAFETY: as above.
    unsafe { BINDINGS.get(key) }.copied()
}

/// The backend id that the flow's slot holds.
#[inline(always)]
fn backend(service: u32, tuple: &Tuple) -> Result<u32, Failure> {
    let word = SERVICES.get_ptr(service).ok_or(Failure::Unknown)?;
    // SAFETY: an aligned u64 of an array, which lives as long as the program. The agent writes it as one word.
    let word = ServiceWord(unsafe { word.read_volatile() });
    if !word.exists() {
        return Err(Failure::Unknown);
    }
    let hash = select::slot_hash(tuple, word.affinity());
    let slot = SLOTS.get_ptr(select::slot_index(hash, word)).ok_or(Failure::Unknown)?;
    // SAFETY: as above.
    Ok(unsafe { slot.read_volatile() } as u32)
}

/// Assigns the socket of one of two workers.
#[inline(always)]
fn steer(ctx: &SkLookupContext, packet: &Packet, hash: u64) -> Result<Done, Failure> {
    let workers = META.get(Meta::Workers as u32).copied().unwrap_or(0) as u32;
    let pair = select::two_workers(hash, workers);
    let protocol = packet.tuple.protocol;
    let (first, second) = select::workers(pair, protocol, load(pair.0), load(pair.1));
    let worker = match assign(ctx, socket_index(first, packet.v6, protocol)) {
        Err(Failure::NoSocket) if second != first => {
            assign(ctx, socket_index(second, packet.v6, protocol))?;
            second
        }
        other => other.map(|()| first)?,
    };
    if protocol == TCP {
        count_assigned(worker);
    }
    Ok(Done::Assigned)
}

#[inline(always)]
fn load(worker: u32) -> u64 {
    let Some(load) = LOADS.get_ptr(worker) else { return 0 };
    let word = |at: usize| {
        // SAFETY: an aligned word of an array's value, which lives as long as the program. It is written as one word.
        unsafe { load.wrapping_byte_add(at).cast::<u64>().read_volatile() }
    };
    select::load(
        word(offset_of!(Load, open)),
        word(offset_of!(Load, assigned)),
        word(offset_of!(Load, settled)),
    )
}

#[inline(always)]
fn count_assigned(worker: u32) {
    if let Some(load) = LOADS.get_ptr_mut(worker) {
        let assigned = load.wrapping_byte_add(offset_of!(Load, assigned)).cast::<u64>();
        // SAFETY: as above.
        let before = unsafe { assigned.read_volatile() };
        // SAFETY: as above; only this program writes it. Two CPUs at once may count one: stable Rust has no atomic
        // addition for BPF, and a load that is one too low does no harm until the worker's next sweep mends it.
        unsafe { assigned.write_volatile(before + 1) };
    }
}

/// TCP: a reset, which the drop of a SYN is answered with. UDP: silence.
#[inline(always)]
fn refuse(ctx: &SkLookupContext, packet: &Packet) -> Result<Done, Failure> {
    if packet.tuple.protocol == TCP {
        return Ok(Done::Refused);
    }
    assign(ctx, sink_index(packet.v6)).map(|()| Done::Swallowed)
}

/// The workers' sockets of a family are one SO_REUSEPORT group. Without the flag the kernel would pick a member
/// of it anew, not the one that was picked here.
#[inline(always)]
fn assign(ctx: &SkLookupContext, index: u32) -> Result<(), Failure> {
    match SOCKETS.redirect_sk_lookup(ctx, index, BPF_SK_LOOKUP_F_NO_REUSEPORT.into()) {
        Ok(()) => Ok(()),
        Err(error) if error == -ENOENT => Err(Failure::NoSocket),
        Err(error) => Err(Failure::Assign(error)),
    }
}

#[inline(always)]
fn count(id: u32, verdict: Verdict) {
    if let Some(lookups) = LOOKUPS.get_ptr_mut(id) {
        // SAFETY: this CPU's own array of four; a program is not moved to another CPU while it runs.
        unsafe { (*lookups)[verdict as usize] += 1 };
    }
}

#[inline(always)]
fn count_miss() {
    if let Some(misses) = MISSES.get_ptr_mut(0) {
        // SAFETY: this CPU's own word.
        unsafe { *misses += 1 };
    }
}
