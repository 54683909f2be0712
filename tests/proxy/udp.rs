//! UDP: datagrams to a backend and back, flow by flow. There is no `sk_lookup` here: clients send to the workers' own
//! sockets, which is the harder case, since a flow's socket is bound to the very same port.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use gateway_tests::netns::NetNs;
use gateway_tests::objects;
use gateway_tests::peers::udp::{LARGEST, UdpClient, UdpEcho, echo};
use gateway_user::proxy::{Config, DropReason, FlowEnd, Totals};

use super::change::Sink;
use super::fixture::*;

/// What is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(100);

fn loopback(v6: bool) -> SocketAddr {
    match v6 {
        true => (Ipv6Addr::LOCALHOST, 0).into(),
        false => (Ipv4Addr::LOCALHOST, 0).into(),
    }
}

fn backend(v6: bool, name: &str) -> UdpEcho {
    echo(&NetNs::host(), loopback(v6), name)
}

fn client(gateway: &Gateway, v6: bool) -> UdpClient {
    UdpClient::from(&NetNs::host(), loopback(v6), gateway.at(v6))
}

/// A Service `web` with these endpoints, and a UDPRoute to it.
fn udp(endpoints: &[SocketAddr]) -> String {
    objects::udp_service("web", endpoints) + &objects::udp_route("all", &["gw"], &["web"])
}

fn ended(totals: &Totals, why: FlowEnd) -> u64 {
    totals.udp.ended.iter().find(|(reason, _)| *reason == why).unwrap().1
}

fn dropped(totals: &Totals, why: DropReason) -> u64 {
    totals.udp.dropped.iter().find(|(reason, _)| *reason == why).unwrap().1
}

fn begun(totals: &Totals) -> u64 {
    totals.relayed.iter().map(|(_, t)| t.begun).sum()
}

fn open(totals: &Totals) -> u64 {
    totals.udp.open.iter().sum()
}

#[test]
fn datagrams_of_every_size_go_there_and_back() {
    for v6 in FAMILIES {
        let backend = backend(v6, "one");
        let gateway = Gateway::udp(single(), &udp(&[backend.address]));
        let client = client(&gateway, v6);
        for size in [0, 1, 1_400, 60_000] {
            let data = vec![b'x'; size];
            let echo = client.ask(&data, PATIENCE).unwrap();
            assert_eq!((&*echo.name, echo.data.len()), ("one", size));
        }
        let largest = [b"raw", &*vec![b'x'; LARGEST - 3]].concat();
        client.send(&largest).unwrap();
        assert!(client.receive(PATIENCE).unwrap() == largest);
        client.send(b"empty").unwrap();
        assert_eq!(client.receive(PATIENCE).unwrap(), b"");
        // A datagram is counted once it is sent.
        gateway.wait("the last", |t| t.relayed.iter().any(|(_, t)| t.datagrams_out == 6));
        let totals = gateway.totals();
        let (key, counted) = totals.relayed.iter().find(|(_, t)| t.begun > 0).unwrap();
        assert_eq!(
            (&*key.route, &*key.backend, key.endpoint),
            ("default/all", "default/web:80", Some(backend.address))
        );
        assert_eq!((counted.begun, counted.datagrams_in, counted.datagrams_out), (1, 6, 6));
        assert_eq!(counted.bytes_in, (1 + 1_400 + 60_000 + LARGEST + 5) as u64);
        assert!(counted.bytes_out > counted.bytes_in, "the echo adds its name");
    }
}

#[test]
fn each_client_hears_its_own_answers_alone() {
    let backend = backend(false, "one");
    let gateway = Gateway::udp(config(), &udp(&[backend.address]));
    let clients: Vec<_> = (0..200).map(|_| client(&gateway, false)).collect();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            client.send(format!("{round} {number}").as_bytes()).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let answer = client.receive(PATIENCE).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(answer.lines().last(), Some(&*format!("{round} {number}")));
        }
    }
    let totals = gateway.totals();
    assert_eq!((begun(&totals), open(&totals)), (200, 200));
    for client in &clients {
        assert_eq!(client.receive(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_quiet_flow_ends_and_the_next_datagram_begins_another() {
    let backend = backend(false, "one");
    let config = Config { udp_idle: Duration::from_millis(200), ..single() };
    let gateway = Gateway::udp(config, &udp(&[backend.address]));
    let client = client(&gateway, false);
    let first = client.ask(b"a", PATIENCE).unwrap();
    gateway.wait("the flow to end", |t| ended(t, FlowEnd::Idle) == 1 && open(t) == 0);
    let second = client.ask(b"b", PATIENCE).unwrap();
    assert_ne!(first.client, second.client, "a socket of its own");
    assert_eq!(begun(&gateway.totals()), 2);
}

#[test]
fn the_access_log_has_a_line_for_each_flow() {
    let (sink, backend) = (Sink::default(), backend(false, "one"));
    let config =
        Config { access_log: Some(Box::new(sink.clone())), udp_idle: Duration::from_millis(200), ..single() };
    let gateway = Gateway::udp(config, &udp(&[backend.address]));
    let client = client(&gateway, false);
    let back = client.ask(b"question", PATIENCE).unwrap();
    let line = &sink.wait(1)[0];
    for (field, value) in [
        ("kind", "udp".to_owned()),
        ("client", client.address().to_string()),
        ("at", gateway.at(false).to_string()),
        ("close", "idle".to_owned()),
        ("listener", "default/gw/four".to_owned()),
        ("route", "default/all".to_owned()),
        ("backend", "default/web:80".to_owned()),
        ("endpoint", backend.address.to_string()),
    ] {
        assert_eq!(line[field], *value, "{field} of {line}");
    }
    let answer = format!("one {}\nquestion", back.client);
    for (field, value) in
        [("bytes_in", 8), ("bytes_out", answer.len()), ("datagrams_in", 1), ("datagrams_out", 1)]
    {
        assert_eq!(line[field], value, "{field} of {line}");
    }
}

#[test]
fn beyond_the_bound_those_that_were_never_answered_make_room() {
    let backend = backend(false, "one");
    let gateway = Gateway::udp(Config { max_flows: 8, ..single() }, &udp(&[backend.address]));
    let answered: Vec<_> = (0..4).map(|_| client(&gateway, false)).collect();
    for client in &answered {
        client.ask(b"a", PATIENCE).unwrap();
    }
    let mute: Vec<_> = (0..20).map(|_| client(&gateway, false)).collect();
    // One by one: what another client sends in the moment in which a flow's socket is not connected yet waits in that
    // socket, and goes with a flow that makes room just then.
    for (before, client) in (4..).zip(&mute) {
        client.send(b"mute").unwrap();
        gateway.wait("the flow", |t| begun(t) == before + 1);
    }
    gateway.wait("the flows", |t| open(t) == 8);
    assert_eq!(ended(&gateway.totals(), FlowEnd::Evicted), 16);
    for client in &answered {
        client.ask(b"b", PATIENCE).unwrap();
    }
    assert_eq!(begun(&gateway.totals()), 24, "the answered ones went on");
}

#[test]
fn a_flow_outlives_its_backend_and_ends_with_its_binding() {
    for v6 in FAMILIES {
        let (one, two) = (backend(v6, "one"), backend(v6, "two"));
        let mut gateway = Gateway::udp(single(), &udp(&[one.address]));
        let old = client(&gateway, v6);
        assert_eq!(old.ask(b"a", PATIENCE).unwrap().name, "one");
        gateway.publish(&udp(&[two.address]));
        assert_eq!(old.ask(b"b", PATIENCE).unwrap().name, "one");
        assert_eq!(client(&gateway, v6).ask(b"c", PATIENCE).unwrap().name, "two");
        gateway.publish_nothing();
        gateway.wait("the flows to end", |t| ended(t, FlowEnd::Unbound) == 2 && open(t) == 0);
        old.send(b"d").unwrap();
        gateway.wait("the datagram to be dropped", |t| dropped(t, DropReason::Unknown) == 1);
        assert_eq!(old.receive(SILENCE).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn an_invalid_share_is_dropped_in_silence() {
    let backend = backend(false, "one");
    let yaml = objects::udp_service("web", &[backend.address])
        + &objects::udp_route("all", &["gw"], &["web 1", "missing 1"]);
    let gateway = Gateway::udp(single(), &yaml);
    let clients: Vec<_> = (0..400).map(|_| client(&gateway, false)).collect();
    for client in &clients {
        client.send(b"a").unwrap();
    }
    gateway.wait("all to be decided", |t| begun(t) == 400);
    let served = backend.datagrams();
    // By hash: binomial, so six standard deviations around 200.
    assert!((140..=260).contains(&served), "{served} of 400 served at one half");
    assert_eq!(dropped(&gateway.totals(), DropReason::Refused), 400 - served);
    let mut waiting: Vec<_> = clients.iter().collect();
    let start = Instant::now();
    while (clients.len() - waiting.len()) as u64 != served {
        assert!(
            start.elapsed() < PATIENCE,
            "{} of 400 are answered, {served} were served",
            400 - waiting.len()
        );
        waiting.retain(|client| client.receive(SILENCE / 100).is_err());
    }
    for client in waiting {
        let nothing = client.receive(SILENCE / 10).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock, "nothing tells that it was dropped");
    }
}

#[test]
fn a_port_that_nobody_has_is_counted_and_ends_nothing() {
    for v6 in FAMILIES {
        let at = UdpSocket::bind(loopback(v6)).unwrap().local_addr().unwrap();
        let gateway = Gateway::udp(single(), &udp(&[at]));
        let client = client(&gateway, v6);
        // The kernel tells of an error with the datagram after it.
        for errors in 0..3 {
            client.send(b"lost").unwrap();
            gateway.wait("the errors", |t| t.udp.backend_errors == errors);
            gateway.wait("the datagrams", |t| t.relayed.iter().any(|(_, t)| t.datagrams_in == errors + 1));
        }
        let _late = echo(&NetNs::host(), at, "late");
        assert_eq!(client.ask(b"a", PATIENCE).unwrap().name, "late");
        let totals = gateway.totals();
        assert_eq!((begun(&totals), open(&totals), totals.udp.client_errors), (1, 1, 0));
    }
}

#[test]
fn a_client_that_has_gone_is_counted_and_ends_nothing() {
    let socket = UdpSocket::bind(loopback(false)).unwrap();
    let gateway = Gateway::udp(single(), &udp(&[socket.local_addr().unwrap()]));
    let client = client(&gateway, false);
    client.send(b"a").unwrap();
    let (_, from) = socket.recv_from(&mut [0; 8]).unwrap();
    drop(client);
    for answers in 1..=2 {
        socket.send_to(b"late", from).unwrap();
        gateway.wait("the answer", |t| t.relayed.iter().any(|(_, t)| t.datagrams_out == answers));
    }
    assert_eq!((gateway.totals().udp.client_errors, open(&gateway.totals())), (1, 1));
}

#[test]
fn a_drain_waits_for_an_answer_but_not_for_a_flow_to_be_quiet() {
    let socket = UdpSocket::bind(loopback(false)).unwrap();
    // However slow this test is, the answer is waited for.
    let patient = Config { udp_last_answers: PATIENCE, ..single() };
    let mut gateway = Gateway::udp(patient, &udp(&[socket.local_addr().unwrap()]));
    let (answered, asking) = (client(&gateway, false), client(&gateway, false));
    let mut from = Vec::new();
    for client in [&answered, &asking] {
        client.send(b"a").unwrap();
        from.push(socket.recv_from(&mut [0; 8]).unwrap().1);
    }
    socket.send_to(b"answer", from[0]).unwrap();
    assert_eq!(answered.receive(PATIENCE).unwrap(), b"answer");
    let drain = gateway.drain(PATIENCE);
    gateway.wait("the answered flow to end", |t| ended(t, FlowEnd::Drained) == 1);
    socket.send_to(b"answer", from[1]).unwrap();
    assert_eq!(asking.receive(PATIENCE).unwrap(), b"answer");
    assert_eq!(drain.join().unwrap(), 0, "none was cut");
    assert_eq!(ended(&gateway.totals(), FlowEnd::Drained), 2);
}
