//! HTTP route matching: which rule serves a request.
//!
//! Owns the tables and every precedence rule of the specification (HTTPRoute, `HTTPRouteRule.matches`). Must not
//! know how a request arrives: it sees host, path, method, headers and query.

/// The routes of one binding.
#[derive(Clone, Debug, Default)]
pub struct HttpTable {}
