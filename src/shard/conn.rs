//! The state of one connection: about a hundred bytes, however busy its rooms are.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use crate::hub::source::{ABSENT, Source};
use crate::rights::identity::Identity;
use crate::shard::expiry::Expiry;
pub use crate::shard::key::ConnKey;
use crate::shard::reason::CloseReason;
use crate::shard::sparse::is_sparse;
use crate::types::moment::Moment;
use crate::types::position::Offset;
use crate::wire::control::Heartbeat;
use crate::wire::encoding::Encoding;

/// A place in a room: the shard's index of the room, and the index in its list of members.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// Index of the room in the shard.
    pub room: u32,
    /// Index in the room's members.
    pub place: u32,
}

/// A connection's rooms, nearly always one. A stream of an inbox alone has an empty list.
#[derive(Debug)]
pub enum Rooms {
    /// One room.
    One(Membership),
    /// Any other number of them.
    List(Box<[Membership]>),
}

impl Rooms {
    fn as_slice(&self) -> &[Membership] {
        match self {
            Self::One(room) => std::slice::from_ref(room),
            Self::List(rooms) => rooms,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Membership] {
        match self {
            Self::One(room) => std::slice::from_mut(room),
            Self::List(rooms) => rooms,
        }
    }
}

impl FromIterator<Membership> for Rooms {
    fn from_iter<I: IntoIterator<Item = Membership>>(rooms: I) -> Self {
        let mut rooms = rooms.into_iter().fuse();
        match (rooms.next(), rooms.next()) {
            (Some(room), None) => Self::One(room),
            (first, second) => Self::List(first.into_iter().chain(second).chain(rooms).collect()),
        }
    }
}

/// Why a connection needs more than the shared batch. Most connections have no flag set.
pub mod flag {
    /// Its inbox has news, or an event of this batch is not for it: each event is checked.
    pub const MARKED: u16 = 1;
    /// It is in several rooms.
    pub const SEVERAL: u16 = 2;
    /// Its socket is full.
    pub const BLOCKED: u16 = 4;
    /// It waits for its user's rate limiter.
    pub const DEFERRED: u16 = 8;
    /// Its user's deliveries are limited.
    pub const RATE_LIMITED: u16 = 16;
    /// It is queued to be advanced.
    pub const QUEUED: u16 = 32;
    /// It closes as soon as its socket has room.
    pub const CLOSING: u16 = 64;
    /// It is the server's own probe and is not counted.
    pub const PROBE: u16 = 128;
    /// It ends once it has an event or a gap.
    pub const POLL: u16 = 256;
    /// It was sent one, or a part of it.
    pub const ANSWERED: u16 = 512;
}

/// One connection.
pub struct Conn<S> {
    /// Everything up to here has been written, or begun to be (then the rest is in `lag`).
    pub cursor: Offset,
    /// See [`flag`].
    pub flags: u16,
    /// Framing and compression of its bytes.
    pub encoding: Encoding,
    /// What its heartbeats contain. Not a flag, because flags take a connection off the shared path.
    pub heartbeat: Heartbeat,
    /// What it sees of who is present (`shard::presence`).
    pub sees: u8,
    /// The socket.
    pub socket: S,
    /// When something was last written.
    pub written: Moment,
    /// The inbox of its user, if it has one.
    pub user: Option<Arc<Source>>,
    /// What it needs to continue, if it could not be sent everything.
    pub lag: Option<Box<Lag>>,
    /// Its rooms.
    pub rooms: Rooms,
    /// The next connection of the same user in this shard, or [`ABSENT`].
    pub next_of_user: u32,
    /// When it joined.
    pub opened: Moment,
    /// Its address, where connections are bounded by address.
    pub address: Option<Box<IpAddr>>,
    /// Its identity, where authentication is required.
    pub identity: Option<Arc<Identity>>,
    /// When its session expires.
    pub expiry: Expiry,
}

/// State of a connection that could not be written to.
pub struct Lag {
    /// What must be written first.
    pub rest: Bytes,
    /// When the oldest unsent event was published.
    pub published: Moment,
    /// Events that are delivered once `rest` is written.
    pub events: u32,
    /// Each source's number of events up to the cursor, to count what is lost if the log evicts events above it.
    pub counts: Box<[u64]>,
    /// Why it closes, if it does. The closing event is in `rest` already, or follows it.
    pub closing: Option<CloseReason>,
    /// Whether `rest` ends with the closing event.
    pub closing_in_rest: bool,
}

impl<S> Conn<S> {
    /// All its places in rooms.
    pub fn memberships(&self) -> impl Iterator<Item = Membership> + use<'_, S> {
        self.rooms.as_slice().iter().copied()
    }

    /// Its place in `room`.
    pub fn membership_mut(&mut self, room: u32) -> Option<&mut Membership> {
        self.rooms.as_mut_slice().iter_mut().find(|membership| membership.room == room)
    }

    /// Whether one of `flags` is set.
    #[must_use]
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }
}

/// A shard's connections.
pub struct Conns<S> {
    slots: Slab<Conn<S>>,
    /// The generation of every slot ever used.
    generations: Vec<u32>,
}

impl<S> Default for Conns<S> {
    fn default() -> Self {
        Self { slots: Slab::new(), generations: Vec::new() }
    }
}

impl<S> Conns<S> {
    /// The key the next connection will get.
    #[must_use]
    pub fn next_key(&self) -> ConnKey {
        let slot = self.slots.vacant_key();
        let generation = self.generations.get(slot).copied().unwrap_or(0);
        ConnKey { slot: to_u32(slot), generation }
    }

    /// Adds a connection.
    pub fn insert(&mut self, conn: Conn<S>) -> ConnKey {
        let key = self.next_key();
        let slot = self.slots.insert(conn);
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        key
    }

    /// Removes the connection at `slot`. Its key finds nothing from now on.
    pub fn remove(&mut self, slot: u32) -> Option<Conn<S>> {
        let conn = self.slots.try_remove(slot as usize)?;
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        Some(conn)
    }

    /// Gives back the unused end of the table, if it is large. Generations stay, at four bytes for each slot ever used:
    /// they keep an old key from reaching a new connection.
    pub fn shrink(&mut self) {
        if is_sparse(self.slots.len(), self.slots.capacity()) {
            self.slots.shrink_to_fit();
        }
    }

    /// Number of allocated slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The slot of `key`, if its connection is still open.
    #[must_use]
    pub fn find(&self, key: ConnKey) -> Option<u32> {
        let current = *self.generations.get(key.slot as usize)?;
        (current == key.generation && self.slots.contains(key.slot as usize)).then_some(key.slot)
    }

    /// The key of the connection at `slot`.
    #[must_use]
    pub fn key(&self, slot: u32) -> ConnKey {
        ConnKey { slot, generation: self.generations[slot as usize] }
    }

    /// The connection at `slot`.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<&Conn<S>> {
        self.slots.get(slot as usize)
    }

    /// The connection at `slot`.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Conn<S>> {
        self.slots.get_mut(slot as usize)
    }

    /// Number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no connections.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// One past the highest slot that may be in use.
    #[must_use]
    pub fn slots(&self) -> u32 {
        to_u32(self.generations.len().min(self.slots.capacity()))
    }

    /// The slots in use, with their connections.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Conn<S>)> {
        self.slots.iter().map(|(slot, conn)| (to_u32(slot), conn))
    }
}

/// Slots are bounded by descriptors, far below 2^32 (and [`ABSENT`]).
fn to_u32(slot: usize) -> u32 {
    debug_assert!(slot < ABSENT as usize);
    u32::try_from(slot).expect("fewer connections than 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Conn<()> {
        Conn {
            cursor: 0,
            flags: 0,
            sees: 0,
            encoding: Encoding::default(),
            heartbeat: Heartbeat::default(),
            socket: (),
            written: Moment(0),
            user: None,
            lag: None,
            rooms: Rooms::One(Membership { room: 0, place: 0 }),
            next_of_user: ABSENT,
            opened: Moment(0),
            address: None,
            identity: None,
            expiry: Expiry::NEVER,
        }
    }

    #[test]
    fn stale_key_does_not_reach_the_new_tenant() {
        let mut conns = Conns::default();
        let old = conns.insert(conn());
        assert_eq!(conns.find(old), Some(old.slot));
        conns.remove(old.slot);
        let new = conns.insert(conn());
        assert_eq!(new.slot, old.slot, "the slot is used again");
        assert_eq!(conns.find(old), None);
        assert_eq!(conns.find(new), Some(new.slot));
        assert_eq!(ConnKey::from_u64(new.to_u64()), new);
    }

    #[test]
    fn a_connection_stays_within_two_cache_lines() {
        assert!(size_of::<Conn<i32>>() <= 96, "{} bytes", size_of::<Conn<i32>>());
    }
}
