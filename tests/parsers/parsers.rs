//! Promise: whatever a peer sends, the parsers neither panic nor accept what they document as refused. The checks are
//! those of the fuzz targets; here they run on inputs that get past the first brace, and on all inputs that fuzzing has
//! kept.

use crate::checks;
use crate::pieces::{self, soup};

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, panic};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;
use tidegate::http::api::publish::compact;
use tidegate::http::api::publish::event_body;
use tidegate::http::api::publish::fields::Event;
use tidegate::http::api::query::StreamQuery;
use tidegate::http::api::route::Route;
use tidegate::http::conn::proxy_header::{self, Parsed};
use tidegate::hub::draft::{Draft, Target};
use tidegate::rights::grant::PermissionName;
use tidegate::shard::join::Presence;
use tidegate::types::name::{EventId, EventKey, EventName, OnceKey, RoomName, UserName};
use tidegate::types::position::Epoch;
use tidegate::upstream::answer;
use tidegate::wire::control::Heartbeat;

fn room() -> impl Strategy<Value = RoomName> {
    "[a-z/%+&= é😀]{1,20}".prop_map(|text| RoomName::new(&text).expect("no control characters"))
}

fn user() -> impl Strategy<Value = UserName> {
    "\\PC{1,20}".prop_filter_map("not a user name", |text| UserName::new(&text).ok())
}

fn event() -> impl Strategy<Value = Event> {
    let target =
        prop_oneof![room().prop_map(Target::Room), user().prop_map(Target::User), Just(Target::All),];
    let name = "[a-z \"\\\\é]{1,10}".prop_filter_map("reserved", |text| EventName::new(&text).ok());
    let id = "[A-Za-z0-9._~-]{1,127}".prop_filter_map("not an id", |text| EventId::new(&text).ok());
    let data = any::<String>().prop_filter("too long", |text| text.len() <= checks::publish::EVENT_BYTES_MAX);
    let require = "[A-Za-z0-9._-]{1,64}".prop_map(|text| PermissionName::new(&text).expect("a name"));
    let key = "\\PC{1,20}".prop_filter_map("not a key", |text| EventKey::new(&text).ok());
    let once = "\\PC{1,20}".prop_filter_map("not a key", |text| OnceKey::new(&text).ok());
    let kept = (option::of((key, option::of(any::<u64>()))), any::<bool>(), option::of(once));
    let members = (target, option::of(name), option::of(id), data, option::of(user()), option::of(require));
    (members, kept).prop_map(|((target, name, id, data, exclude, require), (key, store, once))| {
        let (key, version) = key.map_or((None, None), |(key, version)| (Some(key), version));
        let draft = Draft { name, id, exclude, require, key, version, store, ..Draft::to(target, data) };
        Event { draft, once }
    })
}

/// JSON values whose numbers `serde_json` prints as it read them.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[ -~\t\n\r\"\\\\é😀]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec(("[ a-z\"\\\\]{0,6}", inner), 0..5).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

/// An address among those that the checks trust.
fn ten([b, c, d]: [u8; 3]) -> IpAddr {
    [10, b, c, d].into()
}

/// Inputs for `target`: those that reach every edge, and those that once broke a check.
fn kept(target: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let folder = |name: &str| fs::read_dir(fuzz.join(name).join(target)).into_iter().flatten();
    let files = folder("corpus").chain(folder("crashes"));
    files.map(|entry| entry.expect("a folder that is read").path()).collect()
}

#[test]
fn what_fuzzing_found_holds() {
    for (target, run) in checks::TARGETS {
        let inputs = kept(target);
        assert!(!inputs.is_empty(), "{target} has a corpus");
        for path in inputs {
            let input = fs::read(&path).expect("a file that is listed");
            let ran = panic::catch_unwind(|| run(&input));
            assert!(ran.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_target_is_fuzzed_kept_and_replayed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz.join(folder)).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("a folder that is read").path());
        paths.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    };
    let targets: BTreeSet<_> = checks::TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    assert!(names("crashes").is_subset(&targets));
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("a manifest");
    for target in targets {
        let path = format!("fuzz_targets/{target}.rs");
        let text = fs::read_to_string(fuzz.join(&path)).expect("it was listed");
        assert!(text.contains(&format!("checks::run(\"{target}\", input)")), "{path} runs its own check");
        assert!(manifest.contains(&format!("name = \"{target}\"\npath = \"{path}\"")), "{path} is built");
    }
}

proptest! {
    #[test]
    fn any_bytes_may_be_a_publish_body(bytes in vec(any::<u8>(), 0..200)) {
        checks::publish_body(&bytes);
    }

    #[test]
    fn anything_like_json_may_be_a_publish_body(text in soup(pieces::JSON)) {
        checks::publish_body(text.as_bytes());
        checks::publish_body(format!("{{\"all\":true,\"data\":{text}}}").as_bytes());
        checks::compact(&text);
    }

    #[test]
    fn anything_may_be_an_applications_answer(
        text in prop_oneof![soup(pieces::ANSWER), soup(pieces::ANSWER).prop_map(|text| format!("{{{text}}}"))],
        bytes in vec(any::<u8>(), 0..100),
    ) {
        checks::answer(text.as_bytes());
        checks::answer(&bytes);
    }

    #[test]
    fn anything_may_be_shown_said_or_a_key(text in soup(pieces::JSON), bytes in vec(any::<u8>(), 0..100)) {
        for json in [text.clone(), format!("{{\"data\":{text}}}"), format!("{{\"code\":\"a\",\"title\":{text}}}")] {
            checks::presence_body(json.as_bytes());
            checks::said(json.as_bytes());
        }
        checks::presence_body(&bytes);
        checks::said(&bytes);
        checks::idempotency_key(&[text.as_bytes()]);
        checks::idempotency_key(&bytes.split(|byte| *byte == b',').collect::<Vec<_>>());
    }

    #[test]
    fn every_proper_yes_is_understood(
        user in option::of(user()),
        permissions in option::of(vec(any::<String>(), 0..300)),
        expires_in in option::of(1_u64..),
    ) {
        let named = user.as_ref().map(UserName::as_str);
        let json = serde_json::json!({ "user": named, "permissions": permissions, "expires_in": expires_in });
        let read = answer::parse(json.to_string().as_bytes()).expect("a yes");
        prop_assert_eq!(read.user, user);
        prop_assert_eq!(read.grant.is_some(), permissions.is_some());
        prop_assert_eq!(read.expires_in.map(u64::from), expires_in);
        checks::answer(json.to_string().as_bytes());
    }

    #[test]
    fn anything_may_be_presented_as_an_id(text in any::<String>(), offset: u64, digits in "[0-9]{0,22}") {
        checks::cursor(&text);
        for epoch in [Epoch::new(0), Epoch::new(1)] {
            checks::cursor(epoch.position(offset).as_str());
            checks::cursor(&format!("{epoch}-{digits}"));
        }
    }

    #[test]
    fn anything_may_be_an_events_data(text in any::<String>(), broken in "[a:\\r\\n \\x00]{0,40}") {
        for data in [&text, &broken] {
            checks::encode_then_parse(None, "k-1", data);
            checks::encode_then_parse(Some(data), "k-1", data);
            checks::encode_then_parse(Some("price"), data, data);
        }
    }

    #[test]
    fn valid_events_survive_the_body(event in event()) {
        let printed = checks::publish::to_json(&event);
        checks::publish_body(format!("[{printed},{printed:#}]").as_bytes());
        let read = event_body::parse_event(printed.to_string().as_bytes(), checks::publish::EVENT_BYTES_MAX);
        prop_assert_eq!(read, Ok(event));
    }

    #[test]
    fn compact_json_is_what_serde_json_prints(value in json()) {
        let pretty: Box<RawValue> = serde_json::from_str(&format!("{value:#}")).expect("it was just printed");
        prop_assert_eq!(compact::compact(&pretty), Ok(value.to_string()));
        checks::compact(pretty.get());
    }

    #[test]
    fn any_chunking_gives_the_same_lines(
        body in "[ab \r\n]{0,120}",
        sizes in vec(0..9_u8, 0..9),
        line_bytes_max in 0..12_usize,
    ) {
        checks::lines(body.as_bytes(), &sizes, line_bytes_max);
    }

    #[test]
    fn requests_are_framed_alike_however_they_are_cut(
        text in soup(pieces::REQUEST),
        bytes in vec(any::<u8>(), 0..100),
        step in 1..20_usize,
    ) {
        checks::guard(text.as_bytes(), step);
        checks::guard(&bytes, step);
    }

    #[test]
    fn anything_may_come_where_a_proxy_introduces(
        text in soup(pieces::PROXY),
        bytes in vec(any::<u8>(), 0..60),
    ) {
        for start in [&b""[..], b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"] {
            checks::proxy_header(&[start, text.as_bytes()].concat());
            checks::proxy_header(&[start, &bytes].concat());
        }
    }

    /// In every form that a proxy writes, the client is found, and no byte after the header is taken for part of it.
    #[test]
    fn valid_headers_say_who_it_is(
        client in any::<IpAddr>(),
        ports in any::<[u16; 2]>(),
        more in vec(any::<u8>(), 0..40),
        behind in vec(any::<u8>(), 0..40),
    ) {
        let (word, kind, octets) = match client {
            IpAddr::V4(client) => ("TCP4", 0x11, client.octets().to_vec()),
            IpAddr::V6(client) => ("TCP6", 0x21, client.octets().to_vec()),
        };
        let line = format!("PROXY {word} {client} {client} {} {}\r\n", ports[0], ports[1]).into_bytes();
        let rest = [&octets[..], &octets, &ports[0].to_be_bytes(), &ports[1].to_be_bytes(), &more].concat();
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        let binary = [b"\r\n\r\n\0\r\nQUIT\n", &[0x21, kind][..], &length, &rest].concat();
        for header in [line, binary] {
            let bytes = [&header[..], &behind].concat();
            let wanted = Parsed::Complete { length: header.len(), client: Some(client.to_canonical()) };
            prop_assert_eq!(proxy_header::parse(&bytes), Ok(wanted));
            checks::proxy_header(&bytes);
        }
    }

    #[test]
    fn anything_may_be_a_query_or_a_path(text in prop_oneof![soup(pieces::URL), any::<String>()]) {
        checks::query(&text);
        checks::query(&format!("room=a&{text}"));
        checks::path(&text);
        checks::path(&format!("stream/{text}/u"));
        checks::path(&format!("stream/{text}"));
    }

    #[test]
    fn valid_queries_survive_form_encoding(
        rooms in vec(room(), 1..20),
        user in option::of(user()),
        last_event_id in option::of("\\PC{1,20}"),
        history in option::of(any::<usize>()),
        heartbeat in option::of(prop_oneof![Just(Heartbeat::Id), Just(Heartbeat::Comment)]),
        poll in option::of((1..=60_u64).prop_map(Duration::from_secs)),
        presence in prop_oneof![Just(Presence::Off), Just(Presence::Member), Just(Presence::Silent)],
    ) {
        let mut query = StreamQuery {
            rooms: Vec::new(),
            user,
            last_event_id,
            history,
            heartbeat,
            poll,
            presence,
        };
        for room in rooms {
            if !query.rooms.contains(&room) {
                query.rooms.push(room);
            }
        }
        prop_assert_eq!(StreamQuery::parse(Some(&checks::request::to_query(&query))), Ok(query));
    }

    #[test]
    fn names_survive_the_path(room in room(), user in user()) {
        // Dots between slashes are a dot segment; such names need the query form.
        let has_dots = |name: &str| name.split(['/', '\\']).any(|part| matches!(part, "." | ".."));
        prop_assume!(!has_dots(room.as_str()) && !has_dots(user.as_str()));
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let path = format!("/b/stream/{}/{}", encode(room.as_str()), encode(user.as_str()));
        let found = Route::parse("/b", &hyper::Method::GET, &path);
        prop_assert_eq!(found, Ok(Route::StreamPath { room: room.clone(), user }));
        let path = format!("/b/stream/{}", encode(room.as_str()));
        let found = Route::parse("/b", &hyper::Method::GET, &path);
        prop_assert_eq!(found, Ok(Route::StreamRooms { rooms: vec![room] }));
    }

    #[test]
    fn anything_may_be_a_list_of_users(text in prop_oneof![soup(pieces::USERS), any::<String>()]) {
        checks::online(text.as_bytes());
    }

    #[test]
    fn proxies_may_say_anything_about_a_client(
        peer in option::of(prop_oneof![any::<IpAddr>(), any::<[u8; 3]>().prop_map(ten)]),
        text in soup(pieces::HOP),
        bytes in vec(any::<u8>(), 0..60),
    ) {
        for text in [text.as_bytes(), &bytes] {
            checks::forwarded(peer, &text.split(|byte| *byte == b'\n').collect::<Vec<_>>());
        }
    }

    #[test]
    fn anything_may_stand_in_the_settings(text in soup(pieces::SETTINGS), any in any::<String>()) {
        checks::settings(&text);
        checks::settings(&any);
        checks::settings(&format!("gzip = 1\n{text}"));
    }

    #[test]
    fn anything_may_stand_in_a_table_of_rooms(
        text in soup(pieces::ROOM),
        room in prop_oneof![soup(&["a", "b", "-", "é"]), any::<String>()],
        any in any::<String>(),
    ) {
        checks::room_tables(&room, &text);
        checks::room_tables(&room, &any);
        checks::room_tables(&room, &format!("match = \"a*\"\n{text}"));
    }

    /// Patterns of few letters, so that many include each other.
    #[test]
    fn tables_may_have_any_patterns(patterns in vec("[ab]{0,3}\\*?|a%62|a%00\\*?", 1..8), room in "[ab]{0,4}") {
        let tables = patterns.iter().map(|pattern| format!("match = {pattern:?}\n"));
        checks::room_tables(&room, &tables.collect::<Vec<_>>().join("[[room]]\n"));
    }

    #[test]
    fn anything_may_be_a_token(
        text in prop_oneof![soup(pieces::TOKEN), soup(pieces::TOKEN).prop_map(|text| format!("{{{text}}}")), any::<String>()],
        at in 0..200_usize,
        cut in 0..4_usize,
        put in "[A-Za-z0-9_.= -]{0,3}",
    ) {
        checks::token(&text);
        checks::changed_token(at, cut, &put);
    }

    #[test]
    fn anything_may_be_a_set_of_keys(text in soup(pieces::TOKEN), bytes in vec(any::<u8>(), 0..100)) {
        checks::jwks(&bytes);
        checks::jwks(text.as_bytes());
        checks::jwks(format!("{{\"keys\":[{{{text}}}]}}").as_bytes());
    }

    #[test]
    fn anything_may_be_a_permission(
        text in soup(pieces::PERMISSION),
        room in soup(pieces::PERMISSION),
        user in option::of(soup(pieces::PERMISSION)),
        any in any::<String>(),
    ) {
        checks::permission(&text, &room, user.as_deref());
        checks::permission(&format!("sse:read:{text}"), &room, user.as_deref());
        checks::permission(&any, &text, user.as_deref());
    }

    #[test]
    fn anything_may_show_who_asks(
        headers in vec(option::of(soup(pieces::CREDENTIAL)), 2),
        query in option::of(soup(pieces::CREDENTIAL)),
    ) {
        let header = |at: usize| headers[at].as_deref().map(str::as_bytes);
        checks::credential(header(0), header(1), query.as_deref());
    }

    #[test]
    fn anything_may_be_a_file_of_api_keys(text in soup(pieces::API_KEY), any in any::<String>()) {
        checks::api_keys(&text);
        checks::api_keys(&any);
    }

    #[test]
    fn anything_may_be_a_header(
        text in prop_oneof![soup(pieces::HEADER), any::<String>()],
        bytes in vec(any::<u8>(), 0..40),
    ) {
        checks::headers(text.as_bytes());
        checks::headers(&bytes);
    }
}
