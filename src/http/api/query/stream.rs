//! The query of a stream.

use std::time::Duration;

use hyper::header::HeaderMap;

use crate::answer::problem::{Code, Problem};
use crate::http::api::query::{Once, decode, each, invalid, number};
use crate::http::api::route::{add_room, room_name, user_name};
use crate::shard::join::Presence;
use crate::types::name::{RoomName, UserName};
use crate::wire::control::Heartbeat;

/// The longest time a poll waits for an event. Proxies often end a silent answer after a minute.
pub const POLL_MAX: Duration = Duration::from_mins(1);

/// What a subscriber asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamQuery {
    /// Invariant: at most [`ROOMS_MAX`](crate::shard::join::ROOMS_MAX) rooms, none twice, in the order given. If empty, the stream is of the user's
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
    /// How long to wait for the first event, after which the stream ends: 1 s to [`POLL_MAX`], whole seconds.
    pub poll: Option<Duration>,
    /// Whether to tell who is in the rooms, and whether the user is one of them.
    pub presence: Presence,
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

    /// Reads `GET {base}/stream?room=a&room=b&user=u&last_event_id=…&history=N&heartbeat=id&poll=N&presence=on`;
    /// `group` is an alias of `room`, `id` of `user`, `lastEventId` and `lastEventID`, which polyfills send, of
    /// `last_event_id`.
    ///
    /// # Errors
    ///
    /// [`Code::RoomInvalid`], [`Code::RoomsTooMany`], [`Code::UserInvalid`], [`Code::HistoryInvalid`],
    /// [`Code::HeartbeatInvalid`], [`Code::PollInvalid`] or [`Code::QueryInvalid`]. That there is a room or a user is
    /// checked later, with the caller.
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut rooms = Vec::new();
        let mut user = Once::default();
        let mut manner = Manner::default();
        each(query, |name, value| match name {
            "room" | "group" => add_room(&mut rooms, room_name(&decode(value)?)?),
            "user" | "id" => user.set(user_name(&decode(value)?)?),
            name => manner.take(name, value),
        })?;
        manner.finish(rooms, user.0)
    }

    /// Reads the query of `GET {base}/stream/{rooms}` (without `user`) or `GET {base}/stream/{room}/{user}`.
    ///
    /// # Errors
    ///
    /// As [`StreamQuery::parse`]; [`Code::QueryInvalid`] also if the query names what is in the path: to ignore more
    /// rooms would look like joining them.
    pub fn parse_with_path(
        query: Option<&str>,
        rooms: Vec<RoomName>,
        user: Option<UserName>,
    ) -> Result<Self, Problem> {
        let is_for_user = user.is_some();
        let mut user = Once(user);
        let mut manner = Manner::default();
        each(query, |name, value| match name {
            "room" | "group" => Err(invalid("the path already names all rooms of the stream")),
            "user" | "id" if is_for_user => Err(invalid("the room and the user are already in the path")),
            "user" | "id" => user.set(user_name(&decode(value)?)?),
            name => manner.take(name, value),
        })?;
        manner.finish(rooms, user.0)
    }
}

/// How a stream begins, goes on and ends: the parameters that all forms share.
#[derive(Default)]
struct Manner {
    last_event_id: Once<String>,
    history: Once<usize>,
    heartbeat: Once<Heartbeat>,
    poll: Once<Duration>,
    presence: Once<bool>,
    silent: Once<bool>,
}

impl Manner {
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
            "poll" => self.poll.set(poll(&decode(value)?)?),
            "presence" => self.presence.set(is_on(&decode(value)?)?),
            "silent" => self.silent.set(is_on(&decode(value)?)?),
            _ => Ok(()),
        }
    }

    /// The query of a stream in `rooms`, with these parameters.
    fn finish(self, rooms: Vec<RoomName>, user: Option<UserName>) -> Result<StreamQuery, Problem> {
        let presence = match (self.presence.0.unwrap_or(false), self.silent.0.unwrap_or(false)) {
            (true, true) => Presence::Silent,
            (true, false) => Presence::Member,
            (false, false) => Presence::Off,
            (false, true) => return Err(invalid("silent=on goes with presence=on").about("silent")),
        };
        Ok(StreamQuery {
            rooms,
            user,
            // Clients that have none yet send an empty one.
            last_event_id: self.last_event_id.0.filter(|id| !id.is_empty()),
            history: self.history.0,
            heartbeat: self.heartbeat.0,
            poll: self.poll.0,
            presence,
        })
    }
}

/// Parses the name of a kind of heartbeat.
fn heartbeat(text: &str) -> Result<Heartbeat, Problem> {
    match text {
        "id" => Ok(Heartbeat::Id),
        "comment" => Ok(Heartbeat::Comment),
        _ => Err(Code::HeartbeatInvalid.into()),
    }
}

/// Parses the seconds that a poll waits.
fn poll(text: &str) -> Result<Duration, Problem> {
    let seconds = number(text).and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let is_some_time = |time: &Duration| !time.is_zero() && *time <= POLL_MAX;
    seconds.filter(is_some_time).ok_or_else(|| Code::PollInvalid.into())
}

/// Parses a switch.
fn is_on(text: &str) -> Result<bool, Problem> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(invalid("this parameter is on or off")),
    }
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
        StreamQuery::parse_with_path(Some(query), vec![room], Some(user))
    }

    fn code<T: std::fmt::Debug>(parsed: Result<T, Problem>) -> Code {
        parsed.expect_err("it is refused").code
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
    fn a_poll_waits_for_a_second_or_a_minute() {
        for seconds in [1, 25, 60] {
            let parsed = stream(&format!("room=a&poll={seconds}")).unwrap();
            assert_eq!(parsed.poll, Some(Duration::from_secs(seconds)));
        }
        assert_eq!(stream("room=a").unwrap().poll, None);
    }

    #[test]
    fn presence_is_asked_for() {
        for (query, wanted) in [
            ("", Presence::Off),
            ("presence=off", Presence::Off),
            ("presence=off&silent=off", Presence::Off),
            ("presence=on", Presence::Member),
            ("silent=off&presence=on", Presence::Member),
            ("silent=on&presence=on", Presence::Silent),
        ] {
            assert_eq!(stream(&format!("room=a&{query}")).unwrap().presence, wanted, "{query}");
            assert_eq!(with_path(query).unwrap().presence, wanted, "{query}");
        }
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
            ("room=a&poll=", Code::PollInvalid),
            ("room=a&poll=0", Code::PollInvalid),
            ("room=a&poll=61", Code::PollInvalid),
            ("room=a&poll=1s", Code::PollInvalid),
            ("room=a&poll=%2B1", Code::PollInvalid),
            ("room=a&poll=99999999999999999999", Code::PollInvalid),
            ("room=a&poll=1&poll=1", Code::QueryInvalid),
            ("room=a&presence", Code::QueryInvalid),
            ("room=a&presence=yes", Code::QueryInvalid),
            ("room=a&presence=on&presence=on", Code::QueryInvalid),
            ("room=a&presence=on&silent=1", Code::QueryInvalid),
            ("room=a&silent=on", Code::QueryInvalid),
            ("room=a&silent=on&presence=off", Code::QueryInvalid),
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
            ("room=a&poll=x", "\"poll\""),
            ("room=a&presence=x", "\"presence\""),
            ("room=a&silent=on", "\"silent\""),
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
    fn a_list_in_the_path_takes_the_user_from_the_query() {
        let rooms = || ["a", "b"].map(|room| RoomName::new(room).unwrap()).to_vec();
        let parse = |query| StreamQuery::parse_with_path(Some(query), rooms(), None);
        assert_eq!(parse("user=u&history=3&poll=5"), stream("room=a&room=b&user=u&history=3&poll=5"));
        assert_eq!(parse("").unwrap().user, None);
        for query in ["room=b", "group=c", "user=u&id=u"] {
            assert_eq!(code(parse(query)), Code::QueryInvalid, "{query}");
        }
    }
}
