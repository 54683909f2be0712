//! What is measured, as lists: the probes, each one turn of load, and the figures that they give.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::{
    super::peer,
    contender::{Contender, Gateway, Seen},
    kernel::{self, BpfClock, Memory, Soak},
    stage::{ECHO, IPERF, Kind, Load, Stage},
};
use crate::load::Outcome;

/// One kind of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Probe {
    /// Requests a second, 32 connections.
    #[value(name = "requests-32")]
    Requests32,
    /// The same over one.
    #[value(name = "requests-1")]
    Requests1,
    /// How long an answer takes while 10,000 a second are asked for.
    Latency,
    /// New connections a second, a request over each; 32 at a time.
    Connections,
    /// Throughput to the backend.
    Up,
    /// Throughput from the backend.
    Down,
    /// Packets a second to the backend, none larger than the MTU.
    Packets,
    /// Busy CPUs at a fixed rate.
    Cpu,
    /// UDP packets a second.
    Udp,
    /// Run time of the TC programs for each packet.
    Bpf,
    /// Memory with idle connections, on a gateway just started.
    Memory,
}

/// What a table row is about.
pub(super) struct Figure {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// Whether less is better.
    pub(super) less: bool,
    /// Decimal places.
    pub(super) places: usize,
}

const fn more(key: &'static str, name: &'static str, unit: &'static str, places: usize) -> Figure {
    Figure { key, name, unit, less: false, places }
}

const fn less(key: &'static str, name: &'static str, unit: &'static str, places: usize) -> Figure {
    Figure { key, name, unit, less: true, places }
}

/// All figures, in the order of the tables.
pub(super) const FIGURES: &[Figure] = &[
    more("requests-32", "requests, 32 connections", "/s", 0),
    more("requests-1", "requests, 1 connection", "/s", 0),
    less("p50", "p50 at 10,000 requests/s", "µs", 0),
    less("p99", "p99 at 10,000 requests/s", "µs", 0),
    less("p99.9", "p99.9 at 10,000 requests/s", "µs", 0),
    more("connections", "new connections", "/s", 0),
    less("syn-retransmissions", "SYNs sent again meanwhile", "", 0),
    less("failed", "connections failed meanwhile", "", 0),
    more("up", "throughput to the backend", "Gbit/s", 2),
    more("down", "throughput from the backend", "Gbit/s", 2),
    more("packets", "packets, offloads off", "/s", 0),
    less("cpu", "busy CPUs at 4 Gbit/s", "", 2),
    more("udp", "UDP packets, both ways", "/s", 0),
    less("udp-lost", "UDP packets lost meanwhile", "", 0),
    less("bpf", "BPF run time", "ns/packet", 0),
    less("memory-process", "gateway's process, idle connections", "MiB", 1),
    less("memory-slab", "kernel objects, idle connections", "MiB", 1),
    less("memory-machine", "whole machine, idle connections", "MiB", 1),
];

/// Connections of the probes that use many.
const MANY: usize = 32;
/// Requests a second at which their times are taken: far from anybody's limit, where they say more of the scheduler.
const PACE: u32 = 10_000;
/// Over one connection it is chance on which CPUs its ends are, so it is renewed after so many requests.
const RENEW: u32 = 500;
/// Bits a second at which CPUs are counted.
const RATE: f64 = 4e9;
/// So many CPUs may be busy with other things just before CPUs are counted, and so often is waited for that.
const FOREIGN: f64 = 0.2;
const QUIET: Duration = Duration::from_millis(200);
const QUIET_TRIES: u8 = 5;
/// Some things differ less from round to round than they take to measure.
const FEW: u16 = 2;

/// How long things are measured.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) seconds: u64,
}

impl Times {
    fn full(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn half(self) -> Duration {
        self.full() / 2
    }

    /// iperf3 takes whole seconds.
    fn whole_half(self) -> Duration {
        Duration::from_secs((self.seconds / 2).max(1))
    }
}

impl Probe {
    pub(super) const ALL: &[Self] = Self::VARIANTS;
    const VARIANTS: &[Self] = &[
        Self::Requests32,
        Self::Requests1,
        Self::Latency,
        Self::Connections,
        Self::Up,
        Self::Down,
        Self::Packets,
        Self::Cpu,
        Self::Udp,
        Self::Bpf,
        Self::Memory,
    ];

    /// How many rounds take it.
    pub(super) fn rounds(self, rounds: u16) -> u16 {
        match self {
            Self::Bpf | Self::Memory => rounds.min(FEW),
            _ => rounds,
        }
    }

    /// Seconds that a turn takes, so far as that can be known.
    pub(super) fn expected(self, times: Times) -> f64 {
        let starting = 0.35;
        let time = match self {
            Self::Requests32 | Self::Connections | Self::Cpu => times.full(),
            Self::Requests1 | Self::Latency | Self::Udp => times.half(),
            Self::Up | Self::Down | Self::Packets => times.whole_half(),
            Self::Bpf => Duration::from_secs(1),
            Self::Memory => Duration::from_secs(5),
        };
        time.as_secs_f64() + starting
    }
}

/// A contender's turn.
pub(super) struct Turn<'a> {
    pub(super) contender: &'static Contender,
    pub(super) stage: &'a Stage,
    pub(super) gateway: &'a Gateway<'a>,
    pub(super) seen: &'a Seen,
    pub(super) times: Times,
}

/// A figure's key with its value.
type Values = Vec<(&'static str, f64)>;

impl Turn<'_> {
    /// Measures. A figure that makes no sense with this contender is left out.
    pub(super) fn take(&self, probe: Probe) -> Result<Values> {
        match probe {
            Probe::Requests32 => {
                let out = self.load(MANY, self.times.full(), Kind::Tcp(u32::MAX))?;
                Ok(vec![("requests-32", out.answers as f64 / out.seconds)])
            }
            Probe::Requests1 => {
                let out = self.load(1, self.times.half(), Kind::Tcp(RENEW))?;
                Ok(vec![("requests-1", out.answers as f64 / out.seconds)])
            }
            Probe::Latency => {
                let out = self.load(MANY, self.times.half(), Kind::Paced(PACE))?;
                let [p50, p99, p999] = [out.p50, out.p99, out.p999].map(|ns| f64::from(ns) / 1e3);
                Ok(vec![("p50", p50), ("p99", p99), ("p99.9", p999)])
            }
            Probe::Connections => self.connections(),
            Probe::Up | Probe::Down => {
                let reverse = probe == Probe::Down;
                let client = &self.stage.lab.client;
                let time = self.times.whole_half();
                let rate = peer::iperf(client, self.contender.at(IPERF), time, reverse, None)?;
                Ok(vec![(if reverse { "down" } else { "up" }, rate / 1e9)])
            }
            Probe::Packets => self.packets(),
            Probe::Cpu => self.cpu(),
            Probe::Udp if self.seen.udp.is_some() => {
                let out = self.load(MANY, self.times.half(), Kind::Udp)?;
                Ok(vec![("udp", 2.0 * out.answers as f64 / out.seconds), ("udp-lost", out.failed as f64)])
            }
            Probe::Udp => Ok(Vec::new()),
            Probe::Bpf => self.bpf(),
            Probe::Memory => self.memory(),
        }
    }

    fn load(&self, connections: usize, time: Duration, kind: Kind) -> Result<Outcome> {
        let (to, sources) = (self.contender.at(ECHO), self.contender.sources);
        self.stage.load(Load { to, sources, connections, time, kind })
    }

    fn connections(&self) -> Result<Values> {
        let lab = &self.stage.lab;
        let syns = || -> Result<u64> {
            // A relay sends SYNs of its own.
            Ok(kernel::syn_retransmissions(&lab.client)? + kernel::syn_retransmissions(&lab.gateway)?)
        };
        let before = syns()?;
        let out = self.load(MANY, self.times.full(), Kind::Tcp(1))?;
        let again = syns()? - before;
        Ok(vec![
            ("connections", out.answers as f64 / out.seconds),
            ("syn-retransmissions", again as f64),
            ("failed", out.failed as f64),
        ])
    }

    fn packets(&self) -> Result<Values> {
        self.stage.offloads(false);
        let lab = &self.stage.lab;
        let time = self.times.whole_half();
        let measured = kernel::amidst(
            time,
            || kernel::received(&lab.backend, "eth0"),
            || peer::iperf(&lab.client, self.contender.at(IPERF), time, false, None),
        );
        self.stage.offloads(true);
        let ((then, before), (now, after), _) = measured?;
        Ok(vec![("packets", (after - before) as f64 / (now - then).as_secs_f64())])
    }

    fn cpu(&self) -> Result<Values> {
        let client = &self.stage.lab.client;
        let time = self.times.full();
        let at = self.contender.at(IPERF);
        // Others' work would be counted as the contender's, and make them all look alike.
        let quiet = (0..QUIET_TRIES).any(|_| kernel::background(QUIET).is_ok_and(|busy| busy < FOREIGN));
        ensure!(quiet, "the machine is busy with other things");
        let soak = Soak::start(5 * QUIET)?;
        let work = || peer::iperf(client, at, time, false, Some(RATE));
        let (first, last, rate) = kernel::amidst(time, || Ok(soak.read()), work)?;
        // One that cannot go that fast would look cheap.
        Ok(vec![("cpu", soak.busy(&first, &last) * (RATE / rate).max(1.0))])
    }

    fn bpf(&self) -> Result<Values> {
        let Gateway::Sluice(agent) = self.gateway else { return Ok(Vec::new()) };
        let _clock = BpfClock::start()?;
        let before = kernel::tc_programs(agent)?;
        self.load(MANY, Duration::from_secs(1), Kind::Tcp(u32::MAX))?;
        let after = kernel::tc_programs(agent)?;
        let per_packet = kernel::nanoseconds_per_packet(&before, &after)?;
        Ok(per_packet.map(|ns| ("bpf", ns)).into_iter().collect())
    }

    /// On a stage and with a gateway of its own: the usual one's allocator has seen better days.
    fn memory(&self) -> Result<Values> {
        let contender = self.contender;
        let stage = Stage::new("memory", self.stage.threads, contender.router)?;
        // Namespaces of the contender before are taken down in the background.
        thread::sleep(Duration::from_secs(1));
        let before = Memory::now()?;
        let gateway = contender.start(&stage)?;
        let seen = contender.look(&stage, &gateway)?;
        ensure!(seen.tcp == self.seen.tcp, "TCP took another path than before: {}", seen.tcp);
        let connections = super::idle_connections()?;
        let idle = stage.idle(contender.at(ECHO), contender.sources, connections)?;
        thread::sleep(Duration::from_secs(1));
        let after = Memory::now()?;
        let process = gateway.pid()?.map(peer::resident).transpose().context("the gateway has ended")?;
        drop(idle);
        const MIB: f64 = 1024.0 * 1024.0;
        let mut values = vec![
            ("memory-slab", (after.slab - before.slab) / MIB),
            ("memory-machine", (before.available - after.available) / MIB),
        ];
        values.extend(process.map(|bytes| ("memory-process", bytes as f64 / MIB)));
        Ok(values)
    }
}
