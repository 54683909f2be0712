//! Which backend a TCP connection goes to.
//!
//! Owns what is said of it. The choice is the slots' ([`TcpService::order`]), as in the kernel and in the relay.

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_ebpf::abi::REJECT_BACKEND;
use gateway_ebpf::select::{self, Tuple};

use super::lost::older;
use super::outside::{outside, tcp_view};
use super::{Lost, Scene, listener, object};
use crate::core::compile::{TCP_ROUTE, age, attached_to, label};
use crate::core::model::TcpRoute;
use crate::core::snapshot::{BoundListeners, BoundService, TcpBackend};

/// Where a connection to a TCP binding goes.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    /// `NAMESPACE/NAME` of the route that serves the listener, or would if it had something to connect to.
    pub route: Option<Arc<str>>,
    /// The rule's name, or its position.
    pub rule: Option<Arc<str>>,
    /// The backends that are tried, in this order; the slots name the first. None: the connection is reset.
    pub order: Vec<TcpBackend>,
    /// What the route's backendRefs get.
    pub shares: Vec<Shares>,
    /// Slots that refuse.
    pub refused: usize,
    /// All slots.
    pub slots: usize,
    /// Other routes.
    pub lost: Vec<Lost>,
}

/// A backendRef of a TCPRoute and its part of the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// `NAMESPACE/SERVICE:PORT`.
    pub name: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// Its endpoints, each with its slots. None: it leads nowhere.
    pub endpoints: Vec<(SocketAddr, usize)>,
}

/// Explains a connection to a binding of TCP listeners.
#[must_use]
pub fn tcp(scene: &Scene<'_>, bound: &BoundListeners, packet: &Tuple) -> Tcp {
    let (gateway, listener) = listener(&bound.label);
    let attached = |route: &TcpRoute| {
        attached_to(scene.model, &tcp_view(route), &gateway, listener).is_some_and(|outcome| outcome.is_ok())
    };
    let mut tcp = Tcp::default();
    let route = match &bound.service {
        BoundService::Tcp(service) => {
            let order = service.order(select::hash(packet));
            tcp.order = order.iter().filter_map(|id| service.backends.get(id).cloned()).collect();
            tcp.refused = service.slots.iter().filter(|id| **id == REJECT_BACKEND).count();
            tcp.slots = service.slots.len();
            tcp.route = Some(service.route.clone());
            scene.model.tcp_routes.get(&object(&service.route))
        }
        // The oldest one that is attached has the listener all the same.
        BoundService::Reject => {
            let oldest = scene
                .model
                .tcp_routes
                .values()
                .filter(|r| attached(r))
                .min_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
            tcp.route = oldest.map(|route| route.meta.name.to_string().into());
            oldest
        }
        BoundService::Http(_) => return tcp,
    };
    if let Some(rule) = route.and_then(|route| route.rules.first()) {
        tcp.rule = Some(rule.name.clone().unwrap_or_else(|| "0".into()));
    }
    for backend in route.and_then(|route| route.rules.first()).into_iter().flat_map(|rule| &rule.backends) {
        let own = route.map_or("", |route| &*route.meta.name.namespace);
        let name = label(backend.namespace.as_deref().unwrap_or(own), backend);
        let mut shares = Shares { name, weight: backend.weight, endpoints: Vec::new() };
        if let BoundService::Tcp(service) = &bound.service {
            for (id, endpoint) in service.backends.iter().filter(|(_, b)| b.name == shares.name) {
                let slots = service.slots.iter().filter(|slot| *slot == id).count();
                shares.endpoints.push((endpoint.at, slots));
            }
        }
        tcp.shares.push(shares);
    }
    let mut lost = outside(scene, TCP_ROUTE, &[&bound.label], |_| Vec::new());
    for other in scene.model.tcp_routes.values() {
        if let Some(winner) = route.filter(|winner| winner.meta.name != other.meta.name && attached(other)) {
            let (why, message) = older(&winner.meta, &other.meta, "a TCP listener is served by one route:");
            lost.push(Lost {
                kind: TCP_ROUTE,
                route: other.meta.name.clone(),
                rule: None,
                listener: Some(bound.label.clone()),
                matched: None,
                why,
                message,
            });
        }
    }
    lost.sort_by(|a, b| a.place().cmp(&b.place()));
    tcp.lost = lost;
    tcp
}
