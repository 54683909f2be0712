//! A second opinion on where requests begin and end: the bytes that a client sends are watched on their way to
//! hyper.
//!
//! Owns what hyper does not tell: that a request carries both Content-Length and Transfer-Encoding (hyper drops the
//! one and goes on, RFC 9112 6.3 lets a server refuse it), and whether a header has begun to arrive. Pure. Where it
//! cannot follow, hyper refuses the request.

/// Bytes of one line that are kept while it arrives in parts; a longer header is refused by hyper.
const MAX_LINE: usize = 64 * 1024;

/// Follows the framing of one client's requests.
#[derive(Debug, Default)]
pub(super) struct Watch {
    at: At,
    /// A line of which the end has not arrived.
    partial: Vec<u8>,
    /// Whether the header has its first line.
    begun: bool,
    length: Option<u64>,
    chunked: bool,
    /// Headers that are complete.
    heads: u64,
    /// The first one with both lengths.
    ambiguous: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// Framing was lost: hyper refuses this and closes.
    Lost,
}

impl Watch {
    /// Sees bytes that the client sent.
    pub(super) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Lost => return,
                At::Body(left) | At::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= here as u64;
                    bytes = &bytes[here..];
                    match self.at {
                        At::Body(0) => self.at = At::Head,
                        At::Chunk(0) => self.at = At::ChunkEnd,
                        _ => {}
                    }
                }
                At::Head | At::ChunkSize | At::ChunkEnd | At::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.partial.extend_from_slice(bytes);
                        if self.partial.len() > MAX_LINE {
                            self.at = At::Lost;
                        }
                        return;
                    };
                    if self.partial.is_empty() {
                        self.line(trim(&bytes[..end]));
                    } else {
                        let mut line = std::mem::take(&mut self.partial);
                        line.extend_from_slice(&bytes[..end]);
                        self.line(trim(&line));
                    }
                    bytes = &bytes[end + 1..];
                }
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.at = match self.at {
            At::Head if line.is_empty() && self.begun => self.end_of_head(),
            At::Head => {
                self.field(line);
                self.begun |= !line.is_empty();
                At::Head
            }
            At::ChunkSize => match chunk_size(line) {
                Some(0) => At::Trailers,
                Some(size) => At::Chunk(size),
                None => At::Lost,
            },
            At::ChunkEnd if line.is_empty() => At::ChunkSize,
            At::Trailers if line.is_empty() => At::Head,
            At::Trailers => At::Trailers,
            _ => At::Lost,
        };
    }

    fn field(&mut self, line: &[u8]) {
        // Two letters decide for nearly every line.
        let value = |name: &[u8]| {
            let rest = line.get(name.len()..)?.strip_prefix(b":")?;
            line[..name.len()].eq_ignore_ascii_case(name).then_some(rest.trim_ascii())
        };
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value(b"content-length") {
                    let digits = str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                    // What is no number is refused by hyper.
                    self.length = Some(digits.unwrap_or(0));
                }
            }
            Some(b't' | b'T') => self.chunked |= value(b"transfer-encoding").is_some(),
            _ => {}
        }
    }

    fn end_of_head(&mut self) -> At {
        self.heads += 1;
        self.begun = false;
        let length = self.length.take();
        match (std::mem::take(&mut self.chunked), length) {
            (true, None) => At::ChunkSize,
            (true, Some(_)) => {
                self.ambiguous = Some(self.heads);
                At::Lost
            }
            (false, Some(length)) if length > 0 => At::Body(length),
            (false, _) => At::Head,
        }
    }

    /// Whether the request of this number, from 1, has both lengths.
    pub(super) fn is_ambiguous(&self, request: u64) -> bool {
        self.ambiguous == Some(request)
    }

    /// Whether all that arrived so far are complete requests.
    pub(super) fn is_between(&self) -> bool {
        self.at == At::Head && !self.begun && self.partial.is_empty()
    }

    /// Whether a header has begun to arrive and is not complete.
    pub(super) fn is_within_head(&self) -> bool {
        self.at == At::Head && (self.begun || !self.partial.is_empty())
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    u64::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen of these bytes, however they are cut.
    fn seen(bytes: &[u8]) -> (u64, Option<u64>, bool, bool) {
        let look = |step: usize| {
            let mut watch = Watch::default();
            bytes.chunks(step).for_each(|part| watch.see(part));
            (watch.heads, watch.ambiguous, watch.is_between(), watch.is_within_head())
        };
        let whole = look(bytes.len());
        for step in 1..bytes.len() {
            assert_eq!(look(step), whole, "step {step} of {:?}", String::from_utf8_lossy(bytes));
        }
        whole
    }

    #[test]
    fn requests_are_followed() {
        for (bytes, heads, ambiguous, between, within) in [
            (&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], 1, None, true, false),
            (b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", 1, None, true, false),
            (b"GET / HTTP/1.1\nhost: a\n\nGET / HTTP/1.1\n", 1, None, false, true),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGE", 1, None, false, true),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 1, None, false, false),
            (b"POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n3;x\r\n\r\n\n\r\n0\r\na: b\r\n\r\nG / H\r\n\r\n",
                2, None, true, false),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n", 1, Some(1), false, false),
            (b"GET / HTTP/1.1\r\n\r\nP / H\r\ncontent-length:5\r\ntransfer-encoding : x\r\ntransfer-encoding: x\r\n\r\n",
                2, Some(2), false, false),
            (b"P / H\r\ntransfer-encoding: chunked\r\n\r\n1c\r\ncontent-length: 4\r\n\r\nGET / \r\n0\r\n\r\n",
                1, None, true, false),
        ] {
            assert_eq!(seen(bytes), (heads, ambiguous, between, within), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_is_lost_stays_bounded() {
        let mut watch = Watch::default();
        for _ in 0..1_000 {
            watch.see(&[b'x'; 1_000]);
        }
        assert_eq!(watch.at, At::Lost);
        assert!(watch.partial.len() <= MAX_LINE + 1_000);
    }
}
