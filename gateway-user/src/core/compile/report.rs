//! The status of Gateways, classes and what is not built, as if applying succeeds.
//!
//! Owns their conditions. Routes' conditions are `routes`'.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::condition::{Problem, no, problem, unless, yes};
use super::gateways::{GatewayWork, Gateways, ListenerId, ListenerWork, Place, refusals};
use super::listeners::local_addresses;
use super::parameters;
use crate::core::host::Host;
use crate::core::model::{CONTROLLER, GATEWAY_GROUP, GroupKind, Model};
use crate::core::status::{GatewayStatus, ListenerStatus, MOST_ADDRESSES, Report, unprogram};

/// Reports on everything but routes.
pub(super) fn report(model: &Model, gateways: &Gateways<'_>, host: &Host, report: &mut Report) {
    for (name, class) in model.classes.iter().filter(|(_, class)| class.controller == CONTROLLER) {
        let refused = if class.refusals.is_empty() {
            parameters::of_class(model, class).err()
        } else {
            Some(problem("InvalidParameters", refusals(&class.refusals)))
        };
        let message = "Gateways of this class are served";
        let accepted = unless(refused.as_ref(), "Accepted", "Accepted", message, class.meta.generation);
        report.classes.insert(name.clone(), vec![accepted]);
    }
    for (at, work) in gateways.list.iter().enumerate() {
        let mut addresses: Vec<IpAddr> = match &work.place {
            _ if !served(work) => Vec::new(),
            Place::Any => local_addresses(&gateways.list, at, host),
            Place::At(list) | Place::On(list) => list.clone(),
        };
        addresses.truncate(MOST_ADDRESSES);
        report.gateways.insert(work.gateway.meta.name.clone(), gateway(work, addresses));
    }
    for (name, set) in &model.listener_sets {
        let why =
            problem("NotAllowed", "ListenerSet is not supported yet (write the listeners into the Gateway)");
        let conditions = vec![no("Accepted", &why, set.meta.generation)];
        report.others.insert(("ListenerSet", name.clone()), conditions);
    }
    for (name, policy) in &model.backend_tls {
        let why = problem(
            "Invalid",
            "BackendTLSPolicy is not supported yet: its targets are not reached at all, and never without TLS",
        );
        let conditions = vec![no("Accepted", &why, policy.meta.generation)];
        report.others.insert(("BackendTLSPolicy", name.clone()), conditions);
    }
    report.notes.extend(gateways.notes.iter().cloned());
    report.notes.extend(parameters::unused(model));
}

/// Takes back Programmed of listeners that are left out of the maps, and of a Gateway that has no other.
pub(super) fn unbound(gateways: &Gateways<'_>, left_out: &BTreeMap<ListenerId, String>, report: &mut Report) {
    for (&(g, l), why) in left_out {
        let Some(status) = report.gateways.get_mut(&gateways.list[g].gateway.meta.name) else { continue };
        let Some(listener) = status.listeners.get_mut(l) else { continue };
        unprogram(&mut listener.conditions, "Pending", why);
        let programmed = |listener: &ListenerStatus| {
            listener.conditions.iter().any(|condition| condition.kind == "Programmed" && condition.status)
        };
        if !status.listeners.iter().any(programmed) {
            unprogram(&mut status.conditions, "NoResources", why);
        }
    }
}

fn served(work: &GatewayWork<'_>) -> bool {
    work.listeners.iter().any(|l| !l.keys.is_empty())
}

fn bad(work: &ListenerWork<'_>) -> bool {
    work.refused.is_some() || work.conflict.is_some()
}

fn gateway(work: &GatewayWork<'_>, addresses: Vec<IpAddr>) -> GatewayStatus {
    let generation = work.gateway.meta.generation;
    let broken = |l: &ListenerWork<'_>| bad(l) || l.lacks_certificate();
    let names = |broken_ones: bool| {
        let names = work.listeners.iter().filter(|l| broken(l) == broken_ones).map(|l| &*l.listener.name);
        names.collect::<Vec<_>>().join(", ")
    };
    let none_served = work.listeners.iter().all(broken);
    let broken = work.listeners.iter().any(broken).then(|| {
        let good = names(false);
        let accepted = if good.is_empty() { "none".to_owned() } else { good };
        format!("listeners not valid: {}; accepted: {accepted}", names(true))
    });
    let none_left = work.listeners.iter().all(bad);
    let accepted = match (&work.refused, broken) {
        (Some(why), _) => no("Accepted", why, generation),
        (None, None) => yes("Accepted", "Accepted", "the Gateway is accepted", generation),
        (None, Some(message)) if none_left => {
            no("Accepted", &problem("ListenersNotValid", message), generation)
        }
        (None, Some(message)) => yes("Accepted", "ListenersNotValid", message, generation),
    };
    let invalid = || problem("Invalid", "the Gateway is not accepted");
    let unprogrammed = if work.refused.is_some() || none_left {
        Some(invalid())
    } else if none_served {
        Some(problem("Invalid", "no listener is served: see what they lack in their conditions"))
    } else {
        work.unplaced.clone()
    };
    let programmed = unless(
        unprogrammed.as_ref(),
        "Programmed",
        "Programmed",
        "the Gateway is served on its addresses",
        generation,
    );
    let listeners = work.listeners.iter().map(|l| listener(work, l, generation)).collect();
    GatewayStatus {
        addresses,
        of_host: matches!(work.place, Place::Any | Place::On(_)),
        conditions: vec![accepted, programmed],
        listeners,
    }
}

fn listener(gateway: &GatewayWork<'_>, work: &ListenerWork<'_>, generation: i64) -> ListenerStatus {
    let not_accepted = work.conflict.as_ref().or(work.refused.as_ref());
    let accepted = unless(not_accepted, "Accepted", "Accepted", "the listener is accepted", generation);
    let conflicted = match &work.conflict {
        Some(why) => yes("Conflicted", why.reason, why.message.clone(), generation),
        None => no("Conflicted", &problem("NoConflicts", "no conflicts"), generation),
    };
    let certificates = work.tls.as_ref().and_then(|tls| tls.problem.as_ref());
    let resolved = unless(
        work.bad_kinds.as_ref().or(certificates),
        "ResolvedRefs",
        "ResolvedRefs",
        "all references are resolved",
        generation,
    );
    let unprogrammed: Option<Problem> = if not_accepted.is_some() {
        Some(problem("Invalid", "the listener is not accepted"))
    } else if gateway.refused.is_some() {
        Some(problem("Invalid", "the Gateway is not accepted"))
    } else if work.lacks_certificate() {
        let why = certificates.map_or("", |why| &*why.message);
        Some(problem("Invalid", format!("there is no certificate to serve with: {why}")))
    } else if work.keys.is_empty() {
        Some(problem("Pending", "the Gateway has no address yet"))
    } else {
        None
    };
    let programmed =
        unless(unprogrammed.as_ref(), "Programmed", "Programmed", "the listener is served", generation);
    // "MUST NOT be set when it is False".
    let overlap = work.tls.as_ref().and_then(|tls| tls.overlap.as_ref()).map(|other| {
        let message =
            format!("listener {other} has some of its names, too: of a connection, the name in its ClientHello decides");
        yes("OverlappingTLSConfig", "OverlappingHostnames", message, generation)
    });
    let mut conditions = vec![accepted, programmed, resolved, conflicted];
    conditions.extend(overlap);
    let kind = |kind: &&str| GroupKind { group: GATEWAY_GROUP.into(), kind: (*kind).into() };
    ListenerStatus {
        name: work.listener.name.clone(),
        supported_kinds: work.kinds.iter().map(kind).collect(),
        attached_routes: work.attached,
        conditions,
    }
}
