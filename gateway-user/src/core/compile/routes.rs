//! Routes of every kind: attached, compiled, reported.
//!
//! Owns the order of routes and their conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use itertools::Itertools as _;

use super::attach::{Attachment, RouteView, attach};
use super::backends::Resolver;
use super::condition::{Problem, join, no, problem, unless, yes};
use super::gateways::{Gateways, ListenerId, age};
use super::http::{Finished, Tables};
use super::kept::{Kept, KeptRoute};
use super::l4::Services;
use super::listeners::HTTP_ROUTE;
use crate::core::model::{HttpRoute, Meta, Model, ObjectName};

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

/// An HTTPRoute to be compiled into tables that are made anew.
struct Work<'m> {
    route: &'m Arc<HttpRoute>,
    listeners: Arc<[ListenerId]>,
    /// What it is attached to, and what was noted of that; `None`: it is what it was, and only shares a table with one that
    /// is not.
    attached: Option<(Vec<Attachment<'m>>, Vec<String>)>,
}

/// HTTPRoutes into tables. What `before` has stays as it is, and so do tables none of whose routes has changed.
pub(super) fn http<'m>(
    model: &'m Model,
    gateways: &mut Gateways<'m>,
    resolver: &mut Resolver<'m>,
    before: &Kept,
    report: &mut Report,
) -> (Finished, BTreeMap<ObjectName, KeptRoute>) {
    let (patterns, none) = (&before.patterns, Kept::default());
    let before = if before.fits(model, gateways) { before } else { &none };
    let mut kept = Vec::with_capacity(model.http_routes.len());
    let mut work = Vec::new();
    let mut stale = BTreeSet::new();
    for pair in before.routes.iter().merge_join_by(&model.http_routes, |(a, _), (b, _)| a.cmp(b)) {
        let (known, now) = pair.map_any(|(_, known)| known, |(_, route)| route).left_and_right();
        let Some(route) = now else {
            stale.extend(known.iter().flat_map(|known| known.listeners.iter().copied()));
            continue;
        };
        if let Some(known) = known.filter(|known| known.route == *route) {
            let mut known = known.clone();
            // The same by its address from now on, if it was so by its words alone.
            known.route.clone_from(route);
            kept.push((route, known));
            continue;
        }
        let mut notes = Vec::new();
        let attachments = attach(model, gateways, &view_of(route), &mut notes);
        let listeners: Arc<[ListenerId]> = each_once(&attachments).into();
        stale.extend(listeners.iter().chain(known.iter().flat_map(|known| known.listeners.iter())).copied());
        work.push(Work { route, listeners, attached: Some((attachments, notes)) });
    }
    if !stale.is_empty() {
        let shared = kept.iter().filter(|(_, known)| known.listeners.iter().any(|l| stale.contains(l)));
        work.extend(shared.map(|&(route, ref known)| Work {
            route,
            listeners: known.listeners.clone(),
            attached: None,
        }));
    }
    work.sort_by(|a, b| age(&a.route.meta).cmp(&age(&b.route.meta)));
    let stays = |id| before.tables.get(&id).filter(|_| !stale.contains(&id)).cloned();
    let mut tables = Tables::new(gateways, patterns, stays);
    for Work { route, listeners, attached } in work {
        let outcome = tables.add(gateways, resolver, route, &listeners);
        let Some((attachments, notes)) = attached else { continue };
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
        let known = KeptRoute {
            route: Arc::clone(route),
            listeners,
            counts: findings.refused.is_none(),
            entries: conditions(&attachments, &findings, &route.meta).into(),
            notes: notes.into(),
            patterns: outcome.patterns.into(),
        };
        kept.push((route, known));
    }
    // A map that is made at once is made in a fraction of the time.
    let kept: BTreeMap<_, _> =
        kept.into_iter().map(|(route, known)| (route.meta.name.clone(), known)).collect();
    for known in kept.values().filter(|known| known.counts) {
        count(gateways, &known.listeners);
    }
    let mut noted: Vec<_> = kept.values().filter(|known| !known.notes.is_empty()).collect();
    noted.sort_by(|a, b| age(&a.route.meta).cmp(&age(&b.route.meta)));
    report.notes.extend(noted.into_iter().flat_map(|known| known.notes.iter().cloned()));
    let entries = kept.iter().map(|(name, known)| ((HTTP_ROUTE, name.clone()), known.entries.clone()));
    report.routes.append(&mut entries.collect());
    let mut finished = tables.finish();
    let used = kept.values().flat_map(|known| known.patterns.iter());
    finished.patterns = finished.patterns.of(patterns, used);
    (finished, kept)
}

fn view_of(route: &HttpRoute) -> RouteView<'_> {
    RouteView { kind: HTTP_ROUTE, meta: &route.meta, parents: &route.parents, hostnames: &route.hostnames }
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
        report.routes.insert((kind, route.meta.name.clone()), entries.into());
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
