//! Gives memory back after a crowd has left: no table keeps the largest size it ever had.
//!
//! Connections cannot move, because the kernel holds their slots until they close: their table is only cut at its end.
//! So a connection that joined last and stays keeps the slots before it, at about a hundred bytes each. Rooms can move.

use std::time::Duration;

use slab::Slab;

use crate::shard::conn::Conns;
use crate::shard::net::Net;
use crate::shard::sparse::{SMALL, is_sparse};
use crate::shard::{LocalRoom, Shard};

/// Time between two attempts, so that tables keep their size for a crowd that comes and goes in waves.
pub(super) const SHRINK_INTERVAL: Duration = Duration::from_secs(10);

impl<N: Net> Shard<N> {
    pub(super) fn shrink(&mut self) {
        // A flush in progress refers to its room by its index.
        if self.job.is_none() && is_sparse(self.rooms.len(), self.rooms.capacity()) {
            move_together(&mut self.rooms, &mut self.conns, self.settings.index);
        }
        self.conns.shrink();
        if is_sparse(self.ready.len(), self.ready.capacity()) {
            self.ready.shrink_to(2 * self.ready.len());
        }
        if is_sparse(self.due.len(), self.due.capacity()) {
            self.due.shrink_to(2 * self.due.len());
        }
        // Empty between two steps.
        self.unsettled.shrink_to(SMALL);
        self.dirty.shrink_to(SMALL);
        self.commands.shrink_to(SMALL);
    }

    /// Capacities of its tables of rooms and connections, and of its queues.
    #[cfg(test)]
    pub(super) fn places(&self) -> [usize; 4] {
        [
            self.rooms.capacity(),
            self.conns.capacity(),
            self.ready.capacity() + self.due.capacity(),
            self.dirty.capacity(),
        ]
    }
}

/// Moves rooms from the end of the table into its holes, up to the first that waits for a flush, and cuts off the end.
/// O(places), at most once in [`SHRINK_INTERVAL`], and only after three quarters of a crowd have left.
fn move_together<S>(rooms: &mut Slab<LocalRoom>, conns: &mut Conns<S>, shard: usize) {
    rooms.compact(|room, from, to| {
        // The queue refers to it by its index.
        if room.is_pending() {
            return false;
        }
        let index = |at: usize| u32::try_from(at).expect("fewer rooms than 2^32");
        for slot in room.members() {
            let membership = conns.get_mut(slot).and_then(|conn| conn.membership_mut(index(from)));
            membership.expect("members are connections that are in the room").room = index(to);
        }
        // The shard is attached already, so its flushed offset stays as it is.
        room.source.attach(shard, index(to), 0);
        true
    });
}
