//! Documents into objects: what it is, what it is called, whether it is right, what it means.
//!
//! Owns the way from text to objects, and what is common to all kinds: apiVersion, kind, metadata, lists. Reading a
//! text is pure, so that unchanged parts of a file need not be read again. Must not know files.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;

use super::annotation::{self, Annotations};
use super::check::{Findings, check};
use super::dialect::{self, Converted, FIRST_GROUP, foreign};
use super::kind::Kind;
use super::node::{Node, Place, Value};
use super::translate::{self, Body};
use super::{Diagnostic, suggest, yaml};
use crate::core::model::{GATEWAY_GROUP, Meta, OWN_GROUP, ObjectName};

/// An object of a kind that is used.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) at: Place,
    /// Metadata; the generation is 1 until it is known what was there before.
    pub(super) meta: Meta,
    pub(super) labels: BTreeMap<String, String>,
    /// Hash of all but metadata and status.
    pub(super) spec: u64,
    pub(super) body: Body,
    /// What it was before it was turned into today's form.
    pub(super) old: Option<Box<Converted>>,
    /// The object as it was written, in today's form, if it was asked for.
    pub(super) whole: Option<Box<Whole>>,
}

/// An object as it was written, in today's form and without what a default fills in.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) metadata: serde_json::Value,
    /// All but apiVersion, kind, metadata and status.
    pub(super) body: serde_json::Value,
}

/// What a text held. Lines count within the text, and no file is named.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) objects: Vec<Object>,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Reads a text of one or more documents.
pub(super) fn read(text: &str) -> Read {
    read_as(text, false)
}

/// Reads a text, and keeps the objects [`Whole`].
pub(super) fn read_whole(text: &str) -> Read {
    read_as(text, true)
}

/// Reads an object that came as JSON.
pub(super) fn read_json(value: serde_json::Value) -> Read {
    let mut read = Read::default();
    take(Node::from(value), false, &mut read);
    // There are thousands of these, and a list grows by several.
    read.objects.shrink_to_fit();
    read
}

fn read_as(text: &str, whole: bool) -> Read {
    let (documents, errors) = yaml::parse(text);
    let mut read = Read { errors, ..Read::default() };
    for document in documents {
        take(document, whole, &mut read);
    }
    read
}

/// A diagnostic at a node, before it is known which object it is about.
fn at(place: Place, field: &str, value: String, message: String, remedy: String) -> Diagnostic {
    let field = field.to_owned();
    Diagnostic {
        line: place.line,
        column: place.column,
        field,
        value,
        message,
        remedy,
        ..Diagnostic::default()
    }
}

/// Takes a document, or an item of a list, for what it is.
fn take(mut root: Node, whole: bool, read: &mut Read) {
    if !matches!(root.value, Value::Map(_)) {
        let message = "this is no object: it has neither apiVersion nor kind".to_owned();
        // It may be a key: what it says is not told.
        read.errors.push(at(root.at, "", String::new(), message, String::new()));
        return;
    }
    let Some(kind) = root.str("kind").map(str::to_owned) else {
        read.errors.push(missing(&root, "kind", "such as `kind: HTTPRoute`"));
        return;
    };
    if kind.ends_with("List") && root.get("items").is_some_and(|items| matches!(items.value, Value::List(_)))
    {
        if let Some((_, Node { value: Value::List(items), .. })) = root.take("items") {
            items.into_iter().for_each(|item| take(item, whole, read));
        }
        return;
    }
    let Some(version) = root.str("apiVersion").map(str::to_owned) else {
        let remedy = Kind::named(&kind)
            .map_or(String::new(), |kind| format!("write `apiVersion: {}`", kind.api_version()));
        read.errors.push(Diagnostic { object: kind, ..missing(&root, "apiVersion", &remedy) });
        return;
    };
    match identify(&kind, &version) {
        Identity::Known(kind, old) => object(kind, old.then_some(&*version), root, whole, read),
        Identity::Foreign { message, remedy } => {
            let object = title(&kind, &root);
            read.warnings.push(Diagnostic { object, ..at(root.at, "", String::new(), message, remedy) });
        }
        Identity::Wrong { field, message, remedy } => {
            let node = root.get(field).unwrap_or(&root);
            let diagnostic = at(node.at, field, node.shown(), message, remedy);
            read.errors.push(Diagnostic { object: title(&kind, &root), ..diagnostic });
        }
    }
}

fn missing(root: &Node, field: &str, remedy: &str) -> Diagnostic {
    match root.get(field) {
        Some(node) => at(node.at, field, node.shown(), "must be text".to_owned(), remedy.to_owned()),
        None => at(root.at, field, String::new(), "is required".to_owned(), remedy.to_owned()),
    }
}

/// Kind, namespace and name as far as they can be told.
fn title(kind: &str, root: &Node) -> String {
    let Some(name) = root.str("metadata.name") else { return kind.to_owned() };
    let namespaced = Kind::named(kind).is_none_or(|kind| kind.file().namespaced);
    let namespace = root.str("metadata.namespace").unwrap_or(DEFAULT_NAMESPACE);
    if namespaced { format!("{kind} {namespace}/{name}") } else { format!("{kind} {name}") }
}

/// The namespace of what names none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// What kind and apiVersion say.
pub(super) enum Identity {
    /// A kind in use, and whether it is written in an old version.
    Known(Kind, bool),
    /// Somebody else's.
    Foreign { message: String, remedy: String },
    /// A slip of the pen, or what is gone.
    Wrong { field: &'static str, message: String, remedy: String },
}

pub(super) fn identify(name: &str, api_version: &str) -> Identity {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let today = Kind::named(name);
    let remedy = |kind: Kind| format!("write `apiVersion: {}`", kind.api_version());
    if let Some(kind) = today.filter(|kind| kind.group() == group && version == "v1") {
        return Identity::Known(kind, false);
    }
    if let Some((message, remedy)) = foreign::gone(name, group) {
        return Identity::Wrong { field: "kind", message: message.to_owned(), remedy: remedy.to_owned() };
    }
    let released = dialect::released(name, group);
    if let Some((kind, versions)) = released {
        if versions.contains(&version) {
            return Identity::Known(kind, true);
        }
        let message = if kind.group() == group {
            format!("{name} has no version {version}")
        } else {
            format!("{name} was never released in {api_version}")
        };
        return Identity::Wrong { field: "apiVersion", message, remedy: remedy(kind) };
    }
    match today {
        Some(kind) if kind.group() == group => {
            let message = format!("{name} has no version {version}");
            Identity::Wrong { field: "apiVersion", message, remedy: remedy(kind) }
        }
        // Istio's Gateway and others share a name with a kind of ours; these groups do not.
        Some(kind)
            if group.is_empty()
                || group == GATEWAY_GROUP
                || group == OWN_GROUP
                || group == FIRST_GROUP
                || group == "networking.x.k8s.io"
                || group == dialect::X_GROUP
                || suggest::nearest(group, [kind.group()].into_iter()).is_some() =>
        {
            let message = format!("{name} does not belong to this API");
            Identity::Wrong { field: "apiVersion", message, remedy: remedy(kind) }
        }
        None if group == GATEWAY_GROUP || group == OWN_GROUP => {
            let known = Kind::ALL.iter().filter(|kind| kind.group() == group).map(|kind| kind.name());
            let remedy = suggest::field(name, known);
            Identity::Wrong { field: "kind", message: format!("{group} has no such kind"), remedy }
        }
        Some(_) | None => Identity::Foreign {
            message: format!("Sluice has no use for {name} of {api_version}; the object is skipped"),
            remedy: foreign::istio(name, group).unwrap_or_default(),
        },
    }
}

/// Reads an object of a known kind.
fn object(kind: Kind, old: Option<&str>, mut root: Node, whole: bool, read: &mut Read) {
    let place = root.at;
    let title = title(kind.name(), &root);
    let mut findings = Findings::default();
    let mut converted = dialect::convert(kind, old, &mut root);
    if let Some(converted) = &mut converted {
        findings.excused = std::mem::take(&mut converted.excused);
        if !converted.depends() {
            let remarks: Vec<_> = converted.notes.iter().map(|note| (*note).to_owned()).collect();
            findings.warnings.push(dialect::warning(kind, converted, &root, &remarks));
            converted.today = None;
        }
    }
    let null_is_absent = !kind.custom();
    let metadata = root.get("metadata").filter(|_| whole).map(json);
    let meta = if let Some((_, metadata)) = root.take("metadata") {
        meta(kind, metadata, &mut findings)
    } else {
        findings.errors.push(at(
            place,
            "metadata.name",
            String::new(),
            "is required".to_owned(),
            "add it".to_owned(),
        ));
        None
    };
    for common in ["apiVersion", "kind", "status"] {
        root.take(common);
    }
    check(&mut root, &kind.file().root, "", null_is_absent, &mut findings);
    if let Some(converted) = &mut converted {
        findings.errors.retain(|error| !converted.repeats(error));
        findings.errors.append(&mut converted.errors);
        converted.excused = std::mem::take(&mut findings.excused);
    }
    if let Some(common) = meta
        && findings.errors.is_empty()
    {
        let mut hasher = DefaultHasher::new();
        root.hash(&mut hasher);
        if let Some(old) = converted.as_ref().filter(|old| old.depends()) {
            // What today's form does not hold is part of the spec all the same.
            format!("{:?} {:?}", old.choosers, old.selections).hash(&mut hasher);
        }
        let spec = hasher.finish();
        if let Some(body) = translate::body(kind, &root, &common, &mut findings) {
            let whole = metadata.map(|metadata| Box::new(Whole { metadata, body: json(&root) }));
            let Metadata { meta, labels, .. } = common;
            read.objects.push(Object {
                kind,
                at: place,
                meta,
                labels,
                spec,
                body,
                old: converted.map(Box::new),
                whole,
            });
        }
    }
    if kind == Kind::Secret {
        // What is wrong with a secret is told without the secret.
        findings.errors.iter_mut().chain(&mut findings.warnings).for_each(|told| told.value.clear());
    }
    findings.errors.sort_by_key(|error| (error.line, error.column));
    let of_this = |diagnostic: Diagnostic| Diagnostic { object: title.clone(), ..diagnostic };
    read.errors.extend(findings.errors.into_iter().map(of_this));
    read.warnings.extend(findings.warnings.into_iter().map(of_this));
}

fn json(node: &Node) -> serde_json::Value {
    serde_json::to_value(node).unwrap_or_default()
}

/// What is common to all kinds.
pub(super) struct Metadata {
    pub(super) meta: Meta,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: Annotations,
}

/// Reads metadata; `None` if there is an error in it.
fn meta(kind: Kind, mut node: Node, findings: &mut Findings) -> Option<Metadata> {
    let before = findings.errors.len();
    check(&mut node, Kind::metadata(), "metadata", true, findings);
    let namespaced = kind.file().namespaced;
    if let Some(namespace) = node.get("namespace").filter(|_| !namespaced) {
        let message = format!("a {} has no namespace", kind.name());
        let diagnostic =
            at(namespace.at, "metadata.namespace", namespace.shown(), message, "remove it".to_owned());
        findings.warnings.push(diagnostic);
    }
    let created =
        node.get("creationTimestamp").and_then(|written| match written.as_str()?.parse::<Timestamp>() {
            Ok(time) => Some(time.as_nanosecond()),
            Err(error) => {
                let message = format!("is no time: {error}");
                let remedy = "write it as 2026-01-31T12:00:00Z".to_owned();
                findings.errors.push(at(
                    written.at,
                    "metadata.creationTimestamp",
                    written.shown(),
                    message,
                    remedy,
                ));
                None
            }
        });
    let annotations = annotation::read(kind, &node, findings);
    if findings.errors.len() > before {
        return None;
    }
    let namespace = if namespaced { node.str("namespace").unwrap_or(DEFAULT_NAMESPACE) } else { "" };
    let name = ObjectName::new(namespace, node.str("name")?);
    let labels = node.get("labels").map(translate::labels).unwrap_or_default();
    Some(Metadata { meta: Meta { name, generation: 1, created }, labels, annotations })
}
