//! What a match asks for beside the path: method, headers, query parameters.
//!
//! Owns how each is compared and how many there are, which is their rank.

use std::cmp::Reverse;
use std::sync::Arc;

use http::HeaderName;
use regex::bytes::Regex;

use super::RequestView;

/// All of these must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// The method.
    pub(crate) method: Option<Arc<str>>,
    /// Headers.
    pub(crate) headers: Box<[(HeaderName, Value)]>,
    /// Query parameters.
    pub(crate) query: Box<[(Arc<str>, Value)]>,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// This.
    Exact(Arc<str>),
    /// What this expression fits in full.
    Regex(Arc<Regex>),
}

/// What a request does not fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    /// The method.
    Method,
    /// The header at this position.
    Header(usize),
    /// The query parameter at this position.
    Query(usize),
}

/// Sorts what is to be tried first to the front: a method, then more headers, then more query parameters.
pub(crate) type Rank = (bool, Reverse<usize>, Reverse<usize>);

impl Conditions {
    /// The rank of what has no conditions.
    pub(crate) const NO_RANK: Rank = (true, Reverse(0), Reverse(0));

    /// How soon it is tried.
    pub(crate) fn rank(&self) -> Rank {
        (self.method.is_none(), Reverse(self.headers.len()), Reverse(self.query.len()))
    }

    /// The first that a request does not fulfil, if there is one.
    #[inline]
    pub(crate) fn failing(&self, request: &RequestView<'_>) -> Option<Failing> {
        if self.method.as_deref().is_some_and(|method| method != request.method) {
            return Some(Failing::Method);
        }
        let header = |(name, value): &(_, _)| !header(request.headers, name, value);
        if let Some(at) = self.headers.iter().position(header) {
            return Some(Failing::Header(at));
        }
        let parameter = |(name, value): &(Arc<str>, _)| !parameter(request.query, name, value);
        self.query.iter().position(parameter).map(Failing::Query)
    }
}

/// A header that comes several times counts as one with its values joined by commas (RFC 9110, 5.2), without the
/// space that may follow a comma.
fn header(headers: &http::HeaderMap, name: &HeaderName, want: &Value) -> bool {
    let mut values = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    let Some(first) = values.next() else { return false };
    let Some(second) = values.next() else {
        return match want {
            Value::Exact(text) => first == text.as_bytes(),
            Value::Regex(regex) => regex.is_match(first),
        };
    };
    let rest = [second].into_iter().chain(values);
    match want {
        Value::Exact(text) => {
            let joined = first.iter().chain(rest.flat_map(|v| [b','].iter().chain(v)));
            joined.eq(text.as_bytes())
        }
        Value::Regex(regex) => {
            let joined = rest.fold(first.to_vec(), |mut joined, value| {
                joined.push(b',');
                joined.extend_from_slice(value);
                joined
            });
            regex.is_match(&joined)
        }
    }
}

/// Names and values are compared with their percent-encoding undone (RFC 3986, 2.1; `+` is no space there). Of a
/// repeated parameter the first value counts.
fn parameter(query: Option<&str>, name: &str, want: &Value) -> bool {
    let Some(raw) = raw_parameter(query, name) else { return false };
    match want {
        Value::Exact(text) => decoded(raw).eq(text.bytes()),
        Value::Regex(regex) if raw.contains('%') => regex.is_match(&decoded(raw).collect::<Vec<u8>>()),
        Value::Regex(regex) => regex.is_match(raw.as_bytes()),
    }
}

/// The value of a query parameter, as it was sent.
#[inline]
fn raw_parameter<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        decoded(key).eq(name.bytes()).then_some(value)
    })
}

/// The value of a query parameter as it is compared, for a person.
pub(crate) fn parameter_of(query: Option<&str>, name: &str) -> Option<String> {
    let bytes: Vec<u8> = decoded(raw_parameter(query, name)?).collect();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The bytes of a text with its percent-encoding undone; what is no encoding stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = after;
            return Some(high << 4 | low);
        }
        rest = tail;
        Some(first)
    })
}

fn hex(digit: u8) -> Option<u8> {
    // A hexadecimal digit is less than 16.
    (digit as char).to_digit(16).map(|d| d as u8)
}
