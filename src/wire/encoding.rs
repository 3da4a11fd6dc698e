//! Framing and compression of a connection's bytes: four ways, fixed when it joins.

use bytes::Bytes;

use crate::wire::frame::{CHUNK_HEAD_BYTES_MAX, CHUNK_TAIL, chunk_head};
use crate::wire::gzip;

/// Framing and compression of one connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Encoding {
    /// Chunks (HTTP/1.1) rather than bytes up to the close (HTTP/1.0).
    pub chunked: bool,
    /// `Content-Encoding: gzip`.
    pub gzip: bool,
}

impl Encoding {
    /// Number of different encodings.
    pub const COUNT: usize = 4;

    /// A number below [`Encoding::COUNT`], for tables.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.chunked) | usize::from(self.gzip) << 1
    }

    /// Appends bytes meant for one connection only, framed, and uncompressed inside a gzip stream.
    pub fn put(self, plain: &[u8], out: &mut Vec<u8>) {
        if !self.gzip {
            return self.put_framed(plain, out);
        }
        let mut blocks = Vec::with_capacity(plain.len() + 16);
        gzip::stored(plain, &mut blocks);
        self.put_framed(&blocks, out);
    }

    /// Appends bytes that are compressed already (or need not be), framed.
    pub fn put_framed(self, body: &[u8], out: &mut Vec<u8>) {
        if !self.chunked {
            return out.extend_from_slice(body);
        }
        let mut size = [0; CHUNK_HEAD_BYTES_MAX];
        out.extend_from_slice(chunk_head(body.len(), &mut size));
        out.extend_from_slice(body);
        out.extend_from_slice(CHUNK_TAIL);
    }

    /// [`COMMENT`](crate::wire::control::COMMENT), framed. The bytes are static: nothing is built or copied.
    #[must_use]
    pub fn comment(self) -> Bytes {
        Bytes::from_static(match (self.chunked, self.gzip) {
            (false, false) => b":\n",
            (true, false) => b"2\r\n:\n\r\n",
            (false, true) => b"\0\x02\0\xfd\xff:\n",
            (true, true) => b"7\r\n\0\x02\0\xfd\xff:\n\r\n",
        })
    }

    /// What ends the stream: the last chunk, or nothing.
    #[must_use]
    pub fn end(self) -> &'static [u8] {
        if self.chunked { b"0\r\n\r\n" } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::COMMENT;

    #[test]
    fn every_encoding_has_its_own_index() {
        let mut seen = [false; Encoding::COUNT];
        for chunked in [false, true] {
            for gzip in [false, true] {
                seen[Encoding { chunked, gzip }.index()] = true;
            }
        }
        assert_eq!(seen, [true; Encoding::COUNT]);
    }

    #[test]
    fn one_connections_bytes_are_framed_as_it_asked() {
        let put = |chunked, gzip| {
            let mut out = Vec::new();
            Encoding { chunked, gzip }.put(b":\n\n", &mut out);
            out
        };
        assert_eq!(put(false, false), b":\n\n");
        assert_eq!(put(true, false), b"3\r\n:\n\n\r\n");
        assert_eq!(put(true, true), b"8\r\n\0\x03\0\xfc\xff:\n\n\r\n");
    }

    #[test]
    fn the_ready_made_comment_is_what_would_be_made() {
        for chunked in [false, true] {
            for gzip in [false, true] {
                let encoding = Encoding { chunked, gzip };
                let mut out = Vec::new();
                encoding.put(COMMENT, &mut out);
                assert_eq!(encoding.comment(), out, "{encoding:?}");
            }
        }
    }
}
