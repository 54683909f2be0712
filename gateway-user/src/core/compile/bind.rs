//! Bindings: listeners by address and port, as kernel and workers see them.
//!
//! Owns the map image and what a worker serves on a binding.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use gateway_ebpf::abi::{Action, BindingKey};
use gateway_ebpf::names::{MAX_BACKENDS, MAX_BINDINGS, MAX_SERVICES};
use rustc_hash::FxHashMap;

use super::gateways::{Gateways, ListenerId, ListenerWork};
use super::http::{Table, no_route};
use super::ids::assign;
use super::l4::{RouteKey, Services};
use super::room::{self, Room};
use crate::core::model::ObjectName;
use crate::core::route::HttpTable;
use crate::core::snapshot::{
    BindingImage, BoundListeners, BoundService, Ids, L4Service, MapImage, SeriesAt, SeriesKey,
};
use crate::core::tls::{ByName, Certificates};
use crate::core::transport::Transport;

/// How requests on a binding are routed, and with which certificates.
type Served = (Arc<HttpTable>, Option<Arc<ByName<Certificates>>>);

/// What the kernel and the workers get.
pub(super) struct Bound {
    pub(super) image: MapImage,
    pub(super) bindings: FxHashMap<BindingKey, Arc<BoundListeners>>,
    pub(super) listed: BTreeMap<BindingKey, Arc<[SocketAddr]>>,
    pub(super) series: Vec<Arc<[SeriesKey]>>,
    pub(super) ids: Ids,
    /// Listeners that are not served since the maps are full, and why.
    pub(super) left_out: BTreeMap<ListenerId, String>,
}

/// A route's service, all but its listener's name.
type Made<'m> = BTreeMap<RouteKey<'m>, L4Service>;

/// Puts the bindings together.
pub(super) fn bind(
    gateways: &Gateways<'_>,
    tables: &FxHashMap<ListenerId, Table>,
    series: Vec<Arc<[SeriesKey]>>,
    services: &Services<'_>,
    previous: &Ids,
) -> Bound {
    let mut places: BTreeMap<BindingKey, Vec<ListenerId>> = BTreeMap::new();
    let mut left_out = BTreeMap::new();
    for (g, gateway) in gateways.list.iter().enumerate() {
        for (l, work) in gateway.listeners.iter().enumerate() {
            for key in &work.keys {
                if places.len() == MAX_BINDINGS as usize && !places.contains_key(key) {
                    let message = format!(
                        "BINDINGS has room for {MAX_BINDINGS} addresses and ports, and older Gateways have them (use fewer)"
                    );
                    left_out.insert((g, l), message);
                    continue;
                }
                places.entry(*key).or_default().push((g, l));
            }
        }
    }
    let mut ids = Ids { next: previous.next, ..Ids::default() };
    let room = room::share_out(services, room::MAPS);
    for (listener, route) in &services.by_listener {
        if let Some(why) = room.left_out.get(route) {
            left_out.insert(*listener, why.clone());
        }
    }
    let (made, image) = services_of(&places, services, &room, previous, &mut ids);
    let keys: BTreeSet<BindingKey> = places.keys().copied().collect();
    ids.bindings =
        assign(&keys, &previous.bindings, |_| None, std::iter::empty(), 0..MAX_BINDINGS, &mut ids.next[0]);
    let mut bound =
        Bound { image, bindings: FxHashMap::default(), listed: BTreeMap::new(), series, ids, left_out };
    let mut shared: FxHashMap<&[ListenerId], Served> = FxHashMap::default();
    for (key, listeners) in &places {
        let works: Vec<_> = listeners.iter().map(|&(g, l)| &gateways.list[g].listeners[l]).collect();
        let Some(id) = bound.ids.bindings.get(key).copied() else { continue };
        let label: Arc<str> = match &*works {
            [only] => only.label.clone(),
            many => many.iter().map(|w| &*w.label).collect::<Vec<_>>().join(",").into(),
        };
        let http = works.iter().all(|w| w.listener.protocol.is_http());
        let mut tls = None;
        let (service, action) = if http {
            let (table, names) = shared.entry(listeners).or_insert_with(|| {
                let known: Vec<_> = listeners.iter().filter_map(|id| tables.get(id)).collect();
                let block = match &*known {
                    [only] => only.block,
                    _ => {
                        bound.series.push([no_route(&label, &"".into())].into());
                        (bound.series.len() - 1) as u32
                    }
                };
                let mut table = HttpTable::new(label.clone(), SeriesAt { block, at: 0 });
                for (work, known) in works.iter().zip(known) {
                    table.add(work.listener.hostname.as_ref(), &known.table);
                }
                (Arc::new(table), names(&works))
            });
            tls.clone_from(names);
            (BoundService::Http(table.clone()), Action::Steer)
        } else {
            let route = listeners.first().and_then(|id| services.by_listener.get(id));
            if let Some(listed) = route.and_then(|route| services.listed.get(route)) {
                bound.listed.insert(*key, listed.clone());
            }
            match route.and_then(|route| made.get(route)) {
                Some(service) => {
                    let l4 = L4Service { listener: label.clone(), ..service.clone() };
                    (BoundService::L4(l4.into()), Action::Forward)
                }
                None => (BoundService::Reject, Action::Reject),
            }
        };
        let mut image = BindingImage { action, id, service: None, idle: None };
        if let BoundService::L4(l4) = &service {
            (image.service, image.idle) = (Some(l4.id), l4.idle);
            bound.ids.bound.insert(*key, l4.id);
        }
        bound.image.bindings.insert(*key, image);
        bound.bindings.insert(*key, Arc::new(BoundListeners { id, key: *key, label, service, tls }));
    }
    bound
}

/// The certificates of listeners on one port by hostname; `None`: they have no TLS.
fn names(listeners: &[&ListenerWork<'_>]) -> Option<Arc<ByName<Certificates>>> {
    let mut names = ByName::default();
    for work in listeners {
        let certificates = &work.tls.as_ref()?.certificates;
        names.add(work.listener.hostname.as_ref(), || certificates.clone());
    }
    Some(Arc::new(names))
}

/// Gives services and backends their ids and fills the slots.
fn services_of<'m>(
    places: &BTreeMap<BindingKey, Vec<ListenerId>>,
    services: &Services<'m>,
    room: &Room<'m>,
    previous: &Ids,
    ids: &mut Ids,
) -> (Made<'m>, MapImage) {
    let rule = |route: &RouteKey<'_>| (route.0, route.1.clone(), 0);
    let fitting = || services.by_route.iter().filter(|(route, _)| !room.left_out.contains_key(route));
    let wanted: BTreeSet<_> = fitting().map(|(route, _)| rule(route)).collect();
    // What a restarted agent found in the kernel has no names: there a service is known by the bindings it serves.
    let mut found: BTreeMap<(Transport, ObjectName, usize), u32> = BTreeMap::new();
    for (key, listeners) in places {
        let route = listeners.first().and_then(|id| services.by_listener.get(id));
        if let (Some(route), Some(id)) = (route, previous.bound.get(key)) {
            found.entry(rule(route)).or_insert(*id);
        }
    }
    ids.services = assign(
        &wanted,
        &previous.services,
        |key| found.get(key).copied(),
        previous.bound.values().copied(),
        0..MAX_SERVICES,
        &mut ids.next[1],
    );
    ids.backends = assign(
        &room.backends,
        &previous.backends,
        |_| None,
        std::iter::empty(),
        1..MAX_BACKENDS,
        &mut ids.next[2],
    );
    let by_id = ids.backends.iter().map(|(key, id)| (*id, *key)).collect();
    let mut image = MapImage { backends: by_id, ..MapImage::default() };
    let mut made = Made::new();
    for (route, service) in fitting() {
        let Some(&id) = ids.services.get(&rule(route)) else { continue };
        let (own, backends) = service.image(&ids.backends, room.smallest);
        let l4 = L4Service {
            transport: route.0,
            id,
            route: route.1.to_string().into(),
            listener: "".into(),
            slots: own.slots.clone(),
            affinity: own.affinity,
            idle: service.idle,
            backends,
        };
        image.services.insert(id, own);
        made.insert(*route, l4);
    }
    (made, image)
}
