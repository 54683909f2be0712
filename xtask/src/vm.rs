//! `vm`: the kernel tests on the kernels that Sluice must run on, each booted in a virtual machine.
//!
//! Owns which tests run where, and what the runs say together. Needs no root: inside, the tests are root.

mod image;
mod machine;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    setup::{self, KERNELS, Kernel, Part},
    sh, test,
};

/// What the task was asked for.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Boot this kernel alone.
    #[arg(long, value_parser = KERNELS)]
    kernel: Option<String>,
    /// Arguments for the tests, as cargo gives them: filters, `--exact`, `--nocapture`, …
    #[arg(last = true)]
    tests: Vec<String>,
}

/// A test of something that a kernel does not have: kernel, test, and what is missing.
type LeftOut = (&'static str, &'static str, &'static str);

/// Only what the kernel cannot do may be here, never what Sluice does wrong on it.
const LEFT_OUT: &[LeftOut] = &[];

/// What the task needs besides what it builds.
pub(crate) const PARTS: [Part; 4] = [Part::Bpf, Part::Net, Part::Peers, Part::Vm];

/// The task: builds what is tested, and runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&PARTS)?;
    let (sluice, tests) = test::kernel_tests()?;
    let kernels: Vec<&str> = match &args.kernel {
        Some(kernel) => vec![kernel],
        None => KERNELS.to_vec(),
    };
    boot(&kernels, &tests, &sluice, &args.tests)
}

/// As `test` runs it: everything, on each kernel.
pub(crate) fn all(tests: &Path, sluice: &Path) -> Result<()> {
    boot(&KERNELS, tests, sluice, &[])
}

/// Runs the tests on all of some kernels side by side, and fails if they fail on one of them.
fn boot(versions: &[&str], tests: &Path, sluice: &Path, arguments: &[String]) -> Result<()> {
    let logs = sh::root().join("target/vm");
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let names =
        if LEFT_OUT.is_empty() { String::new() } else { sh::read(Command::new(tests).arg("--list"))? };
    let base = image::Base::new(tests, sluice)?;
    let mut machines = Vec::new();
    for &version in versions {
        let kernel = setup::kernel(version)?;
        let skips = skips(LEFT_OUT, version, &names)?;
        for (_, test, why) in &skips {
            println!("vm {version}: left out: {test}: {why}");
        }
        let skips = skips.iter().flat_map(|(_, test, _)| ["--skip".to_owned(), (*test).to_owned()]);
        let arguments: Vec<_> = arguments.iter().cloned().chain(skips).collect();
        let archive = base.archive(&kernel, &arguments)?;
        machines.push(Run { version, kernel, archive, log: logs.join(format!("{version}.log")) });
    }
    eprintln!("vm: {} by {}", versions.join(" and "), machine::accelerator());
    let start = Instant::now();
    let results: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = machines.iter().map(|run| scope.spawn(|| run.run())).collect();
        runs.into_iter()
            .map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut failed = Vec::new();
    for (run, result) in machines.iter().zip(results) {
        match result {
            Ok(said) => println!("vm {}: {said}", run.version),
            Err(e) => {
                println!("vm {}: FAILED: {e:#} (all that it wrote: {})", run.version, run.log.display());
                failed.push(run.version);
            }
        }
    }
    ensure!(failed.is_empty(), "the tests do not pass on {}", failed.join(" and "));
    println!("vm: all kernels are well after {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

struct Run<'a> {
    version: &'a str,
    kernel: Kernel,
    archive: PathBuf,
    log: PathBuf,
}

impl Run<'_> {
    /// What to say of tests that passed.
    fn run(&self) -> Result<String> {
        let label = format!("{:>4} |", self.version);
        let ran = machine::run(&self.kernel.image, &self.archive, &label, &self.log)?;
        ensure!(ran.code == 0, "the tests ended with {}: {}", ran.code, ran.result);
        Ok(format!(
            "{}: {}; booted in {:.1} s, tests {:.0} s",
            self.kernel.release,
            ran.result,
            ran.boot.as_secs_f64(),
            ran.tests.as_secs_f64()
        ))
    }
}

/// Which tests to leave out on a kernel; an error if there is no such test, or if another has its name in it.
fn skips<'a>(left_out: &'a [LeftOut], version: &str, names: &str) -> Result<Vec<&'a LeftOut>> {
    let skips: Vec<_> = left_out.iter().filter(|(kernel, _, _)| *kernel == version).collect();
    for (_, test, _) in &skips {
        let alike: Vec<_> = names.lines().filter(|line| line.contains(test)).collect();
        if alike != [format!("{test}: test")] {
            bail!("what is left out on {version} must be one test: {test} is {alike:?}");
        }
    }
    Ok(skips)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_one_test_of_that_kernel() {
        let left_out: &[LeftOut] =
            &[("6.1", "links::tcx", "no tcx before 6.6"), ("6.12", "links::old", "gone")];
        let names = "links::tcx: test\nlinks::other: test\nlinks::old: test\nlinks::older: test\n";
        assert_eq!(skips(left_out, "6.1", names).unwrap(), [&left_out[0]]);
        assert_eq!(skips(left_out, "6.6", names).unwrap(), Vec::<&LeftOut>::new());
        let error = skips(left_out, "6.12", names).unwrap_err().to_string();
        assert!(error.contains("links::older"), "{error}");
        assert!(skips(left_out, "6.1", "").is_err());
    }
}
