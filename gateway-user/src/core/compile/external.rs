//! ExternalName: which of the addresses that a name resolves to may be connected to.
//!
//! Owns the guard: whoever writes a Service must not reach the gateway's own host, its link or a cloud's metadata
//! through it, whatever a name server answers. Must not know who refers to the Service.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::gateways::{Gateways, Place};
use crate::core::host::{Host, Role};
use crate::core::model::ObjectName;
use crate::core::status::ExternalName;

/// What is forbidden, beyond the addresses of a model.
pub(super) struct Guard<'m> {
    host: &'m Host,
    gateways: BTreeSet<IpAddr>,
    /// Whether the host has an IPv4 and an IPv6 address to connect from; both, if nothing is known of it.
    families: [bool; 2],
}

impl<'m> Guard<'m> {
    pub(super) fn new(host: &'m Host, gateways: &Gateways<'_>) -> Self {
        let at = gateways.list.iter().filter_map(|gateway| match &gateway.place {
            Place::Any | Place::On(_) => None,
            Place::At(list) => Some(list),
        });
        let own = host.addresses();
        let far = |v6: bool| {
            let mut usable = own.iter().filter(|ip| near(**ip).is_none());
            own.is_empty() || usable.any(|ip| ip.is_ipv6() == v6)
        };
        Self { host, gateways: at.flatten().copied().collect(), families: [far(false), far(true)] }
    }

    /// What a Service's name comes to.
    pub(super) fn judge(&self, service: &ObjectName, name: &Arc<str>) -> ExternalName {
        let mut external = ExternalName { name: name.clone(), ..ExternalName::default() };
        let Some(known) = self.host.names.known.get(name) else {
            external.problem = Some("it has not been looked up yet".to_owned());
            return external;
        };
        external.problem.clone_from(&known.problem);
        for ip in known.addresses.iter().map(IpAddr::to_canonical).collect::<BTreeSet<_>>() {
            if self.host.names.allowed.iter().any(|net| net.contains(&ip)) {
                external.addresses.push(ip);
            } else if let Some(what) = self.forbidden(ip) {
                let network = if ip.is_ipv4() { 32 } else { 128 };
                let why = format!(
                    "it is {what}, which Service {service} may not lead to (`sluice run --allow-external-name {ip}/{network}` permits it)"
                );
                external.left_out.push((ip, why));
                external.refused = true;
            } else if self.host.role != Role::Alone {
                // Upstream's advice for clusters: whoever may write a Service is not who runs the gateway.
                let network = if ip.is_ipv4() { 32 } else { 128 };
                let why = format!(
                    "in a cluster a Service of type ExternalName leads nowhere, since it could name anything (`sluice run --allow-external-name {ip}/{network}` permits it)"
                );
                external.left_out.push((ip, why));
                external.refused = true;
            } else if !self.families[usize::from(ip.is_ipv6())] {
                let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
                external.left_out.push((ip, format!("the host has no {family} address to connect from")));
            } else {
                external.addresses.push(ip);
            }
        }
        external
    }

    /// What an address is, if a name must not resolve to it.
    fn forbidden(&self, ip: IpAddr) -> Option<&'static str> {
        let own = |ip: IpAddr| {
            near(ip).or_else(|| {
                if self.gateways.contains(&ip) {
                    Some("a Gateway's address")
                } else if self.host.has(ip) {
                    Some("an address of this host")
                } else {
                    None
                }
            })
        };
        let inner = || if let IpAddr::V6(v6) = ip { embedded(v6) } else { None };
        own(ip).or_else(|| inner().and_then(|v4| own(v4.into())))
    }
}

/// What an address is, if it leads to the host itself, no farther than its link, or to what clouds keep for the host.
fn near(ip: IpAddr) -> Option<&'static str> {
    const METADATA: [IpAddr; 5] = [
        IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
        IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google
    ];
    let ip = ip.to_canonical();
    if METADATA.contains(&ip) {
        return Some("a cloud's metadata address");
    }
    if ip.is_loopback() {
        return Some("a loopback address");
    }
    if ip.is_multicast() {
        return Some("a multicast address");
    }
    match ip {
        // Linux connects 0.0.0.0 to the host itself.
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an unspecified address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("a reserved or broadcast address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("an unspecified address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfec0 => Some("a site-local address"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address leads to by a gateway of the network: IPv4-compatible, NAT64 (RFC 6052,
/// RFC 8215), 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let o = v6.octets();
    let last = Ipv4Addr::new(o[12], o[13], o[14], o[15]);
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 1, ..] => Some(last),
        [0x2002, ..] => Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])),
        _ => None,
    }
}
