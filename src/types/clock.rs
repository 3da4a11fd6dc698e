//! The only place that asks what time it is.

use std::time::{Duration, Instant, SystemTime};

use crate::types::moment::Moment;

/// Counts from the moment it is made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    #[must_use]
    pub fn now(self) -> Moment {
        Moment(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The time by the calendar, in seconds since 1970: the one that tokens tell.
    #[must_use]
    pub fn unix_s(self) -> u64 {
        since_1970().as_secs()
    }

    /// When the calendar will say `unix_s`, if nobody sets it meanwhile. What is over is now.
    #[must_use]
    pub fn moment_at(self, unix_s: u64) -> Moment {
        self.now() + Duration::from_secs(unix_s).saturating_sub(since_1970())
    }

    /// When that is, for the runtime's timers.
    #[must_use]
    pub fn instant(self, moment: Moment) -> Instant {
        self.0 + Duration::from_micros(moment.0)
    }
}

/// The time by the calendar. Before 1970 it is 1970, when nothing has expired yet.
#[must_use]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
