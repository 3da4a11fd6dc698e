//! Ends connections: at an event boundary, with a closing event where that is possible.

use std::io;
use std::sync::Arc;

use crate::hub::mailbox::Command;
use crate::hub::source::{ABSENT, Source};
use crate::shard::advance::Turn;
use crate::shard::conn::{Conn, Lag, flag};
use crate::shard::expiry::Expiry;
use crate::shard::net::{self, Net};
use crate::shard::notice::Notice;
use crate::shard::reason::CloseReason;
use crate::shard::{ConnKey, Shard};
use crate::types::moment::Moment;
use crate::wire::control;

impl<N: Net> Shard<N> {
    /// Removes the connection of `key`, whose peer is gone.
    pub fn on_closed(&mut self, key: ConnKey, reason: CloseReason, now: Moment) {
        self.now = now;
        if let Some(slot) = self.conns.find(key) {
            self.remove(slot, reason);
        }
    }

    /// Removes the connection of `key`, whose socket has failed with an error of this `kind`.
    pub fn on_failed(&mut self, key: ConnKey, kind: io::ErrorKind, now: Moment) {
        let conn = self.conns.find(key).and_then(|slot| self.conns.get(slot));
        let is_full = conn.is_some_and(|conn| conn.has(flag::BLOCKED));
        self.on_closed(key, net::failed(kind, is_full), now);
    }

    /// Writes what is due, then `event: closing`, then ends the stream. If the socket is full, does so once it has
    /// room.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason) {
        if self.is_closing(slot) {
            return;
        }
        self.advance_in(slot, Vec::new(), Turn::Last);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.has(flag::BLOCKED) {
            conn.flags |= flag::CLOSING;
            conn.lag.as_mut().expect("a blocked connection has its rest").closing = Some(reason);
        } else {
            self.send_closing(slot, reason);
        }
    }

    /// Writes `event: closing` and ends the stream. The socket must not be full.
    pub(super) fn send_closing(&mut self, slot: u32, reason: CloseReason) {
        let retry = self.retry() * self.retry_factor(slot, reason);
        let key = self.conns.key(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let (mut plain, mut bytes) = (Vec::new(), Vec::new());
        if reason != CloseReason::Poll {
            control::put_closing(retry, reason.as_str(), &mut plain);
            conn.encoding.put(&plain, &mut bytes);
        }
        bytes.extend_from_slice(conn.encoding.end());
        if bytes.is_empty() {
            return self.remove(slot, reason);
        }
        let sent = match net::sent(self.net.send(&mut conn.socket, &bytes), false) {
            Ok(sent) => sent,
            Err(reason) => return self.remove(slot, reason),
        };
        self.stats.bytes[usize::from(conn.encoding.gzip)].add(sent as u64);
        if sent == bytes.len() {
            return self.remove(slot, reason);
        }
        conn.flags |= flag::BLOCKED | flag::CLOSING;
        self.stats.lagging.add(1);
        conn.lag = Some(Box::new(Lag {
            rest: bytes::Bytes::from(bytes).slice(sent..),
            published: self.now,
            events: 0,
            counts: Box::default(),
            closing: Some(reason),
            closing_in_rest: true,
        }));
        if self.net.want_write(&mut conn.socket, key, true).is_err() {
            self.remove(slot, CloseReason::Error);
        }
    }

    /// By how much `retry:` is multiplied. It doubles with each replacement, to slow down a user whose tabs replace
    /// each other in turns.
    fn retry_factor(&self, slot: u32, reason: CloseReason) -> u32 {
        let user = self.conns.get(slot).and_then(|conn| conn.user.as_ref());
        match (reason, user) {
            (CloseReason::Replaced, Some(user)) => 1 << self.hub.replacements(user),
            _ => 1,
        }
    }

    /// Whether the connection's user was told to stay away from one of its rooms.
    pub(super) fn is_away(&self, slot: u32) -> bool {
        let mut memberships = self.conns.get(slot).into_iter().flat_map(Conn::memberships);
        memberships.any(|membership| self.is_away_from(slot, &self.rooms[membership.room as usize].source))
    }

    /// Whether the connection's user was told to stay away from `room`.
    pub(super) fn is_away_from(&self, slot: u32, room: &Source) -> bool {
        let user = self.conns.get(slot).and_then(|conn| conn.user.as_ref());
        user.is_some_and(|user| self.hub.is_away(user.name(), room.name(), self.now))
    }

    /// Closes the oldest connection of `user` that is not closing yet. If there is none, passes the command to the next
    /// shard, after `passed` others: several new connections at once may ask a shard for more than it has.
    pub(super) fn replace_oldest(&mut self, user: Arc<Source>, passed: usize) {
        let opened = |slot: &u32| self.conns.get(*slot).map(|conn| conn.opened);
        let slots = self.slots_of_user(&user).into_iter().filter(|slot| !self.is_closing(*slot));
        let shards = self.hub.settings().shards;
        if let Some(slot) = slots.min_by_key(opened) {
            self.close(slot, CloseReason::Replaced);
        } else if passed + 1 < shards {
            let next = (self.settings.index + 1) % shards;
            // If its mailbox is full, the user has one connection too many until the next one joins.
            let _ = self.hub.mailbox(next).send(Command::Replace { user, passed: passed + 1 });
        }
    }

    /// Notes when `user`'s oldest connection here was opened, if new connections replace the oldest.
    pub(super) fn note_oldest(&self, user: &Source) {
        if self.hub.settings().caps.replace {
            let slots = self.slots_of_user(user);
            let opened = slots.iter().filter_map(|slot| self.conns.get(*slot)).map(|conn| conn.opened.0);
            user.set_oldest(self.settings.index, opened.min().unwrap_or(u64::MAX));
        }
    }

    /// Ends a connection at once and forgets it.
    pub(super) fn remove(&mut self, slot: u32, reason: CloseReason) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let memberships: Vec<_> = conn.memberships().collect();
        self.put_notice(slot, reason);
        self.end_presence(slot);
        self.unlink_user(slot);
        // Room by room, while the connection is still in the table: leaving a room may change its place in another.
        for membership in memberships {
            let now_at =
                self.conns.get_mut(slot).and_then(|conn| conn.membership_mut(membership.room).copied());
            self.leave_room(now_at.unwrap_or(membership));
        }
        let Some(conn) = self.conns.remove(slot) else {
            return;
        };
        self.count_expiring(conn.expiry, Expiry::NEVER);
        if conn.has(flag::BLOCKED) {
            self.stats.lagging.sub(1);
        }
        if !conn.has(flag::PROBE) {
            self.stats.connections.sub(1);
            self.stats.closed[reason as usize].add(1);
            self.hub.all().leave();
            self.hub.leave(conn.user.as_deref(), conn.address.as_deref().copied());
        }
        // A peer that has not taken its bytes would only keep them in the kernel.
        let abort = conn.has(flag::BLOCKED);
        self.net.close(conn.socket, abort);
    }

    /// Reports that a stream ends, while its rooms are still known.
    fn put_notice(&self, slot: u32, reason: CloseReason) {
        let Some(notices) = &self.notices else {
            return;
        };
        let Some(conn) = self.conns.get(slot).filter(|conn| !conn.has(flag::PROBE)) else {
            return;
        };
        let rooms = conn.memberships().map(|membership| self.rooms[membership.room as usize].source.clone());
        let waker = notices.put(Notice {
            user: conn.user.clone(),
            rooms: rooms.collect(),
            shard: self.settings.index,
            key: self.conns.key(slot),
            reason,
            opened: conn.opened,
            closed: self.now,
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn unlink_user(&mut self, slot: u32) {
        let shard = self.settings.index;
        let Some((user, next)) =
            self.conns.get(slot).and_then(|conn| Some((conn.user.clone()?, conn.next_of_user)))
        else {
            return;
        };
        let before = self.slots_of_user(&user).into_iter().take_while(|at| *at != slot).last();
        match before.and_then(|before| self.conns.get_mut(before)) {
            Some(before) => before.next_of_user = next,
            None if next == ABSENT => user.detach(shard),
            None => user.attach(shard, next, 0),
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.next_of_user = ABSENT;
        }
        self.note_oldest(&user);
        // The inbox may have waited for the connection that left.
        if let Some(first) = user.local(shard) {
            self.note_inbox_flushed(first);
        }
    }
}
