//! An object of a cluster, as far as it is needed: as text, read once somebody needs it, with what the API server says of its
//! identity.
//!
//! Owns what is kept of an object, and when two are the same. A watch tells of an object once, so one that nobody refers to
//! yet is kept, too: trimmed and unread. Must not know the others.

use std::cell::RefCell;
use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHasher;
use serde_json::Value;

use super::super::assemble::{Origin, Part};
use super::super::kind::Kind;
use super::super::object::{self, Read};
use super::super::translate::SERVICE_NAME;
use super::infrastructure::MANAGED_BY;
use super::trim::trim;
use crate::core::model::ObjectName;
use crate::core::status::ParentStatus;

/// An object of a cluster.
#[derive(Debug)]
pub(super) struct Entry {
    /// What it means; `None`: nobody has needed it yet.
    read: Option<Arc<Read>>,
    /// Itself as JSON, until it is read and remembered.
    text: Option<Box<str>>,
    /// Hash of all of it but its revision and status.
    spec: u64,
    generation: i64,
    pub(super) uid: Box<str>,
    pub(super) revision: Box<str>,
    /// Its status, of kinds whose status is written. As text it takes a fifth of the memory.
    status: Box<str>,
    /// The addresses that the status of a Gateway names.
    pub(super) addresses: Vec<IpAddr>,
    /// What the status was found to say already.
    says: RefCell<Option<Said>>,
    /// The Service that an EndpointSlice belongs to.
    pub(super) service: Option<ObjectName>,
    /// Whether it was made for a Gateway by us.
    pub(super) ours: bool,
    /// Whether it is remembered as it is now or as it was before.
    pub(super) remembered: bool,
}

/// What a status is to say, or was found to say, as far as it must be known to be the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A hash of it.
    Hash(u64),
    /// All of it, which for a route is shared: of thousands few change at a time, and the same is seen by its address.
    Route(Arc<[ParentStatus]>),
}

impl Said {
    pub(super) fn hash(what: impl Hash) -> Self {
        let mut hasher = FxHasher::default();
        what.hash(&mut hasher);
        Self::Hash(hasher.finish())
    }
}

impl Entry {
    /// Takes an object in; `None` if it has no name.
    pub(super) fn new(kind: Kind, mut value: Value) -> Option<(ObjectName, Self)> {
        // Removed, not emptied: the first status of an object does not make it another.
        let status = value.as_object_mut()?.remove("status").unwrap_or_default();
        trim(kind, &mut value);
        let metadata = value.get_mut("metadata")?.as_object_mut()?;
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = ObjectName::new(text("namespace"), text("name"));
        let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(1);
        let (uid, revision) = (text("uid").into(), text("resourceVersion").into());
        let label = |name: &str| metadata.get("labels")?.get(name)?.as_str();
        let service = label(SERVICE_NAME).filter(|_| kind == Kind::EndpointSlice);
        let service =
            service.map(|service| ObjectName { namespace: name.namespace.clone(), name: service.into() });
        let made = matches!(kind, Kind::Service | Kind::EndpointSlice);
        let ours = made && label(MANAGED_BY.0) == Some(MANAGED_BY.1);
        let numbered = metadata.remove("resourceVersion");
        let mut hasher = FxHasher::default();
        value.hash(&mut hasher);
        let spec = hasher.finish();
        if let (Some(numbered), Some(metadata)) = (numbered, value["metadata"].as_object_mut()) {
            metadata.insert("resourceVersion".to_owned(), numbered);
        }
        let status = if kind.has_status() { status } else { Value::Null };
        let (kept, mut addresses) = (status.to_string().into_boxed_str(), Vec::new());
        if kind == Kind::Gateway {
            addresses = addresses_of(&status);
            // Which addresses it has is remembered, too.
            value["status"] = status;
        }
        let text = Some(value.to_string().into_boxed_str());
        let entry = Self {
            read: None,
            text,
            spec,
            generation,
            uid,
            revision,
            status: kept,
            addresses,
            says: RefCell::new(None),
            service,
            ours,
            remembered: false,
        };
        Some((name, entry))
    }

    /// Its status, of kinds whose status is written.
    pub(super) fn status(&self) -> Value {
        serde_json::from_str(&self.status).unwrap_or_default()
    }

    /// What the status shall be: `None` if it says what is wanted. That is found out once for each status and want.
    pub(super) fn due(&self, want: Said, of: impl FnOnce(&Value) -> Option<Value>) -> Option<Value> {
        let mut says = self.says.borrow_mut();
        let due = if says.as_ref() == Some(&want) { None } else { of(&self.status()) };
        if due.is_none() {
            *says = Some(want);
        }
        due
    }

    /// What it means.
    pub(super) fn read(&mut self) -> &Arc<Read> {
        let text = self.text.as_deref().unwrap_or_default();
        self.read.get_or_insert_with(|| {
            Arc::new(object::read_json(serde_json::from_str(text).unwrap_or_default()))
        })
    }

    /// Comes after what was known of the object before: what says the same need be neither read nor remembered again.
    pub(super) fn follows(&mut self, before: &Self) {
        self.remembered = before.remembered;
        if self.same_spec(before) {
            self.read.clone_from(&before.read);
            if before.text.is_none() && self.addresses == before.addresses {
                self.text = None;
            }
        }
    }

    /// What is to be remembered of it, once: nothing of what nobody needed.
    pub(super) fn unremembered(&mut self) -> Option<String> {
        let text = self.text.take_if(|_| self.read.is_some())?;
        self.remembered = true;
        Some(text.into())
    }

    /// The object as a part of the input, under the name of a file.
    pub(super) fn part(&mut self, file: &Arc<str>) -> Part {
        let read = Arc::clone(self.read());
        Part { file: Arc::clone(file), lines_before: 0, read, origin: Origin::Store(self.generation) }
    }

    /// Whether this is a later revision of the same object. Revisions are compared only then: a server that was restored
    /// begins with older ones, and with a list.
    pub(super) fn is_newer(&self, other: &Self) -> bool {
        let number = |entry: &Self| entry.revision.parse::<u64>().ok();
        self.uid == other.uid && number(self) > number(other)
    }

    /// Whether the two say the same, but for their status.
    pub(super) fn same_spec(&self, other: &Self) -> bool {
        self.uid == other.uid && self.spec == other.spec
    }
}

fn addresses_of(status: &Value) -> Vec<IpAddr> {
    let list = status.get("addresses").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|address| address["value"].as_str()?.parse().ok()).collect()
}
