//! The end of a flow: its place is given up, and what it carried is counted and told.
//!
//! Owns that each flow ends exactly once, whoever finds out first. Must not decide that it is over: that is `life`.

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use gateway_ebpf::flow::{Cursor, Flow, HalfRef, Reason, Traffic, TrafficKey, TupleKey};
use gateway_ebpf::life::{self, ANSWERED, LIVE};

use crate::atomic;
use crate::count::count;
use crate::maps::{CURSORS, EVENTS, FLOWS, FREE, TRAFFIC, TUPLES};
use crate::packet::now;

/// Ends a flow that had this life when it was last looked at, with more bits that tell why. False: somebody else has,
/// or something has been learned of it since.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn end(index: u32, life: u64, why: u32) -> bool {
    let Some(flow) = FLOWS.get_ptr_mut(index) else { return false };
    let bits = (life as u32 & !LIVE) | why;
    let over = (life & !0xffff_ffff) | u64::from(bits);
    // SAFETY: a place within a map's value.
    if life as u32 & LIVE == 0 || !atomic::replace(unsafe { &raw mut (*flow).life }, life, over) {
        return false;
    }
    // From here on the place is this program's alone, until it is in FREE.
    // SAFETY: as above.
    unsafe { (*flow).ended = now() };
    // SAFETY: as above.
    forget(unsafe { &(*flow).client.key }, index, (life >> 32) as u32);
    // SAFETY: as above.
    forget(unsafe { &(*flow).reply.key }, index, (life >> 32) as u32);
    carried(flow, bits);
    // SAFETY: the value is read whole; it is not changed meanwhile.
    if unsafe {
        bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), flow.cast(), size_of::<Flow>() as u64, 0)
    } != 0
    {
        count(Reason::EventLost);
    }
    // It cannot be full: it has room for every place there is.
    let _always = FREE.push(index, 0);
    true
}

/// Removes a tuple if it still is the flow's.
#[inline(always)]
pub(crate) fn forget(key: &TupleKey, index: u32, generation: u32) {
    // SAFETY: the word is copied at once.
    let found = unsafe { TUPLES.get(key) };
    let Some(half) = found.map(|half| HalfRef(*half)) else { return };
    if half.index() == index && half.generation() == generation {
        // Whoever was faster has removed it.
        let _removed = TUPLES.remove(key);
    }
}

/// Counts a flow that has begun.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn begun(binding: u32, service: u32, backend: u32) -> bool {
    let Some(traffic) = traffic(&TrafficKey { binding, service, backend, pad: 0 }) else { return false };
    // SAFETY: this CPU's own value.
    unsafe { (*traffic).begun += 1 };
    true
}

/// The counters of a flow's binding and backend, on this CPU.
#[inline(always)]
fn traffic(key: &TrafficKey) -> Option<*mut Traffic> {
    if let Some(found) = TRAFFIC.get_ptr_mut(key) {
        return Some(found);
    }
    let none = Traffic { begun: 0, ended: 0, unanswered: 0, packets: [0; 2], bytes: [0; 2] };
    // Another CPU may have been faster, which is as well.
    let _there = TRAFFIC.insert(key, none, 1);
    let found = TRAFFIC.get_ptr_mut(key);
    if found.is_none() {
        count(Reason::TrafficFull);
    }
    found
}

#[inline(always)]
fn carried(flow: *mut Flow, bits: u32) {
    // SAFETY: a place within a map's value that is this program's alone.
    let flow = unsafe { &*flow };
    let key = TrafficKey { binding: flow.binding, service: flow.service, backend: flow.backend, pad: 0 };
    let Some(traffic) = traffic(&key) else { return };
    // SAFETY: this CPU's own value.
    let traffic = unsafe { &mut *traffic };
    traffic.ended += 1;
    if bits & ANSWERED == 0 {
        traffic.unanswered += 1;
    }
    traffic.packets[0] += flow.packets[0];
    traffic.packets[1] += flow.packets[1];
    traffic.bytes[0] += flow.bytes[0];
    traffic.bytes[1] += flow.bytes[1];
}

/// Moves the hand on by one place, and ends the flow there if it is over. Whether it was.
#[inline(never)]
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn sweep_one(now: u64, full: bool) -> bool {
    let Some(hand) = CURSORS.get_ptr_mut(Cursor::Hand as u32) else { return false };
    let Some(fresh) = CURSORS.get_ptr_mut(Cursor::Fresh as u32) else { return false };
    let used = atomic::load(fresh) as u32;
    if used == 0 {
        return false;
    }
    let index = atomic::next(hand) as u32 % used;
    // Beyond the capacity there is nothing, and the hand goes on.
    let Some(flow) = FLOWS.get_ptr_mut(index) else { return false };
    // SAFETY: a place within a map's value.
    let (life, idle, seen) = unsafe {
        (atomic::load(&raw const (*flow).life), (*flow).idle, atomic::load(&raw const (*flow).seen))
    };
    let bits = life as u32;
    bits & LIVE != 0 && life::is_over(bits, idle, seen, now, full) && end(index, life, 0)
}
