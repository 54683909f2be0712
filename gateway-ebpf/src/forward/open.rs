//! A packet that may open a flow: the backend is picked, the flow is recorded, and `packet` translates it.
//!
//! Owns the order of the questions, each of whose answers leads to the relay or is a flow. What is picked is what the
//! relay would have picked (`select`).

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use gateway_ebpf::abi::{
    ANY, Action, BACKEND_LOCAL, BACKEND_ROUTABLE, Backend, Binding, BindingKey, Meta, REJECT_BACKEND,
    ServiceWord, TCP,
};
use gateway_ebpf::flow::{Cursor, Flow, HalfRef, Reason, Slot, TupleKey, bytes, is_v4, words};
use gateway_ebpf::life::{EVICTED, IS_TCP, LIVE, Next, SNAT, State, gives_port, next, state};
use gateway_ebpf::names::OPENING_CAPACITY;
use gateway_ebpf::rewrite;
use gateway_ebpf::select;

use crate::atomic;
use crate::context::{discard, fall_back, go_on, is_for_host, is_known, pass, skb};
use crate::count::count;
use crate::end::{begun, end, forget, sweep_one};
use crate::maps::{CURSORS, FLOWS, FREE, LOCAL, OPENING, SCRATCH, SNAT_PORTS, Scratch, TUPLES};
use crate::packet::{find, now};
use crate::parse::{Kind, parsed};
use crate::route::way_back;
use crate::shared::{BACKENDS, BINDINGS, META, SERVICES, SLOTS};
use crate::socket::has_connection;

/// Source ports that are tried towards a backend: half of them in turn, then at random.
const PORT_TRIES: u32 = 16;
/// Hashes that are tried to find another backend than the one that does not answer.
const BACKEND_TRIES: u32 = 8;

/// The entry of `Slot::Open`.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry hands it over")]
pub(crate) fn sluice_open(ctx: TcContext) -> i32 {
    let Some(scratch) = parsed(&ctx, Kind::Transport) else { return pass(&ctx) };
    match open(&ctx, scratch) {
        Opened::Flow => go_on(&ctx, Slot::Packet),
        Opened::Not => pass(&ctx),
        Opened::Collision => discard(&ctx, Reason::Collision),
        Opened::FallBack(reason) => fall_back(&ctx, reason),
    }
}

/// What became of it.
enum Opened {
    /// There is a flow for it.
    Flow,
    /// It is not for a binding that is forwarded, or for nobody.
    Not,
    /// A living flow has the tuple of its answers.
    Collision,
    /// The relay has it.
    FallBack(Reason),
}

#[inline(always)]
fn open(ctx: &TcContext, scratch: &mut Scratch) -> Opened {
    let packet = &scratch.packet;
    let key = &packet.key;
    scratch.reply = key.reverse();
    let Some(binding) = forwarded_by(ctx, key) else {
        // Whoever asks us asks no endpoint: those are not on this host.
        let collides = find(&scratch.reply).is_some_and(|(half, _, _)| half.is_reply());
        return if collides { Opened::Collision } else { Opened::Not };
    };
    // A flow that the packet ends, since it begins another.
    let mut tries = 0;
    let mut failed = REJECT_BACKEND;
    // Its source port at this node, in wire order.
    let mut kept = 0;
    if is_known(ctx)
        && let Some((half, flow, life)) = find(key)
    {
        let now = now();
        // SAFETY: places within a map's value.
        let quiet = now.saturating_sub(atomic::load(unsafe { &raw const (*flow).seen }));
        match next(life as u32, half.is_reply(), key.protocol as u8, packet.flags, quiet) {
            Next::Retry => {
                // SAFETY: as above.
                unsafe { (tries, failed) = ((*flow).tries + 1, (*flow).backend) };
            }
            // The same client towards the same backend: a socket in TIME_WAIT there knows that this SYN is a later one.
            Next::Anew if life as u32 & SNAT != 0 => {
                // SAFETY: as above.
                kept = unsafe { (*flow).reply.key.ports } >> 16;
            }
            Next::Anew => {}
            // Another CPU was faster.
            _ => return Opened::Flow,
        }
        if !end(half.index(), life, 0) {
            return Opened::Flow;
        }
    }
    let Some((id, backend)) = backend(&binding, tries, failed) else { return Opened::Not };
    if failed != REJECT_BACKEND && id != failed {
        count(Reason::NextBackend);
    }
    let address = words(&backend.address);
    if backend.flags & BACKEND_ROUTABLE == 0 || is_v4(&address) == packet.v6 {
        return Opened::FallBack(Reason::NotRoutable);
    }
    if has_connection(skb(ctx), key) {
        return Opened::FallBack(Reason::HostSocket);
    }
    if !way_back(skb(ctx), key, &raw mut scratch.way) {
        return Opened::FallBack(Reason::NoRouteBack);
    }
    scratch.binding = binding;
    match record(id, tries, kept) {
        NOT_ROUTABLE => Opened::FallBack(Reason::NotRoutable),
        TABLE_FULL => Opened::FallBack(Reason::TableFull),
        TUPLE_TAKEN => Opened::FallBack(Reason::TupleTaken),
        NO_PORT => Opened::FallBack(Reason::NoPort),
        _ => Opened::Flow,
    }
}

/// The binding that a packet is for, if it is for one that is forwarded.
#[inline(always)]
pub(crate) fn forwarded_by(ctx: &TcContext, key: &TupleKey) -> Option<Binding> {
    // SAFETY: asked for its presence only.
    if !is_for_host(ctx) || unsafe { LOCAL.get(key.destination) }.is_none() {
        return None;
    }
    binding(key).filter(|binding| binding.action == Action::Forward as u32)
}

/// The exact address, then any.
#[inline(always)]
fn binding(key: &TupleKey) -> Option<Binding> {
    let mut wanted = BindingKey {
        address: bytes(&key.destination),
        port: key.destination_port(),
        protocol: key.protocol as u8,
        pad: 0,
    };
    // SAFETY: the value is copied at once; an element that is replaced meanwhile is a lookup a moment later.
    if let Some(found) = unsafe { BINDINGS.get(wanted) } {
        return Some(*found);
    }
    wanted.address = ANY;
    // SAFETY: as above.
    unsafe { BINDINGS.get(wanted) }.copied()
}

/// The backend for a flow: the one that its slot names, or, after one that did not answer, another.
#[inline(always)]
fn backend(binding: &Binding, tries: u32, failed: u32) -> Option<(u32, &'static Backend)> {
    let id = choose(binding.service, tries, failed);
    if id == REJECT_BACKEND {
        return None;
    }
    // SAFETY: a value of an array. One that is being written is that of an id that no slot names yet.
    Some((id, unsafe { &*BACKENDS.get_ptr(id)? }))
}

/// The id of the backend for the packet in `SCRATCH`, or [`REJECT_BACKEND`].
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn choose(service: u32, tries: u32, failed: u32) -> u32 {
    let Some(word) = SERVICES.get_ptr(service) else { return REJECT_BACKEND };
    let service = ServiceWord(atomic::load(word));
    if !service.exists() {
        return REJECT_BACKEND;
    }
    let Some(scratch) = SCRATCH.get_ptr(0) else { return REJECT_BACKEND };
    // SAFETY: this CPU's own value, which `open` leaves alone until this returns.
    let hash = unsafe { &(*scratch).packet.key }.slot_hash(service.affinity());
    let mut id = REJECT_BACKEND;
    for attempt in 0..BACKEND_TRIES {
        let at = select::slot_index(select::retry(hash, tries + attempt), service);
        let Some(slot) = SLOTS.get_ptr(at) else { return REJECT_BACKEND };
        let found = atomic::load(slot) as u32;
        if failed == REJECT_BACKEND || (found != failed && found != REJECT_BACKEND) {
            id = found;
            break;
        }
        if found == failed {
            // There may be no other.
            id = found;
        }
    }
    id
}

/// There is a flow.
const RECORDED: u32 = u32::MAX;
const NOT_ROUTABLE: u32 = Reason::NotRoutable as u32;
const TABLE_FULL: u32 = Reason::TableFull as u32;
const TUPLE_TAKEN: u32 = Reason::TupleTaken as u32;
const NO_PORT: u32 = Reason::NoPort as u32;

/// Makes the flow of what is in `SCRATCH`: [`RECORDED`], or the number of the reason why there is none.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn record(backend_id: u32, tries: u32, kept: u32) -> u32 {
    let now = now();
    // Each that comes looks at one, so that the table does not fill with what is over while nobody sweeps; and what ends here
    // leaves a place, and room for tuples, that this CPU has in its cache.
    let _over = sweep_one(now, false);
    let index = place(now);
    // Beyond every capacity, so that a place that is none is not found.
    let Some(flow) = FLOWS.get_ptr_mut(index) else { return TABLE_FULL };
    // SAFETY: a place within a map's value.
    let life = unsafe { &raw mut (*flow).life };
    let generation = ((atomic::load(life) >> 32) as u32).wrapping_add(1);
    let bits = claim_reply(backend_id, kept, HalfRef::new(index, true, generation).0);
    if bits & LIVE == 0 {
        give_back(flow, index, generation);
        return bits >> NO_FLOW;
    }
    if !fill(index, backend_id, tries, now) {
        return TABLE_FULL;
    }
    let _evicted = remember(index, generation);
    atomic::store(life, u64::from(bits) | (u64::from(generation) << 32));
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return TABLE_FULL };
    // SAFETY: this CPU's own value, which `open` has left alone until this returns.
    let Scratch { packet, reply, binding, .. } = unsafe { &*scratch };
    if !claim(&raw const packet.key, HalfRef::new(index, false, generation).0) {
        // Two CPUs, one tuple: the other has made the flow.
        forget(reply, index, generation);
        give_back(flow, index, generation);
        return RECORDED;
    }
    let _counted = begun(binding.id, binding.service, backend_id);
    RECORDED
}

/// The reason's place in a word that has no `LIVE`.
const NO_FLOW: u32 = 1;

/// Finds out what the answers' tuple shall be, and takes it: `SCRATCH.reply`. Returns the bits that the flow's life begins
/// with, or, without [`LIVE`], a reason shifted by [`NO_FLOW`].
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn claim_reply(backend_id: u32, kept: u32, half: u64) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return TABLE_FULL << NO_FLOW };
    // SAFETY: as above.
    let Scratch { packet, reply, .. } = unsafe { &mut *scratch };
    let client = &packet.key;
    let Some(backend) = BACKENDS.get_ptr(backend_id) else { return NOT_ROUTABLE << NO_FLOW };
    // SAFETY: a value of an array. One that is being written is that of an id that no slot names yet.
    let backend = unsafe { &*backend };
    let port = u32::from(backend.port.to_be());
    // If the backend sees the client.
    *reply = TupleKey {
        source: words(&backend.address),
        destination: client.source,
        ports: port | (client.ports << 16),
        protocol: client.protocol,
    };
    let same = client.source[0] == reply.source[0] && client.source[1] == reply.source[1];
    let bits = if client.protocol == u32::from(TCP) { LIVE | IS_TCP } else { LIVE };
    if backend.flags & BACKEND_LOCAL != 0 && !same && claim(reply, half) {
        return bits;
    }
    let source = words(&backend.source);
    if source[0] == 0 && source[1] == 0 {
        return TUPLE_TAKEN << NO_FLOW;
    }
    reply.destination = source;
    if claim_port(reply, port, kept, half, backend_id) { bits | SNAT } else { NO_PORT << NO_FLOW }
}

/// Writes everything of a flow but its life.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn fill(index: u32, backend_id: u32, tries: u32, now: u64) -> bool {
    let Some(flow) = FLOWS.get_ptr_mut(index) else { return false };
    let Some(scratch) = SCRATCH.get_ptr(0) else { return false };
    // SAFETY: as above.
    let Scratch { packet, reply, binding, way, .. } = unsafe { &*scratch };
    let client = &packet.key;
    let Some(backend) = BACKENDS.get_ptr(backend_id) else { return false };
    // SAFETY: as above.
    let backend = unsafe { &*backend };
    let idle = if client.protocol == u32::from(TCP) { Meta::TcpIdle } else { Meta::UdpIdle };
    let idle = match binding.idle {
        0 => META.get(idle as u32).copied().unwrap_or(0) as u32,
        own => own,
    };
    // SAFETY: the place is this program's alone until its tuples lead there and its life says so.
    unsafe {
        (*flow).seen = now;
        (*flow).begun = now;
        (*flow).ended = 0;
        (*flow).client.key = *client;
        (*flow).client.next_hop = words(&backend.next_hop);
        (*flow).client.interface = backend.interface;
        (*flow).client.mtu = backend.mtu;
        (*flow).client.addresses = rewrite::addresses(client, &reply.reverse());
        (*flow).client.ports = rewrite::ports(client, &reply.reverse());
        (*flow).reply.key = *reply;
        (*flow).reply.next_hop = way.next_hop;
        (*flow).reply.interface = way.interface;
        (*flow).reply.mtu = way.mtu;
        (*flow).reply.addresses = rewrite::addresses(reply, &client.reverse());
        (*flow).reply.ports = rewrite::ports(reply, &client.reverse());
        (*flow).binding = binding.id;
        (*flow).service = binding.service;
        (*flow).backend = backend_id;
        (*flow).idle = idle;
        (*flow).tries = tries;
        (*flow).ring = 0;
        (*flow).packets = [0; 2];
        (*flow).bytes = [0; 2];
    }
    true
}

/// Takes a tuple for a half of a flow, unless a flow has it that lives or is being made.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn claim(key: *const TupleKey, half: u64) -> bool {
    // SAFETY: a pointer that is not null is to a tuple, to the verifier's knowledge too.
    let Some(key) = (unsafe { key.as_ref() }) else { return false };
    // Before Linux 6.4 a map's key may not be where a pointer from elsewhere leads.
    let key = &TupleKey { ..*key };
    if TUPLES.insert(key, half, BPF_NOEXIST.into()).is_ok() {
        return true;
    }
    // SAFETY: the word is copied at once.
    let there = unsafe { TUPLES.get(key) }.map(|half| HalfRef(*half));
    // A left-over, which nobody removes any more.
    !there.is_some_and(is_taken) && TUPLES.insert(key, half, BPF_ANY.into()).is_ok()
}

/// Whether the flow of a half lives, or is being made: then its place has the generation before it.
#[inline(always)]
fn is_taken(half: HalfRef) -> bool {
    let Some(flow) = FLOWS.get_ptr(half.index()) else { return false };
    // SAFETY: a place within a map's value.
    let life = atomic::load(unsafe { &raw const (*flow).life });
    let ahead = half.generation().wrapping_sub((life >> 32) as u32);
    ahead == 1 || (ahead == 0 && life as u32 & LIVE != 0)
}

/// Takes a tuple with a source port of this node. Ports are tried in turn, so that the first is the one that was taken
/// longest ago, as long as each try finds one. Where many rest the turn comes round the sooner, and finds each soon after
/// its rest; some at random find one past a stretch of ports that are taken for long.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn claim_port(reply: *mut TupleKey, port: u32, kept: u32, half: u64, backend: u32) -> bool {
    // SAFETY: as above.
    let Some(reply) = (unsafe { reply.as_mut() }) else { return false };
    let Some(cursor) = SNAT_PORTS.get_ptr_mut(backend) else { return false };
    let setting = |entry: Meta| META.get(entry as u32).copied().unwrap_or(0) as u32;
    let (first, width) = (setting(Meta::SnatFirst), setting(Meta::SnatWidth));
    if width == 0 {
        return false;
    }
    // Not if it is one of another range, which an agent before had.
    if kept != 0 && u32::from(u16::from_be(kept as u16)).wrapping_sub(first) < width {
        reply.ports = port | (kept << 16);
        if claim(reply, half) {
            return true;
        }
    }
    for attempt in 0..PORT_TRIES {
        let turn = if attempt < PORT_TRIES / 2 {
            atomic::next(cursor) as u32
        } else {
            // SAFETY: no memory is involved.
            unsafe { bpf_get_prandom_u32() }
        };
        let ours = (first + turn % width) as u16;
        reply.ports = port | (u32::from(ours.to_be()) << 16);
        if claim(reply, half) || take_over(reply, half) {
            return true;
        }
    }
    false
}

/// Takes a tuple from a flow that has ended and whose port another may have.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn take_over(key: *const TupleKey, half: u64) -> bool {
    // SAFETY: as above.
    let Some(key) = (unsafe { key.as_ref() }) else { return false };
    let key = &TupleKey { ..*key };
    let Some((found, flow, life)) = find(key) else { return false };
    // SAFETY: a place within a map's value.
    let quiet = now().saturating_sub(atomic::load(unsafe { &raw const (*flow).seen }));
    found.is_reply()
        && gives_port(life as u32, quiet)
        && end(found.index(), life, 0)
        // Another CPU may have been faster.
        && TUPLES.insert(key, half, BPF_NOEXIST.into()).is_ok()
}

/// There is no place.
const NO_PLACE: u32 = u32::MAX;

/// A place for a flow, or [`NO_PLACE`].
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn place(now: u64) -> u32 {
    find_place(now).unwrap_or(NO_PLACE)
}

#[inline(always)]
fn find_place(now: u64) -> Option<u32> {
    if let Ok(Some(index)) = FREE.pop() {
        return Some(index);
    }
    let fresh = CURSORS.get_ptr_mut(Cursor::Fresh as u32)?;
    // The capacity is not known here: a place that is beyond it is none. The cursor stops soon after.
    if FLOWS.get_ptr(atomic::load(fresh) as u32).is_some() {
        let index = atomic::next(fresh) as u32;
        if FLOWS.get_ptr(index).is_some() {
            return Some(index);
        }
    }
    // What has ended need not wait any longer.
    for _ in 0..4 {
        let _over = sweep_one(now, true);
    }
    FREE.pop().ok().flatten()
}

/// Gives a place back that came to nothing.
#[inline(always)]
fn give_back(flow: *mut Flow, index: u32, generation: u32) {
    // SAFETY: a place within a map's value that is this program's alone.
    atomic::store(unsafe { &raw mut (*flow).life }, u64::from(generation) << 32);
    let _always = FREE.push(index, 0);
}

/// What an entry of the ring holds for no flow: no flow has generation 0.
const NOBODY: HalfRef = HalfRef(0);

/// Takes a flow that is no longer half open out of the ring, so that who gets its entry need not look at it.
#[inline(always)]
pub(crate) fn leave_ring(flow: *const Flow, half: HalfRef) {
    // SAFETY: a place within a map's value; the field does not change while the flow lives.
    if let Some(entry) = OPENING.get_ptr_mut(unsafe { (*flow).ring }) {
        let _another_s =
            atomic::replace(entry, HalfRef::new(half.index(), false, half.generation()).0, NOBODY.0);
    }
}

/// Puts a flow into the ring of half-open ones; the one that was longest in its place goes if it still is half open. Whether
/// it went.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
extern "C" fn remember(index: u32, generation: u32) -> bool {
    let Some(cursor) = CURSORS.get_ptr_mut(Cursor::Opening as u32) else { return false };
    let turn = atomic::next(cursor) as u32;
    // The ring may be smaller than what it was compiled for: an agent sets its capacity.
    let capacity = META.get(Meta::Opening as u32).copied().unwrap_or(0) as u32;
    let at = turn % if capacity == 0 { OPENING_CAPACITY } else { capacity };
    let Some(entry) = OPENING.get_ptr_mut(at) else { return false };
    let Some(flow) = FLOWS.get_ptr_mut(index) else { return false };
    // SAFETY: a place within a map's value that is this program's alone.
    unsafe { (*flow).ring = at };
    let before = HalfRef(atomic::load(entry));
    atomic::store(entry, HalfRef::new(index, false, generation).0);
    if before == NOBODY {
        return false;
    }
    let Some(flow) = FLOWS.get_ptr_mut(before.index()) else { return false };
    // SAFETY: a place within a map's value.
    let life = atomic::load(unsafe { &raw const (*flow).life });
    let opening = matches!(state(life as u32), State::Opening);
    let evicted = opening
        && (life >> 32) as u32 == before.generation()
        && before.index() != index
        && end(before.index(), life, EVICTED);
    if evicted {
        count(Reason::OpeningEvicted);
    }
    evicted
}
