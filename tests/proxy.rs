//! The workers through real sockets on loopback: HTTP and TCP, well-behaved peers and others, IPv4 and IPv6. No
//! privilege is needed: without BPF a client connects to the workers' own sockets.
#![expect(clippy::unwrap_used, reason = "a test: what cannot be done here fails it, with the place")]

#[path = "proxy/change.rs"]
mod change;
#[path = "proxy/filters.rs"]
mod filters;
#[path = "proxy/fixture.rs"]
mod fixture;
#[path = "proxy/http.rs"]
mod http;
#[path = "proxy/refused.rs"]
mod refused;
#[path = "proxy/streams.rs"]
mod streams;
#[path = "proxy/tcp.rs"]
mod tcp;
#[path = "proxy/tls.rs"]
mod tls;
mod tls_client;
#[path = "proxy/udp.rs"]
mod udp;
#[path = "proxy/upstream.rs"]
mod upstream;
