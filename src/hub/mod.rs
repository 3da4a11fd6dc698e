//! Events, their order and their history, and who listens. Knows no socket and no clock: time is an argument.
//!
//! Guarantee: an event at or below [`Hub::head`] is in its log, and every shard that sits at that log has been told.

pub mod admission;
pub mod draft;
pub mod log;
pub mod mailbox;
pub mod memory_level;
pub mod own_ids;
pub mod sequencer;
pub mod source;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::hub::admission::{Caps, Presence};
use crate::hub::draft::{Draft, Target};
use crate::hub::log::{Entry, LogBounds};
use crate::hub::mailbox::Mailbox;
use crate::hub::memory_level::Rung;
use crate::hub::own_ids::{Repeated, Repeats};
use crate::hub::sequencer::{HistoryBounds, Sequencer};
use crate::hub::source::{Kind, Source};
use crate::hub::table::Table;
use crate::rights::grant::PermissionName;
use crate::types::moment::Moment;
use crate::types::name::EventId;
use crate::types::position::{Epoch, Offset, POSITION_BYTES_MAX};
use crate::types::rate_limiter::{Allowance, Rate};
use crate::wire::frame::Unsealed;

/// What a hub is made with.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Threads that deliver.
    pub shards: usize,
    /// This life of the order.
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
    /// The oldest are left out, counted, and told by a gap.
    Drop,
    /// They wait in the log.
    Defer,
}

/// The answer to a publish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Published {
    /// Offset of the (last) event.
    pub offset: Offset,
    /// Connections the events were addressed to when they were published, summed over events.
    pub subscribers: u64,
}

/// Everything that all shards share.
pub struct Hub {
    settings: HubSettings,
    sequencer: Mutex<Sequencer>,
    head: AtomicU64,
    published: AtomicU64,
    sweep_turn: AtomicUsize,
    rooms: Table,
    users: Table,
    all: Arc<Source>,
    mailboxes: Box<[Mailbox]>,
    presence: Presence,
    /// Number of the [`Rung`] the engine is on.
    rung: AtomicU8,
}

/// A draft with everything done that needs no offset.
struct Prepared {
    source: Arc<Source>,
    exclude: Option<Arc<Source>>,
    require: Option<PermissionName>,
    id: Option<EventId>,
    unsealed: Unsealed,
}

/// Steps of [`Sequencer::trim`] under one hold of the lock: some ten microseconds.
const TRIM_STEPS: usize = 64;

/// Replacements in a row that still make a user's `retry:` grow.
pub const REPLACEMENTS_MAX: u32 = 6;

impl Hub {
    /// A hub without events or listeners.
    #[must_use]
    pub fn new(settings: HubSettings) -> Arc<Self> {
        let shards = settings.shards;
        Arc::new(Self {
            sequencer: Mutex::default(),
            head: AtomicU64::new(0),
            published: AtomicU64::new(0),
            sweep_turn: AtomicUsize::new(0),
            rooms: Table::new(Kind::Room, shards),
            users: Table::new(Kind::Inbox, shards),
            all: Arc::new(Source::new(Kind::All, "", shards, 0)),
            mailboxes: (0..shards).map(|_| Mailbox::default()).collect(),
            presence: Presence::default(),
            rung: AtomicU8::new(Rung::Ground.number()),
            settings,
        })
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// This life of the order.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.settings.epoch
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
        let sequencer = self.sequencer.lock();
        (sequencer.events(), sequencer.bytes())
    }

    /// The rooms.
    #[must_use]
    pub fn rooms(&self) -> &Table {
        &self.rooms
    }

    /// The users, by inbox.
    #[must_use]
    pub fn users(&self) -> &Table {
        &self.users
    }

    /// The broadcast to everyone.
    #[must_use]
    pub fn all(&self) -> &Arc<Source> {
        &self.all
    }

    /// How far up the memory ladder the engine is.
    #[must_use]
    pub fn rung(&self) -> Rung {
        Rung::ALL[usize::from(self.rung.load(Ordering::Relaxed))]
    }

    /// Climbs or descends to `rung`. Whoever looks from now on acts on it.
    pub fn set_rung(&self, rung: Rung) {
        self.rung.store(rung.number(), Ordering::Relaxed);
    }

    /// The mailbox of a shard.
    #[must_use]
    pub fn mailbox(&self, shard: usize) -> &Mailbox {
        &self.mailboxes[shard]
    }

    /// Publishes `drafts` next to each other in the order.
    ///
    /// # Errors
    ///
    /// If one of them has an id that was used before. Then none is published.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn publish(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        now: Moment,
    ) -> Result<Published, Repeated> {
        self.publish_waking(drafts, Repeats::RefuseAll, now, |_, _, waker| waker.wake())
    }

    /// The same, but leaves it to `wake` to see that each shard that has news now, and sleeps, gets to deal with it.
    ///
    /// # Errors
    ///
    /// If one of them has an id that was used before. `repeats` says what becomes of those before it.
    ///
    /// # Panics
    ///
    /// If there are no drafts.
    pub fn publish_waking(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        repeats: Repeats,
        now: Moment,
        mut wake: impl FnMut(&Published, usize, Waker),
    ) -> Result<Published, Repeated> {
        // Collected first, so that nothing is encoded or looked up under the lock.
        let mut events: Vec<Prepared> = drafts.into_iter().map(|draft| self.prepare(draft)).collect();
        let mut sequencer = self.sequencer.lock();
        let repeated = claim(&mut sequencer, &mut events, repeats);
        if let (Some(index), true) = (repeated, events.is_empty()) {
            return Err(Repeated { index, before: None });
        }
        let count = events.len() as u64;
        let (published, wakers) = self.append(sequencer, events, &self.settings.history, now);
        self.published.fetch_add(count, Ordering::Relaxed);
        for (shard, waker) in wakers {
            wake(&published, shard, waker);
        }
        match repeated {
            Some(index) => Err(Repeated { index, before: Some(published) }),
            None => Ok(published),
        }
    }

    /// Publishes to `source` without counting it or keeping it any longer than it takes: the readiness probe's own event.
    pub fn publish_probe(&self, source: &Arc<Source>, data: &str, now: Moment) -> Published {
        let unsealed = Unsealed::new(None, data, POSITION_BYTES_MAX);
        let event = Prepared { source: source.clone(), exclude: None, require: None, id: None, unsealed };
        let log = LogBounds { events_max: 0, bytes_max: 0 };
        let bounds = HistoryBounds { log, ..self.settings.history };
        let (published, wakers) = self.append(self.sequencer.lock(), vec![event], &bounds, now);
        for (_, waker) in wakers {
            waker.wake();
        }
        published
    }

    fn prepare(&self, draft: Draft) -> Prepared {
        let source = match &draft.target {
            Target::Room(room) => self.rooms.get_or_create(room.as_str()),
            Target::User(user) => self.users.get_or_create(user.as_str()),
            Target::All => self.all.clone(),
        };
        let id_bytes_max = draft.id.as_ref().map_or(POSITION_BYTES_MAX, |id| id.as_str().len());
        Prepared {
            source,
            exclude: draft.exclude.map(|user| self.users.get_or_create(user.as_str())),
            require: draft.require,
            id: draft.id,
            unsealed: Unsealed::new(draft.name, &draft.data, id_bytes_max),
        }
    }

    fn append(
        &self,
        mut sequencer: MutexGuard<'_, Sequencer>,
        events: Vec<Prepared>,
        bounds: &HistoryBounds,
        now: Moment,
    ) -> (Published, Vec<(usize, Waker)>) {
        let mut wakers = Vec::new();
        let mut published = Published { offset: 0, subscribers: 0 };
        for Prepared { source, exclude, require, id, unsealed } in events {
            published.subscribers += u64::from(source.connections());
            published.offset = sequencer.append(&source, bounds, |offset| {
                let frame = match &id {
                    Some(id) => unsealed.seal(id.as_str().as_bytes()),
                    None => unsealed.seal(self.epoch().position(offset).as_str().as_bytes()),
                };
                Entry { offset, frame, published: now, exclude, require, id }
            });
            for (shard, mailbox) in self.mailboxes.iter().enumerate() {
                if source.claim(shard).is_some() {
                    wakers.extend(mailbox.announce(source.clone()).map(|waker| (shard, waker)));
                }
            }
        }
        assert!(published.offset > 0, "at least one event was given");
        while sequencer.bytes() > bounds.bytes_max && !sequencer.trim(bounds, now, TRIM_STEPS) {}
        // Last, so that whoever reads this head finds all of the above done.
        self.head.store(sequencer.newest(), Ordering::Release);
        drop(sequencer);
        (published, wakers)
    }

    /// The offset of the event with this own id, if a resume can have it. Whoever uses it compares the event's own id.
    #[must_use]
    pub fn find(&self, own_id: &str) -> Option<Offset> {
        self.sequencer.lock().find(own_id)
    }

    /// Housekeeping, about once a second from one thread: expires events by age and forgets what nobody needs.
    pub fn tidy(&self, now: Moment) {
        let mut bounds = self.settings.history;
        if self.rung() >= Rung::Publishes {
            // Nothing new drives the old out any more, and what was freed lies between what is held.
            bounds.bytes_max = bounds.bytes_max.min(self.history().1 / 8 * 7);
        }
        while !self.sequencer.lock().trim(&bounds, now, TRIM_STEPS) {}
        self.sequencer.lock().shrink();
        // A sixteenth of the tables each time: names are given back within half a minute.
        for _ in 0..Table::shares() / 16 {
            let turn = self.sweep_turn.fetch_add(1, Ordering::Relaxed);
            self.rooms.sweep(turn);
            self.users.sweep(turn);
        }
        self.sweep_stay_away(now);
        self.shrink_addresses();
    }

    /// How many events `user` may get now. `None`: as many as there are.
    #[must_use]
    pub fn allowance(&self, user: &Source, now: Moment) -> Option<u32> {
        let (rate, _) = self.settings.delivery?;
        let allowance = user.allowance.lock();
        Some(allowance.as_ref().map_or(rate.events, |allowance| allowance.delivery.left(rate, now)))
    }

    /// Uses some of `user`'s allowance.
    pub fn use_allowance(&self, user: &Source, events: u32, now: Moment) {
        if let Some((rate, _)) = self.settings.delivery {
            user.allowance.lock().get_or_insert_default().delivery.take(rate, events, now);
        }
    }

    /// When `user` may get the next event.
    #[must_use]
    pub fn allowed_at(&self, user: &Source, now: Moment) -> Moment {
        let Some((rate, _)) = self.settings.delivery else {
            return now;
        };
        user.allowance.lock().as_ref().map_or(now, |allowance| allowance.delivery.next(rate, now))
    }

    fn note_replacement(user: &Source, now: Moment) {
        let mut state = user.allowance.lock();
        let state = state.get_or_insert_default();
        let again = state.replaced.is_some_and(|at| now.since(at) < REPLACEMENT_MEMORY);
        state.replacements = if again { (state.replacements + 1).min(REPLACEMENTS_MAX) } else { 0 };
        state.replaced = Some(now);
    }

    /// How many times in a row a connection of `user` has taken another's place, up to [`REPLACEMENTS_MAX`].
    #[must_use]
    pub fn replacements(&self, user: &Source) -> u32 {
        user.allowance.lock().as_ref().map_or(0, |state| state.replacements)
    }
}

/// Takes the own ids of `events`. If one was used before, says which, and leaves those that are to be published.
fn claim(sequencer: &mut Sequencer, events: &mut Vec<Prepared>, repeats: Repeats) -> Option<usize> {
    let free = sequencer.claim(events.iter().map(|event| event.id.as_ref()));
    if free == events.len() {
        return None;
    }
    events.truncate(free);
    if repeats == Repeats::RefuseAll {
        sequencer.release(events.drain(..).filter_map(|event| event.id));
    }
    Some(free)
}

/// Replacements closer together than this count as tabs evicting each other in turns.
const REPLACEMENT_MEMORY: Duration = Duration::from_mins(1);

/// What limits know of a user.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UserState {
    delivery: Allowance,
    replaced: Option<Moment>,
    replacements: u32,
}

#[cfg(test)]
mod tests {
    use super::name::RoomName;
    use super::*;

    /// With publishes refused, nothing new drove old events out: the engine stayed on the last rung until they were too old.
    #[test]
    fn on_the_last_rung_an_eighth_of_the_history_goes_at_a_time() {
        let log = LogBounds { events_max: 1000, bytes_max: 1 << 20 };
        let hub = Hub::new(HubSettings {
            shards: 1,
            epoch: Epoch::new(1),
            history: HistoryBounds { log, bytes_max: 1 << 30, age_max: Duration::from_hours(1) },
            caps: Caps { connections_max: 1, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        });
        for n in 0..800 {
            let target = Target::Room(RoomName::new(&format!("{}", n % 8)).expect("a name"));
            let data = "x".repeat(500);
            let draft = Draft { target, name: None, id: None, data, exclude: None, require: None };
            hub.publish([draft], Moment(1)).expect("no id");
        }
        let events_after = |rung| {
            hub.set_rung(rung);
            hub.tidy(Moment(1));
            hub.history().0
        };
        assert_eq!(events_after(Rung::Newcomers), 800);
        let (once, twice) = (events_after(Rung::Publishes), events_after(Rung::Publishes));
        assert!((690..=710).contains(&once) && (600..=620).contains(&twice), "{once} {twice}");
        assert_eq!(events_after(Rung::Ground), twice);
    }
}
