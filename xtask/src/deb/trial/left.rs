//! What is there: files, pins, links, addresses, routes and processes, for before and after.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result};
use gateway_tests::netns::NetNs;

use super::{read, root::Root};

/// What the package manager leaves of its own: logs, caches and lists.
const APT: &[&str] = &[
    "var/cache/apt/",
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/log/apt/",
    "var/log/alternatives.log",
    "var/log/dpkg.log",
    "etc/ld.so.cache",
];

/// What a root folder, its namespace and its BPF filesystem hold.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) files: BTreeSet<String>,
    pub(super) pins: BTreeSet<String>,
    pub(super) net: BTreeSet<String>,
    pub(super) processes: BTreeSet<String>,
}

impl Left {
    pub(super) fn look(root: &Root, ns: &NetNs) -> Result<Self> {
        let mut files = BTreeSet::new();
        let mut pins = BTreeSet::new();
        walk(root.path(), root.path(), &mut files)?;
        files.retain(|file| !APT.iter().any(|apt| file.starts_with(apt)));
        // A file system of its own.
        walk(&root.path().join("run"), root.path(), &mut files)?;
        walk(&root.path().join("sys/fs/bpf"), root.path(), &mut pins)?;
        let mut net = BTreeSet::new();
        for words in ["-o link", "-o address", "-4 route show table all", "-6 route show table all", "rule"] {
            let words: Vec<_> = ["ip"].into_iter().chain(words.split(' ')).collect();
            let text = read(root, ns, &words)?;
            net.extend(text.lines().map(|line| format!("{}: {line}", words.join(" "))));
        }
        Ok(Self { files, pins, net, processes: processes(root.path())? })
    }

    /// What is here and was not there before.
    pub(super) fn beyond(&self, before: &Self) -> Vec<String> {
        let mut more = Vec::new();
        for (what, now, then) in [
            ("file", &self.files, &before.files),
            ("pin", &self.pins, &before.pins),
            ("network", &self.net, &before.net),
            ("process", &self.processes, &before.processes),
        ] {
            more.extend(now.difference(then).map(|name| format!("  {what} {name}")));
        }
        more
    }
}

/// Everything below a folder, on its own file system.
fn walk(dir: &Path, root: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let device = fs::metadata(dir)?.dev();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        // The kernel's own are there from the first use on.
        if metadata.dev() != device || path.extension().is_some_and(|e| e == "debug" && dir.ends_with("bpf"))
        {
            continue;
        }
        found.insert(path.strip_prefix(root).unwrap_or(&path).display().to_string());
        if metadata.is_dir() {
            walk(&path, root, found)?;
        }
    }
    Ok(())
}

/// The processes that live in a root folder.
fn processes(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // It may be gone by now.
        if fs::read_link(path.join("root")).is_ok_and(|at| at == root) {
            found.insert(fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned());
        }
    }
    Ok(found)
}
