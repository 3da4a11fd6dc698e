//! Ids that publishers choose for their events. Each is used once in the whole order.
//!
//! A subscriber that resumes presents one id and nothing else. If two events could have that id, its position would be
//! a guess, and a wrong guess skips or repeats events. So an id is refused while an event with it is held, and while it
//! is among the newest that expired. Older ids are forgotten: publishers must make sure that they never use an id
//! again.
//!
//! Ids are kept as 64-bit hashes with a key drawn for each process, so that an attacker cannot choose two ids with one
//! hash. If two have one by chance, one pair in 2^64, an id is refused without need. A position is never wrong: a
//! resume compares the text with the event's own id.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::types::name::EventId;
use crate::types::position::Offset;

/// Ids that are remembered after their events expired. They take 2 MiB at most, in addition to the history's bounds.
pub const FORMER_IDS_MAX: usize = 65_536;

/// Bytes charged for an own id beyond its text: its place in the table, half of which may be empty, the table's growth,
/// and the allocator's share of the text.
pub const OWN_ID_OVERHEAD: usize = 64;

/// The ids in use.
#[derive(Default)]
pub struct OwnIds {
    hasher: RandomState,
    /// Ids of events that a resume can have.
    held: HashTable<HeldId>,
    /// Ids of events that have expired. Invariant: the same as in `former_order`, and none of them is in `held`.
    former: HashTable<u64>,
    /// Invariant: at most [`FORMER_IDS_MAX`], each once.
    former_order: VecDeque<u64>,
}

#[derive(Clone, Copy)]
struct HeldId {
    hash: u64,
    offset: Offset,
}

/// What happens to events of which one is refused, such as for an id that was used before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeats {
    /// None of them is published.
    RefuseAll,
    /// The events before it are published.
    EndThere,
}

impl OwnIds {
    /// Claims `id` for the event at `offset`. False if it was used before.
    #[must_use]
    pub fn claim(&mut self, id: &EventId, offset: Offset) -> bool {
        let hash = self.hasher.hash_one(id.as_str());
        let is_used = self.held.find(hash, |held| held.hash == hash).is_some()
            || self.former.find(hash, |former| *former == hash).is_some();
        if !is_used {
            self.held.insert_unique(hash, HeldId { hash, offset }, |held| held.hash);
        }
        !is_used
    }

    /// Undoes a claim whose event was not published.
    pub fn release(&mut self, id: &EventId) {
        let hash = self.hasher.hash_one(id.as_str());
        if let Ok(held) = self.held.find_entry(hash, |held| held.hash == hash) {
            held.remove();
        }
    }

    /// Notes that the event of `id` has expired. The id stays refused while it is among the newest that expired.
    pub fn let_go(&mut self, id: &EventId) {
        let hash = self.hasher.hash_one(id.as_str());
        let Ok(held) = self.held.find_entry(hash, |held| held.hash == hash) else {
            debug_assert!(false, "every id of an event was claimed");
            return;
        };
        held.remove();
        if self.former_order.len() == FORMER_IDS_MAX
            && let Some(oldest) = self.former_order.pop_front()
            && let Ok(oldest) = self.former.find_entry(oldest, |former| *former == oldest)
        {
            oldest.remove();
        }
        self.former_order.push_back(hash);
        self.former.insert_unique(hash, hash, |former| *former);
    }

    /// The offset of the event with this id, if a resume can have it. The caller must compare the event's own id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Offset> {
        let hash = self.hasher.hash_one(id);
        self.held.find(hash, |held| held.hash == hash).map(|held| held.offset)
    }

    /// Gives back the memory that a crowd of expired ids has left unused.
    pub fn shrink(&mut self) {
        if self.held.len() < self.held.capacity() / 4 {
            self.held.shrink_to(2 * self.held.len(), |held| held.hash);
        }
    }
}

impl fmt::Debug for OwnIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnIds")
            .field("held", &self.held.len())
            .field("former", &self.former_order.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> EventId {
        EventId::new(&format!("own.{number}")).expect("an id")
    }

    #[test]
    fn an_id_is_taken_once_and_found_where_it_is() {
        let mut ids = OwnIds::default();
        assert!(ids.claim(&id(1), 10));
        assert!(ids.claim(&id(2), 20));
        assert!(!ids.claim(&id(1), 30));
        assert_eq!([1, 2, 3].map(|n| ids.find(id(n).as_str())), [Some(10), Some(20), None]);
    }

    #[test]
    fn an_id_whose_event_is_gone_is_still_taken_but_has_no_place() {
        let mut ids = OwnIds::default();
        assert!(ids.claim(&id(1), 10));
        ids.let_go(&id(1));
        assert_eq!((ids.find(id(1).as_str()), ids.claim(&id(1), 20)), (None, false));
    }

    #[test]
    fn an_id_that_was_given_back_is_free() {
        let mut ids = OwnIds::default();
        assert!(ids.claim(&id(1), 10));
        ids.release(&id(1));
        assert_eq!(ids.find(id(1).as_str()), None);
        assert!(ids.claim(&id(1), 20));
    }

    #[test]
    fn as_many_are_remembered_as_promised_and_no_more() {
        let mut ids = OwnIds::default();
        for n in 0..=FORMER_IDS_MAX {
            assert!(ids.claim(&id(n), 1));
            ids.let_go(&id(n));
        }
        assert!(!ids.claim(&id(1), 2), "one of the last 65,536");
        assert!(ids.claim(&id(0), 2), "the one before them");
        assert_eq!((ids.former.len(), ids.former_order.len()), (FORMER_IDS_MAX, FORMER_IDS_MAX));
    }

    #[test]
    fn a_crowd_of_ids_does_not_keep_its_places() {
        let mut ids = OwnIds::default();
        for n in 0..10_000 {
            assert!(ids.claim(&id(n), 1));
        }
        let crowded = ids.held.capacity();
        for n in 10..10_000 {
            ids.let_go(&id(n));
        }
        ids.shrink();
        assert!(ids.held.capacity() < 64 && crowded >= 10_000, "{}", ids.held.capacity());
        assert!(ids.find(id(9).as_str()).is_some());
    }

    #[test]
    fn what_is_charged_covers_a_place_in_a_table_that_is_growing() {
        // One byte of control for each place; half of the places may be empty, and an eighth always is. While it grows,
        // the table of half the size exists, too.
        let place = size_of::<HeldId>() + 1;
        assert!(place * 16 / 7 * 3 / 2 <= OWN_ID_OVERHEAD);
    }
}
