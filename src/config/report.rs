//! The summary of `--check-config`: the value of every setting and its source. It is TOML, so it can be kept as a file
//! with the same meaning, except for secrets, which are masked.

use std::fmt::Write as _;

use crate::config::error::Source;
use crate::config::kinds::{Shape, entries};
use crate::config::layers::Layers;
use crate::config::room_table::{MATCH, ROOM_SETTINGS, RoomSettings, RoomTable};
use crate::config::setting::Setting;
use crate::config::table::{Config, SETTINGS};

/// The settings, below a comment that describes the list.
pub(super) fn summary(config: &Config, layers: &Layers) -> String {
    let settings = print((config, &config.shown()), RoomSettings::shown, layers);
    format!("# The settings are right. Those not marked are defaults.\n{settings}")
}

/// The settings, secrets included, without a word about where they come from.
pub(super) fn toml(config: &Config) -> String {
    print((config, &config.written()), RoomSettings::written, &Layers::default())
}

/// One line per setting, in the order of the table, and then each `[[room]]` with what it changes. `texts` has the order
/// of the table.
fn print(
    (config, texts): (&Config, &[String]),
    texts_of: fn(&RoomSettings) -> Vec<String>,
    layers: &Layers,
) -> String {
    let mut out = String::new();
    for (setting, text) in SETTINGS.iter().zip(texts) {
        put(&mut out, setting, text, layers);
    }
    let (nothing, defaults) = (Layers::default(), RoomSettings::default());
    for (at, RoomTable { pattern, settings }) in config.room_tables.iter().enumerate() {
        let given = layers.rooms.get(at).map_or(&nothing, |table| &table.keys);
        let differing = defaults.differing(settings);
        out.push_str("\n[[room]]\n");
        put(&mut out, &MATCH, &pattern.to_string(), given);
        for (setting, text) in ROOM_SETTINGS.iter().zip(texts_of(settings)) {
            if differing.contains(&setting.key) || given.given(setting.key).is_some() {
                put(&mut out, setting, &text, given);
            }
        }
    }
    out
}

fn put(out: &mut String, setting: &Setting, text: &str, layers: &Layers) {
    let value = literal(text, (setting.facts)().shape);
    let mark = match layers.given(setting.key).map(|given| &given.source) {
        None | Some(Source::Default) => String::new(),
        Some(Source::File(place)) => format!("  # {place}"),
        Some(Source::Env) => format!("  # {}", setting.env()),
        Some(Source::Flag) => format!("  # --{}", setting.flag()),
    };
    writeln!(out, "{} = {value}{mark}", setting.key).expect("a String takes everything");
}

/// `text` as TOML writes it.
fn literal(text: &str, shape: Shape) -> String {
    match shape {
        Shape::Bool => text.to_owned(),
        Shape::One if is_integer(text) => text.to_owned(),
        Shape::One => quoted(text),
        Shape::List => format!("[{}]", entries(text).map(quoted).collect::<Vec<_>>().join(", ")),
    }
}

/// Whether TOML writes this integer in the same way. TOML refuses `00` and integers of more than 64 bits.
fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number >= 0 && number.to_string() == text)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_toml_takes_for_an_integer_stands_without_quotes() {
        for text in ["0", "10", "9223372036854775807"] {
            assert_eq!(literal(text, Shape::One), text);
        }
        for text in ["", "00", "007", "9223372036854775808", "1s"] {
            assert_eq!(literal(text, Shape::One), format!("\"{text}\""));
        }
    }
}
