//! What a cluster holds, kind by kind, as far as its lists are complete.
//!
//! Owns the rule that a list counts only once it is complete: until then what was known before stays as it is, and a
//! complete one is obeyed, empty or not. Synchronous, so that it is tested without a server. Must not know how the events
//! come, nor what the objects are used for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::assemble::{Generations, assemble};
use super::super::kind::Kind;
use super::super::store::Key;
use super::super::{Diagnostic, Loaded};
use super::entry::Entry;
use crate::core::model::ObjectName;

/// Something that a watch has seen of a kind.
#[derive(Debug)]
pub(super) enum Seen {
    /// A list begins.
    Begin,
    /// An object of the list that has begun.
    Listed(Box<Value>),
    /// The list is complete.
    Complete,
    /// An object is new, or another than before.
    Applied(Box<Value>),
    /// An object as a write of ours has left it.
    Written(Box<Value>),
    /// An object is no more.
    Deleted(ObjectName),
    /// There are no objects of this kind: its CRD is not installed.
    Absent,
    /// The list cannot be had, for this reason.
    Denied(String),
}

/// What the cluster is called where a file would be named.
const THE_CLUSTER: &str = "the cluster";

/// The objects of a kind.
#[derive(Debug, Default)]
struct List {
    /// What counts; `None`: nothing was ever known.
    known: Option<BTreeMap<ObjectName, Entry>>,
    /// A list that is not complete yet.
    coming: Option<BTreeMap<ObjectName, Entry>>,
    /// Why the list cannot be had.
    denied: Option<String>,
}

/// Everything that is known of a cluster.
#[derive(Debug)]
pub(super) struct Index {
    kinds: BTreeMap<Kind, List>,
    generations: Generations,
    /// Objects that are gone and were not forgotten yet.
    gone: BTreeSet<Key>,
}

impl Index {
    /// Nothing is known of these kinds.
    pub(super) fn new(kinds: &[Kind]) -> Self {
        let kinds = kinds.iter().map(|kind| (*kind, List::default())).collect();
        Self { kinds, generations: Generations::default(), gone: BTreeSet::new() }
    }

    /// What was remembered counts until it is known better: for every kind, since it is of a moment when all were known.
    pub(super) fn remember(&mut self, objects: Vec<(Kind, Value)>) {
        for list in self.kinds.values_mut() {
            list.known.get_or_insert_default();
        }
        for (kind, value) in objects {
            let Some((name, mut entry)) = Entry::new(kind, value) else { continue };
            entry.text = None;
            let known = self.kinds.entry(kind).or_default().known.get_or_insert_default();
            known.insert(name, entry);
        }
    }

    /// What is to be remembered, or forgotten; nothing as long as something is awaited.
    pub(super) fn unremembered(&mut self) -> Vec<(Key, Option<String>)> {
        if !self.awaited().is_empty() {
            return Vec::new();
        }
        let mut changes: Vec<_> = std::mem::take(&mut self.gone).into_iter().map(|key| (key, None)).collect();
        for (kind, list) in &mut self.kinds {
            for (name, entry) in list.known.iter_mut().flatten() {
                let text = entry.text.take();
                changes.extend(text.map(|text| ((*kind, name.clone()), Some(text))));
            }
        }
        changes
    }

    /// Takes in what was seen. True if what counts may be another than before.
    pub(super) fn take(&mut self, kind: Kind, seen: Seen) -> bool {
        let list = self.kinds.entry(kind).or_default();
        match seen {
            Seen::Begin => {
                list.coming = Some(BTreeMap::new());
                false
            }
            Seen::Listed(value) => {
                if let (Some(coming), Some((name, entry))) = (&mut list.coming, Entry::new(kind, *value)) {
                    coming.insert(name, entry);
                }
                false
            }
            Seen::Complete => {
                list.denied = None;
                let Some(mut complete) = list.coming.take() else { return false };
                let same = list.known.as_ref().is_some_and(|known| same(known, &complete));
                for (name, before) in list.known.iter().flatten() {
                    match complete.get_mut(name) {
                        Some(now) => now.follows(before),
                        None => _ = self.gone.insert((kind, name.clone())),
                    }
                }
                self.gone.retain(|(of, name)| *of != kind || !complete.contains_key(name));
                list.known = Some(complete);
                !same
            }
            Seen::Applied(value) => {
                let Some((name, mut entry)) = Entry::new(kind, *value) else { return false };
                // One object is no list.
                let Some(known) = &mut list.known else { return false };
                // What a write of ours has brought already.
                if known.get(&name).is_some_and(|known| known.is_newer(&entry)) {
                    return false;
                }
                // A status of our own comes back, too: then the spec is the one of before.
                let same = known.get(&name).is_some_and(|known| known.same_spec(&entry));
                if let Some(before) = known.get(&name) {
                    entry.follows(before);
                }
                self.gone.remove(&(kind, name.clone()));
                known.insert(name, entry);
                !same
            }
            Seen::Written(value) => {
                let Some((name, mut entry)) = Entry::new(kind, *value) else { return false };
                // It may have gone meanwhile.
                let Some(known) = list.known.as_mut().and_then(|known| known.get_mut(&name)) else {
                    return false;
                };
                if known.uid != entry.uid || known.is_newer(&entry) {
                    return false;
                }
                let same = known.same_spec(&entry);
                entry.follows(known);
                *known = entry;
                !same
            }
            Seen::Deleted(name) => {
                let was_there = list.known.as_mut().is_some_and(|known| known.remove(&name).is_some());
                if was_there {
                    self.gone.insert((kind, name));
                }
                was_there
            }
            Seen::Absent => {
                self.gone.extend(list.known.iter().flatten().map(|(name, _)| (kind, name.clone())));
                *list = List { known: Some(BTreeMap::new()), ..List::default() };
                true
            }
            Seen::Denied(why) => {
                list.coming = None;
                list.denied.replace(why).is_none()
            }
        }
    }

    /// Whether it is known that there are no objects of a kind.
    pub(super) fn has_none(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(|list| list.known.as_ref().is_some_and(BTreeMap::is_empty))
    }

    /// Kinds of which nothing was ever known, and nothing says that nothing can be.
    pub(super) fn awaited(&self) -> Vec<Kind> {
        let awaited = self.kinds.iter().filter(|(_, list)| list.known.is_none() && list.denied.is_none());
        awaited.map(|(kind, _)| *kind).collect()
    }

    /// What counts now. What cannot be used is left out, and said.
    ///
    /// # Errors
    /// If the objects contradict each other, which an API server does not let them.
    pub(super) fn load(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        let file = THE_CLUSTER.into();
        let mut parts = Vec::new();
        let mut warnings = Vec::new();
        for (kind, list) in &self.kinds {
            if let Some(why) = &list.denied {
                warnings.push(Diagnostic {
                    object: kind.name().to_owned(),
                    message: format!("its objects cannot be read: {why}"),
                    remedy: if list.known.is_some() {
                        "what was known of them goes on serving".to_owned()
                    } else {
                        "the rest works without them".to_owned()
                    },
                    ..Diagnostic::default()
                });
            }
            for entry in list.known.iter().flat_map(BTreeMap::values) {
                if entry.is_ours() {
                    // A Gateway's own Service is no backend.
                } else if entry.read.errors.is_empty() {
                    parts.push(entry.part(&file));
                } else {
                    warnings.extend(entry.read.errors.iter().map(left_out));
                }
            }
        }
        let mut loaded = assemble(&parts, &[], &mut self.generations)?;
        for (name, gateway) in &mut loaded.model.gateways {
            gateway.had =
                self.get(Kind::Gateway, name).map(|entry| entry.addresses.clone()).unwrap_or_default();
        }
        // Warnings of the objects themselves are for who writes files: the API server has taken these.
        Ok(Loaded { model: loaded.model, warnings })
    }

    /// An object, if it is known.
    pub(super) fn get(&self, kind: Kind, name: &ObjectName) -> Option<&Entry> {
        self.kinds.get(&kind)?.known.as_ref()?.get(name)
    }

    /// The objects of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = (&ObjectName, &Entry)> {
        self.kinds.get(&kind).into_iter().flat_map(|list| list.known.iter().flatten())
    }
}

fn left_out(error: &Diagnostic) -> Diagnostic {
    let message = format!("{}; the object is left out", error.message);
    Diagnostic { line: 0, column: 0, message, ..error.clone() }
}

fn same(a: &BTreeMap<ObjectName, Entry>, b: &BTreeMap<ObjectName, Entry>) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && x.same_spec(y))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, port: u16) -> Box<Value> {
        Box::new(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "7"},
            "spec": {"ports": [{"port": port}], "clusterIP": "10.96.0.7", "type": "ClusterIP"},
        }))
    }

    fn route(name: &str, generation: i64, status: &str) -> Box<Value> {
        Box::new(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "7",
                "generation": generation, "creationTimestamp": "2026-01-31T12:00:00Z",
                "managedFields": [{"manager": "kubectl"}]},
            "spec": {"parentRefs": [{"name": "gw"}],
                "rules": [{"backendRefs": [{"name": "a", "port": 80 + generation}]}]},
            "status": {"parents": [{"controllerName": status}]},
        }))
    }

    const BOTH: &[Kind] = &[Kind::HttpRoute, Kind::Service];

    /// An index of which every list is complete, and empty.
    fn empty() -> Index {
        let mut index = Index::new(BOTH);
        for kind in BOTH {
            index.take(*kind, Seen::Begin);
            index.take(*kind, Seen::Complete);
        }
        index
    }

    fn services(index: &mut Index) -> Vec<String> {
        let loaded = index.load().unwrap();
        assert_eq!(loaded.warnings, []);
        loaded.model.services.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_list_counts_once_it_is_complete() {
        let mut index = Index::new(BOTH);
        assert_eq!(index.awaited(), BOTH);
        assert!(!index.take(Kind::Service, Seen::Begin));
        assert!(!index.take(Kind::Service, Seen::Listed(service("a", 80))));
        assert_eq!((services(&mut index), index.awaited().len()), (vec![], 2));
        assert!(index.take(Kind::Service, Seen::Complete));
        assert_eq!(
            (services(&mut index), index.awaited()),
            (vec!["shop/a".to_owned()], vec![Kind::HttpRoute])
        );
        // The list is had again: until it is complete, nothing is missing.
        index.take(Kind::Service, Seen::Begin);
        assert_eq!(services(&mut index), ["shop/a"]);
        index.take(Kind::Service, Seen::Listed(service("b", 80)));
        assert_eq!(services(&mut index), ["shop/a"]);
        // It broke off, and begins anew.
        index.take(Kind::Service, Seen::Begin);
        index.take(Kind::Service, Seen::Listed(service("a", 80)));
        assert!(!index.take(Kind::Service, Seen::Complete), "all is as it was");
        assert_eq!(services(&mut index), ["shop/a"]);
        index.take(Kind::Service, Seen::Begin);
        assert!(index.take(Kind::Service, Seen::Complete), "an empty list is obeyed, too");
        assert_eq!(services(&mut index), Vec::<String>::new());
    }

    #[test]
    fn what_is_denied_leaves_what_was_known() {
        let mut index = Index::new(BOTH);
        index.take(Kind::HttpRoute, Seen::Absent);
        assert!(index.take(Kind::Service, Seen::Denied("services is forbidden".to_owned())));
        assert_eq!(index.awaited(), []);
        let told = index.load().unwrap().warnings;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].message, "its objects cannot be read: services is forbidden");
        assert_eq!(told[0].remedy, "the rest works without them");
        index.take(Kind::Service, Seen::Begin);
        index.take(Kind::Service, Seen::Listed(service("a", 80)));
        index.take(Kind::Service, Seen::Complete);
        assert_eq!(services(&mut index), ["shop/a"]);
        assert!(index.take(Kind::Service, Seen::Denied("again".to_owned())));
        assert!(!index.take(Kind::Service, Seen::Denied("again".to_owned())), "it is said once");
        let loaded = index.load().unwrap();
        assert_eq!(loaded.model.services.len(), 1);
        assert_eq!(loaded.warnings[0].remedy, "what was known of them goes on serving");
    }

    #[test]
    fn a_status_alone_changes_nothing() {
        let mut index = empty();
        let name = ObjectName::new("shop", "r");
        assert!(index.take(Kind::HttpRoute, Seen::Applied(route("r", 1, "x"))));
        assert!(!index.take(Kind::HttpRoute, Seen::Applied(route("r", 1, "y"))));
        assert_eq!(index.get(Kind::HttpRoute, &name).unwrap().status()["parents"][0]["controllerName"], "y");
        assert!(index.take(Kind::HttpRoute, Seen::Applied(route("r", 2, "y"))));
        let loaded = index.load().unwrap();
        let route = &loaded.model.http_routes[&name];
        assert_eq!((route.meta.generation, route.rules[0].backends[0].port), (2, Some(82)));
        assert!(route.meta.created.is_some());
        assert!(index.take(Kind::HttpRoute, Seen::Deleted(name.clone())));
        assert!(!index.take(Kind::HttpRoute, Seen::Deleted(name)));
    }

    #[test]
    fn a_write_of_ours_is_not_undone_and_brings_nothing_back() {
        let mut index = empty();
        let name = ObjectName::new("shop", "r");
        let at = |revision: &str, status: &str| {
            let mut route = route("r", 1, status);
            route["metadata"]["resourceVersion"] = json!(revision);
            route
        };
        let status = |index: &Index| {
            index.get(Kind::HttpRoute, &name).map(|e| e.status()["parents"][0]["controllerName"].clone())
        };
        index.take(Kind::HttpRoute, Seen::Applied(at("9", "before")));
        index.take(Kind::HttpRoute, Seen::Written(at("12", "ours")));
        assert_eq!(status(&index), Some(json!("ours")));
        index.take(Kind::HttpRoute, Seen::Applied(at("11", "older")));
        assert_eq!(status(&index), Some(json!("ours")), "an event of before comes late");
        index.take(Kind::HttpRoute, Seen::Applied(at("100", "newer")));
        assert_eq!(status(&index), Some(json!("newer")), "as numbers");
        index.take(Kind::HttpRoute, Seen::Deleted(name.clone()));
        assert!(!index.take(Kind::HttpRoute, Seen::Written(at("101", "ours"))));
        assert_eq!(status(&index), None);
    }

    #[test]
    fn what_is_remembered_is_what_counts() {
        let mut index = Index::new(BOTH);
        let key = |kind, name: &str| (kind, ObjectName::new("shop", name));
        let keys = |changes: Vec<(Key, Option<String>)>| {
            let told = changes
                .into_iter()
                .map(|((kind, name), text)| format!("{} {} {}", kind.name(), name.name, text.is_some()));
            told.collect::<Vec<_>>()
        };
        assert!(!index.take(Kind::Service, Seen::Applied(service("b", 80))), "one object is no list");
        index.take(Kind::Service, Seen::Begin);
        index.take(Kind::Service, Seen::Complete);
        index.take(Kind::Service, Seen::Applied(service("a", 80)));
        assert_eq!(keys(index.unremembered()), Vec::<String>::new(), "HTTPRoutes are not known yet");
        index.take(Kind::HttpRoute, Seen::Begin);
        index.take(Kind::HttpRoute, Seen::Listed(route("r", 1, "x")));
        index.take(Kind::HttpRoute, Seen::Complete);
        let first = index.unremembered();
        assert_eq!(keys(first.clone()), ["HTTPRoute r true", "Service a true"]);
        assert_eq!(keys(index.unremembered()), Vec::<String>::new(), "once");
        index.take(Kind::HttpRoute, Seen::Applied(route("r", 1, "y")));
        assert_eq!(keys(index.unremembered()), Vec::<String>::new(), "a status need not be remembered");
        index.take(Kind::HttpRoute, Seen::Begin);
        index.take(Kind::HttpRoute, Seen::Listed(route("s", 1, "y")));
        index.take(Kind::HttpRoute, Seen::Complete);
        index.take(Kind::Service, Seen::Deleted(key(Kind::Service, "a").1));
        index.take(Kind::Service, Seen::Applied(service("a", 81)));
        assert_eq!(keys(index.unremembered()), ["HTTPRoute r false", "HTTPRoute s true", "Service a true"]);

        let mut again = Index::new(BOTH);
        let objects =
            first.into_iter().map(|((kind, _), text)| (kind, serde_json::from_str(&text.unwrap()).unwrap()));
        again.remember(objects.collect());
        assert_eq!(again.awaited(), []);
        let loaded = again.load().unwrap();
        assert_eq!((loaded.model.services.len(), loaded.model.http_routes.len()), (1, 1));
        assert_eq!(keys(again.unremembered()), Vec::<String>::new());
        again.take(Kind::Service, Seen::Begin);
        again.take(Kind::Service, Seen::Complete);
        assert_eq!(
            keys(again.unremembered()),
            ["Service a false"],
            "what the API server has not is forgotten"
        );
    }

    #[test]
    fn an_object_that_cannot_be_used_is_left_out_alone() {
        let mut index = empty();
        let mut bad = route("bad", 1, "x");
        bad["spec"]["rules"][0]["matches"] = json!([{"path": {"type": "Sideways", "value": "/"}}]);
        index.take(Kind::HttpRoute, Seen::Applied(bad));
        index.take(Kind::HttpRoute, Seen::Applied(route("good", 1, "x")));
        let loaded = index.load().unwrap();
        assert_eq!(loaded.model.http_routes.len(), 1);
        assert_eq!(loaded.warnings.len(), 1);
        assert_eq!(loaded.warnings[0].object, "HTTPRoute shop/bad");
        assert_eq!(loaded.warnings[0].field, "spec.rules[0].matches[0].path.type");
        assert!(loaded.warnings[0].message.ends_with("the object is left out"), "{:?}", loaded.warnings);
    }
}
