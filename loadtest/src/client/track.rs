//! Checks one connection's sequence numbers: nothing lost, nothing twice, nothing out of order.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What one sequence number says about its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The number that was due.
    InOrder,
    /// Later than due; what lies between is missing until it turns up.
    Skipped,
    /// Later than due by so many, which a gap had told.
    Excused(u64),
    /// A missing number turned up late.
    Reordered,
    /// Seen before.
    Duplicate,
}

/// The sequence of one stream as one connection saw it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Track {
    /// The number due next.
    next: u64,
    /// Numbers below `next` not seen yet. An empty set owns no memory.
    missing: BTreeSet<u64>,
    /// Missing numbers beyond [`MISSING_MAX`], lost for good.
    forgotten: u64,
    /// Numbers that gaps announced, or that were published before the stream joined: neither seen nor lost.
    excused: u64,
    /// Whether a gap was told and nothing has come since.
    has_gap: bool,
}

impl Track {
    /// Takes note of `seq`.
    pub fn see(&mut self, seq: u64) -> Order {
        if seq == self.next {
            self.next += 1;
            self.has_gap = false;
            return Order::InOrder;
        }
        if seq > self.next && std::mem::take(&mut self.has_gap) {
            let excused = seq - self.next;
            self.excused += excused;
            self.next = seq + 1;
            return Order::Excused(excused);
        }
        if seq > self.next {
            self.skip_to(seq);
            return Order::Skipped;
        }
        let was_missing = self.missing.remove(&seq);
        if was_missing { Order::Reordered } else { Order::Duplicate }
    }

    /// The stream begins with number `seq`: those before were published before it joined.
    pub fn join_at(&mut self, seq: u64) {
        self.excused += seq;
        self.next = seq;
    }

    /// The server has told of a gap: what lies between here and the next number is declared, not lost. A gap with
    /// nothing after it excuses nothing, so a scenario that expects gaps publishes once more at its end.
    pub fn tell_gap(&mut self) {
        self.has_gap = true;
    }

    /// Numbers that gaps announced, or that were published before the stream joined.
    #[must_use]
    pub fn excused(&self) -> u64 {
        self.excused
    }

    fn skip_to(&mut self, seq: u64) {
        let room = MISSING_MAX.saturating_sub(self.missing.len() as u64);
        let kept = room.min(seq - self.next);
        self.missing.extend(self.next..self.next + kept);
        self.forgotten += seq - self.next - kept;
        self.next = seq + 1;
    }

    /// Numbers skipped and never seen, whatever came after them.
    #[must_use]
    pub fn holes(&self) -> u64 {
        self.forgotten + self.missing.len() as u64
    }

    /// The first number that never came, if of `published` events any did not.
    #[must_use]
    pub fn first_lost(&self, published: u64) -> Option<u64> {
        let due = (self.next < published).then_some(self.next);
        self.missing.first().copied().or(due)
    }

    /// Of `published` events, how many never came.
    #[must_use]
    pub fn lost(&self, published: u64) -> u64 {
        self.holes() + published.saturating_sub(self.next)
    }
}

/// Missing numbers remembered for one connection.
const MISSING_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_are_in_order() {
        let mut track = Track::default();
        assert!((0..100).all(|seq| track.see(seq) == Order::InOrder));
        assert_eq!(track.lost(100), 0);
        assert_eq!(track.lost(103), 3);
    }

    #[test]
    fn late_is_reordered_and_again_is_duplicate() {
        let mut track = Track::default();
        assert_eq!(track.see(0), Order::InOrder);
        assert_eq!(track.see(3), Order::Skipped);
        assert_eq!(track.holes(), 2);
        assert_eq!(track.see(1), Order::Reordered);
        assert_eq!(track.see(1), Order::Duplicate);
        assert_eq!(track.see(3), Order::Duplicate);
        assert_eq!(track.lost(4), 1);
        assert_eq!(track.first_lost(4), Some(2));
    }

    #[test]
    fn a_gap_excuses_up_to_the_next_number_and_no_further() {
        let mut track = Track::default();
        assert_eq!(track.see(0), Order::InOrder);
        track.tell_gap();
        assert_eq!(track.lost(5), 4);
        assert_eq!(track.see(5), Order::Excused(4));
        assert_eq!((track.lost(6), track.excused()), (0, 4));
        assert_eq!(track.see(7), Order::Skipped);
        assert_eq!(track.lost(8), 1);
        assert_eq!(track.see(3), Order::Duplicate);
        track.tell_gap();
        assert_eq!(track.see(8), Order::InOrder);
        assert_eq!(track.see(10), Order::Skipped);
    }

    #[test]
    fn who_joins_midway_lacks_nothing_from_before() {
        let mut track = Track::default();
        track.join_at(5);
        assert_eq!((track.lost(5), track.lost(6), track.excused()), (0, 1, 5));
        assert_eq!(track.see(6), Order::Skipped);
        assert_eq!((track.see(5), track.lost(7)), (Order::Reordered, 0));
        assert_eq!(track.see(4), Order::Duplicate);
    }

    #[test]
    fn a_huge_hole_is_counted_but_not_stored() {
        let mut track = Track::default();
        assert_eq!(track.see(1_000_000), Order::Skipped);
        assert_eq!(track.lost(1_000_001), 1_000_000);
        assert_eq!(track.see(999_999), Order::Duplicate);
    }
}
