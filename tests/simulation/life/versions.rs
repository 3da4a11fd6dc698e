//! Versions of keys: which events come too late. A version is remembered for as long as the log has the newest event of
//! its key. Whether that is still there may depend on what was flushed; then the log says so, and is believed.

use std::collections::HashMap;

use tidegate::hub::log::Log;
use tidegate::hub::log::entry::Entry;
use tidegate::types::name::EventKey;
use tidegate::types::position::Offset;

use super::super::model::{Event, To};
use super::claims::Fate;
use super::{Life, room_name};

/// The version of a key in a room, by both.
pub(super) type Versions = HashMap<(usize, u8), Version>;

/// What was published last with a version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    number: u64,
    /// The newest event of the key at that time.
    carrier: Offset,
    /// Whether the newest event of the key may have been gone since.
    may_be_forgotten: bool,
}

impl Life<'_> {
    /// Checks that the logs remember each version that they must, and none that they may not.
    pub(super) fn check_versions(&mut self) {
        for room in 0..self.plan.rooms {
            for key in 0..super::publish::KEYS {
                let is_known = self.is_known(room, key);
                if !is_known {
                    self.versions.remove(&(room, key));
                }
            }
        }
    }

    fn is_known(&self, room: usize, key: u8) -> bool {
        let version = self.versions.get(&(room, key));
        let Some(source) = self.hub.rooms().get(&room_name(room)) else {
            return false;
        };
        let must_be = version.is_some_and(|version| self.must_be_known(room, version));
        let name = EventKey::new(&format!("key-{key}")).unwrap();
        let slot = source.log();
        let is_outdated = |version| slot.get().is_some_and(|log| log.is_outdated(&name, version));
        let is_known = is_outdated(0);
        assert!(is_known || !must_be, "key {key} of room {room} is forgotten: {version:?}");
        if is_known {
            let newest = version.expect("it was published with a version").number;
            let is_newest = is_outdated(newest) && !newest.checked_add(1).is_some_and(is_outdated);
            assert!(is_newest, "key {key} of room {room} has another version than {version:?}");
            let is_of_it = |entry: &Entry| entry.key.as_ref() == Some(&name);
            let is_there = |log: &Log| log.newest_in(0, Offset::MAX).any(is_of_it);
            assert!(slot.get().is_some_and(is_there), "key {key} of room {room} outlives its events");
        }
        is_known
    }

    fn must_be_known(&self, room: usize, version: &Version) -> bool {
        if self.order.known[room].is_exact() {
            return !version.may_be_forgotten;
        }
        self.order.event(version.carrier).stored && version.carrier > self.expired_to(To::Room(room))
    }

    /// Decides which of the new events come too late: by the versions of the keys so far, and by those of the events
    /// before them.
    pub(super) fn pass_outdated(&self, events: &[Event], fates: &mut [Fate]) {
        let mut newest: HashMap<_, u64> = self.versions.iter().map(|(key, one)| (*key, one.number)).collect();
        for (event, fate) in events.iter().zip(fates).filter(|(_, fate)| **fate == Fate::New) {
            let (To::Room(room), Some(key), Some(version)) = (event.to, event.key, event.version) else {
                continue;
            };
            if newest.get(&(room, key)).is_some_and(|newest| version <= *newest) {
                *fate = Fate::Outdated;
            } else {
                newest.insert((room, key), version);
            }
        }
    }

    /// Adds an event to the model, with its version.
    pub(super) fn push_version(&mut self, event: Event) {
        let (to, key, version) = (event.to, event.key, event.version);
        self.push(event);
        let To::Room(room) = to else {
            return;
        };
        if let (Some(key), Some(number)) = (key, version) {
            let carrier = self.order.known[room].newest_of(key).expect("it has an event now");
            self.versions.insert((room, key), Version { number, carrier, may_be_forgotten: false });
        }
        for ((its_room, key), version) in &mut self.versions {
            if *its_room == room {
                let newest = self.order.known[room].newest_of(*key).expect("it has events");
                version.may_be_forgotten |= !self.order.known[room].held.has(newest);
            }
        }
    }
}
