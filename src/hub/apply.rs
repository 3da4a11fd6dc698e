//! Applies what the order has decided, one position after the other.
//!
//! A publish is *proposed* to an order ([`order`](crate::order)), which gives each event its position. Then it is
//! *applied*: put into its log and announced. It does not matter here where positions come from; they only have to
//! rise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use parking_lot::MutexGuard;

use crate::hub::draft::{Draft, Target};
use crate::hub::history::{History, HistoryBounds};
use crate::hub::log::{Entry, LogBounds};
use crate::hub::own_ids::Repeats;
use crate::hub::source::Source;
use crate::hub::{Hub, TRIM_STEPS};
use crate::rights::grant::PermissionName;
use crate::types::moment::Moment;
use crate::types::name::EventId;
use crate::types::position::{Offset, POSITION_BYTES_MAX};
use crate::wire::frame::Unsealed;

/// An event that is ready, except for its position.
pub struct Prepared {
    source: Arc<Source>,
    exclude: Option<Arc<Source>>,
    require: Option<PermissionName>,
    id: Option<EventId>,
    unsealed: Unsealed,
}

impl Prepared {
    /// An event of the server itself for `source`.
    #[must_use]
    pub fn own(source: &Arc<Source>, data: &str) -> Self {
        let unsealed = Unsealed::new(None, data, POSITION_BYTES_MAX);
        Self { source: source.clone(), exclude: None, require: None, id: None, unsealed }
    }
}

/// Whether applied events become history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// They are counted as published, and kept within the bounds.
    History,
    /// They are not counted, and not kept after their delivery.
    Nothing,
}

/// The exclusive right to apply. What it applies becomes visible as a whole when it is [finished](Self::finish).
pub struct Applying<'h> {
    hub: &'h Hub,
    history: MutexGuard<'h, History>,
    bounds: HistoryBounds,
    keep: Keep,
    applied: u64,
    wakers: Vec<(usize, Waker)>,
}

impl Hub {
    /// Does all work that needs no position, so that no other publisher waits while an event is encoded or its source
    /// looked up.
    #[must_use]
    pub fn prepare(&self, draft: Draft) -> Prepared {
        let source = match &draft.target {
            Target::Room(room) => self.rooms.get_or_create(room.as_str()),
            Target::User(user) => self.users.get_or_create(user.as_str()),
            Target::All => self.all.clone(),
        };
        let room = match &draft.target {
            Target::Room(room) if self.rooms.says_room() => Some(room.as_str()),
            _ => None,
        };
        let id_bytes_max = draft.id.as_ref().map_or(POSITION_BYTES_MAX, |id| id.as_str().len());
        Prepared {
            source,
            exclude: draft.exclude.map(|user| self.users.get_or_create(user.as_str())),
            require: draft.require,
            id: draft.id,
            unsealed: Unsealed::from_room(draft.name, room, &draft.data, id_bytes_max),
        }
    }

    /// Waits for the right to apply.
    #[must_use]
    pub fn applying(&self, keep: Keep) -> Applying<'_> {
        let mut bounds = self.settings.history;
        if keep == Keep::Nothing {
            bounds.log = LogBounds { events_max: 0, bytes_max: 0 };
        }
        Applying { hub: self, history: self.history.lock(), bounds, keep, applied: 0, wakers: Vec::new() }
    }
}

impl Applying<'_> {
    /// The newest applied position.
    #[must_use]
    pub fn newest(&self) -> Offset {
        self.history.newest()
    }

    /// Claims the own ids of `events` for the next positions. If one was used before, returns its index, and leaves in
    /// `events` those that are still to be applied.
    pub fn claim(&mut self, events: &mut Vec<Prepared>, repeats: Repeats) -> Option<usize> {
        let free = self.history.claim(events.iter().map(|event| event.id.as_ref()));
        if free == events.len() {
            return None;
        }
        events.truncate(free);
        if repeats == Repeats::RefuseAll {
            self.history.release(events.drain(..).filter_map(|event| event.id));
        }
        Some(free)
    }

    /// Applies `event` at `position`, which is above all before it. Returns the number of connections it is for.
    pub fn apply(&mut self, position: Offset, event: Prepared, now: Moment) -> u32 {
        let Prepared { source, exclude, require, id, unsealed } = event;
        let connections = source.connections();
        let frame = match &id {
            Some(id) => unsealed.seal(id.as_str().as_bytes()),
            None => unsealed.seal(self.hub.epoch().position(position).as_str().as_bytes()),
        };
        let entry = Entry { offset: position, frame, published: now, exclude, require, id };
        self.history.append(&source, &self.bounds, entry);
        for (shard, mailbox) in self.hub.mailboxes.iter().enumerate() {
            if source.claim(shard).is_some() {
                self.wakers.extend(mailbox.announce(source.clone()).map(|waker| (shard, waker)));
            }
        }
        self.applied += 1;
        connections
    }

    /// Makes the applied events visible. Returns the sleeping shards that have news now: the caller wakes each, or
    /// delivers in its place.
    #[must_use]
    pub fn finish(mut self, now: Moment) -> Vec<(usize, Waker)> {
        while self.history.bytes() > self.bounds.bytes_max
            && !self.history.trim(&self.bounds, now, TRIM_STEPS)
        {}
        // Last, so that a reader of this head finds everything above done.
        self.hub.head.store(self.history.newest(), Ordering::Release);
        drop(self.history);
        if self.keep == Keep::History {
            self.hub.published.fetch_add(self.applied, Ordering::Relaxed);
        }
        self.wakers
    }
}
