//! Records: what a segment is made of.
//!
//! ```text
//! record  := length u32, checksum u32, payload[length]       all numbers little-endian
//! payload := 1, version u8, segment u64, after u64, given u64, terms    a header: the first record of a segment
//!          | 2, first u64, count u32, unix_us u64, body                 a batch of `count` entries, at the positions from `first` on
//!          | 3, newest u64                                              a clean end
//! terms   := count u8, (epoch[6], first u64, last u64)*
//! ```
//!
//! The checksum is CRC-32 (IEEE 802.3) over the segment's number and the payload: a record that another file left in the
//! same blocks of the disk is none. A length of 0 ends the segment.

use crate::types::lineage::{Lineage, Term};
use crate::types::position::{EPOCH_BYTES, Epoch, Offset};

/// The version of this format.
pub const VERSION: u8 = 1;

/// Bytes before a payload.
pub const HEAD_BYTES: usize = 8;

/// Bytes of a batch's payload before its body.
pub const BATCH_BYTES: usize = 1 + 8 + 4 + 8;

/// A record that was read.
#[derive(Debug, Eq, PartialEq)]
pub enum Record<'b> {
    /// The first record of a segment.
    Header(Header),
    /// A batch.
    Batch(Batch<'b>),
    /// The log was closed with this newest position.
    End(Offset),
}

/// The head of a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The version of the format. Nothing else is known of a segment of another one.
    pub version: u8,
    /// The number of the segment.
    pub segment: u64,
    /// The newest position before it. Batches above it in earlier segments do not count.
    pub after: Offset,
    /// The newest position before it that was given to a batch, committed or not. No batch gets it again.
    pub given: Offset,
    /// The terms of the order from here on.
    pub lineage: Lineage,
}

/// A batch of entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Batch<'b> {
    /// The position of its first entry.
    pub first: Offset,
    /// Its entries, at least 1. They are at successive positions.
    pub count: u32,
    /// When it was committed, in microseconds since 1970.
    pub unix_us: u64,
    /// The entries.
    pub body: &'b [u8],
}

impl Batch<'_> {
    /// The position of its last entry.
    #[must_use]
    pub fn last(&self) -> Offset {
        self.first.saturating_add(u64::from(self.count).saturating_sub(1))
    }
}

/// What is at a place in a segment.
#[derive(Debug, Eq, PartialEq)]
pub enum Read<'b> {
    /// A record, and where the next one is.
    Record(Record<'b>, usize),
    /// Nothing: here the segment ends.
    Nothing,
    /// Something that is no record. The place behind it, if its length is to be believed.
    Damaged(Option<usize>),
}

/// Reads the record of segment number `segment` at `at` in its `bytes`.
#[must_use]
pub fn read(segment: u64, bytes: &[u8], at: usize) -> Read<'_> {
    let Some(head) = bytes.get(at..at + HEAD_BYTES) else {
        let is_empty = bytes.get(at..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0));
        return if is_empty { Read::Nothing } else { Read::Damaged(None) };
    };
    let (len, checksum) = (u32_at(head, 0) as usize, u32_at(head, 4));
    if len == 0 && checksum == 0 {
        return Read::Nothing;
    }
    let start = at + HEAD_BYTES;
    let Some(payload) = start.checked_add(len).and_then(|end| bytes.get(start..end)).filter(|_| len > 0)
    else {
        return Read::Damaged(None);
    };
    let next = start + len;
    if checksum_of(segment, &[payload]) != checksum {
        return Read::Damaged(Some(next));
    }
    match parse(payload) {
        Some(record) => Read::Record(record, next),
        None => Read::Damaged(Some(next)),
    }
}

/// Appends a record to `out`, whose payload is `head` and then `body`.
fn put(segment: u64, head: &[u8], body: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(head.len() + body.len()).expect("bodies are bounded far below 4 GiB");
    out.extend(len.to_le_bytes());
    out.extend(checksum_of(segment, &[head, body]).to_le_bytes());
    out.extend(head);
    out.extend(body);
}

/// Appends a header to `out`.
pub fn put_header(header: &Header, out: &mut Vec<u8>) {
    let mut payload = vec![1, header.version];
    payload.extend(header.segment.to_le_bytes());
    payload.extend(header.after.to_le_bytes());
    payload.extend(header.given.to_le_bytes());
    let terms = header.lineage.terms();
    payload.push(u8::try_from(terms.len()).expect("a lineage has at most 64 terms"));
    for term in terms {
        payload.extend(term.epoch.as_str().as_bytes());
        payload.extend(term.first.to_le_bytes());
        payload.extend(term.last.to_le_bytes());
    }
    put(header.segment, &payload, &[], out);
}

/// Appends a batch to `out`.
pub fn put_batch(segment: u64, batch: &Batch<'_>, out: &mut Vec<u8>) {
    let mut head = [2; BATCH_BYTES];
    head[1..9].copy_from_slice(&batch.first.to_le_bytes());
    head[9..13].copy_from_slice(&batch.count.to_le_bytes());
    head[13..].copy_from_slice(&batch.unix_us.to_le_bytes());
    put(segment, &head, batch.body, out);
}

/// Appends a clean end to `out`.
pub fn put_end(segment: u64, newest: Offset, out: &mut Vec<u8>) {
    let mut payload = vec![3];
    payload.extend(newest.to_le_bytes());
    put(segment, &payload, &[], out);
}

fn parse(payload: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = payload.split_first()?;
    match kind {
        1 => Some(Record::Header(parse_header(rest)?)),
        2 => {
            let (first, rest) = take_u64(rest)?;
            let (count, rest) =
                rest.split_first_chunk().map(|(count, rest)| (u32::from_le_bytes(*count), rest))?;
            let (unix_us, body) = take_u64(rest)?;
            let batch = Batch { first, count, unix_us, body };
            // Positions do not wrap.
            (count > 0 && first.checked_add(u64::from(count)).is_some()).then_some(Record::Batch(batch))
        }
        3 => take_u64(rest).filter(|(_, rest)| rest.is_empty()).map(|(newest, _)| Record::End(newest)),
        _ => None,
    }
}

fn parse_header(bytes: &[u8]) -> Option<Header> {
    let (version, rest) = bytes.split_first()?;
    let (segment, rest) = take_u64(rest)?;
    if *version != VERSION {
        let lineage = Lineage::root(Epoch::new(0), 0);
        return Some(Header { version: *version, segment, after: 0, given: 0, lineage });
    }
    let (after, rest) = take_u64(rest)?;
    let (given, rest) = take_u64(rest)?;
    let (count, mut rest) = rest.split_first()?;
    let mut terms = Vec::new();
    for _ in 0..*count {
        let (epoch, more) = rest.split_at_checked(EPOCH_BYTES)?;
        let epoch = std::str::from_utf8(epoch).ok().and_then(Epoch::parse)?;
        let (first, more) = take_u64(more)?;
        let (last, more) = take_u64(more)?;
        terms.push(Term { epoch, first, last });
        rest = more;
    }
    let lineage = Lineage::of(terms).filter(|_| rest.is_empty())?;
    Some(Header { version: *version, segment, after, given, lineage })
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u64::from_le_bytes(*number), rest))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn checksum_of(segment: u64, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let mut lineage = Lineage::root(Epoch::new(1), 0);
        lineage.fork(5, 5, Epoch::new(2));
        Header { version: VERSION, segment: 7, after: 5, given: 6, lineage }
    }

    #[test]
    fn what_is_written_is_read() {
        let batch = Batch { first: 6, count: 3, unix_us: 99, body: b"abc" };
        let mut bytes = Vec::new();
        put_header(&header(), &mut bytes);
        put_batch(7, &batch, &mut bytes);
        put_end(7, 8, &mut bytes);
        bytes.extend([0; 20]);
        let Read::Record(Record::Header(first), next) = read(7, &bytes, 0) else { panic!("a header") };
        assert_eq!(first, header());
        let Read::Record(Record::Batch(second), next) = read(7, &bytes, next) else { panic!("a batch") };
        assert_eq!((second, second.last()), (batch, 8));
        let Read::Record(Record::End(8), next) = read(7, &bytes, next) else { panic!("an end") };
        assert_eq!(read(7, &bytes, next), Read::Nothing);
    }

    /// Each bit of a record is covered, and the file it is in.
    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let batch = Batch { first: 6, count: 3, unix_us: 99, body: b"abc" };
        let mut bytes = Vec::new();
        put_batch(7, &batch, &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(7, &damaged, 0), Read::Damaged(_)), "bit {bit}");
        }
        assert_eq!(read(8, &bytes, 0), Read::Damaged(Some(bytes.len())), "it is another file's");
    }

    /// Nothing that is read from a disk panics, whatever its lengths say.
    #[test]
    fn any_bytes_are_read_as_something() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let mut payload: Vec<u8> = (0..rng.usize(0..60)).map(|_| rng.u8(..4)).collect();
            let mut bytes = Vec::new();
            put(7, &payload, &[], &mut bytes);
            // A valid checksum over anything.
            let _ = read(7, &bytes, 0);
            rng.fill(&mut payload);
            let _ = read(7, &payload, rng.usize(0..80));
        }
    }

    #[test]
    fn a_header_of_another_version_says_so_and_nothing_else() {
        let mut bytes = Vec::new();
        put_header(&Header { version: 9, ..header() }, &mut bytes);
        let Read::Record(Record::Header(read), _) = read(7, &bytes, 0) else { panic!("a header") };
        assert_eq!((read.version, read.segment, read.after), (9, 7, 0));
    }
}
