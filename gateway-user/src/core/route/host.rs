//! Hostnames: an index from the most to the least specific one.
//!
//! Owns what a hostname fits. Must not know what is filed under it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The longest name of DNS (RFC 1035, 2.3.4), in bytes. A longer host fits only what has no hostname.
const LONGEST: usize = 253;

/// Room for a host in lower case.
pub(crate) type Buffer = [u8; LONGEST];

/// A host as it is looked up: in lower case, without the root's dot. The empty string, which fits no hostname, if it
/// is too long to be a name.
pub(crate) fn fold<'a>(host: &'a str, buffer: &'a mut Buffer) -> &'a str {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > LONGEST {
        return "";
    }
    if !host.bytes().any(|b| b.is_ascii_uppercase()) {
        return host;
    }
    let lower = &mut buffer[..host.len()];
    lower.copy_from_slice(host.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).unwrap_or("")
}

/// Whether two hostnames (lower case, `*.` in front for a wildcard) have a host in common.
pub(crate) fn intersect(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a == b,
        (Some(suffix), None) => fits(b, suffix),
        (None, Some(suffix)) => fits(a, suffix),
        (Some(x), Some(y)) => x.ends_with(y) || y.ends_with(x),
    }
}

/// Whether a host ends in `.example.com` and has something in front of it.
fn fits(host: &str, dotted_suffix: &str) -> bool {
    host.len() > dotted_suffix.len() && host.ends_with(dotted_suffix)
}

/// Values by hostname.
#[derive(Clone, Debug)]
pub(crate) struct HostIndex<T> {
    exact: FxHashMap<Arc<str>, T>,
    /// By what follows `*.`.
    wildcard: FxHashMap<Arc<str>, T>,
    any: Option<T>,
    /// The length of the longest key of `wildcard`: longer suffixes need no lookup.
    longest: usize,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self { exact: FxHashMap::default(), wildcard: FxHashMap::default(), any: None, longest: 0 }
    }
}

impl<T> HostIndex<T> {
    /// The entry of a hostname, made if it is absent; `None`: of what has no hostname.
    pub(crate) fn entry(&mut self, hostname: Option<&Arc<str>>, make: impl FnOnce() -> T) -> &mut T {
        match hostname.map(|name| (name, name.strip_prefix("*."))) {
            None => self.any.get_or_insert_with(make),
            Some((_, Some(suffix))) => {
                self.longest = self.longest.max(suffix.len());
                self.wildcard.entry(suffix.into()).or_insert_with(make)
            }
            Some((name, None)) => self.exact.entry(name.clone()).or_insert_with(make),
        }
    }

    /// Every value.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcard.values_mut()).chain(&mut self.any)
    }

    /// Gives back the room that growing left over.
    pub(crate) fn shrink(&mut self) {
        self.exact.shrink_to_fit();
        self.wildcard.shrink_to_fit();
    }

    /// What a folded host fits, the most specific first: its own name, wildcards from the longest on, no hostname.
    pub(crate) fn fitting<'t, 'h>(&'t self, host: &'h str) -> impl Iterator<Item = &'t T> + use<'t, 'h, T> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        let suffixes = if self.wildcard.is_empty() { "" } else { host };
        let wildcard = suffixes
            .bytes()
            .enumerate()
            // A dot in front has no label before it.
            .filter(|&(at, byte)| byte == b'.' && at > 0)
            .map(move |(at, _)| &suffixes[at + 1..])
            .filter(|suffix| suffix.len() <= self.longest)
            .filter_map(|suffix| self.wildcard.get(suffix));
        exact.into_iter().chain(wildcard).chain(&self.any)
    }

    /// The same hostnames, with what is made of each value.
    pub(crate) fn map<U>(&self, mut make: impl FnMut(&T) -> U) -> HostIndex<U> {
        let mut index = HostIndex { longest: self.longest, ..HostIndex::default() };
        index.exact = self.exact.iter().map(|(name, value)| (name.clone(), make(value))).collect();
        index.wildcard = self.wildcard.iter().map(|(suffix, value)| (suffix.clone(), make(value))).collect();
        index.any = self.any.as_ref().map(make);
        index
    }

    /// Every value with its hostname, `None` for what has none: the most specific first. Not for the data path.
    pub(crate) fn entries(&self) -> Vec<(Option<String>, &T)> {
        let mut exact: Vec<_> = self.exact.iter().collect();
        exact.sort_unstable_by_key(|(name, _)| *name);
        let mut wildcard: Vec<_> = self.wildcard.iter().collect();
        wildcard.sort_unstable_by_key(|(suffix, _)| (std::cmp::Reverse(suffix.len()), *suffix));
        let exact = exact.into_iter().map(|(name, value)| (Some(name.to_string()), value));
        let wildcard = wildcard.into_iter().map(|(suffix, value)| (Some(format!("*.{suffix}")), value));
        exact.chain(wildcard).chain(self.any.as_ref().map(|value| (None, value))).collect()
    }
}
