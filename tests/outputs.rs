//! What commands print: JSON that keeps to committed schemas, tables as the golden files have them, and both on a
//! terminal.
//!
//! With `SLUICE_BLESS=1` in the environment, schemas and golden files are written instead of compared.

use std::{env, fs, net::SocketAddr, path::PathBuf};

use gateway_tests::agent::Agent;
use gateway_tests::netns::NetNs;
use gateway_tests::objects::{gateway, http_route, prefix, service, tcp_route};

#[path = "outputs/golden.rs"]
mod golden;
#[path = "outputs/schema.rs"]
mod schema;
#[path = "outputs/terminal.rs"]
mod terminal;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Two Gateways, of which the second has a conflict, routes of both kinds, and one to a Service that is not there.
fn objects() -> String {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    [
        gateway("web", None, ["http HTTP 8080", "tcp TCP 9001"]),
        http_route("app", &["web/http"], &["app.example"], &[prefix("/", &["app", "gone 3"])]),
        tcp_route("db", &["web/tcp"], &["db"]),
        service("app", &[at(8000)]),
        service("db", &[at(5432)]),
    ]
    .concat()
}

/// An object that is no part of [`objects`].
fn more() -> String {
    http_route("more", &["web/http"], &["more.example"], &[prefix("/", &["app"])])
}

/// An agent that serves [`objects`], and its folder's files: `more.yaml`, `bad.yaml`, which has errors, and `old.yaml`.
fn agent(ns: &NetNs) -> (Agent<'_>, tempfile::TempDir) {
    let folder = tempfile::Builder::new().prefix("sluice-outputs-").tempdir().expect("a folder");
    fs::write(folder.path().join("good.yaml"), objects()).expect("a file");
    fs::write(folder.path().join("more.yaml"), more()).expect("a file");
    let bad = more().replace("PathPrefix", "Prefix").replace("hostnames", "hostname");
    fs::write(folder.path().join("bad.yaml"), bad).expect("a file");
    let old = format!("{ROOT}/config/examples/old-dialect.yaml");
    fs::copy(old, folder.path().join("old.yaml")).expect("an example");
    (Agent::start(ns, &objects(), &["--workers", "2"]), folder)
}

/// Compares with a file of the checkout, or writes it.
fn committed(file: &str, text: &str) {
    let path = PathBuf::from(ROOT).join(file);
    if env::var_os("SLUICE_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
        return;
    }
    let want = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e} (SLUICE_BLESS=1 writes it)"));
    assert!(
        want == text,
        "{file} differs (if that is as it should be, SLUICE_BLESS=1 writes it):\n--- it has\n{want}--- there is\n{text}"
    );
}
