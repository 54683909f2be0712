//! Routes of every kind: attached, compiled, reported.
//!
//! Owns the order of routes and their conditions.

use super::attach::{Attachment, RouteView, attach};
use super::backends::Resolver;
use super::condition::{Problem, join, no, problem, unless, yes};
use super::gateways::{Gateways, ListenerId, age};
use super::http::Tables;
use super::l4::Services;
use super::listeners::HTTP_ROUTE;
use crate::core::model::{Meta, Model, ObjectName};
use crate::core::status::{ParentStatus, Report};

/// What a route's conditions say beside its attachment.
struct Findings {
    /// Why it is not accepted although it is attached.
    refused: Option<Problem>,
    /// Rules that were dropped while others serve.
    dropped: Option<String>,
    /// The message of Accepted=True.
    accepted: String,
    /// References that were not resolved.
    unresolved: Option<Problem>,
}

type Statuses = Vec<((&'static str, ObjectName), Vec<ParentStatus>)>;

/// HTTPRoutes into the tables.
pub(super) fn http<'m>(
    model: &'m Model,
    gateways: &mut Gateways<'m>,
    resolver: &mut Resolver<'m>,
    tables: &mut Tables<'_>,
    report: &mut Report,
) {
    let mut routes: Vec<_> = model.http_routes.values().map(|route| &**route).collect();
    routes.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    let mut statuses: Statuses = Vec::with_capacity(routes.len());
    for route in routes {
        let view = RouteView {
            kind: HTTP_ROUTE,
            meta: &route.meta,
            parents: &route.parents,
            hostnames: &route.hostnames,
        };
        let attachments = attach(model, gateways, &view, &mut report.notes);
        let listeners = each_once(&attachments);
        let outcome = tables.add(gateways, resolver, route, &listeners);
        let refused = (!outcome.refused.is_empty()).then(|| join(&outcome.refused));
        let mut findings = Findings {
            refused: None,
            dropped: None,
            accepted: "the route is accepted".to_owned(),
            unresolved: unresolved(&outcome.backends),
        };
        if outcome.all_refused {
            findings.refused = refused.map(|message| problem("UnsupportedValue", message));
        } else {
            findings.dropped = refused;
        }
        if findings.refused.is_none() {
            count(gateways, &listeners);
        }
        let entries = conditions(&attachments, &findings, &route.meta);
        statuses.push(((HTTP_ROUTE, route.meta.name.clone()), entries));
    }
    // A map that is made at once is made in a fraction of the time.
    report.routes.append(&mut statuses.into_iter().collect());
}

/// TCPRoutes and UDPRoutes into services.
pub(super) fn l4<'m>(
    model: &'m Model,
    gateways: &mut Gateways<'m>,
    resolver: &mut Resolver<'m>,
    services: &mut Services<'m>,
    report: &mut Report,
) {
    let mut routes: Vec<_> = model.l4_routes.values().collect();
    routes.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    for route in routes {
        let kind = route.transport.route();
        let view = RouteView { kind, meta: &route.meta, parents: &route.parents, hostnames: &[] };
        let attachments = attach(model, gateways, &view, &mut report.notes);
        let listeners = each_once(&attachments);
        let outcome = services.add(gateways, resolver, route, &listeners);
        let mut accepted = "the route is accepted".to_owned();
        if let Some((listener, older)) = outcome.superseded.first() {
            let all = if outcome.serves == 0 { "gets no traffic" } else { "does not serve every listener" };
            accepted = format!(
                "the route is accepted, but {all}: the older {kind} {older} serves listener {listener} (remove one of the two)"
            );
        }
        let findings = Findings {
            refused: (!outcome.refused.is_empty())
                .then(|| problem("UnsupportedValue", join(&outcome.refused))),
            dropped: None,
            accepted,
            unresolved: unresolved(&outcome.backends),
        };
        if findings.refused.is_none() {
            count(gateways, &listeners);
        }
        let entries = conditions(&attachments, &findings, &route.meta);
        report.routes.insert((kind, route.meta.name.clone()), entries);
    }
}

/// Routes of kinds that are not built: refused.
pub(super) fn unbuilt(model: &Model, gateways: &Gateways<'_>, report: &mut Report) {
    for ((kind, name), route) in &model.unbuilt_routes {
        let view = RouteView { kind, meta: &route.meta, parents: &route.parents, hostnames: &[] };
        let attachments = attach(model, gateways, &view, &mut report.notes);
        let why =
            problem("NotAllowedByListeners", format!("{kind} is not supported yet: no listener takes it"));
        let entry = |attachment: &Attachment<'_>| {
            let missing = attachment.to.as_ref().err().filter(|p| p.reason == "NoMatchingParent");
            ParentStatus {
                ours: attachment.ours,
                parent: attachment.parent.clone(),
                conditions: vec![no("Accepted", missing.unwrap_or(&why), route.meta.generation)],
            }
        };
        report.routes.insert((*kind, name.clone()), attachments.iter().map(entry).collect());
    }
}

/// The listeners of all attachments, each once.
fn each_once(attachments: &[Attachment<'_>]) -> Vec<ListenerId> {
    let mut list: Vec<ListenerId> =
        attachments.iter().filter_map(|a| a.to.as_ref().ok()).flatten().copied().collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn count(gateways: &mut Gateways<'_>, listeners: &[ListenerId]) {
    for &(g, l) in listeners {
        gateways.list[g].listeners[l].attached += 1;
    }
}

fn unresolved(backends: &[(String, Problem)]) -> Option<Problem> {
    let (_, first) = backends.first()?;
    let messages: Vec<String> =
        backends.iter().map(|(place, problem)| format!("{place}: {}", problem.message)).collect();
    Some(problem(first.reason, join(&messages)))
}

fn conditions(attachments: &[Attachment<'_>], findings: &Findings, meta: &Meta) -> Vec<ParentStatus> {
    let generation = meta.generation;
    let entry = |attachment: &Attachment<'_>| {
        let refused = attachment.to.as_ref().err().or(findings.refused.as_ref());
        let mut conditions = Vec::with_capacity(3);
        conditions.push(unless(refused, "Accepted", "Accepted", &findings.accepted, generation));
        if attachment.ours {
            let unresolved = findings.unresolved.as_ref();
            let message = "all references are resolved";
            conditions.push(unless(unresolved, "ResolvedRefs", "ResolvedRefs", message, generation));
        }
        if let (None, Some(dropped)) = (refused, &findings.dropped) {
            let message = format!("Dropped Rule: {dropped} (what it matches is answered with 500)");
            conditions.push(yes("PartiallyInvalid", "UnsupportedValue", message, generation));
        }
        ParentStatus { ours: attachment.ours, parent: attachment.parent.clone(), conditions }
    };
    attachments.iter().map(entry).collect()
}
