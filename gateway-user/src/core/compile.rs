//! From the model to the snapshot: what the objects mean, together.
//!
//! Owns the order of compilation. Must not know where a model comes from nor how a snapshot is applied.

mod addresses;
mod attach;
mod backends;
mod bind;
mod certificates;
mod condition;
mod external;
mod gateways;
mod grants;
mod http;
mod ids;
mod kept;
mod l4;
mod listeners;
mod parameters;
mod report;
mod room;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub(super) use self::attach::{RouteView, attached_to};
pub(super) use self::backends::label;
pub(super) use self::gateways::age;
pub use self::kept::Kept;
pub(super) use self::listeners::{HTTP_ROUTE, transport};

use self::backends::Resolver;
use self::external::Guard;
use self::gateways::Place;
use self::l4::Services;
use super::host::Host;
use super::model::Model;
use super::snapshot::{Ids, Snapshot};
use super::status::Report;

/// Compiles the configuration. Pure and total: the same input gives the same snapshot, and no model makes it panic.
/// What is wrong with an object goes into its conditions; the rest serves.
#[must_use]
pub fn compile(model: &Model, host: &Host, previous: &Ids, generation: u64) -> Snapshot {
    compile_after(&Kept::default(), model, host, previous, generation).0
}

/// The same snapshot, made of what the compilation before has left as far as that stays; and what this one leaves.
#[must_use]
pub fn compile_after(
    before: &Kept,
    model: &Model,
    host: &Host,
    previous: &Ids,
    generation: u64,
) -> (Snapshot, Kept) {
    let mut report = Report::default();
    let mut gateways = gateways::resolve(model, host, previous);
    let mut resolver = Resolver::new(model, Guard::new(host, &gateways));
    let mut services = Services::default();
    let (http, routes) = routes::http(model, &mut gateways, &mut resolver, before, &mut report);
    routes::l4(model, &mut gateways, &mut resolver, &mut services, &mut report);
    routes::unbuilt(model, &gateways, &mut report);
    report.external = resolver.external;
    report::report(model, &gateways, host, &mut report);
    let mut lacking = BTreeSet::new();
    for gateway in &gateways.list {
        if let Place::At(list) = &gateway.place
            && gateway.listeners.iter().any(|l| !l.keys.is_empty())
        {
            lacking.extend(list.iter().copied().filter(|ip| !gateways::owns(host, *ip)));
        }
    }
    let http::Finished { tables, series, patterns } = http;
    let mut bound = bind::bind(&gateways, &tables, series, &services, previous);
    addresses::kept(&gateways.list, &mut bound.ids);
    report::unbound(&gateways, &bound.left_out, &mut report);
    let snapshot = Snapshot {
        generation,
        image: bound.image,
        bindings: bound.bindings,
        listed: bound.listed,
        addresses: lacking,
        series: bound.series,
        ids: bound.ids,
        report: report.into(),
    };
    (snapshot, Kept::new(model, &gateways, routes, tables, patterns))
}
