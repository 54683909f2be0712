//! `test`: lint, tidy, generated files, and every test; what needs no privilege comes first.
//!
//! Tests are built by cargo and run one target at a time, so that those that need root can be started as root
//! while everything else stays the user's.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    crds, lint,
    setup::{self, Part},
    sh, tidy, vm,
};

/// The targets that load BPF programs or make namespaces.
const PRIVILEGED: &[&str] = &["kernel", "cli", "store", "metrics", "docs", "outputs", "explain", "e2e"];

/// The targets that need the cluster's programs, which take ten minutes or more to build, once.
const CLUSTER: &[&str] = &["cluster", "kube"];

/// The one of the privileged that runs on other kernels too.
const KERNEL: &str = "kernel";

/// Runs all of it, what needs a cluster unless told not to; the first step that fails ends it.
pub(crate) fn run(cluster: bool) -> Result<()> {
    let start = Instant::now();
    setup::ensure(&[Part::Bpf, Part::Lint, Part::Net, Part::Peers, Part::Go, Part::Vm])?;
    if cluster {
        setup::ensure(&[Part::Cluster])?;
    }
    step("lint", lint::run)?;
    step("tidy", tidy::run)?;
    step("crds", || crds::run(true))?;
    let built = step("build", build)?;
    let wanted = built.tests.iter().filter(|test| cluster || !CLUSTER.contains(&test.name.as_str()));
    let (privileged, plain): (Vec<_>, Vec<_>) = wanted
        .partition(|test| CLUSTER.contains(&test.name.as_str()) || PRIVILEGED.contains(&test.name.as_str()));
    for name in PRIVILEGED {
        if !privileged.iter().any(|test| test.name == *name) {
            bail!("there is no test target {name}, which xtask's list of privileged ones names");
        }
    }
    for test in plain {
        step(&test.name, || sh::run(Command::new(&test.program).current_dir(&test.folder)))?;
    }
    for test in privileged {
        step(&test.name, || sh::run(with_programs(&built)?.arg(&test.program).current_dir(&test.folder)))?;
        if test.name == KERNEL {
            step("vm", || vm::all(&test.program, &built.sluice))?;
        }
    }
    if cluster {
        step("conformance", || sh::run(with_programs(&built)?.arg(&built.xtask).arg("conformance")))?;
    }
    println!("test: all is well after {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// A command of root's that knows what was built, and where the tools are.
fn with_programs(built: &Built) -> Result<Command> {
    let mut command = sh::as_root("env")?;
    command.arg(format!("SLUICE_BIN={}", built.sluice.display()));
    command.arg(format!("SLUICE_OTHER_LAYOUT={}", built.other_layout.display()));
    // Root's own would be another.
    command.arg(format!("SLUICE_CACHE={}", setup::cache()?.display()));
    // An ordinary user's path may lack some.
    let path = env::var("PATH").unwrap_or_default();
    command.arg(format!("PATH={path}:/usr/sbin:/sbin"));
    Ok(command)
}

/// Builds the agent and nothing else, and returns where it is.
pub(crate) fn sluice(profile: &str) -> Result<PathBuf> {
    let build = ["build", "--package", "gateway-user", "--bin", "sluice", "--profile", profile];
    find(&programs(&build)?, "sluice")
}

/// Builds the agent and the tests of the kernel's side, and returns where they are.
pub(crate) fn kernel_tests() -> Result<(PathBuf, PathBuf)> {
    let tests = programs(&["test", "--package", "gateway-tests", "--test", KERNEL, "--no-run"])?;
    let tests = tests.into_iter().find(|test| test.name == KERNEL).context("cargo built no kernel tests")?;
    Ok((sluice("dev")?, tests.program))
}

struct Built {
    sluice: PathBuf,
    /// This program: building all may have replaced the one that runs.
    xtask: PathBuf,
    /// The agent with another layout of flows.
    other_layout: PathBuf,
    tests: Vec<Program>,
}

struct Program {
    name: String,
    program: PathBuf,
    folder: PathBuf,
}

fn build() -> Result<Built> {
    // With the same features as the tests, so that nothing is compiled twice.
    let bins = ["build", "--workspace", "--bins"];
    let other = programs(&[&bins[..], &["--features", "gateway-user/other-layout"]].concat())?;
    let other = find(&other, "sluice")?;
    // The next one takes its place.
    let other_layout = other.with_file_name("sluice-other-layout");
    fs::rename(&other, &other_layout).with_context(|| format!("cannot rename {}", other.display()))?;
    let built = programs(&bins)?;
    let (sluice, xtask) = (find(&built, "sluice")?, find(&built, "xtask")?);
    let tests = programs(&["test", "--workspace", "--no-run"])?;
    Ok(Built { sluice, xtask, other_layout, tests })
}

fn find(programs: &[Program], name: &str) -> Result<PathBuf> {
    let found = programs.iter().find(|program| program.name == name);
    Ok(found.with_context(|| format!("cargo built no {name}"))?.program.clone())
}

/// Runs a cargo command and lists the programs that it built.
fn programs(args: &[&str]) -> Result<Vec<Program>> {
    let mut command = sh::cargo();
    command.args(args).args(["--locked", "--quiet", "--message-format", "json-render-diagnostics"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo's output is piped")?;
    let mut programs = Vec::new();
    for line in BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line?).context("cargo's messages are JSON")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let (Some(program), Some(manifest), Some(name)) =
            (text(&message["executable"]), text(&message["manifest_path"]), text(&message["target"]["name"]))
        {
            let folder = PathBuf::from(manifest).parent().context("a manifest is in a folder")?.to_owned();
            programs.push(Program { name, program: program.into(), folder });
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`cargo {}` failed ({status})", args.join(" "));
    }
    Ok(programs)
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    eprintln!("--- {name}");
    let done = work().with_context(|| format!("{name} failed"))?;
    eprintln!("--- {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}
