//! The header of a request as it goes to an endpoint, written straight from the client's: nothing is copied first.
//!
//! Owns which fields are passed on (RFC 9110, 7.6.1) and which are replaced. Pure.

use std::io::Write;
use std::net::IpAddr;

use http::header::{
    self, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING,
};
use http::request::Parts;

use crate::core::headers::{HeaderChanges, is_hop_by_hop};

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

/// The fields about the client of a request that a trusted proxy sent: what it says about its own client, and then what
/// we say about the proxy, if it is a list (RFC 7239, 4; RFC 9110, 5.3); of the rest what it says, if anything.
pub(in crate::proxy) fn about_proxied(about: &[u8], headers: &HeaderMap) -> Vec<u8> {
    let mut all = Vec::with_capacity(2 * about.len());
    let said = |all: &mut Vec<u8>, name: &str| {
        let before = all.len();
        for value in headers.get_all(name) {
            let between: &[u8] = if all.len() == before { b"" } else { b", " };
            all.extend_from_slice(between);
            all.extend_from_slice(value.as_bytes());
        }
        all.len() > before
    };
    for line in about.split_inclusive(|b| *b == b'\n') {
        let text = str::from_utf8(line).unwrap_or_default();
        let Some((name, ours)) = text.split_once(": ") else { continue };
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(b": ");
        let any = said(&mut all, name);
        let list = name != "x-forwarded-proto";
        if any && list {
            all.extend_from_slice(b", ");
        }
        all.extend_from_slice(if any && !list { b"\r\n" } else { ours.as_bytes() });
    }
    for name in ["x-forwarded-host", "x-forwarded-port"] {
        let before = all.len();
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(b": ");
        if said(&mut all, name) {
            all.extend_from_slice(b"\r\n");
        } else {
            all.truncate(before);
        }
    }
    all.extend_from_slice(b"\r\n");
    all
}

/// Writes the header. `host` replaces the Host field (absolute-form, RFC 9112, 3.2.2), `about` comes last and ends
/// the header. `changes` are made to all that is passed on, and to what is said about the client: no option of the
/// client's Connection field takes away what they add.
pub(in crate::proxy) fn write_head(
    out: &mut Vec<u8>,
    parts: &Parts,
    host: Option<&str>,
    changes: Option<&HeaderChanges>,
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
    let host = changes.and_then(HeaderChanges::host).map(HeaderValue::as_bytes).or(host.map(str::as_bytes));
    let mut trailers = false;
    for (name, value) in &parts.headers {
        if *name == HOST {
            field(out, name, host.unwrap_or(value.as_bytes()));
            continue;
        }
        if !is_passed_on(name, value) || named.contains(name) {
            trailers |= *name == TE && options(value.as_bytes()).any(|o| o.eq_ignore_ascii_case(b"trailers"));
            continue;
        }
        if changes.is_none_or(|changes| !changes.replaces(name.as_str())) {
            field(out, name, value.as_bytes());
        }
    }
    if let Some(changes) = changes {
        let coming = changes.coming().filter(|(name, _)| **name != HOST);
        coming.for_each(|(name, value)| field(out, name, value.as_bytes()));
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
    match changes {
        None => out.extend_from_slice(about),
        Some(changes) => {
            let stays = |line: &&[u8]| {
                let name = line.split(|b| *b == b':').next().unwrap_or_default();
                !str::from_utf8(name).is_ok_and(|name| changes.replaces(name))
            };
            about.split_inclusive(|b| *b == b'\n').filter(stays).for_each(|line| out.extend_from_slice(line));
        }
    }
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
    use crate::core::headers::Change;

    fn head(request: http::request::Builder, host: Option<&str>, framing: RequestFraming) -> String {
        changed(request, host, &HeaderChanges::default(), framing, b"\r\n")
    }

    fn changed(
        request: http::request::Builder,
        host: Option<&str>,
        changes: &HeaderChanges,
        framing: RequestFraming,
        about: &[u8],
    ) -> String {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = b"old".to_vec();
        let changes = Some(changes).filter(|changes| !changes.is_empty());
        write_head(&mut out, &parts, host, changes, framing, about);
        String::from_utf8(out).unwrap()
    }

    /// `name: value` replaces, `+name: value` appends, a name alone is removed.
    fn changes(lines: &[&str]) -> HeaderChanges {
        let mut changes = HeaderChanges::default();
        for line in lines {
            let (name, value) = line.split_once(": ").map_or((*line, None), |(n, v)| (n, Some(v)));
            let values = value.map(|v| v.parse().unwrap()).into_iter().collect();
            let (name, change) = match name.strip_prefix('+') {
                Some(name) => (name, Change::Append(values)),
                None => (name, Change::Replace(values)),
            };
            changes.push(name.parse().unwrap(), change);
        }
        changes
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
    fn changes_are_made_to_what_is_passed_on() {
        let request = || {
            http::Request::builder()
                .uri("/x")
                .header("host", "a.example")
                .header("connection", "x-user, x-set")
                .header("x-user", "evil")
                .header("x-set", "evil")
                .header("x-set", "again")
                .header("x-gone", "1")
                .header("accept", "*/*")
                .header("accept", "text/html")
        };
        let about = about_client("10.0.0.1".parse().unwrap(), false);
        let lines =
            ["x-set: 1", "x-user: admin", "+accept: b", "x-gone", "x-new: 2", "x-forwarded-proto: https"];
        assert_eq!(
            changed(request(), None, &changes(&lines), RequestFraming::Length(0), &about),
            "GET /x HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\naccept: text/html\r\nx-set: 1\r\nx-user: admin\r\n\
             accept: b\r\nx-new: 2\r\nx-forwarded-proto: https\r\ncontent-length: 0\r\n\
             x-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1;proto=http\r\n\r\n"
        );
        // What says where the request comes from can be taken away, and a client's own never passes.
        let lines = ["x-forwarded-for", "forwarded", "x-forwarded-proto"];
        assert_eq!(
            changed(
                http::Request::builder().header("host", "a").header("forwarded", "for=6.6.6.6"),
                None,
                &changes(&lines),
                RequestFraming::None,
                &about
            ),
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n"
        );
    }

    #[test]
    fn a_host_that_is_set_is_the_only_one() {
        let request = || http::Request::builder().uri("/x").header("host", "a.example").header("x", "1");
        for host in [None, Some("target.example")] {
            assert_eq!(
                changed(request(), host, &changes(&["host: b.example:81"]), RequestFraming::None, b"\r\n"),
                "GET /x HTTP/1.1\r\nhost: b.example:81\r\nx: 1\r\n\r\n"
            );
        }
    }

    #[test]
    fn a_trusted_proxy_s_word_is_passed_on_with_ours_behind_it() {
        let about = about_client("10.0.0.1".parse().unwrap(), false);
        let proxied = |request: http::request::Builder| {
            let (parts, ()) = request.header("host", "a").body(()).unwrap().into_parts();
            let mut out = Vec::new();
            let about = about_proxied(&about, &parts.headers);
            write_head(&mut out, &parts, None, None, RequestFraming::None, &about);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            proxied(
                http::Request::builder()
                    .header("connection", "x-forwarded-for")
                    .header("x-forwarded-for", "6.6.6.6, 7.7.7.7")
                    .header("x-forwarded-for", "8.8.8.8")
                    .header("x-forwarded-proto", "https")
                    .header("x-forwarded-host", "shop.example")
                    .header("forwarded", "for=6.6.6.6;proto=https")
            ),
            "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6, 7.7.7.7, 8.8.8.8, 10.0.0.1\r\n\
             x-forwarded-proto: https\r\nforwarded: for=6.6.6.6;proto=https, for=10.0.0.1;proto=http\r\n\
             x-forwarded-host: shop.example\r\n\r\n",
            "nobody takes it away by a Connection field"
        );
        let silent = proxied(http::Request::builder());
        assert_eq!(
            silent,
            format!("GET / HTTP/1.1\r\nhost: a\r\n{}", String::from_utf8(about.clone()).unwrap())
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
