//! GatewayClass, Gateway and its listeners as they once were.
//!
//! Owns `controller`, `routes` of a listener, `certificateRef`, the validation of clients by a listener. Must not know
//! which routes there are.

use super::{Choosers, Converted, FIRST_GROUP, Named, Selection, check_as, core_group};
use crate::core::model::{GATEWAY_GROUP, NamedRoute};
use crate::source::kind::Kind;
use crate::source::node::{Key, Node, Value};

/// GatewayClass: `controller`, and the scope of its parameters.
pub(super) fn class(spec: &mut Node, converted: &mut Converted) {
    if spec.rename("controller", "controllerName") {
        converted.change("`controller`");
    }
    let Some(parameters) = spec.get_mut("parametersRef") else { return };
    let Some((_, scope)) = parameters.take("scope") else { return };
    converted.change("`scope` of parametersRef");
    match scope.as_str() {
        // "ignored when scope is set to Cluster"
        Some("Cluster") => drop(parameters.take("namespace")),
        Some("Namespace") => {}
        _ => converted.refuse(&scope, "spec.parametersRef.scope", "is none of Cluster, Namespace", ""),
    }
}

pub(super) fn gateway(spec: &mut Node, converted: &mut Converted) {
    let mut names: Vec<String> =
        spec.list("listeners").iter().filter_map(|l| l.str("name").map(str::to_owned)).collect();
    for (i, listener) in spec.list_mut("listeners").iter_mut().enumerate() {
        if listener.get("name").is_none() && matches!(listener.value, Value::Map(_)) {
            let name = free_name(listener, &names);
            names.push(name.clone());
            let at = listener.at;
            if let Value::Map(entries) = &mut listener.value {
                let key = Key { name: "name".to_owned(), at };
                entries.insert(0, (key, Node::text(&name, at)));
            }
            converted.change("a listener without `name`");
        }
        hostname(listener, converted);
        tls(i, listener, converted);
        routes(i, listener, converted);
    }
    tried_out(spec, converted);
}

/// What was tried out with TLS: the validation of clients by listeners, and `backendTLS`.
pub(super) fn tried_out(spec: &mut Node, converted: &mut Converted) {
    let listeners = spec.list_mut("listeners").iter_mut().enumerate();
    let clients: Vec<_> = listeners.filter_map(|(i, listener)| clients(i, listener)).collect();
    frontend(spec, &clients, converted);
    if let Some((key, backend)) = spec.take("backendTLS") {
        converted.change("`backendTLS`");
        set_within(spec, "tls", "backend", Node { at: key.at, ..backend });
    }
}

/// XListenerSet, which became ListenerSet.
pub(super) fn listener_set(spec: &mut Node, converted: &mut Converted) {
    converted.change("the kind `XListenerSet`");
    for (i, listener) in spec.list_mut("listeners").iter_mut().enumerate() {
        let path = format!("spec.listeners[{i}]");
        let clients = listener.get_mut("tls").and_then(|tls| tls.take("frontendValidation"));
        if let Some((_, clients)) = clients {
            converted.refuse(
                &clients,
                format!("{path}.tls.frontendValidation"),
                "clients are validated by port today, which is the Gateway's to say",
                "move it to spec.tls.frontend of the parent Gateway",
            );
        }
        if listener.get("port").is_none_or(|port| port.value == Value::Int(0)) {
            let port = listener.get("port").unwrap_or(listener).clone();
            converted.refuse(
                &port,
                format!("{path}.port"),
                "an implementation could choose the port, which today it cannot",
                "write the port, 1–65535",
            );
        }
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

/// The hostname `*`, and one where the protocol has none.
fn hostname(listener: &mut Node, converted: &mut Converted) {
    let Some(hostname) = listener.str("hostname") else { return };
    if matches!(hostname, "" | "*") {
        listener.take("hostname");
        converted.change("the hostname `*`");
    } else if converted.first() && matches!(listener.str("protocol"), Some("TCP" | "UDP")) {
        listener.take("hostname");
        converted.change("a hostname of a TCP or UDP listener, which had no effect");
    } else if converted.first() && hostname.starts_with("*.") {
        converted.note(WILDCARD);
    }
}

pub(super) const WILDCARD: &str =
    "A hostname `*.example.com` stood for one more label; today it stands for one or more.";

/// `tls` of a listener.
fn tls(index: usize, listener: &mut Node, converted: &mut Converted) {
    let path = format!("spec.listeners[{index}].tls");
    if converted.first() && matches!(listener.str("protocol"), Some("HTTP" | "TCP" | "UDP")) {
        // "required if the Protocol field is HTTPS or TLS and ignored otherwise"
        if listener.take("tls").is_some() {
            converted.change("`tls` of a listener without TLS, which had no effect");
        }
        return;
    }
    let Some(tls) = listener.get_mut("tls") else { return };
    if let Some(certificate) = tls.get("certificateRef").filter(|_| tls.get("certificateRefs").is_none()) {
        let mut certificate = certificate.clone();
        core_group(&mut certificate);
        let at = certificate.at;
        tls.replace("certificateRef", "certificateRefs", Node::list_of(vec![certificate], at));
        converted.change("`certificateRef`");
    }
    if let Some((_, policy)) = tls.take("routeOverride") {
        converted.change("`routeOverride`");
        let path = format!("{path}.routeOverride");
        converted.only(&policy, &path, &["certificate"]);
        match policy.get("certificate").map(|node| (node, node.as_str())) {
            None | Some((_, Some("Deny"))) => {}
            Some((node, Some("Allow"))) => converted.refuse(
                node,
                format!("{path}.certificate"),
                "routes cannot bring certificates any more (GEP-746)",
                "list every certificate in the listener's certificateRefs; a ReferenceGrant lets it have those of other \
                 namespaces",
            ),
            Some((node, _)) => {
                converted.refuse(node, format!("{path}.certificate"), "is none of Allow, Deny", "");
            }
        }
    }
}

/// What validates the clients of a listener with TLS.
fn clients(index: usize, listener: &mut Node) -> Option<Clients> {
    let path = format!("spec.listeners[{index}].tls");
    let secured = matches!(listener.str("protocol"), Some("HTTPS" | "TLS"));
    let port = listener.get("port").cloned();
    let validation = listener.get_mut("tls")?.take("frontendValidation").map(|(_, clients)| clients);
    (secured || validation.is_some()).then_some(Clients { path, port, validation })
}

/// What validated the clients of a listener with TLS, if anything did.
struct Clients {
    path: String,
    port: Option<Node>,
    validation: Option<Node>,
}

/// The validation of clients, which was a listener's and is a port's.
fn frontend(spec: &mut Node, clients: &[Clients], converted: &mut Converted) {
    let Some(first) = clients.iter().find_map(|clients| clients.validation.as_ref()) else { return };
    let at = first.at;
    converted.change("`frontendValidation`");
    let mut ports: Vec<(&Node, &Clients)> = Vec::new();
    for this in clients {
        let Some(port) = &this.port else { continue };
        let same = |node: &Option<Node>| node.as_ref().map(Node::to_string);
        match ports.iter().find(|(known, _)| known.value == port.value) {
            None => ports.push((port, this)),
            Some((_, other)) if same(&other.validation) == same(&this.validation) => {}
            Some((_, other)) => {
                let node = this.validation.as_ref().or(other.validation.as_ref()).unwrap_or(port);
                converted.refuse(
                    node,
                    format!("{}.frontendValidation", this.path),
                    "clients are validated by port today, and another listener of this port does it otherwise",
                    "give the listeners ports of their own, or validate the clients of both alike",
                );
            }
        }
    }
    let per_port = (ports.iter())
        .filter_map(|(port, clients)| {
            let validation = clients.validation.clone()?;
            let at = validation.at;
            let tls = Node::map(vec![("validation", validation)], at);
            Some(Node::map(vec![("port", (*port).clone()), ("tls", tls)], at))
        })
        .collect();
    let frontend =
        Node::map(vec![("default", Node::map(vec![], at)), ("perPort", Node::list_of(per_port, at))], at);
    set_within(spec, "tls", "frontend", frontend);
}

fn set_within(node: &mut Node, outer: &str, inner: &str, value: Node) {
    if node.get(outer).is_none() {
        node.set(outer, Node::map(vec![], value.at));
    }
    if let Some(outer) = node.get_mut(outer) {
        outer.set(inner, value);
    }
}

/// The kind of route that is meant where none is named.
fn default_kind(protocol: Option<&str>) -> &'static str {
    match protocol {
        Some("TCP") => "TCPRoute",
        Some("UDP") => "UDPRoute",
        Some("TLS") => "TLSRoute",
        _ => "HTTPRoute",
    }
}

const SELECTOR: &str = "spec.listeners[].allowedRoutes.namespaces.selector";

/// `routes` of a listener: today's allowedRoutes, and the routes that it chose.
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
    let default_kind = default_kind(listener.str("protocol"));
    let mut kinds: Vec<Node> = Vec::new();
    let mut chosen = Vec::new();
    let mut namespaces: Option<Node> = None;
    for (i, entry) in entries.iter().enumerate() {
        let nth = if matches!(routes.value, Value::List(_)) { format!("[{i}]") } else { String::new() };
        let path = format!("spec.listeners[{index}].routes{nth}");
        // today's `kinds` was a list within `routes` for two weeks of 2021
        let known = ["group", "kind", "kinds", "name", "namespace", "namespaces", "selector"];
        converted.only(entry, &path, &known);
        for field in ["kind", "group", "name", "namespace"] {
            if let Some(node) = entry.get(field).filter(|node| node.as_str().is_none()) {
                converted.refuse(node, format!("{path}.{field}"), "must be text", "");
            }
        }
        let kind = entry.str("kind").unwrap_or(default_kind).to_owned();
        if let Some(written) = entry.get("kinds") {
            kinds.extend(written.items().iter().cloned());
        } else {
            let mut parts =
                vec![("kind", Node::text(&kind, entry.get("kind").map_or(entry.at, |node| node.at)))];
            // Today's group is the default, as v1alpha1's was then.
            if let Some(group) = entry.get("group").filter(|group| group.as_str() != Some(FIRST_GROUP)) {
                parts.insert(0, ("group", group.clone()));
            }
            let wanted = Node::map(parts, entry.at);
            if kinds.iter().all(|known| known.to_string() != wanted.to_string()) {
                kinds.push(wanted);
            }
        }
        match (&namespaces, entry.get("namespaces")) {
            (Some(one), Some(other)) if one.to_string() != other.to_string() => converted.refuse(
                other,
                format!("{path}.namespaces"),
                "a listener has one choice of namespaces for all its kinds of routes",
                "give each kind a listener of its own",
            ),
            (None, Some(written)) => namespaces = Some(written.clone()),
            _ => {}
        }
        let selector = entry.get("selector").filter(|selector| {
            check_as(Kind::Gateway, SELECTOR, selector, &format!("{path}.selector"), converted);
            let problems = crate::source::translate::selector_problems(selector, &format!("{path}.selector"));
            converted.errors.extend(problems);
            selector.entries().iter().any(|(_, part)| part.value != Value::Null)
        });
        if let (Some(_), Some(name)) = (selector, entry.get("name")) {
            converted.refuse(
                name,
                format!("{path}.name"),
                "a selector and a name exclude one another",
                "keep one of them",
            );
        }
        chosen.push(match selector {
            Some(selector) => Named::Labels(kind, crate::source::translate::selector(selector)),
            None => Named::Route(NamedRoute {
                kind,
                name: entry.str("name").map(str::to_owned),
                namespace: entry.str("namespace").map(str::to_owned),
            }),
        });
    }
    let by_name = chosen.iter().any(|named| matches!(named, Named::Route(NamedRoute { name: Some(_), .. })));
    let by_label = chosen.iter().any(|named| matches!(named, Named::Labels(..)));
    let mut allowed = Vec::new();
    // Route and Gateway name one another: that holds across namespaces.
    let all = || by_name.then(|| Node::map(vec![("from", Node::text("All", at))], at));
    allowed.extend(namespaces.or_else(all).map(|namespaces| ("namespaces", namespaces)));
    allowed.push(("kinds", Node::list_of(kinds, at)));
    listener.replace("routes", "allowedRoutes", Node::map(allowed, at));
    converted.change("`routes` of a listener");
    let only = if by_name || by_label { chosen } else { Vec::new() };
    converted.selections.push(Selection { listener: index, only });
}

/// The field of a route that says which Gateways may choose it.
pub(super) const GATEWAYS: &str = "`gateways`";

/// `gateways` of a route.
pub(super) fn choosers(spec: &mut Node, converted: &mut Converted) {
    let Some((_, gateways)) = spec.take("gateways") else {
        // A route that names its Gateways is of v0.4 or later.
        if spec.get("parentRefs").is_none() {
            converted.choosers = Some(Choosers::SameNamespace);
        }
        return;
    };
    converted.change(GATEWAYS);
    converted.only(&gateways, "spec.gateways", &["allow", "gatewayRefs"]);
    if spec.get("parentRefs").is_some() {
        converted.refuse(
            &gateways,
            "spec.gateways",
            "`gateways` and `parentRefs` exclude one another",
            "keep parentRefs",
        );
    }
    let mut names = Vec::new();
    let references = gateways.get("gatewayRefs");
    if let Some(references) = references.filter(|node| !matches!(node.value, Value::List(_))) {
        converted.refuse(references, "spec.gateways.gatewayRefs", "must be a list", "");
    }
    for (i, reference) in gateways.list("gatewayRefs").iter().enumerate() {
        let path = format!("spec.gateways.gatewayRefs[{i}]");
        converted.only(reference, &path, &["name", "namespace"]);
        match (reference.str("namespace"), reference.str("name")) {
            (Some(namespace), Some(name)) => {
                names.push(crate::core::model::ObjectName::new(namespace, name));
            }
            _ => converted.refuse(reference, path, "needs name and namespace, both text", ""),
        }
    }
    if !names.is_empty() && gateways.str("allow") != Some("FromList") {
        converted.change("`gatewayRefs` without `FromList`, which had no effect");
    }
    converted.choosers = match gateways.get("allow").map(|node| (node, node.as_str())) {
        None | Some((_, Some("SameNamespace"))) => Some(Choosers::SameNamespace),
        Some((_, Some("All"))) => Some(Choosers::All),
        Some((_, Some("FromList"))) => Some(Choosers::These(names)),
        Some((node, _)) => {
            let message = "is none of All, FromList, SameNamespace";
            converted.refuse(node, "spec.gateways.allow", message, "");
            None
        }
    };
}

/// Whether a group and kind mean an XListenerSet, which is a ListenerSet today.
pub(super) fn listener_set_reference(node: &mut Node, converted: &mut Converted) {
    if node.str("group") == Some(super::X_GROUP) && node.str("kind") == Some("XListenerSet") {
        for (field, today) in [("group", GATEWAY_GROUP), ("kind", "ListenerSet")] {
            if let Some(node) = node.get_mut(field) {
                node.value = Value::String(today.to_owned());
            }
        }
        converted.change("a reference to an XListenerSet");
    }
}
