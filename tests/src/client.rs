//! Clients: HTTP/1.1 with keep-alive, in clear or in TLS, and TCP that checks every byte.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Runtime,
};
use tokio_rustls::TlsConnector;

use crate::{
    netns::{NetNs, runtime},
    peers::echo::Echo,
    uninterrupted,
};

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection that requests go over one after the other.
#[derive(Debug)]
pub struct Http {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    /// This end's address.
    pub local: SocketAddr,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its header.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The name of the echo that answered; empty if none did.
    pub fn backend(&self) -> &str {
        self.headers.get("x-backend").and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// What the echo saw.
    ///
    /// # Panics
    /// If it was no echo that answered.
    pub fn echo(&self) -> Echo {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

impl Http {
    /// Connects from inside a namespace.
    ///
    /// # Errors
    /// As the kernel says: a reset while connecting is what a rejected connection looks like.
    pub fn connect(ns: &NetNs, to: SocketAddr) -> io::Result<Self> {
        Self::over(ns, to, async |stream| Ok(stream))
    }

    /// The same in TLS, with a server whose certificate names its address.
    ///
    /// # Errors
    /// As before, or if the handshake fails.
    pub fn connect_tls(ns: &NetNs, to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let connector = TlsConnector::from(Arc::clone(config));
        Self::over(ns, to, async |stream| {
            connector.connect(ServerName::IpAddress(to.ip().into()), stream).await
        })
    }

    fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        ns: &NetNs,
        to: SocketAddr,
        wrap: impl AsyncFnOnce(tokio::net::TcpStream) -> io::Result<S>,
    ) -> io::Result<Self> {
        let stream = ns.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        let local = stream.local_addr()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let io = TokioIo::new(wrap(tokio::net::TcpStream::from_std(stream)?).await?);
            let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
            // How it ends is seen by the request that is under way.
            tokio::spawn(async move { drop(connection.await) });
            io::Result::Ok(sender)
        })?;
        Ok(Self { runtime, sender, local })
    }

    /// `GET path` with a host; see [`Http::send`].
    ///
    /// # Errors
    /// If the connection ends before the answer does.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Answer> {
        self.send(Request::get(path).header("host", host).body(Bytes::new()).expect("a valid request"))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If the connection ends before the answer does, or it takes too long.
    pub fn send(&mut self, request: Request<Bytes>) -> io::Result<Answer> {
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                sender.ready().await.map_err(io::Error::other)?;
                let answer = sender.send_request(request.map(Full::new)).await.map_err(io::Error::other)?;
                let (head, body) = answer.into_parts();
                let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
            })
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))?
        })
    }

    /// Sends a request whose answer has no end: its head, and its body part by part.
    ///
    /// # Errors
    /// If the connection ends before the head has come, or that takes too long.
    pub fn stream(mut self, request: Request<Bytes>) -> io::Result<Stream> {
        let response = self.runtime.block_on(async {
            let answer = self.sender.send_request(request.map(Full::new));
            tokio::time::timeout(PATIENCE, answer).await.map_err(io::Error::other)?.map_err(io::Error::other)
        })?;
        Ok(Stream { status: response.status().as_u16(), http: self, response })
    }
}

/// An answer that comes part by part.
#[derive(Debug)]
pub struct Stream {
    /// Its status.
    pub status: u16,
    http: Http,
    response: Response<Incoming>,
}

impl Stream {
    /// Waits for the next part; `None`: there are no more.
    ///
    /// # Errors
    /// If the connection ends before the answer does.
    pub fn part(&mut self) -> io::Result<Option<Bytes>> {
        let body = self.response.body_mut();
        let frame = self.http.runtime.block_on(body.frame()).transpose().map_err(io::Error::other)?;
        // Trailers are no part.
        Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }
}

/// One `GET` over a connection of its own.
///
/// # Errors
/// If there is no connection, or it ends before the answer does.
pub fn get(ns: &NetNs, at: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    Http::connect(ns, at)?.get(host, path)
}

/// Talks to a [`tcp`](crate::peers::echo::tcp) echo: sends `size` bytes, closes its half, and checks what comes back.
/// Returns the echo's name.
///
/// # Errors
/// If the connection fails, or what came back is not what was sent.
pub fn tcp(ns: &NetNs, at: SocketAddr, size: usize) -> io::Result<String> {
    exchange(ns.enter(|| TcpStream::connect_timeout(&at, PATIENCE))?, size)
}

/// A connection from an address and port that may have been in use a moment ago.
///
/// # Errors
/// As the kernel says.
pub fn connect_from(ns: &NetNs, from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    ns.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(socket.into())
    })
}

/// What [`tcp`] does, on a connection that was made already.
///
/// # Errors
/// If the connection fails, or what came back is not what was sent.
pub fn exchange(mut reader: TcpStream, size: usize) -> io::Result<String> {
    reader.set_read_timeout(Some(PATIENCE))?;
    reader.set_write_timeout(Some(PATIENCE))?;
    let mut writer = reader.try_clone()?;
    let writing = thread::spawn(move || {
        let mut sent = 0;
        while sent < size {
            let block = pattern(sent, (size - sent).min(PATTERN));
            writer.write_all(block)?;
            sent += block.len();
        }
        writer.shutdown(Shutdown::Write)
    });
    let name = line(&mut reader)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0;
    loop {
        let n = uninterrupted(|| reader.read(&mut buffer))?;
        if n == 0 {
            break;
        }
        check(received, &buffer[..n])?;
        received += n;
    }
    writing.join().expect("the writing half does not panic")?;
    if received != size {
        return Err(io::Error::other(format!("{received} of {size} bytes came back")));
    }
    Ok(name)
}

/// Sends to an echo and waits for it to come back, block by block, until `stop` says so; then closes its half and waits
/// for the other to be closed. Returns how many bytes came back.
///
/// # Errors
/// As for [`tcp`].
pub fn steady(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<usize> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    line(&mut stream)?;
    let mut buffer = vec![0; PATTERN];
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let block = pattern(sent, PATTERN);
        stream.write_all(block)?;
        let got = &mut buffer[..block.len()];
        stream.read_exact(got)?;
        check(sent, got)?;
        sent += block.len();
        // What runs beside it is to get on, too.
        thread::sleep(Duration::from_millis(1));
    }
    stream.shutdown(Shutdown::Write)?;
    match uninterrupted(|| stream.read(&mut buffer))? {
        0 => Ok(sent),
        more => Err(io::Error::other(format!("{more} bytes too many came back"))),
    }
}

/// What an echo says first.
fn line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.pop();
    String::from_utf8(line).map_err(io::Error::other)
}

/// Whether these are the bytes of the stream from `offset` on.
fn check(offset: usize, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let block = pattern(offset + at, bytes.len() - at);
        if bytes[at..at + block.len()] != *block {
            return Err(io::Error::other(format!("wrong bytes at {}", offset + at)));
        }
        at += block.len();
    }
    Ok(())
}

const PATTERN: usize = 65_521;

/// At most `length` bytes of the stream that is sent, from `offset` on. Its period is a prime, so that a lost or
/// repeated block of any usual size shows.
fn pattern(offset: usize, length: usize) -> &'static [u8] {
    static BYTES: [u8; PATTERN] = {
        let mut bytes = [0; PATTERN];
        let mut i = 0;
        while i < PATTERN {
            bytes[i] = (i * 31 % 251) as u8;
            i += 1;
        }
        bytes
    };
    let start = offset % PATTERN;
    &BYTES[start..(start + length).min(PATTERN)]
}
