//! What to do where nothing is served.
//!
//! Owns these words. Where a condition of an object has said it already, that is repeated.

use std::net::IpAddr;

use super::outside::{negative, unserved_listeners};
use super::{Http, L4, Lost, Scene, Why, listener, object};
use crate::core::compile::HTTP_ROUTE;
use crate::core::model::ObjectName;
use crate::core::route::Unserved;
use crate::core::snapshot::{BoundListeners, BoundService};
use crate::core::transport::Transport;

/// Why nothing is served, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status that a client gets; `None`: its connection is reset, or somebody else's.
    pub status: Option<u16>,
    /// Why.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// No binding is there.
#[must_use]
pub fn no_binding(scene: &Scene<'_>, transport: Transport, to: Option<IpAddr>, port: u16) -> Outcome {
    let at = to.map_or_else(|| format!("port {port}"), |to| std::net::SocketAddr::new(to, port).to_string());
    let (at, what) = match transport {
        Transport::Tcp => (at, "a connection goes"),
        Transport::Udp => (format!("{at} (UDP)"), "datagrams go"),
    };
    let message = format!("nothing of ours listens on {at}: {what} to the host's own sockets");
    let unserved: Vec<String> = unserved_listeners(scene, transport, port)
        .into_iter()
        .map(|(label, why)| format!("listener {label}: {why}"))
        .collect();
    let mut served: Vec<String> = scene
        .snapshot
        .image
        .bindings
        .keys()
        .filter(|key| key.protocol == transport.number())
        .map(|key| {
            let any = key.address == gateway_ebpf::abi::ANY;
            let ip = IpAddr::from(key.address).to_canonical();
            if any { format!("*:{}", key.port) } else { std::net::SocketAddr::new(ip, key.port).to_string() }
        })
        .collect();
    served.sort();
    let remedy = if !unserved.is_empty() {
        unserved.join("; ")
    } else if scene.snapshot.image.bindings.is_empty() {
        "no listener is served at all; see `sluice status`".to_owned()
    } else if served.is_empty() {
        format!("no listener is served by {}; add one", transport.name())
    } else {
        format!("add a listener, or use one of: {}", served.join(", "))
    };
    Outcome { status: None, message, remedy }
}

/// Why a request does not get to the listeners of an HTTP binding: it comes in clear where TLS is spoken, or the other way
/// round, or nobody has the name that the client asks for in its ClientHello (`tls`; empty: it names none). `None`: it
/// gets there.
#[must_use]
pub fn security(scene: &Scene<'_>, bound: &BoundListeners, tls: Option<&str>) -> Option<Outcome> {
    if !matches!(bound.service, BoundService::Http(_)) {
        return None;
    }
    let labels = bound.label.replace(',', ", ");
    let (message, remedy) = match (tls, &bound.tls) {
        (None, None) => return None,
        (Some(_), None) => (
            format!("{labels} speaks HTTP in clear, and takes a ClientHello for a request that is none"),
            "ask for http://, or give the listener the protocol HTTPS and a certificate".to_owned(),
        ),
        (None, Some(_)) => (
            format!("{labels} speaks TLS, and a request in clear is no ClientHello: the connection ends"),
            "ask for https://".to_owned(),
        ),
        (Some(name), Some(names)) if names.find(name).is_none() => {
            let asked = if name.is_empty() { "no name".to_owned() } else { format!("{name:?}") };
            let hostnames: Vec<String> = bound.label.split(',').map(|label| hostname(scene, label)).collect();
            (
                format!(
                    "the ClientHello has {asked}, which fits no listener here: it is refused (unrecognized_name)"
                ),
                format!("use a name that fits ({}), or add a listener for it", hostnames.join(", ")),
            )
        }
        (Some(_), Some(_)) => return None,
    };
    Some(Outcome { status: None, message, remedy })
}

impl Http {
    /// Why no endpoint gets the request; `None` if one does. `labels` are the binding's listeners, joined by commas.
    #[must_use]
    pub fn outcome(&self, scene: &Scene<'_>, labels: &str, host: &str) -> Option<Outcome> {
        let unserved = self.unserved?;
        let (message, remedy) = match (unserved, &self.served) {
            (Unserved::NoRoute, _) | (_, None) => self.no_route(scene, labels, host),
            (Unserved::NotBuilt, Some(served)) => (
                unserved.words().to_owned(),
                negative(scene.report, HTTP_ROUTE, &object(&served.rule.route))
                    .unwrap_or_else(|| "see `sluice status`".to_owned()),
            ),
            (Unserved::NoBackend, Some(served)) => (
                unserved.words().to_owned(),
                format!(
                    "add a backendRef with a weight above 0 to rule {} of HTTPRoute {}",
                    served.rule.rule, served.rule.route
                ),
            ),
            (Unserved::Invalid | Unserved::Unavailable, Some(served)) => {
                let pickable = served.rule.backends.iter().filter(|backend| backend.weight > 0);
                let said = negative(scene.report, HTTP_ROUTE, &object(&served.rule.route));
                let mut remedies: Vec<String> = pickable
                    .map(|backend| match backend.target.endpoints() {
                        Err(Unserved::Unavailable) => no_endpoints(scene, &backend.name),
                        _ => said.clone().unwrap_or_else(|| "see `sluice status`".to_owned()),
                    })
                    .collect();
                remedies.dedup();
                (unserved.words().to_owned(), remedies.join("; "))
            }
        };
        Some(Outcome { status: Some(unserved.status()), message, remedy })
    }

    fn no_route(&self, scene: &Scene<'_>, labels: &str, host: &str) -> (String, String) {
        let Some(label) = &self.listener else {
            let hostnames: Vec<String> = labels.split(',').map(|label| hostname(scene, label)).collect();
            return (
                format!("{host:?} fits no listener here"),
                format!("use a host that fits ({}), or add a listener for it", hostnames.join(", ")),
            );
        };
        let refused = self.lost.iter().find(|l| matches!(l.why, Why::NotServed | Why::NotAttached));
        let attached = self.lost.iter().any(|l| l.listener.as_ref() == Some(label));
        let message = format!("no rule on listener {label} fits the request");
        let remedy = match refused {
            Some(Lost { kind, route, message, .. }) => format!("{kind} {route}: {message}"),
            None if attached => "add a match for it; below is said why the others do not fit".to_owned(),
            None => {
                let (gateway, name) = listener(label);
                format!(
                    "no HTTPRoute is attached: add one with a parentRef to Gateway {gateway}, sectionName {name}"
                )
            }
        };
        (message, remedy)
    }
}

impl L4 {
    /// Why the connection is reset or the datagrams are dropped; `None` if they are not.
    #[must_use]
    pub fn outcome(&self, scene: &Scene<'_>, label: &str) -> Option<Outcome> {
        if !self.order.is_empty() {
            return None;
        }
        let kind = self.transport.route();
        let lost = match self.transport {
            Transport::Tcp => "the connection is reset",
            Transport::Udp => "the datagrams are dropped",
        };
        let Some(route) = &self.route else {
            let refused = self.lost.iter().find(|l| matches!(l.why, Why::NotServed | Why::NotAttached));
            let (gateway, name) = listener(label);
            let remedy = refused.map_or_else(
                || format!("add a {kind} with a parentRef to Gateway {gateway}, sectionName {name}"),
                |Lost { kind, route, message, .. }| format!("{kind} {route}: {message}"),
            );
            let message = format!("no {kind} serves listener {label}: {lost}");
            return Some(Outcome { status: None, message, remedy });
        };
        let message = if self.slots > self.refused {
            format!(
                "{lost}: {} of the {} slots of {kind} {route} belong to backends that lead nowhere",
                self.refused, self.slots
            )
        } else {
            format!("{lost}: {kind} {route} has nothing to connect to")
        };
        let mut remedies: Vec<String> = negative(scene.report, kind, &object(route)).into_iter().collect();
        if remedies.is_empty() {
            let empty = self.shares.iter().filter(|s| s.weight > 0 && s.endpoints.is_empty());
            remedies.extend(empty.map(|shares| no_endpoints(scene, &shares.name)));
        }
        if remedies.is_empty() {
            remedies.push("give a backendRef a weight above 0".to_owned());
        }
        Some(Outcome { status: None, message, remedy: remedies.join("; ") })
    }
}

fn hostname(scene: &Scene<'_>, label: &str) -> String {
    let (gateway, name) = listener(label);
    let gateway = scene.model.gateways.get(&gateway);
    let found = gateway.and_then(|gateway| gateway.listeners.iter().find(|l| *l.name == *name));
    found.and_then(|l| l.hostname.as_deref()).unwrap_or("*").to_owned()
}

/// What to look at if a Service has no endpoint that is ready. `label` is `NAMESPACE/SERVICE:PORT`.
fn no_endpoints(scene: &Scene<'_>, label: &str) -> String {
    let name = object(label.rsplit_once(':').map_or(label, |(name, _)| name));
    let ObjectName { namespace, name: service } = &name;
    if let Some(external) = scene.model.services.get(&name).and_then(|service| service.external_name.as_ref())
    {
        return format!(
            "Service {name} is of type ExternalName, and {external} resolves to no address that may be used: see \
             `sluice status`, and try `getent ahosts {external}`"
        );
    }
    let slices = scene.model.slices.values();
    let slices: Vec<_> =
        slices.filter(|s| s.meta.name.namespace == *namespace && s.service == *service).collect();
    if slices.is_empty() {
        return format!(
            "Service {name} has no EndpointSlice: add one in namespace {namespace} with the label \
             kubernetes.io/service-name: {service}, or use --endpoint {label}=ADDRESS:PORT"
        );
    }
    let names: Vec<&str> = slices.iter().map(|slice| &*slice.meta.name.name).collect();
    let endpoints: usize = slices.iter().map(|slice| slice.endpoints.len()).sum();
    let ready = slices.iter().flat_map(|slice| &slice.endpoints).filter(|e| e.ready).count();
    let names = names.join(", ");
    if ready > 0 {
        return format!(
            "Service {name}: {ready} endpoints of EndpointSlice {names} are ready, but none has the Service's port: \
             compare the names of the ports"
        );
    }
    format!("Service {name} has no endpoint that is ready: look at the {endpoints} of EndpointSlice {names}")
}
