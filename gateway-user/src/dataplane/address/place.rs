//! Where an address goes: a pure function of the interfaces.
//!
//! Owns the rule (a local route where that is enough, else the interface). Must not ask the kernel anything.

use std::net::IpAddr;

/// How an address is brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// By a local route on loopback (AnyIP).
    Route,
    /// As an address of the interface with this index.
    Interface(u32),
}

/// An interface as far as this matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its index.
    pub(super) index: u32,
    /// Its hardware address, where it is Ethernet.
    pub(super) mac: Option<[u8; 6]>,
    /// Whether addresses on it are reachable from outside: up, and not loopback.
    pub(super) outward: bool,
    /// Whether it answers ARP for none but its own addresses (arp_ignore, its own or all interfaces').
    pub(super) arp_ignore: bool,
    /// Its addresses with their prefix lengths, without ours.
    pub(super) addresses: Vec<(IpAddr, u8)>,
}

impl Interface {
    /// Whether an address is one of its own.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(own, _)| *own == address)
    }

    /// The longest prefix of a network on this link that holds the address.
    fn on_link(&self, address: IpAddr) -> Option<u8> {
        let fits = |(own, prefix): &(IpAddr, u8)| (common_bits(*own, address)? >= *prefix).then_some(*prefix);
        let host = if address.is_ipv4() { 32 } else { 128 };
        self.addresses.iter().filter(|(_, prefix)| *prefix < host).filter_map(fits).max()
    }
}

/// An Ethernet interface to announce an address on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its index.
    pub(super) index: u32,
    /// Its hardware address.
    pub(super) mac: [u8; 6],
}

/// Where an address goes, and where neighbours are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// How it is brought up.
    pub(super) place: Place,
    /// Whom it is announced to; `None` if it is on no link.
    pub(super) announce: Option<Link>,
}

/// Where an address goes. On a link, neighbours must get an answer: ARP answers for whatever has a local route, if
/// it is not told to ignore that; neighbour discovery answers for addresses of the interface alone. On no link,
/// somebody routes it here, and a route is enough.
pub(super) fn place(address: IpAddr, interfaces: &[Interface]) -> Target {
    let nearest = interfaces
        .iter()
        .filter(|i| i.outward)
        .filter_map(|i| Some((i.on_link(address)?, i)))
        .max_by_key(|(prefix, i)| (*prefix, std::cmp::Reverse(i.index)));
    let Some((_, interface)) = nearest else {
        return Target { place: Place::Route, announce: None };
    };
    let place = if address.is_ipv4() && !interface.arp_ignore {
        Place::Route
    } else {
        Place::Interface(interface.index)
    };
    Target { place, announce: interface.mac.map(|mac| Link { index: interface.index, mac }) }
}

/// Leading bits that two addresses have in common; `None` if they are of different families.
fn common_bits(a: IpAddr, b: IpAddr) -> Option<u8> {
    let bits = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return None,
    };
    Some(bits as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn interface(index: u32, addresses: &[&str]) -> Interface {
        let parse = |text: &&str| {
            let (ip, prefix) = text.split_once('/').unwrap();
            (ip.parse().unwrap(), prefix.parse().unwrap())
        };
        let addresses = addresses.iter().map(parse).collect();
        Interface { index, mac: Some(MAC), outward: true, arp_ignore: false, addresses }
    }

    #[test]
    fn each_address_has_its_place() {
        let loopback = Interface { outward: false, mac: None, ..interface(1, &["127.0.0.1/8", "::1/128"]) };
        let wide = interface(2, &["10.0.0.1/8", "2001:db8::1/32", "fe80::1/64"]);
        let narrow = interface(3, &["10.1.0.1/16", "2001:db8:1::1/48", "192.0.2.9/32"]);
        let strict = Interface { arp_ignore: true, ..interface(4, &["198.51.100.1/24"]) };
        let down = Interface { outward: false, ..interface(5, &["203.0.113.1/24", "2001:db8:2::1/48"]) };
        let tunnel = Interface { mac: None, ..interface(6, &["100.64.0.1/24"]) };
        let interfaces = [loopback, wide, narrow, strict, down, tunnel];
        for (address, expected, announced) in [
            ("10.2.0.5", Place::Route, Some(2)),
            ("10.1.0.5", Place::Route, Some(3)),
            ("2001:db8:3::5", Place::Interface(2), Some(2)),
            ("2001:db8:1::5", Place::Interface(3), Some(3)),
            ("198.51.100.5", Place::Interface(4), Some(4)),
            // A network of one address has no neighbours; nor has one whose link is down, nor loopback's.
            ("192.0.2.8", Place::Route, None),
            ("203.0.113.5", Place::Route, None),
            ("127.0.0.5", Place::Route, None),
            ("2001:db9::5", Place::Route, None),
            ("100.64.0.5", Place::Route, None),
        ] {
            let target = place(address.parse().unwrap(), &interfaces);
            assert_eq!(target.place, expected, "{address}");
            assert_eq!(target.announce.map(|link| link.index), announced, "{address}");
        }
    }

    #[test]
    fn a_default_route_of_length_zero_is_a_network_too() {
        let target = place("192.0.2.1".parse().unwrap(), &[interface(2, &["10.0.0.1/0"])]);
        assert_eq!(target.announce.map(|link| link.index), Some(2));
    }

    #[test]
    fn equal_prefixes_go_to_the_first_interface() {
        let interfaces = [interface(7, &["10.0.0.1/24"]), interface(3, &["10.0.0.2/24"])];
        let target = place("10.0.0.9".parse().unwrap(), &interfaces);
        assert_eq!(target.announce.map(|link| link.index), Some(3));
    }
}
