//! The expected answer to a request for a stream: the refusal, or the first events of the stream.

use std::sync::Arc;
use std::time::Duration;

use tidegate::hub::log::Log;
use tidegate::hub::refusal::Refusal;
use tidegate::hub::source::Source;
use tidegate::shard::join::Start;
use tidegate::types::position::Offset;

use super::super::listener::{Opening, own};
use super::super::model::To;
use super::super::right::Pass;
use super::super::room::Room;
use super::{Life, room_name, user_name};

impl Life<'_> {
    pub(super) fn expected_admission(
        &self,
        rooms: &[usize],
        user: Option<usize>,
        address: Option<u8>,
    ) -> Option<Refusal> {
        let caps = &self.plan.caps;
        let all = self.live().count() + self.waiting.len();
        let of_address = self.live().filter(|listener| listener.address == address).count()
            + self.waiting.iter().filter(|waiting| waiting.address == address).count();
        let of_user = user.map_or(0, |user| self.listening(To::User(user)));
        let is_replaceable = user.is_some_and(|user| self.live().any(|one| one.user == Some(user)));
        let fits =
            |count: u64, max: Option<u32>, times: u64| max.is_none_or(|max| count < u64::from(max) * times);
        if self.hub.is_draining() {
            Some(Refusal::Draining)
        } else if all >= caps.connections_max as usize {
            Some(Refusal::Full)
        } else if rooms.iter().any(|room| self.is_full(*room)) {
            Some(Refusal::RoomFull)
        } else if address.is_some() && !fits(of_address as u64, caps.per_address_max, 1) {
            Some(Refusal::Address)
        } else if user.is_none()
            || fits(of_user, caps.per_user_max, 1)
            || caps.replace && fits(of_user, caps.per_user_max, 2) && is_replaceable
        {
            None
        } else {
            Some(Refusal::User)
        }
    }

    fn is_full(&self, room: usize) -> bool {
        self.kinds[room].listeners_max.is_some_and(|max| self.listening(To::Room(room)) >= max.into())
    }

    /// Returns the offset up to which `source` has lost its history, which must be at most one of its own events.
    pub(super) fn expired_to(&self, source: To) -> Offset {
        let found = match source {
            To::Room(room) => self.hub.rooms().get(&room_name(room)),
            To::User(user) => self.hub.users().get(&user_name(user)),
            To::All => Some(self.hub.all().clone()),
        };
        let expired_to = found.expect("sources of a listener exist").log().expired_to();
        if let To::Room(room) = source {
            self.check_expired(room, expired_to);
        } else if self.plan.counts_only() {
            let expected = self.order.expired_by_count(source, self.plan.history.log.events_max);
            assert_eq!(expired_to, expected, "what {source:?} has lost");
        }
        assert!(
            expired_to == 0 || self.order.offsets(source).binary_search(&expired_to).is_ok(),
            "a quiet source loses nothing: {source:?} to {expired_to}"
        );
        expired_to
    }

    /// Checks that a room has lost what its policy says, and no event before its age if that is the only other bound.
    fn check_expired(&self, room: usize, expired_to: Offset) {
        let known = &self.order.known[room];
        let Room { held, age_min, is_settled, counts_but_ages, .. } = known;
        if known.is_exact() {
            assert_eq!(expired_to, held.expired_to, "what room {room} has lost");
        }
        assert!(expired_to >= held.expired_to, "room {room} has too much: {expired_to}, {held:?}");
        if expired_to > held.expired_to && *is_settled && *counts_but_ages {
            let age = self.now - self.order.event(expired_to).at;
            assert!(age >= *age_min, "event {expired_to} of room {room} is lost at {age}, before {age_min}");
        }
    }

    /// Checks that no log has an event that is too old. A log that had nothing but events to be flushed is looked at
    /// once a second.
    pub(super) fn check_ages(&self) {
        let check = |source: &Arc<Source>| {
            let oldest = source.log().get().and_then(Log::oldest);
            let age = oldest.map_or(Duration::ZERO, |(_, published)| self.moment().since(published));
            let age_max = source.policy().age_max.max(Duration::from_secs(1));
            assert!(age < age_max, "{} has an event of {age:?}", source.name());
        };
        self.hub.rooms().for_each(check);
        self.hub.users().for_each(check);
        check(self.hub.all());
    }

    /// Returns how the stream of a subscriber must begin.
    pub(super) fn opening(
        &self,
        rooms: &[usize],
        user: Option<usize>,
        pass: Option<Pass>,
        start: &Start,
    ) -> Opening {
        let (epoch, head) = (self.hub.epoch(), self.order.head());
        let sources = rooms.iter().copied().map(To::Room).chain(user.map(To::User)).chain([To::All]);
        let sources: Vec<(To, Offset)> = sources.map(|source| (source, self.expired_to(source))).collect();
        let expired_to = sources.iter().map(|(_, to)| *to).max().unwrap();
        let held = |(source, to): &(To, Offset)| self.order.between(*source, *to, head);
        let may_have = |offset: &Offset| {
            let event = self.order.event(*offset);
            let is_from_itself = user.is_some() && event.exclude == user;
            !is_from_itself && (!event.is_for_vips || pass.is_some_and(|pass| pass.is_vip(event.to)))
        };
        let at = |cursor| {
            let id = Some(epoch.position(cursor).to_string());
            Opening { cursor, id, gap: None, replay: None }
        };
        let presented = match start {
            Start::Now => return at(head),
            Start::ByPolicy => {
                let replay = self.replay(rooms, may_have);
                // With an id, a stream that breaks before the replay would come back and not get it.
                let id = at(head).id.filter(|_| replay.is_none());
                return Opening { id, replay, ..at(head) };
            }
            Start::History(count) => {
                let mut newest: Vec<Offset> = sources.iter().flat_map(held).copied().collect();
                newest.retain(|offset| self.order.is_history(*offset) && may_have(offset));
                newest.sort_unstable();
                let first = newest.len().saturating_sub(*count);
                return at(newest.get(first).map_or(head, |oldest| oldest - 1).max(expired_to));
            }
            Start::After(presented) => presented,
        };
        let is_clean = |id: &str| id.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c));
        let id = Some(presented.clone()).filter(|id| !id.is_empty() && is_clean(id));
        // An event that the subscriber may not have is not found by its id either.
        let named =
            |offset: &&Offset| may_have(offset) && self.order.event(**offset).id.as_ref() == Some(presented);
        let known: Vec<Offset> = sources.iter().flat_map(held).filter(named).copied().collect();
        let from = id.clone().unwrap_or_default();
        let meant = match (own(presented, epoch), &known[..]) {
            (Some(offset), _) => Some(offset).filter(|offset| *offset <= head),
            (None, [offset]) => Some(*offset),
            (None, _) => None,
        };
        let (cursor, gap) = match meant {
            Some(offset) => (offset, (offset < expired_to).then_some((from, expired_to, "evicted"))),
            None if is_position(presented) && own(presented, epoch).is_none() => {
                (0, Some((from, expired_to, "restart")))
            }
            None => (head, Some((from, head, "unknown"))),
        };
        Opening { cursor, id, gap, replay: None }
    }
}

/// Returns whether `id` has the form of a position, of any epoch.
pub(super) fn is_position(id: &str) -> bool {
    id.split_once('-').is_some_and(|(life, offset)| {
        let is_life = life.len() == 6
            && life.bytes().all(|byte| b"0123456789abcdefghijklmnopqrstuvwxyz".contains(&byte));
        is_life && offset.parse::<Offset>().is_ok_and(|number| number.to_string() == offset)
    })
}
