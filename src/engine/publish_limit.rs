//! Limits how fast each publisher may publish, and what all of them together may publish to a room.
//!
//! Bounded: publishers and rooms have places of their own. One array may name thousands of rooms, and who fills their
//! places with them keeps no other publisher out.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::types::moment::Moment;
use crate::types::rate::Rate;
use crate::types::rate_limiter::RateLimiter;

/// The most publishers with a rate limiter, and the most rooms. If all are active, new ones have to wait as if they were
/// over their rate.
pub const PUBLISHERS_MAX: usize = 65_536;

/// Rate limiters of publishers and rooms, by name.
#[derive(Default)]
pub struct PublishLimit {
    /// By [`Whose`].
    limiters: Mutex<[Limiters; 2]>,
}

#[derive(Default)]
struct Limiters {
    known: HashMap<String, RateLimiter>,
    /// When the full table is looked through next for what is idle.
    look_at: Moment,
}

/// A full table is looked through at most so often: it takes a millisecond, in which nobody publishes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whose rate it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// A user's, an API key's or an address's.
    Publisher,
    /// A room's.
    Room,
}

/// What is to be taken from one rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Use<'n> {
    /// Whose rate it is.
    pub whose: Whose,
    /// A name such as `user me` or `key shop`, or that of the room.
    pub name: &'n str,
    /// The rate.
    pub rate: Rate,
    /// Events.
    pub events: u32,
}

impl PublishLimit {
    /// Takes from all rates, or from none. No rate is named twice.
    ///
    /// # Errors
    ///
    /// The seconds to wait, at least 1. Nothing is taken.
    pub fn take(&self, uses: &[Use<'_>], now: Moment) -> Result<(), u32> {
        if uses.is_empty() {
            return Ok(());
        }
        let mut limiters = self.limiters.lock();
        for whose in [Whose::Publisher, Whose::Room] {
            limiters[whose as usize].make_room(whose, uses, now)?;
        }
        for Use { whose, name, rate, events } in uses {
            let limiter = limiters[*whose as usize].known.get(*name).copied().unwrap_or_default();
            if limiter.left(*rate, now) < (*events).min(rate.events) {
                let wait = limiter.next(*rate, now).since(now);
                return Err(u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX));
            }
        }
        for Use { whose, name, rate, events } in uses {
            // A batch larger than the rate passes once the rate limiter is full, and is paid off afterwards.
            let limiter = limiters[*whose as usize].known.entry_ref(*name).or_default();
            limiter.take(*rate, *events, now);
        }
        Ok(())
    }

    /// Removes rate limiters that are full: a new one would be the same.
    pub fn sweep(&self, now: Moment) {
        for Limiters { known, .. } in self.limiters.lock().iter_mut() {
            known.retain(|_, limiter| !limiter.is_idle(now));
            known.shrink_to(2 * known.len());
        }
    }
}

impl Limiters {
    /// Makes room for those of `uses` that are new here.
    ///
    /// # Errors
    ///
    /// The seconds to wait, if there is none.
    fn make_room(&mut self, whose: Whose, uses: &[Use<'_>], now: Moment) -> Result<(), u32> {
        let Self { known, look_at } = self;
        let mut own = uses.iter().filter(|one| one.whose == whose);
        let count = own.clone().count();
        if known.len() + count <= PUBLISHERS_MAX || own.all(|one| known.contains_key(one.name)) {
            return Ok(());
        }
        if now >= *look_at {
            *look_at = now + LOOK_EVERY;
            known.retain(|_, limiter| !limiter.is_idle(now));
        }
        if known.len() + count > PUBLISHERS_MAX { Err(1) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes from the rate of one publisher.
    fn take(limit: &PublishLimit, publisher: &str, rate: Rate, events: u32, now: Moment) -> Result<(), u32> {
        limit.take(&[Use { whose: Whose::Publisher, name: publisher, rate, events }], now)
    }

    #[test]
    fn one_publisher_does_not_use_up_anothers_rate() {
        let (limit, rate) = (PublishLimit::default(), Rate { events: 2, per: Duration::from_secs(1) });
        let now = Moment(0);
        assert_eq!(take(&limit, "a", rate, 1, now), Ok(()));
        assert_eq!(take(&limit, "a", rate, 1, now), Ok(()));
        assert_eq!(take(&limit, "a", rate, 1, now), Err(1));
        assert_eq!(take(&limit, "b", rate, 1, now), Ok(()));
        assert_eq!(take(&limit, "a", rate, 1, now + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn a_large_batch_passes_and_is_paid_off() {
        let (limit, rate) = (PublishLimit::default(), Rate { events: 10, per: Duration::from_secs(1) });
        assert_eq!(take(&limit, "a", rate, 100, Moment(0)), Ok(()));
        let soon = Moment(0) + Duration::from_secs(5);
        assert_eq!(take(&limit, "a", rate, 1, soon), Err(5));
        assert_eq!(take(&limit, "a", rate, 1, Moment(0) + Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn one_rate_above_which_it_is_leaves_the_other_whole() {
        let limit = PublishLimit::default();
        let per = |events| Rate { events, per: Duration::from_secs(1) };
        let one = |name, rate| Use { whose: Whose::Publisher, name, rate, events: 1 };
        let both = [one("user", per(2)), one("key", per(1))];
        assert_eq!(limit.take(&both, Moment(0)), Ok(()));
        assert_eq!(limit.take(&both, Moment(0)), Err(2), "the key's is used up");
        assert_eq!(limit.take(&both[..1], Moment(0)), Ok(()), "the user's is not");
        assert_eq!(limit.take(&both[..1], Moment(0)), Err(1));
    }

    #[test]
    fn the_table_is_bounded() {
        let (limit, rate) = (PublishLimit::default(), Rate { events: 1, per: Duration::from_secs(1) });
        for n in 0..PUBLISHERS_MAX {
            assert_eq!(take(&limit, &n.to_string(), rate, 1, Moment(0)), Ok(()));
        }
        assert_eq!(take(&limit, "one more", rate, 1, Moment(0)), Err(1));
        assert_eq!(take(&limit, "one more", rate, 1, Moment(0) + Duration::from_secs(2)), Ok(()));
    }

    /// Each further publisher looked through the whole table, with its lock held.
    #[test]
    fn a_full_table_is_looked_through_once_a_second() {
        let (limit, rate) = (PublishLimit::default(), Rate { events: 1, per: Duration::from_millis(100) });
        for n in 0..PUBLISHERS_MAX {
            assert_eq!(take(&limit, &n.to_string(), rate, 1, Moment(0)), Ok(()));
        }
        let after = |ms| Moment(0) + Duration::from_millis(ms);
        assert_eq!(take(&limit, "one more", rate, 1, after(50)), Err(1));
        assert_eq!(take(&limit, "one more", rate, 1, after(200)), Err(1), "all are idle, but nobody looks");
        assert_eq!(take(&limit, "7", rate, 1, after(200)), Ok(()), "whoever is known goes on");
        assert_eq!(take(&limit, "one more", rate, 1, after(1050)), Ok(()));
    }

    /// Sixteen arrays for rooms with a rate filled all places, and nobody else could publish until they were paid off.
    #[test]
    fn rooms_do_not_take_the_places_of_publishers() {
        let (limit, slow) = (PublishLimit::default(), Rate { events: 3, per: Duration::from_hours(1) });
        let names: Vec<String> = (0..=PUBLISHERS_MAX).map(|n| n.to_string()).collect();
        let rooms = names.iter().map(|name| Use { whose: Whose::Room, name, rate: slow, events: 1 });
        let rooms: Vec<_> = rooms.collect();
        for array in rooms[..PUBLISHERS_MAX].chunks(4096) {
            assert_eq!(limit.take(array, Moment(0)), Ok(()));
        }
        assert_eq!(limit.take(&rooms[PUBLISHERS_MAX..], Moment(0)), Err(1));
        // A room and a publisher of one name are two.
        assert_eq!(take(&limit, "7", slow, 3, Moment(0)), Ok(()));
        assert_eq!(limit.take(&rooms[7..8], Moment(0)), Ok(()));
    }

    #[test]
    fn names_of_publishers_are_given_back() {
        let (limit, rate) = (PublishLimit::default(), Rate { events: 2, per: Duration::from_secs(1) });
        for n in 0..PUBLISHERS_MAX {
            assert_eq!(take(&limit, &n.to_string(), rate, 1, Moment(0)), Ok(()));
        }
        let later = Moment(0) + Duration::from_secs(1);
        assert_eq!(take(&limit, "late", rate, 2, later), Ok(()));
        limit.sweep(later);
        let (len, places) = {
            let known = &limit.limiters.lock()[0].known;
            (known.len(), known.capacity())
        };
        assert!(len == 1 && places < 16, "{len} in {places}");
        assert_eq!(take(&limit, "late", rate, 1, later), Err(1), "what is used up is not forgotten");
    }
}
