//! A file system in memory that keeps no more than it must: what was not synced may be lost, torn or out of order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Disk;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The power goes, before the call or (the flag) after it. A write may have come half the way.
    Crash { after: bool },
    /// So many calls from this one on fail with this error and do nothing (or half of a write).
    Error { errno: i32, times: usize },
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    /// Entries as a process sees them, and as they are on disk.
    seen: BTreeMap<PathBuf, usize>,
    synced: BTreeMap<PathBuf, usize>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    off: bool,
}

/// The file system; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Sim(Rc<RefCell<State>>);

impl Sim {
    /// Another one that looks the same.
    pub(super) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// How many calls there were.
    pub(super) fn calls(&self) -> usize {
        self.0.borrow().calls
    }

    /// Something happens at the call after so many more.
    pub(super) fn plan(&self, after: usize, fault: Fault) {
        let mut state = self.0.borrow_mut();
        state.fault = Some((state.calls + after, fault));
    }

    /// Calls succeed again.
    pub(super) fn heal(&self) {
        self.0.borrow_mut().fault = None;
    }

    /// What is on disk when the power comes back: of everything that was not synced, who knows.
    pub(super) fn power_cycle(&self, rng: &mut fastrand::Rng) -> Self {
        let before = self.0.borrow();
        let mut state = State::default();
        let names: Vec<_> = before.seen.keys().chain(before.synced.keys()).cloned().collect();
        let mut survived = BTreeMap::new();
        for name in names {
            let entries = if rng.bool() { &before.seen } else { &before.synced };
            let Some(old) = entries.get(&name) else { continue };
            let inode = *survived.entry(*old).or_insert_with(|| {
                let Inode { content, synced } = &before.inodes[*old];
                let mut kept = if rng.bool() { content.clone() } else { synced.clone() };
                if content != synced && rng.bool() {
                    // Torn: a part of it, or blocks that were never written.
                    kept.truncate(rng.usize(0..=kept.len()));
                    if rng.bool() {
                        kept.resize(content.len(), 0);
                    }
                }
                state.inodes.push(Inode { content: kept.clone(), synced: kept });
                state.inodes.len() - 1
            });
            state.seen.insert(name, inode);
        }
        state.synced = state.seen.clone();
        Self(Rc::new(RefCell::new(state)))
    }

    /// The files that there are.
    pub(super) fn files(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        self.0.borrow().seen.keys().map(name).collect()
    }

    /// One call. `act` gets whether it shall be done wholly.
    fn call<R>(&self, act: impl FnOnce(&mut State, bool) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.0.borrow_mut();
        if state.off {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        state.calls += 1;
        let fault = match state.fault {
            Some((at, fault)) if state.calls == at + 1 => Some(fault),
            Some((at, fault @ Fault::Error { times, .. }))
                if state.calls > at && state.calls - at <= times =>
            {
                Some(fault)
            }
            _ => None,
        };
        match fault {
            None => act(&mut state, true),
            Some(Fault::Crash { after }) => {
                drop(act(&mut state, after));
                state.off = true;
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            Some(Fault::Error { errno, .. }) => {
                drop(act(&mut state, false));
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// A call that does nothing unless it is done wholly.
fn whole<R: Default>(
    act: impl FnOnce(&mut State) -> io::Result<R>,
) -> impl FnOnce(&mut State, bool) -> io::Result<R> {
    |state, whole| if whole { act(state) } else { Ok(R::default()) }
}

fn missing() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

impl Disk for Sim {
    type File = usize;

    fn make_folder(&self, _: &Path) -> io::Result<()> {
        self.call(whole(|_| Ok(())))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let files = self.files();
        self.call(whole(|_| Ok(files)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call(whole(|state| {
            let inode = *state.seen.get(path).ok_or_else(missing)?;
            Ok(state.inodes[inode].content.clone())
        }))
    }

    fn create(&self, path: &Path) -> io::Result<usize> {
        self.call(whole(|state| {
            if let Some(inode) = state.seen.get(path).copied() {
                state.inodes[inode].content.clear();
                return Ok(inode);
            }
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.seen.insert(path.to_owned(), inode);
            Ok(inode)
        }))
    }

    fn append(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        self.call(|state, whole| {
            let bytes = if whole { bytes } else { &bytes[..bytes.len() / 2] };
            state.inodes[*file].content.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        self.call(whole(|state| {
            let inode = &mut state.inodes[*file];
            inode.synced.clone_from(&inode.content);
            Ok(())
        }))
    }

    fn open_folder(&self, _: &Path) -> io::Result<usize> {
        self.call(whole(|_| Ok(usize::MAX)))
    }

    fn sync_all(&self, _: &usize) -> io::Result<()> {
        self.call(whole(|state| {
            state.inodes.iter_mut().for_each(|inode| inode.synced.clone_from(&inode.content));
            Ok(())
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(whole(|state| {
            let inode = state.seen.remove(from).ok_or_else(missing)?;
            state.seen.insert(to.to_owned(), inode);
            Ok(())
        }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(whole(|state| state.seen.remove(path).map(drop).ok_or_else(missing)))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call(whole(|state| {
            if folder == Path::new("/state/objects") {
                state.synced = state.seen.clone();
            }
            Ok(())
        }))
    }
}
