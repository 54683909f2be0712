//! The command line of the real binary: alone, and against the real agent in namespaces.

use std::net::SocketAddr;

use gateway_tests::objects::{gateway, http_route, prefix, service, tcp_route};

#[path = "cli/alone.rs"]
mod alone;
#[path = "cli/dialect.rs"]
mod dialect;
#[path = "cli/life.rs"]
mod life;
#[path = "cli/maps.rs"]
mod maps;
#[path = "cli/notify.rs"]
mod notify;

/// Every test that counts something runs with two workers, whatever the machine has.
const WORKERS: &[&str] = &["--workers", "2"];
/// Of one that counts what workers do with TCP: the kernel leaves it to them.
const RELAY: &[&str] = &["--workers", "2", "--forward", "off"];

/// A Gateway on every local address with an HTTP listener on port 80 and a TCP one on port 9000, and their routes.
fn web(http: SocketAddr, tcp: SocketAddr) -> String {
    [
        gateway("web", None, ["http HTTP 80", "tcp TCP 9000"]),
        http_route("app", &["web/http"], &[], &[prefix("/", &["app"])]),
        tcp_route("db", &["web/tcp"], &["db"]),
        service("app", &[http]),
        service("db", &[tcp]),
    ]
    .concat()
}
