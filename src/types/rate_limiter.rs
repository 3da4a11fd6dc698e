//! A rate limiter: the generic cell rate algorithm (ITU-T I.371), with one number of state.

use crate::types::moment::Moment;
use crate::types::rate::Rate;

/// The events that a user has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimiter {
    /// When all used events are paid for ("theoretical arrival time"), in nanoseconds of [`Moment`]'s count.
    paid_at: u64,
}

impl RateLimiter {
    /// How many events are allowed now.
    #[must_use]
    pub fn left(&self, rate: Rate, now: Moment) -> u32 {
        let owed = self.paid_at.saturating_sub(nanos(now));
        u32::try_from(rate.window().saturating_sub(owed) / rate.cost()).unwrap_or(u32::MAX)
    }

    /// Uses `events`. Does not check that they are allowed: the caller asks [`RateLimiter::left`] first.
    pub fn take(&mut self, rate: Rate, events: u32, now: Moment) {
        let cost = rate.cost().saturating_mul(u64::from(events));
        self.paid_at = self.paid_at.max(nanos(now)).saturating_add(cost);
    }

    /// When the next event will be allowed; `now` if it is already.
    #[must_use]
    pub fn next(&self, rate: Rate, now: Moment) -> Moment {
        let at = self.paid_at.saturating_add(rate.cost()).saturating_sub(rate.window());
        now.max(Moment(at.div_ceil(NANOS_PER_MICRO)))
    }

    /// Whether all used events are paid for, so that the state need not be kept.
    #[must_use]
    pub fn is_idle(&self, now: Moment) -> bool {
        self.paid_at <= nanos(now)
    }
}

const NANOS_PER_MICRO: u64 = 1000;

fn nanos(moment: Moment) -> u64 {
    moment.0.saturating_mul(NANOS_PER_MICRO)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate { events: 10, per: Duration::from_secs(1) };

    #[test]
    fn a_full_second_may_be_used_at_once_and_comes_back_bit_by_bit() {
        let mut limiter = RateLimiter::default();
        let now = Moment(5_000_000);
        assert_eq!(limiter.left(RATE, now), 10);
        limiter.take(RATE, 10, now);
        assert_eq!(limiter.left(RATE, now), 0);
        assert_eq!(limiter.next(RATE, now), now + Duration::from_millis(100));
        assert_eq!(limiter.left(RATE, now + Duration::from_millis(99)), 0);
        assert_eq!(limiter.left(RATE, now + Duration::from_millis(100)), 1);
        assert_eq!(limiter.left(RATE, now + Duration::from_secs(1)), 10);
        assert_eq!(limiter.left(RATE, now + Duration::from_secs(9)), 10);
    }

    #[test]
    fn over_a_long_time_the_rate_holds() {
        let mut limiter = RateLimiter::default();
        let mut allowed = 0;
        for ms in 0..10_000 {
            let now = Moment(ms * 1000);
            if limiter.left(RATE, now) > 0 {
                limiter.take(RATE, 1, now);
                allowed += 1;
            }
        }
        assert_eq!(allowed, 10 + 99);
    }

    #[test]
    fn a_high_rate_is_the_one_that_was_asked_for() {
        for events in [600_000, 700_000, 999_999, 1_000_000] {
            let rate = Rate { events, per: Duration::from_secs(1) };
            let mut limiter = RateLimiter::default();
            limiter.take(rate, events, Moment(0));
            let mut allowed = 0;
            // For one more second, takes all that are left in each millisecond.
            for ms in 1..=1000 {
                let now = Moment(ms * 1000);
                let left = limiter.left(rate, now);
                limiter.take(rate, left, now);
                allowed += left;
            }
            assert!(allowed.abs_diff(events) <= events / 1000, "{allowed} of {events}");
        }
    }

    #[test]
    fn the_next_event_is_allowed_when_it_is_said_to_be() {
        let rate = Rate { events: 600_000, per: Duration::from_secs(1) };
        let mut limiter = RateLimiter::default();
        limiter.take(rate, rate.events, Moment(7));
        let next = limiter.next(rate, Moment(7));
        assert_eq!(next, Moment(9), "1.67 microseconds later, and a moment is a whole one");
        assert_eq!([limiter.left(rate, Moment(8)), limiter.left(rate, next)], [0, 1]);
    }
}
