//! The table of flows, as values: who has a tuple, what was counted, what ended.
//!
//! Owns that a tuple is one flow's, and that each flow's end is counted once. Must not read packets.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use gateway_ebpf::flow::{Half, Reason, Traffic, TrafficKey};
use gateway_ebpf::life::{ANSWERED, EVICTED, LIVE, State, is_over, state};
use gateway_ebpf::select::Tuple;

use super::packet::ip;

/// The way that packets leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface.
    pub interface: u32,
    /// The neighbour; `None`: the kernel finds it by its routes.
    pub next_hop: Option<IpAddr>,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The tuple that the client's packets arrive with.
    pub client: Tuple,
    /// The tuple that the backend's packets arrive with.
    pub reply: Tuple,
    /// The way to the backend.
    pub forth: Way,
    /// The way to the client.
    pub back: Way,
    /// Id of the binding.
    pub binding: u32,
    /// Id of the service.
    pub service: u32,
    /// Id of the backend.
    pub backend: u32,
    /// Seconds that it may go without a packet, once it is established.
    pub idle: u32,
    /// How many backends were tried before.
    pub tries: u32,
    /// What was seen of it (`life`).
    pub bits: u32,
    /// When its last packet came, in nanoseconds.
    pub seen: u64,
    /// When its first one came.
    pub begun: u64,
    /// Packets by direction: the client's, the backend's.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction.
    pub bytes: [u64; 2],
}

impl Flow {
    /// How its packets leave, the backend's or the client's: the way, and with which tuple.
    pub(super) fn leaving(&self, reply: bool) -> (Way, Tuple) {
        if reply { (self.back, self.client.reverse()) } else { (self.forth, self.reply.reverse()) }
    }
}

impl From<&gateway_ebpf::flow::Flow> for Flow {
    /// A flow as the kernel's map shows it.
    fn from(flow: &gateway_ebpf::flow::Flow) -> Self {
        let way = |half: &Half| Way {
            interface: half.interface,
            next_hop: (half.next_hop != [0; 2]).then(|| ip(gateway_ebpf::flow::bytes(&half.next_hop))),
            mtu: half.mtu,
        };
        Self {
            client: Tuple::from(&flow.client.key),
            reply: Tuple::from(&flow.reply.key),
            forth: way(&flow.client),
            back: way(&flow.reply),
            binding: flow.binding,
            service: flow.service,
            backend: flow.backend,
            idle: flow.idle,
            tries: flow.tries,
            bits: flow.life as u32,
            seen: flow.seen,
            begun: flow.begun,
            packets: flow.packets,
            bytes: flow.bytes,
        }
    }
}

/// What the fragments of a datagram have in common: source and destination without ports, protocol, identification.
pub(super) type Datagram = (Tuple, u32);

/// The table, and what was counted beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    living: BTreeMap<u64, Flow>,
    halves: BTreeMap<Tuple, (u64, bool)>,
    next: u64,
    /// Datagrams whose first fragment has come.
    datagrams: BTreeMap<Datagram, (u64, bool)>,
    /// Those that were half open when they began, the oldest first; some are over.
    opening: VecDeque<u64>,
    /// What flows carried that are over, and how many began.
    pub traffic: BTreeMap<TrafficKey, Traffic>,
    /// Packets and other events by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// Flows that ended, in their order, with the bits that they ended with.
    pub ended: Vec<Flow>,
}

impl Flows {
    /// The flows that live.
    pub fn living(&self) -> impl Iterator<Item = &Flow> {
        self.living.values()
    }

    /// The flow of a client, to be made older or withdrawn.
    pub fn of_client(&mut self, client: &Tuple) -> Option<&mut Flow> {
        let (id, reply) = self.find(client)?;
        self.living.get_mut(&id).filter(|_| !reply)
    }

    /// Gives up every flow that is over.
    pub fn sweep(&mut self, now: u64) {
        let over = |flow: &Flow| is_over(flow.bits, flow.idle, flow.seen, now, false);
        let over: Vec<u64> = self.living.iter().filter(|(_, flow)| over(flow)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.end(id, 0));
    }

    /// How many live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.living.len()
    }

    /// Whether none lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    /// Whether a living flow has a tuple.
    #[must_use]
    pub fn has(&self, tuple: &Tuple) -> bool {
        self.halves.contains_key(tuple)
    }

    /// The flow that a tuple belongs to, and whether it is the backend's.
    pub(super) fn find(&self, tuple: &Tuple) -> Option<(u64, bool)> {
        self.halves.get(tuple).copied()
    }

    pub(super) fn flow(&mut self, id: u64) -> &mut Flow {
        self.living.get_mut(&id).expect("ids are those that `find` and `begin` gave, of flows that live")
    }

    /// Other fragments of a datagram follow the first.
    pub(super) fn expect(&mut self, datagram: Datagram, half: (u64, bool)) {
        self.datagrams.insert(datagram, half);
    }

    /// The flow of a later fragment, if it lives, and whether it is the backend's.
    pub(super) fn expected(&self, datagram: &Datagram) -> Option<(u64, bool)> {
        self.datagrams.get(datagram).copied().filter(|(id, _)| self.living.contains_key(id))
    }

    pub(super) fn count(&mut self, reason: Reason) {
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// A flow begins. Of the half-open ones `room` have a place; the one that had its place longest goes for it.
    /// Returns its id, and the one that went.
    pub(super) fn begin(&mut self, flow: Flow, room: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        self.traffic.entry(key(&flow)).or_default().begun += 1;
        self.halves.insert(flow.client, (id, false));
        self.halves.insert(flow.reply, (id, true));
        self.living.insert(id, flow);
        self.opening.push_back(id);
        if self.opening.len() > room
            && let Some(oldest) = self.opening.pop_front()
            && self.living.get(&oldest).is_some_and(|flow| state(flow.bits) == State::Opening)
        {
            self.count(Reason::OpeningEvicted);
            self.end(oldest, EVICTED);
        }
        id
    }

    /// A flow ends, for the reasons that more bits give.
    pub(super) fn end(&mut self, id: u64, why: u32) {
        let Some(mut flow) = self.living.remove(&id) else { return };
        flow.bits = (flow.bits & !LIVE) | why;
        self.halves.remove(&flow.client);
        self.halves.remove(&flow.reply);
        let traffic = self.traffic.entry(key(&flow)).or_default();
        traffic.ended += 1;
        traffic.unanswered += u64::from(flow.bits & ANSWERED == 0);
        for direction in 0..2 {
            traffic.packets[direction] += flow.packets[direction];
            traffic.bytes[direction] += flow.bytes[direction];
        }
        self.ended.push(flow);
    }
}

fn key(flow: &Flow) -> TrafficKey {
    TrafficKey { binding: flow.binding, service: flow.service, backend: flow.backend, pad: 0 }
}
