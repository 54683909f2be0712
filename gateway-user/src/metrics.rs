//! Metrics: names, units and help texts, and the Prometheus text format (version 0.0.4).
//!
//! Owns what is exported under which name. Must not know where a number comes from: the agent hands in [`Facts`],
//! read at each scrape. No metric is kept here.
//!
//! # Cardinality
//! Every label is an object of the configuration, one of a closed list, or a worker; never anything that a client
//! sends. Series that left the configuration are shown for some minutes after the change, so that they are scraped a
//! last time; of such at most 4,096 are kept. With B bindings, S request series (one for each backend of a rule on a
//! listener; and for what no backend answered, one for each rule on a listener and one for each listener), T TCP and
//! U UDP series (listener × endpoint) there are at most 4 × B lookups, B connections, 22 × S for HTTP (5 until the
//! first request), 3 × T for TCP and 5 × U for UDP in the relay, 6 × (T + U) for what the kernel
//! forwards (1 until the first connection), E for source ports (E endpoints), and about 100 others.

mod families;
mod forward;
mod text;

use std::net::SocketAddr;
use std::sync::Arc;

pub use families::render;

/// Everything that one scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What the kernel counted; `None` if it could not be read.
    pub kernel: Option<Kernel>,
    /// What is forwarded in the kernel; `None`: forwarding is off, or it could not be read.
    pub forward: Option<Forward>,
    /// Connections accepted by binding.
    pub accepted: Vec<(BindingLabels, u64)>,
    /// Relayed TCP connections.
    pub tcp: Vec<(RelayLabels, Relayed)>,
    /// Relayed UDP flows.
    pub udp: Vec<(RelayLabels, Relayed)>,
    /// What else the workers counted of UDP.
    pub flows: Flows,
    /// Requests.
    pub http: Vec<(HttpLabels, Requests)>,
    /// Upper bounds of the latency buckets, in seconds.
    pub latency_bounds: Vec<f64>,
    /// Connections open now, by worker.
    pub open: Vec<u64>,
    /// Ended connections by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Connections that endpoints took.
    pub upstream_connects: u64,
    /// Requests sent on a connection that was used before.
    pub upstream_reuses: u64,
    /// Connection attempts that endpoints refused or did not answer.
    pub upstream_failures: u64,
    /// Requests sent again since a connection turned out to be stale.
    pub upstream_retries: u64,
    /// TLS handshakes.
    pub tls: Handshakes,
    /// Times that accepting failed.
    pub accept_errors: u64,
    /// Lines of the access log that were dropped.
    pub access_log_dropped: u64,
    /// The configuration.
    pub configuration: Configuration,
    /// The cluster whose objects are served, if it is one's.
    pub cluster: Option<Cluster>,
    /// Whether programs are attached and a snapshot is applied.
    pub ready: bool,
    /// When the agent started, seconds since the epoch.
    pub started: f64,
}

/// What is counted of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Whether this agent writes statuses.
    pub leads: bool,
    /// Statuses that were to be written, by what came of it.
    pub writes: Vec<(&'static str, u64)>,
}

/// TLS handshakes.
#[derive(Clone, Debug, Default)]
pub struct Handshakes {
    /// Those that succeeded, by version and whether a session was resumed.
    pub done: Vec<(&'static str, bool, u64)>,
    /// Those that failed, by reason.
    pub failed: Vec<(&'static str, u64)>,
}

/// What the kernel counted.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Lookups by binding (`ADDRESS:PORT/PROTOCOL`) and verdict.
    pub lookups: Vec<(Arc<str>, &'static str, u64)>,
    /// Lookups that found no binding.
    pub misses: u64,
    /// Maps: name, capacity, entries in use.
    pub maps: Vec<(&'static str, u32, u32)>,
}

/// What is forwarded in the kernel.
#[derive(Clone, Debug, Default)]
pub struct Forward {
    /// Living flows by state.
    pub states: Vec<(&'static str, u64)>,
    /// What flows carried.
    pub flows: Vec<(RelayLabels, Forwarded)>,
    /// What went to the relay instead, by reason.
    pub fallbacks: Vec<(&'static str, u64)>,
    /// What was dropped, by reason.
    pub drops: Vec<(&'static str, u64)>,
    /// What else was counted, by reason.
    pub notes: Vec<(&'static str, u64)>,
    /// Source ports in use by endpoint and protocol.
    pub ports: Vec<(SocketAddr, &'static str, u64)>,
    /// Source ports that there are for each endpoint.
    pub port_range: u64,
    /// Flows that the agent ended.
    pub withdrawn: u64,
}

/// What is counted for forwarded flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarded {
    /// Flows that began.
    pub connections: u64,
    /// Ended flows that the endpoint never answered.
    pub unanswered: u64,
    /// Packets by direction: the client's, the endpoint's.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction.
    pub bytes: [u64; 2],
}

/// Labels of a binding.
#[derive(Clone, Debug)]
pub struct BindingLabels {
    /// `ADDRESS:PORT/PROTOCOL`.
    pub binding: Arc<str>,
    /// `NAMESPACE/GATEWAY/LISTENER`, joined by commas.
    pub listener: Arc<str>,
}

/// Labels of relayed connections and flows, and of forwarded ones.
#[derive(Clone, Debug)]
pub struct RelayLabels {
    /// The binding.
    pub binding: BindingLabels,
    /// `NAMESPACE/NAME` of the route.
    pub route: Arc<str>,
    /// `NAMESPACE/SERVICE:PORT`.
    pub service: Arc<str>,
    /// `ADDRESS:PORT` of the endpoint; empty: refused.
    pub backend: String,
}

/// What is counted for relayed connections and flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relayed {
    /// Connections or flows.
    pub begun: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Datagrams from clients; 0 for TCP.
    pub datagrams_received: u64,
    /// Datagrams to clients; 0 for TCP.
    pub datagrams_sent: u64,
}

/// What is counted of UDP flows whatever the configuration.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// Open now, by worker.
    pub open: Vec<u64>,
    /// Ended, by reason.
    pub ended: Vec<(&'static str, u64)>,
    /// Datagrams that went nowhere, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// ICMP errors by who sent them: `backend`, `client`.
    pub errors: Vec<(&'static str, u64)>,
}

/// Labels of requests.
#[derive(Clone, Debug)]
pub struct HttpLabels {
    /// `NAMESPACE/GATEWAY/LISTENER`.
    pub listener: Arc<str>,
    /// `NAMESPACE/NAME`; empty: no route matched.
    pub route: Arc<str>,
    /// The rule's name or position.
    pub rule: Arc<str>,
    /// `NAMESPACE/SERVICE:PORT`; empty: answered without a backend.
    pub backend: Arc<str>,
}

/// What is counted for requests.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// By class of the answer's status, 1xx to 5xx.
    pub status: [u64; 5],
    /// By latency bucket, not cumulated, one more than there are bounds.
    pub latency: Vec<u64>,
    /// Sum of all latencies, in seconds.
    pub latency_sum: f64,
    /// Bytes of request bodies.
    pub received: u64,
    /// Bytes of answers' bodies.
    pub sent: u64,
}

/// The configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Configuration {
    /// The input that serves; the first good one since the agent's start is 1.
    pub generation: u64,
    /// Inputs that were refused.
    pub refused: u64,
    /// Times that applying failed.
    pub failed: u64,
    /// Whether the newest input serves.
    pub current: bool,
    /// When the newest input was applied, seconds since the epoch; 0: never.
    pub last_success: f64,
    /// When an input was refused or could not be applied last; 0: never.
    pub last_error: f64,
}
