//! The suite as a program: its command line, and its output while it runs.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use gateway_tests::cluster::Tethered;

use super::{
    Ground, interrupted,
    outcome::{Verdict, finished},
};

/// One call of it.
pub(super) struct Call<'a> {
    pub(super) class: &'a str,
    pub(super) profiles: &'a [&'static str],
    /// Whether only what these count is run.
    pub(super) selected: bool,
    pub(super) run_test: Option<&'a str>,
    /// In seconds.
    pub(super) patience: Option<u32>,
    pub(super) mode: &'a str,
    pub(super) usable: Option<&'a str>,
    pub(super) unusable: Option<&'a str>,
    pub(super) report: &'a Path,
}

impl Call<'_> {
    /// Its arguments. None of them says which features are supported: that is the GatewayClass's to say.
    pub(super) fn words(&self) -> Vec<String> {
        let flag = |name: &str, value: &str| format!("-{name}={value}");
        let mut words = vec![
            // So that a test's result is written when it ends, and not with all others at the end.
            flag("test.v", "test2json"),
            flag("test.timeout", "0"),
            flag("test.run", "^TestConformance$"),
            flag("gateway-class", self.class),
            flag("conformance-profiles", &self.profiles.join(",")),
            flag("mode", self.mode),
            flag("organization", "sluice-gateway"),
            flag("project", "sluice"),
            flag("url", "https://sluice-gateway.dev"),
            flag("contact", "https://sluice-gateway.dev"),
            flag("version", concat!("v", env!("CARGO_PKG_VERSION"))),
            flag("report-output", &self.report.display().to_string()),
        ];
        words.extend(self.selected.then(|| "-selected".to_owned()));
        words.extend(self.run_test.map(|name| flag("run-test", name)));
        words.extend(self.patience.map(|seconds| flag("patience", &format!("{seconds}s"))));
        words.extend(self.usable.map(|address| flag("usable-address", address)));
        words.extend(self.unusable.map(|address| flag("unusable-address", address)));
        words
    }
}

/// What a run wrote, and how it ended.
pub(super) struct Log {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) status: ExitStatus,
}

/// Runs the suite and shows each test that ends. `look` is called about every second meanwhile.
pub(super) fn run(ground: &Ground<'_>, words: &[String], path: &Path, mut look: impl FnMut()) -> Result<Log> {
    let output = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut input = File::open(path)?;
    let mut command = Command::new(&ground.programs.suite);
    command.args(words).env("KUBECONFIG", &ground.kubeconfig);
    println!("the suite writes to {}", path.display());
    let mut process = Tethered::start(ground.client, &ground.programs.podrunner, &command, &output);
    let (mut rest, mut looked) = (String::new(), Instant::now());
    loop {
        // Asked first, so that nothing written before the end is missed.
        let status = process.exited();
        rest.push_str(&String::from_utf8_lossy(&read(&mut input)?));
        while let Some((line, after)) = rest.split_once('\n') {
            show(line);
            rest = after.to_owned();
        }
        if looked.elapsed() > Duration::from_secs(1) || status.is_some() {
            look();
            looked = Instant::now();
        }
        if let Some(status) = status {
            let bytes = fs::read(path)?;
            return Ok(Log {
                path: path.to_owned(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
                status,
            });
        }
        if interrupted() {
            bail!("interrupted; cleaned up");
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn read(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn show(line: &str) {
    match finished(line) {
        Some((name, Verdict::Passed, seconds)) => println!("  passed {seconds:6.1} s  {name}"),
        Some((name, Verdict::Failed, seconds)) => println!("  FAILED {seconds:6.1} s  {name}"),
        Some((_, Verdict::Skipped, _)) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_the_class_s_to_say_and_nothing_is_left_out() {
        let call = Call {
            class: "sluice",
            profiles: &["GATEWAY-TCP", "GATEWAY-UDP"],
            selected: false,
            run_test: Some("A"),
            patience: Some(5),
            mode: "default",
            usable: Some("10.0.0.1"),
            unusable: None,
            report: Path::new("/r.yaml"),
        };
        let words = call.words();
        for word in [
            "-gateway-class=sluice",
            "-conformance-profiles=GATEWAY-TCP,GATEWAY-UDP",
            "-run-test=A",
            "-patience=5s",
            "-usable-address=10.0.0.1",
            "-report-output=/r.yaml",
        ] {
            assert!(words.iter().any(|w| w == word), "{word} in {words:?}");
        }
        for flag in ["supported-features", "exempt", "skip", "all-features", "unusable", "allow-crds"] {
            assert!(!words.iter().any(|w| w.contains(flag)), "{flag} in {words:?}");
        }
    }
}
