//! A client's socket as hyper reads and writes it: what passes is watched, and each byte moved is progress.
//!
//! Owns nothing but the socket, and how the end of the last answer travels: in one segment with the FIN.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use libc::{MSG_MORE, MSG_NOSIGNAL};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::client::Client;

/// What is copied together rather than written in parts, in bytes.
const SHORT: usize = 1_024;

/// A client's socket.
pub(super) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) client: Rc<Client>,
}

impl Watched {
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

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            self.client.received(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
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
            let mut rest = &mut all[..];
            for buf in bufs {
                let (here, after) = rest.split_at_mut(buf.len());
                here.copy_from_slice(buf);
                rest = after;
            }
            ready!(self.poll_send(cx, &all[..total]))?
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
