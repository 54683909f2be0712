//! `lint`: rustfmt, clippy for the host and for BPF, cargo-deny, and gofmt.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    setup::{self, Part},
    sh,
};

/// Runs every linter; the first that complains ends it.
pub(crate) fn run() -> Result<()> {
    setup::ensure(&[Part::Bpf, Part::Lint, Part::Go])?;
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))?;
    setup::go_format()?;
    sh::run(sh::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    // Apart from the host's crates: linted together, cargo would give the BPF side the host's features too.
    sh::run(
        setup::bpf_clippy()?
            .args(["--package", "gateway-ebpf", "--features", "programs", "--locked"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            // Another compiler than the workspace's: in one folder they would undo each other's work.
            .args(["--target-dir", "target/bpf-lint"])
            .env(
                "CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS",
                format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
            )
            .args(["--", "-D", "warnings"]),
    )?;
    let deny = setup::which("cargo-deny").context("cargo-deny is not there after setup")?;
    sh::run(
        Command::new(deny)
            .args(["--locked", "--log-level", "warn", "check", "bans", "licenses", "sources"])
            .current_dir(sh::root()),
    )
}
