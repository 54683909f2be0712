//! From a request to its answer: checked, routed, counted.
//!
//! Owns the statuses that the gateway gives by itself: redirects, 400, 404, 500, 501, 503. What endpoints do is
//! `forward`'s.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::AnswerBody;
use super::client::Client;
use super::forward;
use super::record::Record;
use super::request::{Refused, check, is_last};
use crate::core::route::{RequestView, Unserved};
use crate::core::snapshot::BoundService;
use crate::core::transport::Transport;

/// What is said of a request that could be read in two ways.
pub(super) const AMBIGUOUS: &str = "both Content-Length and Transfer-Encoding";

/// Answers a request. Never fails: what goes wrong has a status.
pub(super) async fn answer(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let ambiguous = client.request_begins();
    let draining = client.connection.worker.is_draining();
    let (parts, body) = request.into_parts();
    if is_last(&parts) {
        client.request_is_last();
    }
    let view = client.connection.worker.view();
    let mut record = Record::new(client.clone(), view.clone(), &parts);
    let bound = view.bound(Transport::Tcp, client.connection.local);
    // What is served in TLS alone must not be had in clear, nor the other way round.
    let bound = bound.filter(|bound| bound.tls.is_some() == client.version().is_some());
    let Some(BoundService::Http(table)) = bound.map(|bound| &bound.listeners.service) else {
        // The listener has gone since the client connected.
        return Ok(closing(own(StatusCode::NOT_FOUND, "no listener is here any more", record)));
    };
    record.belongs_to(table.unrouted());
    if ambiguous {
        return Ok(closing(own(StatusCode::BAD_REQUEST, AMBIGUOUS, record)));
    }
    let host = match check(&parts) {
        Ok(host) => host,
        Err(Refused(status, why)) => return Ok(closing(own(status, why, record))),
    };
    let found = table.find(&view_of(&parts, host.name));
    record.belongs_to(found.series);
    record.listener(found.listener);
    let Some(rule) = found.rule else {
        return Ok(unserved(Unserved::NoRoute, record));
    };
    record.rule(rule);
    let turn = || record.cells(rule.series).map_or(0, |cells| cells.choices.next());
    let (mut answer, filters) = match &rule.redirect {
        Some(redirect) => {
            let location =
                redirect.location(&client.arrival(), host.name, parts.uri.path(), parts.uri.query());
            (redirected(redirect.status.code(), &location, record), &rule.headers)
        }
        None => match rule.backend(turn) {
            Err(why) => (unserved(why, record), &rule.headers),
            Ok(backend) => {
                record.backend(backend);
                let answer = match backend.target.endpoints() {
                    Err(why) => unserved(why, record),
                    Ok(endpoints) => {
                        let host = host.from_target.then(|| host.authority.to_owned());
                        let (series, filters) = (backend.series, backend.headers.as_ref());
                        let trusted = rule.trusts(client.connection.peer.ip());
                        let call = forward::Call { rule, endpoints, series, host, filters, trusted };
                        forward::forward(call, parts, body, record).await
                    }
                };
                (answer, &backend.headers)
            }
        },
    };
    if let Some(filters) = filters {
        filters.response.apply(answer.headers_mut());
    }
    if draining || client.connection.worker.is_draining() {
        answer = closing(answer);
    }
    Ok(answer)
}

/// What of a request is matched.
#[inline]
pub(super) fn view_of<'a>(parts: &'a Parts, host: &'a str) -> RequestView<'a> {
    RequestView {
        host,
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: parts.method.as_str(),
        headers: &parts.headers,
    }
}

/// An answer of the gateway's own.
pub(super) fn own(status: StatusCode, why: &'static str, mut record: Record) -> Response<AnswerBody> {
    record.answered(status.as_u16());
    record.because(|| why.to_owned());
    let mut response = Response::new(AnswerBody::whole(Bytes::from_static(why.as_bytes()), record));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer that sends the client elsewhere.
fn redirected(status: u16, location: &str, mut record: Record) -> Response<AnswerBody> {
    record.answered(status);
    let mut response = Response::new(AnswerBody::whole(Bytes::new(), record));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    // It is: a Location has nothing in it but visible ASCII.
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn unserved(why: Unserved, record: Record) -> Response<AnswerBody> {
    let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    own(status, why.words(), record)
}

fn closing(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Size of a request's future: each connection holds room for one.
#[cfg(test)]
pub(super) fn size() -> usize {
    fn of<F>(_: impl Fn(Rc<Client>, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }
    of(answer)
}
