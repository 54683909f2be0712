//! The body of an answer on its way to the client.
//!
//! Owns its end: the upstream connection goes back to the pool, the request is counted. A piece is read only when
//! the last one has found room: a client that does not read holds up its endpoint, not our memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::record::Record;
use crate::proxy::totals::CloseReason;
use crate::proxy::upstream::decode::Decoder;
use crate::proxy::upstream::{Exchange, Failure};

/// The body of an answer.
pub(super) struct AnswerBody {
    source: Source,
    record: Record,
}

enum Source {
    /// All of it, or nothing any more.
    Whole(Bytes),
    /// From an endpoint.
    Stream(Box<Streaming>),
}

/// A body that is still arriving.
pub(super) struct Streaming {
    pub(super) exchange: Exchange,
    pub(super) decoder: Decoder,
    /// Ends the answer if it takes longer than the route allows.
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(super) fn whole(bytes: Bytes, record: Record) -> Self {
        Self { source: Source::Whole(bytes), record }
    }

    pub(super) fn stream(streaming: Streaming, record: Record) -> Self {
        Self { source: Source::Stream(Box::new(streaming)), record }
    }
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Some(Err(Failure::Late)));
        }
        self.exchange.poll_piece(cx, &mut self.decoder)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Whole(bytes) if bytes.is_empty() => None,
            Source::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Source::Stream(streaming) => {
                let frame = ready!(streaming.poll(cx));
                this.record.bytes_in = streaming.exchange.bytes_in;
                frame
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                this.record.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
                if frame.is_trailers() {
                    this.complete();
                }
            }
            Some(Err(failure)) => {
                let reason = match failure {
                    Failure::Late => CloseReason::Idle,
                    Failure::Client(_) => CloseReason::ClientReset,
                    Failure::Silent | Failure::Early(_) | Failure::Garbage(_) => CloseReason::BackendReset,
                };
                this.record.client.breaks(reason);
                this.record.because(|| failure.to_string());
            }
            None => this.complete(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.source, Source::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream(streaming) => match streaming.decoder {
                Decoder::Length(length) => SizeHint::with_exact(length),
                Decoder::Chunked(_) | Decoder::Close => SizeHint::default(),
            },
        }
    }
}

impl AnswerBody {
    /// Nothing more will come: the connection may serve another request.
    fn complete(&mut self) {
        if let Source::Stream(streaming) = std::mem::replace(&mut self.source, Source::Whole(Bytes::new())) {
            let worker = &self.record.client.connection.worker;
            if let Some(upstream) = streaming.exchange.reusable() {
                worker.pool.put(upstream, worker.tick());
            }
        }
    }
}
