//! One clock for publisher and subscribers, so that a latency is a plain difference, in one process or in several.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the load test began. Copies share the origin, and so do other processes that are told it:
/// `CLOCK_MONOTONIC` is the same for the whole machine (`clock_gettime(2)`).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin_ns: u64,
}

impl Clock {
    /// A clock that reads zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin_ns: monotonic_ns() }
    }

    /// The clock of the process whose [`Clock::origin_ns`] this is.
    #[must_use]
    pub fn of(origin_ns: u64) -> Self {
        Self { origin_ns }
    }

    /// What another process of this machine needs to read the same time.
    #[must_use]
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        monotonic_ns().saturating_sub(self.origin_ns)
    }

    /// Sleeps until `at_ns`; returns at once if that has passed.
    pub fn sleep_until(&self, at_ns: u64) {
        let left = at_ns.saturating_sub(self.now_ns());
        if left > 0 {
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
}

/// Nanoseconds since the machine started.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
    whole.saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_told_the_origin_reads_the_same_time() {
        let one = Clock::start();
        let other = Clock::of(one.origin_ns());
        let (first, second, third) = (one.now_ns(), other.now_ns(), one.now_ns());
        assert!(first <= second && second <= third);
    }
}
