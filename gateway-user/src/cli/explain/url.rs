//! The URL of a request, taken apart as a client sends it: nothing is normalised, since the raw path is matched.
//!
//! Owns what is no such URL.

use std::net::IpAddr;

/// A URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether it is https.
    pub(super) tls: bool,
    /// Host and port as they are written: the Host field.
    pub(super) authority: String,
    /// The name in the ClientHello: the host, empty if it is an address (RFC 6066, 3).
    pub(super) name: String,
    /// The host, if it is an address.
    pub(super) address: Option<IpAddr>,
    /// The port.
    pub(super) port: u16,
    /// Path and query.
    pub(super) target: String,
}

/// Takes a URL apart.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let form = "write it as http://HOST:PORT/PATH";
    let (scheme, rest) = text.split_once("://").ok_or(form)?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        other => return Err(format!("the scheme `{other}` is not served; {form}")),
    };
    if text.contains(|c: char| c.is_ascii_control()) {
        return Err("it has control characters; a client would not send it".to_owned());
    }
    // A client keeps the fragment for itself.
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("a user in the URL is not sent to a server; use -H 'Authorization: …'".to_owned());
    }
    let (host, port) = match authority.rfind(':').filter(|at| !authority[*at..].contains(']')) {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    };
    if host.is_empty() {
        return Err(format!("it has no host; {form}"));
    }
    let port = match port {
        None | Some("") => {
            if tls {
                443
            } else {
                80
            }
        }
        Some(port) => {
            port.parse().ok().filter(|port| *port > 0).ok_or(format!("`{port}` is no port; {form}"))?
        }
    };
    let address: Option<IpAddr> =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok();
    let name = if address.is_some() { String::new() } else { host.to_owned() };
    let slash = if target.starts_with('/') { "" } else { "/" };
    let (authority, target) = (authority.to_owned(), format!("{slash}{target}"));
    Ok(Url { tls, authority, name, address, port, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_as_they_are() {
        for (text, authority, address, port, target) in [
            ("http://a.example", "a.example", None, 80, "/"),
            ("HTTP://a.example:8080/x/../y%2F?q=1#f", "a.example:8080", None, 8080, "/x/../y%2F?q=1"),
            ("http://a.example?q", "a.example", None, 80, "/?q"),
            ("http://10.0.0.1:80//", "10.0.0.1:80", Some("10.0.0.1"), 80, "//"),
            ("http://[::1]/", "[::1]", Some("::1"), 80, "/"),
            ("http://[::1]:81/a:b", "[::1]:81", Some("::1"), 81, "/a:b"),
            ("http://a:/x", "a:", None, 80, "/x"),
            ("https://a/x", "a", None, 443, "/x"),
        ] {
            let url = parse(text).unwrap();
            let address = address.map(|a: &str| a.parse().unwrap());
            let tls = text.starts_with("https");
            let name = if address.is_some() { "" } else { authority.split(':').next().unwrap() };
            let (authority, name, target) = (authority.to_owned(), name.to_owned(), target.to_owned());
            let want = Url { tls, authority, name, address, port, target };
            assert_eq!(url, want, "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_form() {
        for (text, says) in [
            ("a.example/x", "write it as http://HOST:PORT/PATH"),
            ("ftp://a/", "the scheme `ftp` is not served"),
            ("http:///x", "it has no host"),
            ("http://:80/x", "it has no host"),
            ("http://a:99999/", "`99999` is no port"),
            ("http://a:0/", "`0` is no port"),
            ("http://u:p@a/", "a user in the URL"),
            ("http://a/\r\nx", "control characters"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
