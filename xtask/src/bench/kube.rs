//! `bench kube`: 5,000 HTTPRoutes on a real API server: how soon a change serves, how soon statuses are there, and what
//! the agent costs meanwhile.
//!
//! Owns the order of a run and what makes it an error: a failed request, a change that is never served, a status that
//! never comes. A missed aim is said and is none. API server, etcd, pods, load and agent share the machine, so figures are
//! above those of a cluster whose control plane is elsewhere.

mod audit;
mod bed;
mod report;
mod statuses;
mod traffic;

use std::{
    fs,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gateway_tests::{
    agent::{self, Agent},
    client::Http,
    installed,
};
use serde_json::json;

use self::{
    audit::{Audit, Requests},
    bed::{Bed, GATEWAYS, HOST},
    report::{Change, Figures, Memory},
    statuses::Statuses,
    traffic::Traffic,
};
use super::{l4, peer, table};

/// How much of it.
#[derive(Args)]
pub(crate) struct Kube {
    /// HTTPRoutes that are there from the start.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(2 * i64::from(GATEWAYS)..=50_000))]
    routes: u32,
    /// Changes of a route, one after the other.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    changes: u32,
    /// HTTPRoutes that are then added as fast as the API server takes them.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    more: u32,
}

/// How long a change may take to be served.
const SERVED: Duration = Duration::from_secs(20);
/// How long all statuses may take, after which one of them is taken to never come.
const SETTLED: Duration = Duration::from_secs(180);
/// Between two changes at the least: one on the heels of another would be served along with it.
const BETWEEN: Duration = Duration::from_millis(100);
/// Between two looks at whether a change is served.
const LOOK: Duration = Duration::from_micros(200);
/// Until the agent has given back what a change took.
const QUIET: Duration = Duration::from_secs(12);
/// How long it is looked at at rest.
const REST: Duration = Duration::from_secs(20);

pub(super) fn run(options: &Kube) -> Result<()> {
    let busy = l4::background()?;
    let start = Instant::now();
    let bed = Bed::new()?;
    let loading = bed.add(0..options.routes)?;
    eprintln!(
        "bench kube: a cluster with {} HTTPRoutes over {GATEWAYS} Gateways after {:.0} s; nothing else should run on \
         this machine",
        options.routes,
        start.elapsed().as_secs_f64()
    );
    let statuses = Statuses::follow(bed.cluster.api()?)?;
    statuses.know(options.routes, SETTLED)?;
    let start = Instant::now();
    let agent = installed::agent(&bed.cluster, &bed.gateway, "gateway");
    let ready = start.elapsed();
    let figures = measure(options, &bed, &statuses, &agent, (start, ready, loading));
    table::save("kube.agent.log", &agent.log())?;
    let figures = figures?;
    let text = figures.markdown(busy)?;
    println!("\n{text}");
    table::save("kube.md", &text)?;
    table::write("kube", &figures.json())?;
    let Traffic { requests, failed, failures } = &figures.traffic;
    ensure!(
        *failed == 0,
        "{failed} of {requests} requests failed while routes changed: {}",
        failures.join("; ")
    );
    Ok(())
}

fn measure(
    options: &Kube,
    bed: &Bed,
    statuses: &Statuses,
    agent: &Agent<'_>,
    (start, ready, loading): (Instant, Duration, Duration),
) -> Result<Figures> {
    let pid = process(agent)?;
    let mut audit = Audit::new(bed.cluster.audit());
    let first = statuses.settle(options.routes, SETTLED)?.saturating_duration_since(start);
    let at = bed.addresses(SETTLED)?;
    bed.wait_served(at[0], SETTLED)?;
    eprintln!("ready after {:.1} s, all statuses after {:.1} s", ready.as_secs_f64(), first.as_secs_f64());

    thread::sleep(QUIET);
    let fresh = Memory::of(pid)?;
    audit.since()?;
    let (cpu, begin) = (peer::cpu(pid)?, Instant::now());
    thread::sleep(REST);
    let rest = (peer::cpu(pid)? - cpu) / begin.elapsed().as_secs_f64();
    let at_rest = audit.since()?;
    eprintln!("at rest {:.2} % of a core", rest * 100.0);

    let stop = AtomicBool::new(false);
    let (cpu, begin) = (peer::cpu(pid)?, Instant::now());
    let (changes, traffic) = thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic::steady(&bed.client, &at, options.routes, &stop));
        let changes = change(options, bed, statuses, &at);
        stop.store(true, Ordering::Relaxed);
        (changes, traffic.join())
    });
    let (work, changing) = (peer::cpu(pid)? - cpu, begin.elapsed());
    let traffic = traffic.map_err(|_| anyhow::anyhow!("the traffic's thread has panicked"))?;
    let changes = changes.with_context(|| traffic.to_string())?;
    let during_changes = audit.since()?;
    eprintln!("{} changes in {:.0} s; {traffic}", changes.len(), changing.as_secs_f64());

    let begin = Instant::now();
    let all = options.routes + options.more;
    let applying = bed.add(options.routes..all)?;
    let settling = statuses.settle(all, SETTLED)?.saturating_duration_since(begin);
    let while_settling = audit.since()?;
    thread::sleep(QUIET);
    let changed = Memory::of(pid)?;
    Ok(Figures {
        routes: options.routes,
        more: options.more,
        loading,
        ready,
        first,
        changes,
        changing,
        work,
        traffic,
        applying,
        settling,
        fresh,
        changed,
        rest,
        at_rest: (REST, at_rest),
        during_changes,
        while_settling,
    })
}

/// The agent's own process: what was started ends it along with this one.
fn process(agent: &Agent<'_>) -> Result<u32> {
    let tether = u32::try_from(agent.pid())?;
    let pid = *peer::children(tether).first().context("the agent has no process")?;
    let program = fs::read_link(format!("/proc/{pid}/exe"))?;
    ensure!(
        program == agent::binary().canonicalize()?,
        "process {pid} is {}, not the agent",
        program.display()
    );
    Ok(pid)
}

/// Changes the first route of one Gateway after the other so that it serves one more path, and asks for that until it
/// does.
fn change(options: &Kube, bed: &Bed, statuses: &Statuses, at: &[SocketAddr]) -> Result<Vec<Change>> {
    let mut api = bed.cluster.api()?;
    let mut changes = Vec::new();
    for n in 0..options.changes {
        let route = n % GATEWAYS;
        let at = at[route as usize];
        let path = format!("/change-{n}");
        let mut connection = Http::connect(&bed.client, at)?;
        let status = connection.get(HOST, &path)?.status;
        ensure!(status == 404, "{path} is answered by {status} before any route has it (404 is right)");
        let patch = json!({ "spec": { "rules": bed::rules(route, Some(&path)) } });
        let (object, answered) = api.merge(&bed::path(route), &patch)?;
        let generation = object["metadata"]["generation"].as_i64().context("a route without generation")?;
        loop {
            match connection.get(HOST, &path)?.status {
                200 => break,
                404 if answered.elapsed() < SERVED => thread::sleep(LOOK),
                404 => bail!("change {n} of route {route} is not served after {SERVED:?}"),
                other => bail!("change {n} of route {route}: {path} is answered by {other}"),
            }
        }
        let served = answered.elapsed();
        let (seen, settled) = statuses.wait_for(route, generation, SETTLED)?;
        changes.push(Change::new(answered, served, seen, settled));
        thread::sleep(BETWEEN.saturating_sub(answered.elapsed()));
    }
    Ok(changes)
}
