//! A room in one shard: its members in portions, each of which is flushed at its own pace.
//!
//! A room of ten thousand takes tens of milliseconds to write to. In one flush, the last member would get only what was
//! new when the first was written to, and then all would wait for the pause after it. In portions, each member is
//! written to as often, with everything that is new by then. Members never change portions, because each portion has
//! been flushed up to its own offset.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::room_policy::RoomPolicy;
use crate::hub::source::Source;
use crate::shard::presence::LocalPresence;
use crate::shard::sparse::is_sparse;
use crate::types::moment::Moment;
use crate::types::position::Offset;

/// Members in one portion: a few milliseconds of writes, so that the cost of building a batch, mostly of compressing
/// it, is small in comparison.
pub const PORTION_MEMBERS: u32 = 1024;

/// How far a source was flushed to some connections, and when it may be flushed again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Everything up to here has been taken by a flush.
    pub(super) flushed_to: Offset,
    /// The source's number of events up to there.
    pub(super) flushed_count: u64,
    /// The same before the newest flush, which may still be under way.
    pub(super) count_before: u64,
    /// Not flushed again before this.
    pub(super) due_at: Moment,
    /// Whether a flush is queued.
    pub(super) pending: bool,
}

impl Pace {
    /// The pace of a source whose first connections here start at `head`.
    pub(super) fn starting_at(source: &Source, head: Offset) -> Self {
        let count = source.log().get().map_or(0, |log| log.count_to(head));
        Self { flushed_to: head, flushed_count: count, count_before: count, ..Self::default() }
    }

    /// The source's number of events up to `cursor`, for a connection that keeps up with the flushes.
    pub(super) fn count_at(&self, cursor: Offset) -> u64 {
        if cursor < self.flushed_to { self.count_before } else { self.flushed_count }
    }
}

/// Members that are flushed in one go.
#[derive(Debug)]
pub(super) struct Portion {
    /// Their slots.
    pub(super) members: Vec<u32>,
    pub(super) pace: Pace,
}

impl Portion {
    fn starting_at(source: &Source, head: Offset) -> Self {
        Self { members: Vec::new(), pace: Pace::starting_at(source, head) }
    }
}

/// A room. A member's place in it is its portion times [`PORTION_MEMBERS`] and its index there.
#[derive(Debug)]
pub(super) struct LocalRoom {
    pub(super) source: Arc<Source>,
    /// What the settings say about it, as of the last reload.
    pub(super) policy: Arc<RoomPolicy>,
    /// Its connections that see who is present; `None` if there are none.
    pub(super) presence: Option<Box<LocalPresence>>,
    first: Portion,
    /// The other portions. Hardly any room has a second.
    more: Vec<Portion>,
}

impl LocalRoom {
    /// A room without members.
    pub(super) fn new(source: Arc<Source>, head: Offset) -> Self {
        let first = Portion::starting_at(&source, head);
        Self { first, more: Vec::new(), presence: None, policy: source.policy(), source }
    }

    /// How often it is flushed at most, where the server's setting is `flush_interval`.
    pub(super) fn flush_interval(&self, flush_interval: Duration) -> Duration {
        let own = self.policy.flush_interval.unwrap_or(flush_interval);
        own.max(self.policy.conflate.unwrap_or_default())
    }

    /// How many portions there are, at least one.
    pub(super) fn portions(&self) -> u32 {
        1 + u32::try_from(self.more.len()).expect("fewer portions than members")
    }

    pub(super) fn portion(&self, nth: u32) -> Option<&Portion> {
        nth.checked_sub(1).map_or(Some(&self.first), |nth| self.more.get(nth as usize))
    }

    pub(super) fn portion_mut(&mut self, nth: u32) -> Option<&mut Portion> {
        nth.checked_sub(1).map_or(Some(&mut self.first), |nth| self.more.get_mut(nth as usize))
    }

    fn all(&self) -> impl Iterator<Item = &Portion> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The slots of all members.
    pub(super) fn members(&self) -> impl Iterator<Item = u32> {
        self.all().flat_map(|portion| portion.members.iter().copied())
    }

    /// Everything up to here has been taken by flushes of all portions.
    pub(super) fn flushed_to(&self) -> Offset {
        self.all().map(|portion| portion.pace.flushed_to).min().unwrap_or_default()
    }

    /// Whether a flush is queued.
    pub(super) fn is_pending(&self) -> bool {
        let has_news = self.presence.as_ref().is_some_and(|presence| presence.pending);
        has_news || self.all().any(|portion| portion.pace.pending)
    }

    /// Adds `slot`, whose stream starts at `head` or later. Returns its place.
    pub(super) fn enter(&mut self, slot: u32, size: u32, head: Offset) -> u32 {
        let has_room = |portion: &Portion| portion.members.len() < size as usize;
        let free = self.all().position(has_room);
        let nth = u32::try_from(free.unwrap_or(1 + self.more.len())).expect("fewer portions than members");
        if free.is_none() {
            self.more.push(Portion::starting_at(&self.source, head));
        }
        let members = &mut self.portion_mut(nth).expect("found or made").members;
        members.push(slot);
        let index = u32::try_from(members.len() - 1).expect("a portion is bounded");
        nth * size + index
    }

    /// Removes the member at `place`. Returns the slot of the member that was moved there, if one was.
    pub(super) fn leave(&mut self, place: u32, size: u32) -> Option<u32> {
        let (nth, index) = (place / size, (place % size) as usize);
        let members = &mut self.portion_mut(nth).expect("a member has a portion").members;
        members.swap_remove(index);
        if is_sparse(members.len(), members.capacity()) {
            members.shrink_to(2 * members.len());
        }
        let moved = members.get(index).copied();
        while self.more.pop_if(|last| last.members.is_empty()).is_some() {}
        moved
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().all(|portion| portion.members.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::source::SourceKind;

    #[test]
    fn members_keep_their_portion_and_fill_its_holes() {
        let mut room =
            LocalRoom::new(Arc::new(Source::new(SourceKind::Room, "r", 1, 0, RoomPolicy::example())), 0);
        let places: Vec<u32> = (10..15).map(|slot| room.enter(slot, 2, 0)).collect();
        assert_eq!((places, room.portions()), (vec![0, 1, 2, 3, 4], 3));
        assert_eq!(room.leave(0, 2), Some(11), "the portion's last takes the place");
        assert_eq!(room.leave(3, 2), None, "no member follows the last");
        assert_eq!(room.enter(15, 2, 0), 1, "the first with room");
        assert_eq!(room.members().collect::<Vec<_>>(), [11, 15, 12, 14]);
        room.leave(2, 2);
        assert_eq!(room.portions(), 3, "a hole in the middle stays");
        room.leave(4, 2);
        assert_eq!(room.portions(), 1, "empty ones at the end do not");
        assert!(!room.is_empty());
        room.leave(1, 2);
        room.leave(0, 2);
        assert!(room.is_empty());
    }
}
