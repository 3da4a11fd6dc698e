//! Rates: a number of events in a time, such as `50/s`. Kept as two numbers, because a limiter needs no fraction.

use std::fmt;
use std::time::Duration;

/// A number of events in a time. All of them may come at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Events, at least 1.
    pub events: u32,
    /// The time in which they may come.
    pub per: Duration,
}

impl Rate {
    /// Nanoseconds that one event costs, at least 1. In whole microseconds, 600,000 events a second would become a
    /// million.
    pub(super) fn cost(self) -> u64 {
        let per = u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX);
        (per / u64::from(self.events.max(1))).max(1)
    }

    pub(super) fn window(self) -> u64 {
        self.cost().saturating_mul(u64::from(self.events.max(1)))
    }
}

impl fmt::Display for Rate {
    /// As in the settings: `50/s`, `1000/min`, `3/h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PERIODS.iter().find(|(_, per)| *per == self.per) {
            Some((unit, _)) => write!(f, "{}/{unit}", self.events),
            None => write!(f, "{}/{}", self.events, humantime::format_duration(self.per)),
        }
    }
}

/// The periods of rates, by unit.
pub(crate) const PERIODS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("min", Duration::from_mins(1)), ("h", Duration::from_hours(1))];
