//! HTTPRoute, TCPRoute and UDPRoute, and what routes of all kinds share.
//!
//! Owns the meaning of their fields. Must not know whether what they refer to exists.

use std::sync::Arc;
use std::time::Duration;

use super::{Refusals, filter, group_kind, port};
use crate::core::model::{
    BackendRef, HttpMatch, HttpRoute, HttpRule, L4Route, L4Rule, Meta, ParentRef, PathMatch, ValueMatch,
};
use crate::core::transport::Transport;
use crate::source::Diagnostic;
use crate::source::annotation::Annotations;
use crate::source::coverage::Level;
use crate::source::duration;
use crate::source::node::Node;

pub(super) fn http(
    root: &Node,
    meta: Meta,
    refusals: &mut Refusals,
    warnings: &mut Vec<Diagnostic>,
) -> HttpRoute {
    HttpRoute {
        meta,
        parents: parents(root),
        hostnames: root.list("spec.hostnames").iter().filter_map(Node::as_str).map(Arc::from).collect(),
        rules: rules(root, |path, node| http_rule(path, node, refusals, warnings)),
        refusals: refusals.of(Level::Route, ""),
    }
}

fn http_rule(path: &str, node: &Node, refusals: &mut Refusals, warnings: &mut Vec<Diagnostic>) -> HttpRule {
    let mut backends = backends(path, node, refusals);
    for (i, (backend, node)) in backends.iter_mut().zip(node.list("backendRefs")).enumerate() {
        let path = format!("{path}.backendRefs[{i}]");
        backend.headers = filter::headers(&path, node, &mut backend.refusals, warnings);
    }
    let matches: Vec<HttpMatch> = node.list("matches").iter().map(http_match).collect();
    let mut refused = refusals.of(Level::Rule, path);
    HttpRule {
        name: node.str("name").map(Arc::from),
        redirect: filter::redirect(path, node, &matches, &mut refused, warnings),
        headers: filter::headers(path, node, &mut refused, warnings),
        matches,
        backends,
        request_timeout: timeout(node, "timeouts.request"),
        backend_timeout: timeout(node, "timeouts.backendRequest"),
        refusals: refused,
    }
}

pub(super) fn l4(
    transport: Transport,
    root: &Node,
    meta: Meta,
    annotations: Annotations,
    refusals: &mut Refusals,
) -> L4Route {
    L4Route {
        transport,
        meta,
        parents: parents(root),
        rules: rules(root, |path, node| L4Rule {
            name: node.str("name").map(Arc::from),
            backends: backends(path, node, refusals),
            refusals: refusals.of(Level::Rule, path),
        }),
        idle: annotations.idle,
        refusals: refusals.of(Level::Route, ""),
    }
}

fn rules<T>(root: &Node, mut rule: impl FnMut(&str, &Node) -> T) -> Vec<T> {
    let rules = root.list("spec.rules").iter().enumerate();
    rules.map(|(i, node)| rule(&format!("spec.rules[{i}]"), node)).collect()
}

pub(super) fn parents(root: &Node) -> Vec<ParentRef> {
    let parent = |node: &Node| ParentRef {
        kind: group_kind(node),
        namespace: node.str("namespace").map(Arc::from),
        name: node.str("name").unwrap_or_default().into(),
        section: node.str("sectionName").filter(|section| !section.is_empty()).map(Arc::from),
        port: port(node, "port"),
    };
    root.list("spec.parentRefs").iter().map(parent).collect()
}

fn backends(path: &str, node: &Node, refusals: &mut Refusals) -> Vec<BackendRef> {
    (node.list("backendRefs").iter().enumerate())
        .map(|(i, node)| BackendRef {
            kind: group_kind(node),
            namespace: node.str("namespace").map(Arc::from),
            name: node.str("name").unwrap_or_default().into(),
            port: port(node, "port"),
            weight: node.int("weight").and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1),
            headers: None,
            refusals: refusals.of(Level::Backend, &format!("{path}.backendRefs[{i}]")),
        })
        .collect()
}

fn timeout(node: &Node, path: &str) -> Option<Duration> {
    node.str(path).and_then(duration::parse)
}

fn http_match(node: &Node) -> HttpMatch {
    let path: Arc<str> = node.str("path.value").unwrap_or("/").into();
    HttpMatch {
        path: match node.str("path.type") {
            Some("Exact") => PathMatch::Exact(path),
            Some("RegularExpression") => PathMatch::Regex(path),
            _ => PathMatch::Prefix(path),
        },
        method: node.str("method").map(Arc::from),
        headers: values(node.list("headers"), str::to_lowercase),
        query: values(node.list("queryParams"), str::to_owned),
    }
}

/// "If multiple entries specify equivalent header names, only the first entry with an equivalent name MUST be
/// considered for a match."
fn values(nodes: &[Node], name_of: impl Fn(&str) -> String) -> Vec<ValueMatch> {
    let mut values: Vec<ValueMatch> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let name = name_of(node.str("name").unwrap_or_default());
        if values.iter().all(|value| *value.name != *name) {
            values.push(ValueMatch {
                name: name.into(),
                value: node.str("value").unwrap_or_default().into(),
                regex: node.str("type") == Some("RegularExpression"),
            });
        }
    }
    values
}
