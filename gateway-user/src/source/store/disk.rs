//! What the store asks of the file system: a trait, so that a test can fail or crash after every call, and the real
//! one.
//!
//! Owns one system call (or one loop around `write`) for each method. Must not know what is stored.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A file system. Nothing lasts before it is synced: neither a file's content nor a folder's entries.
pub(in crate::source) trait Disk {
    /// A file that is open for writing.
    type File;
    /// Makes a folder for its owner alone, and those above it.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// A file's content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Makes a file for its owner alone, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Writes all of it at the file's end.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's content last.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Opens a folder for [`sync_all`](Self::sync_all), which tells of errors since then.
    fn open_folder(&self, path: &Path) -> io::Result<Self::File>;
    /// Makes the content of all files last that were written since the folder was opened: for many files, this is
    /// faster by far than each for itself.
    fn sync_all(&self, folder: &Self::File) -> io::Result<()>;
    /// Renames a file over another in the same folder, at one stroke.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder last.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub(in crate::source) struct Real;

impl Disk for Real {
    type File = File;

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn open_folder(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn sync_all(&self, folder: &File) -> io::Result<()> {
        // It tells of what could not be written since Linux 5.8.
        Ok(nix::unistd::syncfs(folder)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}
