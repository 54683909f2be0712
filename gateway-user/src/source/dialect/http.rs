//! What is HTTP's of the old dialects.
//!
//! Owns the path type `Prefix`, conditions and headers written as maps, mirrors, certificates of a route. Must not know
//! what a request is.

use super::{Converted, core_group, gateway, named, route};
use crate::source::node::{Key, Node, Value};

/// `tls` of an HTTPRoute, and its hostnames.
pub(super) fn spec(spec: &mut Node, converted: &mut Converted) {
    if let Some((_, tls)) = spec.take("tls") {
        converted.refuse(
            &tls,
            "spec.tls",
            "a route has no certificate any more (GEP-746)",
            "list it in certificateRefs of the Gateway's listener; a ReferenceGrant lets it have one of another namespace",
        );
    }
    let wildcard = spec.list("hostnames").iter().filter_map(Node::as_str).any(|name| name.starts_with("*."));
    if wildcard && converted.first() {
        converted.note(gateway::WILDCARD);
    }
}

pub(super) fn rule(path: &str, rule: &mut Node, converted: &mut Converted) {
    for (i, condition) in rule.list_mut("matches").iter_mut().enumerate() {
        let path = format!("{path}.matches[{i}]");
        if let Some(kind) = condition.get_mut("path").and_then(|path| path.get_mut("type")) {
            match kind.as_str() {
                Some("Prefix") => {
                    kind.value = Value::String("PathPrefix".to_owned());
                    converted.change("the path type `Prefix`");
                }
                Some(SPECIFIC) => {
                    let remedy = "write Exact, PathPrefix or RegularExpression, whichever was meant";
                    own_way(kind, format!("{path}.path.type"), remedy, converted);
                }
                _ => {}
            }
        }
        values(&path, "headers", condition, converted);
        values(&path, "queryParams", condition, converted);
        route::extension(&path, condition, converted);
        condition.take("extensionRef");
    }
    filters(path, rule, converted);
    session(path, rule, converted);
    let redirects = rule.list("filters").iter().any(|filter| filter.str("type") == Some("RequestRedirect"));
    if redirects && rule.take("backendRefs").is_some() {
        converted.change("`backendRefs` beside a redirect, which nothing ever reached");
    }
}

const SPECIFIC: &str = "ImplementationSpecific";

fn own_way(node: &Node, field: String, remedy: &str, converted: &mut Converted) {
    let message = "what it meant was each implementation's own affair, and it was removed from the API";
    converted.refuse(node, field, message, remedy);
}

/// Headers or query parameters as `{type, values: {name: value}}`.
fn values(path: &str, field: &str, condition: &mut Node, converted: &mut Converted) {
    let path = format!("{path}.{field}");
    let Some(old) = condition.get(field).filter(|node| matches!(node.value, Value::Map(_))).cloned() else {
        return;
    };
    converted.only(&old, &path, &["type", "values"]);
    let kind = old.get("type");
    if let Some(kind) = kind.filter(|kind| kind.as_str() == Some(SPECIFIC)) {
        let remedy = "write Exact or RegularExpression, whichever was meant";
        own_way(kind, format!("{path}.type"), remedy, converted);
    }
    let Some(values) = old.get("values").filter(|values| !values.entries().is_empty()) else {
        converted.refuse(&old, format!("{path}.values"), "must map one name to its value at least", "");
        return;
    };
    let mut seen: Vec<String> = Vec::new();
    let mut items = Vec::new();
    for (key, value) in values.entries() {
        let plain = if field == "headers" { key.name.to_lowercase() } else { key.name.clone() };
        if seen.contains(&plain) {
            let message = "the header is there in another spelling, and today only the first one counts";
            converted.refuse(value, format!("{path}.values.{}", key.name), message, "keep one of them");
        }
        seen.push(plain);
        let mut item = pair(key, value);
        if let (Some(kind), Value::Map(entries)) = (kind, &mut item.value) {
            let at = if items.is_empty() { kind.at } else { key.at };
            let kind = Node { at, ..kind.clone() };
            entries.insert(0, (Key { name: "type".to_owned(), at }, kind));
        }
        items.push(item);
    }
    condition.replace(field, field, Node::list_of(items, values.at));
    converted.change(if field == "headers" { "`headers` as a map" } else { "`queryParams` as a map" });
}

/// A name and its value as an item of a list.
fn pair(key: &Key, value: &Node) -> Node {
    let name = Node::text(&key.name, key.at);
    Node::new(Value::Map(vec![named(key, "name", name), named(key, "value", value.clone())]), key.at)
}

/// Filters of a rule or of a backend.
pub(super) fn filters(path: &str, holder: &mut Node, converted: &mut Converted) {
    for (i, filter) in holder.list_mut("filters").iter_mut().enumerate() {
        let path = format!("{path}.filters[{i}]");
        if let Some(modifier) = filter.get_mut("requestHeaderModifier") {
            for field in ["add", "set"] {
                let Some(old) = modifier.get(field).filter(|node| matches!(node.value, Value::Map(_))) else {
                    continue;
                };
                let items = old.entries().iter().map(|(key, value)| pair(key, value)).collect();
                let list = Node::list_of(items, old.at);
                modifier.replace(field, field, list);
                converted.change("headers to add or to set as a map");
            }
        }
        if let Some(redirect) = filter.get_mut("requestRedirect")
            && redirect.get("scheme").is_none()
            && redirect.rename("protocol", "scheme")
        {
            converted.change("`protocol` of a redirect");
            if let Some(scheme) = redirect.get_mut("scheme")
                && let Value::String(text) = &mut scheme.value
            {
                text.make_ascii_lowercase();
            }
        }
        if let Some(mirror) = filter.get_mut("requestMirror") {
            let path = format!("{path}.requestMirror.backendRef");
            self::mirror(&path, mirror, converted);
        }
    }
}

/// A mirror's `serviceName` and `port`.
fn mirror(path: &str, mirror: &mut Node, converted: &mut Converted) {
    let old = mirror.get("serviceName").is_some() || mirror.get("port").is_some();
    if old {
        converted.change("`requestMirror` with `serviceName` or `port`");
        if route::service_name(mirror, converted) {
            mirror.take("backendRef");
        }
        let name = mirror.take("serviceName");
        // Without anything to take it, it stays, and the schema complains.
        let target = name.is_some() || mirror.get("backendRef").is_some();
        let port = if target { mirror.take("port") } else { None };
        let at = name.as_ref().map_or(mirror.at, |(key, _)| key.at);
        if let Some((key, name)) = name {
            mirror.set("backendRef", Node::new(Value::Map(vec![named(&key, "name", name)]), at));
        }
        if let (Some(Node { value: Value::Map(entries), .. }), Some(port)) =
            (mirror.get_mut("backendRef"), port)
        {
            entries.push(port);
        }
    }
    if let Some(backend) = mirror.get_mut("backendRef") {
        core_group(backend);
        route::needs_port(path, backend, converted);
    }
}

/// `idleTimeout` of a session.
pub(super) fn session(path: &str, rule: &mut Node, converted: &mut Converted) {
    let Some(session) = rule.get_mut("sessionPersistence") else { return };
    if let Some((_, timeout)) = session.take("idleTimeout") {
        converted.refuse(
            &timeout,
            format!("{path}.sessionPersistence.idleTimeout"),
            "the end of an idle session was removed from the API in v1.6",
            "remove it, or write absoluteTimeout",
        );
    }
}
