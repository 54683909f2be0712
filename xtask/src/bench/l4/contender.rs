//! The contenders, as a list: what stands between client and backend, how it is started, and the path that traffic
//! must take through it, which is looked at before anything is measured.

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
    path::Path as File,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::builder::PossibleValuesParser;
use gateway_tests::{
    agent::Agent,
    lab::{BACKEND4, CLIENT4, GATEWAY4, UPLINK4},
};

use super::{
    super::peer::{self, Process},
    probe::Probe,
    stage::{ECHO, REMOTE4, SOURCES, Stage},
};
use crate::setup;

/// What stands in the gateway's namespace.
pub(super) struct Contender {
    /// As `--only` and the figures name it.
    pub(super) key: &'static str,
    /// As the tables name it.
    pub(super) name: &'static str,
    start: Start,
    /// Where the client connects to.
    to: IpAddr,
    /// Where the gateway finds the backend.
    backend: IpAddr,
    /// How many addresses the client uses.
    pub(super) sources: u8,
    /// Whether the gateway's kernel routes.
    pub(super) router: bool,
    /// The path that traffic shall take.
    path: Path,
    /// Whether it can forward UDP at all.
    udp: bool,
    /// What it takes part in.
    pub(super) probes: &'static [Probe],
}

type Start = for<'a> fn(&'a Stage, &Contender) -> Result<Gateway<'a>>;

/// A path as both ends see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Path {
    /// The backend sees the client's address: nothing terminates connections.
    Kept,
    /// The backend sees the gateway's address, and no relay has counted a connection.
    Translated,
    /// Two connections, one on each side of a process.
    Relayed,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "packets, the client's address kept",
            Self::Translated => "packets, the gateway's address",
            Self::Relayed => "a process relays",
        })
    }
}

const ROUTED: Contender = Contender {
    key: "routed",
    name: "routed",
    start: nothing,
    to: BACKEND4,
    backend: BACKEND4,
    sources: 1,
    router: true,
    path: Path::Kept,
    udp: true,
    probes: Probe::ALL,
};

const PROXY: Contender = Contender {
    key: "",
    name: "",
    start: nothing,
    to: GATEWAY4,
    backend: BACKEND4,
    sources: 1,
    router: false,
    path: Path::Relayed,
    udp: true,
    probes: Probe::ALL,
};

/// All of them; the first is what the others are held against.
pub(super) const CONTENDERS: &[Contender] = &[
    ROUTED,
    Contender { key: "forward", name: "Sluice Forward", start: forward, path: Path::Kept, ..PROXY },
    Contender {
        key: "snat",
        name: "Sluice Forward, SNAT",
        start: forward,
        backend: REMOTE4,
        sources: SOURCES,
        path: Path::Translated,
        // No new connections: the server closes them, so each source port rests for a minute, and soon the relay would be
        // what is measured, of this and of what comes next.
        probes: &[
            Probe::Requests32,
            Probe::Requests1,
            Probe::Latency,
            Probe::Up,
            Probe::Down,
            Probe::Packets,
            Probe::Cpu,
            Probe::Bpf,
            Probe::Memory,
        ],
        ..PROXY
    },
    Contender { key: "relay", name: "Sluice relay", start: relay, ..PROXY },
    Contender { key: "nft", name: "nft DNAT", start: nft, router: true, path: Path::Kept, ..PROXY },
    Contender { key: "haproxy", name: "HAProxy", start: haproxy, udp: false, ..PROXY },
    Contender { key: "nginx", name: "nginx", start: nginx, ..PROXY },
    Contender { key: "envoy", name: "Envoy", start: envoy, ..PROXY },
    // What Sluice costs traffic that is none of its business.
    Contender {
        key: "beside",
        name: "routed beside Sluice",
        start: forward,
        probes: &[Probe::Requests32, Probe::Up, Probe::Packets],
        ..ROUTED
    },
];

/// How long Sluice may take until its traffic is on its path.
const HOPE: Duration = Duration::from_secs(5);

/// What `--only` takes.
pub(super) fn keys() -> PossibleValuesParser {
    PossibleValuesParser::new(CONTENDERS.iter().map(|contender| contender.key))
}

/// A contender that runs.
pub(super) enum Gateway<'a> {
    /// The kernel alone.
    Kernel,
    /// A proxy.
    Process(Process),
    /// Sluice.
    Sluice(Box<Agent<'a>>),
}

impl Gateway<'_> {
    /// The gateway's process, if it has one.
    pub(super) fn pid(&self) -> Result<Option<u32>> {
        Ok(match self {
            Self::Kernel => None,
            Self::Process(process) => Some(process.pid()),
            Self::Sluice(agent) => Some(u32::try_from(agent.pid())?),
        })
    }

    /// Connections and UDP flows that Sluice's relay has counted; `None` for others.
    pub(super) fn relayed(&self) -> Option<f64> {
        match self {
            Self::Sluice(agent) => {
                let metrics = ["sluice_tcp_connections_total", "sluice_udp_flows_total"];
                Some(metrics.map(|name| agent.metric(name)).iter().sum())
            }
            Self::Kernel | Self::Process(_) => None,
        }
    }
}

/// What the first packets through a contender showed.
pub(super) struct Seen {
    /// The path that TCP took.
    pub(super) tcp: Path,
    /// The path that UDP took, if it got through at all.
    pub(super) udp: Option<Path>,
    /// Whether these are the paths that are to be measured.
    pub(super) holds: bool,
    /// Connections through Sluice's relay, those included that fell back to it later on.
    pub(super) relayed: Option<f64>,
}

impl Contender {
    /// Starts it and waits until it serves.
    pub(super) fn start<'a>(&self, stage: &'a Stage) -> Result<Gateway<'a>> {
        let gateway = (self.start)(stage, self).with_context(|| format!("cannot start {}", self.name))?;
        peer::wait_for(&stage.lab.client, self.at(ECHO)).with_context(|| self.name)?;
        Ok(gateway)
    }

    /// Where the client connects to.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        (self.to, port).into()
    }

    /// Sends something through it and looks which way it went, until it goes the way that it should or there is no
    /// more hope: Sluice keeps to the relay or to its own address until it has seen its hooks work.
    pub(super) fn look(&self, stage: &Stage, gateway: &Gateway<'_>) -> Result<Seen> {
        let start = Instant::now();
        loop {
            let seen = self.look_once(stage, gateway).with_context(|| self.name)?;
            let may_change = matches!(gateway, Gateway::Sluice(_)) && start.elapsed() < HOPE;
            if seen.holds || !may_change {
                return Ok(seen);
            }
        }
    }

    fn look_once(&self, stage: &Stage, gateway: &Gateway<'_>) -> Result<Seen> {
        let before = gateway.relayed();
        let tcp = self.path(gateway, before, stage.seen(self.at(ECHO))?)?;
        let before = gateway.relayed();
        let udp = match stage.seen_udp(self.at(ECHO)) {
            Ok(seen) if self.udp => Some(self.path(gateway, before, seen)?),
            _ => None,
        };
        let holds = tcp == self.path && udp.is_none_or(|udp| udp == self.path);
        Ok(Seen { tcp, udp, holds, relayed: None })
    }

    /// The path on which the backend sees an address.
    fn path(&self, gateway: &Gateway<'_>, before: Option<f64>, seen: IpAddr) -> Result<Path> {
        let known = [CLIENT4, GATEWAY4, UPLINK4].contains(&seen);
        ensure!(known, "the backend sees {seen}, who is nobody here");
        Ok(match gateway {
            _ if seen == CLIENT4 => Path::Kept,
            Gateway::Sluice(_) if !grows(before, || gateway.relayed()) => Path::Translated,
            _ => Path::Relayed,
        })
    }

    fn configure(&self, stage: &Stage, name: &str, more: &[(&str, &str)]) -> Result<String> {
        let run = stage.run.path().display().to_string();
        let (backend, workers) = (self.backend.to_string(), stage.threads.to_string());
        let mut places = vec![("RUN", &*run), ("BACKEND", &backend), ("WORKERS", &workers)];
        places.extend(more);
        peer::configure(name, &places)
    }

    /// The same as a file.
    fn file(&self, stage: &Stage, name: &str, more: &[(&str, &str)]) -> Result<std::path::PathBuf> {
        let path = stage.run.path().join(name);
        fs::write(&path, self.configure(stage, name, more)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Whether a counter grows within a moment: the worker that counts may be a little behind.
fn grows(before: Option<f64>, read: impl Fn() -> Option<f64>) -> bool {
    let start = Instant::now();
    while read() <= before {
        if start.elapsed() > Duration::from_millis(500) {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn nothing<'a>(_: &'a Stage, _: &Contender) -> Result<Gateway<'a>> {
    Ok(Gateway::Kernel)
}

fn forward<'a>(stage: &'a Stage, contender: &Contender) -> Result<Gateway<'a>> {
    sluice(stage, contender, &[])
}

fn relay<'a>(stage: &'a Stage, contender: &Contender) -> Result<Gateway<'a>> {
    sluice(stage, contender, &["--forward", "off"])
}

fn sluice<'a>(stage: &'a Stage, contender: &Contender, args: &[&str]) -> Result<Gateway<'a>> {
    let yaml = contender.configure(stage, "l4-sluice.yaml", &[])?;
    let workers = stage.threads.to_string();
    let args: Vec<&str> = ["--workers", &workers].into_iter().chain(args.iter().copied()).collect();
    Ok(Gateway::Sluice(Box::new(Agent::start(&stage.lab.gateway, &yaml, &args))))
}

fn nft<'a>(stage: &'a Stage, contender: &Contender) -> Result<Gateway<'a>> {
    let rules = contender.file(stage, "l4-nft.conf", &[("GATEWAY", &GATEWAY4.to_string())])?;
    stage.lab.gateway.run(&format!("nft -f {}", rules.display()));
    Ok(Gateway::Kernel)
}

fn haproxy<'a>(stage: &'a Stage, contender: &Contender) -> Result<Gateway<'a>> {
    let connections = (super::idle_connections()? + 20).to_string();
    let file = contender.file(stage, "l4-haproxy.cfg", &[("CONNECTIONS", &connections)])?;
    Ok(process(stage, Command::new("haproxy").arg("-db").arg("-f").arg(file)))
}

fn nginx<'a>(stage: &'a Stage, contender: &Contender) -> Result<Gateway<'a>> {
    let module = setup::nginx_stream().context("nginx has no stream module; run `cargo xtask setup`")?;
    let module = module.display().to_string();
    let file = contender.file(stage, "l4-nginx.conf", &[("STREAM", &module)])?;
    Ok(process(stage, Command::new("nginx").arg("-c").arg(file)))
}

fn envoy<'a>(stage: &'a Stage, contender: &Contender) -> Result<Gateway<'a>> {
    let file = contender.file(stage, "l4-envoy.yaml", &[])?;
    let program = setup::envoy()?;
    ensure_runs(&program)?;
    let mut command = Command::new(program);
    // Without hot restart, two of them need not share a piece of memory.
    command.args(["--disable-hot-restart", "--log-level", "error", "--concurrency"]);
    Ok(process(stage, command.arg(stage.threads.to_string()).arg("-c").arg(file)))
}

fn ensure_runs(program: &File) -> Result<()> {
    ensure!(program.exists(), "there is no {}; run `cargo xtask setup`", program.display());
    Ok(())
}

fn process<'a>(stage: &'a Stage, command: &mut Command) -> Gateway<'a> {
    Gateway::Process(Process::start(&stage.lab.gateway, command))
}
