//! `demo`: the main job on the real kernel — three network namespaces, the real agent, real traffic, a change while
//! the traffic runs, and the counts held against what was sent.

mod forward;
mod traffic;

use std::{
    collections::BTreeMap,
    env, fs,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gateway_tests::{
    agent::Agent,
    lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab},
    peers::{echo, server::Server},
};
use nix::sys::signal::{SigSet, Signal};

use self::traffic::Tally;
use crate::{
    setup::{self, Part},
    sh, test,
};

const CONFIG: &str = "config/examples/demo.yaml";
const WEIGHTS: [&str; 2] = ["weight: 3", "weight: 1"];

/// Everything that is counted, and what of it is an exact number.
const ROWS: [(&str, bool); 8] = [
    ("requests to orders", true),
    ("requests to shop-v1", true),
    ("requests to shop-v2", true),
    ("requests without a route (404)", true),
    ("TCP connections to db", true),
    // A lookup happens for a repeated SYN too.
    ("lookups for *:80, at least", false),
    ("lookups for *:5432, at least", false),
    ("lookups without a binding, at least", false),
];

/// Numbers by the rows' names.
type Counts = BTreeMap<&'static str, u64>;

/// Builds what is needed as the user, then shows it as root.
pub(crate) fn run() -> Result<()> {
    if env::var_os("SLUICE_BIN").is_some() {
        return show();
    }
    setup::ensure(&[Part::Bpf, Part::Net])?;
    let sluice = test::sluice("dev")?;
    let mut command = sh::as_root("env")?;
    command.arg(format!("SLUICE_BIN={}", sluice.display()));
    sh::run(command.arg(env::current_exe().context("this program has a path")?).arg("demo"))
}

fn show() -> Result<()> {
    ensure!(sh::is_root(), "the demo makes network namespaces, which needs root");
    // Ctrl-C reaches the agent too: without it the demo fails, and so cleans up.
    SigSet::from(Signal::SIGINT).thread_block()?;
    let yaml =
        fs::read_to_string(sh::root().join(CONFIG)).with_context(|| format!("cannot read {CONFIG}"))?;
    let changed = swap(&yaml)?;
    println!(
        "client ── gateway ── backends, three network namespaces, IPv4 and IPv6\n\
         {CONFIG}:\n  *:80    /orders → orders\n          /shop   → shop-v1 (weight 3), shop-v2 (weight 1)\n  \
         *:5432          → db\n"
    );
    let lab = Lab::new("demo");
    let _backends = backends(&lab);
    let start = Instant::now();
    let mut agent = Agent::start(&lab.gateway, &yaml, &["--workers", "2"]);
    println!("the agent is ready after {} ms", start.elapsed().as_millis());

    let mut sent = traffic::rounds(&lab, 100)?;
    let first = table(&agent, &sent)?;
    share(&sent, "requests to shop-v1", 3, 4)?;
    println!("{} requests answered; shop-v1 got {} of 4", sent.requests(), of_four(&sent));

    println!("the weights are swapped while traffic runs …");
    let (during, took) = traffic::during(&lab, || {
        thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        agent.change(&changed);
        let took = start.elapsed();
        thread::sleep(Duration::from_millis(300));
        took
    })?;
    println!(
        "{} requests answered around the change, none failed; it was taken in {} ms",
        during.requests(),
        took.as_millis()
    );
    sent.add(&during);
    let after = traffic::rounds(&lab, 100)?;
    share(&after, "requests to shop-v1", 1, 4)?;
    println!("{} requests answered; shop-v1 got {} of 4\n", after.requests(), of_four(&after));
    sent.add(&after);
    let second = table(&agent, &sent)?;

    print(&first, &second);
    let mut wrong = 0;
    for (when, rows) in [("before", &first), ("after", &second)] {
        for (name, sent, counted) in rows.iter().filter(|row| !fits(row)) {
            eprintln!("{when} the change, {name}: {sent} sent, {counted} counted");
            wrong += 1;
        }
    }
    if wrong > 0 {
        bail!("{wrong} counts differ from what was sent");
    }
    println!("\nevery answer was right, and every count is what was sent\n");
    forward::show(&lab, &mut agent)
}

/// The configuration with the weights the other way round.
fn swap(yaml: &str) -> Result<String> {
    let [three, one] = WEIGHTS;
    ensure!(yaml.contains(three) && yaml.contains(one), "{CONFIG} has not the weights that the demo changes");
    Ok(yaml.replace(three, "weight: X").replace(one, three).replace("weight: X", one))
}

fn backends(lab: &Lab) -> [Server; 4] {
    let http = |ip: IpAddr, port, name| echo::http(&lab.backend, SocketAddr::new(ip, port), name);
    [
        http(BACKEND4, 8001, "orders"),
        http(BACKEND4, 8002, "shop-v1"),
        http(BACKEND6, 8003, "shop-v2"),
        echo::witness(&lab.backend, SocketAddr::new(BACKEND6, 9001), "db"),
    ]
}

/// A row: its name, what was sent, what was counted.
type Row = (&'static str, u64, u64);

/// What was sent and what was counted, read again until it fits or has not changed for a while.
fn table(agent: &Agent<'_>, sent: &Tally) -> Result<Vec<Row>> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let counted = counted(agent)?;
        let get = |counts: &Counts, name| counts.get(name).copied().unwrap_or_default();
        let rows: Vec<_> =
            ROWS.iter().map(|(name, _)| (*name, get(&sent.counts, name), get(&counted, name))).collect();
        // An answer is counted when all of it has gone, which its reader may see first.
        if rows.iter().all(fits) || Instant::now() > deadline {
            return Ok(rows);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn fits((name, sent, counted): &Row) -> bool {
    let exact = ROWS.iter().any(|(row, exact)| row == name && *exact);
    if exact { sent == counted } else { counted >= sent }
}

/// What the agent says, from `/metrics` and `sluice maps -o json`.
fn counted(agent: &Agent<'_>) -> Result<Counts> {
    let metrics = agent.metrics();
    let sum = |name, label: &str| gateway_tests::agent::sum(&metrics, name, &[label]) as u64;
    let requests =
        |backend: &str| sum("sluice_http_requests_total", &format!("backend=\"default/{backend}:80\""));
    let maps = agent.ask("maps");
    let bindings = maps["bindings"].as_array().context("`sluice maps` lists bindings")?;
    let hits = |port: u16| {
        bindings.iter().filter(|b| b["port"] == port).filter_map(|b| b["hits"].as_u64()).sum::<u64>()
    };
    let numbers = [
        requests("orders"),
        requests("shop-v1"),
        requests("shop-v2"),
        sum("sluice_http_requests_total", "code=\"4xx\""),
        ["sluice_tcp_connections_total", "sluice_forward_connections_total"]
            .map(|name| sum(name, &format!("backend=\"[{BACKEND6}]:9001\"")))
            .iter()
            .sum(),
        hits(80),
        hits(5432),
        maps["misses"].as_u64().context("`sluice maps` tells misses")?,
    ];
    Ok(ROWS.iter().map(|(name, _)| *name).zip(numbers).collect())
}

/// Whether a backend got its share of the requests to the shop, give or take a twentieth.
fn share(sent: &Tally, name: &str, part: u64, whole: u64) -> Result<()> {
    let (got, all) = (sent.counts.get(name).copied().unwrap_or_default(), shop(sent));
    let want = all * part / whole;
    ensure!(got.abs_diff(want) <= all / 20, "{name}: {got} of {all}, not about {want}");
    Ok(())
}

fn shop(sent: &Tally) -> u64 {
    ["requests to shop-v1", "requests to shop-v2"].iter().filter_map(|name| sent.counts.get(name)).sum()
}

fn of_four(sent: &Tally) -> String {
    let got = sent.counts.get("requests to shop-v1").copied().unwrap_or_default();
    format!("{:.2}", 4.0 * got as f64 / shop(sent).max(1) as f64)
}

fn print(first: &[Row], second: &[Row]) {
    println!("{:36} {:>8} {:>8}   {:>8} {:>8}", "", "before", "", "after", "");
    println!("{:36} {:>8} {:>8}   {:>8} {:>8}", "", "sent", "counted", "sent", "counted");
    for ((name, sent, counted), (_, sent2, counted2)) in first.iter().zip(second) {
        println!("{name:36} {sent:>8} {counted:>8}   {sent2:>8} {counted2:>8}");
    }
}

/// The gateway's addresses that the client knows.
const GATEWAYS: [IpAddr; 2] = [GATEWAY4, GATEWAY6];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_the_example_can_be_swapped() {
        let yaml = fs::read_to_string(sh::root().join(CONFIG)).unwrap();
        let changed = swap(&yaml).unwrap();
        assert_ne!(changed, yaml);
        assert_eq!(swap(&changed).unwrap(), yaml);
        assert!(swap("").is_err());
    }

    #[test]
    fn requests_must_fit_exactly_and_lookups_at_least() {
        for (row, want) in [
            (("requests to orders", 5, 5), true),
            (("requests to orders", 5, 6), false),
            (("lookups for *:80, at least", 5, 6), true),
            (("lookups for *:80, at least", 5, 4), false),
        ] {
            assert_eq!(fits(&row), want, "{row:?}");
        }
    }
}
