//! The pin directory: on the host's BPF filesystem, and one agent's alone.
//!
//! Owns the directory, its lock and its removal. A BPF filesystem holds no ordinary file, so the lock is taken on
//! the directory itself; the kernel lets go of it when the process dies, however it dies.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use procfs::process::Process;

use super::sys::Link;
use super::{Error, sys};

/// What the pins of links begin with.
const LINKS: &str = "link_";

/// A pin directory that is ours while this lives.
#[derive(Debug)]
pub(super) struct Pins {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Pins {
    /// Makes the directory if it is missing, and takes it.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        check_mount(path)?;
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(Error::io(format!("cannot make the pin directory {}", path.display())))?;
            if let Some(pins) = Self::lock(path)? {
                return Ok(pins);
            }
        }
    }

    /// Takes the directory if there is one.
    pub(super) fn take_existing(path: &Path) -> Result<Option<Self>, Error> {
        if !path.exists() {
            return Ok(None);
        }
        check_mount(path)?;
        Self::lock(path)
    }

    /// `None` if the directory went away meanwhile.
    fn lock(path: &Path) -> Result<Option<Self>, Error> {
        let failed = |e| Error::io(format!("cannot open the pin directory {}", path.display()))(e);
        let directory = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let inode = |m: &fs::Metadata| (m.dev(), m.ino());
        let opened = directory.metadata().as_ref().map(inode).map_err(|e| failed(e.kind().into()))?;
        let lock = match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(Error::InUse { path: path.to_owned(), holder: holder(opened.1) });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        // An uninstall may have removed the directory between the two calls: then this lock is on nothing.
        let there = fs::metadata(path).as_ref().map(inode).ok();
        Ok((there == Some(opened)).then(|| Self { path: path.to_owned(), _lock: lock }))
    }

    /// Where something is pinned.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.path
    }

    /// Detaches every link, removes every pin and the directory; returns what was removed.
    pub(super) fn remove(self) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        let list = Error::io(format!("cannot list {}", self.path.display()));
        let entries: Vec<_> = fs::read_dir(&self.path).and_then(Iterator::collect).map_err(list)?;
        for entry in entries {
            let path = entry.path();
            // What is no link tells a number of its own kind where a link tells its.
            let is_link = entry.file_name().to_string_lossy().starts_with(LINKS);
            if let (true, Ok(fd)) = (is_link, sys::open_pin(&path)) {
                use std::os::fd::AsFd as _;
                // At once, where removing the pin would leave it to the kernel's convenience.
                if matches!(sys::link(fd.as_fd()), Ok(Link::Namespace(_) | Link::Interface(1..))) {
                    sys::detach_link(fd.as_fd())
                        .map_err(Error::io(format!("cannot detach the link {}", path.display())))?;
                }
            }
            fs::remove_file(&path).map_err(Error::io(format!("cannot remove the pin {}", path.display())))?;
            removed.push(path.display().to_string());
        }
        removed.sort();
        fs::remove_dir(&self.path)
            .map_err(Error::io(format!("cannot remove the pin directory {}", self.path.display())))?;
        removed.push(self.path.display().to_string());
        Ok(removed)
    }
}

/// ` (pid N)` of who holds a lock on this inode.
fn holder(inode: u64) -> String {
    procfs::locks()
        .into_iter()
        .flatten()
        .find(|lock| lock.inode == inode && lock.lock_type == procfs::LockType::FLock)
        .and_then(|lock| lock.pid)
        .map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// Whether the path, or the deepest part of it that exists, is on a BPF filesystem that the host's first process
/// sees as well: that one outlives this process.
fn check_mount(path: &Path) -> Result<(), Error> {
    let existing = path.ancestors().find(|p| p.exists()).ok_or_else(|| Error::NotBpffs(path.to_owned()))?;
    let magic = statfs(existing)
        .map_err(|e| Error::io(format!("cannot examine {}", existing.display()))(e.into()))?
        .filesystem_type();
    if magic != BPF_FS_MAGIC {
        return Err(Error::NotBpffs(path.to_owned()));
    }
    let device =
        fs::metadata(existing).map_err(Error::io(format!("cannot examine {}", existing.display())))?.dev();
    let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    match Process::new(1).and_then(|init| init.mountinfo()) {
        Ok(mounts) if !mounts.iter().any(|m| m.fs_type == "bpf" && m.majmin == device) => {
            Err(Error::PrivateMount(path.to_owned()))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(
                "cannot read the mounts of process 1 ({error}): whether the BPF filesystem of {} is the host's \
                 is not known",
                path.display()
            );
            Ok(())
        }
    }
}
