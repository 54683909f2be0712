//! UDPRoutes forwarded in the kernel: who is seen by whom, flows that end by themselves, and what the workers keep.

use std::net::IpAddr;

use gateway_tests::{
    agent::{Agent, PATIENCE},
    objects::{gateway, udp_route, udp_service},
    peers::udp::{self, LARGEST, UdpClient, UdpEcho},
};

use super::at;
use super::forward_bed::{Bed, CASES, Case, PORT, flows, start};

/// A listener for each case that leads to its endpoint.
fn yaml() -> String {
    let mut yaml = gateway("dns", None, CASES.map(|case| format!("{} UDP {}", case.name, case.port)));
    for case in &CASES {
        yaml += &udp_service(case.name, &[at(case.endpoint, PORT)]);
        yaml += &udp_route(case.name, &[&format!("dns/{}", case.name)], &[case.name]);
    }
    yaml
}

fn echoes(bed: &Bed) -> [UdpEcho; 4] {
    CASES.map(|case| udp::echo(bed.ns(&case), at(case.endpoint, PORT), case.name))
}

/// Nothing came to a worker.
fn forwarded(agent: &Agent<'_>) {
    assert_eq!(agent.metric("sluice_udp_flows_total"), 0.0);
}

fn ask(case: &Case, client: &UdpClient, data: &[u8]) -> udp::Echo {
    let echo = client.ask(data, PATIENCE).unwrap_or_else(|e| panic!("{case:?}: {e}"));
    assert_eq!((echo.name.as_str(), echo.data == data), (case.name, true), "{case:?}");
    echo
}

#[test]
fn datagrams_go_both_ways_and_the_agent_is_not_needed() {
    let bed = Bed::new("udp-forward");
    let _echoes = echoes(&bed);
    let mut agent = bed.agent_on(&yaml(), &[]);
    let clients: Vec<_> = CASES.iter().map(|case| UdpClient::new(&bed.lab.client, case.asked())).collect();
    let all = |clients: &[UdpClient]| {
        for (case, client) in CASES.iter().zip(clients) {
            let mut seen = Vec::new();
            for size in [0, 1, 512, 1_400] {
                seen.push(ask(case, client, &vec![b'x'; size]).client);
            }
            assert!(
                case.fits(seen[0], client.address()),
                "{case:?}: {} is seen as {}",
                client.address(),
                seen[0]
            );
            assert!(seen.iter().all(|s| s == &seen[0]), "{case:?}: one flow: {seen:?}");
        }
    };
    all(&clients);
    forwarded(&agent);
    agent.kill();
    all(&clients);
    let more: Vec<_> = CASES.iter().map(|case| UdpClient::new(&bed.lab.client, case.asked())).collect();
    all(&more);
    agent.launch();
    agent.wait_ready();
    all(&clients);
    forwarded(&agent);
}

#[test]
fn a_flow_without_datagrams_ends() {
    let bed = Bed::new("udp-idle");
    let _echoes = echoes(&bed);
    let agent = bed.agent_on(&yaml(), &["--udp-idle-timeout", "1s"]);
    let clients: Vec<_> = CASES.iter().map(|case| UdpClient::new(&bed.lab.client, case.asked())).collect();
    let all = || -> Vec<_> {
        let twice = |(case, client)| [ask(case, client, b"once").client, ask(case, client, b"again").client];
        CASES.iter().zip(&clients).map(twice).collect()
    };
    let first = all();
    agent.wait("all flows to end", || flows(&agent) == 0);
    for (case, (first, second)) in CASES.iter().zip(first.into_iter().zip(all())) {
        // Another flow, and of the reserved ports the one that rested longest.
        assert_eq!(first[1] == second[0], case.local, "{case:?}: {first:?} {second:?}");
    }
    forwarded(&agent);
}

#[test]
fn large_datagrams_are_forwarded_in_fragments() {
    let bed = Bed::new("udp-large");
    let _echoes = echoes(&bed);
    let agent = bed.agent_on(&yaml(), &[]);
    for case in &CASES {
        let client = UdpClient::new(&bed.lab.client, case.asked());
        for size in [1_600, 3_000, 60_000, LARGEST] {
            let data: Vec<u8> = b"raw".iter().copied().chain((0..=255).cycle()).take(size).collect();
            client.send(&data).expect("a datagram");
            let back = client.receive(PATIENCE).unwrap_or_else(|e| panic!("{case:?}: {size}: {e}"));
            assert!(back == data, "{case:?}: {size} bytes went, {} came back", back.len());
        }
    }
    forwarded(&agent);
}

#[test]
fn clients_and_endpoints_on_the_node_itself_are_the_workers() {
    let bed = Bed::new("udp-node");
    let _echoes = echoes(&bed);
    let agent = bed.agent_on(&yaml(), &[]);
    for case in &CASES {
        let client = UdpClient::new(&bed.lab.gateway, case.asked());
        ask(case, &client, b"from the node");
    }
    agent.wait("flows to be counted", || agent.metric("sluice_udp_flows_total") == CASES.len() as f64);
    drop(agent);
    for case in CASES.iter().filter(|case| case.local) {
        let own: IpAddr = if case.own.is_ipv6() { "::1" } else { "127.0.0.1" }.parse().expect("an address");
        let echo = udp::echo(&bed.lab.gateway, at(own, PORT), case.name);
        let yaml = [
            gateway("dns", None, [format!("dns UDP {}", case.port)]),
            udp_service("own", &[echo.address]),
            udp_route("own", &["dns/dns"], &["own"]),
        ]
        .concat();
        let agent = start(&bed.lab.gateway, &yaml, &[]);
        let client = UdpClient::new(&bed.lab.client, case.asked());
        ask(case, &client, b"to the node");
        agent.wait("a flow to be counted", || agent.metric("sluice_udp_flows_total") == 1.0);
    }
}
