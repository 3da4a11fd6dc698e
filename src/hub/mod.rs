//! Events, their history, and the sources that shards attach to. Uses no socket and no clock: time is an argument.
//!
//! Guarantee: an event at or below [`Hub::head`] is in its log, and every shard attached to that log has been told.

pub mod admission;
pub mod apply;
pub mod draft;
pub mod history;
pub mod log;
pub mod mailbox;
pub mod memory_level;
pub mod mutes;
pub mod notices;
pub mod own_ids;
pub mod presence;
pub mod refusal;
pub mod room_policy;
pub mod seats;
pub mod source;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::hub::admission::{Admission, Caps};
use crate::hub::history::{History, HistoryBounds};
use crate::hub::mailbox::Mailbox;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::mutes::Mutes;
use crate::hub::presence::Presence;
use crate::hub::room_policy::{RoomPolicies, RoomPolicy};
use crate::hub::source::{Source, SourceKind};
use crate::hub::table::Table;
use crate::types::lineage::Lineage;
use crate::types::moment::Moment;
use crate::types::position::{Epoch, Offset, Position};
use crate::types::rate::Rate;
use crate::types::rate_limiter::RateLimiter;

/// Settings of a hub.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Threads that deliver.
    pub shards: usize,
    /// The epoch of an order that begins here.
    pub epoch: Epoch,
    /// Bounds of all history.
    pub history: HistoryBounds,
    /// Caps on connections.
    pub caps: Caps,
    /// Deliveries one user may get, and what happens to the rest.
    pub delivery: Option<(Rate, Overflow)>,
}

/// What happens to events above a user's delivery rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overflow {
    /// The oldest are left out, counted, and reported by a gap.
    Drop,
    /// They wait in the log.
    Defer,
}

/// The answer to a publish.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Published {
    /// Offset of the newest event; 0 if none was published.
    pub offset: Offset,
    /// Connections the events were addressed to when they were published, summed over events.
    pub subscribers: u64,
    /// Events that were published now.
    pub events: u32,
    /// Events that were not: an event of their key with their version or a later one was published before.
    pub skipped: u32,
    /// Events that were not: they were published before.
    pub replayed: u32,
    /// Whether the whole is the answer of an earlier publish.
    pub is_repeat: bool,
}

impl Published {
    /// The answer for one event at `offset`.
    #[must_use]
    pub fn one(offset: Offset, subscribers: u32) -> Self {
        Self { offset, subscribers: subscribers.into(), events: 1, ..Self::default() }
    }

    /// Adds what became of events published later.
    pub fn add(&mut self, more: &Self) {
        self.offset = self.offset.max(more.offset);
        self.subscribers += more.subscribers;
        self.events += more.events;
        self.skipped += more.skipped;
        self.replayed += more.replayed;
    }
}

/// Everything that all shards share.
pub struct Hub {
    settings: HubSettings,
    /// Whether other nodes follow the same order.
    is_shared: AtomicBool,
    /// Changed under the history's lock.
    lineage: ArcSwap<Lineage>,
    history: Mutex<History>,
    head: AtomicU64,
    published: AtomicU64,
    sweep_turn: AtomicUsize,
    rooms: Table,
    users: Table,
    all: Arc<Source>,
    mailboxes: Arc<[Mailbox]>,
    presence: Presence,
    admission: Admission,
    mutes: Mutes,
    /// Number of the current [`MemoryLevel`].
    memory_level: AtomicU8,
}

/// Steps of [`History::trim`] under one hold of the lock: some ten microseconds.
pub(crate) const TRIM_STEPS: usize = 64;

/// Replacements in a row that still make a user's `retry:` grow.
pub const REPLACEMENTS_MAX: u32 = 6;

impl Hub {
    /// A hub without events or subscribers.
    #[must_use]
    pub fn new(settings: HubSettings) -> Arc<Self> {
        let shards = settings.shards;
        let HistoryBounds { log, age_max, .. } = settings.history;
        let policy = Arc::new(RoomPolicy::of_server(log, age_max));
        let mailboxes: Arc<[Mailbox]> = (0..shards).map(|_| Mailbox::default()).collect();
        Arc::new(Self {
            is_shared: AtomicBool::new(false),
            lineage: ArcSwap::from_pointee(Lineage::root(settings.epoch, 0)),
            history: Mutex::default(),
            head: AtomicU64::new(0),
            published: AtomicU64::new(0),
            sweep_turn: AtomicUsize::new(0),
            rooms: Table::new(SourceKind::Room, shards, policy.clone()),
            users: Table::new(SourceKind::Inbox, shards, policy.clone()),
            all: Arc::new(Source::new(SourceKind::All, "", shards, 0, policy)),
            presence: Presence::new(mailboxes.clone()),
            mailboxes,
            admission: Admission::default(),
            mutes: Mutes::default(),
            memory_level: AtomicU8::new(MemoryLevel::Normal.number()),
            settings,
        })
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The terms of the order.
    #[must_use]
    pub fn lineage(&self) -> Arc<Lineage> {
        self.lineage.load_full()
    }

    /// The epoch of new events.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.lineage.load().epoch()
    }

    /// The id of `offset`.
    #[must_use]
    pub fn position(&self, offset: Offset) -> Position {
        self.lineage.load().position(offset)
    }

    /// Goes on with an order that began in an earlier life, before anything is applied: nothing up to `floor` is there.
    pub fn start_after(&self, floor: Offset, lineage: Lineage) {
        let mut history = self.history.lock();
        history.skip_to(floor);
        self.rooms.start_after(floor);
        self.users.start_after(floor);
        self.all.start_after(floor);
        self.lineage.store(Arc::new(lineage));
        self.head.store(history.newest(), Ordering::Release);
    }

    /// Goes on in the newest term of `lineage`.
    pub fn go_on(&self, lineage: Lineage) {
        let _history = self.history.lock();
        self.lineage.store(Arc::new(lineage));
    }

    /// Notes that other nodes follow the same order. Before anybody listens.
    pub fn share(&self) {
        self.is_shared.store(true, Ordering::Release);
    }

    /// Whether other nodes follow the same order.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Acquire)
    }

    /// Passes over the positions up to `offset`: no event is at them.
    pub fn skip_to(&self, offset: Offset) {
        let mut history = self.history.lock();
        history.skip_to(offset);
        self.head.store(history.newest(), Ordering::Release);
    }

    /// The newest offset. Everything up to it is in its log and announced.
    #[must_use]
    pub fn head(&self) -> Offset {
        self.head.load(Ordering::Acquire)
    }

    /// Events published so far.
    #[must_use]
    pub fn events_published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Events and bytes in all logs.
    #[must_use]
    pub fn history(&self) -> (usize, usize) {
        let history = self.history.lock();
        (history.events(), history.bytes())
    }

    /// Replaces the policies of all rooms. The shards must be told ([`Command::Policies`](mailbox::Command::Policies)).
    /// A reload that changes none of them takes no lock.
    pub fn set_policies(&self, policies: RoomPolicies, now: Moment) {
        if !self.rooms.set_policies(policies) {
            return;
        }
        self.history.lock().reorder();
        self.presence.policies_changed(now).into_iter().for_each(std::task::Waker::wake);
    }

    /// The rooms.
    #[must_use]
    pub fn rooms(&self) -> &Table {
        &self.rooms
    }

    /// The users' inboxes.
    #[must_use]
    pub fn users(&self) -> &Table {
        &self.users
    }

    /// The broadcast to everyone.
    #[must_use]
    pub fn all(&self) -> &Arc<Source> {
        &self.all
    }

    /// Who is present in rooms.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The users who may not publish to a room for now.
    #[must_use]
    pub fn mutes(&self) -> &Mutes {
        &self.mutes
    }

    /// The current memory level.
    #[must_use]
    pub fn memory_level(&self) -> MemoryLevel {
        MemoryLevel::ALL[usize::from(self.memory_level.load(Ordering::Relaxed))]
    }

    /// Sets the memory level. All later checks use it.
    pub fn set_memory_level(&self, level: MemoryLevel) {
        self.memory_level.store(level.number(), Ordering::Relaxed);
    }

    /// The mailbox of a shard.
    #[must_use]
    pub fn mailbox(&self, shard: usize) -> &Mailbox {
        &self.mailboxes[shard]
    }

    /// The offset of the event with this own id, if a resume can have it. The caller must compare the event's own id.
    #[must_use]
    pub fn find(&self, own_id: &str) -> Option<Offset> {
        self.history.lock().find(own_id)
    }

    /// Housekeeping, about once a second from one thread: expires events by age and forgets unused sources.
    pub fn tidy(&self, now: Moment) {
        let mut bytes_max = self.settings.history.bytes_max;
        if self.memory_level() >= MemoryLevel::NoPublishes {
            // Without new events nothing replaces the old ones, and freed memory lies between pieces that are held.
            bytes_max = bytes_max.min(self.history().1 / 8 * 7);
        }
        while !self.history.lock().trim(bytes_max, now, TRIM_STEPS) {}
        self.history.lock().shrink();
        // A sixteenth of the tables each time: names are given back within half a minute.
        for _ in 0..Table::shares() / 16 {
            let turn = self.sweep_turn.fetch_add(1, Ordering::Relaxed);
            self.rooms.sweep(turn);
            self.users.sweep(turn);
        }
        self.sweep_stay_away(now);
        self.mutes.sweep(now);
        self.shrink_addresses();
    }

    /// How many events `user` may get now. `None`: any number.
    #[must_use]
    pub fn deliveries_left(&self, user: &Source, now: Moment) -> Option<u32> {
        let (rate, _) = self.settings.delivery?;
        let limiter = user.limits.lock();
        Some(limiter.as_ref().map_or(rate.events, |limiter| limiter.delivery.left(rate, now)))
    }

    /// Takes `events` from `user`'s rate limiter.
    pub fn take_deliveries(&self, user: &Source, events: u32, now: Moment) {
        if let Some((rate, _)) = self.settings.delivery {
            user.limits.lock().get_or_insert_default().delivery.take(rate, events, now);
        }
    }

    /// When `user` may get the next event.
    #[must_use]
    pub fn allowed_at(&self, user: &Source, now: Moment) -> Moment {
        let Some((rate, _)) = self.settings.delivery else {
            return now;
        };
        user.limits.lock().as_ref().map_or(now, |limiter| limiter.delivery.next(rate, now))
    }

    fn note_replacement(user: &Source, now: Moment) {
        let mut state = user.limits.lock();
        let state = state.get_or_insert_default();
        let again = state.replaced.is_some_and(|at| now.since(at) < REPLACEMENT_MEMORY);
        state.replacements = if again { (state.replacements + 1).min(REPLACEMENTS_MAX) } else { 0 };
        state.replaced = Some(now);
    }

    /// How many times in a row a connection of `user` has taken another's place, up to [`REPLACEMENTS_MAX`].
    #[must_use]
    pub fn replacements(&self, user: &Source) -> u32 {
        user.limits.lock().as_ref().map_or(0, |state| state.replacements)
    }
}

/// Replacements closer together than this count as tabs that replace each other in turns.
const REPLACEMENT_MEMORY: Duration = Duration::from_mins(1);

/// State of a user's limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UserState {
    delivery: RateLimiter,
    replaced: Option<Moment>,
    replacements: u32,
}
