//! The objects that were applied, kept in a folder: one file for each object, and an index that names the files.
//!
//! Owns that a change of many objects happens wholly or not at all, whatever fails and whenever the power goes: new
//! objects go into new files, and take effect with the index, which is written beside the old one, synced, and
//! renamed over it. What no index names is removed, now or by the next who opens the store. A call that fails leaves
//! what was there before. Must not know what is in an object.

mod disk;
mod index;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub(super) use disk::{Disk, Real};
pub(super) use index::Key;
use index::{Entry, Index, Unreadable, VERSION, is_object};

const INDEX: &str = "index.json";
const NEW_INDEX: &str = "index.new";
/// So many files of a change are synced one by one; more are synced with all that the file system has.
const FEW: usize = 16;

/// Why the store cannot be read, or a change not be kept. What was kept before stays.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer version wrote it.
    #[error(
        "the store {} has the form {version}, this version of sluice knows those up to {VERSION}; nothing in it was \
         touched; run the newer sluice, or choose another --state-dir", path.display()
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// A file is not as it was written: no crash does that, but a disk or a person may.
    #[error(
        "the store's file {} is not as it was written: {problem}; put it back from a backup, or move the folder \
         away and apply the objects again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system refuses.
    #[error("the store: cannot {action} {}: {source}; nothing was changed; {}", path.display(), remedy(.source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What to do about an error of the system.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space there and try again",
        io::ErrorKind::ReadOnlyFilesystem => "mount the file system for writing and try again",
        io::ErrorKind::PermissionDenied => "let the agent's user write there and try again",
        _ => "see to the file system there and try again",
    }
}

/// Whether a folder is that of a store without objects. What cannot be read may hold some.
#[must_use]
pub fn stores_nothing(folder: &Path) -> bool {
    let index = Real.read(&folder.join(INDEX)).ok().and_then(|content| Index::read(&content).ok());
    index.is_some_and(|index| index.entries.is_empty())
}

/// The store. Only one process may have it.
#[derive(Debug)]
pub(super) struct Store<D> {
    disk: D,
    folder: PathBuf,
    index: Index,
    /// Files that nothing names and that could not be removed yet.
    garbage: Vec<String>,
    /// Whether the index on disk may be another than `index`: a change failed, and so did taking it back.
    unsure: bool,
}

impl<D: Disk> Store<D> {
    /// Opens the store in a folder, making it where it is missing. Returns what is in it, too.
    pub(super) fn open(disk: D, folder: &Path) -> Result<(Self, BTreeMap<Key, String>), StoreError> {
        let mut store = Self {
            disk,
            folder: folder.to_owned(),
            index: Index::default(),
            garbage: Vec::new(),
            unsure: false,
        };
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { action, path, source }
        };
        store.disk.make_folder(folder).map_err(io("make", folder))?;
        let path = folder.join(INDEX);
        let index = match store.disk.read(&path) {
            Ok(content) => Some(Index::read(&content).map_err(|error| match error {
                Unreadable::Newer(version) => StoreError::Newer { path: folder.to_owned(), version },
                Unreadable::Damaged(problem) => StoreError::Damaged { path: path.clone(), problem },
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read", &path)(error)),
        };
        let files = store.disk.list(folder).map_err(io("list", folder))?;
        store.garbage = files.into_iter().filter(|file| is_object(file) || file == NEW_INDEX).collect();
        if let Some(index) = index {
            store.index = index;
        } else if let Some(file) = store.garbage.iter().find(|file| is_object(file)) {
            // The first index is there before the first object.
            let problem = format!("it is missing, and there is {file}");
            return Err(StoreError::Damaged { path, problem });
        } else {
            for above in folder.ancestors().skip(1).take(2).filter(|path| !path.as_os_str().is_empty()) {
                store.disk.sync_folder(above).map_err(io("sync", above))?;
            }
            store.prepare(&Index::default())?;
            store.switch()?;
        }
        let mut texts = BTreeMap::new();
        for key in store.index.entries.keys() {
            if let Some(text) = store.get(key)? {
                texts.insert(key.clone(), text);
            }
        }
        let named = |file: &String| store.index.entries.values().any(|entry| entry.file == *file);
        let garbage: Vec<_> = store.garbage.iter().filter(|file| !named(file)).cloned().collect();
        store.garbage = garbage;
        store.sweep();
        Ok((store, texts))
    }

    /// An object as it was written.
    pub(super) fn get(&self, key: &Key) -> Result<Option<String>, StoreError> {
        let Some(entry) = self.index.entries.get(key) else { return Ok(None) };
        let path = self.folder.join(&entry.file);
        let damaged = |problem: String| StoreError::Damaged { path: path.clone(), problem };
        let content = match self.disk.read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("it is missing".to_owned()));
            }
            Err(source) => return Err(StoreError::Io { action: "read", path, source }),
        };
        if !entry.fits(&content) {
            return Err(damaged(format!("its {} bytes differ from what was written", content.len())));
        }
        String::from_utf8(content).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// The number that the next object written gets, and those after it count on from there.
    pub(super) fn next_revision(&self) -> u64 {
        self.index.revision + 1
    }

    /// Writes objects (and removes those without a text), all or none. An error leaves everything as it was.
    pub(super) fn commit(&mut self, changes: &[(Key, Option<String>)]) -> Result<(), StoreError> {
        if self.unsure {
            self.assert()?;
        }
        self.sweep();
        let mut next = self.index.clone();
        let mut made = Vec::new();
        if let Err(error) = self.write_all(changes, &mut next, &mut made) {
            self.garbage.append(&mut made);
            self.sweep();
            return Err(error);
        }
        // The point of no return, unless it fails.
        if let Err(error) = self.switch() {
            self.garbage.append(&mut made);
            self.unsure = true;
            // If this fails too, it is tried again before the next change.
            drop(self.assert());
            self.sweep();
            return Err(error);
        }
        let before = std::mem::replace(&mut self.index, next);
        let stays = |key: &Key, entry: &Entry| self.index.entries.get(key).is_some_and(|now| now == entry);
        let gone = before.entries.iter().filter(|(key, entry)| !stays(key, entry));
        self.garbage.extend(gone.map(|(_, entry)| entry.file.clone()));
        // A name may have been taken again that an earlier failure left behind.
        self.garbage.retain(|file| !made.contains(file));
        self.sweep();
        Ok(())
    }

    /// Writes everything of a change into new files: nothing takes effect yet.
    fn write_all(
        &self,
        changes: &[(Key, Option<String>)],
        next: &mut Index,
        made: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { action: "sync", path: self.folder.clone(), source };
        let many = changes.iter().filter(|(_, text)| text.is_some()).count() > FEW;
        let all = if many { Some(self.disk.open_folder(&self.folder).map_err(io)?) } else { None };
        for (key, text) in changes {
            let Some(text) = text else {
                next.entries.remove(key);
                continue;
            };
            let file = next.next_file(key);
            made.push(file.clone());
            self.write(&file, text.as_bytes(), !many)?;
            next.entries.insert(key.clone(), Entry::of(file, text.as_bytes()));
        }
        if let Some(all) = all {
            self.disk.sync_all(&all).map_err(io)?;
        }
        made.push(NEW_INDEX.to_owned());
        self.prepare(next)
    }

    /// Writes an index beside the one that holds, and makes all that it names last.
    fn prepare(&self, index: &Index) -> Result<(), StoreError> {
        self.write(NEW_INDEX, &index.write(), true)?;
        self.sync_folder()
    }

    /// Puts the index that was prepared in the place of the one that holds.
    fn switch(&self) -> Result<(), StoreError> {
        let path = self.folder.join(INDEX);
        let renamed = self.disk.rename(&self.folder.join(NEW_INDEX), &path);
        renamed.map_err(|source| StoreError::Io { action: "rename to", path, source })?;
        self.sync_folder()
    }

    /// Makes sure that the index on disk is the one in memory.
    fn assert(&mut self) -> Result<(), StoreError> {
        self.prepare(&self.index)?;
        self.switch()?;
        self.unsure = false;
        Ok(())
    }

    /// Writes a file, and makes its content last if `sync`.
    fn write(&self, file: &str, content: &[u8], sync: bool) -> Result<(), StoreError> {
        let path = self.folder.join(file);
        let io = |action| {
            let path = path.clone();
            move |source| StoreError::Io { action, path, source }
        };
        let mut open = self.disk.create(&path).map_err(io("make"))?;
        self.disk.append(&mut open, content).map_err(io("write"))?;
        if sync { self.disk.sync(&open).map_err(io("sync")) } else { Ok(()) }
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        let path = &self.folder;
        self.disk.sync_folder(path).map_err(|source| StoreError::Io {
            action: "sync",
            path: path.clone(),
            source,
        })
    }

    /// Removes what nothing names. What cannot be removed is tried again later; while it is not sure which index is
    /// on disk, all is kept.
    fn sweep(&mut self) {
        if self.unsure {
            return;
        }
        let (disk, folder) = (&self.disk, &self.folder);
        self.garbage.retain(|file| {
            disk.remove(&folder.join(file)).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }
}
