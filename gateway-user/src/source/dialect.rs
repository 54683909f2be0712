//! Old dialects of the Gateway API, turned into today's form on the tree.
//!
//! Owns what the API once was: the versions that its kinds were released in, and what each field of theirs has become.
//! What it does not know it leaves for the schema to complain about. Must not know files, nor what a field means today.
//!
//! The steps are upstream's own migration notes: GEPs 718, 724, 746, 820 and 851 (v1alpha1 to v1alpha2), the changelogs
//! of v0.4.0 (`Prefix`, headers as lists), v1.1 (BackendTLSPolicy), v1.4 (validation of clients) and v1.5 (ListenerSet).

pub(super) mod attach;
mod complete;
mod emit;
pub(super) mod foreign;
mod gateway;
mod http;
mod policy;
mod route;
pub(super) mod upgrade;

use super::Diagnostic;
use super::check::{Findings, check};
use super::kind::Kind;
use super::node::{Key, Node, Place, Value};
use crate::core::model::{GATEWAY_GROUP, LabelSelector, NamedRoute, ObjectName};

/// The group of v1alpha1.
pub(super) const FIRST_GROUP: &str = "networking.x-k8s.io";
/// The group of what is tried out.
pub(super) const X_GROUP: &str = "gateway.networking.x-k8s.io";

/// Name, group and versions before v1 that a kind was released in.
pub(super) const RELEASED: &[(Kind, &str, &str, &[&str])] = &[
    (Kind::GatewayClass, "GatewayClass", FIRST_GROUP, &["v1alpha1"]),
    (Kind::GatewayClass, "GatewayClass", GATEWAY_GROUP, &["v1alpha2", "v1beta1"]),
    (Kind::Gateway, "Gateway", FIRST_GROUP, &["v1alpha1"]),
    (Kind::Gateway, "Gateway", GATEWAY_GROUP, &["v1alpha2", "v1beta1"]),
    (Kind::HttpRoute, "HTTPRoute", FIRST_GROUP, &["v1alpha1"]),
    (Kind::HttpRoute, "HTTPRoute", GATEWAY_GROUP, &["v1alpha2", "v1beta1"]),
    (Kind::GrpcRoute, "GRPCRoute", GATEWAY_GROUP, &["v1alpha2"]),
    (Kind::TlsRoute, "TLSRoute", FIRST_GROUP, &["v1alpha1"]),
    (Kind::TlsRoute, "TLSRoute", GATEWAY_GROUP, &["v1alpha2", "v1alpha3"]),
    (Kind::TcpRoute, "TCPRoute", FIRST_GROUP, &["v1alpha1"]),
    (Kind::TcpRoute, "TCPRoute", GATEWAY_GROUP, &["v1alpha2"]),
    (Kind::UdpRoute, "UDPRoute", FIRST_GROUP, &["v1alpha1"]),
    (Kind::UdpRoute, "UDPRoute", GATEWAY_GROUP, &["v1alpha2"]),
    (Kind::ReferenceGrant, "ReferencePolicy", GATEWAY_GROUP, &["v1alpha2"]),
    (Kind::ReferenceGrant, "ReferenceGrant", GATEWAY_GROUP, &["v1alpha2", "v1beta1"]),
    (Kind::BackendTlsPolicy, "BackendTLSPolicy", GATEWAY_GROUP, &["v1alpha2", "v1alpha3"]),
    (Kind::ListenerSet, "XListenerSet", X_GROUP, &["v1alpha1"]),
];

/// The kind that a name in a group stands for if it is not today's, and the versions that it was released in.
pub(super) fn released(name: &str, group: &str) -> Option<(Kind, &'static [&'static str])> {
    let found = RELEASED.iter().find(|(_, known, of, _)| *known == name && *of == group);
    found.map(|(kind, _, _, versions)| (*kind, *versions))
}

/// The routes that a listener named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// One route, or all of a kind.
    Route(NamedRoute),
    /// Routes of a kind by their labels.
    Labels(String, LabelSelector),
}

/// `routes` of a listener: it chose its routes itself, they did not have to name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// The listener's index.
    pub(super) listener: usize,
    /// Only these; all of the listener's kinds and namespaces if there is none.
    pub(super) only: Vec<Named>,
}

/// `gateways` of a route: which Gateways may choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choosers {
    All,
    SameNamespace,
    These(Vec<ObjectName>),
}

/// What came of a conversion.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// The version, with its group.
    pub(super) version: String,
    /// What was changed besides the version.
    pub(super) changes: Vec<&'static str>,
    /// What is a little different today, for a person.
    pub(super) notes: Vec<&'static str>,
    /// A Gateway's listeners that chose their routes.
    pub(super) selections: Vec<Selection>,
    /// For a route that does not name its Gateways: which may choose it.
    pub(super) choosers: Option<Choosers>,
    /// Fields that today are required and then were not: their absence still has the meaning it had.
    pub(super) excused: Vec<&'static str>,
    pub(super) errors: Vec<Diagnostic>,
    /// The object in today's form, as far as it can be told from it alone: for those that depend on others.
    pub(super) today: Option<Node>,
}

impl Converted {
    fn change(&mut self, change: &'static str) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Whether it is written as v1alpha1 was.
    fn first(&self) -> bool {
        self.version.starts_with(FIRST_GROUP)
    }

    fn refuse(&mut self, node: &Node, field: impl Into<String>, message: &str, remedy: &str) {
        self.errors.push(Diagnostic {
            line: node.at.line,
            column: node.at.column,
            field: field.into(),
            value: node.shown(),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            ..Diagnostic::default()
        });
    }

    /// Refuses what an old structure never had; `path` is where it stands.
    fn only(&mut self, node: &Node, path: &str, known: &[&str]) {
        if !matches!(node.value, Value::Map(_)) {
            self.refuse(node, path, "must be an object", "");
        }
        for (key, value) in node.entries() {
            if !known.contains(&&*key.name) {
                let at = Node { at: key.at, ..value.clone() };
                let remedy = format!("there are {}", known.join(", "));
                self.refuse(&at, format!("{path}.{}", key.name), "unknown field", &remedy);
            }
        }
    }

    /// Whether today's form cannot be told from the object alone.
    pub(super) fn depends(&self) -> bool {
        self.choosers.is_some() || self.selections.iter().any(|selection| !selection.only.is_empty())
    }

    /// Whether it is a route of the time when Gateways chose their routes.
    pub(super) fn was_chosen(&self) -> bool {
        self.choosers.is_some() && (self.first() || self.changes.contains(&gateway::GATEWAYS))
    }

    /// Whether an error of the schema only repeats what is refused already.
    pub(super) fn repeats(&self, error: &Diagnostic) -> bool {
        self.errors.iter().any(|refused| refused.field == error.field)
    }
}

/// Turns an object of an old version into today's form. `None` if it is in today's form.
pub(super) fn convert(kind: Kind, old: Option<&str>, root: &mut Node) -> Option<Converted> {
    let mut converted = Converted { version: old.unwrap_or_default().to_owned(), ..Converted::default() };
    route::references(kind, root, &mut converted);
    if let Some(spec) = root.get_mut("spec").filter(|_| old.is_none()) {
        tried_out(kind, spec, &mut converted);
    }
    if old.is_none() && converted.changes.is_empty() && converted.errors.is_empty() {
        return None;
    }
    for (field, today) in [("apiVersion", kind.api_version()), ("kind", kind.name().to_owned())] {
        if let Some(node) = root.get_mut(field)
            && node.as_str() != Some(&today)
        {
            node.value = Value::String(today);
        }
    }
    if converted.first() && root.take("status").is_some() {
        converted.change("`status`, which is another today and nothing to write down");
    }
    if let Some(spec) = root.get_mut("spec").filter(|_| old.is_some()) {
        match kind {
            Kind::GatewayClass => gateway::class(spec, &mut converted),
            Kind::Gateway => gateway::gateway(spec, &mut converted),
            Kind::ListenerSet => gateway::listener_set(spec, &mut converted),
            Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                route::route(kind, spec, &mut converted);
            }
            Kind::BackendTlsPolicy => {
                let namespace = root.str("metadata.namespace").map(str::to_owned);
                if let Some(spec) = root.get_mut("spec") {
                    policy::backend_tls(spec, namespace.as_deref(), &mut converted);
                }
            }
            _ => {}
        }
    }
    converted.today = Some(root.clone());
    Some(converted)
}

/// Fields that v1 once had in its experimental channel.
fn tried_out(kind: Kind, spec: &mut Node, converted: &mut Converted) {
    match kind {
        Kind::Gateway => gateway::tried_out(spec, converted),
        Kind::HttpRoute | Kind::GrpcRoute => {
            for (i, rule) in spec.list_mut("rules").iter_mut().enumerate() {
                http::session(&format!("spec.rules[{i}]"), rule, converted);
            }
        }
        _ => {}
    }
}

/// The warning about an old form; `today` is the object in today's form, with the remarks that belong to it.
pub(super) fn warning(kind: Kind, converted: &Converted, today: &Node, remarks: &[String]) -> Diagnostic {
    let version = &converted.version;
    let whole = || commented(remarks) + &emit::plain(today);
    let (message, remedy) = if !converted.changes.is_empty() {
        let of = if version.is_empty() { String::new() } else { format!(" of {version}") };
        let changes = converted.changes.join(", ");
        (format!("{changes}{of}: an old form, which today is"), whole())
    } else if !remarks.is_empty() || converted.today.as_ref().is_some_and(|alone| alone != today) {
        (format!("{version} is an old version of the API; this is today's form"), whole())
    } else {
        (
            format!("{version} is an old version of the API"),
            format!("write `apiVersion: {}`; the rest stays", kind.api_version()),
        )
    };
    at(today.at, message, remedy)
}

/// The same without today's form, for an input with very many of them.
pub(super) fn short_warning(converted: &Converted, today: &Node) -> Diagnostic {
    let changes = if converted.changes.is_empty() {
        String::new()
    } else {
        format!(": {}", converted.changes.join(", "))
    };
    let message = format!("{} is an old version of the API{changes}", converted.version);
    at(today.at, message, "`sluice check --upgrade` prints today's form".to_owned())
}

fn at(Place { line, column }: Place, message: String, remedy: String) -> Diagnostic {
    Diagnostic { line, column, message, remedy, ..Diagnostic::default() }
}

/// Lines as comments.
pub(super) fn commented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("# {line}\n")).collect()
}

/// Holds a structure that goes away against the schema of what it was like, so that nothing in it is passed over.
fn check_as(kind: Kind, schema: &str, node: &Node, path: &str, converted: &mut Converted) {
    let Some(schema) = kind.file().root.at(schema) else { return };
    let mut findings = Findings::default();
    check(&mut node.clone(), schema, path, false, &mut findings);
    converted.errors.append(&mut findings.errors);
}

/// A reference whose group was written `core`, which was the group without a name.
fn core_group(reference: &mut Node) {
    if let Some(group) = reference.get_mut("group").filter(|group| group.as_str() == Some("core")) {
        group.value = Value::String(String::new());
    }
}

/// An entry of a map under another name.
fn named(key: &Key, name: &str, node: Node) -> (Key, Node) {
    (Key { name: name.to_owned(), at: key.at }, node)
}
