//! Changes of the right to be connected, and to speak. Like events, they are entries of the order.

use std::time::Duration;

use crate::rights::revocation::{Revoked, When};
use crate::types::name::{RoomName, UserName};

/// A change that takes effect where it is applied. Plain data: it can be stored, sent to another node, and applied
/// there with the same effect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A user's streams in a room end, and the user stays away for a time. With no time, it may come back at once.
    Disconnect {
        /// The user.
        user: UserName,
        /// The room.
        room: RoomName,
        /// For how long.
        stay_away: Duration,
    },
    /// A user may not publish to a room.
    Mute {
        /// The user.
        user: UserName,
        /// The room.
        room: RoomName,
        /// The end, in seconds since 1970; `None` until it is undone. A time of day and not a length of time: applied
        /// again after a restart, the change must end when it was to end.
        until: Option<u64>,
    },
    /// A user may publish to a room again.
    Unmute {
        /// The user.
        user: UserName,
        /// The room.
        room: RoomName,
    },
    /// A token, or everything that a user was issued, is revoked.
    Revoke {
        /// What is revoked.
        revoked: Revoked,
        /// When.
        when: When,
    },
}
