//! The name of a field that a peer sent, made safe to repeat in an answer.
//!
//! An answer repeats no other text of a peer. The name is short and JSON-escaped, and it holds nothing that a program
//! could read as markup, as a terminal instruction or as a line break.

use std::fmt;

use crate::types::plain_text::plain;

/// Bytes of a name that are shown. The names of known fields have at most 7.
pub const SHOWN_BYTES_MAX: usize = 48;

/// A field's name as a JSON string, quotes included.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldName(Box<str>);

impl FieldName {
    /// The first [`SHOWN_BYTES_MAX`] bytes of `name`, with `…` in place of the rest.
    ///
    /// Each byte takes at most 6, as an escape such as `\u003c`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let shown = &name[..name.floor_char_boundary(SHOWN_BYTES_MAX)];
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

/// Characters that begin a tag or an entity. Escaped, so that no program that guesses types takes the answer for a
/// page.
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
        assert_eq!(shown, format!("\"{}…\"", "é".repeat(SHOWN_BYTES_MAX / 2)));
        let worst = FieldName::new(&"<".repeat(100)).to_string();
        assert_eq!(worst.len(), 6 * SHOWN_BYTES_MAX + "\"…\"".len());
    }
}
