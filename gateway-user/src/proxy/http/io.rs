//! A client's socket as hyper reads and writes it: what passes is watched, and each byte moved is progress.
//!
//! Owns nothing but the socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::client::Client;

/// What is copied together rather than written in parts, in bytes.
const SHORT: usize = 1_024;

/// A client's socket.
pub(super) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) client: Rc<Client>,
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
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
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
            ready!(Pin::new(&mut self.stream).poll_write(cx, &all[..total]))?
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
