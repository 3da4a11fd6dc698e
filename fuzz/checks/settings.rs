//! Settings, and tables of rooms in them.

use std::path::Path;

use tidegate::config::{Config, ConfigError, ConfigErrors, never_match};
use tidegate::hub::room_policy::{EVENT_NAMES_MAX, ROOM_POLICIES_MAX};
use tidegate::types::name::RoomName;

/// A file of settings is read without panic. Each fault is reported on a line of its own, with its place; right
/// settings are the same after they are printed and read again.
pub(crate) fn settings(text: &str) {
    let errors = match read_settings(text) {
        Ok(config) => {
            assert_eq!(read_settings(&config.to_toml()).expect("they were right"), config);
            return;
        }
        Err(errors) => errors,
    };
    for error in &errors {
        let told = error.to_string();
        assert!(!told.contains(char::is_control), "{told:?}");
        if let ConfigError::Syntax { place, .. }
        | ConfigError::UnknownKey { place, .. }
        | ConfigError::MissingKey { place, .. } = error
        {
            assert!((1..=text.matches('\n').count() + 1).contains(&place.line), "{told}");
            let line = text.split('\n').nth(place.line - 1).expect("it has that line");
            assert!((1..=line.chars().count() + 1).contains(&place.column), "{told}");
        }
    }
}

/// Tables are read like settings. Those that are right keep their bounds and have different patterns, and the one that
/// counts for a room is none of those that are said never to match.
pub(crate) fn room_tables(room: &str, tables: &str) {
    let text = format!("{AROUND_TABLES}[[room]]\n{tables}");
    settings(&text);
    let Ok(config) = read_settings(&text) else {
        return;
    };
    let tables = &config.room_tables;
    assert!((1..=ROOM_POLICIES_MAX).contains(&tables.len()));
    for (at, table) in tables.iter().enumerate() {
        assert!(table.settings.events.len() <= EVENT_NAMES_MAX && !table.pattern.pattern.has_user());
        assert!(table.settings.max_event_bytes.is_none_or(|bytes| bytes <= config.max_body_bytes));
        assert!(!tables[..at].iter().any(|other| other.pattern.pattern == table.pattern.pattern));
    }
    if let Ok(room) = RoomName::new(room) {
        let counts = tables.iter().position(|table| table.pattern.pattern.covers(room.as_str(), None));
        let never = never_match(&config);
        assert!(!never.iter().any(|table| counts == Some(table.index())), "{room}: {never:?}");
    }
}

/// Settings that the keys of a table need.
const AROUND_TABLES: &str = "publish_callback = \"http://127.0.0.1:1/\"\npresence_callback = \"http://127.0.0.1:1/\"\n\
                             api_keys_file = \"/keys.toml\"\n";

pub(super) fn read_settings(text: &str) -> Result<Config, ConfigErrors> {
    Config::from_toml(Path::new("settings.toml"), text, OPEN_FILES_MAX)
}

/// The open files limit in these checks.
const OPEN_FILES_MAX: u64 = 20_000;
