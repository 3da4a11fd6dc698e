//! The codes of answers to what the order refused.

use crate::answer::problem::Code;
use crate::order::refused::Why;

impl From<Why> for Code {
    fn from(why: Why) -> Self {
        match why {
            Why::IdUsed => Self::EventIdRepeated,
            Why::SameData => Self::Repeated,
            Why::Mismatch => Self::IdempotencyMismatch,
            Why::Running => Self::IdempotencyBusy,
            Why::DiskFull => Self::DiskFull,
            Why::Busy | Why::DiskFailed | Why::Away | Why::StoreFull => Self::OrderUnavailable,
            Why::Unknown => Self::PublishUnknown,
            Why::Closed => Self::Draining,
        }
    }
}
