//! The parts of explanations, in words for the outside.
//!
//! Owns the way from `core`'s types to those of `admin::view`.

use std::net::SocketAddr;

use super::{Live, at};
use crate::admin::view::{
    BackendView, CandidateView, EndpointView, FilterView, ListenerRefView, MatchView, ObjectRefView,
    PathView, PlaceView, SkipView, ValueView,
};
use crate::core::explain::{ListedBackend, Lost, Matched};
use crate::core::headers::{HeaderChanges, HeaderFilters};
use crate::core::redirect::Redirect;
use crate::core::route::{HttpBackend, Unserved, ValueText};
use crate::core::snapshot::BoundListeners;

pub(super) fn place(bound: &BoundListeners) -> PlaceView {
    let (address, port) = at(&bound.key);
    PlaceView { address, port, listeners: bound.label.split(',').map(str::to_owned).collect() }
}

pub(super) fn listener(label: &str, hostname: Option<&str>) -> ListenerRefView {
    ListenerRefView { name: label.to_owned(), hostname: hostname.unwrap_or_default().to_owned() }
}

/// An object out of its label `NAMESPACE/NAME`.
pub(super) fn object(kind: &str, label: &str) -> ObjectRefView {
    let (namespace, name) = label.split_once('/').unwrap_or(("", label));
    ObjectRefView { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}

pub(super) fn matched(matched: &Matched) -> MatchView {
    let values = |list: &[ValueText]| {
        let value = |v: &ValueText| ValueView {
            kind: if v.regex { "RegularExpression" } else { "Exact" }.to_owned(),
            name: v.name.clone(),
            value: v.value.clone(),
        };
        list.iter().map(value).collect()
    };
    let text = &matched.text;
    MatchView {
        index: matched.at,
        hostname: matched.hostname.clone().unwrap_or_default(),
        path: PathView { kind: text.path_type.to_owned(), value: text.path.clone() },
        method: text.method.as_deref().map(str::to_owned),
        headers: values(&text.headers),
        query_params: values(&text.query),
        text: text.to_string(),
    }
}

pub(super) fn candidate(lost: &Lost) -> CandidateView {
    CandidateView {
        route: ObjectRefView {
            kind: lost.kind.to_owned(),
            namespace: lost.route.namespace.to_string(),
            name: lost.route.name.to_string(),
        },
        rule: lost.rule.as_deref().map(str::to_owned),
        listener: lost.listener.as_deref().map(str::to_owned),
        matched: lost.matched.as_ref().map(matched),
        reason: lost.why.name().to_owned(),
        message: lost.message.clone(),
    }
}

/// Filters in words.
pub(super) fn filters(redirect: Option<&Redirect>, headers: Option<&HeaderFilters>) -> Vec<FilterView> {
    let changes = |kind, changes: &HeaderChanges| (!changes.is_empty()).then(|| (kind, changes.to_string()));
    let all = [
        headers.and_then(|headers| changes("RequestHeaderModifier", &headers.request)),
        headers.and_then(|headers| changes("ResponseHeaderModifier", &headers.response)),
        redirect.map(|redirect| ("RequestRedirect", redirect.to_string())),
    ];
    let view = |(kind, text): (&str, String)| FilterView { kind: kind.to_owned(), text };
    all.into_iter().flatten().map(view).collect()
}

/// A backend of a rule whose weights have this sum.
pub(super) fn backend(backend: &HttpBackend, total: u64, live: Option<&Live>) -> BackendView {
    let endpoints = backend.target.endpoints();
    let why = endpoints.err().filter(|_| backend.weight > 0);
    BackendView {
        name: backend.name.to_string(),
        weight: Some(backend.weight),
        share: if total == 0 { 0.0 } else { percent(f64::from(backend.weight) / total as f64) },
        status: why.map(Unserved::status),
        message: why.map(|why| why.words().to_owned()).unwrap_or_default(),
        filters: filters(None, backend.headers.as_deref()),
        endpoints: endpoints
            .map_or_else(|_| Vec::new(), |all| all.iter().map(|at| endpoint(*at, live)).collect()),
    }
}

/// The backends of a rule that is listed.
pub(super) fn listed(backends: &[ListedBackend], live: Option<&Live>) -> Vec<BackendView> {
    let total: u64 = backends.iter().filter_map(|b| b.weight).map(u64::from).sum();
    let one = |b: &ListedBackend| BackendView {
        name: b.name.to_string(),
        weight: b.weight,
        share: match b.weight {
            Some(weight) if total > 0 => percent(f64::from(weight) / total as f64),
            Some(_) => 0.0,
            None => percent(b.part),
        },
        status: b.unserved.map(Unserved::status),
        message: b.unserved.map(|why| why.words().to_owned()).unwrap_or_default(),
        filters: filters(None, b.headers.as_deref()),
        endpoints: b.endpoints.iter().map(|at| endpoint(*at, live)).collect(),
    };
    backends.iter().map(one).collect()
}

pub(super) fn endpoint(at: SocketAddr, live: Option<&Live>) -> EndpointView {
    let failing = live.map_or(&[][..], |live| &live.failing);
    let skipped = failing.iter().zip(0..).filter_map(|(failing, worker)| {
        let (_, left) = failing.iter().find(|(other, _)| *other == at)?;
        Some(SkipView { worker, seconds: (left.as_secs_f64() * 10.0).round() / 10.0 })
    });
    EndpointView { address: at.to_string(), skipped: skipped.collect() }
}

/// A part of the whole in percent, to a tenth.
pub(super) fn percent(part: f64) -> f64 {
    (part * 1000.0).round() / 10.0
}
