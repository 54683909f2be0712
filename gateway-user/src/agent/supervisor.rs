//! What systemd is told over `$NOTIFY_SOCKET`: that the agent is ready, reads its input again, stops, what it serves,
//! and that its loop comes round (`sd_notify(3)`). Without the variable nothing is told to anybody.
//!
//! Owns the words. Called by the loop alone: a watchdog that somebody else pets would tell nothing about the loop.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use super::board::Board;
use crate::admin::view::{AgentView, StatusView};

/// What stopping takes beyond the deadline of the connections: addresses are removed, threads end.
const BEYOND_DRAINING: Duration = Duration::from_secs(15);

/// The supervisor, as far as it has been told.
pub(super) struct Supervisor {
    watched: bool,
    ready: bool,
    agent: Weak<AgentView>,
    objects: Weak<StatusView>,
}

impl Supervisor {
    pub(super) fn new() -> Self {
        let watched = sd_notify::watchdog_enabled().is_some();
        Self { watched, ready: false, agent: Weak::new(), objects: Weak::new() }
    }

    /// The loop came round by the clock.
    pub(super) fn beat(&self) {
        if self.watched {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// Says that the agent is ready once it is, and what it serves if that has changed.
    pub(super) fn look(&mut self, board: &Board) {
        let (agent, objects) = (board.agent(), board.objects.load_full());
        if Weak::as_ptr(&self.agent) == Arc::as_ptr(&agent)
            && Weak::as_ptr(&self.objects) == Arc::as_ptr(&objects)
        {
            return;
        }
        let words = words(&agent, objects.gateways.len(), objects.routes.len());
        if agent.ready && !self.ready {
            tell(&[NotifyState::Ready, NotifyState::Status(&words)]);
            self.ready = true;
        } else {
            tell(&[NotifyState::Status(&words)]);
        }
        (self.agent, self.objects) = (Arc::downgrade(&agent), Arc::downgrade(&objects));
    }

    /// The input is read again, until [`Self::reloaded`].
    pub(super) fn reloading(&self) {
        if self.ready {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => tell(&[NotifyState::Reloading, now]),
                Err(error) => warn!(%error, "the clock cannot be read"),
            }
        }
    }

    /// The input was read, and was taken or refused.
    pub(super) fn reloaded(&self) {
        if self.ready {
            tell(&[NotifyState::Ready]);
        }
    }

    /// The end has begun; it may take until the connections' deadline.
    pub(super) fn stopping(&self, deadline: Duration) {
        let micros = u32::try_from((deadline + BEYOND_DRAINING).as_micros()).unwrap_or(u32::MAX);
        tell(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status("stopping: connections are drained"),
        ]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd cannot be told how the agent is; see NOTIFY_SOCKET");
    }
}

/// The line of `systemctl status`.
fn words(agent: &AgentView, gateways: usize, routes: usize) -> String {
    let configuration = &agent.configuration;
    let serves = if configuration.generation == 0 {
        "nothing is served yet".to_owned()
    } else {
        format!("serves generation {}: Gateways: {gateways}, routes: {routes}", configuration.generation)
    };
    match &configuration.error {
        // The first line: what comes after it is for `sluice status`.
        Some(error) => format!("{serves}; {}", error.message.lines().next().unwrap_or_default()),
        None => serves,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::{ConfigurationView, LoadErrorView};

    #[test]
    fn the_line_tells_what_is_served_and_what_is_wrong() {
        let error = LoadErrorView { message: "refused\nmore".to_owned(), ..LoadErrorView::default() };
        for (generation, error, want) in [
            (0, None, "nothing is served yet"),
            (0, Some(error.clone()), "nothing is served yet; refused"),
            (3, None, "serves generation 3: Gateways: 1, routes: 2"),
            (3, Some(error), "serves generation 3: Gateways: 1, routes: 2; refused"),
        ] {
            let configuration = ConfigurationView { generation, error, ..ConfigurationView::default() };
            assert_eq!(words(&AgentView { configuration, ..AgentView::default() }, 1, 2), want);
        }
    }
}
