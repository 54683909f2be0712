//! How files look from outside: whether one of them may have changed.
//!
//! Owns what counts as a change. Must not know what is in a file.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::files;

/// Device, inode, size, time of change in nanoseconds: a change of content moves one of them.
type Look = (u64, u64, u64, i64, i64);

/// How all files of a source look; what is missing has no look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State(BTreeMap<PathBuf, Option<Look>>);

impl State {
    /// Looks at the files that the paths stand for now, through symbolic links.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let look = |m: Metadata| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec());
        let listed = files(paths).into_iter().zip(paths);
        let all = listed.flat_map(|(files, path)| files.unwrap_or_else(|_| vec![path.clone()]));
        Self(all.map(|file| (file.clone(), fs::metadata(file).ok().map(look))).collect())
    }
}
