//! Regular expressions of routes.
//!
//! Owns their dialect and their bounds. The dialect is that of the `regex` crate without Unicode classes, as RE2 has
//! them: `\w`, `\d` and `\s` are ASCII, `.` is any byte but a line feed. An expression must fit in full. There is no
//! backtracking, so no expression makes a match take more than linear time; one that compiles to too much is refused.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use rustc_hash::FxHashMap;

/// What a compiled expression may take, in bytes.
const LARGEST: usize = 64 << 10;
/// What each thread's cache for an expression may take, in bytes.
const LARGEST_CACHE: usize = 128 << 10;

/// Compiled expressions by their text, kept from one compilation to the next: compiling one takes longer than
/// compiling a route.
#[derive(Clone, Debug, Default)]
pub struct Patterns(FxHashMap<Arc<str>, Result<Arc<Regex>, Arc<str>>>);

/// An expression compiles to the same whenever it does.
impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.keys().all(|text| other.0.contains_key(text))
    }
}

impl Eq for Patterns {}

impl Patterns {
    /// The expression, out of what was compiled before if it is there.
    pub(crate) fn get(&mut self, before: &Self, text: &Arc<str>) -> Result<Arc<Regex>, Arc<str>> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let made = before.0.get(text).cloned().unwrap_or_else(|| build(text).map(Arc::new));
        self.0.insert(text.clone(), made.clone());
        made
    }

    /// Those of these texts that are known, here or from before.
    pub(crate) fn of<'t>(&self, before: &Self, texts: impl Iterator<Item = &'t Arc<str>>) -> Self {
        let known = |text: &Arc<str>| self.0.get(text).or_else(|| before.0.get(text)).cloned();
        Self(texts.filter_map(|text| Some((text.clone(), known(text)?))).collect())
    }
}

/// Compiles one expression so that it fits in full; or says in one line why it cannot.
fn build(text: &str) -> Result<Regex, Arc<str>> {
    let compile = |text: &str| {
        RegexBuilder::new(text)
            .unicode(false)
            .size_limit(LARGEST)
            .dfa_size_limit(LARGEST_CACHE)
            .build()
            .map_err(|error| explain(&error))
    };
    // By itself first: `a)|(b` must not become an expression by being wrapped.
    compile(text)?;
    compile(&format!("^(?:{text})$"))
}

fn explain(error: &regex::Error) -> Arc<str> {
    match error {
        regex::Error::CompiledTooBig(_) => {
            format!("it compiles to more than {LARGEST} bytes (use fewer or smaller repetitions)").into()
        }
        // The crate draws the place below the expression; the last line says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").into()
        }
    }
}
