//! The newest events of one source, oldest first, within bounds.
//!
//! An event leaves in two steps. An *expired* event is past the history's bounds: no resume can have it any more. It
//! stays until every shard has flushed it (a burst larger than the history must still reach the streams that are
//! connected); then it is *evicted*, which means removed.
//!
//! Two kinds of events are *loose*: they are delivered, and a resume passes over them without a gap. Those are events
//! that are not to be stored, and, in a log that conflates, events whose key has a newer event. Loose events are removed
//! once they are flushed: at the front at once, in the middle when there are many of them.

pub mod entry;
mod keys;
mod read;
pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use crate::hub::log::entry::Entry;
use crate::hub::log::keys::Keys;
use crate::hub::log::rules::LogRules;
use crate::types::name::{EventId, EventKey};
use crate::types::position::Offset;

/// Expired events that may wait for shards to flush them, in events...
pub const UNFLUSHED_EVENTS_MAX: usize = 65_536;
/// ... and in bytes. Past either, connections that are that far behind get a gap.
pub const UNFLUSHED_BYTES_MAX: usize = 16 << 20;

/// Bytes charged for a log that has events, beyond the events: the log itself, its first places, its place in the queue
/// of oldest events, and its source, which is not forgotten before the log is empty. Measured
/// (`tests/history_memory.rs`).
pub const LOG_OVERHEAD: usize = 704;

/// Loose events a log may keep after they were flushed, in bytes, beyond as many as the events that it holds.
const LOOSE_BYTES_KEPT: usize = 4 << 10;

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
    /// Number of events at the last [`Log::look`].
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
        self.evict(flushed, 0);
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
            // If it waits for its flush as well, it is lost when it is evicted.
            if self.entries.front().is_none_or(|first| first.offset > entry.offset) {
                self.keys.forget(entry.key.as_ref(), entry.offset);
                self.lost_to = self.lost_to.max(entry.offset);
            }
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
        }
        // Its key is known until it is evicted: a newer event takes its place in the flush that both wait for.
        self.expired += 1;
        self.pass_loose();
        true
    }

    /// Evicts events at the front that are expired or loose: those that are flushed, those up to `upto` although they may
    /// not be, and those above the bounds on what may wait.
    pub fn evict(&mut self, flushed: Offset, upto: Offset) {
        while self.expired > 0
            && (self.entries[0].offset <= flushed.max(upto)
                || self.expired > UNFLUSHED_EVENTS_MAX
                || self.other_bytes > UNFLUSHED_BYTES_MAX)
        {
            let mut entry = self.entries.pop_front().expect("expired entries are entries");
            self.expired -= 1;
            self.other_bytes -= entry.cost();
            if self.is_loose(&entry) {
                self.expired_ids.extend(entry.id.take());
                self.keys.forget(entry.key.as_ref(), entry.offset);
                if entry.offset > flushed {
                    self.lose(&entry);
                }
            } else {
                self.evicted_to = self.evicted_to.max(entry.offset);
                if !self.kept.contains_key(&entry.offset) {
                    self.keys.forget(entry.key.as_ref(), entry.offset);
                    if !entry.superseded {
                        self.lost_to = self.lost_to.max(entry.offset);
                    }
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

    /// Notes that a loose event goes before all streams could have it: those below it get a gap. One that has a newer
    /// event in its place is not missed.
    fn lose(&mut self, entry: &Entry) {
        if self.conflates && entry.superseded {
            return;
        }
        self.expired_to = self.expired_to.max(entry.offset);
        self.evicted_to = self.evicted_to.max(entry.offset);
        if !entry.superseded {
            self.lost_to = self.lost_to.max(entry.offset);
        }
    }

    /// Removes loose events in the middle, if there are many and they are flushed, or if more wait than may. Each event
    /// pays for a look at two others at most.
    fn compact(&mut self, flushed: Offset) {
        let in_the_middle = self.entries.len() - self.expired - self.held;
        if in_the_middle == 0 || self.other_bytes <= self.compact_at.max(self.bytes + LOOSE_BYTES_KEPT) {
            return;
        }
        let upto = if self.other_bytes > UNFLUSHED_BYTES_MAX { Offset::MAX } else { flushed };
        let mut rest = VecDeque::with_capacity(self.expired + self.held);
        let expired = self.expired;
        for (at, mut entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            if !self.is_loose(&entry) || entry.offset > upto {
                rest.push_back(entry);
                continue;
            }
            self.other_bytes -= entry.cost();
            self.expired_ids.extend(entry.id.take());
            self.keys.forget(entry.key.as_ref(), entry.offset);
            if entry.offset > flushed {
                self.lose(&entry);
            }
            self.evicted += 1;
            self.expired -= usize::from(at < expired);
        }
        self.entries = rest;
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

    /// Own ids of the events that expired since the last call.
    pub fn take_expired_ids(&mut self) -> Vec<EventId> {
        std::mem::take(&mut self.expired_ids)
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
