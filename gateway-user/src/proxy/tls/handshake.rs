//! A handshake: from a client's first bytes to a stream inside of TLS, or why there is none.
//!
//! Owns the refusal of names that nobody has, and how failures are told apart. Its time is limited by whoever drives it,
//! its memory by rustls: of a ClientHello at most 64 KiB are kept.

use std::io;

use rustls::Error;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Answers;
use crate::proxy::totals::HandshakeFailure;

/// The fatal alert `unrecognized_name` (RFC 6066, 3).
const UNRECOGNIZED_NAME: u8 = 112;
/// The fatal alert `handshake_failure` (RFC 8446, 6.2).
const HANDSHAKE_FAILURE: u8 = 40;

/// Shakes hands. If it fails the socket comes back unless it is gone; an alert has been sent where there is one.
///
/// # Errors
/// Why it failed.
pub(in crate::proxy) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    answers: &Answers,
) -> Result<TlsStream<S>, (HandshakeFailure, Option<S>)> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), socket);
    let mut start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(error) => return Err((failure(&error), acceptor.take_io())),
    };
    let hello = start.client_hello();
    let answer = match answers.find(hello.server_name().unwrap_or_default()) {
        // Not with somebody else's certificate.
        None => Err((UNRECOGNIZED_NAME, HandshakeFailure::Name)),
        // Of this rustls would tell the client nothing.
        Some(answer) if !answer.choice.is_any_for(&hello) => {
            Err((HANDSHAKE_FAILURE, HandshakeFailure::Incompatible))
        }
        Some(answer) => Ok(answer.config.clone()),
    };
    let config = match answer {
        Ok(config) => config,
        Err((alert, failure)) => {
            // A record: nothing is encrypted yet. If it does not go, the client sees the connection end.
            let _gone = start.io.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
            return Err((failure, Some(start.io)));
        }
    };
    let shaken = start.into_stream(config).into_fallible().await;
    shaken.map_err(|(error, socket)| (failure(&error), Some(socket)))
}

fn failure(error: &io::Error) -> HandshakeFailure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (tls, error.kind()) {
        (Some(Error::AlertReceived(_)), _) => HandshakeFailure::Refused,
        (Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol), _) => {
            HandshakeFailure::Incompatible
        }
        (
            Some(
                Error::InvalidMessage(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. }
                | Error::DecryptError
                | Error::PeerSentOversizedRecord
                | Error::PeerMisbehaved(_),
            ),
            _,
        ) => HandshakeFailure::Malformed,
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            HandshakeFailure::Gone
        }
        _ => HandshakeFailure::Error,
    }
}
