//! `ci`: the test command in a fresh clone of HEAD, so that nothing uncommitted, ignored or cached can help.

use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// Clones, tests, and removes the clone.
pub(crate) fn run() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("sluice-ci-").tempdir().context("no temporary folder")?;
    let head = sh::read(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(sh::root()))?;
    let dirty = sh::read(Command::new("git").args(["status", "--porcelain"]).current_dir(sh::root()))?;
    if !dirty.is_empty() {
        eprintln!("ci: what is not committed is not tested:\n{dirty}");
    }
    sh::run(
        Command::new("git").args(["clone", "--quiet", "--no-checkout"]).arg(sh::root()).arg(folder.path()),
    )?;
    sh::run(Command::new("git").args(["checkout", "--quiet", "--detach", &head]).current_dir(folder.path()))?;
    sh::run(
        Command::new(folder.path().join(".ci/run"))
            .current_dir(folder.path())
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_MANIFEST_DIR"),
    )
}
