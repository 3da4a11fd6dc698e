//! Finds the resource a request means, from its method and path. Pure: bytes in, [`Route`] or [`Problem`] out.
//!
//! Every path segment is percent-decoded exactly once and strictly, after the path was split: `%2F` is a slash inside a
//! room name and never starts a new segment (RFC 3986 §2.2). A list of rooms is split at its commas before, too: `%2C`
//! is a comma inside a name. Empty and dot segments are refused rather than resolved,
//! because a proxy in front may have resolved them differently and checked another path than the one served. Dots
//! between slashes inside a name are refused too: nginx decodes the whole path before it resolves dots and selects a
//! location. A room called `.`, `..` or `a/../b` is therefore reachable through the query form only.

use std::borrow::Cow;

use hyper::Method;

use crate::answer::problem::{Code, Problem};
use crate::http::api::client::Module;
use crate::http::api::welcome::signpost;
use crate::http::api::welcome::try_page::File;
use crate::shard::join::ROOMS_MAX;
use crate::types::name::{RoomName, UserName};
use crate::types::percent;

/// The methods of a resource that is only read. hyper leaves the body out for `HEAD`.
const READ: &str = "GET, HEAD, OPTIONS";
/// The methods of the stream. No `HEAD`: a truthful answer would need a subscription.
const STREAM: &str = "GET, OPTIONS";
/// The methods of a resource that changes something.
const CHANGE: &str = "POST, OPTIONS";
/// The methods of a state that is begun with `POST` and ended again.
const BEGIN_OR_END: &str = "POST, DELETE, OPTIONS";
/// The methods of a state that is replaced as a whole and ended again.
const REPLACE_OR_END: &str = "PUT, DELETE, OPTIONS";

/// Segments below the base path that the longest known path has.
const SEGMENTS_MAX: usize = 4;

/// What a request asks for. The names in it are checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// `GET /`, whatever the base path.
    Welcome,
    /// `GET` of a file of the page at `/`, whatever the base path.
    TryPage(File),
    /// `GET {base}/client.js`, or of one of its modules.
    Client {
        /// The module.
        module: Module,
        /// Whether the path has the version in it.
        has_version: bool,
    },
    /// `GET {base}/stream/{room}/{user}`.
    StreamPath {
        /// The only room of the stream.
        room: RoomName,
        /// The user whose stream it is.
        user: UserName,
    },
    /// `GET {base}/stream/{room},{room}…?user=…`.
    StreamRooms {
        /// The rooms of the stream: 1 to [`ROOMS_MAX`], none twice.
        rooms: Vec<RoomName>,
    },
    /// `GET {base}/stream?room=…&user=…`.
    Stream,
    /// `POST {base}/publish`.
    Publish,
    /// `POST {base}/disconnect/{room}/{user}`.
    Disconnect {
        /// The room to close connections in.
        room: RoomName,
        /// The user whose connections to close.
        user: UserName,
    },
    /// `POST {base}/refresh`.
    Refresh,
    /// `POST {base}/revoke`.
    Revoke,
    /// `GET {base}/info`.
    Info,
    /// `POST {base}/users/online`.
    Online,
    /// `GET {base}/rooms`.
    Rooms,
    /// `GET {base}/rooms/{room}`.
    Room {
        /// The room to describe.
        room: RoomName,
    },
    /// `GET {base}/rooms/{room}/history`.
    History {
        /// The room whose log to page through.
        room: RoomName,
    },
    /// `GET {base}/rooms/{room}/members`.
    Members {
        /// The room whose members to list.
        room: RoomName,
    },
    /// `PUT {base}/presence/{room}`.
    PutPresence {
        /// The room in which the user shows something.
        room: RoomName,
    },
    /// `DELETE {base}/presence/{room}`.
    EndPresence {
        /// The room that the user leaves.
        room: RoomName,
    },
    /// `POST {base}/rooms/{room}/mute/{user}`.
    Mute {
        /// The room.
        room: RoomName,
        /// The user who may not publish there.
        user: UserName,
    },
    /// `DELETE {base}/rooms/{room}/mute/{user}`.
    Unmute {
        /// The room.
        room: RoomName,
        /// The user who may publish there again.
        user: UserName,
    },
    /// `OPTIONS` on any of the above.
    Preflight {
        /// The methods the path takes, as in `Allow` and `Access-Control-Allow-Methods`.
        allow: &'static str,
    },
}

impl Route {
    /// The route of `method` on `path`, the raw path of the request without its query.
    ///
    /// `base` is the configured base path, such as `/api/v1/sse`, compared byte for byte; a slash at its end makes no
    /// difference. `groups` is an alias of `rooms` for older clients.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::PathInvalid`], [`Code::MethodNotAllowed`] with the `allow` list,
    /// [`Code::RoomInvalid`], [`Code::RoomsTooMany`] or [`Code::UserInvalid`], in this order.
    pub fn parse(base: &str, method: &Method, path: &str) -> Result<Self, Problem> {
        if path == "/" {
            return answer(method, READ, || Ok(Self::Welcome));
        }
        if let Some(file) = File::at(path) {
            return answer(method, READ, || Ok(Self::TryPage(file)));
        }
        let below = path
            .strip_prefix(base.trim_end_matches('/'))
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| signpost::outside(path))?;
        let mut raws = [""; SEGMENTS_MAX];
        let mut decoded = [const { Cow::Borrowed("") }; SEGMENTS_MAX];
        let mut count = 0;
        for raw in below.split('/') {
            let segment = segment(raw)?;
            if let Some((raw_slot, slot)) = raws.get_mut(count).zip(decoded.get_mut(count)) {
                (*raw_slot, *slot) = (raw, segment);
            }
            count += 1;
        }
        let segments = decoded.each_ref().map(AsRef::as_ref);
        match segments.get(..count).ok_or_else(|| signpost::below(&segments))? {
            ["stream"] => answer(method, STREAM, || Ok(Self::Stream)),
            ["stream", _] => answer(method, STREAM, || Ok(Self::StreamRooms { rooms: room_names(raws[1])? })),
            ["stream", room, user] => answer(method, STREAM, || {
                let (room, user) = (room_name(room)?, user_name(user)?);
                Ok(Self::StreamPath { room, user })
            }),
            ["publish"] => answer(method, CHANGE, || Ok(Self::Publish)),
            ["disconnect", room, user] => answer(method, CHANGE, || {
                let (room, user) = (room_name(room)?, user_name(user)?);
                Ok(Self::Disconnect { room, user })
            }),
            ["refresh"] => answer(method, CHANGE, || Ok(Self::Refresh)),
            ["revoke"] => answer(method, CHANGE, || Ok(Self::Revoke)),
            ["info"] => answer(method, READ, || Ok(Self::Info)),
            ["users", "online"] => answer(method, CHANGE, || Ok(Self::Online)),
            ["rooms" | "groups"] => answer(method, READ, || Ok(Self::Rooms)),
            ["rooms" | "groups", room] => answer(method, READ, || {
                let room = room_name(room)?;
                Ok(Self::Room { room })
            }),
            ["rooms" | "groups", room, "history"] => answer(method, READ, || {
                let room = room_name(room)?;
                Ok(Self::History { room })
            }),
            ["rooms" | "groups", room, "members"] => answer(method, READ, || {
                let room = room_name(room)?;
                Ok(Self::Members { room })
            }),
            ["presence", room] => answer(method, REPLACE_OR_END, || {
                let room = room_name(room)?;
                let puts = method == Method::PUT;
                Ok(if puts { Self::PutPresence { room } } else { Self::EndPresence { room } })
            }),
            ["rooms" | "groups", room, "mute", user] => answer(method, BEGIN_OR_END, || {
                let (room, user) = (room_name(room)?, user_name(user)?);
                let undone = *method == Method::DELETE;
                Ok(if undone { Self::Unmute { room, user } } else { Self::Mute { room, user } })
            }),
            other => match Module::at(other) {
                Some((module, has_version)) => {
                    answer(method, READ, || Ok(Self::Client { module, has_version }))
                }
                None => Err(signpost::below(other)),
            },
        }
    }
}

/// Checks a room name from the URL.
pub(crate) fn room_name(text: &str) -> Result<RoomName, Problem> {
    RoomName::new(text).map_err(|_| Code::RoomInvalid.into())
}

/// Checks a user name from the URL.
pub(crate) fn user_name(text: &str) -> Result<UserName, Problem> {
    UserName::new(text).map_err(|_| Code::UserInvalid.into())
}

/// The rooms of a segment that is a list, not yet decoded.
fn room_names(list: &str) -> Result<Vec<RoomName>, Problem> {
    let mut rooms = Vec::new();
    for raw in list.split(',') {
        let name = if raw.is_empty() { Cow::Borrowed("") } else { segment(raw)? };
        add_room(&mut rooms, room_name(&name)?)?;
    }
    Ok(rooms)
}

/// Adds `room` to the rooms of a stream unless it is one already. O(rooms), at most [`ROOMS_MAX`].
///
/// # Errors
///
/// [`Code::RoomsTooMany`].
pub(crate) fn add_room(rooms: &mut Vec<RoomName>, room: RoomName) -> Result<(), Problem> {
    if rooms.contains(&room) {
        return Ok(());
    }
    if rooms.len() == ROOMS_MAX {
        return Err(Code::RoomsTooMany.into());
    }
    rooms.push(room);
    Ok(())
}

/// One decoded path segment.
fn segment(raw: &str) -> Result<Cow<'_, str>, Problem> {
    let segment = percent::decode(raw).ok_or_else(|| {
        invalid(
            "percent-encoding in the path is % and two hexadecimal digits for each byte, and has to be UTF-8",
        )
    })?;
    match &*segment {
        "" => {
            Err(invalid("a segment of the path is empty: there are two slashes in a row, or one at the end"))
        }
        "." | ".." => {
            Err(invalid("a segment of the path is a single or double dot; /stream?room=. takes such names"))
        }
        name if has_dots(name) => Err(invalid(
            "a segment of the path has a single or double dot between encoded slashes; the query takes such names",
        )),
        nul if nul.contains('\0') => Err(invalid("the path has a NUL character in it")),
        _ => Ok(segment),
    }
}

fn invalid(detail: &'static str) -> Problem {
    Problem::new(Code::PathInvalid).with_detail(detail)
}

/// Whether part of `name` between slashes is `.` or `..`. Some programs treat a backslash as a slash.
fn has_dots(name: &str) -> bool {
    name.split(['/', '\\']).any(|part| matches!(part, "." | ".."))
}

/// Returns `route` if the path takes `method`; only then are the names in the path checked.
fn answer(
    method: &Method,
    allow: &'static str,
    route: impl FnOnce() -> Result<Route, Problem>,
) -> Result<Route, Problem> {
    if method == Method::OPTIONS {
        return Ok(Route::Preflight { allow });
    }
    if !allow.split(", ").any(|known| known == method.as_str()) {
        return Err(Problem::method_not_allowed(allow).with_detail(taken(allow)));
    }
    route()
}

/// Names the methods of a path for someone who used another one.
fn taken(allow: &'static str) -> &'static str {
    match allow {
        CHANGE => "this path takes POST",
        BEGIN_OR_END => "this path takes POST and DELETE",
        REPLACE_OR_END => "this path takes PUT and DELETE",
        _ => "this path takes GET",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/api/v1/sse";

    fn get(path: &str) -> Result<Route, Problem> {
        Route::parse(BASE, &Method::GET, &format!("{BASE}{path}"))
    }

    fn post(path: &str) -> Result<Route, Problem> {
        Route::parse(BASE, &Method::POST, &format!("{BASE}{path}"))
    }

    fn by(method: &Method, path: &str) -> Result<Route, Problem> {
        Route::parse(BASE, method, &format!("{BASE}{path}"))
    }

    fn room(text: &str) -> RoomName {
        RoomName::new(text).unwrap()
    }

    fn user(text: &str) -> UserName {
        UserName::new(text).unwrap()
    }

    #[test]
    fn every_resource_is_found() {
        let (a, u) = (room("a"), user("u"));
        let table = [
            ("/stream", get("/stream"), Route::Stream),
            ("/stream/a/u", get("/stream/a/u"), Route::StreamPath { room: a.clone(), user: u.clone() }),
            ("/stream/a", get("/stream/a"), Route::StreamRooms { rooms: vec![a.clone()] }),
            ("/publish", post("/publish"), Route::Publish),
            (
                "/disconnect/a/u",
                post("/disconnect/a/u"),
                Route::Disconnect { room: a.clone(), user: u.clone() },
            ),
            ("/refresh", post("/refresh"), Route::Refresh),
            ("/revoke", post("/revoke"), Route::Revoke),
            ("/info", get("/info"), Route::Info),
            ("/users/online", post("/users/online"), Route::Online),
            ("/rooms", get("/rooms"), Route::Rooms),
            ("/groups", get("/groups"), Route::Rooms),
            ("/rooms/a", get("/rooms/a"), Route::Room { room: a.clone() }),
            ("/groups/a", get("/groups/a"), Route::Room { room: a.clone() }),
            ("/rooms/a/history", get("/rooms/a/history"), Route::History { room: a.clone() }),
            ("/rooms/a/members", get("/rooms/a/members"), Route::Members { room: a.clone() }),
            ("/presence/a", by(&Method::PUT, "/presence/a"), Route::PutPresence { room: a.clone() }),
            ("/presence/a", by(&Method::DELETE, "/presence/a"), Route::EndPresence { room: a.clone() }),
            ("/rooms/a/mute/u", post("/rooms/a/mute/u"), Route::Mute { room: a.clone(), user: u.clone() }),
            ("/groups/a/mute/u", by(&Method::DELETE, "/groups/a/mute/u"), Route::Unmute { room: a, user: u }),
        ];
        for (path, found, wanted) in table {
            assert_eq!(found, Ok(wanted), "{path}");
        }
    }

    #[test]
    fn segments_are_decoded_exactly_once() {
        let table = [
            ("/rooms/caf%C3%A9", "café"),
            ("/rooms/café", "café"),
            ("/rooms/a%2Fb", "a/b"),
            ("/rooms/a%2fb", "a/b"),
            ("/rooms/a%2F%2Fb", "a//b"),
            ("/rooms/a%2F...%2Fb", "a/.../b"),
            ("/rooms/a%2F..b%2F.c", "a/..b/.c"),
            ("/rooms/a%5Cb", "a\\b"),
            ("/rooms/a%252Fb", "a%2Fb"),
            ("/rooms/a%252F..%252Fb", "a%2F..%2Fb"),
            ("/rooms/a+b", "a+b"),
            ("/rooms/a%20b", "a b"),
            ("/rooms/...", "..."),
            ("/rooms/a:b@c;d=e", "a:b@c;d=e"),
            ("/%72ooms/history", "history"),
        ];
        for (path, name) in table {
            assert_eq!(get(path), Ok(Route::Room { room: room(name) }), "{path}");
        }
    }

    #[test]
    fn doubtful_paths_are_refused() {
        let table = [
            "/",
            "//stream",
            "/stream/",
            "/stream/a,..",
            "/stream/..,a",
            "/stream/a,%2E,b",
            "/stream/a%2F..,b",
            "/stream/a,b%2f..%2fc",
            "/stream/a,%zz",
            "/stream/a,%00",
            "/stream/%C3,%A9",
            "/stream//u",
            "/stream/a/u/",
            "/stream/./u",
            "/stream/../info",
            "/stream/a/%2e%2E",
            "/stream/a/%2e",
            "/rooms/%2E%2E%2Fb",
            "/rooms/a%2F..",
            "/rooms/a%2F.",
            "/rooms/a%2F.%2Fhistory",
            "/rooms/a%2f%2e%2e%2fb/history",
            "/stream/lobby/a%2f..%2f..%2fb",
            "/stream/a%5C..%5Cb/u",
            "/disconnect/lobby/bob%2f..%2f..%2f..%2frefresh",
            "/info%2f..%2fstream",
            "/stream/a/u%",
            "/stream/a/u%4",
            "/stream/a/%zz",
            "/stream/a/%+1",
            "/stream/a/%00",
            "/stream/a/%FF",
            "/stream/a/%C3",
            "/stream/a/%ED%A0%80",
        ];
        for path in table {
            let problem = get(path).expect_err(path);
            assert_eq!((problem.code, problem.detail.is_some()), (Code::PathInvalid, true), "{path}");
        }
    }

    #[test]
    fn unknown_paths_are_not_found() {
        let table = [
            "",
            "x/stream",
            "/Stream",
            "/stream/a/u/x",
            "/stream%2Fa%2Fu",
            "/users",
            "/users/a",
            "/rooms/a/listeners",
            "/presence",
            "/presence/a/me",
            "/publish/a",
            "/a/b/c/d/e/f/g/h",
        ];
        for path in table {
            let problem = get(path).expect_err(path);
            assert_eq!((problem.code, problem.detail.is_some()), (Code::NotFound, true), "{path}");
        }
        for path in ["*", "", "/api/v1", "/info", "//", "//api/v1/sse/info"] {
            let found = Route::parse(BASE, &Method::GET, path);
            assert_eq!(found.map_err(|problem| problem.code), Err(Code::NotFound), "{path}");
        }
    }

    #[test]
    fn other_methods_are_told_the_right_ones() {
        let table = [
            ("/stream", Method::POST, "GET, OPTIONS"),
            ("/stream", Method::HEAD, "GET, OPTIONS"),
            ("/stream/a/u", Method::HEAD, "GET, OPTIONS"),
            ("/publish", Method::GET, "POST, OPTIONS"),
            ("/publish", Method::PUT, "POST, OPTIONS"),
            ("/disconnect/a/u", Method::DELETE, "POST, OPTIONS"),
            ("/info", Method::POST, "GET, HEAD, OPTIONS"),
            ("/stream/a,b", Method::POST, "GET, OPTIONS"),
            ("/users/online", Method::GET, "POST, OPTIONS"),
            ("/rooms", Method::POST, "GET, HEAD, OPTIONS"),
            ("/rooms/a", Method::DELETE, "GET, HEAD, OPTIONS"),
            ("/rooms/a/history", Method::PATCH, "GET, HEAD, OPTIONS"),
            ("/rooms/a/mute/u", Method::GET, "POST, DELETE, OPTIONS"),
        ];
        for (path, method, allow) in table {
            let path = format!("{BASE}{path}");
            let found = Route::parse(BASE, &method, &path);
            let problem = found.expect_err("it takes others");
            assert_eq!(
                (problem.code, problem.allow),
                (Code::MethodNotAllowed, Some(allow)),
                "{method} {path}"
            );
            let verb = match allow {
                "POST, DELETE, OPTIONS" => "this path takes POST and DELETE",
                "POST, OPTIONS" => "this path takes POST",
                _ => "this path takes GET",
            };
            assert_eq!(problem.detail, Some(verb), "{method} {path}");
            let preflight = Route::parse(BASE, &Method::OPTIONS, &path);
            assert_eq!(preflight, Ok(Route::Preflight { allow }), "{path}");
        }
    }

    #[test]
    fn whoever_used_another_method_is_told_all_that_there_are() {
        for (allow, told) in [
            (READ, "GET"),
            (STREAM, "GET"),
            (CHANGE, "POST"),
            (BEGIN_OR_END, "POST and DELETE"),
            (REPLACE_OR_END, "PUT and DELETE"),
        ] {
            let refused = answer(&Method::PATCH, allow, || Ok(Route::Info)).expect_err("it takes others");
            assert_eq!(refused.allow, Some(allow));
            assert_eq!(refused.detail, Some(&*format!("this path takes {told}")));
            for method in allow.split(", ").filter(|method| *method != "OPTIONS") {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                assert_eq!(answer(&method, allow, || Ok(Route::Info)), Ok(Route::Info), "{method}");
            }
        }
    }

    #[test]
    fn head_reads_what_get_reads() {
        for path in ["/info", "/rooms", "/rooms/a", "/rooms/a/history"] {
            let head = Route::parse(BASE, &Method::HEAD, &format!("{BASE}{path}"));
            assert_eq!(head, get(path), "{path}");
        }
    }

    #[test]
    fn names_in_the_path_are_checked() {
        let long = "r".repeat(129);
        let table = [
            (format!("/rooms/{long}"), Code::RoomInvalid),
            ("/rooms/a%0Ab/history".to_owned(), Code::RoomInvalid),
            ("/stream/a%0Db/u".to_owned(), Code::RoomInvalid),
            ("/stream/,".to_owned(), Code::RoomInvalid),
            ("/stream/a,".to_owned(), Code::RoomInvalid),
            ("/stream/a,,b".to_owned(), Code::RoomInvalid),
            ("/stream/a,%0A".to_owned(), Code::RoomInvalid),
            (format!("/stream/a,{long}"), Code::RoomInvalid),
            ("/stream/a/u%7F".to_owned(), Code::UserInvalid),
            (format!("/stream/a/{long}"), Code::UserInvalid),
        ];
        for (path, code) in table {
            assert_eq!(get(&path), Err(code.into()), "{path}");
        }
    }

    #[test]
    fn a_list_is_split_before_its_names_are_decoded() {
        let rooms = |path: &str| match get(path) {
            Ok(Route::StreamRooms { rooms }) => rooms.iter().map(ToString::to_string).collect::<Vec<_>>(),
            other => panic!("{path}: {other:?}"),
        };
        let table: [(&str, &[&str]); 9] = [
            ("/stream/news,sport", &["news", "sport"]),
            ("/stream/a,b,a", &["a", "b"]),
            ("/stream/a%2Cb", &["a,b"]),
            ("/stream/a%2cb,c", &["a,b", "c"]),
            ("/stream/a%252Cb", &["a%2Cb"]),
            ("/stream/a%2Fb,c", &["a/b", "c"]),
            ("/stream/a+b, ", &["a+b", " "]),
            ("/stream/caf%C3%A9,漢", &["café", "漢"]),
            ("/stream/a;b", &["a;b"]),
        ];
        for (path, wanted) in table {
            assert_eq!(rooms(path), wanted, "{path}");
        }
        // With a user in the path there is one room, whatever is in its name.
        let one = Route::StreamPath { room: room("a,b"), user: user("u,v") };
        assert_eq!(get("/stream/a,b/u,v"), Ok(one));
    }

    #[test]
    fn sixty_four_rooms_are_the_most() {
        let list = |count: usize| (0..count).map(|room| room.to_string()).collect::<Vec<_>>().join(",");
        assert!(get(&format!("/stream/{}", list(64))).is_ok());
        assert!(get(&format!("/stream/{},0", list(64))).is_ok());
        assert_eq!(get(&format!("/stream/{}", list(65))), Err(Code::RoomsTooMany.into()));
    }

    #[test]
    fn the_front_door_is_read_like_any_resource() {
        for base in ["", "/", BASE] {
            let ask = |method| Route::parse(base, &method, "/");
            assert_eq!((ask(Method::GET), ask(Method::HEAD)), (Ok(Route::Welcome), Ok(Route::Welcome)));
            assert_eq!(ask(Method::OPTIONS), Ok(Route::Preflight { allow: "GET, HEAD, OPTIONS" }));
            let refused = ask(Method::POST).expect_err("it is only read");
            assert_eq!((refused.code, refused.allow), (Code::MethodNotAllowed, Some("GET, HEAD, OPTIONS")));
        }
    }

    #[test]
    fn the_base_path_may_be_anything() {
        for (base, path) in [("", "/info"), ("/", "/info"), ("/push", "/push/info"), ("/push/", "/push/info")]
        {
            let found = Route::parse(base, &Method::GET, path);
            assert_eq!(found, Ok(Route::Info), "{base:?}");
        }
    }
}
