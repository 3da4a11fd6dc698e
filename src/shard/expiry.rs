//! When the right of a connection ends, in four bytes.

use std::time::Duration;

use crate::types::moment::Moment;

/// How long before the expiry a subscriber is warned.
pub const EXPIRING_TIME: Duration = Duration::from_secs(30);

/// When a connection's session expires, in tenths of a second, and whether the subscriber has been warned or needs no
/// warning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expiry(u32);

/// What to do about a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Warn the subscriber that so much time is left.
    Warn(Duration),
    /// End it: it has expired.
    Over,
}

impl Expiry {
    /// Never expires.
    pub const NEVER: Self = Self(u32::MAX);

    const TOLD: u32 = 1;
    const TICK_MICROS: u64 = 100_000;

    /// Expires at `moment`, never before it. A time more than six years away counts as never.
    #[must_use]
    pub fn at(moment: Option<Moment>) -> Self {
        let ticks = moment.map_or(u64::MAX, |moment| moment.0.div_ceil(Self::TICK_MICROS));
        u32::try_from(ticks).ok().and_then(|ticks| ticks.checked_mul(2)).map_or(Self::NEVER, Self)
    }

    /// What to do at `now`.
    #[must_use]
    pub fn due(self, now: Moment) -> Due {
        if self == Self::NEVER {
            return Due::Nothing;
        }
        let end = Moment(u64::from(self.0 >> 1) * Self::TICK_MICROS);
        let left = end.since(now);
        if now >= end {
            Due::Over
        } else if left <= EXPIRING_TIME && self.0 & Self::TOLD == 0 {
            Due::Warn(left)
        } else {
            Due::Nothing
        }
    }

    /// The same expiry, without a further warning.
    #[must_use]
    pub fn told(self) -> Self {
        Self(self.0 | Self::TOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(ms * 1000)
    }

    #[test]
    fn a_session_is_told_of_once_and_ends_at_its_end() {
        let expiry = Expiry::at(Some(at(100_000)));
        assert_eq!(expiry.due(at(69_999)), Due::Nothing);
        assert_eq!(expiry.due(at(70_000)), Due::Warn(EXPIRING_TIME));
        assert_eq!(expiry.due(at(99_000)), Due::Warn(Duration::from_secs(1)));
        assert_eq!(expiry.told().due(at(99_999)), Due::Nothing);
        assert_eq!(expiry.told().due(at(100_000)), Due::Over);
        assert_eq!(expiry.due(at(100_000)), Due::Over);
    }

    #[test]
    fn it_never_ends_early() {
        assert_eq!(Expiry::at(Some(at(100_001))).told().due(at(100_001)), Due::Nothing);
        assert_eq!(Expiry::at(Some(at(100_001))).due(at(100_100)), Due::Over);
    }

    #[test]
    fn what_is_too_far_away_for_four_bytes_is_never() {
        for never in [None, Some(Moment(u64::MAX)), Some(Moment(u64::from(u32::MAX) * 100_000))] {
            assert_eq!(Expiry::at(never), Expiry::NEVER);
            assert_eq!(Expiry::at(never).due(Moment(u64::MAX)), Due::Nothing);
        }
        let six_years = Moment(6 * 365 * 24 * 3600 * 1_000_000);
        assert_ne!(Expiry::at(Some(six_years)), Expiry::NEVER);
    }
}
