//! A shard's counters: written by the thread that has the shard, read by the scrape.

use crate::shard::reason::{CloseReason, DropReason, GapReason, SkipReason};
use crate::types::histogram::{Histogram, SIZE_BUCKETS, TIME_BUCKETS, Tally};

/// Everything one shard counts.
#[derive(Debug)]
pub struct Stats {
    /// Open connections.
    pub connections: Tally,
    /// Connections whose socket is full.
    pub lagging: Tally,
    /// Age of the oldest unsent event, in microseconds.
    pub oldest_unsent: Tally,
    /// Time spent in steps, in microseconds.
    pub busy: Tally,
    /// When its own thread last took a step, in microseconds. Set by that thread alone.
    pub stepped_at: Tally,
    /// Events written whole.
    pub delivered: Tally,
    /// Bytes the sockets accepted, by encoding: plain, gzip.
    pub bytes: [Tally; 2],
    /// Connections opened.
    pub opened: Tally,
    /// Connections closed, by [`CloseReason`].
    pub closed: [Tally; CloseReason::ALL.len()],
    /// Gaps announced, by [`GapReason`].
    pub gaps: [Tally; GapReason::ALL.len()],
    /// Events that connected subscribers lost, by [`DropReason`].
    pub dropped: [Tally; DropReason::ALL.len()],
    /// Events that the policy of their room left out, by [`SkipReason`].
    pub skipped: [Tally; SkipReason::ALL.len()],
    /// Messages about who is present that were written.
    pub presence_sent: Tally,
    /// Messages about who is present that a slow connection did not take. It gets a state in their place.
    pub presence_stale: Tally,
    /// Heartbeats written.
    pub heartbeats: Tally,
    /// Bytes compressed, before and after.
    pub gzip: [Tally; 2],
    /// Time of one flush of a source, in microseconds.
    pub flush: Histogram<TIME_BUCKETS>,
    /// Events in one flush.
    pub batch: Histogram<SIZE_BUCKETS>,
    /// Publish to written, in microseconds.
    pub delivery: Histogram<TIME_BUCKETS>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            connections: Tally::default(),
            lagging: Tally::default(),
            oldest_unsent: Tally::default(),
            busy: Tally::default(),
            stepped_at: Tally::default(),
            delivered: Tally::default(),
            bytes: Default::default(),
            opened: Tally::default(),
            closed: Default::default(),
            gaps: Default::default(),
            dropped: Default::default(),
            skipped: Default::default(),
            presence_sent: Tally::default(),
            presence_stale: Tally::default(),
            heartbeats: Tally::default(),
            gzip: Default::default(),
            flush: Histogram::new(64),
            batch: Histogram::new(1),
            delivery: Histogram::new(64),
        }
    }
}
