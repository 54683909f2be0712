//! Room: which TCPRoutes and UDPRoutes fit into the kernel's maps, and how large their tables may be.
//!
//! Owns the order in which room is given, the oldest route first, so that a route too many takes nothing from those
//! before it. Must not know what a table holds.

use std::collections::{BTreeMap, BTreeSet};

use gateway_ebpf::abi::MAX_SIZE_CLASS;
use gateway_ebpf::names::{MAX_BACKENDS, MAX_SERVICES, MAX_SLOTS};

use super::l4::{RouteKey, Service, Services};
use crate::core::maglev;
use crate::core::snapshot::BackendKey;

/// What the maps have room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub(super) services: usize,
    pub(super) slots: usize,
    pub(super) backends: usize,
}

/// Of SLOTS, room for the largest table is kept free: a table is written anew beside the one in use. Backend 0 is
/// no backend.
pub(super) const MAPS: Capacity = Capacity {
    services: MAX_SERVICES as usize,
    slots: MAX_SLOTS as usize - (1 << MAX_SIZE_CLASS),
    backends: MAX_BACKENDS as usize - 1,
};

/// The routes that fit.
pub(super) struct Room<'m> {
    /// Their backends.
    pub(super) backends: BTreeSet<BackendKey>,
    /// How large the smallest table of several backends is.
    pub(super) smallest: usize,
    /// Those that do not fit, and why.
    pub(super) left_out: BTreeMap<RouteKey<'m>, String>,
}

/// Gives room, the oldest route first. While all tables at their usual size take no more than half of the slots, they
/// have it; else all are made smaller, with coarser shares, rather than a route be left out.
pub(super) fn share_out<'m>(services: &Services<'m>, capacity: Capacity) -> Room<'m> {
    let mut routes: Vec<(RouteKey<'m>, &Service)> =
        services.by_route.iter().map(|(key, service)| (*key, service)).collect();
    routes.sort_by_key(|(_, service)| service.order);
    let all = |smallest| routes.iter().map(|(_, s)| s.size(smallest)).sum::<usize>();
    let sizes = maglev::SMALLEST;
    let smallest =
        sizes.into_iter().find(|size| all(*size) <= capacity.slots / 2).unwrap_or(sizes[sizes.len() - 1]);
    let mut room = Room { backends: BTreeSet::new(), smallest, left_out: BTreeMap::new() };
    let (mut served, mut slots) = (0, 0);
    for (route, service) in routes {
        let size = service.size(smallest);
        let new = service.backends().filter(|key| !room.backends.contains(*key)).count();
        let full = if served == capacity.services {
            format!("SERVICES has room for {} TCPRoutes and UDPRoutes", capacity.services)
        } else if slots + size > capacity.slots {
            format!("SLOTS has room for {} more slots, and it takes {size}", capacity.slots - slots)
        } else if room.backends.len() + new > capacity.backends {
            let left = capacity.backends - room.backends.len();
            format!("BACKENDS has room for {left} more endpoints, and it brings {new}")
        } else {
            (served, slots) = (served + 1, slots + size);
            room.backends.extend(service.backends().copied());
            continue;
        };
        let message = format!(
            "{} {} does not fit into the kernel's maps beside the older ones: {full} (use fewer routes or endpoints)",
            route.0.route(),
            route.1
        );
        room.left_out.insert(route, message);
    }
    room
}
