//! The workers: one thread each with its own runtime, sockets, upstream pools and counters.
//!
//! Owns every connection and datagram that `sk_lookup` steers: HTTP/1.1, TLS around it, the relay of TCP and of UDP.
//! Must not know aya, where the configuration comes from, or how its counters are exported. No lock is taken on the data
//! path, but for the keys of session tickets that a handshake reads: the snapshot is swapped atomically, and every counter
//! has a single writer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot, watch};

use self::counters::Registry;
use self::log::Log;
use self::tls::Terminator;
use self::view::View;
use self::worker::{Phase, Shared, Sockets};
use crate::core::flows::removed::Configured;
use crate::core::load::Loads;
use crate::core::snapshot::Snapshot;
use crate::core::transport::Transport;

pub use config::Config;
pub use http::{Preview, preview};
pub use totals::{
    BindingLabel, CloseReason, DropReason, FlowEnd, HandshakeFailure, HttpTotals, LATENCY_BOUNDS, Latency,
    RelayKey, RelayTotals, TlsTotals, TlsVersion, Totals, UdpTotals,
};

mod config;
mod connection;
mod counters;
mod http;
mod leaving;
mod log;
mod relay;
mod tls;
mod totals;
mod udp;
mod upstream;
mod view;
mod worker;

/// Sockets, bound and listening, not served yet: by worker and whether of IPv6.
pub struct Proxy {
    config: Config,
    listeners: Vec<(u32, bool, TcpListener)>,
    datagrams: Vec<(u32, bool, UdpSocket)>,
}

impl Proxy {
    /// Binds a TCP and a UDP socket for each worker and family on loopback, port 0, those of a family and protocol as
    /// one SO_REUSEPORT group. A host without IPv6 gets none for it.
    pub fn bind(config: Config) -> io::Result<Self> {
        let listeners = both(|v6| group(&config, v6))?;
        let datagrams = both(|v6| udp::group(config.workers.max(1), v6))?;
        Ok(Self { config, listeners, datagrams })
    }

    /// The sockets: worker, whether IPv6, descriptor.
    #[must_use]
    pub fn sockets(&self) -> Vec<(u32, bool, BorrowedFd<'_>)> {
        let listeners = self.listeners.iter().map(|(worker, v6, socket)| (*worker, *v6, socket.as_fd()));
        let datagrams = self.datagrams.iter().map(|(worker, v6, socket)| (*worker, *v6, socket.as_fd()));
        listeners.chain(datagrams).collect()
    }

    /// What the sockets are: worker, whether IPv6, protocol.
    pub fn kinds(&self) -> impl Iterator<Item = (u32, bool, Transport)> {
        let listeners = self.listeners.iter().map(|(worker, v6, _)| (*worker, *v6, Transport::Tcp));
        listeners.chain(self.datagrams.iter().map(|(worker, v6, _)| (*worker, *v6, Transport::Udp)))
    }

    /// Where the sockets of a family and protocol are bound.
    #[must_use]
    pub fn address(&self, transport: Transport, v6: bool) -> Option<SocketAddr> {
        match transport {
            Transport::Tcp => {
                let mut own = self.listeners.iter().filter(|(_, family, _)| *family == v6);
                own.find_map(|(.., socket)| socket.local_addr().ok())
            }
            Transport::Udp => {
                let mut own = self.datagrams.iter().filter(|(_, family, _)| *family == v6);
                own.find_map(|(.., socket)| socket.local_addr().ok())
            }
        }
    }

    /// Starts the workers; they reset every connection until a snapshot is published. `loads` must have a counter
    /// for each worker.
    pub fn start(self, loads: Arc<dyn Loads>) -> io::Result<Running> {
        let Self { mut config, listeners, datagrams } = self;
        let workers = config.workers.max(1);
        let (health, questions): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(1)).unzip();
        let shared = Arc::new(Shared {
            health,
            log: config.access_log.take().map(Log::start).transpose()?,
            view: ArcSwap::from_pointee(View::default()),
            tls: Terminator::new()?,
            registry: Registry::new(workers),
            loads,
            config,
        });
        let (phase, phases) = watch::channel(Phase::Serve);
        let (done, cut) = mpsc::channel(workers);
        let none = || Sockets { listeners: Vec::new(), datagrams: Vec::new() };
        let mut groups: Vec<Sockets> = std::iter::repeat_with(none).take(workers).collect();
        for (worker, _, socket) in listeners {
            groups[worker as usize].listeners.push(socket);
        }
        for (worker, _, socket) in datagrams {
            groups[worker as usize].datagrams.push(socket);
        }
        let mut threads = Vec::with_capacity(workers);
        for ((id, sockets), questions) in groups.into_iter().enumerate().zip(questions) {
            let (shared, phases, done) = (shared.clone(), phases.clone(), done.clone());
            threads.push(
                std::thread::Builder::new()
                    .name(format!("worker-{id}"))
                    .spawn(move || worker::run(id, sockets, shared, phases, questions, &done))?,
            );
        }
        Ok(Running { shared, phase, cut, threads })
    }
}

/// Workers that serve. Dropped, they cut their connections and stop; see [`Running::drain`].
pub struct Running {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    /// How many connections each worker cut; ends when all have.
    cut: mpsc::Receiver<u64>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Makes a snapshot the one by which connections accepted and requests read from now on are served.
    pub fn publish(&self, snapshot: &Snapshot) {
        let Shared { view, registry, tls, .. } = &*self.shared;
        let mut view = View::new(snapshot, &view.load(), &mut registry.known(), tls, Instant::now());
        view.configured = self.shared.config.reset_removed_after.map(|_| Configured::of(snapshot));
        self.shared.view.store(Arc::new(view));
    }

    /// The counters, to be read from any thread, also after the workers have gone.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters(self.shared.clone())
    }

    /// Stops accepting, lets connections end (`Connection: close` on those kept alive), and cuts what is left after
    /// `deadline`. Returns how many were cut.
    pub async fn drain(mut self, deadline: Duration) -> u64 {
        let mut total = 0;
        self.phase.send_replace(Phase::Drain);
        let ended = async {
            while let Some(cut) = self.cut.recv().await {
                total += cut;
            }
        };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            self.phase.send_replace(Phase::Cut);
            while let Some(cut) = self.cut.recv().await {
                total += cut;
            }
        }
        for thread in std::mem::take(&mut self.threads) {
            // They have ended; one that panicked has said so.
            let _panicked = thread.join();
        }
        total
    }
}

/// Endpoints that a worker leaves alone, each for as long.
pub type Failing = Vec<(SocketAddr, Duration)>;

/// Asks a worker which endpoints those are.
type Question = oneshot::Sender<Failing>;

/// Handle to the counters, and to what the workers know of endpoints.
#[derive(Clone)]
pub struct Counters(Arc<Shared>);

impl Counters {
    /// Sums over the workers, each counter read once.
    #[must_use]
    pub fn read(&self) -> Totals {
        self.0.registry.read()
    }

    /// Connections open now, by worker.
    #[must_use]
    pub fn open(&self) -> Vec<u64> {
        self.0.registry.workers.iter().map(|cells| cells.open.get()).collect()
    }

    /// By worker, the endpoints that it leaves alone since they failed, and for how long still. Each worker is asked;
    /// one that has ended leaves nothing alone.
    pub async fn failing(&self) -> Vec<Failing> {
        let ask = |worker: &mpsc::Sender<Question>| {
            let worker = worker.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                worker.send(answer).await.ok()?;
                answered.await.ok()
            }
        };
        let answers = futures_util::future::join_all(self.0.health.iter().map(ask)).await;
        answers.into_iter().map(Option::unwrap_or_default).collect()
    }
}

/// The sockets of both families, by worker; a host without IPv6 has none of it.
fn both<S>(group: impl Fn(bool) -> io::Result<Vec<S>>) -> io::Result<Vec<(u32, bool, S)>> {
    let mut sockets = Vec::new();
    for v6 in [false, true] {
        match group(v6) {
            Ok(group) => sockets.extend((0..).zip(group).map(|(worker, socket)| (worker, v6, socket))),
            Err(error) if v6 && is_no_ipv6(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// A listening socket for each worker, all on one port of loopback.
fn group(config: &Config, v6: bool) -> io::Result<Vec<TcpListener>> {
    let (domain, loopback) = if v6 {
        (Domain::IPV6, Ipv6Addr::LOCALHOST.into())
    } else {
        (Domain::IPV4, Ipv4Addr::LOCALHOST.into())
    };
    let mut at = SocketAddr::new(loopback, 0);
    let mut group = Vec::new();
    for _ in 0..config.workers.max(1) {
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if v6 {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit it: a system call less for each.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&at.into())?;
        socket.listen(config.backlog)?;
        let listener = TcpListener::from(socket);
        at = listener.local_addr()?;
        group.push(listener);
    }
    Ok(group)
}

fn is_no_ipv6(error: &io::Error) -> bool {
    let none = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|e| none.contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_a_port_and_hands_down_its_options() {
        let config = Config { workers: 3, ..Config::default() };
        let proxy = Proxy::bind(config).unwrap();
        let at = proxy.address(Transport::Tcp, false).unwrap();
        assert!(proxy.listeners.iter().filter(|s| !s.1).all(|s| s.2.local_addr().unwrap() == at));
        assert_eq!(proxy.sockets().iter().filter(|s| !s.1).count(), 6);
        for kind in Transport::ALL {
            let all: Vec<_> = proxy.kinds().filter(|(_, v6, of)| !v6 && *of == kind).collect();
            assert_eq!(all, [(0, false, kind), (1, false, kind), (2, false, kind)]);
        }
        let _client = std::net::TcpStream::connect(at).unwrap();
        let accepted = proxy.listeners.iter().filter(|s| !s.1).find_map(|s| s.2.accept().ok());
        assert!(accepted.unwrap().0.nodelay().unwrap());
    }
}
