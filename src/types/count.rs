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
