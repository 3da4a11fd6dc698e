//! How much one may still do: the generic cell rate algorithm (ITU-T I.371), one number of state.

use std::time::Duration;

use super::moment::Moment;

/// So many events in so much time; as many may come at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Events, at least 1.
    pub events: u32,
    /// In this much time.
    pub per: Duration,
}

impl Rate {
    /// Microseconds one event is worth, at least 1.
    fn cost(self) -> u64 {
        let per = u64::try_from(self.per.as_micros()).unwrap_or(u64::MAX);
        (per / u64::from(self.events.max(1))).max(1)
    }

    fn window(self) -> u64 {
        self.cost() * u64::from(self.events.max(1))
    }
}

/// What a user has used up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// When everything used is paid for ("theoretical arrival time").
    paid_at: Moment,
}

impl Allowance {
    /// How many events are allowed now.
    #[must_use]
    pub fn left(&self, rate: Rate, now: Moment) -> u32 {
        let owed = self.paid_at.0.saturating_sub(now.0);
        u32::try_from(rate.window().saturating_sub(owed) / rate.cost()).unwrap_or(u32::MAX)
    }

    /// Uses `events`. Allowed or not is the caller's decision, by [`Allowance::left`].
    pub fn take(&mut self, rate: Rate, events: u32, now: Moment) {
        self.paid_at = Moment(self.paid_at.max(now).0.saturating_add(rate.cost() * u64::from(events)));
    }

    /// When the next event will be allowed; `now` if it is already.
    #[must_use]
    pub fn next(&self, rate: Rate, now: Moment) -> Moment {
        now.max(Moment((self.paid_at.0 + rate.cost()).saturating_sub(rate.window())))
    }

    /// Whether nothing is owed, so that the state need not be kept.
    #[must_use]
    pub fn is_idle(&self, now: Moment) -> bool {
        self.paid_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { events: 10, per: Duration::from_secs(1) };

    #[test]
    fn a_full_second_may_be_used_at_once_and_comes_back_bit_by_bit() {
        let mut allowance = Allowance::default();
        let now = Moment(5_000_000);
        assert_eq!(allowance.left(RATE, now), 10);
        allowance.take(RATE, 10, now);
        assert_eq!(allowance.left(RATE, now), 0);
        assert_eq!(allowance.next(RATE, now), now + Duration::from_millis(100));
        assert_eq!(allowance.left(RATE, now + Duration::from_millis(99)), 0);
        assert_eq!(allowance.left(RATE, now + Duration::from_millis(100)), 1);
        assert_eq!(allowance.left(RATE, now + Duration::from_secs(1)), 10);
        assert_eq!(allowance.left(RATE, now + Duration::from_secs(9)), 10);
    }

    #[test]
    fn over_a_long_time_the_rate_holds() {
        let mut allowance = Allowance::default();
        let mut allowed = 0;
        for ms in 0..10_000 {
            let now = Moment(ms * 1000);
            if allowance.left(RATE, now) > 0 {
                allowance.take(RATE, 1, now);
                allowed += 1;
            }
        }
        assert_eq!(allowed, 10 + 99);
    }
}
