//! Routes as they once were.
//!
//! Owns `forwardTo` and `targetRefs`, `matches` of routes that have none today, how many rules a route has. Must not
//! know what is particular to HTTP.

use super::{Converted, core_group, gateway, http, named};
use crate::source::kind::Kind;
use crate::source::node::{Key, Node, Value};

pub(super) fn route(kind: Kind, spec: &mut Node, converted: &mut Converted) {
    gateway::choosers(spec, converted);
    if kind == Kind::HttpRoute {
        http::spec(spec, converted);
    }
    if kind == Kind::TlsRoute {
        hostnames_of_rules(spec, converted);
    }
    if matches!(kind, Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute) {
        one_rule(kind, spec, converted);
    }
    for (i, rule) in spec.list_mut("rules").iter_mut().enumerate() {
        let path = format!("spec.rules[{i}]");
        match kind {
            Kind::HttpRoute => http::rule(&path, rule, converted),
            Kind::GrpcRoute => http::session(&path, rule, converted),
            _ => matches(&path, rule, converted),
        }
        backends(kind, &path, rule, converted);
    }
}

/// What routes and grants refer to under a name that it has no more; also in today's versions.
pub(super) fn references(kind: Kind, root: &mut Node, converted: &mut Converted) {
    let list = match kind {
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => "parentRefs",
        Kind::ReferenceGrant => "from",
        _ => return,
    };
    let Some(spec) = root.get_mut("spec") else { return };
    for reference in spec.list_mut(list) {
        gateway::listener_set_reference(reference, converted);
    }
}

/// Rules without conditions of their own: of several, only the first could ever serve.
fn one_rule(kind: Kind, spec: &Node, converted: &mut Converted) {
    let Some(rules) = spec.get("rules").filter(|rules| rules.items().len() > 1) else { return };
    let (message, remedy) = if kind == Kind::TlsRoute && converted.first() {
        ("a TLSRoute has one rule today, and its hostnames instead of snis", "write a TLSRoute for each rule")
    } else {
        (
            "a route of this kind has one rule today: with nothing to match, the first took every connection",
            "keep the first rule, or write a route for each with a listener of its own",
        )
    };
    converted.refuse(&rules.items()[1], "spec.rules", message, remedy);
}

/// A TLSRoute's `snis`, which became hostnames.
fn hostnames_of_rules(spec: &mut Node, converted: &mut Converted) {
    let several = spec.list("rules").len() > 1;
    let mut names: Vec<Node> = Vec::new();
    let mut all = false;
    for (i, rule) in spec.list_mut("rules").iter_mut().enumerate() {
        let conditions = rule.list_mut("matches");
        all |= conditions.is_empty();
        for (j, condition) in conditions.iter_mut().enumerate() {
            let Some((_, snis)) = condition.take("snis") else {
                all = true;
                continue;
            };
            converted.change("`snis`");
            if !matches!(snis.value, Value::List(_)) {
                converted.refuse(&snis, format!("spec.rules[{i}].matches[{j}].snis"), "must be a list", "");
            }
            all |= snis.items().is_empty();
            names.extend(snis.items().iter().cloned());
        }
    }
    let wildcard = names.iter().filter_map(Node::as_str).any(|name| name.starts_with("*."));
    if wildcard && converted.first() {
        converted.note(gateway::WILDCARD);
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.to_string()));
    if !all && !several && !names.is_empty() && spec.get("hostnames").is_none() {
        let at = names[0].at;
        spec.set("hostnames", Node::list_of(names, at));
    }
    let none = spec.get("hostnames").is_none_or(|names| names.value == Value::List(Vec::new()));
    if none {
        // It took whatever the listener took, and that it does still.
        spec.take("hostnames");
        converted.excused.push("spec.hostnames");
    }
}

/// Conditions of a TCPRoute, UDPRoute or TLSRoute: nothing is left of them.
fn matches(path: &str, rule: &mut Node, converted: &mut Converted) {
    let Some((_, conditions)) = rule.take("matches") else { return };
    converted.change("`matches`");
    if !matches!(conditions.value, Value::List(_)) {
        converted.refuse(&conditions, format!("{path}.matches"), "must be a list", "remove it");
    }
    for (i, condition) in conditions.items().iter().enumerate() {
        let path = format!("{path}.matches[{i}]");
        extension(&path, condition, converted);
        let rest: Vec<_> =
            condition.entries().iter().filter(|(key, _)| key.name != "extensionRef").cloned().collect();
        converted.only(&Node::new(Value::Map(rest), condition.at), &path, &["extensionRef"]);
    }
}

/// An extension in a condition.
pub(super) fn extension(path: &str, condition: &Node, converted: &mut Converted) {
    if let Some(extension) = condition.get("extensionRef") {
        converted.refuse(
            extension,
            format!("{path}.extensionRef"),
            "extensions of a match were removed from the API (GEP-820)",
            "remove it, and match by what the API has",
        );
    }
}

/// A rule's `forwardTo` and `targetRefs`.
fn backends(kind: Kind, path: &str, rule: &mut Node, converted: &mut Converted) {
    let mut backends = rule.get("backendRefs").map(|backends| backends.items().to_vec()).unwrap_or_default();
    let before = backends.len();
    let Some(old) = ["forwardTo", "targetRefs", "targetRef"]
        .into_iter()
        .find(|old| rule.get(old).is_some_and(|node| matches!(node.value, Value::List(_) | Value::Map(_))))
    else {
        if kind == Kind::HttpRoute && converted.first() && before == 0 {
            converted.note("A rule without backends answered 503; today it answers 500.");
        }
        return;
    };
    let Some(node) = rule.get(old).cloned() else { return };
    let mut shared = Vec::new();
    if old != "forwardTo" {
        shared.extend(rule.take("port"));
    }
    for item in one_or_many(&node) {
        let made = if old == "forwardTo" { forward_to(item, converted) } else { vec![target(item, &shared)] };
        for mut backend in made {
            let path = format!("{path}.backendRefs[{}]", backends.len());
            needs_port(&path, &backend, converted);
            if kind == Kind::HttpRoute {
                http::filters(&path, &mut backend, converted);
            }
            backends.push(backend);
        }
    }
    converted.change(match old {
        "forwardTo" => "`forwardTo`",
        _ => "`targetRefs`",
    });
    if before > 0 {
        rule.take("backendRefs");
    }
    rule.replace(old, "backendRefs", Node::list_of(backends, node.at));
}

/// Without a port, v1alpha1 used that of the request.
pub(super) fn needs_port(path: &str, backend: &Node, converted: &mut Converted) {
    let service = backend.str("kind").is_none_or(|kind| kind == "Service")
        && backend.str("group").is_none_or(str::is_empty)
        && backend.get("name").is_some();
    if converted.first() && service && backend.get("port").is_none() {
        converted.refuse(
            backend,
            path,
            "without a port it was the one that the client had connected to; today a Service needs its port",
            "add `port:` with the Service's port",
        );
    }
}

fn one_or_many(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// A backendRef for each target of an entry of `forwardTo`, with the entry's port, weight and filters.
fn forward_to(item: &Node, converted: &mut Converted) -> Vec<Node> {
    let mut targets = Vec::new();
    let mut shared = Vec::new();
    let by_name = service_name(item, converted);
    for (key, node) in item.entries() {
        match (&*key.name, &node.value) {
            ("backendRef", _) if by_name => {}
            ("targetRef" | "targetRefs" | "backendRef", Value::List(_) | Value::Map(_)) => {
                targets.extend(one_or_many(node).iter().cloned());
            }
            ("serviceName", _) => {
                targets.push(Node::new(Value::Map(vec![named(key, "name", node.clone())]), item.at));
            }
            _ => shared.push((key.clone(), node.clone())),
        }
    }
    if targets.is_empty() {
        // Nothing that it knows: the schema says what is missing.
        return vec![item.clone()];
    }
    targets.iter().map(|node| target(node, &shared)).collect()
}

/// Whether a Service is named, which "takes the place of BackendRef".
pub(super) fn service_name(item: &Node, converted: &mut Converted) -> bool {
    let named = item.get("serviceName").is_some();
    if named && item.get("backendRef").is_some() {
        converted.change("`backendRef` beside `serviceName`, which took its place");
    }
    named
}

/// A target with what stood beside it, unless it says that itself.
fn target(node: &Node, shared: &[(Key, Node)]) -> Node {
    let mut node = node.clone();
    if let Value::Map(entries) = &mut node.value {
        for (key, value) in shared {
            if entries.iter().all(|(known, _)| known.name != key.name) {
                entries.push((key.clone(), value.clone()));
            }
        }
    }
    core_group(&mut node);
    node
}
