//! Statuses, and what is made for Gateways, on their way to the API server.
//!
//! Owns what is written when: only by the leader, only what differs from what is there, each status bound to the revision
//! that it was made from. What the API server refuses for another reason than a newer revision is tried again after a pause.
//! What a status says is `status`'s, and what is made for a Gateway `infrastructure`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use itertools::{EitherOrBoth, Itertools as _};
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::super::kind::Kind;
use super::super::store::Key;
use super::entry::{Entry, Said};
use super::events::{Events, News, news};
use super::index::Seen;
use super::request::{Failure, WRITE, is_of_what_goes, within};
use super::watch::{self, resource_of};
use super::{Shared, State, infrastructure, now, policy, status};
use crate::core::model::{Model, ObjectName};
use crate::core::status::{Condition, GatewayStatus, Report};

/// Writes that are under way at once.
const AT_ONCE: usize = 16;
/// So long more is waited for before statuses are looked through: each write tells twice that it is done.
const TOGETHER: Duration = Duration::from_millis(5);
/// Until what failed is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// A status to be written.
#[derive(Debug)]
struct Write {
    kind: Kind,
    name: ObjectName,
    resource: ApiResource,
    revision: String,
    status: Value,
    /// What is told of it once it is written.
    news: Vec<News>,
    uid: String,
}

/// Writes statuses, for as long as the process runs.
pub(super) async fn publish(client: Client, node: String, shared: Arc<Shared>) {
    let events = Events::start(client.clone(), node.clone());
    let mut made = Made::default();
    loop {
        shared.status.notified().await;
        tokio::time::sleep(TOGETHER).await;
        let (writes, makes) = shared.with(|state| match state.said(&node) {
            Some(said) => (due(state, &said, &now()), made.due(state, &said)),
            None => Default::default(),
        });
        if writes.is_empty() && makes.is_empty() {
            continue;
        }
        debug!(statuses = writes.len(), objects = makes.len(), "written to the API server");
        let failed = stream::iter(writes)
            .map(|write| send(&client, &shared, &events, write))
            .buffer_unordered(AT_ONCE)
            .filter(|good| std::future::ready(!good))
            .count()
            .await;
        let mut unmade = 0;
        for make in makes {
            unmade += usize::from(!made.make(&client, &shared, make).await);
        }
        // What was written comes back, and who was faster is heard of: each tells by itself.
        if failed + unmade > 0 {
            tokio::time::sleep(PAUSE).await;
            shared.status.notify_one();
        }
    }
}

/// What the leader says.
struct Saying<'s> {
    report: &'s Report,
    model: &'s Model,
    /// Of Gateways what all agents say.
    gateways: BTreeMap<ObjectName, GatewayStatus>,
}

impl State {
    /// What is to be said, if it is by this agent, which is that of a node.
    fn said(&self, node: &str) -> Option<Saying<'_>> {
        let (report, model) = self.outcome.as_ref().filter(|_| self.leader)?;
        let gateways = self.agents.together(node, &report.gateways, Instant::now())?;
        Some(Saying { report, model, gateways })
    }
}

/// All statuses that differ from what is there.
fn due(state: &State, said: &Saying<'_>, now: &str) -> Vec<Write> {
    let Saying { report, model, gateways } = said;
    let mut writes = Vec::new();
    let mut write = |kind: Kind, name: &ObjectName, entry: &Entry, status: Option<Value>| {
        if let (Some(status), Some(crd)) = (status, state.catalog.get(kind)) {
            writes.push(Write {
                kind,
                name: name.clone(),
                resource: resource_of(crd),
                revision: entry.revision.to_string(),
                news: news(&entry.status(), &status),
                uid: entry.uid.to_string(),
                status,
            });
        }
    };
    let features = state.catalog.features();
    let (good, message) = state.catalog.version();
    for (name, conditions) in &report.classes {
        let name = ObjectName::new("", name);
        let Some(entry) = state.index.get(Kind::GatewayClass, &name) else { continue };
        let mut conditions = conditions.clone();
        conditions.push(Condition {
            kind: "SupportedVersion",
            status: good,
            reason: if good { "SupportedVersion" } else { "UnsupportedVersion" },
            message: message.clone(),
            observed_generation: conditions.first().map_or(0, |accepted| accepted.observed_generation),
        });
        let of = |have: &Value| status::class(have, &conditions, &features, now);
        write(Kind::GatewayClass, &name, entry, entry.due(Said::hash((&conditions, &features)), of));
    }
    for (name, want) in gateways {
        let Some(entry) = state.index.get(Kind::Gateway, name) else { continue };
        write(
            Kind::Gateway,
            name,
            entry,
            entry.due(Said::hash(want), |have| status::gateway(have, want, now)),
        );
    }
    let (first, nothing) = (ObjectName::new("", ""), Arc::default());
    for kind in [Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute, Kind::TcpRoute, Kind::UdpRoute] {
        let wanted = report.routes.range((kind.name(), first.clone())..);
        let wanted = wanted.take_while(|((other, _), _)| *other == kind.name());
        let pairs = state.index.of(kind).merge_join_by(wanted, |(a, _), ((_, b), _)| a.cmp(&b));
        for (object, want) in pairs.map(EitherOrBoth::left_and_right) {
            let Some((name, entry)) = object else { continue };
            let want = want.map_or(&nothing, |(_, want)| want);
            write(
                kind,
                name,
                entry,
                entry.due(Said::Route(Arc::clone(want)), |have| status::route(have, want, now)),
            );
        }
    }
    for (name, entry) in state.index.of(Kind::ListenerSet) {
        if let Some(want) = report.others.get(&(Kind::ListenerSet.name(), name.clone())) {
            write(
                Kind::ListenerSet,
                name,
                entry,
                entry.due(Said::hash(want), |have| status::plain(have, want, now)),
            );
        }
    }
    let ancestors = policy::ancestors(model, report);
    for (name, entry) in state.index.of(Kind::BackendTlsPolicy) {
        let want = report.others.get(&(Kind::BackendTlsPolicy.name(), name.clone()));
        let (want, none) = (want.map_or(&[][..], Vec::as_slice), BTreeSet::new());
        let gateways = ancestors.get(name).unwrap_or(&none);
        let of = |have: &Value| policy::status(have, gateways, want, now);
        write(Kind::BackendTlsPolicy, name, entry, entry.due(Said::hash((gateways, want)), of));
    }
    writes
}

/// Writes a status. False: it is to be tried again, after a pause.
async fn send(client: &Client, shared: &Shared, events: &Events, write: Write) -> bool {
    let Write { kind, name, resource, revision, status, news, uid } = write;
    let api: Api<DynamicObject> = if name.namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &name.namespace, &resource)
    };
    let patch = json!({"metadata": {"resourceVersion": revision}, "status": status});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    match within(WRITE, api.patch_status(&name.name, &parameters, &patch)).await {
        Ok(object) => {
            shared.writes.fetch_add(1, Ordering::Relaxed);
            events.tell((&resource, &name, uid), news);
            shared.take(kind, Seen::Written(watch::json(object, &resource)));
            true
        }
        // Somebody was faster: what is there now comes by the watch. Or it is gone.
        Err(Failure::Kube(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => {
            shared.conflicts.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(error) => {
            shared.failures.fetch_add(1, Ordering::Relaxed);
            warn!(kind = kind.name(), object = %name, %error, "a status cannot be written; it is tried again");
            false
        }
    }
}

/// What was made for Gateways, as far as it need not be made again.
#[derive(Debug, Default)]
struct Made(BTreeMap<Key, u32>);

/// An object to be made, or to be brought to what it shall be.
#[derive(Debug)]
struct Make {
    kind: Kind,
    name: ObjectName,
    /// `None`: it goes.
    object: Option<Value>,
    hash: u32,
}

impl Made {
    /// What is not there as it shall be.
    fn due(&self, state: &State, said: &Saying<'_>) -> Vec<Make> {
        let mut makes = Vec::new();
        for (gateway, status) in &said.gateways {
            let (Some(gateway), Some(entry)) =
                (said.model.gateways.get(gateway), state.index.get(Kind::Gateway, gateway))
            else {
                continue;
            };
            let namespace = &gateway.meta.name.namespace;
            let wanted = infrastructure::of(gateway, &entry.uid, &status.addresses);
            let slices = infrastructure::slices(&gateway.meta.name.name).into_iter();
            let stale = slices.filter(|name| !wanted.iter().any(|(_, wanted, _)| wanted == name));
            for name in stale.map(|name| ObjectName::new(namespace, &name)) {
                if state.index.get(Kind::EndpointSlice, &name).is_some_and(|there| there.ours) {
                    makes.push(Make { kind: Kind::EndpointSlice, name, object: None, hash: 0 });
                }
            }
            for (kind, name, object) in wanted {
                let hash = crc32fast::hash(object.to_string().as_bytes());
                let name = ObjectName::new(namespace, &name);
                let there = state.index.get(kind, &name);
                if there.is_some_and(|there| !there.ours) {
                    // It is somebody else's, who was first.
                    continue;
                }
                if there.is_none() || self.0.get(&(kind, name.clone())) != Some(&hash) {
                    makes.push(Make { kind, name, object: Some(object), hash });
                }
            }
        }
        makes
    }

    /// Makes an object, or removes it. False: it is to be tried again.
    async fn make(&mut self, client: &Client, shared: &Shared, make: Make) -> bool {
        let Make { kind, name, object, hash } = make;
        let resource = watch::core_resource(kind);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name.namespace, &resource);
        let result = match object {
            Some(object) => {
                let parameters = PatchParams::apply(infrastructure::MANAGED_BY.1).force();
                within(WRITE, api.patch(&name.name, &parameters, &Patch::Apply(object))).await.map(Some)
            }
            None => within(WRITE, api.delete(&name.name, &DeleteParams::default())).await.map(|_| None),
        };
        match result {
            Ok(object) => {
                self.0.insert((kind, name), hash);
                if let Some(object) = object {
                    shared.take(kind, Seen::Applied(watch::json(object, &resource)));
                }
                true
            }
            // Its namespace or its Gateway goes.
            Err(Failure::Kube(kube::Error::Api(answer))) if is_of_what_goes(&answer) => true,
            Err(error) => {
                warn!(kind = kind.name(), object = %name, %error, "what is made for a Gateway cannot be written; it is tried again");
                false
            }
        }
    }
}
