//! HTTPRoutes: from rules to the tables of the listeners that they are attached to.
//!
//! Owns what a rule means and the series of request counters. Precedence is `route`'s.

use std::sync::Arc;

use http::HeaderName;
use rustc_hash::FxHashMap;

use super::backends::{Resolved, Resolver, Spoken};
use super::condition::Problem;
use super::gateways::{Gateways, ListenerId, refusals};
use super::listeners::HTTP_ROUTE;
use crate::core::headers::HeaderFilters;
use crate::core::model::{HttpMatch, HttpRoute, HttpRule, PathMatch, ValueMatch};
use crate::core::route::{Conditions, HttpBackend, ListenerTable, Path, Patterns, RuleEntry, Value};
use crate::core::snapshot::SeriesKey;

/// The tables in the making.
pub(super) struct Tables<'b> {
    /// By listener, for those that are served.
    by_listener: FxHashMap<ListenerId, (ListenerTable, u32)>,
    pub(super) series: Vec<SeriesKey>,
    pub(super) patterns: Patterns,
    before: &'b Patterns,
    /// Labels of rules without a name.
    positions: Vec<Arc<str>>,
    empty: Arc<str>,
}

/// The tables by listener, each with the series of "no route".
type Finished = FxHashMap<ListenerId, (Arc<ListenerTable>, u32)>;

/// What came of a route's rules: what its conditions need.
pub(super) struct Outcome {
    /// Refused rules, as messages.
    pub(super) refused: Vec<String>,
    /// Whether all rules are refused.
    pub(super) all_refused: bool,
    /// What is wrong with its backends, with the reference's place.
    pub(super) backends: Vec<(String, Problem)>,
}

struct Rule<'m> {
    rule: &'m HttpRule,
    label: Arc<str>,
    /// With their positions in the spec.
    matches: Vec<(u32, Path, Option<Arc<Conditions>>)>,
    /// Weight, what is done to headers, and where it leads.
    backends: Vec<(u32, Option<Arc<HeaderFilters>>, Resolved)>,
    refused: bool,
}

impl<'b> Tables<'b> {
    /// A table for each HTTP listener that is served.
    pub(super) fn new(gateways: &Gateways<'_>, before: &'b Patterns) -> Self {
        let empty: Arc<str> = "".into();
        let mut series = Vec::new();
        let mut by_listener = FxHashMap::default();
        for (g, gateway) in gateways.list.iter().enumerate() {
            for (l, work) in gateway.listeners.iter().enumerate() {
                if work.listener.protocol.is_http() && !work.keys.is_empty() {
                    let no_route = push(&mut series, no_route(&work.label, &empty));
                    by_listener.insert((g, l), (ListenerTable::new(work.label.clone(), no_route), no_route));
                }
            }
        }
        Self {
            by_listener,
            series,
            patterns: Patterns::default(),
            before,
            positions: (0..16).map(|n| n.to_string().into()).collect(),
            empty,
        }
    }

    /// Adds a route to the listeners that it is attached to (each named once). Routes must come oldest first.
    pub(super) fn add<'m>(
        &mut self,
        gateways: &Gateways<'_>,
        resolver: &mut Resolver<'m>,
        route: &'m HttpRoute,
        listeners: &[ListenerId],
    ) -> Outcome {
        let mut outcome = Outcome { refused: Vec::new(), all_refused: false, backends: Vec::new() };
        if !route.refusals.is_empty() {
            outcome.refused.push(refusals(&route.refusals));
        }
        let mut rules = Vec::with_capacity(route.rules.len());
        for (at, rule) in route.rules.iter().enumerate() {
            rules.push(self.rule(resolver, route, at, rule, &mut outcome));
        }
        outcome.all_refused = rules.iter().all(|rule| rule.refused) && !outcome.refused.is_empty();
        let name: Arc<str> = route.meta.name.to_string().into();
        for &(g, l) in listeners {
            let gateway = &gateways.list[g];
            let work = &gateway.listeners[l];
            let Some((table, _)) = self.by_listener.get_mut(&(g, l)) else { continue };
            let first = self.series.len();
            for rule in &rules {
                let key = |backend: &Arc<str>| SeriesKey {
                    listener: work.label.clone(),
                    route: name.clone(),
                    rule: rule.label.clone(),
                    backend: backend.clone(),
                };
                let series = intern(&mut self.series, first, key(&self.empty));
                let backends = rule.backends.iter().map(|(weight, headers, backend)| HttpBackend {
                    weight: *weight,
                    name: backend.name.clone(),
                    target: backend.target.clone(),
                    headers: headers.clone(),
                    series: intern(&mut self.series, first, key(&backend.name)),
                });
                let entry = Arc::new(RuleEntry {
                    route: name.clone(),
                    rule: rule.label.clone(),
                    backends: backends.collect(),
                    refused: rule.refused,
                    redirect: rule.rule.redirect.clone().filter(|_| !rule.refused),
                    headers: rule.rule.headers.clone().filter(|_| !rule.refused),
                    request_timeout: rule.rule.request_timeout.filter(|t| !t.is_zero()),
                    backend_timeout: rule.rule.backend_timeout.filter(|t| !t.is_zero()),
                    trusted: gateway.parameters.trusted.cloned(),
                    series,
                });
                for (at, path, conditions) in &rule.matches {
                    if route.hostnames.is_empty() {
                        table.add(None, path, conditions.as_ref(), &entry, *at);
                    }
                    for hostname in &route.hostnames {
                        let meets = |own| crate::core::route::intersect(own, hostname);
                        if work.listener.hostname.as_deref().is_none_or(meets) {
                            table.add(Some(hostname), path, conditions.as_ref(), &entry, *at);
                        }
                    }
                }
            }
        }
        outcome
    }

    fn rule<'m>(
        &mut self,
        resolver: &mut Resolver<'m>,
        route: &'m HttpRoute,
        at: usize,
        rule: &'m HttpRule,
        outcome: &mut Outcome,
    ) -> Rule<'m> {
        let mut problems = Vec::new();
        if !rule.refusals.is_empty() {
            problems.push(refusals(&rule.refusals));
        }
        let mut matches = Vec::with_capacity(rule.matches.len());
        for (m, one) in rule.matches.iter().enumerate() {
            match self.one_match(one) {
                Ok((path, conditions)) => matches.push((m as u32, path, conditions)),
                Err(why) => problems.push(format!("spec.rules[{at}].matches[{m}].{why}")),
            }
        }
        let mut backends = Vec::with_capacity(rule.backends.len());
        for (b, backend) in rule.backends.iter().enumerate() {
            if !backend.refusals.is_empty() {
                problems.push(refusals(&backend.refusals));
            }
            let from = &*route.meta.name.namespace;
            let resolved = resolver.resolve(backend, HTTP_ROUTE, from, Spoken::Http);
            if let Some(problem) = &resolved.problem {
                outcome.backends.push((format!("spec.rules[{at}].backendRefs[{b}]"), problem.clone()));
            }
            backends.push((
                backend.weight,
                together(rule.headers.as_ref(), backend.headers.as_ref()),
                resolved,
            ));
        }
        let refused = !problems.is_empty() || !route.refusals.is_empty();
        outcome.refused.append(&mut problems);
        let label = rule
            .name
            .clone()
            .unwrap_or_else(|| self.positions.get(at).cloned().unwrap_or_else(|| at.to_string().into()));
        Rule { rule, label, matches, backends, refused }
    }

    /// A match; or why it cannot be made: then it matches nothing, and its rule answers 500 to what its other matches
    /// fit.
    fn one_match(&mut self, one: &HttpMatch) -> Result<(Path, Option<Arc<Conditions>>), String> {
        let path = match &one.path {
            PathMatch::Exact(path) => Path::Exact(path.clone()),
            PathMatch::Prefix(prefix) => match prefix.trim_end_matches('/') {
                trimmed if trimmed.len() == prefix.len() => Path::Prefix(prefix.clone()),
                "" => Path::Prefix(self.empty.clone()),
                trimmed => Path::Prefix(trimmed.into()),
            },
            PathMatch::Regex(text) => Path::Regex(
                self.patterns
                    .get(self.before, text)
                    .map_err(|why| format!("path: the regular expression \"{text}\" is refused: {why}"))?,
            ),
        };
        if one.method.is_none() && one.headers.is_empty() && one.query.is_empty() {
            return Ok((path, None));
        }
        let mut headers = Vec::with_capacity(one.headers.len());
        for header in &one.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes())
                .map_err(|_| format!("headers: \"{}\" is not the name of a header", header.name))?;
            headers.push((name, self.value(header, "headers")?));
        }
        let mut query = Vec::with_capacity(one.query.len());
        for parameter in &one.query {
            query.push((parameter.name.clone(), self.value(parameter, "queryParams")?));
        }
        let (headers, query) = (headers.into(), query.into());
        Ok((path, Some(Arc::new(Conditions { method: one.method.clone(), headers, query }))))
    }

    fn value(&mut self, asked: &ValueMatch, field: &str) -> Result<Value, String> {
        if !asked.regex {
            return Ok(Value::Exact(asked.value.clone()));
        }
        let regex = self.patterns.get(self.before, &asked.value);
        regex.map(Value::Regex).map_err(|why| {
            let ValueMatch { name, value, .. } = asked;
            format!("{field}: {name}: the regular expression \"{value}\" is refused: {why}")
        })
    }

    /// The finished tables.
    pub(super) fn finish(self) -> (Finished, Vec<SeriesKey>, Patterns) {
        let seal = |(id, (mut table, no_route)): (ListenerId, (ListenerTable, u32))| {
            table.seal();
            (id, (Arc::new(table), no_route))
        };
        (self.by_listener.into_iter().map(seal).collect(), self.series, self.patterns)
    }
}

/// The header changes of a rule and of one of its backends.
fn together(
    rule: Option<&Arc<HeaderFilters>>,
    backend: Option<&Arc<HeaderFilters>>,
) -> Option<Arc<HeaderFilters>> {
    match (rule, backend) {
        (Some(rule), Some(backend)) => Some(rule.around(backend).into()),
        (one, other) => one.or(other).cloned(),
    }
}

/// The series of answers for which no route was found.
pub(super) fn no_route(listener: &Arc<str>, empty: &Arc<str>) -> SeriesKey {
    SeriesKey {
        listener: listener.clone(),
        route: empty.clone(),
        rule: empty.clone(),
        backend: empty.clone(),
    }
}

/// Adds a series and says where.
pub(super) fn push(series: &mut Vec<SeriesKey>, key: SeriesKey) -> u32 {
    series.push(key);
    (series.len() - 1) as u32
}

/// The same, but a series that is there from `first` on is used again: a rule may name a backend twice, and a name
/// may look like a position.
fn intern(series: &mut Vec<SeriesKey>, first: usize, key: SeriesKey) -> u32 {
    let known = series[first..].iter().position(|s| s.rule == key.rule && s.backend == key.backend);
    known.map_or_else(|| push(series, key), |at| (first + at) as u32)
}
