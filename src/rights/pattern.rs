//! Which rooms (or users) a permission is about: `lobby`, `chat-*`, `inbox-{user}`.
//!
//! | pattern | covers |
//! |---|---|
//! | `lobby` | that name and no other |
//! | `chat-*` | every name that starts with `chat-`; `*` alone, every name |
//! | `inbox-{user}` | the same with the name of the token's user in the place of `{user}`; nothing if it has none |
//!
//! Every other character matches itself. It may be percent-encoded; `*`, `{`, `}` and `%` must be, to match themselves.
//! The user's name is inserted when a name is checked, never before: a user called `*` is no wildcard.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Bytes a pattern may have: a name of 128 bytes, each percent-encoded, and a star.
pub const PATTERN_BYTES_MAX: usize = 3 * 128 + 1;

/// The placeholder for the token's user.
const USER: &str = "{user}";

/// A set of names. See the module for its form.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Pattern {
    /// What a name has to start with, part by part.
    parts: Box<[Part]>,
    /// Whether anything may follow.
    open: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Part {
    Text(Box<str>),
    User,
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PatternError {
    /// It has no bytes, or more than [`PATTERN_BYTES_MAX`].
    Length,
    /// It has a star that is not at its end.
    Star,
    /// It has a brace that is not part of `{user}`.
    Brace,
    /// It has a percent sign without two hexadecimal digits, or its decoded bytes are not UTF-8.
    Encoding,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "is empty or longer than 385 bytes",
            Self::Star => "has a * that is not at its end; write %2A to match a *",
            Self::Brace => "has a brace that is not part of {user}; write %7B or %7D to match a brace",
            Self::Encoding => "has a % that does not begin a percent-encoded character",
        })
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// The rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::Length);
        }
        let (text, open) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        let mut parts = Vec::new();
        for (index, literal) in text.split(USER).enumerate() {
            if index > 0 {
                parts.push(Part::User);
            }
            if !literal.is_empty() {
                parts.push(Part::Text(decode(literal)?));
            }
        }
        Ok(Self { parts: parts.into(), open })
    }

    /// Exactly `name`, whatever characters it has.
    #[must_use]
    pub fn exactly(name: &str) -> Self {
        Self { parts: Box::new([Part::Text(name.into())]), open: false }
    }

    /// Bytes of memory it takes beyond its own size, approximately.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::User => 0,
        };
        size_of_val::<[Part]>(&self.parts) + self.parts.iter().map(text).sum::<usize>()
    }

    /// Whether it covers different names for different users.
    #[must_use]
    pub fn has_user(&self) -> bool {
        self.parts.contains(&Part::User)
    }

    /// Whether it covers every name that `other` covers. Sets that depend on the user are compared by their form: two
    /// of them include each other if they are equal.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (self.text(), other.text()) {
            (Some(text), Some(narrower)) if self.open => narrower.starts_with(text),
            _ => self == other || (self.open && self.parts.is_empty()),
        }
    }

    /// The text that names have to start with, or to be if [`Pattern::is_open`] is false. `None` if it depends on the
    /// user.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether anything may follow what names have to start with.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether `name` is one of the set, for a token of `user`.
    #[must_use]
    pub fn covers(&self, name: &str, user: Option<&str>) -> bool {
        let mut rest = name;
        for part in &self.parts {
            let wanted = match part {
                Part::Text(text) => text,
                Part::User => match user {
                    Some(user) => user,
                    None => return false,
                },
            };
            match rest.strip_prefix(wanted) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        self.open || rest.is_empty()
    }
}

impl fmt::Display for Pattern {
    /// Writes the form that [`Pattern::parse`] reads: characters with a meaning and control characters are
    /// percent-encoded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => utf8_percent_encode(text, ENCODED).fmt(f)?,
                Part::User => f.write_str(USER)?,
            }
        }
        f.write_str(if self.open { "*" } else { "" })
    }
}

const ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(b'*').add(b'{').add(b'}').add(b' ').add(b',');

fn decode(literal: &str) -> Result<Box<str>, PatternError> {
    if literal.contains('*') {
        return Err(PatternError::Star);
    }
    if literal.contains(['{', '}']) {
        return Err(PatternError::Brace);
    }
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let mut after = literal.as_bytes().split(|byte| *byte == b'%').skip(1);
    if !after.all(|digits| is_hex(digits.first()) && is_hex(digits.get(1))) {
        return Err(PatternError::Encoding);
    }
    let decoded = percent_decode_str(literal).decode_utf8().map_err(|_| PatternError::Encoding)?;
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, name: &str, user: Option<&str>) -> bool {
        Pattern::parse(pattern).expect("a pattern").covers(name, user)
    }

    #[test]
    fn a_plain_pattern_is_one_name() {
        assert!(covers("lobby", "lobby", None));
        for other in ["Lobby", "lobby2", "lobb", "", "lobby*", "my-lobby"] {
            assert!(!covers("lobby", other, None), "{other:?}");
        }
    }

    /// What bounds the memory of grants is made of it.
    #[test]
    fn a_pattern_is_as_large_as_its_texts() {
        let bytes = |pattern: &str| Pattern::parse(pattern).expect("a pattern").bytes();
        assert_eq!(bytes("*"), 0);
        assert_eq!(bytes("chat-*"), size_of::<Part>() + 5);
        assert_eq!(bytes("{user}-chat"), 2 * size_of::<Part>() + 5);
    }

    #[test]
    fn a_star_at_the_end_is_any_ending() {
        for name in ["chat-", "chat-1", "chat-*", "chat-a/b"] {
            assert!(covers("chat-*", name, None), "{name:?}");
        }
        assert!(!covers("chat-*", "chat", None) && !covers("chat-*", "xchat-1", None));
        assert!(covers("*", "", None) && covers("*", "anything", None));
    }

    #[test]
    fn what_names_start_with_is_known_unless_it_depends_on_the_user() {
        for (pattern, text, is_open) in [
            ("lobby", Some("lobby"), false),
            ("chat-*", Some("chat-"), true),
            ("*", Some(""), true),
            ("inbox-{user}", None, false),
            ("{user}*", None, true),
        ] {
            let read = Pattern::parse(pattern).expect("a pattern");
            assert_eq!((read.text(), read.is_open()), (text, is_open), "{pattern:?}");
        }
    }

    #[test]
    fn the_users_name_is_put_in_as_it_is() {
        assert!(covers("inbox-{user}", "inbox-ann", Some("ann")));
        assert!(!covers("inbox-{user}", "inbox-bob", Some("ann")));
        assert!(covers("{user}/{user}-*", "a/a-7", Some("a")));
        assert!(covers("{user}*", "ann-7", Some("ann")) && !covers("{user}*", "bob-7", Some("ann")));
    }

    #[test]
    fn a_user_called_star_or_template_is_no_wildcard() {
        for user in ["*", "{user}", "%2A", "a*"] {
            assert!(!covers("inbox-{user}", "inbox-ann", Some(user)), "{user}");
            assert!(covers("inbox-{user}", &format!("inbox-{user}"), Some(user)), "{user}");
        }
    }

    #[test]
    fn without_a_user_a_template_covers_nothing() {
        for name in ["inbox-", "inbox-{user}", "inbox-ann", ""] {
            assert!(!covers("inbox-{user}", name, None), "{name:?}");
            assert!(!covers("{user}*", name, None), "{name:?}");
        }
    }

    #[test]
    fn what_has_a_meaning_can_be_encoded_to_have_none() {
        assert!(covers("a%2A", "a*", None) && !covers("a%2A", "ab", None));
        assert!(covers("%7Buser%7D", "{user}", Some("ann")) && !covers("%7Buser%7D", "ann", Some("ann")));
        assert!(covers("100%25*", "100% sure", None) && covers("caf%C3%A9", "café", None));
        assert!(Pattern::exactly("a*{user}%41").covers("a*{user}%41", Some("x")));
        assert!(!Pattern::exactly("a*").covers("ab", None));
    }

    #[test]
    fn texts_that_could_be_misread_are_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for (text, error) in [
            ("", PatternError::Length),
            (&long, PatternError::Length),
            ("a*b", PatternError::Star),
            ("**", PatternError::Star),
            ("*{user}", PatternError::Star),
            ("{room}", PatternError::Brace),
            ("{user", PatternError::Brace),
            ("user}", PatternError::Brace),
            ("{{user}}", PatternError::Brace),
            ("%", PatternError::Encoding),
            ("a%4", PatternError::Encoding),
            ("%zz", PatternError::Encoding),
            ("%%41", PatternError::Encoding),
            ("%FF", PatternError::Encoding),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_set_includes_what_it_covers_all_of() {
        let includes = |wide: &str, narrow: &str| {
            let parse = |text| Pattern::parse(text).expect("a pattern");
            parse(wide).includes(&parse(narrow))
        };
        for (wide, narrow) in [
            ("*", "lobby"),
            ("*", "*"),
            ("*", "inbox-{user}"),
            ("chat-*", "chat-*"),
            ("chat-*", "chat-vip-*"),
            ("chat-*", "chat-"),
            ("a%2Db", "a-b"),
            ("inbox-{user}", "inbox-{user}"),
        ] {
            assert!(includes(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("lobby", "*"),
            ("lobby", "lobby*"),
            ("chat-vip-*", "chat-*"),
            ("chat-*", "chat"),
            ("a%2A", "a*"),
            ("inbox-*", "{user}"),
            ("inbox-{user}", "inbox-ann"),
        ] {
            assert!(!includes(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_words() {
        let told = |text: &str| Pattern::parse(text).expect_err("no pattern").to_string();
        let length = format!("is empty or longer than {PATTERN_BYTES_MAX} bytes");
        assert_eq!([told(""), told(&"a".repeat(386))], [length.clone(), length]);
        assert!(Pattern::parse(&"a".repeat(385)).is_ok());
        assert!(told("a*b").contains("%2A") && told("a{b").contains("%7B") && told("a%2").contains('%'));
    }

    #[test]
    fn a_pattern_that_is_shown_reads_back() {
        for text in
            ["lobby", "chat-*", "*", "inbox-{user}", "{user}{user}-*", "a%20b%2C%2A%7B%7D%25", "a:b/c"]
        {
            assert_eq!(Pattern::parse(text).expect("a pattern").to_string(), text);
        }
        let shown = Pattern::parse("%C3%A9\u{1b}\u{9b}").expect("a pattern").to_string();
        assert_eq!(shown, "%C3%A9%1B%C2%9B");
    }
}
