//! The access log: one JSON object a line.
//!
//! Owns its format and that it never holds up a worker: lines go through a bounded channel to a thread that writes;
//! what does not fit is dropped and counted.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use serde::Serialize;

use super::connection::Connection;
use super::totals::TlsVersion;
use crate::core::transport::Transport;

/// Lines that may wait.
const ROOM: usize = 8_192;

/// Where lines are handed over.
#[derive(Clone)]
pub(super) struct Log {
    lines: SyncSender<String>,
}

/// A request, as far as it is known when it begins.
#[derive(Debug)]
pub(super) struct HttpLine {
    method: String,
    target: String,
    host: Option<String>,
    user_agent: Option<String>,
    pub(super) listener: Option<Arc<str>>,
    pub(super) route: Option<Arc<str>>,
    pub(super) rule: Option<Arc<str>>,
    pub(super) backend: Option<Arc<str>>,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) error: Option<String>,
}

impl HttpLine {
    pub(super) fn new(parts: &Parts) -> Self {
        let field =
            |name| parts.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        Self {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            host: field(HOST),
            user_agent: field(USER_AGENT),
            listener: None,
            route: None,
            rule: None,
            backend: None,
            endpoint: None,
            error: None,
        }
    }
}

/// A line as it is written. Empty fields are left out.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    time: String,
    kind: &'static str,
    client: String,
    at: String,
    /// Of a request: `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'static str>,
    /// The version of TLS, `1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    /// 0: the client went away before there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    duration_us: u128,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    datagrams_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datagrams_out: Option<u64>,
}

/// What is said of a relayed connection or flow.
pub(super) struct RelayLine<'a> {
    pub(super) transport: Transport,
    pub(super) client: SocketAddr,
    /// The address and port that the client asked for.
    pub(super) at: SocketAddr,
    pub(super) began: Instant,
    pub(super) close: &'static str,
    pub(super) listener: &'a str,
    pub(super) route: &'a str,
    pub(super) backend: Option<&'a str>,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// In and out; `None` for TCP.
    pub(super) datagrams: Option<(u64, u64)>,
}

impl Log {
    /// Starts the thread that writes. It ends when the last handle has gone, after writing what waits.
    pub(super) fn start(sink: Box<dyn Write + Send + Sync>) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(ROOM);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(&waiting, sink))?;
        Ok(Self { lines })
    }

    /// Hands over a line for a request; false if it was dropped. The numbers are status, duration, bytes in and out.
    pub(super) fn http(
        &self,
        http: &HttpLine,
        connection: &Connection,
        tls: Option<TlsVersion>,
        (status, took, bytes_in, bytes_out): (u16, Duration, u64, u64),
    ) -> bool {
        self.send(&Line {
            kind: "http",
            scheme: Some(if tls.is_some() { "https" } else { "http" }),
            tls: tls.map(TlsVersion::name),
            method: Some(&http.method),
            target: Some(&http.target),
            host: http.host.as_deref(),
            user_agent: http.user_agent.as_deref(),
            status: Some(status),
            listener: http.listener.as_deref(),
            route: http.route.as_deref(),
            rule: http.rule.as_deref(),
            backend: http.backend.as_deref(),
            endpoint: http.endpoint.map(|e| e.to_string()),
            error: http.error.as_deref(),
            duration_us: took.as_micros(),
            bytes_in,
            bytes_out,
            ..Line::of(connection.peer, connection.local)
        })
    }

    /// Hands over a line for a relayed connection or flow; false if it was dropped.
    pub(super) fn relayed(&self, relayed: &RelayLine<'_>) -> bool {
        self.send(&Line {
            kind: relayed.transport.lower(),
            close: Some(relayed.close),
            listener: Some(relayed.listener),
            route: Some(relayed.route),
            backend: relayed.backend,
            endpoint: relayed.endpoint.map(|e| e.to_string()),
            duration_us: relayed.began.elapsed().as_micros(),
            bytes_in: relayed.bytes_in,
            bytes_out: relayed.bytes_out,
            datagrams_in: relayed.datagrams.map(|(datagrams, _)| datagrams),
            datagrams_out: relayed.datagrams.map(|(_, datagrams)| datagrams),
            ..Line::of(relayed.client, relayed.at)
        })
    }

    fn send(&self, line: &Line<'_>) -> bool {
        serde_json::to_string(line).is_ok_and(|json| self.lines.try_send(json).is_ok())
    }
}

impl Line<'_> {
    fn of(client: SocketAddr, at: SocketAddr) -> Self {
        Self {
            time: jiff::Timestamp::now().to_string(),
            client: client.to_string(),
            at: at.to_string(),
            ..Self::default()
        }
    }
}

/// Writes lines until nobody can send any more. A sink that fails loses lines, nothing else.
fn write(lines: &Receiver<String>, sink: Box<dyn Write + Send + Sync>) {
    let mut sink = io::BufWriter::new(sink);
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        while let Some(mut line) = next {
            // Whole, so that the file, which others append to as well, never gets half of it.
            line.push('\n');
            let _lost = sink.write_all(line.as_bytes());
            next = lines.try_recv().ok();
        }
        let _lost = sink.flush();
    }
}
