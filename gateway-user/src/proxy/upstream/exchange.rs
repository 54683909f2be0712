//! One request and its answer on a connection to an endpoint, driven by the client connection's own task: no
//! channel, no second task.
//!
//! Owns sending and receiving at the same time, and when a connection may be used again. Must not know routes.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::HOST;
use hyper::body::{Body, Frame, Incoming};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::decode::{Decoder, Garbage, Piece, ResponseHead, take_head};
use super::encode::{RequestFraming, is_passed_on};
use crate::core::headers::HeaderFilters;

/// Room for a first read: a header and a short body.
const SMALL: usize = 8 * 1024;
/// Room for further reads, once one has filled the buffer.
const LARGE: usize = 64 * 1024;

/// A connection to an endpoint.
#[derive(Debug)]
pub(in crate::proxy) struct Upstream {
    pub(in crate::proxy) at: SocketAddr,
    /// The header of the request, kept until the answer begins: it may have to be sent again.
    pub(in crate::proxy) out: Vec<u8>,
    io: TcpStream,
    buffer: BytesMut,
    reused: bool,
    idle_since: u64,
}

impl Upstream {
    pub(in crate::proxy) fn new(io: TcpStream, at: SocketAddr) -> Self {
        Self { at, out: Vec::with_capacity(1024), io, buffer: BytesMut::new(), reused: false, idle_since: 0 }
    }

    /// Whether it has served another request before.
    pub(in crate::proxy) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether the endpoint has neither closed it nor said anything unasked, as far as the runtime has been told;
    /// with `probe` the kernel is asked.
    pub(super) fn is_alive(&self, probe: bool) -> bool {
        let mut byte = [0];
        let told = self.io.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready();
        if told {
            return matches!(self.io.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        }
        if !probe {
            return true;
        }
        let peeked = socket2::SockRef::from(&self.io).peek(&mut [std::mem::MaybeUninit::uninit()]);
        matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    pub(super) fn rest(&mut self, tick: u64) {
        self.reused = true;
        self.idle_since = tick;
    }

    pub(super) fn idle_since(&self) -> u64 {
        self.idle_since
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = if self.buffer.capacity() >= LARGE { LARGE } else { SMALL };
        self.poll_fill_by(room, cx)
    }

    fn poll_fill_by(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Its memory is used again once nothing of the last answer is left: not to be asked for each time.
        if self.buffer.capacity() - self.buffer.len() < room / 2 {
            self.buffer.reserve(room);
        }
        pin!(self.io.read_buf(&mut self.buffer)).poll(cx)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum Failure {
    /// The endpoint closed or reset the connection before it said anything.
    #[error("backend closed the connection without an answer")]
    Silent,
    /// The endpoint closed or reset the connection within its answer.
    #[error("backend closed the connection within its answer")]
    Early(#[source] io::Error),
    /// The answer is no HTTP.
    #[error(transparent)]
    Garbage(#[from] Garbage),
    /// The client's body broke off.
    #[error("client broke off its request")]
    Client(#[source] hyper::Error),
    /// The time allowed has passed.
    #[error("backend took too long")]
    Late,
}

/// A request under way.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange {
    pub(in crate::proxy) upstream: Box<Upstream>,
    sent: usize,
    request: Option<Incoming>,
    framing: RequestFraming,
    /// What is done to header fields: a trailer does not bring back what they take away.
    filters: Option<Arc<HeaderFilters>>,
    /// Bytes around a chunk of the request's body.
    frame: Vec<u8>,
    framed: usize,
    chunk: Bytes,
    /// Bytes of the request's body so far.
    pub(in crate::proxy) bytes_in: u64,
    /// The endpoint no longer takes the request.
    broken: bool,
    keep_alive: bool,
}

/// What an endpoint answered.
pub(in crate::proxy) struct Answer {
    pub(in crate::proxy) head: ResponseHead,
    /// The whole body, if it is there already.
    pub(in crate::proxy) whole: Option<Bytes>,
}

impl Exchange {
    /// Begins to send the header in `upstream.out`, then the body.
    pub(in crate::proxy) fn new(
        upstream: Box<Upstream>,
        request: Option<Incoming>,
        framing: RequestFraming,
        filters: Option<Arc<HeaderFilters>>,
    ) -> Self {
        Self {
            upstream,
            sent: 0,
            request,
            framing,
            filters,
            frame: Vec::new(),
            framed: 0,
            chunk: Bytes::new(),
            bytes_in: 0,
            broken: false,
            keep_alive: false,
        }
    }

    /// Whether all of the request has been sent.
    fn is_sent(&self) -> bool {
        self.request.is_none()
            && self.sent == self.upstream.out.len()
            && self.framed == self.frame.len()
            && self.chunk.is_empty()
    }

    /// Sends as much as goes. Ready when all of the request is sent or the endpoint takes no more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.broken {
            if self.chunk.is_empty() && self.framed == self.frame.len() && self.request.is_some() {
                // Before the first write too: the header and the beginning of the body leave together.
                match self.poll_body(cx)? {
                    Poll::Ready(()) => {}
                    Poll::Pending if self.sent == self.upstream.out.len() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            if self.sent == self.upstream.out.len()
                && self.framed == self.frame.len()
                && self.chunk.is_empty()
            {
                if self.request.is_none() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let Upstream { io, out, .. } = &mut *self.upstream;
            let bufs = [
                IoSlice::new(&out[self.sent..]),
                IoSlice::new(&self.frame[self.framed..]),
                IoSlice::new(&self.chunk),
            ];
            let written = if bufs[1].is_empty() && bufs[2].is_empty() {
                Pin::new(io).poll_write(cx, &bufs[0])
            } else {
                Pin::new(io).poll_write_vectored(cx, &bufs)
            };
            match ready!(written) {
                Ok(n) => self.advance(n),
                // It may have answered all the same: that is found out by reading.
                Err(_) => self.broken = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut n: usize) {
        let head = n.min(self.upstream.out.len() - self.sent);
        self.sent += head;
        n -= head;
        let frame = n.min(self.frame.len() - self.framed);
        self.framed += frame;
        self.chunk.advance(n - frame);
    }

    /// Takes the next piece of the request's body from the client.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(body) = &mut self.request else { return Poll::Ready(Ok(())) };
        let frame = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(frame) => Some(frame.map_err(Failure::Client)?),
            None => None,
        };
        let after_data = self.bytes_in > 0;
        self.frame.clear();
        self.framed = 0;
        match frame.map(Frame::into_data) {
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                self.bytes_in += data.len() as u64;
                if self.framing == RequestFraming::Chunked {
                    encode_size(&mut self.frame, data.len(), after_data);
                }
                self.chunk = data;
            }
            Some(Err(trailers)) => {
                self.request = None;
                let mut trailers = trailers.into_trailers().unwrap_or_default();
                if let Some(filters) = &self.filters {
                    filters.request.withhold(&mut trailers);
                }
                if self.framing == RequestFraming::Chunked {
                    encode_end(&mut self.frame, &trailers, after_data);
                }
            }
            None => {
                self.request = None;
                if self.framing == RequestFraming::Chunked {
                    encode_end(&mut self.frame, &HeaderMap::new(), after_data);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends, and waits for the answer's header. `headers` is an empty map whose memory is used again.
    pub(in crate::proxy) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        to_head: bool,
        headers: &mut HeaderMap,
        limit: usize,
    ) -> Poll<Result<Answer, Failure>> {
        // Pending or broken: the endpoint may answer before it has the whole request.
        let _progress = self.poll_send(cx)?;
        loop {
            let read = ready!(self.upstream.poll_fill(cx));
            let silent = self.upstream.buffer.is_empty();
            match read {
                Ok(n) if n > 0 => {}
                _ if silent => return Poll::Ready(Err(Failure::Silent)),
                Ok(_) => return Poll::Ready(Err(Failure::Early(io::ErrorKind::UnexpectedEof.into()))),
                Err(error) => return Poll::Ready(Err(Failure::Early(error))),
            }
            if let Some(head) = take_head(&mut self.upstream.buffer, to_head, headers, limit)? {
                self.keep_alive = head.keep_alive;
                return Poll::Ready(Ok(Answer { whole: self.whole(head.body), head }));
            }
        }
    }

    /// The body, if all of it is there and nothing more is to be sent.
    fn whole(&mut self, body: Decoder) -> Option<Bytes> {
        let length = usize::try_from(body.length()?).ok()?;
        (self.is_sent() && self.upstream.buffer.len() >= length)
            .then(|| self.upstream.buffer.split_to(length).freeze())
    }

    /// Goes on sending what is left of the request, and takes the next piece of the answer's body; `None`: it is
    /// complete.
    pub(in crate::proxy) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if !self.is_sent() && !self.broken {
            match self.poll_send(cx) {
                // The client's body broke off: what it gets is the endpoint's business, but nothing more is sent.
                Poll::Ready(Err(_)) => self.broken = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        loop {
            match decoder.next(&mut self.upstream.buffer) {
                Err(garbage) => return Poll::Ready(Some(Err(garbage.into()))),
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(mut trailers)) => {
                    if let Some(filters) = &self.filters {
                        filters.response.withhold(&mut trailers);
                    }
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
            }
            match ready!(self.upstream.poll_fill_by(LARGE, cx)) {
                Ok(n) if n > 0 => {}
                Ok(_) if decoder.may_close() => return Poll::Ready(None),
                Ok(_) => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Some(Err(Failure::Early(error))));
                }
                Err(error) => return Poll::Ready(Some(Err(Failure::Early(error)))),
            }
        }
    }

    /// The connection, if it may be used for another request, now that the answer is complete.
    pub(in crate::proxy) fn reusable(self) -> Option<Box<Upstream>> {
        let clean = self.keep_alive && !self.broken && self.is_sent() && self.upstream.buffer.is_empty();
        clean.then_some(self.upstream)
    }
}

/// Ends the chunk before, if there was one, and begins one of `size` bytes.
fn encode_size(out: &mut Vec<u8>, size: usize, after_data: bool) {
    let before = if after_data { "\r\n" } else { "" };
    out.extend_from_slice(format!("{before}{size:x}\r\n").as_bytes());
}

fn encode_end(out: &mut Vec<u8>, trailers: &HeaderMap, after_data: bool) {
    out.extend_from_slice(if after_data { b"\r\n0\r\n" } else { b"0\r\n" });
    for (name, value) in trailers.iter().filter(|(name, value)| is_passed_on(name, value) && *name != HOST) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_request() {
        let mut out = Vec::new();
        encode_size(&mut out, 5, false);
        out.extend_from_slice(b"hello");
        encode_size(&mut out, 26, true);
        out.extend_from_slice(&[b'x'; 26]);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        encode_end(&mut out, &trailers, true);
        let want = format!("5\r\nhello\r\n1a\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n", "x".repeat(26));
        assert_eq!(String::from_utf8(out).unwrap(), want);
        let mut empty = Vec::new();
        encode_end(&mut empty, &HeaderMap::new(), false);
        assert_eq!(empty, b"0\r\n\r\n");
    }
}
