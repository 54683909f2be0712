//! Compiles the BPF programs and leaves the object in `OUT_DIR`, from where `dataplane` embeds it.
//!
//! Owns the nested cargo's environment: nothing of the outer build may reach the compiler for the other target.

#[path = "build/toolchain.rs"]
mod toolchain;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs' binaries in gateway-ebpf: steering, forwarding.
const OBJECTS: [&str; 2] = ["sluice-bpf", "sluice-forward"];

fn main() {
    println!("cargo::rerun-if-changed=../gateway-ebpf");
    println!("cargo::rerun-if-env-changed=SLUICE_CACHE");
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let tools = toolchain::find().map_err(|missing| {
        format!("cannot compile the BPF programs: {}; run `cargo xtask setup`", missing.join("; "))
    })?;
    for tool in [&tools.rustc, &tools.linker] {
        println!("cargo::rerun-if-changed={}", tool.display());
    }
    let out = PathBuf::from(var("OUT_DIR")?);
    let target = if var("CARGO_CFG_TARGET_ENDIAN")? == "big" { "bpfeb" } else { "bpfel" };
    let target = format!("{target}-unknown-none");
    let folder = out.join("bpf");
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", var("CARGO_CFG_TARGET_ARCH")?),
        "-Cdebuginfo=2".into(),
        // Atomics that return what was there (Linux 5.12).
        "-Ctarget-cpu=v3".into(),
        "-Clink-arg=--btf".into(),
        // Values are copied and cleared word by word where they are, not byte by byte in a loop.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        format!("-Clinker={}", tools.linker.display()),
    ];
    let other_layout = env::var_os("CARGO_FEATURE_OTHER_LAYOUT").is_some();
    let features = if other_layout { "programs,other-layout" } else { "programs" };
    let mut command = Command::new(&tools.cargo);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(outer) {
            command.env_remove(name);
        }
    }
    command
        .args(["build", "--quiet", "--locked", "--release", "-Zbuild-std=core"])
        .args(["--features", features, "--bins", "--target", &target])
        .arg("--manifest-path")
        .arg(Path::new(&var("CARGO_MANIFEST_DIR")?).join("../gateway-ebpf/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTC", &tools.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if tools.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let output = command.output().map_err(|e| format!("cannot run {}: {e}", tools.cargo.display()))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    for line in messages.lines() {
        println!("cargo::warning={line}");
    }
    if !output.status.success() {
        return Err(format!("the BPF programs do not compile ({}); {command:?}", output.status));
    }
    for name in OBJECTS {
        let object = folder.join(&target).join("release").join(name);
        std::fs::copy(&object, out.join(name))
            .map_err(|e| format!("cannot copy {} to {}: {e}", object.display(), out.display()))?;
    }
    Ok(())
}

/// Whether a variable speaks of the outer build: its compiler, flags, package or target. Where cargo finds its
/// registry (`CARGO_HOME`, `CARGO_NET_*`, …) and the jobserver hold for both.
fn outer(name: &str) -> bool {
    let exact =
        ["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "TARGET", "HOST"];
    let prefixes = [
        "RUSTC_",
        "CARGO_ENCODED_",
        "CARGO_BUILD_",
        "CARGO_TARGET_",
        "CARGO_PROFILE_",
        "CARGO_PKG_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_INCREMENTAL",
    ];
    exact.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("cargo did not set {name}: {e}"))
}
