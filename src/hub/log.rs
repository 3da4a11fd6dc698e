//! The newest events of one source, oldest first, within bounds.
//!
//! An event leaves in two steps. An *expired* event is past the history's bounds: no resume can have it any more. It
//! stays until every shard has flushed it (a burst larger than the history must still reach the streams that are
//! connected); then it is *evicted*, which means removed.
//!
//! Two kinds of events are *loose*: they are delivered, and a resume passes over them without a gap. Those are events
//! that are not to be stored, and, in a log that conflates, events whose key has a newer event. Loose events are removed
//! once they are flushed: at the front at once, in the middle when there are many of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::hub::keys::Keys;
use crate::hub::own_ids::OWN_ID_OVERHEAD;
use crate::hub::room_policy::{Replay, RoomPolicy, Slow};
use crate::hub::source::Source;
use crate::rights::grant::PermissionName;
use crate::types::moment::Moment;
use crate::types::name::{EventId, EventKey};
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

/// Bytes charged for an event beyond its frame: its entry here, places for more, and the allocator's share. Measured
/// (`tests/history_memory.rs`).
const ENTRY_OVERHEAD: usize = 168;

/// Bytes charged for a log that has events, beyond the events: the log itself, its first places, its place in the queue
/// of oldest events, and its source, which is not forgotten before the log is empty. Measured
/// (`tests/history_memory.rs`).
pub const LOG_OVERHEAD: usize = 704;

/// Bytes charged for an event that excludes a user: it keeps that user's name and inbox for as long as it is held,
/// whether the user is connected or not.
pub const EXCLUDED_OVERHEAD: usize = 384;

/// Bytes charged for an event's key beyond its text twice: its place among the newest events of the keys.
const KEY_OVERHEAD: usize = 96;

/// Loose events a log may keep after they were flushed, in bytes, beyond as many as the events that it holds.
const LOOSE_BYTES_KEPT: usize = 4 << 10;

/// What a log has to know of its room's policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogRules {
    /// Its bounds.
    pub bounds: LogBounds,
    /// Whether an event makes older ones of its key loose.
    pub conflates: bool,
    /// Whether the newest event of a key is kept for newcomers when newer events of other keys have driven it out.
    pub keeps_newest: bool,
}

impl From<LogBounds> for LogRules {
    fn from(bounds: LogBounds) -> Self {
        Self { bounds, conflates: false, keeps_newest: false }
    }
}

impl From<&RoomPolicy> for LogRules {
    fn from(policy: &RoomPolicy) -> Self {
        let conflates = policy.conflate.is_some();
        // A log that conflates holds nothing but the newest.
        let keeps_newest = (policy.replay == Replay::Latest || policy.slow == Slow::Latest) && !conflates;
        Self { bounds: policy.log, conflates, keeps_newest }
    }
}

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
    /// What it is the newest of, or was.
    pub key: Option<EventKey>,
    /// Whether it is history once it is delivered.
    pub stored: bool,
    /// Whether its key has a newer event.
    pub superseded: bool,
}

impl Entry {
    /// An event without anything special about it.
    #[must_use]
    pub fn plain(offset: Offset, frame: Frame, published: Moment) -> Self {
        let (exclude, require, id, key) = (None, None, None, None);
        Self { offset, frame, published, exclude, require, id, key, stored: true, superseded: false }
    }

    /// Whether it is for the same subscribers as `other`, as far as the two themselves say.
    fn is_for_same(&self, other: &Self) -> bool {
        let users = [&self.exclude, &other.exclude].map(|user| user.as_ref().map(Arc::as_ptr));
        self.require == other.require && users[0] == users[1]
    }

    /// Bytes this event is charged with.
    #[must_use]
    pub fn cost(&self) -> usize {
        let own_id = self.id.as_ref().map_or(0, |id| id.as_str().len() + OWN_ID_OVERHEAD);
        let user = self.exclude.as_ref().map_or(0, |user| EXCLUDED_OVERHEAD + user.attachment_bytes());
        let key = self.key.as_ref().map_or(0, |key| 2 * key.as_str().len() + KEY_OVERHEAD);
        taken(self.frame.len()) + ENTRY_OVERHEAD + own_id + user + key
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
    /// `entries[..expired]` are past the bounds or loose, and wait to be flushed. Invariant: `entries[expired]` is held.
    expired: usize,
    /// How many of `entries[expired..]` are held: not loose.
    held: usize,
    /// Invariant: the sum of `cost()` over the events that are held, and over `kept`.
    bytes: usize,
    /// Invariant: the sum of `cost()` over all other entries.
    other_bytes: usize,
    /// With how many bytes of other entries the middle is looked through next.
    compact_at: usize,
    /// The newest event of each key.
    keys: Keys,
    /// The newest events of their keys that newer events of other keys have driven out. For newcomers only.
    kept: BTreeMap<Offset, Entry>,
    conflates: bool,
    /// Own ids of the events that expired since [`Log::take_expired_ids`].
    expired_ids: Vec<EventId>,
    /// Newest offset that a resume cannot have any more, or 0.
    expired_to: Offset,
    /// Newest offset that is gone, or 0. Invariant: `evicted_to <= expired_to`.
    evicted_to: Offset,
    /// The same, without events whose keys had newer events or are in `kept`. Invariant: at most `evicted_to`.
    lost_to: Offset,
    /// Events removed so far; with the length, every event's number in this log.
    evicted: u64,
    /// Number of events at the last [`Log::count_since_look`].
    counted_at_look: u64,
    /// Events a second between the last two looks.
    per_s: f32,
    /// Each shard's number of events at its last flush, where the shard does not store it itself (inboxes).
    flushed_counts: Vec<u64>,
    /// Whether the queue of oldest events has an entry for this log.
    pub(super) in_oldest: bool,
}

impl Log {
    /// An empty log. Events up to `forgotten_to` may have existed and are gone.
    #[must_use]
    pub fn starting_after(forgotten_to: Offset) -> Self {
        Self { expired_to: forgotten_to, evicted_to: forgotten_to, lost_to: forgotten_to, ..Self::default() }
    }

    /// Adds the newest event and applies the rules. `version` is that of its key. `flushed` is the offset up to which
    /// every shard has flushed.
    pub fn append(&mut self, entry: Entry, version: Option<u64>, rules: LogRules, flushed: Offset) {
        debug_assert!(self.entries.back().is_none_or(|last| last.offset < entry.offset), "offsets rise");
        self.follow(rules);
        if let Some(key) = &entry.key
            && let Some(offset) = self.keys.set(key, entry.offset, version, entry.stored)
        {
            self.supersede(offset, &entry);
        }
        if self.is_loose(&entry) {
            self.other_bytes += entry.cost();
        } else {
            self.held += 1;
            self.bytes += entry.cost();
        }
        if self.entries.capacity() == 0 {
            // Most rooms and inboxes never have a second event. A ring begins with four places otherwise.
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
        self.pass_loose();
        while self.held > rules.bounds.events_max {
            self.shed_oldest(rules.keeps_newest);
        }
        while self.kept.len() > rules.bounds.events_max || self.bytes > rules.bounds.bytes_max {
            self.expire_oldest();
        }
        self.compact(flushed);
        self.evict(flushed);
    }

    /// Whether an event of this key and version comes too late: one of its key with this version or a later one was
    /// published. A version is remembered for as long as the newest event of its key is here.
    #[must_use]
    pub fn is_outdated(&self, key: &EventKey, version: u64) -> bool {
        self.keys.version(key).is_some_and(|newest| version <= newest)
    }

    /// Expires the oldest event that a resume or a newcomer could have. False if there is none.
    pub fn expire_oldest(&mut self) -> bool {
        if let Some((_, entry)) = self.kept.pop_first() {
            self.bytes -= entry.cost();
            self.keys.forget(&entry);
            self.lost_to = self.lost_to.max(entry.offset);
            return true;
        }
        self.shed_oldest(false)
    }

    /// Expires the oldest event that a resume could have. If it is the newest of its key, newcomers can still have it.
    fn shed_oldest(&mut self, keeps_newest: bool) -> bool {
        let Some(entry) = self.entries.get_mut(self.expired) else {
            return false;
        };
        self.expired_to = entry.offset;
        self.held -= 1;
        self.bytes -= entry.cost();
        self.expired_ids.extend(entry.id.take());
        self.other_bytes += entry.cost();
        if keeps_newest && entry.key.is_some() && !entry.superseded {
            self.bytes += entry.cost();
            self.kept.insert(entry.offset, entry.clone());
        } else {
            self.keys.forget(entry);
        }
        self.expired += 1;
        self.pass_loose();
        true
    }

    /// Evicts events at the front that are expired or loose, and flushed; or more than may wait.
    pub fn evict(&mut self, flushed: Offset) {
        while self.expired > 0
            && (self.entries[0].offset <= flushed
                || self.expired > UNFLUSHED_EVENTS_MAX
                || self.other_bytes > UNFLUSHED_BYTES_MAX)
        {
            let mut entry = self.entries.pop_front().expect("expired entries are entries");
            self.expired -= 1;
            self.other_bytes -= entry.cost();
            if self.is_loose(&entry) {
                self.expired_ids.extend(entry.id.take());
                self.keys.forget(&entry);
            } else {
                self.evicted_to = entry.offset;
                if !entry.superseded && !self.kept.contains_key(&entry.offset) {
                    self.lost_to = self.lost_to.max(entry.offset);
                }
            }
            self.evicted += 1;
        }
        if self.other_bytes < self.compact_at / 4 {
            self.compact_at = 2 * self.other_bytes;
        }
        // Gives back the memory of a burst.
        if self.entries.capacity() > 64 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Removes loose events in the middle, if there are many and they are flushed, or if more wait than may. Each event
    /// pays for a look at two others at most.
    fn compact(&mut self, flushed: Offset) {
        let in_the_middle = self.entries.len() - self.expired - self.held;
        if in_the_middle == 0 || self.other_bytes <= self.compact_at.max(self.bytes + LOOSE_BYTES_KEPT) {
            return;
        }
        let flushed = if self.other_bytes > UNFLUSHED_BYTES_MAX { Offset::MAX } else { flushed };
        let Self { entries, conflates, keys, expired_ids, other_bytes, .. } = self;
        let (mut at, mut removed, mut removed_expired) = (0, 0, 0);
        entries.retain_mut(|entry| {
            let is_loose = (*conflates && entry.superseded) || !entry.stored;
            let goes = is_loose && entry.offset <= flushed;
            if goes {
                *other_bytes -= entry.cost();
                expired_ids.extend(entry.id.take());
                keys.forget(entry);
                removed += 1;
                removed_expired += usize::from(at < self.expired);
            }
            at += 1;
            !goes
        });
        self.expired -= removed_expired;
        self.evicted += removed;
        self.compact_at = 2 * self.other_bytes;
    }

    /// Takes over whether the log conflates, which a reload may have changed.
    fn follow(&mut self, rules: LogRules) {
        if self.conflates != rules.conflates {
            self.conflates = rules.conflates;
            // Events that were loose and are not any more are past the bounds.
            for at in 0..self.expired {
                if !self.is_loose(&self.entries[at]) {
                    self.expired_to = self.expired_to.max(self.entries[at].offset);
                    self.expired_ids.extend(self.entries[at].id.take());
                }
            }
            let costs = self.entries.range(self.expired..).map(|entry| (self.is_loose(entry), entry.cost()));
            let (loose, held): (Vec<_>, Vec<_>) = costs.partition(|(is_loose, _)| *is_loose);
            let sum = |entries: &[(bool, usize)]| entries.iter().map(|(_, cost)| cost).sum::<usize>();
            let expired: usize = self.entries.range(..self.expired).map(Entry::cost).sum();
            let kept: usize = self.kept.values().map(Entry::cost).sum();
            (self.held, self.bytes, self.other_bytes) =
                (held.len(), sum(&held) + kept, sum(&loose) + expired);
            self.pass_loose();
        }
    }

    /// Notes that the event at `offset`, which was the newest of its key, is not any more: `newer` is. One that is not for
    /// the same subscribers does not take its place: some would get neither.
    fn supersede(&mut self, offset: Offset, newer: &Entry) {
        if self.kept.get(&offset).is_some_and(|entry| entry.is_for_same(newer)) {
            let entry = self.kept.remove(&offset).expect("just found");
            self.bytes -= entry.cost();
        }
        let at = self.entries.partition_point(|entry| entry.offset < offset);
        let is_it = |entry: &&mut Entry| entry.offset == offset && entry.is_for_same(newer);
        let Some(entry) = self.entries.get_mut(at).filter(is_it) else {
            return;
        };
        entry.superseded = true;
        if self.conflates && entry.stored && at >= self.expired {
            self.held -= 1;
            self.bytes -= entry.cost();
            self.other_bytes += entry.cost();
        }
    }

    /// Restores the invariant of `expired`.
    fn pass_loose(&mut self) {
        while self.entries.get(self.expired).is_some_and(|entry| self.is_loose(entry)) {
            self.expired += 1;
        }
    }

    /// Whether a resume passes over `entry` without a gap.
    fn is_loose(&self, entry: &Entry) -> bool {
        !entry.stored || (self.conflates && entry.superseded)
    }

    /// Number of events that a resume can have.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes charged for all events here.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.other_bytes
    }

    /// Bytes it is charged with in the bound for all history.
    #[must_use]
    pub fn cost(&self) -> usize {
        if self.is_empty() { 0 } else { self.bytes() + LOG_OVERHEAD }
    }

    /// Whether it has no events, expired and loose ones included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.kept.is_empty()
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

    /// The same for a reader that needs the newest event of each key only.
    #[must_use]
    pub fn lost_to(&self) -> Offset {
        self.lost_to
    }

    /// Offset of the newest event present.
    #[must_use]
    pub fn last(&self) -> Option<Offset> {
        self.entries.back().map(|entry| entry.offset)
    }

    /// Offset and time of the oldest event that a resume or a newcomer could have.
    #[must_use]
    pub fn oldest(&self) -> Option<(Offset, Moment)> {
        let kept = self.kept.values().next();
        kept.or_else(|| self.entries.get(self.expired)).map(|entry| (entry.offset, entry.published))
    }

    /// The events with offsets in `(after, upto]` that are to be delivered, oldest first.
    pub fn range(&self, after: Offset, upto: Offset) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.offset <= after);
        let conflates = self.conflates;
        let entries = self.entries.range(start..).take_while(move |entry| entry.offset <= upto);
        entries.filter(move |entry| !(conflates && entry.superseded))
    }

    /// The same without events whose keys have newer ones, and with those that only newcomers could still have: for a
    /// reader that needs the newest event of each key only.
    pub fn newest_in(&self, after: Offset, upto: Offset) -> impl Iterator<Item = &Entry> {
        let kept = self.kept.range(after.saturating_add(1)..).map(|(_, entry)| entry);
        // An entry may be in both while it waits for its flush.
        let first = self.entries.front().map_or(Offset::MAX, |entry| entry.offset);
        let kept = kept.take_while(move |entry| entry.offset < first && entry.offset <= upto);
        kept.chain(self.range(after, upto).filter(|entry| !entry.superseded))
    }

    /// How many events in `(after, upto]` are left out because their keys have newer ones.
    #[must_use]
    pub fn conflated(&self, after: Offset, upto: Offset) -> usize {
        if !self.conflates {
            return 0;
        }
        let start = self.entries.partition_point(|entry| entry.offset <= after);
        let entries = self.entries.range(start..).take_while(|entry| entry.offset <= upto);
        entries.filter(|entry| entry.superseded).count()
    }

    /// The events a resume could have, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.expired..).rev().filter(|entry| !self.is_loose(entry))
    }

    /// The newest event of each key up to `upto`, oldest first.
    pub fn newest_of_keys(&self, upto: Offset) -> impl Iterator<Item = &Entry> {
        let held = self.entries.range(self.expired..).filter(|entry| entry.stored && entry.key.is_some());
        let newest = self.kept.values().chain(held.filter(|entry| !entry.superseded));
        newest.take_while(move |entry| entry.offset <= upto)
    }

    /// Own ids of the events that expired since the last call.
    pub fn take_expired_ids(&mut self) -> Vec<EventId> {
        std::mem::take(&mut self.expired_ids)
    }

    /// Offset of the last event before `offset` that is to be delivered, or the newest evicted offset if there is none.
    #[must_use]
    pub fn before(&self, offset: Offset) -> Offset {
        let at = self.entries.partition_point(|entry| entry.offset < offset);
        let is_due = |entry: &&Entry| !(self.conflates && entry.superseded);
        self.entries.range(..at).rev().find(is_due).map_or(self.evicted_to, |entry| entry.offset)
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

    /// Number of events since the last call, which was `seconds` ago. For one caller only, the live page's sampler;
    /// everybody else reads [`Log::per_s`].
    pub fn look(&mut self, seconds: f64) -> u64 {
        let count = self.evicted + self.entries.len() as u64;
        let new = count - std::mem::replace(&mut self.counted_at_look, count);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "a figure for people"
        )]
        let per_s = if seconds > 0.0 { (new as f64 / seconds) as f32 } else { 0.0 };
        self.per_s = per_s;
        new
    }

    /// Events a second, as of the last [look](Log::look).
    #[must_use]
    pub fn per_s(&self) -> f32 {
        self.per_s
    }

    /// Number of events up to `offset` that this log has had: exact from `evicted_to` on, unless loose events between
    /// others were removed.
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
        Entry::plain(offset, frame, Moment(offset))
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
            log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
        }
        assert_eq!(log.held(), 3);
        assert_eq!(log.expired_to(), 10);
        assert_eq!(offsets(&log, 10), [20, 30, 40]);
    }

    #[test]
    fn a_burst_past_the_history_still_reaches_those_connected() {
        let mut log = Log::default();
        for offset in 1..=10 {
            log.append(entry(offset), None, BOUNDS.into(), 0);
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
            log.append(entry(offset), None, BOUNDS.into(), 0);
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
            log.append(entry(offset), None, none_held.into(), 0);
        }
        assert_eq!((log.evicted_to(), log.bytes()), (0, UNFLUSHED_BYTES_MAX), "what fits may wait");
        log.append(entry(fit as u64 + 1), None, none_held.into(), 0);
        assert_eq!((log.evicted_to(), log.bytes()), (1, UNFLUSHED_BYTES_MAX), "one in, one out");
    }

    #[test]
    fn a_burst_does_not_keep_its_peak() {
        let capacity_after = |burst: u64, held: usize| {
            let mut log = Log::default();
            for offset in 1..=burst {
                log.append(entry(offset), None, LogBounds { events_max: held, ..BOUNDS }.into(), 0);
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
            log.append(entry(offset), None, bounds.into(), Offset::MAX);
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
        log.append(Entry { id: Some(id.clone()), ..entry(1) }, None, BOUNDS.into(), 0);
        assert_eq!(log.bytes(), plain + 8 + OWN_ID_OVERHEAD);
        log.append(entry(2), None, BOUNDS.into(), 0);
        log.append(entry(3), None, BOUNDS.into(), 0);
        assert_eq!(log.take_expired_ids(), []);
        log.append(entry(4), None, BOUNDS.into(), 0);
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
            log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
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
            log.append(entry(offset), None, BOUNDS.into(), 0);
        }
        assert_eq!(log.newest_first().map(|entry| entry.offset).collect::<Vec<_>>(), [50, 40, 30]);
        assert_eq!((log.oldest(), log.evicted_to()), (Some((30, Moment(30))), 0));
        assert_eq!(log.range(20, 40).map(|entry| entry.offset).collect::<Vec<_>>(), [30, 40]);
    }

    #[test]
    fn each_shard_has_a_count_of_its_own() {
        let mut log = Log::default();
        for offset in [10, 20, 30, 40, 50] {
            log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
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
        for (offsets, new, per_s) in [(1..6, 5, "2.5"), (6..9, 3, "1.5"), (9..9, 0, "0")] {
            for offset in offsets {
                log.append(entry(offset), None, BOUNDS.into(), Offset::MAX);
            }
            assert_eq!((log.look(2.0), log.per_s().to_string()), (new, per_s.to_owned()));
        }
        assert_eq!((log.look(0.0), log.per_s().to_string()), (0, "0".to_owned()));
    }

    fn keyed(offset: Offset, key: &str) -> Entry {
        Entry { key: EventKey::new(key).ok(), ..entry(offset) }
    }

    fn rules(conflates: bool, keeps_newest: bool) -> LogRules {
        LogRules { bounds: BOUNDS, conflates, keeps_newest }
    }

    fn newest_of_keys(log: &Log) -> Vec<Offset> {
        log.newest_of_keys(Offset::MAX).map(|entry| entry.offset).collect()
    }

    /// The sums, counted anew.
    fn check(log: &Log) {
        let (mut held, mut bytes, mut other) = (0, 0, 0);
        for (at, entry) in log.entries.iter().enumerate() {
            if at < log.expired || log.is_loose(entry) {
                other += entry.cost();
            } else {
                held += 1;
                bytes += entry.cost();
            }
        }
        bytes += log.kept.values().map(Entry::cost).sum::<usize>();
        assert_eq!((log.held, log.bytes, log.other_bytes), (held, bytes, other));
        assert!(log.entries.get(log.expired).is_none_or(|entry| !log.is_loose(entry)));
        assert!(log.keys.len() <= log.entries.len() + log.kept.len());
        assert!(log.lost_to <= log.evicted_to && log.evicted_to <= log.expired_to);
    }

    #[test]
    fn an_event_that_is_not_stored_is_delivered_and_no_history() {
        let mut log = Log::default();
        log.append(entry(1), None, BOUNDS.into(), 0);
        log.append(Entry { stored: false, ..entry(2) }, None, BOUNDS.into(), 0);
        log.append(entry(3), None, BOUNDS.into(), 1);
        check(&log);
        assert_eq!((offsets(&log, 0), log.held()), (vec![1, 2, 3], 2));
        assert_eq!(log.newest_first().map(|entry| entry.offset).collect::<Vec<_>>(), [3, 1]);
        log.append(entry(4), None, BOUNDS.into(), 3);
        log.append(entry(5), None, BOUNDS.into(), 5);
        check(&log);
        assert_eq!((offsets(&log, 0), log.expired_to(), log.evicted_to()), (vec![3, 4, 5], 1, 1));
    }

    #[test]
    fn where_nothing_is_stored_nothing_is_lost_and_nothing_stays() {
        let mut log = Log::default();
        for offset in 1..100 {
            log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), offset - 1);
            check(&log);
            assert_eq!(
                (offsets(&log, 0), log.held(), log.expired_to(), log.evicted_to()),
                (vec![offset], 0, 0, 0)
            );
        }
        log.evict(Offset::MAX);
        assert!(log.is_empty() && log.bytes() == 0);
    }

    #[test]
    fn many_loose_events_between_two_that_are_held_are_removed() {
        let mut log = Log::default();
        log.append(entry(1), None, BOUNDS.into(), 0);
        for offset in 2..10_000 {
            log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), offset - 1);
            assert!(log.bytes() < 2 * (log.bytes + LOOSE_BYTES_KEPT) + 1000, "at {offset}: {}", log.bytes());
        }
        check(&log);
        assert_eq!((log.held(), log.oldest()), (1, Some((1, Moment(1)))));
        for offset in 10_000..400_000 {
            log.append(Entry { stored: false, ..entry(offset) }, None, BOUNDS.into(), 9_999);
        }
        assert!(log.bytes() < 3 * UNFLUSHED_BYTES_MAX, "a shard that hangs: {}", log.bytes());
        check(&log);
    }

    #[test]
    fn a_log_that_conflates_has_the_newest_of_each_key_in_order() {
        let mut log = Log::default();
        for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a"), (6, "b")] {
            log.append(keyed(offset, key), None, rules(true, false), 0);
            check(&log);
        }
        assert_eq!((offsets(&log, 0), offsets(&log, 4)), (vec![4, 5, 6], vec![5, 6]));
        assert_eq!((log.held(), log.expired_to(), log.conflated(0, 6), log.conflated(2, 6)), (3, 0, 3, 1));
        log.append(keyed(7, "d"), None, rules(true, false), 0);
        assert_eq!((log.held(), log.expired_to()), (3, 4), "a key more than may be held");
        log.append(entry(8), None, rules(true, false), 0);
        log.append(entry(9), None, rules(true, false), 9);
        check(&log);
        assert_eq!((offsets(&log, 0), log.evicted_to()), (vec![7, 8, 9], 6), "events without a key stay");
    }

    #[test]
    fn a_key_that_changes_fast_takes_the_memory_of_few_events() {
        let mut log = Log::default();
        log.append(keyed(1, "quiet"), None, rules(true, false), 1);
        for offset in 2..10_000 {
            log.append(keyed(offset, "fast"), None, rules(true, false), offset - 1);
            assert!(log.bytes() < 2 * (log.bytes + LOOSE_BYTES_KEPT) + 1000, "at {offset}: {}", log.bytes());
        }
        check(&log);
        assert_eq!((offsets(&log, 0), log.expired_to(), log.keys.len()), (vec![1, 9_999], 0, 2));
    }

    #[test]
    fn a_reload_that_turns_conflation_on_or_off_keeps_the_sums_right() {
        let mut log = Log::default();
        for (offset, key, conflates) in [
            (1, "a", false),
            (2, "a", false),
            (3, "a", true),
            (4, "b", true),
            (5, "b", false),
            (6, "b", true),
        ] {
            log.append(keyed(offset, key), None, rules(conflates, false), 0);
            check(&log);
        }
        assert_eq!(offsets(&log, 0), [3, 6]);
    }

    /// A reader without the permission got neither the new event nor the old one.
    #[test]
    fn an_event_for_few_does_not_take_the_place_of_one_for_all() {
        let mut log = Log::default();
        let for_vips = |offset| Entry { require: PermissionName::new("vip").ok(), ..keyed(offset, "a") };
        log.append(keyed(1, "a"), None, rules(true, true), 0);
        log.append(for_vips(2), None, rules(true, true), 0);
        check(&log);
        assert_eq!((offsets(&log, 0), newest_of_keys(&log)), (vec![1, 2], vec![1, 2]));
        log.append(for_vips(3), None, rules(true, true), 0);
        check(&log);
        assert_eq!(offsets(&log, 0), [1, 3]);
    }

    /// They were evicted as ordinary events, but a resume from below them was taken to be exact.
    #[test]
    fn loose_events_that_wait_for_their_flush_expire_when_conflation_ends() {
        let mut log = Log::default();
        for offset in 1..4 {
            log.append(keyed(offset, "a"), None, rules(true, false), 0);
        }
        log.append(keyed(4, "a"), None, rules(false, false), 4);
        check(&log);
        assert_eq!((log.expired_to(), log.evicted_to(), offsets(&log, 0)), (2, 2, vec![3, 4]));
    }

    #[test]
    fn newcomers_get_the_newest_of_keys_that_others_drove_out() {
        let mut log = Log::default();
        for (offset, key) in [(1, "quiet"), (2, "a"), (3, "b"), (4, "a"), (5, "b"), (6, "a")] {
            log.append(keyed(offset, key), None, rules(false, true), offset);
            check(&log);
        }
        assert_eq!((newest_of_keys(&log), log.held(), log.expired_to()), (vec![1, 5, 6], 3, 3));
        assert_eq!(offsets(&log, 3), [4, 5, 6], "a resume gets all of them");
        log.append(keyed(7, "quiet"), None, rules(false, true), 7);
        assert_eq!(newest_of_keys(&log), [5, 6, 7]);
        for offset in 8..20 {
            log.append(keyed(offset, &offset.to_string()), None, rules(false, true), offset);
            check(&log);
        }
        assert_eq!(newest_of_keys(&log), [14, 15, 16, 17, 18, 19], "as many again as the history");
        while log.expire_oldest() {
            check(&log);
        }
        log.evict(Offset::MAX);
        assert_eq!((log.is_empty(), log.bytes(), log.keys.len()), (true, 0, 0));
    }

    #[test]
    fn an_older_version_of_a_key_is_known_for_as_long_as_its_newest_event_is_here() {
        let mut log = Log::default();
        let [a, b] = ["a", "b"].map(|key| EventKey::new(key).unwrap());
        log.append(keyed(1, "a"), Some(5), BOUNDS.into(), 0);
        assert_eq!([4, 5, 6].map(|version| log.is_outdated(&a, version)), [true, true, false]);
        assert!(!log.is_outdated(&b, 0));
        log.append(keyed(2, "a"), None, BOUNDS.into(), 0);
        assert!(log.is_outdated(&a, 5), "an event without a version does not reset it");
        for offset in 3..6 {
            log.append(entry(offset), None, BOUNDS.into(), 0);
        }
        assert!(!log.is_outdated(&a, 5) && log.keys.len() == 0);
    }

    #[test]
    fn an_event_that_is_not_stored_does_not_take_the_place_of_one_that_is() {
        let mut log = Log::default();
        log.append(keyed(1, "a"), None, rules(true, true), 0);
        log.append(Entry { stored: false, ..keyed(2, "a") }, Some(7), rules(true, true), 0);
        check(&log);
        assert_eq!((offsets(&log, 0), newest_of_keys(&log)), (vec![1, 2], vec![1]));
        assert!(log.is_outdated(&EventKey::new("a").unwrap(), 7));
    }
}
