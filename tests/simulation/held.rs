//! What the log of a room holds, in the model: exact while the number of its events is its only bound.

use std::collections::BTreeSet;

use tidegate::types::position::Offset;

/// What a room's policy says about its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// An event of a key takes the place of the one before.
    pub conflates: bool,
    /// Newcomers and slow readers get the newest event of a key although newer events have driven it out.
    pub keeps_newest: bool,
    pub events_max: usize,
}

/// A room's log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// The events that a resume gets.
    pub events: BTreeSet<Offset>,
    /// The newest events of their keys that others have driven out.
    pub kept: BTreeSet<Offset>,
    /// The newest event that others have driven out, or 0.
    pub expired_to: Offset,
    /// Events that are gone but for subscribers that were connected, and whose keys had no newer event by then.
    pub lost: BTreeSet<Offset>,
}

impl Held {
    /// Follows the rules as of the event that is published next. Takes whether an event's key has a newer one.
    pub(crate) fn follow(&mut self, rules: Rules, is_superseded: impl Fn(Offset) -> bool) {
        if rules.conflates {
            self.events.retain(|offset| !is_superseded(*offset));
        }
    }

    /// Notes that the event at `offset` has a newer one of its key, for the same subscribers.
    pub(crate) fn supersede(&mut self, offset: Offset, rules: Rules) {
        self.kept.remove(&offset);
        if rules.conflates {
            self.events.remove(&offset);
        }
    }

    /// Adds the newest event.
    pub(crate) fn add(&mut self, offset: Offset) {
        self.events.insert(offset);
    }

    /// Applies the bound. Takes whether an event has a key, and whether that key has a newer event.
    pub(crate) fn trim(
        &mut self,
        rules: Rules,
        is_keyed: impl Fn(Offset) -> bool,
        is_superseded: impl Fn(Offset) -> bool,
    ) {
        while self.events.len() > rules.events_max {
            let oldest = self.events.pop_first().expect("too many are some");
            self.expired_to = oldest;
            if is_superseded(oldest) {
                continue;
            }
            let is_kept = rules.keeps_newest && is_keyed(oldest);
            let place = if is_kept { &mut self.kept } else { &mut self.lost };
            place.insert(oldest);
        }
        while self.kept.len() > rules.events_max {
            self.lost.extend(self.kept.pop_first());
        }
    }

    /// Whether a newcomer may get the event.
    pub(crate) fn has(&self, offset: Offset) -> bool {
        self.events.contains(&offset) || self.kept.contains(&offset)
    }
}
