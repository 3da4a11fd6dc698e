//! A gzip stream made of segments that do not depend on each other.
//!
//! After the member header (RFC 1952 §2.3) each batch is one run of raw deflate blocks (RFC 1951) that refers to no
//! earlier data and ends on a byte boundary with a sync flush. Any sequence of such segments is valid deflate, so a
//! batch is compressed once for all streams and no connection owns a compressor (256 KiB each in servers that do). The price is
//! a cold dictionary at each flush, and no CRC trailer when the stream ends: like every SSE stream, it simply stops.

use flate2::{Compress, Compression, FlushCompress};

/// The member header: deflate, no flags, no time, unknown system.
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Longest stored block (RFC 1951 §3.2.4).
const STORED_BYTES_MAX: usize = 0xffff;

/// Compresses plain bytes into segments. One per shard.
pub struct Deflater {
    compress: Compress,
}

impl Default for Deflater {
    fn default() -> Self {
        // Level 1 halves the CPU of the default; on short batches of similar events it gives up a few per cent.
        Self { compress: Compress::new(Compression::fast(), false) }
    }
}

impl Deflater {
    /// Appends `plain` to `out` as one compressed segment.
    ///
    /// # Panics
    ///
    /// Never in practice: deflate into a growing buffer has no failing case.
    pub fn segment(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.compress.reset();
        let mut read = 0;
        loop {
            out.reserve(plain.len() / 2 + 64);
            let before = self.compress.total_in();
            self.compress
                .compress_vec(&plain[read..], out, FlushCompress::Sync)
                .expect("raw deflate accepts any input");
            read += usize::try_from(self.compress.total_in() - before).expect("no more than was given");
            // zlib: a sync flush is complete once it leaves output space unused.
            if read == plain.len() && out.len() < out.capacity() {
                return;
            }
        }
    }
}

/// Appends `plain` to `out` as stored blocks: for the few bytes that are for one connection only.
pub fn stored(plain: &[u8], out: &mut Vec<u8>) {
    for block in plain.chunks(STORED_BYTES_MAX) {
        let len = u16::try_from(block.len()).expect("chunks of STORED_BYTES_MAX");
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Decodes what has arrived so far, as a browser does; the missing trailer is no error until the end.
    fn decode(stream: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(stream);
        let mut buf = [0; 512];
        while let Ok(n @ 1..) = decoder.read(&mut buf) {
            out.extend_from_slice(&buf[..n]);
        }
        out
    }

    #[test]
    fn any_mix_of_segments_is_one_gzip_stream() {
        let mut deflater = Deflater::default();
        let mut stream = HEADER.to_vec();
        stored(b"hello ", &mut stream);
        deflater.segment(b"compressed compressed compressed ", &mut stream);
        stored(b"again ", &mut stream);
        let long = "long ".repeat(100_000);
        deflater.segment(long.as_bytes(), &mut stream);
        stored(long.as_bytes(), &mut stream);
        let want = format!("hello compressed compressed compressed again {long}{long}");
        assert_eq!(decode(&stream), want.as_bytes());
    }

    #[test]
    fn a_segment_is_complete_when_it_arrives() {
        let mut deflater = Deflater::default();
        let mut stream = HEADER.to_vec();
        let mut want = Vec::new();
        for size in [1, 10, 1000, 20_000] {
            let noise: Vec<u8> = (0..size).map(|_| fastrand::u8(..)).collect();
            deflater.segment(&noise, &mut stream);
            want.extend_from_slice(&noise);
            assert_eq!(decode(&stream), want);
        }
    }

    #[test]
    fn segments_can_be_left_out_without_harm() {
        let mut deflater = Deflater::default();
        let mut first = Vec::new();
        deflater.segment(b"the same words", &mut first);
        let mut second = HEADER.to_vec();
        deflater.segment(b"the same words", &mut second);
        assert_eq!(decode(&second), b"the same words");
    }
}
