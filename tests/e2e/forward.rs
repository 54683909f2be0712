//! TCPRoutes forwarded in the kernel: who is seen by whom, what outlives the agent, and what follows the network.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, BACKEND6, CLIENT4, CLIENT6, GATEWAY4, GATEWAY6, Lab},
    netns::NetNs,
    objects::{gateway, service, tcp_route},
    peers::echo,
};
use serde_json::Value;

use super::{WORKERS, at};

/// Families: the gateway's address, the backend's, the client's.
const FAMILIES: [(IpAddr, IpAddr, IpAddr); 2] =
    [(GATEWAY4, BACKEND4, CLIENT4), (GATEWAY6, BACKEND6, CLIENT6)];

/// A Gateway on port 5001 that leads to one endpoint.
fn objects(address: Option<IpAddr>, endpoint: SocketAddr) -> String {
    [
        gateway("db", address, ["tcp TCP 5001"]),
        service("one", &[endpoint]),
        tcp_route("one", &["db/tcp"], &["one"]),
    ]
    .concat()
}

fn forwarding(agent: &Agent<'_>) -> Value {
    agent.ask("status")["agent"]["forwarding"].clone()
}

/// `PATH` of the only backend.
fn path(agent: &Agent<'_>) -> String {
    forwarding(agent)["backends"][0]["path"].as_str().unwrap_or("").to_owned()
}

fn hook(agent: &Agent<'_>, interface: &str) -> String {
    let view = forwarding(agent);
    let found = view["interfaces"].as_array().and_then(|all| all.iter().find(|i| i["name"] == interface));
    found.map_or_else(String::new, |i| i["hook"].as_str().unwrap_or("").to_owned())
}

/// Connects, and says who the endpoint takes the client for; both ends.
fn connect(from: &NetNs, to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream, SocketAddr) {
    let near = from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(10))).expect("a connection");
    let (far, seen) = listener.accept().expect("it arrives");
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    }
    (near, far, seen)
}

/// Bytes go through, both ways.
fn alive(near: &TcpStream, far: &TcpStream) {
    for (mut from, mut to) in [(near, far), (far, near)] {
        let mut got = [0; 5];
        from.write_all(b"hello").expect("it is written");
        to.read_exact(&mut got).expect("it arrives");
        assert_eq!(&got, b"hello");
    }
}

#[test]
fn a_local_endpoint_sees_the_client_and_flows_outlive_the_agent() {
    let lab = Lab::new("forward");
    for (own, backend, client) in FAMILIES {
        let endpoint = at(backend, 8001);
        let listener = lab.backend.enter(|| TcpListener::bind(endpoint)).expect("a listener");
        let mut agent = Agent::start(&lab.gateway, &objects(None, endpoint), WORKERS);
        assert_eq!(path(&agent), "local", "{}", forwarding(&agent));
        let kind = hook(&agent, "backend");
        assert!(["tcx", "clsact"].contains(&&*kind) && kind == hook(&agent, "client"), "{kind}");
        assert_eq!(hook(&agent, "lo"), "none");
        let (near, far, seen) = connect(&lab.client, at(own, 5001), &listener);
        assert_eq!(seen.ip(), client, "the client's own address");
        assert_eq!(seen, near.local_addr().expect("an address"), "and port");
        alive(&near, &far);

        agent.kill();
        alive(&near, &far);
        let (second, second_far, seen) = connect(&lab.client, at(own, 5001), &listener);
        assert_eq!(seen.ip(), client, "new connections go on");
        agent.launch();
        agent.wait_ready();
        alive(&near, &far);
        alive(&second, &second_far);
        assert_eq!(agent.metric("sluice_connections_total"), 0.0, "none came to a worker");

        assert!(agent.stop().success());
        alive(&near, &far);
        let (third, third_far, _) = connect(&lab.client, at(own, 5001), &listener);
        alive(&third, &third_far);
        let out = agent.sluice(&["uninstall"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let refused =
            lab.client.enter(|| TcpStream::connect_timeout(&at(own, 5001), Duration::from_secs(10)));
        assert!(refused.is_err(), "nothing forwards any more");
    }
}

#[test]
fn an_endpoint_elsewhere_sees_the_reserved_ports() {
    let lab = Lab::new("forward-snat");
    // A router between makes the endpoint a remote one.
    let behind = NetNs::new("forward-snat-behind");
    lab.backend.veth("behind", &behind, "eth0");
    lab.backend.sysctl("ipv4/ip_forward", "1");
    lab.backend.sysctl("ipv6/conf/all/forwarding", "1");
    for (own, router, network, far, near) in [
        (GATEWAY4, BACKEND4, "10.9.3.0/24", "10.9.3.2", "10.9.3.1"),
        (GATEWAY6, BACKEND6, "fd09:3::/64", "fd09:3::2", "fd09:3::1"),
    ] {
        let [far, near]: [IpAddr; 2] = [far, near].map(|ip| ip.parse().expect("an address"));
        let (length, family) = if far.is_ipv6() { (64, 6) } else { (24, 4) };
        lab.backend.address("behind", near, length);
        behind.address("eth0", far, length);
        behind.default_route(near);
        let endpoint = at(far, 8001);
        let listener = behind.enter(|| TcpListener::bind(endpoint)).expect("a listener");
        let ports = ["--snat-ports", "50000-50099"];
        let agent = Agent::start(&lab.gateway, &objects(None, endpoint), &[WORKERS, &ports].concat());
        assert_eq!(path(&agent), "relay", "no route leads there yet: {}", forwarding(&agent));
        lab.gateway.run(&format!("ip -{family} route add {network} via {router}"));
        agent.wait("the way to be found", || path(&agent) == "snat");
        let (one, other, seen) = connect(&lab.client, at(own, 5001), &listener);
        assert!((50_000..50_100).contains(&seen.port()), "{seen}");
        assert_eq!(seen.ip().to_string(), forwarding(&agent)["backends"][0]["source"]);
        alive(&one, &other);
        let reserved =
            lab.gateway.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports"));
        assert_eq!(reserved.expect("it can be read").trim(), "50000-50099");
    }
}

#[test]
fn an_interface_that_comes_is_hooked_and_its_endpoints_forwarded() {
    let lab = Lab::new("forward-new");
    let pod = NetNs::new("forward-new-pod");
    for (own, address, near, client) in
        [(GATEWAY4, "10.9.4.2", "10.9.4.1", CLIENT4), (GATEWAY6, "fd09:4::2", "fd09:4::1", CLIENT6)]
    {
        let [address, near]: [IpAddr; 2] = [address, near].map(|ip| ip.parse().expect("an address"));
        let endpoint = at(address, 8001);
        let agent = Agent::start(&lab.gateway, &objects(None, endpoint), WORKERS);
        assert_eq!(path(&agent), "relay");
        lab.gateway.veth("pod", &pod, "eth0");
        let length = if address.is_ipv6() { 64 } else { 24 };
        lab.gateway.address("pod", near, length);
        pod.address("eth0", address, length);
        pod.default_route(near);
        agent.wait("the endpoint to become local", || path(&agent) == "local");
        let listener = pod.enter(|| TcpListener::bind(endpoint)).expect("a listener");
        let (one, other, seen) = connect(&lab.client, at(own, 5001), &listener);
        assert_eq!(seen.ip(), client);
        alive(&one, &other);
        // Gone, it is the relay's again.
        lab.gateway.run("ip link del pod");
        agent.wait("the endpoint to be nobody's", || path(&agent) == "relay");
        assert_eq!(hook(&agent, "pod"), "");
    }
}

#[test]
fn turned_off_the_relay_serves_and_no_interface_is_hooked() {
    let lab = Lab::new("forward-off");
    for (own, backend, _) in FAMILIES {
        let one = echo::tcp(&lab.backend, at(backend, 8001), "one");
        let yaml = objects(None, one.address);
        let mut agent = Agent::start(&lab.gateway, &yaml, WORKERS);
        assert_eq!(client::tcp(&lab.client, at(own, 5001), 1000).expect("an echo"), "one");
        assert_eq!(agent.metric("sluice_connections_total"), 0.0);
        agent.stop();
        let mut off = agent.with_args(&["--forward", "off"]);
        off.launch();
        off.wait_ready();
        assert_eq!(client::tcp(&lab.client, at(own, 5001), 1000).expect("an echo"), "one");
        off.wait("the connection to be counted", || off.metric("sluice_connections_total") == 1.0);
        let view = forwarding(&off);
        assert_eq!((view["on"].as_bool(), view["reason"].as_str()), (Some(false), Some("--forward off")));
        assert!(!off.bpffs().pins().iter().any(|pin| pin.to_string_lossy().contains("link_tc")));
    }
}

#[test]
fn a_forwarded_address_stays_when_the_agent_stops() {
    let lab = Lab::new("forward-address");
    for ((_, backend, client), free) in FAMILIES.into_iter().zip(["10.9.1.77", "fd09:1::77"]) {
        let free: IpAddr = free.parse().expect("an address");
        let endpoint = at(backend, 8001);
        let listener = lab.backend.enter(|| TcpListener::bind(endpoint)).expect("a listener");
        let mut agent = Agent::start(&lab.gateway, &objects(Some(free), endpoint), WORKERS);
        let (near, far, seen) = connect(&lab.client, at(free, 5001), &listener);
        super::forward_bed::all_forwarded(&agent);
        assert_eq!(seen.ip(), client);
        assert!(agent.stop().success());
        alive(&near, &far);
        let (second, second_far, _) = connect(&lab.client, at(free, 5001), &listener);
        alive(&second, &second_far);
        assert!(agent.sluice(&["uninstall"]).status.success());
        let family = if free.is_ipv6() { 6 } else { 4 };
        let left = ["route show table local", "address show"]
            .map(|what| lab.gateway.run(&format!("ip -{family} {what}")))
            .concat();
        assert!(!left.contains(&free.to_string()), "{left}");
    }
}
