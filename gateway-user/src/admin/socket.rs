//! The admin socket as a file: made for root alone, taken over from an agent that died, never from one that lives.
//!
//! Owns the file. Must not know what is spoken over it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody answers there.
    #[error(
        "admin socket {}: another agent answers there; stop it, or give this one places of its own with \
         --admin-socket, --state-dir and --pin-dir",
        path.display()
    )]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// There is something that is no socket.
    #[error("admin socket {}: the file there is no socket; remove it or choose another --admin-socket", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("admin socket {}: {action}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A bound admin socket; dropped, the file is gone.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: u64,
    listener: UnixListener,
}

impl Socket {
    /// Binds the socket with mode 0600, and makes its directory where it is missing. What an agent that died left
    /// is replaced.
    ///
    /// Must be called while the process has one thread: the mode is set by umask, so that there is no moment in
    /// which others may connect.
    ///
    /// # Errors
    /// If an agent answers there, something else is there, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let io = |action| move |source| Error::Io { path: path.to_owned(), action, source };
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty() && !d.exists()) {
            fs::create_dir_all(directory).map_err(io("cannot make its directory"))?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
                .map_err(io("cannot set the mode of its directory"))?;
        }
        remove_stale(path)?;
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(io("cannot bind it"))?;
        listener.set_nonblocking(true).map_err(io("cannot make it non-blocking"))?;
        let inode = fs::metadata(path).map_err(io("cannot look at it"))?.ino();
        Ok(Self { path: path.to_owned(), inode, listener })
    }

    /// The listener, for serving.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have removed it and put his own there.
        if fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Removes a socket that nobody answers on.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let io = |action| move |source| Error::Io { path: path.to_owned(), action, source };
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(io("cannot look at it"))?,
    };
    if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) {
        return Err(Error::NoSocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::Taken { path: path.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io("cannot remove what a dead agent left"))
        }
        Err(e) => Err(io("cannot tell whether an agent answers there")(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_for_root_alone_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/admin.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn refuses_a_living_agent_and_replaces_a_dead_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let living = Socket::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path), Err(Error::Taken { .. })));
        assert!(path.exists(), "the living agent's socket is left alone");
        drop(living);
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead agent leaves its socket");
        Socket::bind(&path).unwrap();
    }

    #[test]
    fn leaves_other_files_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::bind(&path), Err(Error::NoSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
