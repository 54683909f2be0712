//! Counting: a cell for each worker, written by that worker alone with relaxed stores, read by anyone.
//!
//! Owns how counters survive a change of configuration: by their labels. What left the configuration is kept for a
//! while, so that it is scraped a last time, but never without bound. The one lock is taken when a snapshot is
//! published and when counters are read, never by a worker, who waits for another at most while that makes the cells of both.

use std::hash::Hash;
use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::totals::{
    BindingLabel, CloseReason, DropReason, FlowEnd, HandshakeFailure, HttpTotals, LATENCY_BOUNDS, Latency,
    RelayKey, RelayTotals, TlsTotals, TlsVersion, Totals, UdpTotals,
};
use crate::core::snapshot::SeriesKey;

/// How long counters that left the configuration are kept.
const KEEP: Duration = Duration::from_secs(300);
/// How many of them at most, of each kind.
const KEEP_MOST: usize = 4_096;

/// A counter with a single writer.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    /// Adds. Only the worker that owns the cell may.
    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
    /// Takes away. Only the worker that owns the cell may.
    #[inline]
    pub(super) fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }
    /// Adds one and returns what was there before.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        let n = self.get();
        self.add(1);
        n
    }
    /// The value.
    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's share of a request series. Aligned so that no two workers write to one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct HttpCells {
    status: [Cell; 5],
    buckets: [Cell; LATENCY_BOUNDS.len() + 1],
    sum_micros: Cell,
    bytes_in: Cell,
    bytes_out: Cell,
    /// Requests that chose a backend by weight: argument of `RuleEntry::choose`.
    pub(super) choices: Cell,
    /// Requests that chose an endpoint of a backend.
    pub(super) turns: Cell,
}

impl HttpCells {
    /// Counts a request that has ended.
    pub(super) fn record(&self, status: u16, took: Duration, bytes_in: u64, bytes_out: u64) {
        self.status[usize::from((status / 100).clamp(1, 5)) - 1].add(1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[LATENCY_BOUNDS.partition_point(|bound| *bound < micros)].add(1);
        self.sum_micros.add(micros);
        self.bytes_in.add(bytes_in);
        self.bytes_out.add(bytes_out);
    }
}

/// One worker's share of what is relayed to a backend, TCP or UDP.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct RelayCells {
    /// Connections or flows.
    pub(super) begun: Cell,
    pub(super) bytes_in: Cell,
    pub(super) bytes_out: Cell,
    pub(super) datagrams_in: Cell,
    pub(super) datagrams_out: Cell,
}

/// One worker's share of a binding's accepted connections.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct AcceptCells(pub(super) Cell);

/// What a worker counts whatever the configuration.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct WorkerCells {
    pub(super) open: Cell,
    closed: [Cell; CloseReason::ALL.len()],
    pub(super) connects: Cell,
    pub(super) reuses: Cell,
    pub(super) failures: Cell,
    pub(super) retries: Cell,
    pub(super) accept_errors: Cell,
    pub(super) log_dropped: Cell,
    pub(super) udp: UdpCells,
    pub(super) tls: TlsCells,
}

/// What a worker counts of TLS whatever the configuration.
#[derive(Debug, Default)]
pub(super) struct TlsCells {
    /// By version, then whether a session was resumed.
    shaken: [[Cell; 2]; TlsVersion::ALL.len()],
    failed: [Cell; HandshakeFailure::ALL.len()],
}

impl TlsCells {
    /// Counts a handshake.
    pub(super) fn shake(&self, version: TlsVersion, resumed: bool) {
        self.shaken[version as usize][usize::from(resumed)].add(1);
    }

    /// Counts one that failed.
    pub(super) fn fail(&self, why: HandshakeFailure) {
        self.failed[why as usize].add(1);
    }
}

/// What a worker counts of UDP whatever the configuration.
#[derive(Debug, Default)]
pub(super) struct UdpCells {
    /// Flows open now.
    pub(super) open: Cell,
    ended: [Cell; FlowEnd::ALL.len()],
    dropped: [Cell; DropReason::ALL.len()],
    /// ICMP errors that came back from backends and from clients.
    pub(super) backend_errors: Cell,
    pub(super) client_errors: Cell,
}

impl UdpCells {
    /// Counts the end of a flow.
    pub(super) fn end(&self, why: FlowEnd) {
        self.ended[why as usize].add(1);
    }

    /// Counts a datagram that went nowhere.
    pub(super) fn drop_one(&self, why: DropReason) {
        self.dropped[why as usize].add(1);
    }
}

impl WorkerCells {
    /// Counts the end of a connection.
    pub(super) fn close(&self, reason: CloseReason) {
        self.closed[reason as usize].add(1);
    }
}

/// The cells of all workers for one set of labels.
pub(super) type Cells<C> = Arc<PerWorker<C>>;

/// A cell for each worker. They are made when one of them counts for the first time: most of what is configured is never
/// asked for, and there may be many workers.
#[derive(Debug)]
pub(super) struct PerWorker<C> {
    workers: usize,
    cells: OnceLock<Box<[C]>>,
}

impl<C: Default> PerWorker<C> {
    fn new(workers: usize) -> Self {
        Self { workers, cells: OnceLock::new() }
    }

    /// The cells of all workers; none if none has counted.
    fn iter(&self) -> std::slice::Iter<'_, C> {
        self.cells.get().map_or(&[][..], |cells| cells).iter()
    }
}

impl<C: Default> Index<usize> for PerWorker<C> {
    type Output = C;
    #[inline]
    fn index(&self, worker: usize) -> &C {
        &self.cells.get_or_init(|| cells(self.workers))[worker]
    }
}

/// Every counter there is.
#[derive(Debug)]
pub(super) struct Registry {
    /// By worker.
    pub(super) workers: Box<[WorkerCells]>,
    known: Mutex<Known>,
}

/// Counters by label: held while a snapshot is published.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) http: Family<SeriesKey, HttpCells>,
    pub(super) relayed: Family<RelayKey, RelayCells>,
    pub(super) accepted: Family<BindingLabel, AcceptCells>,
}

impl Registry {
    pub(super) fn new(workers: usize) -> Self {
        let known = Known {
            http: Family::new(workers),
            relayed: Family::new(workers),
            accepted: Family::new(workers),
        };
        Self { workers: cells(workers), known: Mutex::new(known) }
    }

    /// The counters by label. Panicking while holding it leaves nothing half done: poison is ignored.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> Totals {
        let mut known = self.known();
        known.expire(Instant::now());
        let sum = |pick: fn(&WorkerCells) -> &Cell| self.workers.iter().map(|w| pick(w).get()).sum();
        Totals {
            http: known.http.read(sum_http),
            relayed: known.relayed.read(sum_relayed),
            accepted: known.accepted.read(|cells| cells.iter().map(|c| c.0.get()).sum()),
            open: self.workers.iter().map(|w| w.open.get()).collect(),
            closed: CloseReason::ALL
                .iter()
                .map(|r| (*r, self.workers.iter().map(|w| w.closed[*r as usize].get()).sum()))
                .collect(),
            upstream_connects: sum(|w| &w.connects),
            upstream_reuses: sum(|w| &w.reuses),
            upstream_failures: sum(|w| &w.failures),
            upstream_retries: sum(|w| &w.retries),
            accept_errors: sum(|w| &w.accept_errors),
            log_dropped: sum(|w| &w.log_dropped),
            udp: self.read_udp(),
            tls: self.read_tls(),
        }
    }
}

impl Registry {
    fn read_udp(&self) -> UdpTotals {
        let sum = |pick: &dyn Fn(&UdpCells) -> &Cell| self.workers.iter().map(|w| pick(&w.udp).get()).sum();
        UdpTotals {
            open: self.workers.iter().map(|w| w.udp.open.get()).collect(),
            ended: FlowEnd::ALL.iter().map(|why| (*why, sum(&|udp| &udp.ended[*why as usize]))).collect(),
            dropped: DropReason::ALL
                .iter()
                .map(|why| (*why, sum(&|udp| &udp.dropped[*why as usize])))
                .collect(),
            backend_errors: sum(&|udp| &udp.backend_errors),
            client_errors: sum(&|udp| &udp.client_errors),
        }
    }
}

impl Registry {
    fn read_tls(&self) -> TlsTotals {
        let sum = |pick: &dyn Fn(&TlsCells) -> &Cell| self.workers.iter().map(|w| pick(&w.tls).get()).sum();
        let kinds = TlsVersion::ALL.into_iter().flat_map(|version| [(version, false), (version, true)]);
        TlsTotals {
            handshakes: kinds
                .map(|(v, resumed)| (v, resumed, sum(&|tls| &tls.shaken[v as usize][usize::from(resumed)])))
                .collect(),
            failures: HandshakeFailure::ALL
                .iter()
                .map(|why| (*why, sum(&|tls| &tls.failed[*why as usize])))
                .collect(),
        }
    }
}

impl Known {
    /// Begins a publication: what is not asked for until [`Known::expire`] has left the configuration. Of requests' counters
    /// only those have that are said to: there may be thousands.
    pub(super) fn begin(&mut self, now: Instant) {
        self.relayed.begin(now);
        self.accepted.begin(now);
    }

    /// Forgets what left the configuration long ago, and the oldest of what is too much.
    pub(super) fn expire(&mut self, now: Instant) {
        self.http.expire(now);
        self.relayed.expire(now);
        self.accepted.expire(now);
    }
}

/// Counters of one kind.
#[derive(Debug)]
pub(super) struct Family<K, C> {
    workers: usize,
    entries: FxHashMap<K, Entry<C>>,
}

#[derive(Debug)]
struct Entry<C> {
    cells: Cells<C>,
    gone: Option<Instant>,
}

impl<K: Clone + Eq + Hash + Ord, C: Default> Family<K, C> {
    fn new(workers: usize) -> Self {
        Self { workers, entries: FxHashMap::default() }
    }

    fn begin(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.gone.get_or_insert(now);
        }
    }

    /// These labels have left the configuration, unless their cells are asked for again.
    pub(super) fn leave(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.gone.get_or_insert(now);
        }
    }

    /// The cells for these labels, the same as before if there were some.
    pub(super) fn cells(&mut self, key: &K) -> Cells<C> {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.gone = None;
            return entry.cells.clone();
        }
        let cells = Arc::new(PerWorker::new(self.workers));
        self.entries.insert(key.clone(), Entry { cells: cells.clone(), gone: None });
        cells
    }

    fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, e| e.gone.is_none_or(|gone| now.duration_since(gone) < KEEP));
        let mut gone: Vec<(Instant, K)> =
            self.entries.iter().filter_map(|(k, e)| Some((e.gone?, k.clone()))).collect();
        if gone.len() > KEEP_MOST {
            gone.sort_unstable();
            for (_, key) in &gone[..gone.len() - KEEP_MOST] {
                self.entries.remove(key);
            }
        }
    }

    fn read<T>(&self, sum: impl Fn(&PerWorker<C>) -> T) -> Vec<(K, T)> {
        let mut all: Vec<(K, T)> = self.entries.iter().map(|(k, e)| (k.clone(), sum(&e.cells))).collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

fn cells<C: Default>(workers: usize) -> Box<[C]> {
    std::iter::repeat_with(C::default).take(workers).collect()
}

fn sum_http(cells: &PerWorker<HttpCells>) -> HttpTotals {
    let mut total = HttpTotals::default();
    for cell in cells.iter() {
        for (sum, part) in total.status.iter_mut().zip(&cell.status) {
            *sum += part.get();
        }
        let Latency { buckets, sum_micros } = &mut total.latency;
        for (sum, part) in buckets.iter_mut().zip(&cell.buckets) {
            *sum += part.get();
        }
        *sum_micros += cell.sum_micros.get();
        total.bytes_in += cell.bytes_in.get();
        total.bytes_out += cell.bytes_out.get();
    }
    total
}

fn sum_relayed(cells: &PerWorker<RelayCells>) -> RelayTotals {
    cells.iter().fold(RelayTotals::default(), |sum, cell| RelayTotals {
        begun: sum.begun + cell.begun.get(),
        bytes_in: sum.bytes_in + cell.bytes_in.get(),
        bytes_out: sum.bytes_out + cell.bytes_out.get(),
        datagrams_in: sum.datagrams_in + cell.datagrams_in.get(),
        datagrams_out: sum.datagrams_out + cell.datagrams_out.get(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family() -> Family<u32, AcceptCells> {
        Family::new(2)
    }

    #[test]
    fn labels_keep_their_cells_across_publications() {
        let mut f = family();
        let t = Instant::now();
        f.cells(&7)[1].0.add(3);
        f.begin(t);
        f.cells(&7)[0].0.add(2);
        f.expire(t + KEEP * 2);
        assert_eq!(f.read(|c| c.iter().map(|c| c.0.get()).sum::<u64>()), [(7, 5)]);
    }

    #[test]
    fn what_is_said_to_leave_leaves_alone_and_may_come_again() {
        let mut f = family();
        let t = Instant::now();
        for key in 0..3 {
            f.cells(&key);
        }
        f.leave(&0, t);
        f.leave(&1, t);
        f.leave(&7, t);
        f.cells(&1);
        f.expire(t + KEEP);
        assert_eq!(f.read(|_| ()).iter().map(|(key, ())| *key).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_left_is_kept_for_a_while_and_then_forgotten() {
        let mut f = family();
        let t = Instant::now();
        f.cells(&1);
        f.begin(t);
        f.expire(t + KEEP / 2);
        assert_eq!(f.read(|_| ()).len(), 1);
        f.begin(t + KEEP / 2); // another publication does not lengthen its stay
        f.expire(t + KEEP);
        assert_eq!(f.read(|_| ()).len(), 0);
    }

    #[test]
    fn what_left_is_bounded_and_the_oldest_goes_first() {
        let mut f = family();
        let t = Instant::now();
        for key in 0..10 {
            f.cells(&key);
        }
        f.begin(t);
        for key in 10..10 + KEEP_MOST as u32 {
            f.cells(&key);
        }
        f.begin(t + Duration::from_secs(1));
        f.expire(t + Duration::from_secs(1));
        let left = f.read(|_| ());
        assert_eq!((left.len(), left[0].0), (KEEP_MOST, 10));
    }

    #[test]
    fn status_classes_and_buckets() {
        let cells = PerWorker::<HttpCells>::new(2);
        assert_eq!(cells.iter().count(), 0, "none is made for who counts nothing");
        for (status, micros) in [(204, 500), (404, 501), (599, 20_000_000), (0, 1)] {
            cells[1].record(status, Duration::from_micros(micros), 1, 2);
        }
        let total = sum_http(&cells);
        assert_eq!(total.status, [1, 1, 0, 1, 1]);
        assert_eq!(
            (total.latency.buckets[0], total.latency.buckets[1], total.latency.buckets[12]),
            (2, 1, 1)
        );
        assert_eq!((total.bytes_in, total.bytes_out), (4, 8));
    }
}
