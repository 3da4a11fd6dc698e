//! The terms of an order: which epochs its positions belong to, and how far each goes.
//!
//! A *term* is a stretch of the order under one epoch. An order that is continued after a loss begins a new term: what the
//! old term had beyond its end is gone, and what it had up to its end is shared. So an id of an old term says exactly
//! whether its reader saw something that is lost. The same idea as leader epochs in Kafka (KIP-101, KIP-320).
//!
//! Offsets rise over all terms. A new term begins [`TERM_OFFSETS`] further on, so that no offset which a lost event had is
//! given to another event.

use crate::types::position::{Epoch, Offset, Position, parse};

/// Terms that are remembered. An id of an older one is of a former life.
pub const TERMS_MAX: usize = 64;

/// The first offset of a new term is a multiple of this.
pub const TERM_OFFSETS: Offset = 1 << 32;

/// One stretch of the order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Term {
    /// Its name.
    pub epoch: Epoch,
    /// The position from which it starts. Its events are above.
    pub first: Offset,
    /// The position up to which its events are kept; [`Offset::MAX`] while it goes on.
    pub last: Offset,
}

/// The terms of an order, oldest first. There is at least one, and the newest goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lineage {
    /// Invariant: `first` and `last` rise, and only the newest has no end.
    terms: Vec<Term>,
}

/// What an id, presented by a subscriber, means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presented {
    /// A position of this order. It may be above the newest event.
    Here(Offset),
    /// A position of a term that was ended below it, at this offset: its reader may have seen what is lost.
    Beyond(Offset),
    /// Shaped like a position, of no term that is known.
    Elsewhere,
    /// Anything else, such as an id that a publisher chose.
    Foreign,
}

impl Lineage {
    /// An order that begins: one term from `first`.
    #[must_use]
    pub fn root(epoch: Epoch, first: Offset) -> Self {
        Self { terms: vec![Term { epoch, first, last: Offset::MAX }] }
    }

    /// The lineage of `terms`, oldest first. The last one is taken to go on. `None` if they are no lineage: none, too many,
    /// or not in order.
    #[must_use]
    pub fn of(mut terms: Vec<Term>) -> Option<Self> {
        terms.last_mut()?.last = Offset::MAX;
        let in_order = |pair: &[Term]| pair[0].last <= pair[1].first && pair[0].epoch != pair[1].epoch;
        let is_lineage = terms.len() <= TERMS_MAX
            && terms.iter().all(|term| term.first <= term.last)
            && terms.windows(2).all(in_order);
        is_lineage.then_some(Self { terms })
    }

    /// The terms, oldest first.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The term that goes on.
    #[must_use]
    pub fn newest(&self) -> &Term {
        self.terms.last().expect("there is at least one")
    }

    /// The epoch of the term that goes on.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.newest().epoch
    }

    /// The first offset of a term that begins when offsets up to `seen` may have been given out. At least `TERM_OFFSETS`
    /// above them: a peer that has not heard of the new term may give out some more.
    #[must_use]
    pub fn first_after(seen: Offset) -> Offset {
        (seen / TERM_OFFSETS + 2) * TERM_OFFSETS
    }

    /// Ends the newest term at `end`, and begins one called `epoch`. Offsets up to `seen`, at least `end`, may have been
    /// given out. The oldest terms are forgotten beyond [`TERMS_MAX`].
    pub fn fork(&mut self, end: Offset, seen: Offset, epoch: Epoch) {
        let newest = self.terms.last_mut().expect("there is at least one");
        debug_assert!(newest.first <= end && end <= seen);
        newest.last = end;
        self.terms.push(Term { epoch, first: Self::first_after(seen), last: Offset::MAX });
        let excess = self.terms.len().saturating_sub(TERMS_MAX);
        self.terms.drain(..excess);
    }

    /// The offset up to which this order and `other` are the same: the lower end of the newest term that both know. `None`
    /// if they have none in common.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Option<Offset> {
        self.terms.iter().rev().find_map(|mine| {
            let theirs = other.terms.iter().find(|theirs| theirs.epoch == mine.epoch)?;
            Some(mine.last.min(theirs.last))
        })
    }

    /// The id of `offset`. An offset between two terms belongs to the earlier one, at its end.
    #[must_use]
    pub fn position(&self, offset: Offset) -> Position {
        let newest = self.newest();
        if offset >= newest.first {
            return newest.epoch.position(offset);
        }
        let before = self.terms.iter().rev().find(|term| term.first <= offset).unwrap_or(&self.terms[0]);
        before.epoch.position(offset.min(before.last))
    }

    /// What `id`, presented by a subscriber, means.
    #[must_use]
    pub fn read(&self, id: &str) -> Presented {
        let Some((epoch, offset)) = parse(id) else {
            return Presented::Foreign;
        };
        match self.terms.iter().rev().find(|term| term.epoch.as_str() == epoch) {
            None => Presented::Elsewhere,
            Some(term) if offset <= term.last => Presented::Here(offset),
            Some(term) => Presented::Beyond(term.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(n: u64) -> Epoch {
        Epoch::new(n)
    }

    fn id(n: u64, offset: Offset) -> String {
        epoch(n).position(offset).to_string()
    }

    /// Three terms: 1 up to 10, 2 up to 5 events further, 3 goes on.
    fn lineage() -> Lineage {
        let mut lineage = Lineage::root(epoch(1), 0);
        lineage.fork(10, 12, epoch(2));
        lineage.fork(2 * TERM_OFFSETS + 5, 2 * TERM_OFFSETS + 5, epoch(3));
        lineage
    }

    #[test]
    fn an_id_of_a_former_term_says_whether_its_reader_saw_what_is_lost() {
        let lineage = lineage();
        let second = 2 * TERM_OFFSETS;
        assert_eq!(lineage.read(&id(1, 10)), Presented::Here(10));
        assert_eq!(lineage.read(&id(1, 11)), Presented::Beyond(10));
        assert_eq!(lineage.read(&id(2, second + 5)), Presented::Here(second + 5));
        assert_eq!(lineage.read(&id(2, second + 6)), Presented::Beyond(second + 5));
        assert_eq!(lineage.read(&id(3, u64::MAX)), Presented::Here(u64::MAX));
        assert_eq!(lineage.read(&id(4, 5)), Presented::Elsewhere);
        assert_eq!(lineage.read("order-17"), Presented::Foreign);
    }

    #[test]
    fn a_position_is_written_in_its_own_term_and_reads_back() {
        let lineage = lineage();
        let (second, third) = (2 * TERM_OFFSETS, 4 * TERM_OFFSETS);
        let terms = [(0, 1), (10, 1), (second, 2), (second + 5, 2), (third, 3), (third + 9, 3)];
        for (offset, n) in terms {
            assert_eq!(lineage.position(offset).as_str(), id(n, offset));
            assert_eq!(lineage.read(lineage.position(offset).as_str()), Presented::Here(offset));
        }
        // Between two terms nothing is: the end of the earlier one is the same place.
        assert_eq!(lineage.position(second - 1).as_str(), id(1, 10));
    }

    #[test]
    fn no_offset_is_given_out_twice() {
        for seen in [0, 1, TERM_OFFSETS - 1, TERM_OFFSETS, 7 * TERM_OFFSETS + 5] {
            let first = Lineage::first_after(seen);
            assert!(first > seen + TERM_OFFSETS - 1 && first.is_multiple_of(TERM_OFFSETS), "{seen}");
        }
    }

    #[test]
    fn two_orders_share_what_both_kept_of_their_newest_common_term() {
        let ours = lineage();
        let mut theirs = Lineage::root(epoch(1), 0);
        assert_eq!(ours.shared_with(&theirs), Some(10));
        theirs.fork(7, 8, epoch(9));
        assert_eq!(ours.shared_with(&theirs), Some(7));
        assert_eq!(theirs.shared_with(&ours), Some(7));
        assert_eq!(ours.shared_with(&ours), Some(Offset::MAX));
        assert_eq!(ours.shared_with(&Lineage::root(epoch(5), 0)), None);
    }

    #[test]
    fn only_terms_in_order_are_a_lineage() {
        let lineage = lineage();
        assert_eq!(Lineage::of(lineage.terms().to_vec()), Some(lineage.clone()));
        let mut swapped = lineage.terms().to_vec();
        swapped.swap(0, 1);
        let mut twice = lineage.terms().to_vec();
        twice[1].epoch = twice[0].epoch;
        let mut overlapping = lineage.terms().to_vec();
        overlapping[0].last = overlapping[1].first + 1;
        for terms in [Vec::new(), swapped, twice, overlapping] {
            assert_eq!(Lineage::of(terms), None);
        }
    }

    #[test]
    fn the_oldest_terms_are_forgotten() {
        let mut lineage = Lineage::root(epoch(0), 0);
        for n in 1..=100 {
            let end = lineage.newest().first + 1;
            lineage.fork(end, end, epoch(n));
        }
        assert_eq!(lineage.terms().len(), TERMS_MAX);
        assert_eq!(lineage.read(&id(36, 0)), Presented::Elsewhere);
        assert!(matches!(lineage.read(&id(37, 0)), Presented::Here(_)));
        assert!(Lineage::of(lineage.terms().to_vec()).is_some());
    }
}
