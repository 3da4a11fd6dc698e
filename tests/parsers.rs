//! Promise: whatever a peer sends, the parsers neither panic nor let through what they say they refuse. The checks are
//! the ones the fuzz targets use; here they are fed with inputs that get past the first brace.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;
use tidegate::http::body;
use tidegate::http::proxy_header::{self, Progress};
use tidegate::http::query::StreamQuery;
use tidegate::http::route::Route;
use tidegate::hub::draft::{Draft, Target};
use tidegate::hub::name::{EventId, EventName, RoomName, UserName};
use tidegate::hub::position::Epoch;

/// Pieces of publish bodies, good and bad.
const JSON_PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    " ",
    "\n",
    "\"",
    "\\",
    "\\u0061",
    "\\ud800",
    "\\\"",
    "\0",
    "é",
    "😀",
    "null",
    "true",
    "false",
    "-0",
    "1e9",
    "1.50",
    "\"room\":\"a\"",
    "\"group\":\"b\"",
    "\"user\":\"u\"",
    "\"all\":true",
    "\"data\":1",
    "\"data\":\"x\"",
    "\"data\":",
    "\"event\":\"say\"",
    "\"id\":\"m-1\"",
    "\"exclude\":\"u\"",
    "\"require\":\"p\"",
    "{\"all\":true,\"data\":[ ]}",
    "\"a\":1",
];

/// Pieces of query strings and paths, good and bad.
const URL_PIECES: &[&str] = &[
    "room",
    "group",
    "user",
    "id",
    "last_event_id",
    "history",
    "limit",
    "before",
    "stay_away",
    "stream",
    "rooms",
    "disconnect",
    "=",
    "=",
    "&",
    "/",
    "/",
    "?",
    "+",
    "%",
    "%20",
    "%2F",
    "%00",
    "%C3%A9",
    "%FF",
    ".",
    "..",
    "a",
    "b",
    "7",
    "60s",
    "é",
];

/// Pieces of header values, good and bad.
const HEADER_PIECES: &[&str] = &[
    "http://",
    "https://",
    "ours.example",
    "evil.example",
    ":80",
    ":443",
    ":8080",
    "null",
    "*",
    "/",
    ",",
    ";",
    "=",
    " ",
    "application/json",
    "text/plain",
    "charset",
    "utf-8",
    "\"",
    "identity",
    "gzip",
];

const REQUEST_PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /publish HTTP/1.1\r\nContent-Length: 7\r\n\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "HTTP/1.0",
    "Host: x\r\n",
    "x: ",
    "3\r\nabc\r\n",
    "0\r\n",
    "a;b=c",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "\t",
    "\0",
    ":",
    " ",
    "abc",
    "0123456789012345678901234567890123456789",
];

/// Pieces of PROXY protocol headers, good and bad. Signatures of version 2 are put in front.
const PROXY_PIECES: &[&str] = &[
    "PROXY ",
    "TCP4",
    "TCP6",
    "UNKNOWN",
    " ",
    " ",
    " ",
    "198.51.100.7",
    "::1",
    "::ffff:10.0.0.1",
    "65535",
    "0",
    "+1",
    "007",
    "\r\n",
    "\r",
    "\n",
    "\0",
    "\u{20}\0\0\0",
    "\u{21}\u{11}\0\u{c}",
    "\u{21}!\0$",
    "GET / HTTP/1.1\r\n",
];

/// Texts made of `pieces`.
fn soup(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

fn room() -> impl Strategy<Value = RoomName> {
    "[a-z/%+&= é😀]{1,20}".prop_map(|text| RoomName::new(&text).expect("no control characters"))
}

fn user() -> impl Strategy<Value = UserName> {
    "\\PC{1,20}".prop_filter_map("not a user name", |text| UserName::new(&text).ok())
}

fn draft() -> impl Strategy<Value = Draft> {
    let target =
        prop_oneof![room().prop_map(Target::Room), user().prop_map(Target::User), Just(Target::All),];
    let name = "[a-z \"\\\\é]{1,10}".prop_filter_map("reserved", |text| EventName::new(&text).ok());
    let id = "[A-Za-z0-9._~-]{1,127}".prop_filter_map("not an id", |text| EventId::new(&text).ok());
    let data = any::<String>().prop_filter("too long", |text| text.len() <= checks::EVENT_BYTES_MAX);
    (target, option::of(name), option::of(id), data, option::of(user())).prop_map(
        |(target, name, id, data, exclude)| Draft { target, name, id, data, exclude, require: None },
    )
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

proptest! {
    #[test]
    fn any_bytes_may_be_a_publish_body(bytes in vec(any::<u8>(), 0..200)) {
        checks::publish_body(&bytes);
    }

    #[test]
    fn anything_like_json_may_be_a_publish_body(text in soup(JSON_PIECES)) {
        checks::publish_body(text.as_bytes());
        checks::publish_body(format!("{{\"all\":true,\"data\":{text}}}").as_bytes());
        checks::compact(&text);
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
    fn valid_drafts_survive_the_body(draft in draft()) {
        let printed = checks::to_json(&draft);
        checks::publish_body(format!("[{printed},{printed:#}]").as_bytes());
        let read = body::parse_event(printed.to_string().as_bytes(), checks::EVENT_BYTES_MAX);
        prop_assert_eq!(read, Ok(draft));
    }

    #[test]
    fn compact_json_is_what_serde_json_prints(value in json()) {
        let pretty: Box<RawValue> = serde_json::from_str(&format!("{value:#}")).expect("it was just printed");
        prop_assert_eq!(body::compact(&pretty), Ok(value.to_string()));
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
        text in soup(REQUEST_PIECES),
        bytes in vec(any::<u8>(), 0..100),
        step in 1..20_usize,
    ) {
        checks::guard(text.as_bytes(), step);
        checks::guard(&bytes, step);
    }

    #[test]
    fn anything_may_come_where_a_proxy_introduces(
        text in soup(PROXY_PIECES),
        bytes in vec(any::<u8>(), 0..60),
    ) {
        for start in [&b""[..], b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"] {
            checks::proxy_header(&[start, text.as_bytes()].concat());
            checks::proxy_header(&[start, &bytes].concat());
        }
    }

    /// However a proxy writes it, its client is found, and nothing of what follows is taken for its header.
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
            let wanted = Progress::Complete { length: header.len(), client: Some(client.to_canonical()) };
            prop_assert_eq!(proxy_header::parse(&bytes), Ok(wanted));
            checks::proxy_header(&bytes);
        }
    }

    #[test]
    fn anything_may_be_a_query_or_a_path(text in prop_oneof![soup(URL_PIECES), any::<String>()]) {
        checks::query(&text);
        checks::query(&format!("room=a&{text}"));
        checks::path(&text);
        checks::path(&format!("stream/{text}/u"));
    }

    #[test]
    fn valid_queries_survive_form_encoding(
        rooms in vec(room(), 1..20),
        user in option::of(user()),
        last_event_id in option::of("\\PC{1,20}"),
        history in option::of(any::<usize>()),
    ) {
        let mut query = StreamQuery { rooms: Vec::new(), user, last_event_id, history };
        for room in rooms {
            if !query.rooms.contains(&room) {
                query.rooms.push(room);
            }
        }
        prop_assert_eq!(StreamQuery::parse(Some(&checks::to_query(&query))), Ok(query));
    }

    #[test]
    fn names_survive_the_path(room in room(), user in user()) {
        // Dots alone are a dot segment; such names are for the query form.
        prop_assume!(!matches!(user.as_str(), "." | ".."));
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let path = format!("/b/stream/{}/{}", encode(room.as_str()), encode(user.as_str()));
        let found = Route::parse("/b", &hyper::Method::GET, &path);
        prop_assert_eq!(found, Ok(Route::StreamPath { room, user }));
    }

    #[test]
    fn anything_may_be_a_header(
        text in prop_oneof![soup(HEADER_PIECES), any::<String>()],
        bytes in vec(any::<u8>(), 0..40),
    ) {
        checks::headers(text.as_bytes());
        checks::headers(&bytes);
    }
}
