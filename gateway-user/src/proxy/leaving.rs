//! What is relayed although its listener or endpoint has left the configuration: whether its time is over.
//!
//! Owns that count of ticks. What is configured is `core::flows::removed`'s to say.

use std::cell::Cell;
use std::net::SocketAddr;

use gateway_ebpf::abi::{BindingKey, wire};

use crate::core::flows::removed::{Configured, Led};
use crate::core::transport::Transport;

/// What a sweep goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving<'a> {
    pub(super) configured: &'a Configured,
    /// Ticks that it goes on.
    pub(super) grace: u64,
    pub(super) now: u64,
}

/// Where something leads, and the tick since when that is not configured.
#[derive(Debug)]
pub(super) struct Way {
    led: Led,
    since: Cell<Option<u64>>,
}

impl Way {
    pub(super) fn new(transport: Transport, asked: SocketAddr, to: SocketAddr) -> Self {
        let (address, port, protocol) = (wire(asked.ip()), asked.port(), transport.number());
        let asked = BindingKey { address, port, protocol, pad: 0 };
        Self { led: Led { asked, to }, since: Cell::new(None) }
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, leaving: &Leaving<'_>) -> bool {
        if leaving.configured.has(&self.led) {
            self.since.set(None);
            return false;
        }
        let since = self.since.get().unwrap_or(leaving.now);
        self.since.set(Some(since));
        leaving.now >= since.saturating_add(leaving.grace)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::snapshot::Snapshot;

    #[test]
    fn the_time_begins_when_it_is_removed_and_anew_when_it_was_back() {
        let (asked, to): (SocketAddr, SocketAddr) =
            ("[::ffff:10.0.0.1]:80".parse().unwrap(), "10.0.1.1:80".parse().unwrap());
        let way = Way::new(Transport::Tcp, asked, to);
        let mut snapshot = Snapshot::default();
        let gone = Configured::of(&snapshot);
        snapshot.listed.insert(way.led.asked, Arc::new([to]));
        let there = Configured::of(&snapshot);
        let over = |configured, now| way.is_over(&Leaving { configured, grace: 5, now });
        let seen =
            [(&there, 1), (&gone, 9), (&gone, 13), (&there, 13), (&gone, 14), (&gone, 18), (&gone, 19)];
        assert_eq!(seen.map(|(c, now)| over(c, now)), [false, false, false, false, false, false, true]);
    }
}
