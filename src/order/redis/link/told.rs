//! What a link tells.

use std::fmt;

use bytes::Bytes;

use crate::order::redis::call::{Closed, Repeat};
use crate::order::redis::link::Ticket;
use crate::types::lineage::Lineage;
use crate::types::position::{Epoch, Offset};

/// What a link tells, in the order of the log.
#[derive(Clone, Debug)]
pub enum Told {
    /// A batch of the order: its place is behind everything that was told before.
    Apply(Applied),
    /// The order is another one than before, in part or as a whole.
    Adopt(Adopted),
    /// A batch that was submitted is in the order. It was told before, unless the log no longer had it.
    Placed(Ticket, Placed),
    /// It is not: its key is known.
    Repeated(Ticket, Repeat),
    /// It is not, and will not be.
    Refused(Ticket, RefusedWhy),
    /// It may be, or may come to be.
    Unknown(Ticket),
    /// What was asked about is where it is to be, beyond Redis.
    Confirmed(Ticket),
    /// It may be, or may not.
    Unconfirmed(Ticket),
    /// The link does something else than before.
    State(LinkState),
}

/// A batch of the order.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Offset of its first event. The one before it was applied last, but for the offsets between two terms.
    pub first: Offset,
    /// Number of its events.
    pub count: u32,
    /// The batch.
    pub body: Bytes,
    /// When it was appended, by the clock of Redis: milliseconds since 1970. It may go back.
    pub time_ms: u64,
    /// Whether it was submitted here, and is still waited for.
    pub mine: Option<Ticket>,
}

/// The order from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adopted {
    /// Its terms.
    pub lineage: Lineage,
    /// What was applied up to here stays. Above, it is lost. `None`: all of it is.
    pub shared_to: Option<Offset>,
    /// What follows is above this offset. If it is above `shared_to`, what is between cannot be had.
    ///
    /// What follows may have offsets that were lost: the same numbers, in another term.
    pub from: Offset,
    /// What happened.
    pub loss: Loss,
}

/// What happened to an order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// Nothing was applied before.
    Start,
    /// Nothing is lost: a new term begins behind what was applied.
    Nothing,
    /// What was applied above `shared_to` is lost.
    Failover,
    /// The log no longer reaches back to what was applied.
    Evicted,
    /// Nothing of it is known to be shared.
    Restart,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placed {
    /// The term.
    pub epoch: Epoch,
    /// Offset of its first event.
    pub first: Offset,
    /// Offset of its last event.
    pub last: Offset,
}

/// Why a batch is not in the order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusedWhy {
    /// Redis cannot be reached, or cannot be used.
    Away,
    /// Too much waits already.
    Busy,
    /// Redis takes no writes.
    Closed(Closed),
    /// Its key, the one with this index, came with other content before.
    Mismatch(usize),
}

/// What a link does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkState {
    /// Connections are being opened.
    Connecting,
    /// It asks where the order is.
    Attaching,
    /// It reads what it does not have.
    CatchingUp,
    /// It has everything, and batches go out.
    Live,
    /// What it sends has not come back for a while.
    Late,
    /// It will try again soon.
    Lost,
    /// Redis is reached and cannot be used.
    Unfit(Unfit),
}

/// Why a Redis cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Unfit {
    /// It does not say what it is (`INFO`).
    Unknown,
    /// It is older than 7.0.
    Version,
    /// It may drop any key when it is full (`maxmemory-policy allkeys-…`).
    Eviction,
    /// Something else is there, or another format.
    Format,
    /// It does not let this user wait for a replica (`WAIT`).
    NoWait,
    /// It cannot wait for its disk (`WAITAOF`): it is older than 7.2, or does not let this user.
    NoWaitaof,
    /// It writes no log on its disk (`appendonly`).
    NoLog,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "it does not say what it is: INFO is missing, or not allowed to this user",
            Self::Version => "it is older than Redis 7.0",
            Self::Eviction => "it may drop the order when it is full: maxmemory-policy is one of allkeys-...",
            Self::Format => {
                "its keys are of something else, or of another version; choose another order_prefix"
            }
            Self::NoWait => "order_ack = redis+1 needs WAIT, which this user may not run",
            Self::NoWaitaof => "order_ack = redis-disk needs WAITAOF: Redis 7.2, and the right to run it",
            Self::NoLog => "order_ack = redis-disk needs a Redis with appendonly yes",
        })
    }
}

impl LinkState {
    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Attaching => "attaching",
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Unfit(_) => "unfit",
        }
    }
}
