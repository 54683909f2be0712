//! The metrics of the real agent: equal to what was sent, proper in form, scraped by a real Prometheus.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway_tests::agent::{Agent, get};
use gateway_tests::lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab};
use gateway_tests::netns::NetNs;
use gateway_tests::peers::echo;

/// Two hostnames on one port, each with its route, one with two rules; a TCP listener.
fn yaml(one: SocketAddr, two: SocketAddr, tcp: SocketAddr) -> String {
    let service = |name: &str, port: u16, at: SocketAddr| {
        let family = if at.is_ipv6() { "IPv6" } else { "IPv4" };
        let (ip, target) = (at.ip(), at.port());
        format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {family}
ports: [{{port: {target}}}]
endpoints: [{{addresses: [\"{ip}\"]}}]
"
        )
    };
    let objects = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: sluice
  listeners:
  - {name: one, protocol: HTTP, port: 80, hostname: one.example.com}
  - {name: two, protocol: HTTP, port: 80, hostname: two.example.com}
  - {name: tcp, protocol: TCP, port: 9000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: one}
spec:
  parentRefs: [{name: web, sectionName: one}]
  rules:
  - backendRefs: [{name: one, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: two}
spec:
  parentRefs: [{name: web, sectionName: two}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /a}}]
    backendRefs: [{name: two, port: 80}]
  - name: exact
    matches: [{path: {type: Exact, value: /b}}]
    backendRefs: [{name: one, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: db}
spec:
  parentRefs: [{name: web, sectionName: tcp}]
  rules:
  - backendRefs: [{name: db, port: 5432}]
";
    [objects.to_owned(), service("one", 80, one), service("two", 80, two), service("db", 5432, tcp)].concat()
}

/// Requests on one connection that is kept alive: host, path, and the status that comes back.
fn keep_alive(ns: &NetNs, at: SocketAddr, requests: &[(&str, &str, u16)]) {
    ns.enter(|| {
        let mut stream = TcpStream::connect(at).expect("a connection");
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        for (host, path, expected) in requests {
            write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").expect("a write");
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).expect("a line") > 0, "closed after {head:?}");
            }
            let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
            assert_eq!(status, *expected, "{host}{path}");
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|n| n.trim().parse().ok()).expect("a length");
            reader.read_exact(&mut vec![0; length]).expect("a body");
        }
    });
}

fn tcp(ns: &NetNs, at: SocketAddr, words: &str) {
    ns.enter(|| {
        let mut stream = TcpStream::connect(at).expect("a connection");
        stream.write_all(words.as_bytes()).expect("a write");
        stream.shutdown(std::net::Shutdown::Write).expect("a half-close");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, format!("db\n{words}"));
    });
}

#[test]
fn metrics_equal_what_was_sent() {
    for (name, gateway, backend) in [("metrics4", GATEWAY4, BACKEND4), ("metrics6", GATEWAY6, BACKEND6)] {
        let lab = Lab::new(name);
        let one = echo::http(&lab.backend, SocketAddr::new(backend, 8081), "one");
        let two = echo::http(&lab.backend, SocketAddr::new(backend, 8082), "two");
        let db = echo::tcp(&lab.backend, SocketAddr::new(backend, 5432), "db");
        let agent =
            Agent::start(&lab.gateway, &yaml(one.address, two.address, db.address), &["--workers", "2"]);
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
            tcp(&lab.client, SocketAddr::new(gateway, 9000), "hello");
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
            "service=\"default/db:5432\"",
            &format!("backend=\"{}\"", db.address),
        ];
        assert_eq!(agent.metric_with("sluice_tcp_connections_total", &labels), 4.0);
        assert_eq!(agent.metric_with("sluice_tcp_received_bytes_total", &labels), 4.0 * 5.0);
        assert_eq!(agent.metric_with("sluice_tcp_sent_bytes_total", &labels), 4.0 * 8.0);
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
        let answer = get(&lab.gateway, listen, &format!("/api/v1/query?query={query}"));
        let Some((200, body)) = answer else { return Vec::new() };
        let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        json["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    let begin = Instant::now();
    while query("sluice_http_requests_total").is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "Prometheus has scraped nothing");
        std::thread::sleep(Duration::from_millis(200));
    }
    let one = query("sluice_http_requests_total%7Broute%3D%22default/one%22%2Ccode%3D%222xx%22%7D");
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
    let ask = |path: &str| get(&lab.gateway, agent.metrics_address(), path).expect("an answer");
    assert_eq!(ask("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(ask("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(ask("/").0, 404);
    // By default the port is on loopback alone: the client does not reach it.
    let outside = SocketAddr::new(GATEWAY4, agent.metrics_address().port());
    assert_eq!(get(&lab.client, outside, "/metrics"), None);
}
