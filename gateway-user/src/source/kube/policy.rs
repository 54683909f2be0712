//! The status of a BackendTLSPolicy: what we say of it for each Gateway of ours that a target of it is reached through.
//!
//! Owns which Gateways these are, and how the list is put together: entries of other controllers stay, and it holds at most
//! 16. Pure. Must not know how it is written, nor what the policy asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::status::{conditions, other};
use crate::core::model::{BackendRef, CONTROLLER, GATEWAY_GROUP, Model, ObjectName};
use crate::core::status::{Condition, ParentStatus, Report};

/// What status.ancestors holds at the most: "If this slice is full, implementations MUST NOT add further entries".
const MOST: usize = 16;

/// The Gateways of ours through which targets of a policy are reached, by policy: those that a route is attached to which
/// refers to a Service that the policy targets.
pub(super) fn ancestors(model: &Model, report: &Report) -> BTreeMap<ObjectName, BTreeSet<ObjectName>> {
    let mut policies: BTreeMap<ObjectName, Vec<&ObjectName>> = BTreeMap::new();
    for (name, policy) in &model.backend_tls {
        let services =
            policy.targets.iter().filter(|to| to.kind.group.is_empty() && to.kind.kind == "Service");
        for target in services {
            let service = ObjectName { namespace: name.namespace.clone(), name: target.name.clone() };
            policies.entry(service).or_default().push(name);
        }
    }
    let mut found: BTreeMap<ObjectName, BTreeSet<ObjectName>> = BTreeMap::new();
    let mut add =
        |kind: &'static str, route: &ObjectName, backends: &mut dyn Iterator<Item = &BackendRef>| {
            let services = backends.filter(|to| to.kind.group.is_empty() && to.kind.kind == "Service");
            let services: BTreeSet<_> =
                services.map(|to| in_namespace(to.namespace.as_ref(), &to.name, route)).collect();
            let targeted = services.iter().filter_map(|service| policies.get(service)).flatten();
            let targeted: BTreeSet<&ObjectName> = targeted.copied().collect();
            if targeted.is_empty() {
                return;
            }
            let parents =
                report.routes.get(&(kind, route.clone())).into_iter().flat_map(|entries| entries.iter());
            for parent in parents.filter(|parent| is_attached(parent)) {
                let gateway = in_namespace(parent.parent.namespace.as_ref(), &parent.parent.name, route);
                for policy in &targeted {
                    found.entry((*policy).clone()).or_default().insert(gateway.clone());
                }
            }
        };
    if !policies.is_empty() {
        for (name, route) in &model.http_routes {
            add("HTTPRoute", name, &mut route.rules.iter().flat_map(|rule| &rule.backends));
        }
        for ((transport, name), route) in &model.l4_routes {
            add(transport.route(), name, &mut route.rules.iter().flat_map(|rule| &rule.backends));
        }
    }
    found
}

fn in_namespace(namespace: Option<&Arc<str>>, name: &Arc<str>, from: &ObjectName) -> ObjectName {
    ObjectName { namespace: namespace.unwrap_or(&from.namespace).clone(), name: name.clone() }
}

fn is_attached(parent: &ParentStatus) -> bool {
    let accepted = |condition: &Condition| condition.kind == "Accepted" && condition.status;
    parent.ours && parent.conditions.iter().any(accepted)
}

/// The status that a policy shall have; `None` if it has it.
pub(super) fn status(
    have: &Value,
    gateways: &BTreeSet<ObjectName>,
    want: &[Condition],
    now: &str,
) -> Option<Value> {
    let there = have.get("ancestors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (ours, others): (Vec<_>, Vec<_>) =
        there.iter().partition(|entry| entry["controllerName"] == CONTROLLER);
    let mut wanted: Vec<(Value, Option<&Value>)> = Vec::new();
    for gateway in gateways {
        let ancestor = json!({"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": &*gateway.namespace, "name": &*gateway.name});
        let have = ours.iter().find(|have| have["ancestorRef"] == ancestor);
        wanted.push((ancestor, have.copied()));
    }
    // Who has an entry keeps it.
    wanted.sort_by_key(|(_, have)| have.is_none());
    wanted.truncate(MOST.saturating_sub(others.len()));
    let mut ancestors: Vec<Value> = others.into_iter().cloned().collect();
    for (ancestor, have) in wanted {
        let conditions = conditions(have.and_then(|have| have.get("conditions")), want, now);
        ancestors
            .push(json!({"ancestorRef": ancestor, "controllerName": CONTROLLER, "conditions": conditions}));
    }
    // Whose entry comes first is nobody's business.
    let sorted = |list: &[Value]| {
        let mut texts: Vec<_> = list.iter().map(Value::to_string).collect();
        texts.sort();
        texts
    };
    if sorted(there) == sorted(&ancestors) {
        None
    } else {
        other(have, [("ancestors", Value::Array(ancestors))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::compile::compile;
    use crate::core::host::Host;
    use crate::core::snapshot::Ids;
    use crate::core::testing::{model, object};

    fn why() -> Vec<Condition> {
        let message = "not supported yet".to_owned();
        vec![Condition {
            kind: "Accepted",
            status: false,
            reason: "Invalid",
            message,
            observed_generation: 2,
        }]
    }

    fn names(names: &[&str]) -> BTreeSet<ObjectName> {
        names.iter().map(|name| object(name)).collect()
    }

    #[test]
    fn a_policy_is_of_the_gateways_whose_routes_lead_to_its_services() {
        let model = model(
            "
            gateway one
            listener http HTTP 80 from=All
            listener raw TCP 9000
            gateway two
            listener http HTTP 81
            gateway three
            listener http HTTP 82
            http both parent=one#http parent=two
            to web:80
            http other/closed parent=default/two
            to default/web:80
            http other/open parent=default/one
            to default/far:80
            tcp raw parent=one#raw
            to db:5432
            http elsewhere parent=three
            to far:80
            grant g from=HTTPRoute/other
            service web 80
            service db 5432
            service far 80
            tls web web
            tls db db:name far
            tls nobody-s absent
            tls other/web web
            ",
        );
        let report = compile(&model, &Host::default(), &Ids::default(), 1).report;
        let found = ancestors(&model, &report);
        let want = [
            (object("db"), names(&["one", "three"])),
            // The route of another namespace is not allowed to attach to `two`; it would not be another Gateway.
            (object("web"), names(&["one", "two"])),
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn others_entries_stay_and_ours_follow_the_gateways() {
        let foreign =
            json!({"controllerName": "example.com/other", "ancestorRef": {"name": "x"}, "conditions": []});
        let have = json!({"ancestors": [foreign]});
        assert_eq!(status(&have, &names(&[]), &why(), "t1"), None, "nothing of it is ours");
        let first = status(&have, &names(&["one", "two"]), &why(), "t1").unwrap();
        let list = first["ancestors"].as_array().unwrap();
        assert_eq!((list.len(), &list[0]), (3, &foreign));
        let ancestor =
            json!({"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": "default", "name": "one"});
        assert_eq!((&list[1]["ancestorRef"], &list[1]["controllerName"]), (&ancestor, &json!(CONTROLLER)));
        let condition = &list[1]["conditions"][0];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Invalid")));
        assert_eq!(condition["observedGeneration"], 2);
        assert_eq!(status(&first, &names(&["one", "two"]), &why(), "t2"), None, "it says so already");
        let second = status(&first, &names(&["two"]), &why(), "t2").unwrap();
        assert_eq!(second["ancestors"], json!([foreign, list[2]]));
        assert_eq!(status(&second, &names(&[]), &why(), "t3").unwrap()["ancestors"], json!([foreign]));
    }

    #[test]
    fn a_list_that_is_full_gets_no_more_and_who_is_in_it_stays() {
        let foreign =
            |i: usize| json!({"controllerName": "example.com/other", "ancestorRef": {"name": i.to_string()}});
        let have = json!({"ancestors": (0..14).map(foreign).collect::<Vec<_>>()});
        let first = status(&have, &names(&["b", "c"]), &why(), "t1").unwrap();
        assert_eq!(first["ancestors"].as_array().unwrap().len(), 16);
        assert_eq!(status(&first, &names(&["a", "b", "c"]), &why(), "t2"), None);
        let full = json!({"ancestors": (0..16).map(foreign).collect::<Vec<_>>()});
        assert_eq!(status(&full, &names(&["a"]), &why(), "t1"), None);
        let many: Vec<String> = (0..20).map(|i| format!("g{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let status = status(&Value::Null, &names(&many), &why(), "t1").unwrap();
        assert_eq!(status["ancestors"].as_array().unwrap().len(), 16);
    }
}
