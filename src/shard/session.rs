//! How long a connection may stay: the expiry of its token, the renewal, and the revocation.
//!
//! Thirty seconds before the token expires the subscriber is warned (`event: expiring`). With a new token the
//! connection may stay ([`Command::Refresh`](crate::hub::mailbox::Command)); without one it is closed. A connection
//! that the application admitted for a time gets no warning: all it could do is reconnect, which it does by itself. All
//! checks run in rounds over the slots, so a connection needs no timer, only four bytes besides the identity.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::mailbox::{Refresh, Refreshed};
use crate::hub::source::{Source, SourceKind};
use crate::rights::identity::{Identity, KeyId, Session, Standing};
use crate::rights::revocation::Whose;
use crate::shard::Shard;
use crate::shard::conn::{Conn, ConnKey, Membership, flag};
use crate::shard::expiry::{Due, Expiry};
use crate::shard::net::Net;
use crate::shard::presence;
use crate::shard::reason::CloseReason;
use crate::types::moment::Moment;
use crate::wire::control;

/// Time in which every connection is checked once.
pub(super) const SESSION_ROUND: Duration = Duration::from_millis(500);

impl<N: Net> Shard<N> {
    /// Checks the next part of the slots.
    pub(super) fn check_sessions(&mut self, passed: Duration) {
        if self.expiring == 0 {
            return;
        }
        let slots = self.conns.slots();
        for slot in self.tending.sessions.next_slots(slots, passed, SESSION_ROUND) {
            self.check_session(slot);
        }
    }

    fn check_session(&mut self, slot: u32) {
        let Some(conn) = self.conns.get(slot).filter(|conn| !conn.has(flag::CLOSING)) else {
            return;
        };
        match conn.expiry.due(self.now) {
            Due::Nothing => {}
            Due::Over => self.end(slot, CloseReason::Expired),
            Due::Warn(left) => self.warn(slot, left),
        }
    }

    /// Warns a subscriber, if the socket has room. A slow connection is tried again in the next round.
    fn warn(&mut self, slot: u32, left: Duration) {
        self.advance(slot);
        let Some(conn) = self.conns.get_mut(slot).filter(|conn| !conn.has(flag::BLOCKED)) else {
            return;
        };
        conn.expiry = conn.expiry.told();
        let cursor = conn.cursor;
        let mut plain = Vec::new();
        control::put_expiring(left, &mut plain);
        let piece = self.own_piece(slot, &plain, cursor);
        self.write(slot, &[piece]);
    }

    /// Ends a connection that may not be open any more: with a closing event, if its socket takes that now.
    fn end(&mut self, slot: u32, reason: CloseReason) {
        if self.conns.get(slot).is_some_and(|conn| conn.has(flag::BLOCKED)) {
            return self.remove(slot, reason);
        }
        self.close(slot, reason);
        // Does not wait for a socket that is full.
        if self.is_closing(slot) {
            self.remove(slot, reason);
        }
    }

    /// Ends the connection with this `key` if it may not stay in one of its rooms.
    pub fn review_one(&mut self, key: ConnKey, may_stay: &dyn Fn(&Standing<'_>) -> bool, now: Moment) {
        self.now = now;
        if let Some(slot) = self.conns.find(key).filter(|slot| !self.may_stay(*slot, may_stay)) {
            self.end_reviewed(&[slot], may_stay);
        }
    }

    /// Ends all connections that may not stay in one of their rooms. Returns how many there were.
    pub(super) fn review(&mut self, may_stay: &dyn Fn(&Standing<'_>) -> bool) -> u32 {
        let slots = self.conns.iter().map(|(slot, _)| slot).filter(|slot| !self.may_stay(*slot, may_stay));
        let slots: Vec<u32> = slots.collect();
        self.end_reviewed(&slots, may_stay)
    }

    /// Ends the connections at `slots`, which may not stay in all of their rooms. The others are left as by any end.
    fn end_reviewed(&mut self, slots: &[u32], may_stay: &dyn Fn(&Standing<'_>) -> bool) -> u32 {
        for slot in slots {
            self.leave_at_once(*slot, |shard, room| !shard.may_stay_in(*slot, Some(room.name()), may_stay));
        }
        self.end_all(slots)
    }

    fn may_stay(&self, slot: u32, may_stay: &dyn Fn(&Standing<'_>) -> bool) -> bool {
        let room_of = |membership: Membership| self.rooms[membership.room as usize].source.name();
        let rooms = self.conns.get(slot).into_iter().flat_map(Conn::memberships).map(room_of);
        let mut rooms = rooms.peekable();
        let may_stay = |room| self.may_stay_in(slot, room, may_stay);
        if rooms.peek().is_none() { may_stay(None) } else { rooms.all(|room| may_stay(Some(room))) }
    }

    /// Whether the connection may stay in `room`; with `None`, whether it may if it has none.
    fn may_stay_in(&self, slot: u32, room: Option<&str>, may_stay: &dyn Fn(&Standing<'_>) -> bool) -> bool {
        // The server's own probe has no identity, and needs none.
        let conn = self.conns.get(slot).filter(|conn| !conn.has(flag::PROBE));
        conn.is_none_or(|conn| {
            let (identity, user) = (conn.identity.as_deref(), conn.user.as_deref().map(Source::name));
            may_stay(&Standing { identity, user, sees_names: presence::sees_names(conn), room })
        })
    }

    /// Ends all connections that `whose` selects. Returns how many there were.
    pub(super) fn revoke(&mut self, whose: &Whose) -> u32 {
        let is_meant = |identity: &Arc<Identity>| whose.means(identity);
        let slots = self.conns.iter().filter(|(_, conn)| conn.identity.as_ref().is_some_and(is_meant));
        let slots: Vec<u32> = slots.map(|(slot, _)| slot).collect();
        for slot in &slots {
            self.leave_at_once(*slot, |_, _| true);
        }
        self.end_all(&slots)
    }

    fn end_all(&mut self, slots: &[u32]) -> u32 {
        let mut ended = 0;
        for slot in slots {
            ended += u32::from(!self.is_closing(*slot));
            self.end(*slot, CloseReason::Revoked);
        }
        ended
    }

    /// Gives a new session to those connections of a user whose rooms it all allows, and silence in them to those that
    /// are silent. A connection that another identity opened in the user's name keeps its own.
    pub(super) fn refresh(&mut self, refresh: &Refresh) -> Refreshed {
        let mut refreshed = Refreshed::default();
        for slot in self.slots_of_user(&refresh.user) {
            let key = self.conns.key(slot);
            let is_own = |identity: &Arc<Identity>| identity.user == refresh.session.identity.user;
            let is_meant = refresh.connection.is_none_or(|meant| meant == key.to_u64())
                && self.conns.get(slot).and_then(|conn| conn.identity.as_ref()).is_some_and(is_own);
            if !is_meant || self.is_closing(slot) {
                continue;
            }
            let is_allowed =
                |source: &Arc<Source>| source.kind() != SourceKind::Room || (refresh.may_read)(source.name());
            let may_be_silent = self.may_be_silent(slot, &refresh.session.identity);
            if !may_be_silent || !self.sources(slot).all(is_allowed) {
                refreshed.refused += 1;
                continue;
            }
            refreshed.connections += 1;
            self.set_session(slot, Some(&refresh.session));
        }
        refreshed
    }

    /// Sets the session of the connection at `slot`.
    pub(super) fn set_session(&mut self, slot: u32, session: Option<&Session>) {
        let expiry = Expiry::at(session.and_then(|session| session.expires));
        // A connection that the application admitted has no token to renew; the application is asked again when it
        // reconnects.
        let is_asked_about = session.is_some_and(|session| session.identity.key == KeyId::APPLICATION);
        let expiry = if is_asked_about { expiry.told() } else { expiry };
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.identity = session.map(|session| session.identity.clone());
        let before = std::mem::replace(&mut conn.expiry, expiry);
        self.count_expiring(before, expiry);
        self.reread_rights(slot);
    }

    /// Updates the number of connections whose session can expire.
    pub(super) fn count_expiring(&mut self, before: Expiry, after: Expiry) {
        self.expiring += u32::from(after != Expiry::NEVER);
        self.expiring -= u32::from(before != Expiry::NEVER);
    }
}
