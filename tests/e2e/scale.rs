//! Many bindings: as many as one likes over a constant number of sockets.

use gateway_tests::{
    agent::Agent,
    client,
    lab::{BACKEND4, BACKEND6, Lab},
    objects::{gateway, http_route, prefix, service, tcp_route},
    peers::echo,
};

use super::{FAMILIES, WORKERS, at};

const GATEWAYS: u16 = 20;
const LISTENERS: u16 = 50;

#[test]
fn a_thousand_bindings_take_no_more_sockets_than_one() {
    let lab = Lab::new("scale");
    let web = echo::http(&lab.backend, at(BACKEND4, 8001), "web");
    let db = echo::tcp(&lab.backend, at(BACKEND6, 9001), "db");
    let services = [service("web", &[web.address]), service("db", &[db.address])].concat();
    let port = |gateway: u16, listener: u16| 10_000 + gateway * LISTENERS + listener;
    let sockets = || lab.gateway.run("ss -Hltn").lines().count();

    let small = format!("{services}{}", gateway("g0", None, ["l0 HTTP 10000"]));
    let mut agent = Agent::start(&lab.gateway, &small, WORKERS);
    let few = sockets();
    assert_eq!(agent.ask("maps")["bindings"].as_array().map(Vec::len), Some(1));

    let mut many = services;
    for g in 0..GATEWAYS {
        // One of HTTP for every one of TCP.
        let listeners = (0..LISTENERS)
            .map(|l| format!("l{l} {} {}", if l % 2 == 0 { "HTTP" } else { "TCP" }, port(g, l)));
        many += &gateway(&format!("g{g}"), None, listeners);
        many += &http_route(&format!("web{g}"), &[&format!("g{g}")], &[], &[prefix("/", &["web"])]);
        many += &tcp_route(&format!("db{g}"), &[&format!("g{g}")], &["db"]);
    }
    agent.change(&many);
    assert_eq!(
        agent.ask("maps")["bindings"].as_array().map(Vec::len),
        Some(usize::from(GATEWAYS * LISTENERS))
    );
    assert_eq!(sockets(), few, "bindings take no sockets");
    for (ip, _) in FAMILIES {
        for g in 0..GATEWAYS {
            let l = g * 2 % LISTENERS;
            let answer = client::get(&lab.client, at(ip, port(g, l)), "a", "/").expect("an answer");
            assert_eq!(answer.backend(), "web", "{ip} {g} {l}");
            assert_eq!(client::tcp(&lab.client, at(ip, port(g, l + 1)), 100).expect("an echo"), "db");
        }
    }
    // And all of it survives a restart.
    agent.kill();
    agent.launch();
    agent.wait_ready();
    assert_eq!(sockets(), few);
    for (ip, _) in FAMILIES {
        let answer =
            client::get(&lab.client, at(ip, port(GATEWAYS - 1, LISTENERS - 2)), "a", "/").expect("an answer");
        assert_eq!(answer.backend(), "web");
    }
}

#[test]
fn fifteen_hundred_weighted_tcp_routes_serve() {
    let lab = Lab::new("weighted");
    let one = echo::tcp(&lab.backend, at(BACKEND4, 9001), "one");
    let two = echo::tcp(&lab.backend, at(BACKEND6, 9002), "two");
    let mut yaml = [service("one", &[one.address]), service("two", &[two.address])].concat();
    let port = |gateway: u16, listener: u16| 10_000 + gateway * LISTENERS + listener;
    for g in 0..30 {
        yaml += &gateway(&format!("g{g}"), None, (0..LISTENERS).map(|l| format!("l{l} TCP {}", port(g, l))));
        for l in 0..LISTENERS {
            yaml += &tcp_route(&format!("r{g}-{l}"), &[&format!("g{g}/l{l}")], &["one 3", "two 1"]);
        }
    }
    let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    let status = agent.ask("status");
    let gateways = status["gateways"].as_array().expect("gateways");
    let listeners = gateways.iter().flat_map(|g| g["listeners"].as_array().expect("listeners"));
    let programmed = listeners.filter(|listener| {
        let conditions = listener["conditions"].as_array().expect("conditions");
        conditions.iter().any(|c| c["type"] == "Programmed" && c["status"] == "True")
    });
    assert_eq!(programmed.count(), 1500);
    for (ip, _) in FAMILIES {
        let mut first = 0;
        for n in 0..200 {
            let at = at(ip, port(n % 30, n * 7 % LISTENERS));
            first += usize::from(client::tcp(&lab.client, at, 10).expect("an echo") == "one");
        }
        // By hash: binomial, so five standard deviations around 150.
        assert!((119..181).contains(&first), "{ip}: {first} of 200");
    }
    let maps = agent.ask("maps");
    let slots = maps["maps"].as_array().expect("maps").iter().find(|m| m["name"] == "SLOTS").expect("SLOTS");
    println!("1,500 weighted TCPRoutes: SLOTS {slots}");
}
