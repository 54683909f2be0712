//! Paths: exact ones, regular expressions, prefixes by element.
//!
//! Owns their order: Exact, RegularExpression (the longest expression first: the specification leaves it open),
//! PathPrefix (the longest first). The raw path is matched: `%2F` is no separator, `//` is not `/`.

use std::cmp::Reverse;
use std::sync::Arc;

use regex::bytes::Regex;
use rustc_hash::FxHashMap;

use super::condition::{Conditions, Failing, Rank};
use super::trace::Tracer;
use super::{RequestView, RuleEntry};

/// A path to match.
#[derive(Clone, Debug)]
pub(crate) enum Path {
    /// Exactly this.
    Exact(Arc<str>),
    /// This and what is below it, without a slash at its end: the empty string fits every path.
    Prefix(Arc<str>),
    /// What the expression fits in full.
    Regex(Arc<Regex>),
}

/// A match that has this path: what else it asks for, and whom it leads to.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) conditions: Option<Arc<Conditions>>,
    pub(crate) rule: Arc<RuleEntry>,
    /// Its position within the rule's matches.
    pub(crate) at: u32,
}

/// The path of a candidate, in the order of precedence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PathRef<'t> {
    /// Exactly this.
    Exact(&'t str),
    /// What the expression fits in full.
    Regex(&'t Regex),
    /// This and what is below it, without a slash at its end.
    Prefix(&'t str),
}

/// Candidates, the first to be tried in front.
type Candidates = Vec<Candidate>;

/// The matches of one hostname.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathIndex {
    exact: FxHashMap<Arc<str>, Candidates>,
    /// One after the other: the one cost that grows with the number of matches of a hostname.
    regexes: Vec<(Arc<Regex>, Candidate)>,
    prefixes: FxHashMap<Arc<str>, Candidates>,
    /// The lengths that prefixes have, the longest first: nothing else is looked up, however long a path is and
    /// however many elements it has.
    lengths: Vec<usize>,
}

impl PathIndex {
    /// Adds a match. Those of the same rank are tried in the order in which they came.
    pub(crate) fn add(
        &mut self,
        path: &Path,
        conditions: Option<&Arc<Conditions>>,
        rule: &Arc<RuleEntry>,
        at: u32,
    ) {
        let candidate = Candidate { conditions: conditions.cloned(), rule: rule.clone(), at };
        // Most paths have one candidate.
        let one = || Vec::with_capacity(1);
        let list = match path {
            Path::Exact(path) => self.exact.entry(path.clone()).or_insert_with(one),
            Path::Prefix(path) => self.prefixes.entry(path.clone()).or_insert_with(one),
            Path::Regex(regex) => return self.regexes.push((regex.clone(), candidate)),
        };
        list.push(candidate);
    }

    /// Brings everything into its order. To be called once, after the last `add`.
    pub(crate) fn seal(&mut self) {
        for list in self.exact.values_mut().chain(self.prefixes.values_mut()) {
            list.sort_by_key(Candidate::rank);
            list.shrink_to_fit();
        }
        self.regexes.sort_by_key(|(regex, candidate)| (Reverse(regex.as_str().len()), candidate.rank()));
        self.regexes.shrink_to_fit();
        self.lengths = self.prefixes.keys().map(|prefix| prefix.len()).collect();
        self.lengths.sort_unstable_by_key(|length| Reverse(*length));
        self.lengths.dedup();
        self.lengths.shrink_to_fit();
    }

    /// The rule that serves a request, if one does.
    #[inline]
    pub(crate) fn find<'t>(
        &'t self,
        request: &RequestView<'_>,
        tracer: &mut impl Tracer<'t>,
    ) -> Option<&'t Arc<RuleEntry>> {
        let path = request.path;
        if !self.exact.is_empty()
            && let Some(rule) = self.exact.get(path).and_then(|list| first(list, request, tracer))
        {
            return Some(rule);
        }
        for (regex, candidate) in &self.regexes {
            if candidate.failing(request).is_none() && regex.is_match(path.as_bytes()) {
                tracer.tried(candidate, None);
                return Some(&candidate.rule);
            }
        }
        for &length in &self.lengths {
            if ends_at(path, length)
                && let Some(prefix) = path.get(..length)
                && let Some(rule) = self.prefixes.get(prefix).and_then(|list| first(list, request, tracer))
            {
                return Some(rule);
            }
        }
        None
    }

    /// Every candidate with its path, in the order of precedence. Not for the data path.
    pub(crate) fn entries(&self) -> Vec<(PathRef<'_>, &Candidate)> {
        let mut exact: Vec<_> = self.exact.iter().collect();
        exact.sort_unstable_by_key(|(path, _)| *path);
        let mut prefixes: Vec<_> = self.prefixes.iter().collect();
        prefixes.sort_unstable_by_key(|(prefix, _)| (Reverse(prefix.len()), *prefix));
        let mut all = Vec::new();
        for (path, list) in exact {
            all.extend(list.iter().map(|one| (PathRef::Exact(path), one)));
        }
        all.extend(self.regexes.iter().map(|(regex, one)| (PathRef::Regex(regex), one)));
        for (prefix, list) in prefixes {
            all.extend(list.iter().map(|one| (PathRef::Prefix(prefix), one)));
        }
        all
    }
}

/// Whether an element of the path, or the path, ends at this length; before the first one, nothing does.
fn ends_at(path: &str, length: usize) -> bool {
    length == 0 || path.len() == length || path.as_bytes().get(length) == Some(&b'/')
}

fn first<'t>(
    candidates: &'t Candidates,
    request: &RequestView<'_>,
    tracer: &mut impl Tracer<'t>,
) -> Option<&'t Arc<RuleEntry>> {
    let serves = |candidate: &&'t Candidate| {
        let failing = candidate.failing(request);
        tracer.tried(candidate, failing);
        failing.is_none()
    };
    candidates.iter().find(serves).map(|candidate| &candidate.rule)
}

impl PathRef<'_> {
    /// Whether a path fits by itself, whatever else there is.
    pub(crate) fn fits(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == *exact,
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
            Self::Prefix(prefix) => ends_at(path, prefix.len()) && path.get(..prefix.len()) == Some(prefix),
        }
    }
}

impl Candidate {
    /// What the request does not fulfil beside the path.
    #[inline]
    pub(crate) fn failing(&self, request: &RequestView<'_>) -> Option<Failing> {
        self.conditions.as_deref().and_then(|conditions| conditions.failing(request))
    }

    pub(crate) fn rank(&self) -> Rank {
        self.conditions.as_deref().map_or(Conditions::NO_RANK, Conditions::rank)
    }
}
