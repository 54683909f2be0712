//! The kernel's side of the gateway, as the agent handles it: programs loaded, pinned and attached, maps read and
//! written, sockets registered, lookups counted, Gateway addresses brought up.
//!
//! Owns every use of aya and of `bpf(2)`. Must not know why a map shall hold what it shall hold: that is
//! `core::compile` and `core::plan`.

pub mod address;
mod error;
pub mod host;
mod reader;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use address::Addresses;
pub use error::Error;
pub use reader::{Counts, MapUse, Reader};

use crate::core::load::Loads;
use crate::core::plan::{Have, Op};

/// What a [`Dataplane`] is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory under a BPF filesystem that is ours alone.
    pub pin_dir: PathBuf,
    /// Number of workers, 1 to [`gateway_ebpf::names::MAX_WORKERS`].
    pub workers: u32,
    /// What the programs log.
    pub log_level: LogLevel,
}

/// How much the programs log. Off costs nothing: the verifier removes what is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off,
    /// What goes wrong.
    Warn,
    /// Every lookup that found a binding.
    Debug,
}

/// The programs and maps of one agent.
#[derive(Debug)]
pub struct Dataplane {}

impl Dataplane {
    /// Takes the pin directory for this process, loads the programs, reopens the maps that are pinned there or
    /// makes them. Nothing is attached yet.
    ///
    /// # Errors
    /// Another agent holds the directory; it is not on the host's BPF filesystem; what is pinned there is of
    /// another contract; the kernel refuses a map or a program.
    pub fn open(_config: &Config) -> Result<Self, Error> {
        Err(Error::Stub)
    }

    /// Puts the workers' listening sockets where the programs find them: worker, whether it is of IPv6, socket.
    ///
    /// # Errors
    /// A worker that [`Config::workers`] does not count, or a socket that does not listen.
    pub fn register(&mut self, _sockets: &[(u32, bool, BorrowedFd<'_>)]) -> Result<(), Error> {
        Err(Error::Stub)
    }

    /// Attaches the programs to the network namespace of this thread, or replaces the program of the link that an
    /// agent before this one left.
    ///
    /// # Errors
    /// The kernel refuses, or the link belongs to another network namespace.
    pub fn attach(&mut self) -> Result<(), Error> {
        Err(Error::Stub)
    }

    /// What the maps hold.
    ///
    /// # Errors
    /// The kernel refuses, or a map holds what this contract does not know.
    pub fn have(&self) -> Result<Have, Error> {
        Err(Error::Stub)
    }

    /// Does the steps in their order; each can be repeated without harm.
    ///
    /// # Errors
    /// The step that the kernel refused; those before it stand.
    pub fn apply(&mut self, _ops: &[Op]) -> Result<(), Error> {
        Err(Error::Stub)
    }

    /// The workers' open connections, in the memory that the programs read.
    #[must_use]
    pub fn loads(&self) -> Arc<dyn Loads> {
        Arc::new(Vec::new())
    }

    /// What reads the counters, without this.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {}
    }

    /// Loads the programs again with this level and switches over to them.
    ///
    /// # Errors
    /// The kernel refuses; the programs before go on.
    pub fn set_log_level(&mut self, _level: LogLevel) -> Result<(), Error> {
        Err(Error::Stub)
    }

    /// Removes links, programs, maps and the pin directory, and Gateway addresses that were brought up; returns
    /// what was removed.
    ///
    /// # Errors
    /// An agent is running on it, or the kernel refuses.
    pub fn uninstall(_config: &Config) -> Result<Vec<String>, Error> {
        Err(Error::Stub)
    }
}
