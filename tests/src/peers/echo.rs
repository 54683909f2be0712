//! Servers that tell their name and what they saw.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::atomic::Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::Server;
use crate::netns::NetNs;

/// What an HTTP echo saw; its answer's body as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The name of the server that answered.
    pub name: String,
    /// The request's method.
    pub method: String,
    /// Path and query, as they came.
    pub path: String,
    /// Header fields in lower case; the values of a repeated one joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// Who opened the connection.
    pub client: SocketAddr,
    /// Bytes of the request's body.
    pub body: usize,
}

/// An HTTP/1.1 server that answers each request with an [`Echo`], its name also in the header `x-backend`.
///
/// The header `x-status` in a request sets the answer's status, `x-size` makes it answer that many bytes
/// instead, and `x-delay` makes it wait for so many milliseconds.
pub fn http(ns: &NetNs, at: SocketAddr, name: &str) -> Server {
    let name = name.to_owned();
    Server::start(ns, at, move |stream, client, seen| {
        let name = name.clone();
        async move {
            let service = service_fn(|request| {
                seen.requests.fetch_add(1, Ordering::Relaxed);
                answer(request, &name, client)
            });
            // A client that leaves is no error of the peer's.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        }
    })
}

/// A TCP server that sends its name and a newline first, then returns every byte, and closes its half when the
/// client has closed its own.
pub fn tcp(ns: &NetNs, at: SocketAddr, name: &str) -> Server {
    let hello = format!("{name}\n");
    returning(ns, at, move |_| hello.clone())
}

/// The same, and after its name it tells the address that it sees.
pub fn witness(ns: &NetNs, at: SocketAddr, name: &str) -> Server {
    let name = name.to_owned();
    returning(ns, at, move |client| format!("{name} {}\n", client.ip()))
}

fn returning(ns: &NetNs, at: SocketAddr, hello: impl Fn(SocketAddr) -> String + Send + 'static) -> Server {
    Server::start(ns, at, move |mut stream, client, _| {
        let hello = hello(client);
        async move {
            if stream.write_all(hello.as_bytes()).await.is_err() {
                return;
            }
            let mut buffer = vec![0; 256 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
            // The client may be gone already.
            drop(stream.shutdown().await);
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    name: &str,
    client: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let number =
        |key| head.headers.get(key).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if let Some(ms) = number("x-delay") {
        tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
    }
    let body = body.collect().await.map_or(0, |b| b.to_bytes().len());
    let mut headers = BTreeMap::<String, String>::new();
    for (key, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(key.as_str().to_owned())
            .and_modify(|old| *old = format!("{old}, {value}"))
            .or_insert_with(|| value.clone().into_owned());
    }
    let echo = Echo {
        name: name.to_owned(),
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers,
        client,
        body,
    };
    let body = match number("x-size") {
        Some(size) => vec![b'x'; usize::try_from(size).expect("a size fits")],
        None => serde_json::to_vec(&echo).expect("an echo is plain data"),
    };
    let status = number("x-status").and_then(|s| u16::try_from(s).ok()).unwrap_or(200);
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("x-backend", name)
        .body(Full::new(body.into()))
        .expect("the parts of an answer are valid"))
}
