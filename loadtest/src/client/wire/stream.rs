//! A whole response: framing, then gzip if the server chose it, then events.

use std::io::Write;
use std::time::Duration;

use flate2::write::GzDecoder;

use super::WireError;
use super::body::{Body, Head};
use super::events::{Events, Seen};

/// What to do with a compressed body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnGzip {
    /// Inflate and check every event. Costs about 48 KiB a connection.
    #[default]
    Inflate,
    /// Only count bytes.
    Count,
}

/// How a stream stood when it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The last chunk had come, after a whole event.
    Finished,
    /// No last chunk, but neither a chunk nor an event was cut.
    Boundary,
    /// In the middle of a chunk or an event.
    Torn,
}

/// One connection's incoming half.
#[derive(Debug, Default)]
pub struct Stream {
    body: Body,
    events: Events,
    inflate: Option<Box<GzDecoder<Vec<u8>>>>,
    on_gzip: OnGzip,
    is_counted: bool,
    /// Bytes of body without framing, as sent.
    body_bytes: u64,
}

impl Stream {
    /// A stream that has read nothing.
    #[must_use]
    pub fn new(on_gzip: OnGzip) -> Self {
        Self { on_gzip, ..Self::default() }
    }

    /// Remembers ids from now on, beginning with `id`; empty for none.
    pub fn keep_id(&mut self, id: Vec<u8>) {
        self.events.keep_id(id);
    }

    /// The id to come back with; empty for none.
    #[must_use]
    pub fn last_id(&self) -> &[u8] {
        self.events.last_id()
    }

    /// The time to wait before a reconnect, by the server's `retry:`.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.events.retry()
    }

    /// Reads on; `out` gets every complete event. A counted stream has no events but reports [`Seen::Connected`] with
    /// its first bytes.
    ///
    /// # Errors
    ///
    /// The first thing that can't be right; the stream is then of no further use.
    pub fn feed(&mut self, bytes: &[u8], out: &mut impl FnMut(Seen)) -> Result<(), WireError> {
        let Self { body, events, inflate, on_gzip, is_counted, body_bytes } = self;
        body.feed(bytes, &mut |head: Head, slice| {
            *body_bytes += slice.len() as u64;
            match (head.is_gzip, *on_gzip) {
                (false, _) => events.feed(slice, out),
                (true, OnGzip::Inflate) => inflated(inflate, slice, events, out),
                (true, OnGzip::Count) => {
                    if !std::mem::replace(is_counted, true) {
                        out(Seen::Connected(None));
                    }
                    Ok(())
                }
            }
        })
    }

    /// Whether the response's head has arrived whole.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.body.is_open()
    }

    /// How the stream stands, should it end here.
    #[must_use]
    pub fn ending(&self) -> Ending {
        if !self.body.is_between_chunks() || !self.events.is_between_events() {
            Ending::Torn
        } else if self.body.is_done() {
            Ending::Finished
        } else {
            Ending::Boundary
        }
    }

    /// Whether this stream is compressed and only counted.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// Whether this stream is compressed and inflated.
    #[must_use]
    pub fn is_inflated(&self) -> bool {
        self.inflate.is_some()
    }

    /// Bytes of body without chunk framing, as they were sent.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

fn inflated(
    inflate: &mut Option<Box<GzDecoder<Vec<u8>>>>,
    slice: &[u8],
    events: &mut Events,
    out: &mut impl FnMut(Seen),
) -> Result<(), WireError> {
    let decoder = inflate.get_or_insert_with(|| Box::new(GzDecoder::new(Vec::new())));
    // The flush hands over everything the server has closed with a sync flush so far.
    decoder.write_all(slice).and_then(|()| decoder.flush()).map_err(|_| WireError::Gzip)?;
    events.feed(decoder.get_ref(), out)?;
    decoder.get_mut().clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::super::events::Stamp;
    use super::*;

    /// Small and seeded: the same splits on every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).unwrap_or(0) % bound
        }
    }

    fn blocks() -> Vec<Vec<u8>> {
        let connected = b"retry: 3127\nevent: connected\nid: e-0\ndata: {\"user\":\"u\"}\n\n".to_vec();
        let mut blocks = vec![connected, b": beat\nid: e-0\n\n".to_vec()];
        blocks.extend((0..50).map(|seq| {
            format!("id: e-{seq}\ndata: {seq} {} {}\n\n", seq * 1000, "x".repeat(seq)).into_bytes()
        }));
        blocks
    }

    fn wanted() -> Vec<Seen> {
        let stamps = (0..50).map(|seq| {
            let line = format!("{seq} {} {}", seq * 1000, "x".repeat(seq));
            let seq = seq as u64;
            let data_bytes = u32::try_from(line.len()).expect("short");
            Seen::Stamped(Stamp { seq, published_ns: seq * 1000, data_bytes })
        });
        std::iter::once(Seen::Connected(None)).chain(stamps).collect()
    }

    fn head(extra: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{extra}\r\n").into_bytes()
    }

    /// Chunk-frames `text` with boundaries anywhere.
    fn chunked(mut text: &[u8], random: &mut Random, wire: &mut Vec<u8>) {
        while !text.is_empty() {
            let (chunk, rest) = text.split_at(1 + random.below(text.len().min(200)));
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
            text = rest;
        }
    }

    fn read(wire: &[u8], on_gzip: OnGzip, mut piece: impl FnMut() -> usize) -> (Vec<Seen>, Stream) {
        let mut stream = Stream::new(on_gzip);
        let mut seen = Vec::new();
        let mut rest = wire;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece().min(rest.len()));
            stream.feed(now, &mut |event| seen.push(event)).expect("valid");
            rest = later;
        }
        (seen, stream)
    }

    #[test]
    fn random_chunks_and_splits_give_the_same_events() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let mut wire = head("");
            chunked(&blocks().concat(), &mut random, &mut wire);
            let (seen, stream) = read(&wire, OnGzip::Inflate, || 1 + random.below(300));
            assert_eq!(seen, wanted(), "seed {seed}");
            assert_eq!(stream.ending(), Ending::Boundary);
            let (seen, _) = read(&wire, OnGzip::Inflate, || 1);
            assert_eq!(seen, wanted(), "seed {seed}, one by one");
        }
    }

    #[test]
    fn the_last_chunk_finishes_and_a_cut_tears() {
        let mut wire = head("");
        chunked(&blocks().concat(), &mut Random(7), &mut wire);
        let torn = read(&wire[..wire.len() - 3], OnGzip::Inflate, || 64).1;
        assert_eq!(torn.ending(), Ending::Torn);
        wire.extend_from_slice(b"0\r\n\r\n");
        let finished = read(&wire, OnGzip::Inflate, || 64).1;
        assert_eq!(finished.ending(), Ending::Finished);
    }

    /// A gzip header, then raw deflate segments closed by a sync flush: what the server sends.
    fn gzip_wire(random: &mut Random) -> Vec<u8> {
        let mut wire = head("Content-Encoding: gzip\r\n");
        chunked(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], random, &mut wire);
        for block in blocks() {
            let mut deflate = Compress::new(Compression::fast(), false);
            let mut segment = Vec::with_capacity(1024);
            deflate.compress_vec(&block, &mut segment, FlushCompress::Sync).expect("fits the capacity");
            chunked(&segment, random, &mut wire);
        }
        wire
    }

    #[test]
    fn gzip_segments_are_inflated_as_they_come() {
        for seed in 0..50 {
            let mut random = Random(seed);
            let wire = gzip_wire(&mut random);
            let (seen, stream) = read(&wire, OnGzip::Inflate, || 1 + random.below(100));
            assert_eq!(seen, wanted(), "seed {seed}");
            assert!(stream.is_inflated());
        }
    }

    #[test]
    fn a_counted_stream_only_tells_that_it_is_connected() {
        let wire = gzip_wire(&mut Random(1));
        let (seen, stream) = read(&wire, OnGzip::Count, || 50);
        assert_eq!(seen, [Seen::Connected(None)]);
        assert!(stream.is_counted() && stream.body_bytes() > 1_000);
    }
}
