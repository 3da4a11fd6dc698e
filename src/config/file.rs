//! The file layer: TOML without tables, one key per setting.
//!
//! Values become the same text as in the environment (`10` and `"10"` alike), so that the kinds alone decide what is
//! right.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeInteger, DeTable, DeValue};

use crate::config::error::{ConfigError, Place, Source};
use crate::config::kinds::Shape;
use crate::config::layers::{Given, Layers};
use crate::config::nearest::nearest;
use crate::config::read::read_text;
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
    let place = |span: Range<usize>| place(path, text, span.start);
    let (table, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        errors.extend(faults.iter().map(|fault| ConfigError::Syntax {
            place: place(fault.span().unwrap_or_default()),
            reason: fault.message().to_owned(),
        }));
        return;
    }
    let mut entries: Vec<_> = table.into_inner().into_iter().collect();
    entries.sort_unstable_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) else {
            let nearest = nearest(name, SETTINGS.iter().map(|setting| setting.key));
            errors.push(ConfigError::UnknownKey { place: place(key.span()), key: name.to_owned(), nearest });
            continue;
        };
        let raw = text.get(value.span()).unwrap_or_default();
        layers.append([Given {
            setting,
            text: plain(value.get_ref(), raw, (setting.facts)().shape == Shape::List),
            source: Source::File(place(value.span())),
        }]);
    }
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
