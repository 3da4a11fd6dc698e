//! Sources of events: a room, a user's inbox, or the broadcast to everyone.
//!
//! Each is a log to which shards attach. The log itself is allocated with its first event, so that a user without
//! personal events costs a name and a few counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use crate::hub::log::Log;
use crate::hub::room_policy::RoomPolicy;
use crate::types::position::Offset;

/// The kind of a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceKind {
    /// A room.
    Room,
    /// The inbox of the user of that name.
    Inbox,
    /// The broadcast to everyone.
    All,
}

/// A log, its name, and the shards attached to it.
#[derive(Debug)]
pub struct Source {
    kind: SourceKind,
    name: Box<str>,
    /// What the settings say about it. A reload replaces it.
    policy: ArcSwap<RoomPolicy>,
    /// Newest offset appended; readable without the lock, to skip sources that have nothing new.
    last: AtomicU64,
    /// Connections here, or admitted (inboxes, and rooms that bound their listeners).
    connections: AtomicU32,
    /// Rooms in which the user is a member (inboxes).
    memberships: AtomicU16,
    attachments: Box<[Attachment]>,
    log: Mutex<LogSlot>,
    /// State of per-user limits, created when a limit first applies.
    pub(super) limits: Mutex<Option<Box<crate::hub::UserState>>>,
}

/// A log, or a note of what was lost before it exists.
#[derive(Debug)]
pub enum LogSlot {
    /// There is no log yet. Under this name there may once have been events up to this offset; they are gone.
    Forgotten(Offset),
    /// The log.
    Log(Box<Log>),
}

/// A shard's place at a source.
#[derive(Debug)]
struct Attachment {
    /// The shard's own index for this source, or [`ABSENT`].
    local: AtomicU32,
    /// Whether the shard's mailbox already holds this source.
    queued: AtomicBool,
    /// The same for news of who is present.
    presence_queued: AtomicBool,
    /// Offset up to which the shard's flushes have taken what they need.
    flushed: AtomicU64,
    /// When the shard's oldest connection of this user was opened, in microseconds; `u64::MAX` if it has none (inboxes).
    oldest: AtomicU64,
}

/// In place of an index: the shard has no connection here, or no further one.
pub const ABSENT: u32 = u32::MAX;

impl Source {
    /// A source without attachments. Events up to `forgotten_to` may have existed under this name.
    #[must_use]
    pub fn new(
        kind: SourceKind,
        name: &str,
        shards: usize,
        forgotten_to: Offset,
        policy: Arc<RoomPolicy>,
    ) -> Self {
        let attachment = || Attachment {
            local: AtomicU32::new(ABSENT),
            queued: AtomicBool::new(false),
            presence_queued: AtomicBool::new(false),
            flushed: AtomicU64::new(0),
            oldest: AtomicU64::new(u64::MAX),
        };
        Self {
            kind,
            name: name.into(),
            policy: ArcSwap::new(policy),
            last: AtomicU64::new(forgotten_to),
            connections: AtomicU32::new(0),
            memberships: AtomicU16::new(0),
            attachments: (0..shards).map(|_| attachment()).collect(),
            log: Mutex::new(LogSlot::Forgotten(forgotten_to)),
            limits: Mutex::new(None),
        }
    }

    /// Bytes of its attachments beyond the two that [`LOG_OVERHEAD`](crate::hub::log::LOG_OVERHEAD) and
    /// [`EXCLUDED_OVERHEAD`](crate::hub::log::entry::EXCLUDED_OVERHEAD) were measured with.
    #[must_use]
    pub fn attachment_bytes(&self) -> usize {
        size_of::<Attachment>() * self.attachments.len().saturating_sub(2)
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// The room's or user's name; empty for the broadcast.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the settings say about it.
    #[must_use]
    pub fn policy(&self) -> Arc<RoomPolicy> {
        self.policy.load_full()
    }

    /// Calls `read` with what the settings say about it. Takes no reference count: for paths that every event takes.
    pub fn with_policy<T>(&self, read: impl FnOnce(&RoomPolicy) -> T) -> T {
        read(&self.policy.load())
    }

    pub(super) fn set_policy(&self, policy: Arc<RoomPolicy>) {
        self.policy.store(policy);
    }

    /// Newest offset appended or forgotten here; the log has nothing newer.
    #[must_use]
    pub fn last(&self) -> Offset {
        self.last.load(Ordering::Acquire)
    }

    /// Notes that its events up to `offset` are gone. Only before it has any.
    pub(super) fn start_after(&self, offset: Offset) {
        *self.log() = LogSlot::Forgotten(offset);
        self.set_last(offset);
    }

    pub(super) fn set_last(&self, offset: Offset) {
        self.last.store(offset, Ordering::Release);
    }

    /// The log, locked. Never held across a write to a socket.
    pub fn log(&self) -> MutexGuard<'_, LogSlot> {
        self.log.lock()
    }

    /// Number of its connections.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }

    /// Counts one more connection. Returns how many there were before; `None` if there are `max` already.
    pub fn enter(&self, max: u32) -> Option<u32> {
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < max).then(|| count + 1))
            .ok()
    }

    /// Counts one connection less. Returns how many are left.
    pub fn leave(&self) -> u32 {
        let before = self.connections.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a connection enters before it leaves");
        before - 1
    }

    /// Counts one more room in which the user is a member. False if there are `max` already.
    pub(super) fn join(&self, max: u16) -> bool {
        let fits = |count: u16| (count < max).then(|| count + 1);
        self.memberships.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Counts one such room less.
    pub(super) fn part(&self) {
        let before = self.memberships.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a user joins before it parts");
    }

    /// Attaches `shard`, whose own index for this source is `local`. Events after `head` are announced to it.
    pub fn attach(&self, shard: usize, local: u32, head: Offset) {
        // Under the log's lock: a publisher either sees the attachment, or the newest offset read later shows its event.
        let _log = self.log();
        let attachment = &self.attachments[shard];
        if attachment.local.swap(local, Ordering::AcqRel) == ABSENT {
            attachment.flushed.store(head, Ordering::Release);
        }
    }

    /// Detaches `shard`.
    pub fn detach(&self, shard: usize) {
        let _log = self.log();
        self.attachments[shard].local.store(ABSENT, Ordering::Release);
    }

    /// `shard`'s own index for this source, if it is attached.
    #[must_use]
    pub fn local(&self, shard: usize) -> Option<u32> {
        Some(self.attachments[shard].local.load(Ordering::Acquire)).filter(|local| *local != ABSENT)
    }

    /// Claims the right to put this source into `shard`'s mailbox. `None` if the shard is not attached or the source is
    /// in already.
    pub(super) fn claim(&self, shard: usize) -> Option<u32> {
        let local = self.local(shard)?;
        (!self.attachments[shard].queued.swap(true, Ordering::AcqRel)).then_some(local)
    }

    /// Allows the next announcement. Called when the shard takes this source from its mailbox, before it reads the log.
    pub fn unclaim(&self, shard: usize) {
        // An exchange, not a store: if a publisher's claim failed just before, the reads that follow must see its
        // event, and a store alone could be reordered after them.
        self.attachments[shard].queued.swap(false, Ordering::AcqRel);
    }

    /// Claims the right to put this room into `shard`'s mailbox, for news of who is present. False if it is in already.
    pub(super) fn claim_presence(&self, shard: usize) -> bool {
        !self.attachments[shard].presence_queued.swap(true, Ordering::AcqRel)
    }

    /// Allows the next announcement of presence. Called when the shard takes this room from its mailbox, before it asks
    /// for messages.
    pub fn unclaim_presence(&self, shard: usize) {
        // An exchange, as in `unclaim`.
        self.attachments[shard].presence_queued.swap(false, Ordering::AcqRel);
    }

    /// Notes that `shard` needs nothing up to `offset` any more.
    pub fn set_flushed(&self, shard: usize, offset: Offset) {
        self.attachments[shard].flushed.store(offset, Ordering::Release);
    }

    /// Offset up to which no shard needs anything.
    #[must_use]
    pub fn flushed(&self) -> Offset {
        self.attachments
            .iter()
            .filter(|attachment| attachment.local.load(Ordering::Acquire) != ABSENT)
            .map(|attachment| attachment.flushed.load(Ordering::Acquire))
            .min()
            .unwrap_or(Offset::MAX)
    }

    /// Notes when `shard`'s oldest connection of this user was opened, in microseconds; `u64::MAX` for none.
    pub fn set_oldest(&self, shard: usize, opened: u64) {
        self.attachments[shard].oldest.store(opened, Ordering::Release);
    }

    /// The shard with this user's oldest connection.
    #[must_use]
    pub fn oldest_shard(&self) -> Option<usize> {
        let age = |attachment: &Attachment| attachment.oldest.load(Ordering::Acquire);
        let (shard, attachment) =
            self.attachments.iter().enumerate().min_by_key(|(_, attachment)| age(attachment))?;
        (age(attachment) != u64::MAX).then_some(shard)
    }
}

impl LogSlot {
    /// The log, if anything was published here.
    #[must_use]
    pub fn get(&self) -> Option<&Log> {
        match self {
            Self::Forgotten(_) => None,
            Self::Log(log) => Some(log),
        }
    }

    /// The log, if anything was published here.
    pub fn get_mut(&mut self) -> Option<&mut Log> {
        match self {
            Self::Forgotten(_) => None,
            Self::Log(log) => Some(log),
        }
    }

    /// The log, created if it does not exist.
    pub fn get_or_create(&mut self) -> &mut Log {
        if let Self::Forgotten(to) = *self {
            *self = Self::Log(Box::new(Log::starting_after(to)));
        }
        match self {
            Self::Log(log) => log,
            Self::Forgotten(_) => unreachable!("replaced above"),
        }
    }

    /// See [`Log::expired_to`].
    #[must_use]
    pub fn expired_to(&self) -> Offset {
        match self {
            Self::Forgotten(to) => *to,
            Self::Log(log) => log.expired_to(),
        }
    }

    /// See [`Log::lost_to`].
    #[must_use]
    pub fn lost_to(&self) -> Offset {
        match self {
            Self::Forgotten(to) => *to,
            Self::Log(log) => log.lost_to(),
        }
    }

    /// See [`Log::evicted_to`].
    #[must_use]
    pub fn evicted_to(&self) -> Offset {
        match self {
            Self::Forgotten(to) => *to,
            Self::Log(log) => log.evicted_to(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(shards: usize) -> Source {
        Source::new(SourceKind::Room, "a", shards, 5, RoomPolicy::example())
    }

    #[test]
    fn who_sits_down_keeps_what_comes_after_its_head() {
        let source = source(2);
        assert_eq!((source.flushed(), source.local(0), source.local(1)), (Offset::MAX, None, None));
        source.attach(0, 7, 10);
        source.attach(1, 8, 20);
        assert_eq!((source.flushed(), source.local(0), source.local(1)), (10, Some(7), Some(8)));
        source.attach(0, 9, 15);
        assert_eq!(
            (source.flushed(), source.local(0)),
            (10, Some(9)),
            "a new index does not change the head"
        );
        source.set_flushed(0, 30);
        assert_eq!(source.flushed(), 20);
        source.detach(1);
        assert_eq!((source.flushed(), source.local(1)), (30, None));
        source.detach(0);
        source.attach(0, 1, 40);
        assert_eq!(source.flushed(), 40, "after a detach it starts anew");
    }

    #[test]
    fn a_shard_is_told_once_and_by_its_own_number() {
        let source = source(2);
        assert_eq!(source.claim(1), None, "it is not attached");
        source.attach(1, 7, 0);
        assert_eq!((source.claim(1), source.claim(1), source.claim(0)), (Some(7), None, None));
        source.unclaim(1);
        assert_eq!((source.claim(1), source.claim(1)), (Some(7), None));
    }

    #[test]
    fn no_more_enter_than_may() {
        let source = source(1);
        assert_eq!([source.enter(2), source.enter(2), source.enter(2)], [Some(0), Some(1), None]);
        assert_eq!((source.connections(), source.leave(), source.leave()), (2, 1, 0));
        assert_eq!((source.connections(), source.enter(1)), (0, Some(0)));
    }

    #[test]
    fn the_oldest_connection_is_where_it_was_opened_first() {
        let source = source(3);
        assert_eq!(source.oldest_shard(), None);
        source.set_oldest(2, 20);
        assert_eq!(source.oldest_shard(), Some(2));
        source.set_oldest(1, 10);
        assert_eq!(source.oldest_shard(), Some(1));
        source.set_oldest(1, u64::MAX);
        assert_eq!(source.oldest_shard(), Some(2));
    }

    #[test]
    fn a_name_that_comes_back_remembers_what_it_lost() {
        let source = source(1);
        let ends = |slot: &LogSlot| (slot.expired_to(), slot.evicted_to());
        assert_eq!((source.kind(), source.name(), source.last()), (SourceKind::Room, "a", 5));
        let mut slot = source.log();
        assert!(slot.get().is_none() && slot.get_mut().is_none());
        assert_eq!(ends(&slot), (5, 5));
        assert!(slot.get_or_create().is_empty());
        assert!(slot.get().is_some() && slot.get_mut().is_some());
        assert_eq!(ends(&slot), (5, 5));
    }
}
