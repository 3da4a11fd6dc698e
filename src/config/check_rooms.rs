//! Checks of the tables `[[room]]`, with each other and with the server's settings.

use std::fmt;

use crate::config::error::{ConfigError, Source};
use crate::config::kinds::bounded::{print_duration, print_size};
use crate::config::kinds::rooms::{RoomCallback, RoomPresence};
use crate::config::layers::{GivenTable, Layers};
use crate::config::room_table::{MATCH, RoomTable};
use crate::config::table::Config;
use crate::hub::room_policy::{Publishers, ROOM_POLICIES_MAX, Replay};
use crate::types::name::{NAME_BYTES_MAX, RoomName};

/// Checks the tables of `config`, which `layers` gave. Conflicts are added to `errors`.
pub(super) fn check(config: &Config, layers: &Layers, errors: &mut Vec<ConfigError>) {
    if let Some(table) = layers.rooms.get(ROOM_POLICIES_MAX) {
        errors.push(ConfigError::Value {
            source: Source::File(table.place.clone()),
            key: "room",
            value: format!("{} tables", layers.rooms.len()),
            wanted: format!("at most {ROOM_POLICIES_MAX} tables"),
        });
        return;
    }
    for (at, (table, given)) in config.room_tables.iter().zip(&layers.rooms).enumerate() {
        let mut check = Check { config, table, given, errors };
        check.pattern(&config.room_tables[..at], &layers.rooms);
        check.history();
        check.delivery();
        check.presence();
        check.publishing();
        check.callbacks();
    }
}

struct Check<'a> {
    config: &'a Config,
    table: &'a RoomTable,
    given: &'a GivenTable,
    errors: &'a mut Vec<ConfigError>,
}

impl Check<'_> {
    /// Of two tables with one pattern, the second would count for no room.
    fn pattern(&mut self, before: &[RoomTable], places: &[GivenTable]) {
        let pattern = &self.table.pattern.pattern;
        let twin = before.iter().position(|other| other.pattern.pattern == *pattern);
        if let Some(twin) = twin {
            let line = places[twin].place.line;
            self.blame(
                MATCH.key,
                format!("a pattern that no other table has; the table at line {line} has it"),
            );
        }
    }

    fn history(&mut self) {
        let settings = &self.table.settings;
        if let (Some(bytes), Some(total)) = (settings.history_bytes, self.config.history_total_bytes)
            && bytes > total
        {
            self.blame(
                "history_bytes",
                format!("at most history_total_bytes, which is {}", print_size(total)),
            );
        }
        let kept = settings.history_events.unwrap_or(self.config.history_events);
        match settings.replay {
            Replay::Off => {}
            _ if !settings.store => {
                self.blame("replay", "off while store is false, since nothing is kept".to_owned());
            }
            Replay::Latest if kept == 0 => {
                self.blame("replay", "off while history_events is 0, since nothing is kept".to_owned());
            }
            Replay::Newest(count) if count > kept => {
                self.blame("replay", format!("at most history_events, which is {kept}"));
            }
            Replay::Latest | Replay::Newest(_) => {}
        }
    }

    /// Otherwise the subscribers of a busy room would be closed for waiting as long as the table says.
    fn delivery(&mut self) {
        let settings = &self.table.settings;
        let most = self.config.max_unsent_age;
        for (key, time) in [("flush_interval", settings.flush_interval), ("conflate", settings.conflate)] {
            if time.is_some_and(|time| time > most) {
                self.blame(key, format!("at most max_unsent_age, which is {}", print_duration(most)));
            }
        }
    }

    /// Keys about presence mean nothing where it is off.
    fn presence(&mut self) {
        let presence = self.table.settings.presence;
        let is_off = presence == RoomPresence::Off;
        for (key, is_unused, wanted) in [
            ("presence_grace", is_off, "presence = \"count\" or \"members\" as well"),
            ("presence_interval", is_off, "presence = \"count\" or \"members\" as well"),
            ("presence_members_max", presence != RoomPresence::Members, "presence = \"members\" as well"),
        ] {
            if is_unused && self.given.keys.given(key).is_some() {
                self.blame(key, wanted.to_owned());
            }
        }
    }

    fn publishing(&mut self) {
        let settings = &self.table.settings;
        let most = self.config.max_body_bytes;
        if settings.max_event_bytes.is_some_and(|bytes| bytes > most) {
            self.blame("max_event_bytes", format!("at most max_body_bytes, which is {}", print_size(most)));
        }
        if settings.publish == Publishers::Keys && self.config.api_keys_file.is_none() {
            self.blame("publish", "any, or api_keys_file as well, since there are no API keys".to_owned());
        }
    }

    /// The application must have an address to be asked at, and something to be told.
    fn callbacks(&mut self) {
        let RoomTable { settings, .. } = self.table;
        let lists = |callback| settings.callbacks.contains(&callback);
        if lists(RoomCallback::Publish) && self.config.publish_callback.is_none() {
            self.blame("callbacks", "no publish while publish_callback is off".to_owned());
        }
        if lists(RoomCallback::Presence) && self.config.presence_callback.is_none() {
            self.blame("callbacks", "no presence while presence_callback is off".to_owned());
        } else if lists(RoomCallback::Presence) && settings.presence == RoomPresence::Off {
            let wanted = "no presence, or presence = \"count\" or \"members\" as well";
            self.blame("callbacks", wanted.to_owned());
        }
    }

    /// Blames `key`, which the table has: defaults never conflict.
    fn blame(&mut self, key: &str, wanted: String) {
        self.errors.extend(self.given.keys.given(key).map(|given| given.blame(wanted)));
    }
}

/// A table `[[room]]` that counts for no room. The server runs with it; it is told, because something else was meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NeverMatches {
    /// Its number, from 1, and its pattern.
    table: (usize, String),
    /// The same of an earlier table that covers all its rooms. `None` if no room can have such a name.
    covered_by: Option<(usize, String)>,
}

impl NeverMatches {
    /// Its place among the tables, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.table.0 - 1
    }
}

impl fmt::Display for NeverMatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, pattern) = &self.table;
        write!(f, "[[room]] number {number}, match={pattern:?}, can never match: ")?;
        match &self.covered_by {
            Some((number, pattern)) => {
                write!(f, "number {number}, match={pattern:?}, comes first and covers all of its rooms")
            }
            None => f.write_str("no room can have such a name"),
        }
    }
}

/// The tables of `config` that count for no room.
#[must_use]
pub fn never_match(config: &Config) -> Vec<NeverMatches> {
    let tables = &config.room_tables;
    let named = |at: usize| (at + 1, tables[at].pattern.to_string());
    let found = tables.iter().enumerate().filter_map(|(at, table)| {
        let covers = |other: &RoomTable| other.pattern.pattern.includes(&table.pattern.pattern);
        let covered_by = tables[..at].iter().position(covers).map(named);
        (covered_by.is_some() || !can_match(table)).then(|| NeverMatches { table: named(at), covered_by })
    });
    found.collect()
}

/// Whether a room can have a name that the table's pattern covers.
fn can_match(table: &RoomTable) -> bool {
    let pattern = &table.pattern.pattern;
    let text = pattern.text().unwrap_or_default();
    let is_start = pattern.is_open() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    is_start || RoomName::new(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a table for each pattern.
    fn told(patterns: &[&str]) -> Vec<String> {
        let table = |pattern: &&str| format!("[[room]]\nmatch = \"{pattern}\"\n");
        let text: String = patterns.iter().map(table).collect();
        let config = Config::from_toml("a.toml".as_ref(), &text, 4096).expect("settings");
        never_match(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_behind_a_wider_one_is_told() {
        assert_eq!(told(&["chat-vip", "chat-*", "lobby", "*"]), [""; 0]);
        assert_eq!(
            told(&["chat-*", "lobby", "chat-vip-*", "chat-1"]),
            [
                "[[room]] number 3, match=\"chat-vip-*\", can never match: number 1, match=\"chat-*\", comes first and \
                 covers all of its rooms",
                "[[room]] number 4, match=\"chat-1\", can never match: number 1, match=\"chat-*\", comes first and \
                 covers all of its rooms",
            ]
        );
    }

    #[test]
    fn a_name_that_no_room_can_have_is_told() {
        let long = "a".repeat(NAME_BYTES_MAX);
        assert_eq!(told(&[&long, &format!("b{}*", &long[1..])]), [""; 0]);
        for pattern in ["a%0A*", "a%00", &format!("{long}a"), &format!("{long}a*")] {
            let found = told(&[pattern]);
            assert_eq!(found.len(), 1, "{pattern}");
            assert!(found[0].ends_with("can never match: no room can have such a name"), "{found:?}");
        }
    }
}
