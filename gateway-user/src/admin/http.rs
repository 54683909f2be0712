//! A small HTTP/1.1 server for outputs: few callers, small answers, one handler.
//!
//! Owns connections and their limits. Must not know what is asked.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER as SERVER_HEADER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Connections served at once; more wait in the listen queue.
const CONNECTIONS: usize = 32;
/// Bytes of a request's body that are read from the port for metrics.
const BODY: usize = 64 * 1024;
/// Bytes of a request's body that are read from the admin socket: as many as a file may have.
pub(super) const LARGE_BODY: usize = 64 << 20;
/// What an agent calls itself, so that another program on the socket is told from it.
pub(super) const SERVER: &str = "sluice";
/// How long a request's header may take.
const HEADER: Duration = Duration::from_secs(5);
/// How long to wait after an error of accept, such as no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Method, `GET`.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// The query, without the question mark; empty if there is none.
    pub query: String,
    /// Body.
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
}

impl Answer {
    /// Plain text with a status.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// 200 with a value as JSON.
    #[must_use]
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { status: 200, content_type: "application/json", body },
            Err(error) => Self::text(500, error.to_string()),
        }
    }
}

/// Answers calls.
pub type Handler = Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// Serves a unix socket for as long as it is polled.
pub async fn serve_unix(listener: UnixListener, handler: Handler) {
    serve(|context| listener.poll_accept(context).map_ok(|(stream, _)| stream), handler, LARGE_BODY).await;
}

/// Serves a TCP port for as long as it is polled.
pub async fn serve_tcp(listener: TcpListener, handler: Handler) {
    serve(|context| listener.poll_accept(context).map_ok(|(stream, _)| stream), handler, BODY).await;
}

async fn serve<S>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    handler: Handler,
    longest: usize,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        match poll_fn(&mut accept).await {
            Ok(stream) => {
                let connection = connection(stream, Arc::clone(&handler), longest);
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Serves one connection to its end. What goes wrong on it is the caller's to see.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, handler: Handler, longest: usize) {
    let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&handler), longest));
    drop(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER)
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

async fn answer(
    request: Request<Incoming>,
    handler: Handler,
    longest: usize,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let answer = match Limited::new(request.into_body(), longest).collect().await {
        Ok(body) => handler(Call { method, path, query, body: body.to_bytes() }).await,
        Err(error) => Answer::text(400, error.to_string()),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(SERVER_HEADER, HeaderValue::from_static(SERVER));
    Ok(response)
}
