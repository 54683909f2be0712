//! The cluster's network: a node that routes between two bridges, the pods' and a LAN that gateways and clients are on.
//!
//! ```text
//! pods ── eth0 ──┤ pods: 10.244.0.1/16   node   lan: 10.245.0.1/16 ├── eth0 ── sites: gateways, clients
//! ```
//! IPv6 alike, below `fd00:10:244::/64` and `fd00:10:245::/64`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{NODE4, NODE6};
use crate::netns::NetNs;

/// The bridge that pods are plugged into.
pub(super) const PODS: &str = "pods";
/// The pods' addresses.
pub(super) const PODS4: &str = "10.244.0.0/16";
pub(super) const PODS6: &str = "fd00:10:244::/64";

const LAN: &str = "lan";

/// The node's namespace, with both bridges.
pub(super) fn node(name: &str) -> NetNs {
    let node = NetNs::new(name);
    for (bridge, mac, addresses) in
        [(PODS, "02:00:00:00:02:44", [NODE4, NODE6]), (LAN, "02:00:00:00:02:45", [lan4(1), lan6(1)])]
    {
        // An address of its own: without one a bridge has the lowest of its ports, which changes as these come and go, and
        // whoever is behind the bridge sends to the old one for half a minute.
        node.run(&format!(
            "ip link add {bridge} address {mac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ));
        for address in addresses {
            node.address(bridge, address, prefix(address));
        }
        node.run(&format!("ip link set {bridge} up"));
    }
    node.sysctl("ipv4/ip_forward", "1");
    node.sysctl("ipv6/conf/all/forwarding", "1");
    node
}

/// A namespace on the LAN.
pub(super) fn site(node: &NetNs, name: &str, host: u8) -> NetNs {
    assert!(host > 1, "host {host} is the node's own (use 2–255)");
    let site = NetNs::new(name);
    let port = format!("site{host}");
    node.veth(&port, &site, "eth0");
    node.run(&format!("ip link set {port} master {LAN}"));
    for (address, via) in [(lan4(host), lan4(1)), (lan6(host), lan6(1))] {
        site.address("eth0", address, prefix(address));
        site.default_route(via);
    }
    site
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv6() { 64 } else { 16 }
}

fn lan4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 245, 0, host).into()
}

fn lan6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0x10, 0x245, 0, 0, 0, 0, host.into()).into()
}
