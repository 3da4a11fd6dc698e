//! Parses the query string of each resource. Pure: text in, checked values or a [`Problem`] out.
//!
//! Decoding is `application/x-www-form-urlencoded` (WHATWG URL §5.1) with one difference: bad percent-encoding and
//! invalid UTF-8 are refused instead of replaced, because a replaced character would name another room. Parameters with
//! unknown names are ignored and their values not read: proxies and cache busters add them. Known ones may not be
//! repeated.

use std::borrow::Cow;
use std::time::Duration;

use hyper::header::HeaderMap;

use crate::answer::problem::{Code, Problem};
use crate::http::api::route::{room_name, user_name};
use crate::shard::join::ROOMS_MAX;
use crate::types::name::{EVENT_ID_BYTES_MAX, RoomName, UserName, is_id_byte};
use crate::types::percent;
use crate::wire::control::Heartbeat;

/// Events a page of history may have.
pub const LIMIT_MAX: usize = 1_000;

/// Events a page of history has when the request does not say.
pub const LIMIT_DEFAULT: usize = 100;

/// The longest time a disconnected user can be refused. Also keeps `now + stay_away` far from overflow.
pub const STAY_AWAY_MAX: Duration = Duration::from_hours(24);

/// What a subscriber asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamQuery {
    /// Invariant: at most [`ROOMS_MAX`] rooms, none twice, in the order given. If empty, the stream is of the user's
    /// inbox only.
    pub rooms: Vec<RoomName>,
    /// The user whose stream it is, if named.
    pub user: Option<UserName>,
    /// Where to resume. Never empty; otherwise any text, since an id that means nothing is a gap and not an error.
    pub last_event_id: Option<String>,
    /// How many of the newest events to send first. Any number; the caller caps it at what a log can hold.
    pub history: Option<usize>,
    /// What heartbeats contain. If absent, the request's headers decide (`negotiate`).
    pub heartbeat: Option<Heartbeat>,
}

impl StreamQuery {
    /// The id the client presents to resume from. The header wins over the query: a browser that reconnects repeats the
    /// URL it was first given. An id that is no text is not one of this server's: that is a gap, not an error.
    #[must_use]
    pub fn presented(&self, headers: &HeaderMap) -> Option<String> {
        let header = headers.get("last-event-id").filter(|id| !id.is_empty());
        let header = header.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        header.or_else(|| self.last_event_id.clone())
    }

    /// Reads `GET {base}/stream?room=a&room=b&user=u&last_event_id=…&history=N&heartbeat=id`; `group` is an alias of
    /// `room`, `id` of `user`, `lastEventId` and `lastEventID`, which polyfills send, of `last_event_id`.
    ///
    /// # Errors
    ///
    /// [`Code::RoomInvalid`], [`Code::RoomsTooMany`], [`Code::UserInvalid`], [`Code::HistoryInvalid`],
    /// [`Code::HeartbeatInvalid`] or [`Code::QueryInvalid`]. That there is a room or a user is checked later, with the
    /// caller.
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut rooms = Vec::new();
        let mut user = Once::default();
        let mut resume = Resume::default();
        each(query, |name, value| match name {
            "room" | "group" => join(&mut rooms, room_name(&decode(value)?)?),
            "user" | "id" => user.set(user_name(&decode(value)?)?),
            name => resume.take(name, value),
        })?;
        Ok(Self {
            rooms,
            user: user.0,
            last_event_id: resume.last_event_id(),
            history: resume.history.0,
            heartbeat: resume.heartbeat.0,
        })
    }

    /// Reads the query of `GET {base}/stream/{room}/{user}?last_event_id=…&history=N&heartbeat=id`.
    ///
    /// # Errors
    ///
    /// [`Code::HistoryInvalid`], [`Code::HeartbeatInvalid`] or [`Code::QueryInvalid`], the latter also if the query names
    /// rooms or a user: they are in the path, and to ignore more of them would look like joining them.
    pub fn parse_with_path(query: Option<&str>, room: RoomName, user: UserName) -> Result<Self, Problem> {
        let mut resume = Resume::default();
        each(query, |name, value| match name {
            "room" | "group" | "user" | "id" => Err(invalid("the room and the user are already in the path")),
            name => resume.take(name, value),
        })?;
        Ok(Self {
            rooms: vec![room],
            user: Some(user),
            last_event_id: resume.last_event_id(),
            history: resume.history.0,
            heartbeat: resume.heartbeat.0,
        })
    }
}

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
            "limit" => {
                let number = number(&decode(value)?)
                    .filter(|number| (1..=LIMIT_MAX).contains(number))
                    .ok_or(Code::LimitInvalid)?;
                limit.set(number)
            }
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
        let mut stay_away = Once::default();
        each(query, |name, value| {
            if name != "stay_away" {
                return Ok(());
            }
            let duration = duration(&decode(value)?).filter(|duration| *duration <= STAY_AWAY_MAX);
            stay_away.set(duration.ok_or_else(|| {
                invalid("a time is written as seconds, or as in 90s or 1h30m, at most a day")
            })?)
        })?;
        Ok(Self { stay_away: stay_away.0 })
    }
}

/// The parameters both forms of the stream share.
#[derive(Default)]
struct Resume {
    last_event_id: Once<String>,
    history: Once<usize>,
    heartbeat: Once<Heartbeat>,
}

impl Resume {
    /// Takes one parameter; an unknown name is ignored.
    fn take(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match name {
            "last_event_id" | "lastEventId" | "lastEventID" => {
                self.last_event_id.set(decode(value)?.into_owned())
            }
            "history" => {
                let number = number(&decode(value)?).ok_or(Code::HistoryInvalid)?;
                self.history.set(number)
            }
            "heartbeat" => self.heartbeat.set(heartbeat(&decode(value)?)?),
            _ => Ok(()),
        }
    }

    /// The position to resume from. Clients that have none yet send an empty one.
    fn last_event_id(&mut self) -> Option<String> {
        self.last_event_id.0.take().filter(|id| !id.is_empty())
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

/// Adds `room` unless it is present. O(rooms), at most [`ROOMS_MAX`].
fn join(rooms: &mut Vec<RoomName>, room: RoomName) -> Result<(), Problem> {
    if rooms.contains(&room) {
        return Ok(());
    }
    if rooms.len() == ROOMS_MAX {
        return Err(Code::RoomsTooMany.into());
    }
    rooms.push(room);
    Ok(())
}

/// Parses decimal digits only (`str::parse` would take a `+`). Numbers past `usize` count as `usize::MAX`, which every
/// caller caps or refuses.
fn number(text: &str) -> Option<usize> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(usize::MAX))
}

/// Parses the name of a kind of heartbeat.
fn heartbeat(text: &str) -> Result<Heartbeat, Problem> {
    match text {
        "id" => Ok(Heartbeat::Id),
        "comment" => Ok(Heartbeat::Comment),
        _ => Err(Code::HeartbeatInvalid.into()),
    }
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

    fn stream(query: &str) -> Result<StreamQuery, Problem> {
        StreamQuery::parse(Some(query))
    }

    fn rooms(query: &str) -> Vec<String> {
        let parsed = stream(query).unwrap();
        parsed.rooms.iter().map(ToString::to_string).collect()
    }

    fn with_path(query: &str) -> Result<StreamQuery, Problem> {
        let (room, user) = (RoomName::new("a").unwrap(), UserName::new("u").unwrap());
        StreamQuery::parse_with_path(Some(query), room, user)
    }

    fn code<T: std::fmt::Debug>(parsed: Result<T, Problem>) -> Code {
        parsed.expect_err("it is refused").code
    }

    fn stay_away(query: &str) -> Result<Option<Duration>, Problem> {
        DisconnectQuery::parse(Some(query)).map(|query| query.stay_away)
    }

    #[test]
    fn rooms_keep_their_order_and_come_once() {
        assert_eq!(rooms("room=b&room=a&group=c&room=b&group=a"), ["b", "a", "c"]);
        assert_eq!(rooms("room=a+b&room=a%20b&room=a%2Bb"), ["a b", "a+b"]);
        assert_eq!(rooms("room=caf%C3%A9&r%6Fom=x=y"), ["café", "x=y"]);
    }

    #[test]
    fn sixty_four_rooms_are_the_most() {
        let many = |count: usize| {
            let pairs: Vec<String> = (0..count).map(|room| format!("room={room}")).collect();
            pairs.join("&")
        };
        assert_eq!(rooms(&many(64)).len(), 64);
        assert_eq!(rooms(&format!("{}&room=0", many(64))).len(), 64);
        assert_eq!(code(stream(&many(65))), Code::RoomsTooMany);
    }

    #[test]
    fn everything_a_stream_can_ask_for() {
        let parsed = stream("room=a&id=u&last_event_id=k3v9q2-1041&history=20&heartbeat=id").unwrap();
        assert_eq!(parsed.user, UserName::new("u").ok());
        assert_eq!(parsed.last_event_id.as_deref(), Some("k3v9q2-1041"));
        assert_eq!(parsed.history, Some(20));
        assert_eq!(parsed.heartbeat, Some(Heartbeat::Id));
        assert_eq!(stream("room=a&heartbeat=comment").unwrap().heartbeat, Some(Heartbeat::Comment));
        assert_eq!(stream("room=a").unwrap().heartbeat, None);
    }

    #[test]
    fn an_empty_resume_is_none() {
        assert_eq!(stream("room=a&last_event_id=").unwrap().last_event_id, None);
        assert_eq!(stream("room=a&last_event_id").unwrap().last_event_id, None);
    }

    #[test]
    fn a_resume_may_be_any_text() {
        let parsed = stream("room=a&last_event_id=%00%0A+caf%C3%A9").unwrap();
        assert_eq!(parsed.last_event_id.as_deref(), Some("\0\n café"));
    }

    #[test]
    fn strangers_are_ignored() {
        let parsed = stream("&&_=1700000000&room=a&utm_source=%zz&_=2&").unwrap();
        assert_eq!(parsed, stream("room=a").unwrap());
    }

    #[test]
    fn bad_stream_queries_are_told_apart() {
        let table = [
            ("room", Code::RoomInvalid),
            ("room=", Code::RoomInvalid),
            ("room=a%0Ab", Code::RoomInvalid),
            ("room=a%00", Code::RoomInvalid),
            ("room=a&user=", Code::UserInvalid),
            ("room=a&user=u&user=u", Code::QueryInvalid),
            ("room=a&user=u&id=u", Code::QueryInvalid),
            ("room=a&last_event_id=&last_event_id=x-1", Code::QueryInvalid),
            ("room=a&history=1&history=1", Code::QueryInvalid),
            ("room=%FF", Code::QueryInvalid),
            ("room=%", Code::QueryInvalid),
            ("room=%4", Code::QueryInvalid),
            ("room=a&user=%C3", Code::QueryInvalid),
            ("room=a&last_event_id=%FF", Code::QueryInvalid),
            ("room=a&%FF=x", Code::QueryInvalid),
            ("room=a&history=", Code::HistoryInvalid),
            ("room=a&history=-1", Code::HistoryInvalid),
            ("room=a&history=%2B1", Code::HistoryInvalid),
            ("room=a&history=1.5", Code::HistoryInvalid),
            ("room=a&history=all", Code::HistoryInvalid),
            ("room=a&heartbeat=", Code::HeartbeatInvalid),
            ("room=a&heartbeat", Code::HeartbeatInvalid),
            ("room=a&heartbeat=ID", Code::HeartbeatInvalid),
            ("room=a&heartbeat=off", Code::HeartbeatInvalid),
            ("room=a&heartbeat=id&heartbeat=id", Code::QueryInvalid),
        ];
        for (query, wanted) in table {
            assert_eq!(code(stream(query)), wanted, "{query}");
        }
    }

    #[test]
    fn the_parameter_at_fault_is_named() {
        let field = |query| stream(query).expect_err("it is refused").field.map(|field| field.to_string());
        for (query, name) in [
            ("room=a&history=x", "\"history\""),
            ("room=a&user=u&user=u", "\"user\""),
            ("room=a&user=u&id=u", "\"id\""),
            ("room=a&last_event_id=%FF", "\"last_event_id\""),
            ("group=", "\"group\""),
        ] {
            assert_eq!(field(query).as_deref(), Some(name), "{query}");
        }
        // A parameter that cannot be decoded has no name.
        assert_eq!(field("room=a&%FF=x"), None);
    }

    #[test]
    fn a_stream_may_be_of_an_inbox_alone() {
        for query in ["user=u", "id=u"] {
            let parsed = stream(query).unwrap();
            assert_eq!((parsed.rooms, parsed.user), (vec![], UserName::new("u").ok()));
        }
        assert_eq!(StreamQuery::parse(None), stream(""), "a token may name the user");
    }

    /// The polyfill of Yaffle, `eventsource` and others put the id into the URL, under their own names.
    #[test]
    fn the_names_that_polyfills_have_for_the_resume_are_known() {
        for name in ["last_event_id", "lastEventId", "lastEventID"] {
            let query = format!("room=a&{name}=x-7");
            assert_eq!(stream(&query).unwrap().last_event_id.as_deref(), Some("x-7"), "{name}");
            let query = format!("{name}=x-7");
            assert_eq!(with_path(&query).unwrap().last_event_id.as_deref(), Some("x-7"), "{name}");
            assert_eq!(stream(&format!("room=a&{name}=")).unwrap().last_event_id, None, "{name}");
        }
        for query in ["lastEventId=x-1&lastEventID=x-2", "last_event_id=x-1&lastEventId=x-2"] {
            assert_eq!(code(stream(&format!("room=a&{query}"))), Code::QueryInvalid, "{query}");
            assert_eq!(code(with_path(query)), Code::QueryInvalid, "{query}");
        }
    }

    #[test]
    fn huge_histories_are_left_to_the_cap() {
        let huge = "9".repeat(40);
        let parsed = stream(&format!("room=a&history={huge}")).unwrap();
        assert_eq!(parsed.history, Some(usize::MAX));
        assert_eq!(stream("room=a&history=0").unwrap().history, Some(0));
    }

    #[test]
    fn the_path_form_takes_no_names_from_the_query() {
        let parsed = with_path("last_event_id=x-1&history=3&heartbeat=comment&_=1").unwrap();
        assert_eq!(parsed.rooms, [RoomName::new("a").unwrap()]);
        assert_eq!(parsed.user, UserName::new("u").ok());
        assert_eq!(parsed.last_event_id.as_deref(), Some("x-1"));
        assert_eq!(parsed.history, Some(3));
        assert_eq!(parsed.heartbeat, Some(Heartbeat::Comment));
        assert_eq!(code(with_path("heartbeat=none")), Code::HeartbeatInvalid);
        for query in ["room=b", "group=b", "user=v", "id=v", "room=a"] {
            assert_eq!(code(with_path(query)), Code::QueryInvalid, "{query}");
        }
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
