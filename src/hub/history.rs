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

/// The age at which a log is looked at again whose oldest event, unflushed, has this age: within [`UNFLUSHED_PATIENCE`]. It
/// is an age, and no time from now on, so that of two logs in a queue the one with the older event is due first.
fn patience(age: Duration) -> Duration {
    UNFLUSHED_PATIENCE * u32::try_from(age.as_secs() + 1).unwrap_or(u32::MAX)
}

/// The state of all logs, kept under one lock.
#[derive(Debug, Default)]
pub struct History {
    newest: Offset,
    bytes: usize,
    events: usize,
    /// Each log that has events is in one of them: in that of its room's age, or of its [`patience`]. Hardly ever more than
    /// two; at most one for each table of rooms, two, and one for each second that a flush takes.
    queues: Vec<Queue>,
    own_ids: OwnIds,
}

/// Logs whose events expire at the same age. In it, the oldest event is also the first to expire.
#[derive(Debug)]
struct Queue {
    age_max: Duration,
    logs: BinaryHeap<Reverse<Oldest>>,
}

/// A log by its oldest event. Logs evict events without an update here, so the log's own oldest event may be a newer one:
/// the entry is corrected when it comes up.
#[derive(Debug)]
struct Oldest {
    offset: Offset,
    published: Moment,
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
        self.offset.cmp(&other.offset)
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

    /// Passes over the positions up to `offset`. Nothing happens if they are not new.
    pub fn skip_to(&mut self, offset: Offset) {
        self.newest = self.newest.max(offset);
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
        let age_max = if log.oldest().is_some() { age_max } else { UNFLUSHED_PATIENCE };
        source.set_last(offset);
        drop(slot);
        if !queued {
            self.enqueue(age_max, Oldest { offset, published, source: Arc::downgrade(source) });
        }
        self.newest = offset;
    }

    fn enqueue(&mut self, age_max: Duration, oldest: Oldest) {
        let queue = match self.queues.iter().position(|queue| queue.age_max == age_max) {
            Some(at) => &mut self.queues[at],
            None => self.queues.push_mut(Queue { age_max, logs: BinaryHeap::new() }),
        };
        queue.logs.push(Reverse(oldest));
    }

    /// Takes the log with the oldest event of all if there is `too_much`, else one whose oldest event has expired by
    /// `now`.
    fn dequeue(&mut self, too_much: bool, now: Moment) -> Option<Oldest> {
        let first = |queue: &Queue| queue.logs.peek().map(|Reverse(first)| (first.offset, first.published));
        let queue = if too_much {
            let with_logs = self.queues.iter_mut().filter(|queue| !queue.logs.is_empty());
            with_logs.min_by_key(|queue| first(queue))
        } else {
            let has_expired = |queue: &&mut Queue| {
                first(queue).is_some_and(|(_, published)| published + queue.age_max <= now)
            };
            self.queues.iter_mut().find(has_expired)
        };
        queue?.logs.pop().map(|Reverse(oldest)| oldest)
    }

    /// Expires events that are too old or above the bound on bytes, in at most `work_max` steps. False if there is more
    /// to do.
    ///
    /// Above the bound, the oldest event of all goes, even if a shard has not flushed it: memory matters more. Its streams
    /// get a gap. Nothing newer goes with it.
    pub fn trim(&mut self, bytes_max: usize, now: Moment, work_max: usize) -> bool {
        for _ in 0..work_max {
            let too_much = self.bytes > bytes_max;
            let Some(Oldest { offset, published, source: weak }) = self.dequeue(too_much, now) else {
                return true;
            };
            let Some(source) = weak.upgrade() else {
                continue;
            };
            let mut slot = source.log();
            let flushed = source.flushed();
            let log = slot.get_or_create();
            let age_max = source.with_policy(|policy| policy.age_max);
            // Otherwise the log has moved on, and is put where it belongs now.
            let is_it = |first: Option<(Offset, Moment)>| first.is_some_and(|(first, _)| first == offset);
            let goes = is_it(log.oldest()) && (too_much || published + age_max <= now);
            let goes_unflushed = too_much && (goes || log.oldest().is_none() && is_it(log.first()));
            self.change(&source, log, |log| {
                if goes {
                    log.expire_oldest();
                }
                log.evict(flushed, if goes_unflushed { offset } else { 0 });
            });
            let next = match (log.oldest(), log.first()) {
                (Some((offset, published)), _) => Some((age_max, offset, published)),
                // It waits for its flush, which is due within a flush interval.
                (None, Some((offset, published))) => {
                    Some((patience(now.since(published)), offset, published))
                }
                (None, None) => None,
            };
            log.in_oldest = next.is_some();
            drop(slot);
            if let Some((age_max, offset, published)) = next {
                self.enqueue(age_max, Oldest { offset, published, source: weak });
            }
        }
        false
    }

    /// Puts the logs in order again, after the ages at which their events expire have changed.
    pub fn reorder(&mut self) {
        for queue in std::mem::take(&mut self.queues) {
            for Reverse(oldest) in queue.logs {
                let Some(source) = oldest.source.upgrade() else { continue };
                let holds = source.log().get().and_then(Log::oldest).is_some();
                let age_max =
                    if holds { source.with_policy(|policy| policy.age_max) } else { UNFLUSHED_PATIENCE };
                self.enqueue(age_max, oldest);
            }
        }
    }

    /// Gives back the memory that a crowd of former logs has left unused.
    pub fn shrink(&mut self) {
        self.queues.retain(|queue| !queue.logs.is_empty());
        for Queue { logs, .. } in &mut self.queues {
            if logs.len() < logs.capacity() / 4 {
                logs.shrink_to(2 * logs.len());
            }
        }
        self.own_ids.shrink();
    }

    /// Capacity of the queues.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.queues.iter().map(|queue| queue.logs.capacity()).sum()
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

    fn unstored(history: &mut History, source: &Arc<Source>, published: Moment) {
        let entry = entry(history.newest() + 1, published);
        history.append(source, Entry { stored: false, ..entry }, None);
    }

    /// With the history full, an event that is not stored went before it was delivered: it was the first to expire. The
    /// readiness probe is such an event, so the server took itself to be dead.
    #[test]
    fn a_full_history_makes_room_by_what_is_oldest_and_not_by_what_has_just_come() {
        let (mut history, full, brief) = (History::default(), room(), room());
        full.attach(0, 0, 0);
        brief.attach(0, 0, 0);
        for _ in 0..10 {
            publish(&mut history, &full, Moment(0));
        }
        full.set_flushed(0, 10);
        let bytes_max = history.bytes();
        unstored(&mut history, &brief, Moment(0));
        assert!(history.trim(bytes_max, Moment(0), 100));
        let events = |room: &Source| room.log().get().map(|log| log.range(0, Offset::MAX).count());
        assert_eq!([events(&full), events(&brief)], [Some(5), Some(1)]);
        assert_eq!((full.log().expired_to(), brief.log().evicted_to()), (5, 0));
    }

    /// A room whose events expire earlier than others' was emptied first, down to the event that had just come.
    #[test]
    fn a_full_history_does_not_ask_for_ages() {
        let (mut history, long, short) = (History::default(), room(), room());
        short.set_policy(policy(AGE / 2));
        for room in [&long, &short, &long, &short] {
            publish(&mut history, room, Moment(0));
        }
        let bytes_max = history.bytes() - 1;
        assert!(history.trim(bytes_max, Moment(0), 100));
        assert_eq!([&long, &short].map(|room| room.log().expired_to()), [1, 0]);
    }

    #[test]
    fn where_nothing_is_left_but_what_waits_for_its_flush_its_loss_is_told() {
        let (mut history, room) = (History::default(), room());
        room.attach(0, 0, 0);
        for _ in 0..4 {
            unstored(&mut history, &room, Moment(0));
        }
        let bytes_max = history.bytes() - 1;
        assert!(history.trim(bytes_max, Moment(0), 100));
        let log = room.log();
        let left: Vec<_> = log.get().into_iter().flat_map(|log| log.range(0, Offset::MAX)).collect();
        assert_eq!((log.evicted_to(), left.len(), left[0].offset), (1, 3, 2));
    }

    /// A log that waited was put back by the time of now, before one whose event was older but whose offset was larger. So
    /// that one was looked at up to a second too late.
    #[test]
    fn a_log_that_waits_for_its_flush_hides_no_other() {
        let (mut history, waiting, room) = (History::default(), room(), room());
        waiting.attach(0, 0, 0);
        room.attach(0, 0, 0);
        room.set_policy(policy(AGE / 100));
        let begun = Moment(0) + UNFLUSHED_PATIENCE / 2;
        unstored(&mut history, &waiting, Moment(0));
        unstored(&mut history, &room, begun);
        publish(&mut history, &room, begun);
        for now in [Moment(0) + UNFLUSHED_PATIENCE, begun + UNFLUSHED_PATIENCE] {
            assert!(history.trim(usize::MAX, now, 100));
        }
        assert_eq!((history.events(), room.log().expired_to()), (0, history.newest()));
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
