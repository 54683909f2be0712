//! HTTP/1.1, in clear or inside of TLS: hyper reads requests and writes answers; what lies between is ours.
//!
//! Owns a client connection from its acceptance to its end. Routes are `core`'s, endpoints are `upstream`'s.
//! Upgrade is not passed on: a request for one is served as if it had not asked.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use self::client::{Client, Doing};
use self::io::{Socket, Stream, Watched};
use super::connection::{Connection, Order};
use super::tls;
use super::totals::{CloseReason, HandshakeFailure};
use super::view::Held;
use super::worker::reset;
use crate::core::transport::Transport;

pub use preview::{Preview, preview};

mod answer;
mod body;
mod client;
mod forward;
mod io;
mod preview;
mod record;
mod request;
mod watch;

/// How long what a client still sends is read and dropped after an answer that ends the connection, so that a reset
/// does not overtake that answer (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// As many bytes at most.
const LINGER_BYTES: usize = 1 << 20;
/// The answer to a header that does not arrive.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How many ticks a connection on which nothing was asked yet is waited for in a drain.
const FRESH: u64 = 2;

/// How a connection is to be closed.
enum Close {
    /// Nothing is left to say or to hear.
    Plainly,
    /// The client may still be sending.
    Lingering,
    /// An answer broke off: the client must not take it for complete.
    Reset,
}

/// Serves a client's connection until it ends.
pub(super) async fn serve(connection: Connection, stream: TcpStream) {
    let client = Rc::new(Client::new(connection, false));
    exchange(client.clone(), Stream::Plain(Socket { stream, client })).await;
}

/// Serves a client's connection inside of TLS until it ends, with the certificates of the snapshot of its beginning.
pub(super) async fn serve_tls(connection: Connection, stream: TcpStream, view: Rc<Held>) {
    let client = Rc::new(Client::new(connection, true));
    // Boxed: it is there for a moment of a long connection.
    match Box::pin(shake(&client, stream, view)).await {
        Ok(stream) => exchange(client, stream).await,
        Err((failure, stream)) => {
            client.connection.worker.cells().tls.fail(failure);
            client.connection.ends(CloseReason::Handshake);
            if let Some(stream) = stream {
                // So that the alert is not overtaken by a reset, as little as the client may have left unread.
                linger(stream).await;
            }
        }
    }
}

/// Shakes hands, in the time that a header may take.
async fn shake(
    client: &Rc<Client>,
    stream: TcpStream,
    view: Rc<Held>,
) -> Result<Stream, (HandshakeFailure, Option<TcpStream>)> {
    let bound = view.bound(Transport::Tcp, client.connection.local);
    let Some(answers) = bound.and_then(|bound| bound.tls.as_ref()) else {
        // The connection would not be here.
        return Err((HandshakeFailure::Error, Some(stream)));
    };
    let mut shaking = pin!(tls::shake(Socket { stream, client: client.clone() }, answers));
    let mut draining = false;
    let shaken = poll_fn(|cx| {
        match client.connection.order(cx) {
            Order::Serve => {}
            Order::Drain if draining => {}
            Order::Drain => {
                draining = true;
                client.connection.expire_in(FRESH);
            }
            Order::Expire => return Poll::Ready(Err((HandshakeFailure::Timeout, None))),
        }
        shaking.as_mut().poll(cx)
    })
    .await;
    let stream = shaken.map_err(|(failure, socket)| (failure, socket.map(|socket| socket.stream)))?;
    client.secured(stream.get_ref().1);
    Ok(Stream::Tls(Box::new(stream)))
}

/// Answers requests until the connection ends.
async fn exchange(client: Rc<Client>, stream: Stream) {
    let io = TokioIo::new(Watched { stream, client: client.clone() });
    let service = {
        let client = client.clone();
        service_fn(move |request| answer::answer(client.clone(), request))
    };
    let limit = client.connection.worker.config().max_header_bytes;
    let mut http = server(limit).serve_connection(io, service);
    let mut draining = false;
    let (reason, close) = poll_fn(|cx| {
        match client.connection.order(cx) {
            Order::Serve => {}
            Order::Drain if draining => {}
            Order::Drain => {
                draining = true;
                if client.is_fresh() {
                    // Its first request may be on the way: wait for that a little.
                    client.connection.expire_in(FRESH);
                } else {
                    Pin::new(&mut http).graceful_shutdown();
                }
            }
            Order::Expire => match client.doing() {
                Doing::Idle => return Poll::Ready((CloseReason::Idle, Close::Plainly)),
                Doing::Head => return Poll::Ready((CloseReason::BadRequest, Close::Lingering)),
                Doing::Answering => return Poll::Ready((CloseReason::Idle, Close::Reset)),
                Doing::Waiting => {} // the request sees it and is answered with 504
            },
        }
        Pin::new(&mut http).poll(cx).map(|result| end(&client, result))
    })
    .await;
    let slow =
        reason == CloseReason::BadRequest && client.doing() == Doing::Head && client.connection.is_expired();
    client.connection.ends(reason);
    let mut stream = http.into_parts().io.into_inner().stream;
    match close {
        Close::Plainly => stream.say_last(&[]),
        Close::Reset => reset(stream.into_socket()),
        Close::Lingering => {
            stream.say_last(if slow { TOO_SLOW } else { &[] });
            linger(stream.into_socket()).await;
        }
    }
}

/// How requests are read; their headers may have so many bytes.
fn server(limit: usize) -> http1::Builder {
    let mut server = http1::Builder::new();
    server.header_read_timeout(None).max_buf_size(limit).max_header_size(limit);
    server
}

fn end(client: &Client, result: hyper::Result<()>) -> (CloseReason, Close) {
    if let Some(reason) = client.broken() {
        return (reason, Close::Reset);
    }
    match result {
        Ok(()) if client.has_unread() => (CloseReason::Done, Close::Lingering),
        Ok(()) => (CloseReason::Done, Close::Plainly),
        Err(error) if error.is_parse() => (CloseReason::BadRequest, Close::Lingering),
        // It went away within a request, or does not take the answer.
        Err(error) if error.is_incomplete_message() || error.is_body_write_aborted() => {
            (CloseReason::ClientReset, Close::Plainly)
        }
        Err(error) if is_gone(&error) => (CloseReason::ClientReset, Close::Plainly),
        Err(_) => (CloseReason::Error, Close::Reset),
    }
}

fn is_gone(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|e| matches!(e.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof))
}

async fn linger(mut stream: TcpStream) {
    // If it fails the connection is gone already.
    let _gone = socket2::SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
    let drain = async {
        let mut sink = vec![0; 16 * 1024];
        let mut read = 0;
        while read < LINGER_BYTES {
            match stream.read(&mut sink).await {
                Ok(n) if n > 0 => read += n,
                _ => break,
            }
        }
    };
    // Whether it ends or the time is up, the socket is closed.
    let _in_time = tokio::time::timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F>(_: impl Fn(Connection, TcpStream) -> F) -> usize {
        size_of::<F>()
    }

    fn size_tls<F>(_: impl Fn(Connection, TcpStream, Rc<Held>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn futures_stay_small() {
        eprintln!(
            "serve {} in TLS {} answer {} record {} body {}",
            size(serve),
            size_tls(serve_tls),
            answer::size(),
            size_of::<record::Record>(),
            size_of::<body::AnswerBody>()
        );
        assert!(size(serve) <= 1_500, "{}", size(serve));
        assert!(size_tls(serve_tls) <= 1_700, "{}", size_tls(serve_tls));
        assert!(answer::size() <= 2_000, "{}", answer::size());
    }
}
