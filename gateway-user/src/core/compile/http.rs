//! HTTPRoutes: from rules to the tables of the listeners that they are attached to.
//!
//! Owns what a rule means and the series of request counters. Precedence is `route`'s.

use std::sync::Arc;

use http::HeaderName;
use regex::bytes::Regex;
use rustc_hash::FxHashMap;

use super::backends::{Resolved, Resolver, Spoken};
use super::condition::Problem;
use super::gateways::{Gateways, ListenerId, refusals};
use super::listeners::HTTP_ROUTE;
use crate::core::headers::HeaderFilters;
use crate::core::model::{HttpMatch, HttpRoute, HttpRule, PathMatch, ValueMatch};
use crate::core::route::{Conditions, HttpBackend, ListenerTable, Path, Patterns, RuleEntry, Value};
use crate::core::snapshot::{SeriesAt, SeriesKey};

/// The table of a listener, finished.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) table: Arc<ListenerTable>,
    /// Where its counters are.
    pub(super) block: u32,
    /// Their labels, the first of which is that of "no route".
    pub(super) series: Arc<[SeriesKey]>,
}

/// The tables in the making.
pub(super) struct Tables<'b> {
    /// By listener, for those that are served and made anew.
    making: FxHashMap<ListenerId, Making>,
    /// Those that stay as they were.
    kept: FxHashMap<ListenerId, Table>,
    /// The listeners that are served, in the order of their blocks of series.
    served: Vec<ListenerId>,
    patterns: Patterns,
    before: &'b Patterns,
    /// The expressions that the route asks for that is being added.
    asked: Vec<Arc<str>>,
    /// Labels of rules without a name.
    positions: Vec<Arc<str>>,
    empty: Arc<str>,
}

struct Making {
    table: ListenerTable,
    block: u32,
    series: Vec<SeriesKey>,
}

/// What all tables together are.
pub(super) struct Finished {
    pub(super) tables: FxHashMap<ListenerId, Table>,
    /// By block.
    pub(super) series: Vec<Arc<[SeriesKey]>>,
    /// Expressions that were asked for.
    pub(super) patterns: Patterns,
}

/// What came of a route's rules: what its conditions need.
pub(super) struct Outcome {
    /// Refused rules, as messages.
    pub(super) refused: Vec<String>,
    /// Whether all rules are refused.
    pub(super) all_refused: bool,
    /// What is wrong with its backends, with the reference's place.
    pub(super) backends: Vec<(String, Problem)>,
    /// The expressions that it asks for.
    pub(super) patterns: Vec<Arc<str>>,
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
    /// A table for each HTTP listener that is served, out of those that stay as they were if it is in there.
    pub(super) fn new(
        gateways: &Gateways<'_>,
        before: &'b Patterns,
        stays: impl Fn(ListenerId) -> Option<Table>,
    ) -> Self {
        let empty: Arc<str> = "".into();
        let mut served = Vec::new();
        let (mut making, mut kept) = (FxHashMap::default(), FxHashMap::default());
        for (g, gateway) in gateways.list.iter().enumerate() {
            for (l, work) in gateway.listeners.iter().enumerate() {
                if !work.listener.protocol.is_http() || work.keys.is_empty() {
                    continue;
                }
                let block = served.len() as u32;
                served.push((g, l));
                if let Some(table) = stays((g, l)) {
                    kept.insert((g, l), table);
                    continue;
                }
                let series = vec![no_route(&work.label, &empty)];
                let table = ListenerTable::new(work.label.clone(), SeriesAt { block, at: 0 });
                making.insert((g, l), Making { table, block, series });
            }
        }
        Self {
            making,
            kept,
            served,
            patterns: Patterns::default(),
            before,
            asked: Vec::new(),
            positions: (0..16).map(|n| n.to_string().into()).collect(),
            empty,
        }
    }

    /// Adds a route to those of its listeners whose tables are made anew (each named once). Routes must come oldest first.
    pub(super) fn add<'m>(
        &mut self,
        gateways: &Gateways<'_>,
        resolver: &mut Resolver<'m>,
        route: &'m HttpRoute,
        listeners: &[ListenerId],
    ) -> Outcome {
        let mut outcome =
            Outcome { refused: Vec::new(), all_refused: false, backends: Vec::new(), patterns: Vec::new() };
        if !route.refusals.is_empty() {
            outcome.refused.push(refusals(&route.refusals));
        }
        let mut rules = Vec::with_capacity(route.rules.len());
        for (at, rule) in route.rules.iter().enumerate() {
            rules.push(self.rule(resolver, route, at, rule, &mut outcome));
        }
        outcome.patterns = std::mem::take(&mut self.asked);
        outcome.all_refused = rules.iter().all(|rule| rule.refused) && !outcome.refused.is_empty();
        let name: Arc<str> = route.meta.name.to_string().into();
        for &(g, l) in listeners {
            let gateway = &gateways.list[g];
            let work = &gateway.listeners[l];
            let Some(Making { table, block, series }) = self.making.get_mut(&(g, l)) else { continue };
            let first = series.len();
            for rule in &rules {
                let mut count = |backend: &Arc<str>| {
                    let key = SeriesKey {
                        listener: work.label.clone(),
                        route: name.clone(),
                        rule: rule.label.clone(),
                        backend: backend.clone(),
                    };
                    SeriesAt { block: *block, at: intern(series, first, key) }
                };
                let own = count(&self.empty);
                let backends = rule.backends.iter().map(|(weight, headers, backend)| HttpBackend {
                    weight: *weight,
                    name: backend.name.clone(),
                    target: backend.target.clone(),
                    headers: headers.clone(),
                    series: count(&backend.name),
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
                    series: own,
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
                self.pattern(text)
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
        self.pattern(&asked.value).map(Value::Regex).map_err(|why| {
            let ValueMatch { name, value, .. } = asked;
            format!("{field}: {name}: the regular expression \"{value}\" is refused: {why}")
        })
    }

    fn pattern(&mut self, text: &Arc<str>) -> Result<Arc<Regex>, Arc<str>> {
        self.asked.push(text.clone());
        self.patterns.get(self.before, text)
    }

    /// The finished tables.
    pub(super) fn finish(self) -> Finished {
        let mut tables = self.kept;
        for (id, Making { mut table, block, series }) in self.making {
            table.seal();
            tables.insert(id, Table { table: Arc::new(table), block, series: series.into() });
        }
        let series = self.served.iter().map(|id| tables[id].series.clone()).collect();
        Finished { tables, series, patterns: self.patterns }
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

/// Adds a series and says where; one that is there from `first` on is used again: a rule may name a backend twice, and a
/// name may look like a position.
fn intern(series: &mut Vec<SeriesKey>, first: usize, key: SeriesKey) -> u32 {
    let known = series[first..].iter().position(|s| s.rule == key.rule && s.backend == key.backend);
    let at = known.map_or(series.len(), |at| first + at);
    if at == series.len() {
        series.push(key);
    }
    at as u32
}
