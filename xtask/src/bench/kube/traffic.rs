//! Steady requests on routes that nobody changes: over connections that stay, and over new ones.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use gateway_tests::{
    client::{self, Answer, Http},
    netns::NetNs,
};

use super::bed::{GATEWAYS, HOST, prefix};

/// Between two requests of one kind: some 200 a second of each, so that they see every change and load nobody.
const BETWEEN: Duration = Duration::from_millis(5);
/// So many failures are told.
const TOLD: usize = 5;

/// What came of the requests.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// The first failures in words.
    pub(super) failures: Vec<String>,
}

impl Traffic {
    fn count(&mut self, what: &str, answer: &io::Result<Answer>) {
        self.requests += 1;
        let why = match answer {
            Ok(answer) if answer.status == 200 => return,
            Ok(answer) => answer.status.to_string(),
            Err(e) => e.to_string(),
        };
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(format!("{what}: {why}"));
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests on other routes, {} failed", self.requests, self.failed)?;
        self.failures.iter().try_for_each(|failure| write!(f, "; {failure}"))
    }
}

/// Asks until told to stop. The first route of each Gateway is left to others.
pub(super) fn steady(client: &NetNs, at: &[SocketAddr], routes: u32, stop: &AtomicBool) -> Traffic {
    let (kept, new) = thread::scope(|scope| {
        let kept = scope.spawn(|| keep(client, at, routes, stop));
        let mut new = Traffic::default();
        for route in others(routes).rev().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
            let path = prefix(route);
            new.count(&path, &client::get(client, at[gateway(route)], HOST, &path));
            thread::sleep(BETWEEN);
        }
        (kept.join().expect("only counts"), new)
    });
    Traffic {
        requests: kept.requests + new.requests,
        failed: kept.failed + new.failed,
        failures: [kept.failures, new.failures].concat(),
    }
}

/// The same over a connection to each Gateway, which stays.
fn keep(client: &NetNs, at: &[SocketAddr], routes: u32, stop: &AtomicBool) -> Traffic {
    let mut traffic = Traffic::default();
    let mut connections: Vec<Option<Http>> = at.iter().map(|_| None).collect();
    for route in others(routes).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let (path, place) = (prefix(route), &mut connections[gateway(route)]);
        let connected = match place.take() {
            Some(connection) => Ok(connection),
            None => Http::connect(client, at[gateway(route)]),
        };
        let answer = connected.and_then(|mut connection| {
            let answer = connection.get(HOST, &path)?;
            *place = Some(connection);
            Ok(answer)
        });
        traffic.count(&path, &answer);
        thread::sleep(BETWEEN);
    }
    traffic
}

fn others(routes: u32) -> std::ops::Range<u32> {
    GATEWAYS..routes
}

fn gateway(route: u32) -> usize {
    (route % GATEWAYS) as usize
}
