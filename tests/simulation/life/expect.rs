//! The expected answer to a request for a stream: the refusal, or the first events of the stream.

use tidegate::hub::refusal::Refusal;
use tidegate::shard::join::Start;
use tidegate::types::position::Offset;

use super::super::listener::{Opening, own};
use super::super::model::To;
use super::super::right::Pass;
use super::{Life, room_name, user_name};

impl Life<'_> {
    pub(super) fn expected_admission(&self, user: Option<usize>, address: Option<u8>) -> Option<Refusal> {
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

    /// Returns the offset up to which `source` has lost its history, which must be at most one of its own events.
    pub(super) fn expired_to(&self, source: To) -> Offset {
        let found = match source {
            To::Room(room) => self.hub.rooms().get(&room_name(room)),
            To::User(user) => self.hub.users().get(&user_name(user)),
            To::All => Some(self.hub.all().clone()),
        };
        let expired_to = found.expect("sources of a listener exist").log().expired_to();
        if self.plan.counts_only() {
            let expected = self.order.expired_by_count(source, self.plan.history.log.events_max);
            assert_eq!(expired_to, expected, "what {source:?} has lost");
        }
        assert!(
            expired_to == 0 || self.order.offsets(source).binary_search(&expired_to).is_ok(),
            "a quiet source loses nothing: {source:?} to {expired_to}"
        );
        expired_to
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
        let at = |cursor| Opening { cursor, id: Some(epoch.position(cursor).to_string()), gap: None };
        let presented = match start {
            Start::Now | Start::ByPolicy => return at(head),
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
        Opening { cursor, id, gap }
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
