//! The table of all tests for gateways: for a terminal, and for README.md. Pure but for the file's reading and writing.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::outcome::{Outcome, Test};

/// What the table stands between in README.md.
const BEGIN: &str = "<!-- conformance: written by `cargo xtask conformance --readme` -->";
const END: &str = "<!-- conformance: end -->";

/// All tests or the one that was asked for, those that failed last, and the sums.
pub(super) fn terminal(tests: &[Test], outcomes: &[Outcome], only: Option<&str>) -> String {
    let mut rows: Vec<_> = tests.iter().zip(outcomes).collect();
    rows.retain(|(test, _)| only.is_none_or(|only| test.name == only));
    rows.sort_by_key(|(test, outcome)| (**outcome == Outcome::Failed, &test.name));
    let mut text = String::from("\n");
    for (test, outcome) in rows {
        let (word, features) = match outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Failed => ("FAILED", String::new()),
            Outcome::Waiting(features) => ("waits", format!("  for {}", features.join(", "))),
            Outcome::NotRun => ("not run", String::new()),
        };
        text.push_str(&format!("  {word:8} {}{features}\n", test.name));
    }
    text + &format!("\n{}\n", sums(outcomes))
}

/// The same as Markdown, folded up below the sums.
pub(super) fn markdown(tests: &[Test], outcomes: &[Outcome]) -> String {
    let mut text = format!("{}\n\n", sums(outcomes));
    text.push_str("| profile | core | extended |\n|---|---|---|\n");
    for profile in profiles(tests) {
        let part = |of: fn(&Test) -> &Vec<String>| {
            let of: Vec<_> = tests
                .iter()
                .zip(outcomes)
                .filter(|(test, _)| of(test).contains(&profile))
                .map(|(_, outcome)| outcome)
                .collect();
            let passed = of.iter().filter(|outcome| ***outcome == Outcome::Passed).count();
            format!("{passed} of {}", of.len())
        };
        text.push_str(&format!("| {profile} | {} | {} |\n", part(|t| &t.core), part(|t| &t.extended)));
    }
    text.push_str("\n<details><summary>Every test</summary>\n\n| test | result |\n|---|---|\n");
    let mut rows: Vec<_> = tests.iter().zip(outcomes).collect();
    rows.sort_by_key(|(test, _)| &test.name);
    for (test, outcome) in rows {
        let result = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed => "**failed**".to_owned(),
            Outcome::Waiting(features) => format!("waits for {}", features.join(", ")),
            Outcome::NotRun => "not run".to_owned(),
        };
        text.push_str(&format!("| {} | {result} |\n", test.name));
    }
    text + "\n</details>\n"
}

/// Puts a table into the marked region of a file.
pub(super) fn write_readme(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = replace(&text, table)
        .with_context(|| format!("{} has no region between `{BEGIN}` and `{END}`", path.display()))?;
    fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote the table into {}", path.display());
    Ok(())
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn sums(outcomes: &[Outcome]) -> String {
    let count = |of: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| of(outcome)).count();
    let (passed, failed) = (count(|o| *o == Outcome::Passed), count(|o| *o == Outcome::Failed));
    let waiting = count(|o| matches!(o, Outcome::Waiting(_)));
    let mut text =
        format!("Of {} tests {passed} passed, {failed} failed, {waiting} wait for a feature", outcomes.len());
    match count(|o| *o == Outcome::NotRun) {
        0 => {}
        left => text.push_str(&format!(", {left} were not run")),
    }
    text + "."
}

/// The profiles that any test counts for, in alphabetical order.
fn profiles(tests: &[Test]) -> Vec<String> {
    let mut names: Vec<_> = tests.iter().flat_map(|t| t.core.iter().chain(&t.extended)).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::{super::outcome::Plan, *};

    fn three() -> (Vec<Test>, Vec<Outcome>) {
        let test = |name: &str, core: &str, extended: &str| {
            format!(
                "{{\"name\":\"{name}\",\"features\":[],\"core\":[{core}],\"extended\":[{extended}],\"mesh\":false}}"
            )
        };
        let list = [
            test("C", "\"GATEWAY-TCP\"", ""),
            test("A", "\"GATEWAY-TCP\"", ""),
            test("B", "", "\"GATEWAY-TCP\""),
        ];
        let plan = Plan::read(&format!("{{\"profiles\":{{}},\"tests\":[{}]}}", list.join(","))).unwrap();
        (plan.tests, vec![Outcome::Passed, Outcome::Failed, Outcome::Waiting(vec!["X".into(), "Y".into()])])
    }

    #[test]
    fn a_terminal_shows_what_failed_last_and_the_sums() {
        let (tests, outcomes) = three();
        assert_eq!(
            terminal(&tests, &outcomes, None),
            "\n  waits    B  for X, Y\n  passed   C\n  FAILED   A\n\n\
             Of 3 tests 1 passed, 1 failed, 1 wait for a feature.\n"
        );
        assert!(terminal(&tests, &outcomes, Some("C")).starts_with("\n  passed   C\n\nOf 3"));
    }

    #[test]
    fn markdown_has_a_line_for_each_profile_and_each_test() {
        let (tests, outcomes) = three();
        let text = markdown(&tests, &outcomes);
        for line in [
            "| GATEWAY-TCP | 1 of 2 | 0 of 1 |",
            "| A | **failed** |",
            "| B | waits for X, Y |",
            "| C | passed |",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
        }
        assert!(sums(&[Outcome::NotRun]).contains("1 were not run"));
    }

    #[test]
    fn only_the_marked_region_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(replace(&text, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replace("a\n", "new\n"), None);
    }

    #[test]
    fn the_readme_has_a_region_for_the_table() {
        let text = fs::read_to_string(crate::sh::root().join("README.md")).unwrap();
        assert!(replace(&text, "").is_some());
    }
}
