//! Asking a running agent, for the command line.
//!
//! Owns the errors that tell whether there is an agent. Must not know what is done with an answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::SERVER as SERVER_HEADER;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::http::{LARGE_BODY, SERVER};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take that others may have to be waited for.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error(
        "no agent answers on {}; start one with `sluice run -f FILE`, or name its socket with --admin-socket",
        path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Not for this user.
    #[error("the admin socket {} is for root alone; run this as root", path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// Too much to ask at once.
    #[error("{length} bytes are more than an agent takes at once, {LARGE_BODY}; split the input up")]
    TooLong {
        /// Bytes.
        length: usize,
    },
    /// Somebody else is there.
    #[error("another program than an agent answers on {}; name the agent's socket with --admin-socket", path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
    },
    /// The agent said no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The agent is there and does not answer as it should.
    #[error("the agent on {} gave no proper answer: {problem}; is it of another version?", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
}

/// `GET path`, read as JSON.
///
/// # Errors
/// If there is no agent, it says no, or its answer has another shape.
pub fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Error> {
    parse(socket, &call(socket, "GET", path, Bytes::new(), PATIENCE)?)
}

/// `POST path` with a value as JSON, the answer read as JSON. What is asked for may wait behind others.
///
/// # Errors
/// If there is no agent, it says no, its answer has another shape, or the value is too long.
pub fn send<T: DeserializeOwned>(socket: &Path, path: &str, value: &impl Serialize) -> Result<T, Error> {
    let body = serde_json::to_vec(value)
        .map_err(|e| Error::Broken { path: socket.to_owned(), problem: e.to_string() })?;
    if body.len() > LARGE_BODY {
        return Err(Error::TooLong { length: body.len() });
    }
    parse(socket, &call(socket, "POST", path, body.into(), LONG_PATIENCE)?)
}

fn parse<T: DeserializeOwned>(socket: &Path, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|e| Error::Broken { path: socket.to_owned(), problem: e.to_string() })
}

/// `POST path` with a body; the answer's text.
///
/// # Errors
/// If there is no agent, or it says no.
pub fn post(socket: &Path, path: &str, body: &str) -> Result<String, Error> {
    let body = call(socket, "POST", path, Bytes::copy_from_slice(body.as_bytes()), PATIENCE)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn call(socket: &Path, method: &str, path: &str, body: Bytes, patience: Duration) -> Result<Bytes, Error> {
    let broken = |problem: String| Error::Broken { path: socket.to_owned(), problem };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| broken(e.to_string()))?;
    runtime.block_on(async {
        match tokio::time::timeout(patience, exchange(socket, method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(broken(format!("nothing came within {} s", patience.as_secs()))),
        }
    })
}

async fn exchange(socket: &Path, method: &str, path: &str, body: Bytes) -> Result<Bytes, Error> {
    let owned = || socket.to_owned();
    let stream = tokio::net::UnixStream::connect(socket).await.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning { path: owned() },
        io::ErrorKind::PermissionDenied => Error::NotAllowed { path: owned() },
        _ => Error::Broken { path: owned(), problem: e.to_string() },
    })?;
    let broken = |e: hyper::Error| {
        // Whoever does not speak HTTP at all is no agent.
        if e.is_parse() {
            return Error::Stranger { path: owned() };
        }
        Error::Broken { path: owned(), problem: e.to_string() }
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "agent")
        .body(Full::new(body))
        .map_err(|e| Error::Broken { path: owned(), problem: e.to_string() })?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.headers().get(SERVER_HEADER).is_none_or(|name| name != SERVER) {
        return Err(Error::Stranger { path: owned() });
    }
    let status = response.status();
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    if status.is_success() {
        Ok(body)
    } else {
        Err(Error::Refused { status: status.as_u16(), message: String::from_utf8_lossy(&body).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_not_sent() {
        let error = send::<()>(Path::new("/nonexistent"), "/apply", &"x".repeat(LARGE_BODY)).unwrap_err();
        assert!(error.to_string().contains("are more than an agent takes at once"), "{error}");
    }
}
