//! The agent's life: killed and started again, two side by side, stopped.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use gateway_tests::{
    agent::Agent,
    client::{self, Http},
    lab::{BACKEND4, Lab},
    objects::{gateway, http_route, prefix, service},
    peers::{echo, server::Server},
};
use http::Request;

use super::{FAMILIES, WORKERS, at};

fn yaml(backend: &Server) -> String {
    [
        gateway("web", None, ["http HTTP 80"]),
        service("one", &[backend.address]),
        http_route("a", &["web"], &[], &[prefix("/", &["one"])]),
    ]
    .concat()
}

fn works(lab: &Lab, what: &str) {
    for (ip, _) in FAMILIES {
        let answer =
            client::get(&lab.client, at(ip, 80), "a", "/").unwrap_or_else(|e| panic!("{what}: {ip}: {e}"));
        assert_eq!((answer.status, answer.backend()), (200, "one"), "{what}: {ip}");
    }
}

#[test]
fn a_killed_agent_fails_closed_and_a_new_one_takes_over() {
    let lab = Lab::new("kill");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    let mut agent = Agent::start(&lab.gateway, &yaml(&one), WORKERS);
    works(&lab, "before");
    let pins = agent.bpffs().pins();
    let lookups = agent.metric("sluice_lookups_total");
    for round in 0..3 {
        agent.kill();
        assert_eq!(agent.bpffs().pins(), pins, "the pins outlive the agent");
        for (ip, _) in FAMILIES {
            let refusal = Http::connect(&lab.client, at(ip, 80)).expect_err("no worker is there");
            assert_eq!(refusal.kind(), ErrorKind::ConnectionRefused, "round {round}: {ip}");
        }
        agent.launch();
        agent.wait_ready();
        works(&lab, "after");
        assert_eq!(agent.bpffs().pins(), pins, "round {round}");
    }
    assert!(agent.metric("sluice_lookups_total") >= lookups + 12.0, "counters outlive the agent");
}

#[test]
fn a_starting_agent_accepts_nothing_that_it_could_not_serve() {
    let lab = Lab::new("restart");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    // A name that nobody answers for makes the start take two seconds.
    let external = "---\napiVersion: v1\nkind: Service\nmetadata: {name: outside}\n\
                    spec: {type: ExternalName, externalName: a.example.org}\n";
    let text =
        yaml(&one) + external + &http_route("outside", &["web"], &["outside"], &[prefix("/", &["outside"])]);
    let resolver = at(BACKEND4, 53).to_string();
    let mut agent = Agent::start(&lab.gateway, &text, &["--workers", "2", "--resolver", &resolver]);
    works(&lab, "before");
    agent.kill();
    let ready = AtomicBool::new(false);
    let (refused, served) = thread::scope(|scope| {
        let clients = FAMILIES.map(|(ip, _)| {
            let (lab, ready) = (&lab, &ready);
            scope.spawn(move || {
                let (mut refused, mut served) = (0, 0);
                while !ready.load(Ordering::Relaxed) || served == 0 {
                    let mut connection = match Http::connect(&lab.client, at(ip, 80)) {
                        Ok(connection) => connection,
                        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                            refused += 1;
                            continue;
                        }
                        Err(e) => panic!("{ip}: {e}"),
                    };
                    let answer = connection.get("a", "/").unwrap_or_else(|e| {
                        panic!("{ip}: accepted and not served, after {refused} refused: {e}")
                    });
                    assert_eq!(answer.status, 200, "{ip}");
                    served += 1;
                }
                (refused, served)
            })
        });
        agent.launch();
        agent.wait_ready();
        ready.store(true, Ordering::Relaxed);
        let counts = clients.map(|client| client.join().expect("a client"));
        (counts[0].0 + counts[1].0, counts[0].1 + counts[1].1)
    });
    println!("{refused} connections refused and {served} served while the agent started");
    assert!(refused > 0, "the agent was dead for a while");
}

#[test]
fn two_agents_live_side_by_side() {
    let (left, right) = (Lab::new("left"), Lab::new("right"));
    let one = echo::http(&left.backend, at(BACKEND4, 8001), "one");
    let two = echo::http(&right.backend, at(BACKEND4, 8001), "one");
    let _first = Agent::start(&left.gateway, &yaml(&one), WORKERS);
    let second = Agent::start(&right.gateway, &yaml(&two), WORKERS);
    works(&left, "left");
    works(&right, "right");
    assert_eq!((one.requests(), two.requests()), (2, 2));
    drop(second);
    works(&left, "left alone");
}

#[test]
fn stopping_ends_requests_under_way_well() {
    let lab = Lab::new("stop");
    let one = echo::http(&lab.backend, at(BACKEND4, 8001), "one");
    let mut agent = Agent::start(&lab.gateway, &yaml(&one), WORKERS);
    works(&lab, "before");
    let slow = |to: SocketAddr| {
        let mut connection = Http::connect(&lab.client, to).expect("a connection");
        let request = Request::get("/").header("host", "a").header("x-delay", "700");
        connection.send(request.body(bytes::Bytes::new()).expect("a request")).map(|answer| answer.status)
    };
    let statuses = thread::scope(|scope| {
        let requests = FAMILIES.map(|(ip, _)| scope.spawn(move || slow(at(ip, 80))));
        thread::sleep(Duration::from_millis(200));
        assert!(agent.stop().success(), "{}", agent.log());
        requests.map(|request| request.join().expect("no panic"))
    });
    for status in statuses {
        assert_eq!(status.expect("a request under way ends well"), 200);
    }
}
