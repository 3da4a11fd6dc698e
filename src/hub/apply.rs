//! Applies what the order has decided, one position after the other.
//!
//! A publish is *proposed* to an order ([`order`](crate::order)), which gives each event its position. Then it is
//! *applied*: put into its log and announced. It does not matter here where positions come from; they only have to
//! rise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::MutexGuard;

use crate::hub::draft::{Draft, Target};
use crate::hub::history::History;
use crate::hub::log::entry;
use crate::hub::own_ids::Repeats;
use crate::hub::source::{LogSlot, Source};
use crate::hub::{Hub, Published, TRIM_STEPS};
use crate::rights::grant::PermissionName;
use crate::types::moment::Moment;
use crate::types::name::{EventId, EventKey};
use crate::types::position::{Offset, POSITION_BYTES_MAX};
use crate::wire::frame::Unsealed;

/// An event that is ready, except for its position.
pub struct Prepared {
    source: Arc<Source>,
    exclude: Option<Arc<Source>>,
    require: Option<PermissionName>,
    id: Option<EventId>,
    key: Option<EventKey>,
    version: Option<u64>,
    store: bool,
    unsealed: Unsealed,
    /// What becomes of it.
    fate: Fate,
}

/// What becomes of a prepared event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is published.
    Published,
    /// It is skipped: an event of its key and version, or of a later version, was published before.
    Outdated,
    /// It is not published again: its claim was made before, by an event with this result.
    Replayed(Published),
}

impl Prepared {
    /// An event of the server itself for `source`.
    #[must_use]
    pub fn own(source: &Arc<Source>, data: &str) -> Self {
        let unsealed = Unsealed::new(None, data, POSITION_BYTES_MAX);
        let (source, fate) = (source.clone(), Fate::Published);
        let (exclude, require, id, key, version) = (None, None, None, None, None);
        Self { source, exclude, require, id, key, version, store: false, unsealed, fate }
    }

    /// What becomes of it.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// The connections that it is for at the moment.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.source.connections()
    }

    /// Decides that it is not published again.
    pub fn replay(&mut self, first: Published) {
        self.fate = Fate::Replayed(first);
    }
}

/// Whether applied events are counted as published.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counts {
    /// They are.
    Yes,
    /// They are the server's own.
    No,
}

/// Events that were decided about and are not applied yet.
pub struct Planned {
    /// The position of the next event.
    next: Offset,
    /// The newest versions of their keys, by room. The events keep their rooms alive.
    versions: HashMap<(*const Source, EventKey), u64>,
    /// Whether events that are not published take a position as well.
    is_spread: bool,
}

impl Planned {
    /// None so far. The next event is at `next`.
    #[must_use]
    pub fn from(next: Offset) -> Self {
        Self { next, versions: HashMap::new(), is_spread: false }
    }

    /// None so far. The next event is at `next`, and each takes a position, whether it is published or not: what is decided
    /// elsewhere moves no event.
    #[must_use]
    pub fn spread_from(next: Offset) -> Self {
        Self { is_spread: true, ..Self::from(next) }
    }

    /// Whether events that are not published take a position as well.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.is_spread
    }

    /// The position of the next event.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Takes the next position, for something that is no event.
    pub fn take(&mut self) -> Offset {
        let taken = self.next;
        self.next += 1;
        taken
    }
}

/// The exclusive right to apply. What it applies becomes visible as a whole when it is [finished](Self::finish).
pub struct Applying<'h> {
    hub: &'h Hub,
    history: MutexGuard<'h, History>,
    counts: Counts,
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
            exclude: draft.exclude.map(|user| self.users.get_or_create(user.as_str())),
            require: draft.require,
            id: draft.id,
            key: draft.key,
            version: draft.version,
            store: draft.store && source.with_policy(|policy| policy.store),
            fate: Fate::Published,
            source,
            unsealed: Unsealed::from_room(draft.name, room, &draft.data, id_bytes_max),
        }
    }

    /// Waits for the right to apply.
    #[must_use]
    pub fn applying(&self, counts: Counts) -> Applying<'_> {
        Applying { hub: self, history: self.history.lock(), counts, applied: 0, wakers: Vec::new() }
    }
}

impl Applying<'_> {
    /// The newest applied position.
    #[must_use]
    pub fn newest(&self) -> Offset {
        self.history.newest()
    }

    /// Decides which of `events` come too late, by the versions of their keys: those published so far, those planned, and
    /// those of `events` before them.
    pub fn pass_outdated(&self, events: &mut [Prepared], planned: &mut Planned) {
        let newest = &mut planned.versions;
        for event in events {
            let (Some(key), Some(version), Fate::Published) = (&event.key, event.version, event.fate) else {
                continue;
            };
            let before = newest.entry((Arc::as_ptr(&event.source), key.clone()));
            let is_outdated = |log: &LogSlot| log.get().is_some_and(|log| log.is_outdated(key, version));
            match before {
                Entry::Occupied(before) if version <= *before.get() => event.fate = Fate::Outdated,
                Entry::Vacant(_) if is_outdated(&event.source.log()) => event.fate = Fate::Outdated,
                before => drop(before.insert(version)),
            }
        }
    }

    /// Plans the positions of `events`, and claims their own ids for them. If one was used before, returns its index, and
    /// leaves in `events` those that are still to be applied.
    pub fn claim(
        &mut self,
        events: &mut Vec<Prepared>,
        repeats: Repeats,
        planned: &mut Planned,
    ) -> Option<usize> {
        let first = planned.next;
        let mut is_free = |event: &Prepared| {
            if event.fate != Fate::Published {
                planned.next += u64::from(planned.is_spread);
                return true;
            }
            let is_free = event.id.as_ref().is_none_or(|id| self.history.claim(id, planned.next));
            planned.next += u64::from(is_free);
            is_free
        };
        let taken = events.iter().position(|event| !is_free(event))?;
        events.truncate(taken);
        if repeats == Repeats::RefuseAll {
            planned.next = first;
            self.release(std::mem::take(events));
        }
        Some(taken)
    }

    /// Frees the own ids that `events` claimed: they are not applied.
    pub fn release(&mut self, events: Vec<Prepared>) {
        let published = events.into_iter().filter(|event| event.fate == Fate::Published);
        self.history.release(published.filter_map(|event| event.id));
    }

    /// Applies `event` at `position`, which is above all before it. Returns the number of connections it is for.
    pub fn apply(&mut self, position: Offset, event: Prepared, now: Moment) -> u32 {
        let Prepared { source, exclude, require, id, key, version, store, unsealed, .. } = event;
        let connections = source.connections();
        let frame = match &id {
            Some(id) => unsealed.seal(id.as_str().as_bytes()),
            None => unsealed.seal(self.hub.position(position).as_str().as_bytes()),
        };
        let plain = entry::Entry::plain(position, frame, now);
        let entry = entry::Entry { exclude, require, id, key, stored: store, ..plain };
        self.history.append(&source, entry, version);
        for (shard, mailbox) in self.hub.mailboxes.iter().enumerate() {
            if source.claim(shard).is_some() {
                self.wakers.extend(mailbox.announce(source.clone()).map(|waker| (shard, waker)));
            }
        }
        self.applied += 1;
        connections
    }

    /// Passes over the positions up to `position`.
    pub fn skip_to(&mut self, position: Offset) {
        self.history.skip_to(position);
    }

    /// Applies again what was applied at `position` in an earlier life, with its own id and all: an event that was published at
    /// `published`.
    pub fn restore(&mut self, position: Offset, event: Prepared, published: Moment) {
        // An id that is taken is of an event that is gone by now; the newer one has it.
        let _ = event.id.as_ref().is_none_or(|id| self.history.claim(id, position));
        let _ = self.apply(position, event, published);
    }

    /// Makes the applied events visible. Returns the sleeping shards that have news now: the caller wakes each, or
    /// delivers in its place.
    #[must_use]
    pub fn finish(mut self, now: Moment) -> Vec<(usize, Waker)> {
        let bytes_max = self.hub.settings.history.bytes_max;
        while self.history.bytes() > bytes_max && !self.history.trim(bytes_max, now, TRIM_STEPS) {}
        // Last, so that a reader of this head finds everything above done.
        self.hub.head.store(self.history.newest(), Ordering::Release);
        drop(self.history);
        if self.counts == Counts::Yes {
            self.hub.published.fetch_add(self.applied, Ordering::Relaxed);
        }
        self.wakers
    }
}
