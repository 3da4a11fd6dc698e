//! The truth: every event of one life in order, and its addressees.

use std::collections::{HashMap, HashSet};
use std::fmt;

use tidegate::types::position::Offset;

use super::listener::Listener;
use super::plan::{ROOMS, USERS};
use super::right::Claim;

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
    /// Whether it becomes history.
    pub stored: bool,
    /// The data as a browser reads it.
    pub text: String,
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
    /// The newest event of each key in a room. One that is not stored is not newer than one that is.
    newest: HashMap<(usize, u8), Offset>,
    /// Events whose place the next one of their key took: it was for the same subscribers.
    superseded: HashSet<Offset>,
    /// Rooms in which an event of a key may be left out because of a newer one, at any time in this life.
    pub skips: [bool; ROOMS],
    /// Rooms whose logs conflated when they last got an event.
    conflates: [bool; ROOMS],
}

impl Order {
    pub(crate) fn new() -> Self {
        Self {
            events: Vec::new(),
            rooms: Default::default(),
            users: Default::default(),
            all: Vec::new(),
            by_text: HashMap::new(),
            own_ids: HashSet::new(),
            newest: HashMap::new(),
            superseded: HashSet::new(),
            skips: [false; ROOMS],
            conflates: [false; ROOMS],
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

    /// Adds an event. `conflates`: its room does now.
    pub(crate) fn push(&mut self, event: Event, conflates: bool) {
        let offset = self.head() + 1;
        if let To::Room(room) = event.to {
            self.conflates[room] = conflates;
            if let Some(key) = event.key {
                self.supersede((room, key), &event, offset);
            }
        }
        self.own_ids.extend(event.id.clone());
        match event.to {
            To::Room(room) => self.rooms[room].push(offset),
            To::User(user) => self.users[user].push(offset),
            To::All => self.all.push(offset),
        }
        let twin = self.by_text.insert(event.text.clone(), offset);
        assert_eq!(twin, None, "every event's data is unique");
        self.events.push(event);
    }

    fn supersede(&mut self, key: (usize, u8), event: &Event, offset: Offset) {
        if let Some(before) = self.newest.get(&key).copied() {
            let old = self.event(before);
            if old.stored && !event.stored {
                return;
            }
            if (old.exclude, old.is_for_vips) == (event.exclude, event.is_for_vips) {
                self.superseded.insert(before);
            }
        }
        self.newest.insert(key, offset);
    }

    pub(crate) fn event(&self, offset: Offset) -> &Event {
        &self.events[usize::try_from(offset).unwrap() - 1]
    }

    pub(crate) fn offset_of(&self, text: &str) -> Offset {
        *self.by_text.get(text).unwrap_or_else(|| panic!("nobody published {text:?}"))
    }

    /// Returns whether a newcomer who asks for history may have the event, by its room's policy.
    pub(crate) fn is_history(&self, offset: Offset) -> bool {
        let event = self.event(offset);
        let is_hidden = matches!(event.to, To::Room(room) if self.conflates[room]);
        event.stored && !(is_hidden && self.superseded.contains(&offset))
    }

    /// Returns whether the event may be left out: it was not to be kept, or its key has a newer one.
    pub(crate) fn may_be_skipped(&self, offset: Offset) -> bool {
        let event = self.event(offset);
        let has_newer =
            matches!(event.to, To::Room(room) if self.skips[room]) && self.superseded.contains(&offset);
        !event.stored || has_newer
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
        if claim == Claim::Must && self.may_be_skipped(offset) { Claim::May } else { claim }
    }

    /// Returns the offset up to which a log bounded by number alone has dropped its events.
    pub(crate) fn expired_by_count(&self, source: To, events_max: usize) -> Offset {
        let offsets = self.offsets(source);
        offsets.len().checked_sub(events_max + 1).map_or(0, |at| offsets[at])
    }
}
