//! Large bodies: they flow while memory stays bounded, and who does not read holds up who writes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use gateway_user::proxy::Config;

use super::fixture::*;

const BLOCK: usize = 64 * 1024;

#[test]
fn a_gigabyte_flows_in_bounded_memory() {
    const SIZE: u64 = 1 << 30;
    let backend = Backend::new(false, |_, stream| {
        let mut peer = Peer::new(stream);
        peer.lines();
        peer.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
        let block = [7; BLOCK];
        for _ in 0..SIZE / BLOCK as u64 {
            peer.stream.write_all(&block).unwrap();
        }
    });
    let gateway = Gateway::http(single(), &web(&[backend.at]));
    let mut client = TcpStream::connect(gateway.at(false)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let memory = resident();
    let (mut total, mut most) = (0, 0);
    let mut block = vec![0; BLOCK];
    loop {
        let n = client.read(&mut block).unwrap();
        if n == 0 {
            break;
        }
        total += n as u64;
        most = most.max(resident().saturating_sub(memory));
    }
    assert!(total > SIZE && total < SIZE + 1_000, "{total} bytes");
    assert!(most < 64 << 20, "{most} bytes more memory");
}

#[test]
fn an_upload_flows_in_bounded_memory() {
    const SIZE: u64 = 256 << 20;
    for framing in ["content-length", "chunked"] {
        let backend = Backend::new(false, move |_, mut stream| {
            let mut block = vec![0; BLOCK];
            let (mut total, mut tail) = (0, Vec::new());
            // Body, and little else: the end of it is known by its size or by the last chunk.
            while total < SIZE || (framing == "chunked" && !tail.ends_with(b"0\r\n\r\n")) {
                let n = stream.read(&mut block).unwrap();
                assert!(n > 0, "the upload broke off after {total}");
                total += n as u64;
                tail = block[n.saturating_sub(5)..n].to_vec();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            thread::sleep(Duration::from_millis(100));
        });
        let gateway = Gateway::http(single(), &web(&[backend.at]));
        let mut client = Peer::connect(gateway.at(false));
        let memory = resident();
        let block = vec![7; BLOCK];
        if framing == "chunked" {
            client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        } else {
            client.send(&format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n"));
        }
        for _ in 0..SIZE / BLOCK as u64 {
            if framing == "chunked" {
                client.send(&format!("{BLOCK:x}\r\n"));
            }
            client.stream.write_all(&block).unwrap();
            if framing == "chunked" {
                client.send("\r\n");
            }
        }
        if framing == "chunked" {
            client.send("0\r\n\r\n");
        }
        assert_eq!(client.message(false).unwrap().status(), 200, "{framing}");
        let grown = resident().saturating_sub(memory);
        assert!(grown < 64 << 20, "{framing}: {grown} bytes more memory");
        gateway.wait("the bytes to be counted", |t| t.http.iter().any(|(_, h)| h.bytes_in == SIZE));
    }
}

#[test]
fn a_client_that_never_reads_holds_up_its_backend_and_is_cut() {
    for v6 in FAMILIES {
        let backend = Backend::new(v6, |_, stream| {
            let mut peer = Peer::new(stream);
            peer.lines();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
            let block = [7; BLOCK];
            while peer.stream.write_all(&block).is_ok() {}
        });
        let limits = Config { body_idle: Duration::from_millis(600), ..single() };
        let gateway = Gateway::http(limits, &web(&[backend.at]));
        let memory = resident();
        let mut clients: Vec<_> = (0..20).map(|_| Peer::connect(gateway.at(v6))).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        }
        gateway.wait("all to be open", |t| t.open == [20]);
        // Another client is not hurt meanwhile.
        let mut other = Peer::connect(gateway.at(v6));
        other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(other.lines().unwrap().starts_with("HTTP/1.1 200"));
        let grown = resident().saturating_sub(memory);
        assert!(grown < 64 << 20, "{grown} bytes more memory for 21 connections");
        gateway.wait("them to be cut", |t| t.open == [0]);
    }
}
