//! What was measured: a value for a figure, a contender and a round; and which paths held.

use std::collections::BTreeMap;

/// All values of a run.
#[derive(Default)]
pub(super) struct Results {
    values: BTreeMap<(&'static str, &'static str), BTreeMap<usize, f64>>,
    paths: BTreeMap<&'static str, bool>,
    failures: Vec<String>,
}

impl Results {
    /// A value.
    pub(super) fn add(&mut self, round: usize, figure: &'static str, contender: &'static str, value: f64) {
        self.values.entry((figure, contender)).or_default().insert(round, value);
    }

    /// Whether a contender's traffic took the path that it should.
    pub(super) fn saw(&mut self, contender: &'static str, holds: bool) {
        self.paths.insert(contender, holds);
    }

    pub(super) fn path_holds(&self, contender: &str) -> bool {
        self.paths.get(contender).copied().unwrap_or(false)
    }

    /// A turn that came to nothing.
    pub(super) fn failed(&mut self, why: String) {
        self.failures.push(why);
    }

    /// All such turns.
    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// A contender's values, by round; none if it was not measured.
    pub(super) fn values(&self, figure: &'static str, contender: &'static str) -> Vec<f64> {
        self.values.get(&(figure, contender)).into_iter().flat_map(BTreeMap::values).copied().collect()
    }

    /// One contender's values divided by another's, of the rounds in which both have one. There is no ratio to nothing,
    /// nor to memory that others gave back meanwhile.
    pub(super) fn ratios(
        &self,
        figure: &'static str,
        contender: &'static str,
        reference: &'static str,
    ) -> Vec<f64> {
        let rounds = |contender| self.values.get(&(figure, contender));
        let (Some(ours), Some(theirs)) = (rounds(contender), rounds(reference)) else { return Vec::new() };
        ours.iter()
            .filter_map(|(round, ours)| theirs.get(round).map(|theirs| (ours, theirs)))
            .filter(|(_, theirs)| **theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs)
            .collect()
    }
}
