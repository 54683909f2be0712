//! Schemas: what an object of a kind may look like.
//!
//! Owns the form of the schema files (OpenAPI as CRDs have it, see `cargo xtask crds`). Must not know how a tree is
//! checked against it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde::Deserialize;

use super::coverage::Cover;
use super::rules::Program;

/// The schema of a value.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Schema {
    #[serde(rename = "type")]
    pub(super) kind: Option<Type>,
    pub(super) format: Option<Format>,
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) additional_properties: Option<Box<Schema>>,
    pub(super) required: Vec<String>,
    pub(super) items: Option<Box<Schema>>,
    /// Fields that together are unique among the items.
    pub(super) keys: Vec<String>,
    /// Whether the items are unique.
    pub(super) set: bool,
    #[serde(rename = "enum")]
    pub(super) one_of_values: Vec<serde_json::Value>,
    pub(super) minimum: Option<i64>,
    pub(super) maximum: Option<i64>,
    pub(super) min_length: Option<usize>,
    pub(super) max_length: Option<usize>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) max_properties: Option<usize>,
    pub(super) pattern: Option<Pattern>,
    pub(super) default: Option<serde_json::Value>,
    /// CEL rules.
    pub(super) rules: Vec<Rule>,
    pub(super) one_of: Vec<Schema>,
    pub(super) any_of: Vec<Schema>,
    pub(super) not: Option<Box<Schema>>,
    /// What is done with the field; not in the files.
    #[serde(skip)]
    pub(super) cover: Option<Cover>,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Type {
    Object,
    Array,
    String,
    Integer,
    Boolean,
    /// A port by number or name.
    IntOrString,
    /// Not looked into.
    Any,
}

/// The format of a value.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    Int32,
    Ipv4,
    Ipv6,
}

/// A regular expression that is compiled when it is first needed.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
pub(super) struct Pattern {
    pub(super) text: String,
    regex: OnceLock<Option<Regex>>,
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self { text, regex: OnceLock::new() }
    }
}

impl Pattern {
    /// `None` if it does not compile, which a test rules out.
    pub(super) fn regex(&self) -> Option<&Regex> {
        self.regex.get_or_init(|| Regex::new(&self.text).ok()).as_ref()
    }
}

/// A CEL rule (x-kubernetes-validations).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) rule: String,
    pub(super) message: String,
    #[serde(skip)]
    pub(super) program: OnceLock<Program>,
}

impl Schema {
    /// The schema of a part, by the same path.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        let mut schema = self;
        for segment in path.split('.') {
            let name = segment.trim_end_matches("[]");
            schema = schema.properties.get(name)?;
            for _ in 0..(segment.len() - name.len()) / 2 {
                schema = schema.items.as_ref()?;
            }
        }
        Some(schema)
    }

    /// The schema of a part, by a path such as `spec.listeners[].port`, `{}` for a map's values.
    pub(super) fn at_mut(&mut self, path: &str) -> Option<&mut Self> {
        let mut schema = self;
        for segment in path.split('.') {
            let name = segment.trim_end_matches("[]");
            schema = schema.properties.get_mut(name)?;
            for _ in 0..(segment.len() - name.len()) / 2 {
                schema = schema.items.as_mut()?;
            }
        }
        Some(schema)
    }
}
