//! What the TC programs do with a packet: decision, reason, bytes, and what becomes of its flow.
//!
//! Owns the answer as a specification that the loaded programs are held against (`tests/kernel/forward.rs`): written from
//! the contract's meaning, with none of the programs' arithmetic. What the kernel alone knows or chooses is an argument,
//! and a choice that it was not free to make is a [`Fault`]. Must not be asked on the data path.

mod checksum;
mod flows;
mod made;
mod packet;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use gateway_ebpf::abi::{ANY, Action, BindingKey, REJECT_BACKEND, TCP, UDP};
use gateway_ebpf::flow::Reason;
use gateway_ebpf::life::{self, ACK, IS_TCP, LIVE, Next, RST, SNAT, SYN, TOLD, WITHDRAWN};
use gateway_ebpf::select::Tuple;

pub use self::flows::{Flow, Flows, Way};
pub use self::packet::Arrival;
use self::packet::{Kind, Packet, address, ip};
use super::snapshot::{BackendKey, BindingImage, MapImage, Path};

/// What else the programs are told by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The first source port that may be taken, and how many there are.
    pub ports: (u16, u16),
    /// Seconds without a packet after which an established flow is over, unless its binding says otherwise: TCP's, UDP's.
    pub idle: [u32; 2],
    /// Places for flows.
    pub flows: usize,
    /// Places for half-open ones among them.
    pub opening: usize,
}

/// What the kernel answered and chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The way back to the packet's source.
    pub back: Option<Way>,
    /// Whether a socket of the host has the packet's connection.
    pub socket: bool,
    /// The source port that was taken for a new flow.
    pub port: Option<u16>,
    /// Client tuples of the flows that were found to be over, on the way to a place for a new one.
    pub swept: BTreeSet<Tuple>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the next program, and to the host.
    Next,
    /// Out by an interface.
    Forwarded(Way),
    /// Nowhere.
    Dropped,
    /// Nowhere; its sender is told why by an ICMP error.
    Answered,
    /// Out by an interface, turned into a reset; its sender gets one, too.
    Reset(Way),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it goes.
    pub decision: Decision,
    /// Why, if it is counted.
    pub reason: Option<Reason>,
    /// Its bytes afterwards, unless it is dropped.
    pub bytes: Vec<u8>,
}

/// Something that the kernel must not have done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A flow's place was given up too early.
    #[error("the flow of {0:?} was not over")]
    NotOver(Tuple),
    /// A port that is not in the range, or that is taken, was taken; or none where one was free.
    #[error("source port {0:?} is not one to be taken")]
    Port(Option<u16>),
}

/// What is fixed while a packet is looked at.
struct Question<'a> {
    image: &'a MapImage,
    settings: &'a Settings,
    arrival: &'a Arrival,
    answers: &'a Answers,
    now: u64,
}

/// Decides on a packet that arrives at a time (nanoseconds), and does to the flows what it does to them.
///
/// # Errors
/// What the kernel said that it chose was not free to be chosen.
pub fn forward(
    flows: &mut Flows,
    image: &MapImage,
    settings: &Settings,
    arrival: &Arrival,
    answers: &Answers,
    now: u64,
) -> Result<Outcome, Fault> {
    let question = Question { image, settings, arrival, answers, now };
    let packet = match packet::read(arrival) {
        Kind::Transport(packet) => packet,
        Kind::Icmp(packet) => return question.error(flows, &packet),
        Kind::Later(packet) => return question.later(flows, &packet),
        Kind::Other => return Ok(question.decided(Decision::Next)),
    };
    if let Some((id, reply)) = flows.find(&packet.tuple) {
        let flow = flows.flow(id);
        let quiet = now.saturating_sub(flow.seen);
        match life::next(flow.bits, reply, packet.tuple.protocol, packet.flags, quiet) {
            Next::Forward => return question.known(flows, &packet, id, reply),
            Next::Collision => return question.dropped(flows, Reason::Collision),
            Next::Withdrawn => return question.withdrawn(flows, &packet, id, reply),
            Next::Anew => return question.open(flows, &packet, Some((id, false))),
            Next::Retry => return question.open(flows, &packet, Some((id, true))),
        }
    }
    let begins = match packet.tuple.protocol {
        UDP => true,
        _ => packet.flags & (SYN | ACK | RST) == SYN,
    };
    if begins { question.open(flows, &packet, None) } else { Ok(question.decided(Decision::Next)) }
}

impl Question<'_> {
    /// An outcome that leaves the packet as it is and is not counted.
    fn decided(&self, decision: Decision) -> Outcome {
        Outcome { decision, reason: None, bytes: self.arrival.bytes.clone() }
    }

    /// An outcome that is counted.
    fn counted(&self, flows: &mut Flows, decision: Decision, reason: Reason) -> Result<Outcome, Fault> {
        flows.count(reason);
        Ok(Outcome { reason: Some(reason), ..self.decided(decision) })
    }

    fn dropped(&self, flows: &mut Flows, reason: Reason) -> Result<Outcome, Fault> {
        self.counted(flows, Decision::Dropped, reason)
    }

    fn relay(&self, flows: &mut Flows, reason: Reason) -> Result<Outcome, Fault> {
        self.counted(flows, Decision::Next, reason)
    }

    /// A packet of a flow, `reply` if it is the backend's.
    fn known(&self, flows: &mut Flows, packet: &Packet, id: u64, reply: bool) -> Result<Outcome, Fault> {
        if packet.first {
            flows.expect(packet.datagram(), (id, reply));
        }
        let (way, to) = flows.flow(id).leaving(reply);
        if packet.ttl <= 1 {
            return self.answer(flows, packet, Reason::TimeExceeded, None);
        }
        let gso = self.arrival.gso_size as usize;
        let longest = if gso == 0 { packet.length } else { packet.headers + gso };
        if longest > way.mtu as usize {
            return self.answer(flows, packet, Reason::TooBig, Some(way.mtu));
        }
        let flow = flows.flow(id);
        let (segments, bytes) = self.size(packet);
        flow.bits |= life::learn(flow.bits, reply, packet.flags);
        flow.seen = self.now;
        flow.packets[usize::from(reply)] += segments;
        flow.bytes[usize::from(reply)] += bytes;
        let bytes = packet::translate(self.arrival, packet, &to);
        Ok(Outcome { decision: Decision::Forwarded(way), reason: None, bytes })
    }

    /// A packet that cannot go on: its sender is told, if the packet was sent to this host.
    fn answer(
        &self,
        flows: &mut Flows,
        packet: &Packet,
        reason: Reason,
        mtu: Option<u32>,
    ) -> Result<Outcome, Fault> {
        if !self.arrival.host {
            return self.dropped(flows, reason);
        }
        flows.count(reason);
        let bytes = made::answer(self.arrival, packet, mtu);
        Ok(Outcome { decision: Decision::Answered, reason: Some(reason), bytes })
    }

    /// A packet of a flow that the configuration ended. A TCP connection's two sides are told by resets, unless the packet
    /// is none that can be turned into one.
    fn withdrawn(&self, flows: &mut Flows, packet: &Packet, id: u64, reply: bool) -> Result<Outcome, Fault> {
        let plain = packet.l4 - packet.l3 == if packet.v6 { 40 } else { 20 } && !packet.first;
        if packet.tuple.protocol != TCP || !plain || !self.arrival.host {
            return self.dropped(flows, Reason::Withdrawn);
        }
        flows.count(Reason::Withdrawn);
        let flow = flows.flow(id);
        flow.bits |= TOLD;
        flow.seen = self.now;
        let (way, to) = flow.leaving(reply);
        let bytes = made::reset(self.arrival, packet, &to);
        Ok(Outcome { decision: Decision::Reset(way), reason: Some(Reason::Withdrawn), bytes })
    }

    /// A fragment that is not the first: it goes where the first one went. Nobody is told if it cannot.
    fn later(&self, flows: &mut Flows, packet: &Packet) -> Result<Outcome, Fault> {
        let Some((id, reply)) = flows.expected(&packet.datagram()) else {
            return Ok(self.decided(Decision::Next));
        };
        let flow = flows.flow(id);
        let (way, to) = flow.leaving(reply);
        if flow.bits & WITHDRAWN != 0 {
            return self.dropped(flows, Reason::Withdrawn);
        }
        if packet.ttl <= 1 {
            return self.dropped(flows, Reason::TimeExceeded);
        }
        if packet.length > way.mtu as usize {
            return self.dropped(flows, Reason::TooBig);
        }
        flow.seen = self.now;
        flow.packets[usize::from(reply)] += 1;
        flow.bytes[usize::from(reply)] += packet.length as u64;
        let bytes = packet::translate_later(self.arrival, packet, &to);
        Ok(Outcome { decision: Decision::Forwarded(way), reason: None, bytes })
    }

    /// An ICMP packet. An error about what was sent for a flow goes to whoever sent that; it is no sign of life.
    fn error(&self, flows: &mut Flows, packet: &Packet) -> Result<Outcome, Fault> {
        let next = Ok(self.decided(Decision::Next));
        if packet.first || !self.arrival.host || !made::is_error(self.arrival, packet) {
            return next;
        }
        let quoted = made::quoted(self.arrival, packet);
        let found = quoted.and_then(|quoted| {
            // What was sent is the reverse of what comes back.
            let (id, reply) = flows.find(&quoted.tuple.reverse())?;
            let flow = flows.flow(id);
            let (half, other) = if reply { (flow.reply, flow.client) } else { (flow.client, flow.reply) };
            let ours = packet.tuple.destination == half.destination;
            ours.then(|| (quoted, half, other, flow.leaving(reply)))
        });
        let Some((quoted, half, other, (way, to))) = found else {
            if self.image.ways.local.contains(&ip(packet.tuple.destination)) {
                flows.count(Reason::IcmpUnknown);
            }
            return next;
        };
        if packet.ttl <= 1 {
            return self.dropped(flows, Reason::TimeExceeded);
        }
        if packet.length > way.mtu as usize {
            return self.dropped(flows, Reason::TooBig);
        }
        // A router on the way keeps its address.
        let end = packet.tuple.source == half.source;
        let to = Tuple { source: if end { to.source } else { packet.tuple.source }, ..to };
        let bytes = made::translate_error(self.arrival, packet, &quoted, &to, &other);
        Ok(Outcome { decision: Decision::Forwarded(way), reason: None, bytes })
    }

    /// How many packets it is on the wire, and their bytes of IP: each segment has headers of its own.
    fn size(&self, packet: &Packet) -> (u64, u64) {
        let payload = packet.length.saturating_sub(packet.headers);
        let segments = match (self.arrival.gso_size as usize, self.arrival.gso_segs as usize) {
            (0, _) => 1,
            (size, 0) => payload.div_ceil(size).max(1),
            (_, told) => told,
        };
        (segments as u64, (packet.length + (segments - 1) * packet.headers) as u64)
    }

    /// A packet that begins a flow, and ends one if it has its tuple; `retried`: whose backend did not answer.
    fn open(
        &self,
        flows: &mut Flows,
        packet: &Packet,
        before: Option<(u64, bool)>,
    ) -> Result<Outcome, Fault> {
        let client = packet.tuple;
        if flows.find(&client.reverse()).is_some_and(|(_, reply)| reply) {
            // The client talks to the endpoint itself, and its answers would be taken for the flow's.
            return self.dropped(flows, Reason::Collision);
        }
        let ours = self.arrival.host && self.image.ways.local.contains(&ip(client.destination));
        let Some((binding, service)) = self.binding(&client).filter(|_| ours) else {
            return Ok(self.decided(Decision::Next));
        };
        let (mut failed, mut kept) = (None, None);
        if let Some((id, retried)) = before {
            let flow = flows.flow(id);
            failed = retried.then_some((flow.backend, flow.tries));
            kept = (!retried && flow.bits & SNAT != 0).then_some(flow.reply.destination_port);
            flows.end(id, 0);
        }
        let Some((id, backend)) = self.backend(&client, service, failed) else {
            return Ok(self.decided(Decision::Next));
        };
        if failed.is_some_and(|(failed, _)| failed != id) {
            flows.count(Reason::NextBackend);
        }
        let path = self.image.ways.paths.get(&id).filter(|_| backend.at.is_ipv6() == packet.v6);
        let Some(path) = path else { return self.relay(flows, Reason::NotRoutable) };
        if self.answers.socket {
            return self.relay(flows, Reason::HostSocket);
        }
        let Some(back) = self.answers.back else { return self.relay(flows, Reason::NoRouteBack) };
        self.sweep(flows)?;
        if flows.len() == self.settings.flows {
            return self.relay(flows, Reason::TableFull);
        }
        let (reply, snat) = match self.reply(flows, &client, backend, path, kept)? {
            Ok(reply) => reply,
            Err(reason) => return self.relay(flows, reason),
        };
        let tcp = client.protocol == TCP;
        let flow = Flow {
            client,
            reply,
            forth: Way { interface: path.interface, next_hop: Some(path.next_hop), mtu: path.mtu },
            back,
            binding: binding.id,
            service,
            backend: id,
            idle: binding.idle.map_or(self.settings.idle[usize::from(!tcp)], NonZeroU32::get),
            tries: failed.map_or(0, |(_, tries)| tries + 1),
            bits: LIVE | if tcp { IS_TCP } else { 0 } | if snat { SNAT } else { 0 },
            seen: self.now,
            begun: self.now,
            packets: [0; 2],
            bytes: [0; 2],
        };
        let id = flows.begin(flow, self.settings.opening);
        self.known(flows, packet, id, false)
    }

    /// The binding that forwards to a service: of the exact address, then of any.
    fn binding(&self, client: &Tuple) -> Option<(BindingImage, u32)> {
        let binding = [client.destination, ANY].into_iter().find_map(|address| {
            let (port, protocol) = (client.destination_port, client.protocol);
            self.image.bindings.get(&BindingKey { address, port, protocol, pad: 0 })
        })?;
        (binding.action == Action::Forward).then_some((*binding, binding.service?))
    }

    /// The backend: the one that the flow's slot names; after one that failed, another if there is one, and never
    /// none for that.
    fn backend(
        &self,
        client: &Tuple,
        service: u32,
        failed: Option<(u32, u32)>,
    ) -> Option<(u32, &BackendKey)> {
        let service = self.image.services.get(&service)?;
        let pick = |attempt| service.backend(client, attempt);
        let id = match failed {
            None => pick(0),
            Some((failed, tries)) => {
                let picks: Vec<u32> = (tries + 1..=tries + BACKEND_TRIES).map(pick).collect();
                let other = picks.iter().find(|id| **id != failed && **id != REJECT_BACKEND);
                *other.or(picks.iter().find(|id| **id == failed)).unwrap_or(&REJECT_BACKEND)
            }
        };
        self.image.backends.get(&id).map(|backend| (id, backend))
    }

    /// Gives up the flows that the kernel found to be over.
    fn sweep(&self, flows: &mut Flows) -> Result<(), Fault> {
        let full = flows.len() == self.settings.flows;
        for tuple in &self.answers.swept {
            let Some((id, false)) = flows.find(tuple) else { return Err(Fault::NotOver(*tuple)) };
            let flow = flows.flow(id);
            if life::is_over(flow.bits, flow.idle, flow.seen, self.now, full) {
                flows.end(id, 0);
            } else if self.answers.port != Some(flow.reply.destination_port) || !self.gives_port(flow) {
                return Err(Fault::NotOver(*tuple));
            }
        }
        Ok(())
    }

    /// Whether a flow has ended and its source port may be taken for another.
    fn gives_port(&self, flow: &Flow) -> bool {
        life::gives_port(flow.bits, self.now.saturating_sub(flow.seen))
    }

    /// The tuple of the backend's answers, and whether it sees an address of this node.
    fn reply(
        &self,
        flows: &mut Flows,
        client: &Tuple,
        backend: &BackendKey,
        path: &Path,
        kept: Option<u16>,
    ) -> Result<Result<(Tuple, bool), Reason>, Fault> {
        let answers = Tuple {
            source: address(backend.at.ip()),
            destination: client.source,
            source_port: backend.at.port(),
            destination_port: client.source_port,
            protocol: client.protocol,
        };
        if path.local && answers.source != client.source && !flows.has(&answers) {
            return Ok(Ok((answers, false)));
        }
        let Some(source) = path.source else { return Ok(Err(Reason::TupleTaken)) };
        let from = |port| Tuple { destination: address(source), destination_port: port, ..answers };
        let (first, width) = self.settings.ports;
        let range = first..=first.saturating_add(width.saturating_sub(1));
        // The one of the client's connection before, which a socket in TIME_WAIT may know.
        let own = |port: &u16| width > 0 && range.contains(port);
        if let Some(kept) = kept.filter(|kept| own(kept) && !flows.has(&from(*kept))) {
            return if self.answers.port == Some(kept) {
                Ok(Ok((from(kept), true)))
            } else {
                Err(Fault::Port(self.answers.port))
            };
        }
        // Who has a port that may be taken, if anybody has it.
        let mut free = |port: u16| match flows.find(&from(port)) {
            _ if !own(&port) => None,
            None => Some(None),
            Some((id, reply)) => (reply && self.gives_port(flows.flow(id))).then_some(Some(id)),
        };
        match self.answers.port {
            Some(port) => {
                let before = free(port).ok_or(Fault::Port(Some(port)))?;
                if let Some(id) = before {
                    flows.end(id, 0);
                }
                Ok(Ok((from(port), true)))
            }
            // Of a range no wider than this each port is tried.
            None if width > PORT_TRIES || !range.clone().any(|port| free(port).is_some()) => {
                Ok(Err(Reason::NoPort))
            }
            None => Err(Fault::Port(None)),
        }
    }
}

/// Hashes that are tried to find another backend than the one that does not answer.
const BACKEND_TRIES: u32 = 8;
/// Ports that are tried in turn before some are at random.
const PORT_TRIES: u16 = 8;
