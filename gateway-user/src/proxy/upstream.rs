//! Connections to endpoints: dialling, the pool of those kept alive, and which endpoints to leave alone for a while.
//!
//! Owns the choice among a backend's endpoints. One pool a worker: nothing here is shared between threads.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::net::TcpStream;

use super::worker::Worker;
pub(super) use exchange::{Answer, Exchange, Failure, Upstream};

pub(super) mod decode;
pub(super) mod encode;
mod exchange;

/// Endpoints that are tried for one request or connection.
const MAX_TRIES: usize = 5;
/// An endpoint that failed is left alone this long, twice as long after each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// At most this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A worker's idle upstream connections, and what it knows about endpoints.
#[derive(Debug)]
pub(super) struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "connections go in and out for each request: only a pointer is moved"
    )]
    idle: RefCell<FxHashMap<SocketAddr, Vec<Box<Upstream>>>>,
    failing: RefCell<FxHashMap<SocketAddr, Failing>>,
    most: usize,
    keep: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    times: u32,
    until: Instant,
}

impl Failing {
    fn again(before: Option<Self>, now: Instant) -> Self {
        let times = before.map_or(0, |f| f.times.saturating_add(1));
        let pause = FIRST_PAUSE.saturating_mul(1 << times.min(5)).min(LONGEST_PAUSE);
        Self { times, until: now + pause }
    }
}

impl Pool {
    /// Keeps at most `most` idle connections an endpoint, each for `keep` ticks.
    pub(super) fn new(most: usize, keep: u64) -> Self {
        Self { idle: RefCell::default(), failing: RefCell::default(), most, keep }
    }

    /// An idle connection to an endpoint, the one used last. With `probe` it is asked whether the endpoint has
    /// closed it, at the price of a system call.
    pub(super) fn take(&self, at: SocketAddr, probe: bool) -> Option<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&at)?;
        while let Some(upstream) = connections.pop() {
            if upstream.is_alive(probe) {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection whose exchange is complete.
    pub(super) fn put(&self, mut upstream: Box<Upstream>, tick: u64) {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(upstream.at).or_default();
        if connections.len() < self.most {
            upstream.rest(tick);
            connections.push(upstream);
        }
    }

    /// Closes what was idle for too long or was closed by its endpoint, and forgets failures that are long past.
    pub(super) fn sweep(&self, tick: u64) {
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain(|c| tick.saturating_sub(c.idle_since()) < self.keep && c.is_alive(false));
            !connections.is_empty()
        });
        let mut failing = self.failing.borrow_mut();
        if !failing.is_empty() {
            let now = Instant::now();
            failing.retain(|_, f| now < f.until + LONGEST_PAUSE);
        }
    }

    /// The endpoints to try, from `first` on: those that do not fail; if all do, the first alone.
    pub(super) fn candidates<'a>(
        &'a self,
        endpoints: &'a [SocketAddr],
        first: usize,
    ) -> impl Iterator<Item = SocketAddr> + 'a {
        let count = endpoints.len();
        let rotated = (0..count).map(move |i| endpoints[(first + i) % count]);
        let healthy = rotated.filter(move |at| !self.is_failing(*at));
        let all_fail = count > 0 && endpoints.iter().all(|at| self.is_failing(*at));
        healthy.chain(all_fail.then(|| endpoints[first % count])).take(MAX_TRIES)
    }

    /// Whether an endpoint failed lately and is to be left alone.
    pub(super) fn is_failing(&self, at: SocketAddr) -> bool {
        let failing = self.failing.borrow();
        !failing.is_empty() && failing.get(&at).is_some_and(|f| Instant::now() < f.until)
    }

    /// The endpoints that are left alone, each for as long still.
    pub(super) fn failing_now(&self, now: Instant) -> Vec<(SocketAddr, Duration)> {
        let failing = self.failing.borrow();
        let left = failing.iter().map(|(at, f)| (*at, f.until.saturating_duration_since(now)));
        left.filter(|(_, left)| !left.is_zero()).collect()
    }

    fn failed(&self, at: SocketAddr) {
        let mut failing = self.failing.borrow_mut();
        let next = Failing::again(failing.get(&at).copied(), Instant::now());
        failing.insert(at, next);
    }

    fn succeeded(&self, at: SocketAddr) {
        let mut failing = self.failing.borrow_mut();
        if !failing.is_empty() {
            failing.remove(&at);
        }
    }
}

/// Connects to an endpoint, and remembers how that went.
pub(super) async fn dial(worker: &Worker, at: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let connected = match tokio::time::timeout(limit, TcpStream::connect(at)).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match &connected {
        Ok(stream) => {
            worker.cells().connects.add(1);
            worker.pool.succeeded(at);
            stream.set_nodelay(true)?;
        }
        // No descriptor or port left on our side says nothing about the endpoint.
        Err(error) if is_local(error) => worker.cells().failures.add(1),
        Err(_) => {
            worker.cells().failures.add(1);
            worker.pool.failed(at);
        }
    }
    connected
}

fn is_local(error: &io::Error) -> bool {
    let local = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|e| local.contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], n))
    }

    #[test]
    fn candidates_rotate_and_skip_those_that_fail() {
        let endpoints = [at(1), at(2), at(3)];
        let pool = Pool::new(1, 1);
        let order = |first| pool.candidates(&endpoints, first).map(|a| a.port()).collect::<Vec<_>>();
        assert_eq!(order(0), [1, 2, 3]);
        assert_eq!(order(5), [3, 1, 2]);
        pool.failed(at(2));
        assert_eq!(order(1), [3, 1]);
        let now = Instant::now();
        assert!(matches!(*pool.failing_now(now), [(skipped, _)] if skipped == at(2)));
        assert_eq!(pool.failing_now(now + FIRST_PAUSE), []);
        pool.failed(at(1));
        pool.failed(at(3));
        assert_eq!(order(1), [2]); // all fail: one is tried all the same
        pool.succeeded(at(3));
        assert_eq!(order(1), [3]);
        assert_eq!(pool.candidates(&[], 3).count(), 0);
    }

    #[test]
    fn tries_are_bounded() {
        let endpoints: Vec<_> = (1..100).map(at).collect();
        assert_eq!(Pool::new(1, 1).candidates(&endpoints, 7).count(), MAX_TRIES);
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let now = Instant::now();
        let mut failing = None;
        let pauses: Vec<u64> = (0..7)
            .map(|_| {
                let next = Failing::again(failing, now);
                failing = Some(next);
                (next.until - now).as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }
}
