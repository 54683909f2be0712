//! What runs through a listener or to an endpoint that is removed: it goes on, or ends after a while if that is asked for.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use gateway_tests::{
    agent::{Agent, PATIENCE},
    objects::{gateway, service, tcp_route, udp_route, udp_service},
    peers::udp::{self, UdpClient},
    uninterrupted,
};
use serde_json::Value;

use super::at;
use super::forward_bed::{Bed, CASES, Case, PORT, alive, all_forwarded, connect, flows, objects, start};

const GRACE: Duration = Duration::from_secs(5);
const FLAGS: [&str; 2] = ["--reset-removed-after", "5s"];

/// A listener for some of the cases; their routes, and everything else.
fn listening(listens: impl Fn(&Case) -> bool) -> String {
    // A Gateway has one listener at the least.
    let other = ["other TCP 5999".to_owned()];
    let listeners = CASES.iter().filter(|case| listens(case));
    let listeners = listeners.map(|case| format!("{} TCP {}", case.name, case.port));
    let mut yaml = gateway("db", None, listeners.chain(other));
    for case in &CASES {
        yaml += &service(case.name, &[at(case.endpoint, PORT)]);
        yaml += &tcp_route(case.name, &[&format!("db/{}", case.name)], &[case.name]);
    }
    yaml
}

fn withdrawn(agent: &Agent<'_>) -> u64 {
    agent.metric("sluice_forward_withdrawn_total") as u64
}

/// Both ends hear that it was reset, once the first has said something.
fn is_reset(mut first: &TcpStream, second: &TcpStream) {
    first.write_all(b"hello").expect("it is sent");
    for mut end in [first, second] {
        let error = uninterrupted(|| end.read(&mut [0; 9])).expect_err("no more bytes, and no end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// Clients of the flows that the access log says were withdrawn.
fn logged(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let withdrawn = lines.filter(|line| line["close"] == "withdrawn" && line["kind"] == "forward");
    let mut clients: Vec<_> =
        withdrawn.map(|line| line["client"].as_str().expect("a client").to_owned()).collect();
    clients.sort_unstable();
    clients
}

#[test]
fn flows_of_a_removed_listener_are_reset_after_the_grace() {
    let bed = Bed::new("removed");
    let listeners = bed.listeners();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let args = [&FLAGS[..], &["--access-log", log.to_str().expect("a path")]].concat();
    let agent = bed.agent_on(&listening(|_| true), &args);
    let ends: Vec<_> = CASES
        .iter()
        .zip(&listeners)
        .map(|(c, listener)| connect(&bed.lab.client, c.asked(), listener))
        .collect();
    // Of each kind one is removed, of the one family and of the other.
    let goes = |case: &Case| matches!(case.name, "local4" | "remote6");
    let begin = Instant::now();
    agent.change(&listening(|case| !goes(case)));
    while begin.elapsed() < GRACE - Duration::from_secs(1) {
        ends.iter().for_each(|(near, far, _)| alive(near, far));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(withdrawn(&agent), 0);
    agent.wait("two flows to be ended", || withdrawn(&agent) == 2);
    assert!(begin.elapsed() >= GRACE);
    let mut clients = Vec::new();
    for (case, (near, far, _)) in CASES.iter().zip(&ends) {
        if !goes(case) {
            alive(near, far);
            continue;
        }
        // The client speaks first, or the endpoint.
        let (first, second) = if case.local { (near, far) } else { (far, near) };
        let client = near.local_addr().expect("an address").to_string();
        is_reset(first, second);
        let shown = agent.ask("flows");
        let shown = shown["flows"].as_array().expect("flows").iter().find(|flow| flow["client"] == client);
        // For two seconds more; the log has it in any case.
        assert!(shown.is_none_or(|flow| flow["state"] == "reset"), "{shown:?}");
        clients.push(client);
    }
    clients.sort_unstable();
    agent.wait("lines of the access log", || logged(&log) == clients);
    assert_eq!(withdrawn(&agent), 2);
    all_forwarded(&agent);
}

#[test]
fn flows_of_a_removed_endpoint_alone_end_and_not_if_it_comes_back() {
    let bed = Bed::new("removed-end");
    let (first, second) = (bed.listeners(), CASES.map(|case| bed.listener(&case, PORT + 1)));
    let yaml = |ports: &[u16]| objects(|case| ports.iter().map(|port| at(case.endpoint, *port)).collect());
    let agent = bed.agent_on(&yaml(&[PORT]), &FLAGS);
    let client = &bed.lab.client;
    let old: Vec<_> = CASES.iter().zip(&first).map(|(c, l)| connect(client, c.asked(), l)).collect();
    let all = |ends: &[(TcpStream, TcpStream, SocketAddr)]| ends.iter().for_each(|(n, f, _)| alive(n, f));
    let begin = Instant::now();
    agent.change(&yaml(&[PORT + 1]));
    super::forward_bed::ways(&agent);
    let new: Vec<_> = CASES.iter().zip(&second).map(|(c, l)| connect(client, c.asked(), l)).collect();
    thread::sleep(Duration::from_millis(1_500).saturating_sub(begin.elapsed()));
    all(&old);
    agent.change(&yaml(&[PORT, PORT + 1]));
    assert!(begin.elapsed() < GRACE, "it comes back too late for what is tested: {:?}", begin.elapsed());
    thread::sleep(GRACE + Duration::from_secs(2));
    all(&old);
    all(&new);
    assert_eq!(withdrawn(&agent), 0);
    agent.change(&yaml(&[PORT]));
    agent.wait("flows to be ended", || withdrawn(&agent) == CASES.len() as u64);
    for (near, far, _) in &new {
        is_reset(near, far);
    }
    all(&old);
    all_forwarded(&agent);
}

#[test]
fn an_agent_that_is_restarted_ends_what_was_removed() {
    let bed = Bed::new("removed-anew");
    let listeners = bed.listeners();
    let mut agent = bed.agent_on(&listening(|_| true), &FLAGS);
    let ends: Vec<_> =
        CASES.iter().zip(&listeners).map(|(c, l)| connect(&bed.lab.client, c.asked(), l)).collect();
    agent.change(&listening(|case| case.own.is_ipv6()));
    agent.kill();
    // The others are removed while there is none.
    agent.write(&listening(|_| false));
    let begin = Instant::now();
    agent.launch();
    agent.wait_ready();
    ends.iter().for_each(|(near, far, _)| alive(near, far));
    agent.wait("flows to be ended", || withdrawn(&agent) == CASES.len() as u64);
    let took = begin.elapsed();
    assert!(took >= GRACE, "{took:?}");
    for (near, far, _) in &ends {
        is_reset(near, far);
    }
}

#[test]
fn without_the_flag_flows_go_on() {
    let bed = Bed::new("kept");
    let listeners = bed.listeners();
    let agent = bed.agent_on(&listening(|_| true), &[]);
    let ends: Vec<_> =
        CASES.iter().zip(&listeners).map(|(c, l)| connect(&bed.lab.client, c.asked(), l)).collect();
    agent.change(&listening(|_| false));
    for case in &CASES {
        let refused = bed.lab.client.enter(|| TcpStream::connect(case.asked())).expect_err("it is removed");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{case:?}");
    }
    thread::sleep(GRACE);
    ends.iter().for_each(|(near, far, _)| alive(near, far));
    assert_eq!(withdrawn(&agent), 0);
}

/// A listener, and the endpoint that it leads to, for each case; a port of none is no endpoint.
fn datagrams(endpoint: u16, listens: bool) -> String {
    let listeners = CASES.iter().filter(|_| listens).map(|case| format!("{} UDP {}", case.name, case.port));
    let mut yaml = gateway("dns", None, listeners.chain(["other TCP 5999".to_owned()]));
    for case in &CASES {
        yaml += &udp_service(case.name, &[at(case.endpoint, endpoint)]);
        yaml += &udp_route(case.name, &[&format!("dns/{}", case.name)], &[case.name]);
    }
    yaml
}

#[test]
fn flows_of_datagrams_end() {
    let bed = Bed::new("removed-udp");
    let _echoes = CASES.map(|case| udp::echo(bed.ns(&case), at(case.endpoint, PORT), case.name));
    let agent = bed.agent_on(&datagrams(PORT, true), &FLAGS);
    for (what, yaml) in [("listener", datagrams(PORT, false)), ("endpoint", datagrams(PORT + 1, true))] {
        let before = withdrawn(&agent);
        agent.change(&datagrams(PORT, true));
        super::forward_bed::ways(&agent);
        let clients = CASES.map(|case| UdpClient::new(&bed.lab.client, case.asked()));
        let ask = || {
            for (case, client) in CASES.iter().zip(&clients) {
                for _ in 0..2 {
                    let echo =
                        client.ask(b"who", PATIENCE).unwrap_or_else(|e| panic!("{what}: {case:?}: {e}"));
                    assert_eq!(echo.name, case.name);
                }
            }
        };
        ask();
        agent.change(&yaml);
        ask();
        agent.wait("flows to be ended", || withdrawn(&agent) == before + CASES.len() as u64);
        agent.wait("them to be over", || flows(&agent) == 0);
        for client in &clients {
            // Nobody is there any more, as an ICMP error may say.
            let _refused = client.send(b"who");
            client.receive(Duration::from_millis(200)).expect_err("no answer");
        }
    }
    assert_eq!(agent.metric("sluice_udp_flows_total"), 0.0);
}

#[test]
fn what_is_relayed_ends_as_well() {
    let bed = Bed::new("removed-relay");
    let listeners = bed.listeners();
    let _echoes = CASES.map(|case| udp::echo(bed.ns(&case), at(case.endpoint, PORT), case.name));
    for flags in [&FLAGS[..], &[]] {
        let ends = !flags.is_empty();
        let agent = start(&bed.lab.gateway, &listening(|_| true), &[&["--forward", "off"], flags].concat());
        let flows: Vec<_> =
            CASES.iter().zip(&listeners).map(|(c, l)| connect(&bed.lab.client, c.asked(), l)).collect();
        let begin = Instant::now();
        agent.change(&listening(|_| false));
        flows.iter().for_each(|(near, far, _)| alive(near, far));
        let closed = |name: &str| agent.metric_with(name, &["reason=\"withdrawn\""]) as usize;
        if ends {
            agent
                .wait("connections to be reset", || closed("sluice_connections_closed_total") == CASES.len());
            assert!(begin.elapsed() >= GRACE);
            for (near, far, _) in &flows {
                for mut end in [near, far] {
                    let error = uninterrupted(|| end.read(&mut [0; 9])).expect_err("a reset");
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
            }
        } else {
            thread::sleep(GRACE + Duration::from_secs(2));
            flows.iter().for_each(|(near, far, _)| alive(near, far));
        }
        agent.change(&datagrams(PORT, true));
        let clients = CASES.map(|case| UdpClient::new(&bed.lab.client, case.asked()));
        let ask = || {
            for (case, client) in CASES.iter().zip(&clients) {
                client.ask(b"who", PATIENCE).unwrap_or_else(|e| panic!("{case:?}: {e}"));
            }
        };
        ask();
        agent.change(&datagrams(PORT + 1, true));
        ask();
        if ends {
            agent.wait("flows to be ended", || closed("sluice_udp_flows_closed_total") == CASES.len());
        } else {
            thread::sleep(GRACE + Duration::from_secs(2));
            ask();
        }
    }
}
