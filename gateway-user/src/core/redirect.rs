//! Redirects, as the filter RequestRedirect asks for them (HTTPRoute, `HTTPRequestRedirectFilter`).
//!
//! Owns the Location that a client is sent to. Must not know how a request arrives: how it came is an argument.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What a URI of a request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP in clear.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Its well-known port, which a URI leaves out.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// How a request came: what a redirect keeps where its filter says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Over what.
    pub scheme: Scheme,
    /// To which address of ours, and to which port: the listener's.
    pub at: SocketAddr,
}

/// RequestRedirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// scheme; `None`: the request's.
    pub scheme: Option<Scheme>,
    /// hostname; `None`: the request's.
    pub hostname: Option<Arc<str>>,
    /// path; `None`: the request's.
    pub path: Option<PathChange>,
    /// port; `None`: the well-known one of `scheme`, or, without one, the listener's.
    pub port: Option<u16>,
    /// statusCode.
    pub status: RedirectStatus,
}

/// What becomes of the path of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// This comes in its place.
    Full(Arc<str>),
    /// Of the elements that the rule's one match asks for.
    Prefix {
        /// The prefix that is matched, as it was written.
        from: Arc<str>,
        /// What comes in its place.
        to: Arc<str>,
    },
}

/// The status of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 301.
    MovedPermanently,
    /// 302.
    Found,
    /// 303.
    SeeOther,
    /// 307.
    TemporaryRedirect,
    /// 308.
    PermanentRedirect,
}

impl RedirectStatus {
    const ALL: [Self; 5] = [
        Self::MovedPermanently,
        Self::Found,
        Self::SeeOther,
        Self::TemporaryRedirect,
        Self::PermanentRedirect,
    ];

    /// The one with this code.
    #[must_use]
    pub fn new(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| i64::from(status.code()) == code)
    }

    /// Its code.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::TemporaryRedirect => 307,
            Self::PermanentRedirect => 308,
        }
    }
}

impl Redirect {
    /// The Location: always a whole URI, so that no path can be taken for a host. `host` is the request's, without
    /// the port, an IPv6 address in brackets; if it is empty, the address that the client asked stands for it. `path`
    /// and `query` are raw: what is percent-encoded stays so, and a byte that no URI may have is encoded (RFC 3986, 2).
    #[must_use]
    pub fn location(&self, arrival: &Arrival, host: &str, path: &str, query: Option<&str>) -> String {
        let scheme = self.scheme.unwrap_or(arrival.scheme);
        let port = self.port.unwrap_or_else(|| self.scheme.map_or(arrival.at.port(), Scheme::port));
        let mut location = String::with_capacity(64 + host.len() + path.len() + query.map_or(0, str::len));
        location.push_str(scheme.name());
        location.push_str("://");
        match self.hostname.as_deref().unwrap_or(host) {
            "" => match arrival.at.ip().to_canonical() {
                std::net::IpAddr::V4(ip) => append(&mut location, format_args!("{ip}")),
                std::net::IpAddr::V6(ip) => append(&mut location, format_args!("[{ip}]")),
            },
            host => location.push_str(host),
        }
        if port != scheme.port() {
            append(&mut location, format_args!(":{port}"));
        }
        // `OPTIONS *` asks for no path (RFC 9112, 3.3).
        let path = if path.starts_with('/') { path } else { "/" };
        match &self.path {
            None => encode(&mut location, path),
            Some(PathChange::Full(path)) => {
                if !path.starts_with('/') {
                    location.push('/');
                }
                encode(&mut location, path);
            }
            Some(PathChange::Prefix { from, to }) => {
                let (to, rest) = replaced(path, from, to);
                encode(&mut location, to);
                encode(&mut location, rest);
                if to.is_empty() && rest.is_empty() {
                    location.push('/');
                }
            }
        }
        if let Some(query) = query {
            location.push('?');
            encode(&mut location, query);
        }
        location
    }
}

/// The two parts of a path whose prefix is replaced: "a trailing `/` is ignored", of the one as of the other.
fn replaced<'a>(path: &'a str, from: &str, to: &'a str) -> (&'a str, &'a str) {
    // The rule's only match asks for the prefix: it is there.
    let rest = path.strip_prefix(from.trim_end_matches('/')).unwrap_or(path);
    (to.trim_end_matches('/'), rest)
}

fn append(text: &mut String, more: fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes every write");
}

/// Adds a text whose bytes that stand in no URI are percent-encoded. `%` stays: it is an encoding already, or what
/// the client meant by it.
fn encode(location: &mut String, text: &str) {
    if text.bytes().all(is_plain) {
        return location.push_str(text);
    }
    for byte in text.bytes() {
        if is_plain(byte) {
            location.push(char::from(byte));
        } else {
            append(location, format_args!("%{byte:02X}"));
        }
    }
}

/// What stands in the path or the query of a URI as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Whether a text is a path by itself, empty or from `/` on: without a query, and with everything encoded that must
/// be (RFC 3986, 3.3).
#[must_use]
pub fn is_path(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut sound = text.is_empty() || text.starts_with('/');
    while let Some(byte) = bytes.next() {
        sound &= match byte {
            b'%' => [bytes.next(), bytes.next()].iter().all(|b| b.is_some_and(|b| b.is_ascii_hexdigit())),
            b'/' | b':' | b'@' | b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
    }
    sound
}

impl fmt::Display for Redirect {
    /// `302 to https, host a.example, port 8443, path /b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to ", self.status.code())?;
        let parts = [
            self.scheme.map(|scheme| scheme.name().to_owned()),
            self.hostname.as_ref().map(|hostname| format!("host {hostname}")),
            self.port.map(|port| format!("port {port}")),
            self.path.as_ref().map(|path| match path {
                PathChange::Full(path) => format!("path {path}"),
                PathChange::Prefix { from, to } => format!("{to:?} in place of {from:?}"),
            }),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "the same place" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}
