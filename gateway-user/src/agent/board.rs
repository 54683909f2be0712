//! What the outputs show: written by the loop, read by whoever asks.
//!
//! Owns what is shared between them. Nothing here is waited for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use jiff::{Timestamp, Unit};

use super::Config;
use super::memory::Baselines;
use crate::admin::view::{AgentView, ConfigurationView, DiagnosticView, LoadErrorView, StatusView};
use crate::core::snapshot::Snapshot;
use crate::dataplane::Reader;
use crate::metrics;
use crate::proxy::Counters;

/// The loop is stuck if it did not come round for so long.
const STUCK: Duration = Duration::from_secs(30);

pub(super) struct Board {
    agent: ArcSwap<AgentView>,
    /// The status of the objects; that of the agent is put in when somebody asks.
    pub(super) objects: ArcSwap<StatusView>,
    /// The snapshot that serves.
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) baselines: ArcSwap<Baselines>,
    pub(super) configuration: ArcSwap<metrics::Configuration>,
    pub(super) reader: Reader,
    pub(super) counters: Counters,
    /// Seconds since the epoch.
    pub(super) started: f64,
    begin: Instant,
    /// Milliseconds from `begin` to the loop's last round.
    beat: AtomicU64,
    ready: AtomicBool,
    stopping: AtomicBool,
}

impl Board {
    pub(super) fn new(config: &Config, workers: u32, reader: Reader, counters: Counters) -> Self {
        let agent = AgentView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: now(),
            ready: false,
            workers,
            bpf_log_level: config.bpf_log_level.name().to_owned(),
            configuration: ConfigurationView {
                sources: (config.files.iter().map(|path| source_name(path)))
                    .chain([super::store_folder(&config.state_dir).display().to_string()])
                    .collect(),
                ..ConfigurationView::default()
            },
        };
        Self {
            agent: ArcSwap::from_pointee(agent),
            objects: ArcSwap::default(),
            snapshot: ArcSwap::default(),
            baselines: ArcSwap::default(),
            configuration: ArcSwap::default(),
            reader,
            counters,
            started: epoch_seconds(),
            begin: Instant::now(),
            beat: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
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
        let agent = Some(AgentView::clone(&self.agent.load()));
        StatusView { agent, ..StatusView::clone(&self.objects.load()) }
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
