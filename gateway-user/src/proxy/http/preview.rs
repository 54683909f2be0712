//! A request as it would be read, checked and sent on, without a connection to anybody: for explanations.
//!
//! Owns nothing of that: hyper reads it as it reads a client's, and the checks and the encoder are those of requests.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Mutex;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http_body_util::Full;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::answer::{self, AMBIGUOUS};
use super::forward::framing;
use super::request::{Refused, check};
use super::server;
use super::watch::Watch;
use crate::core::headers::HeaderChanges;
use crate::core::route::RequestView;
use crate::proxy::Config;
use crate::proxy::upstream::encode::{RequestFraming, about_client, about_proxied, write_head};

/// A request that may be routed.
#[derive(Debug)]
pub struct Preview {
    parts: Parts,
    framing: RequestFraming,
}

/// Reads the header of a request, all of its bytes until the empty line; its body is left out.
///
/// # Errors
/// The status and the words that a client would get instead of being routed.
pub async fn preview(header: &[u8]) -> Result<Preview, (u16, String)> {
    let mut watch = Watch::default();
    watch.see(header);
    let limit = Config::default().max_header_bytes;
    let (mut client, gateway) = tokio::io::duplex(header.len() + 64 * 1024);
    let seen = Mutex::new(None);
    let service = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
        let (parts, body) = request.into_parts();
        let framing = framing(&parts, &body);
        *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Preview { parts, framing });
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let refused = |status, why: &str| (status, why.to_owned());
    if !header.ends_with(b"\r\n\r\n") {
        return Err(refused(400, "its header does not end"));
    }
    // There is room for all of it.
    let _written = client.write_all(header).await;
    // `HTTP/1.1 400`
    let mut answer = [0; 12];
    {
        let connection = server(limit).serve_connection(TokioIo::new(gateway), service);
        // It ends by itself, once it has answered, only where it refuses.
        tokio::select! {
            biased;
            _ended = connection => {}
            _answered = client.read_exact(&mut answer) => {}
        }
    }
    let Some(preview) = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) else {
        if answer[0] == 0 {
            client.read_exact(&mut answer).await.map_err(|_| refused(400, "it is no request"))?;
        }
        let status = str::from_utf8(&answer[9..]).ok().and_then(|status| status.parse().ok()).unwrap_or(400);
        return Err(refused(status, "it is no request of HTTP/1.1"));
    };
    if watch.is_ambiguous(1) {
        return Err(refused(StatusCode::BAD_REQUEST.as_u16(), AMBIGUOUS));
    }
    match check(&preview.parts) {
        Ok(_) => Ok(preview),
        Err(Refused(status, why)) => Err(refused(status.as_u16(), why)),
    }
}

impl Preview {
    /// What of it is matched.
    #[must_use]
    pub fn view(&self) -> RequestView<'_> {
        answer::view_of(&self.parts, check(&self.parts).map_or("", |host| host.name))
    }

    /// Its header as an endpoint gets it, for a client at this address, in clear or in TLS, after these changes. `trusted`:
    /// what it says about a client of its own counts.
    #[must_use]
    pub fn head(&self, client: IpAddr, tls: bool, trusted: bool, changes: Option<&HeaderChanges>) -> Vec<u8> {
        let mut about = about_client(client, tls);
        if trusted {
            about = about_proxied(&about, &self.parts.headers);
        }
        let replaced = check(&self.parts).ok().filter(|host| host.from_target).map(|host| host.authority);
        let mut head = Vec::new();
        write_head(&mut head, &self.parts, replaced, changes, self.framing, &about);
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(header: &str) -> Result<Preview, (u16, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(preview(header.as_bytes()))
    }

    #[test]
    fn what_is_no_request_gets_the_status_of_the_data_path() {
        let many = "x: y\r\n".repeat(200);
        let large = format!("x: {}\r\n", "y".repeat(100_000));
        for (header, status, why) in [
            ("GET / HTTP/1.1\r\n\r\n", 400, "there must be one Host field"),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "there must be one Host field"),
            ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400, "the Host field is malformed"),
            ("GET /a/../b HTTP/1.1\r\nhost: a\r\n\r\n", 400, "the path has a dot segment"),
            ("GET /%2e HTTP/1.1\r\nhost: a\r\n\r\n", 400, "the path has a dot segment"),
            ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 501, "CONNECT is not supported"),
            (
                "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
                501,
                "the only transfer coding supported is chunked, once",
            ),
            (
                "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                400,
                "both Content-Length and Transfer-Encoding",
            ),
            ("GET / HTTP/1.1\r\nhost: a\r\nb c: d\r\n\r\n", 400, "it is no request of HTTP/1.1"),
            ("GET / HTTP/1.1\r\nhost: a\r\n", 400, "its header does not end"),
            ("G ET / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "it is no request of HTTP/1.1"),
            ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400, "it is no request of HTTP/1.1"),
            (&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431, "it is no request of HTTP/1.1"),
            (&format!("GET / HTTP/1.1\r\nhost: a\r\n{large}\r\n"), 431, "it is no request of HTTP/1.1"),
        ] {
            assert_eq!(
                ask(header).unwrap_err(),
                (status, why.to_owned()),
                "{}",
                &header[..40.min(header.len())]
            );
        }
    }

    #[test]
    fn what_is_one_is_seen_as_the_table_and_the_endpoint_see_it() {
        let preview = ask(
            "PUT /a%2Fb?q=1 HTTP/1.1\r\nHost: A.example:80\r\nConnection: x\r\nX: 1\r\nY: 2\r\nContent-Length: 3\r\n\r\n",
        );
        let preview = preview.unwrap();
        let view = preview.view();
        assert_eq!(
            (view.host, view.path, view.query, view.method),
            ("A.example", "/a%2Fb", Some("q=1"), "PUT")
        );
        assert_eq!(
            String::from_utf8(preview.head("10.0.0.1".parse().unwrap(), false, false, None)).unwrap(),
            "PUT /a%2Fb?q=1 HTTP/1.1\r\nhost: A.example:80\r\ny: 2\r\ncontent-length: 3\r\n\
             x-forwarded-for: 10.0.0.1\r\nx-forwarded-proto: http\r\nforwarded: for=10.0.0.1;proto=http\r\n\r\n"
        );
        let chunked = ask("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        assert!(
            String::from_utf8(chunked.head("::1".parse().unwrap(), false, false, None))
                .unwrap()
                .contains("chunked")
        );
    }
}
