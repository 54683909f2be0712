//! `setup`: gets what is missing on this machine, says what it does and how long it took, and does nothing twice.
//!
//! Everything that is not a distribution's package goes into [`cache`], outside the checkout. On Debian packages
//! come by apt-get (as root or by sudo); elsewhere the toolchain comes by rustup and cargo, and packages are
//! named with a line that installs them.

mod apt;
mod bpf;
mod cluster;
mod elsewhere;
mod go;
mod kernels;
mod needs;
mod peers;
mod wheel;

use std::{
    env,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use self::needs::{Get, NEEDS, Need};
pub(crate) use self::{
    bpf::clippy as bpf_clippy,
    cluster::format as go_format,
    go::go,
    kernels::{KERNELS, Kernel, kernel, qemu},
    peers::{envoy, nginx_stream},
};

/// What a task can need. A task asks for the parts that it uses, and for no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Compiles the BPF programs.
    Bpf,
    /// rustfmt, clippy, cargo-deny.
    Lint,
    /// Namespaces and what looks into them.
    Net,
    /// Other people's proxies, clients and Prometheus, for tests and benchmarks.
    Peers,
    /// What only `bench l4` measures itself against.
    L4,
    /// Makes the Debian package, and a fresh Debian to try it in.
    Deb,
    /// Go, which fetches the Gateway API's module.
    Go,
    /// Other kernels, and what boots them.
    Vm,
    /// A Kubernetes cluster without containers, and the Gateway API's conformance suite.
    Cluster,
}

impl Part {
    pub(crate) const ALL: [Self; 9] = [
        Self::Bpf,
        Self::Lint,
        Self::Net,
        Self::Peers,
        Self::L4,
        Self::Deb,
        Self::Go,
        Self::Vm,
        Self::Cluster,
    ];
}

/// The subcommand: everything.
pub(crate) fn run(check: bool) -> Result<()> {
    if check {
        let missing = missing(&Part::ALL);
        if missing.is_empty() {
            println!("setup: nothing is missing");
            return Ok(());
        }
        bail!("missing: {}; run `cargo xtask setup`", names(&missing));
    }
    ensure(&Part::ALL)?;
    println!("setup: nothing is missing");
    Ok(())
}

/// Gets what is missing of some parts; quick and silent if nothing is.
pub(crate) fn ensure(parts: &[Part]) -> Result<()> {
    let start = Instant::now();
    let wanted = missing(parts);
    if wanted.is_empty() {
        return Ok(());
    }
    eprintln!("setup: missing: {}", names(&wanted));
    packages(&wanted)?;
    for need in &wanted {
        // Unless the packages brought it.
        if let Get::Do(get) = need.get
            && !(need.has)()
        {
            step(need.name, get)?;
        }
    }
    let left = missing(parts);
    if !left.is_empty() {
        bail!("still missing after setup: {}", names(&left));
    }
    eprintln!("setup: all there after {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Where setup keeps what it gets: `$SLUICE_CACHE` or `~/.cache/sluice`.
pub(crate) fn cache() -> Result<PathBuf> {
    bpf::cache().context("no home directory; set SLUICE_CACHE to a folder")
}

/// Finds a program in the cache, in `PATH`, or where an ordinary user's `PATH` does not reach.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let cached = cache().ok().map(|c| c.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    cached
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn missing(parts: &[Part]) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| parts.contains(&need.part) && !(need.has)()).collect()
}

fn names(needs: &[&Need]) -> String {
    needs.iter().map(|need| need.name).collect::<Vec<_>>().join(", ")
}

/// Installs the packages among the wanted, or says how to.
fn packages(wanted: &[&Need]) -> Result<()> {
    let mut packages: Vec<&str> = Vec::new();
    for need in wanted {
        let more: &[&str] = match need.get {
            Get::Package(package) => &[package],
            // What is compiled on Debian needs Debian's libraries.
            Get::Do(_) if apt::is_debian() => need.debian,
            Get::Do(_) => &[],
        };
        packages.extend(more);
    }
    packages.sort_unstable();
    packages.dedup();
    packages.retain(|package| !apt::is_debian() || !apt::installed(package));
    if packages.is_empty() {
        return Ok(());
    }
    if apt::is_debian() {
        return step(&format!("apt-get install {}", packages.join(" ")), || apt::install(&packages));
    }
    bail!("{}", elsewhere::advice(&packages, |program| which(program).is_some()))
}

fn step(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    eprintln!("setup: {what} …");
    work().with_context(|| format!("setup of {what} failed"))?;
    eprintln!("setup: {what}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_has_a_name_of_its_own() {
        let mut names: Vec<_> = NEEDS.iter().map(|need| need.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NEEDS.len());
    }

    #[test]
    fn programs_are_found_in_the_path_and_only_if_they_can_run() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program").is_none());
        assert!(!is_program(Path::new("/etc/passwd")));
        assert!(!is_program(Path::new("/etc")));
    }
}
