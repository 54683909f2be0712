//! Why a candidate of a table lost: by itself, or against the one that serves.
//!
//! Owns the words, one for each rule of the specification (HTTPRoute: `hostnames`, `rules.matches`). What fits is
//! asked of the data path's own predicates.

use super::{Why, object};
use crate::core::compile::age;
use crate::core::model::Model;
use crate::core::route::{Conditions, Entry, Failing, Listener, PathRef, RequestView, Value, Watched};

/// Why a candidate would not serve the request even if it were the only one of its listener; `None`: it would.
pub(super) fn alone(
    entry: &Entry<'_>,
    asked: Option<&Listener>,
    watched: &Watched<'_>,
    request: &RequestView<'_>,
) -> Option<(Why, String)> {
    let host = request.host;
    let listener = entry.listener;
    let hostname = listener.hostname.as_deref().unwrap_or("*");
    let asks = asked.filter(|asked| asked.label == listener.label);
    if asks.is_none() {
        let message = match asked.filter(|_| listener.fits) {
            Some(asked) => format!(
                "it is on listener {} ({hostname}), and {host:?} belongs to the more specific listener {} ({}) alone",
                listener.label,
                asked.label,
                asked.hostname.as_deref().unwrap_or("*")
            ),
            None => format!(
                "it is on listener {}, whose hostname {hostname} does not fit {host:?}",
                listener.label
            ),
        };
        return Some((Why::Listener, message));
    }
    if !entry.hostname_fits {
        let hostname = entry.hostname.unwrap_or("*");
        return Some((Why::Hostname, format!("its hostname {hostname} does not fit {host:?}")));
    }
    if !entry.path.fits(request.path) {
        let path = request.path;
        let message = match entry.path {
            PathRef::Exact(exact) => format!("path {path:?} is not exactly {exact:?}"),
            PathRef::Prefix(prefix) => {
                format!("path {path:?} does not begin with the elements of {prefix:?}")
            }
            PathRef::Regex(_) => {
                format!("path {path:?} does not fit the expression {:?} in full", entry.text().path)
            }
        };
        return Some((Why::Path, message));
    }
    // What the search found out; it did not come to those behind the one that serves.
    let seen = watched.failed.iter().find(|(candidate, _)| std::ptr::eq(*candidate, entry.candidate));
    let failing = seen.map_or_else(|| entry.candidate.failing(request), |(_, failing)| Some(*failing))?;
    Some(condition(entry, failing, request))
}

fn condition(entry: &Entry<'_>, failing: Failing, request: &RequestView<'_>) -> (Why, String) {
    let none = Conditions::default();
    let conditions = entry.candidate.conditions.as_deref().unwrap_or(&none);
    match failing {
        Failing::Method => {
            let asked = conditions.method.as_deref().unwrap_or_default();
            (Why::Method, format!("method {} is not {asked}", request.method))
        }
        Failing::Header(at) => {
            let (name, value) = &conditions.headers[at];
            let values: Vec<_> =
                request.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
            let has = (!values.is_empty()).then(|| values.join(","));
            (Why::Header, missing("header", name.as_str(), value, has.as_deref(), entry))
        }
        Failing::Query(at) => {
            let (name, value) = &conditions.query[at];
            let has = crate::core::route::parameter_of(request.query, name);
            (Why::Query, missing("query parameter", name, value, has.as_deref(), entry))
        }
    }
}

fn missing(what: &str, name: &str, value: &Value, has: Option<&str>, entry: &Entry<'_>) -> String {
    let text = entry.text();
    let written = |list: &[crate::core::route::ValueText]| {
        list.iter().find(|v| v.name == name).map(|v| v.value.clone()).unwrap_or_default()
    };
    let asked = written(if what == "header" { &text.headers } else { &text.query });
    match (has, value) {
        (None, _) => format!("there is no {what} {name} (asked for: {asked:?})"),
        (Some(has), Value::Exact(_)) => format!("{what} {name} is {has:?}, not {asked:?}"),
        (Some(has), Value::Regex(_)) => {
            format!("{what} {name} is {has:?}, which does not fit the expression {asked:?} in full")
        }
    }
}

/// Which rule decided between two candidates that both fit.
pub(super) fn beaten(model: &Model, winner: Option<&Entry<'_>>, loser: &Entry<'_>) -> (Why, String) {
    let Some(winner) = winner else {
        // The search takes whatever fits: this is only said if explanation and data path disagree.
        return (Why::Precedence, "it fits, but the search did not find it".to_owned());
    };
    let spec = |message: String| (Why::Precedence, message);
    if winner.hostname_at != loser.hostname_at {
        return spec(format!(
            "it fits too, but its hostname {} is less specific than {} (HTTPRoute, spec.hostnames)",
            loser.hostname.unwrap_or("*"),
            winner.hostname.unwrap_or("*")
        ));
    }
    let (won, lost) = (winner.text(), loser.text());
    match (winner.path, loser.path) {
        (PathRef::Exact(_), PathRef::Regex(_) | PathRef::Prefix(_)) => {
            return spec(format!(
                "it fits too, but an Exact path comes before {} {:?} (HTTPRoute, rules.matches)",
                lost.path_type, lost.path
            ));
        }
        (PathRef::Regex(_), PathRef::Prefix(_)) => {
            return spec(format!(
                "it fits too, but a RegularExpression comes before PathPrefix {:?} (left open by the specification)",
                lost.path
            ));
        }
        (PathRef::Prefix(a), PathRef::Prefix(b)) if a != b => {
            return spec(format!(
                "it fits too, but the prefix {:?} is longer than {:?} (HTTPRoute, rules.matches)",
                won.path, lost.path
            ));
        }
        (PathRef::Regex(a), PathRef::Regex(b)) if a.as_str().len() != b.as_str().len() => {
            return spec(format!(
                "it fits too, but the expression {:?} is longer than {:?} (left open by the specification)",
                won.path, lost.path
            ));
        }
        _ => {}
    }
    if won.method.is_some() != lost.method.is_some() {
        return spec("it fits too, but asks for no method (HTTPRoute, rules.matches)".to_owned());
    }
    for (what, won, lost) in [
        ("headers", won.headers.len(), lost.headers.len()),
        ("query parameters", won.query.len(), lost.query.len()),
    ] {
        if won != lost {
            return spec(format!(
                "it fits too, but asks for fewer {what}: {lost}, not {won} (HTTPRoute, rules.matches)"
            ));
        }
    }
    order(model, &winner.candidate.rule.route, &loser.candidate.rule.route)
}

/// Which comes first of two routes that fit as well, or of two rules of one.
fn order(model: &Model, winner: &str, loser: &str) -> (Why, String) {
    if winner == loser {
        let message = "it fits too, but the other rule comes first in the route (HTTPRoute, rules.matches)";
        return (Why::RuleOrder, message.to_owned());
    }
    let meta = |label: &str| model.http_routes.get(&object(label)).map(|route| &route.meta);
    match (meta(winner), meta(loser)) {
        (Some(won), Some(lost)) => older(won, lost, "it fits too, but"),
        _ => (Why::NameOrder, format!("it fits too, but {winner} comes first")),
    }
}

/// Which of two routes comes first, by [`age`].
pub(super) fn older(
    won: &crate::core::model::Meta,
    lost: &crate::core::model::Meta,
    but: &str,
) -> (Why, String) {
    let winner = &won.name;
    debug_assert!(age(won) < age(lost));
    match (won.created, lost.created) {
        (Some(_), None) => (
            Why::Age,
            format!(
                "{but} {winner} has a creationTimestamp and this one has none, so that it counts as older"
            ),
        ),
        (a, b) if a != b => (Why::Age, format!("{but} {winner} is older (metadata.creationTimestamp)")),
        _ => (
            Why::NameOrder,
            format!("{but} {winner} comes first by namespace and name, and neither is older"),
        ),
    }
}
