//! A worker: a thread with its own runtime, listening sockets, connections, upstream pool and counters.
//!
//! Owns accepting, the sweep of deadlines, and the drain. Must not know what is spoken on a connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};

use super::connection::{Connection, Watched};
use super::counters::{Registry, WorkerCells};
use super::leaving::Leaving;
use super::log::Log;
use super::tls::Terminator;
use super::totals::CloseReason;
use super::udp::{self, Ends, Flows};
use super::upstream::Pool;
use super::view::{Bound, Held, View};
use super::{Config, Question, http, relay};
use crate::core::load::{Loads, WorkerLoad};
use crate::core::snapshot::{BoundService, L4Service};
use crate::core::transport::Transport;

/// What all workers share; nothing in it is written by two of them.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) view: ArcSwap<View>,
    pub(super) registry: Registry,
    pub(super) loads: Arc<dyn Loads>,
    pub(super) log: Option<Log>,
    pub(super) tls: Terminator,
    /// Where each worker is asked which endpoints it leaves alone.
    pub(super) health: Vec<mpsc::Sender<Question>>,
}

/// What the workers shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serve,
    Drain,
    Cut,
}

/// Limits in ticks of the sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    pub(super) header: u64,
    pub(super) keep_alive: u64,
    pub(super) body: u64,
    tcp: u64,
    udp: u64,
    pub(super) last_answers: u64,
    removed: Option<u64>,
    upstream: u64,
    tick: Duration,
}

impl Ticks {
    /// The length of a tick, and the limits in ticks: never shorter than asked for, at most a quarter longer.
    fn new(config: &Config) -> (Duration, Self) {
        let limits = [
            config.header_timeout,
            config.keep_alive,
            config.body_idle,
            config.tcp_idle,
            config.upstream_keep_alive,
            config.udp_idle,
        ];
        let shortest = limits.into_iter().min().unwrap_or_default();
        let tick = (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let [header, keep_alive, body, tcp, upstream, udp] = limits.map(|limit| in_ticks(limit, tick));
        let removed = config.reset_removed_after.map(|limit| in_ticks(limit, tick));
        let last_answers = in_ticks(config.udp_last_answers, tick);
        (tick, Self { header, keep_alive, body, tcp, udp, last_answers, removed, upstream, tick })
    }

    /// How long a connection or flow of a service may be idle: never shorter than the service says, at most two ticks
    /// longer.
    pub(super) fn idle(&self, service: &L4Service) -> u64 {
        match (service.idle, service.transport) {
            (Some(seconds), _) => in_ticks(Duration::from_secs(seconds.get().into()), self.tick),
            (None, Transport::Tcp) => self.tcp,
            (None, Transport::Udp) => self.udp,
        }
    }
}

fn in_ticks(limit: Duration, tick: Duration) -> u64 {
    u64::try_from(limit.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u64::MAX / 2) + 1
}

/// A worker, on its own thread.
pub(super) struct Worker {
    pub(super) id: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) ticks: Ticks,
    pub(super) pool: Pool,
    view: RefCell<Rc<Held>>,
    now: Cell<u64>,
    draining: Cell<bool>,
    /// The tick since when UDP flows have to end.
    flows_drain: Cell<Option<u64>>,
    connections: RefCell<FxHashMap<u64, Rc<Watched>>>,
    pub(super) flows: RefCell<Flows>,
    last: Cell<u64>,
    /// Told when a connection ends while somebody waits for that.
    ended: Notify,
}

impl Worker {
    /// The latest snapshot: whoever asks after it was published gets it.
    #[inline]
    pub(super) fn view(&self) -> Rc<Held> {
        let latest = self.shared.view.load();
        let mut cached = self.view.borrow_mut();
        if !Arc::ptr_eq(&latest, &cached.0) {
            *cached = Rc::new(Held(Arc::clone(&latest)));
        }
        cached.clone()
    }

    /// The limits.
    #[inline]
    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// This worker's counters.
    #[inline]
    pub(super) fn cells(&self) -> &WorkerCells {
        &self.shared.registry.workers[self.id]
    }

    /// What ends connections and flows whose listener or endpoint has left the configuration, if anything does.
    pub(super) fn leaving<'v>(&self, view: &'v View) -> Option<Leaving<'v>> {
        let (configured, grace) = (view.configured.as_ref()?, self.ticks.removed?);
        Some(Leaving { configured, grace, now: self.tick() })
    }

    /// Sweeps so far.
    #[inline]
    pub(super) fn tick(&self) -> u64 {
        self.now.get()
    }

    /// Whether connections shall end when they can.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(super) fn enter(&self, watched: Rc<Watched>) -> u64 {
        let id = self.last.get() + 1;
        self.last.set(id);
        self.connections.borrow_mut().insert(id, watched);
        self.cells().open.add(1);
        self.publish_load();
        self.load().accepted();
        id
    }

    pub(super) fn leave(&self, id: u64, reason: CloseReason) {
        self.connections.borrow_mut().remove(&id);
        self.cells().open.sub(1);
        self.cells().close(reason);
        self.publish_load();
        self.ended.notify_waiters();
    }

    fn load(&self) -> WorkerLoad<'_> {
        self.shared.loads.worker(self.id)
    }

    fn publish_load(&self) {
        self.load().open.store(self.cells().open.get(), Ordering::Relaxed);
    }

    /// Ends the UDP flows that wait for no answer; the others get a moment.
    fn drain_flows(&self) {
        self.flows_drain.set(Some(self.tick()));
        udp::sweep(self, self.flows_drain.get());
    }

    /// A UDP flow has gone.
    pub(super) fn forget(&self, ends: &Ends, id: u64) {
        self.flows.borrow_mut().forget(ends, id);
        self.ended.notify_waiters();
    }

    fn open(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Connections and flows.
    fn left(&self) -> usize {
        self.open() + self.flows.borrow().len()
    }
}

/// The sockets by which a worker is reached, one of each kind for a family.
pub(super) struct Sockets {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) datagrams: Vec<UdpSocket>,
}

/// Runs a worker until it is drained or cut; returns how many connections were cut.
pub(super) fn run(
    id: usize,
    sockets: Sockets,
    shared: Arc<Shared>,
    phases: watch::Receiver<Phase>,
    questions: mpsc::Receiver<Question>,
    done: &mpsc::Sender<u64>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let cut = runtime.block_on(serve(id, sockets, shared, phases, questions))?;
    // Tasks that are left are dropped with the runtime: each counts its connection as cut.
    drop(runtime);
    // Nobody to tell if whoever started the workers has gone.
    let _gone = done.try_send(cut);
    Ok(())
}

async fn serve(
    id: usize,
    sockets: Sockets,
    shared: Arc<Shared>,
    mut phases: watch::Receiver<Phase>,
    questions: mpsc::Receiver<Question>,
) -> io::Result<u64> {
    let (tick, ticks) = Ticks::new(&shared.config);
    let view = RefCell::new(Rc::new(Held(shared.view.load_full())));
    let worker = Rc::new(Worker {
        id,
        ticks,
        pool: Pool::new(shared.config.idle_upstreams, ticks.upstream),
        shared,
        view,
        now: Cell::new(0),
        draining: Cell::new(false),
        flows_drain: Cell::new(None),
        connections: RefCell::default(),
        flows: RefCell::default(),
        last: Cell::new(0),
        ended: Notify::new(),
    });
    worker.publish_load();
    let mut accepting = Vec::new();
    for listener in sockets.listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        accepting.push(tokio::task::spawn_local(accept(worker.clone(), listener, phases.clone())));
    }
    for socket in sockets.datagrams {
        accepting.push(tokio::task::spawn_local(udp::serve(worker.clone(), socket, phases.clone())));
    }
    let answering = tokio::task::spawn_local(tell(worker.clone(), questions));
    let sweeping = tokio::task::spawn_local(sweep(worker.clone(), tick));
    for task in accepting {
        // A task that panicked accepts no more either.
        let _ended = task.await;
    }
    worker.draining.set(true);
    let all: Vec<_> = worker.connections.borrow().values().cloned().collect();
    for connection in all {
        connection.drain();
    }
    worker.drain_flows();
    let left = async {
        loop {
            let ended = worker.ended.notified();
            if worker.left() == 0 {
                break;
            }
            ended.await;
        }
    };
    // Whoever started the workers has gone if `wait_for` fails: that cuts too.
    tokio::select! {
        () = left => {}
        _ = phases.wait_for(|phase| *phase == Phase::Cut) => {}
    }
    sweeping.abort();
    answering.abort();
    Ok(worker.left() as u64)
}

async fn sweep(worker: Rc<Worker>, tick: Duration) {
    let mut interval = tokio::time::interval(tick);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Connections assigned by the last two sweeps.
    let (mut last, mut before) = (0, 0);
    loop {
        interval.tick().await;
        let now = worker.now.get() + 1;
        worker.now.set(now);
        // So that an idle worker lets go of a snapshot that was replaced, too.
        let view = worker.view();
        let leaving = worker.leaving(&view);
        for watched in worker.connections.borrow().values() {
            watched.sweep(now, leaving.as_ref());
        }
        worker.pool.sweep(now);
        udp::sweep(&worker, worker.flows_drain.get());
        (last, before) = (worker.load().settle(before), last);
    }
}

/// Tells whoever asks which endpoints are left alone.
async fn tell(worker: Rc<Worker>, mut questions: mpsc::Receiver<Question>) {
    while let Some(answer) = questions.recv().await {
        // Whoever asked may have gone.
        let _gone = answer.send(worker.pool.failing_now(Instant::now()));
    }
}

/// Accepts until the workers no longer serve: what is in the queue by then is accepted still.
async fn accept(worker: Rc<Worker>, listener: tokio::net::TcpListener, mut phases: watch::Receiver<Phase>) {
    const FIRST: Duration = Duration::from_millis(10);
    let mut pause = FIRST;
    loop {
        let full = worker.open() >= worker.config().max_connections;
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept(), if !full => accepted,
            () = worker.ended.notified(), if full => continue,
            // Whoever started the workers has gone if it fails.
            _ = phases.wait_for(|phase| *phase != Phase::Serve) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST;
                admit(&worker, stream, peer);
            }
            // The client went away before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // No descriptor or memory left: what ends will free some.
            Err(_) => {
                worker.cells().accept_errors.add(1);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    let connection = Connection::open(worker.clone(), canonical(peer), canonical(local));
    let view = worker.view();
    let Some(bound) = view.bound(Transport::Tcp, local) else {
        connection.ends(CloseReason::Unknown);
        return reset(stream);
    };
    bound.accepted[worker.id].0.add(1);
    dispatch(&view, bound, connection, stream);
}

fn dispatch(view: &Rc<Held>, bound: &Bound, connection: Connection, stream: TcpStream) {
    match &bound.listeners.service {
        BoundService::Http(_) if bound.tls.is_some() => {
            tokio::task::spawn_local(http::serve_tls(connection, stream, view.clone()));
        }
        BoundService::Http(_) => {
            tokio::task::spawn_local(http::serve(connection, stream));
        }
        BoundService::L4(service) => {
            if let Some(relay) = relay::begin(bound, service, connection, stream) {
                tokio::task::spawn_local(relay);
            }
        }
        BoundService::Reject => {
            connection.ends(CloseReason::Refused);
            reset(stream);
        }
    }
}

/// Closes with a reset.
pub(super) fn reset(stream: TcpStream) {
    // If it fails the connection is gone already.
    let _gone = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_ticks_are_never_shorter() {
        let config = Config { header_timeout: Duration::from_millis(300), ..Config::default() };
        let (tick, ticks) = Ticks::new(&config);
        assert!(tick * 8 <= Duration::from_millis(300));
        assert!(tick * u32::try_from(ticks.header - 1).unwrap() >= Duration::from_millis(300));
        assert!(tick * u32::try_from(ticks.tcp - 1).unwrap() >= Duration::from_secs(3600));
    }

    #[test]
    fn a_services_own_limit_goes_before_the_workers() {
        let config = Config { udp_idle: Duration::from_secs(600), ..Config::default() };
        let (tick, ticks) = Ticks::new(&config);
        assert_eq!(tick, Duration::from_secs(1));
        for (transport, own, want) in [
            (Transport::Tcp, 0, 3601),
            (Transport::Udp, 0, 601),
            (Transport::Tcp, 1, 2),
            (Transport::Udp, 30, 31),
            (Transport::Tcp, u32::MAX, u64::from(u32::MAX) + 1),
        ] {
            let service = L4Service {
                transport,
                id: 0,
                route: "a/r".into(),
                listener: "a/g/l".into(),
                slots: [].into(),
                affinity: gateway_ebpf::abi::Affinity::None,
                idle: std::num::NonZeroU32::new(own),
                backends: std::collections::BTreeMap::new(),
            };
            assert_eq!(ticks.idle(&service), want, "{transport:?} {own}");
        }
    }
}
