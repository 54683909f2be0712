//! Watching files: inotify tells that something happened, a look at the files whether it matters.
//!
//! Owns when a change is over: editors write, rename and delete, volumes swap symbolic links. Must not know how files
//! are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::state::State;

/// A file that was closed or renamed is whole: only what happens at the same moment is awaited.
const SETTLED: Duration = Duration::from_millis(5);
/// A file that was created, written or removed is likely to be written on.
const UNSETTLED: Duration = Duration::from_millis(100);
/// A change is told after so long even if it goes on.
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks without being told: for what inotify does not see, such as network file systems and directories that were
/// made anew.
const LOOK: Duration = Duration::from_secs(2);
/// Links that are followed.
const LINKS: usize = 16;

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel gives no watch.
    #[error("cannot watch files: {0}; see fs.inotify.max_user_instances")]
    Watch(#[from] notify::Error),
}

/// Tells when the files may have changed.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long to wait for more.
enum Seen {
    Settled,
    Unsettled,
}

impl Watch {
    /// Watches these paths, which looked like `state` when they were read.
    pub(super) fn start(paths: Vec<PathBuf>, state: State) -> Result<Self, Error> {
        let (tell, changes) = mpsc::channel(1);
        // What does not fit is told by what is in there already.
        let (sender, seen) = mpsc::channel(64);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(seen) = weigh(event) {
                drop(sender.try_send(seen));
            }
        })?;
        let task = tokio::spawn(run(paths, state, watcher, seen, tell));
        Ok(Self { changes, task })
    }

    /// Waits until something has changed and has come to rest. Changes that nobody waited for are told at once, as
    /// one. May be dropped and called again.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// What an event says about the files around it.
fn weigh(event: notify::Result<notify::Event>) -> Option<Seen> {
    match event.map(|event| event.kind) {
        Ok(
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Name(_)),
        ) => Some(Seen::Settled),
        Ok(EventKind::Access(_)) => None,
        // An error may mean that events were lost.
        Ok(_) | Err(_) => Some(Seen::Unsettled),
    }
}

async fn run(
    paths: Vec<PathBuf>,
    mut state: State,
    mut watcher: RecommendedWatcher,
    mut seen: mpsc::Receiver<Seen>,
    tell: mpsc::Sender<()>,
) {
    let mut watched = BTreeSet::new();
    loop {
        arm(&mut watcher, &mut watched, &paths);
        let now = State::of(&paths);
        if now != state {
            state = now;
            // Full: nobody has taken the last one yet, and whoever takes it reads this change too.
            if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
                return;
            }
        }
        match timeout_at(Instant::now() + LOOK, seen.recv()).await {
            Err(_elapsed) => {}
            Ok(None) => return,
            Ok(Some(first)) => rest(first, &mut seen).await,
        }
    }
}

/// Waits until a change has come to rest.
async fn rest(first: Seen, seen: &mut mpsc::Receiver<Seen>) {
    let patience = Instant::now() + PATIENCE;
    let mut last = first;
    loop {
        let quiet = match last {
            Seen::Settled => SETTLED,
            Seen::Unsettled => UNSETTLED,
        };
        let until = patience.min(Instant::now() + quiet);
        match timeout_at(until, seen.recv()).await {
            Ok(Some(next)) => last = next,
            Ok(None) | Err(_) => return,
        }
    }
}

/// Watches the directories in which something can happen to the paths. One that is not there is tried again.
fn arm(watcher: &mut RecommendedWatcher, watched: &mut BTreeSet<(PathBuf, u64)>, paths: &[PathBuf]) {
    let paths = paths.iter().filter(|path| path.as_os_str() != "-");
    let wanted: BTreeSet<_> = paths.flat_map(|path| directories(path)).filter_map(with_inode).collect();
    for (gone, _) in watched.iter().filter(|old| !wanted.contains(*old)) {
        // It may have gone by itself.
        drop(watcher.unwatch(gone));
    }
    watched.retain(|old| wanted.contains(old));
    for new in wanted {
        if !watched.contains(&new) && watcher.watch(&new.0, RecursiveMode::NonRecursive).is_ok() {
            watched.insert(new);
        }
    }
}

fn with_inode(directory: PathBuf) -> Option<(PathBuf, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = fs::metadata(&directory).ok().filter(fs::Metadata::is_dir)?.ino();
    Some((directory, inode))
}

/// The path itself if it is a directory, and the directories of everything that its links lead over.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut directories = vec![path.to_owned()];
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => break,
        };
        let Ok(target) = fs::read_link(&path) else {
            directories.push(parent);
            break;
        };
        directories.push(parent.clone());
        path = parent.join(target);
    }
    directories
}
