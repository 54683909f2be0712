//! Devices that clients and endpoints may be behind: bridges, tunnels, and devices on top of others.

use std::net::{IpAddr, TcpListener};

use gateway_tests::{
    lab::Lab,
    netns::NetNs,
    objects::{gateway, service, tcp_route},
};

use super::at;
use super::forward_bed::{PORT, alive, all_forwarded, connect, start};

/// Networks that are made for these tests: of each family the gateway's address and the other end's.
fn pair(net: u8) -> [[IpAddr; 2]; 2] {
    let v4 = |host| IpAddr::from([10, 9, net, host]);
    let v6 = |host| IpAddr::from([0xfd09, net.into(), 0, 0, 0, 0, 0, host]);
    [[v4(1), v4(2)], [v6(1), v6(2)]]
}

fn length(address: IpAddr) -> u8 {
    if address.is_ipv6() { 64 } else { 24 }
}

/// Connections from `client` to an endpoint in `pod`, by the gateway's address in the client's network. `local`: whether
/// the endpoint sees the client.
fn check(lab: &Lab, client: &NetNs, client_net: u8, pod: &NetNs, pod_net: u8, local: bool) {
    for ([own, from], [_, endpoint]) in pair(client_net).into_iter().zip(pair(pod_net)) {
        let endpoint = at(endpoint, PORT);
        let listener = pod.enter(|| TcpListener::bind(endpoint)).expect("a listener");
        let yaml = [
            gateway("db", None, ["tcp TCP 5001"]),
            service("one", &[endpoint]),
            tcp_route("one", &["db/tcp"], &["one"]),
        ]
        .concat();
        let agent = start(&lab.gateway, &yaml, &[]);
        let (near, far, seen) = connect(client, at(own, 5001), &listener);
        assert_eq!(near.local_addr().expect("an address").ip(), from);
        assert_eq!(seen.ip() == from, local, "{from} is seen as {seen}");
        alive(&near, &far);
        let echo = gateway_tests::peers::echo::tcp(pod, at(endpoint.ip(), PORT + 1), "pod");
        agent.change(&yaml.replace(&PORT.to_string(), &(PORT + 1).to_string()));
        super::forward_bed::ways(&agent);
        let name = gateway_tests::client::tcp(client, at(own, 5001), 20_000_000).expect("an echo");
        assert_eq!(name, "pod");
        all_forwarded(&agent);
        drop(echo);
    }
}

#[test]
fn pods_on_a_bridge_are_on_the_node() {
    let lab = Lab::new("bridge");
    let [pod, other] = ["pod", "other"].map(|name| NetNs::new(&format!("bridge-{name}")));
    lab.gateway.run("ip link add br0 type bridge");
    lab.gateway.run("ip link set br0 up");
    for (port, ns, host) in [("port1", &pod, 2u8), ("port2", &other, 3)] {
        lab.gateway.veth(port, ns, "eth0");
        lab.gateway.run(&format!("ip link set {port} master br0"));
        for [near, far] in pair(5) {
            let far = match far {
                IpAddr::V4(_) => IpAddr::from([10, 9, 5, host]),
                IpAddr::V6(_) => IpAddr::from([0xfd09, 5, 0, 0, 0, 0, 0, host.into()]),
            };
            ns.address("eth0", far, length(far));
            ns.default_route(near);
        }
    }
    for [near, _] in pair(5) {
        lab.gateway.address("br0", near, length(near));
    }
    check(&lab, &lab.client, 1, &pod, 5, true);
}

#[test]
fn clients_and_endpoints_may_be_behind_devices_on_top_of_others() {
    let lab = Lab::new("stacked");
    let pod = NetNs::new("stacked-pod");
    lab.gateway.veth("under", &pod, "under");
    for [near, far] in pair(5) {
        lab.gateway.address("under", near, length(near));
        pod.address("under", far, length(far));
    }
    // A tunnel of Ethernet frames in UDP, and another MAC address on a device.
    lab.gateway.run("ip link add tunnel type vxlan id 7 dstport 4789 local 10.9.5.1 remote 10.9.5.2");
    pod.run("ip link add tunnel type vxlan id 7 dstport 4789 local 10.9.5.2 remote 10.9.5.1");
    lab.gateway.run("ip link add link under name second type macvlan mode bridge");
    pod.run("ip link add link under name second type macvlan mode bridge");
    for (device, net) in [("tunnel", 6), ("second", 7)] {
        lab.gateway.run(&format!("ip link set {device} up"));
        pod.run(&format!("ip link set {device} up"));
        for [near, far] in pair(net) {
            lab.gateway.address(device, near, length(near));
            pod.address(device, far, length(far));
        }
    }
    for family in [4, 6] {
        let via = if family == 4 { "10.9.7.1" } else { "fd09:7::1" };
        pod.run(&format!("ip -{family} route add default via {via}"));
    }
    for net in [6, 7] {
        // Endpoint there, and client there.
        check(&lab, &lab.client, 1, &pod, net, false);
        check(&lab, &pod, net, &lab.backend, 2, true);
    }
}
