//! What a log answers: its sums, its edges, and the events that a reader is to get.

use crate::hub::log::entry::Entry;
use crate::hub::log::{LOG_OVERHEAD, Log};
use crate::types::moment::Moment;
use crate::types::position::Offset;

impl Log {
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

    /// Offset and time of the oldest event that was not evicted, or kept for newcomers only.
    #[must_use]
    pub fn first(&self) -> Option<(Offset, Moment)> {
        self.entries.front().map(|entry| (entry.offset, entry.published))
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

    /// Offset of the last event before `offset` that is to be delivered, or the newest evicted offset if that is above it.
    #[must_use]
    pub fn before(&self, offset: Offset) -> Offset {
        let at = self.entries.partition_point(|entry| entry.offset < offset);
        let is_due = |entry: &&Entry| !(self.conflates && entry.superseded);
        let before = self.entries.range(..at).rev().find(is_due).map_or(0, |entry| entry.offset);
        before.max(self.evicted_to)
    }
}
