//! A BPF filesystem of a test's own: unmounting it unpins, and so detaches, all that was left in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A mounted BPF filesystem, unmounted again when dropped.
#[derive(Debug)]
pub struct BpfFs(TempDir);

impl BpfFs {
    /// Mounts one in a new folder.
    ///
    /// # Panics
    /// Without root.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sluice-bpffs-").tempdir().expect("a folder can be made");
        mount(Some("bpf"), dir.path(), Some("bpf"), MsFlags::empty(), Some("mode=0700")).unwrap_or_else(
            |e| {
                panic!(
                    "cannot mount a BPF filesystem at {}: {e} (this test needs root)",
                    dir.path().display()
                )
            },
        );
        Self(dir)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Everything pinned in it now, as paths below it, sorted; without what the kernel itself puts there.
    pub fn pins(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(self.path(), &mut found);
        found.retain(|path| path.extension().is_none_or(|e| e != "debug"));
        let mut pins: Vec<_> =
            found.iter().map(|p| p.strip_prefix(self.path()).expect("found below it").to_owned()).collect();
        pins.sort();
        pins
    }
}

impl Default for BpfFs {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        if let Err(e) = umount2(self.path(), MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {e}", self.path().display());
        }
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}
