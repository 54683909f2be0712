//! A cluster as the source: its objects, and the statuses that come back to them.
//!
//! Owns the connection, what is known of the cluster, and who writes statuses. A list counts once it is complete
//! (`kube/index.rs`); an API server that cannot be reached takes nothing away. Must not know what the objects are used for.

mod agents;
mod catalog;
mod entry;
mod events;
mod features;
mod feed;
mod index;
mod infrastructure;
mod keep;
mod lease;
mod policy;
mod presence;
mod publish;
mod references;
mod request;
mod revisions;
mod status;
mod trim;
mod watch;

pub use keep::Folders;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::kind::Kind;
use super::store::Key;
use super::{Diagnostic, Loaded};
use agents::Agents;
use catalog::{Catalog, Crd};
use index::{Index, Seen};
use keep::Kept;
use lease::Candidate;
use presence::Presence;

use crate::core::host::Role;
use crate::core::model::Model;
use crate::core::status::Report;

/// A change so soon after another was told of is one of a group.
const HEELS: Duration = Duration::from_millis(20);
/// So long is waited for more of a group.
const GATHER: Duration = Duration::from_millis(1);
/// How often it is said what is waited for at the start.
const SAY: Duration = Duration::from_secs(10);
/// How often what has changed is remembered.
const REMEMBER: Duration = Duration::from_secs(1);
/// How long a stop waits for the API server.
const LEAVE: Duration = Duration::from_secs(2);
/// Name of the Lease that the leader holds.
const LEASE: &str = "sluice-leader";

/// How a cluster is reached.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// A kubeconfig; `None`: the usual places, then the pod's ServiceAccount.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the agents' Leases; `None`: that of the kubeconfig's context or the pod.
    pub namespace: Option<String>,
    /// What this agent is called among the agents.
    pub node: String,
    /// Where objects are remembered over restarts.
    pub memory: Folders,
}

/// Why a cluster cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no usable configuration.
    #[error(
        "no way to a cluster is known: {0} (run in a pod with a ServiceAccount, or give --kubeconfig FILE)"
    )]
    Config(String),
    /// The client cannot be made.
    #[error("the cluster's client cannot be made: {0}")]
    Client(#[source] kube::Error),
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    url: String,
    leaving: channel::Sender<bool>,
    /// What others wait for until it has ended.
    parts: [JoinHandle<()>; 2],
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts changes of what counts.
    changes: channel::Sender<u64>,
    /// Counts how often everything is to be listed anew.
    anew: channel::Sender<u64>,
    /// A status may have to be written.
    status: Notify,
    /// Something else may be served.
    served: Notify,
    writes: AtomicU64,
    conflicts: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct State {
    index: Index,
    catalog: Catalog,
    /// What came of the objects, and those that it is about.
    outcome: Option<(Arc<Report>, Arc<Model>)>,
    leader: bool,
    /// The others, while this agent leads.
    agents: Agents,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, kind: Kind, seen: Seen) {
        if self.with(|state| state.index.take(kind, seen)) {
            self.changes.send_modify(|changes| *changes += 1);
        } else if kind.has_status() {
            self.status.notify_one();
        }
    }

    fn installed(&self, kind: Kind, crd: Option<Crd>) {
        if self.with(|state| state.catalog.set(kind, crd)) {
            self.status.notify_one();
        }
    }

    /// Whether it is known already that there are no objects of a kind.
    fn has_none(&self, kind: Kind) -> bool {
        self.with(|state| state.index.has_none(kind))
    }

    /// The API server's past is another than it was: what is known is no longer what a watch goes on from.
    fn list_anew(&self) {
        warn!(
            "the API server has older revisions than it had: was etcd restored? all objects are listed anew"
        );
        self.anew.send_modify(|anew| *anew += 1);
    }

    fn lead(&self, leader: bool) {
        if self.with(|state| std::mem::replace(&mut state.leader, leader) != leader) {
            // Who leads gives addresses.
            self.changes.send_modify(|changes| *changes += 1);
            self.status.notify_one();
        }
    }
}

/// The time, RFC 3339, as it stands in a condition.
fn now() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now).to_string()
}

impl Cluster {
    /// Begins to watch a cluster; it need not be reachable yet.
    ///
    /// # Errors
    /// If there is no configuration, or one that cannot be used.
    pub async fn connect(config: &ClusterConfig) -> Result<Self, ClusterError> {
        let words = |error: &dyn std::error::Error| ClusterError::Config(error.to_string());
        let way = match &config.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| words(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| words(&error))?
            }
            None => Config::infer().await.map_err(|error| words(&error))?,
        };
        let (url, namespace) = (way.cluster_url.to_string(), way.default_namespace.clone());
        let client = Client::try_from(way).map_err(ClusterError::Client)?;
        let state = State {
            index: Index::new(Kind::ALL),
            catalog: Catalog::default(),
            outcome: None,
            leader: false,
            agents: Agents::default(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changes: channel::Sender::new(0),
            anew: channel::Sender::new(0),
            status: Notify::new(),
            served: Notify::new(),
            writes: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        match Kept::open(&config.memory) {
            Ok((kept, remembered)) => {
                if !remembered.objects.is_empty() {
                    let (objects, age_s) = (remembered.objects.len(), remembered.age.as_secs());
                    info!(
                        objects,
                        age_s, "what was known of the cluster serves until the API server answers"
                    );
                    shared.with(|state| state.index.remember(remembered.objects));
                }
                tokio::spawn(remember(kept, Arc::clone(&shared)));
            }
            Err(error) => warn!(%error, "what is known of the cluster is not remembered"),
        }
        tokio::spawn(watch::follow_all(client.clone(), Arc::clone(&shared)));
        let node = config.node.clone();
        let namespace = config.namespace.clone().unwrap_or(namespace);
        tokio::spawn(publish::publish(client.clone(), node.clone(), Arc::clone(&shared)));
        tokio::spawn(presence::follow(client.clone(), namespace.clone(), node.clone(), Arc::clone(&shared)));
        let leaving = channel::Sender::new(false);
        let presence = Presence::new(client.clone(), &namespace, &node);
        let presence = tokio::spawn(presence.keep(Arc::clone(&shared), leaving.subscribe()));
        let me = format!("{node}-{}", std::process::id());
        let (candidate, told) = (Candidate::new(client, &namespace, LEASE, me), Arc::clone(&shared));
        let left = leaving.subscribe();
        let candidacy = tokio::spawn(async move {
            candidate.take_part(|leader| told.lead(leader), || told.list_anew(), left).await;
        });
        Ok(Self { shared, url, leaving, parts: [presence, candidacy] })
    }

    /// The API server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until every list is complete, or is known not to be had.
    pub async fn complete(&self) {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let awaited = self.shared.with(|state| state.index.awaited());
            if awaited.is_empty() {
                return;
            }
            let changed = tokio::time::timeout(SAY, changes.changed()).await;
            if changed.is_err() {
                let kinds: Vec<_> = awaited.iter().map(|kind| kind.name()).collect();
                warn!(
                    api_server = self.url,
                    waiting_for = kinds.join(","),
                    "the cluster's objects are not known yet"
                );
            }
        }
    }

    /// What counts now. What cannot be used is left out.
    ///
    /// # Errors
    /// If the objects contradict each other: then what served before shall go on.
    pub fn load(&self) -> Result<Loaded, Vec<Diagnostic>> {
        self.shared.with(|state| state.index.load())
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> ClusterFigures {
        ClusterFigures(Arc::clone(&self.shared))
    }

    /// Tells of changes from now on.
    #[must_use]
    pub fn watch(&self) -> ClusterWatch {
        ClusterWatch::new(self.shared.changes.subscribe())
    }

    /// What came of the objects: it is written to them.
    pub fn publish(&self, report: Arc<Report>, model: Arc<Model>) {
        self.shared.with(|state| state.outcome = Some((report, model)));
        self.shared.status.notify_one();
        self.shared.served.notify_one();
    }

    /// Gives up what others may have now, and says that nobody need wait for this agent; waits a moment for it.
    pub async fn leave(&mut self) {
        self.leaving.send_replace(true);
        let parts = futures_util::future::join_all(&mut self.parts);
        if tokio::time::timeout(LEAVE, parts).await.is_err() {
            warn!("Leases are not given up: the API server does not answer");
        }
    }

    /// What this agent is among the others.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.shared.with(|state| state.leader) { Role::Leader } else { Role::Follower }
    }
}

/// Remembers what changes, for as long as the process runs.
async fn remember(mut kept: Kept, shared: Arc<Shared>) {
    let mut unwritten: BTreeMap<Key, Option<String>> = BTreeMap::new();
    let mut failing = false;
    loop {
        tokio::time::sleep(REMEMBER).await;
        unwritten.extend(shared.with(|state| state.index.unremembered()));
        if unwritten.is_empty() {
            continue;
        }
        let changes = unwritten.clone();
        let written = tokio::task::spawn_blocking(move || {
            let result = kept.keep(changes);
            (kept, result)
        });
        let Ok((back, result)) = written.await else { return };
        kept = back;
        match result {
            Ok(()) => {
                unwritten.clear();
                failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "what is known of the cluster cannot be remembered; it is tried again");
                }
            }
        }
    }
}

/// What is counted of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterFigures(Arc<Shared>);

impl ClusterFigures {
    /// Whether this agent writes statuses.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.0.with(|state| state.leader)
    }

    /// Statuses that were to be written, by what came of it.
    #[must_use]
    pub fn writes(&self) -> [(&'static str, u64); 3] {
        let Shared { writes, conflicts, failures, .. } = &*self.0;
        [("written", writes), ("conflict", conflicts), ("failed", failures)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Waits for changes of a cluster's objects.
#[derive(Debug)]
pub struct ClusterWatch {
    changes: channel::Receiver<u64>,
    /// A change was seen that nobody was told of: who waited was called off while more of them were waited for.
    untold: bool,
    /// When a change was told of last.
    told: Option<Instant>,
}

impl ClusterWatch {
    fn new(changes: channel::Receiver<u64>) -> Self {
        Self { changes, untold: false, told: None }
    }

    /// Waits for the next change; on the heels of another, a moment for more of them. To be called off loses none.
    pub async fn changed(&mut self) {
        if !self.untold && self.changes.changed().await.is_err() {
            // Nobody watches any longer: the agent ends.
            std::future::pending::<()>().await;
        }
        self.untold = true;
        if self.told.is_some_and(|told| told.elapsed() < HEELS) {
            tokio::time::sleep(GATHER).await;
        }
        self.changes.mark_unchanged();
        self.untold = false;
        self.told = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_to_who_was_called_off_meanwhile() {
        let sender = channel::Sender::new(0);
        let mut watch = ClusterWatch::new(sender.subscribe());
        let change = || sender.send_modify(|changes| *changes += 1);
        change();
        assert!(
            tokio::time::timeout(Duration::ZERO, watch.changed()).await.is_ok(),
            "the first is told at once"
        );
        change();
        assert!(
            tokio::time::timeout(Duration::ZERO, watch.changed()).await.is_err(),
            "on its heels, more of them are waited for"
        );
        assert!(tokio::time::timeout(2 * GATHER, watch.changed()).await.is_ok());
        assert!(tokio::time::timeout(2 * GATHER, watch.changed()).await.is_err(), "each is told once");
        tokio::time::sleep(HEELS).await;
        change();
        assert!(tokio::time::timeout(Duration::ZERO, watch.changed()).await.is_ok());
    }
}
