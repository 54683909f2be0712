//! An object as it is kept, shown and compared: JSON's values in today's form, with the metadata that a server sets.
//!
//! Owns what a server stamps (uid, creationTimestamp, generation, resourceVersion), what counts as a change, and that
//! nobody is shown a secret. Must not know where an object is kept.

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::object::{Object, Whole};
use super::store::Key;
use super::yaml;
use crate::core::model::ObjectName;

/// An annotation that `kubectl apply` leaves, with all of a secret in it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The fields of a Secret that are secret.
const SECRET: [&str; 2] = ["data", "stringData"];

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    pub(super) kind: Kind,
    pub(super) name: ObjectName,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    stamp: Stamp,
    body: Map<String, Value>,
}

/// What a server sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// RFC 3339; empty if there is none.
    pub(super) created: String,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// 0 if there is none.
    pub(super) revision: u64,
}

/// What a change does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It is another than before.
    Configured,
    /// It is as before.
    Unchanged,
    /// It is no more.
    Deleted,
}

impl Outcome {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

impl Document {
    /// The object as it was read, with whatever stamp it bears.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let Whole { metadata, body } = object.whole.as_deref()?;
        let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
        let stamp = Stamp {
            created: text("creationTimestamp"),
            uid: text("uid"),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            revision: text("resourceVersion").parse().unwrap_or_default(),
        };
        let mut annotations = map(&metadata["annotations"]);
        if object.kind == Kind::Secret {
            annotations.remove(LAST_APPLIED);
        }
        let labels = map(&metadata["labels"]);
        Some(Self {
            kind: object.kind,
            name: object.meta.name.clone(),
            labels,
            annotations,
            stamp,
            body: map(body),
        })
    }

    pub(super) fn key(&self) -> Key {
        (self.kind, self.name.clone())
    }

    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// What it comes to when this is applied over what was stored: the object to store, without a revision yet.
    pub(super) fn over(
        mut self,
        stored: Option<&Self>,
        now: &str,
        uid: impl FnOnce() -> String,
    ) -> (Self, Outcome) {
        let Some(stored) = stored else {
            self.stamp = Stamp { created: now.to_owned(), uid: uid(), generation: 1, revision: 0 };
            return (self, Outcome::Created);
        };
        self.stamp = stored.stamp.clone();
        if self == *stored {
            return (self, Outcome::Unchanged);
        }
        if self.body != stored.body {
            self.stamp.generation += 1;
        }
        (self, Outcome::Configured)
    }

    /// For what is in a file: only the time counts that is written there.
    pub(super) fn forget_stamp(&mut self, generation: Option<i64>) {
        let created = std::mem::take(&mut self.stamp.created);
        self.stamp = Stamp { created, generation: generation.unwrap_or(1), ..Stamp::default() };
    }

    pub(super) fn set_revision(&mut self, revision: u64) {
        self.stamp.revision = revision;
    }

    /// Puts secrets back that were shown without their value, where the stored object has them. Returns the fields
    /// that it has not.
    pub(super) fn restore_secrets(&mut self, stored: Option<&Self>) -> Vec<String> {
        let mut unknown = Vec::new();
        self.each_secret(|field, key, value| {
            if !is_redacted(value) {
                return;
            }
            let known = stored.and_then(|stored| stored.body.get(field)?.get(key));
            match known.filter(|known| redacted(known) == *value) {
                Some(known) => *value = known.clone(),
                None => unknown.push(format!("{field}.{key}")),
            }
        });
        unknown
    }

    /// The object without its secrets. Where `before` is given, those that differ say so.
    #[must_use]
    pub(super) fn without_secrets(mut self, before: Option<&Self>) -> Self {
        self.each_secret(|field, key, value| {
            let old = before.and_then(|before| before.body.get(field)?.get(key));
            let changed = old.is_some_and(|old| old != value);
            *value = redacted(value);
            if changed && let Value::String(text) = value {
                text.insert_str(text.len() - 1, ", another than before");
            }
        });
        self
    }

    fn each_secret(&mut self, mut act: impl FnMut(&str, &str, &mut Value)) {
        if self.kind != Kind::Secret {
            return;
        }
        for field in SECRET {
            for (key, value) in self.body.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten()
            {
                act(field, key, value);
            }
        }
    }

    /// As an API server shows it.
    pub(super) fn json(&self, with_stamp: bool) -> Value {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), json!(&*self.name.name));
        if !self.name.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), json!(&*self.name.namespace));
        }
        for (name, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !map.is_empty() {
                metadata.insert(name.to_owned(), Value::Object(map.clone()));
            }
        }
        if with_stamp {
            let Stamp { created, uid, generation, revision } = &self.stamp;
            for (name, text) in [("creationTimestamp", created), ("uid", uid)] {
                if !text.is_empty() {
                    metadata.insert(name.to_owned(), json!(text));
                }
            }
            if *generation > 0 {
                metadata.insert("generation".to_owned(), json!(generation));
            }
            if *revision > 0 {
                metadata.insert("resourceVersion".to_owned(), json!(revision.to_string()));
            }
        }
        let mut all = self.body.clone();
        all.insert("apiVersion".to_owned(), json!(self.kind.api_version()));
        all.insert("kind".to_owned(), json!(self.kind.name()));
        all.insert("metadata".to_owned(), Value::Object(metadata));
        Value::Object(all)
    }

    /// As it is compared: YAML, without what a server sets and without secrets (see
    /// [`without_secrets`](Self::without_secrets)).
    pub(super) fn shown(&self, before: Option<&Self>) -> String {
        serde_yaml::to_string(&self.clone().without_secrets(before).json(false)).unwrap_or_default()
    }

    /// As it is stored: YAML, or JSON where YAML's reader would take a text for something else.
    pub(super) fn text(&self) -> String {
        let value = self.json(true);
        let same = |text: &String| {
            let (documents, errors) = yaml::parse(text);
            errors.is_empty()
                && matches!(&documents[..], [one] if serde_json::to_value(one).is_ok_and(|read| read == value))
        };
        serde_yaml::to_string(&value)
            .ok()
            .filter(same)
            .unwrap_or_else(|| serde_json::to_string_pretty(&value).unwrap_or_default())
    }
}

/// What is shown instead of a secret: how long it is, as it was written.
fn redacted(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    Value::String(format!("<redacted: {} characters>", text.len()))
}

fn is_redacted(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("<redacted: ") && text.ends_with('>'))
}

/// The labels of what `--endpoint` made.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Their value.
pub(super) const ENDPOINT_FLAG: &str = "sluice-endpoint-flag";
