//! UDP through the gateway: where answers come from, shares, fragments, and who ends a flow.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use gateway_tests::{
    agent::{Agent, PATIENCE},
    client,
    lab::{CLIENT4, CLIENT6, Lab},
    objects::{gateway, service, tcp_route, udp_route, udp_service},
    peers::{
        echo,
        udp::{self, LARGEST, UdpClient, UdpEcho},
    },
};

use super::{FAMILIES, WORKERS, at};

/// By the workers, which count.
const RELAY: &[&str] = &["--workers", "2", "--forward", "off"];

/// What is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(200);

/// A lab with two UDP echoes, `one` over IPv4 and `two` over IPv6, and their Services.
struct Bed {
    lab: Lab,
    one: UdpEcho,
    two: UdpEcho,
    services: String,
}

impl Bed {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name);
        let [(_, four), (_, six)] = FAMILIES;
        let one = udp::echo(&lab.backend, at(four, 8001), "one");
        let two = udp::echo(&lab.backend, at(six, 8002), "two");
        let services = [udp_service("one", &[one.address]), udp_service("two", &[two.address])].concat();
        Self { lab, one, two, services }
    }

    /// A Gateway `dns` with a listener for each of the two.
    fn both(&self) -> String {
        [
            gateway("dns", None, ["one UDP 5301", "two UDP 5302"]),
            self.services.clone(),
            udp_route("one", &["dns/one"], &["one"]),
            udp_route("two", &["dns/two"], &["two"]),
        ]
        .concat()
    }
}

/// The name of who answers a client.
fn asks(client: &UdpClient) -> String {
    client.ask(b"who", PATIENCE).expect("an answer").name
}

#[test]
fn answers_come_from_the_address_and_port_that_were_asked() {
    let bed = Bed::new("udp");
    let agent = Agent::start(&bed.lab.gateway, &bed.both(), RELAY);
    // A second address: the any-address listener must not answer from the first.
    for (extra, prefix) in [("10.9.1.77", 24), ("fd09:1::77", 64)] {
        bed.lab.gateway.address("client", extra.parse().expect("an address"), prefix);
    }
    let others: [IpAddr; 2] = ["10.9.1.77", "fd09:1::77"].map(|ip| ip.parse().expect("an address"));
    for ip in FAMILIES.map(|(ip, _)| ip).into_iter().chain(others) {
        for (port, name) in [(5301, "one"), (5302, "two")] {
            // Its socket is connected: what came from elsewhere it would not hear.
            let client = UdpClient::new(&bed.lab.client, at(ip, port));
            for size in [0, 1, 512, 1_400] {
                let data = vec![b'x'; size];
                let echo = client.ask(&data, PATIENCE).unwrap_or_else(|e| panic!("{ip}:{port}: {size}: {e}"));
                assert_eq!((echo.name.as_str(), echo.data.len()), (name, size), "{ip}:{port}");
            }
            client.send(b"empty").expect("a datagram");
            assert_eq!(client.receive(PATIENCE).expect("an answer"), b"", "{ip}:{port}");
        }
    }
    for (route, backend) in [("one", bed.one.address), ("two", bed.two.address)] {
        let labels = [format!("route=\"default/{route}\""), format!("backend=\"{backend}\"")];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        for (metric, count) in [
            ("sluice_udp_flows_total", 4),
            ("sluice_udp_received_datagrams_total", 4 * 5),
            ("sluice_udp_sent_datagrams_total", 4 * 5),
            ("sluice_udp_received_bytes_total", 4 * (1 + 512 + 1_400 + 5)),
        ] {
            agent.wait(metric, || agent.metric_with(metric, &labels) == f64::from(count));
        }
    }
    assert_eq!(agent.metric("sluice_udp_flows_open"), 8.0);
}

#[test]
fn large_datagrams_go_both_ways_in_fragments() {
    let bed = Bed::new("large");
    let _agent = Agent::start(&bed.lab.gateway, &bed.both(), RELAY);
    for (ip, _) in FAMILIES {
        for port in [5301, 5302] {
            let client = UdpClient::new(&bed.lab.client, at(ip, port));
            for size in [3_000, 60_000, LARGEST] {
                let data: Vec<u8> = b"raw".iter().copied().cycle().take(size).collect();
                client.send(&data).expect("a datagram");
                let back = client.receive(PATIENCE).unwrap_or_else(|e| panic!("{ip}:{port}: {size}: {e}"));
                assert!(back == data, "{ip}:{port}: {size} bytes went, {} came back", back.len());
            }
        }
    }
}

#[test]
fn flows_are_spread_by_weight_and_the_invalid_share_is_silent() {
    let bed = Bed::new("udp-shares");
    let yaml = [
        gateway("dns", None, ["mixed UDP 5301", "none UDP 5302"]),
        bed.services.clone(),
        udp_route("mixed", &["dns/mixed"], &["one 2", "two 1", "missing 1"]),
        udp_route("none", &["dns/none"], &["missing"]),
    ]
    .concat();
    let agent = Agent::start(&bed.lab.gateway, &yaml, RELAY);
    for (ip, _) in FAMILIES {
        let clients: Vec<_> = (0..400).map(|_| UdpClient::new(&bed.lab.client, at(ip, 5301))).collect();
        for batch in clients.chunks(50) {
            for client in batch {
                client.send(b"who").expect("a datagram");
            }
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(SILENCE);
        let (mut first, mut second, mut silent) = (0, 0, 0);
        for client in &clients {
            match client.receive(Duration::from_millis(1)) {
                Ok(answer) if answer.starts_with(b"one ") => first += 1,
                Ok(answer) if answer.starts_with(b"two ") => second += 1,
                Ok(other) => panic!("{ip}: {}", String::from_utf8_lossy(&other)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => silent += 1,
                // Port unreachable, for example.
                Err(e) => panic!("{ip}: {e}"),
            }
        }
        // By hash: binomial, so five standard deviations around 200, 100 and 100.
        assert!((150..250).contains(&first), "{ip}: {first} {second} {silent}");
        assert!((56..144).contains(&second), "{ip}: {first} {second} {silent}");
        assert!((56..144).contains(&silent), "{ip}: {first} {second} {silent}");

        let refused = UdpClient::new(&bed.lab.client, at(ip, 5302));
        refused.send(b"who").expect("a datagram");
        let error = refused.receive(SILENCE).expect_err("no backend is valid");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{ip}");
    }
    let rejected =
        agent.metric_with("sluice_lookups_total", &["binding=\"*:5302/udp\"", "verdict=\"rejected\""]);
    assert_eq!(rejected, 2.0);
}

#[test]
fn clients_and_endpoints_on_the_node_itself() {
    let bed = Bed::new("udp-local");
    let endpoints: [SocketAddr; 2] =
        ["127.0.0.1:8003", "[::1]:8003"].map(|at| at.parse().expect("an address"));
    let loopback = endpoints.map(|at| udp::echo(&bed.lab.gateway, at, "loopback"));
    let yaml = [
        bed.both(),
        gateway("local", None, ["four UDP 5303", "six UDP 5304"]),
        udp_service("four", &[loopback[0].address]),
        udp_service("six", &[loopback[1].address]),
        udp_route("four", &["local/four"], &["four"]),
        udp_route("six", &["local/six"], &["six"]),
    ]
    .concat();
    let _agent = Agent::start(&bed.lab.gateway, &yaml, WORKERS);
    let own: [IpAddr; 2] = ["127.0.0.1", "::1"].map(|ip| ip.parse().expect("an address"));
    for ip in FAMILIES.map(|(ip, _)| ip).into_iter().chain(own) {
        for (port, name) in [(5301, "one"), (5302, "two"), (5303, "loopback"), (5304, "loopback")] {
            let client = UdpClient::new(&bed.lab.gateway, at(ip, port));
            assert_eq!(asks(&client), name, "{ip}:{port} from the node");
            if !ip.is_loopback() {
                let client = UdpClient::new(&bed.lab.client, at(ip, port));
                assert_eq!(asks(&client), name, "{ip}:{port} from the client");
            }
        }
    }
}

#[test]
fn two_hundred_sockets_at_once() {
    let bed = Bed::new("udp-many");
    let agent = Agent::start(&bed.lab.gateway, &bed.both(), RELAY);
    for (ip, _) in FAMILIES {
        let clients: Vec<_> = (0..200).map(|_| UdpClient::new(&bed.lab.client, at(ip, 5301))).collect();
        for round in 0..5 {
            for (number, client) in clients.iter().enumerate() {
                client.send(format!("{round} {number}").as_bytes()).expect("a datagram");
            }
            for (number, client) in clients.iter().enumerate() {
                let answer =
                    client.receive(PATIENCE).unwrap_or_else(|e| panic!("{ip}: {round} {number}: {e}"));
                let answer = String::from_utf8(answer).expect("text");
                let want = format!("{round} {number}");
                assert_eq!(answer.lines().last(), Some(want.as_str()), "{ip}");
            }
        }
    }
    assert_eq!(agent.metric("sluice_udp_flows_total"), 400.0);
}

#[test]
fn quiet_flows_end_and_so_do_those_of_a_binding_that_went() {
    let bed = Bed::new("udp-end");
    let args = [RELAY, &["--udp-idle-timeout", "1s"]].concat();
    let agent = Agent::start(&bed.lab.gateway, &bed.both(), &args);
    let closed = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        agent.metric_with("sluice_udp_flows_closed_total", &[&label])
    };
    for (ip, _) in FAMILIES {
        assert_eq!(asks(&UdpClient::new(&bed.lab.client, at(ip, 5301))), "one");
    }
    agent.wait("the flows to end", || closed("idle") == 2.0 && agent.metric("sluice_udp_flows_open") == 0.0);
    let sockets = || bed.lab.gateway.run("ss -Hunp state established");
    assert_eq!(sockets(), "", "no socket is left of them");

    let only_one = [
        gateway("dns", None, ["one UDP 5301"]),
        bed.services.clone(),
        udp_route("one", &["dns/one"], &["one"]),
    ]
    .concat();
    let client = UdpClient::new(&bed.lab.client, at(FAMILIES[0].0, 5302));
    assert_eq!(asks(&client), "two");
    agent.change(&only_one);
    agent.wait("the flow to end", || {
        // It is kept busy.
        let _refused = client.send(b"mute");
        closed("unbound") == 1.0
    });
}

#[test]
fn tcp_and_udp_share_a_port() {
    let bed = Bed::new("udp-tcp");
    let tcp = echo::tcp(&bed.lab.backend, at(FAMILIES[0].1, 8001), "tcp");
    let yaml = [
        gateway("dns", None, ["udp UDP 53", "tcp TCP 53"]),
        bed.services.clone(),
        service("stream", &[tcp.address]),
        udp_route("same", &["dns"], &["one"]),
        tcp_route("same", &["dns"], &["stream"]),
    ]
    .concat();
    let agent = Agent::start(&bed.lab.gateway, &yaml, RELAY);
    for (ip, _) in FAMILIES {
        assert_eq!(asks(&UdpClient::new(&bed.lab.client, at(ip, 53))), "one");
        assert_eq!(client::tcp(&bed.lab.client, at(ip, 53), 10_000).expect("an echo"), "tcp");
    }
    assert_eq!(agent.metric_with("sluice_udp_flows_total", &["binding=\"*:53/udp\""]), 2.0);
    assert_eq!(agent.metric_with("sluice_tcp_connections_total", &["binding=\"*:53/tcp\""]), 2.0);
}

#[test]
fn a_client_of_a_fixed_port_goes_on_after_a_restart_of_the_agent() {
    let bed = Bed::new("udp-restart");
    let mut agent = Agent::start(&bed.lab.gateway, &bed.both(), RELAY);
    let clients = [(FAMILIES[0].0, CLIENT4), (FAMILIES[1].0, CLIENT6)]
        .map(|(ip, own)| UdpClient::from(&bed.lab.client, at(own, 40_000), at(ip, 5301)));
    for round in 0..2 {
        for client in &clients {
            assert_eq!(asks(client), "one", "round {round}");
        }
        assert!(agent.stop().success());
        agent.launch();
        agent.wait_ready();
    }
    for client in &clients {
        assert_eq!(asks(client), "one");
    }
    agent.kill();
    agent.launch();
    agent.wait_ready();
    for client in &clients {
        assert_eq!(asks(client), "one");
    }
}

#[test]
fn a_port_that_a_process_has_is_left_to_it() {
    let bed = Bed::new("udp-own");
    let (ip, _) = FAMILIES[0];
    // A socket on [::] has IPv4, too.
    for any in ["0.0.0.0", "::"] {
        let own = udp::echo(&bed.lab.gateway, at(any.parse().expect("an address"), 5302), "own");
        let agent = Agent::start(&bed.lab.gateway, &bed.both(), RELAY);
        assert_eq!(asks(&UdpClient::new(&bed.lab.client, at(ip, 5302))), "own", "{any}");
        assert_eq!(asks(&UdpClient::new(&bed.lab.client, at(ip, 5301))), "one", "{any}");
        let status = agent.ask("status").to_string();
        assert!(status.contains("PortUnavailable"), "{any}: {status}");
        drop(own);
    }
}

#[test]
fn weights_follow_the_explanation() {
    let bed = Bed::new("udp-explain");
    let yaml = [
        gateway("dns", None, ["mixed UDP 5301"]),
        bed.services.clone(),
        udp_route("mixed", &["dns/mixed"], &["one 2", "two 1", "missing 1"]),
    ]
    .concat();
    let agent = Agent::start(&bed.lab.gateway, &yaml, WORKERS);
    let names = [(bed.one.address, "one"), (bed.two.address, "two")];
    for ((ip, _), own) in FAMILIES.into_iter().zip([CLIENT4, CLIENT6]) {
        for port in 41_000..41_020 {
            let (from, to) = (at(own, port), at(ip, 5301));
            let args = ["explain", "udp", &to.to_string(), "--from", &from.to_string(), "-o", "json"];
            let view: serde_json::Value =
                serde_json::from_slice(&agent.sluice(&args).stdout).expect("an explanation");
            let pick = view["answers"][0]["pick"].as_str().map(str::to_owned);
            let client = UdpClient::from(&bed.lab.client, from, to);
            let answer = client.ask(b"who", if pick.is_some() { PATIENCE } else { SILENCE });
            match (pick, answer) {
                (Some(pick), Ok(echo)) => {
                    let name = names.iter().find(|(at, _)| at.to_string() == pick).map(|(_, name)| *name);
                    assert_eq!(Some(echo.name.as_str()), name, "{from}: {view}");
                }
                (None, Err(e)) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "{from}: {view}"),
                (pick, answer) => panic!("{from}: {pick:?} was said, {answer:?} came"),
            }
        }
    }
}

#[test]
fn a_path_with_a_small_mtu_is_no_obstacle() {
    let bed = Bed::new("udp-mtu");
    for (ns, device) in [(&bed.lab.client, "eth0"), (&bed.lab.gateway, "client")] {
        ns.run(&format!("ip link set {device} mtu 1300"));
    }
    let _agent = Agent::start(&bed.lab.gateway, &bed.both(), RELAY);
    for (ip, _) in FAMILIES {
        let client = UdpClient::new(&bed.lab.client, at(ip, 5301));
        let echo = client.ask(&vec![b'x'; 1_400], PATIENCE).unwrap_or_else(|e| panic!("{ip}: {e}"));
        assert_eq!(echo.data.len(), 1_400);
    }
}
