//! Addresses of Gateways: those that the host does not own come up and go away again, and nothing is taken from
//! anybody.

use std::net::{IpAddr, SocketAddr};

use gateway_tests::{
    agent::Agent,
    client::{self, Http},
    lab::{BACKEND4, GATEWAY4, GATEWAY6, Lab},
    objects::{gateway, http_route, prefix, service},
    peers::echo,
};

use super::{WORKERS, at};

/// In the client's networks, and nobody's.
const FREE: [&str; 2] = ["10.9.1.77", "fd09:1::77"];

#[test]
fn free_addresses_come_up_and_go_away() {
    let lab = Lab::new("addresses");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    let services = service("one", &[one.address]);
    let owned = || {
        ["ip -o address show", "ip route show table local", "ip -6 route show table local"]
            .map(|command| lab.gateway.run(command))
            .concat()
    };
    for (text, own) in FREE.into_iter().zip([GATEWAY4, GATEWAY6]) {
        let free: IpAddr = text.parse().expect("an address");
        let with = [
            services.clone(),
            gateway("free", Some(free), ["http HTTP 80"]),
            http_route("a", &["free"], &[], &[prefix("/", &["one"])]),
        ]
        .concat();
        let reaches = || client::get(&lab.client, SocketAddr::new(free, 80), "a", "/");
        let before = owned();
        assert!(!before.contains(text));
        let mut agent = Agent::start(&lab.gateway, &with, WORKERS);
        assert_eq!(reaches().expect("the address is up").status, 200, "{free}");
        assert!(owned().contains(text));
        // Only there: the Gateway has one address.
        assert!(Http::connect(&lab.client, at(own, 80)).is_err(), "{own} is not the Gateway's");
        // The source of what the host itself sends is not a Gateway's address.
        let family = if free.is_ipv6() { 6 } else { 4 };
        let client = if free.is_ipv6() { "fd09:1::2" } else { "10.9.1.2" };
        let source = lab.gateway.run(&format!("ip -{family} route get {client}"));
        assert!(!source.contains(text), "{source}");

        // Removed from the configuration, it is gone; put back, it is there again.
        agent.change(&services);
        assert!(!owned().contains(text), "{}", owned());
        agent.change(&with);
        assert_eq!(reaches().expect("the address is up again").status, 200, "{free}");
        // A killed agent leaves it, and the next one takes it over.
        agent.kill();
        agent.launch();
        agent.wait_ready();
        assert_eq!(reaches().expect("the address is up after a restart").status, 200, "{free}");
        assert!(agent.stop().success());
        assert!(!owned().contains(text), "{}", owned());
    }
}

#[test]
fn an_address_that_somebody_else_removed_comes_back() {
    let lab = Lab::new("removed");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    for text in FREE {
        let free: IpAddr = text.parse().expect("an address");
        let yaml = [
            service("one", &[one.address]),
            gateway("free", Some(free), ["http HTTP 80"]),
            http_route("a", &["free"], &[], &[prefix("/", &["one"])]),
        ]
        .concat();
        let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
        let serves =
            || client::get(&lab.client, SocketAddr::new(free, 80), "a", "/").is_ok_and(|a| a.status == 200);
        assert!(serves(), "{free}");
        let begin = std::time::Instant::now();
        if free.is_ipv6() {
            lab.gateway.run(&format!("ip address del {free}/128 dev client"));
        } else {
            lab.gateway.run(&format!("ip route del local {free} table local"));
        }
        let shown = || {
            ["ip -o address show", "ip route show table local"]
                .iter()
                .any(|command| lab.gateway.run(command).contains(text))
        };
        assert!(!shown(), "{free} is gone");
        agent.wait("the address to come back", shown);
        println!("{free} was back after {} ms", begin.elapsed().as_millis());
        assert!(serves(), "{free}");
        assert!(agent.log().contains("somebody else removed a Gateway's address"), "{}", agent.log());
        assert_eq!(agent.ask("status")["gateways"][0]["addresses"][0], text);
    }
}

#[test]
fn a_port_that_somebody_listens_on_is_not_taken() {
    let lab = Lab::new("taken");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    for own in [GATEWAY4, GATEWAY6] {
        let somebody = echo::http(&lab.gateway, at(own, 80), "somebody");
        let yaml = [
            service("one", &[one.address]),
            gateway("web", Some(own), ["http HTTP 80", "other HTTP 81"]),
            http_route("a", &["web"], &[], &[prefix("/", &["one"])]),
        ]
        .concat();
        let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
        assert_eq!(client::get(&lab.client, at(own, 80), "a", "/").expect("an answer").backend(), "somebody");
        assert_eq!(client::get(&lab.client, at(own, 81), "a", "/").expect("an answer").backend(), "one");
        let status = agent.ask("status");
        let listener = &status["gateways"][0]["listeners"][0];
        assert_eq!(listener["name"], "http");
        let refused = listener["conditions"].as_array().is_some_and(|conditions| {
            conditions.iter().any(|c| c["reason"] == "PortUnavailable" && c["status"] == "False")
        });
        assert!(refused, "{listener}");
        drop(somebody);
    }
}
