//! Files and directories of objects, read as one input and watched.
//!
//! Owns reading, what it must remember between two loads, and the watch. Must not know what an object means.

use std::path::PathBuf;

use super::{Diagnostic, EndpointFlag, Loaded};

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's watch could not be set up.
    #[error("cannot watch {path}: {source}")]
    Watch {
        /// What was to be watched.
        path: PathBuf,
        /// Why not.
        source: notify::Error,
    },
}

/// Files and directories (`*.yaml`, `*.yml`, `*.json` directly in them), `-` for standard input, which is read once.
#[derive(Debug)]
pub struct FileSource {
    #[expect(dead_code, reason = "read by `load`, which is not written yet")]
    paths: Vec<PathBuf>,
    #[expect(dead_code, reason = "read by `load`, which is not written yet")]
    endpoints: Vec<EndpointFlag>,
}

impl FileSource {
    /// A source of these paths, together one input. Reads nothing yet.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, endpoints: Vec<EndpointFlag>) -> Self {
        Self { paths, endpoints }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Everything that is wrong: then nothing of it may be used.
    pub fn load(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        Err(vec![Diagnostic {
            message: "reading files is not built yet".to_owned(),
            ..Diagnostic::default()
        }])
    }

    /// Starts to watch the paths. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the kernel's watch cannot be set up.
    pub fn watch(&self) -> Result<Watch, Error> {
        Ok(Watch { changes: tokio::sync::mpsc::channel(1).1 })
    }
}

/// Tells when the files may have changed.
#[derive(Debug)]
pub struct Watch {
    changes: tokio::sync::mpsc::Receiver<()>,
}

impl Watch {
    /// Waits until something changed and it has been quiet for a moment. Never returns if nothing can change.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
