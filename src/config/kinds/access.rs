//! Kinds of the settings about access: room patterns, texts, paths, and the name of a cookie.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::kinds::{Kind, Plain};
use crate::rights::pattern::{Pattern, PatternError};

/// Room patterns one setting may have.
pub const PUBLIC_ROOMS_MAX: usize = 64;

/// A room pattern, with its text as written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomPattern {
    text: String,
    /// The parsed text.
    pub pattern: Pattern,
}

impl FromStr for RoomPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Pattern::parse(text).map(|pattern| Self { text: text.to_owned(), pattern })
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A [`Pattern`] for clients without a token, which have no user, so without `{user}`. A comma in it is written `%2C`.
pub(crate) fn room_pattern() -> PatternKind {
    PatternKind { without_user: "clients without a token have no user" }
}

/// A [`Pattern`] for what holds whoever the user is, so without `{user}`.
pub(crate) fn rooms_of_all() -> PatternKind {
    PatternKind { without_user: "a room is the same for all users" }
}

pub(crate) struct PatternKind {
    /// Why `{user}` is not accepted.
    without_user: &'static str,
}

impl Kind for PatternKind {
    type Value = RoomPattern;

    fn placeholder(&self) -> &'static str {
        "PATTERN"
    }

    fn wanted(&self, _: &str) -> String {
        "a room such as lobby, or what its name begins with and a star, such as public-*".to_owned()
    }

    fn wanted_for(&self, text: &str, example: &str) -> String {
        let wanted = self.wanted(example);
        if text.contains("{user}") { format!("{wanted}: {}", self.without_user) } else { wanted }
    }

    fn parse(&self, text: &str) -> Option<RoomPattern> {
        text.parse().ok().filter(|room: &RoomPattern| !room.pattern.has_user())
    }

    fn print(&self, value: &RoomPattern) -> String {
        value.to_string()
    }
}

/// Text without commas and control characters.
pub(crate) fn text() -> Plain<String> {
    Plain {
        placeholder: "TEXT",
        wanted: |example| {
            let example = if example.is_empty() { "tidegate" } else { example };
            format!("1 to 256 characters without commas, such as {example}")
        },
        parse: parse_text,
        print: String::clone,
    }
}

fn parse_text(text: &str) -> Option<String> {
    let is_plain = |c: char| c != ',' && !c.is_control();
    ((1..=TEXT_BYTES_MAX).contains(&text.len()) && text.chars().all(is_plain)).then(|| text.to_owned())
}

const TEXT_BYTES_MAX: usize = 256;

/// The absolute path of a file.
pub(crate) fn file_path() -> Plain<PathBuf> {
    Plain {
        placeholder: "FILE",
        wanted: |example| format!("an absolute path such as {example}"),
        parse: parse_path,
        print: |path| path.display().to_string(),
    }
}

fn parse_path(text: &str) -> Option<PathBuf> {
    let odd = |c: char| c == char::REPLACEMENT_CHARACTER || c.is_control();
    (text.starts_with('/') && !text.contains(odd)).then(|| text.into())
}

/// The name of a cookie: a token of RFC 6265 §4.1.1.
pub(crate) fn cookie_name() -> Plain<String> {
    Plain {
        placeholder: "NAME",
        wanted: |example| format!("the name of a cookie such as {example}"),
        parse: parse_cookie_name,
        print: String::clone,
    }
}

fn parse_cookie_name(text: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let fits = (1..=COOKIE_NAME_BYTES_MAX).contains(&text.len());
    (fits && text.bytes().all(is_token)).then(|| text.to_owned())
}

const COOKIE_NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read_back_as_they_were_written() {
        for text in ["lobby", "public-*", "*", "a%2Cb"] {
            let read = room_pattern().parse(text).expect("a pattern");
            assert_eq!(room_pattern().print(&read), text);
        }
        assert!(room_pattern().parse("a*b").is_none() && room_pattern().parse("").is_none());
    }

    /// It used to be accepted, and covered no room.
    #[test]
    fn a_public_room_is_nobodys_own() {
        assert!(room_pattern().parse("inbox-{user}").is_none());
        assert!(
            room_pattern()
                .wanted_for("inbox-{user}", "")
                .ends_with("public-*: clients without a token have no user")
        );
        assert_eq!(room_pattern().wanted_for("a*b", ""), room_pattern().wanted(""));
        assert!(room_pattern().parse("%7Buser%7D").is_some(), "a room may have that name");
    }

    #[test]
    fn a_cookies_name_is_one_word() {
        assert_eq!(cookie_name().parse("__Host-token").as_deref(), Some("__Host-token"));
        for text in ["", "a b", "a=b", "a;b", "a\"b", "é"] {
            assert_eq!(cookie_name().parse(text), None, "{text:?}");
        }
    }
}
