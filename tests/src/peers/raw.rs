//! A server whose every connection is handled by a closure of the test: for what a well-behaved peer never does.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

use super::server::Server;
use crate::netns::NetNs;

/// Gives each connection, numbered from 0, to `script` on a blocking stream and a thread of its own.
pub fn script(
    ns: &NetNs,
    at: SocketAddr,
    script: impl Fn(u64, std::net::TcpStream) + Send + Sync + 'static,
) -> Server {
    let script = Arc::new(script);
    Server::start(ns, at, move |stream: TcpStream, _, seen| {
        let script = script.clone();
        let number = seen.connections.load(std::sync::atomic::Ordering::Relaxed) - 1;
        async move {
            let stream = stream.into_std().expect("a stream leaves its runtime");
            stream.set_nonblocking(false).expect("a stream can be set blocking");
            // The test sees what the script does on the wire; a panic in it ends only its connection.
            drop(tokio::task::spawn_blocking(move || script(number, stream)).await);
        }
    })
}
