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
        let mut view = Self {
            agent: None,
            gateway_classes: report
                .classes
                .iter()
                .map(|(name, conditions)| NamedView {
                    kind: "GatewayClass".to_owned(),
                    namespace: String::new(),
                    name: name.to_string(),
                    conditions: views(conditions),
                })
                .collect(),
            gateways: report
                .gateways
                .iter()
                .map(|(name, status)| gateway(name, status, model.gateways.get(name)))
                .collect(),
            routes: report
                .routes
                .iter()
                .map(|((kind, name), parents)| RouteView {
                    kind: (*kind).to_owned(),
                    namespace: name.namespace.to_string(),
                    name: name.name.to_string(),
                    parents: parents.iter().map(|p| parent(&name.namespace, p)).collect(),
                })
                .collect(),
            others: report
                .others
                .iter()
                .map(|((kind, name), conditions)| NamedView {
                    kind: (*kind).to_owned(),
                    namespace: name.namespace.to_string(),
                    name: name.name.to_string(),
                    conditions: views(conditions),
                })
                .collect(),
            external_names: report.external.iter().map(external_name).collect(),
            notes: report.notes.clone(),
        };
        if let Some((before, now)) = times {
            let known: HashMap<_, _> = before
                .conditions()
                .into_iter()
                .filter_map(|(place, c)| {
                    Some(((place, c.kind.clone()), (c.status.clone(), c.last_transition_time.clone()?)))
                })
                .collect();
            view.each_condition(|place, condition| {
                let time = known
                    .get(&(place.to_owned(), condition.kind.clone()))
                    .filter(|(status, _)| *status == condition.status)
                    .map_or(now, |(_, time)| time);
                condition.last_transition_time = Some(time.to_owned());
            });
        }
        view
    }

    /// Every condition, with what it is about: `Gateway default/web listener http`.
    #[must_use]
    pub fn conditions(&self) -> Vec<(String, ConditionView)> {
        let mut all = Vec::new();
        self.clone().each_condition(|place, condition| all.push((place.to_owned(), condition.clone())));
        all
    }

    fn each_condition(&mut self, mut visit: impl FnMut(&str, &mut ConditionView)) {
        let mut each = |place: String, conditions: &mut Vec<ConditionView>| {
            for condition in conditions {
                visit(&place, condition);
            }
        };
        for named in self.gateway_classes.iter_mut().chain(&mut self.others) {
            let name = match named.namespace.as_str() {
                "" => named.name.clone(),
                namespace => format!("{namespace}/{}", named.name),
            };
            each(format!("{} {name}", named.kind), &mut named.conditions);
        }
        for gateway in &mut self.gateways {
            let place = format!("Gateway {}/{}", gateway.namespace, gateway.name);
            for listener in &mut gateway.listeners {
                each(format!("{place} listener {}", listener.name), &mut listener.conditions);
            }
            each(place, &mut gateway.conditions);
        }
        for route in &mut self.routes {
            for parent in &mut route.parents {
                let place =
                    format!("{} {}/{} parent {}", route.kind, route.namespace, route.name, parent.parent_ref);
                each(place, &mut parent.conditions);
            }
        }
    }
}

fn gateway(name: &ObjectName, status: &GatewayStatus, spec: Option<&Gateway>) -> GatewayView {
    GatewayView {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        class: spec.map(|g| g.class.clone()).unwrap_or_default(),
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        conditions: views(&status.conditions),
        listeners: status
            .listeners
            .iter()
            .map(|l| listener(l, spec.and_then(|g| g.listeners.iter().find(|s| s.name == l.name))))
            .collect(),
    }
}

fn listener(status: &ListenerStatus, spec: Option<&Listener>) -> ListenerView {
    ListenerView {
        name: status.name.to_string(),
        port: spec.map_or(0, |s| s.port),
        protocol: spec.map(|s| protocol(&s.protocol).to_owned()).unwrap_or_default(),
        hostname: spec.and_then(|s| s.hostname.as_deref()).unwrap_or_default().to_owned(),
        supported_kinds: status.supported_kinds.iter().map(|k| k.kind.clone()).collect(),
        attached_routes: status.attached_routes,
        conditions: views(&status.conditions),
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

fn parent(namespace: &str, status: &ParentStatus) -> ParentView {
    let ParentRef { kind, namespace: written, name, section, port } = &status.parent;
    ParentView {
        parent_ref: ParentRefView {
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            namespace: written.as_deref().unwrap_or(namespace).to_owned(),
            name: name.to_string(),
            section_name: section.as_deref().map(str::to_owned),
            port: *port,
        },
        controller_name: CONTROLLER.to_owned(),
        conditions: views(&status.conditions),
    }
}

fn views(conditions: &[Condition]) -> Vec<ConditionView> {
    conditions
        .iter()
        .map(|c| ConditionView {
            kind: c.kind.into(),
            status: if c.status { "True" } else { "False" }.into(),
            reason: c.reason.into(),
            message: c.message.clone(),
            observed_generation: c.observed_generation,
            last_transition_time: None,
        })
        .collect()
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
        let conditions = view.conditions().into_iter();
        conditions.map(|(_, c)| (c.kind.into_owned(), c.last_transition_time.unwrap_or_default())).collect()
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
        assert!(view.conditions().iter().all(|(_, c)| c.last_transition_time.is_none()));
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
