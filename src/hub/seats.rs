//! The rooms of a stream that is to join, with its seats in those that bound their listeners.
//!
//! A seat counts as one of the room's connections from the admission on, so that a bound is exact although a stream
//! joins later. A room without a bound has no seats: its connections are counted when they join.

use std::sync::Arc;

use crate::hub::refusal::Refusal;
use crate::hub::source::Source;

/// Rooms, and which of them have counted the stream already. Dropping it gives the seats back.
#[derive(Debug, Default)]
pub struct Seats {
    rooms: Vec<Arc<Source>>,
    /// Bit n: the stream has a seat in `rooms[n]`. A stream has at most 64 rooms.
    taken: u64,
}

impl Seats {
    /// Takes a seat in each of `rooms` that bounds its listeners, or none at all.
    ///
    /// # Errors
    ///
    /// [`Refusal::RoomFull`] if a room has no seat left.
    ///
    /// # Panics
    ///
    /// If there are more than 64 rooms.
    pub fn take(rooms: Vec<Arc<Source>>) -> Result<Self, Refusal> {
        assert!(rooms.len() <= u64::BITS as usize, "the request was checked");
        let mut seats = Self { rooms, taken: 0 };
        for at in 0..seats.rooms.len() {
            let max = seats.rooms[at].with_policy(|policy| policy.listeners_max);
            let Some(max) = max else { continue };
            // On an error, dropping `seats` gives those back that it has.
            seats.rooms[at].enter(max).ok_or(Refusal::RoomFull)?;
            seats.taken |= 1 << at;
        }
        Ok(seats)
    }

    /// The rooms.
    #[must_use]
    pub fn rooms(&self) -> &[Arc<Source>] {
        &self.rooms
    }

    /// Hands the seats to a connection, which leaves each of its rooms at its end: each room, and whether it has counted
    /// the connection already.
    pub fn keep(mut self) -> impl Iterator<Item = (Arc<Source>, bool)> {
        let taken = std::mem::take(&mut self.taken);
        let rooms = std::mem::take(&mut self.rooms);
        rooms.into_iter().enumerate().map(move |(at, room)| (room, taken & (1 << at) != 0))
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        for (at, room) in self.rooms.iter().enumerate() {
            if self.taken & (1 << at) != 0 {
                room.leave();
            }
        }
    }
}

/// Rooms in which there are no seats to take.
impl FromIterator<Arc<Source>> for Seats {
    fn from_iter<I: IntoIterator<Item = Arc<Source>>>(rooms: I) -> Self {
        Self { rooms: rooms.into_iter().collect(), taken: 0 }
    }
}

impl From<Vec<Arc<Source>>> for Seats {
    fn from(rooms: Vec<Arc<Source>>) -> Self {
        rooms.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::room_policy::RoomPolicy;
    use crate::hub::source::SourceKind;

    fn room(listeners_max: Option<u32>) -> Arc<Source> {
        let policy = RoomPolicy { listeners_max, ..(*RoomPolicy::example()).clone() };
        Arc::new(Source::new(SourceKind::Room, "r", 1, 0, Arc::new(policy)))
    }

    fn counts(rooms: &[Arc<Source>]) -> Vec<u32> {
        rooms.iter().map(|room| room.connections()).collect()
    }

    #[test]
    fn a_seat_is_given_back_unless_a_connection_has_it() {
        let rooms = vec![room(Some(2)), room(None), room(Some(1))];
        let seats = Seats::take(rooms.clone()).expect("they are empty");
        assert_eq!(counts(&rooms), [1, 0, 1]);
        drop(seats);
        assert_eq!(counts(&rooms), [0, 0, 0]);
        let kept: Vec<bool> = Seats::take(rooms.clone())
            .expect("they are empty")
            .keep()
            .map(|(_, is_counted)| is_counted)
            .collect();
        assert_eq!((kept, counts(&rooms)), (vec![true, false, true], vec![1, 0, 1]));
    }

    #[test]
    fn whoever_finds_one_room_full_takes_no_seat_in_the_others() {
        let rooms = vec![room(Some(9)), room(Some(1)), room(Some(9))];
        let _held = Seats::take(vec![rooms[1].clone()]).expect("it is empty");
        assert_eq!(Seats::take(rooms.clone()).err(), Some(Refusal::RoomFull));
        assert_eq!(counts(&rooms), [0, 1, 0]);
    }

    #[test]
    fn a_room_may_take_nobody() {
        assert_eq!(Seats::take(vec![room(Some(0))]).err(), Some(Refusal::RoomFull));
    }
}
