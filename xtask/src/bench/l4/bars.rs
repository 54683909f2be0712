//! What Sluice shall reach, as a list, and whether it did.

use super::{
    super::stats::{Median, median},
    results::Results,
};

/// One figure of a contender, held against another's in the same round.
pub(super) struct Bar {
    pub(super) figure: &'static str,
    pub(super) contender: &'static str,
    pub(super) reference: &'static str,
    pub(super) factor: f64,
    /// Whether the factor is the most that is allowed; else it is the least.
    pub(super) most: bool,
}

const fn least(figure: &'static str, contender: &'static str, factor: f64, reference: &'static str) -> Bar {
    Bar { figure, contender, reference, factor, most: false }
}

const fn most(figure: &'static str, contender: &'static str, factor: f64, reference: &'static str) -> Bar {
    Bar { figure, contender, reference, factor, most: true }
}

pub(super) const BARS: &[Bar] = &[
    least("requests-32", "forward", 0.95, "routed"),
    least("requests-32", "forward", 1.6, "haproxy"),
    least("connections", "forward", 0.95, "routed"),
    least("connections", "forward", 1.4, "haproxy"),
    least("up", "forward", 0.95, "routed"),
    least("down", "forward", 0.95, "routed"),
    least("packets", "forward", 0.95, "routed"),
    most("cpu", "forward", 2.2, "routed"),
    most("cpu", "forward", 0.4, "haproxy"),
    least("requests-32", "snat", 0.9, "routed"),
    least("requests-32", "beside", 0.97, "routed"),
    least("up", "beside", 0.97, "routed"),
    least("packets", "beside", 0.97, "routed"),
];

/// How a bar fared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Met,
    Missed,
    /// What was measured is not what the bar is about: traffic took another path.
    OtherPath,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::OtherPath => "missed (other path)",
        }
    }
}

impl Bar {
    /// The paired ratio, and whether it is good enough; `None` if it was not measured.
    pub(super) fn judge(&self, results: &Results) -> Option<(Median, Verdict)> {
        let ratios = results.ratios(self.figure, self.contender, self.reference);
        if ratios.is_empty() {
            return None;
        }
        let ratio = median(&ratios);
        let good = if self.most { ratio.value <= self.factor } else { ratio.value >= self.factor };
        let verdict = match (results.path_holds(self.contender), good) {
            (false, _) => Verdict::OtherPath,
            (true, true) => Verdict::Met,
            (true, false) => Verdict::Missed,
        };
        Some((ratio, verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::l4::{contender::CONTENDERS, probe::FIGURES};

    #[test]
    fn bars_are_about_what_is_measured() {
        for bar in BARS {
            assert!(FIGURES.iter().any(|figure| figure.key == bar.figure), "{}", bar.figure);
            for key in [bar.contender, bar.reference] {
                assert!(CONTENDERS.iter().any(|contender| contender.key == key), "{key}");
            }
            let figure = FIGURES.iter().find(|figure| figure.key == bar.figure).expect("just found");
            assert_eq!(figure.less, bar.most, "{}: the bar stands on the wrong side", bar.figure);
        }
    }

    #[test]
    fn a_bar_holds_pairs_against_each_other_and_wants_the_right_path() {
        let bar = least("requests-32", "forward", 0.95, "routed");
        let mut results = Results::default();
        assert!(bar.judge(&results).is_none(), "nothing is measured yet");
        for (round, (ours, theirs)) in [(96.0, 100.0), (48.0, 50.0), (10.0, 20.0)].into_iter().enumerate() {
            results.add(round, "requests-32", "forward", ours);
            results.add(round, "requests-32", "routed", theirs);
        }
        results.add(3, "requests-32", "forward", 1.0);
        let (ratio, verdict) = bar.judge(&results).expect("it is measured");
        assert_eq!((ratio.value, verdict), (0.96, Verdict::OtherPath));
        results.saw("forward", true);
        assert_eq!(bar.judge(&results).expect("it is measured").1, Verdict::Met);
        let bar = most("requests-32", "forward", 0.95, "routed");
        assert_eq!(bar.judge(&results).expect("it is measured").1, Verdict::Missed);
    }
}
