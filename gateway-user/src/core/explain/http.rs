//! Who serves a request on a binding.
//!
//! Owns the way from the watched search to an answer. Must not decide who wins.

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::lost::{alone, beaten};
use super::outside::outside;
use super::{Lost, Matched, Scene, Why, object};
use crate::core::compile::HTTP_ROUTE;
use crate::core::route::{Entry, HttpTable, RequestView, RuleEntry, Unserved};

/// Who serves a request on a binding, and who does not.
#[derive(Clone, Debug)]
pub struct Http {
    /// `NAMESPACE/GATEWAY/LISTENER`; `None`: the host fits no listener.
    pub listener: Option<Arc<str>>,
    /// The listener's hostname; `None`: every one.
    pub listener_hostname: Option<String>,
    /// The rule that the request goes to.
    pub served: Option<Served>,
    /// Why no endpoint gets it, whichever backend is chosen; `None` also if it is redirected.
    pub unserved: Option<Unserved>,
    /// Everybody else, who came closest first.
    pub lost: Vec<Lost>,
}

/// The rule that a request goes to.
#[derive(Clone, Debug)]
pub struct Served {
    /// The rule.
    pub rule: Arc<RuleEntry>,
    /// The match that decided.
    pub matched: Matched,
}

/// Explains a request on the binding that this table is of. `labels` are the binding's listeners.
#[must_use]
pub fn http(scene: &Scene<'_>, table: &HttpTable, request: &RequestView<'_>) -> Http {
    let watched = table.watch(request);
    let inspection = table.inspect(request.host);
    let entries = inspection.entries();
    let winner = entries
        .iter()
        .find(|entry| watched.winner.is_some_and(|winner| std::ptr::eq(winner, entry.candidate)));
    let served = winner.zip(watched.found.rule).map(|(entry, rule)| Served {
        rule: rule.clone(),
        matched: Matched {
            at: entry.candidate.at,
            hostname: entry.hostname.map(str::to_owned),
            text: entry.text(),
        },
    });
    let asked = inspection.listeners().find(|l| watched.listener.is_some_and(|label| *label == l.label));

    // Of each rule the match that came closest; not of the one that serves, whose other matches lose nothing.
    let key = |entry: &Entry<'_>| (entry.candidate.rule.route.clone(), entry.candidate.rule.rule.clone());
    let won = winner.map(key);
    let mut closest: BTreeMap<_, (Why, String, &Entry<'_>)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| won.as_ref() != Some(&key(entry))) {
        let by_itself = alone(entry, asked, &watched, request);
        let (why, message) = by_itself.unwrap_or_else(|| beaten(scene.model, winner, entry));
        match closest.entry(key(entry)) {
            MapEntry::Occupied(best) if best.get().0 <= why => {}
            MapEntry::Occupied(mut best) => drop(best.insert((why, message, entry))),
            MapEntry::Vacant(none) => drop(none.insert((why, message, entry))),
        }
    }
    let mut lost: Vec<Lost> = Vec::with_capacity(closest.len());
    for ((route, rule), (why, message, entry)) in closest {
        lost.push(Lost {
            kind: HTTP_ROUTE,
            route: object(&route),
            rule: Some(rule),
            listener: Some(entry.listener.label.clone()),
            matched: Some(Matched {
                at: entry.candidate.at,
                hostname: entry.hostname.map(str::to_owned),
                text: entry.text(),
            }),
            why,
            message,
        });
    }
    let known: HashSet<(&str, &str)> =
        entries.iter().map(|e| (&*e.candidate.rule.route, &*e.candidate.rule.rule)).collect();
    let mut labels: Vec<&str> = inspection.listeners().map(|l| &*l.label).collect();
    labels.sort_by_key(|label| asked.is_none_or(|asked| *asked.label != **label));
    lost.extend(outside(scene, HTTP_ROUTE, &labels, |name| {
        let label = name.to_string();
        let rules = scene.model.http_routes.get(name).map_or(&[][..], |route| &route.rules);
        let labels = rules.iter().enumerate().map(|(at, rule)| rule_label(rule.name.as_ref(), at));
        labels.filter(|rule| !known.contains(&(&*label, &**rule))).collect()
    }));
    lost.sort_by(|a, b| a.place().cmp(&b.place()));
    Http {
        listener: watched.listener.cloned(),
        listener_hostname: asked.and_then(|asked| asked.hostname.clone()),
        unserved: match &served {
            None => Some(Unserved::NoRoute),
            Some(served) => unserved(&served.rule),
        },
        served,
        lost,
    }
}

/// A rule's name, or its position: as compilation labels it.
fn rule_label(name: Option<&Arc<str>>, at: usize) -> Arc<str> {
    name.cloned().unwrap_or_else(|| at.to_string().into())
}

/// Why no endpoint gets a request that this rule serves, whichever backend is chosen. A redirect serves it.
pub(super) fn unserved(rule: &RuleEntry) -> Option<Unserved> {
    if rule.redirect.is_some() {
        return None;
    }
    if let Err(why) = rule.backend(|| 0) {
        return Some(why);
    }
    let mut pickable = rule.backends.iter().filter(|backend| backend.weight > 0);
    let first = pickable.next()?.target.endpoints().err()?;
    pickable.all(|backend| backend.target.endpoints().is_err()).then_some(first)
}
