//! What stands in an object's `status` in a cluster, as JSON: what we say, without touching what others say.
//!
//! Owns how a status is put together from the one that is there: conditions keep the time of their transition, entries of
//! other controllers stay (`status.parents` holds one entry for each controller and parent), our stale ones go. Pure; a
//! status that says the same already is none. Must not know how it is written.

use serde_json::{Map, Value, json};

use crate::core::model::{CONTROLLER, GroupKind, ParentRef};
use crate::core::status::{Condition, GatewayStatus, ListenerStatus, ParentStatus};

/// Types of conditions that we write; others are somebody else's.
const OURS: &[&str] = &[
    "Accepted",
    "Conflicted",
    "OverlappingTLSConfig",
    "PartiallyInvalid",
    "Programmed",
    "ResolvedRefs",
    "SupportedVersion",
];

/// The status that a GatewayClass shall have; `None` if it has it.
pub(super) fn class(have: &Value, want: &[Condition], features: &[&str], now: &str) -> Option<Value> {
    let features = features.iter().map(|name| json!({"name": name})).collect();
    other(
        have,
        [
            ("conditions", conditions(have.get("conditions"), want, now)),
            ("supportedFeatures", Value::Array(features)),
        ],
    )
}

/// The status that an object shall have that holds conditions and nothing else of ours.
pub(super) fn plain(have: &Value, want: &[Condition], now: &str) -> Option<Value> {
    other(have, [("conditions", conditions(have.get("conditions"), want, now))])
}

/// The status that a Gateway shall have.
pub(super) fn gateway(have: &Value, want: &GatewayStatus, now: &str) -> Option<Value> {
    let address = |ip| json!({"type": "IPAddress", "value": format!("{ip}")});
    let listeners = want.listeners.iter().map(|listener| {
        let have = have.get("listeners").and_then(Value::as_array).into_iter().flatten();
        let have = have.clone().find(|have| have["name"] == *listener.name);
        one_listener(have, listener, now)
    });
    other(
        have,
        [
            ("addresses", want.addresses.iter().map(address).collect()),
            ("conditions", conditions(have.get("conditions"), &want.conditions, now)),
            ("listeners", listeners.collect()),
        ],
    )
}

fn one_listener(have: Option<&Value>, want: &ListenerStatus, now: &str) -> Value {
    let kind = |GroupKind { group, kind }: &GroupKind| json!({"group": group, "kind": kind});
    json!({
        "name": &*want.name,
        "supportedKinds": want.supported_kinds.iter().map(kind).collect::<Value>(),
        "attachedRoutes": want.attached_routes,
        "conditions": conditions(have.and_then(|have| have.get("conditions")), &want.conditions, now),
    })
}

/// The status that a route shall have.
pub(super) fn route(have: &Value, want: &[ParentStatus], now: &str) -> Option<Value> {
    let there = have.get("parents").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (ours, others): (Vec<_>, Vec<_>) =
        there.iter().partition(|entry| entry["controllerName"] == CONTROLLER);
    let mut parents: Vec<Value> = others.into_iter().cloned().collect();
    for want in want.iter().filter(|want| want.ours) {
        let parent = parent_ref(&want.parent);
        let have = ours.iter().find(|have| have["parentRef"] == parent);
        let conditions = conditions(have.and_then(|have| have.get("conditions")), &want.conditions, now);
        parents.push(json!({"parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions}));
    }
    // Whose entry comes first is nobody's business: one order that stays is enough.
    let mut sorted = there.to_vec();
    let order = |entry: &Value| entry.to_string();
    sorted.sort_by_key(order);
    let mut wanted = parents.clone();
    wanted.sort_by_key(order);
    if sorted == wanted { None } else { other(have, [("parents", Value::Array(parents))]) }
}

fn parent_ref(parent: &ParentRef) -> Value {
    let ParentRef { kind, namespace, name, section, port } = parent;
    let mut fields = Map::new();
    fields.insert("group".to_owned(), json!(kind.group));
    fields.insert("kind".to_owned(), json!(kind.kind));
    fields.insert("name".to_owned(), json!(&**name));
    for (name, text) in [("namespace", namespace), ("sectionName", section)] {
        fields.extend(text.as_deref().map(|text| (name.to_owned(), json!(text))));
    }
    fields.extend(port.map(|port| ("port".to_owned(), json!(port))));
    Value::Object(fields)
}

/// A status with these fields; `None` if they are there already.
pub(super) fn other<const N: usize>(have: &Value, fields: [(&str, Value); N]) -> Option<Value> {
    let mut status = have.as_object().cloned().unwrap_or_default();
    for (name, value) in fields {
        status.insert(name.to_owned(), value);
    }
    let empty = |(_, value): (&String, &Value)| value.as_array().is_some_and(Vec::is_empty);
    let same = status
        .iter()
        .all(|field| have.get(field.0) == Some(field.1) || (have.get(field.0).is_none() && empty(field)));
    (!same).then_some(Value::Object(status))
}

/// Conditions over those that are there. A time of transition changes with the status alone; what speaks of a later
/// generation than ours stays, as do conditions of other types than ours.
pub(super) fn conditions(have: Option<&Value>, want: &[Condition], now: &str) -> Value {
    let have = have.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut all: Vec<Value> = Vec::new();
    for want in want {
        let before = have.iter().find(|have| have["type"] == want.kind);
        let status = if want.status { "True" } else { "False" };
        if let Some(later) =
            before.filter(|have| have["observedGeneration"].as_i64() > Some(want.observed_generation))
        {
            all.push(later.clone());
            continue;
        }
        let since = before
            .filter(|have| have["status"] == status)
            .and_then(|have| have["lastTransitionTime"].as_str());
        all.push(json!({
            "type": want.kind,
            "status": status,
            "reason": want.reason,
            "message": shortened(&want.message, LONGEST),
            "observedGeneration": want.observed_generation,
            "lastTransitionTime": since.unwrap_or(now),
        }));
    }
    let foreign = have.iter().filter(|have| !is_our_type(have));
    all.extend(foreign.cloned());
    Value::Array(all)
}

fn is_our_type(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(|kind| OURS.contains(&kind))
}

/// A message may have 32,768 characters (metav1.Condition).
const LONGEST: usize = 32_768;

/// A text, or as much of it as fits into so many bytes.
pub(super) fn shortened(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::GATEWAY_GROUP;

    fn condition(kind: &'static str, status: bool, generation: i64) -> Condition {
        let reason = if status { kind } else { "Invalid" };
        Condition { kind, status, reason, message: "because".to_owned(), observed_generation: generation }
    }

    fn parent(section: Option<&str>, ours: bool) -> ParentStatus {
        let kind = GroupKind { group: GATEWAY_GROUP.to_owned(), kind: "Gateway".to_owned() };
        let parent = ParentRef {
            kind,
            namespace: None,
            name: "gw".into(),
            section: section.map(Into::into),
            port: None,
        };
        ParentStatus { ours, parent, conditions: vec![condition("Accepted", true, 1)] }
    }

    #[test]
    fn a_transition_keeps_its_time_until_the_status_changes() {
        let first = plain(&Value::Null, &[condition("Accepted", true, 1)], "t1").unwrap();
        assert_eq!(first["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(plain(&first, &[condition("Accepted", true, 1)], "t2"), None, "it says the same already");
        let second = plain(&first, &[condition("Accepted", true, 2)], "t2").unwrap();
        assert_eq!(second["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(second["conditions"][0]["observedGeneration"], 2);
        let third = plain(&second, &[condition("Accepted", false, 3)], "t3").unwrap();
        assert_eq!(third["conditions"][0]["lastTransitionTime"], "t3");
        assert_eq!(third["conditions"][0]["reason"], "Invalid");
    }

    #[test]
    fn a_clock_that_was_set_back_writes_nothing_anew_and_hinders_nothing() {
        let first = plain(&Value::Null, &[condition("Accepted", true, 1)], "2026-01-31T12:00:00Z").unwrap();
        let earlier = "1970-01-01T00:00:00Z";
        assert_eq!(plain(&first, &[condition("Accepted", true, 1)], earlier), None);
        let second = plain(&first, &[condition("Accepted", false, 1)], earlier).unwrap();
        let changed = &second["conditions"][0];
        assert_eq!((&changed["status"], &changed["lastTransitionTime"]), (&json!("False"), &json!(earlier)));
    }

    #[test]
    fn others_conditions_stay_and_stale_ones_of_ours_go() {
        let have = json!({"conditions": [
            {"type": "PartiallyInvalid", "status": "True"},
            {"type": "example.com/Healthy", "status": "True"},
            {"type": "Accepted", "status": "True", "observedGeneration": 9, "lastTransitionTime": "t0"},
        ]});
        let status =
            plain(&have, &[condition("Accepted", false, 8), condition("Programmed", true, 8)], "t1").unwrap();
        let kinds: Vec<_> =
            status["conditions"].as_array().unwrap().iter().map(|c| c["type"].clone()).collect();
        assert_eq!(kinds, ["Accepted", "Programmed", "example.com/Healthy"]);
        assert_eq!(
            status["conditions"][0]["status"], "True",
            "what speaks of a later generation is not overwritten"
        );
    }

    #[test]
    fn a_route_keeps_other_controllers_entries_and_loses_our_stale_ones() {
        let foreign =
            json!({"controllerName": "example.com/other", "parentRef": {"name": "x"}, "conditions": []});
        let have = json!({"parents": [
            {"controllerName": CONTROLLER, "parentRef": {"name": "gone"}, "conditions": []},
            foreign,
        ]});
        let status = route(&have, &[parent(Some("http"), true), parent(None, false)], "t1").unwrap();
        let parents = status["parents"].as_array().unwrap();
        assert_eq!(parents.len(), 2);
        assert_eq!(parents[0], foreign);
        assert_eq!(parents[1]["parentRef"]["sectionName"], "http");
        assert_eq!(parents[1]["parentRef"].get("namespace"), None, "as the route has it");
        assert_eq!(route(&status, &[parent(Some("http"), true)], "t2"), None);
        let turned = json!({"parents": [parents[1], parents[0]]});
        assert_eq!(route(&turned, &[parent(Some("http"), true)], "t2"), None, "the order does not matter");
        // Whatever differs is written: nothing of an entry is overlooked.
        let want = || parent(Some("http"), true);
        let message = Condition { message: "therefore".to_owned(), ..condition("Accepted", true, 1) };
        for other in [
            ParentStatus { conditions: vec![condition("Accepted", true, 2)], ..want() },
            ParentStatus { conditions: vec![condition("Accepted", false, 1)], ..want() },
            ParentStatus { conditions: vec![message], ..want() },
            ParentStatus { conditions: vec![], ..want() },
            ParentStatus { parent: ParentRef { port: Some(80), ..want().parent }, ..want() },
            ParentStatus { parent: ParentRef { namespace: Some("a".into()), ..want().parent }, ..want() },
            ParentStatus { parent: ParentRef { section: None, ..want().parent }, ..want() },
        ] {
            assert!(route(&status, std::slice::from_ref(&other), "t2").is_some(), "{other:?}");
        }
        assert!(route(&status, &[want(), parent(None, true)], "t2").is_some());
        let left = route(&status, &[], "t2").unwrap();
        assert_eq!(left["parents"], json!([foreign]));
        assert_eq!(route(&Value::Null, &[parent(None, false)], "t1"), None, "nothing is to be said");
    }

    #[test]
    fn a_gateway_s_status_is_written_whole_and_once() {
        let want = GatewayStatus {
            addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            of_host: false,
            conditions: vec![condition("Accepted", true, 1)],
            listeners: vec![ListenerStatus {
                name: "http".into(),
                supported_kinds: vec![],
                attached_routes: 3,
                conditions: vec![condition("Conflicted", false, 1)],
            }],
        };
        let have = json!({"attachedListenerSets": 2, "conditions": [{"type": "Accepted", "status": "Unknown",
            "lastTransitionTime": "1970-01-01T00:00:00Z", "reason": "Pending", "message": "Waiting for controller"}]});
        let status = gateway(&have, &want, "t1").unwrap();
        assert_eq!(status["addresses"][1], json!({"type": "IPAddress", "value": "2001:db8::7"}));
        assert_eq!(status["attachedListenerSets"], 2, "what we do not write stays");
        assert_eq!(status["listeners"][0]["supportedKinds"], json!([]), "none, and it is said");
        assert_eq!(status["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(gateway(&status, &want, "t2"), None);
        let gone = GatewayStatus { listeners: vec![], ..want };
        assert_eq!(gateway(&status, &gone, "t2").unwrap()["listeners"], json!([]));
    }

    #[test]
    fn a_class_tells_its_features() {
        let status =
            class(&Value::Null, &[condition("Accepted", true, 1)], &["Gateway", "HTTPRoute"], "t1").unwrap();
        assert_eq!(status["supportedFeatures"], json!([{"name": "Gateway"}, {"name": "HTTPRoute"}]));
        assert_eq!(class(&status, &[condition("Accepted", true, 1)], &["Gateway", "HTTPRoute"], "t2"), None);
        assert!(class(&status, &[condition("Accepted", true, 1)], &["Gateway"], "t2").is_some());
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let long = "ü".repeat(LONGEST);
        let cut = shortened(&long, LONGEST);
        assert!(cut.len() <= LONGEST && cut.chars().all(|c| c == 'ü'));
        assert_eq!(shortened("short", LONGEST), "short");
    }
}
