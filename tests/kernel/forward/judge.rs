//! One packet after the other through the loaded programs and the pure function, and what became of them compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use gateway_ebpf::flow::{
    Decision as Mark, Flow as Raw, MARK_DECISION, MARK_INTERFACE, MARK_REASON, Reason, ReasonKind, TupleKey,
};
use gateway_ebpf::life::{EVICTED, LIVE, SNAT, WITHDRAWN, is_over};
use gateway_ebpf::names::{STUB_ETHERNET, STUB_RAW};
use gateway_ebpf::select::Tuple;
use gateway_tests::bpffs::BpfFs;
use gateway_tests::netns::NetNs;
use gateway_tests::packets::{ETHERNET, verify};
use gateway_user::core::forward::{Answers, Decision, Flow, Flows, Outcome, Settings, forward};
use gateway_user::core::plan::Op;
use gateway_user::core::snapshot::MapImage;
use gateway_user::dataplane::{Dataplane, FlowEvents, FlowReader, FlowTable, Forwarding, SkBuff};
use nix::time::{ClockId, clock_gettime};

use super::ground::Ground;
use super::met;
use super::traffic::{Shot, random_image, shot};
use crate::bed::{Sockets, config, ops, start, undo};
use crate::differential::pick;

const FLOWS: u32 = 24;
const OPENING: u32 = 22;
/// Few enough that they run out.
const PORTS: std::ops::RangeInclusive<u16> = 40_000..=40_003;
const IDLE: [u32; 2] = [20, 10];
/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT`, `TC_ACT_REDIRECT`.
const RETURNS: [u32; 3] = [u32::MAX, 2, 7];

pub(crate) struct Judge {
    // In the order in which they must go.
    dataplane: Dataplane,
    _sockets: Sockets,
    _fs: BpfFs,
    ground: Ground,
    table: FlowTable,
    reader: FlowReader,
    events: FlowEvents,
    /// The places for flows as they were after the last packet.
    places: Vec<Raw>,
    flows: Flows,
    settings: Settings,
    image: MapImage,
    rng: Rng,
    /// Fragments that are still to come.
    parts: Vec<Vec<u8>>,
    pub(crate) packets: u64,
    /// The second that it is, and the ICMP errors in it.
    errors: (u64, u32),
    /// How often each kind of outcome was met.
    pub(crate) met: BTreeMap<String, u64>,
}

/// What a test run showed.
#[derive(Debug)]
struct Shown {
    result: u32,
    decision: u32,
    reason: u32,
    interface: u32,
    bytes: Vec<u8>,
}

impl Judge {
    /// To be called in the namespace, where it stays.
    pub(crate) fn new(ns: &NetNs, rng: Rng) -> Self {
        let fs = BpfFs::new();
        let (mut dataplane, sockets) = start(ns, &config(&fs, 1));
        let ground = Ground::new(ns);
        let forwarding = Forwarding {
            flows: FLOWS,
            opening: OPENING,
            ports: PORTS,
            tcp_idle: Duration::from_secs(IDLE[0].into()),
            udp_idle: Duration::from_secs(IDLE[1].into()),
            clsact: false,
        };
        dataplane.forward(&forwarding).unwrap();
        let table = dataplane.flow_table().unwrap();
        let (reader, events) = dataplane.flows().unwrap().unwrap();
        let settings = Settings {
            ports: (*PORTS.start(), PORTS.len() as u16),
            idle: IDLE,
            flows: FLOWS as usize,
            opening: OPENING as usize,
        };
        Self {
            places: (0..FLOWS as usize).map(|at| table.get(at)).collect(),
            dataplane,
            _sockets: sockets,
            _fs: fs,
            ground,
            table,
            reader,
            events,
            flows: Flows::default(),
            settings,
            image: MapImage::default(),
            rng,
            parts: Vec::new(),
            packets: 0,
            errors: (0, 0),
            met: BTreeMap::new(),
        }
    }

    /// Another configuration; the flows go on.
    pub(crate) fn configure(&mut self) {
        let mut steps = undo(&self.image);
        steps.extend(self.image.ways.local.iter().map(|ip| Op::DeleteLocal(*ip)));
        self.image = random_image(&mut self.rng, &self.ground);
        steps.extend(ops(&self.image));
        steps.extend(self.image.ways.local.iter().map(|ip| Op::PutLocal(*ip)));
        self.dataplane.apply(&steps).unwrap();
    }

    /// A packet, and now and then something else before it.
    pub(crate) fn packet(&mut self) {
        match self.rng.u32(..1000) {
            0..40 => self.age(),
            40..46 => self.withdraw(),
            46..48 => self.sweep(),
            _ => {}
        }
        let shot = shot(&mut self.rng, &self.ground, &self.flows, &mut self.parts);
        let before = now();
        let shown = self.run(&shot);
        let after = now();
        let places = self.look(shot.arrival.tuple());
        let answers = self.answers(&shot, &places);
        let had = (before != after).then(|| self.flows.clone());
        let mut wanted = self.wanted(&shot, &answers, before);
        let mut wrong = self.differences(&shot, &wanted, &shown, &places, (before, after));
        if !wrong.is_empty()
            && let Some(had) = had
        {
            // The time that the programs saw may have been the later one.
            self.flows = had;
            wanted = self.wanted(&shot, &answers, after);
            wrong = self.differences(&shot, &wanted, &shown, &places, (before, after));
        }
        if !wrong.is_empty() {
            panic!(
                "packet {}: {}\n{shot:?}\n{answers:?}\nshown: {shown:?}\nwanted: {wanted:?}\nits flow was: {:?}",
                self.packets,
                wrong.join("\n"),
                self.places
                    .iter()
                    .map(Flow::from)
                    .find(|flow| { [flow.client, flow.reply].map(Some).contains(&shot.arrival.tuple()) }),
            );
        }
        self.told();
        self.rest(wanted.as_ref());
        self.note(&shot, &wanted.unwrap(), &places);
        self.places = places;
        self.packets += 1;
    }

    /// The programs send a thousand ICMP errors a second at most, which is not what is compared here.
    fn rest(&mut self, wanted: Result<&Outcome, &String>) {
        let second = now() / 1_000_000_000;
        if self.errors.0 != second {
            self.errors = (second, 0);
        }
        self.errors.1 += u32::from(wanted.is_ok_and(|wanted| wanted.decision == Decision::Answered));
        while self.errors.1 > 900 && now() / 1_000_000_000 == second {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Every flow that has ended is told of once, with what it carried.
    fn told(&mut self) {
        let mut told: Vec<Flow> =
            std::iter::from_fn(|| self.events.pop()).map(|raw| Flow::from(&raw)).collect();
        let mut ended = std::mem::take(&mut self.flows.ended);
        told.sort_by_key(|flow| flow.client);
        ended.sort_by_key(|flow| flow.client);
        assert_eq!(told, ended, "packet {}", self.packets);
    }

    /// The totals; and what was met that is not seen by the packet.
    pub(crate) fn finish(&mut self) {
        self.sweep();
        self.told();
        let counted = self.reader.reasons().unwrap();
        let wanted = Reason::ALL.map(|reason| self.flows.reasons.get(&reason).copied().unwrap_or(0));
        assert_eq!(counted, wanted, "{:?}", Reason::ALL);
        assert_eq!(self.reader.counts().unwrap().ended, self.flows.traffic);
        for (reason, count) in &self.flows.reasons {
            if reason.kind() == ReasonKind::Note {
                self.met.insert(reason.name().to_owned(), *count);
            }
        }
    }

    fn run(&mut self, shot: &Shot) -> Shown {
        let arrival = &shot.arrival;
        let mut bytes = arrival.bytes.clone();
        let mut context = SkBuff {
            interface: shot.interface.index,
            ingress_interface: if self.rng.bool() { shot.interface.index } else { 0 },
            segments: arrival.gso_segs,
            segment_size: arrival.gso_size,
            ..bytemuck::Zeroable::zeroed()
        };
        let stub = if arrival.ethernet { STUB_ETHERNET } else { STUB_RAW };
        let result = self.dataplane.run_packet(stub, &mut bytes, Some(&mut context), 1);
        let result = result.unwrap_or_else(|e| panic!("{e}: {shot:?}"));
        let mark = |word: usize| context.control[word];
        Shown {
            result,
            decision: mark(MARK_DECISION),
            reason: mark(MARK_REASON),
            interface: mark(MARK_INTERFACE),
            bytes,
        }
    }

    /// The places for flows as they are now. Which ones have changed is told by two words of each, but for one in eight
    /// times, and for the flow of a tuple.
    fn look(&self, tuple: Option<Tuple>) -> Vec<Raw> {
        let mut places = self.places.clone();
        let tuple = tuple.map(|tuple| TupleKey::from(&tuple));
        for (at, raw) in places.iter_mut().enumerate() {
            let own = [raw.client.key, raw.reply.key].map(Some).contains(&tuple);
            if own || self.packets.is_multiple_of(8) || self.table.life_and_seen(at) != (raw.life, raw.seen) {
                *raw = self.table.get(at);
            }
        }
        places
    }

    fn answers(&self, shot: &Shot, places: &[Raw]) -> Answers {
        let mut answers = Answers::default();
        if let Some(tuple) = shot.arrival.tuple() {
            let at = |address, port| {
                std::net::SocketAddr::new(std::net::Ipv6Addr::from(address).to_canonical(), port)
            };
            let client = at(tuple.source, tuple.source_port);
            answers.back = self.ground.back(shot.interface, client.ip());
            let asked = at(tuple.destination, tuple.destination_port);
            answers.socket = self.ground.connected(tuple.protocol, client, asked);
        }
        for (had, has) in self.places.iter().zip(places) {
            let same = had.life >> 32 == has.life >> 32;
            if !same && lives(has) && has.life as u32 & SNAT != 0 {
                answers.port = Some(has.reply.key.destination_port());
            }
            let client = Tuple::from(&had.client.key);
            let evicted = same && has.life as u32 & EVICTED != 0;
            if lives(had) && !(same && lives(has)) && !evicted && shot.arrival.tuple() != Some(client) {
                answers.swept.insert(client);
            }
        }
        answers
    }

    fn wanted(&mut self, shot: &Shot, answers: &Answers, now: u64) -> Result<Outcome, String> {
        let (flows, image) = (&mut self.flows, &self.image);
        forward(flows, image, &self.settings, &shot.arrival, answers, now).map_err(|e| e.to_string())
    }

    /// What is not as it shall be.
    fn differences(
        &mut self,
        shot: &Shot,
        wanted: &Result<Outcome, String>,
        shown: &Shown,
        places: &[Raw],
        ran: (u64, u64),
    ) -> Vec<String> {
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(fault) => return vec![fault.clone()],
        };
        let mut wrong = Vec::new();
        let mut hold = |what: &str, right: bool| {
            if !right {
                wrong.push(what.to_owned());
            }
        };
        let (result, mark) = match wanted.decision {
            Decision::Next => (RETURNS[0], Mark::Next),
            Decision::Dropped => (RETURNS[1], Mark::Dropped),
            Decision::Forwarded(_) => (RETURNS[2], Mark::Forwarded),
            Decision::Answered => (RETURNS[2], Mark::Answered),
            Decision::Reset(_) => (RETURNS[2], Mark::Reset),
        };
        hold("another decision", (shown.result, shown.decision) == (result, mark as u32));
        hold("another reason", shown.reason == wanted.reason.map_or(0, |reason| reason as u32 + 1));
        let skip = match wanted.decision {
            // Of what is dropped nothing is asked.
            Decision::Dropped => None,
            // The kernel writes new link addresses over those of a redirected packet.
            Decision::Reset(_) => Some(12),
            _ => Some(0),
        };
        hold("other bytes", skip.is_none_or(|skip| shown.bytes[skip..] == wanted.bytes[skip..]));
        if let Decision::Forwarded(way) | Decision::Reset(way) = wanted.decision {
            hold("another interface", shown.interface == way.interface);
        }
        if !matches!(wanted.decision, Decision::Next | Decision::Dropped) {
            let l3 = if shot.arrival.ethernet { ETHERNET } else { 0 };
            let [before, after] =
                [&shot.arrival.bytes[l3..], &shown.bytes[ETHERNET..]].map(met::packet_alone);
            let ours = matches!(wanted.decision, Decision::Answered | Decision::Reset(_));
            hold("a checksum", (!ours && verify(before).is_err()) == verify(after).is_err());
        }
        let own = shot.arrival.tuple().map(|tuple| TupleKey::from(&tuple));
        let looked_at = |(had, raw): &(&Raw, &Raw)| {
            let own = [raw.client.key, raw.reply.key].map(Some).contains(&own);
            lives(raw) && (own || self.packets.is_multiple_of(8) || had != raw)
        };
        for (_, raw) in self.places.iter().zip(places).filter(looked_at) {
            let mut shown = Flow::from(raw);
            let Some(flow) = self.flows.of_client(&shown.client) else {
                wrong.push(format!("a flow that shall not be: {shown:?}"));
                continue;
            };
            // The clock may have gone on while the program ran.
            let between = |time| (ran.0..=ran.1).contains(&time);
            for (wanted, shown) in [(&mut flow.seen, &mut shown.seen), (&mut flow.begun, &mut shown.begun)] {
                if between(*wanted) && between(*shown) {
                    *wanted = *shown;
                }
            }
            if *flow != shown {
                wrong.push(format!("a flow that is not as it shall be:\n{shown:?}\n{flow:?}"));
            }
        }
        let count = places.iter().filter(|raw| lives(raw)).count();
        if count != self.flows.len() {
            wrong.push(format!("{count} flows instead of {}", self.flows.len()));
        }
        wrong
    }

    /// Counts what was met.
    fn note(&mut self, shot: &Shot, wanted: &Outcome, places: &[Raw]) {
        let labels = met::packet(&shot.arrival, wanted);
        let began = self.places.iter().zip(places);
        let began = began.filter(|(had, has)| lives(has) && had.life >> 32 != has.life >> 32);
        let began = began.flat_map(|(_, flow)| {
            let had = || self.places.iter().filter(|had| lives(had));
            let again = had().any(|had| had.client.key == flow.client.key);
            // Not given up anyway: by the time, or for its place.
            let full = had().count() == FLOWS as usize;
            let over = |had: &Raw| is_over(had.life as u32, had.idle, had.seen, flow.begun, full);
            let port = !again && had().any(|had| had.reply.key == flow.reply.key && !over(had));
            met::flow(&self.image, &Flow::from(flow), again, port)
        });
        for label in labels.into_iter().chain(began) {
            *self.met.entry(label).or_default() += 1;
        }
    }

    /// Time passes for every flow.
    fn age(&mut self) {
        let by = pick(
            &mut self.rng,
            &[700, 700, 700, 700, 700, 700, 3_000, 6_000, 12_000, 25_000, 45_000, 65_000],
        );
        for (place, raw) in self.places.iter_mut().enumerate().filter(|(_, raw)| lives(raw)) {
            // A machine that has just booted has no longer past.
            raw.seen = raw.seen.saturating_sub(by * 1_000_000);
            self.table.set_seen(place, raw.seen);
            self.flows.of_client(&Tuple::from(&raw.client.key)).unwrap().seen = raw.seen;
        }
    }

    /// The configuration ends a flow.
    fn withdraw(&mut self) {
        let living: Vec<usize> = (0..self.places.len()).filter(|at| lives(&self.places[*at])).collect();
        let Some(place) = self.rng.choice(living) else { return };
        self.table.withdraw(place);
        let raw = &mut self.places[place];
        raw.life |= u64::from(WITHDRAWN);
        self.flows.of_client(&Tuple::from(&raw.client.key)).unwrap().bits |= WITHDRAWN;
    }

    /// What is over is given up, and nothing else.
    fn sweep(&mut self) {
        let had = self.flows.clone();
        let before = now();
        self.dataplane.sweep().unwrap();
        let after = now();
        self.places = self.look(None);
        let living: BTreeSet<_> =
            self.places.iter().filter(|raw| lives(raw)).map(|raw| Tuple::from(&raw.client.key)).collect();
        for now in [before, after] {
            self.flows = had.clone();
            self.flows.sweep(now);
            if self.flows.living().map(|flow| flow.client).collect::<BTreeSet<_>>() == living {
                self.told();
                return;
            }
        }
        panic!("swept at {before}: {living:?} live, of {had:?}");
    }
}

fn lives(raw: &Raw) -> bool {
    raw.life as u32 & LIVE != 0
}

/// The time by the clock that the programs read.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
