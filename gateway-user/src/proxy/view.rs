//! A snapshot as the workers use it: beside each thing that serves, the cells that count it.
//!
//! Owns the way from the address that a client asked for to what is served there. Immutable once published.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use gateway_ebpf::abi::{ANY, BindingKey, wire};
use rustc_hash::FxHashMap;

use super::counters::{AcceptCells, Cells, HttpCells, Known, RelayCells};
use super::tls::{Answers, Terminator};
use super::totals::{BindingLabel, RelayKey};
use crate::core::flows::removed::Configured;
use crate::core::snapshot::{BoundListeners, BoundService, L4Service, SeriesKey, Snapshot};
use crate::core::transport::Transport;

/// A snapshot with its counters.
#[derive(Debug, Default)]
pub(super) struct View {
    /// At the places that the HTTP tables refer to.
    pub(super) series: Vec<Block>,
    bindings: FxHashMap<BindingKey, Bound>,
    /// What may go on; `None`: everything.
    pub(super) configured: Option<Configured>,
}

/// The counters of a block of series, with their labels.
#[derive(Clone, Debug)]
pub(super) struct Block {
    labels: Arc<[SeriesKey]>,
    cells: Arc<[Cells<HttpCells>]>,
}

impl AsRef<[Cells<HttpCells>]> for Block {
    fn as_ref(&self) -> &[Cells<HttpCells>] {
        &self.cells
    }
}

/// A worker's own hold on the latest view: requests clone this, so that no count is written by two workers.
#[derive(Debug)]
pub(super) struct Held(pub(super) Arc<View>);

impl Deref for Held {
    type Target = View;
    fn deref(&self) -> &View {
        &self.0
    }
}

/// A binding with its counters.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listeners: Arc<BoundListeners>,
    pub(super) accepted: Cells<AcceptCells>,
    /// By backend id, 0 for what is refused; empty for HTTP.
    pub(super) relayed: FxHashMap<u32, Cells<RelayCells>>,
    /// What answers handshakes, if TLS ends here.
    pub(super) tls: Option<Arc<Answers>>,
}

impl View {
    /// A snapshot with its counters; what stays of the view before keeps them.
    pub(super) fn new(
        snapshot: &Snapshot,
        before: &Self,
        known: &mut Known,
        tls: &Terminator,
        now: Instant,
    ) -> Self {
        known.begin(now);
        let mut view = Self {
            series: blocks(snapshot, before, known, now),
            bindings: snapshot
                .bindings
                .iter()
                .map(|(key, listeners)| (*key, Bound::new(listeners.clone(), known)))
                .collect(),
            configured: None,
        };
        known.expire(now);
        let names = snapshot.bindings.iter().filter_map(|(key, bound)| Some((*key, bound.tls.as_ref()?)));
        for (key, answers) in tls.answers(names) {
            if let Some(bound) = view.bindings.get_mut(&key) {
                bound.tls = Some(answers);
            }
        }
        view
    }

    /// What is served at a local address: the exact address first, then any.
    pub(super) fn bound(&self, transport: Transport, local: SocketAddr) -> Option<&Bound> {
        let protocol = transport.number();
        let mut key = BindingKey { address: wire(local.ip()), port: local.port(), protocol, pad: 0 };
        self.bindings.get(&key).or_else(|| {
            key.address = ANY;
            self.bindings.get(&key)
        })
    }
}

/// The counters of requests. One by one only those of blocks that are not what they were.
fn blocks(snapshot: &Snapshot, before: &View, known: &mut Known, now: Instant) -> Vec<Block> {
    let stays = |at: usize| {
        let (block, labels) = (before.series.get(at)?, snapshot.series.get(at)?);
        Arc::ptr_eq(&block.labels, labels).then_some(block)
    };
    for (_, block) in before.series.iter().enumerate().filter(|(at, _)| stays(*at).is_none()) {
        block.labels.iter().for_each(|key| known.http.leave(key, now));
    }
    let block = |(at, labels): (usize, &Arc<[SeriesKey]>)| {
        stays(at).cloned().unwrap_or_else(|| Block {
            labels: Arc::clone(labels),
            cells: labels.iter().map(|key| known.http.cells(key)).collect(),
        })
    };
    snapshot.series.iter().enumerate().map(block).collect()
}

impl View {
    /// Whether there is such a binding, whatever it serves.
    pub(super) fn binds(&self, key: &BindingKey) -> bool {
        self.bindings.contains_key(key)
    }
}

impl Bound {
    fn new(listeners: Arc<BoundListeners>, known: &mut Known) -> Self {
        let binding = label(&listeners);
        let relayed = match &listeners.service {
            BoundService::L4(service) => relay_cells(service, &binding, known),
            BoundService::Http(_) | BoundService::Reject => FxHashMap::default(),
        };
        Self { accepted: known.accepted.cells(&binding), relayed, listeners, tls: None }
    }
}

fn relay_cells(
    service: &L4Service,
    binding: &BindingLabel,
    known: &mut Known,
) -> FxHashMap<u32, Cells<RelayCells>> {
    let key = |backend: Arc<str>, endpoint| RelayKey {
        binding: binding.clone(),
        route: service.route.clone(),
        backend,
        endpoint,
    };
    let refused = (0, known.relayed.cells(&key("".into(), None)));
    let backends =
        service.backends.iter().map(|(id, b)| (*id, known.relayed.cells(&key(b.name.clone(), Some(b.at)))));
    backends.chain([refused]).collect()
}

fn label(listeners: &BoundListeners) -> BindingLabel {
    let BindingKey { address, port, protocol, .. } = listeners.key;
    let at = if address == ANY {
        format!("*:{port}")
    } else {
        SocketAddr::new(IpAddr::from(address).to_canonical(), port).to_string()
    };
    BindingLabel { transport: Transport::of(protocol), listener: listeners.label.clone(), at: at.into() }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::abi::{Address, mapped};

    use super::*;
    use crate::proxy::counters::Registry;

    fn listeners(address: Address, port: u16, label: &str) -> (BindingKey, Arc<BoundListeners>) {
        let key = BindingKey { address, port, protocol: Transport::Tcp.number(), pad: 0 };
        let service = BoundService::Reject;
        (key, Arc::new(BoundListeners { id: 0, key, label: label.into(), service, tls: None }))
    }

    #[test]
    fn exact_address_first_then_any_and_mapped_is_v4() {
        let snapshot = Snapshot {
            bindings: [
                listeners(mapped([10, 0, 0, 1]), 80, "exact"),
                listeners(ANY, 80, "any"),
                listeners(wire("2001:db8::1".parse().unwrap()), 81, "six"),
            ]
            .into_iter()
            .collect(),
            ..Snapshot::default()
        };
        let registry = Registry::new(1);
        let tls = Terminator::new().unwrap();
        let view = View::new(&snapshot, &View::default(), &mut registry.known(), &tls, Instant::now());
        for (local, want) in [
            ("10.0.0.1:80", Some("exact")),
            ("[::ffff:10.0.0.1]:80", Some("exact")),
            ("10.0.0.2:80", Some("any")),
            ("[2001:db8::2]:80", Some("any")),
            ("[2001:db8::1]:81", Some("six")),
            ("10.0.0.1:81", None),
        ] {
            let found = view.bound(Transport::Tcp, local.parse().unwrap()).map(|b| &*b.listeners.label);
            assert_eq!(found, want, "{local}");
            assert!(view.bound(Transport::Udp, local.parse().unwrap()).is_none(), "{local}");
        }
        let labels: Vec<_> = registry.read().accepted.into_iter().map(|(l, _)| l.at.to_string()).collect();
        assert_eq!(labels, ["*:80", "10.0.0.1:80", "[2001:db8::1]:81"]);
    }
}
