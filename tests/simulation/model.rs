//! The truth: every event of one life in order, and its addressees.

use std::collections::{HashMap, HashSet};
use std::fmt;

use tidegate::hub::room_policy::Slow;
use tidegate::types::position::Offset;

use super::held::Rules;
use super::listener::Listener;
use super::plan::{Plan, ROOMS, USERS};
use super::right::Claim;
use super::room::Room;

/// The addressees of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum To {
    Room(usize),
    User(usize),
    All,
}

/// An event as it was published.
pub(crate) struct Event {
    pub to: To,
    pub exclude: Option<usize>,
    /// Whether it is only for subscribers with the permission `vip`.
    pub is_for_vips: bool,
    pub name: Option<String>,
    pub id: Option<String>,
    /// What it is the newest of.
    pub key: Option<u8>,
    /// The version of that.
    pub version: Option<u64>,
    /// Whether it becomes history.
    pub stored: bool,
    /// The data as a browser reads it.
    pub text: String,
    /// When it was published.
    pub at: u64,
}

impl Event {
    /// Whether it is for the same subscribers as `other`, as far as the two themselves say.
    pub(crate) fn is_for_same(&self, other: &Self) -> bool {
        (self.exclude, self.is_for_vips) == (other.exclude, other.is_for_vips)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.text.get(..12).unwrap_or(&self.text);
        let Self { to, exclude, is_for_vips, id, .. } = self;
        write!(f, "{start:?} to {to:?} but {exclude:?} as {id:?}, for vips: {is_for_vips}")
    }
}

/// All events of one life.
pub(crate) struct Order {
    /// The event with offset n is at n - 1.
    events: Vec<Event>,
    rooms: [Vec<Offset>; ROOMS],
    users: [Vec<Offset>; USERS],
    all: Vec<Offset>,
    /// Offsets by the number in an event's data.
    by_text: HashMap<String, Offset>,
    /// Ids that publishers chose.
    own_ids: HashSet<String>,
    /// What else is known of each room.
    pub known: [Room; ROOMS],
    /// Whether events say which room they are from.
    pub says_room: bool,
}

impl Order {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            events: Vec::new(),
            rooms: Default::default(),
            users: Default::default(),
            all: Vec::new(),
            by_text: HashMap::new(),
            own_ids: HashSet::new(),
            known: std::array::from_fn(|_| Room::new(plan.is_unlimited_together())),
            says_room: plan.says_room,
        }
    }

    pub(crate) fn head(&self) -> Offset {
        self.events.len() as Offset
    }

    /// Returns the first of `events`, of which some are left out, whose id belongs to an event of this life or to an
    /// earlier one of `events`.
    pub(crate) fn first_repeat<'a>(
        &self,
        mut events: impl Iterator<Item = Option<&'a Event>>,
    ) -> Option<usize> {
        let mut ids = self.own_ids.clone();
        events.position(|event| event.and_then(|event| event.id.clone()).is_some_and(|id| !ids.insert(id)))
    }

    /// Adds an event. `rules` are those of its room, if it is to one.
    pub(crate) fn push(&mut self, event: Event, rules: Option<Rules>) {
        let offset = self.head() + 1;
        self.own_ids.extend(event.id.clone());
        match event.to {
            To::Room(room) => self.rooms[room].push(offset),
            To::User(user) => self.users[user].push(offset),
            To::All => self.all.push(offset),
        }
        let twin = self.by_text.insert(event.text.clone(), offset);
        assert_eq!(twin, None, "every event's data is unique");
        let to = event.to;
        self.events.push(event);
        if let (To::Room(room), Some(rules)) = (to, rules) {
            let events = &self.events;
            self.known[room].add(offset, rules, |offset| &events[usize::try_from(offset).unwrap() - 1]);
        }
    }

    /// Returns what is known of the room of an event.
    fn room_of(&self, offset: Offset) -> Option<&Room> {
        if let To::Room(room) = self.event(offset).to { Some(&self.known[room]) } else { None }
    }

    /// Returns the event that took the place of another, if one did.
    pub(crate) fn successor(&self, offset: Offset) -> Option<Offset> {
        self.room_of(offset).and_then(|room| room.successor(offset))
    }

    pub(crate) fn event(&self, offset: Offset) -> &Event {
        &self.events[usize::try_from(offset).unwrap() - 1]
    }

    pub(crate) fn offset_of(&self, text: &str) -> Offset {
        *self.by_text.get(text).unwrap_or_else(|| panic!("nobody published {text:?}"))
    }

    /// Returns whether a newcomer who asks for history may have the event, by its room's policy.
    pub(crate) fn is_history(&self, offset: Offset) -> bool {
        let is_hidden = self.room_of(offset).is_some_and(Room::conflates_now);
        self.event(offset).stored && !(is_hidden && self.successor(offset).is_some())
    }

    /// Returns whether the event may be left out for a subscriber that cannot keep up: it was not to be kept, or its key
    /// has a newer one.
    pub(crate) fn may_be_skipped(&self, offset: Offset) -> bool {
        !self.event(offset).stored || self.room_of(offset).is_some_and(|room| room.may_skip(offset, false))
    }

    /// Returns whether one write may not have the event together with its successor.
    pub(crate) fn is_hidden_in_one_write(&self, offset: Offset, is_catching_up: bool) -> bool {
        self.room_of(offset).is_some_and(|room| {
            room.always_conflates() || is_catching_up && room.slow() == Some(Slow::Latest)
        })
    }

    /// Returns the offsets of the events to one source.
    pub(crate) fn offsets(&self, source: To) -> &[Offset] {
        match source {
            To::Room(room) => &self.rooms[room],
            To::User(user) => &self.users[user],
            To::All => &self.all,
        }
    }

    /// Returns the offsets in `(after, upto]` of the events to one source, whether its subscribers may have them or
    /// not.
    pub(crate) fn between(&self, source: To, after: Offset, upto: Offset) -> &[Offset] {
        let offsets = self.offsets(source);
        let start = offsets.partition_point(|offset| *offset <= after);
        let end = offsets.partition_point(|offset| *offset <= upto);
        &offsets[start..end.max(start)]
    }

    /// Returns the first event after `after` that `listener` must get.
    pub(crate) fn next_for(&self, listener: &Listener, after: Offset) -> Option<Offset> {
        let first = |source| {
            let mut later = self.between(source, after, Offset::MAX).iter().copied();
            later.find(|offset| self.claim(listener, *offset) == Claim::Must)
        };
        listener.sources().filter_map(first).min()
    }

    /// Returns whether `listener` gets the event with this offset.
    pub(crate) fn claim(&self, listener: &Listener, offset: Offset) -> Claim {
        let event = self.event(offset);
        let is_addressed = listener.sources().any(|source| source == event.to);
        let is_excluded = event.exclude.is_some() && event.exclude == listener.user;
        let claim = match event.is_for_vips {
            _ if !is_addressed || is_excluded => Claim::No,
            true => listener.rights.claim(offset, event.to),
            false => Claim::Must,
        };
        if claim == Claim::Must { self.claim_by_policy(listener, offset) } else { claim }
    }

    /// Returns whether `listener`, whose event this is, gets it although it may be no history.
    fn claim_by_policy(&self, listener: &Listener, offset: Offset) -> Claim {
        let event = self.event(offset);
        let was_there = offset > listener.joined_at;
        let room = self.room_of(offset);
        let is_hidden = self.successor(offset).is_some_and(|newer| newer <= listener.joined_at);
        if is_hidden && room.is_some_and(Room::always_conflates) {
            return Claim::No;
        }
        if !event.stored && !was_there && event.at < listener.opened {
            return Claim::No;
        }
        let is_at_hand = event.stored || was_there && listener.keeps_up;
        let may_skip = room.is_some_and(|room| room.may_skip(offset, listener.keeps_up));
        if is_at_hand && !may_skip { Claim::Must } else { Claim::May }
    }

    /// Returns the offset up to which a log bounded by number alone has dropped its events.
    pub(crate) fn expired_by_count(&self, source: To, events_max: usize) -> Offset {
        let offsets = self.offsets(source);
        offsets.len().checked_sub(events_max + 1).map_or(0, |at| offsets[at])
    }
}
