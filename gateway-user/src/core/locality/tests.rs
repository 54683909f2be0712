//! Hooks and ways, by data.

use gateway_ebpf::abi::TCP;

use super::*;
use crate::core::network::Route;

const ETH: u32 = 2;
const POD: u32 = 3;
const BRIDGE: u32 = 4;
const MIXED: u32 = 7;
const TAP: u32 = 10;
const TUN: u32 = 11;
const VRF: u32 = 12;

/// `NAME KIND MEDIUM [MASTER]`, all up, of 1500 bytes.
fn link(name: &str, kind: Kind, medium: Medium, master: Option<u32>) -> Link {
    Link { name: name.into(), kind, medium, up: true, master, mtu: 1500 }
}

fn network() -> Network {
    use Kind::{Bridge, Other, Tun, Veth, Vrf};
    use Medium::{Ethernet, Loopback, Raw};
    let links = [
        (1, link("lo", Other, Loopback, None)),
        (ETH, link("eth0", Other, Ethernet, None)),
        (POD, link("pod0", Veth, Ethernet, None)),
        (BRIDGE, link("br0", Bridge, Ethernet, None)),
        (5, link("pod1", Veth, Ethernet, Some(BRIDGE))),
        (6, link("tap0", Tun, Ethernet, Some(BRIDGE))),
        (MIXED, link("br1", Bridge, Ethernet, None)),
        (8, link("pod2", Veth, Ethernet, Some(MIXED))),
        (9, link("eth1", Other, Ethernet, Some(MIXED))),
        (TAP, link("tap1", Tun, Ethernet, None)),
        (TUN, link("tun0", Tun, Raw, None)),
        (VRF, link("red", Vrf, Ethernet, None)),
        (13, link("eth2", Other, Ethernet, Some(VRF))),
        (14, link("ib0", Other, Medium::Other, None)),
    ];
    Network { links: links.into(), ..Network::default() }
}

/// Both families for each case: IPv4, and the same with IPv6 addresses.
fn addresses() -> [(IpAddr, IpAddr, IpAddr); 2] {
    [["10.0.0.9", "10.0.0.1", "10.0.0.254"], ["2001:db8::9", "2001:db8::1", "2001:db8::fe"]]
        .map(|[endpoint, own, router]| [endpoint, own, router].map(|ip| ip.parse().unwrap()))
        .map(|[endpoint, own, router]| (endpoint, own, router))
}

fn routed(endpoint: IpAddr, route: Route) -> Network {
    Network { routes: [(endpoint, Answer::Route(route))].into(), ..network() }
}

fn all() -> BTreeSet<u32> {
    (1..=14).collect()
}

#[test]
fn an_interface_is_hooked_where_its_packets_arrive() {
    let network = network();
    let of = |index: u32| stub(&network.links[&index], &network, &[]);
    assert_eq!(of(1), Err(Unhooked::Loopback));
    assert_eq!(of(5), Err(Unhooked::Port("br0".into())));
    assert_eq!(of(VRF), Err(Unhooked::Domain));
    assert_eq!(of(14), Err(Unhooked::Medium));
    assert_eq!(of(13), Ok(Stub::Ethernet), "a port of a VRF is an interface in its own right");
    assert_eq!(of(TUN), Ok(Stub::Raw));
    for index in [ETH, POD, BRIDGE, TAP] {
        assert_eq!(of(index), Ok(Stub::Ethernet));
    }
}

#[test]
fn an_interface_that_is_down_or_not_chosen_is_not_hooked() {
    let mut network = network();
    let of = |network: &Network, chosen: &[&str]| {
        let chosen: Vec<String> = chosen.iter().map(|&c| c.to_owned()).collect();
        stub(&network.links[&ETH], network, &chosen)
    };
    assert_eq!(of(&network, &["pod*"]), Err(Unhooked::NotChosen));
    assert_eq!(of(&network, &["pod*", "eth?"]), Ok(Stub::Ethernet));
    network.links.get_mut(&ETH).unwrap().up = false;
    assert_eq!(of(&network, &[]), Err(Unhooked::Down));
}

#[test]
fn patterns_are_globs() {
    for (pattern, name, fits) in [
        ("eth0", "eth0", true),
        ("eth0", "eth01", false),
        ("eth*", "eth", true),
        ("*0", "eth0", true),
        ("*", "", true),
        ("", "e", false),
        ("e?h*", "eth0", true),
        ("e?", "e", false),
        ("ö*", "ö1", true),
    ] {
        assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
    }
}

#[test]
fn a_router_behind_eth0_makes_a_snat_path() {
    for (endpoint, own, router) in addresses() {
        let route = Route { interface: ETH, gateway: Some(router), source: Some(own), mtu: Some(1400) };
        let expected = Path { interface: ETH, next_hop: router, source: Some(own), mtu: 1400, local: false };
        assert_eq!(path(endpoint, &routed(endpoint, route), &all()), Ok(expected));
    }
}

#[test]
fn the_mtu_is_the_smaller_of_route_and_link() {
    for (endpoint, own, _) in addresses() {
        let at = |mtu| {
            let route = Route { interface: ETH, gateway: None, source: Some(own), mtu };
            path(endpoint, &routed(endpoint, route), &all()).unwrap().mtu
        };
        assert_eq!([at(None), at(Some(1280)), at(Some(9000))], [1500, 1280, 1500]);
    }
}

#[test]
fn an_endpoint_directly_on_a_link_within_the_machine_is_local() {
    for (endpoint, own, router) in addresses() {
        let is_local = |interface, gateway| {
            let route = Route { interface, gateway, source: Some(own), mtu: None };
            path(endpoint, &routed(endpoint, route), &all()).unwrap().local
        };
        for (interface, expected) in
            [(POD, true), (BRIDGE, true), (TAP, true), (ETH, false), (MIXED, false), (TUN, false)]
        {
            assert_eq!(is_local(interface, None), expected, "{interface}");
        }
        assert!(is_local(POD, Some(endpoint)));
        assert!(!is_local(POD, Some(router)), "a router is between");
    }
}

#[test]
fn a_bridge_without_ports_is_not_local() {
    for (endpoint, own, _) in addresses() {
        let route = Route { interface: BRIDGE, gateway: None, source: Some(own), mtu: None };
        let mut network = routed(endpoint, route);
        network.links.retain(|_, link| link.master != Some(BRIDGE));
        assert!(!path(endpoint, &network, &all()).unwrap().local);
    }
}

#[test]
fn without_a_confirmed_hook_the_relay_serves() {
    for (endpoint, own, _) in addresses() {
        let route = Route { interface: POD, gateway: None, source: Some(own), mtu: None };
        let found = path(endpoint, &routed(endpoint, route), &BTreeSet::from([ETH]));
        assert_eq!(found, Err(Relayed::Unhooked("pod0".into())));
    }
}

#[test]
fn what_is_the_hosts_own_stays_with_the_relay() {
    for (endpoint, own, _) in addresses() {
        let route = Route { interface: POD, gateway: None, source: Some(own), mtu: None };
        let mut network = routed(endpoint, route);
        network.addresses.insert(endpoint);
        assert_eq!(path(endpoint, &network, &all()), Err(Relayed::Own), "an address of the host");
        network.addresses.clear();
        network.routes.insert(endpoint, Answer::Local);
        assert_eq!(path(endpoint, &network, &all()), Err(Relayed::Own), "a local route");
        let back = Route { interface: 1, ..route };
        assert_eq!(path(endpoint, &routed(endpoint, back), &all()), Err(Relayed::Own), "by lo");
    }
    for text in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
        assert_eq!(path(text.parse().unwrap(), &network(), &all()), Err(Relayed::Own), "{text}");
    }
}

#[test]
fn what_cannot_be_reached_stays_with_the_relay() {
    for (endpoint, own, router) in addresses() {
        let none = Answer::None("unreachable".into());
        let network = Network { routes: [(endpoint, none)].into(), ..network() };
        assert_eq!(path(endpoint, &network, &all()), Err(Relayed::NoRoute("unreachable".into())));
        assert!(matches!(path(router, &network, &all()), Err(Relayed::NoRoute(_))), "not looked up");
        let gone = Route { interface: 99, gateway: None, source: Some(own), mtu: None };
        let found = path(endpoint, &routed(endpoint, gone), &all());
        assert!(matches!(found, Err(Relayed::NoRoute(_))), "{found:?}");
    }
    for text in ["169.254.1.1", "fe80::1"] {
        assert_eq!(path(text.parse().unwrap(), &network(), &all()), Err(Relayed::LinkLocal), "{text}");
    }
}

#[test]
fn the_next_hop_and_the_source_are_of_the_endpoints_family() {
    let [(v4, own4, _), (v6, own6, router6)] = addresses();
    let route = Route { interface: ETH, gateway: Some(router6), source: Some(own4), mtu: None };
    assert_eq!(path(v4, &routed(v4, route), &all()), Err(Relayed::NextHop(router6)));
    for (endpoint, own) in [(v4, own6), (v6, own4)] {
        let route = Route { interface: ETH, gateway: None, source: Some(own), mtu: None };
        let found = path(endpoint, &routed(endpoint, route), &all());
        assert_eq!(found, Err(Relayed::NoSource("eth0".into())));
        let pod = Route { interface: POD, ..route };
        let found = path(endpoint, &routed(endpoint, pod), &all()).unwrap();
        assert_eq!((found.local, found.source), (true, None), "a local one needs none");
    }
}

#[test]
fn ways_name_what_has_one_and_the_hosts_addresses() {
    let [(v4, own4, _), (v6, own6, _)] = addresses();
    let mut network = network();
    let loose: [IpAddr; 3] = ["127.0.0.1", "fe80::1", "::1"].map(|ip| ip.parse().unwrap());
    network.addresses.extend([own4, own6].into_iter().chain(loose));
    let route =
        |interface, own| Answer::Route(Route { interface, gateway: None, source: Some(own), mtu: None });
    network.routes = [(v4, route(POD, own4)), (v6, route(ETH, own6))].into();
    let key = |ip: IpAddr| BackendKey { at: (ip, 80).into(), protocol: TCP };
    let backends = BTreeMap::from([(1, key(v4)), (2, key(v6)), (3, key(own4))]);
    let found = ways(&backends, &network, &BTreeSet::from([POD, ETH]));
    assert_eq!(found.local, BTreeSet::from([own4, own6]));
    assert_eq!(found.paths.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(found.paths[&1].local && !found.paths[&2].local);
    assert_eq!(ways(&backends, &network, &BTreeSet::new()).paths, BTreeMap::new());
}
