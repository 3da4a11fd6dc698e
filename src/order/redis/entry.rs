//! Entries of the stream in Redis: batches, forks and ticks.
//!
//! An entry's id is `<last offset>-0`; a tick takes no offset and is `<newest offset>-<k>`. Each entry has a *tag* of its
//! own, and the tag of the batch or fork before it. A tag is made for one execution of one command and never again, so two
//! logs that have the same tag at an offset are the same up to there.

use std::fmt;

use bytes::Bytes;

use crate::order::redis::terms;
use crate::types::lineage::Lineage;
use crate::types::position::Offset;

/// The id of an entry. The order of ids is the order of entries.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct EntryId {
    /// The offset of its last event, or of the newest before it.
    pub offset: Offset,
    /// 0 for batches and forks.
    pub sub: u64,
}

impl EntryId {
    /// The id of the batch or fork that ends at `offset`.
    #[must_use]
    pub fn at(offset: Offset) -> Self {
        Self { offset, sub: 0 }
    }

    /// Reads an id as Redis writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (offset, sub) = text.split_once('-')?;
        Some(Self { offset: offset.parse().ok()?, sub: sub.parse().ok()? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.offset, self.sub)
    }
}

/// What is kept of a tag: 64 bits of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mark(u64);

impl Mark {
    /// The mark of a tag (FNV-1a: tags are not chosen by strangers).
    #[must_use]
    pub fn of(tag: &str) -> Self {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(tag.bytes().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

/// One entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// Its id.
    pub id: EntryId,
    /// Its tag.
    pub tag: String,
    /// The mark of the batch or fork before it.
    pub before: Mark,
    /// When it was appended, by the clock of Redis: milliseconds since 1970. Nothing is decided by it.
    pub time_ms: u64,
    /// What it is.
    pub content: Content,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Batches, one after the other.
    Batches(Vec<PlacedBatch>),
    /// A new term begins here.
    Fork(Lineage),
    /// A sign of life.
    Tick,
}

/// A batch in an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlacedBatch {
    /// Which of the batches of its append it is.
    pub index: usize,
    /// Offset of its first event.
    pub first: Offset,
    /// Number of its events, at least 1.
    pub count: u32,
    /// The batch.
    pub body: Bytes,
}

impl LogEntry {
    /// Reads an entry from its id and fields. `None` if it is not one that `append` or `attach` wrote.
    #[must_use]
    pub fn parse(id: &str, fields: &[(Bytes, Bytes)]) -> Option<Self> {
        let id = EntryId::parse(id)?;
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let text = |name| std::str::from_utf8(field(name)?).ok();
        let content = match text("t") {
            Some(lineage) => Content::Fork(terms::parse(lineage)?),
            None if text("c")? == "0" => Content::Tick,
            None => Content::Batches(batches(id.offset, text("c")?, field("b")?)?),
        };
        let (tag, time_ms) = (text("g")?.to_owned(), text("m")?.parse().ok()?);
        Some(Self { id, tag, before: Mark::of(text("p")?), time_ms, content })
    }

    /// Number of events.
    #[must_use]
    pub fn events(&self) -> u64 {
        match &self.content {
            Content::Batches(batches) => batches.iter().map(|batch| u64::from(batch.count)).sum(),
            Content::Fork(_) | Content::Tick => 0,
        }
    }

    /// Bytes of its batches.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Batches(batches) => batches.iter().map(|batch| batch.body.len()).sum(),
            Content::Fork(_) | Content::Tick => 0,
        }
    }
}

/// Number of events that the field `c` of an entry counts. `None` if it is no such field.
#[must_use]
pub fn events_of(counts: &str) -> Option<u64> {
    match counts {
        "0" => Some(0),
        counts => counts.split(',').map(|text| Some(u64::from(pieces(text)?.1))).sum(),
    }
}

/// How the field `c` counts one batch: `<index>:<count>:<length>`.
#[must_use]
pub fn piece(index: usize, count: u32, length: usize) -> String {
    format!("{index}:{count}:{length}")
}

/// Index, count of events and length of one batch, as [`piece`] writes them.
fn pieces(text: &str) -> Option<(usize, u32, usize)> {
    let mut pieces = text.split(':');
    let read = (pieces.next()?.parse().ok()?, pieces.next()?.parse().ok()?, pieces.next()?.parse().ok()?);
    (pieces.next().is_none() && read.1 > 0).then_some(read)
}

/// The batches of an entry that ends at `last`.
fn batches(last: Offset, counts: &str, body: &Bytes) -> Option<Vec<PlacedBatch>> {
    let mut first = last.checked_sub(events_of(counts)?)? + 1;
    let mut at = 0_usize;
    let mut batch = |text| {
        let (index, count, length) = pieces(text)?;
        let end = at.checked_add(length).filter(|end| *end <= body.len())?;
        let batch = PlacedBatch { index, first, count, body: body.slice(at..end) };
        first += u64::from(count);
        at = end;
        Some(batch)
    };
    let batches: Option<Vec<_>> = counts.split(',').map(&mut batch).collect();
    batches.filter(|_| at == body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(id: &str, fields: &[(&'static str, &'static str)]) -> Option<LogEntry> {
        let fields: Vec<_> = fields.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        LogEntry::parse(id, &fields)
    }

    #[test]
    fn batches_are_cut_out_of_their_entry() {
        let fields = [("g", "a:1.1"), ("c", "0:2:3,2:1:2"), ("m", "7"), ("p", "x"), ("b", "abcde")];
        let entry = parse("12-0", &fields).expect("an entry");
        let Content::Batches(batches) = &entry.content else { panic!("{entry:?}") };
        let cut: Vec<_> = batches.iter().map(|b| (b.index, b.first, b.count, &b.body[..])).collect();
        assert_eq!(cut, [(0, 10, 2, &b"abc"[..]), (2, 12, 1, &b"de"[..])]);
        assert_eq!((entry.events(), entry.bytes(), entry.before), (3, 5, Mark::of("x")));
    }

    #[test]
    fn what_the_scripts_did_not_write_is_no_entry() {
        let counts =
            ["", "0:2", "0:0:5", "0:2:6", "0:2:4", "0:13:5", "x:1:5", "0:1:5:1", "0:1:99999999999999999999"];
        for counts in counts {
            let fields = [("g", "a:1.1"), ("c", counts), ("m", "7"), ("p", "x"), ("b", "abcde")];
            assert_eq!(parse("12-0", &fields), None, "{counts}");
        }
        assert_eq!(parse("12-0", &[("c", "0:1:1"), ("m", "7"), ("p", "x"), ("b", "a")]), None);
        assert_eq!(parse("12-0", &[("g", "e"), ("m", "7"), ("p", ""), ("t", "nonsense")]), None);
        assert_eq!(parse("12", &[("g", "e"), ("c", "0"), ("m", "7"), ("p", "")]), None);
    }

    #[test]
    fn ids_are_ordered_as_in_redis() {
        let mut ids = ["9-0", "10-0", "9-1"].map(|id| EntryId::parse(id).expect("an id"));
        ids.sort();
        assert_eq!(ids.map(|id| id.to_string()), ["9-0", "9-1", "10-0"]);
        assert_eq!(EntryId::parse("9"), None);
    }
}
