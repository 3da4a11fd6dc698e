//! When the graces of a room's members end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hub::presence::user::User;
use crate::types::moment::Moment;

/// Ends of graces, by time. Entries may be out of date: whoever takes one looks at the member.
#[derive(Debug, Default)]
pub(super) struct Graces(BinaryHeap<Reverse<(Moment, User)>>);

/// Entries up to which it is never too large.
const SLACK: usize = 64;

impl Graces {
    pub(super) fn push(&mut self, end: Moment, user: User) {
        self.0.push(Reverse((end, user)));
    }

    /// When the first of them ends.
    pub(super) fn first(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse((end, _))| *end)
    }

    /// Takes the first one, if it has ended by `now`.
    pub(super) fn take(&mut self, now: Moment) -> Option<User> {
        if self.first()? > now {
            return None;
        }
        let Reverse((_, user)) = self.0.pop()?;
        if self.0.is_empty() {
            // A mass reload has passed: give the memory back.
            self.0 = BinaryHeap::new();
        }
        Some(user)
    }

    /// Whether most entries must be out of date. A member has one, unless it was withdrawn and came again.
    pub(super) fn is_too_large(&self, members: usize) -> bool {
        self.0.len() > 2 * members + SLACK
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Replaces all entries.
    pub(super) fn replace(&mut self, ends: impl Iterator<Item = (Moment, User)>) {
        self.0 = ends.map(Reverse).collect();
    }
}
