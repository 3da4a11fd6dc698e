//! Why events that were proposed are not published.

use crate::hub::Published;

/// Events that were not published, because one of them is refused, or the request as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The index of the event that is refused, from 0; `None` if it is the request.
    pub index: Option<usize>,
    /// Why.
    pub why: Why,
    /// The result of the events before it, if they were published.
    pub before: Option<Published>,
}

/// Why an event or a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// An event has an id that was used before, by an earlier event or by one published with it.
    IdUsed,
    /// The same user published equal data a moment ago.
    SameData,
    /// The idempotency key came with something else before.
    Mismatch,
    /// The first publish with the idempotency key has no answer yet.
    Running,
    /// There is no space for the log on the disk.
    DiskFull,
    /// The log cannot be written.
    DiskFailed,
    /// The order that several nodes follow cannot be reached.
    Away,
    /// It has no space.
    StoreFull,
    /// It did not answer in time: the events may be published or not.
    Unknown,
    /// Too much waits for the order already.
    Busy,
    /// The order takes no more, because the server ends.
    Closed,
}

impl Refused {
    /// The request is refused as a whole.
    #[must_use]
    pub fn whole(why: Why) -> Self {
        Self { index: None, why, before: None }
    }

    /// The event at `index` is refused, and none was published.
    #[must_use]
    pub fn at(index: usize, why: Why) -> Self {
        Self { index: Some(index), why, before: None }
    }
}
