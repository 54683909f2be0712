//! TCPRoutes and UDPRoutes: from weighted backendRefs to slots.
//!
//! Owns which route serves a listener and each endpoint's share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use gateway_ebpf::abi::{Affinity, REJECT_BACKEND};
use rustc_hash::FxHashMap;

use super::backends::{Resolved, Resolver, Spoken};
use super::condition::Problem;
use super::gateways::{Gateways, ListenerId, refusals};
use crate::core::maglev::{self, Share};
use crate::core::model::{L4Route, ObjectName, Protocol};
use crate::core::route::Target;
use crate::core::snapshot::{BackendKey, L4Backend, ServiceImage};
use crate::core::transport::Transport;

/// A service in the making: the rule of a route that serves a listener.
pub(super) struct Service {
    /// Shares of the endpoints, and of what must be refused.
    shares: BTreeMap<Option<BackendKey>, u128>,
    /// By endpoint, the backendRef that it belongs to: the first of several.
    names: BTreeMap<BackendKey, Arc<str>>,
    /// The client's address if one of the Services asks for that, whatever its weight.
    pub(super) affinity: Affinity,
    /// Seconds without a packet, if the route says how many.
    pub(super) idle: Option<NonZeroU32>,
    /// How many routes came before: the oldest first.
    pub(super) order: usize,
}

/// A route by its protocol and name.
pub(super) type RouteKey<'m> = (Transport, &'m ObjectName);

/// TCPRoutes and UDPRoutes, compiled.
#[derive(Default)]
pub(super) struct Services<'m> {
    /// The route that serves a listener.
    pub(super) by_listener: FxHashMap<ListenerId, RouteKey<'m>>,
    /// By route. One that has nothing to connect to is not in here.
    pub(super) by_route: BTreeMap<RouteKey<'m>, Service>,
    /// By route that serves a listener, every endpoint that it refers to, whatever its weight and whether it is ready.
    pub(super) listed: BTreeMap<RouteKey<'m>, Arc<[SocketAddr]>>,
}

/// What came of a route.
pub(super) struct Outcome {
    /// Why it is refused.
    pub(super) refused: Vec<String>,
    /// What is wrong with its backends, with the reference's place.
    pub(super) backends: Vec<(String, Problem)>,
    /// Older routes that serve listeners of this one: listener, route.
    pub(super) superseded: Vec<(Arc<str>, String)>,
    /// How many listeners it serves itself.
    pub(super) serves: usize,
}

impl<'m> Services<'m> {
    /// Adds a route. Routes must come oldest first.
    pub(super) fn add(
        &mut self,
        gateways: &Gateways<'_>,
        resolver: &mut Resolver<'m>,
        route: &'m L4Route,
        listeners: &[ListenerId],
    ) -> Outcome {
        let kind = route.transport.route();
        let key = (route.transport, &route.meta.name);
        let mut refused = Vec::new();
        if !route.refusals.is_empty() {
            refused.push(refusals(&route.refusals));
        }
        let mut outcome = Outcome { refused, backends: Vec::new(), superseded: Vec::new(), serves: 0 };
        let order = self.by_route.len();
        let mut service = Service {
            shares: BTreeMap::new(),
            names: BTreeMap::new(),
            affinity: Affinity::None,
            idle: route.idle,
            order,
        };
        let mut listed = BTreeSet::new();
        for (at, rule) in route.rules.iter().enumerate() {
            if !rule.refusals.is_empty() {
                outcome.refused.push(refusals(&rule.refusals));
            }
            if at > 0 {
                outcome.refused.push(format!("spec.rules[{at}]: a {kind} has one rule (remove the others)"));
            }
            for (b, backend) in rule.backends.iter().enumerate() {
                if !backend.refusals.is_empty() {
                    outcome.refused.push(refusals(&backend.refusals));
                }
                let spoken = Spoken::Any(route.transport);
                let resolved = resolver.resolve(backend, kind, &route.meta.name.namespace, spoken);
                if let Some(problem) = &resolved.problem {
                    outcome.backends.push((format!("spec.rules[{at}].backendRefs[{b}]"), problem.clone()));
                }
                listed.extend(resolved.listed.iter());
                if at == 0 {
                    service.add(backend.weight, &resolved, route.transport);
                }
            }
        }
        let mut used = false;
        for &id in listeners {
            let work = &gateways.list[id.0].listeners[id.1];
            match self.by_listener.get(&id) {
                Some(older) => outcome.superseded.push((work.label.clone(), older.1.to_string())),
                None => {
                    self.by_listener.insert(id, key);
                    outcome.serves += 1;
                    used |= !work.keys.is_empty() && is_l4(&work.listener.protocol);
                }
            }
        }
        if used {
            self.listed.insert(key, listed.into_iter().collect());
        }
        if used && outcome.refused.is_empty() && !service.names.is_empty() {
            self.by_route.insert(key, service);
        }
        outcome
    }
}

fn is_l4(protocol: &Protocol) -> bool {
    matches!(protocol, Protocol::Tcp | Protocol::Udp)
}

impl Service {
    fn add(&mut self, weight: u32, resolved: &Resolved, transport: Transport) {
        self.affinity = self.affinity.max(resolved.affinity);
        if weight == 0 {
            return;
        }
        let whole = u128::from(weight) << 48;
        let Target::Endpoints(endpoints) = &resolved.target else {
            *self.shares.entry(None).or_default() += whole;
            return;
        };
        for at in endpoints.iter() {
            let key = BackendKey { at: *at, protocol: transport.number() };
            *self.shares.entry(Some(key)).or_default() += whole / endpoints.len() as u128;
            self.names.entry(key).or_insert_with(|| resolved.name.clone());
        }
    }

    /// Its endpoints.
    pub(super) fn backends(&self) -> impl Iterator<Item = &BackendKey> {
        self.names.keys()
    }

    /// How many slots it takes, if the smallest table of several backends has so many.
    pub(super) fn size(&self, smallest: usize) -> usize {
        maglev::size(self.shares.values().filter(|share| **share > 0).count(), smallest)
    }

    /// What the kernel gets of it, and the backends that its slots name.
    pub(super) fn image(
        &self,
        ids: &BTreeMap<BackendKey, u32>,
        smallest: usize,
    ) -> (ServiceImage, BTreeMap<u32, L4Backend>) {
        let id = |key: &BackendKey| ids.get(key).copied().unwrap_or(REJECT_BACKEND);
        let shares: Vec<Share> = self
            .shares
            .iter()
            .map(|(key, &share)| Share {
                id: key.as_ref().map_or(REJECT_BACKEND, id),
                seed: key.as_ref().map_or(0, maglev::seed),
                share,
            })
            .collect();
        let backends =
            self.names.iter().map(|(key, name)| (id(key), L4Backend { at: key.at, name: name.clone() }));
        let slots = maglev::slots(&shares, smallest).into();
        (ServiceImage { slots, affinity: self.affinity }, backends.collect())
    }
}
