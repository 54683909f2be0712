//! TCP through the gateway: every byte, half-closed connections, and what is refused.

use std::{io, net::TcpStream};

use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, Lab},
    objects::{gateway, service, tcp_route},
    peers::echo,
};

use super::{Bed, FAMILIES, WORKERS, at};

/// Enough to fill every buffer many times over.
const MUCH: usize = 256 << 20;

#[test]
fn every_byte_comes_back_over_a_half_closed_connection() {
    let Bed { lab, one, two, services } = Bed::tcp("tcp");
    let yaml = [
        gateway("db", None, ["one TCP 5001", "two TCP 5002"]),
        services,
        tcp_route("one", &["db/one"], &["one"]),
        tcp_route("two", &["db/two"], &["two"]),
    ]
    .concat();
    // By the relay, which counts.
    let agent = Agent::start(&lab.gateway, &yaml, &[WORKERS, &["--forward", "off"]].concat());
    for (ip, _) in FAMILIES {
        for (port, name) in [(5001, "one"), (5002, "two")] {
            for size in [0, 1, 100_000, MUCH] {
                assert_eq!(
                    client::tcp(&lab.client, at(ip, port), size).expect("an echo"),
                    name,
                    "{ip}:{port}"
                );
            }
        }
    }
    for (route, backend) in [("one", one.address), ("two", two.address)] {
        let labels = [format!("route=\"default/{route}\""), format!("backend=\"{backend}\"")];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        agent.wait("connections to be counted", || {
            agent.metric_with("sluice_tcp_connections_total", &labels) == 8.0
        });
        agent.wait("bytes to be counted", || {
            agent.metric_with("sluice_tcp_received_bytes_total", &labels) == (2 * (MUCH + 100_001)) as f64
        });
    }
}

#[test]
fn connections_are_spread_by_weight_and_the_invalid_share_is_refused() {
    let Bed { lab, one: _one, two: _two, services } = Bed::tcp("shares");
    let yaml = [
        gateway("db", None, ["mixed TCP 5001", "none TCP 5002"]),
        services,
        tcp_route("mixed", &["db/mixed"], &["one 2", "two 1", "missing 1"]),
        tcp_route("none", &["db/none"], &["missing"]),
    ]
    .concat();
    let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    for (ip, _) in FAMILIES {
        let (mut first, mut second, mut refused) = (0, 0, 0);
        for _ in 0..400 {
            match client::tcp(&lab.client, at(ip, 5001), 10).as_deref() {
                Ok("one") => first += 1,
                Ok("two") => second += 1,
                Ok(other) => panic!("{other} answered"),
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => refused += 1,
                Err(e) => panic!("{ip}: {e}"),
            }
        }
        // By hash: binomial, so five standard deviations around 200, 100 and 100.
        assert!((150..250).contains(&first), "{ip}: {first} {second} {refused}");
        assert!((56..144).contains(&second), "{ip}: {first} {second} {refused}");
        assert!((56..144).contains(&refused), "{ip}: {first} {second} {refused}");

        let refusal = lab.client.enter(|| TcpStream::connect(at(ip, 5002))).expect_err("no backend is valid");
        assert_eq!(refusal.kind(), io::ErrorKind::ConnectionRefused, "{ip}");
    }
    let rejected =
        agent.metric_with("sluice_lookups_total", &["binding=\"*:5002/tcp\"", "verdict=\"rejected\""]);
    assert!(rejected >= 2.0, "{rejected}");
}

#[test]
fn the_hosts_own_sockets_are_left_alone() {
    let lab = Lab::new("own");
    let one = echo::tcp(&lab.backend, at(BACKEND4, 9001), "one");
    let yaml = [
        gateway("db", None, ["one TCP 5001"]),
        service("one", &[one.address]),
        tcp_route("one", &["db/one"], &["one"]),
    ]
    .concat();
    let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    for (ip, _) in FAMILIES {
        let own = echo::tcp(&lab.gateway, at(ip, 5002), "own");
        assert_eq!(client::tcp(&lab.client, own.address, 1000).expect("an echo"), "own");
        assert_eq!(client::tcp(&lab.client, at(ip, 5001), 1000).expect("an echo"), "one");
    }
    assert!(agent.metric("sluice_lookup_misses_total") >= 2.0);
}

#[test]
fn syn_cookies_work_with_several_workers() {
    let lab = Lab::new("cookies");
    // Always, not only when a queue is full.
    lab.gateway.sysctl("ipv4/tcp_syncookies", "2");
    let one = echo::tcp(&lab.backend, at(BACKEND4, 9001), "one");
    let yaml = [
        gateway("db", None, ["one TCP 5001"]),
        service("one", &[one.address]),
        tcp_route("one", &["db/one"], &["one"]),
    ]
    .concat();
    let _agent = Agent::start(&lab.gateway, &yaml, &["--workers", "4"]);
    for (ip, _) in FAMILIES {
        for _ in 0..50 {
            assert_eq!(client::tcp(&lab.client, at(ip, 5001), 100).expect("an echo"), "one");
        }
    }
}
