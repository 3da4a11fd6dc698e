//! Kinds with a lower and an upper bound: counts, sizes and durations. All bounds are inclusive.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::kinds::Kind;
use crate::config::kinds::units::{self, BYTES, NANOSECONDS};

/// The most connections a process may have, whatever its limit on open files. Containers often run with a limit of
/// 2^30, which says nothing about what the machine can hold.
pub const CONNECTIONS_CEILING: usize = 1 << 22;

/// A count.
pub(crate) fn integer(bounds: RangeInclusive<usize>) -> Integer {
    Integer(bounds)
}

pub(crate) struct Integer(RangeInclusive<usize>);

impl Kind for Integer {
    type Value = usize;

    fn placeholder(&self) -> &'static str {
        "N"
    }

    fn wanted(&self, _: &str) -> String {
        format!("an integer in {}..={}", self.0.start(), self.0.end())
    }

    fn parse(&self, text: &str) -> Option<usize> {
        text.parse().ok().filter(|count| self.0.contains(count))
    }

    fn is_zero(&self, text: &str) -> bool {
        text.parse() == Ok(0_usize)
    }

    fn print(&self, value: &usize) -> String {
        value.to_string()
    }
}

/// Bytes, such as `64KiB`.
pub(crate) fn size(bounds: RangeInclusive<u64>) -> Size {
    Size(bounds)
}

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

pub(crate) struct Size(RangeInclusive<u64>);

impl Kind for Size {
    type Value = usize;

    fn placeholder(&self) -> &'static str {
        "SIZE"
    }

    fn wanted(&self, example: &str) -> String {
        let (least, most) = (units::print(*self.0.start(), BYTES), units::print(*self.0.end(), BYTES));
        format!("a size from {least} to {most}, such as {example}")
    }

    fn parse(&self, text: &str) -> Option<usize> {
        let bytes = units::parse(text, BYTES).filter(|bytes| self.0.contains(bytes))?;
        usize::try_from(bytes).ok()
    }

    fn is_zero(&self, text: &str) -> bool {
        units::parse(text, BYTES) == Some(0)
    }

    fn print(&self, value: &usize) -> String {
        print_size(*value)
    }
}

/// Prints `bytes` as a setting is written.
pub(crate) fn print_size(bytes: usize) -> String {
    units::print(bytes as u64, BYTES)
}

/// A time span, such as `10ms`, `1m 30s` or `0.5s` (the grammar is `humantime`'s; `m` is a minute and `M` a month).
pub(crate) fn duration(bounds: RangeInclusive<Duration>) -> Span {
    Span(bounds)
}

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const HOUR: Duration = Duration::from_hours(1);

pub(crate) struct Span(RangeInclusive<Duration>);

impl Kind for Span {
    type Value = Duration;

    fn placeholder(&self) -> &'static str {
        "DURATION"
    }

    fn wanted(&self, example: &str) -> String {
        let (least, most) = (print_duration(*self.0.start()), print_duration(*self.0.end()));
        format!("a duration from {least} to {most}, such as {example}")
    }

    fn parse(&self, text: &str) -> Option<Duration> {
        humantime::parse_duration(text).ok().filter(|span| self.0.contains(span))
    }

    fn is_zero(&self, text: &str) -> bool {
        humantime::parse_duration(text).is_ok_and(|span| span.is_zero())
    }

    fn print(&self, value: &Duration) -> String {
        print_duration(*value)
    }
}

/// Prints `span` as a setting is written.
pub(crate) fn print_duration(span: Duration) -> String {
    let nanoseconds = u64::try_from(span.as_nanos()).expect("bounded far below 584 years");
    units::print(nanoseconds, NANOSECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        let kind = integer(1..=64);
        assert_eq!([kind.parse("1"), kind.parse("64")], [Some(1), Some(64)]);
        for text in ["0", "65", "", "-1", "1.0", "one", "18446744073709551616"] {
            assert_eq!(kind.parse(text), None, "{text:?}");
        }
        let kind = size(4 * KIB..=4 * MIB);
        assert_eq!([kind.parse("4KiB"), kind.parse("4194304")], [Some(4096), Some(4_194_304)]);
        assert_eq!([kind.parse("4095"), kind.parse("4097KiB")], [None, None]);
    }

    #[test]
    fn durations_read_back_and_need_a_unit() {
        let kind = duration(Duration::ZERO..=HOUR);
        for span in [Duration::ZERO, MS, 75 * SECOND, MINUTE, HOUR, Duration::from_nanos(1)] {
            assert_eq!(kind.parse(&kind.print(&span)), Some(span));
        }
        assert_eq!(kind.parse("1m 30s"), Some(90 * SECOND));
        for text in ["", "10", "10 parsecs", "-1s", "1M", "61m", "off"] {
            assert_eq!(kind.parse(text), None, "{text:?}");
        }
    }
}
