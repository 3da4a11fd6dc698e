//! The newest events of one source, oldest first, within bounds.
//!
//! An event leaves in two steps. An *expired* event is past the history's bounds: no resume can have it any more. It
//! stays until every shard has flushed it (a burst larger than the history must still reach the streams that are
//! connected); then it is *evicted*, which means removed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::hub::own_ids::OWN_ID_OVERHEAD;
use crate::hub::source::Source;
use crate::rights::grant::PermissionName;
use crate::types::moment::Moment;
use crate::types::name::EventId;
use crate::types::position::Offset;
use crate::wire::frame::Frame;

/// Bounds of one log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogBounds {
    /// Events a resume can get at most.
    pub events_max: usize,
    /// Bytes these may take, as [`Entry::cost`] counts them.
    pub bytes_max: usize,
}

/// Expired events that may wait for shards to flush them, in events...
pub const UNFLUSHED_EVENTS_MAX: usize = 65_536;
/// ... and in bytes. Past either, connections that are that far behind get a gap.
pub const UNFLUSHED_BYTES_MAX: usize = 16 << 20;

/// Bytes charged for an event beyond its frame: its entry here and the allocator's share.
const ENTRY_OVERHEAD: usize = 128;

/// Bytes charged for a log that has events, beyond the events: the log itself, its first places, its place in the queue
/// of oldest events, and its source, which is not forgotten before the log is empty. Measured
/// (`tests/history_memory.rs`).
pub const LOG_OVERHEAD: usize = 704;

/// Bytes charged for an event that excludes a user: it keeps that user's name and inbox for as long as it is held,
/// whether the user is connected or not.
pub const EXCLUDED_OVERHEAD: usize = 384;

/// One event in a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its position in the order.
    pub offset: Offset,
    /// Its bytes.
    pub frame: Frame,
    /// When it was published.
    pub published: Moment,
    /// The user whose connections must not get it, by that user's inbox.
    pub exclude: Option<Arc<Source>>,
    /// The permission that a subscriber must have to get it.
    pub require: Option<PermissionName>,
    /// The id its publisher chose, until it expires.
    pub id: Option<EventId>,
}

impl Entry {
    /// Bytes this event is charged with.
    #[must_use]
    pub fn cost(&self) -> usize {
        let own_id = self.id.as_ref().map_or(0, |id| id.as_str().len() + OWN_ID_OVERHEAD);
        let user = self.exclude.as_ref().map_or(0, |user| EXCLUDED_OVERHEAD + user.attachment_bytes());
        taken(self.frame.len()) + ENTRY_OVERHEAD + own_id + user
    }
}

/// Bytes that an allocation of `len` bytes takes. Allocators have pieces of a few sizes, here eight between two powers
/// of two; what small pieces waste is within [`ENTRY_OVERHEAD`].
fn taken(len: usize) -> usize {
    if len <= 1024 { len } else { len.next_multiple_of(len.next_power_of_two() / 8) }
}

/// A source's events.
#[derive(Debug, Default)]
pub struct Log {
    /// Invariant: offsets rise.
    entries: VecDeque<Entry>,
    /// `entries[..expired]` are past the bounds and wait to be flushed.
    expired: usize,
    /// Invariant: the sum of `cost()` over `entries[expired..]`.
    bytes: usize,
    /// Invariant: the sum of `cost()` over `entries[..expired]`.
    expired_bytes: usize,
    /// Own ids of the events that expired since [`Log::take_expired_ids`].
    expired_ids: Vec<EventId>,
    /// Newest offset that a resume cannot have any more, or 0.
    expired_to: Offset,
    /// Newest offset that is gone, or 0. Invariant: `evicted_to <= expired_to`.
    evicted_to: Offset,
    /// Events evicted so far; with the length, every event's number in this log.
    evicted: u64,
    /// Number of events at the last [`Log::count_since_look`].
    counted_at_look: u64,
    /// Each shard's number of events at its last flush, where the shard does not store it itself (inboxes).
    flushed_counts: Vec<u64>,
    /// Whether the queue of oldest events has an entry for this log.
    pub(super) in_oldest: bool,
}

impl Log {
    /// An empty log. Events up to `forgotten_to` may have existed and are gone.
    #[must_use]
    pub fn starting_after(forgotten_to: Offset) -> Self {
        Self { expired_to: forgotten_to, evicted_to: forgotten_to, ..Self::default() }
    }

    /// Adds the newest event and applies the bounds. `flushed` is the offset up to which every shard has flushed.
    pub fn append(&mut self, entry: Entry, bounds: LogBounds, flushed: Offset) {
        debug_assert!(self.last().is_none_or(|last| last < entry.offset), "offsets rise");
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        while self.held() > bounds.events_max || self.bytes > bounds.bytes_max {
            self.expire_oldest();
        }
        self.evict(flushed);
    }

    /// Expires the oldest event that a resume could have. False if there is none.
    pub fn expire_oldest(&mut self) -> bool {
        let Some(entry) = self.entries.get_mut(self.expired) else {
            return false;
        };
        self.expired_to = entry.offset;
        self.bytes -= entry.cost();
        self.expired_ids.extend(entry.id.take());
        self.expired_bytes += entry.cost();
        self.expired += 1;
        true
    }

    /// Evicts expired events that are flushed, or more than may wait.
    pub fn evict(&mut self, flushed: Offset) {
        while self.expired > 0
            && (self.entries[0].offset <= flushed
                || self.expired > UNFLUSHED_EVENTS_MAX
                || self.expired_bytes > UNFLUSHED_BYTES_MAX)
        {
            let entry = self.entries.pop_front().expect("expired entries are entries");
            self.expired -= 1;
            self.expired_bytes -= entry.cost();
            self.evicted_to = entry.offset;
            self.evicted += 1;
        }
        // Gives back the memory of a burst.
        if self.entries.capacity() > 64 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Number of events that a resume can have.
    #[must_use]
    pub fn held(&self) -> usize {
        self.entries.len() - self.expired
    }

    /// Bytes charged for all events here, expired or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.expired_bytes
    }

    /// Bytes it is charged with in the bound for all history.
    #[must_use]
    pub fn cost(&self) -> usize {
        if self.is_empty() { 0 } else { self.bytes() + LOG_OVERHEAD }
    }

    /// Whether it has no events, expired ones included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Newest offset a resume cannot have: a presented cursor below it is a gap.
    #[must_use]
    pub fn expired_to(&self) -> Offset {
        self.expired_to
    }

    /// Newest offset that is gone even for connected streams: a cursor below it is a gap.
    #[must_use]
    pub fn evicted_to(&self) -> Offset {
        self.evicted_to
    }

    /// Offset of the newest event present.
    #[must_use]
    pub fn last(&self) -> Option<Offset> {
        self.entries.back().map(|entry| entry.offset)
    }

    /// Offset and time of the oldest event a resume could have.
    #[must_use]
    pub fn oldest(&self) -> Option<(Offset, Moment)> {
        self.entries.get(self.expired).map(|entry| (entry.offset, entry.published))
    }

    /// The events with offsets in `(after, upto]`, oldest first.
    pub fn range(&self, after: Offset, upto: Offset) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.offset <= after);
        self.entries.range(start..).take_while(move |entry| entry.offset <= upto)
    }

    /// The events a resume could have, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.expired..).rev()
    }

    /// Own ids of the events that expired since the last call.
    pub fn take_expired_ids(&mut self) -> Vec<EventId> {
        std::mem::take(&mut self.expired_ids)
    }

    /// Offset of the last event before `offset`, or the newest evicted offset if there is none.
    #[must_use]
    pub fn before(&self, offset: Offset) -> Offset {
        let at = self.entries.partition_point(|entry| entry.offset < offset);
        at.checked_sub(1).map_or(self.evicted_to, |at| self.entries[at].offset)
    }

    /// Notes that `shard` has flushed everything up to `offset`.
    pub fn note_flushed_count(&mut self, shard: usize, offset: Offset) {
        if self.flushed_counts.len() <= shard {
            self.flushed_counts.resize(shard + 1, 0);
        }
        // Events below the evicted ones cannot be counted, and a connection there gets a gap first.
        if offset >= self.evicted_to {
            self.flushed_counts[shard] = self.count_to(offset);
        }
    }

    /// The number of events that was last noted for `shard`.
    #[must_use]
    pub fn flushed_count(&self, shard: usize) -> u64 {
        self.flushed_counts.get(shard).copied().unwrap_or(0)
    }

    /// Number of events since the last call. For one caller only, the dashboard.
    pub fn count_since_look(&mut self) -> u64 {
        let count = self.evicted + self.entries.len() as u64;
        count - std::mem::replace(&mut self.counted_at_look, count)
    }

    /// Number of events up to `offset` that this log has had: exact from `evicted_to` on.
    #[must_use]
    pub fn count_to(&self, offset: Offset) -> u64 {
        self.evicted + self.entries.partition_point(|entry| entry.offset <= offset) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Unsealed;

    const BOUNDS: LogBounds = LogBounds { events_max: 3, bytes_max: 100_000 };

    fn entry(offset: Offset) -> Entry {
        let frame = Unsealed::new(None, "x", 20).seal(b"1");
        Entry { offset, frame, published: Moment(offset), exclude: None, require: None, id: None }
    }

    fn offsets(log: &Log, after: Offset) -> Vec<Offset> {
        log.range(after, Offset::MAX).map(|entry| entry.offset).collect()
    }

    /// Events of 200,000 bytes took a seventh more than they were charged.
    #[test]
    fn large_events_are_charged_what_the_allocator_takes_for_them() {
        let sizes = [0, 90, 1024, 1025, 2048, 2049, 200_000, 229_377, 262_144];
        assert_eq!(sizes.map(taken), [0, 90, 1024, 1280, 2048, 2560, 229_376, 262_144, 262_144]);
    }

    #[test]
    fn the_bound_by_count_is_exact_for_a_resume() {
        let mut log = Log::default();
        for offset in [10, 20, 30, 40] {
            log.append(entry(offset), BOUNDS, Offset::MAX);
        }
        assert_eq!(log.held(), 3);
        assert_eq!(log.expired_to(), 10);
        assert_eq!(offsets(&log, 10), [20, 30, 40]);
    }

    #[test]
    fn a_burst_past_the_history_still_reaches_those_connected() {
        let mut log = Log::default();
        for offset in 1..=10 {
            log.append(entry(offset), BOUNDS, 0);
        }
        assert_eq!(log.expired_to(), 7, "a resume from below 7 is a gap");
        assert_eq!(log.evicted_to(), 0, "but no connected stream has lost anything");
        assert_eq!(offsets(&log, 0).len(), 10);
        log.evict(10);
        assert_eq!(log.evicted_to(), 7);
        assert_eq!(offsets(&log, 0), [8, 9, 10]);
    }

    #[test]
    fn waiting_for_a_flush_is_bounded_too() {
        let mut log = Log::default();
        let last = UNFLUSHED_EVENTS_MAX as u64 + 10;
        for offset in 1..=last {
            log.append(entry(offset), BOUNDS, 0);
        }
        assert_eq!(log.evicted_to(), last - 3 - UNFLUSHED_EVENTS_MAX as u64);
    }

    #[test]
    fn waiting_for_a_flush_is_bounded_in_bytes_as_well() {
        let none_held = LogBounds { events_max: 0, bytes_max: usize::MAX };
        // A kibibyte each, with what is charged besides the data: the head of its chunk is two digits longer.
        let data = "x".repeat((1 << 10) - (entry(1).cost() - "x".len()) - 2);
        let frame = Unsealed::new(None, &data, 20).seal(b"1");
        let entry = |offset| Entry { frame: frame.clone(), ..entry(offset) };
        let fit = (16 << 20) / (1 << 10);
        assert_eq!((entry(1).cost(), fit * entry(1).cost()), (1 << 10, UNFLUSHED_BYTES_MAX));
        let mut log = Log::default();
        for offset in 1..=fit as u64 {
            log.append(entry(offset), none_held, 0);
        }
        assert_eq!((log.evicted_to(), log.bytes()), (0, UNFLUSHED_BYTES_MAX), "what fits may wait");
        log.append(entry(fit as u64 + 1), none_held, 0);
        assert_eq!((log.evicted_to(), log.bytes()), (1, UNFLUSHED_BYTES_MAX), "one in, one out");
    }

    #[test]
    fn a_burst_does_not_keep_its_peak() {
        let capacity_after = |burst: u64, held: usize| {
            let mut log = Log::default();
            for offset in 1..=burst {
                log.append(entry(offset), LogBounds { events_max: held, ..BOUNDS }, 0);
            }
            log.evict(Offset::MAX);
            assert_eq!(log.held(), held);
            log.entries.capacity()
        };
        assert_eq!(capacity_after(1000, 20), 40, "room for as many again");
        assert_eq!(capacity_after(100, 31), 62);
        assert_eq!(capacity_after(100, 32), 128, "a quarter is still enough to keep it");
        assert_eq!(capacity_after(40, 3), 64, "a small log is not shrunk");
    }

    #[test]
    fn bytes_are_what_is_there() {
        let mut log = Log::default();
        let cost = entry(1).cost();
        let bounds = LogBounds { events_max: 100, bytes_max: cost * 2 };
        for offset in 1..=5 {
            log.append(entry(offset), bounds, Offset::MAX);
        }
        assert_eq!((log.held(), log.bytes(), log.is_empty()), (2, cost * 2, false));
        assert_eq!(log.cost(), cost * 2 + LOG_OVERHEAD);
        while log.expire_oldest() {}
        assert_eq!(log.bytes(), cost * 2, "unflushed events still take memory");
        log.evict(Offset::MAX);
        assert_eq!((log.bytes(), log.cost(), log.is_empty()), (0, 0, true));
    }

    #[test]
    fn an_own_id_is_charged_until_its_event_expires() {
        let mut log = Log::default();
        let (plain, id) = (entry(1).cost(), EventId::new("order-17").expect("an id"));
        log.append(Entry { id: Some(id.clone()), ..entry(1) }, BOUNDS, 0);
        assert_eq!(log.bytes(), plain + 8 + OWN_ID_OVERHEAD);
        log.append(entry(2), BOUNDS, 0);
        log.append(entry(3), BOUNDS, 0);
        assert_eq!(log.take_expired_ids(), []);
        log.append(entry(4), BOUNDS, 0);
        assert_eq!(
            (log.take_expired_ids(), log.bytes()),
            (vec![id], 4 * plain),
            "it waits for a flush without its id"
        );
        assert_eq!(log.take_expired_ids(), []);
        log.evict(Offset::MAX);
        assert_eq!((log.take_expired_ids(), log.bytes()), (vec![], 3 * plain));
    }

    #[test]
    fn neighbours_and_numbers_survive_eviction() {
        let mut log = Log::starting_after(5);
        assert_eq!((log.before(100), log.expired_to(), log.last(), log.oldest()), (5, 5, None, None));
        for offset in [10, 20, 30, 40, 50] {
            log.append(entry(offset), BOUNDS, Offset::MAX);
        }
        assert_eq!(log.before(30), 20, "evicted, but its offset is known");
        assert_eq!(log.before(45), 40);
        assert_eq!(log.count_to(20), 2);
        assert_eq!(log.count_to(40), 4);
        assert_eq!((log.last(), log.oldest()), (Some(50), Some((30, Moment(30)))));
    }

    #[test]
    fn the_newest_come_first_and_only_those_a_resume_could_have() {
        let mut log = Log::default();
        for offset in [10, 20, 30, 40, 50] {
            log.append(entry(offset), BOUNDS, 0);
        }
        assert_eq!(log.newest_first().map(|entry| entry.offset).collect::<Vec<_>>(), [50, 40, 30]);
        assert_eq!((log.oldest(), log.evicted_to()), (Some((30, Moment(30))), 0));
        assert_eq!(log.range(20, 40).map(|entry| entry.offset).collect::<Vec<_>>(), [30, 40]);
    }

    #[test]
    fn each_shard_has_a_count_of_its_own() {
        let mut log = Log::default();
        for offset in [10, 20, 30, 40, 50] {
            log.append(entry(offset), BOUNDS, Offset::MAX);
        }
        let counts = |log: &Log| [0, 1, 2].map(|shard| log.flushed_count(shard));
        log.note_flushed_count(1, 40);
        assert_eq!(counts(&log), [0, 4, 0]);
        log.note_flushed_count(0, log.evicted_to());
        log.note_flushed_count(2, 50);
        log.note_flushed_count(1, log.evicted_to() - 1);
        assert_eq!(counts(&log), [2, 4, 5], "below what is gone there is nothing to count by");
    }

    #[test]
    fn a_look_tells_what_came_since_the_last() {
        let mut log = Log::default();
        for (offsets, new) in [(1..6, 5), (6..9, 3), (9..9, 0)] {
            for offset in offsets {
                log.append(entry(offset), BOUNDS, Offset::MAX);
            }
            assert_eq!(log.count_since_look(), new);
        }
    }
}
