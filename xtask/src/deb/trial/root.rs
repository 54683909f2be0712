//! A fresh Debian in a folder, made once by mmdebstrap and kept as an archive in setup's cache.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use gateway_tests::netns::NetNs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::{setup, sh};

/// Beyond what every Debian has: what the quick start uses (curl, python3), and what a host has.
const PACKAGES: &str = "ca-certificates,curl,init-system-helpers,iproute2,procps,python3,systemd";
/// An archive older than that is made again.
const FRESH: Duration = Duration::from_secs(30 * 24 * 3600);

/// The folder with its file systems, gone when dropped.
#[derive(Debug)]
pub(super) struct Root {
    mounts: Vec<PathBuf>,
    dir: TempDir,
}

impl Root {
    pub(super) fn new(ns: &NetNs) -> Result<Self> {
        let archive = archive()?;
        let dir = tempfile::Builder::new().prefix("sluice-deb-").tempdir()?;
        sh::read(Command::new("tar").arg("-C").arg(dir.path()).arg("-xf").arg(archive))?;
        let mut root = Self { mounts: Vec::new(), dir };
        for (kind, at, options) in [
            ("proc", "proc", None),
            ("sysfs", "sys", None),
            ("bpf", "sys/fs/bpf", Some("mode=0700")),
            ("tmpfs", "run", Some("mode=0755")),
            // apt writes its log through a terminal.
            ("devpts", "dev/pts", Some("newinstance,ptmxmode=0666")),
        ] {
            let at = root.path().join(at);
            // sysfs shows the namespace that it is mounted in.
            ns.enter(|| mount(Some(kind), &at, Some(kind), MsFlags::empty(), options))
                .with_context(|| format!("cannot mount {kind} at {}", at.display()))?;
            root.mounts.push(at);
        }
        // By this packages know a running systemd.
        fs::create_dir_all(root.path().join("run/systemd/system"))?;
        Ok(root)
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A command that runs inside, with an environment of its own.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.path()).arg(program).env_clear();
        for (key, value) in [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ] {
            command.env(key, value);
        }
        command
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        while let Some(at) = self.mounts.pop() {
            if let Err(e) = umount2(&at, MntFlags::MNT_DETACH) {
                eprintln!("cannot unmount {}: {e}", at.display());
            }
        }
    }
}

/// The archive, made now if there is none or it is old.
fn archive() -> Result<PathBuf> {
    let codename = codename()?;
    let folder = setup::cache()?.join("deb");
    let archive = folder.join(format!("{codename}.tar"));
    let made = archive.metadata().and_then(|m| m.modified()).ok();
    let fresh = made.is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < FRESH));
    let list = archive.with_extension("packages");
    if fresh && fs::read_to_string(&list).is_ok_and(|list| list == PACKAGES) {
        return Ok(archive);
    }
    fs::create_dir_all(&folder)?;
    let new = folder.join(format!("{codename}.new.tar"));
    // Packages come from where this machine gets its own.
    let sources: Vec<_> = ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .collect();
    if sources.is_empty() {
        bail!("there is neither /etc/apt/sources.list nor /etc/apt/sources.list.d/debian.sources");
    }
    sh::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=apt"])
            .arg(format!("--include={PACKAGES}"))
            .arg(&codename)
            .arg(&new)
            .args(sources),
    )?;
    fs::rename(&new, &archive)?;
    fs::write(list, PACKAGES)?;
    Ok(archive)
}

/// This machine's release: what was built here runs there.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let debian = text.lines().any(|line| line == "ID=debian");
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match name {
        Some(name) if debian => Ok(name.to_owned()),
        _ => bail!("the trial needs Debian: it makes a fresh one of the same release as this machine's"),
    }
}
