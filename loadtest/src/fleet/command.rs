//! What the main thread asks of the listeners.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One instruction, for every thread of every process.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Command {
    /// Record latencies of events published from this moment on, nanoseconds since the start.
    Record(u64),
    /// Stuck listeners read again.
    ReadAgain,
    /// Everybody who is connected is cut off, by a reset from this side.
    Leave,
    /// Those who left come back.
    Return(Pace),
    /// From now on listeners leave and come back in turns.
    Churn {
        /// Of all listeners, so many in a hundred each second.
        percent_per_s: u32,
        /// How long each stays away.
        away: Duration,
    },
    /// Nobody leaves any more; who is away still comes back.
    Settle,
    /// Hand over what was counted since the last time.
    Take,
    /// Close everything and hand over the rest.
    Stop,
}

/// How fast listeners come back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Pace {
    /// All in the same moment.
    AtOnce,
    /// Each after the time that its stream's `retry:` told.
    AsTold,
    /// As they were opened: at the settings' rate, so many under way.
    AsOpened,
}
