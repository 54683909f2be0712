//! Bytes from the one side to the other and back.
//!
//! Owns the buffers. A worker has one large buffer for all its connections: what is read is written at once. Only
//! what the other side does not take is kept, by the connection, and nothing more is read until that has gone: an
//! idle connection holds no memory, a stalled one no more than its last read. Reads grow with the traffic.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Relayed;
use crate::proxy::connection::Order;

/// A connection's first read.
const SMALL: usize = 16 * 1024;
/// Its largest, after reads that filled their room.
const LARGE: usize = 256 * 1024;
/// Reads of one direction before others have their turn.
const TURNS: usize = 16;

thread_local! {
    /// Where a worker's connections read to.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGE].into());
}

/// How a relayed connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides have finished.
    Done,
    /// The client reset it.
    ClientReset,
    /// The backend reset it.
    BackendReset,
    /// Nothing moved for too long.
    Idle,
    /// Its listener or endpoint has left the configuration.
    Withdrawn,
}

/// Both sockets. Unless the connection ends well both are reset: nobody shall take what is cut for complete.
pub(super) struct Pair {
    client: TcpStream,
    backend: TcpStream,
    up: Pipe,
    down: Pipe,
    ended: bool,
}

impl Pair {
    pub(super) fn new(client: TcpStream, backend: TcpStream) -> Self {
        Self { client, backend, up: Pipe::default(), down: Pipe::default(), ended: false }
    }

    /// Relays until the end.
    pub(super) async fn run(&mut self, relayed: &Relayed) -> Ended {
        relayed.alive();
        poll_fn(|cx| self.poll(relayed, cx)).await
    }

    fn poll(&mut self, relayed: &Relayed, cx: &mut Context<'_>) -> Poll<Ended> {
        if relayed.connection.order(cx) == Order::Expire {
            let withdrawn = relayed.connection.is_withdrawn();
            return Poll::Ready(if withdrawn { Ended::Withdrawn } else { Ended::Idle });
        }
        let Self { client, backend, up, down, ended } = self;
        let sent = up.poll(client, backend, cx, |n| relayed.moved(n, 0), || relayed.alive());
        let received = down.poll(backend, client, cx, |n| relayed.moved(0, n), || relayed.alive());
        match (sent, received) {
            (Poll::Ready(Err(Side::Source)), _) | (_, Poll::Ready(Err(Side::Sink))) => {
                Poll::Ready(Ended::ClientReset)
            }
            (Poll::Ready(Err(Side::Sink)), _) | (_, Poll::Ready(Err(Side::Source))) => {
                Poll::Ready(Ended::BackendReset)
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                *ended = true;
                Poll::Ready(Ended::Done)
            }
            _ => Poll::Pending,
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.ended {
            for stream in [&self.client, &self.backend] {
                // If it fails the connection is gone already.
                let _gone = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
    }
}

/// The side of a pipe that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Sink,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    /// What the sink has not taken, from `taken` on.
    rest: Vec<u8>,
    taken: usize,
    /// Room for the next read.
    room: usize,
    /// The source has finished.
    eof: bool,
    /// The sink has been told.
    shut: bool,
}

impl Default for Pipe {
    fn default() -> Self {
        Self { rest: Vec::new(), taken: 0, room: SMALL, eof: false, shut: false }
    }
}

impl Pipe {
    /// Moves as much as goes. Ready when the source has finished and the sink knows.
    fn poll(
        &mut self,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        cx: &mut Context<'_>,
        moved: impl Fn(u64),
        alive: impl Fn(),
    ) -> Poll<Result<(), Side>> {
        for _ in 0..TURNS {
            while self.taken < self.rest.len() {
                let n = ready!(Pin::new(&mut *sink).poll_write(cx, &self.rest[self.taken..]));
                self.taken += n.map_err(|_| Side::Sink)?;
                alive();
            }
            if self.taken > 0 {
                self.rest = Vec::new();
                self.taken = 0;
            }
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if self.eof {
                self.shut = true;
                return Poll::Ready(shutdown(sink).map_err(|_| Side::Sink));
            }
            let n = ready!(SHARED.with_borrow_mut(|shared| self.poll_move(source, sink, cx, shared)))?;
            self.eof = n == 0;
            if n > 0 {
                moved(n as u64);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and writes what was read; keeps what the sink does not take. Returns how much was read.
    fn poll_move(
        &mut self,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        cx: &mut Context<'_>,
        shared: &mut [u8],
    ) -> Poll<Result<usize, Side>> {
        let mut buf = ReadBuf::new(&mut shared[..self.room]);
        match ready!(Pin::new(source).poll_read(cx, &mut buf)) {
            Ok(()) => {}
            Err(_) => return Poll::Ready(Err(Side::Source)),
        }
        let read = buf.filled();
        let mut sent = 0;
        while sent < read.len() {
            match Pin::new(&mut *sink).poll_write(cx, &read[sent..]) {
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Side::Sink)),
                Poll::Pending => {
                    self.rest = read[sent..].to_vec();
                    break;
                }
            }
        }
        if read.len() == self.room {
            self.room = (self.room * 4).min(LARGE);
        } else if read.len() < self.room / 8 {
            self.room = (self.room / 4).max(SMALL);
        }
        Poll::Ready(Ok(read.len()))
    }
}

fn shutdown(stream: &TcpStream) -> io::Result<()> {
    match SockRef::from(stream).shutdown(std::net::Shutdown::Write) {
        // The other side has gone entirely, and with it whoever could miss the end.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}
