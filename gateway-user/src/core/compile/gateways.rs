//! Gateways: which are ours, where they listen, what may attach to their listeners.
//!
//! Owns the class filter; `addresses` decides where they listen, `listeners` on the listeners. Must not know any route.

use std::net::IpAddr;
use std::sync::Arc;

use gateway_ebpf::abi::{ANY, Address, BindingKey, wire};
use rustc_hash::FxHashMap;

use super::certificates::{self, Tls};
use super::condition::{Problem, problem};
use super::parameters::{Effective, of_class, of_gateway};
use super::{addresses, listeners};
use crate::core::host::{Host, Role};
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
    /// What counts for it; nothing if it is not accepted.
    pub(super) parameters: Effective<'m>,
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
    /// On these of the host's own.
    On(Vec<IpAddr>),
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
            Class::Ours(parameters) => {
                list.push(begin(gateway, parameters));
                notes.extend((host.role == Role::Alone).then(|| without_effect(gateway)).flatten());
            }
        }
    }
    list.sort_by(|a, b| age(&a.gateway.meta).cmp(&age(&b.gateway.meta)));
    addresses::assign(&mut list, host, previous);
    certificates::resolve(model, &mut list);
    listeners::decide(&mut list, host, previous, &mut notes);
    certificates::overlaps(&mut list);
    let name = |g: &GatewayWork<'m>| (&*g.gateway.meta.name.namespace, &*g.gateway.meta.name.name);
    let by_name = list.iter().enumerate().map(|(at, gateway)| (name(gateway), at)).collect();
    Gateways { list, by_name, notes }
}

/// What of a Gateway is for things that are made for it in a cluster alone.
fn without_effect(gateway: &Gateway) -> Option<String> {
    let infrastructure = &gateway.infrastructure;
    let written = [("labels", &infrastructure.labels), ("annotations", &infrastructure.annotations)];
    let names = written.iter().filter(|(_, map)| !map.is_empty()).map(|(name, _)| *name);
    let names = names.collect::<Vec<_>>().join(" and ");
    (!names.is_empty()).then(|| {
        format!(
            "Gateway {}: spec.infrastructure: {names} have no effect with files, where nothing is made for a Gateway that could carry them",
            gateway.meta.name
        )
    })
}

enum Class<'m> {
    /// With the parameters that count, or why it is refused.
    Ours(Result<Effective<'m>, Problem>),
    Foreign(String),
}

fn class_of<'m>(model: &'m Model, gateway: &'m Gateway) -> Class<'m> {
    let with = |class| Class::Ours(of_gateway(model, gateway, class));
    if model.classes.is_empty() {
        return with(Effective::default());
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
        Some(c) if !c.refusals.is_empty() => Class::Ours(Err(problem(
            "InvalidParameters",
            format!("GatewayClass \"{class}\": {}", refusals(&c.refusals)),
        ))),
        Some(c) => match of_class(model, c) {
            Ok(parameters) => with(parameters),
            Err(why) => {
                let message = format!("GatewayClass \"{class}\": {}", why.message);
                Class::Ours(Err(problem(why.reason, message)))
            }
        },
    }
}

/// Refusals as one message.
pub(super) fn refusals(list: &[Refusal]) -> String {
    let lines: Vec<String> = list.iter().map(|r| format!("{}: {}", r.field, r.message)).collect();
    super::condition::join(&lines)
}

/// What can be said of a Gateway by itself; where it listens is not decided yet.
pub(super) fn begin<'m>(gateway: &'m Gateway, parameters: Result<Effective<'m>, Problem>) -> GatewayWork<'m> {
    let (parameters, mut refused) = match parameters {
        Ok(parameters) => (parameters, None),
        Err(why) => (Effective::default(), Some(why)),
    };
    for (at, address) in gateway.addresses.iter().enumerate() {
        if let GatewayAddress::Unsupported(what) = address {
            let message = format!("spec.addresses[{at}]: {what} is not supported (use the type IPAddress)");
            refused.get_or_insert_with(|| problem("UnsupportedAddress", message));
        }
    }
    if !gateway.refusals.is_empty() {
        refused.get_or_insert_with(|| problem("Invalid", refusals(&gateway.refusals)));
    }
    let listeners = gateway.listeners.iter().map(|l| listeners::begin(gateway, l)).collect();
    GatewayWork { gateway, parameters, refused, place: Place::Any, unplaced: None, listeners }
}

/// Whether the host has an address by itself.
pub(super) fn owns(host: &Host, ip: IpAddr) -> bool {
    ip.is_loopback() || host.has(ip)
}

impl Place {
    /// The addresses as the maps hold them.
    pub(super) fn addresses(&self) -> Vec<Address> {
        match self {
            Self::Any => vec![ANY],
            Self::At(list) | Self::On(list) => list.iter().copied().map(wire).collect(),
        }
    }
}
