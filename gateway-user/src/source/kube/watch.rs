//! What happens in a cluster, watched kind by kind.
//!
//! Owns the tasks: one for the CRDs, and one for each kind that there is; a CRD that comes, goes or serves another version
//! starts or ends the one of its kind. Lists, watches and their errors are `feed`'. Must not know what an object means.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::AbortHandle;
use tracing::info;

use super::super::kind::Kind;
use super::Shared;
use super::catalog::{Crd, kind_of};
use super::feed::Feed;
use super::index::Seen;
use crate::core::model::ObjectName;

/// Watches everything, for as long as the process runs.
pub(super) async fn follow_all(client: Client, shared: Arc<Shared>) {
    for kind in Kind::ALL.iter().copied().filter(|kind| !kind.custom()) {
        match kind {
            // Nothing that is built refers to one.
            Kind::ConfigMap => shared.take(kind, Seen::Absent),
            _ => {
                tokio::spawn(follow(client.clone(), Arc::clone(&shared), kind, core_resource(kind)));
            }
        }
    }
    follow_crds(client, shared).await;
}

fn resource(kind: Kind, version: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.group(), version, kind.name()), plural)
}

/// The resource of a kind that every cluster has.
pub(super) fn core_resource(kind: Kind) -> ApiResource {
    resource(kind, "v1", &format!("{}s", kind.name().to_lowercase()))
}

/// The resource that a kind is watched and written as.
pub(super) fn resource_of(crd: &Crd) -> ApiResource {
    resource(crd.kind, &crd.version, &crd.plural)
}

/// An object as JSON, with its kind: in a list it is not said.
pub(super) fn json(object: DynamicObject, resource: &ApiResource) -> Box<Value> {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), resource.api_version.clone().into());
        fields.insert("kind".to_owned(), resource.kind.clone().into());
    }
    Box::new(value)
}

/// Watches the objects of a kind.
async fn follow(client: Client, shared: Arc<Shared>, kind: Kind, resource: ApiResource) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let config = match kind {
        // Others hold no certificate, and are nobody's business.
        Kind::Secret => watcher::Config::default().fields("type=kubernetes.io/tls"),
        _ => watcher::Config::default(),
    };
    let mut feed = Feed::new(kind.name(), api, config, shared.anew.subscribe());
    loop {
        let seen = match feed.next().await {
            Ok(Event::Init) => Seen::Begin,
            Ok(Event::InitApply(object)) => Seen::Listed(json(object, &resource)),
            Ok(Event::InitDone) => Seen::Complete,
            Ok(Event::Apply(object)) => Seen::Applied(json(object, &resource)),
            Ok(Event::Delete(object)) => Seen::Deleted(name(&object)),
            Err(why) => Seen::Denied(why),
        };
        shared.take(kind, seen);
    }
}

fn name(object: &DynamicObject) -> ObjectName {
    ObjectName::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

/// Watches the CRDs, and what is installed by them.
async fn follow_crds(client: Client, shared: Arc<Shared>) {
    let group = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = ApiResource::from_gvk_with_plural(&group, "customresourcedefinitions");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let config = watcher::Config::default();
    let mut feed = Feed::new("CustomResourceDefinition", api, config, shared.anew.subscribe());
    let mut installed = Installed { client, shared, tasks: BTreeMap::new() };
    let mut listed: Option<Vec<Kind>> = None;
    loop {
        match feed.next().await {
            Ok(Event::Init) => listed = Some(Vec::new()),
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let crd = json(object, &resource);
                let Some(kind) = kind_of(&crd) else { continue };
                if let Some(listed) = &mut listed {
                    listed.push(kind);
                }
                installed.set(kind, Crd::read(&crd));
            }
            Ok(Event::InitDone) => {
                let listed = listed.take().unwrap_or_default();
                let custom = Kind::ALL.iter().copied().filter(|kind| kind.custom());
                for kind in custom.filter(|kind| !listed.contains(kind)) {
                    installed.set(kind, None);
                }
            }
            Ok(Event::Delete(object)) => {
                if let Some(kind) = kind_of(&json(object, &resource)) {
                    installed.set(kind, None);
                }
            }
            Err(why) => installed.unknown(&why),
        }
    }
}

/// The watches of what CRDs have installed.
struct Installed {
    client: Client,
    shared: Arc<Shared>,
    tasks: BTreeMap<Kind, (ApiResource, AbortHandle)>,
}

impl Installed {
    /// What is installed is not to be found out: what is not watched yet is not waited for.
    fn unknown(&self, why: &str) {
        for kind in Kind::ALL.iter().copied().filter(|kind| kind.custom() && !self.tasks.contains_key(kind)) {
            self.shared.take(kind, Seen::Denied(why.to_owned()));
        }
    }

    fn set(&mut self, kind: Kind, crd: Option<Crd>) {
        let resource = crd.as_ref().map(resource_of);
        self.shared.installed(kind, crd);
        if resource.as_ref() == self.tasks.get(&kind).map(|(resource, _)| resource)
            && (resource.is_some() || self.shared.has_none(kind))
        {
            return;
        }
        if let Some((_, task)) = self.tasks.remove(&kind) {
            task.abort();
        }
        match resource {
            Some(resource) => {
                info!(kind = kind.name(), version = resource.version, "installed, and watched");
                let task = follow(self.client.clone(), Arc::clone(&self.shared), kind, resource.clone());
                self.tasks.insert(kind, (resource, tokio::spawn(task).abort_handle()));
            }
            None => {
                info!(kind = kind.name(), "not installed: the kinds that are work without it");
                self.shared.take(kind, Seen::Absent);
            }
        }
    }
}
