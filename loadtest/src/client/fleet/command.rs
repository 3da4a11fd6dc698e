//! What the main thread asks of the subscribers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One instruction, for every thread of every process.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Command {
    /// Record latencies of events published from this moment on, nanoseconds since the start.
    Record(u64),
    /// Stuck subscribers read again, and slow ones as fast as the others.
    ReadAgain,
    /// Cut every connection, by a reset from this side.
    Leave,
    /// All subscribers that are away come back.
    Return(Pace),
    /// Begin churn: subscribers leave and come back in turns.
    Churn {
        /// Percentage of subscribers that leaves each second.
        percent_per_s: u32,
        /// How long each stays away.
        away: Duration,
    },
    /// Every subscriber leaves once, in turns, and comes back.
    Reload {
        /// In this time.
        over: Duration,
        /// How long each stays away.
        away: Duration,
    },
    /// Count the subscribers that don't know this.
    Check(Known),
    /// End the churn. Subscribers that are away still come back.
    Settle,
    /// Hand over what was counted since the last time.
    Take,
    /// Close everything and hand over the rest.
    Stop,
}

/// What every connected subscriber should know.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Known {
    /// The number of members of its room.
    Members(u64),
    /// The newest version of every key, when so many events were published.
    Newest(u64),
}

/// How fast subscribers come back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Pace {
    /// All in the same moment.
    AtOnce,
    /// Each after the time that its stream's `retry:` told.
    AsTold,
    /// As they were opened: at the settings' rate, so many under way.
    AsOpened,
}
