//! The usual place to test in: client — gateway — backend, joined by veth pairs, IPv4 and IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netns::NetNs;

/// Three namespaces. The client reaches everything through the gateway, so does the backend.
#[derive(Debug)]
pub struct Lab {
    /// Has [`CLIENT4`] and [`CLIENT6`] on `eth0`.
    pub client: NetNs,
    /// Has [`GATEWAY4`] and [`GATEWAY6`] on `client`, [`UPLINK4`] and [`UPLINK6`] on `backend`.
    pub gateway: NetNs,
    /// Has [`BACKEND4`] and [`BACKEND6`] on `eth0`.
    pub backend: NetNs,
}

/// The client's IPv4 address.
pub const CLIENT4: IpAddr = v4(1, 2);
/// The client's IPv6 address.
pub const CLIENT6: IpAddr = v6(1, 2);
/// The gateway's IPv4 address towards the client.
pub const GATEWAY4: IpAddr = v4(1, 1);
/// The gateway's IPv6 address towards the client.
pub const GATEWAY6: IpAddr = v6(1, 1);
/// The gateway's IPv4 address towards the backend.
pub const UPLINK4: IpAddr = v4(2, 1);
/// The gateway's IPv6 address towards the backend.
pub const UPLINK6: IpAddr = v6(2, 1);
/// The backend's IPv4 address.
pub const BACKEND4: IpAddr = v4(2, 2);
/// The backend's IPv6 address.
pub const BACKEND6: IpAddr = v6(2, 2);

impl Lab {
    /// Makes the three namespaces; `name` serves messages.
    ///
    /// # Panics
    /// Without root.
    pub fn new(name: &str) -> Self {
        let client = NetNs::new(&format!("{name}-client"));
        let gateway = NetNs::new(&format!("{name}-gateway"));
        let backend = NetNs::new(&format!("{name}-backend"));
        gateway.veth("client", &client, "eth0");
        gateway.veth("backend", &backend, "eth0");
        for (ns, device, address, via) in [
            (&gateway, "client", GATEWAY4, None),
            (&gateway, "client", GATEWAY6, None),
            (&gateway, "backend", UPLINK4, None),
            (&gateway, "backend", UPLINK6, None),
            (&client, "eth0", CLIENT4, Some(GATEWAY4)),
            (&client, "eth0", CLIENT6, Some(GATEWAY6)),
            (&backend, "eth0", BACKEND4, Some(UPLINK4)),
            (&backend, "eth0", BACKEND6, Some(UPLINK6)),
        ] {
            ns.address(device, address, if address.is_ipv6() { 64 } else { 24 });
            if let Some(via) = via {
                ns.default_route(via);
            }
        }
        Self { client, gateway, backend }
    }
}

const fn v4(net: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 9, net, host))
}

const fn v6(net: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd09, net, 0, 0, 0, 0, 0, host))
}
