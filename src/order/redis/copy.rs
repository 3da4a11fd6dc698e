//! An order on disk as entries of the stream in Redis: the same events at the same positions, in the same terms, with the same
//! times. So whoever has an id of the one order goes on in the other.
//!
//! What nodes would decide anew where they apply it was decided on disk: of an own id or a claim to be no repeat that came
//! more than once, only the newest event keeps it. So no node refuses what was published. Idempotency keys are claimed in
//! Redis itself, as those of nodes are.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::Bytes;

use crate::hub::Published;
use crate::hub::draft::{Claim, Claims, Draft};
use crate::hub::own_ids::Repeats;
use crate::order::change::Change;
use crate::order::disk::kept::Kept;
use crate::order::disk::record::Batch;
use crate::order::entry::{self, DecodeError, Entry};
use crate::order::redis::terms;
use crate::types::lineage::{Lineage, Term};
use crate::types::name::EventId;
use crate::types::position::Offset;

/// What an entry takes in Redis beyond its body, about.
const ENTRY_BYTES: u64 = 64;

/// What all batches of an order say, read before any is copied.
#[derive(Default)]
pub struct Survey {
    /// Where each batch above the floor begins, and its bytes.
    sizes: Vec<(Offset, u64)>,
    kept: Kept,
    claims: HashMap<u128, Claimed>,
    /// The newest event with each own id, and with each claim to be no repeat.
    ids: HashMap<EventId, Offset>,
    repeats: HashMap<u128, Offset>,
}

/// What an idempotency key was claimed for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Claimed {
    content: u128,
    first: Offset,
    last: Offset,
    until_ms: u64,
}

/// An idempotency key for Redis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// A hash of what is claimed.
    pub key: u128,
    /// What is remembered of it, as the script `append` writes it.
    pub value: String,
    /// How long it is remembered yet, in milliseconds, at least 1.
    pub rest_ms: u64,
}

impl Survey {
    /// Takes the next batch. `floor` is that of the order, and `unix_s` is now, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn add(&mut self, batch: &Batch<'_>, floor: Offset, unix_s: u64) -> Result<(), DecodeError> {
        if batch.first > floor {
            self.sizes.push((batch.first, batch.body.len() as u64 + ENTRY_BYTES));
        }
        let mut next = batch.first;
        let mut take = || {
            next += 1;
            next - 1
        };
        let unix_ms = batch.unix_us / 1000;
        entry::read(batch.body, |entry| match entry {
            Entry::Event(draft, _) => self.event(*draft, take(), unix_ms),
            Entry::Change(change, until) => self.kept.put(&change, until, take(), unix_s),
            Entry::Answer(claim, answer) => self.claim(&claim, &answer, unix_ms),
            Entry::Report(..) | Entry::Tick => _ = take(),
            Entry::Publish(..) => {}
        })
    }

    fn event(&mut self, draft: Draft, at: Offset, unix_ms: u64) {
        if let Some(once) = &draft.claims.once {
            self.claim(once, &Published::one(at, 0), unix_ms);
        }
        if let Some(repeat) = &draft.claims.repeat {
            self.repeats.insert(repeat.key, at);
        }
        if let Some(id) = draft.id {
            self.ids.insert(id, at);
        }
    }

    fn claim(&mut self, claim: &Claim, answer: &Published, unix_ms: u64) {
        let until_ms = unix_ms.saturating_add(u64::try_from(claim.time.as_millis()).unwrap_or(u64::MAX));
        let first = (answer.offset + 1).saturating_sub(answer.events.max(1).into());
        let claimed = Claimed { content: claim.content, first, last: answer.offset, until_ms };
        self.claims.insert(claim.key, claimed);
    }

    /// The position after which the newest batches begin that have `bytes_max` at most. An order that has none begins at
    /// `newest`.
    #[must_use]
    pub fn start(&self, newest: Offset, bytes_max: u64) -> Offset {
        let (mut bytes, mut start) = (0, newest);
        for (first, size) in self.sizes.iter().rev() {
            bytes += size;
            if bytes > bytes_max {
                break;
            }
            start = first - 1;
        }
        start
    }

    /// The changes up to `start` that are in force at `unix_s`, and until when: the copy does not have them.
    pub fn changes_before(&mut self, start: Offset, unix_s: u64) -> Vec<(Change, u64)> {
        self.kept.up_to(start, unix_s)
    }

    /// The idempotency keys that are remembered at `unix_ms`.
    #[must_use]
    pub fn keys(&self, lineage: &Lineage, unix_ms: u64) -> Vec<Key> {
        let key = |(key, claimed): (&u128, &Claimed)| {
            let Claimed { content, first, last, until_ms } = *claimed;
            let rest_ms = until_ms.checked_sub(unix_ms).filter(|rest| *rest > 0)?;
            let epoch = lineage.terms().iter().rev().find(|term| term.first < last)?.epoch;
            Some(Key { key: *key, value: format!("{epoch} {first} {last} {content:032x}"), rest_ms })
        };
        self.claims.iter().filter_map(key).collect()
    }
}

/// An entry to be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The offset at which it ends.
    pub offset: Offset,
    /// Its fields.
    pub fields: Vec<(&'static str, Bytes)>,
}

/// Makes entries of batches.
pub struct Copy<'s> {
    survey: &'s Survey,
    lineage: Lineage,
    /// Names the copy in tags.
    name: String,
    /// Everything above the start up to here has its entry.
    at: Offset,
    /// The tag of the newest entry.
    tag: String,
    count: u64,
    rows: Vec<Row>,
}

impl<'s> Copy<'s> {
    /// Copies what is above `start`. `name` is in the tags, and was never used before: `[a-z0-9]`.
    #[must_use]
    pub fn new(survey: &'s Survey, lineage: Lineage, start: Offset, name: String) -> Self {
        let is_around = |pair: &&[Term]| pair[0].last < start && start < pair[1].first;
        // Between two terms there is nothing.
        let at = lineage.terms().windows(2).find(is_around).map_or(start, |pair| pair[0].last);
        let tag = format!("{name}:0");
        Self { survey, lineage, name, at, tag, count: 0, rows: Vec::new() }
    }

    /// Where the newest entry ends, and its tag.
    #[must_use]
    pub fn end(&self) -> (Offset, &str) {
        (self.at, &self.tag)
    }

    /// The entries of the next batch, and of what is before it.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn batch(&mut self, batch: &Batch<'_>) -> Result<Vec<Row>, DecodeError> {
        if batch.first <= self.at {
            return Ok(Vec::new());
        }
        let time_ms = batch.unix_us / 1000;
        self.up_to(batch.first, time_ms);
        let mut parts = Parts::default();
        let mut at = batch.first;
        let mut take = || {
            at += 1;
            at - 1
        };
        entry::read(batch.body, |entry| match entry {
            Entry::Event(draft, _) => {
                let at = take();
                match self.kept(*draft, at) {
                    Some(draft) => parts.push(&of_event(&draft)),
                    None => parts.pass(1),
                }
            }
            Entry::Change(change, until) => {
                take();
                let mut body = vec![entry::VERSION];
                entry::put_change(&change, until, &mut body);
                parts.push(&body);
            }
            Entry::Report(..) | Entry::Tick => {
                take();
                parts.pass(1);
            }
            Entry::Answer(..) | Entry::Publish(..) => {}
        })?;
        self.write(parts, batch.last(), time_ms);
        Ok(std::mem::take(&mut self.rows))
    }

    /// The last entries, so that the copy ends at `newest`, or where the newest term begins. It was written at `time_ms`.
    pub fn finish(&mut self, newest: Offset, time_ms: u64) -> Vec<Row> {
        self.up_to(newest.max(self.lineage.newest().first) + 1, time_ms);
        std::mem::take(&mut self.rows)
    }

    /// Writes what is missing below `first`: beginnings of terms, and positions that no entry of the order has.
    fn up_to(&mut self, first: Offset, time_ms: u64) {
        let terms = self.lineage.terms().to_vec();
        let mut before = None;
        for (index, term) in terms.iter().enumerate() {
            if self.at < term.first && term.first < first {
                if let Some(Term { last, .. }) = before {
                    self.pass_to(last, time_ms);
                }
                self.fork(&terms[..=index], time_ms);
            }
            before = Some(*term);
        }
        self.pass_to(first - 1, time_ms);
    }

    fn pass_to(&mut self, last: Offset, time_ms: u64) {
        while self.at < last {
            let mut parts = Parts::default();
            let count = u32::try_from(last - self.at).unwrap_or(u32::MAX);
            parts.pass(count);
            self.write(parts, self.at + u64::from(count), time_ms);
        }
    }

    /// The newest of `terms` begins.
    fn fork(&mut self, terms: &[Term], time_ms: u64) {
        let newest = terms.last().expect("it begins");
        let lineage = Lineage::of(terms.to_vec()).expect("the beginning of a lineage is one");
        let fields = vec![("t", Bytes::from(terms::write(&lineage)))];
        self.row(newest.first, newest.epoch.to_string(), fields, time_ms);
    }

    fn write(&mut self, mut parts: Parts, last: Offset, time_ms: u64) {
        parts.settle();
        self.count += 1;
        let fields = vec![("c", Bytes::from(parts.counts)), ("b", Bytes::from(parts.body))];
        self.row(last, format!("{}:{}", self.name, self.count), fields, time_ms);
    }

    fn row(&mut self, offset: Offset, tag: String, more: Vec<(&'static str, Bytes)>, time_ms: u64) {
        let before = std::mem::replace(&mut self.tag, tag.clone());
        let mut fields = vec![("g", tag.into()), ("m", time_ms.to_string().into()), ("p", before.into())];
        fields.extend(more);
        self.at = offset;
        self.rows.push(Row { offset, fields });
    }

    /// The event at `at` as every node accepts it; `None` if nobody will ever be given it.
    fn kept(&self, draft: Draft, at: Offset) -> Option<Draft> {
        let is_newest = |repeat: &Claim| self.survey.repeats.get(&repeat.key) == Some(&at);
        let claims = Claims { repeat: draft.claims.repeat.filter(is_newest), ..Claims::default() };
        let id = draft.id.clone().filter(|id| self.survey.ids.get(id) == Some(&at));
        draft.store.then_some(Draft { id, claims, ..draft })
    }
}

impl Row {
    /// Its bytes in Redis, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.fields.iter().map(|(_, value)| value.len() as u64).sum::<u64>() + ENTRY_BYTES
    }
}

/// The publish of one event.
fn of_event(draft: &Draft) -> Vec<u8> {
    let mut body = vec![entry::VERSION];
    entry::put_publish(None, Repeats::RefuseAll, &mut body);
    entry::put_event(draft, &mut body);
    entry::put_subscribers(0, &mut body);
    body
}

/// The parts of an entry: a batch for each event and change, so that nodes decide about each by itself.
#[derive(Default)]
struct Parts {
    counts: String,
    body: Vec<u8>,
    index: usize,
    /// Positions without anything, which the next batch is for.
    passed: u32,
}

impl Parts {
    fn push(&mut self, body: &[u8]) {
        self.settle();
        self.put(1, body);
    }

    fn pass(&mut self, count: u32) {
        self.passed += count;
    }

    fn settle(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        if passed > 0 {
            let mut body = vec![entry::VERSION];
            entry::put_tick(&mut body);
            self.put(passed, &body);
        }
    }

    fn put(&mut self, count: u32, body: &[u8]) {
        let comma = if self.index == 0 { "" } else { "," };
        write!(self.counts, "{comma}{}:{count}:{}", self.index, body.len()).expect("a String takes any text");
        self.body.extend(body);
        self.index += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hub::draft::Target;
    use crate::order::redis::entry::{Content, LogEntry, Mark};
    use crate::types::name::RoomName;
    use crate::types::position::Epoch;

    fn draft(data: &str) -> Draft {
        Draft::to(Target::Room(RoomName::new("r").expect("a name")), data)
    }

    fn body(drafts: &[Draft]) -> Vec<u8> {
        let mut body = vec![entry::VERSION];
        for draft in drafts {
            entry::put_event(draft, &mut body);
            entry::put_subscribers(3, &mut body);
        }
        body
    }

    /// Batches as they are on disk: where each begins, and its events.
    fn copy(lineage: &Lineage, start: Offset, batches: &[(Offset, Vec<Draft>)]) -> Vec<LogEntry> {
        let bodies: Vec<_> =
            batches.iter().map(|(first, drafts)| (*first, drafts.len(), body(drafts))).collect();
        let batch = |(first, count, body): &(Offset, usize, Vec<u8>)| -> Batch<'static> {
            let body: &'static [u8] = Box::leak(body.clone().into_boxed_slice());
            Batch { first: *first, count: u32::try_from(*count).expect("few"), unix_us: 7_000, body }
        };
        let mut survey = Survey::default();
        for body in &bodies {
            survey.add(&batch(body), start, 0).expect("a batch");
        }
        let mut copy = Copy::new(&survey, lineage.clone(), start, "copyx".into());
        let mut rows: Vec<Row> =
            bodies.iter().flat_map(|body| copy.batch(&batch(body)).expect("a batch")).collect();
        rows.extend(copy.finish(0, 7));
        let entry = |row: &Row| {
            let fields: Vec<_> =
                row.fields.iter().map(|(key, value)| (Bytes::from(*key), value.clone())).collect();
            LogEntry::parse(&format!("{}-0", row.offset), &fields).expect("an entry")
        };
        rows.iter().map(entry).collect()
    }

    /// The events in `entries`, each with its position.
    fn events(entries: &[LogEntry]) -> Vec<(Offset, Draft)> {
        let mut events = Vec::new();
        for entry in entries {
            let Content::Batches(batches) = &entry.content else { continue };
            for batch in batches {
                let read = entry::read(&batch.body, |entry| {
                    if let Entry::Event(draft, _) = entry {
                        events.push((batch.first, *draft));
                    }
                });
                read.expect("a batch");
            }
        }
        events
    }

    #[test]
    fn entries_follow_each_other_over_holes_and_terms() {
        let mut lineage = Lineage::root(Epoch::new(1), 0);
        lineage.fork(6, 9, Epoch::new(2));
        let second = lineage.newest().first;
        lineage.fork(second, second, Epoch::new(3));
        let third = lineage.newest().first;
        let batches =
            [(2, vec![draft("a"), draft("b")]), (5, vec![draft("c")]), (third + 1, vec![draft("d")])];
        let entries = copy(&lineage, 1, &batches);
        let ends: Vec<_> = entries.iter().map(|entry| (entry.id.offset, entry.events())).collect();
        // 4 and 6 were given to commits that failed; each later term begins with an entry of its own.
        assert_eq!(ends, [(3, 2), (4, 1), (5, 1), (6, 1), (second, 0), (third, 0), (third + 1, 1)]);
        for pair in entries.windows(2) {
            assert_eq!(pair[1].before, Mark::of(&pair[0].tag));
        }
        assert!(matches!(&entries[4].content, Content::Fork(terms) if terms.epoch() == Epoch::new(2)));
        let found: Vec<_> = events(&entries).into_iter().map(|(at, draft)| (at, draft.data)).collect();
        assert_eq!(
            found,
            [(2, "a"), (3, "b"), (5, "c"), (third + 1, "d")].map(|(at, data)| (at, data.to_owned()))
        );
    }

    #[test]
    fn what_no_node_would_accept_twice_stays_with_the_newest_event() {
        let claim = Claim { key: 1, content: 2, time: Duration::from_secs(1) };
        let claims = Claims { once: Some(claim), is_known: true, repeat: Some(claim) };
        let event = Draft { id: EventId::new("mine").ok(), claims, ..draft("x") };
        let batches = [(1, vec![event.clone()]), (2, vec![Draft { store: false, ..event.clone() }, event])];
        let found = events(&copy(&Lineage::root(Epoch::new(1), 0), 0, &batches));
        let kept: Vec<_> = found.iter().map(|(at, draft)| (*at, draft.id.is_some(), draft.claims)).collect();
        let newest = Claims { repeat: Some(claim), ..Claims::default() };
        assert_eq!(kept, [(1, false, Claims::default()), (3, true, newest)]);
    }

    #[test]
    fn only_the_newest_batches_are_copied() {
        let body = body(&[draft("x")]);
        let mut survey = Survey::default();
        for first in [1, 2, 3] {
            survey.add(&Batch { first, count: 1, unix_us: 0, body: &body }, 1, 0).expect("a batch");
        }
        let size = body.len() as u64 + ENTRY_BYTES;
        assert_eq!([size - 1, size, 2 * size, 9 * size].map(|bytes| survey.start(3, bytes)), [3, 2, 1, 1]);
    }

    #[test]
    fn a_key_is_remembered_for_the_rest_of_its_time() {
        let claim = Claim { key: 5, content: 0xab, time: Duration::from_secs(10) };
        let mut body = vec![entry::VERSION];
        entry::put_answer(&claim, &Published { events: 3, ..Published::one(8, 1) }, &mut body);
        let mut survey = Survey::default();
        let batch = Batch { first: 6, count: 3, unix_us: 1_000_000, body: &body };
        survey.add(&batch, 0, 0).expect("a batch");
        let lineage = Lineage::root(Epoch::new(1), 0);
        let value = format!("100000 6 8 {:032x}", 0xab);
        assert_eq!(survey.keys(&lineage, 4_000), [Key { key: 5, value, rest_ms: 7_000 }]);
        assert_eq!(survey.keys(&lineage, 11_000), []);
    }
}
