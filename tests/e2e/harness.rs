//! The harness itself, so that a test that fails for its own reasons is not taken for Sluice's fault.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use gateway_tests::{
    bpffs::BpfFs,
    client::{self, Http},
    lab::{BACKEND4, BACKEND6, CLIENT4, CLIENT6, Lab},
    netns::NetNs,
    peers::{echo, raw},
};

#[test]
fn peers_tell_who_answered_and_what_they_saw() {
    let lab = Lab::new("harness");
    for (backend, client, forwarding) in
        [(BACKEND4, CLIENT4, "ipv4/ip_forward"), (BACKEND6, CLIENT6, "ipv6/conf/all/forwarding")]
    {
        lab.gateway.sysctl(forwarding, "1");
        let http = echo::http(&lab.backend, SocketAddr::new(backend, 8080), "one");
        let mut connection = Http::connect(&lab.client, http.address).expect("a connection");
        for number in 1..=3 {
            let answer = connection.get("example.com", "/a?b=c").expect("an answer");
            let echo = answer.echo();
            assert_eq!((answer.status, echo.name.as_str(), echo.path.as_str()), (200, "one", "/a?b=c"));
            assert_eq!((answer.backend(), echo.client.ip()), ("one", client));
            assert_eq!((http.connections(), http.requests()), (1, number));
        }

        let tcp = echo::tcp(&lab.backend, SocketAddr::new(backend, 9000), "two");
        for size in [0, 1, 10_000_000] {
            assert_eq!(client::tcp(&lab.client, tcp.address, size).expect("an echo"), "two");
        }
    }
}

#[test]
fn a_script_does_what_no_server_would() {
    let ns = NetNs::host();
    let server = raw::script(&ns, "127.0.0.1:0".parse().expect("an address"), |number, mut stream| {
        stream.write_all(format!("{number}").as_bytes()).expect("a write");
    });
    for number in 0..3 {
        let mut answer = String::new();
        TcpStream::connect(server.address).expect("a connection").read_to_string(&mut answer).expect("bytes");
        assert_eq!(answer, number.to_string());
    }
}

#[test]
fn namespaces_are_apart_and_end_with_their_owner() {
    let ns = NetNs::new("apart");
    let inside = ns.enter(|| std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace"));
    let outside = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
    assert_ne!(inside, outside);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ns.enter(|| panic!("inside"))));
    assert!(panicked.is_err(), "a panic inside goes on outside");
}

#[test]
fn a_bpf_filesystem_is_unmounted_at_the_end() {
    let bpffs = BpfFs::new();
    let path = bpffs.path().to_owned();
    assert!(bpffs.pins().is_empty());
    drop(bpffs);
    assert!(!path.exists());
}
