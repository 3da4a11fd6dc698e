//! The tables `[[room]]` of the file: the keys that each may have, like `table.rs` for the server's settings. The first
//! table whose pattern matches a room counts for it.

use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::kinds::access::{PatternKind, RoomPattern, rooms_of_all};
use crate::config::kinds::bounded::{
    CONNECTIONS_CEILING, GIB, HOUR, KIB, MIB, MINUTE, MS, SECOND, duration, integer, size,
};
use crate::config::kinds::choices::{bare, choice};
use crate::config::kinds::rate::rate;
use crate::config::kinds::rooms::{RoomCallback, RoomPresence, event_name, replay};
use crate::config::kinds::{Kind, list, off_or, server_or};
use crate::config::layers::{GivenTable, Layers};
use crate::config::setting::{Setting, facts, settings};
use crate::hub::room_policy::{EVENT_NAMES_MAX, Publishers, Replay, Slow};
use crate::types::name::EventName;
use crate::types::rate::Rate;

/// One table `[[room]]`, valid.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomTable {
    /// The rooms that it is about. No two tables have the same.
    pub pattern: RoomPattern,
    /// What is different in them.
    pub settings: RoomSettings,
}

/// The key that every table needs.
pub(crate) static MATCH: Setting = Setting {
    key: "match",
    section: "Rooms",
    default: "",
    help: " The rooms that the table is about: `lobby`, or `chat-*` for all whose name begins with `chat-`. `*` alone is \
           every room. A star in a name is written `%2A`. The first table that matches a room counts.",
    facts: || facts(&pattern(), ""),
    masked: |text| pattern().masked(text),
};

fn pattern() -> PatternKind {
    rooms_of_all()
}

settings! {
    /// The keys of a table `[[room]]`, valid. What is left out is at its default; `None` is the server's own setting, or
    /// off.
    RoomSettings, ROOM_SETTINGS;

    "History" {
        /// Events kept for each of the rooms. 0 keeps nothing.
        history_events: Option<usize> = "server", server_or(integer(0..=1_000_000), "1000");

        /// Bytes of events kept for each of them.
        history_bytes: Option<usize> = "server", server_or(size(4 * KIB..=GIB), "1MiB");

        /// How long their events are kept.
        history_age: Option<Duration> = "server", server_or(duration(SECOND..=30 * 24 * HOUR), "1h");

        /// Whether their events are kept after they were delivered. If `false`, nobody can have them later, and a resume
        /// passes over them without a gap.
        store: bool = "true", bare();

        /// What a subscriber begins with that does not resume: `off` for nothing, `latest` for the newest event of each
        /// `key`, or a number for that many of the newest events.
        replay: Replay = "off", replay();
    }

    "Delivery" {
        /// Once in this time, only the newest event of each `key` goes out. A subscriber that is slow then gets the
        /// newest events, and no gap.
        conflate: Option<Duration> = "off", off_or(duration(10 * MS..=MINUTE), "200ms");

        /// How long a busy room gathers events for one write. 0 writes each event at once.
        flush_interval: Option<Duration> = "server", server_or(duration(Duration::ZERO..=10 * SECOND), "50ms");

        /// What a subscriber gets that cannot keep up: `gap` skips events and says so, `close` ends its stream so that it
        /// comes back, `latest` gives it the newest event of each `key` without a gap.
        slow: Slow = "gap", choice::<Slow>();
    }

    "Presence" {
        /// What subscribers may know about who is there: nothing, the number (`count`), or the names (`members`).
        presence: RoomPresence = "off", choice::<RoomPresence>();

        /// How long after its last stream a member still counts as present. A page that is loaded again takes some
        /// seconds.
        presence_grace: Duration = "15s", duration(Duration::ZERO..=10 * MINUTE);

        /// The shortest time between two messages about who is there.
        presence_interval: Duration = "1s", duration(100 * MS..=MINUTE);

        /// Members up to which they are named. If there are more, only their number is told.
        presence_members_max: usize = "200", integer(1..=1000);
    }

    "Publishing" {
        /// Who may publish: `any` who has the permission, or with `keys` only API keys that have it.
        publish: Publishers = "any", choice::<Publishers>();

        /// Events that all publishers together may publish to one room.
        publish_rate: Option<Rate> = "off", off_or(rate(), "50/s");

        /// Within this time, the same data of the same user is refused. Events that are not kept may repeat.
        refuse_repeats: Option<Duration> = "off", off_or(duration(SECOND..=HOUR), "30s");

        /// Names that events may have; empty for any. `message` is an event without a name.
        events: Vec<EventName> = "", list(event_name(), 0..=EVENT_NAMES_MAX);

        /// Bytes one event may have. At most the server's `max_body_bytes`.
        max_event_bytes: Option<usize> = "server", server_or(size(KIB..=16 * MIB), "4KiB");
    }

    "Others" {
        /// Streams that one room may have. The next is refused softly.
        max_listeners: Option<usize> = "off", off_or(integer(1..=CONNECTIONS_CEILING), "5000");

        /// What the application is asked or told: `publish` asks `publish_callback` about each event of a user,
        /// `presence` tells `presence_callback` who comes and goes.
        callbacks: Vec<RoomCallback> = "", list(choice::<RoomCallback>(), 0..=RoomCallback::ALL.len());
    }
}

impl Default for RoomSettings {
    /// Those of a table that has nothing but its pattern.
    fn default() -> Self {
        Self::parse(&Layers::default(), &mut Vec::new())
    }
}

/// All keys of a table, `match` first.
pub(super) fn keys() -> impl Iterator<Item = &'static Setting> {
    std::iter::once(&MATCH).chain(ROOM_SETTINGS)
}

/// Reads all tables. Those that are wrong are left out of the result, which must not be used then.
pub(super) fn read_all(layers: &Layers, errors: &mut Vec<ConfigError>) -> Vec<RoomTable> {
    layers.rooms.iter().filter_map(|table| read(table, errors)).collect()
}

fn read(GivenTable { place, keys }: &GivenTable, errors: &mut Vec<ConfigError>) -> Option<RoomTable> {
    let written = keys.given(MATCH.key);
    let pattern = written.and_then(|given| pattern().parse(&given.text));
    if pattern.is_none() {
        errors.push(match written {
            Some(given) => given.blame(self::pattern().wanted_for(&given.text, "")),
            None => ConfigError::MissingKey {
                place: place.clone(),
                key: MATCH.key,
                wanted: self::pattern().wanted(""),
            },
        });
    }
    let settings = RoomSettings::parse(keys, errors);
    pattern.map(|pattern| RoomTable { pattern, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_right_and_reads_back() {
        let defaults: Vec<&str> = ROOM_SETTINGS.iter().map(|setting| setting.default).collect();
        assert_eq!(RoomSettings::default().written(), defaults);
    }

    #[test]
    fn a_key_with_the_name_of_a_setting_is_that_setting_by_default() {
        use crate::config::table::SETTINGS;
        for key in ROOM_SETTINGS {
            let is_of_server = SETTINGS.iter().any(|setting| setting.key == key.key);
            assert_eq!(key.default == "server", is_of_server, "{}", key.key);
        }
    }
}
