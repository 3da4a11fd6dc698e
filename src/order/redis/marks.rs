//! Marks of what a node applied last: where each batch and fork ended, and its tag. They prove that the node's history and
//! that of the order are the same up to an offset.

use std::collections::VecDeque;

use crate::order::redis::entry::Mark;
use crate::types::position::Offset;

/// What is known of an offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// A batch or fork ended there.
    Mark(Mark),
    /// Nothing ended there.
    Nothing,
    /// It is too long ago.
    Forgotten,
}

/// The newest marks, 16 bytes each.
#[derive(Debug)]
pub struct Marks {
    /// Invariant: offsets rise.
    newest: VecDeque<(Offset, Mark)>,
    marks_max: usize,
}

impl Marks {
    /// Keeps `marks_max` marks, at least one.
    #[must_use]
    pub fn new(marks_max: usize) -> Self {
        Self { newest: VecDeque::new(), marks_max: marks_max.max(1) }
    }

    /// The mark of what was applied last.
    #[must_use]
    pub fn newest(&self) -> Option<Mark> {
        self.newest.back().map(|(_, mark)| *mark)
    }

    /// A batch or fork that ends at `offset` was applied.
    pub fn push(&mut self, offset: Offset, mark: Mark) {
        debug_assert!(self.newest.back().is_none_or(|(last, _)| *last < offset));
        if self.newest.len() == self.marks_max {
            self.newest.pop_front();
        }
        self.newest.push_back((offset, mark));
    }

    /// What is known of `offset`.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Known {
        match self.newest.binary_search_by_key(&offset, |(at, _)| *at) {
            Ok(index) => Known::Mark(self.newest[index].1),
            Err(0) => Known::Forgotten,
            Err(_) => Known::Nothing,
        }
    }

    /// What is above `offset` was not applied after all.
    pub fn cut(&mut self, offset: Offset) {
        let kept = self.newest.partition_point(|(at, _)| *at <= offset);
        self.newest.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_marked_unmarked_or_forgotten() {
        let mut marks = Marks::new(3);
        for offset in [10, 20, 30, 40] {
            marks.push(offset, Mark::of(&offset.to_string()));
        }
        assert_eq!(marks.at(30), Known::Mark(Mark::of("30")));
        assert_eq!(marks.at(35), Known::Nothing);
        assert_eq!(marks.at(45), Known::Nothing);
        assert_eq!([10, 15, 19].map(|offset| marks.at(offset)), [Known::Forgotten; 3]);
        marks.cut(35);
        assert_eq!(marks.newest(), Some(Mark::of("30")));
        marks.cut(5);
        assert_eq!(marks.newest(), None);
    }
}
