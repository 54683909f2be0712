//! Which backend a TCP connection or a UDP flow goes to.
//!
//! Owns what is said of it. The choice is the slots' ([`L4Service::order`]), as in the kernel and in the relay.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use gateway_ebpf::abi::{Affinity, REJECT_BACKEND};
use gateway_ebpf::select::Tuple;

use super::lost::older;
use super::outside::{l4_view, outside};
use super::{Lost, Scene, listener, object};
use crate::core::compile::{age, attached_to, label};
use crate::core::model::L4Route;
use crate::core::snapshot::{BoundListeners, BoundService, L4Backend};
use crate::core::transport::Transport;

/// Where a connection or flow to a binding goes.
#[derive(Clone, Debug)]
pub struct L4 {
    /// The binding's protocol.
    pub transport: Transport,
    /// `NAMESPACE/NAME` of the route that serves the listener, or would if it had something to connect to.
    pub route: Option<Arc<str>>,
    /// The rule's name, or its position.
    pub rule: Option<Arc<str>>,
    /// The backends that are tried, in this order; the slots name the first. None: a connection is reset,
    /// a datagram dropped.
    pub order: Vec<L4Backend>,
    /// What the first of them is picked by.
    pub affinity: Affinity,
    /// Seconds that an established flow may go without a packet, if the route says how many.
    pub idle: Option<NonZeroU32>,
    /// What the route's backendRefs get.
    pub shares: Vec<Shares>,
    /// Slots that refuse.
    pub refused: usize,
    /// All slots.
    pub slots: usize,
    /// Other routes.
    pub lost: Vec<Lost>,
}

/// A backendRef of a route and its part of the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// `NAMESPACE/SERVICE:PORT`.
    pub name: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// Its endpoints, each with its slots. None: it leads nowhere.
    pub endpoints: Vec<(SocketAddr, usize)>,
}

/// Explains a connection or flow to a binding of a TCP or UDP listener.
#[must_use]
pub fn l4(scene: &Scene<'_>, bound: &BoundListeners, packet: &Tuple) -> L4 {
    let transport = Transport::of(bound.key.protocol);
    let (gateway, listener) = listener(&bound.label);
    let attached = |route: &L4Route| {
        attached_to(scene.model, &l4_view(route), &gateway, listener).is_some_and(|outcome| outcome.is_ok())
    };
    let routes = || scene.model.l4_routes.values().filter(|route| route.transport == transport);
    let mut l4 = L4 {
        transport,
        route: None,
        rule: None,
        order: Vec::new(),
        affinity: Affinity::None,
        idle: None,
        shares: Vec::new(),
        refused: 0,
        slots: 0,
        lost: Vec::new(),
    };
    let route = match &bound.service {
        BoundService::L4(service) => {
            let order = service.order(packet);
            (l4.affinity, l4.idle) = (service.affinity, service.idle);
            l4.order = order.iter().filter_map(|id| service.backends.get(id).cloned()).collect();
            l4.refused = service.slots.iter().filter(|id| **id == REJECT_BACKEND).count();
            l4.slots = service.slots.len();
            l4.route = Some(service.route.clone());
            scene.model.l4_routes.get(&(transport, object(&service.route)))
        }
        // The oldest one that is attached has the listener all the same.
        BoundService::Reject => {
            let oldest = routes().filter(|r| attached(r)).min_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
            l4.route = oldest.map(|route| route.meta.name.to_string().into());
            oldest
        }
        BoundService::Http(_) => return l4,
    };
    if let Some(rule) = route.and_then(|route| route.rules.first()) {
        l4.rule = Some(rule.name.clone().unwrap_or_else(|| "0".into()));
    }
    for backend in route.and_then(|route| route.rules.first()).into_iter().flat_map(|rule| &rule.backends) {
        let own = route.map_or("", |route| &*route.meta.name.namespace);
        let name = label(backend.namespace.as_deref().unwrap_or(own), backend);
        let mut shares = Shares { name, weight: backend.weight, endpoints: Vec::new() };
        if let BoundService::L4(service) = &bound.service {
            for (id, endpoint) in service.backends.iter().filter(|(_, b)| b.name == shares.name) {
                let slots = service.slots.iter().filter(|slot| *slot == id).count();
                shares.endpoints.push((endpoint.at, slots));
            }
        }
        l4.shares.push(shares);
    }
    let mut lost = outside(scene, transport.route(), &[&bound.label], |_| Vec::new());
    for other in routes() {
        if let Some(winner) = route.filter(|winner| winner.meta.name != other.meta.name && attached(other)) {
            let but = format!("a {} listener is served by one route:", transport.name());
            let (why, message) = older(&winner.meta, &other.meta, &but);
            lost.push(Lost {
                kind: transport.route(),
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
    l4.lost = lost;
    l4
}
