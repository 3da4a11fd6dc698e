//! Parses the query string of each resource. Pure: text in, checked values or a [`Problem`] out.
//!
//! Decoding is `application/x-www-form-urlencoded` (WHATWG URL §5.1) with one difference: bad percent-encoding and
//! invalid UTF-8 are refused instead of replaced, because a replaced character would name another room. Parameters with
//! unknown names are ignored and their values not read: proxies and cache busters add them. Known ones may not be
//! repeated.

mod list;
mod members;
mod mute;
mod stream;

use std::borrow::Cow;
use std::time::Duration;

use crate::answer::problem::{Code, Problem};
pub use crate::http::api::query::list::{RoomsQuery, Sort};
pub use crate::http::api::query::members::MembersQuery;
pub use crate::http::api::query::mute::{MUTE_MAX, MuteQuery};
pub use crate::http::api::query::stream::{POLL_MAX, StreamQuery};
use crate::types::name::{EVENT_ID_BYTES_MAX, is_id_byte};
use crate::types::percent;

/// Events, or rooms, that a page may have.
pub const LIMIT_MAX: usize = 1_000;

/// Events, or rooms, that a page has when the request does not say.
pub const LIMIT_DEFAULT: usize = 100;

/// The longest time a disconnected user can be refused. Also keeps `now + stay_away` far from overflow.
pub const STAY_AWAY_MAX: Duration = Duration::from_hours(24);

/// Which page of a room's history to return.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryQuery {
    /// Events on the page: 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// Only events before this one; the newest page if absent. Has the shape of an event id, but may not be one.
    pub before: Option<String>,
}

impl HistoryQuery {
    /// Reads `?limit=N&before=<event id>`.
    ///
    /// # Errors
    ///
    /// [`Code::LimitInvalid`], [`Code::BeforeInvalid`] or [`Code::QueryInvalid`]. An empty `before` is an error: taken
    /// for "the newest page" it would send a client that pages backwards round in circles.
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut limit = Once::default();
        let mut before = Once::default();
        each(query, |name, value| match name {
            "limit" => limit.set(page_limit(&decode(value)?)?),
            "before" => before.set(event_position(decode(value)?)?),
            _ => Ok(()),
        })?;
        Ok(Self { limit: limit.0.unwrap_or(LIMIT_DEFAULT), before: before.0 })
    }
}

/// How to disconnect a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DisconnectQuery {
    /// How long the user's new connections to the room are refused, at most [`STAY_AWAY_MAX`].
    pub stay_away: Option<Duration>,
}

impl DisconnectQuery {
    /// Reads `?stay_away=60`, in seconds, or with units as in `stay_away=90s` or `stay_away=1h30m`.
    ///
    /// # Errors
    ///
    /// [`Code::QueryInvalid`].
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let detail = "a time is written as seconds, or as in 90s or 1h30m, at most a day";
        let stay_away = time(query, "stay_away", |time| time <= STAY_AWAY_MAX, detail)?;
        Ok(Self { stay_away })
    }
}

/// A parameter that may occur once. Two different values are ambiguous, and proxies differ in which one they take.
struct Once<T>(Option<T>);

// Not derived: that would ask for `T: Default`.
impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Once<T> {
    fn set(&mut self, value: T) -> Result<(), Problem> {
        match self.0.replace(value) {
            None => Ok(()),
            Some(_) => Err(invalid("this parameter may occur once; id is the same as user")),
        }
    }
}

fn invalid(detail: &'static str) -> Problem {
    Problem::new(Code::QueryInvalid).with_detail(detail)
}

/// Calls `take` with the name and the value of each parameter. A problem with a value is returned with the parameter's
/// name.
///
/// Unknown names are ignored, so the name in a problem is always a known one.
fn each(query: Option<&str>, mut take: impl FnMut(&str, &str) -> Result<(), Problem>) -> Result<(), Problem> {
    for (name, value) in pairs(query) {
        let name = decode(name)?;
        take(&name, value).map_err(|problem| problem.about(&name))?;
    }
    Ok(())
}

/// The raw `name=value` pairs; a name alone has an empty value.
fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes one name or value: `+` is a space, `%XX` a byte.
fn decode(raw: &str) -> Result<Cow<'_, str>, Problem> {
    let decoded = if raw.contains('+') {
        percent::decode(&raw.replace('+', " ")).map(|text| Cow::Owned(text.into_owned()))
    } else {
        percent::decode(raw)
    };
    decoded.ok_or_else(|| {
        invalid("percent-encoding is % and two hexadecimal digits for each byte, and has to be UTF-8")
    })
}

/// Parses decimal digits only (`str::parse` would take a `+`). Numbers past `usize` count as `usize::MAX`, which every
/// caller caps or refuses.
fn number(text: &str) -> Option<usize> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(usize::MAX))
}

/// Parses the number of things on a page.
fn page_limit(text: &str) -> Result<usize, Problem> {
    let number = number(text).filter(|number| (1..=LIMIT_MAX).contains(number));
    number.ok_or_else(|| Code::LimitInvalid.into())
}

/// Reads the parameter `wanted`: a time that `fits`. `detail` says how such a time is written.
fn time(
    query: Option<&str>,
    wanted: &str,
    fits: impl Fn(Duration) -> bool,
    detail: &'static str,
) -> Result<Option<Duration>, Problem> {
    let mut time = Once::default();
    each(query, |name, value| {
        if name != wanted {
            return Ok(());
        }
        let duration = duration(&decode(value)?).filter(|duration| fits(*duration));
        time.set(duration.ok_or_else(|| invalid(detail))?)
    })?;
    Ok(time.0)
}

/// Parses whole seconds, or numbers with units.
fn duration(text: &str) -> Option<Duration> {
    match number(text) {
        Some(seconds) => Some(Duration::from_secs(u64::try_from(seconds).ok()?)),
        None => humantime::parse_duration(text).ok(),
    }
}

/// Checks that `text` could be an event id.
fn event_position(text: Cow<'_, str>) -> Result<String, Problem> {
    let fits = (1..=EVENT_ID_BYTES_MAX).contains(&text.len());
    if fits && text.bytes().all(is_id_byte) { Ok(text.into_owned()) } else { Err(Code::BeforeInvalid.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(parsed: Result<T, Problem>) -> Code {
        parsed.expect_err("it is refused").code
    }

    fn stay_away(query: &str) -> Result<Option<Duration>, Problem> {
        DisconnectQuery::parse(Some(query)).map(|query| query.stay_away)
    }

    #[test]
    fn pages_of_history() {
        let page = |query| HistoryQuery::parse(Some(query));
        let parsed =
            |limit, before: Option<&str>| Ok(HistoryQuery { limit, before: before.map(str::to_owned) });
        assert_eq!(HistoryQuery::parse(None), parsed(100, None));
        assert_eq!(page("limit=1"), parsed(1, None));
        assert_eq!(page("limit=1000&before=x-7"), parsed(1000, Some("x-7")));
        assert_eq!(page("room=zz&_=1"), parsed(100, None));
        let long = format!("before={}", "x".repeat(128));
        let table = [
            ("limit=0", Code::LimitInvalid),
            ("limit=1001", Code::LimitInvalid),
            ("limit=", Code::LimitInvalid),
            ("limit=99999999999999999999999", Code::LimitInvalid),
            ("before=", Code::BeforeInvalid),
            ("before=a+b", Code::BeforeInvalid),
            ("before=a%0A", Code::BeforeInvalid),
            (&long, Code::BeforeInvalid),
            ("limit=5&limit=5", Code::QueryInvalid),
            ("before=x-1&before=x-2", Code::QueryInvalid),
        ];
        for (query, wanted) in table {
            assert_eq!(code(page(query)), wanted, "{query}");
        }
    }

    #[test]
    fn stay_away_is_seconds_or_has_units() {
        assert_eq!(stay_away(""), Ok(None));
        assert_eq!(stay_away("stay_away=60"), Ok(Some(Duration::from_mins(1))));
        assert_eq!(stay_away("stay_away=60s"), Ok(Some(Duration::from_mins(1))));
        assert_eq!(stay_away("stay_away=1h+30m"), Ok(Some(Duration::from_mins(90))));
        assert_eq!(stay_away("stay_away=24h"), Ok(Some(STAY_AWAY_MAX)));
        for query in [
            "stay_away=",
            "stay_away=-1",
            "stay_away=soon",
            "stay_away=86401",
            "stay_away=99999999999999999999y",
            "stay_away=1&stay_away=1",
        ] {
            assert_eq!(code(stay_away(query)), Code::QueryInvalid, "{query}");
        }
    }
}
