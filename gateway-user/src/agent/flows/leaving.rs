//! Flows of listeners and endpoints that left the configuration: ended after a while, if that is asked for.
//!
//! Owns when all flows are looked at for it. Must not decide which ones end: that is `core::flows::removed`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::{Flows, now};
use crate::agent::words;
use crate::core::flows::removed::{Configured, Removed};
use crate::core::snapshot::Snapshot;
use crate::dataplane::Dataplane;

/// What leaves the configuration; nothing is done about it unless it is asked for.
#[derive(Debug, Default)]
pub(in crate::agent) struct Leaving(Option<Ending>);

#[derive(Debug)]
struct Ending {
    removed: Removed,
    /// Whether a configuration has served.
    begun: bool,
}

impl Leaving {
    /// `after`: how long flows go on; `None`: for as long as they like.
    pub(in crate::agent) fn new(after: Option<Duration>) -> Self {
        let Some(after) = after else { return Self(None) };
        let grace = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self(Some(Ending { removed: Removed::new(grace), begun: false }))
    }

    /// The kernel serves a snapshot.
    pub(in crate::agent) fn turn(&mut self, snapshot: &Snapshot) {
        let Some(ending) = &mut self.0 else { return };
        ending.removed.turn(Configured::of(snapshot), !ending.begun);
        ending.begun = true;
    }

    /// Time passed: ends the flows whose time is over.
    pub(in crate::agent) fn look(&mut self, flows: &Flows, dataplane: &Dataplane) {
        let (Some(Ending { removed, .. }), now) = (&mut self.0, now()) else { return };
        if !removed.is_due(now) {
            return;
        }
        // Only now: what is mapped counts as the agent's memory.
        let table = match dataplane.flow_table() {
            Ok(table) => table,
            Err(error) => {
                warn!(error = words(&error), "flows of what left the configuration cannot be ended for now");
                return;
            }
        };
        let mut look = removed.look(now);
        let mut count = 0;
        let read = flows.reader.walk(0, u32::MAX, |place, flow| {
            count += u64::from(look.ends(flow) && table.end(place as usize, flow));
            true
        });
        if count > 0 {
            flows.withdrawn.fetch_add(count, Ordering::Relaxed);
            info!(count, "flows were ended: their listener or endpoint has left the configuration");
        }
        match read {
            Ok(_) => look.done(),
            Err(error) => warn!(
                error = words(&error),
                "flows of what left the configuration cannot be looked at, and go on for now"
            ),
        }
    }
}
