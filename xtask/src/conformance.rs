//! `conformance`: the Gateway API's own conformance suite against the agent, in a cluster of the tests' or another.
//!
//! Owns the order of a run and what makes it a success. The suite decides what passes: which features are claimed is read
//! by it from the GatewayClass, nothing is exempted and no test is skipped. Must not know what a test checks.

mod agent;
mod outcome;
mod report;
mod suite;
mod table;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use gateway_tests::{
    agent::Agent,
    cluster::{self, Channel, Cluster, Config, GATEWAYS4, Programs},
    netns::NetNs,
};
use nix::sys::signal::{SigSet, Signal};

use self::{
    agent::Forwarded,
    outcome::{Outcome, Plan},
    report::Report,
};
use crate::{
    setup::{self, Part},
    sh, test,
};

/// What the task was asked for.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Only the tests that this profile counts; may be given more than once. Without any, all of the suite's tests are run
    /// whose features the GatewayClass claims, for every profile whose core it claims
    #[arg(long = "profile", value_enum, value_name = "PROFILE")]
    profiles: Vec<Profile>,
    /// Only this test, whatever features it needs.
    #[arg(long, value_name = "NAME")]
    run_test: Option<String>,
    /// Run all of it so many times; what fails once has failed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    repeat: u32,
    /// Run the suite alone, against this cluster and the controller that is there.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["channel", "forward", "keep"])]
    kubeconfig: Option<PathBuf>,
    /// The Gateway API's CRDs that the cluster has.
    #[arg(long, value_enum, default_value = "experimental")]
    channel: ChannelName,
    /// Whether the kernel forwards TCPRoutes and UDPRoutes.
    #[arg(long, value_enum, default_value = "on")]
    forward: Switch,
    /// Leave cluster and agent running after the suite, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Wait no longer than this for anything, in seconds: for development, where much fails.
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u32>,
    /// The GatewayClass to test.
    #[arg(long, default_value = agent::CLASS, value_name = "NAME")]
    gateway_class: String,
    /// An address that a Gateway can get, for the test of static addresses.
    #[arg(long, value_name = "ADDRESS", requires = "kubeconfig")]
    usable_address: Option<String>,
    /// One that it cannot.
    #[arg(long, value_name = "ADDRESS", requires = "kubeconfig")]
    unusable_address: Option<String>,
    /// Write the table into README.md; only for a run of everything.
    #[arg(long, conflicts_with_all = ["profiles", "run_test", "kubeconfig"])]
    readme: bool,
}

/// The suite's profiles for gateways.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Profile {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "GATEWAY-HTTP",
            Self::Grpc => "GATEWAY-GRPC",
            Self::Tls => "GATEWAY-TLS",
            Self::Tcp => "GATEWAY-TCP",
            Self::Udp => "GATEWAY-UDP",
        }
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum ChannelName {
    Standard,
    Experimental,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

/// For the test of static addresses: one of the LAN's free addresses, and one that nobody has a way to.
const USABLE: &str = "10.245.254.200";
const UNUSABLE: &str = "192.0.2.77";

/// Set by Ctrl-C, or by who asks this process to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Builds what is needed as the user, then goes on as root where namespaces are made.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.kubeconfig.is_some() || env::var_os("SLUICE_BIN").is_some() {
        return judge(args);
    }
    setup::ensure(&[Part::Bpf, Part::Net, Part::Go, Part::Cluster])?;
    let sluice = test::sluice("dev")?;
    let mut command = sh::as_root("env")?;
    command.arg(format!("SLUICE_BIN={}", sluice.display()));
    // Root's own would be another.
    command.arg(format!("SLUICE_CACHE={}", setup::cache()?.display()));
    command.arg(env::current_exe().context("this program has a path")?);
    sh::run(command.args(env::args().skip(1)))
}

fn judge(args: &Args) -> Result<()> {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(_) => {
            setup::ensure(&[Part::Go, Part::Cluster])?;
            Programs::find().map_err(anyhow::Error::msg)?
        }
    };
    let plan = Plan::read(&sh::read(std::process::Command::new(&programs.suite).arg("-list"))?)?;
    if let Some(name) = &args.run_test {
        plan.find(name)?;
    }
    heed_signals()?;
    if let Some(kubeconfig) = &args.kubeconfig {
        let kubeconfig = fs::canonicalize(kubeconfig)
            .with_context(|| format!("no kubeconfig {}", kubeconfig.display()))?;
        return repeat(
            args,
            &plan,
            &Ground { client: &NetNs::host(), programs: &programs, kubeconfig },
            None,
        );
    }
    ensure!(sh::is_root(), "the cluster is made of network namespaces, which needs root");
    let start = Instant::now();
    let channel = match args.channel {
        ChannelName::Standard => Channel::Standard,
        ChannelName::Experimental => Channel::Experimental,
    };
    let cluster = Cluster::start("conformance", &Config { channel, ..Config::default() });
    let gateway = cluster.site("gateway", 2);
    let client = cluster.site("client", 250);
    agent::configure(&cluster, &args.gateway_class)?;
    println!("the cluster is up after {:.1} s", start.elapsed().as_secs_f64());
    let agent = agent::start(&gateway, &cluster, args.forward == Switch::On)?;
    if agent.is_none() {
        eprintln!(
            "this sluice has no `run --kube` yet: the suite runs without a controller, and can only fail"
        );
    }
    let ground = Ground { client: &client, programs: &programs, kubeconfig: cluster.kubeconfig() };
    let result = repeat(args, &plan, &ground, Some(&Own { agent: agent.as_ref() }));
    if args.keep {
        keep(&cluster, &[("gateway", &gateway), ("client", &client), ("node", &cluster.node)]);
    }
    result
}

/// Where the suite runs.
struct Ground<'a> {
    client: &'a NetNs,
    programs: &'a Programs,
    kubeconfig: PathBuf,
}

/// What belongs to a run in the tests' own cluster.
struct Own<'a> {
    agent: Option<&'a Agent<'a>>,
}

/// Runs the suite as often as asked, and says what came of it.
fn repeat(args: &Args, plan: &Plan, ground: &Ground<'_>, own: Option<&Own<'_>>) -> Result<()> {
    let folder = sh::root().join("target/conformance");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let profiles = profiles(args, plan, ground)?;
    let mut problems = Vec::new();
    let mut all: Option<Vec<Outcome>> = None;
    for round in 1..=args.repeat {
        cluster::settle(ground.client, ground.programs, &ground.kubeconfig).map_err(anyhow::Error::msg)?;
        let name = file_name(args, round);
        let (outcomes, complaints) = once(args, plan, ground, own, (&profiles, &folder.join(&name)))
            .with_context(|| format!("run {round} of {}", args.repeat))?;
        problems.extend(complaints.into_iter().map(|problem| match args.repeat {
            1 => problem,
            n => format!("run {round} of {n}: {problem}"),
        }));
        all = Some(match all {
            Some(before) => before.iter().zip(&outcomes).map(|(a, b)| a.worse(b)).collect(),
            None => outcomes,
        });
    }
    let outcomes = all.context("at least one run")?;
    print!("{}", table::terminal(&plan.tests, &outcomes, args.run_test.as_deref()));
    if args.readme {
        table::write_readme(&sh::root().join("README.md"), &table::markdown(&plan.tests, &outcomes))?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{}", problems.join("\n       "))
}

/// One run: what came of each test, and what is wrong with the run.
fn once(
    args: &Args,
    plan: &Plan,
    ground: &Ground<'_>,
    own: Option<&Own<'_>>,
    (profiles, file): (&[&'static str], &Path),
) -> Result<(Vec<Outcome>, Vec<String>)> {
    let (usable, unusable) = match own {
        Some(_) => (Some(USABLE), Some(UNUSABLE)),
        None => (args.usable_address.as_deref(), args.unusable_address.as_deref()),
    };
    let report = file.with_extension("yaml");
    let words = suite::Call {
        class: &args.gateway_class,
        profiles,
        selected: !args.profiles.is_empty(),
        run_test: args.run_test.as_deref(),
        patience: args.patience,
        mode: if args.forward == Switch::On { "default" } else { "forward-off" },
        usable,
        unusable,
        report: &report,
    }
    .words();
    // What an earlier run left would be taken for this one's.
    drop(fs::remove_file(&report));
    let agent = own.and_then(|own| own.agent);
    let mut forwarded = Forwarded::default();
    let log = suite::run(ground, &words, &file.with_extension("log"), || {
        if let Some(agent) = agent {
            forwarded.look(&agent.metrics());
        }
    })?;
    let outcomes = plan.outcomes(&log.text, profiles);
    let mut problems = Vec::new();
    if !log.status.success() {
        problems.push(format!("the suite failed ({}): {}", log.status, log.path.display()));
        if outcomes.iter().all(|outcome| *outcome == Outcome::NotRun) {
            problems.extend(outcome::complaint(&log.text).map(str::to_owned));
        }
    }
    match Report::read(&report)? {
        Some(read) => {
            println!("{}the official report: {}", read.summary(), report.display());
            let in_profiles: BTreeSet<_> = plan
                .tests
                .iter()
                .zip(&outcomes)
                .filter(|(test, outcome)| **outcome == Outcome::Failed && test.is_in(profiles))
                .map(|(test, _)| test.name.as_str())
                .collect();
            if read.failed() != in_profiles {
                problems.push(format!(
                    "the report names other failed tests than the log: {:?}, {in_profiles:?}",
                    read.failed()
                ));
            }
        }
        None => problems.push("the suite ended without a report".to_owned()),
    }
    if let Some(agent) = agent {
        let path = file.with_extension("agent.log");
        fs::write(&path, agent.log()).with_context(|| format!("cannot write {}", path.display()))?;
        let passed = |feature: &str| {
            let needs = |test: &outcome::Test| test.features.iter().any(|f| f == feature);
            plan.tests.iter().zip(&outcomes).any(|(test, o)| needs(test) && *o == Outcome::Passed)
        };
        let on = args.forward == Switch::On;
        problems.extend(forwarded.complaints(on, passed("TCPRoute"), passed("UDPRoute")));
    }
    Ok((outcomes, problems))
}

fn profiles(args: &Args, plan: &Plan, ground: &Ground<'_>) -> Result<Vec<&'static str>> {
    if !args.profiles.is_empty() {
        return Ok(args.profiles.iter().map(|profile| profile.name()).collect());
    }
    let all = Profile::value_variants().iter().map(|profile| profile.name());
    if args.run_test.is_some() {
        return Ok(all.collect());
    }
    let class = &args.gateway_class;
    let features = cluster::claimed(ground.client, ground.programs, &ground.kubeconfig, class)
        .map_err(anyhow::Error::msg)?;
    let claimed: Vec<_> = all.filter(|profile| plan.is_claimed(profile, &features)).collect();
    ensure!(!claimed.is_empty(), "GatewayClass {class} claims no profile's core features");
    Ok(claimed)
}

/// The name of a run's files, after the one that the Gateway API wants of a report.
fn file_name(args: &Args, round: u32) -> String {
    let channel = match args.channel {
        _ if args.kubeconfig.is_some() => "other",
        ChannelName::Standard => "standard",
        ChannelName::Experimental => "experimental",
    };
    let mode = if args.forward == Switch::On { "default" } else { "forward-off" };
    let version = env!("CARGO_PKG_VERSION");
    let round = if args.repeat > 1 { format!("-{round}") } else { String::new() };
    format!("{channel}-v{version}-{mode}{round}-report.yaml")
}

/// From now on Ctrl-C and SIGTERM only set [`INTERRUPTED`], so that everything is cleaned up.
fn heed_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Says how to get in, and waits for Ctrl-C.
fn keep(cluster: &Cluster, places: &[(&str, &NetNs)]) {
    println!("\nall of it runs until Ctrl-C; Gateways' addresses are those of {GATEWAYS4}. A shell inside:");
    for (name, ns) in places {
        println!(
            "  {name:8} KUBECONFIG={} PATH={}:$PATH nsenter --net={} bash",
            cluster.kubeconfig().display(),
            cluster.programs().kubectl.parent().unwrap_or(Path::new("/")).display(),
            ns.path().display()
        );
    }
    while !interrupted() {
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).map(|cli| cli.args)
    }

    #[test]
    fn a_table_of_a_part_never_gets_into_the_readme() {
        assert!(args("--readme").is_ok());
        for line in
            ["--readme --run-test A", "--readme --profile tcp", "--readme --kubeconfig f", "--repeat 0"]
        {
            assert!(args(line).is_err(), "{line}");
        }
    }

    #[test]
    fn each_run_has_files_of_its_own() {
        let name = |line: &str, round| file_name(&args(line).unwrap(), round);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(name("", 1), format!("experimental-v{version}-default-report.yaml"));
        assert_eq!(
            name("--channel standard --forward off --repeat 3", 2),
            format!("standard-v{version}-forward-off-2-report.yaml")
        );
    }
}
