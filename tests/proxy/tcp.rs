//! The relay: as the one side ends it, so it ends for the other; what is not read is not kept without bound.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::objects;
use gateway_user::proxy::{CloseReason, Config};
use socket2::SockRef;

use super::fixture::*;

/// Reads to the end, then answers with what it read.
fn collector(v6: bool) -> Backend {
    Backend::new(v6, |_, mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    })
}

#[test]
fn half_close_passes_and_nothing_is_lost() {
    for v6 in FAMILIES {
        let backend = collector(v6);
        let gateway = Gateway::tcp(single(), &tcp(&[backend.at]));
        for size in [0, 1, 16 * 1024, 3_000_000] {
            let data: Vec<u8> = (0..size).map(|n| (n * 31 % 251) as u8).collect();
            let mut client = TcpStream::connect(gateway.at(v6)).unwrap();
            client.write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).unwrap();
            assert!(back == data, "{size} bytes went, {} came back", back.len());
        }
        gateway.wait("four ends", |_| gateway.closed(CloseReason::Done) == 4);
        let totals = gateway.totals();
        let (key, counted) = totals.relayed.iter().find(|(_, t)| t.begun > 0).unwrap();
        assert_eq!(
            (&*key.route, &*key.backend, key.endpoint),
            ("default/all", "default/web:80", Some(backend.at))
        );
        let bytes = 1 + 16 * 1024 + 3_000_000;
        assert_eq!((counted.begun, counted.bytes_in, counted.bytes_out), (4, bytes, bytes));
    }
}

#[test]
fn the_backend_may_finish_first_and_speak_first() {
    let backend = Backend::new(false, |_, mut stream| {
        stream.write_all(b"220 hello\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "late words");
    });
    let gateway = Gateway::tcp(single(), &tcp(&[backend.at]));
    let mut client = TcpStream::connect(gateway.at(false)).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "220 hello\r\n");
    client.write_all(b"late words").unwrap();
    drop(client);
    gateway.wait("the end", |_| gateway.closed(CloseReason::Done) == 1);
    assert_eq!(gateway.totals().relayed.iter().map(|(_, t)| t.bytes_in).sum::<u64>(), 10);
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    for v6 in FAMILIES {
        let ends = Arc::new(AtomicU64::new(0));
        let seen = ends.clone();
        let backend = Backend::new(v6, move |_, mut stream| {
            let mut word = [0; 5];
            stream.read_exact(&mut word).unwrap();
            stream.write_all(&word).unwrap();
            if &word == b"reset" {
                return reset(stream);
            }
            let error = stream.read(&mut word).expect_err("the client's reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let gateway = Gateway::tcp(single(), &tcp(&[backend.at]));
        let mut client = TcpStream::connect(gateway.at(v6)).unwrap();
        let mut word = [0; 5];
        client.write_all(b"reset").unwrap();
        client.read_exact(&mut word).unwrap();
        let error = client.read(&mut word).expect_err("the backend's reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let mut client = TcpStream::connect(gateway.at(v6)).unwrap();
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut word).unwrap();
        reset(client);
        gateway.wait("both resets", |_| {
            gateway.closed(CloseReason::BackendReset) == 1
                && gateway.closed(CloseReason::ClientReset) == 1
                && ends.load(Ordering::Relaxed) == 1
        });
    }
}

#[test]
fn a_reader_that_stops_holds_up_the_writer() {
    for v6 in FAMILIES {
        let backend = Backend::new(v6, |_, mut stream| {
            let block = vec![7; 64 * 1024];
            while stream.write_all(&block).is_ok() {}
        });
        let gateway = Gateway::tcp(single(), &tcp(&[backend.at]));
        let mut clients: Vec<_> = (0..8).map(|_| TcpStream::connect(gateway.at(v6)).unwrap()).collect();
        let moved = || gateway.totals().relayed.iter().map(|(_, t)| t.bytes_out).sum::<u64>();
        let settle = || loop {
            let before = moved();
            thread::sleep(Duration::from_millis(300));
            if moved() == before && before > 0 {
                return before;
            }
        };
        let memory = resident();
        let held = settle();
        // The kernel's own buffers, and our last read of each.
        assert!(held < 8 * 16 * 1024 * 1024, "{held} bytes taken for readers that do not read");
        let grown = resident().saturating_sub(memory);
        assert!(grown < 64 << 20, "{grown} bytes more memory");
        // And one that reads again gets on.
        let mut block = vec![0; 1 << 20];
        for _ in 0..64 {
            clients[0].read_exact(&mut block).unwrap();
        }
        assert!(moved() > held);
    }
}

#[test]
fn an_invalid_backend_resets_in_proportion_to_its_weight() {
    let backend = collector(false);
    let yaml =
        objects::service("web", &[backend.at]) + &objects::tcp_route("r", &["gw"], &["web 1", "missing 1"]);
    let gateway = Gateway::tcp(single(), &yaml);
    let served = (0..400)
        .filter(|_| {
            let mut client = TcpStream::connect(gateway.at(false)).unwrap();
            let sent = client.write_all(b"x").and_then(|()| client.shutdown(Shutdown::Write));
            sent.is_ok() && client.read_to_end(&mut Vec::new()).is_ok()
        })
        .count();
    assert!((140..=260).contains(&served), "{served} of 400 served at one half");
    gateway.wait("all ends", |_| gateway.closed(CloseReason::Refused) == 400 - served as u64);
    let totals = gateway.totals();
    let refused = totals.relayed.iter().filter(|(key, _)| key.backend.is_empty());
    assert_eq!(refused.map(|(_, t)| t.begun).sum::<u64>(), 400 - served as u64);
}

#[test]
fn an_endpoint_that_refuses_is_passed_over_and_then_left_alone() {
    for v6 in FAMILIES {
        let backend = collector(v6);
        let gateway = Gateway::tcp(single(), &tcp(&[refusing(v6), backend.at, refusing(v6)]));
        for _ in 0..50 {
            let mut client = TcpStream::connect(gateway.at(v6)).unwrap();
            client.write_all(b"x").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).unwrap();
            assert_eq!(back, b"x");
        }
        assert_eq!(gateway.totals().upstream_failures, 2);
        let gateway = Gateway::tcp(single(), &tcp(&[refusing(v6)]));
        let mut client = TcpStream::connect(gateway.at(v6)).unwrap();
        assert!(client.read(&mut [0]).is_err());
        gateway.wait("the end", |_| gateway.closed(CloseReason::NoEndpoint) == 1);
    }
}

#[test]
fn silence_ends_a_connection() {
    let backend = Backend::new(false, |_, mut stream| {
        let _end = stream.read(&mut [0; 10]);
        let _end = stream.read(&mut [0; 10]);
    });
    let gateway =
        Gateway::tcp(Config { tcp_idle: Duration::from_millis(400), ..single() }, &tcp(&[backend.at]));
    let mut client = TcpStream::connect(gateway.at(false)).unwrap();
    thread::sleep(Duration::from_millis(250));
    client.write_all(b"still here").unwrap();
    let start = Instant::now();
    assert!(client.read(&mut [0]).is_err());
    assert!(start.elapsed() >= Duration::from_millis(350), "{:?}", start.elapsed());
    gateway.wait("the end", |_| gateway.closed(CloseReason::Idle) == 1);
}
