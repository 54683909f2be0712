//! Where the toolchain for the BPF programs is.
//!
//! Owns the search and its order. Must not install anything: that is `cargo xtask setup`, which includes this very
//! file (by `#[path]`) so that both mean the same by "missing". Nothing here but the standard library.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler with the library's source, its cargo, and the linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// cargo.
    pub(crate) cargo: PathBuf,
    /// rustc, of the same release.
    pub(crate) rustc: PathBuf,
    /// bpf-linker.
    pub(crate) linker: PathBuf,
    /// Whether rustc is a stable one that must be told to accept `-Z`.
    pub(crate) bootstrap: bool,
}

/// The oldest stable release that compiles the programs.
pub(crate) const MIN_MINOR: u32 = 96;

/// The toolchain, or what is missing of it, one sentence each.
pub(crate) fn find() -> Result<Toolchain, Vec<String>> {
    let mut missing = Vec::new();
    let linker = linker();
    if linker.is_none() {
        missing.push(format!(
            "bpf-linker is neither in {} nor in PATH",
            cache().map_or_else(|| "~/.cache/sluice/bin".into(), |c| c.join("bin").display().to_string())
        ));
    }
    let compiler = debian().or_else(nightly);
    if compiler.is_none() {
        missing.push(format!(
            "no compiler with the standard library's source: neither Debian's rustc-web, cargo-web and \
             rust-web-src (1.{MIN_MINOR} or later) nor a rustup nightly with rust-src"
        ));
    }
    match (linker, compiler) {
        (Some(linker), Some((cargo, rustc, bootstrap))) => Ok(Toolchain { cargo, rustc, linker, bootstrap }),
        _ => Err(missing),
    }
}

/// The directory outside the checkout that setup fills: `$SLUICE_CACHE`, else `~/.cache/sluice`.
pub(crate) fn cache() -> Option<PathBuf> {
    if let Some(cache) = env::var_os("SLUICE_CACHE").filter(|c| !c.is_empty()) {
        return Some(cache.into());
    }
    env::var_os("HOME").map(|home| Path::new(&home).join(".cache/sluice"))
}

/// bpf-linker: setup's, else the first one in PATH.
pub(crate) fn linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    cache()
        .map(|cache| cache.join("bin"))
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.is_file())
}

/// Debian's packages: a stable compiler in /usr/bin, with its library's source.
pub(crate) fn debian() -> Option<(PathBuf, PathBuf, bool)> {
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    let version = output(Command::new(&rustc).arg("--version"))?;
    let minor: u32 = version.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()?;
    (minor >= MIN_MINOR && cargo.is_file() && has_source(&rustc)).then_some((cargo, rustc, true))
}

/// rustup's nightly, if it has the component rust-src.
pub(crate) fn nightly() -> Option<(PathBuf, PathBuf, bool)> {
    let which = |tool| {
        output(Command::new("rustup").args(["which", "--toolchain", "nightly", tool])).map(PathBuf::from)
    };
    let (cargo, rustc) = (which("cargo")?, which("rustc")?);
    has_source(&rustc).then_some((cargo, rustc, false))
}

fn has_source(rustc: &Path) -> bool {
    output(Command::new(rustc).args(["--print", "sysroot"])).is_some_and(|sysroot| {
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
    })
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
