//! HTTPS through the kernel: TLS ends in the workers, a certificate is changed under a connection, and what is counted.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use gateway_tests::agent::Agent;
use gateway_tests::lab::Lab;
use gateway_tests::objects::{http_route, prefix};
use gateway_tests::peers::echo::Echo;
use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use super::{Bed, FAMILIES, WORKERS, at};
use crate::tls_client::{Certified, Secured, ask, secure, trusting};

const GET: &str = "GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n";

/// A Gateway with HTTP on port 80 and HTTPS for `a.example` on 443, and a route on the latter.
fn yaml(services: &str, secret: &str) -> String {
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web}\nspec:\n  \
        gatewayClassName: sluice\n  listeners:\n  - {name: plain, protocol: HTTP, port: 80}\n  \
        - {name: secure, protocol: HTTPS, port: 443, hostname: a.example, tls: {certificateRefs: [{name: a}]}}\n";
    [gateway, secret, services, &http_route("a", &["web/secure"], &[], &[prefix("/", &["one"])])].concat()
}

fn connect(
    lab: &Lab,
    to: std::net::IpAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<Secured> {
    let stream = lab.client.enter(|| TcpStream::connect(at(to, 443)))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    secure(stream, config, name)
}

#[test]
fn https_ends_in_the_workers() {
    let Bed { lab, one: _one, two: _two, services } = Bed::http("https");
    let certificates = [0, 1].map(|_| Certified::new(&["a.example"], &PKCS_ECDSA_P256_SHA256));
    let agent = Agent::start(&lab.gateway, &yaml(&services, &certificates[0].secret("a")), WORKERS);
    let config = |versions: &[&'static SupportedProtocolVersion]| {
        let mut config = trusting(&[&certificates[0], &certificates[1]], versions, &[]);
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    };
    let both = config(&[&TLS12, &TLS13]);
    let mut kept = Vec::new();
    for (ip, _) in FAMILIES {
        for version in [&TLS12, &TLS13] {
            let mut client = connect(&lab, ip, &config(&[version]), "a.example").expect("a handshake");
            let (head, body) = ask(&mut client, GET).expect("an answer");
            let echo: Echo = serde_json::from_str(&body).expect("an echo");
            assert!(head.starts_with("http/1.1 200"), "{head}");
            assert_eq!((&*echo.name, &*echo.headers["x-forwarded-proto"]), ("one", "https"));
            kept.push(client);
        }
        connect(&lab, ip, &both, "b.example").expect_err("nobody has the name");
        let mut plain = lab.client.enter(|| TcpStream::connect(at(ip, 80))).expect("a connection");
        assert!(ask(&mut plain, GET).expect("an answer").0.contains(" 404 "), "the route is on HTTPS alone");
    }
    agent.change(&yaml(&services, &certificates[1].secret("a")));
    for (ip, _) in FAMILIES {
        let client = connect(&lab, ip, &both, "a.example").expect("a handshake");
        let shown = &client.conn.peer_certificates().expect("a certificate")[0];
        assert_eq!(*shown, certificates[1].certificate, "{ip}");
    }
    for client in &mut kept {
        assert!(
            ask(client, GET).expect("an answer").0.starts_with("http/1.1 200"),
            "it outlives its certificate"
        );
    }
    let count = |name: &str, labels: &[&str]| agent.metric_with(name, labels);
    agent.wait("handshakes to be counted", || {
        count("sluice_tls_handshakes_total", &["version=\"1.2\"", "resumed=\"false\""]) == 2.0
            && count("sluice_tls_handshakes_total", &["version=\"1.3\"", "resumed=\"false\""]) == 4.0
            && count("sluice_tls_handshake_failures_total", &["reason=\"unrecognized_name\""]) == 2.0
    });
    let explained = |url: &str| {
        let out = agent.sluice(&["explain", "http", "GET", url, "--to", &FAMILIES[0].0.to_string()]);
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (served, text) = explained("https://a.example/x");
    assert!(served && text.contains("x-forwarded-proto: https"), "{text}");
    let (served, text) = explained("https://b.example/x");
    assert!(!served && text.contains("unrecognized_name"), "{text}");
    let routes = String::from_utf8_lossy(&agent.sluice(&["routes"]).stdout).into_owned();
    assert!(routes.contains("*:443/TLS"), "{routes}");
    // Without its Secret the listener is not served; the other one is.
    agent.change(&yaml(&services, ""));
    agent.wait("the listener to go", || connect(&lab, FAMILIES[0].0, &both, "a.example").is_err());
    let status = String::from_utf8_lossy(&agent.sluice(&["status"]).stdout).into_owned();
    assert!(status.contains("there is no Secret default/a"), "{status}");
    for key in ["BEGIN", "PRIVATE"] {
        assert!(!agent.log().contains(key), "a key in the log");
    }
}
