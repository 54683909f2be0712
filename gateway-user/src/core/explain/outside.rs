//! Routes that are in no table of a binding, and listeners that are not served: why, as their conditions say.
//!
//! Owns which of them are worth a word: those that ask for a Gateway of the binding, and those that ask for none that
//! there is.

use std::sync::Arc;

use super::{Lost, Scene, Why, listener};
use crate::core::compile::{HTTP_ROUTE, RouteView, attached_to, transport as of};
use crate::core::model::{Model, ObjectName};
use crate::core::status::{Condition, Report};
use crate::core::transport::Transport;

/// Routes outside of a binding whose listeners have these labels, the one that matters most first. `unserved` names
/// the rules of an attached route that are not served.
pub(super) fn outside(
    scene: &Scene<'_>,
    kind: &'static str,
    labels: &[&str],
    unserved: impl Fn(&ObjectName) -> Vec<Arc<str>>,
) -> Vec<Lost> {
    let mut all = Vec::new();
    for route in views(scene.model, kind) {
        let name = &route.meta.name;
        let lost = |rule, why, message| Lost {
            kind: route.kind,
            route: name.clone(),
            rule,
            listener: None,
            matched: None,
            why,
            message,
        };
        let mut not_attached = None;
        let mut attached = false;
        for label in labels {
            let (gateway, listener) = listener(label);
            match attached_to(scene.model, &route, &gateway, listener) {
                None => {}
                Some(Ok(())) => attached = true,
                Some(Err(why)) => {
                    not_attached.get_or_insert_with(|| format!("not attached to listener {label}: {why}"));
                }
            }
        }
        let said = negative(scene.report, route.kind, name);
        if attached {
            let why = said.unwrap_or_else(|| "its matches cannot be made".to_owned());
            all.extend(unserved(name).into_iter().map(|rule| lost(Some(rule), Why::NotServed, why.clone())));
        } else if let Some(why) = not_attached {
            all.push(lost(None, Why::NotAttached, why));
        } else if let Some(why) = nowhere(scene.report, route.kind, name) {
            all.push(lost(None, Why::NotAttached, why));
        }
    }
    all
}

/// The routes of a kind, and those of kinds that are not built.
fn views<'m>(model: &'m Model, kind: &'static str) -> Vec<RouteView<'m>> {
    let mut views: Vec<RouteView<'m>> = Vec::new();
    if kind == HTTP_ROUTE {
        views.extend(model.http_routes.values().map(|route| RouteView {
            kind: HTTP_ROUTE,
            meta: &route.meta,
            parents: &route.parents,
            hostnames: &route.hostnames,
        }));
    } else {
        views.extend(model.l4_routes.values().filter(|route| route.transport.route() == kind).map(l4_view));
    }
    views.extend(model.unbuilt_routes.iter().map(|((kind, _), route)| RouteView {
        kind,
        meta: &route.meta,
        parents: &route.parents,
        hostnames: &[],
    }));
    views
}

/// A TCPRoute or UDPRoute as attachment sees it.
pub(super) fn l4_view(route: &crate::core::model::L4Route) -> RouteView<'_> {
    RouteView { kind: route.transport.route(), meta: &route.meta, parents: &route.parents, hostnames: &[] }
}

fn is_negative(condition: &Condition) -> bool {
    condition.status == matches!(condition.kind, "Conflicted" | "PartiallyInvalid")
}

/// The first thing that a route's conditions say is not as it should be.
pub(super) fn negative(report: &Report, kind: &'static str, name: &ObjectName) -> Option<String> {
    let parents = report.routes.get(&(kind, name.clone()))?;
    let bad = parents.iter().flat_map(|parent| &parent.conditions).find(|c| is_negative(c))?;
    Some(format!("{}={}: {}", bad.kind, if bad.status { "True" } else { "False" }, bad.message))
}

/// Why a route is attached to nothing of ours; `None` if a Gateway of ours is among its parents.
fn nowhere(report: &Report, kind: &'static str, name: &ObjectName) -> Option<String> {
    let parents = report.routes.get(&(kind, name.clone()))?;
    if parents.iter().any(|parent| parent.ours) {
        return None;
    }
    parents.iter().flat_map(|parent| &parent.conditions).find(|c| is_negative(c)).map(|c| c.message.clone())
}

/// Listeners of a port that are served nowhere: label, and why.
#[must_use]
pub fn unserved_listeners(scene: &Scene<'_>, transport: Transport, port: u16) -> Vec<(String, String)> {
    let served: Vec<&str> = scene.snapshot.bindings.values().flat_map(|b| b.label.split(',')).collect();
    let mut all = Vec::new();
    for (name, gateway) in &scene.model.gateways {
        for listener in gateway.listeners.iter().filter(|l| l.port == port && of(l) == transport) {
            let label = format!("{name}/{}", listener.name);
            let why = match scene.report.gateways.get(name) {
                None => "the Gateway's class is not ours".to_owned(),
                Some(status) => {
                    let own = status.listeners.iter().find(|l| l.name == listener.name);
                    let conditions = own.into_iter().flat_map(|l| &l.conditions).chain(&status.conditions);
                    match conditions.into_iter().find(|c| is_negative(c)) {
                        Some(bad) => format!("{} ({}): {}", bad.kind, bad.reason, bad.message),
                        None if served.contains(&&*label) => continue,
                        None => "it is not served".to_owned(),
                    }
                }
            };
            all.push((label, why));
        }
    }
    all
}
