//! What is refused: requests that could be read in two ways, that are too large or too slow, and listeners that
//! are not there.

use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::objects;
use gateway_user::proxy::{CloseReason, Config};

use super::fixture::*;

#[test]
fn ambiguous_and_malformed_requests_get_400_and_nothing_reaches_the_backend() {
    let cases: &[(&str, u16)] = &[
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\n x: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nhost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("garbage\r\n\r\n", 400),
        ("GET /a/../b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /a/%2e%2E/b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /. HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 501),
    ];
    for v6 in FAMILIES {
        let backend = Backend::echo(v6, "one");
        let gateway = Gateway::http(config(), &web(&[backend.at]));
        for (request, status) in cases {
            let mut client = Peer::connect(gateway.at(v6));
            let answer = client.ask(request);
            assert_eq!(answer.status(), *status, "{request:?}: {answer:?}");
            let rest = client.rest();
            assert!(matches!(&rest, Ok(rest) if rest.is_empty()), "{request:?} left {rest:?}");
        }
        assert_eq!(backend.connections(), 0);
        // The next one is not hurt.
        assert_eq!(get(gateway.at(v6), "/").status(), 200);
    }
}

#[test]
fn bad_chunks_end_the_request_before_the_next_begins() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    for chunks in ["x\r\n", "5\r\nhelloworld\r\n0\r\n\r\n", "-1\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "\r\n"] {
        let mut client = Peer::connect(gateway.at(false));
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        client.send(&format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{smuggled}"
        ));
        let answer = client.message(false).unwrap_or_else(|| panic!("no answer to {chunks:?}"));
        assert_eq!(answer.status(), 400, "{chunks:?}: {answer:?}");
        assert!(client.message(false).is_none(), "{chunks:?} was followed by another answer");
    }
}

#[test]
fn headers_that_are_too_large_get_431() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(config(), &web(&[backend.at]));
    for request in [
        format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(101)),
    ] {
        let answer = Peer::connect(gateway.at(false)).ask(&request);
        assert_eq!(answer.status(), 431);
    }
    let fits = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(50_000));
    assert_eq!(Peer::connect(gateway.at(false)).ask(&fits).status(), 200);
}

#[test]
fn slow_headers_get_408_and_idle_connections_are_closed() {
    let limits = Config {
        header_timeout: Duration::from_millis(300),
        keep_alive: Duration::from_millis(900),
        ..single()
    };
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(limits, &web(&[backend.at]));
    let start = Instant::now();
    let mut slow = Peer::connect(gateway.at(false));
    let mut sender = slow.stream.try_clone().unwrap();
    thread::spawn(move || {
        for byte in "GET / HTTP/1.1\r\nhost: a\r\nx-slow: yes, it is slow\r\n".bytes() {
            if std::io::Write::write_all(&mut sender, &[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(30));
        }
    });
    assert_eq!(slow.message(false).unwrap().status(), 408);
    assert!(start.elapsed() >= Duration::from_millis(300));
    let mut silent = Peer::connect(gateway.at(false));
    assert!(silent.is_closed());
    let mut idle = Peer::connect(gateway.at(false));
    assert_eq!(idle.get("/").status(), 200);
    let start = Instant::now();
    assert!(idle.is_closed());
    assert!(start.elapsed() >= Duration::from_millis(800), "{:?}", start.elapsed());
    gateway.wait("both reasons", |_| {
        gateway.closed(CloseReason::Idle) == 2 && gateway.closed(CloseReason::BadRequest) == 1
    });
}

#[test]
fn what_no_route_serves() {
    for v6 in FAMILIES {
        let backend = Backend::echo(v6, "one");
        let yaml = objects::service("web", &[backend.at])
            + &objects::service("empty", &[])
            + &objects::service("refuses", &[refusing(v6), refusing(v6)])
            + &objects::http_route(
                "r",
                &["gw"],
                &["a.example"],
                &[
                    objects::prefix("/web", &["web"]),
                    objects::prefix("/empty", &["empty"]),
                    objects::prefix("/refuses", &["refuses"]),
                    objects::prefix("/missing", &["missing"]),
                    objects::prefix("/nothing", &["web 0"]),
                    objects::prefix("/half", &["web", "missing"]),
                ],
            );
        let gateway = Gateway::http(single(), &yaml);
        let mut client = Peer::connect(gateway.at(v6));
        for (path, status) in [
            ("/web", 200),
            ("/webx", 404),
            ("/", 404),
            ("/empty", 503),
            ("/refuses", 503),
            ("/missing", 500),
            ("/nothing", 500),
        ] {
            assert_eq!(client.get(path).status(), status, "{path}");
        }
        let other = client.ask("GET /web HTTP/1.1\r\nhost: b.example\r\n\r\n");
        assert_eq!(other.status(), 404);
        let served = (0..100).filter(|_| client.get("/half").status() == 200).count();
        assert!((45..=55).contains(&served), "{served} of 100 to a valid backend of two");
    }
}

#[test]
fn a_port_without_a_binding_is_reset() {
    let mut gateway = Gateway::http(single(), "");
    let listener = gateway.at(false);
    assert_eq!(get(listener, "/").status(), 404);
    let mut kept = Peer::connect(listener);
    assert_eq!(kept.get("/").status(), 404);
    gateway.publish_nothing();
    let gone = kept.get("/");
    assert_eq!((gone.status(), gone.field("connection")), (404, Some("close")));
    assert!(Peer::connect(listener).rest().is_err());
    gateway.wait("the reset to be counted", |_| gateway.closed(CloseReason::Unknown) == 1);
}

#[test]
fn beyond_the_limit_connections_wait() {
    let backend = Backend::echo(false, "one");
    let gateway = Gateway::http(Config { max_connections: 2, ..single() }, &web(&[backend.at]));
    let mut first = Peer::connect(gateway.at(false));
    let mut second = Peer::connect(gateway.at(false));
    assert_eq!((first.get("/").status(), second.get("/").status()), (200, 200));
    let mut third = Peer::connect(gateway.at(false));
    third.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.message(false).is_none());
    assert_eq!(gateway.totals().open, [2]);
    third.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert_eq!(third.message(false).unwrap().status(), 200);
}
