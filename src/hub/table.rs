//! Sources by name, in shares with a lock each, and what is remembered of forgotten ones.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::{HashMap, HashTable};
use parking_lot::Mutex;

use crate::hub::room_policy::{RoomPolicies, RoomPolicy};
use crate::hub::source::{Source, SourceKind};
use crate::types::position::Offset;

/// Shares of a table. Enough that two threads seldom need the same lock.
const SHARES: usize = 64;

/// New names between two sweeps of a share, or an eighth of the names it has if that is more. So unused names are never
/// more than that, however fast new ones come, and each new name pays for a check of eight others at most.
const SWEEP_NAMES: usize = 64;

/// Forgotten names a share remembers exactly. Those that do not fit raise the share's horizon.
const FORGOTTEN_MAX: usize = 1024;

/// All rooms, or all inboxes.
pub struct Table {
    kind: SourceKind,
    shards: usize,
    hasher: RandomState,
    shares: Box<[Mutex<Share>]>,
    /// The policy of sources that no table matches.
    policy: Arc<RoomPolicy>,
    policies: ArcSwap<RoomPolicies>,
}

#[derive(Default)]
struct Share {
    sources: HashTable<Arc<Source>>,
    forgotten: Forgotten,
    /// Sources created since the last sweep.
    new: usize,
}

/// What is remembered of forgotten sources: the offset up to which their events are gone, by hash of the name. Two
/// names with one hash cause a gap without need, never a silent loss.
#[derive(Default)]
struct Forgotten {
    to: HashMap<u64, Offset>,
    order: VecDeque<u64>,
    /// Every name not in `to` may have had events up to here.
    horizon: Offset,
}

impl Table {
    /// An empty table of sources of one kind, for this many shards. `policy` is that of every source until
    /// [`Table::set_policies`].
    #[must_use]
    pub fn new(kind: SourceKind, shards: usize, policy: Arc<RoomPolicy>) -> Self {
        Self {
            kind,
            shards,
            hasher: RandomState::new(),
            shares: (0..SHARES).map(|_| Mutex::default()).collect(),
            policy,
            policies: ArcSwap::default(),
        }
    }

    /// Notes that every source may have had events up to `offset`, which are gone. Sources that exist are not changed.
    pub(super) fn start_after(&self, offset: Offset) {
        self.shares.iter().for_each(|share| share.lock().forgotten.horizon = offset);
    }

    /// Replaces the policies of all sources, those that exist included. Returns false if they are the same.
    pub fn set_policies(&self, policies: RoomPolicies) -> bool {
        if **self.policies.load() == policies {
            return false;
        }
        // First for new sources: one that is made meanwhile has the new policy, or is among those visited below.
        self.policies.store(Arc::new(policies));
        self.for_each(|source| source.set_policy(self.policy_of(source.name())));
        true
    }

    /// The policies in force.
    #[must_use]
    pub fn policies(&self) -> Arc<RoomPolicies> {
        self.policies.load_full()
    }

    /// Whether a room of this name may be used at all.
    #[must_use]
    pub fn knows(&self, room: &str) -> bool {
        self.policies.load().knows(room)
    }

    /// Whether an event says which room it is from.
    #[must_use]
    pub fn says_room(&self) -> bool {
        self.policies.load().says_room
    }

    /// The policy of a source of this name, whether it exists or not.
    #[must_use]
    pub fn policy_of(&self, name: &str) -> Arc<RoomPolicy> {
        self.policies.load().of(name).unwrap_or(&self.policy).clone()
    }

    /// The source of that name, if it exists.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Source>> {
        let hash = self.hasher.hash_one(name);
        let share = self.share(hash).lock();
        share.sources.find(hash, |source| source.name() == name).cloned()
    }

    /// The source of that name, created if it does not exist. The caller must not hold the lock of a log.
    #[must_use]
    pub fn get_or_create(&self, name: &str) -> Arc<Source> {
        let hash = self.hasher.hash_one(name);
        let mut share = self.share(hash).lock();
        if let Some(source) = share.sources.find(hash, |source| source.name() == name) {
            return source.clone();
        }
        let source = {
            let (forgotten_to, policy) = (share.forgotten.of(hash), self.policy_of(name));
            Arc::new(Source::new(self.kind, name, self.shards, forgotten_to, policy))
        };
        share.sources.insert_unique(hash, source.clone(), |source| self.hasher.hash_one(source.name()));
        share.new += 1;
        if share.new >= SWEEP_NAMES.max(share.sources.len() / 8) {
            share.sweep(&self.hasher);
        }
        source
    }

    /// Number of sources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shares.iter().map(|share| share.lock().sources.len()).sum()
    }

    /// Whether there are no sources.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` with every source, a share at a time.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Source>)) {
        (0..SHARES).for_each(|share| self.visit(share, &mut visit));
    }

    /// Calls `visit` with every source of share `turn` (modulo the number of shares).
    pub fn visit(&self, turn: usize, visit: impl FnMut(&Arc<Source>)) {
        self.shares[turn % SHARES].lock().sources.iter().for_each(visit);
    }

    /// Forgets the sources of share `turn` (modulo the number of shares) that are not in use and have no events.
    ///
    /// No publisher or subscriber can get such a source meanwhile: the only way to it is through this share's lock. The
    /// queue of oldest events may still refer to it, and finds nothing to expire.
    pub fn sweep(&self, turn: usize) {
        self.shares[turn % SHARES].lock().sweep(&self.hasher);
    }

    /// Capacity of all shares.
    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.shares.iter().map(|share| share.lock().sources.capacity()).sum()
    }

    /// Number of shares to visit or to sweep.
    #[must_use]
    pub fn shares() -> usize {
        SHARES
    }

    fn share(&self, hash: u64) -> &Mutex<Share> {
        // hashbrown uses the low bits for the bucket and the top seven for its tags.
        &self.shares[(hash >> 32) as usize % SHARES]
    }
}

impl Share {
    fn sweep(&mut self, hasher: &RandomState) {
        let Self { sources, forgotten, new } = self;
        *new = 0;
        sources.retain(|source| {
            let in_use = Arc::strong_count(source) > 1
                || source.connections() > 0
                || source.log().get().is_some_and(|log| !log.is_empty());
            if !in_use {
                forgotten.put(hasher.hash_one(source.name()), source.log().expired_to());
            }
            in_use
        });
        if sources.len() < sources.capacity() / 4 {
            sources.shrink_to(sources.len() * 2, |source| hasher.hash_one(source.name()));
        }
    }
}

impl Forgotten {
    fn put(&mut self, hash: u64, to: Offset) {
        // At or below the horizon there is nothing to add.
        if to > self.horizon {
            let mut is_new = false;
            // Of two names with one hash, the one that lost more counts.
            let known = self.to.entry(hash).or_insert_with(|| {
                is_new = true;
                to
            });
            *known = to.max(*known);
            if is_new {
                self.order.push_back(hash);
            }
        }
        while self.to.len() > FORGOTTEN_MAX {
            let hash = self.order.pop_front().expect("every forgotten name is in the order once");
            if let Some(to) = self.to.remove(&hash) {
                self.horizon = self.horizon.max(to);
            }
        }
    }

    /// The offset remembered for a name that comes back. The note stays: if the source is forgotten again, its offset
    /// only rises.
    fn of(&self, hash: u64) -> Offset {
        self.to.get(&hash).copied().unwrap_or(0).max(self.horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::pattern::Pattern;

    #[test]
    fn one_name_is_one_source() {
        let table = Table::new(SourceKind::Room, 1, RoomPolicy::example());
        let source = table.get_or_create("a");
        assert!(Arc::ptr_eq(&source, &table.get_or_create("a")));
        assert!(!Arc::ptr_eq(&source, &table.get_or_create("b")));
        assert!(table.get("c").is_none());
        assert_eq!(table.len(), 2);
    }

    /// Each reload wrote the policy of every room again, and put all logs in order with the history locked.
    #[test]
    fn the_same_policies_again_change_nothing() {
        let table = Table::new(SourceKind::Room, 1, RoomPolicy::example());
        let policies = || {
            let tables = vec![(Pattern::exactly("a"), RoomPolicy::example())];
            RoomPolicies { tables, ..RoomPolicies::default() }
        };
        let room = table.get_or_create("a");
        assert!(table.set_policies(policies()));
        let policy = room.policy();
        assert!(!table.set_policies(policies()) && Arc::ptr_eq(&policy, &room.policy()));
        assert!(table.set_policies(RoomPolicies { listed: true, ..policies() }));
        assert!(!Arc::ptr_eq(&policy, &room.policy()) && !table.knows("b"));
    }

    #[test]
    fn only_what_nobody_holds_vanishes() {
        let table = Table::new(SourceKind::Room, 1, RoomPolicy::example());
        let held = table.get_or_create("held");
        let _ = table.get_or_create("left");
        for turn in 0..SHARES {
            table.sweep(turn);
        }
        assert_eq!(table.len(), 1);
        assert!(Arc::ptr_eq(&held, &table.get("held").unwrap()));
    }

    /// A million new rooms a second once stayed until the next round of housekeeping: more than a gigabyte of names.
    #[test]
    fn names_that_nothing_needs_are_bounded_while_new_ones_come() {
        let table = Table::new(SourceKind::Room, 1, RoomPolicy::example());
        let held: Vec<_> = (0..10_000).map(|name| table.get_or_create(&format!("held {name}"))).collect();
        for name in 0..200_000 {
            let _ = table.get_or_create(&format!("left {name}"));
            assert!(table.len() <= held.len() * 9 / 8 + SHARES * SWEEP_NAMES, "at {name}");
        }
        assert!(held.iter().all(|source| table.get(source.name()).is_some()));
        assert!(table.places() < 4 * (held.len() + SHARES * SWEEP_NAMES));
    }

    #[test]
    fn a_name_that_comes_back_remembers_what_it_lost() {
        let mut forgotten = Forgotten::default();
        forgotten.put(1, 500);
        assert_eq!(forgotten.of(1), 500);
        assert_eq!(forgotten.of(2), 0, "a quiet name lost nothing");
        forgotten.put(1, 400);
        assert_eq!(forgotten.of(1), 500, "another name with its hash");
        for hash in 10..10 + FORGOTTEN_MAX as u64 {
            forgotten.put(hash, 600);
        }
        assert_eq!(forgotten.of(2), 500, "a name that is not known exactly may have lost events");
        assert_eq!(forgotten.of(10), 600);
    }
}
