//! What an endpoint answers: the header of a response and the framing of its body (RFC 9112, 6 and 7).
//!
//! Owns the judgement of what is garbage. Strict: what two recipients could read in two ways is refused. Pure: it
//! sees buffers, never a socket.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Version};

use super::encode::{may_be_named, options};
use crate::core::headers::is_hop_by_hop;

/// Fields of a header, at most.
const MAX_FIELDS: usize = 100;
/// Bytes of a chunk's size line, at most.
const MAX_SIZE_LINE: usize = 1_024;
/// Bytes of a trailer section, at most.
const MAX_TRAILERS: usize = 64 * 1024;

/// What is not HTTP/1.1, or could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("backend sent garbage: {0}")]
pub(in crate::proxy) struct Garbage(pub(super) &'static str);

/// A response's header.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseHead {
    pub(in crate::proxy) status: StatusCode,
    /// End-to-end fields.
    pub(in crate::proxy) headers: HeaderMap,
    /// How the body is delimited.
    pub(in crate::proxy) body: Decoder,
    /// Whether the connection may be used again after the body.
    pub(super) keep_alive: bool,
}

/// Takes a header off the buffer, passing over interim responses; `None` if it is not complete yet. `headers` is
/// an empty map whose memory is used again.
pub(super) fn take_head(
    buffer: &mut BytesMut,
    to_head: bool,
    headers: &mut HeaderMap,
    limit: usize,
) -> Result<Option<ResponseHead>, Garbage> {
    loop {
        let Some(end) = end_of_head(buffer) else {
            if buffer.len() > limit {
                return Err(Garbage("the header is too long"));
            }
            return Ok(None);
        };
        if end > limit {
            return Err(Garbage("the header is too long"));
        }
        let head = buffer.split_to(end).freeze();
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            &head,
            &mut fields,
        );
        match parsed {
            Ok(httparse::Status::Complete(length)) if length == end => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Garbage("too many fields")),
            _ => return Err(Garbage("the header is malformed")),
        }
        let status = StatusCode::from_u16(response.code.unwrap_or(0))
            .map_err(|_| Garbage("the status is out of range"))?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Garbage("it switches protocols unasked"));
        }
        if status.is_informational() {
            continue;
        }
        let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        return finish(&head, response.headers, version, status, to_head, std::mem::take(headers)).map(Some);
    }
}

fn finish(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
    version: Version,
    status: StatusCode,
    to_head: bool,
    mut headers: HeaderMap,
) -> Result<ResponseHead, Garbage> {
    let mut length = None;
    let mut chunked = false;
    let mut options = Options::default();
    headers.reserve(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Garbage("a field's name"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Garbage("a field's value"))?;
        if name == CONTENT_LENGTH {
            let this = digits(value.as_bytes()).ok_or(Garbage("Content-Length is no number"))?;
            if length.replace(this).is_some() {
                return Err(Garbage("there are two Content-Length fields"));
            }
            if status == StatusCode::NO_CONTENT {
                continue;
            }
        } else if name == TRANSFER_ENCODING {
            if chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Garbage("a transfer coding that was not asked for"));
            }
            chunked = true;
            continue;
        } else if name == CONNECTION {
            options.add(value.as_bytes());
            continue;
        } else if is_hop_by_hop(&name) {
            continue;
        }
        headers.append(name, value);
    }
    for name in options.named {
        headers.remove(name);
    }
    let keep_alive = !options.close && (options.keep_alive || version == Version::HTTP_11);
    let bodiless = to_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let body = match (bodiless, chunked, length) {
        (_, true, Some(_)) => return Err(Garbage("both Content-Length and Transfer-Encoding")),
        (_, true, None) if version != Version::HTTP_11 => {
            return Err(Garbage("Transfer-Encoding in HTTP/1.0"));
        }
        (true, ..) => Decoder::Length(0),
        (_, true, None) => Decoder::Chunked(Chunked::Size),
        (_, false, Some(length)) => Decoder::Length(length),
        (_, false, None) => Decoder::Close,
    };
    Ok(ResponseHead { status, headers, keep_alive: keep_alive && body != Decoder::Close, body })
}

/// What Connection says.
#[derive(Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    named: Vec<HeaderName>,
}

impl Options {
    fn add(&mut self, value: &[u8]) {
        for option in options(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else {
                self.named.extend(may_be_named(option));
            }
        }
    }
}

/// Position after the empty line; lines may end in LF alone (RFC 9112, 2.2).
fn end_of_head(buffer: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', buffer).find_map(|at| match &buffer[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn digits(value: &[u8]) -> Option<u64> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    plain.then(|| str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// The rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// Chunked.
    Chunked(Chunked),
    /// Until the endpoint closes.
    Close,
}

/// What comes next in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Chunked {
    /// A chunk's size.
    Size,
    /// So many bytes of a chunk, more than none.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// Trailer fields and the empty line.
    Trailers,
    /// Nothing.
    Done,
}

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, more than none.
    Data(Bytes),
    /// Trailer fields; the body is complete.
    Trailers(HeaderMap),
    /// The body is complete.
    End,
    /// More must be read.
    More,
}

impl Decoder {
    /// The length, if it is known in advance.
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes the next piece off the buffer.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Garbage> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(take(buffer, left)),
            Self::Close if buffer.is_empty() => Ok(Piece::More),
            Self::Close => Ok(Piece::Data(buffer.split().freeze())),
            Self::Chunked(state) => state.next(buffer),
        }
    }

    /// Whether the body is complete if the endpoint closes now.
    pub(super) fn may_close(self) -> bool {
        matches!(self, Self::Close | Self::Length(0) | Self::Chunked(Chunked::Done))
    }
}

impl Chunked {
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, Garbage> {
        loop {
            match self {
                Self::Done => return Ok(Piece::End),
                Self::Size => {
                    let Some(end) = memchr::memchr(b'\n', &buffer[..buffer.len().min(MAX_SIZE_LINE)]) else {
                        return if buffer.len() < MAX_SIZE_LINE {
                            Ok(Piece::More)
                        } else {
                            Err(Garbage("a chunk's size is too long"))
                        };
                    };
                    let size = chunk_size(&buffer[..end])?;
                    buffer.advance(end + 1);
                    *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                }
                Self::Data(left) => {
                    let piece = take(buffer, left);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(piece);
                }
                Self::DataEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(Garbage("a chunk is longer than its size")),
                },
                Self::Trailers => return self.trailers(buffer),
            }
        }
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Piece, Garbage> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            *self = Self::Done;
            return Ok(Piece::End);
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let parsed = httparse::parse_headers(buffer, &mut fields).map_err(|_| Garbage("a trailer field"))?;
        let httparse::Status::Complete((end, fields)) = parsed else {
            return if buffer.len() < MAX_TRAILERS {
                Ok(Piece::More)
            } else {
                Err(Garbage("the trailers are too long"))
            };
        };
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name =
                HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Garbage("a trailer's name"))?;
            let value = HeaderValue::from_bytes(field.value).map_err(|_| Garbage("a trailer's value"))?;
            // Framing is the header's business (RFC 9110, 6.5.1).
            if !is_hop_by_hop(&name) && name != CONTENT_LENGTH {
                trailers.append(name, value);
            }
        }
        buffer.advance(end);
        *self = Self::Done;
        Ok(Piece::Trailers(trailers))
    }
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> Piece {
    if buffer.is_empty() {
        return Piece::More;
    }
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= here as u64;
    Piece::Data(buffer.split_to(here).freeze())
}

/// Reads `1A;name=value\r`.
fn chunk_size(line: &[u8]) -> Result<u64, Garbage> {
    let line = line.strip_suffix(b"\r").ok_or(Garbage("a chunk's size ends without CR"))?;
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let extended = matches!(line[digits..].trim_ascii_start(), [] | [b';', ..]);
    if digits == 0 || digits > 15 || !extended {
        return Err(Garbage("a chunk's size"));
    }
    let size = str::from_utf8(&line[..digits]).ok().and_then(|d| u64::from_str_radix(d, 16).ok());
    size.ok_or(Garbage("a chunk's size"))
}

#[cfg(test)]
mod tests;
