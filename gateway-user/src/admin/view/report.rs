//! From a report to the view of it.
//!
//! Owns the times of the conditions' transitions: they are carried from the view before to the next one.

use std::collections::HashMap;
use std::net::IpAddr;

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

impl StatusView {
    /// What a report says, in words for the outside. `model` is what the report was compiled from; `times` are the
    /// view before and the time of now, RFC 3339, for the conditions' transitions.
    #[must_use]
    pub fn new(report: &Report, model: &Model, times: Option<(&Self, &str)>) -> Self {
        let times = Times::new(times);
        let named = |kind: &str, namespace: &str, name: &str, conditions: &[Condition]| NamedView {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            conditions: times.views(|| place_of(kind, namespace, name), conditions),
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
            routes: report
                .routes
                .iter()
                .map(|((kind, name), parents)| RouteView {
                    kind: (*kind).to_owned(),
                    namespace: name.namespace.to_string(),
                    name: name.name.to_string(),
                    parents: parents.iter().map(|p| parent((kind, name), p, &times)).collect(),
                })
                .collect(),
            others: report
                .others
                .iter()
                .map(|((kind, name), conditions)| named(kind, &name.namespace, &name.name, conditions))
                .collect(),
            external_names: report.external.iter().map(external_name).collect(),
            notes: report.notes.clone(),
        }
    }

    /// Every condition, with what it is about: `Gateway default/web listener http`.
    pub fn conditions(&self) -> impl Iterator<Item = (String, &ConditionView)> {
        self.holders().flat_map(|(place, conditions)| conditions.iter().map(move |c| (place.clone(), c)))
    }

    /// Whatever has conditions.
    fn holders(&self) -> impl Iterator<Item = (String, &[ConditionView])> {
        let named = self.gateway_classes.iter().chain(&self.others);
        let named = named.map(|n| (place_of(&n.kind, &n.namespace, &n.name), &*n.conditions));
        let gateways = self.gateways.iter().flat_map(|gateway| {
            let place = place_of("Gateway", &gateway.namespace, &gateway.name);
            let listeners = gateway.listeners.iter();
            let of = listeners.map(|listener| (listener_of(&place, &listener.name), &*listener.conditions));
            of.chain([(place.clone(), &*gateway.conditions)]).collect::<Vec<_>>()
        });
        let routes = self.routes.iter().flat_map(|route| {
            route.parents.iter().map(|parent| {
                let place = place_of(&route.kind, &route.namespace, &route.name);
                (parent_of(&place, &parent.parent_ref), &*parent.conditions)
            })
        });
        named.chain(gateways).chain(routes)
    }
}

fn place_of(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

fn listener_of(gateway: &str, name: &str) -> String {
    format!("{gateway} listener {name}")
}

fn parent_of(route: &str, parent: &ParentRefView) -> String {
    format!("{route} parent {parent}")
}

/// When conditions changed their status.
struct Times<'a> {
    /// Those of the view before, by place.
    known: HashMap<String, &'a [ConditionView]>,
    /// `None`: times are not told.
    now: Option<&'a str>,
}

impl<'a> Times<'a> {
    fn new(times: Option<(&'a StatusView, &'a str)>) -> Self {
        let known = times.map(|(before, _)| before.holders().collect()).unwrap_or_default();
        Self { known, now: times.map(|(_, now)| now) }
    }

    fn views(&self, place: impl FnOnce() -> String, conditions: &[Condition]) -> Vec<ConditionView> {
        let before = if self.known.is_empty() { None } else { self.known.get(&place()) };
        let view = |c: &Condition| {
            let status = if c.status { "True" } else { "False" };
            let same = |other: &&ConditionView| other.kind == c.kind && other.status == status;
            let since = before.and_then(|all| all.iter().find(same)?.last_transition_time.as_deref());
            ConditionView {
                kind: c.kind.into(),
                status: status.into(),
                reason: c.reason.into(),
                message: c.message.clone(),
                observed_generation: c.observed_generation,
                last_transition_time: self.now.map(|now| since.unwrap_or(now).to_owned()),
            }
        };
        conditions.iter().map(view).collect()
    }
}

fn gateway(
    name: &ObjectName,
    status: &GatewayStatus,
    spec: Option<&Gateway>,
    times: &Times<'_>,
) -> GatewayView {
    let place = || place_of("Gateway", &name.namespace, &name.name);
    GatewayView {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        class: spec.map(|g| g.class.clone()).unwrap_or_default(),
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        conditions: times.views(place, &status.conditions),
        listeners: status
            .listeners
            .iter()
            .map(|l| {
                let spec = spec.and_then(|g| g.listeners.iter().find(|s| s.name == l.name));
                listener(l, spec, times.views(|| listener_of(&place(), &l.name), &l.conditions))
            })
            .collect(),
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

fn parent((of, name): (&str, &ObjectName), status: &ParentStatus, times: &Times<'_>) -> ParentView {
    let ParentRef { kind, namespace, name: parent, section, port } = &status.parent;
    let parent_ref = ParentRefView {
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        namespace: namespace.as_deref().unwrap_or(&name.namespace).to_owned(),
        name: parent.to_string(),
        section_name: section.as_deref().map(str::to_owned),
        port: *port,
    };
    let place = || parent_of(&place_of(of, &name.namespace, &name.name), &parent_ref);
    let conditions = times.views(place, &status.conditions);
    ParentView { parent_ref, controller_name: CONTROLLER.to_owned(), conditions }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let model = Model::default();
        let first = StatusView::new(&report(true, false), &model, Some((&StatusView::default(), "t1")));
        assert_eq!(times(&first), [("Accepted".into(), "t1".into()), ("Programmed".into(), "t1".into())]);
        let same = StatusView::new(&report(true, false), &model, Some((&first, "t2")));
        assert_eq!(same, first);
        let failed = StatusView::new(&report(false, true), &model, Some((&same, "t3")));
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
