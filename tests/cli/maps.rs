//! `sluice maps`: what the kernel counted against what was sent.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use gateway_tests::agent::Agent;
use gateway_tests::client;
use gateway_tests::lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab};
use gateway_tests::peers::echo;
use serde_json::Value;

use super::{RELAY, web};

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
    let agent = Agent::start(&lab.gateway, &web(http.address, tcp.address), RELAY);
    let before = agent.ask("maps");
    assert_eq!((hits(&before, 80), hits(&before, 9000)), (0, 0));

    for _ in 0..20 {
        assert_eq!(
            client::get(&lab.client, SocketAddr::new(gateway, 80), "a", "/").expect("an answer").status,
            200
        );
    }
    for _ in 0..10 {
        assert_eq!(client::tcp(&lab.client, SocketAddr::new(gateway, 9000), 1000).expect("an answer"), "db");
    }
    for _ in 0..5 {
        let refused =
            client::tcp(&lab.client, SocketAddr::new(gateway, 4711), 1).expect_err("nobody is there");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
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
