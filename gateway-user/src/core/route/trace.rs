//! Watching a search: what it looks at and what decides.
//!
//! Owns the watcher's shape. The data path is watched by `()`, which the compiler leaves nothing of; whoever explains
//! watches the same search.

use super::ListenerTable;
use super::condition::Failing;
use super::path::Candidate;

/// Is told what a search looks at, in its order.
pub(crate) trait Tracer<'t> {
    /// The one listener that is asked.
    #[inline(always)]
    fn listener(&mut self, _: &'t ListenerTable) {}
    /// A candidate whose path fits: it serves the request if nothing fails.
    #[inline(always)]
    fn tried(&mut self, _: &'t Candidate, _: Option<Failing>) {}
}

impl Tracer<'_> for () {}
