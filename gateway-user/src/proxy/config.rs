//! What can be set about the workers, and its defaults.
//!
//! Owns the limits. Must not know flags or environment.

use std::io;
use std::time::Duration;

/// Settings of the workers.
pub struct Config {
    /// Threads, each with its own sockets; at least 1. Default: the CPUs available.
    pub workers: usize,
    /// Open connections of one worker; beyond it none is accepted until one ends. Default 50,000.
    pub max_connections: usize,
    /// Connections waiting to be accepted, of one socket. Default 4,096.
    pub backlog: i32,
    /// From a request's first byte (or the connection's start) to the end of its header; with TLS also from the
    /// connection's start to the end of the handshake. Default 15 s.
    pub header_timeout: Duration,
    /// How long a client connection is kept between two requests. Default 75 s.
    pub keep_alive: Duration,
    /// Without a byte in either direction, a request or response body is given up. Default 5 min.
    pub body_idle: Duration,
    /// Bytes of a request's or response's header, which may have 100 fields; at least 8 KiB. Default 64 KiB.
    pub max_header_bytes: usize,
    /// For one endpoint to take a connection. Default 3 s.
    pub connect_timeout: Duration,
    /// Unused connections kept for one endpoint by one worker. Default 64.
    pub idle_upstreams: usize,
    /// How long they are kept. Default 30 s: less than the keep-alive of usual servers.
    pub upstream_keep_alive: Duration,
    /// A relayed TCP connection without a byte in either direction is closed. Default 1 h.
    pub tcp_idle: Duration,
    /// A UDP flow without a datagram in either direction ends. Default 60 s.
    pub udp_idle: Duration,
    /// How long UDP flows under way may wait for an answer when the workers stop. Default 1 s.
    pub udp_last_answers: Duration,
    /// How long relayed connections and flows go on whose listener or endpoint has left the configuration; `None`: for as
    /// long as they like. Default `None`.
    pub reset_removed_after: Option<Duration>,
    /// UDP flows of one worker, with two sockets each; beyond it the idlest make room. Default 4,096. The kernel finds a
    /// socket that is not connected only after a look at all that are bound to the same address and port: with 4,000
    /// flows to one of these the first datagram of another takes 70 µs, with 16,000 it is 660 µs; before Linux 6.13 so
    /// does every datagram.
    pub max_flows: usize,
    /// Where the access log goes, one JSON object a line; `None`: none is written. A thread of its own writes;
    /// what it cannot keep up with is dropped and counted.
    pub access_log: Option<Box<dyn io::Write + Send + Sync>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_connections: 50_000,
            backlog: 4_096,
            header_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            body_idle: Duration::from_secs(300),
            max_header_bytes: 64 * 1024,
            connect_timeout: Duration::from_secs(3),
            idle_upstreams: 64,
            upstream_keep_alive: Duration::from_secs(30),
            tcp_idle: Duration::from_secs(3600),
            udp_idle: Duration::from_secs(60),
            udp_last_answers: Duration::from_secs(1),
            reset_removed_after: None,
            max_flows: 4_096,
            access_log: None,
        }
    }
}
