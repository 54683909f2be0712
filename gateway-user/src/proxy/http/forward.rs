//! A request on its way to an endpoint and back.
//!
//! Owns which endpoint is tried next, when a request may be sent again, the timeouts, and the statuses for what
//! endpoints do wrong: 502, 503, 504.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::body::{Body, Incoming};
use tokio::time::Sleep;

use super::answer::own;
use super::body::{AnswerBody, Streaming};
use super::record::Record;
use crate::core::headers::HeaderFilters;
use crate::core::route::RuleEntry;
use crate::core::snapshot::SeriesAt;
use crate::proxy::upstream::encode::{RequestFraming, about_proxied, write_head};
use crate::proxy::upstream::{Answer, Exchange, Failure, Upstream, dial};

/// Where a request is to go.
pub(super) struct Call<'a> {
    pub(super) rule: &'a RuleEntry,
    /// Never empty.
    pub(super) endpoints: &'a [SocketAddr],
    /// Series of the backend.
    pub(super) series: SeriesAt,
    /// Replaces the Host field.
    pub(super) host: Option<String>,
    /// What becomes of header fields.
    pub(super) filters: Option<&'a Arc<HeaderFilters>>,
    /// What the peer says about its client counts.
    pub(super) trusted: bool,
}

/// No endpoint took the connection.
enum Unreachable {
    /// Every one that was tried refused.
    Refused,
    /// At least one did not answer, or is beyond reach.
    Failed,
    /// The time allowed has passed.
    Late,
}

/// Sends a request to an endpoint and returns its answer, or what is to be said instead.
pub(super) async fn forward(
    call: Call<'_>,
    mut parts: Parts,
    body: Incoming,
    mut record: Record,
) -> Response<AnswerBody> {
    let framing = framing(&parts, &body);
    let mut body = (!body.is_end_stream()).then_some(body);
    // Sent twice, it does what it does once, and nothing of it is lost by the first attempt (RFC 9110, 9.2.2).
    let repeatable = body.is_none() && parts.method.is_idempotent();
    let to_head = parts.method == Method::HEAD;
    let first = record.cells(call.series).map_or(0, |cells| cells.turns.next()) as usize;
    let client = record.client.clone();
    let worker = &client.connection.worker;
    let limit = worker.config().max_header_bytes;
    let mut deadline = until(&call, &record).map(|at| Box::pin(tokio::time::sleep_until(at.into())));
    // The header as it is sent; from the second attempt on.
    let mut again: Option<Vec<u8>> = None;
    let mut headers = HeaderMap::new();
    loop {
        let fresh = again.is_some();
        let mut upstream = match connect(&call, first, fresh, !repeatable, &record).await {
            Ok(upstream) => upstream,
            Err(unreachable) => return unreachable.answer(record),
        };
        match again.take() {
            Some(head) => {
                worker.cells().retries.add(1);
                upstream.out = head;
            }
            None => {
                let host = call.host.as_deref();
                let changes = call.filters.map(|filters| &filters.request);
                let proxied = call.trusted.then(|| about_proxied(&client.about, &parts.headers));
                let about = proxied.as_ref().unwrap_or(&client.about);
                write_head(&mut upstream.out, &parts, host, changes, framing, about);
                // The memory of the request's fields serves for the answer's.
                headers = std::mem::take(&mut parts.headers);
                headers.clear();
            }
        }
        record.endpoint(upstream.at);
        let reused = upstream.is_reused();
        if reused {
            worker.cells().reuses.add(1);
        }
        let mut exchange = Exchange::new(upstream, body.take(), framing, call.filters.cloned());
        let answered = poll_fn(|cx| {
            if client.connection.is_expired() || is_over(&mut deadline, cx) {
                return Poll::Ready(Err(Failure::Late));
            }
            exchange.poll_answer(cx, to_head, &mut headers, limit)
        })
        .await;
        record.bytes_in = exchange.bytes_in;
        match answered {
            Ok(answer) => return pass_on(answer, exchange, deadline, record),
            Err(Failure::Silent) if reused && repeatable => {
                again = Some(std::mem::take(&mut exchange.upstream.out));
            }
            Err(failure) => return give_up(&failure, record),
        }
    }
}

pub(super) fn framing(parts: &Parts, body: &Incoming) -> RequestFraming {
    match body.size_hint().exact() {
        // `Content-Length: 0` is passed on: some servers ask for it.
        Some(0) if !parts.headers.contains_key(CONTENT_LENGTH) => RequestFraming::None,
        Some(length) => RequestFraming::Length(length),
        None => RequestFraming::Chunked,
    }
}

/// A connection to one of the endpoints: an idle one, unless it must be `fresh`, or a new one.
async fn connect(
    call: &Call<'_>,
    first: usize,
    fresh: bool,
    probe: bool,
    record: &Record,
) -> Result<Box<Upstream>, Unreachable> {
    let worker = &record.client.connection.worker;
    let mut unreachable = Unreachable::Refused;
    for at in worker.pool.candidates(call.endpoints, first) {
        if !fresh && let Some(upstream) = worker.pool.take(at, probe) {
            return Ok(upstream);
        }
        let mut limit = worker.config().connect_timeout;
        if let Some(until) = until(call, record) {
            limit = limit.min(until.saturating_duration_since(Instant::now()));
        }
        match Box::pin(dial(worker, at, limit)).await {
            Ok(io) => return Ok(Box::new(Upstream::new(io, at))),
            Err(_) if until(call, record).is_some_and(|until| Instant::now() >= until) => {
                return Err(Unreachable::Late);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => unreachable = Unreachable::Failed,
        }
    }
    Err(unreachable)
}

/// When the route's time is up: both timeouts begin with the request and end with the answer's last byte.
fn until(call: &Call<'_>, record: &Record) -> Option<Instant> {
    let rule = call.rule;
    let limit = [rule.request_timeout, rule.backend_timeout].into_iter().flatten().min()?;
    (limit > Duration::ZERO).then(|| record.began() + limit)
}

fn is_over(deadline: &mut Option<Pin<Box<Sleep>>>, cx: &mut std::task::Context<'_>) -> bool {
    deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
}

fn pass_on(
    Answer { head, whole }: Answer,
    exchange: Exchange,
    deadline: Option<Pin<Box<Sleep>>>,
    mut record: Record,
) -> Response<AnswerBody> {
    record.answered(head.status.as_u16());
    let body = match whole {
        Some(bytes) => {
            let worker = &record.client.connection.worker;
            if let Some(upstream) = exchange.reusable() {
                worker.pool.put(upstream, worker.tick());
            }
            AnswerBody::whole(bytes, record)
        }
        None => AnswerBody::stream(Streaming { exchange, decoder: head.body, deadline }, record),
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn give_up(failure: &Failure, mut record: Record) -> Response<AnswerBody> {
    let (status, why) = match failure {
        Failure::Late => (StatusCode::GATEWAY_TIMEOUT, "the backend took too long"),
        Failure::Client(_) => (StatusCode::BAD_REQUEST, "the request broke off"),
        Failure::Silent => (StatusCode::BAD_GATEWAY, "the backend closed the connection without an answer"),
        Failure::Early(_) => (StatusCode::BAD_GATEWAY, "the backend closed the connection within its answer"),
        Failure::Garbage(_) => (StatusCode::BAD_GATEWAY, "the backend's answer is not HTTP"),
    };
    let detail = failure.to_string();
    record.because(|| detail);
    own(status, why, record)
}

impl Unreachable {
    fn answer(self, record: Record) -> Response<AnswerBody> {
        match self {
            Self::Refused => own(StatusCode::SERVICE_UNAVAILABLE, "every endpoint refuses", record),
            Self::Failed => own(StatusCode::BAD_GATEWAY, "no endpoint could be reached", record),
            Self::Late => own(StatusCode::GATEWAY_TIMEOUT, "no endpoint could be reached in time", record),
        }
    }
}
