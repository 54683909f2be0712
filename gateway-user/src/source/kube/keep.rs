//! What an agent remembers of a cluster over its own restarts, so that it serves at once while the API server is away.
//!
//! Owns where: objects in the state directory, and keys in memory only: on a tmpfs, mode 0600, gone with the machine's power.
//! What is kept is always of a moment at which every list was complete. Must not know what the objects are used for.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::Value;
use tracing::warn;

use super::super::kind::Kind;
use super::super::store::{Key, Real, Store, StoreError};

/// Where objects are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// A folder for all but Secrets.
    pub objects: PathBuf,
    /// A folder for Secrets; used only if it is on a tmpfs.
    pub secrets: PathBuf,
}

impl Folders {
    /// Those of an agent with this state directory and admin socket.
    #[must_use]
    pub fn of(state_dir: &Path, admin_socket: &Path) -> Self {
        Self { objects: state_dir.join("cluster"), secrets: admin_socket.with_file_name("cluster") }
    }

    /// Removes them, and returns those that there were.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(&self) -> io::Result<Vec<PathBuf>> {
        let there = [&self.objects, &self.secrets].into_iter().filter(|folder| folder.is_dir());
        there.map(|folder| std::fs::remove_dir_all(folder).map(|()| folder.clone())).collect()
    }
}

/// What is remembered.
#[derive(Debug)]
pub(super) struct Kept {
    objects: Store<Real>,
    /// `None`: there is no place for keys that forgets them with the power.
    secrets: Option<Store<Real>>,
}

/// What was remembered.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) objects: Vec<(Kind, Value)>,
    /// How long ago it was written last; zero if the clock was set back.
    pub(super) age: Duration,
}

impl Kept {
    /// Opens the folders. Returns what was in them, too. What is damaged is begun anew: it is a copy of what the API server
    /// has.
    pub(super) fn open(folders: &Folders) -> Result<(Self, Remembered), StoreError> {
        let age = age(&folders.objects).unwrap_or_default();
        let (objects, mut texts) = open(&folders.objects)?;
        let secrets = if forgets(&folders.secrets) {
            let (secrets, more) = open(&folders.secrets)?;
            texts.extend(more);
            Some(secrets)
        } else {
            warn!(
                folder = %folders.secrets.display(),
                "not on a tmpfs: certificates are not remembered, and an agent that starts while the API server is away serves no HTTPS"
            );
            None
        };
        let read = |((kind, _), text): (Key, String)| Some((kind, serde_json::from_str(&text).ok()?));
        let objects_read = texts.into_iter().filter_map(read).collect();
        Ok((Self { objects, secrets }, Remembered { objects: objects_read, age }))
    }

    /// Writes what has changed: objects as JSON, `None` for what is gone. Blocks.
    pub(super) fn keep(&mut self, changes: BTreeMap<Key, Option<String>>) -> Result<(), StoreError> {
        let (secret, open): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|((kind, _), _)| *kind == Kind::Secret);
        if let (Some(secrets), false) = (&mut self.secrets, secret.is_empty()) {
            secrets.commit(&secret)?;
        }
        if open.is_empty() { Ok(()) } else { self.objects.commit(&open) }
    }
}

fn open(folder: &Path) -> Result<(Store<Real>, BTreeMap<Key, String>), StoreError> {
    match Store::open(Real, folder) {
        Err(error @ (StoreError::Damaged { .. } | StoreError::Newer { .. })) => {
            warn!(%error, "what was known of the cluster cannot be used; it is begun anew");
            let io = |source| StoreError::Io { action: "remove", path: folder.to_owned(), source };
            std::fs::remove_dir_all(folder).map_err(io)?;
            Store::open(Real, folder)
        }
        other => other,
    }
}

/// How long ago something in a folder was written.
fn age(folder: &Path) -> io::Result<Duration> {
    Ok(std::fs::metadata(folder)?.modified()?.elapsed().unwrap_or_default())
}

/// Whether a folder, or the nearest that there is above it, is on a tmpfs.
fn forgets(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.exists());
    there.and_then(|path| statfs(path).ok()).is_some_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::model::ObjectName;

    #[test]
    fn what_was_kept_is_remembered_and_keys_stay_in_memory() {
        let disk = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let folders = Folders { objects: disk.path().join("objects"), secrets: memory.path().join("keys") };
        let key = |kind, name: &str| (kind, ObjectName::new("shop", name));
        let (mut kept, before) = Kept::open(&folders).unwrap();
        assert!(before.objects.is_empty());
        let (route, secret) = (json!({"kind": "HTTPRoute"}), json!({"kind": "Secret", "data": "hush"}));
        let all = [
            (key(Kind::HttpRoute, "a"), Some(route.to_string())),
            (key(Kind::HttpRoute, "b"), Some(route.to_string())),
            (key(Kind::Secret, "s"), Some(secret.to_string())),
        ];
        kept.keep(all.into()).unwrap();
        kept.keep([(key(Kind::HttpRoute, "b"), None)].into()).unwrap();
        drop(kept);
        let (kept, remembered) = Kept::open(&folders).unwrap();
        assert_eq!(remembered.objects, [(Kind::HttpRoute, route.clone()), (Kind::Secret, secret)]);
        assert!(remembered.age < Duration::from_secs(600), "{:?}", remembered.age);
        drop(kept);
        let on_disk = |path: &Path| {
            let files = std::fs::read_dir(path)
                .unwrap()
                .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
            files.collect::<String>()
        };
        assert!(!on_disk(&folders.objects).contains("hush") && on_disk(&folders.secrets).contains("hush"));
        // A copy that is damaged hinders no start.
        for file in std::fs::read_dir(&folders.objects).unwrap() {
            std::fs::write(file.unwrap().path(), "?").unwrap();
        }
        let (_, remembered) = Kept::open(&folders).unwrap();
        assert_eq!(remembered.objects.len(), 1, "the Secret's copy is another one");
        assert_eq!(folders.remove().unwrap(), [folders.objects.clone(), folders.secrets.clone()]);
        assert_eq!(folders.remove().unwrap(), Vec::<PathBuf>::new());
        // Where keys would last, none are kept.
        if !forgets(disk.path()) {
            let folders = Folders { objects: disk.path().join("more"), secrets: disk.path().join("keys") };
            let (mut kept, _) = Kept::open(&folders).unwrap();
            kept.keep([(key(Kind::Secret, "s"), Some("{}".to_owned()))].into()).unwrap();
            assert!(!folders.secrets.exists());
        }
    }
}
