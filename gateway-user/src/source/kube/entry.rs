//! An object of a cluster, as far as it is needed: read, with what the API server says of its identity.
//!
//! Owns what is kept of an object, and when two are the same. Must not know the others.

use std::cell::Cell;
use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHasher;
use serde_json::Value;

use super::super::assemble::{Origin, Part};
use super::super::kind::Kind;
use super::super::object::{self, Read};
use super::infrastructure::MANAGED_BY;
use crate::core::model::ObjectName;

/// An object of a cluster.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) read: Arc<Read>,
    generation: i64,
    pub(super) uid: String,
    pub(super) revision: String,
    /// Its status, of kinds whose status is written. As text it takes a fifth of the memory.
    status: Box<str>,
    /// The addresses that the status of a Gateway names.
    pub(super) addresses: Vec<IpAddr>,
    /// Hash of what the status was found to say already.
    says: Cell<Option<u64>>,
    /// Itself, until it is remembered.
    pub(super) text: Option<String>,
}

/// What no object of ours needs, and what makes up most of an object.
const UNUSED: [&str; 2] = ["managedFields", "ownerReferences"];

impl Entry {
    /// Reads an object; `None` if it has no name.
    pub(super) fn new(kind: Kind, mut value: Value) -> Option<(ObjectName, Self)> {
        let status = value.get_mut("status").map(Value::take).unwrap_or_default();
        let metadata = value.get_mut("metadata")?.as_object_mut()?;
        for name in UNUSED {
            metadata.remove(name);
        }
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = ObjectName::new(&text("namespace"), &text("name"));
        let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(1);
        let (uid, revision) = (text("uid"), text("resourceVersion"));
        let status = if kind.has_status() { status } else { Value::Null };
        let (kept, mut addresses) = (status.to_string().into_boxed_str(), Vec::new());
        if kind == Kind::Gateway {
            addresses = addresses_of(&status);
            // Which addresses it has is remembered, too.
            value["status"] = status;
        }
        let text = Some(value.to_string());
        let (read, says) = (Arc::new(object::read_json(value)), Cell::new(None));
        Some((name, Self { read, generation, uid, revision, status: kept, addresses, says, text }))
    }

    /// Its status, of kinds whose status is written.
    pub(super) fn status(&self) -> Value {
        serde_json::from_str(&self.status).unwrap_or_default()
    }

    /// What the status shall be: `None` if it says what is wanted. That is found out once for each status and want.
    pub(super) fn due(&self, want: impl Hash, of: impl FnOnce(&Value) -> Option<Value>) -> Option<Value> {
        let mut hasher = FxHasher::default();
        want.hash(&mut hasher);
        let want = Some(hasher.finish());
        if self.says.get() == want {
            return None;
        }
        let due = of(&self.status());
        if due.is_none() {
            self.says.set(want);
        }
        due
    }

    /// Comes after what was known of the object before: nothing new need be remembered if it says the same.
    pub(super) fn follows(&mut self, before: &Self) {
        if before.text.is_none() && self.same_spec(before) && self.addresses == before.addresses {
            self.text = None;
        }
    }

    /// Whether it was made for a Gateway by us.
    pub(super) fn is_ours(&self) -> bool {
        let (name, value) = MANAGED_BY;
        self.read.objects.iter().any(|object| object.labels.get(name).is_some_and(|it| it == value))
    }

    /// The object as a part of the input, under the name of a file.
    pub(super) fn part(&self, file: &Arc<str>) -> Part {
        Part {
            file: Arc::clone(file),
            lines_before: 0,
            read: Arc::clone(&self.read),
            origin: Origin::Store(self.generation),
        }
    }

    /// Whether this is a later revision of the same object. Revisions are compared only then: a server that was restored
    /// begins with older ones, and with a list.
    pub(super) fn is_newer(&self, other: &Self) -> bool {
        let number = |entry: &Self| entry.revision.parse::<u64>().ok();
        self.uid == other.uid && number(self) > number(other)
    }

    /// Whether the two say the same, but for their status.
    pub(super) fn same_spec(&self, other: &Self) -> bool {
        let (spec, before) = (self.read.objects.first(), other.read.objects.first());
        let same = spec.map(|object| (object.spec, &object.labels))
            == before.map(|object| (object.spec, &object.labels));
        self.uid == other.uid && self.generation == other.generation && same
    }
}

fn addresses_of(status: &Value) -> Vec<IpAddr> {
    let list = status.get("addresses").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|address| address["value"].as_str()?.parse().ok()).collect()
}
