//! The access log's file: appended to, opened again on SIGHUP, so that it can be rotated by renaming it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Standard output, or a file that can be opened again. Clones write to the same one.
#[derive(Clone, Debug)]
pub(super) struct AccessLog {
    path: PathBuf,
    /// `None`: standard output.
    file: Option<Arc<Mutex<File>>>,
}

impl AccessLog {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = if path == Path::new("-") { None } else { Some(Arc::new(Mutex::new(append(path)?))) };
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn reopen(&self) -> io::Result<()> {
        if let Some(file) = &self.file {
            let opened = append(&self.path)?;
            *file.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        }
        Ok(())
    }
}

impl Write for AccessLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.file {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write(bytes),
            None => io::stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).flush(),
            None => io::stdout().flush(),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_in_a_new_file_after_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let (path, rotated) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let log = AccessLog::open(&path).unwrap();
        log.clone().write_all(b"one\n").unwrap();
        std::fs::rename(&path, &rotated).unwrap();
        log.clone().write_all(b"two\n").unwrap();
        log.reopen().unwrap();
        log.clone().write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(rotated).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "three\n");
    }
}
