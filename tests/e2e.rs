//! End to end: the real binary in namespaces, real peers on both sides of it, each case over IPv4 and IPv6.

#[path = "e2e/addresses.rs"]
mod addresses;
#[path = "e2e/change.rs"]
mod change;
#[path = "e2e/dns.rs"]
mod dns;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/http.rs"]
mod http;
#[path = "e2e/life.rs"]
mod life;
#[path = "e2e/names.rs"]
mod names;
#[path = "e2e/refused.rs"]
mod refused;
#[path = "e2e/scale.rs"]
mod scale;
#[path = "e2e/tcp.rs"]
mod tcp;

use std::net::{IpAddr, SocketAddr};

use gateway_tests::lab::{BACKEND4, BACKEND6, GATEWAY4, GATEWAY6};

/// Both families: the gateway's address that the client knows, and the backend's.
const FAMILIES: [(IpAddr, IpAddr); 2] = [(GATEWAY4, BACKEND4), (GATEWAY6, BACKEND6)];

const WORKERS: &[&str] = &["--workers", "2"];

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
