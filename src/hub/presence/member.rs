//! One member of a room.

use crate::hub::presence::change::Seat;
use crate::hub::presence::data::PresenceData;
use crate::types::moment::Moment;
use crate::types::rate_limiter::RateLimiter;

/// A user that is present in a room.
#[derive(Debug)]
pub(super) struct Member {
    /// The seat of the stream that made it a member. Streams with smaller seats do not count.
    pub(super) seat: Seat,
    /// When it became a member.
    pub(super) since: Moment,
    /// When its last connection went; without meaning while it has connections.
    pub(super) gone: Moment,
    /// Its connections in the room. Without any, it is within its grace.
    pub(super) connections: u32,
    /// Whether the end of a grace is among the room's.
    pub(super) is_queued: bool,
    own: Option<Box<Own>>,
}

/// What only members have that show data.
#[derive(Debug, Default)]
struct Own {
    data: Option<PresenceData>,
    limiter: RateLimiter,
}

impl Member {
    /// A member with one connection.
    pub(super) fn new(seat: Seat, now: Moment) -> Self {
        Self { seat, since: now, gone: now, connections: 1, is_queued: false, own: None }
    }

    pub(super) fn data(&self) -> Option<&PresenceData> {
        self.own.as_ref()?.data.as_ref()
    }

    /// Replaces its data. Returns whether that is a change.
    pub(super) fn set_data(&mut self, data: Option<PresenceData>) -> bool {
        if self.data() == data.as_ref() {
            return false;
        }
        self.own.get_or_insert_default().data = data;
        true
    }

    pub(super) fn limiter(&mut self) -> &mut RateLimiter {
        &mut self.own.get_or_insert_default().limiter
    }
}
