//! `bench`: speed and cost as ratios within one run, contenders interleaved round by round.
//!
//! Owns the lab, the contenders' start and the rounds. A missed bar is printed, never an error: what a run on this
//! machine at this time says is for a person to judge.

mod http;
mod kube;
mod l4;
mod peer;
mod scale;
mod stats;
mod table;
mod tcp;

use std::{env, fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gateway_tests::{
    agent::Agent,
    lab::{BACKEND4, GATEWAY4, Lab},
};

use self::peer::Process;
use crate::{
    setup::{self, Part},
    sh,
};

/// Which benchmark.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// HTTPRoute against nginx and HAProxy.
    Http(Rounds),
    /// The TCP relay against HAProxy.
    Tcp(Rounds),
    /// TCP and UDP through the kernel and through the relay, against routing, nft, HAProxy, nginx and Envoy.
    L4(l4::L4),
    /// 5,000 HTTPRoutes over 50 Gateways: compile, match, memory, time until a change serves.
    Scale(scale::Scale),
    /// 5,000 HTTPRoutes on an API server: time until a change serves and until statuses are written, requests, memory, CPU.
    Kube(kube::Kube),
}

/// How much of it.
#[derive(Args)]
pub(crate) struct Rounds {
    /// Paired rounds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds for each measurement of a round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Worker threads or processes of every contender.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: u8,
}

/// Builds Sluice as it is released and runs a benchmark on it, as root.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    let built = env::var_os("SLUICE_BIN");
    // The load is this very program, and shall not be what is measured.
    let slow = matches!(bench, Bench::L4(_) | Bench::Kube(_)) && cfg!(debug_assertions);
    if built.is_none() || !sh::is_root() || slow {
        setup::ensure(bench.parts())?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| sh::root().join("target"), PathBuf::from);
        let sluice = built.map_or_else(|| target.join("release/sluice"), PathBuf::from);
        if env::var_os("SLUICE_BIN").is_none() {
            sh::run(sh::cargo().args([
                "build",
                "--release",
                "--package",
                "gateway-user",
                "--bin",
                "sluice",
            ]))?;
        }
        let mut this = env::current_exe()?;
        if slow {
            sh::run(sh::cargo().args(["build", "--profile", "load", "--package", "xtask"]))?;
            this = target.join("load/xtask");
        }
        let mut command = sh::as_root("env")?;
        command.arg(format!("SLUICE_BIN={}", sluice.display()));
        // Root's home may be another.
        command.arg(format!("SLUICE_CACHE={}", setup::cache()?.display()));
        return sh::run(command.arg(this).args(env::args_os().skip(1)));
    }
    match bench {
        Bench::Http(rounds) => http::run(rounds),
        Bench::Tcp(rounds) => tcp::run(rounds),
        Bench::L4(l4) => l4::run(l4),
        Bench::Scale(scale) => scale::run(scale),
        Bench::Kube(kube) => kube::run(kube),
    }
}

impl Bench {
    fn parts(&self) -> &'static [Part] {
        match self {
            Self::Kube(_) => &[Part::Bpf, Part::Net, Part::Go, Part::Cluster],
            Self::L4(_) => &[Part::Bpf, Part::Net, Part::Peers, Part::L4],
            Self::Http(_) | Self::Tcp(_) | Self::Scale(_) => &[Part::Bpf, Part::Net, Part::Peers],
        }
    }
}

impl Rounds {
    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// The lab with its backend.
struct Site {
    lab: Lab,
    run: tempfile::TempDir,
    workers: usize,
    _backend: Process,
}

impl Site {
    fn new(rounds: &Rounds) -> Result<Self> {
        let lab = Lab::new("bench");
        let run = tempfile::Builder::new().prefix("sluice-bench-").tempdir()?;
        let workers = usize::from(rounds.workers);
        let backend = nginx(&lab.backend, "nginx-backend.conf", run.path(), workers)?;
        peer::wait_for(&lab.backend, SocketAddr::new(BACKEND4, 8080))?;
        Ok(Self { lab, run, workers, _backend: backend })
    }

    fn nginx(&self) -> Result<Process> {
        let process = nginx(&self.lab.gateway, "nginx.conf", self.run.path(), self.workers)?;
        peer::wait_for(&self.lab.client, at(8001))?;
        Ok(process)
    }

    fn haproxy(&self) -> Result<Process> {
        let path = self.run.path().join("haproxy.cfg");
        fs::write(&path, configure("haproxy.cfg", self.run.path(), self.workers)?)?;
        let process =
            Process::start(&self.lab.gateway, Command::new("haproxy").arg("-db").arg("-f").arg(path));
        peer::wait_for(&self.lab.client, at(8002))?;
        Ok(process)
    }

    fn sluice(&self) -> Result<Agent<'_>> {
        let yaml = configure("sluice.yaml", self.run.path(), self.workers)?;
        Ok(Agent::start(&self.lab.gateway, &yaml, &["--workers", &self.workers.to_string()]))
    }
}

/// A port of the gateway as the client sees it.
fn at(port: u16) -> SocketAddr {
    SocketAddr::new(GATEWAY4, port)
}

fn nginx(
    ns: &gateway_tests::netns::NetNs,
    name: &str,
    run: &std::path::Path,
    workers: usize,
) -> Result<Process> {
    let path = run.join(name);
    fs::write(&path, configure(name, run, workers)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Process::start(ns, Command::new("nginx").arg("-c").arg(path)))
}

fn configure(name: &str, run: &std::path::Path, workers: usize) -> Result<String> {
    let (run, backend, workers) = (run.display().to_string(), BACKEND4.to_string(), workers.to_string());
    peer::configure(name, &[("RUN", &run), ("BACKEND", &backend), ("WORKERS", &workers)])
}
