//! Rates: so many events in such a time, `50/s`. Kept as the two numbers, since a limiter needs no fraction.

use std::fmt;
use std::time::Duration;

use crate::config::kinds::Kind;

/// At most `events` within `per`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// 1 to 1,000,000.
    pub events: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
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

/// Such as `50/s`.
pub(crate) fn rate() -> RateKind {
    rate_of("events")
}

/// The same of something else.
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

const PERIODS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("min", Duration::from_mins(1)), ("h", Duration::from_hours(1))];

#[cfg(test)]
mod tests {
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
