//! What a member shows beside its name: a small JSON value.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// Bytes of JSON text that a member may show.
pub const PRESENCE_DATA_BYTES_MAX: usize = 1024;

/// Bytes that all members together may show: some sixty for each of the most members that there can be. Whoever would show
/// more shows what it did before.
pub const PRESENCE_DATA_TOTAL_BYTES_MAX: usize = 64 << 20;

/// Why a text cannot be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DataError {
    /// It has more than [`PRESENCE_DATA_BYTES_MAX`] bytes.
    TooLarge,
    /// It is not JSON that a strict reader takes inside of a message, or has line breaks.
    Invalid,
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "is too large",
            Self::Invalid => "is not JSON that every reader takes",
        })
    }
}

impl std::error::Error for DataError {}

/// One JSON value in one line, at most [`PRESENCE_DATA_BYTES_MAX`] bytes. It is sent as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresenceData(Arc<str>);

impl PresenceData {
    /// Checks `text`, which is JSON without white space between its tokens.
    ///
    /// One member's data is part of every other member's message. So it has to be readable for the strictest of
    /// readers: no half surrogate pairs, no numbers out of range, and not nested so deep that a message with it is
    /// deeper than readers go.
    ///
    /// # Errors
    ///
    /// The rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, DataError> {
        if text.len() > PRESENCE_DATA_BYTES_MAX {
            return Err(DataError::TooLarge);
        }
        // A message has the data inside of three levels; one more is to spare.
        let within = format!("[[[[{text}]]]]");
        let is_one = matches!(serde_json::from_str(&within), Ok(Value::Array(outer)) if is_one(&outer));
        if !is_one || text.contains(char::is_control) {
            return Err(DataError::Invalid);
        }
        Ok(Self(text.into()))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes of a member's data, if it has any.
    pub(super) fn len_of(data: Option<&Self>) -> usize {
        data.map_or(0, |data| data.as_str().len())
    }
}

/// Whether each of the four levels holds one value: `1],[2` would be two.
fn is_one(mut level: &[Value]) -> bool {
    for _ in 0..3 {
        match level {
            [Value::Array(inner)] => level = inner,
            _ => return false,
        }
    }
    level.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_json_value_is_kept_as_it_was_written() {
        for text in ["{\"b\":1.50,\"a\":[]}", "\"x\"", "12e3", "true", "null", "[]", "\"\\n\\u0000\""] {
            assert_eq!(PresenceData::new(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn one_member_cannot_spoil_the_message_of_all() {
        let deep = format!("{}{}", "[".repeat(126), "]".repeat(126));
        let texts = [
            "",
            "{",
            "1,2",
            "1],[2",
            "1]],[[2",
            "1]]],[[[2",
            "1}",
            "\"\\ud800\"",
            "1e999",
            "[1,\n2]",
            "\"\u{1}\"",
            "'x'",
            &deep,
        ];
        for text in texts {
            assert_eq!(PresenceData::new(text), Err(DataError::Invalid), "{text:?}");
        }
    }

    #[test]
    fn the_bound_is_inclusive() {
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert!(PresenceData::new(&text(PRESENCE_DATA_BYTES_MAX)).is_ok());
        assert_eq!(PresenceData::new(&text(PRESENCE_DATA_BYTES_MAX + 1)), Err(DataError::TooLarge));
    }
}
