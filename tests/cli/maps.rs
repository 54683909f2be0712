//! `sluice maps`: what the kernel counted against what was sent.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use gateway_tests::agent::{Agent, get};
use gateway_tests::lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab};
use gateway_tests::netns::NetNs;
use gateway_tests::peers::echo;
use serde_json::Value;

use super::objects;

/// Sends a line over a connection of its own and returns what came back.
pub(crate) fn exchange(ns: &NetNs, at: SocketAddr, words: &str) -> std::io::Result<String> {
    ns.enter(|| {
        let mut stream = TcpStream::connect(at)?;
        stream.write_all(words.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// The hits of the binding of a port.
pub(crate) fn hits(maps: &Value, port: u16) -> u64 {
    let bindings = maps["bindings"].as_array().expect("bindings");
    bindings.iter().filter(|b| b["port"] == port).map(|b| b["hits"].as_u64().expect("a number")).sum()
}

#[test]
fn counts_what_was_sent() {
    for (name, gateway, backend) in [("maps4", GATEWAY4, BACKEND4), ("maps6", GATEWAY6, BACKEND6)] {
        counts(name, gateway, backend);
    }
}

fn counts(name: &str, gateway: IpAddr, backend: IpAddr) {
    let lab = Lab::new(name);
    let http = echo::http(&lab.backend, SocketAddr::new(backend, 8080), "app");
    let tcp = echo::tcp(&lab.backend, SocketAddr::new(backend, 5432), "db");
    let agent = Agent::start(&lab.gateway, &objects::web(http.address, tcp.address, "/"), &[]);
    let before = agent.ask("maps");
    assert_eq!((hits(&before, 80), hits(&before, 9000)), (0, 0));

    for _ in 0..20 {
        assert_eq!(get(&lab.client, SocketAddr::new(gateway, 80), "/").expect("an answer").0, 200);
    }
    for _ in 0..10 {
        assert_eq!(exchange(&lab.client, SocketAddr::new(gateway, 9000), "x").expect("an answer"), "db\nx");
    }
    for _ in 0..5 {
        let refused =
            exchange(&lab.client, SocketAddr::new(gateway, 4711), "x").expect_err("nobody is there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    let after = agent.ask("maps");
    assert!(hits(&after, 80) >= 20 && hits(&after, 9000) >= 10, "{after}");
    let misses = |maps: &Value| maps["misses"].as_u64().expect("a number");
    assert!(misses(&after) >= misses(&before) + 5, "{} then {}", misses(&before), misses(&after));
    for binding in after["bindings"].as_array().expect("bindings") {
        let lookups = binding["lookups"].as_object().expect("lookups");
        let sum: u64 = lookups.values().map(|n| n.as_u64().expect("a number")).sum();
        assert_eq!(binding["hits"], sum, "{binding}");
        assert_eq!(lookups.keys().collect::<Vec<_>>(), ["failed", "noSocket", "rejected", "steered"]);
        assert_eq!(binding["lookups"]["failed"], 0, "{binding}");
    }
    let bindings = after["maps"].as_array().expect("maps").iter().find(|m| m["name"] == "BINDINGS");
    let bindings = bindings.expect("the map of bindings");
    assert_eq!((&bindings["kind"], &bindings["used"]), (&"hash".into(), &2.into()));

    let socket = agent.places()[3].clone();
    let table = agent.sluice(&["maps", "--admin-socket", &socket]);
    let table = String::from_utf8(table.stdout).expect("text");
    for words in ["BINDINGS", "default/web/http", "default/web/tcp", "misses: "] {
        assert!(table.contains(words), "no `{words}` in\n{table}");
    }
}
