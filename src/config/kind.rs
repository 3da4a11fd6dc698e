//! Kinds of values: how one is read, what it accepts in words, and how it is written back.
//!
//! Text is all a kind sees, so the file, the environment and flags can't differ in what they accept.

use std::ops::RangeInclusive;

/// Reads and writes the values of one setting.
pub(super) trait Kind {
    type Value;

    const SHAPE: Shape = Shape::One;

    /// Whether a value may hold what only the operator should know. Such text is never repeated: not in an error, and in
    /// the summary only as far as [`Kind::shown`] goes.
    const SECRET: bool = false;

    /// Stands for the value in `--help`.
    fn placeholder(&self) -> &'static str;

    /// What is accepted, bounds included; completes "wanted ...". `example` is a value that is accepted.
    fn wanted(&self, example: &str) -> String;

    /// `None` for anything but what [`Kind::wanted`] promises.
    fn parse(&self, text: &str) -> Option<Self::Value>;

    /// Text that parses to `value`.
    fn print(&self, value: &Self::Value) -> String;

    /// The same for everybody's eyes: what is secret about it is left out.
    fn shown(&self, value: &Self::Value) -> String {
        self.print(value)
    }
}

/// How a value looks in the layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    One,
    /// Comma-separated text, a TOML array, a flag that may be repeated.
    List,
    /// `true` or `false`; the bare flag means `true`.
    Bool,
}

/// `kind`, or nothing, which is written `off`. `example` is a value of `kind`.
pub(super) fn off_or<K>(kind: K, example: &'static str) -> Off<K> {
    Off { kind, word: "off", example: Some(example) }
}

/// `kind`, or nothing, which is written `0`.
pub(super) fn zero_or<K>(kind: K) -> Off<K> {
    Off { kind, word: "0", example: None }
}

/// Takes both `off` and `0` for nothing, whichever is the usual one.
pub(super) struct Off<K> {
    kind: K,
    word: &'static str,
    /// Where the default can't serve as one, being `off`.
    example: Option<&'static str>,
}

impl<K: Kind> Kind for Off<K> {
    type Value = Option<K::Value>;

    const SECRET: bool = K::SECRET;

    fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    fn wanted(&self, example: &str) -> String {
        let wanted = self.kind.wanted(self.example.unwrap_or(example));
        format!("{} or {wanted}", self.word)
    }

    fn parse(&self, text: &str) -> Option<Self::Value> {
        match text {
            "off" | "0" => Some(None),
            text => self.kind.parse(text).map(Some),
        }
    }

    fn print(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| self.word.to_owned(), |value| self.kind.print(value))
    }

    fn shown(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| self.word.to_owned(), |value| self.kind.shown(value))
    }
}

/// `counts` values of `kind`, all different. No value may hold a comma.
pub(super) fn list<K>(kind: K, counts: RangeInclusive<usize>) -> List<K> {
    List { kind, counts }
}

pub(super) struct List<K> {
    kind: K,
    counts: RangeInclusive<usize>,
}

impl<K: Kind<Value: PartialEq>> Kind for List<K> {
    type Value = Vec<K::Value>;

    const SHAPE: Shape = Shape::List;
    const SECRET: bool = K::SECRET;

    fn placeholder(&self) -> &'static str {
        self.kind.placeholder()
    }

    fn wanted(&self, example: &str) -> String {
        let (least, most) = (self.counts.start(), self.counts.end());
        format!("{least} to {most} different values, each {}", self.kind.wanted(example))
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
}

/// What stands between the commas. Empty text has no entries; an empty entry is one, and for the kind to refuse.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    let count = if text.trim().is_empty() { 0 } else { usize::MAX };
    text.split(',').map(str::trim).take(count)
}

#[cfg(test)]
mod tests {
    use super::super::bounded::integer;
    use super::*;

    #[test]
    fn off_and_zero_are_both_nothing() {
        for kind in [off_or(integer(1..=9), "5"), zero_or(integer(1..=9))] {
            assert_eq!(kind.parse("off"), Some(None));
            assert_eq!(kind.parse("0"), Some(None));
            assert_eq!(kind.parse("9"), Some(Some(9)));
            assert_eq!(kind.parse("10"), None);
        }
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
}
