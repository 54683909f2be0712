//! What the agent's loop waits for: a closed list.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::objects::ObjectsAsk;
use crate::dataplane::LogLevel;
use crate::source::Changes;

/// Between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at the host's addresses and listening processes.
const HOST_EVERY: u32 = 5;

/// Something happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The input may have changed.
    Changed,
    /// The host's links, addresses or routes are others.
    Network,
    /// A name of an ExternalName Service resolves to something else.
    Resolved,
    /// SIGHUP.
    Hangup,
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// Somebody asks over the admin socket.
    Asked(Ask),
    /// Time passed.
    Tick {
        /// Whether it is time to look at the host again.
        host_due: bool,
    },
}

/// What somebody asks for that only the loop can do.
#[derive(Debug)]
pub(super) enum Ask {
    /// Another level of the BPF programs' log.
    BpfLogLevel(LogLevel, oneshot::Sender<Result<(), String>>),
    /// Something about the input's objects.
    Objects(ObjectsAsk),
    /// An end.
    Stop,
}

/// Where events come from.
pub(super) struct Events {
    watch: Changes,
    asked: mpsc::Receiver<Ask>,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    ticker: Interval,
    ticks: u32,
}

impl Events {
    pub(super) fn new(watch: Changes, asked: mpsc::Receiver<Ask>) -> io::Result<Self> {
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            watch,
            asked,
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            ticker,
            ticks: 0,
        })
    }

    /// The next event; signals first.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Event::Signal("SIGTERM"),
            _ = self.interrupt.recv() => Event::Signal("SIGINT"),
            _ = self.hangup.recv() => Event::Hangup,
            Some(ask) = self.asked.recv() => Event::Asked(ask),
            () = self.watch.changed() => Event::Changed,
            _ = self.ticker.tick() => {
                self.ticks = self.ticks.wrapping_add(1);
                Event::Tick { host_due: self.ticks.is_multiple_of(HOST_EVERY) }
            }
        }
    }

    /// The next SIGTERM or SIGINT.
    pub(super) async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
