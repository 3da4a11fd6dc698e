//! A shard's counters: written by the thread that has the shard, read by the scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::types::words::words;

/// A counter or gauge with one writer at a time. Adding is a load and a store, without a locked instruction.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds `n`. Only for the thread that has the shard.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts `n`. Only for the thread that has the shard.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets the value. Only for the thread that has the shard.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

words! {
    /// Why a connection ended.
    CloseReason {
        /// The peer went away.
        Client = "client",
        /// The socket failed: reset, timed out.
        Error = "error",
        /// The oldest unsent event was older than `max_unsent_age`, or the socket was full until it timed out.
        Stalled = "stalled",
        /// The server is draining.
        Drain = "drain",
        /// The user's newer connection took its place.
        Replaced = "replaced",
        /// The application asked for it.
        Disconnected = "disconnected",
        /// The connection lease ended.
        Lease = "lease",
        /// Its token has expired.
        Expired = "expired",
        /// Its token, its user or the key behind it is not accepted any more.
        Revoked = "revoked",
        /// The peer kept sending bytes on a stream that goes one way.
        Flood = "flood",
        /// It was among those furthest behind when memory was short.
        Memory = "memory",
    }
}

words! {
    /// Why events are missing from a stream.
    GapReason {
        /// The history no longer has them.
        Evicted = "evicted",
        /// They belong to another epoch.
        Restart = "restart",
        /// The connection was too slow, or not allowed, to get them in time.
        Slow = "slow",
        /// The presented id is unknown.
        Unknown = "unknown",
    }
}

words! {
    /// Why a connected subscriber lost events.
    DropReason {
        /// They were evicted before its socket took them.
        Slow = "slow",
        /// They were above its user's delivery rate.
        Rate = "rate",
    }
}

/// Number of time buckets. Their upper bounds go from 64 µs to 67 s, doubling.
pub const TIME_BUCKETS: usize = 21;

/// Number of size buckets. Their upper bounds go from 1 to 4,096, doubling.
pub const SIZE_BUCKETS: usize = 13;

/// A histogram with doubling buckets. The last, implicit bucket has everything above.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    first: u64,
    buckets: [Tally; N],
    above: Tally,
    sum: Tally,
}

impl<const N: usize> Histogram<N> {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            buckets: std::array::from_fn(|_| Tally::default()),
            above: Tally::default(),
            sum: Tally::default(),
        }
    }

    /// Adds `value`, `count` times.
    pub fn record(&self, value: u64, count: u64) {
        // The smallest n with `value <= first << n`.
        let ratio = value.div_ceil(self.first).max(1);
        let n = (u64::BITS - (ratio - 1).leading_zeros()) as usize;
        self.buckets.get(n).unwrap_or(&self.above).add(count);
        self.sum.add(value.wrapping_mul(count));
    }

    /// Upper bounds and the number of values in each bucket, then the number above all and the sum.
    pub fn read(&self) -> (impl Iterator<Item = (u64, u64)>, u64, u64) {
        let buckets = self.buckets.iter().enumerate().map(|(n, tally)| (self.first << n, tally.get()));
        (buckets, self.above.get(), self.sum.get())
    }
}

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
            heartbeats: Tally::default(),
            gzip: Default::default(),
            flush: Histogram::new(64),
            batch: Histogram::new(1),
            delivery: Histogram::new(64),
        }
    }
}

/// Microseconds of `duration`, for histograms.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_inside_it() {
        let histogram: Histogram<3> = Histogram::new(4);
        for value in [0, 4, 5, 8, 9, 16, 17] {
            histogram.record(value, 1);
        }
        let (buckets, above, sum) = histogram.read();
        assert_eq!(buckets.collect::<Vec<_>>(), [(4, 2), (8, 2), (16, 2)]);
        assert_eq!((above, sum), (1, 59));
    }
}
