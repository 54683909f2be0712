//! HTTPS: handshakes of both versions, names, certificates, resumption, and clients that do not know how to behave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::objects;
use gateway_user::proxy::{CloseReason, Config, HandshakeFailure, TlsVersion, Totals};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, SignatureScheme, SupportedProtocolVersion,
};

use super::change::Sink;
use super::fixture::*;
use crate::tls_client::{Certified, Secured, answer, ask, secure, trusting};

const VERSIONS: [(&SupportedProtocolVersion, TlsVersion); 2] =
    [(&TLS12, TlsVersion::V1_2), (&TLS13, TlsVersion::V1_3)];
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const GET: &str = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";

fn certified(names: &[&str]) -> Certified {
    Certified::new(names, &PKCS_ECDSA_P256_SHA256)
}

fn connect(gateway: &Gateway, v6: bool) -> TcpStream {
    let stream = TcpStream::connect(gateway.at(v6)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn shake(gateway: &Gateway, v6: bool, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Secured> {
    secure(connect(gateway, v6), config, name)
}

/// The alert that a handshake ended with.
fn alert(result: std::io::Result<Secured>) -> AlertDescription {
    let error = result.map(drop).unwrap_err();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => *alert,
        _ => panic!("{error:?}"),
    }
}

fn failed(totals: &Totals, why: HandshakeFailure) -> u64 {
    totals.tls.failures.iter().find(|(reason, _)| *reason == why).unwrap().1
}

fn shaken(totals: &Totals, version: TlsVersion, resumed: bool) -> u64 {
    totals.tls.handshakes.iter().find(|(v, r, _)| (*v, *r) == (version, resumed)).unwrap().2
}

/// A gateway with a certificate for every name, before an echo.
fn simple(config: Config, certified: &Certified, backend: &Backend) -> Gateway {
    Gateway::https(config, &[("", &["a"])], &(certified.secret("a") + &web(&[backend.at])))
}

#[test]
fn both_versions_are_served_and_the_backend_learns_of_it() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let sink = Sink::default();
    let config = Config { access_log: Some(Box::new(sink.clone())), ..single() };
    let gateway = simple(config, &own, &backend);
    for (version, counted) in VERSIONS {
        for v6 in FAMILIES {
            let config = Arc::new(trusting(&[&own], &[version], &[]));
            let mut client = shake(&gateway, v6, &config, "a.example").unwrap();
            assert_eq!(client.conn.protocol_version(), Some(version.version));
            assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            for _ in 0..3 {
                let (head, body) = ask(&mut client, GET).unwrap();
                assert!(head.starts_with("http/1.1 200"), "{head}");
                assert!(
                    body.contains("x-forwarded-proto: https\r\n") && body.contains(";proto=https\r\n"),
                    "{body}"
                );
            }
            let large = "x".repeat(200_000);
            let post = format!(
                "POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n{large}",
                large.len()
            );
            assert!(ask(&mut client, &post).unwrap().1.ends_with(&large));
        }
        assert_eq!(shaken(&gateway.totals(), counted, false), 2);
    }
    let lines = sink.wait(16);
    let said: Vec<_> = lines.iter().map(|line| (line["scheme"].as_str(), line["tls"].as_str())).collect();
    assert_eq!((said[0], said[15]), ((Some("https"), Some("1.2")), (Some("https"), Some("1.3"))));
}

#[test]
fn the_name_decides_on_the_listener_and_its_certificate() {
    let names = ["exact.a.org", "*.a.org", "*.deep.a.org", "any.a.org"];
    let [exact, wild, deep, any] = names.map(|name| certified(&[name, "x.y.a.org", "other.org"]));
    let secrets = exact.secret("exact") + &wild.secret("wild") + &deep.secret("deep") + &any.secret("any");
    let backend = Backend::echo(false, "one");
    let yaml = secrets + &web(&[backend.at]);
    let with_any: &[(&str, &[&str])] =
        &[("exact.a.org", &["exact"]), ("*.a.org", &["wild"]), ("*.deep.a.org", &["deep"]), ("", &["any"])];
    let mut gateway = Gateway::https(single(), with_any, &yaml);
    for version in BOTH {
        let mut silent = trusting(&[&exact, &wild, &deep, &any], &[version], &[]);
        let config = Arc::new(silent.clone());
        silent.enable_sni = false;
        let silent = Arc::new(silent);
        gateway.relisten(with_any, &yaml);
        for (config, name, want) in [
            (&config, "exact.a.org", &exact),
            (&config, "EXACT.a.org", &exact),
            (&config, "one.a.org", &wild),
            (&config, "x.y.a.org", &wild),
            (&config, "one.deep.a.org", &deep),
            (&config, "other.org", &any),
            (&silent, "other.org", &any),
        ] {
            let client = shake(&gateway, false, config, name).unwrap();
            assert_eq!(client.conn.peer_certificates().unwrap()[0], want.certificate, "{name}");
        }
        gateway.relisten(&with_any[..3], &yaml);
        let before = failed(&gateway.totals(), HandshakeFailure::Name);
        for (config, name) in [(&config, "other.org"), (&config, "a.org"), (&silent, "exact.a.org")] {
            let refused = alert(shake(&gateway, false, config, name));
            assert_eq!(refused, AlertDescription::UnrecognisedName, "{name}");
        }
        gateway.wait("refusals", |t| failed(t, HandshakeFailure::Name) == before + 3);
        let mut client = shake(&gateway, true, &config, "exact.a.org").unwrap();
        assert!(
            ask(&mut client, GET.replace("a.example", "exact.a.org").as_str()).unwrap().0.contains(" 200 ")
        );
        // As in clear, the Host decides on the listener of the request.
        assert!(ask(&mut client, GET.replace("a.example", "b.org").as_str()).unwrap().0.contains(" 404 "));
    }
}

#[test]
fn of_two_certificates_the_client_gets_the_one_that_it_can_check_and_that_fits() {
    let small = Certified::new(&["a.example"], &PKCS_ECDSA_P256_SHA256);
    let large = Certified::new(&["a.example", "b.example"], &PKCS_ECDSA_P384_SHA384);
    let backend = Backend::echo(false, "one");
    let yaml = small.secret("small") + &large.secret("large") + &web(&[backend.at]);
    let gateway = Gateway::https(single(), &[("", &["small", "missing", "large"])], &yaml);
    for version in BOTH {
        for (schemes, name, want) in [
            (&[][..], "a.example", Some(&small)),
            (&[], "b.example", Some(&large)),
            (&[SignatureScheme::ECDSA_NISTP256_SHA256], "a.example", Some(&small)),
            (&[SignatureScheme::ECDSA_NISTP384_SHA384], "a.example", Some(&large)),
            (&[SignatureScheme::ED25519], "a.example", None),
        ] {
            let config = Arc::new(trusting(&[&small, &large], &[version], schemes));
            let client = shake(&gateway, false, &config, name);
            match want {
                Some(want) => {
                    let shown = client.unwrap().conn.peer_certificates().unwrap()[0].clone();
                    assert_eq!(shown, want.certificate, "{name} {schemes:?}");
                }
                None => assert_eq!(alert(client), AlertDescription::HandshakeFailure),
            }
        }
    }
    // HTTP/2 is not offered: a client that speaks nothing else is told so.
    let mut config = trusting(&[&small, &large], &BOTH, &[]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let refused = alert(shake(&gateway, false, &Arc::new(config), "a.example"));
    assert_eq!(refused, AlertDescription::NoApplicationProtocol);
    gateway.wait("failures", |t| failed(t, HandshakeFailure::Incompatible) == 3);
}

#[test]
fn sessions_are_resumed_by_any_worker_and_over_a_change() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let mut gateway = simple(config(), &own, &backend);
    for (version, counted) in VERSIONS {
        let config = Arc::new(trusting(&[&own], &[version], &[]));
        let mut kinds = Vec::new();
        for round in 0..8 {
            let mut client = shake(&gateway, round % 2 == 0, &config, "a.example").unwrap();
            // The answer comes behind the tickets.
            ask(&mut client, GET).unwrap();
            kinds.push(client.conn.handshake_kind().unwrap());
            if round == 4 {
                let more = objects::service("more", &[]);
                gateway.publish(&(own.secret("a") + &web(&[backend.at]) + &more));
            }
        }
        assert_ne!(kinds[0], HandshakeKind::Resumed);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
        assert_eq!(shaken(&gateway.totals(), counted, true), 7);
    }
    // A session of a name is none of another.
    let config = Arc::new(trusting(&[&own], &BOTH, &[]));
    ask(&mut shake(&gateway, false, &config, "a.example").unwrap(), GET).unwrap();
    let other = shake(&gateway, false, &config, "b.example");
    assert!(other.is_err(), "the certificate is for a.example alone");
}

#[test]
fn a_certificate_is_exchanged_under_traffic_without_a_failed_request() {
    let certificates = Arc::new([certified(&["a.example"]), certified(&["a.example"])]);
    let backend = Backend::echo(false, "one");
    let yaml = |at: usize| certificates[at].secret("a") + &web(&[backend.at]);
    let mut gateway = Gateway::https(config(), &[("", &["a"])], &yaml(0));
    let fresh = || {
        let mut config = trusting(&[&certificates[0], &certificates[1]], &BOTH, &[]);
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    };
    let (done, config) = (Arc::new(AtomicBool::new(false)), fresh());
    let mut old = shake(&gateway, false, &config, "a.example").unwrap();
    ask(&mut old, GET).unwrap();
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let (at, done, config) = (gateway.at(n % 2 == 0), done.clone(), config.clone());
            thread::spawn(move || {
                let mut requests = 0;
                while requests < 200 || !done.load(Ordering::Relaxed) {
                    let mut client = secure(TcpStream::connect(at).unwrap(), &config, "a.example").unwrap();
                    for _ in 0..10 {
                        assert!(ask(&mut client, GET).unwrap().0.starts_with("http/1.1 200"));
                        requests += 1;
                    }
                }
                requests
            })
        })
        .collect();
    for change in 1..=20 {
        gateway.publish(&yaml(change % 2));
        for v6 in FAMILIES {
            let client = shake(&gateway, v6, &config, "a.example").unwrap();
            let shown = &client.conn.peer_certificates().unwrap()[0];
            assert_eq!(*shown, certificates[change % 2].certificate, "whoever comes later gets the new one");
        }
        thread::sleep(Duration::from_millis(20));
    }
    done.store(true, Ordering::Relaxed);
    let requests: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(requests >= 800);
    assert!(
        ask(&mut old, GET).unwrap().0.starts_with("http/1.1 200"),
        "a connection outlives its certificate"
    );
}

#[test]
fn a_connection_in_clear_does_not_get_what_is_served_in_tls_nor_the_other_way_round() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let yaml = own.secret("a") + &web(&[backend.at]);
    let mut gateway = Gateway::https(single(), &[("", &["a"])], &yaml);
    let config = Arc::new(trusting(&[&own], &BOTH, &[]));
    let mut secured = shake(&gateway, false, &config, "a.example").unwrap();
    assert!(ask(&mut secured, GET).unwrap().0.starts_with("http/1.1 200"));
    gateway.respeak("HTTP", &yaml);
    assert!(ask(&mut secured, GET).unwrap().0.starts_with("http/1.1 404"));
    let mut plain = Peer::connect(gateway.at(false));
    assert_eq!(plain.get("/").status(), 200);
    gateway.respeak("HTTPS", &yaml);
    assert_eq!(plain.get("/").status(), 404);
    assert!(plain.is_closed());
    let mut again = shake(&gateway, false, &config, "a.example").unwrap();
    assert!(ask(&mut again, GET).unwrap().0.starts_with("http/1.1 200"));
}

#[test]
fn garbage_is_answered_by_an_alert_and_counted() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let gateway = simple(single(), &own, &backend);
    let garbage: [&[u8]; 3] = [GET.as_bytes(), &[22, 3, 1, 0, 4, 1, 0, 0, 0], &[0; 64]];
    for (n, bytes) in (1..).zip(garbage) {
        let mut client = connect(&gateway, n % 2 == 0);
        client.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!((rest[0], rest[5], rest.len()), (21, 2, 7), "a fatal alert and nothing else: {rest:?}");
        drop(client);
        gateway.wait("a failure", |t| failed(t, HandshakeFailure::Malformed) == n);
    }
    gateway.wait("the end of the connections", |t| t.open == [0]);
    assert_eq!(gateway.closed(CloseReason::Handshake), 3);
    // Who leaves within a handshake is counted, and who does not trust us.
    let mut client = connect(&gateway, false);
    client.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    drop(client);
    gateway.wait("a client that left", |t| failed(t, HandshakeFailure::Gone) == 1);
    let config = Arc::new(trusting(&[&certified(&["a.example"])], &[&TLS12], &[]));
    assert!(shake(&gateway, false, &config, "a.example").is_err());
    gateway.wait("a client that refused", |t| failed(t, HandshakeFailure::Refused) == 1);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn silent_clients_hold_up_nobody_and_are_sent_away() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let config = Config { header_timeout: Duration::from_millis(400), ..single() };
    let gateway = simple(config, &own, &backend);
    let began = Instant::now();
    let mut silent: Vec<_> = (0..50).map(|n| connect(&gateway, n % 2 == 0)).collect();
    for dawdler in silent.iter_mut().skip(25) {
        dawdler.write_all(&[22, 3, 1, 0, 200, 1, 0]).unwrap();
    }
    let config = Arc::new(trusting(&[&own], &BOTH, &[]));
    let mut client = shake(&gateway, false, &config, "a.example").unwrap();
    assert!(ask(&mut client, GET).unwrap().0.starts_with("http/1.1 200"));
    for mut client in silent {
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(began.elapsed() >= Duration::from_millis(400) && began.elapsed() < Duration::from_secs(5));
    gateway.wait("timeouts", |t| failed(t, HandshakeFailure::Timeout) == 50);
    // After the handshake a header has its own time.
    let mut slow = shake(&gateway, false, &config, "a.example").unwrap();
    slow.write_all(b"GET / HT").unwrap();
    let (head, _) = answer(&mut slow).unwrap();
    assert!(head.starts_with("http/1.1 408"), "{head}");
    assert_eq!(slow.read(&mut [0]).unwrap(), 0, "close_notify");
}

#[test]
fn the_end_is_said_and_a_cut_is_not_taken_for_it() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let broken = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        peer.message(true);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    });
    let yaml = own.secret("a")
        + &objects::service("web", &[backend.at])
        + &objects::service("broken", &[broken.at])
        + &objects::http_route(
            "r",
            &["gw"],
            &[],
            &[objects::prefix("/", &["web"]), objects::prefix("/broken", &["broken"])],
        );
    let settings = Config { keep_alive: Duration::from_millis(300), ..single() };
    let mut gateway = Gateway::https(settings, &[("", &["a"])], &yaml);
    for version in BOTH {
        let config = Arc::new(trusting(&[&own], &[version], &[]));
        // Without close_notify, rustls says UnexpectedEof.
        let mut client = shake(&gateway, false, &config, "a.example").unwrap();
        ask(&mut client, LAST).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "after the last answer");
        let mut client = shake(&gateway, true, &config, "a.example").unwrap();
        ask(&mut client, GET).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "after it was idle");
        let mut client = shake(&gateway, false, &config, "a.example").unwrap();
        let (head, _) = ask(&mut client, "GARBAGE\r\n\r\n").unwrap();
        assert!(head.starts_with("http/1.1 400"), "{head}");
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "after a bad request");
        let mut client = shake(&gateway, true, &config, "a.example").unwrap();
        assert!(ask(&mut client, &GET.replace("GET /", "GET /broken")).is_err());
    }
    let config = Arc::new(trusting(&[&own], &BOTH, &[]));
    let mut idle = shake(&gateway, false, &config, "a.example").unwrap();
    ask(&mut idle, GET).unwrap();
    let drained = gateway.drain(PATIENCE);
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "in a drain");
    assert_eq!(drained.join().unwrap(), 0);
}

#[test]
fn a_drain_waits_a_little_for_a_handshake_and_no_longer() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let mut gateway = simple(single(), &own, &backend);
    let (mut silent, late) = (connect(&gateway, false), connect(&gateway, true));
    gateway.wait("two connections", |t| t.open == [2]);
    let began = Instant::now();
    let drained = gateway.drain(PATIENCE);
    let config = Arc::new(trusting(&[&own], &BOTH, &[]));
    let mut late = secure(late, &config, "a.example").unwrap();
    let (head, _) = ask(&mut late, GET).unwrap();
    assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(drained.join().unwrap(), 0);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[test]
fn a_client_that_closes_its_half_is_treated_as_one_in_clear() {
    let (own, backend) = (certified(&["a.example"]), Backend::echo(false, "one"));
    let gateway = simple(single(), &own, &backend);
    let config = Arc::new(trusting(&[&own], &BOTH, &[]));
    // With close_notify behind an answer, and without: both are plain ends.
    for notify in [true, false] {
        let done = gateway.closed(CloseReason::Done);
        let mut client = shake(&gateway, false, &config, "a.example").unwrap();
        ask(&mut client, GET).unwrap();
        if notify {
            client.conn.send_close_notify();
            client.flush().unwrap();
        }
        client.sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);
        gateway.wait("the end", |t| t.open == [0]);
        assert_eq!(gateway.closed(CloseReason::Done), done + 1, "close_notify: {notify}");
    }
}

#[test]
fn a_reader_that_stops_is_bounded_and_sent_away() {
    const SIZE: usize = 64 << 20;
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        peer.message(true);
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..SIZE >> 20 {
            if peer.stream.write_all(&piece).is_err() {
                return;
            }
        }
    });
    let own = certified(&["a.example"]);
    let settings = Config { body_idle: Duration::from_millis(800), ..single() };
    let gateway = simple(settings, &own, &backend);
    let config = Arc::new(trusting(&[&own], &BOTH, &[]));
    // One that reads gets it all.
    let mut reader = shake(&gateway, false, &config, "a.example").unwrap();
    assert_eq!(ask(&mut reader, GET).unwrap().1.len(), SIZE);
    let before = resident();
    let mut readers: Vec<_> = (0..8).map(|_| shake(&gateway, true, &config, "a.example").unwrap()).collect();
    for reader in &mut readers {
        reader.write_all(GET.as_bytes()).unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    let grown = resident().saturating_sub(before);
    // Other tests grow at the same time; all of the answers would be 512 MiB.
    assert!(grown < 160 << 20, "{grown} bytes for eight readers that do not read");
    gateway.wait("the readers to be sent away", |t| {
        t.closed.iter().any(|(reason, count)| *reason == CloseReason::Idle && *count == 8)
    });
    for mut reader in readers {
        assert!(answer(&mut reader).is_err(), "what is cut must not look complete");
    }
}
