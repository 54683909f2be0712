//! What a cluster holds, kind by kind, as far as its lists are complete.
//!
//! Owns the rule that a list counts only once it is complete: until then what was known before stays as it is, and a
//! complete one is obeyed, empty or not; and that a change of what nobody refers to is none. Synchronous, so that it is tested without a server. Must not know how the events
//! come, nor what the objects are used for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::assemble::{Generations, assemble};
use super::super::kind::Kind;
use super::super::store::Key;
use super::super::{Diagnostic, Loaded};
use super::entry::Entry;
use super::references::{References, needed_by_reference};
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

impl Seen {
    /// The one object that it is about.
    fn name(&self) -> Option<ObjectName> {
        match self {
            Self::Applied(value) | Self::Written(value) => {
                let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
                Some(ObjectName::new(text("namespace"), text("name")))
            }
            Self::Deleted(name) => Some(name.clone()),
            Self::Begin | Self::Listed(_) | Self::Complete | Self::Absent | Self::Denied(_) => None,
        }
    }
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
    /// Who was referred to when all was put together, or since: what only a route has referred to that has changed or gone
    /// alone since stays in here.
    references: References,
    /// Objects that are gone and were not forgotten yet.
    gone: BTreeSet<Key>,
    /// What was handed out last; `None`: anything of it may be another by now.
    handed: Option<Handed>,
}

/// What was handed out. Of thousands of HTTPRoutes few change at a time.
#[derive(Debug)]
struct Handed {
    loaded: Loaded,
    /// HTTPRoutes that may be others by now, and nothing else is.
    stale: BTreeSet<ObjectName>,
}

impl Index {
    /// Nothing is known of these kinds.
    pub(super) fn new(kinds: &[Kind]) -> Self {
        let kinds = kinds.iter().map(|kind| (*kind, List::default())).collect();
        let (generations, references) = (Generations::default(), References::default());
        Self { kinds, generations, references, gone: BTreeSet::new(), handed: None }
    }

    /// What was remembered counts until it is known better: for every kind, since it is of a moment when all were known.
    pub(super) fn remember(&mut self, objects: Vec<(Kind, Value)>) {
        self.handed = None;
        for list in self.kinds.values_mut() {
            list.known.get_or_insert_default();
        }
        for (kind, value) in objects {
            let Some((name, mut entry)) = Entry::new(kind, value) else { continue };
            entry.read();
            entry.unremembered();
            let known = self.kinds.entry(kind).or_default().known.get_or_insert_default();
            known.insert(name, entry);
        }
    }

    /// What is to be remembered, or forgotten; nothing as long as something is awaited.
    pub(super) fn unremembered(&mut self) -> BTreeMap<Key, Option<String>> {
        if !self.awaited().is_empty() {
            return BTreeMap::new();
        }
        // What went and came again is remembered as it is now.
        let mut changes: BTreeMap<_, _> =
            std::mem::take(&mut self.gone).into_iter().map(|key| (key, None)).collect();
        for (kind, list) in &mut self.kinds {
            for (name, entry) in list.known.iter_mut().flatten() {
                changes.extend(entry.unremembered().map(|text| ((*kind, name.clone()), Some(text))));
            }
        }
        changes
    }

    /// Takes in what was seen. True if what counts may be another than before.
    pub(super) fn take(&mut self, kind: Kind, seen: Seen) -> bool {
        let route = (kind == Kind::HttpRoute).then(|| seen.name()).flatten();
        let changed = self.take_in(kind, seen);
        if changed {
            match (&mut self.handed, route) {
                (Some(handed), Some(route)) => drop(handed.stale.insert(route)),
                (handed, _) => *handed = None,
            }
        }
        changed
    }

    fn take_in(&mut self, kind: Kind, seen: Seen) -> bool {
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
                // What was said of it is said no more.
                let was_denied = list.denied.take().is_some();
                let Some(mut complete) = list.coming.take() else { return was_denied };
                let same = list.known.as_ref().is_some_and(|known| same(known, &complete));
                for (name, before) in list.known.iter().flatten() {
                    match complete.get_mut(name) {
                        Some(now) => now.follows(before),
                        None if before.remembered => _ = self.gone.insert((kind, name.clone())),
                        None => {}
                    }
                }
                list.known = Some(complete);
                !same || was_denied
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
                let needed = entry.ours || self.references.need(kind, &name, &entry);
                // A slice may have belonged to another Service.
                let before = known.insert(name.clone(), entry);
                let was_needed = before.is_some_and(|before| self.references.need(kind, &name, &before));
                !same && (needed || was_needed)
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
                let Some(entry) = list.known.as_mut().and_then(|known| known.remove(&name)) else {
                    return false;
                };
                let needed = entry.ours || self.references.need(kind, &name, &entry);
                if entry.remembered {
                    self.gone.insert((kind, name));
                }
                needed
            }
            Seen::Absent => {
                let known = list.known.iter().flatten().filter(|(_, entry)| entry.remembered);
                self.gone.extend(known.map(|(name, _)| (kind, name.clone())));
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
        let handed = self.handed.take();
        let mut loaded = match handed.and_then(|handed| self.load_routes(handed)) {
            Some(loaded) => loaded,
            None => self.load_all()?,
        };
        let had = |name: &ObjectName| self.get(Kind::Gateway, name).map_or(&[][..], |entry| &entry.addresses);
        if loaded.model.gateways.iter().any(|(name, gateway)| gateway.had != had(name)) {
            for (name, gateway) in loaded.model.gateways.iter_mut() {
                gateway.had = had(name).to_vec();
            }
        }
        self.handed = Some(Handed { loaded: loaded.clone(), stale: BTreeSet::new() });
        Ok(loaded)
    }

    /// What was handed out last with other HTTPRoutes, if nothing else may have changed, nothing was left out, and they refer
    /// to nothing that was not referred to before.
    fn load_routes(&mut self, handed: Handed) -> Option<Loaded> {
        let Handed { mut loaded, stale } = handed;
        if !loaded.warnings.is_empty() {
            return None;
        }
        if stale.is_empty() {
            return Some(loaded);
        }
        let known = self.kinds.get_mut(&Kind::HttpRoute)?.known.as_mut()?;
        let mut parts = Vec::new();
        for name in stale {
            match known.get_mut(&name) {
                Some(entry) => parts.push(entry.part(&THE_CLUSTER.into())),
                None => drop(loaded.model.http_routes.remove(&name)),
            }
        }
        let mut references = References::default();
        parts.iter().flat_map(|part| &part.read.objects).for_each(|object| references.add(object));
        if !references.within(&self.references) {
            return None;
        }
        // Errors are the whole's to tell. Generations are the API server's.
        let routes = assemble(&parts, &[], &mut Generations::default()).ok()?.model.http_routes;
        loaded.model.http_routes.extend(routes);
        Some(loaded)
    }

    fn load_all(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        let file = THE_CLUSTER.into();
        let mut parts = Vec::new();
        let mut warnings = Vec::new();
        self.references = self.referred_to();
        for (kind, list) in &mut self.kinds {
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
            for (name, entry) in list.known.iter_mut().flatten() {
                // A Gateway's own Service is no backend.
                if entry.ours || !self.references.need(*kind, name, entry) {
                    continue;
                }
                let part = entry.part(&file);
                if part.read.errors.is_empty() {
                    parts.push(part);
                } else {
                    warnings.extend(part.read.errors.iter().map(left_out));
                }
            }
        }
        let loaded = assemble(&parts, &[], &mut self.generations)?;
        // Warnings of the objects themselves are for who writes files: the API server has taken these.
        Ok(Loaded { model: loaded.model, warnings })
    }

    /// Who is referred to now.
    fn referred_to(&mut self) -> References {
        let mut references = References::default();
        let lists = self.kinds.iter_mut().filter(|(kind, _)| !needed_by_reference(**kind));
        for entry in lists.flat_map(|(_, list)| list.known.iter_mut().flat_map(BTreeMap::values_mut)) {
            entry.read().objects.iter().for_each(|object| references.add(object));
        }
        references
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
mod tests;
