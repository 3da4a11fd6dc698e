//! Time as an argument: a plain number that tests can choose.

use std::ops::Add;
use std::time::Duration;

/// Microseconds since the process began to count. Lasts 584,000 years.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment(pub u64);

impl Moment {
    /// `time` earlier; the beginning, if that is before it.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Time passed since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Between three and five quarters of `time`, by `random` in `0.0..1.0`, so that many clients do not act at once.
#[must_use]
pub fn jittered(time: Duration, random: f64) -> Duration {
    time.mul_f64(0.75 + 0.5 * random)
}
