//! Changes under traffic, and the end.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::objects;
use gateway_user::proxy::{CloseReason, Config};

use super::fixture::*;

#[test]
fn a_hundred_changes_under_traffic_fail_no_request_of_ten_thousand() {
    let backends = FAMILIES.map(|v6| Backend::echo(v6, if v6 { "six" } else { "four" }));
    let yaml = |version: usize| {
        objects::service("web", &[backends[0].at, backends[1].at])
            + &objects::http_route(
                "r",
                &["gw"],
                &[],
                &[objects::prefix("/", &["web"]), objects::prefix(&format!("/v{version}"), &["web"])],
            )
    };
    let mut gateway = Gateway::http(config(), &yaml(0));
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (at, done) = (gateway.at(n % 2 == 0), done.clone());
            thread::spawn(move || {
                let mut requests = 0;
                while requests < 1_250 || !done.load(Ordering::Relaxed) {
                    let mut client = Peer::connect(at);
                    for _ in 0..25 {
                        assert_eq!(client.get("/").status(), 200);
                        requests += 1;
                    }
                }
                requests
            })
        })
        .collect();
    for version in 1..=100 {
        gateway.publish(&yaml(version));
        // Whoever asks after the change is served by it, by whichever worker.
        for v6 in FAMILIES {
            assert!(get(gateway.at(v6), &format!("/v{version}")).text().contains("GET /v"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    done.store(true, Ordering::Relaxed);
    let requests: u64 = clients.into_iter().map(|c| c.join().unwrap()).sum();
    assert!(requests >= 10_000);
    gateway.wait("every request to be counted", |t| {
        t.http.iter().map(|(_, h)| h.status[1]).sum::<u64>() == requests + 200
    });
    assert!(gateway.totals().http.iter().all(|(_, h)| h.status[0] + h.status[3] + h.status[4] == 0));
}

#[test]
fn a_drain_finishes_what_is_under_way_and_says_close() {
    for v6 in FAMILIES {
        let (release, wait) = mpsc::sync_channel::<()>(1);
        let wait = Mutex::new(wait);
        let backend = Backend::new(v6, move |_, stream| {
            let mut peer = Peer::new(stream);
            while let Some(request) = peer.message(true) {
                if request.head.starts_with("GET /slow") {
                    wait.lock().unwrap().recv().unwrap();
                }
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let mut gateway = Gateway::http(single(), &web(&[backend.at]));
        let at = gateway.at(v6);
        let mut idle = Peer::connect(at);
        assert_eq!(idle.get("/").status(), 200);
        let mut busy = Peer::connect(at);
        busy.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        gateway.wait("two connections", |t| t.open == [2] && t.upstream_reuses == 1);
        let drained = gateway.drain(PATIENCE);
        assert!(idle.is_closed());
        let refused = Instant::now();
        while TcpStream::connect(at).is_ok() {
            assert!(refused.elapsed() < PATIENCE, "still accepting");
            thread::sleep(Duration::from_millis(5));
        }
        release.send(()).unwrap();
        let answer = busy.message(false).unwrap();
        assert_eq!((answer.status(), answer.field("connection")), (200, Some("close")));
        assert!(busy.is_closed());
        assert_eq!(drained.join().unwrap(), 0);
        assert_eq!(gateway.totals().open, [0]);
    }
}

#[test]
fn a_drain_cuts_what_is_left_at_its_deadline() {
    let backend = Backend::new(false, |_, _stream| thread::sleep(PATIENCE));
    let mut gateway = Gateway::tcp(config(), &tcp(&[backend.at]));
    let mut clients: Vec<_> = (0..3).map(|_| Peer::connect(gateway.at(false))).collect();
    gateway.wait("three connections", |t| t.open.iter().sum::<u64>() == 3 && t.upstream_connects == 3);
    let start = Instant::now();
    let drained = gateway.drain(Duration::from_millis(300));
    assert_eq!(drained.join().unwrap(), 3);
    assert!((300..5_000).contains(&start.elapsed().as_millis()));
    assert!(clients.iter_mut().all(|c| c.rest().is_err()), "what is cut must not look complete");
    assert_eq!(gateway.closed(CloseReason::Cut), 3);
}

/// A sink that keeps what is written.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn lines(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn wait(&self, lines: usize) -> Vec<serde_json::Value> {
        let start = Instant::now();
        while self.lines().len() < lines {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.lines());
            thread::sleep(Duration::from_millis(5));
        }
        self.lines()
    }
}

#[test]
fn the_access_log_tells_of_requests_and_connections() {
    let sink = Sink::default();
    let logged = || Config { access_log: Some(Box::new(sink.clone())), ..single() };
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(logged(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    client.ask("POST /a?b HTTP/1.1\r\nhost: x.example\r\nuser-agent: \"t\"\r\ncontent-length: 3\r\n\r\nabc");
    client.ask("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    let lines = sink.wait(2);
    let endpoint = backend.at.to_string();
    for (field, value) in [
        ("kind", "http"),
        ("method", "POST"),
        ("target", "/a?b"),
        ("host", "x.example"),
        ("user_agent", "\"t\""),
        ("listener", "default/gw/four"),
        ("route", "default/all"),
        ("backend", "default/web:80"),
        ("endpoint", &endpoint),
    ] {
        assert_eq!(lines[0][field], value, "{field} of {}", lines[0]);
    }
    assert_eq!((lines[0]["status"].as_u64(), lines[0]["bytes_in"].as_u64()), (Some(200), Some(3)));
    assert_eq!((lines[1]["status"].as_u64(), lines[1]["route"].as_str()), (Some(400), None));
    assert!(lines[1]["error"].as_str().unwrap().contains("Host"));

    let backend = Backend::new(false, |_, stream| drop(stream));
    let gateway = Gateway::tcp(logged(), &tcp(&[backend.at]));
    drop(Peer::connect(gateway.at(false)));
    let lines = sink.wait(3);
    assert_eq!(
        (lines[2]["kind"].as_str(), lines[2]["backend"].as_str()),
        (Some("tcp"), Some("default/web:80"))
    );
}

#[test]
fn a_log_that_nobody_writes_holds_up_nobody() {
    struct Stuck;
    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            thread::sleep(PATIENCE * 10);
            Ok(0)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let backend = Backend::echo(false, "one");
    let gateway =
        Gateway::http(Config { access_log: Some(Box::new(Stuck)), ..single() }, &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    let long = "x".repeat(2_000);
    for _ in 0..9_000 {
        assert_eq!(client.get(&format!("/{long}")).status(), 200);
    }
    gateway.wait("lines to be dropped", |t| t.log_dropped > 0);
}
