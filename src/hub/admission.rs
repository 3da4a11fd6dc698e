//! Admission: the caps on connections, and the list of users told to stay away.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::{Equivalent, HashMap};
use parking_lot::Mutex;

use crate::hub::Hub;
use crate::hub::mailbox::Command;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::refusal::Refusal;
use crate::hub::seats::Seats;
use crate::hub::source::Source;
use crate::types::moment::Moment;
use crate::types::name::RoomName;

/// Users that can be remembered as told to stay away, each from one room. One more user is not disconnected: see
/// [`Hub::send_away`].
pub const STAY_AWAY_MAX: usize = 65_536;

/// Caps on connections.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// In total.
    pub connections_max: u32,
    /// Of one user, if bounded.
    pub per_user_max: Option<u32>,
    /// Whether a user's newest connection replaces the oldest instead of being refused.
    pub replace: bool,
    /// From one address, if bounded.
    pub per_address_max: Option<u32>,
}

/// A user, and the room it must stay away from.
type UserAndRoom = (Box<str>, Box<str>);

/// The same, borrowed, so that a lookup allocates nothing. It has the same hash.
#[derive(Hash)]
struct Asked<'a>(&'a str, &'a str);

impl Equivalent<UserAndRoom> for Asked<'_> {
    fn equivalent(&self, (user, room): &UserAndRoom) -> bool {
        *self.0 == **user && *self.1 == **room
    }
}

/// The state that decides admission.
#[derive(Default)]
pub struct Admission {
    connections: AtomicU32,
    /// Users with a connection. Counted as they come and go: a scrape would otherwise walk every inbox.
    users: AtomicUsize,
    draining: AtomicBool,
    addresses: Mutex<HashMap<IpAddr, u32>>,
    stay_away: Mutex<HashMap<UserAndRoom, Moment>>,
    /// Length of `stay_away`, which is nearly always empty: every new stream reads it without the lock.
    stay_away_len: AtomicUsize,
}

/// A place for one connection. Dropping it gives the place back, unless a shard has taken it over.
pub struct Permit {
    /// The hub that granted the place; `None` once a shard has taken it over.
    hub: Option<Arc<Hub>>,
    user: Option<Arc<Source>>,
    address: Option<IpAddr>,
    /// The stream's rooms.
    rooms: Seats,
}

impl Permit {
    /// Takes out the stream's rooms, with its seats in them. Before [`Permit::keep`], which gives back what is left.
    #[must_use]
    pub fn take_rooms(&mut self) -> Seats {
        std::mem::take(&mut self.rooms)
    }

    /// The user's inbox.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<Source>> {
        self.user.as_ref()
    }

    /// Hands the place to a connection, which calls [`Hub::leave`] at its end.
    #[must_use]
    pub fn keep(mut self) -> (Option<Arc<Source>>, Option<IpAddr>) {
        self.hub = None;
        (self.user.take(), self.address.take())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(hub) = &self.hub {
            hub.leave(self.user.as_deref(), self.address);
        }
    }
}

impl Hub {
    /// Grants a place to a connection of `user` from `address`, whose rooms have no seats.
    ///
    /// # Errors
    ///
    /// Why the connection is refused.
    pub fn admit(
        self: &Arc<Self>,
        user: Option<&str>,
        address: Option<IpAddr>,
        now: Moment,
    ) -> Result<Permit, Refusal> {
        self.admit_to(&[], user, address, now)
    }

    /// Grants a place to a connection of `user` from `address`, and seats in `rooms`: at most 64.
    ///
    /// # Errors
    ///
    /// Why the connection is refused.
    pub fn admit_to(
        self: &Arc<Self>,
        rooms: &[RoomName],
        user: Option<&str>,
        address: Option<IpAddr>,
        now: Moment,
    ) -> Result<Permit, Refusal> {
        let caps = &self.settings.caps;
        let admission = &self.admission;
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        if self.memory_level() >= MemoryLevel::NoNewcomers {
            return Err(Refusal::Memory);
        }
        admission
            .connections
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < caps.connections_max).then(|| count + 1)
            })
            .map_err(|_| Refusal::Full)?;
        let mut permit =
            Permit { hub: Some(self.clone()), user: None, address: None, rooms: Seats::default() };
        let rooms = rooms.iter().map(|room| self.rooms.get_or_create(room.as_str()));
        permit.rooms = Seats::take(rooms.collect())?;
        if let (Some(address), Some(max)) = (address, caps.per_address_max) {
            let mut addresses = admission.addresses.lock();
            let count = addresses.entry(address).or_insert(0);
            if *count >= max {
                return Err(Refusal::Address);
            }
            *count += 1;
            permit.address = Some(address);
        }
        // Last: it may close another connection of the user, which must not be in vain.
        if let Some(user) = user {
            permit.user = Some(self.admit_user(user, now)?);
        }
        Ok(permit)
    }

    fn admit_user(&self, user: &str, now: Moment) -> Result<Arc<Source>, Refusal> {
        let caps = &self.settings.caps;
        let inbox = self.users.get_or_create(user);
        let max = caps.per_user_max.unwrap_or(u32::MAX);
        if self.enter(&inbox, max) {
            return Ok(inbox);
        }
        // Until the oldest connection has closed, a user may have up to twice as many.
        if !caps.replace || !self.enter(&inbox, max.saturating_mul(2)) {
            return Err(Refusal::User);
        }
        let replaced = inbox.oldest_shard().is_some_and(|shard| {
            // Noted first: the oldest may close before this thread goes on, and its `retry:` depends on this count.
            Self::note_replacement(&inbox, now);
            self.mailboxes[shard].send(Command::Replace { user: inbox.clone(), passed: 0 }).is_ok()
        });
        if replaced {
            Ok(inbox)
        } else {
            self.exit(&inbox);
            Err(Refusal::User)
        }
    }

    /// Counts one more connection of `user`. False if there are `max` already.
    fn enter(&self, user: &Source, max: u32) -> bool {
        let before = user.enter(max);
        if before == Some(0) {
            self.admission.users.fetch_add(1, Ordering::AcqRel);
        }
        before.is_some()
    }

    /// Counts one connection less. The last one leaves after the first was counted, so the number of users never drops
    /// below zero.
    fn exit(&self, user: &Source) {
        if user.leave() == 0 {
            self.admission.users.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Gives a place back.
    pub fn leave(&self, user: Option<&Source>, address: Option<IpAddr>) {
        self.admission.connections.fetch_sub(1, Ordering::AcqRel);
        if let Some(user) = user {
            self.exit(user);
        }
        if let Some(address) = address {
            let mut addresses = self.admission.addresses.lock();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }

    /// Connections that have a place.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.admission.connections.load(Ordering::Acquire)
    }

    /// Users that have a connection.
    #[must_use]
    pub fn users_connected(&self) -> usize {
        self.admission.users.load(Ordering::Acquire)
    }

    /// Refuses all connections from now on, and tells the shards to drain.
    pub fn drain(&self) {
        self.admission.draining.store(true, Ordering::Release);
        for mailbox in &*self.mailboxes {
            // A shard whose mailbox is full begins by itself: it checks `is_draining` ten times a second.
            let _ = mailbox.send(Command::Drain);
        }
    }

    /// Whether the server is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.admission.draining.load(Ordering::Acquire)
    }

    /// Tells `user` to stay away from `room` for `time`. A user that is on the list for `room` already takes no second
    /// place.
    ///
    /// # Errors
    ///
    /// The time until a place is free, if the list has [`STAY_AWAY_MAX`] users. Then nothing is remembered.
    pub fn send_away(&self, user: &str, room: &str, time: Duration, now: Moment) -> Result<(), Duration> {
        let mut away = self.admission.stay_away.lock();
        if let Some(until) = away.get_mut(&Asked(user, room)) {
            *until = now + time;
            return Ok(());
        }
        if away.len() >= STAY_AWAY_MAX {
            away.retain(|_, until| *until > now);
            self.admission.stay_away_len.store(away.len(), Ordering::Release);
        }
        if away.len() >= STAY_AWAY_MAX {
            let next = away.values().min().copied().unwrap_or(now);
            return Err(next.since(now));
        }
        away.insert((user.into(), room.into()), now + time);
        self.admission.stay_away_len.store(away.len(), Ordering::Release);
        Ok(())
    }

    /// Whether `user` must stay away from `room` at `now`.
    #[must_use]
    pub fn is_away(&self, user: &str, room: &str, now: Moment) -> bool {
        self.admission.stay_away_len.load(Ordering::Acquire) > 0
            && self.admission.stay_away.lock().get(&Asked(user, room)).is_some_and(|until| *until > now)
    }

    /// Forgets the users that may come back.
    pub(super) fn sweep_stay_away(&self, now: Moment) {
        if self.admission.stay_away_len.load(Ordering::Acquire) > 0 {
            let mut away = self.admission.stay_away.lock();
            away.retain(|_, until| *until > now);
            let len = away.len();
            away.shrink_to(2 * len);
            self.admission.stay_away_len.store(len, Ordering::Release);
        }
    }

    /// Gives back the memory that a crowd of addresses has left unused.
    pub(super) fn shrink_addresses(&self) {
        let mut addresses = self.admission.addresses.lock();
        let len = addresses.len();
        addresses.shrink_to(2 * len);
    }

    /// Capacities of the tables of addresses and of users told to stay away, and of the queue of oldest events.
    #[cfg(test)]
    pub(crate) fn places(&self) -> [usize; 3] {
        let admission = &self.admission;
        let (addresses, away) =
            (admission.addresses.lock().capacity(), admission.stay_away.lock().capacity());
        [addresses, away, self.history.lock().places()]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::hub::HubSettings;
    use crate::hub::history::HistoryBounds;
    use crate::hub::log::rules::LogBounds;
    use crate::hub::room_policy::{RoomPolicies, RoomPolicy};
    use crate::rights::pattern::Pattern;
    use crate::types::position::Epoch;

    const NOW: Moment = Moment(0);

    fn hub(connections_max: u32) -> Arc<Hub> {
        let log = LogBounds { events_max: 1, bytes_max: 1000 };
        Hub::new(HubSettings {
            shards: 1,
            epoch: Epoch::new(1),
            history: HistoryBounds { log, bytes_max: 1000, age_max: Duration::from_secs(1) },
            caps: Caps { connections_max, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        })
    }

    #[test]
    fn a_place_is_given_back_once_whoever_has_it() {
        let hub = hub(1);
        drop(hub.admit(None, None, NOW).expect("it is free"));
        let (user, address) = hub.admit(Some("u"), None, NOW).expect("it is free again").keep();
        assert_eq!((hub.connections(), hub.admit(None, None, NOW).err()), (1, Some(Refusal::Full)));
        hub.leave(user.as_deref(), address);
        assert_eq!((hub.connections(), hub.users_connected()), (0, 0));
    }

    #[test]
    fn a_seat_lives_as_long_as_its_place() {
        let hub = hub(2);
        let room = RoomName::new("r").expect("a name");
        let connections = || hub.rooms().get("r").map(|room| room.connections());
        let bounded = RoomPolicy { listeners_max: Some(1), ..(*RoomPolicy::example()).clone() };
        let table = (Pattern::parse("r").expect("a pattern"), Arc::new(bounded));
        hub.rooms().set_policies(RoomPolicies { tables: vec![table], ..RoomPolicies::default() });
        let admit = || hub.admit_to(std::slice::from_ref(&room), Some("u"), None, NOW);
        let first = admit().expect("it is free");
        assert_eq!((connections(), admit().err()), (Some(1), Some(Refusal::RoomFull)));
        assert_eq!((hub.connections(), hub.users_connected()), (1, 1), "the second gave its place back");
        drop(first);
        assert_eq!((connections(), hub.connections(), hub.users_connected()), (Some(0), 0, 0));
        let mut second = admit().expect("it is free again");
        let (seats, _) = (second.take_rooms(), second.keep());
        assert_eq!(connections(), Some(1));
        drop(seats);
        assert_eq!(connections(), Some(0));
    }

    /// A place that was handed on counted as two for a moment, and another connection was refused.
    #[test]
    fn nobody_is_refused_a_place_that_is_free() {
        let hub = hub(2);
        let start = Barrier::new(2);
        let come_and_go = || {
            start.wait();
            for _ in 0..if cfg!(miri) { 50 } else { 500_000 } {
                let (user, address) = hub.admit(None, None, NOW).expect("there is one for each").keep();
                hub.leave(user.as_deref(), address);
            }
        };
        thread::scope(|scope| [scope.spawn(come_and_go), scope.spawn(come_and_go)].map(drop));
        assert_eq!(hub.connections(), 0);
    }

    #[test]
    fn who_is_to_stay_away_is_from_that_room_and_for_that_time() {
        let hub = hub(1);
        hub.send_away("u", "room", Duration::from_secs(1), NOW).expect("a place");
        assert!(hub.is_away("u", "room", NOW));
        for (user, room) in [("room", "u"), ("uroom", ""), ("u", "roo"), ("v", "room")] {
            assert!(!hub.is_away(user, room, NOW), "{user} {room}");
        }
        assert!(!hub.is_away("u", "room", NOW + Duration::from_secs(1)));
    }

    /// With a full list, a user was told a time to stay away, and admitted again at once.
    #[test]
    fn a_user_without_a_place_is_not_told_to_stay_away() {
        let hub = hub(1);
        let (short, long) = (Duration::from_mins(1), Duration::from_mins(10));
        hub.send_away("first", "r", short, NOW).expect("a place");
        for n in 1..STAY_AWAY_MAX {
            hub.send_away(&n.to_string(), "r", long, NOW).expect("a place");
        }
        assert_eq!(hub.send_away("late", "r", short, NOW), Err(short), "the first goes next");
        assert!(!hub.is_away("late", "r", NOW));
        // A user on the list can be told again.
        assert_eq!(hub.send_away("1", "r", short, NOW), Ok(()));
        let later = NOW + short;
        assert_eq!(hub.send_away("late", "r", short, later), Ok(()));
        assert!(hub.is_away("late", "r", later) && !hub.is_away("first", "r", later));
    }
}
