//! What the outputs show: written by the loop, read by whoever asks.
//!
//! Owns what is shared between them. Nothing here is waited for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use jiff::{Timestamp, Unit};

use super::Config;
use super::explain::{self, Live};
use super::flows::Flows;
use super::forward::Known;
use super::memory::Baselines;
use crate::admin::view::{
    AgentView, ConfigurationView, DiagnosticView, ExplainView, ForwardingView, LoadErrorView, QuestionView,
    RoutesView, StatusView,
};
use crate::core::explain::Scene;
use crate::core::model::Model;
use crate::core::snapshot::Snapshot;
use crate::core::status::{Outcome, finish};
use crate::core::steer::Workers;
use crate::dataplane::Reader;
use crate::metrics;
use crate::proxy::Counters;
use crate::source::ClusterFigures;

/// The loop is stuck if it did not come round for so long.
const STUCK: Duration = Duration::from_secs(30);

pub(super) struct Board {
    agent: ArcSwap<AgentView>,
    /// The status of the objects; that of the agent is put in when somebody asks.
    pub(super) objects: ArcSwap<StatusView>,
    /// What serves.
    pub(super) serving: ArcSwap<Serving>,
    /// What came of applying the newest snapshot.
    pub(super) outcome: ArcSwap<Outcome>,
    /// What is known of the ways that forwarding takes, or why it is off.
    pub(super) forwarding: ArcSwap<Result<Arc<Known>, String>>,
    /// The workers' sockets: worker, whether of IPv6, IP protocol number.
    sockets: BTreeSet<(u32, bool, u8)>,
    pub(super) baselines: ArcSwap<Baselines>,
    pub(super) configuration: ArcSwap<metrics::Configuration>,
    pub(super) reader: Reader,
    flows: OnceLock<Arc<Flows>>,
    /// What is counted of the cluster that is served, if it is one.
    pub(super) cluster: Option<ClusterFigures>,
    pub(super) counters: Counters,
    /// Seconds since the epoch.
    pub(super) started: f64,
    begin: Instant,
    /// Milliseconds from `begin` to the loop's last round.
    beat: AtomicU64,
    ready: AtomicBool,
    stopping: AtomicBool,
}

/// What serves.
#[derive(Default)]
pub(super) struct Serving {
    /// The snapshot.
    pub(super) snapshot: Arc<Snapshot>,
    /// What it was compiled from.
    pub(super) model: Arc<Model>,
    /// Addresses of the host, and those that were brought up.
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl Board {
    pub(super) fn new(
        config: &Config,
        workers: u32,
        sockets: BTreeSet<(u32, bool, u8)>,
        (reader, counters): (Reader, Counters),
        cluster: Option<ClusterFigures>,
    ) -> Self {
        let agent = AgentView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: now(),
            ready: false,
            workers,
            bpf_log_level: config.bpf_log_level.name().to_owned(),
            configuration: ConfigurationView { sources: sources(config), ..ConfigurationView::default() },
            forwarding: ForwardingView::default(),
        };
        Self {
            agent: ArcSwap::from_pointee(agent),
            objects: ArcSwap::default(),
            serving: ArcSwap::default(),
            outcome: ArcSwap::default(),
            forwarding: ArcSwap::from_pointee(Err("the agent has just started".to_owned())),
            sockets,
            baselines: ArcSwap::default(),
            configuration: ArcSwap::default(),
            reader,
            flows: OnceLock::new(),
            cluster,
            counters,
            started: epoch_seconds(),
            begin: Instant::now(),
            beat: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// Forwarding is on. To be called once.
    pub(super) fn forwarding(&self, flows: Arc<Flows>) {
        assert!(self.flows.set(flows).is_ok(), "forwarding is turned on once");
    }

    /// The flows that are forwarded in the kernel; `None`: forwarding is off.
    pub(super) fn flows(&self) -> Option<&Arc<Flows>> {
        self.flows.get()
    }

    /// The loop came round.
    pub(super) fn beat(&self) {
        let passed = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(passed, Ordering::Relaxed);
    }

    /// Whether the loop comes round.
    pub(super) fn alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.stopping.load(Ordering::Relaxed) || self.begin.elapsed().saturating_sub(beat) < STUCK
    }

    /// Programs are attached and a snapshot is applied.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
        self.change_agent(|agent| agent.ready = true);
    }

    /// The agent is stopping.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.change_agent(|agent| agent.ready = false);
    }

    /// Why traffic should not come here, if so.
    pub(super) fn not_ready(&self) -> Option<&'static str> {
        if self.stopping.load(Ordering::Relaxed) {
            Some("stopping: connections are drained")
        } else if self.ready.load(Ordering::Relaxed) {
            None
        } else {
            Some("no configuration is applied yet; see `sluice status`")
        }
    }

    /// What is said about the agent.
    pub(super) fn agent(&self) -> Arc<AgentView> {
        self.agent.load_full()
    }

    /// Changes what is said about the agent. Called by the loop alone.
    pub(super) fn change_agent(&self, change: impl FnOnce(&mut AgentView)) {
        let mut agent = AgentView::clone(&self.agent.load());
        change(&mut agent);
        self.agent.store(agent.into());
    }

    /// The status of agent and objects.
    pub(super) fn status(&self) -> StatusView {
        let mut agent = AgentView::clone(&self.agent.load());
        agent.forwarding = match &**self.forwarding.load() {
            Ok(known) => known.view(&self.serving.load().snapshot.image.backends),
            Err(why) => ForwardingView { reason: Some(why.clone()), ..ForwardingView::default() },
        };
        StatusView { agent: Some(agent), ..StatusView::clone(&self.objects.load()) }
    }

    /// Explains a request or a connection by what serves.
    pub(super) async fn explain(&self, question: &QuestionView) -> ExplainView {
        let serving = self.serving.load_full();
        let live = self.live(&serving).await;
        let report = finish(&serving.snapshot.report, &self.outcome.load());
        let scene = Scene { snapshot: &serving.snapshot, model: &serving.model, report: &report };
        let mut view = explain::explain(question, &scene, Some(&live)).await;
        view.notes.extend(self.stale());
        view
    }

    /// What is served where.
    pub(super) async fn routes(&self) -> RoutesView {
        let serving = self.serving.load_full();
        let live = self.live(&serving).await;
        let mut view = explain::routes(&serving.snapshot, Some(&live));
        view.notes.extend(self.stale());
        view
    }

    async fn live(&self, serving: &Serving) -> Live {
        let workers = Workers { loads: self.counters.open(), sockets: self.sockets.clone() };
        Live { workers, failing: self.counters.failing().await, addresses: serving.addresses.clone() }
    }

    /// Says if the newest input is not what serves.
    fn stale(&self) -> Option<String> {
        let agent = self.agent.load();
        let error = agent.configuration.error.as_ref()?;
        Some(format!("the newest input is not what serves (see `sluice status`): {}", error.message))
    }

    /// Changes the numbers of the configuration. Called by the loop alone.
    pub(super) fn change_numbers(&self, change: impl FnOnce(&mut metrics::Configuration)) {
        let mut numbers = **self.configuration.load();
        change(&mut numbers);
        self.configuration.store(numbers.into());
    }

    /// The newest input is not what serves. The time is kept while the words stay the same.
    pub(super) fn fail(&self, message: String, diagnostics: Vec<DiagnosticView>) {
        self.change_numbers(|numbers| {
            numbers.current = false;
            numbers.last_error = epoch_seconds();
        });
        self.change_agent(|agent| {
            let time = match agent.configuration.error.take() {
                Some(before) if before.message == message && before.diagnostics == diagnostics => before.time,
                _ => now(),
            };
            agent.configuration.error = Some(LoadErrorView { time, message, diagnostics });
        });
    }
}

/// Where the objects come from, as `sluice status` says it.
fn sources(config: &Config) -> Vec<String> {
    if config.cluster.is_some() {
        return vec!["the cluster".to_owned()];
    }
    let store = super::store_folder(&config.state_dir).display().to_string();
    config.files.iter().map(|path| source_name(path)).chain([store]).collect()
}

fn source_name(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() }
}

/// The time, RFC 3339, to the second.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}

pub(super) fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
