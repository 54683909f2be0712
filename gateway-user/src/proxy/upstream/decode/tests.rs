//! Responses by data: what is read, what is refused, and that the answer does not depend on how bytes arrive.

use super::*;

fn head(response: &str) -> Result<Option<ResponseHead>, Garbage> {
    take_head(&mut BytesMut::from(response), false, &mut HeaderMap::new(), 64 * 1024)
}

#[test]
fn garbage_is_refused() {
    for (response, why) in [
        ("\0\0\0garbage\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\n bad: fold\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n", "malformed"),
        ("HTTP/2 200 OK\r\n\r\n", "malformed"),
        ("HTTP/1.1 99 Low\r\n\r\n", "malformed|out of range"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "switches"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", "two"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5,5\r\n\r\n", "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n", "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "not asked for"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", "not asked"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.0"),
    ] {
        let error = head(response).expect_err(response).to_string();
        assert!(why.split('|').any(|w| error.contains(w)), "{response:?}: {error}");
    }
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(70_000));
    assert!(head(&long).is_err());
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert_eq!(head(&many).unwrap_err(), Garbage("too many fields"));
}

#[test]
fn framing() {
    for (response, body, keep_alive) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Decoder::Length(5), true),
        ("HTTP/1.1 200 OK\ncontent-length: 5\n\n", Decoder::Length(5), true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", Decoder::Chunked(Chunked::Size), true),
        ("HTTP/1.1 200 OK\r\n\r\n", Decoder::Close, false),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", Decoder::Length(0), true),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", Decoder::Length(0), true),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n", Decoder::Length(0), false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n", Decoder::Length(1), false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n", Decoder::Length(1), true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\nHTTP/1.1 200\r\ncontent-length: 2\r\n\r\n",
            Decoder::Length(2),
            true,
        ),
    ] {
        let head = head(response).unwrap().expect(response);
        assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{response:?}");
    }
    assert!(head("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n").unwrap().is_none());
    assert!(head("HTTP/1.1 100 Continue\r\n\r\n").unwrap().is_none());
}

#[test]
fn hop_by_hop_fields_stay_behind_and_lengths_of_bodiless_answers_stay() {
    let response = "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nx-hop: 1\r\nKeep-Alive: 3\r\nset-cookie: a\r\n\
                    set-cookie: b\r\nupgrade: h2c\r\ncontent-length: 9\r\n\r\n";
    let head =
        take_head(&mut BytesMut::from(response), true, &mut HeaderMap::new(), 1 << 16).unwrap().unwrap();
    let mut names: Vec<_> =
        head.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
    names.sort();
    assert_eq!(names, ["content-length=9", "set-cookie=a", "set-cookie=b"]);
    assert_eq!(head.body, Decoder::Length(0));
}

/// Decodes a chunked body that arrives in pieces of `step` bytes.
fn chunked(body: &[u8], step: usize) -> Result<(Vec<u8>, Option<HeaderMap>, usize), Garbage> {
    let mut decoder = Decoder::Chunked(Chunked::Size);
    let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
    let mut rest = body.chunks(step);
    loop {
        match decoder.next(&mut buffer)? {
            Piece::Data(data) => out.extend_from_slice(&data),
            Piece::Trailers(trailers) => return Ok((out, Some(trailers), buffer.len())),
            Piece::End => return Ok((out, None, buffer.len())),
            Piece::More => match rest.next() {
                Some(more) => buffer.extend_from_slice(more),
                None => return Err(Garbage("early end")),
            },
        }
    }
}

#[test]
fn chunks_however_they_arrive() {
    let body =
        b"4;name=\"v\"\r\nWiki\r\n5 \r\npedia\r\n00A\r\n in chunks\r\n0\r\nx-sum: 7\r\nhost: h\r\n\r\nNEXT";
    for step in 1..body.len() {
        let (out, trailers, _) = chunked(body, step).unwrap();
        assert_eq!(out, b"Wikipedia in chunks", "step {step}");
        assert_eq!(trailers.unwrap()["x-sum"], "7");
    }
    assert_eq!(chunked(b"0\r\n\r\nrest", 99).unwrap().2, 4);
}

#[test]
fn bad_chunks_are_refused() {
    for body in [
        &b"\r\n"[..],
        b"x\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloworld\r\n",
        b"5 5\r\nhello\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"5\r\nhel",
    ] {
        assert!(chunked(body, 3).is_err(), "{:?}", String::from_utf8_lossy(body));
    }
    assert!(chunked(&[b'1'; 2_000], 500).is_err());
}
