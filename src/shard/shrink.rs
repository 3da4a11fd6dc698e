//! Gives memory back after a crowd has left: no table stays as large as it ever was.
//!
//! What cannot move is cut at its end: a connection's slot is in the kernel's hands until it closes, so one that came last
//! and stays keeps the slots before it, at some hundred bytes each. Rooms can move.

use std::time::Duration;

use slab::Slab;

use crate::shard::conn::Conns;
use crate::shard::net::Net;
use crate::shard::{LocalRoom, Shard};

/// Time between two looks. A crowd that comes and goes in waves should find its tables as it left them.
pub(super) const SHRINK_INTERVAL: Duration = Duration::from_secs(10);

/// Places nobody misses.
const SMALL: usize = 64;

/// Whether a table has so many more places than entries that it should give some back.
pub(super) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > SMALL && len < capacity / 4
}

impl<N: Net> Shard<N> {
    pub(super) fn shrink(&mut self) {
        // A flush under way knows its room by its index.
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

    /// Places in its tables of rooms and connections, and in its queues.
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

/// Moves rooms from the end of the table into its holes, as far as none of them waits for a flush, and cuts the end off.
/// O(places), at most once in [`SHRINK_INTERVAL`], and only after three quarters of a crowd have left.
fn move_together<S>(rooms: &mut Slab<LocalRoom>, conns: &mut Conns<S>, shard: usize) {
    rooms.compact(|room, from, to| {
        // Its place in the queue names the index.
        if room.is_pending() {
            return false;
        }
        let index = |at: usize| u32::try_from(at).expect("fewer rooms than 2^32");
        for slot in room.members() {
            let membership = conns.get_mut(slot).and_then(|conn| conn.membership_mut(index(from)));
            membership.expect("members are connections that are in the room").room = index(to);
        }
        // Seated already, so what it has flushed stays as it is.
        room.source.attach(shard, index(to), 0);
        true
    });
}
