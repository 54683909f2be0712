//! Which interfaces are hooked, and which way forwarding takes to an endpoint, if any.
//!
//! Owns both decisions. Must not ask the kernel: what it said is an argument.
//!
//! An interface is hooked if it is up, has IP packets at its own: no port of a bridge or bond, whose packets arrive at
//! the master, and no loopback; and if `--interface` names it or is not given.
//!
//! An endpoint is **local** if the route to it leads onto a link behind which there is only this machine (a veth, a
//! tap, a bridge that has no other ports), with no router between, and our hook on that link is confirmed: then its
//! answers pass the hook, and it may see the client's own address. Any other endpoint gets an address of the host as
//! its source (**SNAT**). What leaves by a link without a hook stays with the **relay**: its answers would not be
//! translated. A tun is not local: what is behind it (a VPN) may have other ways to the client.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use gateway_ebpf::names::MAX_LOCAL;

use super::network::{Answer, Kind, Link, Medium, Network};
use super::snapshot::{BackendKey, Path, Ways};

/// What is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stub {
    /// For packets that begin with an Ethernet header.
    Ethernet,
    /// For packets that begin with the IP header.
    Raw,
}

/// Why an interface is not hooked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhooked {
    /// It is the loopback interface.
    Loopback,
    /// It is down.
    Down,
    /// Its packets arrive at this one.
    Port(String),
    /// Its packets arrive at its ports.
    Domain,
    /// Its packets begin with neither an Ethernet nor an IP header.
    Medium,
    /// `--interface` does not name it.
    NotChosen,
    /// The kernel refused.
    Failed(String),
}

impl fmt::Display for Unhooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => write!(f, "loopback is never hooked"),
            Self::Down => write!(f, "it is down"),
            Self::Port(master) => write!(f, "it is a port of {master}, where its packets arrive"),
            Self::Domain => write!(f, "packets of a VRF arrive at its ports"),
            Self::Medium => write!(f, "its packets have neither an Ethernet nor an IP header first"),
            Self::NotChosen => write!(f, "--interface does not name it"),
            Self::Failed(why) => write!(f, "{why}"),
        }
    }
}

/// What to attach to a link. `chosen`: patterns of names; none stands for every one.
///
/// # Errors
/// Why nothing.
pub fn stub(link: &Link, network: &Network, chosen: &[String]) -> Result<Stub, Unhooked> {
    if link.medium == Medium::Loopback {
        return Err(Unhooked::Loopback);
    }
    if !chosen.is_empty() && !chosen.iter().any(|pattern| matches(pattern, &link.name)) {
        return Err(Unhooked::NotChosen);
    }
    if !link.up {
        return Err(Unhooked::Down);
    }
    if link.kind == Kind::Vrf {
        return Err(Unhooked::Domain);
    }
    if let Some(index) = link.master {
        match network.links.get(&index) {
            Some(master) if master.kind == Kind::Vrf => {}
            Some(master) => return Err(Unhooked::Port(master.name.clone())),
            None => return Err(Unhooked::Port(format!("the link with index {index}"))),
        }
    }
    match link.medium {
        Medium::Ethernet => Ok(Stub::Ethernet),
        Medium::Raw => Ok(Stub::Raw),
        Medium::Loopback | Medium::Other => Err(Unhooked::Medium),
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters and `?` for one.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    if first == '*' {
        return (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| matches(rest, &name[at..]));
    }
    let mut left = name.chars();
    match left.next() {
        Some(c) if first == '?' || first == c => matches(rest, left.as_str()),
        _ => false,
    }
}

/// Why an endpoint stays with the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// It is the host itself, or a Gateway.
    Own,
    /// Its address means nothing without a link.
    LinkLocal,
    /// No way leads to it.
    NoRoute(String),
    /// The interface that leads to it has no hook.
    Unhooked(String),
    /// Its next hop has an address of the other family.
    NextHop(IpAddr),
    /// The host has no address that it could answer to.
    NoSource(String),
}

impl fmt::Display for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "it is on the host itself"),
            Self::LinkLocal => write!(f, "a link-local address leads nowhere without its link"),
            Self::NoRoute(why) => write!(f, "no route leads to it: {why}"),
            Self::Unhooked(name) => write!(f, "{name}, which leads to it, is not hooked"),
            Self::NextHop(hop) => write!(f, "its next hop {hop} is of the other family"),
            Self::NoSource(name) => write!(f, "the host has no address on {name} that it could answer to"),
        }
    }
}

/// The way that forwarding takes to an endpoint. `hooked`: interfaces whose hook is confirmed.
///
/// # Errors
/// Why there is none, so that the relay serves it.
pub fn path(endpoint: IpAddr, network: &Network, hooked: &BTreeSet<u32>) -> Result<Path, Relayed> {
    if endpoint.is_loopback() || endpoint.is_unspecified() || network.addresses.contains(&endpoint) {
        return Err(Relayed::Own);
    }
    if is_link_local(endpoint) {
        return Err(Relayed::LinkLocal);
    }
    let route = match network.routes.get(&endpoint) {
        Some(Answer::Route(route)) => route,
        Some(Answer::Local) => return Err(Relayed::Own),
        Some(Answer::None(why)) => return Err(Relayed::NoRoute(why.clone())),
        None => return Err(Relayed::NoRoute("it was not looked up yet".into())),
    };
    let Some(link) = network.links.get(&route.interface) else {
        return Err(Relayed::NoRoute(format!("the link with index {} is gone", route.interface)));
    };
    if link.medium == Medium::Loopback {
        return Err(Relayed::Own);
    }
    if !hooked.contains(&route.interface) {
        return Err(Relayed::Unhooked(link.name.clone()));
    }
    let next_hop = route.gateway.unwrap_or(endpoint);
    if next_hop.is_ipv4() != endpoint.is_ipv4() {
        return Err(Relayed::NextHop(next_hop));
    }
    let local = next_hop == endpoint && on_node(route.interface, link, network);
    let source = route.source.filter(|source| source.is_ipv4() == endpoint.is_ipv4());
    if source.is_none() && !local {
        return Err(Relayed::NoSource(link.name.clone()));
    }
    let mtu = route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
    Ok(Path { interface: route.interface, next_hop, source, mtu, local })
}

/// What a way is called: `local`, `snat` or `relay`.
#[must_use]
pub const fn kind(found: &Result<Path, Relayed>) -> &'static str {
    match found {
        Ok(Path { local: true, .. }) => "local",
        Ok(_) => "snat",
        Err(_) => "relay",
    }
}

/// Why it is that way.
#[must_use]
pub fn reason(endpoint: IpAddr, found: &Result<Path, Relayed>, network: &Network) -> String {
    let path = match found {
        Ok(path) => path,
        Err(why) => return why.to_string(),
    };
    let name = network.links.get(&path.interface).map_or("", |link| &link.name);
    match path {
        Path { local: true, .. } => format!("it is directly on {name}, within this machine"),
        Path { next_hop, .. } if *next_hop != endpoint => format!("the router {next_hop} leads to it"),
        _ => format!("{name} leads out of this machine"),
    }
}

/// Whether there is only this machine behind a link.
fn on_node(index: u32, link: &Link, network: &Network) -> bool {
    let inside =
        |link: &Link| link.kind == Kind::Veth || link.kind == Kind::Tun && link.medium == Medium::Ethernet;
    if link.kind != Kind::Bridge {
        return inside(link);
    }
    let mut ports = network.links.values().filter(|port| port.master == Some(index)).peekable();
    ports.peek().is_some() && ports.all(inside)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// What forwarding needs to know beside the configuration: the way to each backend that has one, and the addresses that
/// are the host's own. Loopback and link-local ones stay with the relay.
#[must_use]
pub fn ways(backends: &BTreeMap<u32, BackendKey>, network: &Network, hooked: &BTreeSet<u32>) -> Ways {
    let path = |(id, key): (&u32, &BackendKey)| Some((*id, path(key.at.ip(), network, hooked).ok()?));
    let local = network.addresses.iter().filter(|ip| !ip.is_loopback() && !is_link_local(**ip));
    Ways {
        paths: backends.iter().filter_map(path).collect(),
        local: local.copied().take(MAX_LOCAL as usize).collect(),
    }
}
