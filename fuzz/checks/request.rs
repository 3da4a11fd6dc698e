//! A request: its framing, its path and query, its headers, and a list of users in its body.

use std::iter;
use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tidegate::config::{Config, CorsOrigins};
use tidegate::http::api::online;
use tidegate::http::api::publish::media::Media;
use tidegate::http::api::query::{
    DisconnectQuery, HistoryQuery, LIMIT_MAX, MUTE_MAX, MuteQuery, POLL_MAX, RoomsQuery, STAY_AWAY_MAX,
    StreamQuery,
};
use tidegate::http::api::route::Route;
use tidegate::http::api::welcome::accept::prefers_html;
use tidegate::http::conn::guard::Guard;
use tidegate::policy::cors::Cors;
use tidegate::shard::join::{Presence, ROOMS_MAX};
use tidegate::types::name::UserName;
use tidegate::wire::control::Heartbeat;

/// However the network cuts a request's bytes, the same bytes pass, up to where hyper cannot take a message for
/// complete; and a head that passes ends every line in CRLF.
pub(crate) fn guard(bytes: &[u8], step: usize) {
    let mut whole = Guard::new(HEAD_BYTES_MAX);
    let passed = whole.pass(bytes);
    assert_eq!(passed < bytes.len(), whole.is_broken());
    let mut cut = Guard::new(HEAD_BYTES_MAX);
    let mut passed_cut = 0;
    for piece in bytes.chunks(step.max(1)) {
        let now = cut.pass(piece);
        passed_cut += now;
        if now < piece.len() {
            break;
        }
    }
    assert_eq!((cut.refusal(), cut.is_broken_in_body()), (whole.refusal(), whole.is_broken_in_body()));
    let is_head = |at: usize| !bytes[..at].windows(4).any(|window| window == b"\r\n\r\n");
    let lines = &bytes[..passed];
    if is_head(passed.min(passed_cut)) {
        assert!(passed.max(passed_cut) <= HEAD_BYTES_MAX, "{:?}", String::from_utf8_lossy(lines));
        for (at, _) in lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            assert_eq!(lines.get(at.wrapping_sub(1)), Some(&b'\r'), "{:?}", String::from_utf8_lossy(lines));
        }
    }
}

/// The bound on a head in these checks.
const HEAD_BYTES_MAX: usize = 64;

/// Queries are read without panic, keep their bounds, and are the same after they are printed and read again, with each
/// name of the resume parameter.
pub(crate) fn query(text: &str) {
    if let Ok(query) = StreamQuery::parse(Some(text)) {
        assert!(query.rooms.len() <= ROOMS_MAX);
        assert!(query.poll.is_none_or(|time| Duration::from_secs(1) <= time && time <= POLL_MAX));
        let printed = to_query(&query);
        // Rooms and users have no `=` left in them, so only the parameter's own name is replaced.
        for name in ["last_event_id=", "lastEventId=", "lastEventID="] {
            let printed = printed.replace("last_event_id=", name);
            assert_eq!(StreamQuery::parse(Some(&printed)).as_ref(), Ok(&query), "{printed}");
        }
    }
    if let Ok(query) = HistoryQuery::parse(Some(text)) {
        assert!((1..=LIMIT_MAX).contains(&query.limit));
    }
    if let Ok(query) = RoomsQuery::parse(Some(text)) {
        assert!((1..=LIMIT_MAX).contains(&query.limit));
    }
    if let Ok(DisconnectQuery { stay_away: Some(duration) }) = DisconnectQuery::parse(Some(text)) {
        assert!(duration <= STAY_AWAY_MAX);
    }
    if let Ok(MuteQuery { time: Some(time) }) = MuteQuery::parse(Some(text)) {
        assert!(!time.is_zero() && time <= MUTE_MAX);
    }
}

/// Returns the query string that asks for `query`.
pub(crate) fn to_query(query: &StreamQuery) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for room in &query.rooms {
        out.append_pair("room", room.as_str());
    }
    if let Some(user) = &query.user {
        out.append_pair("user", user.as_str());
    }
    if let Some(id) = &query.last_event_id {
        out.append_pair("last_event_id", id);
    }
    if let Some(history) = query.history {
        out.append_pair("history", &history.to_string());
    }
    if let Some(heartbeat) = query.heartbeat {
        out.append_pair("heartbeat", if heartbeat == Heartbeat::Id { "id" } else { "comment" });
    }
    if let Some(poll) = query.poll {
        out.append_pair("poll", &poll.as_secs().to_string());
    }
    if query.presence != Presence::Off {
        out.append_pair("presence", "on");
    }
    if query.presence == Presence::Silent {
        out.append_pair("silent", "on");
    }
    out.finish()
}

/// Paths are read without panic, and names in them are the same after they are encoded and read again.
pub(crate) fn path(text: &str) {
    let encode = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    for base in ["", "/api/v1/sse"] {
        let path = format!("{base}/{text}");
        let _ = Route::parse(base, &Method::POST, &path);
        let Ok(route) = Route::parse(base, &Method::GET, &path) else {
            continue;
        };
        let path = match &route {
            Route::StreamPath { room, user } => {
                format!("stream/{}/{}", encode(room.as_str()), encode(user.as_str()))
            }
            Route::StreamRooms { rooms } => {
                assert!((1..=ROOMS_MAX).contains(&rooms.len()));
                let rooms: Vec<String> = rooms.iter().map(|room| encode(room.as_str())).collect();
                format!("stream/{}", rooms.join(","))
            }
            Route::Room { room } => format!("rooms/{}", encode(room.as_str())),
            Route::History { room } => format!("rooms/{}/history", encode(room.as_str())),
            _ => continue,
        };
        assert_eq!(Route::parse(base, &Method::GET, &format!("{base}/{path}")), Ok(route));
    }
}

/// A list of users is read without panic and within its bound, and every user in it is in the body.
pub(crate) fn online(bytes: &[u8]) {
    match online::parse(bytes) {
        Ok(users) => {
            assert!(users.len() <= online::USERS_MAX);
            let names: Vec<&str> = users.iter().map(UserName::as_str).collect();
            let body = serde_json::json!({ "users": names }).to_string();
            assert_eq!(online::parse(body.as_bytes()), Ok(users));
        }
        Err(problem) => assert!(problem.to_json().len() < 1024),
    }
}

/// Headers are read without panic, and no foreign origin may change state.
pub(crate) fn headers(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    for name in [CONTENT_TYPE, CONTENT_ENCODING] {
        let _ = Media::from_headers(&iter::once((name, value.clone())).collect());
    }
    let mut headers: HeaderMap = iter::once((ORIGIN, value.clone())).collect();
    let names_text = bytes.to_ascii_lowercase().windows(5).any(|window| window == b"text/");
    let prefers_html = prefers_html(&iter::once((ACCEPT, value.clone())).collect());
    assert!(!prefers_html || names_text, "a page is for who names it");
    headers.insert(HOST, HeaderValue::from_static("ours.example"));
    let mut config = Config::default_for(1024);
    let passes = Cors::new(&config).check(&Method::POST, &headers).is_ok();
    let text = bytes.to_ascii_lowercase();
    let ours =
        ["http://ours.example", "http://ours.example:80", "https://ours.example", "https://ours.example:443"];
    assert!(!passes || ours.iter().any(|ours| text == ours.as_bytes()));
    if let Ok(origin) = value.to_str() {
        let mut answer = HeaderMap::new();
        config.cors_origins = CorsOrigins::Only(vec![origin.to_owned()]);
        let list = Cors::new(&config);
        list.check(&Method::GET, &headers).expect("reads pass");
        list.access(&headers).apply(&mut answer);
        let allowed = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        assert_eq!(allowed, Some(&value));
    }
}
