//! Open connections by worker, as `sk_lookup` reads them: the seam between the workers, which count, and the
//! dataplane, which owns the memory.

use std::sync::atomic::AtomicU64;

/// Counters of open connections, one a worker, each written by that worker alone.
pub trait Loads: Send + Sync {
    /// The counter of a worker. Panics if there is no such worker.
    fn worker(&self, worker: usize) -> &AtomicU64;
}

impl Loads for Vec<AtomicU64> {
    fn worker(&self, worker: usize) -> &AtomicU64 {
        &self[worker]
    }
}
