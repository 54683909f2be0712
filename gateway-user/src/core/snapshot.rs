//! What compilation yields: everything that the kernel, the workers and the status need, immutable.
//!
//! Owns the shape. The HTTP tables' own shape and matching are in `route`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use gateway_ebpf::abi::{Action, Affinity, BindingKey};
use gateway_ebpf::select::{self, Tuple};
use rustc_hash::FxHashMap;

use super::model::ObjectName;
use super::status::Report;
use super::tls::{ByName, Certificates};
use super::transport::Transport;

/// The compiled configuration.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts compilations since the agent's start.
    pub generation: u64,
    /// What the kernel's maps shall hold.
    pub image: MapImage,
    /// What a worker does with a connection, by the address and port that it was accepted on: the exact address
    /// first, then [`gateway_ebpf::abi::ANY`].
    pub bindings: FxHashMap<BindingKey, Arc<BoundListeners>>,
    /// Endpoints that the route of a TCP or UDP binding refers to. Some get nothing new, for they are not ready, or of
    /// weight 0, or the route is refused; what runs to them is configured all the same.
    pub listed: BTreeMap<BindingKey, Arc<[SocketAddr]>>,
    /// Addresses of Gateways, static or out of a pool, that are in use and that the host does not own: to be brought up.
    pub addresses: BTreeSet<IpAddr>,
    /// Labels of the workers' request counters, at the places that the HTTP tables refer to: those of a listener are one
    /// block, which stays the same for as long as its table does.
    pub series: Vec<Arc<[SeriesKey]>>,
    /// The dense ids that this snapshot uses, to be given to the next compilation.
    pub ids: Ids,
    /// Conditions, as if applying succeeds.
    pub report: Arc<Report>,
}

/// A binding as the workers see it.
#[derive(Clone, Debug)]
pub struct BoundListeners {
    /// Its dense id.
    pub id: u32,
    /// Its key.
    pub key: BindingKey,
    /// `NAMESPACE/GATEWAY/LISTENER` of its listeners, for logs and metrics; joined by commas if there are several.
    pub label: Arc<str>,
    /// What serves it.
    pub service: BoundService,
    /// The certificates of its listeners, if TLS ends here: what serves is inside of it.
    pub tls: Option<Arc<ByName<Certificates>>>,
}

/// What serves a binding.
#[derive(Clone, Debug)]
pub enum BoundService {
    /// HTTP: the worker routes each request.
    Http(Arc<super::route::HttpTable>),
    /// TCP or UDP: the worker relays to the backend that the slots name.
    L4(Arc<L4Service>),
    /// Nothing is served here: TCP is reset, UDP dropped.
    Reject,
}

/// The service of a TCP or UDP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Service {
    /// Protocol of the listener and of the route.
    pub transport: Transport,
    /// Its dense id.
    pub id: u32,
    /// `NAMESPACE/NAME` of the route.
    pub route: Arc<str>,
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub listener: Arc<str>,
    /// Backend ids, their number a power of two: for `gateway_ebpf::select::backend`.
    pub slots: Arc<[u32]>,
    /// What picks a flow's slot.
    pub affinity: Affinity,
    /// Seconds that an established flow may go without a packet; `None`: as the agent is set.
    pub idle: Option<NonZeroU32>,
    /// The backends that the slots name, by id.
    pub backends: BTreeMap<u32, L4Backend>,
}

impl L4Service {
    /// Backends that are tried for one connection.
    const MOST: usize = 5;

    /// The backends to try for a connection or flow: the one that its slot names, then those in the slots after it.
    /// None: it is refused.
    #[must_use]
    pub fn order(&self, tuple: &Tuple) -> Vec<u32> {
        let hash = select::slot_hash(tuple, self.affinity);
        let mut order = Vec::new();
        if !self.backends.contains_key(&select::backend(hash, &self.slots)) {
            return order;
        }
        order.reserve_exact(1);
        let first = select::slot(hash, self.slots.len().trailing_zeros() as u8) as usize;
        for at in 0..self.slots.len() {
            let id = self.slots[(first + at) % self.slots.len()];
            if self.backends.contains_key(&id) && !order.contains(&id) {
                order.push(id);
            }
            if order.len() == Self::MOST.min(self.backends.len()) {
                break;
            }
        }
        order
    }
}

/// A backend of an [`L4Service`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Backend {
    /// The endpoint.
    pub at: SocketAddr,
    /// `NAMESPACE/SERVICE:PORT` of the backendRef that it is an endpoint of.
    pub name: Arc<str>,
}

/// Where a request counter is: see [`Snapshot::series`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesAt {
    /// Its block.
    pub block: u32,
    /// Its place in there.
    pub at: u32,
}

impl SeriesAt {
    /// What stands at this place.
    #[inline]
    #[must_use]
    pub fn of<T>(self, blocks: &[impl AsRef<[T]>]) -> Option<&T> {
        blocks.get(self.block as usize)?.as_ref().get(self.at as usize)
    }
}

/// Labels of a request counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub listener: Arc<str>,
    /// `NAMESPACE/NAME`; empty: no route matched.
    pub route: Arc<str>,
    /// The rule's name, or its position as a number.
    pub rule: Arc<str>,
    /// `NAMESPACE/SERVICE:PORT`; empty: answered without a backend.
    pub backend: Arc<str>,
}

/// What the kernel's maps hold, or shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapImage {
    /// Bindings.
    pub bindings: BTreeMap<BindingKey, BindingImage>,
    /// Services by id.
    pub services: BTreeMap<u32, ServiceImage>,
    /// Backends by id; id 0 is never in here.
    pub backends: BTreeMap<u32, BackendKey>,
    /// What forwarding needs beside the configuration. Compilation leaves it empty: it follows the host's network.
    pub ways: Ways,
}

/// A service in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceImage {
    /// Backend ids, their number a power of two.
    pub slots: Arc<[u32]>,
    /// What picks a flow's slot.
    pub affinity: Affinity,
}

impl ServiceImage {
    /// A service of which each flow has a slot by itself.
    #[must_use]
    pub fn new(slots: impl Into<Arc<[u32]>>) -> Self {
        Self { slots: slots.into(), affinity: Affinity::None }
    }

    /// The id of a flow's backend; [`gateway_ebpf::abi::REJECT_BACKEND`]: it is refused. `attempt`: how often another
    /// was looked for.
    #[must_use]
    pub fn backend(&self, tuple: &Tuple, attempt: u32) -> u32 {
        select::backend(select::retry(select::slot_hash(tuple, self.affinity), attempt), &self.slots)
    }
}

/// What forwarding needs beside the configuration; empty if it is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// The way to a backend, by its id. One that is not in here is the relay's.
    pub paths: BTreeMap<u32, Path>,
    /// Addresses of the host and of Gateways that new flows may come to.
    pub local: BTreeSet<IpAddr>,
}

/// The way that forwarding takes to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The interface that packets leave by.
    pub interface: u32,
    /// The neighbour that they are handed to: the endpoint, or a router.
    pub next_hop: IpAddr,
    /// The host's address that the endpoint sees where it does not see the client's own.
    pub source: Option<IpAddr>,
    /// The largest IP packet on the way, in bytes.
    pub mtu: u32,
    /// Whether the endpoint is on this node, and sees the client's own address.
    pub local: bool,
}

/// A binding in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingImage {
    /// Action.
    pub action: Action,
    /// Dense id.
    pub id: u32,
    /// Service id, for Forward.
    pub service: Option<u32>,
    /// Seconds that an established flow may go without a packet; `None`: as the agent is set.
    pub idle: Option<NonZeroU32>,
}

/// What a backend id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// Address and port.
    pub at: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}

/// Dense ids and addresses, kept from one compilation to the next: what keeps its identity keeps what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Bindings, from 0.
    pub bindings: BTreeMap<BindingKey, u32>,
    /// Services by route and rule, from 0.
    pub services: BTreeMap<(Transport, ObjectName, usize), u32>,
    /// Backends, from 1.
    pub backends: BTreeMap<BackendKey, u32>,
    /// Services by a binding that they serve: for what is found in the kernel, where routes have no names.
    pub bound: BTreeMap<BindingKey, u32>,
    /// The id from which a free one is looked for: bindings, services, backends. It goes round, so that an id that
    /// became free is used again as late as possible.
    pub next: [u32; 3],
    /// Where Gateways listen that have addresses of their own, so that each keeps what it got out of a pool.
    pub addresses: BTreeMap<ObjectName, Vec<IpAddr>>,
}

impl Ids {
    /// The ids that a map image uses: what a restarted agent finds in the kernel, so that its first compilation gives
    /// every binding, backend and service the id that it has there.
    #[must_use]
    pub fn recover(image: &MapImage) -> Self {
        let after = |ids: &mut dyn Iterator<Item = u32>| ids.max().map_or(0, |id| id.saturating_add(1));
        Self {
            bindings: image.bindings.iter().map(|(key, b)| (*key, b.id)).collect(),
            backends: image.backends.iter().map(|(id, key)| (*key, *id)).collect(),
            bound: image.bindings.iter().filter_map(|(key, b)| Some((*key, b.service?))).collect(),
            next: [
                after(&mut image.bindings.values().map(|b| b.id)),
                after(&mut image.services.keys().copied()),
                after(&mut image.backends.keys().copied()),
            ],
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_ebpf::abi::{ANY, REJECT_BACKEND, mapped};

    use super::*;

    fn service(slots: &[u32]) -> L4Service {
        let at = |id: u32| L4Backend { at: ([127, 0, 0, 1], id as u16).into(), name: "a/b:1".into() };
        let backends: BTreeMap<_, _> = slots.iter().filter(|id| **id > 0).map(|id| (*id, at(*id))).collect();
        L4Service {
            transport: Transport::Tcp,
            id: 0,
            route: "a/r".into(),
            listener: "a/g/l".into(),
            slots: slots.into(),
            affinity: Affinity::None,
            idle: None,
            backends,
        }
    }

    fn tuple(client: u8, source_port: u16) -> Tuple {
        let source = mapped([192, 0, 2, client]);
        Tuple {
            source,
            destination: ANY,
            source_port,
            destination_port: 80,
            protocol: Transport::Tcp.number(),
        }
    }

    #[test]
    fn the_hashed_backend_comes_first_and_each_once() {
        let service = service(&[1, 2, 0, 3, 1, 2, 4, 3]);
        let image = ServiceImage::new(service.slots.clone());
        let mut refused = 0;
        for port in 0..64 {
            let mut order = service.order(&tuple(1, port));
            let chosen = image.backend(&tuple(1, port), 0);
            if chosen == REJECT_BACKEND {
                assert!(order.is_empty());
                refused += 1;
                continue;
            }
            assert_eq!(order[0], chosen);
            order.sort_unstable();
            assert_eq!(order, [1, 2, 3, 4]);
        }
        assert!((1..32).contains(&refused), "{refused}");
        assert!(L4Service { slots: [].into(), ..service }.order(&tuple(1, 1)).is_empty());
    }

    #[test]
    fn tries_are_bounded() {
        let slots: Vec<u32> = (1..=64).collect();
        let order = service(&slots).order(&tuple(1, 1));
        assert!(order.windows(2).all(|pair| pair[1] == pair[0] % 64 + 1), "{order:?}");
        assert_eq!(order.len(), 5);
    }

    #[test]
    fn with_affinity_a_client_has_one_order() {
        let slots: Vec<u32> = (1..=64).collect();
        let service = L4Service { affinity: Affinity::ClientIp, ..service(&slots) };
        let of = |client| service.order(&tuple(client, 1));
        assert!((2..200).all(|port| service.order(&tuple(1, port)) == of(1)));
        let firsts: BTreeSet<u32> = (0..=255).map(|client| of(client)[0]).collect();
        // Of 64 slots, 256 clients leave one or two without any.
        assert!(firsts.len() > 50, "{}", firsts.len());
    }
}
