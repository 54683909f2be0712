//! Links that take less than both ends think: the way out of the gateway, behind it, and in front of it.

use std::net::{IpAddr, SocketAddr};

use gateway_ebpf::flow::Reason;
use gateway_tests::{client, netns::NetNs};

use super::forward_bed::{BEHIND4, BEHIND6, Bed, CASES, Case, all_forwarded, count};

/// Where the narrow link is. Both ends of every veth pair take more, so that no end hears of it when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Narrow {
    /// Between the client and the gateway.
    InFront,
    /// The gateway's own link towards the endpoint.
    Own,
    /// Between the gateway and the endpoint.
    Behind,
}

/// A client with a router between itself and the gateway, of both families.
fn front(bed: &Bed) -> NetNs {
    let front = NetNs::new("front");
    let router = &bed.lab.client;
    router.veth("front", &front, "eth0");
    router.sysctl("ipv4/ip_forward", "1");
    router.sysctl("ipv6/conf/all/forwarding", "1");
    for (near, far, length, family, network, via) in [
        ("10.9.8.1", "10.9.8.2", 24, 4, "10.9.8.0/24", "10.9.1.2"),
        ("fd09:8::1", "fd09:8::2", 64, 6, "fd09:8::/64", "fd09:1::2"),
    ] {
        let [near, far]: [IpAddr; 2] = [near, far].map(|ip| ip.parse().expect("an address"));
        router.address("front", near, length);
        front.address("eth0", far, length);
        front.default_route(near);
        bed.lab.gateway.run(&format!("ip -{family} route add {network} via {via}"));
    }
    front
}

/// Makes a route take less.
fn narrow(bed: &Bed, place: Narrow) {
    let mtu = "mtu 1300";
    let change =
        |ns: &NetNs, family: u8, route: &str| ns.run(&format!("ip -{family} route replace {route} {mtu}"));
    match place {
        Narrow::InFront => {
            change(&bed.lab.client, 4, "10.9.8.0/24 dev front src 10.9.8.1");
            change(&bed.lab.client, 6, "fd09:8::2/128 dev front");
        }
        Narrow::Own => {
            change(&bed.lab.gateway, 4, "10.9.2.0/24 dev backend src 10.9.2.1");
            change(&bed.lab.gateway, 6, "fd09:2::2/128 dev backend");
            change(&bed.lab.gateway, 4, "10.9.3.0/24 via 10.9.2.2");
            change(&bed.lab.gateway, 6, "fd09:3::2/128 via fd09:2::2");
        }
        Narrow::Behind => {
            change(&bed.lab.backend, 4, &format!("{}/32 dev behind", BEHIND4[0]));
            change(&bed.lab.backend, 6, &format!("{}/128 dev behind", BEHIND6[0]));
        }
    }
}

fn passes(place: Narrow, offloads: &str) {
    let bed = Bed::new("mtu");
    let front = front(&bed);
    bed.offload(offloads);
    front.run(&format!("ethtool -K eth0 {offloads}"));
    narrow(&bed, place);
    let _echoes = bed.echoes();
    let agent = bed.agent(&[]);
    // The endpoint of a case that is on the node has nothing between the gateway and itself.
    let cases = CASES.iter().filter(|case| place != Narrow::Behind || !case.local);
    for case in cases {
        let name = client::tcp(&front, case.asked(), 20_000_000)
            .unwrap_or_else(|e| panic!("{place:?}, {offloads}: {case:?}: {e}"));
        assert_eq!(name, case.name);
        let learned = learned(&bed, &front, place, case);
        assert!(learned.contains("mtu 1300"), "{place:?}, {offloads}: {case:?}: {learned}");
    }
    assert_eq!(count(&agent, Reason::TooBig) > 0, place == Narrow::Own, "{place:?}");
    all_forwarded(&agent);
}

/// What the one that sends too much has learned of the way.
fn learned(bed: &Bed, front: &NetNs, place: Narrow, case: &Case) -> String {
    let family = if case.own.is_ipv6() { 6 } else { 4 };
    let client: SocketAddr =
        if family == 6 { "[fd09:8::2]:0" } else { "10.9.8.2:0" }.parse().expect("an address");
    match place {
        // An endpoint that does not see the client knows an address of the gateway's.
        Narrow::InFront if !case.local => bed
            .ns(case)
            .run(&format!("ip -{family} route get {}", if family == 6 { "fd09:2::1" } else { "10.9.2.1" })),
        Narrow::InFront => bed.ns(case).run(&format!("ip -{family} route get {}", client.ip())),
        Narrow::Own | Narrow::Behind => front.run(&format!("ip -{family} route get {}", case.own)),
    }
}

#[test]
fn a_narrow_link_is_found_whichever_it_is() {
    for place in [Narrow::InFront, Narrow::Own, Narrow::Behind] {
        passes(place, "tso on gso on gro on");
    }
}

#[test]
fn a_narrow_link_is_found_with_offloads_off() {
    for place in [Narrow::InFront, Narrow::Own, Narrow::Behind] {
        passes(place, "tso off gso off gro off tx off");
    }
}
