//! What came of each test: from the suite's own list of its tests and the log of a run. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The suite's tests for gateways, and which features its profiles take for granted.
#[derive(Deserialize, Debug)]
pub(super) struct Plan {
    pub(super) tests: Vec<Test>,
    /// The core features by profile.
    profiles: BTreeMap<String, BTreeSet<String>>,
}

/// A test, before it runs.
#[derive(Deserialize, Debug)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) features: Vec<String>,
    /// The profiles that count it as core.
    pub(super) core: Vec<String>,
    /// The profiles that count it as extended.
    pub(super) extended: Vec<String>,
    /// Whether it is for service meshes.
    mesh: bool,
}

impl Test {
    /// Whether the report of one of these profiles counts it.
    pub(super) fn is_in(&self, profiles: &[&str]) -> bool {
        self.core.iter().chain(&self.extended).any(|profile| profiles.contains(&profile.as_str()))
    }
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It needs features that the GatewayClass does not claim.
    Waiting(Vec<String>),
    /// The run was not about it, or did not get to it.
    NotRun,
}

impl Outcome {
    /// The worse of two runs' outcomes.
    pub(super) fn worse(&self, other: &Self) -> Self {
        let rank = |outcome: &Self| match outcome {
            Self::Passed => 0,
            Self::Waiting(_) => 1,
            Self::NotRun => 2,
            Self::Failed => 3,
        };
        if rank(self) >= rank(other) { self.clone() } else { other.clone() }
    }
}

/// How the suite says that a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    Skipped,
}

impl Plan {
    /// Reads what `conformance.test -list` prints.
    pub(super) fn read(json: &str) -> Result<Self> {
        let mut plan: Self = serde_json::from_str(json).context("the suite's list of its tests")?;
        plan.tests.retain(|test| !test.mesh);
        Ok(plan)
    }

    /// A test by its name.
    pub(super) fn find(&self, name: &str) -> Result<&Test> {
        if let Some(test) = self.tests.iter().find(|test| test.name == name) {
            return Ok(test);
        }
        let lower = name.to_lowercase();
        let near = self.tests.iter().map(|test| test.name.as_str());
        let near: Vec<_> = near.filter(|other| other.to_lowercase().contains(&lower)).collect();
        match near[..] {
            [] => bail!("--run-test: the suite has no test {name} for gateways"),
            _ => bail!("--run-test: the suite has no test {name}, but {}", near.join(", ")),
        }
    }

    /// Whether all of a profile's core features are among these.
    pub(super) fn is_claimed(&self, profile: &str, features: &BTreeSet<String>) -> bool {
        self.profiles.get(profile).is_some_and(|core| core.is_subset(features))
    }

    /// What came of each test, in the order of [`Plan::tests`]; `profiles` are those that were run.
    pub(super) fn outcomes(&self, log: &str, profiles: &[&str]) -> Vec<Outcome> {
        let mut supported = claimed(log);
        for profile in profiles {
            supported.extend(self.profiles.get(*profile).into_iter().flatten().map(String::as_str));
        }
        let verdicts: BTreeMap<_, _> =
            log.lines().filter_map(finished).map(|(name, verdict, _)| (name, verdict)).collect();
        let outcome = |test: &Test| match verdicts.get(test.name.as_str()) {
            Some(Verdict::Passed) => Outcome::Passed,
            Some(Verdict::Failed) => Outcome::Failed,
            Some(Verdict::Skipped) => {
                let missing = test.features.iter().filter(|f| !supported.contains(f.as_str()));
                let missing: Vec<_> = missing.cloned().collect();
                // The features are asked first; with a single test they are not, and all others are skipped.
                if missing.is_empty() || explicit(log, &test.name) {
                    Outcome::NotRun
                } else {
                    Outcome::Waiting(missing)
                }
            }
            None => Outcome::NotRun,
        };
        self.tests.iter().map(outcome).collect()
    }
}

/// A line that says how a test of the suite ended: its name, how, and after how many seconds. Parts of a test do not count.
pub(super) fn finished(line: &str) -> Option<(&str, Verdict, f64)> {
    // The mark of a line of the framework's own.
    let rest = line.trim_start_matches(|c: char| c == '\u{16}' || c.is_whitespace()).strip_prefix("--- ")?;
    let (verdict, rest) = rest.split_once(": TestConformance/")?;
    let verdict = match verdict {
        "PASS" => Verdict::Passed,
        "FAIL" => Verdict::Failed,
        "SKIP" => Verdict::Skipped,
        _ => return None,
    };
    let (name, time) = rest.split_once(" (")?;
    if name.contains('/') {
        return None;
    }
    Some((name, verdict, time.split_once("s)")?.0.parse().ok()?))
}

/// The features that the suite read from the GatewayClass.
fn claimed(log: &str) -> BTreeSet<&str> {
    let line = log.lines().find_map(|line| {
        line.split_once("Supported features for GatewayClass ")?.1.split_once(": [")?.1.strip_suffix(']')
    });
    line.unwrap_or_default().split_whitespace().collect()
}

/// Why the suite failed, as it says itself: of use where no test did.
pub(super) fn complaint(log: &str) -> Option<&str> {
    let said = |start: &str| log.lines().rev().find_map(|line| Some(line.trim().strip_prefix(start)?.trim()));
    said("Messages:").or_else(|| said("Error:"))
}

fn explicit(log: &str, name: &str) -> bool {
    log.contains(&format!("Skipping {name}: test explicitly skipped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{
        "profiles": {"GATEWAY-HTTP": ["Gateway", "HTTPRoute"], "GATEWAY-TCP": ["Gateway", "TCPRoute"]},
        "tests": [
            {"name": "A", "features": ["Gateway", "HTTPRoute"], "core": ["GATEWAY-HTTP"], "extended": [], "mesh": false},
            {"name": "B", "features": ["HTTPRoute", "X", "Y"], "core": [], "extended": ["GATEWAY-HTTP"], "mesh": false},
            {"name": "Bb", "features": ["TCPRoute"], "core": ["GATEWAY-TCP"], "extended": [], "mesh": false},
            {"name": "M", "features": ["Mesh"], "core": [], "extended": [], "mesh": true}
        ]}"#;

    #[test]
    fn a_profile_is_claimed_with_all_of_its_core() {
        let plan = Plan::read(LIST).unwrap();
        let features = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert!(plan.is_claimed("GATEWAY-HTTP", &features(&["Gateway", "HTTPRoute", "X"])));
        assert!(!plan.is_claimed("GATEWAY-HTTP", &features(&["Gateway", "TCPRoute"])));
        assert!(!plan.is_claimed("GATEWAY-UDP", &features(&["Gateway"])), "nobody knows it");
    }

    #[test]
    fn the_end_of_a_test_is_read_and_that_of_a_part_of_it_is_not() {
        for (line, want) in [
            ("\u{16}--- PASS: TestConformance/A (1.25s)", Some(("A", Verdict::Passed, 1.25))),
            ("    --- FAIL: TestConformance/A (0.00s)", Some(("A", Verdict::Failed, 0.0))),
            ("\u{16}--- SKIP: TestConformance/A (0.00s)", Some(("A", Verdict::Skipped, 0.0))),
            ("\u{16}--- FAIL: TestConformance/A/part (1.00s)", None),
            ("\u{16}--- FAIL: TestConformance (1.00s)", None),
            ("\u{16}=== RUN   TestConformance/A", None),
            ("    apply.go:1: --- of: TestConformance/A (1.00s)", None),
        ] {
            assert_eq!(finished(line), want, "{line}");
        }
    }

    #[test]
    fn a_skipped_test_waits_for_the_features_that_nobody_claims() {
        let plan = Plan::read(LIST).unwrap();
        let log = "Supported features for GatewayClass sluice: [HTTPRoute Y]\n\
            \u{16}--- PASS: TestConformance/A (1.00s)\n\
            \u{16}--- SKIP: TestConformance/B (0.00s)\n\
            \u{16}--- SKIP: TestConformance/Bb (0.00s)\n";
        let waiting = |features: &[&str]| Outcome::Waiting(features.iter().map(|&f| f.to_owned()).collect());
        assert_eq!(
            plan.outcomes(log, &["GATEWAY-HTTP"]),
            [Outcome::Passed, waiting(&["X"]), waiting(&["TCPRoute"])]
        );
        assert_eq!(plan.outcomes("", &["GATEWAY-HTTP"]), [const { Outcome::NotRun }; 3]);
    }

    #[test]
    fn what_a_run_of_one_test_leaves_out_does_not_wait() {
        let plan = Plan::read(LIST).unwrap();
        let log = "    conformance.go:1: Skipping B: test explicitly skipped\n\
            \u{16}--- SKIP: TestConformance/B (0.00s)\n\
            \u{16}--- FAIL: TestConformance/A (9.00s)\n";
        assert_eq!(plan.outcomes(log, &[]), [Outcome::Failed, Outcome::NotRun, Outcome::NotRun]);
    }

    #[test]
    fn what_ended_the_suite_is_found() {
        let log = "   \tError Trace:\ta.go:1\n   \tError:      \tbad\n   \tTest:  \tT\n";
        assert_eq!(complaint(log), Some("bad"));
        assert_eq!(complaint(&format!("{log}   \tMessages:   \tworse\n")), Some("worse"));
        assert_eq!(complaint("PASS\n"), None);
    }

    #[test]
    fn of_several_runs_the_worst_counts() {
        let waiting = Outcome::Waiting(vec!["X".to_owned()]);
        assert_eq!(Outcome::Passed.worse(&Outcome::Failed), Outcome::Failed);
        assert_eq!(Outcome::Failed.worse(&Outcome::Passed), Outcome::Failed);
        assert_eq!(Outcome::Passed.worse(&waiting), waiting);
        assert_eq!(Outcome::Passed.worse(&Outcome::Passed), Outcome::Passed);
    }

    #[test]
    fn a_name_that_is_wrong_is_told_what_is_near() {
        let plan = Plan::read(LIST).unwrap();
        assert!(plan.find("A").is_ok());
        assert!(plan.find("M").is_err());
        assert!(plan.find("bb").unwrap_err().to_string().contains("but Bb"));
    }
}
