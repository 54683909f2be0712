//! Endpoints: which one is chosen, what happens when one misbehaves, and when a request is sent again.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::objects;
use gateway_user::proxy::Config;

use super::fixture::*;

#[test]
fn weights_are_met() {
    let (one, two) = (Backend::echo(false, "one"), Backend::echo(false, "two"));
    let yaml = objects::service("one", &[one.at])
        + &objects::service("two", &[two.at])
        + &objects::http_route("w", &["gw"], &[], &[objects::prefix("/", &["one 9", "two 1"])]);
    let gateway = Gateway::http(single(), &yaml);
    let mut client = Peer::connect(gateway.at(false));
    let twos = (0..1_000).filter(|_| client.get("/").text().starts_with("two")).count();
    assert!((99..=101).contains(&twos), "{twos} of 1,000 at weight 1 of 10");
}

#[test]
fn endpoints_take_turns_and_those_that_refuse_are_left_alone() {
    for v6 in FAMILIES {
        let (one, two) = (Backend::echo(v6, "one"), Backend::echo(v6, "two"));
        let gateway = Gateway::http(single(), &web(&[one.at, refusing(v6), two.at]));
        let mut client = Peer::connect(gateway.at(v6));
        let mut seen = [0; 2];
        for _ in 0..60 {
            let answer = client.get("/");
            assert_eq!(answer.status(), 200);
            seen[usize::from(answer.text().starts_with("two"))] += 1;
        }
        assert!(seen.iter().all(|n| *n >= 20), "{seen:?}");
        assert_eq!(gateway.totals().upstream_failures, 1);
    }
}

/// A backend whose connections serve so many requests each and are then closed without a word.
fn forgetful(requests: usize, seen: Arc<AtomicU64>) -> Backend {
    Backend::new(false, move |_, stream| {
        let mut peer = Peer::new(stream);
        for _ in 0..requests {
            if peer.message(true).is_none() {
                return;
            }
            seen.fetch_add(1, Ordering::Relaxed);
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
        // Dies just when the next request comes: the race that no check before sending can win.
        let _next = peer.stream.peek(&mut [0]);
        peer.stream.shutdown(Shutdown::Both).ok();
    })
}

#[test]
fn a_request_that_met_a_stale_connection_is_sent_again_if_that_is_safe() {
    let seen = Arc::new(AtomicU64::new(0));
    let backend = forgetful(1, seen.clone());
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    for _ in 0..20 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(gateway.totals().upstream_retries, 19);
    // A request that may not be repeated is not, and says so.
    let answer = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!(answer.status(), 502);
    assert_eq!(seen.load(Ordering::Relaxed), 20);
}

#[test]
fn a_connection_that_the_backend_has_closed_is_not_used() {
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        peer.message(true);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    for _ in 0..10 {
        let answer = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx");
        assert_eq!(answer.status(), 200);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((backend.connections(), gateway.totals().upstream_retries), (10, 0));
}

#[test]
fn garbage_and_early_ends_get_502() {
    for v6 in FAMILIES {
        for answer in [
            "",
            "HTTP/1.1 200",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        ] {
            let backend = Backend::new(v6, move |_, stream| {
                let mut peer = Peer::new(stream);
                peer.message(true);
                peer.send(answer);
            });
            let gateway = Gateway::http(single(), &web(&[backend.at]));
            let mut client = Peer::connect(gateway.at(v6));
            assert_eq!(client.get("/").status(), 502, "{answer:?}");
            // The client's connection is not hurt.
            assert_eq!(client.get("/").status(), 502, "{answer:?}");
        }
    }
}

#[test]
fn an_endless_header_is_refused() {
    let backend = Backend::new(false, |_, mut stream| {
        let filler = [b'x'; 10_000];
        while stream.write_all(&filler).is_ok() {}
    });
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    assert_eq!(get(gateway.at(false), "/").status(), 502);
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhal\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhal\r\nxyz\r\n",
    ] {
        let backend = Backend::new(false, move |_, stream| {
            let mut peer = Peer::new(stream);
            peer.message(true);
            peer.send(answer);
        });
        let gateway = Gateway::http(single(), &web(&[backend.at]));
        let mut client = Peer::connect(gateway.at(false));
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.message(false).is_none(), "{answer:?}");
        let mut old = Peer::connect(gateway.at(false));
        old.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
        assert!(old.rest().is_err(), "an HTTP/1.0 client took {answer:?} for complete");
    }
}

#[test]
fn bytes_after_an_answer_are_nobodys_answer() {
    let backend = Backend::says(
        false,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    );
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(backend.connections(), 5);
}

#[test]
fn timeouts_get_504_and_nothing_hangs() {
    let backend = Backend::new(false, |_, mut stream| {
        let mut request = [0; 4096];
        let n = stream.read(&mut request).unwrap();
        if request[..n].starts_with(b"GET /slow-body") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal").unwrap();
        }
        thread::sleep(PATIENCE);
    });
    let rule = |timeouts: &str| {
        let rule = objects::prefix("/", &["web"]);
        format!("{}, timeouts: {timeouts}}}", rule.strip_suffix('}').unwrap())
    };
    for timeouts in ["{request: 200ms}", "{request: 10s, backendRequest: 200ms}"] {
        let yaml = objects::service("web", &[backend.at])
            + &objects::http_route("r", &["gw"], &[], &[rule(timeouts)]);
        let gateway = Gateway::http(single(), &yaml);
        let start = Instant::now();
        let mut client = Peer::connect(gateway.at(false));
        assert_eq!(client.get("/").status(), 504, "{timeouts}");
        assert!((200..5_000).contains(&start.elapsed().as_millis()), "{timeouts}: {:?}", start.elapsed());
        client.send("GET /slow-body HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.message(false).is_none());
    }
    // Without a route's timeout, the worker's own patience ends it.
    let gateway =
        Gateway::http(Config { body_idle: Duration::from_millis(300), ..single() }, &web(&[backend.at]));
    let mut client = Peer::connect(gateway.at(false));
    assert_eq!(client.get("/").status(), 504);
    client.send("GET /slow-body HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.message(false).is_none());
}
