//! From a report to the view of it.
//!
//! Owns the times of the conditions' transitions: they are carried from the view before to the next one.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use itertools::Itertools as _;

use super::status::{
    ConditionView, ExternalNameView, GatewayView, LeftOutView, ListenerView, NamedView, ParentRefView,
    ParentView, RouteView, StatusView,
};
use crate::core::model::{CONTROLLER, Gateway, Listener, Model, ObjectName, ParentRef, Protocol};
use crate::core::status::{Condition, ExternalName, GatewayStatus, ListenerStatus, ParentStatus, Report};

/// Whether a condition says that something is not as it should be.
#[must_use]
pub fn negative(condition: &ConditionView) -> bool {
    let bad_when = match &*condition.kind {
        "Conflicted" | "PartiallyInvalid" | "OverlappingTLSConfig" => "True",
        _ => "False",
    };
    condition.status == bad_when
}

/// What was shown before.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The view.
    pub view: &'a StatusView,
    /// What it was made of.
    pub report: &'a Report,
    /// The time of now, RFC 3339.
    pub now: &'a str,
}

impl StatusView {
    /// What a report says, in words for the outside. `model` is what the report was compiled from. Conditions keep the time
    /// of their transition from `before`, and routes of which the report says what it said stay the very same; without it no
    /// times are told.
    #[must_use]
    pub fn new(report: &Report, model: &Model, before: Option<Before<'_>>) -> Self {
        let times = Times::new(before);
        let named = |kind: &str, namespace: &str, name: &str, conditions: &[Condition]| NamedView {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            conditions: times.views(Place { kind, namespace, name, part: Part::Whole }, conditions),
        };
        Self {
            agent: None,
            gateway_classes: report
                .classes
                .iter()
                .map(|(name, conditions)| named("GatewayClass", "", name, conditions))
                .collect(),
            gateways: report
                .gateways
                .iter()
                .map(|(name, status)| gateway(name, status, model.gateways.get(name), &times))
                .collect(),
            routes: routes(report, before),
            others: report
                .others
                .iter()
                .map(|((kind, name), conditions)| named(kind, &name.namespace, &name.name, conditions))
                .collect(),
            external_names: report.external.iter().map(external_name).collect(),
            notes: report.notes.clone(),
        }
    }

    /// Every condition, with what it is about.
    pub fn conditions(&self) -> impl Iterator<Item = (Place<'_>, &ConditionView)> {
        self.conditions_but(|_| false)
    }

    /// The same without those of some routes.
    pub fn conditions_but(
        &self,
        without: impl Fn(&Arc<RouteView>) -> bool,
    ) -> impl Iterator<Item = (Place<'_>, &ConditionView)> {
        let routes = self.routes.iter().filter(move |route| !without(route)).map(|route| &**route);
        let parents = routes.flat_map(|route| {
            let RouteView { kind, namespace, name, parents } = route;
            let place = move |parent| Place { kind, namespace, name, part: Part::Parent(parent) };
            parents.iter().map(move |parent| (place(&parent.parent_ref), &*parent.conditions))
        });
        let all = self.few().chain(parents);
        all.flat_map(|(place, conditions)| conditions.iter().map(move |condition| (place, condition)))
    }

    /// What has conditions but for the routes, of which there may be thousands.
    fn few(&self) -> impl Iterator<Item = (Place<'_>, &[ConditionView])> {
        let named = self.gateway_classes.iter().chain(&self.others);
        let named = named.map(|NamedView { kind, namespace, name, conditions }| {
            (Place { kind, namespace, name, part: Part::Whole }, &**conditions)
        });
        let gateways = self.gateways.iter().flat_map(|gateway| {
            let GatewayView { namespace, name, listeners, conditions, .. } = gateway;
            let place = move |part| Place { kind: "Gateway", namespace, name, part };
            let of = listeners.iter().map(move |l| (place(Part::Listener(&l.name)), &*l.conditions));
            of.chain([(place(Part::Whole), &**conditions)])
        });
        named.chain(gateways)
    }
}

/// What a condition is about; in words `Gateway default/web listener http`.
#[derive(Clone, Copy, Debug)]
pub struct Place<'v> {
    /// Kind of the object.
    pub kind: &'v str,
    /// Its namespace; empty for a kind without one.
    pub namespace: &'v str,
    /// Its name.
    pub name: &'v str,
    /// What of it.
    pub part: Part<'v>,
}

/// What of an object a condition is about.
#[derive(Clone, Copy, Debug)]
pub enum Part<'v> {
    /// All of it.
    Whole,
    /// A listener of a Gateway.
    Listener(&'v str),
    /// A route, for one of its parents.
    Parent(&'v ParentRefView),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, part } = self;
        let slash = if namespace.is_empty() { "" } else { "/" };
        write!(f, "{kind} {namespace}{slash}{name}")?;
        match part {
            Part::Whole => Ok(()),
            Part::Listener(name) => write!(f, " listener {name}"),
            Part::Parent(parent) => write!(f, " parent {parent}"),
        }
    }
}

/// When conditions of all but routes changed their status.
struct Times<'a> {
    /// Those of the view before, by place.
    known: HashMap<String, &'a [ConditionView]>,
    /// `None`: times are not told.
    now: Option<&'a str>,
}

impl<'a> Times<'a> {
    fn new(before: Option<Before<'a>>) -> Self {
        let known = before.into_iter().flat_map(|before| before.view.few());
        let known = known.map(|(place, conditions)| (place.to_string(), conditions)).collect();
        Self { known, now: before.map(|before| before.now) }
    }

    fn views(&self, place: Place<'_>, conditions: &[Condition]) -> Vec<ConditionView> {
        let before = if self.known.is_empty() { None } else { self.known.get(&place.to_string()) };
        views(conditions, before.copied().unwrap_or_default(), self.now)
    }
}

/// Conditions, with the time of their transition: now, unless they were there before.
fn views(conditions: &[Condition], before: &[ConditionView], now: Option<&str>) -> Vec<ConditionView> {
    let view = |c: &Condition| {
        let status = if c.status { "True" } else { "False" };
        let same = |other: &&ConditionView| other.kind == c.kind && other.status == status;
        let since = before.iter().find(same).and_then(|same| same.last_transition_time.as_deref());
        ConditionView {
            kind: c.kind.into(),
            status: status.into(),
            reason: c.reason.into(),
            message: c.message.clone(),
            observed_generation: c.observed_generation,
            last_transition_time: now.map(|now| since.unwrap_or(now).to_owned()),
        }
    };
    conditions.iter().map(view).collect()
}

/// The routes: both reports have them in the same order, and views have that of their report.
fn routes(report: &Report, before: Option<Before<'_>>) -> Vec<Arc<RouteView>> {
    let known = before.into_iter().flat_map(|before| before.report.routes.iter().zip(&before.view.routes));
    let mut views = Vec::with_capacity(report.routes.len());
    for pair in known.merge_join_by(&report.routes, |((a, _), _), (b, _)| a.cmp(b)) {
        let (known, now) = pair.left_and_right();
        let Some(((kind, name), entries)) = now else { continue };
        if let Some((_, view)) = known.filter(|((_, other), _)| Arc::ptr_eq(other, entries)) {
            views.push(Arc::clone(view));
            continue;
        }
        let known = known.map_or(&[][..], |(_, view)| &view.parents);
        let parent = |entry| parent(name, entry, known, before.map(|before| before.now));
        views.push(Arc::new(RouteView {
            kind: (*kind).to_owned(),
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            parents: entries.iter().map(parent).collect(),
        }));
    }
    views
}

fn gateway(
    name: &ObjectName,
    status: &GatewayStatus,
    spec: Option<&Gateway>,
    times: &Times<'_>,
) -> GatewayView {
    let place = |part| Place { kind: "Gateway", namespace: &name.namespace, name: &name.name, part };
    let listeners = status.listeners.iter().map(|l| {
        let spec = spec.and_then(|g| g.listeners.iter().find(|s| s.name == l.name));
        listener(l, spec, times.views(place(Part::Listener(&l.name)), &l.conditions))
    });
    GatewayView {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        class: spec.map(|g| g.class.clone()).unwrap_or_default(),
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        conditions: times.views(place(Part::Whole), &status.conditions),
        listeners: listeners.collect(),
    }
}

fn listener(
    status: &ListenerStatus,
    spec: Option<&Listener>,
    conditions: Vec<ConditionView>,
) -> ListenerView {
    ListenerView {
        name: status.name.to_string(),
        port: spec.map_or(0, |s| s.port),
        protocol: spec.map(|s| protocol(&s.protocol).to_owned()).unwrap_or_default(),
        hostname: spec.and_then(|s| s.hostname.as_deref()).unwrap_or_default().to_owned(),
        supported_kinds: status.supported_kinds.iter().map(|k| k.kind.clone()).collect(),
        attached_routes: status.attached_routes,
        conditions,
    }
}

fn external_name((service, external): (&ObjectName, &ExternalName)) -> ExternalNameView {
    let left_out =
        |(ip, why): &(IpAddr, String)| LeftOutView { address: ip.to_string(), reason: why.clone() };
    ExternalNameView {
        namespace: service.namespace.to_string(),
        name: service.name.to_string(),
        external_name: external.name.to_string(),
        addresses: external.addresses.iter().map(ToString::to_string).collect(),
        left_out: external.left_out.iter().map(left_out).collect(),
        problem: external.problem.clone(),
    }
}

fn protocol(protocol: &Protocol) -> &str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Https => "HTTPS",
        Protocol::Tls => "TLS",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Other(name) => name,
    }
}

fn parent(name: &ObjectName, status: &ParentStatus, known: &[ParentView], now: Option<&str>) -> ParentView {
    let ParentRef { kind, namespace, name: parent, section, port } = &status.parent;
    let parent_ref = ParentRefView {
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        namespace: namespace.as_deref().unwrap_or(&name.namespace).to_owned(),
        name: parent.to_string(),
        section_name: section.as_deref().map(str::to_owned),
        port: *port,
    };
    let known = known.iter().find(|known| known.parent_ref == parent_ref);
    let conditions = views(&status.conditions, known.map_or(&[], |known| &known.conditions), now);
    ParentView { parent_ref, controller_name: CONTROLLER.to_owned(), conditions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::GroupKind;

    fn report(programmed: bool, extra: bool) -> Report {
        let condition = |kind, status| Condition {
            kind,
            status,
            reason: "Because",
            message: "words".to_owned(),
            observed_generation: 1,
        };
        let mut conditions = vec![condition("Accepted", true), condition("Programmed", programmed)];
        if extra {
            conditions.push(condition("ResolvedRefs", true));
        }
        let gateway = GatewayStatus { conditions, ..GatewayStatus::default() };
        Report { gateways: [(ObjectName::new("default", "web"), gateway)].into(), ..Report::default() }
    }

    fn times(view: &StatusView) -> Vec<(String, String)> {
        let time = |c: &ConditionView| c.last_transition_time.clone().unwrap_or_default();
        view.conditions().map(|(_, c)| (c.kind.to_string(), time(c))).collect()
    }

    #[test]
    fn a_transition_time_moves_with_the_status_alone() {
        let (model, none) = (Model::default(), (StatusView::default(), Report::default()));
        let new = |report: &Report, (view, of): &(StatusView, Report), now| {
            StatusView::new(report, &model, Some(Before { view, report: of, now }))
        };
        let first = new(&report(true, false), &none, "t1");
        assert_eq!(times(&first), [("Accepted".into(), "t1".into()), ("Programmed".into(), "t1".into())]);
        let same = new(&report(true, false), &(first.clone(), report(true, false)), "t2");
        assert_eq!(same, first);
        let failed = new(&report(false, true), &(same, report(true, false)), "t3");
        assert_eq!(
            times(&failed),
            [
                ("Accepted".into(), "t1".into()),
                ("Programmed".into(), "t3".into()),
                ("ResolvedRefs".into(), "t3".into()),
            ]
        );
    }

    #[test]
    fn a_route_of_which_the_same_is_said_stays_the_very_same() {
        let said = |accepted| -> Arc<[ParentStatus]> {
            let parent = |name: &str| ParentRef {
                kind: GroupKind { group: "g".to_owned(), kind: "Gateway".to_owned() },
                namespace: None,
                name: name.into(),
                section: None,
                port: None,
            };
            let condition = |status| Condition {
                kind: "Accepted",
                status,
                reason: "Because",
                message: "words".to_owned(),
                observed_generation: 1,
            };
            let entry = |name, status| ParentStatus {
                ours: true,
                parent: parent(name),
                conditions: vec![condition(status)],
            };
            [entry("always", true), entry("now", accepted)].into()
        };
        let of = |routes: &[(&str, &Arc<[ParentStatus]>)]| {
            let key = |name: &str| ("HTTPRoute", ObjectName::new("default", name));
            let routes = routes.iter().map(|(name, entries)| (key(name), Arc::clone(entries)));
            Report { routes: routes.collect(), ..Report::default() }
        };
        let (stays, good, bad) = (said(true), said(true), said(false));
        let model = Model::default();
        let before = of(&[("b", &stays), ("c", &good), ("d", &stays), ("f", &stays)]);
        let none = Before { view: &StatusView::default(), report: &Report::default(), now: "t1" };
        let first = StatusView::new(&before, &model, Some(none));
        let after = of(&[("a", &good), ("b", &stays), ("c", &bad), ("e", &good), ("f", &stays)]);
        let second =
            StatusView::new(&after, &model, Some(Before { view: &first, report: &before, now: "t2" }));
        let routes = second.routes.iter().map(|route| {
            let stays = first.routes.iter().any(|other| Arc::ptr_eq(other, route));
            let time = |parent: &ParentView| parent.conditions[0].last_transition_time.clone().unwrap();
            let times: Vec<_> = route.parents.iter().map(time).collect();
            format!("{} {stays} {}", route.name, times.join(" "))
        });
        let routes: Vec<_> = routes.collect();
        assert_eq!(
            routes,
            ["a false t2 t2", "b true t1 t1", "c false t1 t2", "e false t2 t2", "f true t1 t1"]
        );
    }

    #[test]
    fn without_an_agent_there_are_no_times() {
        let view = StatusView::new(&report(true, false), &Model::default(), None);
        assert!(view.conditions().all(|(_, c)| c.last_transition_time.is_none()));
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(
            json["gateways"][0]["conditions"][0],
            serde_json::json!({
                "type": "Accepted", "status": "True", "reason": "Because", "message": "words",
                "observedGeneration": 1
            })
        );
        assert_eq!(serde_json::from_value::<StatusView>(json).unwrap(), view);
    }

    #[test]
    fn what_is_negative_depends_on_the_type() {
        for (kind, status, bad) in [
            ("Accepted", "True", false),
            ("Accepted", "False", true),
            ("Conflicted", "True", true),
            ("Conflicted", "False", false),
            ("PartiallyInvalid", "True", true),
        ] {
            let condition =
                ConditionView { kind: kind.into(), status: status.into(), ..ConditionView::default() };
            assert_eq!(negative(&condition), bad, "{kind}={status}");
        }
    }
}
