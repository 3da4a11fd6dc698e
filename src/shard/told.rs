//! What the server tells streams beside their events: that their user was muted, or that the order is away.
//!
//! A stream whose socket is full is told when it has room again. At most [`UNTOLD_MAX`] wait for that; the next takes
//! the place of the one that waits longest, which then finds out by the answer to its next publish.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::hub::source::Source;
use crate::shard::Shard;
use crate::shard::conn::{ConnKey, flag};
use crate::shard::net::Net;
use crate::wire::control;

/// Streams of one shard that wait for what they are to be told.
pub const UNTOLD_MAX: usize = 1024;

/// A stream that is to be told something, and the event.
pub(super) struct Untold {
    key: ConnKey,
    plain: Arc<[u8]>,
}

impl<N: Net> Shard<N> {
    /// Tells the streams of `user` in `room` that it is muted there. Returns how many there are.
    pub(super) fn tell_muted(&mut self, user: &Source, room: &Arc<Source>, until: Option<&str>) -> u32 {
        let mut plain = Vec::new();
        control::put_muted(room.name(), until, &mut plain);
        let plain: Arc<[u8]> = plain.into();
        let mut told = 0;
        for slot in self.slots_of_user(user) {
            if self.is_in(slot, room) && !self.is_closing(slot) {
                told += 1;
                self.tell(Untold { key: self.conns.key(slot), plain: plain.clone() });
            }
        }
        told
    }

    /// Tells all streams that the order has not been heard of for so long. Returns how many there are. O(streams), about as
    /// much work as one broadcast.
    pub(super) fn tell_stale(&mut self, away: Duration) -> u32 {
        let mut plain = Vec::new();
        control::put_stale(away, &mut plain);
        let plain: Arc<[u8]> = plain.into();
        let open = self.conns.iter().filter(|(_, conn)| !conn.has(flag::CLOSING));
        let keys: Vec<ConnKey> = open.map(|(slot, _)| self.conns.key(slot)).collect();
        let told = keys.len();
        for key in keys {
            self.tell(Untold { key, plain: plain.clone() });
        }
        u32::try_from(told).unwrap_or(u32::MAX)
    }

    /// Tells those that had no room before.
    pub(super) fn tell_the_untold(&mut self) {
        for untold in std::mem::take(&mut self.untold) {
            self.tell(untold);
        }
    }

    /// Tells one stream, or lets it wait.
    fn tell(&mut self, untold: Untold) {
        let Some(slot) = self.conns.find(untold.key) else {
            return;
        };
        // What it is owed goes first.
        self.advance(slot);
        let Some(conn) = self.conns.get(slot).filter(|conn| !conn.has(flag::CLOSING)) else {
            return;
        };
        if conn.has(flag::BLOCKED) {
            if self.untold.len() >= UNTOLD_MAX {
                self.untold.pop_front();
            }
            self.untold.push_back(untold);
            return;
        }
        let piece = self.own_piece(slot, &untold.plain, conn.cursor);
        self.write(slot, &[piece]);
    }
}

/// The streams that wait.
pub(super) type Waiting = VecDeque<Untold>;
