//! Counters and histograms with one writer at a time: adding is a load and a store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
