//! What all rooms count together: members and what they show, with their bounds, suppressed changes, and notices to the
//! application.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crate::hub::presence::data::PresenceData;
use crate::hub::presence::notice::{PresenceKind, PresenceNotice, PresenceNotices};
use crate::hub::source::Source;
use crate::types::count::{Count, Gauge};
use crate::types::words::words;

/// Members of all rooms together. A user that comes past it listens without being a member.
pub const PRESENCE_MEMBERS_MAX: usize = 1_000_000;

/// Rooms in which one user is a member, those that it left within its grace included. More would let one user take the
/// places of all others, by going from room to room. A user with eight streams of 64 rooms each is in 512.
pub const MEMBERSHIPS_PER_USER_MAX: u16 = 1024;

words! {
    /// Why a change is told to nobody.
    Suppressed {
        /// An opposite change came before it was told, or it changed nothing.
        Cancelled = "cancelled",
        /// A member came back within its grace.
        Grace = "grace",
    }
}

/// Counters and bounds of all rooms.
#[derive(Debug)]
pub struct PresenceStats {
    members: Gauge,
    members_max: usize,
    /// Bytes that members show.
    data_bytes: Gauge,
    data_bytes_max: usize,
    pub(super) rooms: Gauge,
    suppressed: [Count; Suppressed::ALL.len()],
    refused: Count,
    /// Whether the log has said that there are too many members.
    was_said: AtomicBool,
    notices: OnceLock<Arc<PresenceNotices>>,
}

impl PresenceStats {
    pub(super) fn new(members_max: usize, data_bytes_max: usize) -> Self {
        Self {
            members: Gauge::default(),
            members_max,
            data_bytes: Gauge::default(),
            data_bytes_max,
            rooms: Gauge::default(),
            suppressed: Default::default(),
            refused: Count::default(),
            was_said: AtomicBool::new(false),
            notices: OnceLock::new(),
        }
    }

    /// Members of all rooms.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.get()
    }

    /// Rooms with members, or with streams that want to see them.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.get()
    }

    /// Changes that were told to nobody.
    #[must_use]
    pub fn suppressed(&self, why: Suppressed) -> u64 {
        self.suppressed[why as usize].get()
    }

    /// Users that did not become members because of [`PRESENCE_MEMBERS_MAX`] or [`MEMBERSHIPS_PER_USER_MAX`].
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Sends what happens in rooms that list it to `notices` from now on. Only the first call counts.
    pub fn tell(&self, notices: Arc<PresenceNotices>) {
        let _ = self.notices.set(notices);
    }

    pub(super) fn suppress(&self, why: Suppressed) {
        self.suppressed[why as usize].add();
    }

    /// Counts `user` as one more member, if there may be one. If there are too many of all users, the log says so once
    /// in the life of the process.
    pub(super) fn admit(&self, user: &Source) -> bool {
        if !user.join(MEMBERSHIPS_PER_USER_MAX) {
            self.refused.add();
            return false;
        }
        let fits = self.members.rise_to(self.members_max);
        if !fits {
            user.part();
            self.refused.add();
            if !self.was_said.swap(true, Ordering::Relaxed) {
                let max = self.members_max;
                tracing::warn!(
                    max,
                    "presence has the most members it can have: more users listen without being members"
                );
            }
        }
        fits
    }

    /// Counts one member less, which was `user` and showed `data`.
    pub(super) fn dismiss(&self, user: &Source, data: Option<&PresenceData>) {
        user.part();
        self.members.fall();
        self.data_bytes.give(PresenceData::len_of(data));
    }

    /// Counts `data` as shown in place of what took `before` bytes, if there may be so much.
    pub(super) fn show(&self, data: Option<&PresenceData>, before: usize) -> bool {
        let bytes = PresenceData::len_of(data);
        // Less is always welcome.
        let fits = bytes <= before || self.data_bytes.take(bytes - before, self.data_bytes_max);
        self.data_bytes.give(before.saturating_sub(bytes));
        fits
    }

    /// Tells the application. Returns the waker of whoever does that, as [`PresenceNotices::put`].
    #[must_use]
    pub(super) fn note(
        &self,
        kind: PresenceKind,
        room: &Arc<Source>,
        user: Option<&Arc<Source>>,
    ) -> Option<Waker> {
        let notices = self.notices.get()?;
        notices.put(PresenceNotice { kind, room: room.clone(), user: user.cloned() })
    }
}
