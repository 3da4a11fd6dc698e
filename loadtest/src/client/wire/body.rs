//! HTTP/1.x response framing: the head once, then chunks (RFC 9112 §7.1) or bytes until close.

use super::WireError;

/// What the response head promised.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// Chunk-framed; otherwise the body ends with the connection.
    pub is_chunked: bool,
    /// The body is a gzip stream.
    pub is_gzip: bool,
}

/// Takes a response apart, one read at a time.
#[derive(Debug, Default)]
pub struct Body {
    state: State,
    /// The head so far, if it came in pieces; empty afterwards.
    carry: Vec<u8>,
    head: Head,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Head,
    Size {
        value: u32,
        digits: u8,
    },
    Extension {
        value: u32,
    },
    SizeLf {
        value: u32,
    },
    Data {
        left: u32,
    },
    DataCr,
    DataLf,
    /// `line` is the length of the current trailer line without its line end.
    Trailer {
        line: u32,
    },
    Done,
    UntilClose,
}

impl Body {
    /// Feeds bytes as they were read; `out` gets the body without its framing, in slices of `bytes`.
    ///
    /// # Errors
    ///
    /// A head, status or chunk that can't be accepted. The stream is then of no further use.
    pub fn feed<E: From<WireError>>(
        &mut self,
        bytes: &[u8],
        out: &mut impl FnMut(Head, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        if self.state == State::Head {
            rest = self.read_head(rest)?;
        }
        while !rest.is_empty() {
            match self.state {
                State::Data { left } => {
                    let take = rest.len().min(left as usize);
                    out(self.head, &rest[..take])?;
                    rest = &rest[take..];
                    // Fits: `take <= left`.
                    let left = left - u32::try_from(take).unwrap_or(left);
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                }
                State::UntilClose => {
                    out(self.head, rest)?;
                    rest = &[];
                }
                _ => {
                    self.state = step(self.state, rest[0])?;
                    rest = &rest[1..];
                }
            }
        }
        Ok(())
    }

    /// Whether the head has arrived whole.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Head
    }

    /// Whether nothing of a chunk is pending: the stream may end here without tearing one.
    #[must_use]
    pub fn is_between_chunks(&self) -> bool {
        matches!(self.state, State::Size { digits: 0, .. } | State::Done | State::UntilClose)
    }

    /// Whether the last chunk has arrived, which ends the response properly.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads the head and returns what follows it; empty while the head is incomplete.
    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], WireError> {
        let carried = self.carry.len();
        if carried == 0 {
            if let Some(len) = self.parse_head(bytes)? {
                return Ok(&bytes[len..]);
            }
            self.carry.extend_from_slice(bytes);
            return Ok(&[]);
        }
        let mut whole = std::mem::take(&mut self.carry);
        whole.extend_from_slice(bytes);
        if let Some(len) = self.parse_head(&whole)? {
            // The head wasn't complete without `bytes`, so it ends inside them.
            return Ok(&bytes[len - carried..]);
        }
        if whole.len() > HEAD_BYTES_MAX {
            return Err(WireError::Head);
        }
        self.carry = whole;
        Ok(&[])
    }

    fn parse_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, WireError> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|_| WireError::Head)?;
        let httparse::Status::Complete(len) = parsed else {
            return Ok(None);
        };
        match response.code {
            Some(200) => {}
            Some(status) => return Err(WireError::Status(status)),
            None => return Err(WireError::Head),
        }
        let says = |name: &str, value: &str| {
            response.headers.iter().any(|header| {
                header.name.eq_ignore_ascii_case(name) && header.value.eq_ignore_ascii_case(value.as_bytes())
            })
        };
        self.head = Head {
            is_chunked: says("transfer-encoding", "chunked"),
            is_gzip: says("content-encoding", "gzip"),
        };
        self.state = if self.head.is_chunked { SIZE } else { State::UntilClose };
        Ok(Some(len))
    }
}

/// One byte of framing outside chunk data.
fn step(state: State, byte: u8) -> Result<State, WireError> {
    Ok(match (state, byte) {
        (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < 8 => {
            // A hexadecimal digit is below 16, and eight of them fill the `u32`.
            let digit = char::from(byte).to_digit(16).ok_or(WireError::Chunk)?;
            State::Size { value: (value << 4) | digit, digits: digits + 1 }
        }
        (State::Size { value, digits: 1.. } | State::Extension { value }, b'\r') => State::SizeLf { value },
        (State::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { value },
        (State::Extension { value }, _) if byte != b'\n' => State::Extension { value },
        (State::SizeLf { value: 0 }, b'\n') => State::Trailer { line: 0 },
        (State::SizeLf { value }, b'\n') => State::Data { left: value },
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => SIZE,
        (State::Trailer { line: 0 }, b'\n') => State::Done,
        (State::Trailer { .. }, b'\n') => State::Trailer { line: 0 },
        (State::Trailer { line }, b'\r') => State::Trailer { line },
        (State::Trailer { line }, _) if line < LINE_BYTES_MAX => State::Trailer { line: line + 1 },
        (State::Done, _) => return Err(WireError::Trailing),
        _ => return Err(WireError::Chunk),
    })
}

/// The state before a chunk's first byte.
const SIZE: State = State::Size { value: 0, digits: 0 };
const HEAD_BYTES_MAX: usize = 64 * 1024;
const LINE_BYTES_MAX: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\nA;x=y\r\n, world...\r\n0\r\nt: 1\r\n\r\n";

    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, Body), WireError> {
        let mut body = Body::default();
        let mut text = Vec::new();
        for piece in pieces {
            body.feed(piece, &mut |_, slice| {
                text.extend_from_slice(slice);
                Ok::<(), WireError>(())
            })?;
        }
        Ok((text, body))
    }

    #[test]
    fn any_split_gives_the_same_body() {
        for at in 0..RESPONSE.len() {
            let (text, body) = read(&[&RESPONSE[..at], &RESPONSE[at..]]).expect("valid");
            assert_eq!(text, b"hello, world...", "split at {at}");
            assert!(body.is_done());
        }
        let bytes: Vec<&[u8]> = RESPONSE.chunks(1).collect();
        assert_eq!(read(&bytes).expect("valid").0, b"hello, world...");
    }

    #[test]
    fn a_cut_chunk_is_no_boundary() {
        let data_end = RESPONSE.len() - b"0\r\nt: 1\r\n\r\n".len();
        assert!(read(&[&RESPONSE[..data_end]]).expect("valid").1.is_between_chunks());
        assert!(!read(&[&RESPONSE[..data_end - 1]]).expect("valid").1.is_between_chunks());
        assert!(!read(&[&RESPONSE[..=data_end]]).expect("valid").1.is_between_chunks());
    }

    #[test]
    fn bad_framing_is_refused() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (tail, error) in [
            (&b"x\r\n"[..], WireError::Chunk),
            (b"\r\n", WireError::Chunk),
            (b"123456789\r\n", WireError::Chunk),
            (b"1\r\nab", WireError::Chunk),
            (b"0\r\n\r\n1", WireError::Trailing),
        ] {
            assert_eq!(read(&[head, tail]).expect_err("invalid"), error);
        }
        let refused = read(&[b"HTTP/1.1 503 Service Unavailable\r\n\r\n"]).expect_err("refused");
        assert_eq!(refused, WireError::Status(503));
    }

    #[test]
    fn without_chunks_the_body_is_everything() {
        let (text, body) = read(&[b"HTTP/1.0 200 OK\r\n\r\n5\r\n", b"x"]).expect("valid");
        assert_eq!(text, b"5\r\nx");
        assert!(body.is_between_chunks() && !body.is_done());
    }
}
