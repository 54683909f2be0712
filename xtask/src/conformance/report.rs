//! The official report, as the suite writes it.

use std::{collections::BTreeSet, fs, io, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

/// What is read of it.
#[derive(Deserialize, Debug)]
pub(super) struct Report {
    #[serde(default)]
    profiles: Vec<Profile>,
}

#[derive(Deserialize, Debug)]
struct Profile {
    name: String,
    core: Part,
    extended: Option<Part>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Part {
    result: String,
    statistics: Statistics,
    #[serde(default)]
    failed_tests: Vec<String>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct Statistics {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Report {
    /// Reads it, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_yaml::from_str(&text).map(Some).with_context(|| format!("in {}", path.display()))
    }

    /// The tests that failed in any profile.
    pub(super) fn failed(&self) -> BTreeSet<&str> {
        let parts = self.profiles.iter().flat_map(|profile| [Some(&profile.core), profile.extended.as_ref()]);
        parts.flatten().flat_map(|part| &part.failed_tests).map(String::as_str).collect()
    }

    /// Its figures, a line for each profile.
    pub(super) fn summary(&self) -> String {
        let mut profiles: Vec<_> = self.profiles.iter().collect();
        profiles.sort_by_key(|profile| &profile.name);
        let line = |profile: &Profile| {
            let extended = profile.extended.as_ref().map(|part| format!("; extended {}", part.figures()));
            format!("{:13} core {}{}\n", profile.name, profile.core.figures(), extended.unwrap_or_default())
        };
        profiles.into_iter().map(line).collect()
    }
}

impl Part {
    fn figures(&self) -> String {
        let Statistics { passed, failed, skipped } = self.statistics;
        format!("{}: {passed} passed, {failed} failed, {skipped} skipped", self.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
apiVersion: gateway.networking.k8s.io/v1
date: \"2026-01-01T00:00:00Z\"
gatewayAPIChannel: experimental
kind: ConformanceReport
mode: default
profiles:
- core:
    failedTests:
    - A
    result: failure
    statistics:
      Failed: 1
      Passed: 2
      Skipped: 0
  extended:
    failedTests:
    - B
    result: failure
    statistics:
      Failed: 1
      Passed: 0
      Skipped: 0
    supportedFeatures:
    - X
  name: GATEWAY-TCP
  summary: Core tests failed with 1 test failures.
- core:
    result: success
    statistics:
      Failed: 0
      Passed: 3
      Skipped: 0
  name: GATEWAY-HTTP
  summary: Core tests succeeded.
";

    #[test]
    fn figures_and_failures_are_read() {
        let report: Report = serde_yaml::from_str(TEXT).unwrap();
        assert_eq!(report.failed(), BTreeSet::from(["A", "B"]));
        assert_eq!(
            report.summary(),
            "GATEWAY-HTTP  core success: 3 passed, 0 failed, 0 skipped\n\
             GATEWAY-TCP   core failure: 2 passed, 1 failed, 0 skipped; extended failure: 0 passed, 1 failed, 0 skipped\n"
        );
    }

    #[test]
    fn no_report_is_none_and_a_bad_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.yaml");
        assert!(Report::read(&path).unwrap().is_none());
        fs::write(&path, "profiles: 1").unwrap();
        assert!(Report::read(&path).unwrap_err().to_string().contains("r.yaml"));
    }
}
