//! The only place that reads the system's time.

use std::time::{Duration, Instant, SystemTime};

use crate::types::moment::Moment;

/// Measures time from its creation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    /// The moment at which it started.
    begun: Moment,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with_past(Duration::ZERO)
    }

    /// A clock that starts now and has moments for a time before that.
    #[must_use]
    pub fn start_with_past(past: Duration) -> Self {
        Self { started: Instant::now(), begun: Moment(0) + past }
    }

    /// Now.
    #[must_use]
    pub fn now(self) -> Moment {
        self.begun + self.started.elapsed()
    }

    /// Time since it started, whatever past it has.
    #[must_use]
    pub fn uptime(self) -> Duration {
        self.started.elapsed()
    }

    /// Calendar time in seconds since 1970, as tokens use it.
    #[must_use]
    pub fn unix_s(self) -> u64 {
        since_1970().as_secs()
    }

    /// The moment at which the calendar clock reaches `unix_s`, if it is not set meanwhile; now, if `unix_s` is past.
    #[must_use]
    pub fn moment_at(self, unix_s: u64) -> Moment {
        self.now() + Duration::from_secs(unix_s).saturating_sub(since_1970())
    }

    /// `moment` as an [`Instant`], for the runtime's timers.
    #[must_use]
    pub fn instant(self, moment: Moment) -> Instant {
        self.started + moment.since(self.begun)
    }
}

/// Calendar time since 1970. A clock set before 1970 counts as zero, when nothing has expired yet.
#[must_use]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
