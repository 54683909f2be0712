//! The flows of a worker by client and address asked for, and which of them have to go.
//!
//! Owns these decisions; ticks are arguments. Must not know sockets.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use gateway_ebpf::abi::BindingKey;
use rustc_hash::FxHashMap;
use tokio::task::AbortHandle;

use super::flow::Flow;
use crate::proxy::leaving::{Leaving, Way};
use crate::proxy::totals::FlowEnd;

/// Whose a flow is: the client, and the address and port that it asked for.
pub(in crate::proxy) type Ends = (SocketAddr, SocketAddr);

/// A flow's life, as far as its end is decided by it.
#[derive(Debug)]
pub(super) struct Life {
    /// The tick when something moved last.
    pub(super) last: Cell<u64>,
    /// Whether the backend has ever answered.
    pub(super) answered: Cell<bool>,
    /// Whether what the client sent last has no answer yet.
    pub(super) asking: Cell<bool>,
    /// Ticks without a datagram after which it ends.
    pub(super) idle: u64,
    /// Where it came in.
    pub(super) binding: BindingKey,
    /// Where it leads.
    pub(super) way: Way,
}

/// Flows.
#[derive(Default)]
pub(in crate::proxy) struct Flows {
    all: FxHashMap<Ends, Entry>,
    last: u64,
}

struct Entry {
    id: u64,
    life: Rc<Life>,
    flow: Weak<Flow>,
    task: AbortHandle,
}

/// What a sweep goes by.
pub(super) struct Sweep<'a> {
    pub(super) now: u64,
    /// The tick since when there are no new flows, and the ticks that those under way have left.
    pub(super) draining: Option<(u64, u64)>,
    /// Whether a binding is still there.
    pub(super) binds: &'a dyn Fn(&BindingKey) -> bool,
    /// What ends flows whose endpoint is not there any more, if anything does.
    pub(super) leaving: Option<Leaving<'a>>,
}

impl Sweep<'_> {
    /// Whether a flow has to end, and why.
    fn judge(&self, life: &Life) -> Option<FlowEnd> {
        let over = |(began, left): (u64, u64)| !life.asking.get() || self.now >= began + left;
        if !(self.binds)(&life.binding) {
            Some(FlowEnd::Unbound)
        } else if self.leaving.is_some_and(|leaving| life.way.is_over(&leaving)) {
            Some(FlowEnd::Withdrawn)
        } else if self.now >= life.last.get() + life.idle {
            Some(FlowEnd::Idle)
        } else if self.draining.is_some_and(over) {
            Some(FlowEnd::Drained)
        } else {
            None
        }
    }
}

impl Flows {
    pub(in crate::proxy) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of the next flow.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn get(&self, ends: &Ends) -> Option<Rc<Flow>> {
        self.all.get(ends)?.flow.upgrade()
    }

    pub(super) fn add(&mut self, ends: Ends, id: u64, life: Rc<Life>, flow: Weak<Flow>, task: AbortHandle) {
        self.all.insert(ends, Entry { id, life, flow, task });
    }

    /// Forgets a flow that has gone.
    pub(in crate::proxy) fn forget(&mut self, ends: &Ends, id: u64) {
        if self.all.get(ends).is_some_and(|entry| entry.id == id) {
            self.all.remove(ends);
        }
    }

    /// Ends what has to end.
    pub(super) fn sweep(&mut self, sweep: &Sweep<'_>) {
        self.all.retain(|_, entry| match sweep.judge(&entry.life) {
            Some(why) => {
                entry.end(why);
                false
            }
            None => true,
        });
    }

    /// Makes room: of those that were never answered the idlest, then of the others; as many at once that the look at
    /// all of them is worth it.
    pub(super) fn evict(&mut self) {
        let lives = self.all.iter().map(|(ends, entry)| (*ends, rank(&entry.life, entry.id)));
        for ends in victims(lives.collect(), (self.all.len() / 16).max(1)) {
            if let Some(entry) = self.all.remove(&ends) {
                entry.end(FlowEnd::Evicted);
            }
        }
    }
}

impl Entry {
    fn end(&self, why: FlowEnd) {
        if let Some(flow) = self.flow.upgrade() {
            flow.ends(why);
        }
        self.task.abort();
    }
}

/// Who goes first: unanswered before answered, then the idlest, then the oldest.
fn rank(life: &Life, id: u64) -> (bool, u64, u64) {
    (life.answered.get(), life.last.get(), id)
}

/// Those with the lowest ranks.
fn victims<K, R: Ord + Copy>(mut all: Vec<(K, R)>, many: usize) -> impl Iterator<Item = K> {
    if many < all.len() {
        all.select_nth_unstable_by_key(many, |(_, rank)| *rank);
        all.truncate(many);
    }
    all.into_iter().map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::abi::{ANY, UDP};

    use super::*;
    use crate::core::flows::removed::Configured;
    use crate::core::transport::Transport;

    fn life(last: u64, answered: bool, asking: bool) -> Life {
        let binding = BindingKey { address: ANY, port: 53, protocol: UDP, pad: 0 };
        let [asked, to] = ["10.0.0.1:53", "10.0.1.1:53"].map(|at| at.parse().unwrap());
        let way = Way::new(Transport::Udp, asked, to);
        Life { last: last.into(), answered: answered.into(), asking: asking.into(), idle: 10, binding, way }
    }

    fn judge(life: &Life, now: u64, draining: Option<(u64, u64)>, bound: bool) -> Option<FlowEnd> {
        Sweep { now, draining, binds: &|_| bound, leaving: None }.judge(life)
    }

    #[test]
    fn a_flow_ends_when_it_was_quiet_for_long_enough() {
        assert_eq!(judge(&life(5, true, false), 14, None, true), None);
        assert_eq!(judge(&life(5, true, false), 15, None, true), Some(FlowEnd::Idle));
        assert_eq!(judge(&Life { idle: 11, ..life(5, true, false) }, 15, None, true), None);
    }

    #[test]
    fn it_ends_with_its_binding() {
        assert_eq!(judge(&life(5, true, true), 5, None, false), Some(FlowEnd::Unbound));
    }

    #[test]
    fn it_ends_with_its_endpoint_if_that_is_asked_for() {
        let (configured, life) = (Configured::default(), life(5, true, true));
        let judge = |now| {
            let leaving = Some(Leaving { configured: &configured, grace: 3, now });
            Sweep { now, draining: None, binds: &|_| true, leaving }.judge(&life)
        };
        assert_eq!([5, 7, 8].map(judge), [None, None, Some(FlowEnd::Withdrawn)]);
    }

    #[test]
    fn draining_waits_for_an_answer_but_not_for_long() {
        assert_eq!(judge(&life(5, true, false), 5, Some((5, 2)), true), Some(FlowEnd::Drained));
        assert_eq!(judge(&life(6, true, true), 6, Some((5, 2)), true), None);
        assert_eq!(judge(&life(7, true, true), 7, Some((5, 2)), true), Some(FlowEnd::Drained));
    }

    #[test]
    fn the_unanswered_go_first_then_the_idlest_then_the_oldest() {
        let all = vec![
            ("answered, idle", rank(&life(1, true, false), 1)),
            ("new", rank(&life(9, false, true), 5)),
            ("older", rank(&life(9, false, true), 4)),
            ("idle", rank(&life(8, false, true), 6)),
            ("answered, busy", rank(&life(9, true, true), 2)),
        ];
        let order = ["idle", "older", "new", "answered, idle", "answered, busy"];
        for many in 1..=order.len() {
            let mut gone: Vec<_> = victims(all.clone(), many).collect();
            let mut want = order[..many].to_vec();
            gone.sort_unstable();
            want.sort_unstable();
            assert_eq!(gone, want);
        }
    }
}
