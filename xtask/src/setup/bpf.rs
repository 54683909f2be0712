//! What compiles the BPF programs. What counts as there is decided by the very file by which the agent's build
//! script looks for it; this one only gets what is missing of it.

use std::{env, ffi::OsString, path::Path, process::Command};

use anyhow::{Context, Result, anyhow};

use self::toolchain::Toolchain;
use super::{apt, which};
use crate::sh;

#[path = "../../../gateway-user/build/toolchain.rs"]
mod toolchain;

pub(super) use self::toolchain::cache;

/// The oldest that knows LLVM 22; a newer one would want a newer LLVM.
const LINKER: &str = "bpf-linker@0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";

/// Debian's rustc 1.96 has LLVM 22, and so must the linker.
pub(super) const DEBIAN_COMPILER: &[&str] = &["cargo-web", "rustc-web", "rust-web-src"];
pub(super) const DEBIAN_LINKER: &[&str] = &["llvm-22-dev", "libpolly-22-dev"];

/// `cargo clippy` of the toolchain that compiles the BPF programs, with unstable features on.
pub(crate) fn clippy() -> Result<Command> {
    let Toolchain { cargo, rustc, linker: _, bootstrap } =
        toolchain::find().map_err(|missing| anyhow!("{}; run `cargo xtask setup`", missing.join("; ")))?;
    let mut command = Command::new(cargo.with_file_name("cargo-clippy"));
    // These speak of the toolchain that runs this task.
    for key in ["RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(key);
    }
    if bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command.arg("clippy").env("CARGO", cargo).env("RUSTC", rustc).current_dir(sh::root());
    Ok(command)
}

pub(super) fn has_compiler() -> bool {
    toolchain::debian().or_else(toolchain::nightly).is_some()
}

pub(super) fn get_compiler() -> Result<()> {
    let line = "toolchain install nightly --profile minimal --component rust-src --component clippy";
    sh::run(Command::new("rustup").args(line.split(' ')))
}

pub(super) fn has_clippy() -> bool {
    clippy().is_ok_and(|mut clippy| sh::succeeds(clippy.arg("--version")))
}

pub(super) fn get_clippy() -> Result<()> {
    sh::run(Command::new("rustup").args(["component", "add", "--toolchain", "nightly", "clippy"]))
}

pub(super) fn has_linker() -> bool {
    toolchain::linker().is_some_and(|linker| sh::succeeds(Command::new(linker).arg("--version")))
}

pub(super) fn get_linker() -> Result<()> {
    let root = super::cache()?;
    if apt::is_debian() {
        let llvm = Path::new(LLVM);
        return sh::run(
            Command::new("/usr/bin/cargo")
                .args(["install", "--quiet", "--locked", "--no-default-features", "--features", "llvm-22"])
                .arg("--root")
                .arg(root)
                .arg(LINKER)
                .env("PATH", path_after(&[&llvm.join("bin"), Path::new("/usr/bin")])?)
                .env("RUSTFLAGS", format!("-L native={}", llvm.join("lib").display()))
                .env_remove("RUSTC")
                .current_dir("/"),
        );
    }
    // Built from source it would need the very LLVM of the nightly compiler: so its makers' binary it is.
    if which("cargo-binstall").is_none() {
        sh::run(sh::cargo().args(["install", "--locked", "--root"]).arg(&root).arg("cargo-binstall"))?;
    }
    let binstall = which("cargo-binstall").context("cargo-binstall is not there after its installation")?;
    sh::run(Command::new(binstall).args(["--no-confirm", "--root"]).arg(root).arg(LINKER))
}

fn path_after(first: &[&Path]) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let first = first.iter().map(|&dir| dir.to_owned());
    env::join_paths(first.chain(env::split_paths(&path))).context("PATH cannot be extended")
}
