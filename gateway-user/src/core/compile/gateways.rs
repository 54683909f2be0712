//! Gateways: which are ours, where they listen, what may attach to their listeners.
//!
//! Owns class filter and addresses; `listeners` decides on the listeners. Must not know any route.

use std::net::IpAddr;
use std::sync::Arc;

use gateway_ebpf::abi::{ANY, Address, BindingKey, wire};
use rustc_hash::FxHashMap;

use super::certificates::{self, Tls};
use super::condition::{Problem, problem};
use super::listeners;
use crate::core::host::Host;
use crate::core::model::{CONTROLLER, Gateway, GatewayAddress, Listener, Meta, Model, Refusal};
use crate::core::snapshot::Ids;

/// The position of a listener: Gateway, listener.
pub(super) type ListenerId = (usize, usize);

/// Our Gateways, the oldest first.
pub(super) struct Gateways<'m> {
    pub(super) list: Vec<GatewayWork<'m>>,
    /// By namespace and name.
    pub(super) by_name: FxHashMap<(&'m str, &'m str), usize>,
    /// On Gateways that are not ours, and on processes that come too late.
    pub(super) notes: Vec<String>,
}

/// A Gateway that is ours.
pub(super) struct GatewayWork<'m> {
    pub(super) gateway: &'m Gateway,
    /// Why it is not accepted.
    pub(super) refused: Option<Problem>,
    pub(super) place: Place,
    /// Why not all of its addresses can be used.
    pub(super) unplaced: Option<Problem>,
    pub(super) listeners: Vec<ListenerWork<'m>>,
}

/// Where a Gateway listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On every local address, but for those where another Gateway asks for this very address and the same port: the
    /// kernel looks for the exact address first.
    Any,
    /// On these addresses alone.
    At(Vec<IpAddr>),
}

/// A listener.
pub(super) struct ListenerWork<'m> {
    pub(super) listener: &'m Listener,
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub(super) label: Arc<str>,
    /// supportedKinds: the kinds of routes that may attach.
    pub(super) kinds: &'static [&'static str],
    /// What else allowedRoutes.kinds asks for.
    pub(super) bad_kinds: Option<Problem>,
    /// Why it is not accepted.
    pub(super) refused: Option<Problem>,
    /// Its certificates; `None`: it has no TLS.
    pub(super) tls: Option<Tls>,
    /// With what it is in conflict.
    pub(super) conflict: Option<Problem>,
    /// Where it is served.
    pub(super) keys: Vec<BindingKey>,
    /// attachedRoutes.
    pub(super) attached: u32,
}

impl ListenerWork<'_> {
    /// Whether it would be served, if only it had a certificate.
    pub(super) fn lacks_certificate(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.certificates.is_empty())
    }
}

impl GatewayWork<'_> {
    /// `NAMESPACE/NAME`.
    pub(super) fn name(&self) -> String {
        self.gateway.meta.name.to_string()
    }
}

/// Sorts the older to the front; what has no creationTimestamp comes last, then namespace and name decide.
pub(crate) fn age(meta: &Meta) -> impl Ord + '_ {
    (meta.created.is_none(), meta.created, &meta.name)
}

/// Finds our Gateways and decides on their listeners.
pub(super) fn resolve<'m>(model: &'m Model, host: &Host, previous: &Ids) -> Gateways<'m> {
    let mut notes = Vec::new();
    let mut list: Vec<GatewayWork<'m>> = Vec::new();
    for gateway in model.gateways.values() {
        match class_of(model, gateway) {
            Class::Foreign(note) => notes.push(note),
            Class::Ours => list.push(begin(gateway, None)),
            Class::Refused(why) => list.push(begin(gateway, Some(why))),
        }
    }
    list.sort_by(|a, b| age(&a.gateway.meta).cmp(&age(&b.gateway.meta)));
    certificates::resolve(model, &mut list);
    listeners::decide(&mut list, host, previous, &mut notes);
    certificates::overlaps(&mut list);
    let name = |g: &GatewayWork<'m>| (&*g.gateway.meta.name.namespace, &*g.gateway.meta.name.name);
    let by_name = list.iter().enumerate().map(|(at, gateway)| (name(gateway), at)).collect();
    Gateways { list, by_name, notes }
}

enum Class {
    Ours,
    Refused(Problem),
    Foreign(String),
}

fn class_of(model: &Model, gateway: &Gateway) -> Class {
    if model.classes.is_empty() {
        return Class::Ours;
    }
    let (name, class) = (&gateway.meta.name, &gateway.class);
    match model.classes.get(class.as_str()) {
        None => Class::Foreign(format!(
            "Gateway {name}: spec.gatewayClassName: there is no GatewayClass \"{class}\"; it is left alone (add the class, or correct the name)"
        )),
        Some(c) if c.controller != CONTROLLER => Class::Foreign(format!(
            "Gateway {name}: GatewayClass \"{class}\" belongs to the controller \"{}\"; it is left alone",
            c.controller
        )),
        Some(c) if !c.refusals.is_empty() => Class::Refused(problem(
            "InvalidParameters",
            format!("GatewayClass \"{class}\": {}", refusals(&c.refusals)),
        )),
        Some(_) => Class::Ours,
    }
}

/// Refusals as one message.
pub(super) fn refusals(list: &[Refusal]) -> String {
    let lines: Vec<String> = list.iter().map(|r| format!("{}: {}", r.field, r.message)).collect();
    super::condition::join(&lines)
}

pub(super) fn begin<'m>(gateway: &'m Gateway, mut refused: Option<Problem>) -> GatewayWork<'m> {
    let mut addresses = Vec::new();
    let mut unplaced: Option<Problem> = None;
    for (at, address) in gateway.addresses.iter().enumerate() {
        match address {
            GatewayAddress::Ip(ip) => match unusable(*ip) {
                None => addresses.push(ip.to_canonical()),
                Some(why) => {
                    let message = format!("spec.addresses[{at}]: {ip} is {why} (use an address of one host)");
                    unplaced.get_or_insert_with(|| problem("AddressNotUsable", message));
                }
            },
            GatewayAddress::FromPool => {
                let message = format!(
                    "spec.addresses[{at}]: no value, and there is no pool of addresses to take one from (write the value, or leave spec.addresses out to listen on every local address)"
                );
                unplaced.get_or_insert_with(|| problem("AddressNotAssigned", message));
            }
            GatewayAddress::Unsupported(what) => {
                let message =
                    format!("spec.addresses[{at}]: {what} is not supported (use the type IPAddress)");
                refused.get_or_insert_with(|| problem("UnsupportedAddress", message));
            }
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    if !gateway.refusals.is_empty() {
        let parameters = gateway.refusals.iter().any(|r| r.field.contains("parametersRef"));
        let reason = if parameters { "InvalidParameters" } else { "Invalid" };
        refused.get_or_insert_with(|| problem(reason, refusals(&gateway.refusals)));
    }
    let place = if gateway.addresses.is_empty() { Place::Any } else { Place::At(addresses) };
    let listeners = gateway.listeners.iter().map(|l| listeners::begin(gateway, l)).collect();
    GatewayWork { gateway, refused, place, unplaced, listeners }
}

fn unusable(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        ip if ip.is_unspecified() => Some("no address to listen on"),
        ip if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ => None,
    }
}

/// Whether the host has an address by itself.
pub(super) fn owns(host: &Host, ip: IpAddr) -> bool {
    ip.is_loopback() || host.addresses.contains(&ip)
}

impl Place {
    /// The addresses as the maps hold them.
    pub(super) fn addresses(&self) -> Vec<Address> {
        match self {
            Self::Any => vec![ANY],
            Self::At(list) => list.iter().copied().map(wire).collect(),
        }
    }
}
