//! Looking into the tables: every candidate in its place, and a search with all that it looked at.
//!
//! Owns how a match is written down for a person. Serves explanations and listings, never the data path.

use std::fmt;
use std::sync::Arc;

use regex::bytes::Regex;

use super::condition::{Failing, Value};
use super::path::{Candidate, PathIndex, PathRef};
use super::trace::Tracer;
use super::{Found, HttpTable, ListenerTable, RequestView, host};

/// A candidate in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'t> {
    /// Its listener.
    pub(crate) listener: &'t Listener,
    /// Its place among the hostnames of its listener, the most specific first.
    pub(crate) hostname_at: usize,
    /// The hostname that it is filed under; `None`: every one.
    pub(crate) hostname: Option<&'t str>,
    /// Whether the host fits that.
    pub(crate) hostname_fits: bool,
    /// Its path.
    pub(crate) path: PathRef<'t>,
    /// Itself.
    pub(crate) candidate: &'t Candidate,
}

/// A listener of a binding, with its candidates in the order of precedence.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub(crate) label: Arc<str>,
    /// Its hostname; `None`: every one.
    pub(crate) hostname: Option<String>,
    /// Whether the host fits that.
    pub(crate) fits: bool,
}

/// A search, and what it looked at.
#[derive(Debug)]
pub(crate) struct Watched<'t> {
    pub(crate) found: Found<'t>,
    /// The label of the listener that was asked.
    pub(crate) listener: Option<&'t Arc<str>>,
    /// Those whose path fits but who ask for more than the request has, as far as the search went.
    pub(crate) failed: Vec<(&'t Candidate, Failing)>,
    /// Who serves the request.
    pub(crate) winner: Option<&'t Candidate>,
}

#[derive(Default)]
struct Watch<'t> {
    listener: Option<&'t Arc<str>>,
    failed: Vec<(&'t Candidate, Failing)>,
    winner: Option<&'t Candidate>,
}

impl<'t> Tracer<'t> for Watch<'t> {
    fn listener(&mut self, listener: &'t ListenerTable) {
        self.listener = Some(&listener.label);
    }

    fn tried(&mut self, candidate: &'t Candidate, failing: Option<Failing>) {
        match failing {
            Some(failing) => self.failed.push((candidate, failing)),
            None => self.winner = Some(candidate),
        }
    }
}

/// What of a table is looked at: the owner of the entries' names.
#[derive(Debug)]
pub(crate) struct Inspection<'t> {
    listeners: Vec<(Listener, &'t ListenerTable, Hostnames<'t>)>,
}

/// Hostnames with whether they fit, and their paths.
type Hostnames<'t> = Vec<(Option<String>, bool, &'t PathIndex)>;

impl HttpTable {
    /// The search of the data path, watched.
    pub(crate) fn watch(&self, request: &RequestView<'_>) -> Watched<'_> {
        let mut watch = Watch::default();
        let found = self.find_watched(request, &mut watch);
        let Watch { listener, failed, winner } = watch;
        Watched { found, listener, failed, winner }
    }

    /// Everything that the table holds, seen from a request for this host.
    pub(crate) fn inspect(&self, host: &str) -> Inspection<'_> {
        let mut buffer: host::Buffer = [0; _];
        let host = host::fold(host, &mut buffer);
        let listeners = self.listeners.entries().into_iter().map(|(hostname, table)| {
            let fits = self.listeners.fitting(host).any(|other| Arc::ptr_eq(other, table));
            let listener = Listener { label: table.label.clone(), hostname, fits };
            let hostnames = table.hosts.entries().into_iter().map(|(hostname, paths)| {
                let fits = table.hosts.fitting(host).any(|other| std::ptr::eq(other, paths));
                (hostname, fits, paths)
            });
            (listener, &**table, hostnames.collect())
        });
        Inspection { listeners: listeners.collect() }
    }
}

impl Inspection<'_> {
    /// The listeners, the most specific first.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().map(|(listener, ..)| listener)
    }

    /// Every candidate: by listener, and within it in the order of precedence.
    pub(crate) fn entries(&self) -> Vec<Entry<'_>> {
        let mut all = Vec::new();
        for (listener, _, hostnames) in &self.listeners {
            for (hostname_at, (hostname, hostname_fits, paths)) in hostnames.iter().enumerate() {
                let (hostname, hostname_fits) = (hostname.as_deref(), *hostname_fits);
                let entry = |(path, candidate)| Entry {
                    listener,
                    hostname_at,
                    hostname,
                    hostname_fits,
                    path,
                    candidate,
                };
                all.extend(paths.entries().into_iter().map(entry));
            }
        }
        all
    }
}

/// A match as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchText {
    /// `Exact`, `RegularExpression` or `PathPrefix`.
    pub path_type: &'static str,
    /// The path's value.
    pub path: String,
    /// The method.
    pub method: Option<Arc<str>>,
    /// Headers.
    pub headers: Vec<ValueText>,
    /// Query parameters.
    pub query: Vec<ValueText>,
}

/// A header or a query parameter that is asked for, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueText {
    /// Its name.
    pub name: String,
    /// Its value, or the expression that must fit all of it.
    pub value: String,
    /// Whether it is an expression.
    pub regex: bool,
}

impl Entry<'_> {
    /// The match in words.
    pub(crate) fn text(&self) -> MatchText {
        let (path_type, path) = match self.path {
            PathRef::Exact(path) => ("Exact", path.to_owned()),
            PathRef::Regex(regex) => ("RegularExpression", written(regex).to_owned()),
            PathRef::Prefix("") => ("PathPrefix", "/".to_owned()),
            PathRef::Prefix(path) => ("PathPrefix", path.to_owned()),
        };
        let mut text = MatchText { path_type, path, method: None, headers: Vec::new(), query: Vec::new() };
        if let Some(conditions) = self.candidate.conditions.as_deref() {
            text.method.clone_from(&conditions.method);
            text.headers = conditions.headers.iter().map(|(name, v)| value(name.as_str(), v)).collect();
            text.query = conditions.query.iter().map(|(name, v)| value(name, v)).collect();
        }
        text
    }
}

fn value(name: &str, value: &Value) -> ValueText {
    let (value, regex) = match value {
        Value::Exact(text) => (text.to_string(), false),
        Value::Regex(regex) => (written(regex).to_owned(), true),
    };
    ValueText { name: name.to_owned(), value, regex }
}

/// An expression as it was written, without what makes it fit in full.
fn written(regex: &Regex) -> &str {
    let text = regex.as_str();
    text.strip_prefix("^(?:").and_then(|text| text.strip_suffix(")$")).unwrap_or(text)
}

impl fmt::Display for MatchText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path_type, self.path)?;
        if let Some(method) = &self.method {
            write!(f, ", method {method}")?;
        }
        self.headers.iter().try_for_each(|header| write!(f, ", header {header}"))?;
        self.query.iter().try_for_each(|parameter| write!(f, ", query {parameter}"))
    }
}

impl fmt::Display for ValueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.regex { "~" } else { "=" };
        write!(f, "{}{sign}{}", self.name, self.value)
    }
}
