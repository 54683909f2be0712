//! Locations by data: the tables of the specification and of its conformance tests (v1.6.1), and what must hold for
//! any request.

use http::{HeaderValue, Uri};
use proptest::prelude::*;

use super::*;

const FOUND: Redirect =
    Redirect { scheme: None, hostname: None, path: None, port: None, status: RedirectStatus::Found };

fn http_at(port: u16) -> Arrival {
    Arrival { scheme: Scheme::Http, at: ([192, 0, 2, 1], port).into() }
}

fn https_at(port: u16) -> Arrival {
    Arrival { scheme: Scheme::Https, ..http_at(port) }
}

fn prefix(from: &str, to: &str) -> Option<PathChange> {
    Some(PathChange::Prefix { from: from.into(), to: to.into() })
}

fn full(path: &str) -> Option<PathChange> {
    Some(PathChange::Full(path.into()))
}

/// The Location for a request that came over HTTP to port 80.
fn location(redirect: &Redirect, host: &str, path: &str, query: Option<&str>) -> String {
    redirect.location(&http_at(80), host, path, query)
}

/// HTTPPathModifier, `replacePrefixMatch`: its table, and what follows from it.
#[test]
fn prefixes_are_replaced_by_elements() {
    for (path, from, to, after) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        // Not in the table.
        ("/foo", "/foo/", "/xyz/", "/xyz"),
        ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
        ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/", "/", "", "/"),
        ("/foo/foo", "/foo", "/x/y", "/x/y/foo"),
    ] {
        let redirect = Redirect { path: prefix(from, to), ..FOUND };
        let got = location(&redirect, "a.example", path, None);
        assert_eq!(got, format!("http://a.example{after}"), "{path}: {from} by {to}");
    }
}

/// HTTPRouteRedirectPath, HTTPRouteRedirectHostAndStatus, HTTPRoute303Redirect, HTTPRoute307Redirect and
/// HTTPRoute308Redirect: filter, path of the request, status, Location.
#[test]
fn conformance_of_paths_hosts_and_statuses() {
    let host = || Some("example.org".into());
    let moved = RedirectStatus::MovedPermanently;
    let replaced = |from| prefix(from, "/replacement-prefix");
    for (redirect, path, status, want) in [
        (
            Redirect { path: replaced("/original-prefix"), ..FOUND },
            "/original-prefix/lemon",
            302,
            "http://a/replacement-prefix/lemon",
        ),
        (
            Redirect { path: full("/full-path-replacement"), ..FOUND },
            "/full/path/original",
            302,
            "http://a/full-path-replacement",
        ),
        (
            Redirect { path: replaced("/path-and-host"), hostname: host(), ..FOUND },
            "/path-and-host",
            302,
            "http://example.org/replacement-prefix",
        ),
        (
            Redirect { path: replaced("/path-and-status"), status: moved, ..FOUND },
            "/path-and-status",
            301,
            "http://a/replacement-prefix",
        ),
        (
            Redirect { path: full("/replacement-full"), hostname: host(), ..FOUND },
            "/full-path-and-host",
            302,
            "http://example.org/replacement-full",
        ),
        (
            Redirect { path: full("/replacement-full"), status: moved, ..FOUND },
            "/full-path-and-status",
            301,
            "http://a/replacement-full",
        ),
        (
            Redirect { hostname: host(), ..FOUND },
            "/hostname-redirect",
            302,
            "http://example.org/hostname-redirect",
        ),
        (
            Redirect { hostname: host(), status: moved, ..FOUND },
            "/host-and-status",
            301,
            "http://example.org/host-and-status",
        ),
        (Redirect { status: RedirectStatus::SeeOther, ..FOUND }, "/see-other", 303, "http://a/see-other"),
        (
            Redirect { status: RedirectStatus::TemporaryRedirect, ..FOUND },
            "/temporary",
            307,
            "http://a/temporary",
        ),
        (
            Redirect { status: RedirectStatus::PermanentRedirect, ..FOUND },
            "/permanent",
            308,
            "http://a/permanent",
        ),
    ] {
        assert_eq!(redirect.status.code(), status, "{path}");
        assert_eq!(location(&redirect, "a", path, None), want, "{path}");
    }
}

/// HTTPRouteRedirectPort, HTTPRouteRedirectScheme and HTTPRouteRedirectPortAndScheme: how the request came, scheme and
/// port of the filter, and what stands before the path.
#[test]
fn conformance_of_schemes_and_ports() {
    let (http, https) = (Some(Scheme::Http), Some(Scheme::Https));
    for (arrival, scheme, port, want) in [
        // HTTPRouteRedirectPort, HTTPRouteRedirectScheme
        (http_at(80), None, Some(8083), "http://example.org:8083"),
        (http_at(80), https, None, "https://example.org"),
        // HTTPRouteRedirectPortAndScheme: http-listener-on-80
        (http_at(80), None, None, "http://example.org"),
        (http_at(80), None, Some(80), "http://example.org"),
        (http_at(80), None, Some(8080), "http://example.org:8080"),
        (http_at(80), https, Some(443), "https://example.org"),
        (http_at(80), https, Some(8443), "https://example.org:8443"),
        // http-listener-on-8080
        (http_at(8080), None, None, "http://example.org:8080"),
        (http_at(8080), None, Some(80), "http://example.org"),
        (http_at(8080), https, None, "https://example.org"),
        // https-listener-on-443
        (https_at(443), None, None, "https://example.org"),
        (https_at(443), None, Some(443), "https://example.org"),
        (https_at(443), None, Some(8443), "https://example.org:8443"),
        (https_at(443), http, None, "http://example.org"),
        (https_at(443), http, Some(80), "http://example.org"),
        (https_at(443), http, Some(8080), "http://example.org:8080"),
        // Not among them: the port of the other scheme is none that is left out.
        (http_at(443), None, None, "http://example.org:443"),
        (https_at(8443), None, None, "https://example.org:8443"),
        (http_at(8080), http, None, "http://example.org"),
        (http_at(80), https, Some(80), "https://example.org:80"),
    ] {
        let hostname = Some("example.org".into());
        let redirect = Redirect { scheme, port, hostname, ..FOUND };
        let got = redirect.location(&arrival, "other.example", "/x", None);
        assert_eq!(got, format!("{want}/x"), "{arrival:?} {scheme:?} {port:?}");
    }
}

#[test]
fn hosts_of_requests() {
    let six = Arrival { scheme: Scheme::Http, at: "[2001:db8::1]:8080".parse().unwrap() };
    for (arrival, host, want) in [
        (http_at(80), "A.example", "http://A.example/"),
        (http_at(80), "[2001:db8::7]", "http://[2001:db8::7]/"),
        (http_at(8080), "[2001:db8::7]", "http://[2001:db8::7]:8080/"),
        // An empty Host is allowed (RFC 9110, 7.2): the address that was asked stands for it.
        (http_at(8080), "", "http://192.0.2.1:8080/"),
        (six, "", "http://[2001:db8::1]:8080/"),
        (Arrival { at: "[::ffff:192.0.2.1]:80".parse().unwrap(), ..six }, "", "http://192.0.2.1/"),
    ] {
        assert_eq!(FOUND.location(&arrival, host, "/", None), want);
    }
    let redirect = Redirect { hostname: Some("b.example".into()), ..FOUND };
    assert_eq!(location(&redirect, "", "/", None), "http://b.example/");
}

#[test]
fn paths_and_queries_stay_as_they_came() {
    for (path, query, want) in [
        ("/a%2Fb%20c//d", Some("q=%20&x=/?"), "/a%2Fb%20c//d?q=%20&x=/?"),
        ("/a", Some(""), "/a?"),
        ("/a", None, "/a"),
        // No encoding, but the client's own affair.
        ("/100%", None, "/100%"),
        // What may not stand there is encoded.
        ("/ä", Some("\"<>{}|"), "/%C3%A4?%22%3C%3E%7B%7D%7C"),
        ("/a\\^`", None, "/a%5C%5E%60"),
        ("/a#b", Some("#"), "/a%23b?%23"),
        // Of a host nothing is made out of a path.
        ("//evil.example/x", None, "//evil.example/x"),
        ("*", None, "/"),
    ] {
        assert_eq!(location(&FOUND, "a", path, query), format!("http://a{want}"), "{path}");
    }
    // A replaced path keeps the query, and nothing of it can become the host.
    for change in [full("/b"), prefix("/a", "/b")] {
        let redirect = Redirect { path: change, ..FOUND };
        assert_eq!(location(&redirect, "a", "/a", Some("q=1")), "http://a/b?q=1");
    }
    let bare = Redirect { path: prefix("/a", "/"), ..FOUND };
    assert_eq!(location(&bare, "a", "/a//evil.example", None), "http://a//evil.example");
    assert_eq!(location(&Redirect { path: full(""), ..FOUND }, "a", "/x", None), "http://a/");
}

#[test]
fn what_is_a_path() {
    for path in ["", "/", "/a", "/a/", "/%2F", "/a;b=c,d/e:f@g!$&'()*+", "/a-b.c_d~e"] {
        assert!(is_path(path), "{path}");
    }
    for text in ["a", "/a?b", "/a#b", "/a b", "/ä", "/%", "/%2", "/%zz", "/a\r\nx: y", "/[", "/\""] {
        assert!(!is_path(text), "{text}");
    }
}

#[test]
fn codes() {
    for code in 0..600 {
        let known = [301, 302, 303, 307, 308].contains(&code);
        assert_eq!(RedirectStatus::new(code).map(|status| i64::from(status.code())), known.then_some(code));
    }
}

#[test]
fn in_words() {
    for (redirect, want) in [
        (FOUND, "302 to the same place"),
        (Redirect { scheme: Some(Scheme::Https), ..FOUND }, "302 to https"),
        (
            Redirect {
                scheme: Some(Scheme::Https),
                hostname: Some("a.example".into()),
                path: full("/b"),
                port: Some(8443),
                status: RedirectStatus::PermanentRedirect,
            },
            "308 to https, host a.example, port 8443, path /b",
        ),
        (Redirect { path: prefix("/a", ""), ..FOUND }, "302 to \"\" in place of \"/a\""),
    ] {
        assert_eq!(redirect.to_string(), want);
    }
}

fn any_redirect() -> impl Strategy<Value = Redirect> {
    let scheme = prop::option::of(prop_oneof![Just(Scheme::Http), Just(Scheme::Https)]);
    let hostname = prop::option::of(prop_oneof![Just(Arc::from("b.example")), Just(Arc::from("x"))]);
    let path = prop::option::of(prop_oneof![
        "(/[a-z%0-9/]{0,6})?".prop_filter("a path", |p| is_path(p)).prop_map(|p| PathChange::Full(p.into())),
        ("/[a-b]{0,2}/?", "(/[a-z/]{0,6})?")
            .prop_map(|(from, to)| PathChange::Prefix { from: from.into(), to: to.into() }),
    ]);
    let port = prop::option::of(1..=u16::MAX);
    (scheme, hostname, path, port).prop_map(|(scheme, hostname, path, port)| Redirect {
        scheme,
        hostname,
        path,
        port,
        status: RedirectStatus::Found,
    })
}

proptest! {
    /// Whatever a request says, the Location is one line of a header and a whole URI with the host, the port and the
    /// query that it shall have, and what was encoded stays so.
    #[test]
    fn a_location_is_a_sound_uri(
        redirect in any_redirect(),
        https in any::<bool>(),
        port in 1..=u16::MAX,
        host in prop_oneof![Just("a.example"), Just("[2001:db8::1]"), Just("")],
        path in "/\\PC{0,12}",
        query in prop::option::of("\\PC{0,12}"),
    ) {
        let arrival = if https { https_at(port) } else { http_at(port) };
        let location = redirect.location(&arrival, host, &path, query.as_deref());
        let header = HeaderValue::from_str(&location).unwrap();
        prop_assert!(header.as_bytes().iter().all(u8::is_ascii_graphic));

        let scheme = redirect.scheme.unwrap_or(arrival.scheme);
        let (before, rest) = location.split_once("://").unwrap();
        prop_assert_eq!(before, scheme.name());
        let at = rest.find('/').unwrap();
        let authority = &rest[..at];
        let want = match (redirect.hostname.as_deref().unwrap_or(host), redirect.port) {
            ("", _) => "192.0.2.1".to_owned(),
            (host, _) => host.to_owned(),
        };
        let want_port = redirect.port.unwrap_or(match redirect.scheme {
            Some(scheme) => scheme.port(),
            None => port,
        });
        let well_known = want_port == if scheme == Scheme::Https { 443 } else { 80 };
        let want = if well_known { want } else { format!("{want}:{want_port}") };
        prop_assert_eq!(authority, want);
        let (_, got) = rest[at..].split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        // A `?` in a path cannot come from a client: it begins the query.
        if !path.contains('?') {
            prop_assert_eq!(got.is_some(), query.is_some());
        }
    }

    /// A path that is a path already comes out as it is, byte for byte, and a client reads it as one.
    #[test]
    fn a_sound_path_is_not_touched(path in "(/[a-zA-Z0-9._~!$&'()*+,;=:@-]{0,3}(%[0-9A-F]{2})?){1,4}", query in "[a-z0-9=&/?]{0,8}") {
        let location = FOUND.location(&http_at(80), "a.example", &path, Some(&query));
        prop_assert_eq!(&location, &format!("http://a.example{path}?{query}"));
        let uri: Uri = location.parse().unwrap();
        prop_assert_eq!((uri.path(), uri.query()), (&*path, Some(&*query)));
    }
}
