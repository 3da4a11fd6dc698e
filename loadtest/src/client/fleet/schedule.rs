//! When subscribers leave and when they come back. Decides, and knows no socket.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::number::{count, ms};

/// Which subscriber comes back when, and which leaves next.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Time and key of every subscriber that is away with a time to come back.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Connections that may be under way at once.
    in_flight_max: usize,
    churn: Option<Churn>,
}

/// A share of the subscribers that leaves every second.
#[derive(Debug)]
struct Churn {
    since_ns: u64,
    leaves_per_s: f64,
    away_ns: u64,
    left: u64,
    /// Ends when so many have left.
    left_max: u64,
    /// The next to leave.
    next: usize,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), in_flight_max: usize::MAX, churn: None }
    }
}

impl Schedule {
    /// Whether the thread has to look at the clock often.
    pub(super) fn is_busy(&self) -> bool {
        self.churn.is_some() || !self.due.is_empty()
    }

    /// From `now_ns` on, `leaves_per_s` subscribers leave each second, each for `away`.
    pub(super) fn begin_churn(&mut self, now_ns: u64, leaves_per_s: f64, away: Duration) {
        let away_ns = u64::try_from(away.as_nanos()).unwrap_or(u64::MAX);
        self.churn =
            Some(Churn { since_ns: now_ns, leaves_per_s, away_ns, left: 0, left_max: u64::MAX, next: 0 });
    }

    /// From `now_ns` on, each of `total` subscribers leaves once within `over`, for `away`.
    pub(super) fn begin_reload(&mut self, now_ns: u64, total: usize, over: Duration, away: Duration) {
        let total = total as u64;
        self.begin_churn(now_ns, count(total) / over.as_secs_f64().max(1e-3), away);
        if let Some(churn) = &mut self.churn {
            churn.left_max = total;
        }
    }

    /// Ends the churn. Those that are away still come back.
    pub(super) fn settle(&mut self) {
        self.churn = None;
    }

    /// Bounds the connections that may be under way at once.
    pub(super) fn set_in_flight_max(&mut self, in_flight_max: usize) {
        self.in_flight_max = in_flight_max;
    }

    /// Subscriber `key` comes back at `at_ns`.
    pub(super) fn come_back(&mut self, at_ns: u64, key: usize) {
        self.due.push(Reverse((at_ns, key)));
    }

    /// The next that comes back now, while `opening` connections are under way.
    pub(super) fn next_back(&mut self, now_ns: u64, opening: usize) -> Option<usize> {
        let Reverse((at_ns, key)) = self.due.peek().copied()?;
        if at_ns > now_ns || opening >= self.in_flight_max {
            return None;
        }
        self.due.pop();
        Some(key)
    }

    /// Those of `total` subscribers that leave now. They are scheduled to come back.
    pub(super) fn leaving(
        &mut self,
        now_ns: u64,
        total: usize,
        is_open: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let Some(churn) = &mut self.churn else {
            return Vec::new();
        };
        let seconds = ms(now_ns.saturating_sub(churn.since_ns)) / 1e3;
        let mut leaving = Vec::new();
        // At most one round: no subscriber leaves twice at once, however late this thread is.
        for _ in 0..total {
            if churn.left >= churn.left_max || count(churn.left) >= seconds * churn.leaves_per_s {
                break;
            }
            let key = churn.next;
            churn.next = (key + 1) % total;
            if is_open(key) {
                churn.left += 1;
                leaving.push(key);
            }
        }
        let back_ns = now_ns + churn.away_ns;
        if churn.left >= churn.left_max {
            self.churn = None;
        }
        self.due.extend(leaving.iter().map(|key| Reverse((back_ns, *key))));
        leaving
    }
}

/// The time to wait before the next attempt: what the server's `retry:` said, or a second, as browsers do.
pub(super) fn retry_ns(retry: Option<Duration>) -> u64 {
    let retry = retry.unwrap_or(RETRY).min(RETRY_MAX);
    u64::try_from(retry.as_nanos()).unwrap_or(0)
}

/// The wait when the server said nothing.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait, whatever the server says.
const RETRY_MAX: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn churn_takes_the_subscribers_in_turn_and_brings_each_back() {
        let mut schedule = Schedule::default();
        assert!(schedule.leaving(SECOND_NS, 10, |_| true).is_empty() && !schedule.is_busy());
        schedule.begin_churn(0, 2.0, Duration::from_millis(500));
        // The third is not connected, so the next one leaves in its place.
        assert_eq!(schedule.leaving(SECOND_NS, 10, |key| key != 2), [0, 1]);
        assert_eq!(schedule.leaving(2 * SECOND_NS, 10, |key| key != 2), [3, 4]);
        assert_eq!(schedule.next_back(SECOND_NS, 0), None, "half a second has to pass");
        let back: Vec<usize> = std::iter::from_fn(|| schedule.next_back(2 * SECOND_NS, 0)).collect();
        assert_eq!(back, [0, 1]);
        schedule.settle();
        schedule.set_in_flight_max(1);
        assert_eq!(schedule.next_back(3 * SECOND_NS, 1), None, "one is under way already");
        assert_eq!(schedule.next_back(3 * SECOND_NS, 0), Some(3));
    }

    #[test]
    fn all_reload_once() {
        let mut schedule = Schedule::default();
        schedule.begin_reload(0, 10, Duration::from_secs(2), Duration::ZERO);
        let mut left: Vec<usize> = Vec::new();
        for half in 1..=10 {
            let open: Vec<usize> = (0..10).filter(|key| !left.contains(key)).collect();
            left.extend(schedule.leaving(half * SECOND_NS / 2, 10, |key| open.contains(&key)));
        }
        assert_eq!(left, (0..10).collect::<Vec<_>>());
        while schedule.next_back(9 * SECOND_NS, 0).is_some() {}
        assert!(!schedule.is_busy(), "it has ended by itself");
    }
}
