//! The life of an agent: bad input, changes under traffic, a second agent, kill -9, stop, uninstall.

use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gateway_tests::agent::{Agent, get};
use gateway_tests::lab::{BACKEND4, GATEWAY4, Lab};
use gateway_tests::peers::{echo, server::Server};

use super::maps::{exchange, hits};
use super::objects;

const HTTP: SocketAddr = SocketAddr::new(GATEWAY4, 80);
const TCP: SocketAddr = SocketAddr::new(GATEWAY4, 9000);

fn peers(lab: &Lab) -> (Server, Server) {
    (
        echo::http(&lab.backend, SocketAddr::new(BACKEND4, 8080), "app"),
        echo::tcp(&lab.backend, SocketAddr::new(BACKEND4, 5432), "db"),
    )
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A command with the flags of all of the agent's places.
fn at_places(agent: &Agent<'_>, args: &[&str]) -> Output {
    let places = agent.places();
    let args: Vec<&str> = args.iter().copied().chain(places.iter().map(String::as_str)).collect();
    agent.sluice(&args)
}

#[test]
fn errors_at_the_start_end_it_and_touch_nothing() {
    let lab = Lab::new("bad-start");
    let mut agent = Agent::prepare(&lab.gateway, "kind: Gateway\n", &[]);
    agent.launch();
    let status = agent.wait_exit();
    assert_eq!(status.code(), Some(1));
    let log = agent.log();
    assert!(log.contains("sluice: the input is refused and nothing was changed:\n"), "{log}");
    assert!(log.contains("config.yaml:1:"), "{log}");
    assert!(agent.bpffs().pins().is_empty());
}

#[test]
fn a_bad_file_leaves_the_last_good_one_serving() {
    let lab = Lab::new("bad-file");
    let (http, tcp) = peers(&lab);
    let good = objects::web(http.address, tcp.address, "/");
    let agent = Agent::start(&lab.gateway, &good, &[]);
    let state = |agent: &Agent<'_>| agent.ask("status")["agent"]["configuration"].clone();
    assert_eq!(state(&agent)["error"], serde_json::Value::Null);

    agent.change("kind: Gateway\n");
    let shown = state(&agent);
    assert_eq!(shown["generation"], 1);
    assert!(shown["error"]["diagnostics"][0]["file"].as_str().expect("a file").ends_with("config.yaml"));
    assert_eq!(agent.metric_with("sluice_config_errors_total", &["reason=\"input\""]), 1.0);
    assert_eq!(agent.metric("sluice_config_current"), 0.0);
    assert!(agent.metric("sluice_config_last_error_timestamp_seconds") > 1.7e9);
    assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 200);

    // A file that vanishes is no better.
    std::fs::remove_file(agent.config()).expect("a file to remove");
    agent.wait("the vanished file to be refused", || {
        agent.metric_with("sluice_config_errors_total", &["reason=\"input\""]) >= 2.0
    });
    assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 200);

    agent.change(&good.replace("value: /}", "value: /new}"));
    assert_eq!(state(&agent)["error"], serde_json::Value::Null);
    assert_eq!(agent.metric("sluice_config_current"), 1.0);
    assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 404);
    assert_eq!(get(&lab.client, HTTP, "/new").expect("an answer").0, 200);
}

#[test]
fn changes_under_traffic_fail_no_request() {
    let lab = Lab::new("changes");
    let (http, tcp) = peers(&lab);
    let yaml = |n: u32| {
        let mut all = objects::web(http.address, tcp.address, "/");
        all.push_str(
            &objects::http_route(&format!("/n{n}")).replace("name: app}\n", &format!("name: n{n}}}\n")),
        );
        all
    };
    let agent = Agent::start(&lab.gateway, &yaml(0), &[]);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for at in [HTTP, TCP] {
            let (stop, sent, client) = (&stop, &sent, &lab.client);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if at == HTTP {
                        assert_eq!(get(client, at, "/").expect("an answer").0, 200);
                    } else {
                        assert_eq!(exchange(client, at, "x").expect("an answer"), "db\nx");
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 1..=20 {
            agent.change(&yaml(n));
        }
        // A reload without a change: SIGHUP.
        let generation = agent.metric("sluice_config_generation");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent.pid()), nix::sys::signal::Signal::SIGHUP)
            .expect("a signal");
        agent.wait("the reload", || agent.metric("sluice_config_generation") > generation);
        stop.store(true, Ordering::Relaxed);
    });
    assert!(sent.load(Ordering::Relaxed) > 100, "too little traffic to tell");
    assert_eq!(get(&lab.client, HTTP, "/n20").expect("an answer").0, 200);
}

#[test]
fn a_second_agent_is_refused_by_name() {
    let lab = Lab::new("two");
    let (http, tcp) = peers(&lab);
    let agent = Agent::start(&lab.gateway, &objects::web(http.address, tcp.address, "/"), &[]);
    let other = tempfile::tempdir().expect("a folder");
    let fresh = |name: &str| other.path().join(name).display().to_string();
    let places = agent.places();
    let [state, socket, pins] = [&places[1], &places[3], &places[5]];
    let metrics = agent.metrics_address().to_string();
    let config = agent.config().display().to_string();
    for (state, socket, pins, metrics, words) in [
        (state, &fresh("a.sock"), &fresh("pins"), "127.0.0.1:1", "another agent uses it"),
        (&fresh("state"), socket, &fresh("pins"), "127.0.0.1:1", "another agent answers there"),
        (&fresh("state"), &fresh("b.sock"), pins, "127.0.0.1:1", pins),
        (&fresh("state"), &fresh("c.sock"), &fresh("pins"), &metrics, "--metrics ADDRESS:PORT"),
    ] {
        let out = agent.sluice(&[
            "run",
            "-f",
            &config,
            "--state-dir",
            state,
            "--admin-socket",
            socket,
            "--pin-dir",
            pins,
            "--metrics",
            metrics,
        ]);
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains(words), "no `{words}` in {}", said(&out));
    }
    // The first one has not been hurt.
    assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 200);
    assert_eq!(agent.ask("status")["agent"]["pid"], agent.pid());
}

#[test]
fn a_killed_agent_is_followed_by_one_that_counts_on() {
    let lab = Lab::new("kill");
    let (http, tcp) = peers(&lab);
    let yaml = objects::web(http.address, tcp.address, "/");
    let mut agent = Agent::start(&lab.gateway, &yaml, &[]);
    for _ in 0..10 {
        assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 200);
    }
    let before = agent.ask("maps");
    assert!(hits(&before, 80) >= 10);
    agent.kill();
    let refused = exchange(&lab.client, TCP, "x").expect_err("a dead agent fails closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    agent.launch();
    agent.wait_ready();
    let after = agent.ask("maps");
    let id = |maps: &serde_json::Value| maps["bindings"].as_array().expect("bindings")[0]["id"].clone();
    assert_eq!(id(&before), id(&after), "what keeps its identity keeps its id");
    assert!(hits(&after, 80) >= hits(&before, 80), "{} then {}", hits(&before, 80), hits(&after, 80));
    let no_socket = |maps: &serde_json::Value| {
        let bindings = maps["bindings"].as_array().expect("bindings").iter();
        bindings.map(|b| b["lookups"]["noSocket"].as_u64().expect("a number")).sum::<u64>()
    };
    assert!(no_socket(&after) > no_socket(&before), "{after}");
    assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 200);
    assert_eq!(exchange(&lab.client, TCP, "x").expect("an answer"), "db\nx");
}

#[test]
fn a_stop_drains_and_keeps_the_pins() {
    let lab = Lab::new("stop");
    let (http, tcp) = peers(&lab);
    let mut agent = Agent::start(&lab.gateway, &objects::web(http.address, tcp.address, "/"), &[]);
    let pins = agent.bpffs().pins();
    assert!(!pins.is_empty());
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            lab.client.enter(|| {
                use std::io::{Read, Write};
                let mut stream = std::net::TcpStream::connect(HTTP).expect("a connection");
                stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-delay: 1500\r\n\r\n").expect("a write");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer and an end");
                answer
            })
        });
        agent.wait("the request to be under way", || http.requests() == 1);
        let status = agent.stop();
        assert_eq!(status.code(), Some(0), "{}", agent.log());
        let answer = slow.join().expect("a client");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
    assert_eq!(agent.bpffs().pins(), pins);
    let refused = exchange(&lab.client, TCP, "x").expect_err("nobody serves");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let out = agent.sluice(&["status", "--admin-socket", &agent.places()[3]]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("no agent answers on"), "{}", said(&out));
}

#[test]
fn the_deadline_of_a_drain_holds() {
    let lab = Lab::new("deadline");
    let (http, tcp) = peers(&lab);
    let yaml = objects::web(http.address, tcp.address, "/");
    let mut agent = Agent::start(&lab.gateway, &yaml, &["--drain-timeout", "300ms"]);
    let _open = lab.client.enter(|| std::net::TcpStream::connect(TCP).expect("a connection"));
    agent.wait("the connection to be relayed", || tcp.open() == 1);
    let begin = std::time::Instant::now();
    assert_eq!(agent.stop().code(), Some(0));
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    assert!(agent.log().contains("were cut"), "{}", agent.log());
}

#[test]
fn uninstall_leaves_nothing_behind() {
    let lab = Lab::new("uninstall");
    let (http, tcp) = peers(&lab);
    // An address that the gateway's host does not own: it is brought up, and must go again.
    let own: IpAddr = "10.9.1.77".parse().expect("an address");
    let yaml = objects::web(http.address, tcp.address, "/").replace(
        &objects::gateway(""),
        &objects::gateway(&format!("addresses: [{{type: IPAddress, value: {own}}}]")),
    );
    let mut agent = Agent::start(&lab.gateway, &yaml, &[]);
    assert_eq!(get(&lab.client, SocketAddr::new(own, 80), "/").expect("an answer").0, 200);
    let everywhere = || {
        let routes = lab.gateway.run("ip route show table all");
        let addresses = lab.gateway.run("ip address show");
        format!("{routes}{addresses}")
    };
    assert!(everywhere().contains("10.9.1.77"));

    let out = at_places(&agent, &["uninstall"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains(&format!("an agent (pid {}) runs", agent.pid())), "{}", said(&out));
    assert_eq!(get(&lab.client, SocketAddr::new(own, 80), "/").expect("an answer").0, 200);

    let out = at_places(&agent, &["uninstall", "--stop"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(agent.wait_exit().code(), Some(0));
    assert!(!everywhere().contains("10.9.1.77"), "{}", everywhere());
    assert!(agent.bpffs().pins().is_empty(), "{:?}", agent.bpffs().pins());
    for place in [&agent.places()[1], &agent.places()[3], &agent.places()[5]] {
        assert!(!std::path::Path::new(place).exists(), "{place}");
    }
    let out = at_places(&agent, &["uninstall"]);
    assert_eq!(said(&out), "there was nothing to remove\n");

    // The same after kill -9, when nobody could clean up.
    agent.launch();
    agent.wait_ready();
    agent.kill();
    assert!(everywhere().contains("10.9.1.77"));
    let out = at_places(&agent, &["uninstall"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(!everywhere().contains("10.9.1.77"), "{}", everywhere());
    assert!(agent.bpffs().pins().is_empty(), "{:?}", agent.bpffs().pins());
}

#[test]
fn the_bpf_log_is_off_until_it_is_set() {
    let lab = Lab::new("bpf-log");
    let (http, tcp) = peers(&lab);
    let agent = Agent::start(&lab.gateway, &objects::web(http.address, tcp.address, "/"), &[]);
    let socket = agent.places()[3].clone();
    let set = |level: &str| {
        let out = agent.sluice(&["set", "--bpf-log-level", level, "--admin-socket", &socket]);
        assert_eq!((out.status.code(), said(&out).as_str()), (Some(0), ""));
        assert_eq!(agent.ask("status")["agent"]["bpfLogLevel"], level);
    };
    let ask = || assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 200);
    let logged = || agent.log().contains("sluice_sk_lookup") || agent.log().contains("sluice_bpf");
    ask();
    assert!(!logged(), "{}", agent.log());
    set("debug");
    agent.wait("the BPF program's log", || {
        ask();
        logged()
    });
    set("off");
    ask();
}

#[test]
fn a_process_of_the_host_keeps_its_port_and_takes_none() {
    let lab = Lab::new("ports");
    let (http, tcp) = peers(&lab);
    let listen =
        |port: u16| lab.gateway.enter(|| std::net::TcpListener::bind(("0.0.0.0", port)).expect("a port"));
    let first = listen(9000);
    let agent = Agent::start(&lab.gateway, &objects::web(http.address, tcp.address, "/"), &[]);
    let accepted = |agent: &Agent<'_>, listener: usize| {
        let status = agent.ask("status");
        let conditions = status["gateways"][0]["listeners"][listener]["conditions"].as_array().cloned();
        let accepted = conditions.expect("conditions").into_iter().find(|c| c["type"] == "Accepted");
        accepted.expect("Accepted")["reason"].as_str().expect("a reason").to_owned()
    };
    assert_eq!((accepted(&agent, 0).as_str(), accepted(&agent, 1).as_str()), ("Accepted", "PortUnavailable"));
    // A later one on port 80 does not take what is bound already.
    let _second = listen(80);
    // The process goes: its port is free for us.
    drop(first);
    agent.wait("the freed port to be bound", || accepted(&agent, 1) == "Accepted");
    assert_eq!(exchange(&lab.client, TCP, "x").expect("an answer"), "db\nx");
    assert_eq!(accepted(&agent, 0), "Accepted");
    assert_eq!(get(&lab.client, HTTP, "/").expect("an answer").0, 200);
}
