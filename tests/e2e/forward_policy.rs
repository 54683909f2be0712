//! What a service asks of its flows: each client at one endpoint, and how long a flow may be idle. The same whether they
//! are forwarded or relayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use gateway_tests::{
    agent::{Agent, PATIENCE},
    client,
    netns::NetNs,
    objects::{gateway, service, tcp_route, udp_route, udp_service},
    peers::{
        echo,
        udp::{self, UdpClient},
    },
};
use serde_json::Value;

use super::at;
use super::forward_bed::{Bed, CASES, Case, PORT, alive, all_forwarded, connect};

const RELAYED: [&str; 4] = ["--workers", "2", "--forward", "off"];

/// Endpoints of a case.
const ENDPOINTS: std::ops::Range<u16> = 0..4;
/// Ports of one client.
const PORTS: std::ops::Range<u16> = 7000..7024;
/// Clients, by the last part of their address.
const CLIENTS: std::ops::Range<u16> = 100..164;

/// The address of a client, of the case's family.
fn address(case: &Case, client: u16) -> IpAddr {
    if case.own.is_ipv6() {
        Ipv6Addr::new(0xfd09, 1, 0, 0, 0, 0, 0, client).into()
    } else {
        Ipv4Addr::new(10, 9, 1, client as u8).into()
    }
}

/// The same Service, of which each client has one endpoint.
fn by_client(service: &str) -> String {
    service.replace("spec: {", "spec: {sessionAffinity: ClientIP, ")
}

/// The same route, of which a flow may be idle for so long.
fn idle(route: &str, name: &str, timeout: &str) -> String {
    let annotation = format!("annotations: {{sluice-gateway.dev/idle-timeout: {timeout}}}");
    route
        .replace(&format!("metadata: {{name: {name}}}"), &format!("metadata: {{name: {name}, {annotation}}}"))
}

/// For each case TCP and UDP to all of its endpoints, of which one Service of two asks for affinity, and TCP to two of them
/// without.
fn sticky() -> String {
    let mut yaml = gateway(
        "db",
        None,
        CASES.iter().flat_map(|Case { name, port, .. }| {
            [
                format!("{name} TCP {port}"),
                format!("{name}-udp UDP {port}"),
                format!("{name}-plain TCP {}", port + 100),
            ]
        }),
    );
    for case @ Case { name, .. } in &CASES {
        let all: Vec<_> = ENDPOINTS.map(|n| at(case.endpoint, PORT + n)).collect();
        let [more, udp, udp_more, plain] =
            ["more", "udp", "udp-more", "plain"].map(|s| format!("{name}-{s}"));
        yaml += &by_client(&service(name, &all[..2]));
        yaml += &service(&more, &all[2..]);
        yaml += &udp_service(&udp, &all[..2]);
        yaml += &by_client(&udp_service(&udp_more, &all[2..]));
        yaml += &tcp_route(name, &[&format!("db/{name}")], &[name, &more]);
        yaml += &udp_route(&udp, &[&format!("db/{udp}")], &[&udp, &udp_more]);
        yaml += &tcp_route(&plain, &[&format!("db/{plain}")], &[&more]);
    }
    yaml
}

/// Who answers a client by TCP.
fn tcp(ns: &NetNs, from: SocketAddr, to: SocketAddr) -> String {
    let answer = client::connect_from(ns, from, to).and_then(|stream| client::exchange(stream, 10));
    answer.unwrap_or_else(|e| panic!("{from} -> {to}: {e}"))
}

/// Who answers a client by UDP.
fn udp(ns: &NetNs, from: SocketAddr, to: SocketAddr) -> String {
    let answer = UdpClient::from(ns, from, to).ask(b"who", PATIENCE);
    answer.unwrap_or_else(|e| panic!("{from} -> {to} by UDP: {e}")).name
}

/// Who answers each client, by TCP and UDP: one endpoint from all ports of one, and all endpoints of many.
fn answers(bed: &Bed) -> Vec<(IpAddr, [String; 2])> {
    let ns = &bed.lab.client;
    let mut all = Vec::new();
    for case in &CASES {
        let both = |from| [tcp(ns, from, case.asked()), udp(ns, from, case.asked())];
        let one: BTreeSet<_> = PORTS.map(|port| both(at(case.client, port))).collect();
        assert_eq!(one.len(), 1, "{case:?}: {one:?}");
        let many: Vec<_> = CLIENTS.map(|n| address(case, n)).map(|ip| (ip, both(at(ip, 7000)))).collect();
        for protocol in 0..2 {
            let mut counts = BTreeMap::<&str, u32>::new();
            for (_, names) in &many {
                *counts.entry(&names[protocol]).or_default() += 1;
            }
            // 16 of 64 each, within four standard deviations.
            let even = |count: &u32| (3..=30).contains(count);
            assert!(counts.len() == ENDPOINTS.len() && counts.values().all(even), "{case:?}: {counts:?}");
        }
        let plain = at(case.own, case.port + 100);
        let plain: BTreeSet<_> = PORTS.map(|port| tcp(ns, at(case.client, port), plain)).collect();
        assert_eq!(plain.len(), 2, "{case:?}: {plain:?}");
        all.extend(one.into_iter().map(|names| (case.client, names)));
        all.extend(many);
    }
    all
}

/// What `sluice explain` says of a client of each case.
fn explained(agent: &Agent<'_>, answers: &[(IpAddr, [String; 2])]) {
    for case in &CASES {
        let of_it =
            |(ip, names): &&(IpAddr, [String; 2])| *ip == case.client && names[0].starts_with(case.name);
        let (_, names) = answers.iter().find(of_it).expect("one of them");
        let names: [&str; 2] = names.each_ref().map(String::as_str);
        for (protocol, name) in ["tcp", "udp"].into_iter().zip(names) {
            let (to, from) = (case.asked().to_string(), at(case.client, 9).to_string());
            let out = agent.sluice(&["explain", protocol, &to, "--from", &from, "-o", "json"]);
            let view: Value = serde_json::from_slice(&out.stdout).expect("JSON");
            let answer = &view["answers"][0];
            assert_eq!(answer["affinity"], "ClientIP", "{answer:#}");
            let number: u16 = name.rsplit_once('-').expect("CASE-NUMBER").1.parse().expect("a number");
            assert_eq!(answer["pick"], at(case.endpoint, PORT + number).to_string(), "{answer:#}");
            let out = agent.sluice(&["explain", protocol, &to, "--from", &from]);
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(text.contains("by the client's address alone"), "{text}");
        }
    }
}

#[test]
fn a_client_has_one_endpoint_whoever_serves_it() {
    let bed = Bed::new("affinity");
    bed.lab.client.sysctl("ipv4/tcp_max_tw_buckets", "0");
    for (case, length) in [(&CASES[0], 24), (&CASES[1], 64)] {
        for client in CLIENTS {
            bed.lab.client.address("eth0", address(case, client), length);
        }
    }
    let _echoes: Vec<_> = CASES
        .iter()
        .flat_map(|case| ENDPOINTS.map(move |n| (case, n)))
        .map(|(case, n)| {
            let (ns, at, name) = (bed.ns(case), at(case.endpoint, PORT + n), format!("{}-{n}", case.name));
            (echo::tcp(ns, at, &name), udp::echo(ns, at, &name))
        })
        .collect();
    let yaml = sticky();
    let mut agent = bed.agent_on(&yaml, &[]);
    let first = answers(&bed);
    explained(&agent, &first);
    all_forwarded(&agent);
    assert_eq!(agent.metric("sluice_udp_flows_total"), 0.0);
    agent.kill();
    assert_eq!(answers(&bed), first, "nobody runs");
    agent.launch();
    agent.wait_ready();
    assert_eq!(answers(&bed), first, "after a restart");
    all_forwarded(&agent);
    drop(agent);
    let mut agent = Agent::start(&bed.lab.gateway, &yaml, &RELAYED);
    assert_eq!(answers(&bed), first, "relayed");
    explained(&agent, &first);
    assert!(agent.metric("sluice_connections_total") > 0.0 && agent.metric("sluice_udp_flows_total") > 0.0);
    assert!(agent.stop().success(), "{}", agent.log());
    agent.launch();
    agent.wait_ready();
    assert_eq!(answers(&bed), first, "relayed after a restart");
}

/// For each case two listeners of either protocol that lead to its endpoint, one of them by a route whose flows may be
/// idle for a second.
fn hasty() -> String {
    let listener = |case: &Case| {
        let Case { name, port, .. } = case;
        [
            format!("{name} TCP {port}"),
            format!("{name}-udp UDP {port}"),
            format!("{name}-long TCP {}", port + 100),
            format!("{name}-udp-long UDP {}", port + 100),
        ]
    };
    let mut yaml = gateway("db", None, CASES.iter().flat_map(listener));
    for case @ Case { name, .. } in &CASES {
        let [udp, long, udp_long] = ["udp", "long", "udp-long"].map(|s| format!("{name}-{s}"));
        yaml += &service(name, &[at(case.endpoint, PORT)]);
        yaml += &udp_service(&udp, &[at(case.endpoint, PORT)]);
        yaml += &idle(&tcp_route(name, &[&format!("db/{name}")], &[name]), name, "1s");
        yaml += &idle(&udp_route(&udp, &[&format!("db/{udp}")], &[&udp]), &udp, "1s");
        yaml += &tcp_route(&long, &[&format!("db/{long}")], &[name]);
        yaml += &udp_route(&udp_long, &[&format!("db/{udp_long}")], &[&udp]);
    }
    yaml
}

#[test]
fn a_routes_idle_timeout_ends_its_flows_and_no_others() {
    for relayed in [false, true] {
        let bed = Bed::new("idle");
        let listeners = bed.listeners();
        let _echoes = CASES.map(|case| udp::echo(bed.ns(&case), at(case.endpoint, PORT), case.name));
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let log_args = ["--access-log", log.to_str().expect("a path")];
        let agent = if relayed {
            Agent::start(&bed.lab.gateway, &hasty(), &[&RELAYED[..], &log_args].concat())
        } else {
            bed.agent_on(&hasty(), &log_args)
        };
        let ns = &bed.lab.client;
        let open = |more: u16| -> Vec<_> {
            let one = |(case, listener): (&Case, _)| {
                let to = at(case.own, case.port + more);
                let (near, far, _) = connect(ns, to, listener);
                alive(&near, &far);
                let asks = UdpClient::new(ns, to);
                let ask = |asks: &UdpClient| asks.ask(b"who", PATIENCE).expect("an answer").client;
                // Answered, and then the client again: established.
                assert_eq!(ask(&asks), ask(&asks), "{case:?}");
                (near, far, asks)
            };
            CASES.iter().zip(&listeners).map(one).collect()
        };
        let long = open(100);
        let seen: Vec<_> =
            long.iter().map(|(.., asks)| asks.ask(b"who", PATIENCE).expect("an answer").client).collect();
        let _short = open(0);
        let lines = || -> Vec<Value> {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        agent.wait("the short ones to end", || lines().len() >= 2 * CASES.len());
        let ended: BTreeSet<_> = lines()
            .iter()
            .map(|line| {
                assert_eq!(line["close"], "idle", "{line}");
                assert_eq!(line["kind"] == "forward", !relayed, "{line}");
                line["listener"].as_str().expect("a listener").to_owned()
            })
            .collect();
        let want = CASES.iter().flat_map(|case| ["", "-udp"].map(|s| format!("default/db/{}{s}", case.name)));
        assert_eq!(ended, want.collect());
        for ((near, far, asks), seen) in long.iter().zip(seen) {
            alive(near, far);
            assert_eq!(asks.ask(b"who", PATIENCE).expect("an answer").client, seen, "the same flow");
        }
        assert_eq!(lines().len(), 2 * CASES.len(), "the others go on");
        if relayed {
            let idle = |name| agent.metric_with(name, &["reason=\"idle\""]);
            assert_eq!(idle("sluice_connections_closed_total"), CASES.len() as f64);
            assert_eq!(idle("sluice_udp_flows_closed_total"), CASES.len() as f64);
        } else {
            all_forwarded(&agent);
            let shown = agent.ask("flows")["flows"].as_array().cloned().unwrap_or_default();
            let living = shown.iter().filter(|flow| flow["close"].is_null());
            let of_long =
                |flow: &Value| flow["listener"].as_str().is_some_and(|name| name.ends_with("-long"));
            assert!(living.clone().all(of_long) && living.count() == 2 * CASES.len(), "{shown:#?}");
        }
        let bindings = agent.ask("maps")["bindings"].as_array().cloned().expect("bindings");
        for binding in &bindings {
            let long = binding["listeners"][0].as_str().is_some_and(|name| name.ends_with("-long"));
            assert_eq!(binding["idleSeconds"], if long { Value::Null } else { 1.into() }, "{binding}");
        }
    }
}
