//! Paths: exact ones, regular expressions, prefixes by element.
//!
//! Owns their order: Exact, RegularExpression (the longest expression first: the specification leaves it open),
//! PathPrefix (the longest first). The raw path is matched: `%2F` is no separator, `//` is not `/`.

use std::cmp::Reverse;
use std::sync::Arc;

use regex::bytes::Regex;
use rustc_hash::FxHashMap;

use super::condition::{Conditions, Rank};
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
struct Candidate {
    conditions: Option<Arc<Conditions>>,
    rule: Arc<RuleEntry>,
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
    pub(crate) fn add(&mut self, path: &Path, conditions: Option<&Arc<Conditions>>, rule: &Arc<RuleEntry>) {
        let candidate = Candidate { conditions: conditions.cloned(), rule: rule.clone() };
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
    pub(crate) fn find(&self, request: &RequestView<'_>) -> Option<&Arc<RuleEntry>> {
        let path = request.path;
        if !self.exact.is_empty()
            && let Some(rule) = self.exact.get(path).and_then(|list| first(list, request))
        {
            return Some(rule);
        }
        for (regex, candidate) in &self.regexes {
            if candidate.holds(request) && regex.is_match(path.as_bytes()) {
                return Some(&candidate.rule);
            }
        }
        for &length in &self.lengths {
            let ends = length == 0 || path.len() == length || path.as_bytes().get(length) == Some(&b'/');
            if ends
                && let Some(prefix) = path.get(..length)
                && let Some(rule) = self.prefixes.get(prefix).and_then(|list| first(list, request))
            {
                return Some(rule);
            }
        }
        None
    }
}

fn first<'t>(candidates: &'t Candidates, request: &RequestView<'_>) -> Option<&'t Arc<RuleEntry>> {
    candidates.iter().find(|candidate| candidate.holds(request)).map(|candidate| &candidate.rule)
}

impl Candidate {
    fn holds(&self, request: &RequestView<'_>) -> bool {
        self.conditions.as_deref().is_none_or(|conditions| conditions.hold(request))
    }

    fn rank(&self) -> Rank {
        self.conditions.as_deref().map_or(Conditions::NO_RANK, Conditions::rank)
    }
}
