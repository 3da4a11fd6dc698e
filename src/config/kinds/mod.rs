//! Kinds of values: how a value is parsed, described and printed.
//!
//! A kind sees only text, so the file, the environment and flags can't differ in what they accept.

pub mod access;
pub mod addresses;
pub mod bounded;
pub mod choices;
pub mod listen;
pub mod memory;
pub mod order;
pub mod origins;
pub mod path;
pub mod rate;
pub mod requests;
pub mod rooms;
pub mod secret;
pub mod token_key;
pub mod units;
pub mod unix_socket;
pub mod upstream;

use std::ops::RangeInclusive;

/// Parses and prints the values of one setting.
pub(crate) trait Kind {
    type Value;

    const SHAPE: Shape = Shape::One;

    /// Stands for the value in `--help`.
    fn placeholder(&self) -> &'static str;

    /// Says what is accepted, bounds included; completes "wanted ...". `example` is a value that is accepted.
    fn wanted(&self, example: &str) -> String;

    /// The same for a `text` that is not accepted; more precise if `text` shows what was meant. Repeats nothing that
    /// may be secret.
    fn wanted_for(&self, _text: &str, example: &str) -> String {
        self.wanted(example)
    }

    /// Parses `text`. `None` for anything but what [`Kind::wanted`] says.
    fn parse(&self, text: &str) -> Option<Self::Value>;

    /// Whether `text` is a zero of this kind, with or without a unit, such as `0s`. For settings that can be off, each
    /// of them means off.
    fn is_zero(&self, _text: &str) -> bool {
        false
    }

    /// Text that parses to `value`.
    fn print(&self, value: &Self::Value) -> String;

    /// Text of `value` with its secrets masked, for logs and summaries.
    fn shown(&self, value: &Self::Value) -> String {
        self.print(value)
    }

    /// `text`, which is not accepted, with its secrets masked.
    fn masked(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// A kind for which these functions are enough: a value has no secrets, no zero and no parts.
pub(crate) struct Plain<T> {
    pub(crate) placeholder: &'static str,
    /// Says what is accepted; its argument is an example.
    pub(crate) wanted: fn(&str) -> String,
    pub(crate) parse: fn(&str) -> Option<T>,
    pub(crate) print: fn(&T) -> String,
}

impl<T> Kind for Plain<T> {
    type Value = T;

    fn placeholder(&self) -> &'static str {
        self.placeholder
    }

    fn wanted(&self, example: &str) -> String {
        (self.wanted)(example)
    }

    fn parse(&self, text: &str) -> Option<T> {
        (self.parse)(text)
    }

    fn print(&self, value: &T) -> String {
        (self.print)(value)
    }
}

/// A kind whose values have secrets, or may have.
pub(crate) struct Masked<T> {
    pub(crate) plain: Plain<T>,
    /// Text of a value with its secrets masked.
    pub(crate) shown: fn(&T) -> String,
    /// Masks the secrets of a text that is not accepted.
    pub(crate) mask: fn(&str) -> String,
}

impl<T> Kind for Masked<T> {
    type Value = T;

    fn placeholder(&self) -> &'static str {
        self.plain.placeholder
    }

    fn wanted(&self, example: &str) -> String {
        self.plain.wanted(example)
    }

    fn parse(&self, text: &str) -> Option<T> {
        self.plain.parse(text)
    }

    fn print(&self, value: &T) -> String {
        self.plain.print(value)
    }

    fn shown(&self, value: &T) -> String {
        (self.shown)(value)
    }

    fn masked(&self, text: &str) -> String {
        (self.mask)(text)
    }
}

/// The form of a value in the layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    One,
    /// Comma-separated text, a TOML array, a flag that may be repeated.
    List,
    /// `true` or `false`; the bare flag means `true`.
    Bool,
}

/// A value of `kind`, or `off` for none. `example` is a value of `kind`.
pub(crate) fn off_or<K>(kind: K, example: &'static str) -> Off<K> {
    Off { kind, word: "off", example: Some(example) }
}

/// A value of `kind`, or `0` for none.
pub(crate) fn zero_or<K>(kind: K) -> Off<K> {
    Off { kind, word: "0", example: None }
}

/// Parses `off`, `0` and any other zero of its kind as `None`. Prints `word` for it.
pub(crate) struct Off<K> {
    kind: K,
    word: &'static str,
    /// An example for messages, where the default is `off` and cannot serve as one.
    example: Option<&'static str>,
}

impl<K: Kind> Kind for Off<K> {
    type Value = Option<K::Value>;

    fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    fn wanted(&self, example: &str) -> String {
        let wanted = self.kind.wanted(self.example.unwrap_or(example));
        format!("{} or {wanted}", self.word)
    }

    fn wanted_for(&self, text: &str, example: &str) -> String {
        let wanted = self.kind.wanted_for(text, self.example.unwrap_or(example));
        format!("{} or {wanted}", self.word)
    }

    fn parse(&self, text: &str) -> Option<Self::Value> {
        match text {
            "off" | "0" => Some(None),
            text if self.kind.is_zero(text) => Some(None),
            text => self.kind.parse(text).map(Some),
        }
    }

    fn print(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| self.word.to_owned(), |value| self.kind.print(value))
    }

    fn shown(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| self.word.to_owned(), |value| self.kind.shown(value))
    }

    fn masked(&self, text: &str) -> String {
        self.kind.masked(text)
    }
}

/// A value of `kind`, or `auto` for one that the server computes. `example` is a value of `kind`.
pub(crate) fn auto_or<K: Kind>(kind: K, example: &'static str) -> Auto<K> {
    Auto { kind, word: "auto", example }
}

/// A value of `kind`, or `server` for the server's own setting of the same name. `example` is a value of `kind`.
pub(crate) fn server_or<K: Kind>(kind: K, example: &'static str) -> Auto<K> {
    Auto { kind, word: "server", example }
}

/// Parses `word` as `None`.
pub(crate) struct Auto<K> {
    kind: K,
    word: &'static str,
    example: &'static str,
}

impl<K: Kind> Kind for Auto<K> {
    type Value = Option<K::Value>;

    fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    fn wanted(&self, _: &str) -> String {
        format!("{} or {}", self.word, self.kind.wanted(self.example))
    }

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text == self.word { Some(None) } else { self.kind.parse(text).map(Some) }
    }

    fn print(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| self.word.to_owned(), |value| self.kind.print(value))
    }
}

/// A list of values of `kind`, all different, whose number is in `counts`. No value may contain a comma.
pub(crate) fn list<K>(kind: K, counts: RangeInclusive<usize>) -> List<K> {
    List { kind, counts }
}

pub(crate) struct List<K> {
    kind: K,
    counts: RangeInclusive<usize>,
}

impl<K: Kind<Value: PartialEq>> Kind for List<K> {
    type Value = Vec<K::Value>;

    const SHAPE: Shape = Shape::List;

    fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    fn wanted(&self, example: &str) -> String {
        self.values_each(&self.kind.wanted(example))
    }

    fn wanted_for(&self, text: &str, example: &str) -> String {
        let entries: Vec<&str> = entries(text).collect();
        let values: Vec<_> = entries.iter().map(|entry| self.kind.parse(entry)).collect();
        if let Some(wrong) = values.iter().position(Option::is_none) {
            let wanted = self.kind.wanted_for(entries[wrong], example);
            return match entries.len() {
                1 => self.values_each(&wanted),
                _ => format!("in entry {} {wanted}", wrong + 1),
            };
        }
        let twin_of = |at: usize| values[..at].iter().position(|before| *before == values[at]);
        match (0..values.len()).find_map(|at| Some((at, twin_of(at)?))) {
            Some((at, before)) => {
                format!("different values, and entry {} is entry {} again", at + 1, before + 1)
            }
            None => self.wanted(example),
        }
    }

    fn parse(&self, text: &str) -> Option<Self::Value> {
        let mut values = Vec::new();
        for entry in entries(text) {
            let value = self.kind.parse(entry)?;
            if values.contains(&value) || values.len() == *self.counts.end() {
                return None;
            }
            values.push(value);
        }
        self.counts.contains(&values.len()).then_some(values)
    }

    fn print(&self, value: &Self::Value) -> String {
        value.iter().map(|value| self.kind.print(value)).collect::<Vec<_>>().join(",")
    }

    fn shown(&self, value: &Self::Value) -> String {
        value.iter().map(|value| self.kind.shown(value)).collect::<Vec<_>>().join(",")
    }

    /// Masks the text as a whole: a secret may contain a comma.
    fn masked(&self, text: &str) -> String {
        self.kind.masked(text)
    }
}

impl<K> List<K> {
    fn values_each(&self, wanted: &str) -> String {
        format!("{} to {} different values, each {wanted}", self.counts.start(), self.counts.end())
    }
}

/// The texts between the commas. Empty text has no entries. An empty entry is an entry, which the kind refuses.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = &str> {
    let count = if text.trim().is_empty() { 0 } else { usize::MAX };
    text.split(',').map(str::trim).take(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::bounded::{MS, SECOND, duration, integer, size};

    #[test]
    fn off_and_zero_are_both_nothing() {
        for kind in [off_or(integer(1..=9), "5"), zero_or(integer(1..=9))] {
            assert_eq!(kind.parse("off"), Some(None));
            assert_eq!(kind.parse("0"), Some(None));
            assert_eq!(kind.parse("9"), Some(Some(9)));
            assert_eq!(kind.parse("10"), None);
        }
    }

    /// `0s` used to be refused where `0` was accepted.
    #[test]
    fn a_zero_with_a_unit_is_nothing_as_well() {
        let span = || duration(MS..=SECOND);
        for text in ["off", "0", "0s", "0ms", "0 h", "0m 0s"] {
            assert_eq!(
                (zero_or(span()).parse(text), off_or(span(), "1s").parse(text)),
                (Some(None), Some(None)),
                "{text}"
            );
        }
        assert_eq!(zero_or(integer(1..=9)).parse("00"), Some(None));
        assert_eq!(zero_or(size(1..=9)).parse("0 KiB"), Some(None));
        for text in ["", "s", "-0s", "0 parsecs", "0.5ms", "1us"] {
            assert_eq!(zero_or(span()).parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn auto_is_a_word_of_its_own() {
        let kind = auto_or(integer(1..=9), "5");
        assert_eq!(kind.parse("auto"), Some(None));
        assert_eq!(kind.parse("9"), Some(Some(9)));
        for text in ["0", "off", "10", "AUTO", ""] {
            assert_eq!(kind.parse(text), None, "{text:?}");
        }
        assert_eq!([kind.print(&None), kind.print(&Some(9))], ["auto", "9"]);
    }

    #[test]
    fn a_list_has_neither_holes_nor_twins_nor_too_many() {
        let kind = list(integer(0..=9), 0..=2);
        assert_eq!(kind.parse("1, 2"), Some(vec![1, 2]));
        assert_eq!(kind.parse(""), Some(vec![]));
        for text in ["1,", ",", "1,,2", "1,1", "1,2,3"] {
            assert_eq!(kind.parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_list_is_told_by_its_entry() {
        let kind = list(integer(0..=9), 1..=3);
        for (text, wanted) in [
            ("x", "1 to 3 different values, each an integer in 0..=9"),
            ("1,2,x", "in entry 3 an integer in 0..=9"),
            ("1,", "in entry 2 an integer in 0..=9"),
            ("1,2,2", "different values, and entry 3 is entry 2 again"),
            ("", "1 to 3 different values, each an integer in 0..=9"),
            ("1,2,3,4", "1 to 3 different values, each an integer in 0..=9"),
        ] {
            assert_eq!(kind.wanted_for(text, "5"), wanted, "{text:?}");
        }
    }
}
