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
pub(super) use self::listeners::{HTTP_ROUTE, transport};

use self::backends::Resolver;
use self::external::Guard;
use self::gateways::Place;
use self::http::Tables;
use self::l4::Services;
use super::host::Host;
use super::model::Model;
use super::snapshot::{Ids, Snapshot};
use super::status::Report;

/// Compiles the configuration. Pure and total: the same input gives the same snapshot, and no model makes it panic.
/// What is wrong with an object goes into its conditions; the rest serves.
#[must_use]
pub fn compile(model: &Model, host: &Host, previous: &Ids, generation: u64) -> Snapshot {
    let mut report = Report::default();
    let mut gateways = gateways::resolve(model, host, previous);
    let mut resolver = Resolver::new(model, Guard::new(host, &gateways));
    let mut tables = Tables::new(&gateways, &previous.patterns);
    let mut services = Services::default();
    routes::http(model, &mut gateways, &mut resolver, &mut tables, &mut report);
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
    let mut bound = bind::bind(&gateways, tables, &services, previous);
    addresses::kept(&gateways.list, &mut bound.ids);
    report::unbound(&gateways, &bound.left_out, &mut report);
    Snapshot {
        generation,
        image: bound.image,
        bindings: bound.bindings,
        listed: bound.listed,
        addresses: lacking,
        series: bound.series,
        ids: bound.ids,
        report: report.into(),
    }
}
