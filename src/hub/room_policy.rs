//! What a room's settings say: one policy for each `[[room]]` table, and one for rooms that no table matches.
//!
//! A policy is found once for each room, when the room is made and again on a reload. Nothing on the path of a delivery
//! compares names.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::log::rules::{LogBounds, LogRules};
use crate::rights::pattern::Pattern;
use crate::types::name::EventName;
use crate::types::rate::Rate;
use crate::types::words::words;

/// Tables of rooms that the settings may have. A new room is compared with each until one matches.
pub const ROOM_POLICIES_MAX: usize = 256;

/// Event names one table may list.
pub const EVENT_NAMES_MAX: usize = 64;

/// What a room's settings say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomPolicy {
    /// The pattern as it is written in the settings; `None` if no table matches.
    pub pattern: Option<Box<str>>,
    /// Bounds of the room's log.
    pub log: LogBounds,
    /// Age at which an event expires.
    pub age_max: Duration,
    /// Whether events are kept after their delivery.
    pub store: bool,
    /// What a subscriber without an id begins with.
    pub replay: Replay,
    /// If set, only the newest event of each key goes out, at most once in this time.
    pub conflate: Option<Duration>,
    /// A busy room is flushed at most this often; `None` for the server's own setting.
    pub flush_interval: Option<Duration>,
    /// What a reader gets that cannot keep up.
    pub slow: Slow,
    /// Who is present, if that is known.
    pub presence: Option<PresencePolicy>,
    /// Who may publish.
    pub publishers: Publishers,
    /// Events that all publishers together may publish.
    pub publish_rate: Option<Rate>,
    /// How long the same data of the same user is refused.
    pub refuse_repeats: Option<Duration>,
    /// Names that events may have; empty for any. `message` stands for an event without a name.
    pub events: Box<[EventName]>,
    /// Bytes the data of an event may have; `None` for the server's own setting.
    pub event_bytes_max: Option<usize>,
    /// Connections the room may have.
    pub listeners_max: Option<u32>,
    /// What the application is asked or told about.
    pub callbacks: RoomCallbacks,
}

impl From<&RoomPolicy> for LogRules {
    fn from(policy: &RoomPolicy) -> Self {
        let conflates = policy.conflate.is_some();
        // A log that conflates holds nothing but the newest.
        let keeps_newest = (policy.replay == Replay::Latest || policy.slow == Slow::Latest) && !conflates;
        Self { bounds: policy.log, conflates, keeps_newest }
    }
}

/// What a subscriber without an id begins with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Replay {
    /// With the next event.
    #[default]
    Off,
    /// With the newest event of each key.
    Latest,
    /// With this many of the newest events.
    Newest(usize),
}

words! {
    /// What a reader gets that cannot keep up.
    #[derive(Default)]
    Slow {
        /// A gap in place of what it lost.
        #[default]
        Gap = "gap",
        /// The end of its stream. It comes back, and resumes or gets its gap then.
        Close = "close",
        /// The newest event of each key, without a gap.
        Latest = "latest",
    }
}

words! {
    /// Who may publish to a room.
    #[derive(Default)]
    Publishers {
        /// Whoever has the permission.
        #[default]
        Any = "any",
        /// API keys that have the permission.
        Keys = "keys",
    }
}

/// How presence works in a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PresencePolicy {
    /// Whether members are named, or only counted.
    pub names: bool,
    /// How long after its last connection a member is still present.
    pub grace: Duration,
    /// The shortest time between two messages.
    pub interval: Duration,
    /// Members up to which they are named.
    pub members_max: usize,
}

impl Default for PresencePolicy {
    fn default() -> Self {
        let (grace, interval) = (Duration::from_secs(15), Duration::from_secs(1));
        Self { names: true, grace, interval, members_max: 200 }
    }
}

/// What the application is asked or told about a room.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RoomCallbacks {
    /// It is asked about what users publish (`publish_callback`).
    pub publish: bool,
    /// It is told who comes and goes (`presence_callback`).
    pub presence: bool,
}

impl RoomPolicy {
    /// The policy of rooms that no table matches, and of inboxes and broadcasts.
    #[must_use]
    pub fn of_server(log: LogBounds, age_max: Duration) -> Self {
        Self {
            pattern: None,
            log,
            age_max,
            store: true,
            replay: Replay::default(),
            conflate: None,
            flush_interval: None,
            slow: Slow::default(),
            presence: None,
            publishers: Publishers::default(),
            publish_rate: None,
            refuse_repeats: None,
            events: Box::default(),
            event_bytes_max: None,
            listeners_max: None,
            callbacks: RoomCallbacks::default(),
        }
    }

    /// Any policy, for tests that do not depend on it.
    #[must_use]
    pub fn example() -> Arc<Self> {
        let log = LogBounds { events_max: 1000, bytes_max: 1 << 20 };
        Arc::new(Self::of_server(log, Duration::from_hours(1)))
    }

    /// Whether an event of this name may be published.
    #[must_use]
    pub fn takes_event(&self, name: Option<&EventName>) -> bool {
        let name = name.map_or(UNNAMED, EventName::as_str);
        self.events.is_empty() || self.events.iter().any(|known| known.as_str() == name)
    }
}

/// What browsers call an event without a name (WHATWG HTML §9.2.6).
const UNNAMED: &str = "message";

/// The policies of all rooms. The first table that matches counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomPolicies {
    /// At most [`ROOM_POLICIES_MAX`] tables, in the order of the settings.
    pub tables: Vec<(Pattern, Arc<RoomPolicy>)>,
    /// Whether rooms that no table matches are unknown.
    pub listed: bool,
    /// Whether an event says which room it is from.
    pub says_room: bool,
}

impl Default for RoomPolicies {
    fn default() -> Self {
        Self { tables: Vec::new(), listed: false, says_room: true }
    }
}

impl RoomPolicies {
    /// The policy of the first table that matches `room`.
    #[must_use]
    pub fn of(&self, room: &str) -> Option<&Arc<RoomPolicy>> {
        let matching = |(pattern, _): &&(Pattern, Arc<RoomPolicy>)| pattern.covers(room, None);
        self.tables.iter().find(matching).map(|(_, policy)| policy)
    }

    /// Whether `room` may be used at all.
    #[must_use]
    pub fn knows(&self, room: &str) -> bool {
        !self.listed || self.of(room).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(patterns: &[&str], listed: bool) -> RoomPolicies {
        let table = |text: &&str| {
            let log = LogBounds { events_max: 1, bytes_max: 1 };
            let policy = RoomPolicy::of_server(log, Duration::from_secs(1));
            let policy = RoomPolicy { pattern: Some((*text).into()), ..policy };
            (Pattern::parse(text).expect("a pattern"), Arc::new(policy))
        };
        RoomPolicies { tables: patterns.iter().map(table).collect(), listed, ..RoomPolicies::default() }
    }

    #[test]
    fn the_first_table_that_matches_counts() {
        let policies = policies(&["chat-vip", "chat-*", "*"], false);
        let of = |room| policies.of(room).and_then(|policy| policy.pattern.clone());
        assert_eq!(of("chat-vip").as_deref(), Some("chat-vip"));
        assert_eq!(of("chat-1").as_deref(), Some("chat-*"));
        assert_eq!(of("other").as_deref(), Some("*"));
    }

    #[test]
    fn only_listed_rooms_are_known_if_the_settings_say_so() {
        let (open, listed) = (policies(&["a"], false), policies(&["a"], true));
        assert_eq!([open.knows("a"), open.knows("b")], [true, true]);
        assert_eq!([listed.knows("a"), listed.knows("b")], [true, false]);
    }

    #[test]
    fn an_event_without_a_name_is_a_message() {
        let mut policy = RoomPolicy::of_server(LogBounds { events_max: 1, bytes_max: 1 }, Duration::ZERO);
        let name = |text| EventName::new(text).expect("a name");
        let takes = |policy: &RoomPolicy| {
            [None, Some("chat"), Some("x")].map(|text| policy.takes_event(text.map(name).as_ref()))
        };
        assert_eq!(takes(&policy), [true, true, true]);
        policy.events = [name("chat")].into();
        assert_eq!(takes(&policy), [false, true, false]);
        policy.events = [name("chat"), name("message")].into();
        assert_eq!(takes(&policy), [true, true, false]);
    }
}
