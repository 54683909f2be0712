//! `deb`: the Debian package, and a trial of it in a fresh Debian.
//!
//! Owns what goes into the package besides the binary. Which file goes where is said in `gateway-user/Cargo.toml`.

mod trial;
mod unit;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    setup::{self, Part},
    sh, test,
};

/// What the task was asked for.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install the package in a fresh Debian, start its unit, run the quick start, purge it, and see that nothing is
    /// left.
    #[arg(long = "try")]
    try_it: bool,
    /// Try this package instead of building one.
    #[arg(long, value_name = "FILE", requires = "try_it")]
    package: Option<PathBuf>,
    /// The profile that the program is built with; `dev` is quick to build, and large.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Builds the package as the user; tries it as root.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Part::Bpf, Part::Net, Part::Deb])?;
    let package = match &args.package {
        Some(package) => package.clone(),
        None => build(&args.profile)?,
    };
    if !args.try_it {
        return Ok(());
    }
    if sh::is_root() {
        return trial::run(&package);
    }
    let mut command = sh::as_root("env")?;
    // Root's own would be another.
    command.arg(format!("SLUICE_CACHE={}", setup::cache()?.display()));
    command.arg(env::current_exe().context("this program has a path")?);
    sh::run(command.args(["deb", "--try", "--package"]).arg(package))
}

fn build(profile: &str) -> Result<PathBuf> {
    let start = Instant::now();
    let built = test::sluice(profile)?;
    let target = sh::root().join("target/deb");
    // cargo-deb takes what it shall not build from `release`, whatever the profile was.
    let stage = target.join("release");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot clear {}", stage.display()))?;
    }
    let (man, completions) = (stage.join("man"), stage.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let sluice = stage.join("sluice");
    fs::copy(&built, &sluice).with_context(|| format!("cannot copy {}", built.display()))?;
    sh::read(Command::new(&sluice).args(["man", "--dir"]).arg(&man))?;
    for shell in ["bash", "fish", "zsh"] {
        let text = sh::read(Command::new(&sluice).args(["completions", shell]))? + "\n";
        fs::write(completions.join(format!("sluice.{shell}")), text)?;
    }
    let mut command = Command::new(setup::which("cargo-deb").context("cargo-deb is not there after setup")?);
    command.args(["--quiet", "--package", "gateway-user", "--no-build", "--output"]).arg(&target);
    if profile != "release" {
        command.arg("--fast");
    }
    command.env("CARGO_TARGET_DIR", &target).current_dir(sh::root());
    let package = PathBuf::from(sh::read(&mut command)?);
    let size = fs::metadata(&package).with_context(|| format!("no package at {}", package.display()))?.len();
    println!(
        "{}: {:.1} MB, after {:.0} s",
        package.display(),
        size as f64 / 1e6,
        start.elapsed().as_secs_f64()
    );
    verify()?;
    Ok(package)
}

/// Holds the unit against systemd's own idea of one. What it starts need not be installed here.
fn verify() -> Result<()> {
    let unit = sh::root().join(unit::FILE);
    let text = fs::read_to_string(&unit).with_context(|| format!("cannot read {}", unit.display()))?;
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("sluice.service");
    let here = text.replace("/usr/bin/sluice ", "/bin/true ").replace("man:sluice(1) ", "");
    if here == text {
        bail!("{} starts no /usr/bin/sluice", unit.display());
    }
    fs::write(&copy, here)?;
    let said = said(Command::new("systemd-analyze").arg("verify").arg(&copy))?;
    if !said.is_empty() {
        bail!("systemd-analyze verify: {said}");
    }
    println!("{}: systemd-analyze finds nothing wrong", unit::FILE);
    Ok(())
}

/// All that a command writes, which must succeed.
fn said(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if !out.status.success() {
        bail!("{command:?}: {}: {text}", out.status);
    }
    Ok(text)
}

/// A path below a root folder.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
