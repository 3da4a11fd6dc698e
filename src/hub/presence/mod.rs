//! Who is present in rooms. Pure: no socket and no clock.
//!
//! A member is a user in a room, over however many connections. Its state here is that of the rooms that have presence
//! by their policy; others cost nothing. What happens is a [`PresenceChange`], which is data: it is proposed to the
//! [order](crate::order::presence), and applied here, with the same effect wherever that is done.
//!
//! Guarantees:
//! - Whoever begins with a [`Presence::state`] and then follows the messages knows exactly who is there. A member that
//!   joined and left between two messages is in neither of them, unless a state has shown it meanwhile.
//! - A room has one message an interval at most, and one in five intervals after a count.
//! - A member that comes back within its grace causes no message.
//! - Nothing here walks over all rooms, except when all policies have changed, and when a node of the order comes or ends. What is due is ordered by time.
//!
//! Clients put in what `join` and `update` name (data that is left out is no data), take out what `leave` names if they
//! have it, and replace everything on a `state`. After a `count` they know nobody by name.
//!
//! Each of `SHARES` has a lock; it is held while a message is composed. Locks of mailboxes, of the notices to the
//! application and of the rooms that are due are taken under it, never the other way round. Wakers are returned, to be
//! woken when it is free.

pub mod change;
pub mod data;
mod due;
mod graces;
mod member;
mod message;
mod nodes;
pub mod notice;
mod pending;
pub mod report;
mod room;
pub mod sent;
pub mod stats;
mod user;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashTable;
use parking_lot::Mutex;

use crate::hub::mailbox::Mailbox;
use crate::hub::presence::change::{PresenceChange, Seat};
use crate::hub::presence::data::{PRESENCE_DATA_TOTAL_BYTES_MAX, PresenceData};
use crate::hub::presence::due::Due;
use crate::hub::presence::report::{By, Reporting, Unreported};
use crate::hub::presence::room::{News, Room};
use crate::hub::presence::sent::{Messages, Told, View};
use crate::hub::presence::stats::{PRESENCE_MEMBERS_MAX, PresenceStats};
use crate::hub::source::Source;
use crate::types::moment::Moment;

pub use crate::hub::presence::room::{COUNT_INTERVALS, PUT_RATE};

/// Shares of the rooms. Enough that two threads seldom need the same lock.
const SHARES: usize = 64;

/// Rooms that one [`Presence::tick`] looks at: some milliseconds.
pub const TICK_ROOMS_MAX: usize = 512;

/// What a stream begins with, or begins anew with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// The message up to which it is. Later messages may repeat what it shows already.
    pub told: Told,
    /// The complete bytes of the event.
    pub bytes: Bytes,
}

/// What became of a stream that [entered](crate::order::memory::MemoryOrder::enter).
#[derive(Debug, Default)]
#[must_use]
pub struct Entered {
    /// With which the stream leaves; `None` without presence in the room.
    pub seat: Option<Seat>,
    /// Whom to wake.
    pub wakers: Vec<Waker>,
}

/// What became of what a user [shows](crate::order::memory::MemoryOrder::show).
#[derive(Debug)]
#[must_use]
pub enum Put {
    /// The member shows the data.
    Done {
        /// Number of the message from which on everybody has been told.
        rev: u64,
        /// Whom to wake.
        wakers: Vec<Waker>,
    },
    /// The user is no member.
    NotPresent,
    /// All members together show [`PRESENCE_DATA_TOTAL_BYTES_MAX`] bytes.
    Full,
    /// The member changes its data too often; it may at this moment.
    Limited(Moment),
}

/// What a [`Presence::tick`] leaves to do.
#[derive(Debug, Default)]
#[must_use]
pub struct Tick {
    /// Whom to wake.
    pub wakers: Vec<Waker>,
    /// Whether more rooms are due: then the next tick should come soon.
    pub has_more: bool,
}

/// Members of a room, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Number of the room's newest message.
    pub rev: u64,
    /// All members.
    pub total: usize,
    /// Connections of members.
    pub connections: u32,
    /// The members of this page.
    pub members: Vec<MemberInfo>,
    /// Whether there are more after these.
    pub has_more: bool,
}

/// One member.
#[derive(Clone, Debug)]
pub struct MemberInfo {
    /// The user's inbox.
    pub user: Arc<Source>,
    /// How long it has been a member.
    pub since: Duration,
    /// Its connections in the room; none within its grace.
    pub connections: u32,
    /// What it shows.
    pub data: Option<PresenceData>,
}

/// Who is present, in all rooms.
pub struct Presence {
    mailboxes: Arc<[Mailbox]>,
    hasher: RandomState,
    shares: Box<[Mutex<Share>]>,
    due: Mutex<Due>,
    /// Lives that rooms have begun.
    lives: AtomicU64,
    /// Seats that streams have taken.
    seats: AtomicU64,
    stats: PresenceStats,
    /// What the other nodes are to be told, if there are some.
    reporting: OnceLock<Reporting>,
}

/// Rooms with members, or with streams that see presence. A room is held here, so its address is its own.
type Share = HashTable<Box<Room>>;

impl Presence {
    /// Nobody is present. News go to `mailboxes`, one for each shard.
    #[must_use]
    pub fn new(mailboxes: Arc<[Mailbox]>) -> Self {
        Self::with_bounds(mailboxes, PRESENCE_MEMBERS_MAX, PRESENCE_DATA_TOTAL_BYTES_MAX)
    }

    fn with_bounds(mailboxes: Arc<[Mailbox]>, members_max: usize, data_bytes_max: usize) -> Self {
        Self {
            mailboxes,
            hasher: RandomState::new(),
            shares: (0..SHARES).map(|_| Mutex::default()).collect(),
            due: Mutex::default(),
            lives: AtomicU64::new(0),
            seats: AtomicU64::new(0),
            stats: PresenceStats::new(members_max, data_bytes_max),
            reporting: OnceLock::new(),
        }
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &PresenceStats {
        &self.stats
    }

    /// Notes that `shard` has streams in `room` that see presence, silent ones included: from now on it is told of the
    /// room's messages. May be called for each of them. Without presence in the room, nothing happens.
    pub fn watch(&self, room: &Arc<Source>, shard: usize) {
        let mut share = self.share(room).lock();
        if let Some(state) = self.find_or_create(&mut share, room) {
            state.watch(shard, true);
        }
    }

    /// Notes that `shard` has no such stream in `room` any more.
    pub fn unwatch(&self, room: &Arc<Source>, shard: usize) {
        let mut share = self.share(room).lock();
        if let Some(state) = self.find(&mut share, room) {
            state.watch(shard, false);
            self.forget_if_unused(&mut share, room);
        }
    }

    /// A stream of `user` has begun, which is not silent. Nothing happens without presence in the room, or if there are
    /// [`PRESENCE_MEMBERS_MAX`] members.
    ///
    /// For a new stream: first this, then [`Presence::watch`], then [`Presence::state`]. So a user who is alone causes
    /// no message.
    pub(crate) fn enter(&self, room: &Arc<Source>, user: &Arc<Source>, now: Moment) -> Entered {
        let mut share = self.share(room).lock();
        let Some(state) = self.find_or_create(&mut share, room) else {
            return Entered::default();
        };
        let seat = self.next_seat();
        self.change(state, user, PresenceChange::Enter { seat }, now);
        let wakers = self.advance(state, now);
        self.forget_if_unused(&mut share, room);
        Entered { seat: Some(seat), wakers }
    }

    /// A stream of `user` has ended, which entered with this `seat`. If it was the member's last one, its grace begins,
    /// or it leaves `at_once`. A stream that is older than the member (it was withdrawn and came again) changes nothing.
    #[must_use]
    pub(crate) fn leave(
        &self,
        room: &Arc<Source>,
        user: &Arc<Source>,
        seat: Seat,
        at_once: bool,
        now: Moment,
    ) -> Vec<Waker> {
        self.apply(room, user, PresenceChange::Leave { seat, at_once }, now)
    }

    /// `user` shows `data`, or nothing, unless it is no member, does this too often ([`PUT_RATE`]), or all together show
    /// too much.
    pub(crate) fn put(
        &self,
        room: &Arc<Source>,
        user: &Arc<Source>,
        data: Option<PresenceData>,
        now: Moment,
    ) -> Put {
        let mut share = self.share(room).lock();
        let Some(state) = self.find(&mut share, room) else {
            return Put::NotPresent;
        };
        match state.take_put(user.name(), now) {
            None => Put::NotPresent,
            Some(next) if next > now => Put::Limited(next),
            Some(_) if !state.put(user.name(), data, &self.stats) => Put::Full,
            Some(_) => {
                let wakers = self.advance(state, now);
                Put::Done { rev: state.told_by(), wakers }
            }
        }
    }

    /// `user` leaves now, whatever streams it has; those are silent from then on. A new stream makes it a member again.
    #[must_use]
    pub(crate) fn withdraw(&self, room: &Arc<Source>, user: &Arc<Source>, by: By, now: Moment) -> Vec<Waker> {
        self.apply(room, user, PresenceChange::Withdraw { by }, now)
    }

    /// A seat that is larger than all before it. Taken under the room's lock, and of one counter for all of its lives: so
    /// later streams have larger seats.
    fn next_seat(&self) -> Seat {
        Seat(NonZeroU64::MIN.saturating_add(self.seats.fetch_add(1, Ordering::Relaxed)))
    }

    fn apply(
        &self,
        room: &Arc<Source>,
        user: &Arc<Source>,
        change: PresenceChange,
        now: Moment,
    ) -> Vec<Waker> {
        let mut share = self.share(room).lock();
        let state = match change {
            PresenceChange::Enter { .. } => self.find_or_create(&mut share, room),
            _ => self.find(&mut share, room),
        };
        let Some(state) = state else {
            return Vec::new();
        };
        self.change(state, user, change, now);
        let wakers = self.advance(state, now);
        self.forget_if_unused(&mut share, room);
        wakers
    }

    /// The bytes with which a stream of this view begins, or begins anew after [`Messages::Behind`]. `None` without
    /// presence in the room.
    #[must_use]
    pub fn state(&self, room: &Arc<Source>, view: View, now: Moment) -> Option<State> {
        let mut share = self.share(room).lock();
        self.find(&mut share, room).map(|state| state.state(view, now))
    }

    /// What a shard has to send whose streams have everything up to `told`.
    pub fn messages_after(&self, room: &Arc<Source>, told: Told) -> Messages {
        let mut share = self.share(room).lock();
        self.find(&mut share, room).map_or(Messages::None, |state| state.messages_after(told))
    }

    /// Up to `limit` members of `room` whose names come after `after`, and about `bytes_max` bytes of them. A room
    /// without state is empty.
    #[must_use]
    pub fn page(
        &self,
        room: &Arc<Source>,
        after: Option<&str>,
        limit: usize,
        bytes_max: usize,
        now: Moment,
    ) -> Page {
        let mut share = self.share(room).lock();
        let page = self.find(&mut share, room).map(|state| state.page(after, limit, bytes_max, now));
        page.unwrap_or_default()
    }

    /// Whether `user` is a member of `room`.
    #[must_use]
    pub fn has(&self, room: &Arc<Source>, user: &str) -> bool {
        let mut share = self.share(room).lock();
        self.find(&mut share, room).is_some_and(|state| state.has(user))
    }

    /// Ends graces and makes messages that are due, in up to [`TICK_ROOMS_MAX`] rooms. Called about ten times a second
    /// by one thread.
    pub fn tick(&self, now: Moment) -> Tick {
        let (rooms, has_more) = self.due.lock().take(TICK_ROOMS_MAX, now);
        let mut wakers = Vec::new();
        for room in rooms {
            let mut share = self.share(&room).lock();
            let Some(state) = self.find(&mut share, &room) else { continue };
            // Its place was taken above, unless it got another one meanwhile.
            self.due.lock().set(&room, &mut state.place, None);
            state.end_graces(now, &self.stats);
            wakers.append(&mut self.advance(state, now));
            self.forget_if_unused(&mut share, &room);
        }
        Tick { wakers, has_more }
    }

    /// Follows the policy of `room`, which has changed. Without presence, nobody is a member any more, and the room's
    /// streams are told nothing further; those that are open stay silent if presence comes back.
    #[must_use]
    pub fn policy_changed(&self, room: &Arc<Source>, now: Moment) -> Vec<Waker> {
        let mut share = self.share(room).lock();
        let Some(state) = self.find(&mut share, room) else {
            return Vec::new();
        };
        let policy = room.policy();
        if let Some(presence) = policy.presence {
            state.set_policy(presence, policy.callbacks.presence);
            return self.advance(state, now);
        }
        state.clear(&self.stats);
        let teller = state.teller.take();
        let reporting = self.reporting.get().zip(state.unreported.as_mut());
        let reporter = reporting.and_then(|(reporting, unreported)| reporting.keep_gone(room, unreported));
        self.forget(&mut share, room);
        teller.into_iter().chain(reporter).collect()
    }

    /// Follows the policies of all rooms after a reload.
    #[must_use]
    pub fn policies_changed(&self, now: Moment) -> Vec<Waker> {
        let rooms = |share: &Mutex<Share>| -> Vec<Arc<Source>> {
            share.lock().iter().map(|state| state.source.clone()).collect()
        };
        let rooms = self.shares.iter().flat_map(rooms);
        rooms.flat_map(|room| self.policy_changed(&room, now)).collect()
    }

    fn change(&self, state: &mut Room, user: &Arc<Source>, change: PresenceChange, now: Moment) {
        match change {
            PresenceChange::Enter { seat } => state.enter(user, seat, now, &self.stats),
            PresenceChange::Leave { seat, at_once } => {
                state.leave(user.name(), seat, at_once, now, &self.stats);
            }
            PresenceChange::Put { data } => {
                state.put(user.name(), data, &self.stats);
            }
            PresenceChange::Withdraw { by } => state.withdraw(user.name(), by, &self.stats),
        }
    }

    /// Makes the room's next message if its time has come, and notes when the room is due again.
    fn advance(&self, state: &mut Room, now: Moment) -> Vec<Waker> {
        let news = state.settle(now, &self.stats);
        let at = state.due();
        if state.place.map(|(moment, _)| moment) != at {
            let source = state.source.clone();
            self.due.lock().set(&source, &mut state.place, at);
        }
        let reporter = self.queue_report(state);
        let teller = state.teller.take().into_iter().chain(reporter);
        if news == News::None {
            return teller.collect();
        }
        let tell = |shard: &usize| {
            let source = state.source.claim_presence(*shard).then(|| state.source.clone())?;
            self.mailboxes[*shard].announce_presence(source)
        };
        teller.chain(state.watching().iter().filter_map(tell)).collect()
    }

    fn share(&self, room: &Arc<Source>) -> &Mutex<Share> {
        // hashbrown uses the low bits for the bucket and the top seven for its tags.
        &self.shares[(self.hash(room) >> 32) as usize % SHARES]
    }

    fn hash(&self, room: &Arc<Source>) -> u64 {
        self.hasher.hash_one(Arc::as_ptr(room).addr())
    }

    fn find<'s>(&self, share: &'s mut Share, room: &Arc<Source>) -> Option<&'s mut Room> {
        let state = share.find_mut(self.hash(room), |state| Arc::ptr_eq(&state.source, room));
        state.map(|state| &mut **state)
    }

    /// `None` if the room has no presence by its policy.
    fn find_or_create<'s>(&self, share: &'s mut Share, room: &Arc<Source>) -> Option<&'s mut Room> {
        let hash = self.hash(room);
        let policy = room.policy();
        let presence = policy.presence?;
        let entry =
            share.entry(hash, |state| Arc::ptr_eq(&state.source, room), |state| self.hash(&state.source));
        let entry = entry.or_insert_with(|| {
            self.stats.rooms.rise();
            let life = 1 + self.lives.fetch_add(1, Ordering::Relaxed);
            let mut state = Room::new(room.clone(), presence, policy.callbacks.presence, life);
            state.unreported = self.reporting.get().map(|_| Unreported::default());
            Box::new(state)
        });
        Some(&mut **entry.into_mut())
    }

    fn forget_if_unused(&self, share: &mut Share, room: &Arc<Source>) {
        if self.find(share, room).is_some_and(|state| state.is_unused()) {
            self.forget(share, room);
        }
    }

    fn forget(&self, share: &mut Share, room: &Arc<Source>) {
        let hash = self.hash(room);
        if let Ok(entry) = share.find_entry(hash, |state| Arc::ptr_eq(&state.source, room)) {
            let (mut state, _) = entry.remove();
            self.due.lock().set(room, &mut state.place, None);
            self.stats.rooms.fall();
        }
        if share.len() < share.capacity() / 4 {
            share.shrink_to(share.len() * 2, |state| self.hash(&state.source));
        }
    }
}
