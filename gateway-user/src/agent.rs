//! The agent: one loop that brings what the sources say into the kernel and the workers, and says what came of it.
//!
//! Owns the order of start, change and stop, every long-lived task of the control plane, and what outlives a restart
//! ([`memory`]). Must not decide what an object means (that is `core`), nor touch a map, a packet or a connection.
//!
//! - **Start**: the input is read first; with an error in it the process ends and pinned maps and programs stay as
//!   they are. Ready means: programs attached and the first snapshot applied.
//! - **Change**: an input with an error is logged, counted and shown by `sluice status`, and the last good snapshot
//!   goes on serving. What cannot be applied is tried again with growing pauses, and `Programmed` is False.
//! - **Stop** (SIGTERM, SIGINT, `sluice uninstall --stop`): connections are drained until a deadline, or until a
//!   second signal; then Gateway addresses that were brought up are removed. Link, programs and maps stay pinned: new
//!   connections are reset until an agent runs again. SIGHUP reads the input again and reopens the access log.
//!   With forwarding on, addresses that it serves stay too, so that flows and new forwards go on without an agent.
//! - **Network**: a change of links, addresses or routes changes hooks and ways, and nothing else.
//! - **Names** of ExternalName Services are resolved beside the loop; another answer is compiled and applied as a
//!   change of the host is.
//! - **Ports**: a listener on a port that a process of the host listens on already is refused (PortUnavailable). What
//!   is bound stays bound: a process that begins to listen there later takes nothing away.

mod access_log;
mod board;
mod change;
mod events;
mod explain;
mod figures;
mod flows;
mod forward;
mod heap;
mod memory;
mod objects;
mod outputs;
mod start;
mod supervisor;
mod told;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::admin::view::DiagnosticView;
use crate::core::host::{Host, Listening};
use crate::core::names::{Names, wanted};
use crate::core::status::Report;
use crate::core::transport::Transport;
use crate::dataplane::{self, Addresses, Dataplane, Forwarding, LogLevel, Networks};
use crate::proxy::{self, Proxy};
use crate::source::{
    ClusterConfig, ClusterError, Diagnostic, EndpointFlag, Folders, Loaded, Resolver, Source, StoreError,
};
use crate::{admin, source};

pub use explain::{Live, explain, routes};

use access_log::AccessLog;
use board::Board;
use change::Engine;
use events::{Ask, Event, Events};
use flows::Leaving;
use forward::Look;
use memory::Memory;
pub use objects::{ApplyCall, DeleteCall, GetCall};
use start::{flows, forward, source};
use supervisor::Supervisor;

/// The first snapshot waits at most so long for names to be resolved: an agent that is ready shall serve.
const FIRST_NAMES: Duration = Duration::from_secs(2);
/// A change that brings new names waits at most so long, so that what was served goes on being served; the loop waits
/// with it.
const NEW_NAMES: Duration = Duration::from_millis(500);

/// What an agent runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Files and directories of the input; `-` for standard input.
    pub files: Vec<PathBuf>,
    /// The cluster whose objects are served, in place of files and the store.
    pub cluster: Option<ClusterConfig>,
    /// Endpoints given by hand.
    pub endpoints: Vec<EndpointFlag>,
    /// The name server to ask for the names of ExternalName Services; `None`: those of the system.
    pub resolver: Option<SocketAddr>,
    /// Networks that such names may lead to although they are guarded.
    pub allow_external_names: Vec<IpNet>,
    /// Directory for what outlives a restart.
    pub state_dir: PathBuf,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Directory of the pins, under a BPF filesystem.
    pub pin_dir: PathBuf,
    /// Where metrics and health are served.
    pub metrics: SocketAddr,
    /// Number of workers; `None`: one for each CPU that the process may use.
    pub workers: Option<u32>,
    /// Where the access log goes; `-` for standard output.
    pub access_log: Option<PathBuf>,
    /// What the BPF programs log.
    pub bpf_log_level: LogLevel,
    /// Forwarding in the kernel; `None`: off.
    pub forward: Option<Forwarding>,
    /// Patterns of the interfaces that are hooked for it; none stands for every one.
    pub interfaces: Vec<String>,
    /// How long connections may take to end when the agent is stopped.
    pub drain_timeout: Duration,
    /// How long connections and flows go on whose listener or endpoint has left the configuration; `None`: for as long as
    /// they like.
    pub reset_removed_after: Option<Duration>,
    /// How long a UDP flow may be quiet before it ends.
    pub udp_idle: Duration,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input has errors.
    #[error("the input is refused and nothing was changed:\n{}", join(.0))]
    Input(Vec<Diagnostic>),
    /// The input cannot be watched.
    #[error(transparent)]
    Watch(#[from] source::Error),
    /// The kernel's side.
    #[error(transparent)]
    Dataplane(#[from] dataplane::Error),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// What outlives a restart.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// The store of applied objects.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The port for metrics.
    #[error("cannot listen on {address} for metrics; choose another with --metrics ADDRESS:PORT")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The access log.
    #[error("cannot open the access log {}", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The workers or the control plane's threads.
    #[error("cannot start {what}")]
    Start {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn join(diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Runs an agent until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting; once it runs, it goes on.
pub fn run(config: &Config) -> Result<(), Error> {
    heap::small_pages();
    let memory = Memory::open(&config.state_dir)?;
    // While there is one thread: the socket's mode is set by umask.
    let socket = admin::Socket::bind(&config.admin_socket)?;
    let metrics_error = |source| Error::Metrics { address: config.metrics, source };
    let metrics = TcpListener::bind(config.metrics).map_err(metrics_error)?;
    metrics.set_nonblocking(true).map_err(metrics_error)?;
    let start = |what| move |source| Error::Start { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .on_thread_park(heap::on_idle)
        .enable_all()
        .build()
        .map_err(start("the control plane's threads"))?;
    runtime.block_on(async {
        let mut source = source(config).await?;
        let loaded = source.load().map_err(Error::Input)?;
        let mut resolver = Resolver::new(config.resolver);
        resolver.want(&wanted(&loaded.model));
        let watch = source.watch()?;
        let workers = workers(config.workers);
        let access_log = match &config.access_log {
            Some(path) => Some(
                AccessLog::open(path).map_err(|source| Error::AccessLog { path: path.clone(), source })?,
            ),
            None => None,
        };
        let mut dataplane = Dataplane::open(&dataplane::Config {
            pin_dir: config.pin_dir.clone(),
            workers,
            log_level: config.bpf_log_level,
        })?;
        let addresses = Addresses::open().await?;
        let proxy = Proxy::bind(proxy::Config {
            workers: workers as usize,
            udp_idle: config.udp_idle,
            reset_removed_after: config.reset_removed_after,
            access_log: access_log.clone().map(|log| Box::new(log) as Box<dyn io::Write + Send + Sync>),
            ..proxy::Config::default()
        })
        .map_err(start("the workers"))?;
        let unregistered = change::Unregistered::new(&proxy.sockets()).map_err(start("the workers"))?;
        let sockets = proxy.kinds().map(|(worker, v6, kind)| (worker, v6, kind.number())).collect();
        let running = proxy.start(dataplane.loads()).map_err(start("the workers"))?;
        dataplane.attach()?;
        let (networks, forwarder) = match forward(config, &mut dataplane)? {
            Ok((networks, forwarder)) => (Some(networks), Ok(forwarder)),
            Err(why) => (None, Err(why)),
        };

        let leaving = Leaving::new(config.reset_removed_after);
        let (asks, asked) = mpsc::channel(16);
        let counted = (dataplane.reader(), running.counters());
        let board = Arc::new(Board::new(config, workers, sockets, counted, source.figures()));
        let _ends = flows(&mut dataplane, &memory, &board, access_log.clone())?;
        outputs::serve(&socket, metrics, &board, asks).map_err(start("the outputs"))?;
        let events = Events::new(watch, asked).map_err(start("the signal handlers"))?;
        info!(
            workers,
            pid = std::process::id(),
            admin = %config.admin_socket.display(),
            metrics = %config.metrics,
            "agent started"
        );
        let mut engine =
            Engine::new(dataplane, unregistered, running, addresses, memory, Arc::clone(&board), loaded)?;
        engine.forward(forwarder, leaving);
        resolver.settle(FIRST_NAMES).await;
        let supervisor = Supervisor::new();
        let told = Arc::default();
        Agent { config, source, told, events, resolver, networks, engine, access_log, board, supervisor }
            .serve()
            .await;
        drop(socket);
        Ok(())
    })
}

/// Waits for a change of the network, if it is watched.
async fn changed(networks: &mut Option<Networks>) {
    match networks {
        Some(networks) => networks.changed().await,
        None => std::future::pending().await,
    }
}

/// Where the objects are kept that were applied.
fn store_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("objects")
}

/// The number of workers: as asked, or the CPUs that the process may use, within what the maps have room for.
fn workers(asked: Option<u32>) -> u32 {
    let cpus =
        || std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    asked.unwrap_or_else(cpus).clamp(1, gateway_ebpf::names::MAX_WORKERS)
}

/// Removes what an agent kept in its state directory, and of a cluster, with the applied objects only if `objects`, and the directory if
/// nothing else is in it. Returns what was removed. No agent may run on it.
///
/// # Errors
/// The system refuses.
pub fn forget(state_dir: &Path, cluster: &Folders, objects: bool) -> io::Result<Vec<PathBuf>> {
    let folder = store_folder(state_dir);
    let mut removed = Vec::new();
    if folder.is_dir() && (objects || source::stores_nothing(&folder)) {
        std::fs::remove_dir_all(&folder)?;
        removed.push(folder);
    }
    removed.extend(cluster.remove()?);
    removed.extend(memory::remove(state_dir)?);
    Ok(removed)
}

/// The folder in which there are objects that were applied, if there are any.
#[must_use]
pub fn stored(state_dir: &Path) -> Option<PathBuf> {
    let folder = store_folder(state_dir);
    (folder.is_dir() && !source::stores_nothing(&folder)).then_some(folder)
}

/// An error with all of its causes, on one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// A problem of the input as it is shown to the outside.
#[must_use]
pub fn diagnostic_view(diagnostic: &Diagnostic) -> DiagnosticView {
    let Diagnostic { file, line, column, object, field, value, message, remedy } = diagnostic.clone();
    DiagnosticView { file, line, column, object, field, value, message, remedy }
}

struct Agent<'a> {
    config: &'a Config,
    source: Source,
    /// What was said of the objects last.
    told: Arc<Report>,
    events: Events,
    resolver: Resolver,
    /// Only if forwarding is on.
    networks: Option<Networks>,
    engine: Engine,
    access_log: Option<AccessLog>,
    board: Arc<Board>,
    supervisor: Supervisor,
}

impl Agent<'_> {
    /// The loop.
    async fn serve(mut self) {
        let host = self.host();
        self.engine.compile_and_apply(host).await;
        loop {
            self.tell();
            self.supervisor.look(&self.board);
            let event = tokio::select! {
                event = self.events.next() => event,
                () = self.resolver.changed() => Event::Resolved,
                () = changed(&mut self.networks) => Event::Network,
            };
            match event {
                Event::Resolved => {
                    let host = self.host();
                    self.engine.follow(host).await;
                }
                Event::Network => {
                    if self.engine.follow_network(Look::Whole).await {
                        let host = self.host();
                        self.engine.follow(host).await;
                    }
                }
                Event::Changed => self.reload().await,
                Event::Hangup => {
                    if let Some(Err(error)) = self.access_log.as_ref().map(AccessLog::reopen) {
                        warn!(%error, "the access log cannot be opened again; the file before is written on");
                    }
                    self.reload().await;
                }
                Event::Asked(Ask::BpfLogLevel(level, answer)) => {
                    let outcome = self.engine.set_log_level(level);
                    // Whoever asked may have gone.
                    drop(answer.send(outcome.map_err(|error| words(&error))));
                }
                Event::Asked(Ask::Objects(ask)) => self.answer(ask).await,
                Event::Asked(Ask::Stop) => return self.stop("asked to").await,
                Event::Signal(name) => return self.stop(name).await,
                Event::Tick { host_due } => {
                    self.board.beat();
                    self.supervisor.beat();
                    self.engine.sweep();
                    if host_due {
                        self.engine.follow_network(Look::Hooks).await;
                        self.engine.keep_addresses().await;
                    }
                    if host_due || self.engine.retry_due() {
                        let host = self.host();
                        self.engine.follow(host).await;
                    }
                    if host_due {
                        self.engine.forget_flows();
                        self.engine.rest();
                    }
                }
            }
        }
    }

    /// Says what became of the objects, if it is something else than before.
    fn tell(&mut self) {
        let report = self.engine.report();
        if !Arc::ptr_eq(&report, &self.told) {
            self.source.publish(&report, &self.engine.model());
            self.told = report;
        }
    }

    async fn reload(&mut self) {
        self.supervisor.reloading();
        let begin = Instant::now();
        let loaded = self.source.load();
        debug!(step = "load", took_us = begin.elapsed().as_micros());
        match loaded {
            Ok(loaded) => self.change(loaded).await,
            Err(diagnostics) => self.engine.refuse(&diagnostics),
        }
        self.supervisor.reloaded();
    }

    /// Serves another input.
    async fn change(&mut self, loaded: Loaded) {
        self.resolver.want(&wanted(&loaded.model));
        self.resolver.settle(NEW_NAMES).await;
        // Who else listens on the host is looked at every few seconds anyway, and takes as long as compilation does.
        let host = if self.engine.take(loaded) { self.with_names(self.engine.host()) } else { self.host() };
        self.engine.compile_and_apply(host).await;
    }

    /// The host as compilation shall see it.
    fn host(&mut self) -> Host {
        let own = self.engine.own_addresses();
        let mut host = dataplane::host::host(&own, &self.engine.udp_ports());
        host.listening.retain(|socket| !self.engine.is_bound(socket));
        host.listening.push(Listening {
            transport: Transport::Tcp,
            at: self.config.metrics,
            process: "sluice's own metrics".to_owned(),
        });
        self.with_names(host)
    }

    /// A host with what is known beside it: names, and who gives addresses.
    fn with_names(&mut self, host: Host) -> Host {
        let names = Names { allowed: self.config.allow_external_names.clone(), known: self.resolver.known() };
        Host { role: self.source.role(), names, ..host }
    }

    async fn stop(mut self, why: &str) {
        let deadline = self.config.drain_timeout;
        info!(why, deadline_s = deadline.as_secs(), "stopping: connections are drained");
        self.supervisor.stopping(deadline);
        self.board.stop();
        self.source.leave().await;
        let forwarded = self.engine.forwarded();
        let (running, mut addresses) = self.engine.into_parts();
        let cut = tokio::select! {
            cut = running.drain(deadline) => cut,
            name = self.events.signal() => {
                warn!(signal = name, "a second signal: connections are cut");
                0
            }
        };
        if cut > 0 {
            warn!(cut, "connections were still open at the deadline and were cut");
        }
        addresses.remove_but(&forwarded).await;
        info!("stopped; programs and maps stay pinned");
    }
}
