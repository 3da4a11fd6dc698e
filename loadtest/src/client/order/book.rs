//! What the log in Redis has, read entry by entry as a node does, but not by its code: each event's number is found by the marks
//! around it, `#17#`.

use std::collections::HashMap;

use memchr::memchr_iter;

/// The numbers of events, by term and offset.
#[derive(Clone, Debug, Default)]
pub struct Book {
    terms: HashMap<String, Vec<u64>>,
    /// The term in which the next entry is.
    epoch: String,
    /// The id of the entry that was read last.
    last: Option<String>,
}

/// An entry as Redis has it.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    /// Its id.
    pub id: String,
    /// The tag; of a fork the name of the term.
    pub tag: String,
    /// What it counts; nothing if it is a fork.
    pub counts: Option<String>,
    /// Its batches.
    pub body: Vec<u8>,
}

impl Book {
    /// Behind which entry to read on; `-` for the beginning.
    #[must_use]
    pub fn read_from(&self) -> String {
        self.last.as_ref().map_or("-".to_owned(), |last| format!("({last}"))
    }

    /// A term has begun. It may have taken the place of another one that had the same offsets, so all is read again.
    pub fn begin_again(&mut self) {
        self.last = None;
        self.epoch.clear();
    }

    /// Takes the next entry.
    ///
    /// # Errors
    ///
    /// It is not what it should be.
    pub fn take(&mut self, entry: &Logged) -> Result<(), String> {
        let wrong = |what: &str| format!("the entry {} {what}", entry.id);
        let offset = entry.id.split_once('-').and_then(|(offset, _)| offset.parse::<u64>().ok());
        let offset = offset.ok_or_else(|| wrong("has no offset"))?;
        self.last = Some(entry.id.clone());
        let Some(counts) = &entry.counts else {
            self.epoch.clone_from(&entry.tag);
            return Ok(());
        };
        let batches = batches(counts, &entry.body).ok_or_else(|| wrong("has other bytes than it counts"))?;
        if self.epoch.is_empty() && !batches.is_empty() {
            return Err(wrong("is in no term"));
        }
        let known = self.terms.entry(self.epoch.clone()).or_default();
        let mut next = offset + 1 - batches.iter().map(|(count, _)| count).sum::<u64>();
        for (count, body) in batches {
            let numbers: Vec<u64> = numbers(body).collect();
            // What nodes tell each other has a place, and is no event.
            if !numbers.is_empty() && numbers.len() as u64 != count {
                return Err(wrong(&format!("counts {counts} and has {} events", numbers.len())));
            }
            for (number, at) in numbers.into_iter().zip(next..) {
                put(known, at, number);
            }
            next += count;
        }
        Ok(())
    }

    /// The number of the event at `offset` of a term.
    #[must_use]
    pub fn at(&self, epoch: &str, offset: u64) -> Option<u64> {
        get(self.terms.get(epoch)?, offset)
    }

    /// All events: term, offset, number.
    pub fn all(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.terms.iter().flat_map(|(epoch, slots)| {
            let number = |(at, slot): (usize, &u64)| Some((epoch.as_str(), at as u64, slot.checked_sub(1)?));
            slots.iter().enumerate().filter_map(number)
        })
    }
}

/// Where the event at `offset` has its place in a list for its term: offsets of a term have their upper half in common.
#[must_use]
pub(super) fn place(offset: u64) -> usize {
    usize::try_from(offset & u64::from(u32::MAX)).expect("32 bits")
}

/// The number at `offset`. 0 is nothing, so numbers are kept one higher.
pub(super) fn get(slots: &[u64], offset: u64) -> Option<u64> {
    slots.get(place(offset))?.checked_sub(1)
}

/// Puts `number` at `offset`.
pub(super) fn put(slots: &mut Vec<u64>, offset: u64, number: u64) {
    let at = place(offset);
    if slots.len() <= at {
        slots.resize(at + 1, 0);
    }
    slots[at] = number + 1;
}

/// The batches that the field `c` counts: how many places each has, and its bytes.
fn batches<'a>(counts: &str, body: &'a [u8]) -> Option<Vec<(u64, &'a [u8])>> {
    if counts == "0" {
        return Some(Vec::new());
    }
    let mut rest = body;
    let batch = |text: &str| {
        let mut pieces = text.split(':').skip(1);
        let (count, length) = (pieces.next()?.parse().ok()?, pieces.next()?.parse().ok()?);
        let (batch, after) = rest.split_at_checked(length)?;
        rest = after;
        Some((count, batch))
    };
    counts.split(',').map(batch).collect()
}

/// The numbers between marks.
fn numbers(body: &[u8]) -> impl Iterator<Item = u64> {
    let mut marks = memchr_iter(b'#', body).peekable();
    std::iter::from_fn(move || {
        loop {
            let (from, to) = (marks.next()?, *marks.peek()?);
            if let Some(number) =
                std::str::from_utf8(&body[from + 1..to]).ok().and_then(|text| text.parse().ok())
            {
                marks.next();
                return Some(number);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, counts: Option<&str>, body: &str) -> Logged {
        Logged { id: id.into(), tag: "a".into(), counts: counts.map(Into::into), body: body.into() }
    }

    #[test]
    fn events_are_found_by_their_marks() {
        let mut book = Book::default();
        assert_eq!(book.read_from(), "-");
        book.take(&entry("8-0", None, "")).expect("a fork");
        book.take(&entry("11-0", Some("0:1:7,2:1:5,3:1:2"), "\u{1}x#y#5#\u{2}z#6#..")).expect("two events");
        book.take(&entry("11-1", Some("0"), "")).expect("a tick");
        assert_eq!([9, 10, 11].map(|offset| book.at("a", offset)), [Some(5), Some(6), None]);
        assert_eq!(book.read_from(), "(11-1");
        assert!(book.take(&entry("12-0", Some("0:2:3"), "#7#")).is_err());
        assert_eq!(book.all().count(), 2);
    }
}
