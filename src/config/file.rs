//! The file layer: TOML with one key per setting, and the tables `[[room]]`.
//!
//! Values become the same text as in the environment (`10` and `"10"` alike), so that the kinds alone decide what is
//! right.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use crate::config::error::{ConfigError, Place, Source};
use crate::config::kinds::Shape;
use crate::config::layers::{Given, GivenTable, Layers};
use crate::config::nearest::nearest;
use crate::config::read::read_text;
use crate::config::room_table;
use crate::config::setting::Setting;
use crate::config::table::SETTINGS;

/// Reads the file at `path`, named by `source`, into `layers`, and its errors into `errors`. A file that is not TOML
/// gives only errors: values recovered from it may not be what was meant.
pub(super) fn read(path: &Path, source: Source, layers: &mut Layers, errors: &mut Vec<ConfigError>) {
    match read_text(path) {
        Ok(text) => parse(path, &text, layers, errors),
        Err(reason) => errors.push(ConfigError::Unreadable { source, path: path.to_owned(), reason }),
    }
}

/// Reads `text`, the content of the file at `path`, in the same way.
pub(super) fn parse(path: &Path, text: &str, layers: &mut Layers, errors: &mut Vec<ConfigError>) {
    let mut file = File { path, text, errors };
    let (table, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        file.errors.extend(faults.iter().map(|fault| ConfigError::Syntax {
            place: place(path, text, fault.span().unwrap_or_default().start),
            reason: fault.message().to_owned(),
        }));
        return;
    }
    for (key, value) in in_order(table.get_ref()) {
        let name = key.get_ref().as_ref();
        if name == ROOM {
            layers.rooms.extend(file.rooms(value));
        } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) {
            layers.append([file.given(setting, value)]);
        } else {
            file.unknown(key, value.get_ref());
        }
    }
}

/// The key of the tables.
const ROOM: &str = "room";

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// The entries of a table, as they are written.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| key.span().start);
    entries
}

/// A file that is read.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    errors: &'a mut Vec<ConfigError>,
}

impl File<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        place(self.path, self.text, span.start)
    }

    /// As it is written.
    fn raw(&self, value: &Value<'_>) -> &str {
        self.text.get(value.span()).unwrap_or_default()
    }

    fn given(&self, setting: &'static Setting, value: &Value<'_>) -> Given {
        let text = plain(value.get_ref(), self.raw(value), (setting.facts)().shape == Shape::List);
        Given { setting, text, source: Source::File(self.place(value.span())) }
    }

    /// The tables `[[room]]`, or an array that means the same.
    fn rooms(&mut self, value: &Value<'_>) -> Vec<GivenTable> {
        let DeValue::Array(entries) = value.get_ref() else {
            self.no_table(value);
            return Vec::new();
        };
        entries.iter().filter_map(|entry| self.room(entry)).collect()
    }

    fn room(&mut self, value: &Value<'_>) -> Option<GivenTable> {
        let DeValue::Table(table) = value.get_ref() else {
            self.no_table(value);
            return None;
        };
        let mut keys = Layers::default();
        for (key, value) in in_order(table) {
            let name = key.get_ref().as_ref();
            match room_table::keys().find(|setting| setting.key == name) {
                Some(setting) if has_commas(value.get_ref()) => {
                    let source = Source::File(self.place(value.span()));
                    let (value, wanted) = (self.raw(value).to_owned(), "values without commas".to_owned());
                    self.errors.push(ConfigError::Value { source, key: setting.key, value, wanted });
                }
                Some(setting) => keys.append([self.given(setting, value)]),
                None => self.unknown_of_room(key),
            }
        }
        Some(GivenTable { place: self.place(value.span()), keys })
    }

    fn no_table(&mut self, value: &Value<'_>) {
        self.errors.push(ConfigError::Value {
            source: Source::File(self.place(value.span())),
            key: ROOM,
            value: self.raw(value).to_owned(),
            wanted: "tables that each begin with [[room]]".to_owned(),
        });
    }

    fn unknown(&mut self, key: &Key<'_>, value: &DeValue<'_>) {
        if room_table::keys().any(|setting| setting.key == key.get_ref().as_ref()) {
            self.push_unknown(key, None, "it below a [[room]]".to_owned());
        } else if value
            .as_array()
            .is_some_and(|entries| entries.iter().any(|entry| entry.get_ref().is_table()))
        {
            self.push_unknown(key, None, "[[room]], the only tables there are".to_owned());
        } else {
            let nearest = nearest(key.get_ref(), SETTINGS.iter().map(|setting| setting.key));
            self.push_unknown(key, nearest, "one that --help lists".to_owned());
        }
    }

    /// What is written below a table belongs to the table, which is easily forgotten.
    fn unknown_of_room(&mut self, key: &Key<'_>) {
        let is_of_server = SETTINGS.iter().any(|setting| setting.key == key.get_ref().as_ref());
        if is_of_server {
            let wanted = "it above the first [[room]], since it is a setting of the server";
            return self.push_unknown(key, None, wanted.to_owned());
        }
        let keys = || room_table::keys().map(|setting| setting.key);
        let wanted = format!("one of {}", keys().collect::<Vec<_>>().join(", "));
        self.push_unknown(key, nearest(key.get_ref(), keys()), wanted);
    }

    fn push_unknown(&mut self, key: &Key<'_>, nearest: Option<&'static str>, wanted: String) {
        let (place, key) = (self.place(key.span()), key.get_ref().clone().into_owned());
        self.errors.push(ConfigError::UnknownKey { place, key, nearest, wanted });
    }
}

/// Whether it is an array with a text that would become two values.
fn has_commas(value: &DeValue<'_>) -> bool {
    let DeValue::Array(entries) = value else { return false };
    entries.iter().filter_map(|entry| entry.get_ref().as_str()).any(|text| text.contains(','))
}

/// `value` as the environment would hold it. Values that no kind accepts stay `raw`, for the error message.
fn plain(value: &DeValue<'_>, raw: &str, list: bool) -> String {
    match value {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Integer(integer) => decimal(integer).unwrap_or_else(|| raw.to_owned()),
        DeValue::Array(entries) if list && entries.iter().all(|entry| entry.get_ref().is_str()) => {
            let texts: Vec<_> = entries.iter().filter_map(|entry| entry.get_ref().as_str()).collect();
            texts.join(",")
        }
        _ => raw.to_owned(),
    }
}

/// Integers in decimal: TOML also writes `1_000` and `0x400`.
fn decimal(integer: &DeInteger<'_>) -> Option<String> {
    let value = i128::from_str_radix(integer.as_str(), integer.radix()).ok()?;
    Some(value.to_string())
}

fn place(path: &Path, text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
