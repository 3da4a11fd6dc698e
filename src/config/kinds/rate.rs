//! Rates: events per period, such as `50/s`. Kept as two numbers, since a rate limiter needs no fraction.

use crate::config::kinds::Kind;
use crate::types::rate::{PERIODS, Rate};

/// A rate of events, such as `50/s`.
pub(crate) fn rate() -> RateKind {
    rate_of("events")
}

/// A rate of something else, named `what` in messages.
pub(crate) fn rate_of(what: &'static str) -> RateKind {
    RateKind { what }
}

pub(crate) struct RateKind {
    what: &'static str,
}

impl Kind for RateKind {
    type Value = Rate;

    fn placeholder(&self) -> &'static str {
        "RATE"
    }

    fn wanted(&self, example: &str) -> String {
        format!("1 to {EVENTS_MAX} {} per s, min or h, such as {example}", self.what)
    }

    fn parse(&self, text: &str) -> Option<Rate> {
        let (events, unit) = text.split_once('/')?;
        let events = events.trim_end().parse().ok().filter(|events| (1..=EVENTS_MAX).contains(events))?;
        let (_, per) = PERIODS.iter().find(|(name, _)| *name == unit.trim_start())?;
        Some(Rate { events, per: *per })
    }

    fn print(&self, value: &Rate) -> String {
        value.to_string()
    }
}

const EVENTS_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_read_back() {
        for text in ["1/s", "1000/min", "1000000/h"] {
            assert_eq!(rate().parse(text).map(|rate| rate.to_string()).as_deref(), Some(text));
        }
        let per = Duration::from_mins(1);
        assert_eq!(rate().parse("50 / min"), Some(Rate { events: 50, per }));
    }

    #[test]
    fn a_rate_is_neither_zero_nor_without_a_period() {
        for text in ["", "50", "0/s", "50/", "/s", "-1/s", "50/day", "1.5/s", "1000001/s"] {
            assert_eq!(rate().parse(text), None, "{text:?}");
        }
    }
}
