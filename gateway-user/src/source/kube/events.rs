//! Events (events.k8s.io/v1) on objects, for what an operator must see without looking at each status.
//!
//! Owns which change of a status is one: what begins to fail, what fails no more, and that a Gateway is served. They are a
//! courtesy: where they come faster than the API server takes them, some are left out. Must not know how statuses are made.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::request::{Failure, WRITE, is_of_what_goes, within};
use super::status::shortened;
use crate::core::model::{CONTROLLER, ObjectName};

/// So many may wait.
const WAITING: usize = 256;
/// A note may have so many bytes.
const LONGEST: usize = 1024;
/// Conditions that say something bad, the most telling first, and the status with which they do.
const BAD: [(&str, &str); 6] = [
    ("Accepted", "False"),
    ("Conflicted", "True"),
    ("ResolvedRefs", "False"),
    ("Programmed", "False"),
    ("PartiallyInvalid", "True"),
    ("OverlappingTLSConfig", "True"),
];

/// Something to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    warning: bool,
    reason: String,
    note: String,
}

/// What another status tells of an object.
pub(super) fn news(before: &Value, after: &Value) -> Vec<News> {
    let mut news = Vec::new();
    for (place, conditions) in places(after) {
        let was = places(before).find(|(other, _)| *other == place).map_or(&Value::Null, |(_, was)| was);
        let told = |condition: &Value, warning: bool| News {
            warning,
            reason: text(condition, "reason").to_owned(),
            note: shortened(&format!("{place}{}", text(condition, "message")), LONGEST).to_owned(),
        };
        let bad = bad(conditions, &place);
        match (bad, self::bad(was, &place)) {
            (Some(bad), was) => {
                let same = |was: &Value| ["type", "reason"].iter().all(|field| was[field] == bad[field]);
                if !was.is_some_and(same) {
                    news.push(told(bad, true));
                }
            }
            (None, Some(was)) => {
                news.extend(find(conditions, text(was, "type")).map(|good| told(good, false)));
            }
            (None, None) if place.is_empty() => {
                let served = |conditions| find(conditions, "Programmed").filter(|it| it["status"] == "True");
                if let (Some(now), None) = (served(conditions), served(was)) {
                    news.push(told(now, false));
                }
            }
            (None, None) => {}
        }
    }
    news
}

/// The lists of conditions of a status, with what is said before a message: the object's own, its listeners', and those
/// that are ours of its parents.
fn places(status: &Value) -> impl Iterator<Item = (String, &Value)> {
    let list = |name: &str| status.get(name).and_then(Value::as_array).into_iter().flatten();
    let own = status.get("conditions").map(|conditions| (String::new(), conditions));
    let listeners = list("listeners")
        .map(|listener| (format!("listener {}: ", text(listener, "name")), &listener["conditions"]));
    let parents = list("parents").filter(|parent| parent["controllerName"] == CONTROLLER).map(|parent| {
        let reference = &parent["parentRef"];
        let section = match text(reference, "sectionName") {
            "" => String::new(),
            section => format!("/{section}"),
        };
        (format!("parent {}{section}: ", text(reference, "name")), &parent["conditions"])
    });
    own.into_iter().chain(listeners).chain(parents)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn find<'v>(conditions: &'v Value, kind: &str) -> Option<&'v Value> {
    conditions.as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// The most telling of the conditions that say something bad. That a Gateway as a whole is pending is not bad: it passes,
/// and what lasts is said of its listeners.
fn bad<'v>(conditions: &'v Value, place: &str) -> Option<&'v Value> {
    BAD.iter()
        .filter_map(|(kind, status)| {
            find(conditions, kind).filter(|condition| condition["status"] == *status)
        })
        .find(|condition| !(place.is_empty() && condition["reason"] == "Pending"))
}

/// Where events go.
#[derive(Debug)]
pub(super) struct Events(mpsc::Sender<(ObjectReference, News)>);

impl Events {
    /// Sends events for as long as this exists. `node` is the reporting instance.
    pub(super) fn start(client: Client, node: String) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(node) };
        tokio::spawn(send(Recorder::new(client, reporter), receiver));
        Self(sender)
    }

    /// Tells of an object, which is of a resource and has a uid, if there is room.
    pub(super) fn tell(&self, (resource, name, uid): (&ApiResource, &ObjectName, String), news: Vec<News>) {
        for news in news {
            let object = ObjectReference {
                api_version: Some(resource.api_version.clone()),
                kind: Some(resource.kind.clone()),
                name: Some(name.name.to_string()),
                namespace: Some(name.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            };
            if self.0.try_send((object, news)).is_err() {
                debug!(object = %name, "too many events at once: one is left out");
            }
        }
    }
}

async fn send(recorder: Recorder, mut events: mpsc::Receiver<(ObjectReference, News)>) {
    let mut failing = false;
    while let Some((object, News { warning, reason, note })) = events.recv().await {
        let type_ = if warning { EventType::Warning } else { EventType::Normal };
        let event = Event { type_, reason, note: Some(note), action: "Status".to_owned(), secondary: None };
        match within(WRITE, recorder.publish(&event, &object)).await {
            Ok(()) => failing = false,
            Err(Failure::Kube(kube::Error::Api(answer))) if is_of_what_goes(&answer) => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "events cannot be written; statuses say the same");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} is {status}")})
    }

    fn told(warning: bool, reason: &str, note: &str) -> News {
        News { warning, reason: reason.to_owned(), note: note.to_owned() }
    }

    #[test]
    fn what_begins_to_fail_is_told_once_and_what_fails_no_more() {
        let gateway = |own: [Value; 2], listener: [Value; 2]| json!({"conditions": own, "listeners": [{"name": "http", "conditions": listener}]});
        let accepted = || condition("Accepted", "True", "Accepted");
        let served = || condition("Programmed", "True", "Programmed");
        let pending = || condition("Programmed", "False", "Pending");
        let good = gateway([accepted(), served()], [accepted(), served()]);
        let bad = gateway([accepted(), served()], [accepted(), pending()]);
        let first = [told(false, "Programmed", "Programmed is True")];
        assert_eq!(news(&Value::Null, &good), first);
        assert_eq!(news(&good, &good), []);
        assert_eq!(news(&good, &bad), [told(true, "Pending", "listener http: Programmed is False")]);
        assert_eq!(news(&bad, &bad), []);
        assert_eq!(news(&bad, &good), [told(false, "Programmed", "listener http: Programmed is True")]);
        // As a whole it waits: that is nothing to look at.
        let waiting = gateway([accepted(), pending()], [accepted(), served()]);
        assert_eq!(news(&good, &waiting), []);
        assert_eq!(news(&waiting, &good), first);
        let refused = gateway(
            [condition("Accepted", "False", "Invalid"), condition("Programmed", "False", "Invalid")],
            [accepted(), served()],
        );
        assert_eq!(news(&good, &refused), [told(true, "Invalid", "Accepted is False")], "one is enough");
    }

    #[test]
    fn of_a_route_what_we_say_of_each_parent_is_told() {
        let route = |controller: &str, status: &str, reason: &str| {
            json!({"parents": [{"controllerName": controller, "parentRef": {"name": "web", "sectionName": "http"},
                "conditions": [condition("Accepted", "True", "Accepted"), condition("ResolvedRefs", status, reason)]}]})
        };
        let (good, bad) =
            (route(CONTROLLER, "True", "ResolvedRefs"), route(CONTROLLER, "False", "BackendNotFound"));
        assert_eq!(news(&Value::Null, &good), [], "thousands of routes are accepted");
        let want = [told(true, "BackendNotFound", "parent web/http: ResolvedRefs is False")];
        assert_eq!(news(&Value::Null, &bad), want);
        assert_eq!(news(&good, &bad), want);
        assert_eq!(news(&bad, &good), [told(false, "ResolvedRefs", "parent web/http: ResolvedRefs is True")]);
        assert_eq!(news(&Value::Null, &route("example.com/other", "False", "BackendNotFound")), []);
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let mut condition = condition("Accepted", "False", "Invalid");
        condition["message"] = json!("ü".repeat(LONGEST));
        let [told] = news(&Value::Null, &json!({"conditions": [condition]})).try_into().unwrap();
        assert!(told.note.len() <= LONGEST && told.note.ends_with('ü'));
    }
}
