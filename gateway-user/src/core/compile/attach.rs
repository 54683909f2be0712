//! Attachment: which listeners a route belongs to.
//!
//! Owns parentRefs, allowedRoutes and the intersection of hostnames. Must not know rules or backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::{Problem, problem};
use super::gateways::{GatewayWork, Gateways, ListenerId, ListenerWork};
use super::parameters::Effective;
use crate::core::model::{
    FromNamespaces, GATEWAY_GROUP, LabelSelector, Meta, Model, ObjectName, ParentRef, Protocol,
};
use crate::core::route::intersect;

/// What attachment needs to know of a route.
pub(crate) struct RouteView<'m> {
    pub(crate) kind: &'static str,
    pub(crate) meta: &'m Meta,
    pub(crate) parents: &'m [ParentRef],
    pub(crate) hostnames: &'m [Arc<str>],
}

/// A parentRef that names a Gateway of ours, or nothing that there is.
pub(super) struct Attachment<'m> {
    pub(super) parent: &'m ParentRef,
    /// Whether it names a Gateway of ours.
    pub(super) ours: bool,
    /// The listeners, in the order of the Gateway; never none.
    pub(super) to: Result<Vec<ListenerId>, Problem>,
}

/// Resolves a route's parentRefs. Those that name a Gateway of another controller are left out.
pub(super) fn attach<'m>(
    model: &Model,
    gateways: &Gateways<'m>,
    route: &RouteView<'m>,
    notes: &mut Vec<String>,
) -> Vec<Attachment<'m>> {
    let mut list = Vec::with_capacity(route.parents.len());
    for parent in route.parents {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.name.namespace);
        let is_gateway = parent.kind.group == GATEWAY_GROUP && parent.kind.kind == "Gateway";
        let ours = gateways.by_name.get(&(&**namespace, &*parent.name)).filter(|_| is_gateway);
        if let Some(&at) = ours {
            let to = select(model, &gateways.list[at], at, route, parent);
            list.push(Attachment { parent, ours: true, to });
            continue;
        }
        let name = ObjectName { namespace: namespace.clone(), name: parent.name.clone() };
        if is_gateway && model.gateways.contains_key(&name) {
            continue;
        }
        let message = if is_gateway {
            format!("parentRefs: there is no Gateway {name} (create it, or correct the reference)")
        } else {
            format!(
                "parentRefs: {} {name}: a parent of this kind is not supported (refer to a Gateway)",
                parent.kind.kind
            )
        };
        notes.push(format!("{} {}: {message}", route.kind, route.meta.name));
        list.push(Attachment { parent, ours: false, to: Err(problem("NoMatchingParent", message)) });
    }
    list
}

/// Why a listener does not take a route that refers to its Gateway.
enum Not {
    /// The reference names others.
    Named,
    /// allowedRoutes keep it out.
    Allowed(String),
    /// They have no host in common.
    Hostname,
}

fn takes(
    model: &Model,
    gateway: &GatewayWork<'_>,
    work: &ListenerWork<'_>,
    route: &RouteView<'_>,
    parent: &ParentRef,
) -> Result<(), Not> {
    let named = parent.section.as_ref().is_none_or(|name| *name == work.listener.name)
        && parent.port.is_none_or(|port| port == work.listener.port);
    if !named {
        return Err(Not::Named);
    }
    allowed(model, gateway, work, route).map_err(Not::Allowed)?;
    if hostnames_meet(work, route.hostnames) { Ok(()) } else { Err(Not::Hostname) }
}

fn select(
    model: &Model,
    gateway: &GatewayWork<'_>,
    at: usize,
    route: &RouteView<'_>,
    parent: &ParentRef,
) -> Result<Vec<ListenerId>, Problem> {
    let mut found = Vec::new();
    let (mut any_named, mut any_allowed) = (false, false);
    let mut why_not = None;
    for (position, work) in gateway.listeners.iter().enumerate() {
        match takes(model, gateway, work, route, parent) {
            Ok(()) => found.push((at, position)),
            Err(Not::Named) => {}
            Err(Not::Allowed(why)) => {
                any_named = true;
                why_not.get_or_insert(why);
            }
            Err(Not::Hostname) => {
                any_named = true;
                any_allowed = true;
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Err(if any_allowed {
        let message = format!(
            "spec.hostnames: none of {} fits a listener of Gateway {} (change the route's or the listener's hostname)",
            route.hostnames.join(", "),
            gateway.name()
        );
        problem("NoMatchingListenerHostname", message)
    } else if any_named {
        let message = why_not.unwrap_or_default();
        problem("NotAllowedByListeners", format!("Gateway {}: {message}", gateway.name()))
    } else {
        let section = parent.section.as_ref().map(|s| format!(" with the name \"{s}\""));
        let port = parent.port.map(|p| format!(" on port {p}"));
        let message = format!(
            "parentRefs: Gateway {} has no listener{}{} (correct sectionName or port)",
            gateway.name(),
            section.unwrap_or_default(),
            port.unwrap_or_default()
        );
        problem("NoMatchingParent", message)
    })
}

/// Whether a route is attached to a listener, or why not; `None`: it does not ask for the listener's Gateway. For
/// explanations: compilation asks for all listeners at once.
pub(crate) fn attached_to(
    model: &Model,
    route: &RouteView<'_>,
    gateway: &ObjectName,
    listener: &str,
) -> Option<Result<(), String>> {
    let gateway = super::gateways::begin(model.gateways.get(gateway)?, Ok(Effective::default()));
    let work = gateway.listeners.iter().find(|work| *work.listener.name == *listener)?;
    let mut why_not = None;
    for parent in route.parents.iter().filter(|parent| {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.name.namespace);
        let name = &gateway.gateway.meta.name;
        parent.kind.group == GATEWAY_GROUP
            && parent.kind.kind == "Gateway"
            && *namespace == name.namespace
            && parent.name == name.name
    }) {
        let why = match takes(model, &gateway, work, route, parent) {
            Ok(()) => return Some(Ok(())),
            Err(Not::Allowed(why)) => why,
            Err(Not::Named) => {
                let section = parent.section.as_ref().map(|s| format!("sectionName \"{s}\""));
                let port = parent.port.map(|p| format!("port {p}"));
                let asked: Vec<String> = section.into_iter().chain(port).collect();
                format!("its parentRef asks for {}", asked.join(" and "))
            }
            Err(Not::Hostname) => format!(
                "none of its hostnames ({}) fits the listener's, {}",
                route.hostnames.join(", "),
                work.listener.hostname.as_deref().unwrap_or("*")
            ),
        };
        why_not.get_or_insert(why);
    }
    why_not.map(Err)
}

/// The listener's allowedRoutes; or why they keep the route out.
fn allowed(
    model: &Model,
    gateway: &GatewayWork<'_>,
    work: &ListenerWork<'_>,
    route: &RouteView<'_>,
) -> Result<(), String> {
    let listener = work.listener;
    let name = &route.meta.name;
    if !work.kinds.contains(&route.kind) {
        return Err(format!("listener \"{}\" takes no {}", listener.name, route.kind));
    }
    if let Some(list) = &listener.allowed.named {
        let fits = |n: &crate::core::model::NamedRoute| {
            n.kind == route.kind
                && n.name.as_deref().is_none_or(|n| n == &*name.name)
                && n.namespace.as_deref().is_none_or(|n| n == &*name.namespace)
        };
        if !list.iter().any(fits) {
            return Err(format!(
                "listener \"{}\" names the routes that it takes, {name} is none",
                listener.name
            ));
        }
    }
    let own = &gateway.gateway.meta.name.namespace;
    let namespaces = match &listener.allowed.namespaces {
        FromNamespaces::All => true,
        FromNamespaces::Same => name.namespace == *own,
        FromNamespaces::None => false,
        FromNamespaces::Selector(selector) => selects(selector, model, &name.namespace),
    };
    if namespaces {
        Ok(())
    } else {
        Err(format!(
            "allowedRoutes.namespaces of listener \"{}\" does not admit the namespace \"{}\"",
            listener.name, name.namespace
        ))
    }
}

/// The label that every namespace has, with its name as the value.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn selects(selector: &LabelSelector, model: &Model, namespace: &Arc<str>) -> bool {
    let none = BTreeMap::new();
    let labels = model.namespaces.get(namespace).unwrap_or(&none);
    let get = |key: &str| {
        let implied = (key == NAME_LABEL).then_some(&**namespace);
        labels.get(key).map(String::as_str).or(implied)
    };
    selector.selects(get)
}

fn hostnames_meet(work: &ListenerWork<'_>, route: &[Arc<str>]) -> bool {
    // TCP and UDP have no hostnames: a listener's is ignored.
    let without = matches!(work.listener.protocol, Protocol::Tcp | Protocol::Udp);
    let hostname = work.listener.hostname.as_ref().filter(|_| !without);
    match hostname {
        Some(own) if !route.is_empty() => route.iter().any(|name| intersect(own, name)),
        _ => true,
    }
}
