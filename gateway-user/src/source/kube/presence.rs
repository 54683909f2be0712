//! The agents' Leases (coordination.k8s.io/v1): each agent has one of its own, which says that it lives and what it serves.
//!
//! Owns when an agent's own Lease is written, and that the leader knows all of them. Must not know what stands in one
//! (`agents`).

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch as channel;
use tracing::{info, warn};

use super::Shared;
use super::agents::{Agents, Said, Sign};
use super::feed::Feed;
use super::infrastructure::MANAGED_BY;
use super::request::{WRITE, within};

/// How long a Lease lasts that is not renewed: as a node's own.
const LASTS: Duration = Duration::from_secs(40);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// Changes of what is served are written so often at most.
const GATHER: Duration = Duration::from_secs(1);
/// After so long a Lease that ran out is removed: its node has gone.
const LEFT: Duration = Duration::from_mins(10);
/// How often such are looked for.
const LOOK: Duration = Duration::from_mins(1);
/// What marks such a Lease.
const LABEL: (&str, &str) = ("sluice-gateway.dev/lease", "agent");
/// Where it says what is served.
const SERVES: &str = "sluice-gateway.dev/serves";
/// An object's name has room for so many bytes.
const LONGEST: usize = 253;

/// This agent's own Lease.
pub(super) struct Presence {
    api: Api<Lease>,
    node: String,
    name: String,
}

/// Name of the Lease of a node's agent. Where that would be too long, its end is a hash of all of it.
fn lease_name(node: &str) -> String {
    let name = format!("sluice-agent-{node}");
    if name.len() <= LONGEST {
        return name;
    }
    format!("{}-{:08x}", &name[..name.floor_char_boundary(LONGEST - 9)], crc32fast::hash(node.as_bytes()))
}

impl Presence {
    pub(super) fn new(client: Client, namespace: &str, node: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), node: node.to_owned(), name: lease_name(node) }
    }

    /// Says what is served, from the first time on that anything is, until it is told to leave: then the Lease goes, so
    /// that nobody waits for this agent.
    pub(super) async fn keep(self, shared: Arc<Shared>, mut leaving: channel::Receiver<bool>) {
        let mut written: Option<Said> = None;
        let mut failing = false;
        let mut anew = shared.anew.subscribe();
        loop {
            let said = shared.with(|state| state.outcome.as_ref().map(|(report, _)| Arc::clone(report)));
            if let Some(said) = said.map(|report| Said::new(&report)) {
                let renewed = written.as_ref() == Some(&said);
                let write = async { if renewed { self.renew(&said).await } else { self.write(&said).await } };
                match within(WRITE, write).await {
                    Ok(()) => {
                        written = Some(said);
                        failing = false;
                    }
                    Err(error) => {
                        written = None;
                        if !std::mem::replace(&mut failing, true) {
                            warn!(lease = self.name, %error, "this agent's Lease cannot be written: the leader does not know what is served here; it is tried again");
                        }
                    }
                }
            }
            let next = async {
                tokio::time::sleep(GATHER).await;
                let _renew = tokio::time::timeout(RENEW - GATHER, shared.served.notified()).await;
            };
            tokio::select! {
                () = next => {}
                // What the API server has of it may be of before.
                Ok(()) = anew.changed() => written = None,
                _ = leaving.wait_for(|leaving| *leaving) => break,
            }
        }
        // That of an agent before it, too, which was killed.
        match self.api.delete(&self.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => {
                warn!(lease = self.name, %error, "this agent's Lease cannot be removed; it runs out");
            }
            Ok(_) => {}
        }
    }

    async fn write(&self, said: &Said) -> Result<(), kube::Error> {
        let said = serde_json::to_string(said).map_err(kube::Error::SerdeError)?;
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": self.name,
                "labels": {LABEL.0: LABEL.1, MANAGED_BY.0: MANAGED_BY.1},
                "annotations": {SERVES: said},
            },
            "spec": self.spec(),
        });
        let parameters = PatchParams::apply(MANAGED_BY.1).force();
        self.api.patch(&self.name, &parameters, &Patch::Apply(lease)).await.map(drop)
    }

    /// Says that this agent lives, and still serves what it said.
    async fn renew(&self, said: &Said) -> Result<(), kube::Error> {
        let patch = Patch::Merge(json!({"spec": self.spec()}));
        match self.api.patch(&self.name, &PatchParams::default(), &patch).await {
            // Somebody has removed it.
            Err(kube::Error::Api(answer)) if answer.code == 404 => self.write(said).await,
            result => result.map(drop),
        }
    }

    fn spec(&self) -> Value {
        json!({
            "holderIdentity": self.node,
            "leaseDurationSeconds": LASTS.as_secs(),
            "renewTime": MicroTime(Timestamp::now()),
        })
    }
}

fn sign(lease: &Lease) -> Sign {
    let spec = lease.spec.clone().unwrap_or_default();
    let said = lease.annotations().get(SERVES).and_then(|text| serde_json::from_str(text).ok());
    let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Sign {
        node: spec.holder_identity.unwrap_or_default(),
        said,
        renewed: spec.renew_time.map(|time| time.0),
        lasts: lasts.map_or(LASTS, Duration::from_secs),
    }
}

/// Knows of the other agents while this one leads, for as long as the process runs.
pub(super) async fn follow(client: Client, namespace: String, node: String, shared: Arc<Shared>) {
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let own = lease_name(&node);
    let mut changes = shared.changes.subscribe();
    loop {
        if changes.wait_for(|_| shared.with(|state| state.leader)).await.is_err() {
            return;
        }
        tokio::select! {
            () = watch(&api, &own, &shared) => {}
            _ = changes.wait_for(|_| !shared.with(|state| state.leader)) => {}
        }
        shared.with(|state| state.agents = Agents::default());
    }
}

async fn watch(api: &Api<Lease>, own: &str, shared: &Shared) {
    let config = watcher::Config::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
    let mut feed = Feed::new("Lease", api.clone(), config, shared.anew.subscribe());
    let see = |lease: &Lease| {
        let name = lease.name_any();
        name != own && shared.with(|state| state.agents.see(name, sign(lease), Instant::now()))
    };
    let mut look = tokio::time::interval(LOOK);
    let mut listed = BTreeSet::new();
    loop {
        let end = shared.with(|state| state.agents.next_end(Instant::now()));
        let end = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => pending().await,
            }
        };
        let event = tokio::select! {
            event = feed.next() => event,
            // What it said counts no more.
            () = end => {
                shared.status.notify_one();
                continue;
            }
            _ = look.tick() => {
                remove(api, &shared.with(|state| state.agents.left(Instant::now(), LEFT))).await;
                continue;
            }
        };
        let news = match event {
            Ok(Event::Init) => {
                listed.clear();
                false
            }
            Ok(Event::InitApply(lease)) => {
                listed.insert(lease.name_any());
                see(&lease)
            }
            Ok(Event::InitDone) => {
                shared.with(|state| state.agents.only(&listed));
                true
            }
            Ok(Event::Apply(lease)) => see(&lease),
            Ok(Event::Delete(lease)) => shared.with(|state| state.agents.gone(&lease.name_any())),
            Err(why) => {
                let news = shared.with(|state| state.agents.unknowable());
                if news {
                    warn!(
                        why,
                        "the agents' Leases cannot be listed: Programmed speaks of this node alone; it is tried again"
                    );
                }
                news
            }
        };
        if news {
            shared.status.notify_one();
        }
    }
}

/// Removes Leases whose nodes have gone.
async fn remove(api: &Api<Lease>, leases: &[String]) {
    for lease in leases {
        match within(WRITE, api.delete(lease, &DeleteParams::default())).await {
            Ok(_) => info!(lease, "an agent's Lease ran out long ago, and is removed"),
            Err(error) => warn!(lease, %error, "a Lease that ran out cannot be removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_a_name_that_is_short_enough() {
        assert_eq!(lease_name("node-1.example"), "sluice-agent-node-1.example");
        let long = "n".repeat(250);
        assert!(lease_name(&long).len() <= LONGEST);
        assert_ne!(lease_name(&long), lease_name(&long[1..]));
    }
}
