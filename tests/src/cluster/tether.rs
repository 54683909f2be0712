//! A program that ends with its owner, however that ends.
//!
//! `podrunner tether` starts it and kills it once the pipe to this process breaks, be it by [`Tethered::end`] or because
//! this process is gone. A death signal set from here would be the starting thread's, and threads come and go.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::netns::NetNs;

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running program; dropping it kills the program and all that it started, and waits for them.
#[derive(Debug)]
pub struct Tethered {
    child: Child,
}

impl Tethered {
    /// Starts a program in a network namespace; its output goes to `log`. Of `command` count program, arguments and
    /// variables of the environment.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(ns: &NetNs, podrunner: &Path, command: &Command, log: &File) -> Self {
        let mut tether = Command::new(podrunner);
        tether
            .args(["tether", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log.try_clone().expect("a descriptor can be duplicated"));
        Self { child: ns.spawn(&mut tether) }
    }

    /// Its status, once it has ended. One that a signal ended has 128 more than the signal's number.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Kills it and waits until nothing of it is left.
    pub fn end(self) {
        drop(self);
    }

    /// Kills it without waiting.
    pub(super) fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        self.let_go();
        let start = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            if start.elapsed() > PATIENCE {
                eprintln!("process {} does not end; killing its tether", self.child.id());
                drop(self.child.kill());
                drop(self.child.wait());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
