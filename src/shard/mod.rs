//! One thread's connections: delivers what the hub's logs hold above each connection's cursor.
//!
//! Generic over the sockets, and time is an argument, so that tests run all of it with fake sockets. One thread at a
//! time uses a shard: its own, or that of a publisher that delivers directly. Other threads reach it through its
//! mailbox.
//!
//! The shared path: a source's new events are made contiguous once and written to every connection whose cursor
//! [fits](batch::Batch::fits). Any connection that differs in any way (several sources with news, an event it must not
//! get, a slow socket, a limited user) is advanced by itself, from the logs, by its cursor (`advance`). The two never
//! disagree because a shared write moves the cursor to a head up to which the shard has read all its mail.

pub mod advance;
pub mod batch;
pub mod close;
pub mod conn;
pub mod expiry;
pub mod flush;
pub mod join;
pub mod key;
pub mod net;
pub mod notice;
mod poll;
mod presence;
pub mod reason;
mod replay;
mod room;
pub mod session;
mod shrink;
mod sparse;
pub mod stats;
pub mod tend;
pub mod told;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::hub::Hub;
use crate::hub::mailbox::{Command, Dirty, Reply};
use crate::hub::source::{ABSENT, Source, SourceKind};
use crate::order::memory::MemoryOrder;
use crate::shard::conn::{ConnKey, Conns, Membership, flag};
use crate::shard::flush::Job;
use crate::shard::net::Net;
use crate::shard::notice::Notices;
pub use crate::shard::room::PORTION_MEMBERS;
use crate::shard::room::{LocalRoom, Pace};
use crate::shard::stats::Stats;
use crate::shard::tend::Tending;
use crate::types::histogram::micros;
use crate::types::moment::{Moment, jittered};
use crate::types::position::Offset;
use crate::types::rate::Rate;
use crate::wire::gzip::Deflater;

/// Settings of a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardSettings {
    /// Its number.
    pub index: usize,
    /// A busy source is flushed at most this often.
    pub flush_interval: Duration,
    /// Members of a room that are flushed in one go, at least one.
    pub portion: u32,
    /// Longest silence on a connection.
    pub heartbeat: Duration,
    /// Base of the jittered `retry:`.
    pub retry: Duration,
    /// Age of an unsent event at which its connection is reaped.
    pub max_unsent_age: Duration,
    /// Longest life of a connection, if bounded.
    pub lease: Option<Duration>,
    /// Time that a drain takes at most.
    pub drain: Duration,
    /// Rate at which a drain closes the streams of all shards together; faster, if `drain` is too short for it.
    pub drain_rate: Rate,
}

/// Connections written to before other tasks of the thread run: a millisecond or two.
pub const WRITES_PER_STEP: usize = 256;

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There is more to do now.
    Again,
    /// There is nothing to do before this time, unless mail arrives or a socket is ready.
    Sleep(Moment),
    /// The drain has closed all connections.
    Drained,
}

/// Something to flush or to advance.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Work {
    /// A portion of a room, by the shard's index.
    Room(u32, u32),
    All,
    One(ConnKey),
    /// News of who is present in a room.
    Presence(u32),
    /// A poll's time is over.
    Poll(ConnKey),
}

/// One thread's connections.
pub struct Shard<N: Net> {
    hub: Arc<Hub>,
    /// Where it proposes that its users come and go.
    order: MemoryOrder,
    settings: ShardSettings,
    net: N,
    stats: Arc<Stats>,
    /// Where ended streams are reported, if the application wants to know.
    notices: Option<Arc<Notices>>,
    conns: Conns<N::Socket>,
    rooms: Slab<LocalRoom>,
    all: Pace,
    now: Moment,
    /// Until when its own thread sleeps, as it last noted.
    sleeps_until: Moment,
    /// The hub's head before the mail was last read: everything up to it has been announced to this shard.
    head: Offset,
    job: Option<Job>,
    /// Work that is due, in order.
    ready: VecDeque<Work>,
    /// Work that is due later.
    due: BinaryHeap<Reverse<(Moment, Work)>>,
    tending: Tending,
    /// Connections whose session has an end.
    expiring: u32,
    /// Times of polls in `ready` and `due`.
    polls: poll::Timers,
    /// Streams that are to be told something when their sockets have room.
    untold: told::Waiting,
    deflater: Deflater,
    rng: fastrand::Rng,
    /// Events written in this step, by time of publish: their latency is known when the step ends.
    unsettled: Vec<(Moment, u64)>,
    /// Memory kept for reuse.
    scratch: Vec<u8>,
    dirty: Vec<Dirty>,
    commands: Vec<Command>,
}

impl<N: Net> Shard<N> {
    /// A shard without connections, of the hub that follows `order`. `seed` decides jitter only.
    #[must_use]
    pub fn new(order: MemoryOrder, settings: ShardSettings, net: N, stats: Arc<Stats>, seed: u64) -> Self {
        let hub = order.hub().clone();
        // The broadcast always has an attachment: it is a source of every connection.
        hub.all().attach(settings.index, 0, hub.head());
        Self {
            all: Pace::starting_at(hub.all(), hub.head()),
            hub,
            order,
            settings,
            net,
            stats,
            notices: None,
            conns: Conns::default(),
            rooms: Slab::new(),
            now: Moment(0),
            sleeps_until: Moment(0),
            head: 0,
            job: None,
            ready: VecDeque::new(),
            due: BinaryHeap::new(),
            tending: Tending::default(),
            expiring: 0,
            polls: poll::Timers::default(),
            untold: told::Waiting::new(),
            deflater: Deflater::default(),
            rng: fastrand::Rng::with_seed(seed),
            unsettled: Vec::new(),
            scratch: Vec::new(),
            dirty: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Reports every stream that ends from now on to `notices`.
    #[must_use]
    pub fn telling(mut self, notices: Option<Arc<Notices>>) -> Self {
        self.notices = notices;
        self
    }

    /// The network.
    #[must_use]
    pub fn net(&self) -> &N {
        &self.net
    }

    /// The network, to be polled.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.net
    }

    /// Its connections.
    #[must_use]
    pub fn conns(&self) -> &Conns<N::Socket> {
        &self.conns
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> usize {
        self.settings.index
    }

    /// The socket of `key`, if its connection is still open.
    pub fn socket_mut(&mut self, key: ConnKey) -> Option<&mut N::Socket> {
        let slot = self.conns.find(key)?;
        self.conns.get_mut(slot).map(|conn| &mut conn.socket)
    }

    /// Number of rooms that have members here.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Makes up to [`WRITES_PER_STEP`] writes that are due. Call [`Shard::settle`] after it.
    pub fn step(&mut self, now: Moment) -> Step {
        self.now = now;
        self.tend();
        let mut budget = WRITES_PER_STEP;
        while budget > 0 {
            if let Some(job) = self.job.take() {
                self.job = self.run(job, &mut budget);
                continue;
            }
            self.read_mail();
            match self.next_work() {
                Some(Work::Room(room, portion)) => self.start_room(room, portion),
                Some(Work::All) => self.start_all(),
                Some(Work::One(key)) => {
                    budget -= 1;
                    self.advance_queued(key);
                }
                Some(Work::Presence(room)) => self.send_presence(room, &mut budget),
                Some(Work::Poll(key)) => self.end_poll(key),
                None if self.is_drained() => return Step::Drained,
                None => return Step::Sleep(self.next_wake()),
            }
        }
        Step::Again
    }

    /// Whether work is due now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.job.is_some() || !self.ready.is_empty()
    }

    /// Until when its own thread sleeps, as it last noted.
    #[must_use]
    pub fn sleeps_until(&self) -> Moment {
        self.sleeps_until
    }

    /// Notes that its thread is about to sleep.
    pub fn set_sleeps_until(&mut self, until: Moment) {
        self.sleeps_until = until;
    }

    /// Records how long the last step took, and the latency of its events from publish to write.
    pub fn settle(&mut self, now: Moment) {
        self.stats.busy.add(micros(now.since(self.now)));
        for (published, count) in self.unsettled.drain(..) {
            self.stats.delivery.record(micros(now.since(published)), count);
        }
    }

    fn read_mail(&mut self) {
        // The head first: all news up to it was announced before it moved.
        self.head = self.hub.head();
        let (mut dirty, mut commands) = (std::mem::take(&mut self.dirty), std::mem::take(&mut self.commands));
        let mut presence = Vec::new();
        self.hub.mailbox(self.settings.index).take(&mut dirty, &mut commands, &mut presence);
        for Dirty(source) in presence {
            self.has_presence_news(&source);
        }
        for Dirty(source) in dirty.drain(..) {
            source.unclaim(self.settings.index);
            self.has_news(&source);
        }
        for command in commands.drain(..) {
            self.handle(command);
        }
        (self.dirty, self.commands) = (dirty, commands);
    }

    fn has_news(&mut self, source: &Source) {
        let Some(local) = source.local(self.settings.index) else {
            return;
        };
        match source.kind() {
            SourceKind::Room => self.schedule_room(local),
            SourceKind::All => self.schedule_all(),
            SourceKind::Inbox => {
                let mut slot = local;
                while let Some(conn) = self.conns.get_mut(slot) {
                    conn.flags |= flag::MARKED;
                    let next = conn.next_of_user;
                    self.schedule_one(slot);
                    slot = next;
                }
            }
        }
    }

    fn schedule_room(&mut self, room: u32) {
        for portion in 0..self.rooms[room as usize].portions() {
            self.schedule_portion(room, portion);
        }
    }

    fn schedule_portion(&mut self, room: u32, portion: u32) {
        let portions = self.rooms.get_mut(room as usize).and_then(|room| room.portion_mut(portion));
        let Some(pace) = portions.map(|portion| &mut portion.pace).filter(|pace| !pace.pending) else {
            return;
        };
        pace.pending = true;
        let due_at = pace.due_at;
        self.schedule(due_at, Work::Room(room, portion));
    }

    /// Which portion of `room` the connection is in.
    fn portion_of(&self, slot: u32, room: u32) -> Option<u32> {
        let mut memberships = self.conns.get(slot)?.memberships();
        let place = memberships.find(|membership| membership.room == room)?.place;
        Some(place / self.settings.portion)
    }

    fn schedule_all(&mut self) {
        if !std::mem::replace(&mut self.all.pending, true) {
            self.schedule(self.all.due_at, Work::All);
        }
    }

    /// Schedules one connection for when it has been quiet for a flush interval.
    fn schedule_one(&mut self, slot: u32) {
        let at = self.conns.get(slot).map(|conn| conn.written + self.settings.flush_interval);
        self.schedule_one_at(slot, at.unwrap_or_default());
    }

    fn schedule_one_at(&mut self, slot: u32, at: Moment) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if !conn.has(flag::QUEUED) {
            conn.flags |= flag::QUEUED;
            let key = self.conns.key(slot);
            self.schedule(at, Work::One(key));
        }
    }

    fn schedule(&mut self, at: Moment, work: Work) {
        if at <= self.now {
            self.ready.push_back(work);
        } else {
            self.due.push(Reverse((at, work)));
        }
    }

    fn next_work(&mut self) -> Option<Work> {
        while let Some(Reverse((at, work))) = self.due.peek() {
            if *at > self.now {
                break;
            }
            self.ready.push_back(*work);
            self.due.pop();
        }
        self.ready.pop_front()
    }

    fn next_wake(&self) -> Moment {
        let tend_at = self.tending.at();
        self.due.peek().map_or(tend_at, |Reverse((at, _))| tend_at.min(*at))
    }

    fn advance_queued(&mut self, key: ConnKey) {
        let Some(slot) = self.conns.find(key) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags &= !(flag::QUEUED | flag::DEFERRED);
        }
        self.advance(slot);
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Disconnect { user, room, reply } => {
                let mut closed = 0;
                for slot in self.slots_of_user(&user) {
                    if self.is_in(slot, &room) {
                        closed += 1;
                        self.leave_at_once(slot, |_, left| Arc::ptr_eq(left, &room));
                        self.close(slot, reason::CloseReason::Disconnected);
                    }
                }
                answer(reply, closed);
            }
            Command::Members { room, reply } => {
                let local = room.local(self.settings.index).map(|room| &self.rooms[room as usize]);
                let members = local.into_iter().flat_map(LocalRoom::members);
                let users = members.filter_map(|slot| self.conns.get(slot)?.user.clone());
                answer(reply, users.collect());
            }
            Command::Replace { user, passed } => self.replace_oldest(user, passed),
            Command::Revoke { whose, reply } => answer(reply, self.revoke(&whose)),
            Command::Review { may_stay, reply } => {
                let ended = self.review(&*may_stay);
                if ended > 0 {
                    tracing::info!(ended, "streams without a valid right were closed");
                }
                answer(reply, ended);
            }
            Command::Refresh(refresh) => {
                let refreshed = self.refresh(&refresh);
                answer(refresh.reply, refreshed);
            }
            Command::Policies => self.reread_policies(),
            Command::Muted { user, room, until, reply } => {
                answer(reply, self.tell_muted(&user, &room, until.as_deref()));
            }
            Command::Stale { away, reply } => answer(reply, self.tell_stale(away)),
            Command::Drain => self.start_drain(),
        }
    }

    /// Looks at the policies of this shard's rooms again.
    fn reread_policies(&mut self) {
        let mut seen = Vec::new();
        for (index, room) in &mut self.rooms {
            room.policy = room.source.policy();
            // All that are seen: presence may have been off and on again since the last look.
            if room.presence.is_some() && room.policy.presence.is_some() {
                seen.extend(u32::try_from(index));
            }
        }
        for room in seen {
            self.reread_presence(room);
        }
    }

    fn slots_of_user(&self, user: &Source) -> Vec<u32> {
        let first = user.local(self.settings.index).unwrap_or(ABSENT);
        let next = |slot: &u32| self.conns.get(*slot).map(|conn| conn.next_of_user);
        std::iter::successors(Some(first), next).filter(|slot| *slot != ABSENT).collect()
    }

    fn is_in(&self, slot: u32, room: &Arc<Source>) -> bool {
        let same = |membership: Membership| Arc::ptr_eq(&self.rooms[membership.room as usize].source, room);
        self.conns.get(slot).is_some_and(|conn| conn.memberships().any(same))
    }

    fn is_closing(&self, slot: u32) -> bool {
        self.conns.get(slot).is_some_and(|conn| conn.has(flag::CLOSING))
    }

    /// A `retry:` time between three and five quarters of the setting.
    fn retry(&mut self) -> Duration {
        jittered(self.settings.retry, self.rng.f64())
    }
}

/// Sends the answer, if its receiver still waits.
fn answer<T>(reply: Reply<T>, value: T) {
    let _ = reply.send(value);
}
