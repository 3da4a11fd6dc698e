//! The name of a field that a peer sent, made fit to stand in an answer.
//!
//! This is the only text of a peer's that an answer repeats. It is short, it is JSON-escaped, and it holds nothing that a
//! reader could take for markup, for an instruction to a terminal, or for the end of a line.

use std::fmt;

use crate::types::plain_text::plain;

/// Bytes of a name that are shown. The fields that mean something here have 7 at most.
pub const FIELD_NAME_BYTES_MAX: usize = 48;

/// A field's name as a JSON string, quotes included.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldName(Box<str>);

impl FieldName {
    /// The first [`FIELD_NAME_BYTES_MAX`] bytes of `name`, with `…` in place of the rest.
    ///
    /// Each byte takes 6 at most, as an escape: `\u003c`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let shown = &name[..name.floor_char_boundary(FIELD_NAME_BYTES_MAX)];
        let rest = if shown.len() < name.len() { "…" } else { "" };
        let json = serde_json::to_string(&[shown, rest].concat()).expect("text always serialises");
        let mut escaped = plain(&json);
        for (mark, escape) in MARKUP {
            escaped = escaped.replace(mark, escape);
        }
        Self(escaped.into())
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What begins a tag or an entity. The answer is no page, and not even a reader that guesses may take it for one.
const MARKUP: [(char, &str); 3] = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_as_it_was_sent() {
        for name in
            ["", "romm", "Räume", "a\"b\\c", "<script>&", "a\nb\0\u{1b}[31m\u{7f}\u{202e}\u{2028}", "😀"]
        {
            let shown = FieldName::new(name).to_string();
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), name, "{shown}");
        }
    }

    #[test]
    fn a_name_is_neither_markup_nor_an_instruction() {
        let shown = FieldName::new("<b>&amp;\r\n\u{1b}\u{9b}\u{7f}\u{202e}\u{2029}").to_string();
        let odd = |c: char| c.is_control() || matches!(c, '<' | '>' | '&' | '\u{202e}' | '\u{2029}');
        assert!(!shown.contains(odd), "{shown:?}");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let shown = FieldName::new(&"é".repeat(1_000_000)).to_string();
        assert_eq!(shown, format!("\"{}…\"", "é".repeat(FIELD_NAME_BYTES_MAX / 2)));
        let worst = FieldName::new(&"<".repeat(100)).to_string();
        assert_eq!(worst.len(), 6 * FIELD_NAME_BYTES_MAX + "\"…\"".len());
    }
}
