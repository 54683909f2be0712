//! What the command line and the outputs tell about the life of an agent: refused input, other agents, a restart, a
//! deadline, an uninstall. (That traffic survives all this is tested end to end.)

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::time::{Duration, Instant};

use gateway_tests::agent::Agent;
use gateway_tests::client::{self, Http};
use gateway_tests::lab::{BACKEND4, GATEWAY4, Lab};
use gateway_tests::peers::{echo, server::Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::maps::hits;
use super::{RELAY, WORKERS, web};

const HTTP: SocketAddr = SocketAddr::new(GATEWAY4, 80);
const TCP: SocketAddr = SocketAddr::new(GATEWAY4, 9000);

fn peers(lab: &Lab) -> (Server, Server) {
    (
        echo::http(&lab.backend, SocketAddr::new(BACKEND4, 8080), "app"),
        echo::tcp(&lab.backend, SocketAddr::new(BACKEND4, 5432), "db"),
    )
}

fn serves(lab: &Lab) {
    assert_eq!(client::get(&lab.client, HTTP, "a", "/").expect("an answer").status, 200);
    assert_eq!(client::tcp(&lab.client, TCP, 10).expect("an answer"), "db");
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
    assert_eq!(agent.wait_exit().code(), Some(1));
    let log = agent.log();
    assert!(log.contains("sluice: the input is refused and nothing was changed:\n"), "{log}");
    assert!(log.contains("config.yaml:1:"), "{log}");
    assert!(agent.bpffs().pins().is_empty());
    assert!(!std::path::Path::new(&agent.places()[3]).exists(), "the admin socket is gone");
}

#[test]
fn refused_input_is_shown_and_counted() {
    let lab = Lab::new("refused");
    let (http, tcp) = peers(&lab);
    let good = web(http.address, tcp.address);
    let agent = Agent::start(&lab.gateway, &good, WORKERS);
    let shown = || agent.ask("status")["agent"]["configuration"].clone();
    let first = shown();
    assert_eq!((&first["generation"], &first["error"]), (&1.into(), &Value::Null));

    agent.change("kind: Gateway\n");
    let refused = shown();
    assert_eq!((&refused["generation"], &refused["applied"]), (&1.into(), &first["applied"]));
    let diagnostic = &refused["error"]["diagnostics"][0];
    assert!(diagnostic["file"].as_str().expect("a file").ends_with("config.yaml"), "{diagnostic}");
    assert_eq!(agent.metric_with("sluice_config_errors_total", &["reason=\"input\""]), 1.0);
    assert!(agent.metric("sluice_config_last_error_timestamp_seconds") > 1.7e9);
    let socket = &agent.places()[3];
    let table = said(&agent.sluice(&["status", "--admin-socket", socket]));
    assert!(table.contains("error since ") && table.contains("config.yaml:1:"), "{table}");

    agent.change(&good);
    let again = shown();
    assert_eq!((&again["generation"], &again["error"]), (&2.into(), &Value::Null));
    // Nothing has changed for the objects: their conditions keep their times.
    let generation = agent.metric("sluice_config_generation");
    let before = agent.ask("status")["gateways"].clone();
    std::thread::sleep(Duration::from_millis(1100));
    kill(Pid::from_raw(agent.pid()), Signal::SIGHUP).expect("a signal");
    agent.wait("the reload", || agent.metric("sluice_config_generation") > generation);
    assert_eq!(agent.ask("status")["gateways"], before);
}

#[test]
fn a_second_agent_is_refused_by_name() {
    let lab = Lab::new("second");
    let (http, tcp) = peers(&lab);
    let agent = Agent::start(&lab.gateway, &web(http.address, tcp.address), WORKERS);
    let other = tempfile::tempdir().expect("a folder");
    let fresh = |name: &str| other.path().join(name).display().to_string();
    let places = agent.places();
    let [state, socket, pins] = [&places[1], &places[3], &places[5]];
    let metrics = agent.metrics_address().to_string();
    let config = agent.config().display().to_string();
    let free = "127.0.0.1:1";
    for (state, socket, pins, metrics, words) in [
        (state, &fresh("a.sock"), pins, free, "another agent uses it"),
        (&fresh("b"), socket, pins, free, "another agent answers there"),
        (&fresh("c"), &fresh("c.sock"), pins, free, pins),
        (&fresh("d"), &fresh("d.sock"), pins, &metrics, "--metrics ADDRESS:PORT"),
    ] {
        let mut args = vec!["run", "-f", &config, "--state-dir", state, "--admin-socket", socket];
        args.extend(["--pin-dir", pins, "--metrics", metrics]);
        let out = agent.sluice(&args);
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains(words), "no `{words}` in {}", said(&out));
    }
    serves(&lab);
    assert_eq!(agent.ask("status")["agent"]["pid"], agent.pid());
}

#[test]
fn ids_and_counters_outlive_kill_9() {
    let lab = Lab::new("count-on");
    let (http, tcp) = peers(&lab);
    let mut agent = Agent::start(&lab.gateway, &web(http.address, tcp.address), RELAY);
    for _ in 0..10 {
        serves(&lab);
    }
    let before = agent.ask("maps");
    assert!(hits(&before, 80) >= 10);
    agent.kill();
    let refused = client::tcp(&lab.client, TCP, 1).expect_err("a dead agent fails closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    agent.launch();
    agent.wait_ready();
    let after = agent.ask("maps");
    let ids = |maps: &Value| {
        let bindings = maps["bindings"].as_array().expect("bindings").iter();
        bindings.map(|b| (b["port"].clone(), b["id"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(ids(&before), ids(&after), "what keeps its identity keeps its id");
    assert!(hits(&after, 80) >= hits(&before, 80), "{before} then {after}");
    let no_socket = |maps: &Value| {
        let bindings = maps["bindings"].as_array().expect("bindings").iter();
        bindings.map(|b| b["lookups"]["noSocket"].as_u64().expect("a number")).sum::<u64>()
    };
    assert!(no_socket(&after) > no_socket(&before), "{before} then {after}");

    // A binding that goes and comes back is another one: it counts from zero.
    agent.change(&web(http.address, tcp.address).replace("port: 9000", "port: 9001"));
    agent.change(&web(http.address, tcp.address));
    let anew = agent.ask("maps");
    assert_eq!((hits(&anew, 9000), hits(&anew, 9001)), (0, 0), "{anew}");
    assert!(hits(&anew, 80) >= hits(&after, 80), "{after} then {anew}");
}

#[test]
fn the_deadline_of_a_drain_holds_and_a_second_signal_cuts() {
    let lab = Lab::new("deadline");
    let (http, tcp) = peers(&lab);
    for (drain, second_signal) in [("300ms", false), ("1h", true)] {
        let args = [RELAY, &["--drain-timeout", drain]].concat();
        let mut agent = Agent::start(&lab.gateway, &web(http.address, tcp.address), &args);
        let _open = lab.client.enter(|| std::net::TcpStream::connect(TCP).expect("a connection"));
        agent.wait("the connection to be relayed", || tcp.open() == 1);
        let begin = Instant::now();
        let status = if second_signal {
            kill(Pid::from_raw(agent.pid()), Signal::SIGINT).expect("a signal");
            agent.wait("the drain to begin", || agent.log().contains("connections are drained"));
            agent.stop()
        } else {
            agent.stop()
        };
        assert_eq!(status.code(), Some(0), "{}", agent.log());
        let took = begin.elapsed();
        assert!(second_signal || took > Duration::from_millis(300), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        agent.wait("the backend's connection to end", || tcp.open() == 0);
    }
}

#[test]
fn uninstall_stops_the_agent_only_if_told_to_and_leaves_nothing() {
    let lab = Lab::new("uninstall");
    let (http, tcp) = peers(&lab);
    // An address that the gateway's host does not own: it is brought up, and must go again.
    let own: IpAddr = "10.9.1.77".parse().expect("an address");
    let yaml = web(http.address, tcp.address)
        .replace("  listeners:", &format!("  addresses: [{{type: IPAddress, value: {own}}}]\n  listeners:"));
    let mut agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    let reaches = || client::get(&lab.client, SocketAddr::new(own, 80), "a", "/").expect("an answer").status;
    let everywhere = || {
        let routes = lab.gateway.run("ip route show table all");
        let addresses = lab.gateway.run("ip address show");
        format!("{routes}{addresses}")
    };
    assert_eq!(reaches(), 200);
    assert!(everywhere().contains("10.9.1.77"));

    let out = at_places(&agent, &["uninstall"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains(&format!("an agent (pid {}) runs", agent.pid())), "{}", said(&out));
    assert_eq!(reaches(), 200);

    let out = at_places(&agent, &["uninstall", "--stop"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(agent.wait_exit().code(), Some(0));
    let gone = |agent: &Agent<'_>| {
        assert!(!everywhere().contains("10.9.1.77"), "{}", everywhere());
        assert!(agent.bpffs().pins().is_empty(), "{:?}", agent.bpffs().pins());
        for place in [1, 3, 5] {
            let place = &agent.places()[place];
            assert!(!std::path::Path::new(place).exists(), "{place}");
        }
    };
    gone(&agent);
    let out = at_places(&agent, &["uninstall"]);
    assert_eq!(said(&out), "there was nothing to remove\n");

    // The same after kill -9, when nobody could clean up.
    agent.launch();
    agent.wait_ready();
    agent.kill();
    assert!(everywhere().contains("10.9.1.77"));
    let out = at_places(&agent, &["uninstall"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    gone(&agent);
}

#[test]
fn the_access_log_is_json_and_can_be_rotated() {
    let lab = Lab::new("access-log");
    let (http, tcp) = peers(&lab);
    let folder = tempfile::tempdir().expect("a folder");
    let (log, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let path = log.display().to_string();
    let args = [RELAY, &["--access-log", &path]].concat();
    let agent = Agent::start(&lab.gateway, &web(http.address, tcp.address), &args);
    let lines = |path: &std::path::Path| -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    };
    serves(&lab);
    agent.wait("a line for the request and one for the connection", || lines(&log).len() == 2);
    std::fs::rename(&log, &rotated).expect("a file to rename");
    kill(Pid::from_raw(agent.pid()), Signal::SIGHUP).expect("a signal");
    agent.wait("the file to be opened again", || log.exists());
    serves(&lab);
    agent.wait("the new file's lines", || lines(&log).len() == 2);
    assert_eq!(lines(&rotated).len(), 2);
}

#[test]
fn the_bpf_log_is_off_until_it_is_set() {
    let lab = Lab::new("bpf-log");
    let (http, tcp) = peers(&lab);
    let agent = Agent::start(&lab.gateway, &web(http.address, tcp.address), WORKERS);
    let socket = agent.places()[3].clone();
    let set = |level: &str| {
        let out = agent.sluice(&["set", "--bpf-log-level", level, "--admin-socket", &socket]);
        assert_eq!((out.status.code(), said(&out).as_str()), (Some(0), ""));
        assert_eq!(agent.ask("status")["agent"]["bpfLogLevel"], level);
    };
    let records = || agent.log().lines().filter(|line| line.contains("DEBUG")).count();
    serves(&lab);
    assert_eq!(records(), 0, "{}", agent.log());
    set("debug");
    agent.wait("the BPF program's log", || {
        serves(&lab);
        records() > 0
    });
    set("off");
    std::thread::sleep(Duration::from_millis(100));
    let before = records();
    serves(&lab);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(records(), before);
}

#[test]
fn a_process_of_the_host_keeps_its_port_and_takes_none() {
    let lab = Lab::new("ports");
    let (http, tcp) = peers(&lab);
    let listen =
        |port: u16| lab.gateway.enter(|| std::net::TcpListener::bind(("0.0.0.0", port)).expect("a port"));
    let first = listen(9000);
    let agent = Agent::start(&lab.gateway, &web(http.address, tcp.address), WORKERS);
    let accepted = |listener: usize| {
        let status = agent.ask("status");
        let conditions = status["gateways"][0]["listeners"][listener]["conditions"].as_array().cloned();
        let accepted = conditions.expect("conditions").into_iter().find(|c| c["type"] == "Accepted");
        accepted.expect("Accepted")["reason"].as_str().expect("a reason").to_owned()
    };
    assert_eq!((accepted(0).as_str(), accepted(1).as_str()), ("Accepted", "PortUnavailable"));
    // A later one on port 80 does not take what is bound already.
    let _second = listen(80);
    // The process goes: its port is free for us.
    drop(first);
    agent.wait("the freed port to be bound", || accepted(1) == "Accepted");
    serves(&lab);
    assert_eq!(accepted(0), "Accepted");
    drop(Http::connect(&lab.client, HTTP).expect("a connection"));
}

#[test]
fn the_metrics_port_is_not_taken_by_a_listener() {
    let lab = Lab::new("own-port");
    let (http, tcp) = peers(&lab);
    let port = 19901;
    let yaml = web(http.address, tcp.address).replace("port: 9000", &format!("port: {port}"));
    let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    assert_eq!(agent.metrics_address().port(), port);
    let listener = agent.ask("status")["gateways"][0]["listeners"][1].to_string();
    assert!(listener.contains("PortUnavailable") && listener.contains("sluice's own metrics"), "{listener}");
}
