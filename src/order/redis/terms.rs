//! The text of a lineage in Redis: `<epoch>:<first>:<last>,…,<epoch>:<first>`, oldest first. The newest term has no end.
//!
//! Written by the script `attach`, read here, and readable for who looks into Redis by hand.

use crate::types::lineage::{Lineage, Term};
use crate::types::position::{Epoch, Offset};

/// Reads a lineage. `None` if it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Lineage> {
    let terms: Option<Vec<Term>> = text.split(',').map(term).collect();
    let terms = terms?;
    let has_end = |term: &Term| term.last != Offset::MAX;
    let (newest, older) = terms.split_last()?;
    let is_text_of_one = !has_end(newest) && older.iter().all(has_end);
    is_text_of_one.then(|| Lineage::of(terms))?
}

fn term(text: &str) -> Option<Term> {
    let mut pieces = text.split(':');
    let epoch = Epoch::parse(pieces.next()?)?;
    let first = pieces.next()?.parse().ok()?;
    let last = pieces.next().map_or(Some(Offset::MAX), |last| last.parse().ok())?;
    pieces.next().is_none().then_some(Term { epoch, first, last })
}

/// Writes a lineage.
#[must_use]
pub fn write(lineage: &Lineage) -> String {
    let term = |term: &Term| match term.last {
        Offset::MAX => format!("{}:{}", term.epoch, term.first),
        last => format!("{}:{}:{last}", term.epoch, term.first),
    };
    lineage.terms().iter().map(term).collect::<Vec<_>>().join(",")
}

/// Whether an event at `first` is the next one behind `head`. It is if it is one further, or the first of a later term when
/// the terms between have none.
#[must_use]
pub fn follows(lineage: &Lineage, head: Offset, first: Offset) -> bool {
    let terms = lineage.terms();
    let Some(at) = terms.iter().rposition(|term| term.first < first) else {
        return false;
    };
    let has_none = |term: &Term| term.last <= head || term.first == term.last;
    let is_first = first == terms[at].first + 1 && terms[..at].iter().all(has_none);
    if head < terms[at].first { is_first } else { first == head + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_event_may_be_the_first_of_a_later_term() {
        let mut lineage = Lineage::root(Epoch::new(1), 0);
        lineage.fork(10, 10, Epoch::new(2));
        let second = lineage.newest().first;
        lineage.fork(second, second, Epoch::new(3));
        let third = lineage.newest().first;
        for (head, first) in [(0, 1), (9, 10), (10, third + 1), (second, third + 1), (third, third + 1)] {
            assert!(follows(&lineage, head, first), "{first} behind {head}");
        }
        for (head, first) in [(0, 2), (9, third + 1), (10, 10), (10, third + 2), (third + 1, third + 1)] {
            assert!(!follows(&lineage, head, first), "{first} behind {head}");
        }
    }

    #[test]
    fn a_lineage_reads_back() {
        let mut lineage = Lineage::root(Epoch::new(1), 0);
        assert_eq!(write(&lineage), "100000:0");
        lineage.fork(10, 12, Epoch::new(2));
        assert_eq!(write(&lineage), "100000:0:10,200000:8589934592");
        assert_eq!(parse(&write(&lineage)), Some(lineage));
    }

    #[test]
    fn what_is_no_lineage_is_none() {
        for text in [
            "",
            "100000",
            "100000:0:10",
            "100000:x",
            "100000:0,200000:5",
            "100000:0:10:7",
            "1:0",
            "100000:0:10,200000:5",
            "100000:0,",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
