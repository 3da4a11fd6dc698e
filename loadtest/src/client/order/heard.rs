//! What subscribers got, compared as it comes: with what each has already, and with what others got under the same id.

use std::collections::HashMap;

use super::book::{get, put};

/// An id: its term by number, and its offset.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id {
    /// Number of the term, in the order in which they were met.
    pub term: u32,
    /// The offset.
    pub offset: u64,
}

/// A subscriber had everything up to one id, and went on behind another one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Step {
    /// What it had.
    pub from: Id,
    /// What it went on behind.
    pub to: Id,
}

/// What can be told at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Events that came, each of them looked at.
    pub deliveries: u64,
    /// Events that came again at once.
    pub duplicated: u64,
    /// Events that came after newer ones.
    pub reordered: u64,
    /// Events that are others than what somebody else got under their id.
    pub other_ids: u64,
}

/// What all subscribers got.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Names of the terms.
    pub terms: Vec<String>,
    events: Vec<Vec<u64>>,
    /// What was passed over without a gap, and by how many. It is judged at the end: not all in an order are events.
    pub steps: HashMap<Step, u64>,
    /// Gaps: the reason, what the subscriber had, and how many were told so.
    pub gaps: HashMap<(String, Option<Id>), u64>,
    /// What was wrong already.
    pub tally: Tally,
}

impl Heard {
    /// The id that `text` is. `near` is an id of which it likely has the term.
    pub fn id(&mut self, text: &[u8], near: Option<Id>) -> Option<Id> {
        let at = memchr::memrchr(b'-', text)?;
        let (name, offset) =
            (std::str::from_utf8(&text[..at]).ok()?, std::str::from_utf8(&text[at + 1..]).ok()?);
        let offset = offset.parse().ok()?;
        if let Some(Id { term, .. }) = near.filter(|near| self.terms[near.term as usize] == name) {
            return Some(Id { term, offset });
        }
        let term = self.terms.iter().position(|known| known == name).unwrap_or_else(|| {
            self.terms.push(name.to_owned());
            self.events.push(Vec::new());
            self.terms.len() - 1
        });
        Some(Id { term: u32::try_from(term).ok()?, offset })
    }

    /// Event `number` came to a subscriber that had everything up to `cursor`.
    pub fn event(&mut self, cursor: &mut Option<Id>, id: Id, number: u64) {
        self.tally.deliveries += 1;
        let slots = &mut self.events[id.term as usize];
        match get(slots, id.offset) {
            None => put(slots, id.offset, number),
            Some(known) => self.tally.other_ids += u64::from(known != number),
        }
        if let Some(before) = *cursor {
            self.went_on(before, Id { offset: id.offset - 1, ..id });
        }
        *cursor = Some(id);
    }

    /// A subscriber is told where it is.
    pub fn position(&mut self, cursor: &mut Option<Id>, id: Id) {
        if let Some(before) = *cursor {
            self.went_on(before, id);
        }
        *cursor = Some(id);
    }

    /// A subscriber is told that it cannot have what is between `cursor` and `id`.
    pub fn gap(&mut self, cursor: &mut Option<Id>, id: Id, reason: &str) {
        *self.gaps.entry((reason.to_owned(), *cursor)).or_default() += 1;
        *cursor = Some(id);
    }

    fn went_on(&mut self, from: Id, to: Id) {
        if from.term != to.term || to.offset > from.offset {
            *self.steps.entry(Step { from, to }).or_default() += 1;
        } else if to.offset + 1 == from.offset {
            self.tally.duplicated += 1;
        } else if to.offset < from.offset {
            self.tally.reordered += 1;
        }
    }

    /// The name of a term.
    #[must_use]
    pub fn name(&self, id: Id) -> &str {
        &self.terms[id.term as usize]
    }

    /// All events that anybody got: term, offset, number.
    pub fn all(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.terms.iter().zip(&self.events).flat_map(|(epoch, slots)| {
            let number = |(at, slot): (usize, &u64)| Some((epoch.as_str(), at as u64, slot.checked_sub(1)?));
            slots.iter().enumerate().filter_map(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of one subscriber that gets events with these ids, in turn.
    fn tally(ids: &[(&str, u64)]) -> Tally {
        let (mut heard, mut cursor) = (Heard::default(), None);
        for (id, number) in ids {
            let id = heard.id(id.as_bytes(), cursor).expect("an id");
            heard.event(&mut cursor, id, *number);
        }
        heard.tally
    }

    #[test]
    fn each_fault_within_a_term_is_found() {
        let right = Tally { deliveries: 3, ..Tally::default() };
        assert_eq!(tally(&[("a-1", 7), ("a-2", 8), ("a-3", 9)]), right);
        assert_eq!(
            tally(&[("a-1", 7), ("a-2", 8), ("a-4", 9)]),
            right,
            "what was passed over is judged later"
        );
        assert_eq!(tally(&[("a-1", 7), ("a-2", 8), ("a-2", 8)]), Tally { duplicated: 1, ..right });
        assert_eq!(tally(&[("a-1", 7), ("a-2", 8), ("a-1", 7)]), Tally { reordered: 1, ..right });
        assert_eq!(
            tally(&[("a-1", 7), ("a-2", 8), ("a-2", 9)]),
            Tally { duplicated: 1, other_ids: 1, ..right }
        );
    }

    #[test]
    fn ways_between_terms_are_kept_and_gaps_excuse() {
        let (mut heard, mut cursor) = (Heard::default(), None);
        let [a, b, c] = ["a-7", "b-101", "c-9"].map(|text| heard.id(text.as_bytes(), None).expect("an id"));
        heard.event(&mut cursor, a, 1);
        heard.event(&mut cursor, b, 2);
        heard.gap(&mut cursor, c, "restart");
        let to = Id { offset: 100, ..b };
        assert_eq!(heard.steps.into_iter().collect::<Vec<_>>(), [(Step { from: a, to }, 1)]);
        assert_eq!(heard.gaps[&("restart".to_owned(), Some(b))], 1);
        assert_eq!(cursor, Some(c));
    }

    #[test]
    fn what_is_told_of_a_place_passes_nothing_over() {
        let (mut heard, mut cursor) = (Heard::default(), None);
        for text in ["a-7", "a-7", "a-9"] {
            let id = heard.id(text.as_bytes(), cursor).expect("an id");
            heard.position(&mut cursor, id);
        }
        assert_eq!((heard.tally, heard.steps.len()), (Tally::default(), 1));
        assert_eq!(heard.id(b"nonsense", None), None);
    }
}
