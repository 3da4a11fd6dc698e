//! Counters that several threads write.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A counter with several writers.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds `count`.
    pub fn add_many(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A gauge with several writers.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    /// Adds one.
    pub fn rise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds one, unless the value is `max` already: then returns false.
    #[must_use]
    pub fn rise_to(&self, max: usize) -> bool {
        self.take(1, max)
    }

    /// Adds one until the returned value is dropped, unless the value is `max` already.
    #[must_use]
    pub fn enter(&self, max: usize) -> Option<Inside<'_>> {
        self.rise_to(max).then(|| Inside(self))
    }

    /// Subtracts one.
    pub fn fall(&self) {
        self.give(1);
    }

    /// Adds `count`, unless the value would be larger than `max`: then returns false.
    #[must_use]
    pub fn take(&self, count: usize, max: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(count).filter(|taken| *taken <= max);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Subtracts `count`.
    pub fn give(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that a [`Gauge`] counts, until it is dropped.
#[derive(Debug)]
pub struct Inside<'g>(&'g Gauge);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fall();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_makes_room() {
        let gauge = Gauge::default();
        let (first, second) = (gauge.enter(2), gauge.enter(2));
        assert!(first.is_some() && second.is_some() && gauge.enter(2).is_none());
        drop(first);
        assert!(gauge.enter(2).is_some());
        assert_eq!(gauge.get(), 1);
    }
}
