//! HTTP route matching: which rule serves a request.
//!
//! Owns the tables and every precedence rule of the specification (HTTPRoute, `HTTPRouteRule.matches`). Must not
//! know how a request arrives: it sees host, path, method, headers and query.

mod condition;
mod host;
mod inspect;
mod path;
mod pattern;
#[cfg(test)]
mod tests;
mod trace;
mod unserved;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use self::path::PathIndex;
use self::trace::Tracer;
use super::headers::HeaderFilters;
use super::redirect::Redirect;
use super::snapshot::SeriesAt;

pub(crate) use self::condition::{Conditions, Failing, Value, parameter_of};
pub(crate) use self::host::{Buffer as HostBuffer, HostIndex, fold as fold_host, intersect};
pub(crate) use self::inspect::{Entry, Listener, Watched};
pub use self::inspect::{MatchText, ValueText};
pub(crate) use self::path::{Path, PathRef};
pub use self::pattern::Patterns;
pub use self::unserved::Unserved;

/// What of a request is matched.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The host without its port, in any case.
    pub host: &'a str,
    /// The raw path, as sent.
    pub path: &'a str,
    /// The raw query without `?`, if there is one.
    pub query: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The headers.
    pub headers: &'a http::HeaderMap,
}

/// The answer to "who serves this request".
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// `NAMESPACE/GATEWAY/LISTENER` of the listener that the host fits; the binding's label if it fits none.
    pub listener: &'t Arc<str>,
    /// The rule; `None`: 404.
    pub rule: Option<&'t Arc<RuleEntry>>,
    /// The counter of an answer that no backend gave: the rule's, or that of "no route".
    pub series: SeriesAt,
}

/// A rule as the workers serve it, for one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleEntry {
    /// `NAMESPACE/NAME` of the route.
    pub route: Arc<str>,
    /// The rule's name, or its position as a number.
    pub rule: Arc<str>,
    /// Its backends in the order of the spec.
    pub backends: Box<[HttpBackend]>,
    /// Asks for what is not built, or cannot be done: 500 for whatever it matches.
    pub refused: bool,
    /// Where clients are sent instead; `None`: a backend answers, or the rule is refused.
    pub redirect: Option<Arc<Redirect>>,
    /// What is done to the headers of an answer that no backend gave; `None`: nothing.
    pub headers: Option<Arc<HeaderFilters>>,
    /// timeouts.request; `None`: no limit of the route's own.
    pub request_timeout: Option<Duration>,
    /// timeouts.backendRequest; `None`: no limit of the route's own.
    pub backend_timeout: Option<Duration>,
    /// Networks of proxies whose word about the client counts; `None`: nobody's does.
    pub trusted: Option<Arc<[IpNet]>>,
    /// The counter of answers that no backend gave.
    pub series: SeriesAt,
}

/// A backendRef of an HTTP rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBackend {
    /// Weight, 0–1,000,000; 0 is never chosen.
    pub weight: u32,
    /// `NAMESPACE/SERVICE:PORT`.
    pub name: Arc<str>,
    /// Where it leads.
    pub target: Target,
    /// What is done to the headers of requests and answers, by the rule and by the backendRef; `None`: nothing.
    pub headers: Option<Arc<HeaderFilters>>,
    /// Its counter.
    pub series: SeriesAt,
}

/// Where a backendRef leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To these endpoints, never empty.
    Endpoints(Arc<[SocketAddr]>),
    /// The Service has no endpoint that is ready: 503.
    Unavailable,
    /// The reference is invalid: 500.
    Invalid,
}

impl RuleEntry {
    /// Whether what a peer says about its client counts.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().flat_map(|networks| networks.iter()).any(|network| network.contains(&peer))
    }

    /// The backend for the request with this number: weights are met as evenly as a low-discrepancy sequence can, so
    /// count requests up by one (any start). `None`: nothing can be chosen, 500.
    #[must_use]
    pub fn choose(&self, counter: u64) -> Option<&HttpBackend> {
        if let [only] = &*self.backends {
            return (only.weight > 0).then_some(only);
        }
        let total: u64 = self.backends.iter().map(|b| u64::from(b.weight)).sum();
        // The multiples of the golden ratio modulo 1 are spread evenly over every stretch of the sequence.
        let point = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = ((u128::from(point) * u128::from(total)) >> 64) as u64;
        self.backends.iter().find(|b| {
            let here = at < u64::from(b.weight);
            at = at.saturating_sub(u64::from(b.weight));
            here
        })
    }
}

/// The routes of one binding.
#[derive(Clone, Debug)]
pub struct HttpTable {
    label: Arc<str>,
    no_listener: SeriesAt,
    listeners: HostIndex<Arc<ListenerTable>>,
}

/// The routes of one listener.
#[derive(Clone, Debug)]
pub(crate) struct ListenerTable {
    label: Arc<str>,
    no_route: SeriesAt,
    /// By the routes' own hostnames, not by what they have in common with the listener's: the specification gives
    /// precedence by the hostname that a route was written with.
    hosts: HostIndex<PathIndex>,
}

impl HttpTable {
    /// A table without listeners. `label` and the counter `no_listener` are for requests whose host fits no listener.
    pub(crate) fn new(label: Arc<str>, no_listener: SeriesAt) -> Self {
        Self { label, no_listener, listeners: HostIndex::default() }
    }

    /// The counter of requests that are refused before they are routed, and of those whose host fits no listener.
    #[must_use]
    pub fn unrouted(&self) -> SeriesAt {
        self.no_listener
    }

    /// Adds a listener under its hostname; the first of equal ones stays.
    pub(crate) fn add(&mut self, hostname: Option<&Arc<str>>, listener: &Arc<ListenerTable>) {
        self.listeners.entry(hostname, || listener.clone());
    }

    /// The rule that serves a request, by the precedence of the specification. The most specific listener alone is
    /// asked (listener isolation), and within it the most specific hostname first; if nothing fits under that, the
    /// next.
    #[must_use]
    pub fn find(&self, request: &RequestView<'_>) -> Found<'_> {
        self.find_watched(request, &mut ())
    }

    /// The same, watched.
    #[inline]
    pub(crate) fn find_watched<'t>(
        &'t self,
        request: &RequestView<'_>,
        tracer: &mut impl Tracer<'t>,
    ) -> Found<'t> {
        let mut buffer: host::Buffer = [0; _];
        let host = host::fold(request.host, &mut buffer);
        let Some(listener) = self.listeners.fitting(host).next() else {
            return Found { listener: &self.label, rule: None, series: self.no_listener };
        };
        tracer.listener(listener);
        let rule = listener.hosts.fitting(host).find_map(|paths| paths.find(request, tracer));
        let series = rule.map_or(listener.no_route, |rule| rule.series);
        Found { listener: &listener.label, rule, series }
    }
}

impl ListenerTable {
    /// A table without routes, with the counter of requests that fit none.
    pub(crate) fn new(label: Arc<str>, no_route: SeriesAt) -> Self {
        Self { label, no_route, hosts: HostIndex::default() }
    }

    /// Adds a match, the rule's `at`th, under a hostname. Routes must come oldest first, their rules and matches in
    /// order.
    pub(crate) fn add(
        &mut self,
        hostname: Option<&Arc<str>>,
        path: &Path,
        conditions: Option<&Arc<Conditions>>,
        rule: &Arc<RuleEntry>,
        at: u32,
    ) {
        self.hosts.entry(hostname, PathIndex::default).add(path, conditions, rule, at);
    }

    /// Brings everything into its order. To be called once, after the last `add`.
    pub(crate) fn seal(&mut self) {
        self.hosts.values_mut().for_each(PathIndex::seal);
        self.hosts.shrink();
    }
}
