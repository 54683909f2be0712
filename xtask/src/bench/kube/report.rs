//! The figures, what they shall be, and both as Markdown and as JSON.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    super::{peer, stats::percentile},
    GATEWAYS, Requests, Traffic,
};

/// From the API server's answer until a change serves: 99 of 100, in milliseconds.
const SERVE_MS: f64 = 30.0;
/// Memory with all routes, in MB (10⁶ bytes).
const MEMORY_MB: f64 = 60.0;
/// CPU at rest, as a share of a core.
const REST: f64 = 0.01;

/// All that was measured.
pub(super) struct Figures {
    pub(super) routes: u32,
    pub(super) more: u32,
    /// How long the first routes took to be made, before there was an agent.
    pub(super) loading: Duration,
    /// From the agent's start until it is ready, and until all statuses are there.
    pub(super) ready: Duration,
    pub(super) first: Duration,
    pub(super) changes: Vec<Change>,
    /// How long all changes took.
    pub(super) changing: Duration,
    /// The agent's CPU meanwhile, in seconds.
    pub(super) work: f64,
    pub(super) traffic: Traffic,
    /// How long more routes took to be made, and from there being begun until all have their status.
    pub(super) applying: Duration,
    pub(super) settling: Duration,
    /// With the first routes, and in the end.
    pub(super) fresh: Memory,
    pub(super) changed: Memory,
    /// CPU at rest, as a share of a core.
    pub(super) rest: f64,
    /// The agent's requests: over some time at rest, while routes changed, and for more routes.
    pub(super) at_rest: (Duration, Requests),
    pub(super) during_changes: Requests,
    pub(super) while_settling: Requests,
}

/// A change, in milliseconds since the API server's answer.
pub(super) struct Change {
    served: f64,
    /// When a watch of the benchmark's own told of it: before the answer, for the most part.
    seen: f64,
    settled: f64,
}

impl Change {
    pub(super) fn new(answered: Instant, served: Duration, seen: Instant, settled: Instant) -> Self {
        let since = |at: Instant| {
            let early = answered.saturating_duration_since(at).as_secs_f64();
            (at.saturating_duration_since(answered).as_secs_f64() - early) * 1e3
        };
        Self { served: served.as_secs_f64() * 1e3, seen: since(seen), settled: since(settled) }
    }
}

/// A process's memory, in bytes.
pub(super) struct Memory {
    /// Its share of all pages that it has (PSS).
    pss: u64,
    /// Of these, heap and stacks: what is no file.
    anonymous: u64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self> {
        Ok(Self { pss: peer::resident(pid)?, anonymous: peer::anonymous(pid)? })
    }
}

/// A figure and its aim.
struct Row {
    name: String,
    value: String,
    aim: Option<(String, bool)>,
}

impl Row {
    fn new(name: impl Into<String>, value: String) -> Self {
        Self { name: name.into(), value, aim: None }
    }

    fn aim(self, aim: impl Into<String>, met: bool) -> Self {
        Self { aim: Some((aim.into(), met)), ..self }
    }
}

impl Figures {
    fn rows(&self) -> Vec<Row> {
        let Self { routes, more, traffic, .. } = self;
        let (p99, of) = (percentile(&self.each(|change| change.served), 99.0), self.changes.len());
        let memory = |memory: &Memory| {
            format!("{:.1} MB; {:.1} MB of it heap and stacks", mega(memory.pss), mega(memory.anonymous))
        };
        let asked = total(&self.during_changes) as f64 / of as f64;
        let settling = self.settling.as_secs_f64();
        vec![
            Row::new("a change, from the API server's answer until it serves", self.spread(|c| c.served))
                .aim(format!("p99 ≤ {SERVE_MS} ms"), p99 <= SERVE_MS),
            Row::new("… until the benchmark's own watch has told of it", self.spread(|c| c.seen)),
            Row::new("… until its status is written", self.spread(|c| c.settled)),
            Row::new(
                "requests on other routes meanwhile",
                format!("{}, {} failed", traffic.requests, traffic.failed),
            )
            .aim("0 failed", traffic.failed == 0),
            Row::new("API requests of the agent for each change", format!("{asked:.2}")),
            Row::new(
                "CPU of the agent for each change, with the requests that it serves meanwhile",
                format!("{:.0} ms", self.work * 1e3 / of as f64),
            ),
            Row::new(
                format!("{more} more routes, from the first request until all statuses are there"),
                format!(
                    "{settling:.2} s, {:.0}/s; the API server took them in {:.2} s",
                    f64::from(*more) / settling,
                    self.applying.as_secs_f64()
                ),
            ),
            Row::new(format!("memory (PSS) with {routes} routes"), memory(&self.fresh))
                .aim(format!("≤ {MEMORY_MB} MB"), mega(self.fresh.pss) <= MEMORY_MB),
            Row::new(
                format!("memory (PSS) with {} routes, after the changes", routes + more),
                memory(&self.changed),
            ),
            Row::new(
                format!("CPU at rest, over {} s", self.at_rest.0.as_secs()),
                format!("{:.2} % of a core", self.rest * 100.0),
            )
            .aim(format!("< {} %", REST * 100.0), self.rest < REST),
            Row::new(
                "the agent's start, until it is ready and until all statuses are there",
                format!("{:.2} s, {:.2} s", self.ready.as_secs_f64(), self.first.as_secs_f64()),
            ),
        ]
    }

    /// The tables; so many CPUs were busy before it began.
    pub(super) fn markdown(&self, busy: f64) -> Result<String> {
        let mut text = format!("# HTTPRoutes on an API server\n\n{}\n", self.about(busy)?);
        text.push_str("\n| figure | measured | aim | |\n|---|---|---|---|\n");
        for Row { name, value, aim } in self.rows() {
            let (aim, met) = aim.unwrap_or_else(|| ("–".to_owned(), true));
            let verdict = match (&*aim, met) {
                ("–", _) => "",
                (_, true) => "met",
                (_, false) => "missed",
            };
            writeln!(text, "| {name} | {value} | {aim} | {verdict} |")?;
        }
        self.requests(&mut text)?;
        Ok(text)
    }

    fn requests(&self, text: &mut String) -> fmt::Result {
        let of = self.changes.len() as f64;
        let (rest, at_rest) = &self.at_rest;
        writeln!(
            text,
            "\n## API requests of the agent\n\n\
             As the API server's audit log has them of the agent's ServiceAccount, refused ones too. The changes took \
             {:.0} s, with what goes on at rest in them.\n\n\
             | request | {of} changes | for each | {} s at rest | {} more routes |\n|---|---:|---:|---:|---:|",
            self.changing.as_secs_f64(),
            rest.as_secs(),
            self.more
        )?;
        let columns = [&self.during_changes, at_rest, &self.while_settling];
        let names: BTreeSet<_> = columns.iter().flat_map(|requests| requests.keys()).collect();
        let mut row = |name: &str, [changes, rest, more]: [u64; 3]| {
            writeln!(text, "| {name} | {changes} | {:.2} | {rest} | {more} |", changes as f64 / of)
        };
        for name in names {
            row(name, columns.map(|requests| requests.get(name).copied().unwrap_or_default()))?;
        }
        row("all", columns.map(total))
    }

    fn about(&self, busy: f64) -> Result<String> {
        Ok(format!(
            "{} HTTPRoutes over {GATEWAYS} Gateways, {} changes one after the other, then {} routes more. API server, \
             etcd, pods, load and agent share {} CPUs, {busy:.2} of them busy before it began; Linux {}.",
            self.routes,
            self.changes.len(),
            self.more,
            thread::available_parallelism()?,
            fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()
        ))
    }

    /// Every value.
    pub(super) fn json(&self) -> Value {
        let memory = |memory: &Memory| json!({ "pss": memory.pss, "anonymous": memory.anonymous });
        let aims: Vec<_> = self
            .rows()
            .into_iter()
            .filter_map(|row| {
                let (aim, met) = row.aim?;
                Some(json!({ "figure": row.name, "measured": row.value, "aim": aim, "met": met }))
            })
            .collect();
        let (rest, at_rest) = &self.at_rest;
        json!({
            "routes": self.routes,
            "more": self.more,
            "aims": aims,
            "change_ms": {
                "served": self.each(|change| change.served),
                "seen": self.each(|change| change.seen),
                "status": self.each(|change| change.settled),
            },
            "changes_s": { "took": self.changing.as_secs_f64(), "cpu": self.work },
            "traffic": { "requests": self.traffic.requests, "failed": self.traffic.failed },
            "start_s": { "ready": self.ready.as_secs_f64(), "statuses": self.first.as_secs_f64() },
            "load_s": self.loading.as_secs_f64(),
            "more_s": { "applied": self.applying.as_secs_f64(), "statuses": self.settling.as_secs_f64() },
            "memory": { "fresh": memory(&self.fresh), "changed": memory(&self.changed) },
            "rest": { "seconds": rest.as_secs_f64(), "cores": self.rest },
            "requests": { "changes": self.during_changes, "rest": at_rest, "more": self.while_settling },
        })
    }

    fn each(&self, value: impl Fn(&Change) -> f64) -> Vec<f64> {
        self.changes.iter().map(value).collect()
    }

    fn spread(&self, value: impl Fn(&Change) -> f64) -> String {
        let values = self.each(value);
        let [p50, p99, most] = [50.0, 99.0, 100.0].map(|share| percentile(&values, share));
        format!("p50 {p50:.1}, p99 {p99:.1}, max {most:.1} ms")
    }
}

fn total(requests: &Requests) -> u64 {
    requests.values().sum()
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let second = Duration::from_secs(1);
        let change = |served| Change { served, seen: -1.0, settled: 40.0 };
        let requests = |name: &str, count| Requests::from([(name.to_owned(), count)]);
        Figures {
            routes: 5000,
            more: 1000,
            loading: second,
            ready: second,
            first: second,
            changes: vec![change(10.0), change(31.0)],
            changing: second,
            work: 0.5,
            traffic: Traffic { requests: 70, ..Traffic::default() },
            applying: second,
            settling: 4 * second,
            fresh: Memory { pss: 60_000_000, anonymous: 50_000_000 },
            changed: Memory { pss: 70_000_000, anonymous: 60_000_000 },
            rest: 0.0123,
            at_rest: (20 * second, requests("update leases", 4)),
            during_changes: requests("patch httproutes/status", 3),
            while_settling: Requests::new(),
        }
    }

    #[test]
    fn each_aim_is_said_with_its_figure_and_whether_it_is_met() {
        let text = figures().markdown(0.0).unwrap();
        for line in [
            "| a change, from the API server's answer until it serves | p50 10.0, p99 31.0, max 31.0 ms | p99 ≤ 30 ms | missed |",
            "| requests on other routes meanwhile | 70, 0 failed | 0 failed | met |",
            "| memory (PSS) with 5000 routes | 60.0 MB; 50.0 MB of it heap and stacks | ≤ 60 MB | met |",
            "| CPU at rest, over 20 s | 1.23 % of a core | < 1 % | missed |",
            "| API requests of the agent for each change | 1.50 | – |  |",
            "| patch httproutes/status | 3 | 1.50 | 0 | 0 |",
            "| all | 3 | 1.50 | 4 | 0 |",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert_eq!(figures().json()["aims"].as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn what_is_seen_before_the_answer_is_negative() {
        let answered = Instant::now();
        let at = |ms| answered + Duration::from_millis(ms);
        let change = Change::new(at(3), Duration::ZERO, answered, at(8));
        assert_eq!((change.seen, change.settled), (-3.0, 5.0));
    }
}
