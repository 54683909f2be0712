//! What a request must be before it is routed (RFC 9112, 3.2; RFC 9110, 7.2), and what of it is matched.
//!
//! Owns the refusals that hyper leaves to us. Pure.

use http::header::{CONNECTION, HOST, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, StatusCode, Version};

/// Why a request is not routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) &'static str);

const fn bad(why: &'static str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why)
}

/// The host of a request, with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    /// As sent, `example.com:8080`.
    pub(super) authority: &'a str,
    /// Without the port.
    pub(super) name: &'a str,
    /// It comes from the request's target (absolute-form), and replaces the Host field.
    pub(super) from_target: bool,
}

/// Checks a request and finds its host.
pub(super) fn check(parts: &Parts) -> Result<Host<'_>, Refused> {
    if parts.method == Method::CONNECT {
        return Err(Refused(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
    }
    check_coding(&parts.headers)?;
    let host = host(parts)?;
    if has_dot_segment(parts.uri.path()) {
        return Err(bad("the path has a dot segment"));
    }
    Ok(host)
}

/// Whether the connection ends with the answer (RFC 9112, 9.3).
pub(super) fn is_last(parts: &Parts) -> bool {
    let says = |option: &str| {
        let values = parts.headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(option))
    };
    says("close") || (parts.version < Version::HTTP_11 && !says("keep-alive"))
}

fn check_coding(headers: &HeaderMap) -> Result<(), Refused> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refused(StatusCode::NOT_IMPLEMENTED, "the only transfer coding supported is chunked, once")),
    }
}

fn host(parts: &Parts) -> Result<Host<'_>, Refused> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Err(bad("there must be one Host field"));
    };
    let field = str::from_utf8(field.as_bytes()).map_err(|_| bad("the Host field is malformed"))?;
    let name = name_of(field).ok_or(bad("the Host field is malformed"))?;
    match parts.uri.authority() {
        None => Ok(Host { authority: field, name, from_target: false }),
        Some(authority) => {
            let authority = authority.as_str();
            let name = name_of(authority).ok_or(bad("the target's authority is malformed"))?;
            Ok(Host { authority, name, from_target: true })
        }
    }
}

/// The name in `NAME[:PORT]`; `None` if it is neither a name nor an address. An empty Host is allowed.
fn name_of(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            (&authority[..end + 2], &rest[end + 1..])
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_fine = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let inner = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let in_brackets = inner.len() < name.len();
    let name_is_fine = inner.bytes().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'_' | b'~')
            || (in_brackets && b == b':')
            || (!in_brackets
                && matches!(b, b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='))
    });
    (port_is_fine && name_is_fine).then_some(name)
}

/// Whether a segment is `.` or `..`, plain or encoded. What some backends take for the end of a segment (an
/// encoded slash, a backslash, a semicolon) ends one here: nothing may be passed by, however it is read.
fn has_dot_segment(path: &str) -> bool {
    let bytes = path.as_bytes();
    let suspicious = memchr::memchr2(b'%', b'\\', bytes).is_some()
        || memchr::memchr_iter(b'.', bytes).any(|at| at > 0 && bytes[at - 1] == b'/');
    suspicious && segments_have_dots(bytes)
}

fn segments_have_dots(path: &[u8]) -> bool {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'%', b'2', b'e' | b'E', tail @ ..] => (b'.', tail),
            [b'%', b'2', b'f' | b'F', tail @ ..] | [b'%', b'5', b'c' | b'C', tail @ ..] => (b'/', tail),
            [b'%', b'3', b'b' | b'B', tail @ ..] => (b';', tail),
            [b'\\', tail @ ..] => (b'/', tail),
            _ => (*first, tail),
        };
        plain.push(byte);
        rest = tail;
    }
    plain.split(|b| *b == b'/').any(|segment| {
        let name = segment.split(|b| *b == b';').next().unwrap_or_default();
        name == b"." || name == b".."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn hosts() {
        for (uri, hosts, want) in [
            ("/", &["a.example"][..], Some(("a.example", "a.example"))),
            ("/", &["a.example:80"], Some(("a.example:80", "a.example"))),
            ("/", &["[::1]:80"], Some(("[::1]:80", "[::1]"))),
            ("/", &["[::1]"], Some(("[::1]", "[::1]"))),
            ("/", &[""], Some(("", ""))),
            ("/", &["a:"], Some(("a:", "a"))),
            ("http://b.example:8080/x", &["a"], Some(("b.example:8080", "b.example"))),
            ("http://b.example", &[], None),
            ("/", &[], None),
            ("/", &["a", "a"], None),
            ("/", &["a b"], None),
            ("/", &["a/b"], None),
            ("/", &["user@a"], None),
            ("/", &["a,b"], None),
            ("/", &["a:80x"], None),
            ("/", &["[::1"], None),
            ("/", &["[::1]x"], None),
            ("/", &["a:b:c"], None),
            ("http://u@b.example/", &["a"], None),
        ] {
            let headers: Vec<_> = hosts.iter().map(|h| ("host", *h)).collect();
            let parts = parts(uri, &headers);
            let found = check(&parts).ok().map(|h| (h.authority, h.name));
            assert_eq!(found, want, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn the_last_request_of_a_connection() {
        for (version, connection, last) in [
            (Version::HTTP_11, &[][..], false),
            (Version::HTTP_11, &["keep-alive"], false),
            (Version::HTTP_11, &["Close"], true),
            (Version::HTTP_11, &["x-a, close"], true),
            (Version::HTTP_11, &["x-a", "close"], true),
            (Version::HTTP_11, &["x-close"], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_10, &["Keep-Alive"], false),
            (Version::HTTP_10, &["keep-alive, close"], true),
        ] {
            let headers: Vec<_> = connection.iter().map(|value| ("connection", *value)).collect();
            let mut parts = parts("/", &headers);
            parts.version = version;
            assert_eq!(is_last(&parts), last, "{version:?} {connection:?}");
        }
    }

    #[test]
    fn dot_segments() {
        for path in [
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e",
            "/a/%2E%2e/b",
            "/a/.%2e",
            "/a%2f..%2fb",
            "/a\\..\\b",
            "/a%5C..",
            "/..;x/b",
            "/a/..%3Bx",
            "/a/.;/b",
        ] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in [
            "/",
            "/a",
            "/a//b",
            "/a%2Fb",
            "/.well-known",
            "/a.b/..c",
            "/a..",
            "/...",
            "/a%252e%252e/",
            "*",
            "/a;..",
        ] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }

    #[test]
    fn codings_and_methods() {
        let coded = |codings: &[&str]| {
            let mut headers = vec![("host", "a")];
            headers.extend(codings.iter().map(|c| ("transfer-encoding", *c)));
            check(&parts("/", &headers)).err().map(|Refused(status, _)| status.as_u16())
        };
        assert_eq!(coded(&["Chunked"]), None);
        assert_eq!(coded(&["gzip, chunked"]), Some(501));
        assert_eq!(coded(&["chunked", "chunked"]), Some(501));
        let mut connect = parts("/", &[("host", "a")]);
        connect.method = Method::CONNECT;
        assert_eq!(check(&connect).unwrap_err().0, StatusCode::NOT_IMPLEMENTED);
    }
}
