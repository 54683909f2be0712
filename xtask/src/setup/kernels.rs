//! Debian's cloud kernels, which `vm` boots: their packages unpacked into the cache, never installed.
//!
//! They come by apt from the mirrors that this machine uses already, through a list of sources of their own: a plain
//! Debian 12 does not offer both, and the system's configuration is not ours to change. So it needs no root either.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{cache, which};
use crate::sh;

/// The kernels that must do, by the beginning of their versions: the oldest supported, and the first long-term one
/// that has tcx.
pub(crate) const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Where Debian 12 and its updates have them. What a mirror lacks of these, others have.
const SUITES: [(&str, &[&str]); 2] =
    [("/debian", &["bookworm", "bookworm-backports"]), ("/debian-security", &["bookworm-security"])];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel in the cache.
pub(crate) struct Kernel {
    /// What boots.
    pub(crate) image: PathBuf,
    /// As it calls itself: `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    /// Holds `modules.dep` and what that names.
    pub(crate) modules: PathBuf,
}

/// A kernel, if setup has it.
pub(crate) fn kernel(version: &str) -> Result<Kernel> {
    let folder = folder(version)?;
    let found = || -> Option<Kernel> {
        let modules = fs::read_dir(folder.join("lib/modules")).ok()?.next()?.ok()?.path();
        let release = modules.file_name()?.to_str()?.to_owned();
        let image = folder.join("vmlinuz");
        (image.exists() && modules.join("modules.dep").exists()).then_some(Kernel { image, release, modules })
    };
    found().with_context(|| format!("there is no kernel {version} in {}", folder.display()))
}

pub(super) fn has() -> bool {
    KERNELS.iter().all(|version| kernel(version).is_ok())
}

pub(super) fn get() -> Result<()> {
    if which("apt-get").is_none() || which("dpkg-deb").is_none() {
        bail!(
            "Debian's kernels {} come by apt, which is not here; unpack the packages \
             linux-image-VERSION-cloud-ARCH, put boot/vmlinuz-* as vmlinuz and lib/modules into {}, and run \
             depmod -b there",
            KERNELS.join(" and "),
            folder("VERSION")?.display()
        );
    }
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let apt = Apt::new(&cache)?;
    for version in KERNELS {
        if kernel(version).is_err() {
            apt.unpack(version)?;
        }
    }
    Ok(())
}

fn folder(version: &str) -> Result<PathBuf> {
    Ok(cache()?.join("kernels").join(version))
}

/// apt with lists, sources and caches of its own, all gone when this is.
struct Apt {
    folder: tempfile::TempDir,
    /// What it said of lists that it could not get.
    said: String,
}

impl Apt {
    fn new(cache: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("apt-").tempdir_in(cache)?;
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.path().join(part))?;
        }
        fs::write(folder.path().join("status"), "")?;
        let form = ["indextargets", "--no-release-info", "--format", "$(REPO_URI) $(COMPONENT)"];
        let known = sh::read(Command::new("apt-get").args(form))?;
        let keys = Path::new(KEYS).exists().then_some(KEYS);
        let sources = sources(&known, keys);
        if sources.is_empty() {
            bail!("no source of this machine's apt is a mirror of Debian, whose kernels are needed");
        }
        fs::write(folder.path().join("sources.list"), sources)?;
        let mut apt = Self { folder, said: String::new() };
        // One suite that cannot be had does no harm, if the others have what is needed.
        if let Err(e) = sh::read(apt.command("apt-get").args(["update", "-q"])) {
            apt.said = format!("; {e:#}");
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let at = |part: &str| self.folder.path().join(part).display().to_string();
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        for (key, value) in [
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "-".into()),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Acquire::Languages", "none".into()),
            // Which could not write into this folder.
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command
    }

    fn unpack(&self, version: &str) -> Result<()> {
        let arch = sh::read(Command::new("dpkg").arg("--print-architecture"))?;
        let prefix = format!("linux-image-{version}.");
        let names = sh::read(self.command("apt-cache").args(["pkgnames", &prefix]))?;
        let name = newest(&names, &arch).with_context(|| {
            format!("no mirror that this machine uses has {prefix}*-cloud-{arch} for Debian 12{}", self.said)
        })?;
        sh::read(self.command("apt-get").args(["download", "-q", name]))?;
        let package = find(self.folder.path(), |name| name.ends_with(".deb"))?;
        let unpacked = self.folder.path().join(version);
        sh::read(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
        fs::remove_file(&package)?;
        let boot = find(&unpacked.join("boot"), |name| name.starts_with("vmlinuz"))?;
        // Newer packages have all below /usr.
        let usr = unpacked.join("usr");
        let modules =
            if usr.join("lib/modules").exists() { usr } else { unpacked.clone() }.join("lib/modules");
        let ready = self.folder.path().join("ready");
        fs::create_dir_all(ready.join("lib"))?;
        fs::rename(boot, ready.join("vmlinuz"))?;
        fs::rename(modules, ready.join("lib/modules"))?;
        let release = find(&ready.join("lib/modules"), |_| true)?;
        let release = release.file_name().context("a folder has a name")?;
        let busybox = which("busybox").context("busybox is not there after setup")?;
        sh::read(Command::new(busybox).args(["depmod", "-b"]).arg(&ready).arg(release))?;
        let size = sh::read(Command::new("du").args(["-sm"]).arg(&ready))?;
        let kept = folder(version)?;
        fs::create_dir_all(kept.parent().context("it is in the cache")?)?;
        if kept.exists() {
            fs::remove_dir_all(&kept).with_context(|| format!("cannot clear {}", kept.display()))?;
        }
        // All at once, so that half a kernel is never found.
        fs::rename(&ready, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
        let size = size.split_whitespace().next().unwrap_or_default();
        eprintln!("setup: {name}: {size} MB in {}", kept.display());
        Ok(())
    }
}

/// The one entry of a folder that is looked for.
fn find(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
        .with_context(|| format!("{} lacks what it should hold", folder.display()))
}

/// Lines of a list of sources, from `apt-get indextargets`'s repositories and components: the same mirrors of Debian,
/// the suites that have the kernels.
fn sources(known: &str, keys: Option<&str>) -> String {
    let option = keys.map_or(String::new(), |keys| format!("[signed-by={keys}] "));
    let mut lines: Vec<String> = known
        .lines()
        .filter_map(|line| line.strip_suffix(" main"))
        .flat_map(|mirror| {
            let end = mirror.trim_end_matches('/');
            SUITES
                .iter()
                .filter(move |(kind, _)| end.ends_with(kind))
                .flat_map(|(_, suites)| suites.iter())
                .map(move |suite| (mirror, suite))
        })
        .map(|(mirror, suite)| format!("deb {option}{mirror} {suite} main\n"))
        .collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

/// The newest signed cloud kernel of an architecture among packages.
fn newest<'a>(names: &'a str, arch: &str) -> Option<&'a str> {
    let end = format!("-cloud-{arch}");
    let numbers = |name: &str| -> Vec<u32> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    names.lines().filter(|name| name.ends_with(&end)).max_by_key(|name| numbers(name))
}

/// The package with QEMU for this machine's own architecture.
pub(super) const QEMU_PACKAGE: &str =
    if matches!(ARCH.as_bytes(), b"aarch64") { "qemu-system-arm" } else { "qemu-system-x86" };

/// QEMU for this machine's own architecture.
pub(crate) fn qemu() -> Option<PathBuf> {
    which(&format!("qemu-system-{ARCH}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirrors_stay_and_the_suites_are_the_kernels() {
        let known = "http://mirror.example/debian/ main\nhttp://mirror.example/debian/ main\n\
                     http://mirror.example/debian/ contrib\nhttps://security.example/debian-security main\n\
                     http://other.example/ubuntu/ main\n";
        assert_eq!(
            sources(known, Some("/keys.gpg")),
            "deb [signed-by=/keys.gpg] http://mirror.example/debian/ bookworm main\n\
             deb [signed-by=/keys.gpg] http://mirror.example/debian/ bookworm-backports main\n\
             deb [signed-by=/keys.gpg] https://security.example/debian-security bookworm-security main\n"
        );
        assert_eq!(
            sources("http://mirror.example/debian main", None),
            "deb http://mirror.example/debian bookworm main\n\
             deb http://mirror.example/debian bookworm-backports main\n"
        );
        assert_eq!(sources("http://other.example/ubuntu/ main", None), "");
    }

    #[test]
    fn the_newest_is_signed_and_of_this_architecture() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n\
                     linux-image-6.1.0-60-cloud-amd64-unsigned\nlinux-image-6.1.0-61-amd64\n\
                     linux-image-6.1.0-62-cloud-arm64\nlinux-image-6.1.0-48-cloud-amd64\n";
        assert_eq!(newest(names, "amd64"), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest(names, "arm64"), Some("linux-image-6.1.0-62-cloud-arm64"));
        let names = "linux-image-6.12.117+deb12-cloud-amd64\nlinux-image-6.12.43+bpo-cloud-amd64\n";
        assert_eq!(newest(names, "amd64"), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest("", "amd64"), None);
    }
}
