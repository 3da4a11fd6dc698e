//! A room in the model: its keys, what its log holds, and what its policies have been.

use std::collections::{HashMap, HashSet};

use tidegate::hub::room_policy::Slow;
use tidegate::types::position::Offset;

use super::held::{Held, Rules};
use super::kind::Kind;
use super::model::Event;
use super::plan::{HUGE, LONG};

/// What is known of a room.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// What its log holds.
    pub held: Held,
    /// The newest event of each key. One that is not stored is not newer than one that is.
    newest: HashMap<u8, Offset>,
    /// Events whose place a newer one of their key took, which was for the same subscribers; and that one.
    superseded: HashMap<Offset, Offset>,
    /// The last event of each key, stored or not.
    last: HashMap<u8, Offset>,
    /// Events that were not stored, and were followed by another of their key for the same subscribers.
    fleeting: HashSet<Offset>,
    /// The rules when its log last got an event.
    rules: Option<Rules>,
    /// Whether events of a key were left out because of newer ones, at any time and all the time.
    conflates: (bool, bool),
    /// What slow subscribers got at any time.
    slow: Vec<Slow>,
    /// Whether its log never ceased to conflate. If it did, what it holds from before depends on when it was tidied.
    pub is_settled: bool,
    /// Whether its events had no other bounds than their number and their age all the time.
    pub counts_but_ages: bool,
    /// The shortest age at which they could expire, in microseconds.
    pub age_min: u64,
}

impl Room {
    /// A room without events. `is_unlimited`: the history of all rooms together has no bound.
    pub(crate) fn new(is_unlimited: bool) -> Self {
        Self {
            held: Held::default(),
            newest: HashMap::new(),
            superseded: HashMap::new(),
            last: HashMap::new(),
            fleeting: HashSet::new(),
            rules: None,
            conflates: (false, true),
            slow: Vec::new(),
            is_settled: true,
            counts_but_ages: is_unlimited,
            age_min: u64::MAX,
        }
    }

    /// Follows a policy.
    pub(crate) fn follow(&mut self, kind: &Kind) {
        self.conflates.0 |= kind.conflates;
        self.conflates.1 &= kind.conflates;
        self.slow.push(kind.slow);
        self.slow.dedup();
        self.counts_but_ages &= kind.history.log.bytes_max == HUGE;
        let age = u64::try_from(kind.history.age_max.as_micros()).expect("not so long");
        self.age_min = self.age_min.min(age);
    }

    /// Adds the event at `offset`, the newest. Takes the room's events by their offsets.
    pub(crate) fn add<'e>(&mut self, offset: Offset, rules: Rules, event_at: impl Fn(Offset) -> &'e Event) {
        let before = self.rules.replace(rules);
        self.is_settled &= rules.conflates || !before.is_some_and(|before| before.conflates);
        let event = event_at(offset);
        let superseded = &self.superseded;
        self.held.follow(rules, |offset| superseded.contains_key(&offset));
        if let Some(key) = event.key {
            self.add_to_key(key, offset, rules, &event_at);
        }
        if event.stored {
            self.held.add(offset);
        }
        let superseded = &self.superseded;
        let is_keyed = |offset| event_at(offset).key.is_some();
        self.held.trim(rules, is_keyed, |offset| superseded.contains_key(&offset));
    }

    fn add_to_key<'e>(
        &mut self,
        key: u8,
        offset: Offset,
        rules: Rules,
        event_at: impl Fn(Offset) -> &'e Event,
    ) {
        let event = event_at(offset);
        let is_like_it = |other: &Offset| event_at(*other).is_for_same(event);
        let last = self.last.insert(key, offset).filter(|last| !event_at(*last).stored);
        self.fleeting.extend(last.filter(is_like_it));
        let before = self.newest.get(&key).copied();
        if before.is_some_and(|before| event_at(before).stored && !event.stored) {
            return;
        }
        self.newest.insert(key, offset);
        if let Some(before) = before.filter(is_like_it) {
            self.superseded.insert(before, offset);
            self.held.supersede(before, rules);
        }
    }

    /// The newest event of a key.
    pub(crate) fn newest_of(&self, key: u8) -> Option<Offset> {
        self.newest.get(&key).copied()
    }

    /// The event that took the place of another, if one did.
    pub(crate) fn successor(&self, offset: Offset) -> Option<Offset> {
        self.superseded.get(&offset).copied()
    }

    /// Whether the event may be left out for a subscriber because its key has a newer one.
    pub(crate) fn may_skip(&self, offset: Offset, keeps_up: bool) -> bool {
        let has_newer = self.superseded.contains_key(&offset) || self.fleeting.contains(&offset);
        has_newer && (self.conflates.0 || self.slow.contains(&Slow::Latest) && !keeps_up)
    }

    /// Whether it conflated all the time.
    pub(crate) fn always_conflates(&self) -> bool {
        self.conflates.1
    }

    /// Whether its log conflated when it last got an event.
    pub(crate) fn conflates_now(&self) -> bool {
        self.rules.is_some_and(|rules| rules.conflates)
    }

    /// What slow subscribers got all the time; `None` if that has changed.
    pub(crate) fn slow(&self) -> Option<Slow> {
        if let [slow] = self.slow[..] { Some(slow) } else { None }
    }

    /// Whether slow subscribers got this at any time.
    pub(crate) fn was_ever(&self, slow: Slow) -> bool {
        self.slow.contains(&slow)
    }

    /// The most events that its log may hold, as of its last event.
    pub(crate) fn events_max(&self) -> usize {
        self.rules.map_or(0, |rules| rules.events_max)
    }

    /// Whether the model knows exactly what its log holds.
    pub(crate) fn is_exact(&self) -> bool {
        let longest = u64::try_from(LONG.as_micros()).expect("a day");
        self.is_settled && self.counts_but_ages && self.age_min == longest
    }
}
