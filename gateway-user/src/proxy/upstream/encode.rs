//! The header of a request as it goes to an endpoint, written straight from the client's: nothing is copied first.
//!
//! Owns which fields are passed on (RFC 9110, 7.6.1) and which are replaced. Pure.

use std::io::Write;
use std::net::IpAddr;

use http::header::{
    self, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;

/// How a request's body is delimited on the way to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum RequestFraming {
    /// No body.
    None,
    /// As many bytes.
    Length(u64),
    /// Chunked.
    Chunked,
}

/// Fields about the client, the same for every request of a connection: written once.
pub(in crate::proxy) fn about_client(client: IpAddr, tls: bool) -> Vec<u8> {
    let proto = if tls { "https" } else { "http" };
    let mut about = Vec::with_capacity(192);
    write!(about, "x-forwarded-for: {client}\r\nx-forwarded-proto: {proto}\r\nforwarded: for=")
        .and_then(|()| match client {
            IpAddr::V4(v4) => write!(about, "{v4}"),
            IpAddr::V6(v6) => write!(about, "\"[{v6}]\""), // RFC 7239, 6
        })
        .expect("a Vec takes every write");
    write!(about, ";proto={proto}\r\n\r\n").expect("a Vec takes every write");
    about
}

/// Writes the header. `host` replaces the Host field (absolute-form, RFC 9112, 3.2.2), `about` comes last and ends
/// the header.
pub(in crate::proxy) fn write_head(
    out: &mut Vec<u8>,
    parts: &Parts,
    host: Option<&str>,
    framing: RequestFraming,
    about: &[u8],
) {
    out.clear();
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    if !target.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let named = named_by_connection(&parts.headers);
    let mut trailers = false;
    for (name, value) in &parts.headers {
        if !is_passed_on(name, value) || named.contains(name) {
            trailers |= *name == TE && options(value.as_bytes()).any(|o| o.eq_ignore_ascii_case(b"trailers"));
            continue;
        }
        match host {
            Some(host) if name == HOST => field(out, name, host.as_bytes()),
            _ => field(out, name, value.as_bytes()),
        }
    }
    if trailers {
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
    match framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => {
            write!(out, "content-length: {length}\r\n").expect("a Vec takes every write");
        }
        RequestFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(about);
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether a request's field is passed on as it is. Hop-by-hop fields are not, nor what is written anew.
pub(super) fn is_passed_on(name: &HeaderName, value: &HeaderValue) -> bool {
    if *name == EXPECT {
        // The worker answers it itself.
        return !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    }
    !(is_hop_by_hop(name)
        || *name == CONTENT_LENGTH
        || *name == FORWARDED
        || matches!(
            name.as_str(),
            "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port"
        ))
}

/// Fields that belong to one connection (RFC 9110, 7.6.1).
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Fields that Connection names.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    if !headers.contains_key(CONNECTION) {
        return Vec::new();
    }
    let values = headers.get_all(CONNECTION).iter();
    values.flat_map(|value| options(value.as_bytes())).filter_map(may_be_named).collect()
}

/// The options of a Connection or TE field.
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

/// The field that a connection option names, if it may: what frames or routes the message cannot be taken away.
pub(super) fn may_be_named(option: &[u8]) -> Option<HeaderName> {
    if option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close") {
        return None;
    }
    let name = HeaderName::from_bytes(option).ok()?;
    (![HOST, CONTENT_LENGTH, TRANSFER_ENCODING, header::TRAILER].contains(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: http::request::Builder, host: Option<&str>, framing: RequestFraming) -> String {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = b"old".to_vec();
        write_head(&mut out, &parts, host, framing, b"\r\n");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hop_by_hop_and_forged_fields_stay_behind() {
        let request = http::Request::builder()
            .uri("/a%2Fb//c?q=1")
            .header("host", "a.example")
            .header("connection", "close, X-Private , host")
            .header("keep-alive", "5")
            .header("proxy-connection", "keep-alive")
            .header("x-private", "1")
            .header("upgrade", "websocket")
            .header("transfer-encoding", "chunked")
            .header("te", "gzip")
            .header("expect", "100-continue")
            .header("x-forwarded-for", "6.6.6.6")
            .header("forwarded", "for=6.6.6.6")
            .header("x-forwarded-host", "evil")
            .header("accept", "*/*")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        assert_eq!(
            head(request, None, RequestFraming::Chunked),
            "GET /a%2Fb//c?q=1 HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\ncookie: a=1\r\ncookie: b=2\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
    }

    #[test]
    fn trailers_are_asked_for_and_host_is_replaced() {
        let request = http::Request::builder()
            .method("POST")
            .uri("http://b.example?x")
            .header("host", "a.example")
            .header("te", "trailers, deflate");
        assert_eq!(
            head(request, Some("b.example"), RequestFraming::Length(3)),
            "POST /?x HTTP/1.1\r\nhost: b.example\r\nte: trailers\r\nconnection: te\r\ncontent-length: 3\r\n\r\n"
        );
    }

    #[test]
    fn about_the_client() {
        let about = |ip: &str| String::from_utf8(about_client(ip.parse().unwrap(), false)).unwrap();
        assert!(about("10.0.0.1").contains("forwarded: for=10.0.0.1;proto=http\r\n"));
        assert!(about("::1").contains("x-forwarded-for: ::1\r\n"));
        assert!(about("::1").contains("forwarded: for=\"[::1]\";proto=http\r\n"));
        let secure = String::from_utf8(about_client([10, 0, 0, 1].into(), true)).unwrap();
        assert!(secure.contains("x-forwarded-proto: https\r\nforwarded: for=10.0.0.1;proto=https\r\n"));
    }
}
