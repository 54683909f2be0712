//! The client's threads, and what they counted put together.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::{Outcome, Run, WARM_UP, pace, tcp, udp};

/// When answers count.
#[derive(Clone, Copy)]
pub(super) struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    /// The time until it ends; `None` after it.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

/// What a thread counted.
#[derive(Default)]
pub(super) struct Tally {
    nanoseconds: Vec<u32>,
    failed: u64,
}

/// So many failures are no measurement.
const FAILURES: u64 = 1000;

impl Tally {
    /// An answer; it counts if it came within the window.
    pub(super) fn answer(&mut self, window: &Window, asked: Instant, now: Instant) {
        if now >= window.from && now < window.until {
            self.nanoseconds.push(u32::try_from((now - asked).as_nanos()).unwrap_or(u32::MAX));
        }
    }

    /// A failure; an error if it is one too many.
    pub(super) fn failure(&mut self, what: &str) -> Result<()> {
        self.failed += 1;
        ensure!(self.failed < FAILURES, "{FAILURES} failures, the last: {what}");
        Ok(())
    }
}

/// Runs the threads. `connections` are shared out among them.
pub(super) fn run(run: &Run) -> Result<Outcome> {
    let from = Instant::now() + WARM_UP;
    let window = Window { from, until: from + Duration::from_millis(run.milliseconds) };
    // At a given pace, a connection's thread sleeps until its next request.
    let threads = if run.rate.is_some() { run.connections } else { usize::from(run.threads) };
    let threads = threads.clamp(1, run.connections);
    let tallies: Vec<Result<Tally>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let mine: Vec<usize> = (thread..run.connections).step_by(threads).collect();
                scope.spawn(move || match run.rate {
                    _ if run.udp => udp::ask(&run.to, &mine, window),
                    Some(rate) => pace::ask(&run.to, thread, run.connections, rate, window),
                    None => tcp::ask(&run.to, &mine, run.renew, window),
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
            .collect()
    });
    let mut all = Vec::new();
    let mut failed = 0;
    for tally in tallies {
        let tally = tally?;
        all.extend(tally.nanoseconds);
        failed += tally.failed;
    }
    ensure!(!all.is_empty(), "no answer from {} ({failed} failures)", run.to.to);
    all.sort_unstable();
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    Ok(Outcome {
        seconds: run.milliseconds as f64 / 1e3,
        answers: all.len() as u64,
        failed,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    })
}
