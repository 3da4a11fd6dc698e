//! Times for people: `1h`, `2026-11-21T10:00:00Z`, "3 minutes ago".

use std::time::{Duration, UNIX_EPOCH};

/// A time that was given on the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// This many seconds after now; before, if negative.
    In(i64),
    /// At this time, in seconds since 1970.
    At(u64),
}

impl When {
    /// Reads a span such as `1h`, `-5m` for the past, or a time such as `2026-11-21T10:00:00Z`.
    ///
    /// # Errors
    ///
    /// What is wanted instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (magnitude, sign) = text.strip_prefix('-').map_or((text, 1), |rest| (rest, -1));
        let span = humantime::parse_duration(magnitude).ok().filter(|span| *span <= SPAN_MAX);
        if let Some(seconds) = span.and_then(|span| i64::try_from(span.as_secs()).ok()) {
            return Ok(Self::In(sign * seconds));
        }
        let at = humantime::parse_rfc3339_weak(text).ok();
        let at = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        at.map(|at| Self::At(at.as_secs())).ok_or_else(|| {
            "wanted a span such as 1h, or -5m for the past, or a time such as 2026-11-21T10:00:00Z".to_owned()
        })
    }

    /// The time in seconds since 1970.
    #[must_use]
    pub fn seconds(self, now: u64) -> u64 {
        match self {
            Self::In(seconds) => now.saturating_add_signed(seconds),
            Self::At(at) => at,
        }
    }
}

/// A century. A longer span is probably a mistake.
const SPAN_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// From this time on, years have five digits.
const YEAR_10000: u64 = 253_402_300_800;

/// Formats the time `at`, in seconds since 1970: `2026-11-21T10:00:00Z, 3 minutes ago`.
#[must_use]
pub(super) fn when(at: u64, now: u64) -> String {
    let ago = match at.cmp(&now) {
        std::cmp::Ordering::Less => format!("{} ago", span(now - at)),
        std::cmp::Ordering::Equal => "now".to_owned(),
        std::cmp::Ordering::Greater => format!("in {}", span(at - now)),
    };
    if at >= YEAR_10000 {
        return ago;
    }
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at));
    format!("{time}, {ago}")
}

/// Formats a span in one unit, rounded down.
fn span(seconds: u64) -> String {
    let (unit, count) = match seconds {
        0..120 => ("second", seconds),
        120..7_200 => ("minute", seconds / 60),
        7_200..172_800 => ("hour", seconds / 3600),
        _ => ("day", seconds / 86_400),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_times_are_read() {
        for (text, seconds) in [
            ("1h", 4600),
            ("-5m", 700),
            ("0s", 1000),
            ("-1h", 0),
            ("1970-01-01T00:00:07Z", 7),
            ("1970-01-02 00:00:00", 86_400),
        ] {
            assert_eq!(When::parse(text).map(|when| when.seconds(1000)), Ok(seconds), "{text}");
        }
        for text in ["", "-", "--5m", "1", "tomorrow", "101y", "1969-12-31T23:59:59Z"] {
            assert!(When::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_told_in_words() {
        let now = 1_000_000_000;
        assert_eq!(when(now - 200, now), "2001-09-09T01:43:20Z, 3 minutes ago");
        assert_eq!(when(now + 1, now), "2001-09-09T01:46:41Z, in 1 second");
        assert_eq!(when(now, now), "2001-09-09T01:46:40Z, now");
        assert_eq!(when(now - 7_200, now), "2001-09-08T23:46:40Z, 2 hours ago");
        assert!(when(u64::MAX, now).starts_with("in ") && when(u64::MAX, now).ends_with(" days"));
    }
}
