//! The programs' log: its level, and the thread that hands it on.
//!
//! Owns the thread. The level is a constant of the loaded program, so that a lower one costs nothing: the verifier
//! removes what cannot be reached.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::str::FromStr;
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Error;
use super::program::Logger;

/// How much the programs log, by the numbers of aya-log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off = 0,
    /// Lookups that found a binding and could not be served.
    Warn = 2,
    /// Every lookup that found a binding.
    Debug = 4,
}

impl LogLevel {
    /// Every level, quiet to loud.
    pub const ALL: [Self; 3] = [Self::Off, Self::Warn, Self::Debug];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Debug => "debug",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log level of the BPF programs (use off, warn or debug)")]
pub struct NotALevel(String);

impl FromStr for LogLevel {
    type Err = NotALevel;

    fn from_str(name: &str) -> Result<Self, NotALevel> {
        Self::ALL.into_iter().find(|level| level.name() == name).ok_or_else(|| NotALevel(name.to_owned()))
    }
}

/// A thread that hands the programs' records on to the process's logger, until this is dropped.
#[derive(Debug)]
pub(super) struct LogThread {
    /// Closed to stop the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    pub(super) fn start(mut logger: Logger) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::io("cannot start the thread that reads the programs' log")(e);
        let (stopped, stop) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
        let run = move || {
            loop {
                let ready = {
                    let mut wait = [
                        PollFd::new(logger.as_fd(), PollFlags::POLLIN),
                        PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                    ];
                    // An interrupted wait is one more round.
                    if poll(&mut wait, PollTimeout::NONE).is_err() {
                        continue;
                    }
                    wait.map(|fd| fd.any().unwrap_or(true))
                };
                if ready[0] {
                    logger.flush();
                }
                if ready[1] {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("bpf-log".into()).spawn(run).map_err(failed)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that reads the programs' log panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_its_name() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        let message = "loud".parse::<LogLevel>().unwrap_err().to_string();
        assert!(message.contains("\"loud\"") && message.contains("debug"), "{message}");
    }
}
