//! The state of all logs together: their size, the oldest event, and the own ids in use.
//!
//! Everything here happens under one lock, held for well under a microsecond per event: when offset n is visible
//! anywhere, everything below n already is. Encoding, lookups and wake-ups happen outside ([`Applying`](super::apply)).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::hub::log::Log;
use crate::hub::log::entry::Entry;
use crate::hub::log::rules::{LogBounds, LogRules};
use crate::hub::own_ids::OwnIds;
use crate::hub::source::Source;
use crate::types::moment::Moment;
use crate::types::name::EventId;
use crate::types::position::Offset;

/// Bounds of all history together.
#[derive(Clone, Copy, Debug)]
pub struct HistoryBounds {
    /// Bounds of each log.
    pub log: LogBounds,
    /// Bytes all logs may take, as [`Log::cost`] counts them.
    pub bytes_max: usize,
    /// Age at which an event expires.
    pub age_max: Duration,
}

/// How long a log that holds nothing but unflushed events is left alone.
const UNFLUSHED_PATIENCE: Duration = Duration::from_secs(1);

/// The state of all logs, kept under one lock.
#[derive(Debug, Default)]
pub struct History {
    newest: Offset,
    bytes: usize,
    events: usize,
    /// One entry for each log that has events, the first to expire first. Its offset is at or below that of the log's
    /// oldest event (logs evict events without an update here), so it is corrected when it comes up.
    oldest: BinaryHeap<Reverse<Oldest>>,
    own_ids: OwnIds,
}

#[derive(Debug)]
struct Oldest {
    /// When the event expires by its age.
    expires: Moment,
    offset: Offset,
    source: Weak<Source>,
}

impl PartialEq for Oldest {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Oldest {}
impl PartialOrd for Oldest {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Oldest {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.expires, self.offset).cmp(&(other.expires, other.offset))
    }
}

impl History {
    /// Offset of the newest event.
    #[must_use]
    pub fn newest(&self) -> Offset {
        self.newest
    }

    /// Bytes all logs are charged with.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events in all logs.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Claims `id` for the event that will be appended at `offset`. False if it was used before.
    #[must_use]
    pub fn claim(&mut self, id: &EventId, offset: Offset) -> bool {
        self.own_ids.claim(id, offset)
    }

    /// Undoes the claim of `ids`, whose events are not appended.
    pub fn release(&mut self, ids: impl Iterator<Item = EventId>) {
        ids.for_each(|id| self.own_ids.release(&id));
    }

    /// See [`OwnIds::find`].
    #[must_use]
    pub fn find(&self, own_id: &str) -> Option<Offset> {
        self.own_ids.find(own_id)
    }

    /// Appends the event to `source`'s log. Its offset is above all others, and its own id, if it has one, was
    /// [claimed](Self::claim). `version` is that of its key.
    pub fn append(&mut self, source: &Arc<Source>, entry: Entry, version: Option<u64>) {
        let (rules, age_max) = source.with_policy(|policy| (LogRules::from(policy), policy.age_max));
        let (offset, published) = (entry.offset, entry.published);
        debug_assert!(offset > self.newest, "offsets rise");
        let mut slot = source.log();
        // Read under the log's lock, under which shards attach: a shard that attaches keeps what comes after its head.
        let flushed = source.flushed();
        let log = slot.get_or_create();
        let queued = std::mem::replace(&mut log.in_oldest, true);
        self.change(source, log, |log| log.append(entry, version, rules, flushed));
        // A log that holds nothing is looked at soon: what is in it goes when it is flushed.
        let expires =
            if log.oldest().is_some() { published + age_max } else { published + UNFLUSHED_PATIENCE };
        source.set_last(offset);
        drop(slot);
        if !queued {
            self.oldest.push(Reverse(Oldest { expires, offset, source: Arc::downgrade(source) }));
        }
        self.newest = offset;
    }

    /// Expires events that are too old or above the bound on bytes, in at most `work_max` steps. False if there is more
    /// to do.
    pub fn trim(&mut self, bytes_max: usize, now: Moment, work_max: usize) -> bool {
        for _ in 0..work_max {
            let Some(Reverse(oldest)) = self.oldest.pop() else {
                return true;
            };
            let Some(source) = oldest.source.upgrade() else {
                continue;
            };
            let too_much = self.bytes > bytes_max;
            let mut slot = source.log();
            // Above the bound for all logs, memory matters more than shards that have not flushed yet.
            let flushed = if too_much { Offset::MAX } else { source.flushed() };
            let log = slot.get_or_create();
            self.change(&source, log, |log| log.evict(flushed));
            let Some((offset, published)) = log.oldest() else {
                // The rest waits for its flush, which is due within a flush interval.
                log.in_oldest = !log.is_empty();
                let unflushed = log.last();
                drop(slot);
                if let Some(offset) = unflushed {
                    let seen_before = offset == oldest.offset;
                    let expires = now + UNFLUSHED_PATIENCE;
                    self.oldest.push(Reverse(Oldest { expires, offset, source: oldest.source }));
                    if seen_before {
                        return true;
                    }
                }
                continue;
            };
            let expires = published + source.with_policy(|policy| policy.age_max);
            let done = offset == oldest.offset && !too_much && now < expires;
            if offset == oldest.offset && !done {
                self.change(&source, log, |log| {
                    log.expire_oldest();
                    log.evict(flushed);
                });
            }
            drop(slot);
            self.oldest.push(Reverse(Oldest { expires, offset, source: oldest.source }));
            if done {
                return true;
            }
        }
        false
    }

    /// Puts the logs in order again, after the ages at which their events expire have changed.
    pub fn reorder(&mut self) {
        let reordered = self.oldest.drain().filter_map(|Reverse(oldest)| {
            let source = oldest.source.upgrade()?;
            let published = source.log().get().and_then(Log::oldest).map(|(_, published)| published);
            let age_max = source.with_policy(|policy| policy.age_max);
            let expires = published.map_or(oldest.expires, |published| published + age_max);
            Some(Reverse(Oldest { expires, ..oldest }))
        });
        let reordered: Vec<_> = reordered.collect();
        self.oldest.extend(reordered);
    }

    /// Gives back the memory that a crowd of former logs has left unused.
    pub fn shrink(&mut self) {
        if self.oldest.len() < self.oldest.capacity() / 4 {
            self.oldest.shrink_to(2 * self.oldest.len());
        }
        self.own_ids.shrink();
    }

    /// Capacity of the queue of oldest events.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.oldest.capacity()
    }

    /// Changes `log`, which belongs to `source`, and updates the sums.
    fn change(&mut self, source: &Source, log: &mut Log, change: impl FnOnce(&mut Log)) {
        let cost = |log: &Log| log.cost() + if log.is_empty() { 0 } else { source.attachment_bytes() };
        let (bytes, events) = (cost(log), log.held());
        change(log);
        self.bytes = self.bytes - bytes + cost(log);
        self.events = self.events - events + log.held();
        for id in log.take_expired_ids() {
            self.own_ids.let_go(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::log::LOG_OVERHEAD;
    use crate::hub::room_policy::RoomPolicy;
    use crate::hub::source::SourceKind;
    use crate::wire::frame::Unsealed;

    const AGE: Duration = Duration::from_secs(10);

    fn policy(age_max: Duration) -> Arc<RoomPolicy> {
        let log = LogBounds { events_max: 10, bytes_max: usize::MAX };
        Arc::new(RoomPolicy::of_server(log, age_max))
    }

    fn room() -> Arc<Source> {
        Arc::new(Source::new(SourceKind::Room, "a", 1, 0, policy(AGE)))
    }

    fn entry(offset: Offset, published: Moment) -> Entry {
        let frame = Unsealed::new(None, "x", 20).seal(b"1");
        Entry::plain(offset, frame, published)
    }

    fn publish(history: &mut History, source: &Arc<Source>, published: Moment) {
        let entry = entry(history.newest() + 1, published);
        history.append(source, entry, None);
    }

    #[test]
    fn what_fits_the_bound_for_all_is_kept() {
        let cost = entry(1, Moment(0)).cost();
        let (mut history, rooms) = (History::default(), [room(), room()]);
        for at in [0, 1, 0, 1] {
            publish(&mut history, &rooms[at], Moment(0));
        }
        let logs = 2 * LOG_OVERHEAD;
        assert!(history.trim(4 * cost + logs, Moment(0), 100));
        assert_eq!((history.events(), history.bytes()), (4, 4 * cost + logs));
        assert!(history.trim(4 * cost + logs - 1, Moment(0), 100));
        assert_eq!((history.events(), history.bytes()), (3, 3 * cost + logs));
        assert_eq!(rooms.map(|room| room.log().expired_to()), [1, 0], "the oldest of all went");
    }

    #[test]
    fn an_event_expires_at_its_age_and_not_before() {
        let (mut history, room) = (History::default(), room());
        publish(&mut history, &room, Moment(5));
        let expires = Moment(5) + AGE;
        assert!(history.trim(usize::MAX, Moment(expires.0 - 1), 100));
        assert_eq!(history.events(), 1);
        assert!(history.trim(usize::MAX, expires, 100));
        assert_eq!((history.events(), history.bytes()), (0, 0));
    }

    #[test]
    fn a_crowd_does_not_keep_its_place_in_the_queue() {
        let places_after = |old: usize, young: usize| {
            let (mut history, rooms) = (History::default(), (0..old + young).map(|_| room()));
            let rooms: Vec<_> = rooms.collect();
            for (at, room) in rooms.iter().enumerate() {
                publish(&mut history, room, if at < old { Moment(0) } else { Moment(1) });
            }
            assert!(history.trim(usize::MAX, Moment(0) + AGE, 1_000));
            assert_eq!(history.events(), young);
            history.shrink();
            history.places()
        };
        assert_eq!(places_after(69, 31), 62, "room for as many again");
        assert_eq!(places_after(68, 32), 128, "a quarter is still enough to keep it");
    }

    /// With one age for all, the oldest event was also the first to expire.
    #[test]
    fn a_room_with_a_shorter_age_does_not_wait_for_an_older_event_of_another() {
        let (mut history, long, short) = (History::default(), room(), room());
        short.set_policy(policy(AGE / 2));
        publish(&mut history, &long, Moment(0));
        publish(&mut history, &short, Moment(0));
        assert!(history.trim(usize::MAX, Moment(0) + AGE / 2, 100));
        assert_eq!([&long, &short].map(|room| room.log().get().map_or(0, Log::held)), [1, 0]);
        publish(&mut history, &short, Moment(0));
        long.set_policy(policy(AGE / 10));
        history.reorder();
        assert!(history.trim(usize::MAX, Moment(0) + AGE / 10, 100));
        assert_eq!([&long, &short].map(|room| room.log().get().map_or(0, Log::held)), [0, 1]);
    }

    #[test]
    fn what_is_not_stored_goes_when_it_is_flushed() {
        let (mut history, room) = (History::default(), room());
        room.attach(0, 0, 0);
        let unstored = Entry { stored: false, ..entry(1, Moment(0)) };
        history.append(&room, unstored, None);
        assert!(history.trim(usize::MAX, Moment(0), 100));
        assert!(history.events() == 0 && history.bytes() > 0, "it waits for its flush");
        room.set_flushed(0, 1);
        assert!(history.trim(usize::MAX, Moment(0) + UNFLUSHED_PATIENCE, 100));
        assert_eq!((history.events(), history.bytes(), room.log().expired_to()), (0, 0, 0));
    }
}
