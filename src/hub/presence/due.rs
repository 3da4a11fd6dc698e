//! Which rooms have something to do by the clock, ordered by time. A room is in here at most once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::source::Source;
use crate::types::moment::Moment;

/// A room's place: when it is due, and a number that makes the place unique.
pub(super) type Place = (Moment, u64);

/// Rooms by the moment at which they are due.
#[derive(Default)]
pub(super) struct Due {
    rooms: BTreeMap<Place, Arc<Source>>,
    next: u64,
}

impl Due {
    /// Moves `room` from its place, if it has one, to `at`.
    pub(super) fn set(&mut self, room: &Arc<Source>, place: &mut Option<Place>, at: Option<Moment>) {
        if place.map(|(moment, _)| moment) == at {
            return;
        }
        if let Some(place) = place.take() {
            self.rooms.remove(&place);
        }
        if let Some(at) = at {
            self.next += 1;
            *place = Some((at, self.next));
            self.rooms.insert((at, self.next), room.clone());
        }
    }

    /// Takes up to `max` rooms that are due by `now`, the longest due first, and says whether there are more.
    pub(super) fn take(&mut self, max: usize, now: Moment) -> (Vec<Arc<Source>>, bool) {
        let mut taken = Vec::new();
        while let Some(entry) = self.rooms.first_entry()
            && entry.key().0 <= now
        {
            if taken.len() == max {
                return (taken, true);
            }
            taken.push(entry.remove());
        }
        (taken, false)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }
}
