//! What the host has, as seen from the namespace that asks.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway_tests::netns::NetNs;
use gateway_user::core::host::Host;
use gateway_user::dataplane::host::host;

use crate::bed::WAIT;

/// A process that listens, ended when dropped.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn listen(ns: &NetNs, port: &str, more: &[&str]) -> Listener {
    let mut command = Command::new("iperf3");
    command.args(["-s", "-p", port]).args(more).stdout(Stdio::null());
    Listener(ns.spawn(&mut command))
}

fn listening(host: &Host, port: u16) -> Vec<(String, String)> {
    let of_port = host.listening.iter().filter(|l| l.at.port() == port);
    of_port.map(|l| (l.at.ip().to_string(), l.process.clone())).collect()
}

#[test]
fn listeners_are_named_and_our_own_left_out() {
    let ns = NetNs::new("host-listeners");
    let children = [
        listen(&ns, "7001", &["-B", "127.0.0.1"]),
        listen(&ns, "7002", &["-6"]),
        listen(&ns, "7003", &[]),
        listen(&ns, "7004", &["-B", "::1"]),
    ];
    let own = ns.enter(|| std::net::TcpListener::bind("127.0.0.1:7005").unwrap());
    let start = Instant::now();
    let found = loop {
        let found = ns.enter(|| host(&BTreeSet::new(), &BTreeSet::new()));
        let ports: BTreeSet<_> = found.listening.iter().map(|l| l.at.port()).collect();
        if ports == [7001, 7002, 7003, 7004].into() {
            break found;
        }
        assert!(start.elapsed() < WAIT, "{found:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let name = |n: usize| format!("iperf3 (pid {})", children[n].0.id());
    assert_eq!(listening(&found, 7001), [("127.0.0.1".into(), name(0))]);
    assert_eq!(listening(&found, 7002), [("::".into(), name(1))], "IPv6 alone");
    assert_eq!(listening(&found, 7003), [("0.0.0.0".into(), name(2)), ("::".into(), name(2))], "both");
    assert_eq!(listening(&found, 7004), [("::1".into(), name(3))]);
    assert_eq!(own.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 7005)));
}

#[test]
fn addresses_are_the_namespaces_without_ours() {
    let (ns, peer) = (NetNs::new("host-addresses"), NetNs::new("host-peer"));
    ns.veth("lan", &peer, "eth0");
    ns.address("lan", "10.79.0.1".parse().unwrap(), 24);
    ns.address("lan", "fd79::1".parse().unwrap(), 64);
    ns.address("lan", "fd79::2".parse().unwrap(), 128);
    let own: BTreeSet<IpAddr> = ["fd79::2".parse().unwrap()].into();
    let mut found = ns.enter(|| host(&own, &BTreeSet::new())).addresses();
    found.retain(|a| !a.to_string().starts_with("fe80"));
    let expected: BTreeSet<IpAddr> =
        ["127.0.0.1", "::1", "10.79.0.1", "fd79::1"].iter().map(|a| a.parse().unwrap()).collect();
    assert_eq!(found, expected);
}
