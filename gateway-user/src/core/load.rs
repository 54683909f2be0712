//! What each worker is busy with, as `sk_lookup` reads it: the seam between the workers, which count, and the
//! dataplane, which owns the memory.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_ebpf::select::settled;

/// The words of a worker; see [`gateway_ebpf::abi::Load`].
#[derive(Clone, Copy, Debug)]
pub struct WorkerLoad<'a> {
    /// Written by the worker alone.
    pub open: &'a AtomicU64,
    /// Written by the worker alone.
    pub settled: &'a AtomicU64,
    /// Written by the kernel.
    pub assigned: &'a AtomicU64,
}

impl WorkerLoad<'_> {
    /// A connection has been accepted.
    pub fn accepted(&self) {
        self.settled.store(self.settled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Gives up what was assigned `long_ago` and has not been accepted. Returns how many are assigned by now.
    pub fn settle(&self, long_ago: u64) -> u64 {
        let assigned = self.assigned.load(Ordering::Relaxed);
        let settled = settled(self.settled.load(Ordering::Relaxed), long_ago, assigned);
        self.settled.store(settled, Ordering::Relaxed);
        assigned
    }
}

/// The loads of all workers.
pub trait Loads: Send + Sync {
    /// A worker's. Panics if there is no such worker.
    fn worker(&self, worker: usize) -> WorkerLoad<'_>;
}

impl Loads for Vec<[AtomicU64; 3]> {
    fn worker(&self, worker: usize) -> WorkerLoad<'_> {
        let [open, settled, assigned] = &self[worker];
        WorkerLoad { open, settled, assigned }
    }
}
