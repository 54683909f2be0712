//! `bench l4`: TCP and UDP through the gateway, packet by packet or through a process, against no gateway at all.
//!
//! Every contender has a lab of its own and is measured in turn, round by round, so that what disturbs the machine
//! disturbs them all; what counts are the ratios within a round.

mod bars;
mod chart;
mod contender;
mod kernel;
mod probe;
mod report;
mod results;
mod stage;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::{
    contender::{CONTENDERS, Contender, Gateway, Seen},
    probe::{Probe, Times, Turn},
    report::Report,
    results::Results,
    stage::{ECHO, Kind, Load, Stage},
};
use super::table;

/// How much of it.
#[derive(Args)]
pub(crate) struct L4 {
    /// Paired rounds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds for each of the long measurements of a round; the short ones take half.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Worker threads or processes of every contender, and threads of either end of the load.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: u8,
    /// Only this contender; may be given more than once.
    #[arg(long, value_name = "CONTENDER", value_parser = contender::keys())]
    only: Vec<String>,
    /// Only this measure; may be given more than once.
    #[arg(long, value_name = "NAME")]
    measure: Vec<Probe>,
}

/// Idle connections whose memory is looked at, where the limit on open files allows so many.
const IDLE: usize = 10_000;

/// A contender that runs on its stage.
struct Player<'a> {
    contender: &'static Contender,
    stage: &'a Stage,
    gateway: Gateway<'a>,
    seen: Seen,
}

pub(super) fn run(options: &L4) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit on open files")?;
    let contenders: Vec<&'static Contender> = CONTENDERS
        .iter()
        .filter(|contender| options.only.is_empty() || options.only.iter().any(|key| key == contender.key))
        .collect();
    options.announce(&contenders);
    kernel::no_clock()?;
    let busy = background()?;
    let stages: Vec<_> = contenders
        .iter()
        .map(|contender| Stage::new(contender.key, options.workers, contender.router))
        .collect::<Result<_>>()?;
    let mut results = Results::default();
    let mut players = Vec::new();
    for (contender, stage) in contenders.into_iter().zip(&stages) {
        let gateway = contender.start(stage)?;
        let seen = contender.look(stage, &gateway)?;
        if !seen.holds {
            eprintln!("{}: traffic takes another path than it should (TCP: {})", contender.name, seen.tcp);
        }
        results.saw(contender.key, seen.holds);
        let load = Load {
            to: contender.at(ECHO),
            sources: contender.sources,
            connections: 32,
            time: Duration::from_millis(300),
            kind: Kind::Tcp(u32::MAX),
        };
        stage.load(load).with_context(|| contender.name)?;
        players.push(Player { contender, stage, gateway, seen });
    }
    let start = Instant::now();
    for round in 0..options.rounds {
        options.round(round, &players, &mut results);
        eprintln!("round {} of {}, {:.0} s", round + 1, options.rounds, start.elapsed().as_secs_f64());
    }
    let seen: Vec<_> = players
        .into_iter()
        .map(|player| (player.contender, Seen { relayed: player.gateway.relayed(), ..player.seen }))
        .collect();
    options.show(busy, &seen, &results)
}

/// CPUs that are busy with other things, which is said if they are many.
pub(super) fn background() -> Result<f64> {
    let busy = kernel::background(Duration::from_millis(500))?;
    if busy > 0.1 {
        eprintln!("{busy:.2} CPUs are busy with other things: figures will be off");
    }
    Ok(busy)
}

/// So many idle connections can be had: a relay has two files for each, and some of its own.
fn idle_connections() -> Result<usize> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = usize::try_from(soft).unwrap_or(usize::MAX).saturating_sub(200) / 2;
    ensure!(most >= 100, "the limit on open files is {soft}; raise it to 20,200 (ulimit -n)");
    Ok(most.min(IDLE))
}

impl L4 {
    fn times(&self) -> Times {
        Times { seconds: self.seconds }
    }

    /// The probes of a contender, in order.
    fn probes(&self, contender: &Contender) -> impl Iterator<Item = Probe> {
        let wanted = |probe: &Probe| self.measure.is_empty() || self.measure.contains(probe);
        contender.probes.iter().copied().filter(wanted)
    }

    fn announce(&self, contenders: &[&'static Contender]) {
        let seconds: f64 = contenders
            .iter()
            .flat_map(|contender| self.probes(contender))
            .map(|probe| f64::from(probe.rounds(self.rounds)) * probe.expected(self.times()))
            .sum();
        eprintln!(
            "bench l4: {} contenders, {} rounds: about {:.0} min; nothing else should run on this machine",
            contenders.len(),
            self.rounds,
            (seconds / 60.0).ceil()
        );
    }

    /// A round: probe by probe, every contender in turn, another one first in each round.
    fn round(&self, round: u16, players: &[Player<'_>], results: &mut Results) {
        let index = usize::from(round);
        for probe in Probe::ALL.iter().copied().filter(|probe| round < probe.rounds(self.rounds)) {
            for turn in 0..players.len() {
                let player = &players[(index + turn) % players.len()];
                let contender = player.contender;
                if !self.probes(contender).any(|one| one == probe) {
                    continue;
                }
                let (stage, gateway, seen) = (player.stage, &player.gateway, &player.seen);
                let turn = Turn { contender, stage, gateway, seen, times: self.times() };
                match turn.take(probe) {
                    Ok(values) => values
                        .into_iter()
                        .for_each(|(figure, value)| results.add(index, figure, contender.key, value)),
                    // Half an hour's figures are not lost for one.
                    Err(e) => {
                        let why = format!("round {}, {}, {probe:?}: {e:#}", round + 1, contender.name);
                        eprintln!("{why}");
                        results.failed(why);
                    }
                }
            }
        }
    }

    fn show(&self, busy: f64, seen: &[(&'static Contender, Seen)], results: &Results) -> Result<()> {
        let about = format!(
            "{} paired rounds, {} s each; {} workers; {} idle connections; Linux {}, {} CPUs, {busy:.2} of them busy \
             before it began.",
            self.rounds,
            self.seconds,
            self.workers,
            idle_connections()?,
            fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
            thread::available_parallelism()?,
        );
        let report = Report { about: &about, seen, results };
        let text = report.markdown()?;
        println!("\n{text}");
        table::save("l4.md", &text)?;
        table::save("l4.svg", &chart::svg(seen, results)?)?;
        table::write("l4", &report.json())
    }
}
