//! End to end: the real binary in namespaces, real peers on both sides of it, each case over IPv4 and IPv6.

#[path = "e2e/addresses.rs"]
mod addresses;
#[path = "e2e/change.rs"]
mod change;
#[path = "e2e/dns.rs"]
mod dns;
#[path = "e2e/forward.rs"]
mod forward;
#[path = "e2e/forward_bed.rs"]
mod forward_bed;
#[path = "e2e/forward_bytes.rs"]
mod forward_bytes;
#[path = "e2e/forward_change.rs"]
mod forward_change;
#[path = "e2e/forward_devices.rs"]
mod forward_devices;
#[path = "e2e/forward_end.rs"]
mod forward_end;
#[path = "e2e/forward_figures.rs"]
mod forward_figures;
#[path = "e2e/forward_mtu.rs"]
mod forward_mtu;
#[path = "e2e/forward_other.rs"]
mod forward_other;
#[path = "e2e/forward_policy.rs"]
mod forward_policy;
#[path = "e2e/forward_ports.rs"]
mod forward_ports;
#[path = "e2e/forward_pressure.rs"]
mod forward_pressure;
#[path = "e2e/forward_removed.rs"]
mod forward_removed;
#[path = "e2e/forward_shares.rs"]
mod forward_shares;
#[path = "e2e/forward_tables.rs"]
mod forward_tables;
#[path = "e2e/forward_tuples.rs"]
mod forward_tuples;
#[path = "e2e/forward_udp.rs"]
mod forward_udp;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/http.rs"]
mod http;
#[path = "e2e/https.rs"]
mod https;
#[path = "e2e/life.rs"]
mod life;
#[path = "e2e/names.rs"]
mod names;
#[path = "e2e/pools.rs"]
mod pools;
#[path = "e2e/refused.rs"]
mod refused;
#[path = "e2e/scale.rs"]
mod scale;
#[path = "e2e/tcp.rs"]
mod tcp;
mod tls_client;
#[path = "e2e/udp.rs"]
mod udp;

use std::net::{IpAddr, SocketAddr};

use gateway_tests::{
    lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6, Lab},
    netns::NetNs,
    objects::{gateway, http_route, prefix, service},
    peers::{echo, server::Server},
};

/// Both families: the gateway's address that the client knows, and the backend's.
const FAMILIES: [(IpAddr, IpAddr); 2] = [(GATEWAY4, BACKEND4), (GATEWAY6, BACKEND6)];

const WORKERS: &[&str] = &["--workers", "2"];

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// A lab with two peers that echo, `one` over IPv4 and `two` over IPv6, and their Services.
struct Bed {
    lab: Lab,
    one: Server,
    two: Server,
    services: String,
}

impl Bed {
    fn http(name: &str) -> Self {
        Self::new(name, echo::http)
    }

    fn tcp(name: &str) -> Self {
        Self::new(name, echo::tcp)
    }

    fn new(name: &str, echo: fn(&NetNs, SocketAddr, &str) -> Server) -> Self {
        let lab = Lab::new(name);
        let one = echo(&lab.backend, at(BACKEND4, 8001), "one");
        let two = echo(&lab.backend, at(BACKEND6, 8002), "two");
        let services = [service("one", &[one.address]), service("two", &[two.address])].concat();
        Self { lab, one, two, services }
    }
}

/// A Gateway on port 80 whose only route leads to the Service `one`.
fn web() -> String {
    [gateway("web", None, ["http HTTP 80"]), http_route("a", &["web"], &[], &[prefix("/", &["one"])])]
        .concat()
}
