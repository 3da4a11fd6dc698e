//! The summary of `--check-config`: the value of every setting and its source. It is TOML, so it can be kept as a file
//! with the same meaning, except for secrets, which are masked.

use std::fmt::Write as _;

use crate::config::error::Source;
use crate::config::kinds::{Shape, entries};
use crate::config::layers::Layers;
use crate::config::table::{Config, SETTINGS};

/// The settings, below a comment that describes the list.
pub(super) fn summary(config: &Config, layers: &Layers) -> String {
    format!("# The settings are right. Those not marked are defaults.\n{}", toml(&config.shown(), layers))
}

/// One line per setting, in the order of the table. `texts` has the same order.
pub(super) fn toml(texts: &[String], layers: &Layers) -> String {
    let mut out = String::new();
    for (setting, text) in SETTINGS.iter().zip(texts) {
        let value = literal(text, (setting.facts)().shape);
        let mark = match layers.given(setting.key).map(|given| &given.source) {
            None | Some(Source::Default) => String::new(),
            Some(Source::File(place)) => format!("  # {place}"),
            Some(Source::Env) => format!("  # {}", setting.env()),
            Some(Source::Flag) => format!("  # --{}", setting.flag()),
        };
        writeln!(out, "{} = {value}{mark}", setting.key).expect("a String takes everything");
    }
    out
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
