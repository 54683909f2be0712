//! HTTP through the gateway: which backend answers, what is answered without one, and that it is counted.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use gateway_tests::{
    agent::Agent,
    client::{self, Http},
    lab::{BACKEND4, BACKEND6, CLIENT4, CLIENT6, GATEWAY4, Lab},
    objects::{gateway, http_route, prefix, service},
};

use super::{Bed, FAMILIES, WORKERS, at, web};

#[test]
fn hosts_and_prefixes_reach_their_backends() {
    let Bed { lab, one: _one, two: _two, services } = Bed::http("http");
    let yaml = [
        gateway("web", None, ["http HTTP 80"]),
        services,
        http_route("a", &["web"], &["a.example"], &[prefix("/", &["one"]), prefix("/two", &["two"])]),
        http_route("any", &["web"], &["*.wild.example"], &[prefix("/", &["two"])]),
    ]
    .concat();
    let _agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    for (ip, client) in [(GATEWAY4, CLIENT4), (gateway_tests::lab::GATEWAY6, CLIENT6)] {
        let mut connection = Http::connect(&lab.client, at(ip, 80)).expect("a connection");
        for (host, path, status, backend) in [
            ("a.example", "/", 200, "one"),
            ("A.EXAMPLE:80", "/x?y=z", 200, "one"),
            ("a.example", "/two", 200, "two"),
            ("a.example", "/two/x", 200, "two"),
            ("a.example", "/twofold", 200, "one"),
            ("b.wild.example", "/", 200, "two"),
            ("wild.example", "/", 404, ""),
            ("b.example", "/", 404, ""),
        ] {
            let answer = connection.get(host, path).expect("an answer");
            assert_eq!((answer.status, answer.backend()), (status, backend), "{ip}: {host}{path}");
            if status == 200 {
                let echo = answer.echo();
                assert_eq!(echo.path, path);
                assert_eq!(echo.headers["x-forwarded-for"], client.to_string());
                assert_eq!(echo.headers["host"], host);
            }
        }
    }
}

#[test]
fn an_answer_that_ends_its_connection_comes_with_the_fin() {
    let Bed { lab, one: _one, services, .. } = Bed::http("last");
    let yaml = services + &web();
    let _agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    for (ip, _) in FAMILIES {
        lab.client.enter(|| {
            let mut connection = TcpStream::connect(at(ip, 80)).expect("a connection");
            connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("room");
            let mut answer = String::new();
            connection.read_to_string(&mut answer).expect("an answer and its end");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            // SYN-ACK; an acknowledgement of the request, which may also come with the answer; answer and FIN.
            let received = segments_received(&connection);
            assert!(received <= 3, "{ip}: {received} segments");
        });
    }
}

/// TCP segments that a socket has received, as `ss` tells.
fn segments_received(socket: &TcpStream) -> u64 {
    let port = socket.local_addr().expect("an address").port();
    let out = Command::new("ss").args(["-tinH", &format!("sport = {port}")]).output().expect("ss runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let count = text.split_whitespace().find_map(|word| word.strip_prefix("segs_in:"));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no segs_in: {text}"))
}

#[test]
fn weights_are_kept_to() {
    let Bed { lab, one, two, services } = Bed::http("weights");
    let yaml = [
        gateway("web", None, ["http HTTP 80"]),
        services,
        http_route("a", &["web"], &[], &[prefix("/", &["one 3", "two 1"])]),
    ]
    .concat();
    let _agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    for (ip, _) in FAMILIES {
        let before = (one.requests(), two.requests());
        for _ in 0..4 {
            let mut connection = Http::connect(&lab.client, at(ip, 80)).expect("a connection");
            for _ in 0..100 {
                assert_eq!(connection.get("a", "/").expect("an answer").status, 200);
            }
        }
        let (one, two) = (one.requests() - before.0, two.requests() - before.1);
        assert_eq!(one + two, 400);
        assert!((280..=320).contains(&one), "{ip}: 3 to 1 is not {one} to {two}");
    }
}

#[test]
fn what_has_no_backend_gets_the_status_that_the_spec_names() {
    let lab = Lab::new("answers");
    let yaml = [
        gateway("web", None, ["http HTTP 80"]),
        service("empty", &[]),
        service("refuses", &[at(BACKEND4, 9), at(BACKEND6, 9)]),
        http_route(
            "a",
            &["web"],
            &[],
            &[
                prefix("/missing", &["no-such"]),
                prefix("/empty", &["empty"]),
                prefix("/refuses", &["refuses"]),
            ],
        ),
    ]
    .concat();
    let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    for (round, (ip, _)) in (1..).zip(FAMILIES) {
        for (path, status) in
            [("/", 404), ("/missing", 500), ("/empty", 503), ("/refuses", 503), ("/a/../b", 400)]
        {
            let answer = client::get(&lab.client, at(ip, 80), "a", path).expect("an answer");
            assert_eq!(answer.status, status, "{ip}: {path}");
        }
        agent.wait("requests to be counted", || {
            agent.metric_with("sluice_http_requests_total", &["code=\"5xx\""]) == f64::from(3 * round)
        });
    }
}

#[test]
fn counts_equal_what_was_sent() {
    let Bed { lab, one: _one, two: _two, services } = Bed::http("counts");
    let yaml = [
        gateway("web", None, ["http HTTP 80"]),
        services,
        http_route("a", &["web"], &["a.example"], &[prefix("/", &["one"])]),
        http_route("b", &["web"], &["b.example"], &[prefix("/", &["two"])]),
    ]
    .concat();
    let agent = Agent::start(&lab.gateway, &yaml, WORKERS);
    let requests = |labels: &[&str]| agent.metric_with("sluice_http_requests_total", labels);
    for (round, (ip, _)) in (1..).zip(FAMILIES) {
        let misses = agent.metric("sluice_lookup_misses_total");
        // Keep-alive: two hostnames over the same connections.
        for _ in 0..5 {
            let mut connection = Http::connect(&lab.client, at(ip, 80)).expect("a connection");
            for _ in 0..7 {
                assert_eq!(connection.get("a.example", "/").expect("an answer").backend(), "one");
                assert_eq!(connection.get("b.example", "/").expect("an answer").backend(), "two");
                assert_eq!(connection.get("c.example", "/").expect("an answer").status, 404);
            }
        }
        assert!(client::get(&lab.client, at(ip, 81), "a", "/").is_err(), "nothing listens on port 81");
        let (sent, connections) = (f64::from(35 * round), f64::from(5 * round));
        agent.wait("requests to be counted", || requests(&["listener=\"default/web/http\""]) == 3.0 * sent);
        assert_eq!(requests(&["route=\"default/a\"", "backend=\"default/one:80\"", "code=\"2xx\""]), sent);
        assert_eq!(requests(&["route=\"default/b\"", "backend=\"default/two:80\"", "code=\"2xx\""]), sent);
        assert_eq!(requests(&["route=\"\"", "code=\"4xx\""]), sent);
        assert_eq!(agent.metric_with("sluice_connections_total", &["binding=\"*:80/tcp\""]), connections);
        let steered =
            agent.metric_with("sluice_lookups_total", &["binding=\"*:80/tcp\"", "verdict=\"steered\""]);
        assert!(steered >= connections, "{steered} lookups for {connections} connections");
        assert!(agent.metric("sluice_lookup_misses_total") > misses, "a port without a binding is a miss");
    }
}

#[test]
fn a_client_that_is_slow_hurts_nobody() {
    let Bed { lab, one: _one, services, .. } = Bed::http("slow");
    let yaml = services + &web();
    let _agent = Agent::start(&lab.gateway, &yaml, &["--workers", "1"]);
    for (ip, _) in FAMILIES {
        // One that dawdles over its header, one that asks for much and never reads it.
        let connect = || lab.client.enter(|| TcpStream::connect(at(ip, 80))).expect("a connection");
        let mut dawdler = connect();
        dawdler.write_all(b"GET / HT").expect("a write");
        let mut reader = connect();
        reader.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-size: 100000000\r\n\r\n").expect("a write");
        thread::sleep(Duration::from_millis(200));
        let mut connection = Http::connect(&lab.client, at(ip, 80)).expect("a connection");
        for _ in 0..100 {
            assert_eq!(connection.get("a", "/").expect("an answer").status, 200);
        }
        dawdler.write_all(b"TP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("a write");
        let mut answer = String::new();
        dawdler.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

/// HTTPRouteRedirectPortAndScheme of the conformance tests, as far as HTTP goes: the listener's own port counts.
#[test]
fn redirects_have_the_listeners_port_and_are_counted_and_logged_as_such() {
    let lab = Lab::new("redirect");
    let to = |path: &str, filter: &str| {
        format!(
            "{{matches: [{{path: {{value: /{path}}}}}], \
             filters: [{{type: RequestRedirect, requestRedirect: {{{filter}hostname: example.org}}}}]}}"
        )
    };
    let rules = [
        to("nil-nil", ""),
        to("nil-80", "port: 80, "),
        to("nil-8080", "port: 8080, "),
        to("https-nil", "scheme: https, "),
        to("https-443", "scheme: https, port: 443, "),
        to("https-8443", "scheme: https, port: 8443, "),
    ];
    let yaml = gateway("web", None, ["plain HTTP 80", "other HTTP 8080"])
        + &http_route("to", &["web"], &["*.example"], &rules);
    let log = tempfile::NamedTempFile::new().expect("a file");
    let log_args = ["--access-log", log.path().to_str().expect("a path")];
    let agent = Agent::start(&lab.gateway, &yaml, &[WORKERS, &log_args].concat());
    let mut asked = 0;
    for (ip, _) in FAMILIES {
        for (port, path, location) in [
            (80, "/nil-nil", "http://example.org/nil-nil"),
            (80, "/nil-80", "http://example.org/nil-80"),
            (80, "/nil-8080", "http://example.org:8080/nil-8080"),
            (80, "/https-nil", "https://example.org/https-nil"),
            (80, "/https-443", "https://example.org/https-443"),
            (80, "/https-8443", "https://example.org:8443/https-8443"),
            (8080, "/nil-nil", "http://example.org:8080/nil-nil"),
            (8080, "/nil-80", "http://example.org/nil-80"),
            (8080, "/https-nil", "https://example.org/https-nil"),
        ] {
            let answer = client::get(&lab.client, at(ip, port), "a.example:7", path).expect("an answer");
            let got = answer.headers.get("location").and_then(|value| value.to_str().ok());
            assert_eq!((answer.status, got), (302, Some(location)), "{ip}:{port}{path}");
            asked += 1;
        }
    }
    let labels = ["route=\"default/to\"", "backend=\"\"", "code=\"3xx\""];
    let counted = || agent.metric_with("sluice_http_requests_total", &labels);
    agent.wait("the requests to be counted", || counted() == f64::from(asked));
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(log.path()).expect("the access log");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    agent.wait("the lines of the access log", || lines().len() == asked as usize);
    for line in lines() {
        assert_eq!(
            (line["status"].as_u64(), line["route"].as_str()),
            (Some(302), Some("default/to")),
            "{line}"
        );
        assert!(line["backend"].is_null() && line["error"].is_null(), "{line}");
    }
}
