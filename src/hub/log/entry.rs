//! One event in a log, and what it is charged.

use std::sync::Arc;

use crate::hub::own_ids::OWN_ID_OVERHEAD;
use crate::hub::source::Source;
use crate::rights::grant::PermissionName;
use crate::types::moment::Moment;
use crate::types::name::{EventId, EventKey};
use crate::types::position::Offset;
use crate::wire::frame::Frame;

/// Bytes charged for an event beyond its frame: its entry here, places for more, and the allocator's share. Measured
/// (`tests/history_memory.rs`).
const ENTRY_OVERHEAD: usize = 168;

/// Bytes charged for an event that excludes a user: it keeps that user's name and inbox for as long as it is held,
/// whether the user is connected or not.
pub const EXCLUDED_OVERHEAD: usize = 384;

/// Bytes charged for an event's key beyond its text twice: its place among the newest events of the keys.
const KEY_OVERHEAD: usize = 96;

/// One event in a log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its position in the order.
    pub offset: Offset,
    /// Its bytes.
    pub frame: Frame,
    /// When it was published.
    pub published: Moment,
    /// The user whose connections must not get it, by that user's inbox.
    pub exclude: Option<Arc<Source>>,
    /// The permission that a subscriber must have to get it.
    pub require: Option<PermissionName>,
    /// The id its publisher chose, until it expires.
    pub id: Option<EventId>,
    /// What it is the newest of, or was.
    pub key: Option<EventKey>,
    /// Whether it is history once it is delivered.
    pub stored: bool,
    /// Whether its key has a newer event.
    pub superseded: bool,
}

impl Entry {
    /// An event without anything special about it.
    #[must_use]
    pub fn plain(offset: Offset, frame: Frame, published: Moment) -> Self {
        let (exclude, require, id, key) = (None, None, None, None);
        Self { offset, frame, published, exclude, require, id, key, stored: true, superseded: false }
    }

    /// Whether it is for the same subscribers as `other`, as far as the two themselves say.
    pub(super) fn is_for_same(&self, other: &Self) -> bool {
        let users = [&self.exclude, &other.exclude].map(|user| user.as_ref().map(Arc::as_ptr));
        self.require == other.require && users[0] == users[1]
    }

    /// Bytes this event is charged with.
    #[must_use]
    pub fn cost(&self) -> usize {
        let own_id = self.id.as_ref().map_or(0, |id| id.as_str().len() + OWN_ID_OVERHEAD);
        let user = self.exclude.as_ref().map_or(0, |user| EXCLUDED_OVERHEAD + user.attachment_bytes());
        let key = self.key.as_ref().map_or(0, |key| 2 * key.as_str().len() + KEY_OVERHEAD);
        taken(self.frame.len()) + ENTRY_OVERHEAD + own_id + user + key
    }
}

/// Bytes that an allocation of `len` bytes takes. Allocators have pieces of a few sizes, here eight between two powers
/// of two; what small pieces waste is within [`ENTRY_OVERHEAD`].
fn taken(len: usize) -> usize {
    if len <= 1024 { len } else { len.next_multiple_of(len.next_power_of_two() / 8) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::room_policy::RoomPolicy;
    use crate::hub::source::SourceKind;
    use crate::wire::frame::Unsealed;

    /// The more threads there are, the larger is the inbox that such an event keeps.
    #[test]
    fn an_event_that_excludes_a_user_is_charged_all_of_that_users_inbox() {
        let plain = Entry::plain(1, Unsealed::new(None, "x", 20).seal(b"1"), Moment(1));
        for shards in [1, 2, 16] {
            let inbox = Arc::new(Source::new(SourceKind::Inbox, "ann", shards, 0, RoomPolicy::example()));
            let charged = EXCLUDED_OVERHEAD + inbox.attachment_bytes();
            assert_eq!(charged > EXCLUDED_OVERHEAD, shards > 2);
            let excluding = Entry { exclude: Some(inbox), ..plain.clone() };
            assert_eq!(excluding.cost(), plain.cost() + charged, "{shards} threads");
        }
    }

    /// Events of 200,000 bytes took a seventh more than they were charged.
    #[test]
    fn large_events_are_charged_what_the_allocator_takes_for_them() {
        let sizes = [0, 90, 1024, 1025, 2048, 2049, 200_000, 229_377, 262_144];
        assert_eq!(sizes.map(taken), [0, 90, 1024, 1280, 2048, 2560, 229_376, 262_144, 262_144]);
    }
}
