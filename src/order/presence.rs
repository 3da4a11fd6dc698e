//! Changes of who is present: proposed here, and applied to the hub's [`Presence`](crate::hub::presence::Presence).
//!
//! Each is a [`PresenceChange`](crate::hub::presence::change::PresenceChange), which is data: with the names of the room
//! and the user it can be sent to another node, and has the same effect there. The order in memory has no other nodes.
//! It applies a proposal at once, so a shard that proposes does not wait.

use std::sync::Arc;
use std::task::Waker;

use crate::hub::presence::change::Seat;
use crate::hub::presence::data::PresenceData;
use crate::hub::presence::report::By;
use crate::hub::presence::{Entered, Put};
use crate::hub::source::Source;
use crate::order::memory::MemoryOrder;
use crate::types::moment::Moment;

impl MemoryOrder {
    /// A stream of `user` has begun in `room`. Nothing happens without presence in the room, or if there are too many
    /// members.
    pub fn enter(&self, room: &Arc<Source>, user: &Arc<Source>, now: Moment) -> Entered {
        self.hub().presence().enter(room, user, now)
    }

    /// A stream of `user` has ended, which entered with this `seat`. If it was the user's last one in `room`, the
    /// member's grace begins, or it leaves `at_once`. The returned wakers are to be woken, once no lock is held.
    #[must_use]
    pub fn leave(
        &self,
        room: &Arc<Source>,
        user: &Arc<Source>,
        seat: Seat,
        at_once: bool,
        now: Moment,
    ) -> Vec<Waker> {
        self.hub().presence().leave(room, user, seat, at_once, now)
    }

    /// `user` shows `data` in `room`, or nothing.
    pub fn show(
        &self,
        room: &Arc<Source>,
        user: &Arc<Source>,
        data: Option<PresenceData>,
        now: Moment,
    ) -> Put {
        self.hub().presence().put(room, user, data, now)
    }

    /// `user` is no member of `room` any more, whatever streams it has there. The returned wakers are to be woken.
    #[must_use]
    pub fn withdraw(&self, room: &Arc<Source>, user: &Arc<Source>, now: Moment) -> Vec<Waker> {
        self.hub().presence().withdraw(room, user, By::Here, now)
    }
}
