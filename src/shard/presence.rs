//! Tells connections who is present in their rooms, and the hub which of their users are.
//!
//! Messages carry no id and move no cursor: they are state, not history. A connection whose socket is full when a
//! message comes is marked in that room, and gets the room's state when it has space.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use crate::hub::presence::Entered;
use crate::hub::presence::change::Seat;
use crate::hub::presence::sent::{Message, Messages, Told, View};
use crate::hub::source::Source;
use crate::rights::grant::Action;
use crate::rights::identity::Identity;
use crate::shard::batch::{BATCH_BYTES_MAX, Piece};
use crate::shard::conn::{Conn, flag};
use crate::shard::net::Net;
use crate::shard::{Shard, Work};
use crate::types::moment::Moment;
use crate::wire::encoding::Encoding;

/// What a stream is told about who is in its rooms, and what it says about its user.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Presence {
    /// Nothing. Its user is no member.
    #[default]
    Off,
    /// Who is there. Its user, if it has one, is a member.
    Member,
    /// Who is there. Its user is no member by this stream.
    Silent,
}

/// What a connection sees of who is present. Not among its flags, because those take it off the shared path.
pub(super) mod sees {
    /// It sees presence.
    pub(in crate::shard) const PRESENCE: u8 = 1;
    /// Its user is not a member by it.
    pub(in crate::shard) const SILENTLY: u8 = 2;
    /// It sees names although it has no identity that says so: no authentication is set up.
    pub(in crate::shard) const NAMES: u8 = 4;
    /// What it knows of one of its rooms is out of date.
    pub(in crate::shard) const STALE: u8 = 8;
}

/// Connections written to before other work of the shard runs.
const WRITES_PER_TURN: usize = 64;

/// A room's presence in one shard.
#[derive(Debug, Default)]
pub(super) struct LocalPresence {
    /// The connections that see it, by slot.
    watchers: BTreeMap<u32, Watcher>,
    /// The message up to which they were told.
    told: Told,
    /// Whether work is queued.
    pub(super) pending: bool,
    /// What is being sent.
    job: Option<Box<Job>>,
}

/// A connection that sees who is present in a room.
#[derive(Debug)]
struct Watcher {
    /// Whether what it knows of the room is out of date, or nothing.
    is_stale: bool,
    /// What its newest state showed. Messages are of the same view.
    view: View,
    /// With which its user leaves; `None` if it did not enter by this connection, or has left.
    seat: Option<Seat>,
}

/// Messages on their way to a room's watchers. It may stop after any of them.
#[derive(Debug)]
struct Job {
    names: Framed,
    counts: Framed,
    /// The watchers that are left are those in slots below it.
    below: u32,
}

/// Bytes of messages, framed once for each encoding that is asked for.
#[derive(Debug, Default)]
struct Framed {
    plain: Vec<u8>,
    framed: [Option<Bytes>; Encoding::COUNT],
}

impl Framed {
    fn bytes(&mut self, encoding: Encoding) -> Bytes {
        let Self { plain, framed } = self;
        let framed = framed[encoding.index()].get_or_insert_with(|| {
            let mut bytes = Vec::with_capacity(plain.len() + 32);
            encoding.put(plain, &mut bytes);
            bytes.into()
        });
        framed.clone()
    }

    fn of(messages: &[Message], view: View) -> Self {
        let bytes = messages.iter().filter_map(|message| message.bytes(view));
        let plain = bytes.fold(Vec::new(), |plain, bytes| [&plain[..], bytes].concat());
        Self { plain, ..Self::default() }
    }
}

/// The flags of a connection that joins.
pub(super) fn flags(presence: Presence, sees_names: bool) -> u8 {
    let names = if sees_names { sees::NAMES } else { 0 };
    match presence {
        Presence::Off => 0,
        Presence::Member => sees::PRESENCE | names,
        Presence::Silent => sees::PRESENCE | sees::SILENTLY | names,
    }
}

/// What `conn` may see in `room`.
fn view<S>(conn: &Conn<S>, room: &Source) -> View {
    let may = match conn.identity.as_deref() {
        Some(identity) => identity.allows(Action::Members(room.name())),
        None => sees_names(conn),
    };
    if may { View::Names } else { View::Counts }
}

/// Whether `conn` sees names without an identity.
pub(super) fn sees_names<S>(conn: &Conn<S>) -> bool {
    conn.sees & sees::NAMES != 0
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl<N: Net> Shard<N> {
    /// Makes the user of a new connection a member of its rooms, and appends their states to `plain`, or the first of
    /// them: [`Shard::refresh_presence`] sends the others.
    pub(super) fn begin_presence(&mut self, slot: u32, plain: &mut Vec<u8>) {
        for (room, source) in self.rooms_that_it_sees(slot) {
            let mut watcher = Watcher { is_stale: true, view: View::Counts, seat: None };
            if let Some(user) = self.member(slot) {
                let Entered { seat, wakers } = self.order.enter(&source, &user, self.now);
                watcher.seat = seat;
                wake(wakers);
            }
            let presence = self.rooms[room as usize].presence.get_or_insert_default();
            presence.watchers.insert(slot, watcher);
            self.hub.presence().watch(&source, self.settings.index);
        }
        plain.append(&mut self.next_states(slot));
    }

    /// The states of rooms of which the connection at `slot` has none that is up to date, about [`BATCH_BYTES_MAX`]
    /// bytes, each room once. It is marked if there are more.
    fn next_states(&mut self, slot: u32) -> Vec<u8> {
        let (mut plain, rooms) = (Vec::new(), self.rooms_that_it_sees(slot));
        let Some(conn) = self.conns.get_mut(slot) else {
            return plain;
        };
        conn.sees &= !sees::STALE;
        for (room, source) in &rooms {
            let presence = self.rooms[*room as usize].presence.as_deref_mut();
            let Some(LocalPresence { watchers, told, job, .. }) = presence else { continue };
            let is_alone = watchers.len() == 1;
            let Some(watcher) = watchers.get_mut(&slot).filter(|watcher| watcher.is_stale) else { continue };
            if plain.len() > BATCH_BYTES_MAX {
                conn.sees |= sees::STALE;
                break;
            }
            (watcher.is_stale, watcher.view) = (false, view(conn, source));
            let Some(state) = self.hub.presence().state(source, watcher.view, self.now) else {
                continue;
            };
            plain.extend_from_slice(&state.bytes);
            // A job would bring it older messages yet, which only the later ones put right.
            if is_alone && job.is_none() {
                *told = state.told;
            }
        }
        plain
    }

    /// Notes that the connection at `slot` ends. Its user stays a member for a time where it has not left.
    pub(super) fn end_presence(&mut self, slot: u32) {
        for (room, source) in self.rooms_that_it_sees(slot) {
            let Some(presence) = &mut self.rooms[room as usize].presence else { continue };
            let seat = presence.watchers.remove(&slot).and_then(|watcher| watcher.seat);
            if presence.watchers.is_empty() {
                self.rooms[room as usize].presence = None;
                self.hub.presence().unwatch(&source, self.settings.index);
            }
            self.leave_presence(slot, &source, seat, false);
        }
    }

    /// Ends the membership by the connection at `slot` without a grace, in those of its rooms that `is_left` names: it
    /// may not be there any more, and is about to be closed.
    pub(super) fn leave_at_once(&mut self, slot: u32, is_left: impl Fn(&Self, &Arc<Source>) -> bool) {
        for (room, source) in self.rooms_that_it_sees(slot) {
            if is_left(self, &source) {
                let presence = self.rooms[room as usize].presence.as_mut();
                let watcher = presence.and_then(|presence| presence.watchers.get_mut(&slot));
                let seat = watcher.and_then(|watcher| watcher.seat.take());
                self.leave_presence(slot, &source, seat, true);
            }
        }
    }

    fn leave_presence(&self, slot: u32, room: &Arc<Source>, seat: Option<Seat>, at_once: bool) {
        let user = self.conns.get(slot).and_then(|conn| conn.user.as_ref());
        if let Some((user, seat)) = user.zip(seat) {
            wake(self.order.leave(room, user, seat, at_once, self.now));
        }
    }

    /// The rooms of a connection, with the shard's index, if it sees who is present.
    fn rooms_that_it_sees(&self, slot: u32) -> Vec<(u32, Arc<Source>)> {
        let conn = self.conns.get(slot).filter(|conn| conn.sees & sees::PRESENCE != 0);
        let rooms = conn.into_iter().flat_map(Conn::memberships).map(|membership| membership.room);
        rooms.map(|room| (room, self.rooms[room as usize].source.clone())).collect()
    }

    /// The user that the connection at `slot` makes a member.
    fn member(&self, slot: u32) -> Option<Arc<Source>> {
        let conn = self.conns.get(slot).filter(|conn| conn.sees & sees::SILENTLY == 0)?;
        conn.user.clone()
    }

    /// Schedules the messages of a room that has news of who is present.
    pub(super) fn has_presence_news(&mut self, source: &Source) {
        source.unclaim_presence(self.settings.index);
        if let Some(room) = source.local(self.settings.index) {
            self.schedule_presence(room);
        }
    }

    fn schedule_presence(&mut self, room: u32) {
        let presence = self.rooms.get_mut(room as usize).and_then(|room| room.presence.as_mut());
        if let Some(presence) = presence.filter(|presence| !presence.pending) {
            presence.pending = true;
            self.schedule(Moment(0), Work::Presence(room));
        }
    }

    /// Sends a room's messages to some of its watchers. Comes back for the others.
    pub(super) fn send_presence(&mut self, room: u32, budget: &mut usize) {
        let Some(local) = self.rooms.get_mut(room as usize) else {
            return;
        };
        let source = local.source.clone();
        // The room may be gone, or its index reused.
        let Some(presence) = &mut local.presence else {
            return;
        };
        presence.pending = false;
        let job = presence.job.take().or_else(|| self.next_presence(room, &source));
        let Some(mut job) = job else {
            return;
        };
        let writes = WRITES_PER_TURN.min(*budget);
        for _ in 0..writes {
            let Some(slot) = self.next_watcher(room, &job) else {
                // There may be newer messages.
                return self.schedule_presence(room);
            };
            *budget -= 1;
            job.below = slot;
            self.tell_presence(slot, room, &mut job);
        }
        if let Some(presence) = self.rooms.get_mut(room as usize).and_then(|room| room.presence.as_mut()) {
            presence.job = Some(job);
        }
        self.schedule_presence(room);
    }

    /// The messages that a room's connections lack, or their states.
    fn next_presence(&mut self, room: u32, source: &Arc<Source>) -> Option<Box<Job>> {
        let presence = self.rooms[room as usize].presence.as_mut()?;
        let (names, counts) = match self.hub.presence().messages_after(source, presence.told) {
            Messages::None => return None,
            Messages::Next(messages) => {
                presence.told.rev = messages.last()?.rev;
                (Framed::of(&messages, View::Names), Framed::of(&messages, View::Counts))
            }
            Messages::Behind => {
                let state = |view| self.hub.presence().state(source, view, self.now);
                let (names, counts) = (state(View::Names)?, state(View::Counts)?);
                presence.told = names.told;
                let framed = |bytes: &Bytes| Framed { plain: bytes.to_vec(), ..Framed::default() };
                (framed(&names.bytes), framed(&counts.bytes))
            }
        };
        Some(Box::new(Job { names, counts, below: u32::MAX }))
    }

    fn next_watcher(&self, room: u32, job: &Job) -> Option<u32> {
        let presence = self.rooms.get(room as usize)?.presence.as_ref()?;
        presence.watchers.range(..job.below).next_back().map(|(slot, _)| *slot)
    }

    fn tell_presence(&mut self, slot: u32, room: u32, job: &mut Job) {
        let (presence, conn) = (&mut self.rooms[room as usize].presence, self.conns.get_mut(slot));
        let watcher = presence.as_mut().and_then(|presence| presence.watchers.get_mut(&slot));
        let Some((watcher, conn)) = watcher.zip(conn).filter(|(_, conn)| !conn.has(flag::CLOSING)) else {
            return;
        };
        if conn.has(flag::BLOCKED) {
            watcher.is_stale = true;
            conn.sees |= sees::STALE;
            self.stats.presence_stale.add(1);
            return;
        }
        let framed = match watcher.view {
            View::Names => &mut job.names,
            View::Counts => &mut job.counts,
        };
        if framed.plain.is_empty() {
            return;
        }
        let (bytes, upto) = (framed.bytes(conn.encoding), conn.cursor);
        self.stats.presence_sent.add(1);
        self.write(slot, &[Piece { bytes, upto, published: self.now, events: 0 }]);
    }

    /// Sends a connection the states that it lacks, as far as its socket has space.
    pub(super) fn refresh_presence(&mut self, slot: u32) {
        loop {
            let conn = self.conns.get(slot).filter(|conn| conn.sees & sees::STALE != 0);
            let Some(conn) = conn.filter(|conn| !conn.has(flag::BLOCKED | flag::CLOSING)) else {
                return;
            };
            let cursor = conn.cursor;
            let plain = self.next_states(slot);
            if !plain.is_empty() {
                self.stats.presence_sent.add(1);
                let piece = self.own_piece(slot, &plain, cursor);
                self.write(slot, &[piece]);
            }
        }
    }

    /// Follows a change of the rights of the connection at `slot`: where it sees something else from now on, it gets a
    /// state. Changes to what it was shown before would be no use to it.
    pub(super) fn reread_rights(&mut self, slot: u32) {
        for (room, source) in self.rooms_that_it_sees(slot) {
            let presence = self.rooms[room as usize].presence.as_mut();
            let watcher = presence.and_then(|presence| presence.watchers.get_mut(&slot));
            let Some((watcher, conn)) = watcher.zip(self.conns.get_mut(slot)) else { continue };
            if watcher.view != view(conn, &source) {
                watcher.is_stale = true;
                conn.sees |= sees::STALE;
            }
        }
        self.refresh_presence(slot);
    }

    /// Whether `identity` allows what the connection at `slot` sees without being seen, if it is silent.
    pub(super) fn may_be_silent(&self, slot: u32, identity: &Identity) -> bool {
        let is_silent = self.conns.get(slot).is_some_and(|conn| conn.sees & sees::SILENTLY != 0);
        let may_see = |(_, room): (u32, Arc<Source>)| identity.allows(Action::Members(room.name()));
        !is_silent || self.rooms_that_it_sees(slot).into_iter().all(may_see)
    }

    /// Follows a change of policies in `room`, which has presence: if what its connections know is from before it, they
    /// get a state.
    pub(super) fn reread_presence(&mut self, room: u32) {
        if let Some(local) = self.rooms.get(room as usize) {
            self.hub.presence().watch(&local.source, self.settings.index);
            self.schedule_presence(room);
        }
    }
}
