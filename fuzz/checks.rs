//! Invariants for any input from a peer or an operator. Each fuzz target calls one of these checks,
//! `tests/parsers/parsers.rs` all of them.

#![allow(dead_code, reason = "each program that includes this file calls only some")]

use std::iter;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN,
};
use hyper::{Method, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::{RawValue, Value};
use tidegate::answer::problem::{Code, Problem};
use tidegate::auth::api_keys::ApiKeys;
use tidegate::auth::claims::Parts;
use tidegate::auth::jwks::{self, JWKS_KEYS_MAX};
use tidegate::auth::key::Key;
use tidegate::auth::tokens::Tokens;
use tidegate::config::{AddressRange, Config, ConfigError, ConfigErrors, CorsOrigins, never_match};
use tidegate::http::api::online;
use tidegate::http::api::publish::compact;
use tidegate::http::api::publish::event_body::{self, EventBody};
use tidegate::http::api::publish::fields::Event;
use tidegate::http::api::publish::lines::{Line, Lines};
use tidegate::http::api::publish::malformed::without_bom;
use tidegate::http::api::publish::media::Media;
use tidegate::http::api::query::{
    DisconnectQuery, HistoryQuery, LIMIT_MAX, MUTE_MAX, MuteQuery, POLL_MAX, RoomsQuery, STAY_AWAY_MAX,
    StreamQuery,
};
use tidegate::http::api::route::Route;
use tidegate::http::api::welcome::accept::prefers_html;
use tidegate::http::conn::guard::Guard;
use tidegate::http::conn::proxy_header::{self, HEADER_BYTES_MAX, NotAHeader, Parsed};
use tidegate::http::gate::client;
use tidegate::hub::draft::{Claims, Target};
use tidegate::hub::room_policy::{EVENT_NAMES_MAX, ROOM_POLICIES_MAX};
use tidegate::policy::cors::Cors;
use tidegate::policy::credential::{self, COOKIES_MAX, Places};
use tidegate::rights::grant::{Action, Grant, Permission, PermissionName};
use tidegate::rights::pattern::Pattern;
use tidegate::shard::join::{Presence, ROOMS_MAX};
use tidegate::types::name::{EventId, EventKey, EventName, OnceKey, RoomName, UserName};
use tidegate::types::position::{EPOCH_BYTES, Epoch, Presented};
use tidegate::upstream::answer;
use tidegate::wire::control::Heartbeat;
use tidegate::wire::frame::Unsealed;

/// What a target does with one input.
pub(crate) type Run = fn(&[u8]);

/// Every target by its name, with the function that splits its input. Inputs are plain bytes, so that a test can read
/// the corpus again without the fuzzer.
pub(crate) const TARGETS: &[(&str, Run)] = &[
    ("answer", answer),
    ("api_keys", |input| api_keys(text(input))),
    ("compact", |input| compact(text(input))),
    ("credential", |input| {
        // `Authorization`, `Cookie` and the query, a line each.
        let mut lines = input.splitn(3, |byte| *byte == b'\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        credential(line(), line(), line().map(text));
    }),
    ("cursor", |input| cursor(text(input))),
    ("encode", |input| {
        // Name, id and data; the name before an RS may be missing.
        let (event, name) = match text(input).split_once('\x1e') {
            Some((name, event)) => (event, Some(name)),
            None => (text(input), None),
        };
        let (id, data) = event.split_once('\x1f').unwrap_or(("k-1", event));
        encode_then_parse(name, id, data);
    }),
    ("forwarded", |input| {
        // The peer, in the bytes of an IPv6 address; empty for a Unix socket.
        let (peer, lines) = input.split_at(input.len().min(16));
        let peer = <[u8; 16]>::try_from(peer).map(|peer| Ipv6Addr::from(peer).into());
        forwarded(peer.ok(), &lines.split(|byte| *byte == b'\n').collect::<Vec<_>>());
    }),
    ("guard", |input| {
        let (step, requests) = input.split_first().unwrap_or((&1, &[]));
        guard(requests, (*step).into());
    }),
    ("headers", headers),
    ("jwks", jwks),
    ("lines", |input| {
        let (sizes, body) = input.split_at(input.len().min(8));
        lines(body, sizes, 20);
    }),
    ("online", online),
    ("path", |input| path(text(input))),
    ("permission", |input| {
        // The permission, then the room it is asked about, and the user, who may be missing.
        let mut parts = text(input).splitn(3, '\x1f');
        let permission_text = parts.next().unwrap_or_default();
        permission(permission_text, parts.next().unwrap_or("lobby"), parts.next());
    }),
    ("proxy_header", proxy_header),
    ("publish_body", publish_body),
    ("query", |input| query(text(input))),
    ("room_tables", |input| {
        // A room, then what follows the first `[[room]]`.
        let (room, tables) = text(input).split_once('\x1f').unwrap_or(("lobby", text(input)));
        room_tables(room, tables);
    }),
    ("settings", |input| settings(text(input))),
    ("token", |input| {
        token(text(input));
        // Where to cut the good token, how much of it to leave out, and what to insert.
        let (at, rest) = input.split_first().unwrap_or((&0, &[]));
        let (cut, put) = rest.split_first().unwrap_or((&0, &[]));
        changed_token((*at).into(), (*cut).into(), text(put));
    }),
];

/// Runs the target called `name`.
pub(crate) fn run(name: &str, input: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of the table");
    run(input);
}

/// Returns the valid text at the beginning of `input`.
fn text(input: &[u8]) -> &str {
    let valid = std::str::from_utf8(input).map_or_else(|err| err.valid_up_to(), str::len);
    std::str::from_utf8(&input[..valid]).expect("valid up to there")
}

/// The bound on data in these checks.
pub(crate) const EVENT_BYTES_MAX: usize = 64;

/// A body is read without panic; every event in it is the same after it is printed and read again, and none has an id
/// that is a position.
pub(crate) fn publish_body(bytes: &[u8]) {
    let events = match event_body::parse_body(bytes, EVENT_BYTES_MAX) {
        Ok(EventBody::One(event)) => vec![*event],
        Ok(EventBody::Batch(events)) => events,
        Err(problem) => {
            assert!(problem.to_json().len() < 1024);
            let text = without_bom(bytes).trim_ascii();
            assert!(problem.index.is_none() || text.starts_with(b"["));
            return;
        }
    };
    assert!(!events.is_empty());
    for event in events {
        let draft = &event.draft;
        assert!(draft.data.len() <= EVENT_BYTES_MAX);
        assert!(draft.version.is_none() || draft.key.is_some());
        assert_eq!(draft.claims, Claims::default(), "only the server makes claims");
        draft.id.iter().for_each(is_nobodys_position);
        let printed = to_json(&event).to_string();
        assert_eq!(event_body::parse_event(printed.as_bytes(), EVENT_BYTES_MAX), Ok(event));
    }
}

/// An application's answer grants access only if it is empty or an object with known members, and the result is what
/// they say.
pub(crate) fn answer(bytes: &[u8]) {
    let Ok(refinement) = answer::parse(bytes) else {
        return;
    };
    if bytes.trim_ascii().is_empty() {
        assert_eq!(refinement, answer::Refinement::default());
        return;
    }
    let value: Value = serde_json::from_slice(bytes).expect("a yes is JSON");
    let members = value.as_object().expect("a yes is an object");
    assert!(members.keys().all(|key| ["user", "permissions", "expires_in"].contains(&&**key)), "{value}");
    assert_eq!(refinement.user.as_ref().map(UserName::as_str), value["user"].as_str());
    assert_eq!(refinement.grant.is_some(), value["permissions"].is_array());
    assert_eq!(refinement.expires_in.map(Into::into), value["expires_in"].as_u64());
}

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

/// A header in front of a connection is found with its last byte and no earlier, within its bound; bytes that are no
/// header stay so, whatever follows; and an address that is found occurs in the header.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let Some(end) = (0..=bytes.len()).find(|end| proxy_header::parse(&bytes[..*end]) != Ok(Parsed::Partial))
    else {
        assert!(bytes.len() < HEADER_BYTES_MAX, "nobody is waited for so long");
        return;
    };
    let found = proxy_header::parse(&bytes[..end]);
    assert_eq!(proxy_header::parse(bytes), found);
    let Ok(Parsed::Complete { length, client }) = found else {
        assert_eq!(found, Err(NotAHeader));
        return;
    };
    assert_eq!(length, end);
    assert!(length <= HEADER_BYTES_MAX);
    let Some(client) = client else { return };
    let header = &bytes[..end];
    let binary = match client {
        IpAddr::V4(client) => header.windows(4).any(|window| window == client.octets()),
        IpAddr::V6(client) => header.windows(16).any(|window| window == client.octets()),
    };
    let text = String::from_utf8_lossy(header);
    let written = text.split(' ').nth(2).and_then(|word| word.parse::<IpAddr>().ok());
    assert!(binary || written.is_some_and(|written| written.to_canonical() == client), "{client}: {text:?}");
}

/// The bound on a head in these checks.
const HEAD_BYTES_MAX: usize = 64;

/// Returns the body that asks for `event`.
pub(crate) fn to_json(event: &Event) -> Value {
    let Event { draft, once } = event;
    let mut json = serde_json::json!({ "data": draft.data });
    match &draft.target {
        Target::Room(room) => json["room"] = room.as_str().into(),
        Target::User(user) => json["user"] = user.as_str().into(),
        Target::All => json["all"] = true.into(),
    }
    let name = draft.name.as_ref().map(EventName::as_str);
    let id = draft.id.as_ref().map(EventId::as_str);
    let exclude = draft.exclude.as_ref().map(UserName::as_str);
    let require = draft.require.as_ref().map(PermissionName::as_str);
    let key = draft.key.as_ref().map(EventKey::as_str);
    let once = once.as_ref().map(OnceKey::as_str);
    let texts = [("event", name), ("id", id), ("exclude", exclude), ("require", require), ("key", key)];
    for (field, text) in texts.into_iter().chain([("once", once)]) {
        if let Some(text) = text {
            json[field] = text.into();
        }
    }
    if let Some(version) = draft.version {
        json["version"] = version.into();
    }
    if !draft.store {
        json["store"] = false.into();
    }
    json
}

/// Compact JSON means the same as the original, is no longer, and cannot be made more compact.
pub(crate) fn compact(text: &str) {
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return;
    };
    let Ok(compact) = compact::compact(raw) else {
        assert!(serde_json::from_str::<Value>(text).is_err(), "only too deep for both");
        return;
    };
    assert!(compact.len() <= raw.get().len());
    let again: &RawValue = serde_json::from_str(&compact).expect("compact JSON is JSON");
    assert_eq!(compact::compact(again).as_ref(), Ok(&compact));
    // `Value` does not read all JSON: `1e999`, half surrogate pairs.
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        assert_eq!(serde_json::from_str::<Value>(&compact).ok(), Some(value));
    }
}

/// However `body` is cut, the same lines come out as from splitting it whole. `sizes` are those of the chunks, used in
/// turns; 0 is an empty chunk.
pub(crate) fn lines(body: &[u8], sizes: &[u8], line_bytes_max: usize) {
    let mut lines = Lines::new(line_bytes_max);
    let mut found = Vec::new();
    let mut rest = Bytes::copy_from_slice(body);
    // A one at the end of each round keeps all-empty rounds from going on for ever.
    let mut sizes = sizes.iter().copied().chain(iter::once(1)).cycle();
    while !rest.is_empty() {
        let size = usize::from(sizes.next().expect("it cycles"));
        lines.push(rest.split_to(size.min(rest.len())));
        found.extend(iter::from_fn(|| lines.next_line()));
    }
    found.extend(iter::from_fn(|| lines.finish()));
    assert_eq!(found, split_whole(body, line_bytes_max));
}

/// Returns the lines of `body` up to the first one that is too long.
fn split_whole(body: &[u8], line_bytes_max: usize) -> Vec<Result<Line, Problem>> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > line_bytes_max {
            found.push(Err(Problem::new(Code::EventTooLarge).at_line(number)));
            break;
        }
        if !without_bom(line).trim_ascii().is_empty() {
            found.push(Ok(Line { number, bytes: Bytes::copy_from_slice(line) }));
        }
    }
    found
}

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

/// The client is the peer, or was named by a trusted proxy; it is no trusted proxy itself unless all addresses are, or
/// one is malformed. Neither headers from the client nor the way the list is cut into lines changes the client.
pub(crate) fn forwarded(peer: Option<IpAddr>, lines: &[&[u8]]) {
    let find = |lines: &[&[u8]]| -> Option<Option<IpAddr>> {
        let value =
            |line: &&[u8]| Some(("x-forwarded-for".parse().ok()?, HeaderValue::from_bytes(line).ok()?));
        Some(client::address(&TRUSTED, peer, &lines.iter().map(value).collect::<Option<HeaderMap>>()?))
    };
    let is_trusted = |address| TRUSTED.iter().any(|proxy| proxy.covers(address));
    let peer = peer.map(|peer| peer.to_canonical());
    let Some(found) = find(lines) else {
        return; // Not valid in a header.
    };
    assert_eq!(found, found.map(|found| found.to_canonical()));
    assert!(found == peer || is_trusted(peer), "a stranger spoke for somebody else");
    assert_eq!(find(&[&lines.join(&b","[..])]), Some(found));
    if !is_trusted(found) {
        for forged in [&b"8.8.8.8"[..], b"10.0.0.1", b"unknown", b"", b", ,"] {
            assert_eq!(find(&[&[forged], lines].concat()), Some(found));
            assert_eq!(find(&[&[forged, &lines.join(&b","[..])].join(&b","[..])]), Some(found));
        }
    }
}

/// The proxies that these checks trust.
static TRUSTED: LazyLock<Vec<AddressRange>> = LazyLock::new(|| {
    let text = "trusted_proxies = ['unix', '10.0.0.0/8', 'fd00::/8']";
    read_settings(text).expect("these settings are right").trusted_proxies
});

/// A file of settings is read without panic. Each fault is reported on a line of its own, with its place; right
/// settings are the same after they are printed and read again.
pub(crate) fn settings(text: &str) {
    let errors = match read_settings(text) {
        Ok(config) => {
            assert_eq!(read_settings(&config.to_toml()).expect("they were right"), config);
            return;
        }
        Err(errors) => errors,
    };
    for error in &errors {
        let told = error.to_string();
        assert!(!told.contains(char::is_control), "{told:?}");
        if let ConfigError::Syntax { place, .. }
        | ConfigError::UnknownKey { place, .. }
        | ConfigError::MissingKey { place, .. } = error
        {
            assert!((1..=text.matches('\n').count() + 1).contains(&place.line), "{told}");
            let line = text.split('\n').nth(place.line - 1).expect("it has that line");
            assert!((1..=line.chars().count() + 1).contains(&place.column), "{told}");
        }
    }
}

/// Tables are read like settings. Those that are right keep their bounds and have different patterns, and the one that
/// counts for a room is none of those that are said never to match.
pub(crate) fn room_tables(room: &str, tables: &str) {
    let text = format!("{AROUND_TABLES}[[room]]\n{tables}");
    settings(&text);
    let Ok(config) = read_settings(&text) else {
        return;
    };
    let tables = &config.room_tables;
    assert!((1..=ROOM_POLICIES_MAX).contains(&tables.len()));
    for (at, table) in tables.iter().enumerate() {
        assert!(table.settings.events.len() <= EVENT_NAMES_MAX && !table.pattern.pattern.has_user());
        assert!(table.settings.max_event_bytes.is_none_or(|bytes| bytes <= config.max_body_bytes));
        assert!(!tables[..at].iter().any(|other| other.pattern.pattern == table.pattern.pattern));
    }
    if let Ok(room) = RoomName::new(room) {
        let counts = tables.iter().position(|table| table.pattern.pattern.covers(room.as_str(), None));
        let never = never_match(&config);
        assert!(!never.iter().any(|table| counts == Some(table.index())), "{room}: {never:?}");
    }
}

/// Settings that the keys of a table need.
const AROUND_TABLES: &str = "publish_callback = \"http://127.0.0.1:1/\"\npresence_callback = \"http://127.0.0.1:1/\"\n\
                             api_keys_file = \"/keys.toml\"\n";

fn read_settings(text: &str) -> Result<Config, ConfigErrors> {
    Config::from_toml(Path::new("settings.toml"), text, OPEN_FILES_MAX)
}

/// The open files limit in these checks.
const OPEN_FILES_MAX: u64 = 20_000;

/// A presented id means a position of this epoch only if it is exactly what this epoch writes for it.
pub(crate) fn cursor(text: &str) {
    for epoch in [Epoch::new(0), Epoch::new(1_234_567_890)] {
        let as_written = |offset| epoch.position(offset).to_string() == text;
        match epoch.read(text) {
            Presented::Here(offset) => assert!(as_written(offset)),
            Presented::Elsewhere | Presented::Foreign => {
                let digits = text.strip_prefix(epoch.as_str()).and_then(|rest| rest.strip_prefix('-'));
                let offset = digits.and_then(|digits| digits.parse().ok());
                assert!(offset.is_none_or(|offset| !as_written(offset)), "it was written by this life");
            }
        }
    }
    if let Ok(id) = EventId::new(text) {
        is_nobodys_position(&id);
    }
}

/// No epoch takes an id that a publisher may choose for a position: neither any two epochs, nor the one whose text it
/// begins with.
fn is_nobodys_position(id: &EventId) {
    let digits = id.as_str().chars().take(EPOCH_BYTES).map(|digit| digit.to_digit(36).unwrap_or(0));
    let digits: Vec<u64> = digits.map(u64::from).collect();
    let named = digits.iter().rev().fold(0, |seed, digit| 36 * seed + digit);
    for epoch in [Epoch::new(0), Epoch::new(1_234_567_890), Epoch::new(named)] {
        assert_eq!(epoch.read(id.as_str()), Presented::Foreign, "{id} in {epoch}");
    }
}

/// The encoder makes of a valid event one chunk with one event in it, which an `EventSource` reads as intended: the
/// same name and id, and the same data but for its line ends. Names and ids that could break out are refused.
pub(crate) fn encode_then_parse(name: Option<&str>, id: &str, data: &str) {
    let (Ok(name), Ok(id)) = (name.map(EventName::new).transpose(), EventId::new(id)) else {
        return;
    };
    let room = data.len().is_multiple_of(2).then_some("a room: é");
    let frame = Unsealed::from_room(name.clone(), room, data, id.as_str().len()).seal(id.as_str().as_bytes());
    assert_eq!(
        (frame.room(), frame.id(), frame.name()),
        (room, id.as_str(), name.as_ref().map(EventName::as_str))
    );
    let plain = frame.plain();
    let head = format!("{:x}\r\n", plain.len());
    assert_eq!(&frame.chunk()[..], [head.as_bytes(), &plain, b"\r\n"].concat());

    let text = std::str::from_utf8(&plain).expect("an event stream is UTF-8");
    let meant = data.replace("\r\n", "\n").replace('\r', "\n");
    let name = name.as_ref().map_or("message", EventName::as_str);
    assert_eq!(event_source(text), [(name.to_owned(), id.as_str().to_owned(), meant)]);
}

/// The events in a stream: name, last event id, data (WHATWG HTML §9.2.6, without `retry`).
fn event_source(stream: &str) -> Vec<(String, String, String)> {
    let (mut events, mut name, mut last_id, mut data) =
        (Vec::new(), String::new(), String::new(), String::new());
    for line in stream.replace("\r\n", "\n").split(['\n', '\r']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                if let Some(data) = data.strip_suffix('\n') {
                    let name = if name.is_empty() { "message" } else { &name };
                    events.push((name.to_owned(), last_id.clone(), data.to_owned()));
                }
                name.clear();
                data.clear();
            }
            "event" => value.clone_into(&mut name),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => value.clone_into(&mut last_id),
            _ => {}
        }
    }
    events
}

/// A file of API keys is read without panic; a text that is no key finds no entry, and no message contains a key.
pub(crate) fn api_keys(text: &str) {
    match ApiKeys::from_toml(Path::new("keys.toml"), text) {
        Ok(keys) => assert!(keys.find(text).is_none() && keys.find("").is_none()),
        Err(err) => {
            let told = format!("{err} {err:?}");
            assert!(told.starts_with("api_keys_file: keys.toml: ") && !told.contains("tgk_"), "{told}");
        }
    }
}

/// A credential is one that a request has in an allowed place, whole, and the only one, except for a cookie's few
/// values. A value of `Authorization` counts if it is a bearer's.
pub(crate) fn credential(authorization: Option<&[u8]>, cookie: Option<&[u8]>, query: Option<&str>) {
    let values = [(AUTHORIZATION, authorization), (COOKIE, cookie)];
    let values =
        values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value?).ok()?)));
    let headers: HeaderMap = values.collect();
    let by_header = headers.get(AUTHORIZATION).is_some_and(credential::is_bearer);
    let places = Places { cookie: Some("t".into()), query: true };
    if let Ok(found) = credential::find(&places, &headers, query) {
        assert!(!by_header || found.is_some());
        let Some(found) = found else { return };
        assert!(!by_header || !found.is_cookie);
        assert!(found.others.len() < COOKIES_MAX && (found.is_cookie || found.others.is_empty()));
        let shown = headers.values().map(HeaderValue::as_bytes).chain(query.map(str::as_bytes));
        let shown = shown.collect::<Vec<_>>().concat();
        let is_encoded = query.is_some_and(|query| query.contains('%'));
        for text in found.text.iter().map(AsRef::as_ref).chain(found.others.iter().copied()) {
            let is_part = || shown.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(is_encoded || text.is_empty() || is_part());
        }
        assert!(!found.others.iter().any(|other| found.text.as_deref() == Some(*other)));
    }
    let by_header_alone = credential::find(&Places::default(), &headers, query).expect("it can't be two");
    assert_eq!(by_header_alone.is_some(), by_header);
}

/// A set of keys is read without panic, has no more keys than its bound, and no secrets unless they are allowed.
pub(crate) fn jwks(bytes: &[u8]) {
    let published = jwks::parse(bytes, false);
    let own = jwks::parse(bytes, true);
    for key in published.iter().flatten() {
        assert!(!format!("{:?}", key.algorithm).starts_with("HS"));
    }
    for keys in [published, own].into_iter().flatten() {
        assert!((1..=JWKS_KEYS_MAX).contains(&keys.len()));
        for (index, key) in keys.iter().enumerate() {
            let is_twin = |other: &&Key| other.kid == key.kid && other.algorithm == key.algorithm;
            assert!(key.kid.is_none() || !keys[..index].iter().any(|other| is_twin(&other)));
            assert!(!key.signed(b"", "") && !key.signed(bytes, "AAAA"));
        }
    }
}

/// A permission is read without panic. Only the plain `admin` makes an administrator, and only the plain `sse:publish`
/// reaches beyond rooms; `{user}` is the token's user, and matches nothing without one.
pub(crate) fn permission(text: &str, room: &str, user: Option<&str>) {
    let parsed = Permission::parse(text);
    let (grant, errors) = Grant::parse([text]);
    assert_eq!(parsed.as_ref().err(), errors.first().map(|(_, err)| err));
    assert_eq!(grant.allows(user, Action::Administer), text == "admin");
    assert_eq!(grant.allows(user, Action::PublishAnywhere), text == "sse:publish");
    let may_read = grant.allows(user, Action::Read(room));
    assert!(!may_read || text == "sse:read" || text.starts_with("sse:read:"));
    if let Some(Ok(pattern)) = text.strip_prefix("sse:read:").map(Pattern::parse) {
        assert_eq!(pattern.covers(room, user), may_read);
        assert!(!text.contains("{user}") || !pattern.covers(room, None));
    }
    assert!(Pattern::exactly(room).covers(room, user));
    assert_eq!(Pattern::exactly(text).covers(room, user), text == room);
    if let Ok(encoded) = Pattern::parse(&utf8_percent_encode(room, NON_ALPHANUMERIC).to_string()) {
        assert!(encoded.covers(room, user));
        assert_eq!(encoded.covers(text, user), text == room);
    }
}

/// No text but the good token itself is accepted, either alone or in place of a part of the token.
pub(crate) fn token(text: &str) {
    let coded = URL_SAFE_NO_PAD.encode(text);
    let parts: Vec<&str> = GOOD_TOKEN.split('.').collect();
    let [header, claims, signature] = parts[..] else { unreachable!("it has three") };
    for shown in [
        text.to_owned(),
        format!("{text}.{claims}.{signature}"),
        format!("{coded}.{claims}.{signature}"),
        format!("{header}.{text}.{signature}"),
        format!("{header}.{coded}.{signature}"),
        format!("{header}.{claims}.{text}"),
        format!("{header}.{claims}.{coded}"),
    ] {
        believed_if_good(&shown);
    }
    let unsigned = format!("{header}.{coded}.AAAA");
    if let Ok(claims) = Parts::of(&unsigned).and_then(|parts| parts.claims()) {
        for name in ["exp", "nbf", "iat", "sub", "aud", "permissions"] {
            match claims.time(name) {
                Ok(Some(time)) => assert!(time <= YEAR_9999_S, "{name} is {time}"),
                Ok(None) => assert_eq!(claims.get(name), None, "{name} is passed over"),
                Err(_) => assert!(claims.get(name).is_some(), "{name} is refused and not there"),
            }
            assert_eq!(claims.text(name) == Ok(None), claims.get(name).is_none());
            assert!(claims.text(name).is_err() || claims.texts(name).is_ok());
        }
    }
}

/// A changed good token is not accepted either.
pub(crate) fn changed_token(at: usize, cut: usize, put: &str) {
    let at = at.min(GOOD_TOKEN.len());
    let after = (at + cut).min(GOOD_TOKEN.len());
    believed_if_good(&format!("{}{put}{}", &GOOD_TOKEN[..at], &GOOD_TOKEN[after..]));
}

fn believed_if_good(token: &str) {
    // A secret, and a set of keys that was not read yet: no token may be accepted because the set is missing.
    static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
        let text = format!(
            "token_keys = [\"HS256:base64:{}\"]\ntoken_jwks = [\"https://issuer.example/jwks\"]",
            STANDARD.encode(TOKEN_SECRET)
        );
        let config = read_settings(&text).expect("these settings are right");
        Tokens::load(&config, std::sync::Arc::default()).expect("a good secret").expect("a secret")
    });
    let found = TOKENS.verify(token, 1_999_999_999);
    assert_eq!(found.is_ok(), token == GOOD_TOKEN, "{token:?}");
}

const TOKEN_SECRET: &str = "a secret that everybody may know: it is for checks";

/// Signed with that secret, HS256.
const GOOD_TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjIwMDAwMDAwMDAsInBlcm1pc3Npb25zIjpbInNzZTpyZWFkIl19.5qdNE8fwv8qqvMVyjh7LUdooAWAlfysXUaNoFYfG27w";

/// The last second that a time may have.
const YEAR_9999_S: u64 = 253_402_300_800;
