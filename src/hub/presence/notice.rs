//! What the application is told about presence.

use std::sync::Arc;

use crate::hub::source::Source;
use crate::types::words::words;

words! {
    /// What has happened in a room.
    PresenceKind {
        /// A user has become a member.
        Join = "join",
        /// A member has left, after its grace.
        Leave = "leave",
        /// The room has its first member. The `join` follows.
        Occupied = "occupied",
        /// The last member has left. The `leave` came before.
        Vacated = "vacated",
    }
}

/// Something that has happened in a room whose policy lists `presence` among its callbacks.
#[derive(Clone, Debug)]
pub struct PresenceNotice {
    /// What.
    pub kind: PresenceKind,
    /// The room.
    pub room: Arc<Source>,
    /// The user's inbox; `None` for [`PresenceKind::Occupied`] and [`PresenceKind::Vacated`].
    pub user: Option<Arc<Source>>,
}

/// The queue of these notices.
pub type PresenceNotices = crate::hub::notices::Notices<PresenceNotice>;
