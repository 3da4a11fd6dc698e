//! What was published, and how fast.

use crate::number::{count, ms};
use crate::plan::scenario::Settings;

/// What was published.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Events of each stream, by its number.
    pub counts: Vec<u64>,
    /// Events that should have been sent.
    pub offered: u64,
    /// Events that were.
    pub sent: u64,
    /// Events in requests answered with 200 or the like.
    pub accepted: u64,
    /// Requests answered with anything else.
    pub requests_refused: u64,
    /// When the first event was sent.
    pub first_ns: u64,
    /// When the last event was sent.
    pub last_ns: u64,
    /// When the last answer came.
    pub answered_ns: u64,
    /// Worst delay of a step behind its deadline.
    pub late_max_ns: u64,
    /// What ended publishing early, or the first refusal.
    pub error: Option<String>,
}

impl Published {
    /// Adds what was published afterwards in the same streams.
    pub fn absorb(&mut self, later: Self) {
        self.counts = later.counts;
        self.offered += later.offered;
        self.accepted += later.accepted;
        self.requests_refused += later.requests_refused;
        if self.sent == 0 {
            self.first_ns = later.first_ns;
        }
        self.sent += later.sent;
        self.last_ns = self.last_ns.max(later.last_ns);
        self.answered_ns = self.answered_ns.max(later.answered_ns);
        self.late_max_ns = self.late_max_ns.max(later.late_max_ns);
        if self.error.is_none() {
            self.error = later.error;
        }
    }

    /// Whether less was sent than should have been, or more slowly. The first step needs no time, so only what came
    /// after it has a rate.
    #[must_use]
    pub fn fell_behind(&self, settings: &Settings) -> bool {
        let has_rate = after_first(self.sent, settings) > 0.0;
        let is_slow = self.sent_per_s(settings) < 0.98 * f64::from(settings.rate_per_s);
        self.sent < self.offered || (has_rate && is_slow)
    }

    /// Events sent a second.
    #[must_use]
    pub fn sent_per_s(&self, settings: &Settings) -> f64 {
        after_first(self.sent, settings) / seconds(self.last_ns, self.first_ns)
    }

    /// Events accepted a second.
    #[must_use]
    pub fn accepted_per_s(&self, settings: &Settings) -> f64 {
        after_first(self.accepted, settings) / seconds(self.answered_ns, self.first_ns)
    }
}

/// The first step needs no time; so many events as came after it did.
fn after_first(events: u64, settings: &Settings) -> f64 {
    let step = f64::from(settings.rate_per_s) * settings.step().as_secs_f64();
    count(events.saturating_sub(whole(step).max(u64::from(settings.burst))))
}

fn seconds(to_ns: u64, from_ns: u64) -> f64 {
    (ms(to_ns.saturating_sub(from_ns)) / 1e3).max(1e-3)
}

/// A number of events or nanoseconds: never negative and far below 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn whole(value: f64) -> u64 {
    // The small addition absorbs what floating point lost, so 0.1 s * 10/s is one event.
    (value + 1e-6) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_late_or_not_at_all_is_behind() {
        let settings = crate::plan::scenario::Scenario::Fanout.defaults();
        let sent = |sent, offered, seconds: u64| Published {
            sent,
            offered,
            last_ns: seconds * 1_000_000_000,
            ..Published::default()
        };
        assert!(!sent(11, 11, 1).fell_behind(&settings));
        assert!(sent(11, 11, 2).fell_behind(&settings), "ten a second were wanted");
        assert!(sent(11, 12, 1).fell_behind(&settings));
        assert!(!sent(1, 1, 0).fell_behind(&settings), "a single event has no rate");
    }
}
