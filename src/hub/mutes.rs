//! Users who may not publish to a room for now.
//!
//! Bounded: at most [`MUTES_MAX`], each a user in a room. Times that are over are looked for every second, and whenever
//! there is no place. While nobody is muted, a publish reads one number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::types::moment::Moment;

/// Users that can be muted, each in one room. One more is not: see [`Mutes::put`].
pub const MUTES_MAX: usize = 65_536;

/// The muted users of all rooms.
#[derive(Debug, Default)]
pub struct Mutes {
    rooms: Mutex<Rooms>,
    /// Users in all rooms.
    len: AtomicUsize,
}

/// Rooms with their muted users. `None`: until it is undone.
type Rooms = HashMap<Box<str>, HashMap<Box<str>, Option<Moment>>>;

impl Mutes {
    /// Mutes `user` in `room` until a moment, or until it is undone. A user that is muted there already takes no second
    /// place.
    ///
    /// # Errors
    ///
    /// If [`MUTES_MAX`] users are muted: the time until the next of them may speak again, if there is one. Then nothing
    /// is changed.
    pub fn put(
        &self,
        user: &str,
        room: &str,
        until: Option<Moment>,
        now: Moment,
    ) -> Result<(), Option<Duration>> {
        let mut rooms = self.rooms.lock();
        if let Some(known) = rooms.get_mut(room).and_then(|users| users.get_mut(user)) {
            *known = until;
            return Ok(());
        }
        if self.len.load(Ordering::Acquire) >= MUTES_MAX {
            self.clear(&mut rooms, now);
        }
        let len = self.len.load(Ordering::Acquire);
        if len >= MUTES_MAX {
            let ends = rooms.values().flat_map(HashMap::values).flatten();
            return Err(ends.min().map(|end| end.since(now)));
        }
        rooms.entry(room.into()).or_default().insert(user.into(), until);
        self.len.store(len + 1, Ordering::Release);
        Ok(())
    }

    /// Lets `user` speak in `room` again. Nothing happens if it may.
    pub fn undo(&self, user: &str, room: &str) {
        let mut rooms = self.rooms.lock();
        let Some(users) = rooms.get_mut(room) else {
            return;
        };
        if users.remove(user).is_some() {
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        if users.is_empty() {
            rooms.remove(room);
        }
    }

    /// Whether `user` is muted in `room` at `now`.
    #[must_use]
    pub fn cover(&self, user: &str, room: &str, now: Moment) -> bool {
        self.len.load(Ordering::Acquire) > 0
            && self
                .rooms
                .lock()
                .get(room)
                .and_then(|users| users.get(user))
                .is_some_and(|end| lasts(*end, now))
    }

    /// Users that are muted in `room` at `now`.
    #[must_use]
    pub fn count(&self, room: &str, now: Moment) -> usize {
        let rooms = self.rooms.lock();
        rooms.get(room).map_or(0, |users| users.values().filter(|end| lasts(**end, now)).count())
    }

    /// Users that are muted in all rooms, those included whose time was over since the last sweep.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether nobody is muted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the users whose time is over.
    pub(super) fn sweep(&self, now: Moment) {
        if !self.is_empty() {
            self.clear(&mut self.rooms.lock(), now);
        }
    }

    fn clear(&self, rooms: &mut Rooms, now: Moment) {
        rooms.retain(|_, users| {
            users.retain(|_, end| lasts(*end, now));
            users.shrink_to(2 * users.len());
            !users.is_empty()
        });
        rooms.shrink_to(2 * rooms.len());
        self.len.store(rooms.values().map(HashMap::len).sum(), Ordering::Release);
    }
}

fn lasts(end: Option<Moment>, now: Moment) -> bool {
    end.is_none_or(|end| end > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(9);

    fn in_s(seconds: u64) -> Moment {
        NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn a_user_is_muted_in_that_room_for_that_time() {
        let mutes = Mutes::default();
        mutes.put("u", "r", Some(in_s(1)), NOW).expect("a place");
        mutes.put("v", "r", None, NOW).expect("a place");
        let covered =
            |now| [("u", "r"), ("v", "r"), ("u", "s"), ("r", "u")].map(|(u, r)| mutes.cover(u, r, now));
        assert_eq!((covered(NOW), mutes.count("r", NOW)), ([true, true, false, false], 2));
        let later = NOW + Duration::from_secs(1);
        assert_eq!((covered(later), mutes.count("r", later)), ([false, true, false, false], 1));
    }

    #[test]
    fn whoever_is_muted_again_has_the_new_time_and_no_second_place() {
        let mutes = Mutes::default();
        mutes.put("u", "r", None, NOW).expect("a place");
        mutes.put("u", "r", Some(in_s(1)), NOW).expect("the same place");
        assert_eq!((mutes.len(), mutes.cover("u", "r", NOW + Duration::from_secs(1))), (1, false));
    }

    #[test]
    fn nothing_is_left_of_what_is_undone_or_over() {
        let mutes = Mutes::default();
        for user in ["u", "v"] {
            mutes.put(user, "r", Some(in_s(1)), NOW).expect("a place");
        }
        mutes.undo("u", "r");
        mutes.undo("u", "r");
        mutes.undo("u", "nowhere");
        assert_eq!((mutes.len(), mutes.cover("u", "r", NOW), mutes.cover("v", "r", NOW)), (1, false, true));
        mutes.sweep(NOW + Duration::from_secs(1));
        assert!(mutes.is_empty() && mutes.rooms.lock().is_empty());
        mutes.put("u", "r", None, NOW).expect("a place");
        mutes.undo("u", "r");
        assert!(mutes.is_empty() && mutes.rooms.lock().is_empty());
    }

    #[test]
    fn one_user_more_than_there_are_places_is_not_muted() {
        let mutes = Mutes::default();
        mutes.put("first", "r", Some(in_s(1)), NOW).expect("a place");
        for n in 1..MUTES_MAX {
            mutes.put(&n.to_string(), &format!("r{}", n % 100), None, NOW).expect("a place");
        }
        assert_eq!(mutes.put("late", "r", None, NOW), Err(Some(Duration::from_secs(1))));
        assert!(!mutes.cover("late", "r", NOW));
        assert_eq!(mutes.put("first", "r", Some(in_s(2)), NOW), Ok(()));
        let later = NOW + Duration::from_secs(2);
        assert_eq!(mutes.put("late", "r", None, later), Ok(()));
        assert_eq!(mutes.put("later", "r", None, later), Err(None), "nobody's time ends");
        assert_eq!(mutes.len(), MUTES_MAX);
    }
}
