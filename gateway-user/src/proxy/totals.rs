//! The counters as they are read: plain numbers, summed over the workers.
//!
//! Owns their meaning. Must not know how workers count or how the numbers are exported.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::core::snapshot::SeriesKey;
use crate::core::transport::Transport;

/// Upper bounds of the latency buckets, in microseconds; above the last there is one more bucket.
pub const LATENCY_BOUNDS: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000, 10_000_000];

/// Everything the workers have counted since they started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests, by their labels. One that left the configuration stays for five minutes after the change, so that
    /// it is scraped a last time; of such at most 4,096 are kept.
    pub http: Vec<(SeriesKey, HttpTotals)>,
    /// Relayed TCP connections and UDP flows, by listener, route and backend; kept like those of HTTP.
    pub relayed: Vec<(RelayKey, RelayTotals)>,
    /// Connections accepted, by binding (`NAMESPACE/GATEWAY/LISTENER`); kept like those of HTTP.
    pub accepted: Vec<(BindingLabel, u64)>,
    /// Connections open now, by worker.
    pub open: Vec<u64>,
    /// Ended connections by reason.
    pub closed: Vec<(CloseReason, u64)>,
    /// Connections that endpoints took.
    pub upstream_connects: u64,
    /// Requests sent on a connection that was used before.
    pub upstream_reuses: u64,
    /// Connection attempts that endpoints refused or did not answer.
    pub upstream_failures: u64,
    /// Requests sent again since the connection turned out to be stale.
    pub upstream_retries: u64,
    /// Times that accepting failed (no descriptor left, for example).
    pub accept_errors: u64,
    /// Lines of the access log that were dropped.
    pub log_dropped: u64,
    /// UDP.
    pub udp: UdpTotals,
    /// TLS.
    pub tls: TlsTotals,
}

/// What is counted of TLS whatever the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsTotals {
    /// Handshakes that succeeded, by version and whether a session was resumed.
    pub handshakes: Vec<(TlsVersion, bool, u64)>,
    /// Handshakes that failed, by reason.
    pub failures: Vec<(HandshakeFailure, u64)>,
}

/// What is counted of UDP whatever the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpTotals {
    /// Flows open now, by worker.
    pub open: Vec<u64>,
    /// Ended flows by reason.
    pub ended: Vec<(FlowEnd, u64)>,
    /// Datagrams that went nowhere, by reason.
    pub dropped: Vec<(DropReason, u64)>,
    /// ICMP errors that backends sent (port unreachable, for example).
    pub backend_errors: u64,
    /// ICMP errors that clients sent.
    pub client_errors: u64,
}

/// A binding in the counters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingLabel {
    /// Its protocol.
    pub transport: Transport,
    /// `NAMESPACE/GATEWAY/LISTENER`, joined by commas.
    pub listener: Arc<str>,
    /// `ADDRESS:PORT`, `*:PORT` for any address.
    pub at: Arc<str>,
}

/// Labels of relayed connections and flows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayKey {
    /// The binding.
    pub binding: BindingLabel,
    /// `NAMESPACE/NAME` of the route.
    pub route: Arc<str>,
    /// `NAMESPACE/SERVICE:PORT`; empty: refused, since the slot's backend is invalid.
    pub backend: Arc<str>,
    /// The endpoint; `None` with an empty backend.
    pub endpoint: Option<SocketAddr>,
}

/// What is counted for relayed connections and flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayTotals {
    /// Connections (TCP) or flows (UDP).
    pub begun: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Datagrams from clients; 0 for TCP.
    pub datagrams_in: u64,
    /// Datagrams to clients; 0 for TCP.
    pub datagrams_out: u64,
}

/// What is counted for requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpTotals {
    /// Requests by class of the answer's status: 1xx, 2xx, 3xx, 4xx, 5xx. Index 0 (1xx) also holds requests whose
    /// client went away before there was an answer.
    pub status: [u64; 5],
    /// Time from the end of the request's header to the end of the answer.
    pub latency: Latency,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
}

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Values by bucket, not cumulated; bounds are [`LATENCY_BOUNDS`].
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// Sum of all, in microseconds.
    pub sum_micros: u64,
}

/// Why a client's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// Both sides had finished.
    Done,
    /// The client reset it.
    ClientReset,
    /// The backend reset it.
    BackendReset,
    /// No binding of the snapshot fits: reset.
    Unknown,
    /// The route's slot holds an invalid backend: reset.
    Refused,
    /// No endpoint took the connection: reset.
    NoEndpoint,
    /// Nothing moved for too long.
    Idle,
    /// What the client sent was not HTTP, or too slow.
    BadRequest,
    /// Hands could not be shaken: see [`HandshakeFailure`].
    Handshake,
    /// Cut at the deadline of a drain, or with the worker.
    Cut,
    /// Its listener or endpoint had left the configuration for long enough: both sides were reset.
    Withdrawn,
    /// Any other error.
    Error,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::ClientReset,
        Self::BackendReset,
        Self::Unknown,
        Self::Refused,
        Self::NoEndpoint,
        Self::Idle,
        Self::BadRequest,
        Self::Handshake,
        Self::Cut,
        Self::Withdrawn,
        Self::Error,
    ];

    /// Its name in metrics and in the access log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::Unknown => "unknown_binding",
            Self::Refused => "refused",
            Self::NoEndpoint => "no_endpoint",
            Self::Idle => "idle",
            Self::BadRequest => "bad_request",
            Self::Handshake => "tls_handshake",
            Self::Cut => "cut",
            Self::Withdrawn => "withdrawn",
            Self::Error => "error",
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V1_2, Self::V1_3];

    /// What was agreed upon: no other version is ever offered.
    pub(super) fn of(version: Option<rustls::ProtocolVersion>) -> Self {
        if version == Some(rustls::ProtocolVersion::TLSv1_2) { Self::V1_2 } else { Self::V1_3 }
    }

    /// Its name in metrics and in the access log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandshakeFailure {
    /// It took too long.
    Timeout,
    /// The client went away.
    Gone,
    /// What the client sent is no TLS, or breaks its rules.
    Malformed,
    /// No listener has the name that the client asks for, or it names none.
    Name,
    /// Client and gateway have no version, cipher suite, signature scheme or protocol in common.
    Incompatible,
    /// The client sent an alert: it does not trust the certificate, for example.
    Refused,
    /// Any other error.
    Error,
}

impl HandshakeFailure {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Timeout,
        Self::Gone,
        Self::Malformed,
        Self::Name,
        Self::Incompatible,
        Self::Refused,
        Self::Error,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Gone => "client_gone",
            Self::Malformed => "malformed",
            Self::Name => "unrecognized_name",
            Self::Incompatible => "incompatible",
            Self::Refused => "client_refused",
            Self::Error => "error",
        }
    }
}

/// Why a UDP flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowEnd {
    /// Nothing moved for too long.
    Idle,
    /// A newer flow needed its place.
    Evicted,
    /// Its binding left the configuration.
    Unbound,
    /// Its endpoint had left the configuration for long enough.
    Withdrawn,
    /// The agent stops, and what the client asked is answered.
    Drained,
    /// Cut at the deadline of a drain, or with the worker.
    Cut,
}

impl FlowEnd {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Evicted, Self::Unbound, Self::Withdrawn, Self::Drained, Self::Cut];

    /// Its name in metrics and in the access log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Unbound => "unbound",
            Self::Withdrawn => "withdrawn",
            Self::Drained => "drained",
            Self::Cut => "cut",
        }
    }
}

/// Why a datagram went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// No binding of the snapshot fits.
    Unknown,
    /// The binding serves nothing, or the route's slot holds an invalid backend.
    Refused,
    /// No socket could be made for its flow, or there is no way to a backend.
    NoSocket,
    /// The other side takes no more for now.
    Busy,
    /// It could not be sent: it is too large, for example.
    Unsent,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Refused, Self::NoSocket, Self::Busy, Self::Unsent];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_binding",
            Self::Refused => "refused",
            Self::NoSocket => "no_socket",
            Self::Busy => "busy",
            Self::Unsent => "unsent",
        }
    }
}
