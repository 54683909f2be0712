//! Old dialects of the Gateway API, turned into today's form on the tree.
//!
//! Owns what the API once was: its versions, `routes` of a listener, `forwardTo`, the path type `Prefix`. What it
//! does not know it leaves for the schema to complain about. Must not know what a field means today.

use super::Diagnostic;
use super::kind::Kind;
use super::node::{Key, Node, Place, Value};
use crate::core::model::{GATEWAY_GROUP, LabelSelector, NamedRoute};

/// Versions of the API's group before v1.
pub(super) const VERSIONS: [&str; 3] = ["v1alpha2", "v1alpha3", "v1beta1"];

/// The routes that a listener named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// One route, or all of a kind.
    Route(NamedRoute),
    /// Routes of a kind by their labels.
    Labels(String, LabelSelector),
}

/// What came of a conversion.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// What was changed besides the version.
    pub(super) changes: Vec<&'static str>,
    /// Listeners that named routes, by index: today's form cannot say it.
    pub(super) named: Vec<(usize, Named)>,
    pub(super) errors: Vec<Diagnostic>,
}

impl Converted {
    fn note(&mut self, change: &'static str) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }
}

/// Turns an object of an old version into today's form.
pub(super) fn convert(kind: Kind, root: &mut Node) -> Converted {
    let mut converted = Converted::default();
    for (field, today) in [("apiVersion", kind.api_version()), ("kind", kind.name().to_owned())] {
        if let Some(node) = root.get_mut(field) {
            node.value = Value::String(today);
        }
    }
    let Some(spec) = root.get_mut("spec") else { return converted };
    match kind {
        Kind::Gateway => gateway(spec, &mut converted),
        Kind::HttpRoute | Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
            for rule in spec.get_mut("rules").map_or(&mut [][..], Node::items_mut) {
                rule_of_route(rule, &mut converted);
            }
        }
        _ => {}
    }
    converted
}

/// The warning about an old form; `root` is in today's form.
pub(super) fn warning(kind: Kind, version: &str, converted: &Converted, root: &Node) -> Diagnostic {
    let (message, remedy) = if converted.changes.is_empty() {
        (
            format!("{GATEWAY_GROUP}/{version} is an old version of the API"),
            format!("write `apiVersion: {}`; the rest stays", kind.api_version()),
        )
    } else {
        let note = if converted.named.is_empty() { "" } else { NAMED };
        (
            format!(
                "{} of {GATEWAY_GROUP}/{version}: an old form, which today is",
                converted.changes.join(", ")
            ),
            format!("{note}{}", today(root)),
        )
    };
    let Place { line, column } = root.at;
    Diagnostic { line, column, message, remedy, ..Diagnostic::default() }
}

/// What today's form leaves out, as a comment before it.
const NAMED: &str = "# Only the routes that the listeners name may attach, in whatever namespace they are;\n\
    # today's form has no such list, and this comes nearest:\n";

/// An object as YAML.
pub(super) fn today(root: &Node) -> String {
    serde_yaml::to_string(root).unwrap_or_else(|error| format!("# cannot be shown: {error}"))
}

fn gateway(spec: &mut Node, converted: &mut Converted) {
    let listeners = spec.get_mut("listeners").map_or(&mut [][..], Node::items_mut);
    let mut names: Vec<String> = listeners.iter().filter_map(|l| l.str("name").map(str::to_owned)).collect();
    for (i, listener) in listeners.iter_mut().enumerate() {
        if listener.get("name").is_none() && matches!(listener.value, Value::Map(_)) {
            let name = free_name(listener, &names);
            names.push(name.clone());
            let at = listener.at;
            if let Value::Map(entries) = &mut listener.value {
                let key = Key { name: "name".to_owned(), at };
                entries.insert(0, (key, Node::new(Value::String(name), at)));
            }
            converted.note("a listener without `name`");
        }
        routes(i, listener, converted);
    }
}

/// A valid name for a listener that has none.
fn free_name(listener: &Node, taken: &[String]) -> String {
    let protocol = listener.str("protocol").unwrap_or("listener").to_lowercase();
    let protocol: String = protocol.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let port = listener.int("port").unwrap_or_default().unsigned_abs();
    let base = format!("{}-{port}", if protocol.is_empty() { "listener" } else { &protocol });
    let numbered = (2..).map(|n: u64| format!("{base}-{n}"));
    std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(base)
}

/// `routes` of a listener: today's allowedRoutes, and the routes that it named.
fn routes(index: usize, listener: &mut Node, converted: &mut Converted) {
    let Some(routes) = listener.get("routes").filter(|_| listener.get("allowedRoutes").is_none()) else {
        return;
    };
    let entries: Vec<&Node> = match &routes.value {
        Value::List(items) => items.iter().collect(),
        Value::Map(_) => vec![routes],
        _ => return,
    };
    let at = routes.at;
    let default_kind = match listener.str("protocol") {
        Some("TCP") => "TCPRoute",
        Some("UDP") => "UDPRoute",
        Some("TLS") => "TLSRoute",
        _ => "HTTPRoute",
    };
    let text = |text: &str| Node::new(Value::String(text.to_owned()), at);
    let map = |entries: Vec<(&str, Node)>| {
        let entries =
            entries.into_iter().map(|(name, node)| (Key { name: name.to_owned(), at }, node)).collect();
        Node::new(Value::Map(entries), at)
    };
    let mut kinds: Vec<Node> = Vec::new();
    let mut named = Vec::new();
    let mut namespaces = None;
    for (i, entry) in entries.iter().enumerate() {
        // today's `kinds` was a list within `routes` for two weeks of 2021
        for (key, value) in entry.entries() {
            if !["kind", "kinds", "group", "name", "namespace", "namespaces", "selector"]
                .contains(&&*key.name)
            {
                let list =
                    if matches!(routes.value, Value::List(_)) { format!("[{i}]") } else { String::new() };
                converted.errors.push(Diagnostic {
                    line: key.at.line,
                    column: key.at.column,
                    field: format!("spec.listeners[{index}].routes{list}.{}", key.name),
                    value: value.shown(),
                    message: "unknown field".to_owned(),
                    remedy: "there are group, kind, name, namespace, namespaces, selector".to_owned(),
                    ..Diagnostic::default()
                });
            }
        }
        let kind = entry.str("kind").unwrap_or(default_kind).to_owned();
        if let Some(written) = entry.get("kinds") {
            kinds.extend(written.items().iter().cloned());
        } else {
            let mut parts = vec![("kind", text(&kind))];
            if let Some(group) = entry.get("group") {
                parts.insert(0, ("group", group.clone()));
            }
            let wanted = map(parts);
            if !kinds.contains(&wanted) {
                kinds.push(wanted);
            }
        }
        namespaces = namespaces.or_else(|| entry.get("namespaces").cloned());
        let selector = entry
            .get("selector")
            .filter(|selector| selector.entries().iter().any(|(_, part)| part.value != Value::Null));
        named.push(match selector {
            Some(selector) => Named::Labels(kind, super::translate::selector(selector)),
            None => Named::Route(NamedRoute {
                kind,
                name: entry.str("name").map(str::to_owned),
                namespace: entry.str("namespace").map(str::to_owned),
            }),
        });
    }
    let by_name = named.iter().any(|named| matches!(named, Named::Route(NamedRoute { name: Some(_), .. })));
    let by_label = named.iter().any(|named| matches!(named, Named::Labels(..)));
    let mut allowed = Vec::new();
    // Route and Gateway name one another: that holds across namespaces.
    let all = || by_name.then(|| map(vec![("from", text("All"))]));
    allowed.extend(namespaces.or_else(all).map(|namespaces| ("namespaces", namespaces)));
    allowed.push(("kinds", Node::new(Value::List(kinds), at)));
    let allowed = map(allowed);
    listener.replace("routes", "allowedRoutes", allowed);
    converted.note("`routes` of a listener");
    if by_name || by_label {
        converted.named.extend(named.into_iter().map(|named| (index, named)));
    }
}

/// A rule's `forwardTo` and `targetRefs`, and the path type `Prefix`.
fn rule_of_route(rule: &mut Node, converted: &mut Converted) {
    for condition in rule.get_mut("matches").map_or(&mut [][..], Node::items_mut) {
        if let Some(kind) = condition.get_mut("path").and_then(|path| path.get_mut("type"))
            && kind.as_str() == Some("Prefix")
        {
            kind.value = Value::String("PathPrefix".to_owned());
            converted.note("the path type `Prefix`");
        }
    }
    let mut backends = rule.get("backendRefs").map(|backends| backends.items().to_vec()).unwrap_or_default();
    let before = backends.len();
    let Some(old) = ["forwardTo", "targetRefs", "targetRef"]
        .into_iter()
        .find(|old| rule.get(old).is_some_and(|node| matches!(node.value, Value::List(_) | Value::Map(_))))
    else {
        return;
    };
    let Some(node) = rule.get(old).cloned() else { return };
    let mut shared = Vec::new();
    if old != "forwardTo" {
        shared.extend(rule.take("port"));
    }
    for item in one_or_many(&node) {
        backends.extend(if old == "forwardTo" { forward_to(item) } else { vec![target(item, &shared)] });
    }
    converted.note(match old {
        "forwardTo" => "`forwardTo`",
        _ => "`targetRefs`",
    });
    if before > 0 {
        rule.take("backendRefs");
    }
    let at = node.at;
    rule.replace(old, "backendRefs", Node::new(Value::List(backends), at));
}

fn one_or_many(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// A backendRef for each target of an entry of `forwardTo`, with the entry's port, weight and filters.
fn forward_to(item: &Node) -> Vec<Node> {
    let mut targets = Vec::new();
    let mut shared = Vec::new();
    for (key, node) in item.entries() {
        match (&*key.name, &node.value) {
            ("targetRef" | "targetRefs" | "backendRef", Value::List(_) | Value::Map(_)) => {
                targets.extend(one_or_many(node).iter().cloned());
            }
            ("serviceName", _) => {
                let name = (Key { name: "name".to_owned(), at: key.at }, node.clone());
                targets.push(Node::new(Value::Map(vec![name]), item.at));
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

/// A target with what stood beside it, unless it says that itself.
fn target(node: &Node, shared: &[(Key, Node)]) -> Node {
    let mut node = node.clone();
    for (key, value) in shared {
        if node.get(&key.name).is_none() {
            node.set(&key.name, value.clone());
        }
    }
    // "core" was the name of the group without a name.
    if let Some(group) = node.get_mut("group")
        && group.as_str() == Some("core")
    {
        group.value = Value::String(String::new());
    }
    node
}
