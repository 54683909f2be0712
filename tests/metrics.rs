//! The metrics of the real agent: equal to what was sent, proper in form, scraped by a real Prometheus.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway_tests::agent::Agent;
use gateway_tests::client::{self, Http};
use gateway_tests::lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab};
use gateway_tests::netns::NetNs;
use gateway_tests::objects::{gateway, http_route, prefix, service, tcp_route};
use gateway_tests::peers::echo;

/// Two hostnames on one port, each with its route, one of them with two rules; a TCP listener.
fn yaml(one: SocketAddr, two: SocketAddr, db: SocketAddr) -> String {
    let exact =
        "{name: exact, matches: [{path: {type: Exact, value: /b}}], backendRefs: [{name: one, port: 80}]}";
    [
        gateway("web", None, ["one HTTP 80", "two HTTP 80", "tcp TCP 9000"])
            .replace("{name: one,", "{name: one, hostname: one.example.com,")
            .replace("{name: two,", "{name: two, hostname: two.example.com,"),
        http_route("one", &["web/one"], &[], &[prefix("/", &["one"])]),
        http_route("two", &["web/two"], &[], &[prefix("/a", &["two"]), exact.to_owned()]),
        tcp_route("db", &["web/tcp"], &["db"]),
        service("one", &[one]),
        service("two", &[two]),
        service("db", &[db]),
    ]
    .concat()
}

/// Requests on one connection that is kept alive: host, path, and the status that comes back.
fn keep_alive(ns: &NetNs, at: SocketAddr, requests: &[(&str, &str, u16)]) {
    let mut connection = Http::connect(ns, at).expect("a connection");
    for (host, path, status) in requests {
        assert_eq!(connection.get(host, path).expect("an answer").status, *status, "{host}{path}");
    }
}

#[test]
fn metrics_equal_what_was_sent() {
    for (name, gateway, backend) in [("metrics4", GATEWAY4, BACKEND4), ("metrics6", GATEWAY6, BACKEND6)] {
        let lab = Lab::new(name);
        let one = echo::http(&lab.backend, SocketAddr::new(backend, 8081), "one");
        let two = echo::http(&lab.backend, SocketAddr::new(backend, 8082), "two");
        let db = echo::tcp(&lab.backend, SocketAddr::new(backend, 5432), "db");
        let agent = Agent::start(
            &lab.gateway,
            &yaml(one.address, two.address, db.address),
            &["--workers", "2", "--forward", "off"],
        );
        let at = SocketAddr::new(gateway, 80);
        let (first, second) = ("one.example.com", "two.example.com");
        for _ in 0..3 {
            // Both hostnames on one connection, too.
            keep_alive(
                &lab.client,
                at,
                &[
                    (first, "/", 200),
                    (first, "/x", 200),
                    (second, "/a", 200),
                    (second, "/a/b", 200),
                    (second, "/b", 200),
                    (second, "/c", 404),
                    ("three.example.com", "/", 404),
                ],
            );
        }
        for _ in 0..4 {
            assert_eq!(client::tcp(&lab.client, SocketAddr::new(gateway, 9000), 500).expect("bytes"), "db");
        }
        // Connections are counted when they are accepted, bytes and latencies when they have ended.
        agent.wait("the connections to be over", || agent.metric("sluice_connections_open") == 0.0);

        let requests = |labels: &[&str]| agent.metric_with("sluice_http_requests_total", labels);
        let of = |route: &str, rule: &str, backend: &str, code: &str| {
            requests(&[
                &format!("route=\"{route}\""),
                &format!("rule=\"{rule}\""),
                &format!("backend=\"{backend}\""),
                &format!("code=\"{code}\""),
            ])
        };
        assert_eq!(of("default/one", "0", "default/one:80", "2xx"), 6.0, "{}", agent.metrics());
        assert_eq!(of("default/two", "0", "default/two:80", "2xx"), 6.0);
        assert_eq!(of("default/two", "exact", "default/one:80", "2xx"), 3.0);
        assert_eq!(requests(&["listener=\"default/web/one\"", "code=\"2xx\""]), 6.0);
        assert_eq!(requests(&["listener=\"default/web/two\"", "code=\"2xx\""]), 9.0);
        assert_eq!(requests(&["listener=\"default/web/two\"", "route=\"\"", "code=\"4xx\""]), 3.0);
        assert_eq!(requests(&["code=\"4xx\""]), 6.0);
        assert_eq!(requests(&[]), 21.0);
        assert_eq!((one.requests(), two.requests()), (9, 6));
        assert_eq!(agent.metric("sluice_http_request_duration_seconds_count"), 21.0);

        assert_eq!(agent.metric_with("sluice_connections_total", &["binding=\"*:80/tcp\""]), 3.0);
        assert_eq!(agent.metric_with("sluice_connections_total", &["binding=\"*:9000/tcp\""]), 4.0);
        let labels = [
            "binding=\"*:9000/tcp\"",
            "listener=\"default/web/tcp\"",
            "route=\"default/db\"",
            "service=\"default/db:80\"",
            &format!("backend=\"{}\"", db.address),
        ];
        assert_eq!(agent.metric_with("sluice_tcp_connections_total", &labels), 4.0);
        assert_eq!(agent.metric_with("sluice_tcp_received_bytes_total", &labels), 4.0 * 500.0);
        assert_eq!(agent.metric_with("sluice_tcp_sent_bytes_total", &labels), 4.0 * 503.0);
        assert_eq!(agent.metric_with("sluice_connections_closed_total", &["reason=\"done\""]), 7.0);

        let steered = ["binding=\"*:80/tcp\"", "verdict=\"steered\""];
        assert!(agent.metric_with("sluice_lookups_total", &steered) >= 3.0);
        assert!(agent.metric_with("sluice_map_entries", &["map=\"BINDINGS\""]) == 2.0);
        assert!(agent.metric("sluice_map_capacity") > agent.metric("sluice_map_entries"));
        assert_eq!((agent.metric("sluice_ready"), agent.metric("sluice_config_generation")), (1.0, 1.0));
        promtool(&agent.metrics());
    }
}

fn promtool(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (`cargo xtask setup` installs it)");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a write");
    let out = child.wait_with_output().expect("an end");
    let words = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && words.is_empty(), "{}: {words}", out.status);
}

/// A Prometheus in a namespace, with a folder of its own; dropping it ends it.
struct Prometheus {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }
}

#[test]
fn a_real_prometheus_scrapes_it() {
    let lab = Lab::new("prometheus");
    let one = echo::http(&lab.backend, SocketAddr::new(BACKEND4, 8081), "one");
    let db = echo::tcp(&lab.backend, SocketAddr::new(BACKEND4, 5432), "db");
    let agent = Agent::start(&lab.gateway, &yaml(one.address, one.address, db.address), &[]);
    let requests: Vec<_> = (0..5).map(|_| ("one.example.com", "/", 200)).collect();
    keep_alive(&lab.client, SocketAddr::new(GATEWAY4, 80), &requests);

    let directory = tempfile::tempdir().expect("a folder");
    let config = directory.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: sluice\n  static_configs:\n  - targets: ['{}']\n",
        agent.metrics_address()
    );
    std::fs::write(&config, text).expect("a file");
    let listen: SocketAddr = "127.0.0.1:9090".parse().expect("an address");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address={listen}"))
        .args(["--log.level=error"])
        .stdin(Stdio::null());
    let _prometheus = Prometheus { child: lab.gateway.spawn(&mut command), _directory: directory };

    let query = |query: &str| -> Vec<serde_json::Value> {
        let path = format!("/api/v1/query?query={query}");
        let Ok(answer) = client::get(&lab.gateway, listen, "prometheus", &path) else { return Vec::new() };
        if answer.status != 200 {
            return Vec::new();
        }
        let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        json["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    let begin = Instant::now();
    while query("sluice_http_requests_total").is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "Prometheus has scraped nothing");
        std::thread::sleep(Duration::from_millis(200));
    }
    let one = query(
        "sluice_http_requests_total%7Bbackend%3D%22default/one:80%22%2Ccode%3D%222xx%22%2Crule%3D%220%22%7D",
    );
    assert_eq!(one.len(), 1, "{one:?}");
    assert_eq!(one[0]["value"][1], "5");
    assert_eq!(one[0]["metric"]["listener"], "default/web/one");
    assert_eq!(query("up")[0]["value"][1], "1");
    let quantile = "histogram_quantile(0.99,sluice_http_request_duration_seconds_bucket)";
    assert!(!query(quantile).is_empty(), "the histogram is one");
}

#[test]
fn health_and_readiness() {
    let lab = Lab::new("health");
    let one = echo::http(&lab.backend, SocketAddr::new(BACKEND4, 8081), "one");
    let db = echo::tcp(&lab.backend, SocketAddr::new(BACKEND4, 5432), "db");
    let agent = Agent::start(&lab.gateway, &yaml(one.address, one.address, db.address), &[]);
    let ask = |path: &str| {
        let answer = client::get(&lab.gateway, agent.metrics_address(), "a", path).expect("an answer");
        (answer.status, String::from_utf8(answer.body.to_vec()).expect("text"))
    };
    assert_eq!(ask("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(ask("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(ask("/").0, 404);
    // By default the port is on loopback alone: the client does not reach it.
    let outside = SocketAddr::new(GATEWAY4, agent.metrics_address().port());
    let refused = Http::connect(&lab.client, outside).expect_err("nobody listens there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
