//! Listeners: which are valid, distinct, and where they can be served.
//!
//! Owns supported protocols and kinds, conflicts inside a Gateway and between Gateways on one address, and ports that
//! the host's own processes have. Must not know any route.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gateway_ebpf::abi::{Address, BindingKey};
use rustc_hash::FxHashMap;

use super::condition::{Problem, problem};
use super::gateways::{GatewayWork, ListenerId, ListenerWork, Place, owns, refusals};
use crate::core::host::{Host, Listening};
use crate::core::model::{GATEWAY_GROUP, Gateway, Listener, Protocol};
use crate::core::snapshot::Ids;
use crate::core::transport::Transport;

/// Kind of a route.
pub(crate) const HTTP_ROUTE: &str = "HTTPRoute";

fn supported(protocol: &Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Http | Protocol::Https => &[HTTP_ROUTE],
        Protocol::Tcp => const { &[Transport::Tcp.route()] },
        Protocol::Udp => const { &[Transport::Udp.route()] },
        Protocol::Tls | Protocol::Other(_) => &[],
    }
}

/// What a listener's protocol is carried by.
pub(crate) fn transport(listener: &Listener) -> Transport {
    if listener.protocol == Protocol::Udp { Transport::Udp } else { Transport::Tcp }
}

fn name_of(protocol: &Protocol) -> &str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Https => "HTTPS",
        Protocol::Tls => "TLS",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Other(name) => name,
    }
}

/// What can be said of a listener by itself.
pub(super) fn begin<'m>(gateway: &Gateway, listener: &'m Listener) -> ListenerWork<'m> {
    let all = supported(&listener.protocol);
    let asked = &listener.allowed.kinds;
    let wanted = |kind: &&str| asked.iter().any(|a| a.group == GATEWAY_GROUP && a.kind == **kind);
    let (kinds, bad): (&'static [&'static str], Vec<String>) = if asked.is_empty() {
        (all, Vec::new())
    } else {
        // One kind a protocol, so that the supported kinds are all of them or none.
        let bad = asked.iter().filter(|a| a.group != GATEWAY_GROUP || !all.contains(&a.kind.as_str()));
        (
            if all.iter().any(wanted) { all } else { &[] },
            bad.map(|a| format!("{}/{}", a.group, a.kind)).collect(),
        )
    };
    let protocol = name_of(&listener.protocol);
    let bad_kinds = (!bad.is_empty()).then(|| {
        let message = format!(
            "allowedRoutes.kinds: {} cannot attach to a listener of protocol {protocol} here (supported: {})",
            bad.join(", "),
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        );
        problem("InvalidRouteKinds", message)
    });
    let refused = if all.is_empty() {
        let message = format!("protocol {protocol} is not supported (use HTTP, HTTPS, TCP or UDP)");
        Some(problem("UnsupportedProtocol", message))
    } else if !listener.refusals.is_empty() {
        Some(problem("UnsupportedValue", refusals(&listener.refusals)))
    } else if kinds.is_empty() {
        bad_kinds.as_ref().map(|bad| problem("UnsupportedValue", bad.message.clone()))
    } else {
        None
    };
    let label = format!("{}/{}", gateway.meta.name, listener.name).into();
    let keys = Vec::new();
    ListenerWork { listener, label, kinds, bad_kinds, refused, tls: None, conflict: None, keys, attached: 0 }
}

/// Decides on conflicts and ports, and where each listener is served. The Gateways come oldest first.
pub(super) fn decide(gateways: &mut [GatewayWork<'_>], host: &Host, previous: &Ids, notes: &mut Vec<String>) {
    let mut claims: BTreeMap<BindingKey, Claims<'_>> = BTreeMap::new();
    for at in 0..gateways.len() {
        inside(&mut gateways[at]);
        if gateways[at].refused.is_some() {
            continue;
        }
        ports(&mut gateways[at], host, previous, notes);
        between(gateways, at, &claims);
        let gateway = &mut gateways[at];
        let addresses = gateway.place.addresses();
        for (position, work) in gateway.listeners.iter_mut().enumerate() {
            if work.refused.is_some() || work.conflict.is_some() {
                continue;
            }
            for &address in &addresses {
                let key = key(work.listener, address);
                claims.entry(key).or_default().add(work.listener, (at, position));
                if !work.lacks_certificate() {
                    work.keys.push(key);
                }
            }
        }
    }
}

fn key(listener: &Listener, address: Address) -> BindingKey {
    BindingKey { address, port: listener.port, protocol: transport(listener).number(), pad: 0 }
}

/// Why two listeners on one port cannot be told apart: the reason of the condition.
fn indistinct(a: &Listener, b: &Listener) -> Option<&'static str> {
    match (&a.protocol, &b.protocol) {
        (Protocol::Udp, Protocol::Udp) => Some("ProtocolConflict"),
        (Protocol::Udp, _) | (_, Protocol::Udp) => None,
        (Protocol::Tcp, _) | (_, Protocol::Tcp) => Some("ProtocolConflict"),
        (Protocol::Http, Protocol::Https | Protocol::Tls)
        | (Protocol::Https | Protocol::Tls, Protocol::Http) => Some("ProtocolConflict"),
        (a_protocol, b_protocol) => {
            (a_protocol == b_protocol && a.hostname == b.hostname).then_some("HostnameConflict")
        }
    }
}

/// Conflicts inside a Gateway: none of those involved wins.
fn inside(gateway: &mut GatewayWork<'_>) {
    let mut by_port: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (at, work) in gateway.listeners.iter().enumerate() {
        by_port.entry(work.listener.port).or_default().push(at);
    }
    for (port, group) in by_port.iter().filter(|(_, group)| group.len() > 1) {
        for &at in group {
            let this = gateway.listeners[at].listener;
            let others = group.iter().filter(|&&other| other != at);
            let found = others.map(|&other| gateway.listeners[other].listener).find_map(|other| {
                let reason = indistinct(this, other)?;
                let message = if reason == "HostnameConflict" {
                    let host = this.hostname.as_deref().unwrap_or("(none)");
                    format!(
                        "port {port}, hostname {host}: the same as listener \"{}\" (change one of the two)",
                        other.name
                    )
                } else {
                    format!(
                        "port {port}: {} and listener \"{}\" with {} cannot share a port (change one of the two)",
                        name_of(&this.protocol),
                        other.name,
                        name_of(&other.protocol)
                    )
                };
                Some(problem(reason, message))
            });
            gateway.listeners[at].conflict = found;
        }
    }
}

/// Ports that processes of the host have. Who was there first keeps a port: what the Gateway was bound to before stays
/// its own, and the process that came later is noted, since it gets no connections.
fn ports(gateway: &mut GatewayWork<'_>, host: &Host, previous: &Ids, notes: &mut Vec<String>) {
    let addresses = gateway.place.addresses();
    for work in &mut gateway.listeners {
        if work.refused.is_some() || work.conflict.is_some() {
            continue;
        }
        let port = work.listener.port;
        let Some(other) = taken(host, &gateway.place, work.listener) else { continue };
        let process = if other.process.is_empty() { "another process" } else { &other.process };
        let ours = |&address: &Address| previous.bindings.contains_key(&key(work.listener, address));
        if addresses.iter().all(ours) {
            notes.push(format!(
                "Gateway {}: listener \"{}\": {process} came later to listen on {} and gets nothing there (stop it)",
                gateway.gateway.meta.name, work.listener.name, other.at
            ));
            continue;
        }
        work.refused = Some(problem(
            "PortUnavailable",
            format!(
                "port {port}: {process} listens on {} (stop it, or use another port or address)",
                other.at
            ),
        ));
    }
}

/// The process that has a port where the Gateway would listen. On an address that the host does not own, the agent's
/// own binding is the only way in, so that nothing is taken from anybody.
fn taken<'h>(host: &'h Host, place: &Place, listener: &Listener) -> Option<&'h Listening> {
    let (port, transport) = (listener.port, transport(listener));
    host.listening.iter().filter(|l| l.at.port() == port && l.transport == transport).find(|l| {
        let at = l.at.ip().to_canonical();
        match place {
            Place::Any => at.is_unspecified() || owns(host, at),
            Place::At(list) | Place::On(list) => list.iter().any(|&ip| {
                owns(host, ip) && (at == ip || at.is_unspecified() && at.is_ipv4() == ip.is_ipv4())
            }),
        }
    })
}

/// The accepted listeners of one address, port and transport: HTTP or HTTPS ones by hostname, or a single TCP or UDP one.
#[derive(Default)]
struct Claims<'m> {
    any: Option<(ListenerId, &'m Protocol)>,
    alone: Option<ListenerId>,
    by_hostname: FxHashMap<Option<&'m str>, ListenerId>,
}

impl<'m> Claims<'m> {
    fn add(&mut self, listener: &'m Listener, id: ListenerId) {
        self.any.get_or_insert((id, &listener.protocol));
        if is_alone(listener) {
            self.alone.get_or_insert(id);
        }
        self.by_hostname.entry(listener.hostname.as_deref()).or_insert(id);
    }

    /// The listener with which another one cannot be told apart.
    fn indistinct(&self, listener: &Listener) -> Option<ListenerId> {
        let (any, protocol) = self.any?;
        if is_alone(listener) || *protocol != listener.protocol {
            return Some(any);
        }
        self.alone.or_else(|| self.by_hostname.get(&listener.hostname.as_deref()).copied())
    }
}

/// Whether it shares its port with no other listener of its transport.
fn is_alone(listener: &Listener) -> bool {
    matches!(listener.protocol, Protocol::Tcp | Protocol::Udp)
}

/// Conflicts with older Gateways on the same address: all listeners of the younger one on that port and
/// transport are in conflict, since Gateways may only be merged where all listeners are compatible.
fn between(gateways: &mut [GatewayWork<'_>], at: usize, claims: &BTreeMap<BindingKey, Claims<'_>>) {
    let mut lost: BTreeMap<(Transport, u16), Problem> = BTreeMap::new();
    let gateway = &gateways[at];
    let addresses = gateway.place.addresses();
    for work in gateway.listeners.iter().filter(|w| w.refused.is_none() && w.conflict.is_none()) {
        let port = work.listener.port;
        let older =
            addresses.iter().find_map(|&a| claims.get(&key(work.listener, a))?.indistinct(work.listener));
        let Some((g, l)) = older else { continue };
        let other = gateways[g].listeners[l].listener;
        let reason = indistinct(work.listener, other).unwrap_or("ProtocolConflict");
        let message = format!(
            "port {port}: the older Gateway {} has it with listener \"{}\" on the same address (use another port, hostname or address)",
            gateways[g].name(),
            other.name
        );
        lost.entry((transport(work.listener), port)).or_insert_with(|| problem(reason, message));
    }
    for work in &mut gateways[at].listeners {
        if work.refused.is_none() && work.conflict.is_none() {
            work.conflict = lost.get(&(transport(work.listener), work.listener.port)).cloned();
        }
    }
}

/// What a Gateway on every local address reports as its addresses: those of the host where no other Gateway has the
/// exact address and a port of it, those that others reach first.
pub(super) fn local_addresses(gateways: &[GatewayWork<'_>], at: usize, host: &Host) -> Vec<IpAddr> {
    let ports = |g: &GatewayWork<'_>| -> Vec<(u16, u8)> {
        g.listeners.iter().flat_map(|l| &l.keys).map(|k| (k.port, k.protocol)).collect()
    };
    let mine = ports(&gateways[at]);
    let mut list: Vec<IpAddr> = host.addresses().into_iter().collect();
    for other in gateways {
        if let Place::At(exact) | Place::On(exact) = &other.place
            && ports(other).iter().any(|port| mine.contains(port))
        {
            list.retain(|ip| !exact.contains(ip));
        }
    }
    let near = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    list.sort_by_key(|ip| (ip.is_loopback(), near(ip), *ip));
    list
}
