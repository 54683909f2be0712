//! A client's connection as hyper reads and writes it, in clear or inside of TLS: what passes is watched, and each byte
//! moved is progress.
//!
//! Owns nothing but the socket, and how the end of the last answer travels: in one segment with the FIN.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use libc::{MSG_MORE, MSG_NOSIGNAL};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::client::Client;

/// What is copied together rather than written in parts, in bytes.
const SHORT: usize = 1_024;

/// A client's socket.
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) client: Rc<Client>,
}

impl Socket {
    /// Sends; what is the end of the connection waits in the kernel for the close that follows at once, so that it
    /// leaves together with the FIN. Should the close be late, the kernel sends it after 200 ms.
    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let flags = if self.client.has_said_all() { MSG_NOSIGNAL | MSG_MORE } else { MSG_NOSIGNAL };
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self
                .stream
                .try_io(Interest::WRITABLE, || SockRef::from(&self.stream).send_with_flags(buf, flags));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(self.poll_send(cx, buf))?;
        self.client.progress();
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let n = if total <= SHORT {
            // A header with a short body: one copy costs less than a vectored write.
            let mut all = [0; SHORT];
            ready!(self.poll_send(cx, joined(bufs, &mut all)))?
        } else {
            ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?
        };
        self.client.progress();
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closing the socket says the same to the client and saves a system call; where more must be done, whoever
    /// drives the connection does it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Copies all into the room, which is large enough.
fn joined<'r>(bufs: &[IoSlice<'_>], room: &'r mut [u8; SHORT]) -> &'r [u8] {
    let mut end = 0;
    for buf in bufs {
        room[end..end + buf.len()].copy_from_slice(buf);
        end += buf.len();
    }
    &room[..end]
}

/// What a client is spoken to by.
pub(super) enum Stream {
    /// In clear.
    Plain(Socket),
    /// Inside of TLS.
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// Says something at the end, as much of it as goes: the client may not read. Inside of TLS, close_notify follows
    /// (RFC 8446, 6.1), without which the client could not tell the end from a cut.
    pub(super) fn say_last(&mut self, words: &[u8]) {
        match self {
            Self::Plain(_) if words.is_empty() => {}
            Self::Plain(socket) => {
                let _sent = socket.stream.try_write(words);
            }
            Self::Tls(tls) => {
                let (socket, session) = tls.get_mut();
                let _sent = session.writer().write(words);
                session.send_close_notify();
                while session.wants_write() {
                    if session.write_tls(&mut AtOnce(&socket.stream)).is_err() {
                        break;
                    }
                }
            }
        }
    }

    /// The socket below.
    pub(super) fn into_socket(self) -> TcpStream {
        match self {
            Self::Plain(socket) => socket.stream,
            Self::Tls(tls) => tls.into_inner().0.stream,
        }
    }
}

/// Writes what the kernel takes now.
struct AtOnce<'s>(&'s TcpStream);

impl io::Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client's connection, watched.
pub(super) struct Watched {
    pub(super) stream: Stream,
    pub(super) client: Rc<Client>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match &mut self.stream {
            Stream::Plain(socket) => ready!(Pin::new(socket).poll_read(cx, buf))?,
            Stream::Tls(tls) => match ready!(Pin::new(tls).poll_read(cx, buf)) {
                // Many clients leave without close_notify. HTTP tells by itself whether a request is complete.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                read => read?,
            },
        }
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            self.client.received(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            // What rustls holds, up to 64 KiB.
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
