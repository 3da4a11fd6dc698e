//! Requests that every server refuses, as it starts by default.

use super::{MARK, Row, get, post, publish, put};
use crate::common::BASE;
use crate::common::conn::request;

pub(super) fn paths() -> Vec<Row> {
    let long = format!("{MARK}{}", "r".repeat(128));
    vec![
        (get(&format!("/{MARK}")), 404, "not_found"),
        (get(&format!("/stream/{MARK}/u/x")), 404, "not_found"),
        (get("/users"), 404, "not_found"),
        (get(&format!("/users/{MARK}")), 404, "not_found"),
        (get(&format!("/stream/{MARK},..")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK},%2F..%2F,a")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK},%zz")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK},")), 400, "room_invalid"),
        (get(&format!("/stream/{MARK},,a")), 400, "room_invalid"),
        (get(&format!("/stream/a,{long}")), 400, "room_invalid"),
        (get(&format!("/rooms/{MARK}/listeners")), 404, "not_found"),
        (get(&format!("/rooms/{MARK}/members")), 404, "presence_off"),
        (put(&format!("/presence/{MARK}"), "{}"), 404, "presence_off"),
        (request("GET", &format!("/{MARK}"), &[], b""), 404, "not_found"),
        (get(&format!("/stream//{MARK}")), 400, "path_invalid"),
        (get(&format!("/stream/../{MARK}")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK}/%2e%2e")), 400, "path_invalid"),
        (get(&format!("/rooms/{MARK}%2f..%2f..%2fstream")), 400, "path_invalid"),
        (post(&format!("/disconnect/a/{MARK}%2F%2e%2e%2Frefresh"), &[], ""), 400, "path_invalid"),
        (get(&format!("/stream/{MARK}/%")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK}/%zz")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK}/%00")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK}/%ff")), 400, "path_invalid"),
        (get(&format!("/stream/{MARK}/%c0%af")), 400, "path_invalid"),
        (request("GET", "*", &[], b""), 400, "path_invalid"),
        (get(&format!("/stream/{MARK}%0A/u")), 400, "room_invalid"),
        (get(&format!("/stream/{long}/u")), 400, "room_invalid"),
        (get(&format!("/rooms/{long}")), 400, "room_invalid"),
        (get(&format!("/stream/a/{MARK}%0D")), 400, "user_invalid"),
        (get(&format!("/stream/a/{long}")), 400, "user_invalid"),
        (request("DELETE", &format!("{BASE}/rooms/{MARK}"), &[], b""), 405, "method_not_allowed"),
        (request("CONNECT", &format!("{MARK}:80"), &[], b""), 405, "method_not_allowed"),
    ]
}

pub(super) fn queries() -> Vec<Row> {
    let long = format!("{MARK}{}", "r".repeat(128));
    let rooms: Vec<String> = (0..65).map(|n| format!("room={MARK}{n}")).collect();
    let list: Vec<String> = (0..65).map(|n| format!("{MARK}{n}")).collect();
    vec![
        (get("/stream"), 400, "room_missing"),
        (get(&format!("/stream?history=1&{MARK}=1")), 400, "room_missing"),
        (get(&format!("/stream?user={MARK}%00")), 400, "user_invalid"),
        (get(&format!("/stream?room=&user={MARK}")), 400, "room_invalid"),
        (get(&format!("/stream?room={long}")), 400, "room_invalid"),
        (get(&format!("/stream?room={MARK}%0a")), 400, "room_invalid"),
        (get(&format!("/stream?{}", rooms.join("&"))), 400, "rooms_too_many"),
        (get(&format!("/stream/{}", list.join(","))), 400, "rooms_too_many"),
        (get(&format!("/stream/a,b?room={MARK}")), 400, "query_invalid"),
        (get(&format!("/stream?room=a&user={MARK}%00")), 400, "user_invalid"),
        (get(&format!("/stream?room=a&user={MARK}&id={MARK}")), 400, "query_invalid"),
        (get(&format!("/stream?room={MARK}%f")), 400, "query_invalid"),
        (get(&format!("/stream/a/u?room={MARK}")), 400, "query_invalid"),
        (get("/stream/a/u?history=1&history=1"), 400, "query_invalid"),
        (post(&format!("/disconnect/a/u?stay_away={MARK}"), &[], ""), 400, "query_invalid"),
        (post(&format!("/rooms/a/mute/u?for={MARK}"), &[], ""), 400, "query_invalid"),
        (post("/rooms/a/mute/u?for=0", &[], ""), 400, "query_invalid"),
        (get(&format!("/stream/a/u?history={MARK}")), 400, "history_invalid"),
        (get("/stream/a/u?history=-1"), 400, "history_invalid"),
        (get(&format!("/stream/a/u?heartbeat={MARK}")), 400, "heartbeat_invalid"),
        (get("/stream?room=a&heartbeat="), 400, "heartbeat_invalid"),
        (get("/stream?room=a&heartbeat=id&heartbeat=id"), 400, "query_invalid"),
        (get(&format!("/stream?room=a&poll={MARK}")), 400, "poll_invalid"),
        (get("/stream/a/u?poll=0"), 400, "poll_invalid"),
        (get("/stream/a,b?poll=61"), 400, "poll_invalid"),
        (get("/stream/a/u?poll=1&poll=1"), 400, "query_invalid"),
        (get(&format!("/stream/a/u?presence={MARK}")), 400, "query_invalid"),
        (get(&format!("/stream/a/u?presence=on&silent={MARK}")), 400, "query_invalid"),
        (get("/stream/a/u?silent=on"), 400, "query_invalid"),
        (get(&format!("/rooms?sort={MARK}")), 400, "query_invalid"),
        (get(&format!("/rooms?after={MARK}")), 400, "query_invalid"),
        (get("/rooms?after="), 400, "room_invalid"),
        (get("/rooms?limit=0"), 400, "limit_invalid"),
        (get(&format!("/rooms/{MARK}/history?limit=0")), 400, "limit_invalid"),
        (get(&format!("/rooms/{MARK}/history?limit=1001")), 400, "limit_invalid"),
        (get(&format!("/rooms/{MARK}/history?limit={MARK}")), 400, "limit_invalid"),
        (get(&format!("/rooms/a/history?before={MARK}")), 400, "before_invalid"),
        (get("/rooms/a/history?before="), 400, "before_invalid"),
    ]
}

pub(super) fn bodies() -> Vec<Row> {
    let announced = |length: usize| {
        format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").into_bytes()
    };
    let chunked = format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let large = format!(r#"{{"room":"a","data":"{MARK}{}"}}"#, "x".repeat(256 << 10));
    let deep = format!(r#"{{"room":"a","data":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    let good = r#"{"room":"a","data":1}"#;
    let crowded = format!("[{good}{}]", format!(",{good}").repeat(4096));
    vec![
        (publish(""), 400, "body_malformed"),
        (publish(&format!("{{{MARK}")), 400, "body_malformed"),
        (publish("null"), 400, "body_malformed"),
        (publish(&format!("{good} {{}}")), 400, "body_malformed"),
        (publish(r#"{"room":"a","room":"b","data":1}"#), 400, "body_malformed"),
        (publish(r#"{"room":"a","data":"\ud800"}"#), 400, "body_malformed"),
        (publish(&deep), 400, "body_malformed"),
        (request("POST", &format!("{BASE}/publish"), &[], b"{\"room\":\"\xff\"}"), 400, "body_malformed"),
        (
            request("POST", &format!("{BASE}/publish"), &[], b"{\"room\":\"a\",\"data\":\"\xff\"}"),
            400,
            "body_malformed",
        ),
        (format!("{chunked}5;\u{1}\r\n").into_bytes(), 400, "request_malformed"),
        (format!("{chunked}{MARK}\r\n").into_bytes(), 400, "request_malformed"),
        (announced((1 << 20) + 1), 413, "body_too_large"),
        (publish(&large), 413, "event_too_large"),
        (post("/publish", &[("content-type", "text/html")], good), 415, "media_type_unsupported"),
        (
            post("/publish", &[("content-type", "application/json; charset=latin1")], good),
            415,
            "media_type_unsupported",
        ),
        (post("/publish", &[("tidegate-user", "")], good), 400, "user_invalid"),
        (post("/publish", &[("tidegate-user", &"u".repeat(129))], good), 400, "user_invalid"),
        (post("/publish", &[("tidegate-user", "zXyMark\u{85}")], good), 400, "user_invalid"),
        (post("/publish", &[("idempotency-key", "")], good), 422, "idempotency_key_invalid"),
        (post("/publish", &[("idempotency-key", "a"); 2], good), 422, "idempotency_key_invalid"),
        (
            post("/publish", &[("idempotency-key", MARK), ("content-type", "application/x-ndjson")], good),
            422,
            "idempotency_key_invalid",
        ),
        (post("/publish", &[("content-encoding", "gzip")], good), 415, "content_encoding_unsupported"),
        (
            post("/publish", &[("content-encoding", "identity, br")], good),
            415,
            "content_encoding_unsupported",
        ),
        (publish("[]"), 422, "batch_empty"),
        (publish(&crowded), 413, "batch_too_large"),
        (post("/publish", &[("content-type", "application/x-ndjson")], "\n"), 422, "batch_empty"),
        (post("/users/online", &[], ""), 400, "body_malformed"),
        (post("/users/online", &[], &format!("{{\"users\":{MARK}")), 400, "body_malformed"),
        (post("/users/online", &[], &format!(r#"{{"users":["{MARK}",7]}}"#)), 422, "users_invalid"),
        (post("/users/online", &[], &format!(r#"{{"users":"{MARK}"}}"#)), 422, "users_invalid"),
        (post("/users/online", &[], &format!(r#"{{"{MARK}":[]}}"#)), 422, "users_invalid"),
        (
            post("/users/online", &[], &format!(r#"{{"users":["{}"]}}"#, "x".repeat(160_000))),
            413,
            "body_too_large",
        ),
    ]
}

pub(super) fn events() -> Vec<Row> {
    let long = format!(r#"{{"room":"{}","data":1}}"#, "r".repeat(129));
    let long_id = format!(r#"{{"room":"a","data":1,"id":"{}"}}"#, "i".repeat(128));
    let event = |body: &str, code| (publish(body), 422, code);
    vec![
        event(&format!(r#"{{"room":"a","data":1,"of":"{MARK}"}}"#), "field_unknown"),
        event("{}", "target_missing"),
        event(&format!(r#"{{"data":"{MARK}"}}"#), "target_missing"),
        event(&format!(r#"{{"room":"{MARK}"}}"#), "data_missing"),
        event(&format!(r#"{{"room":"{MARK}","user":"{MARK}","data":1}}"#), "target_ambiguous"),
        event(r#"{"room":"a","all":true,"data":1}"#, "target_ambiguous"),
        event(r#"{"all":false,"data":1}"#, "target_all_invalid"),
        event(r#"{"room":"","data":1}"#, "target_room_invalid"),
        event(r#"{"room":1,"data":1}"#, "target_room_invalid"),
        event(r#"{"room":"a\nb","data":1}"#, "target_room_invalid"),
        event(&long, "target_room_invalid"),
        event(r#"{"user":null,"data":1}"#, "target_user_invalid"),
        event(r#"{"room":"a","data":1,"event":"a\nb"}"#, "event_name_invalid"),
        event(r#"{"room":"a","data":1,"event":"a\r"}"#, "event_name_invalid"),
        event(r#"{"room":"a","data":1,"event":"\u0000"}"#, "event_name_invalid"),
        event(r#"{"room":"a","data":1,"event":""}"#, "event_name_invalid"),
        event(r#"{"room":"a","data":1,"event":"connected"}"#, "event_name_reserved"),
        event(r#"{"room":"a","data":1,"event":"gap"}"#, "event_name_reserved"),
        event(r#"{"room":"a","data":1,"event":"overload"}"#, "event_name_reserved"),
        event(r#"{"room":"a","data":1,"event":"closing"}"#, "event_name_reserved"),
        event(r#"{"room":"a","data":1,"event":"expiring"}"#, "event_name_reserved"),
        event(r#"{"room":"a","data":1,"event":"error"}"#, "event_name_reserved"),
        event(r#"{"room":"a","data":1,"event":"open"}"#, "event_name_reserved"),
        event(r#"{"room":"a","data":1,"id":"a b"}"#, "event_id_invalid"),
        event(r#"{"room":"a","data":1,"id":"a\n"}"#, "event_id_invalid"),
        event(r#"{"room":"a","data":1,"id":7}"#, "event_id_invalid"),
        event(&long_id, "event_id_invalid"),
        event(r#"{"room":"a","data":1,"id":"k3v9q2-1041"}"#, "event_id_reserved"),
        event(r#"{"room":"a","data":1,"id":"orders-17"}"#, "event_id_reserved"),
        event(r#"{"room":"a","data":1,"exclude":["u"]}"#, "exclude_invalid"),
        event(r#"{"room":"a","data":1,"require":"p"}"#, "require_unsupported"),
        event(r#"{"room":"a","data":1,"key":""}"#, "key_invalid"),
        event(r#"{"room":"a","data":1,"key":"zXyMark","version":-1}"#, "version_invalid"),
        event(r#"{"room":"a","data":1,"version":1}"#, "version_without_key"),
        event(r#"{"room":"a","data":1,"store":"zXyMark"}"#, "store_invalid"),
        event(r#"{"room":"a","data":1,"once":"zXyMark\n"}"#, "once_invalid"),
    ]
}

/// Faults in a request's head, before its target matters.
pub(super) fn messages() -> Vec<Row> {
    let info = |rest: &str| format!("GET {BASE}/info HTTP/1.1\r\n{rest}\r\n\r\n").into_bytes();
    let malformed = |text: String| (text.into_bytes(), 400, "request_malformed");
    let publish = |fields: &str| format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n");
    vec![
        malformed(format!("{MARK}\r\n\r\n")),
        malformed(format!("GET {BASE}/{MARK} HTTP/9.9\r\n\r\n")),
        malformed(format!("\u{1}\u{2}{MARK}\r\n\r\n")),
        malformed(format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\n{MARK} no colon\r\n\r\n")),
        malformed(format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nname\u{0}{MARK}: x\r\n\r\n")),
        malformed(publish(&format!("content-length: {MARK}"))),
        malformed(publish("content-length: 1\r\ncontent-length: 2")),
        malformed(publish("content-length: 1\r\ntransfer-encoding: chunked")),
        malformed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        malformed(format!("GET {BASE}/info#{MARK} HTTP/1.1\r\nhost: x\r\n\r\n")),
        malformed(format!("GET http://x{BASE}/info#/{MARK} HTTP/1.1\r\nhost: x\r\n\r\n")),
        (publish("content-length: 18446744073709551614").into_bytes(), 413, "body_too_large"),
        (publish("content-length: 99999999999999999999").into_bytes(), 413, "body_too_large"),
        // Sent by a client that takes this listener for one that expects the header.
        malformed("PROXY TCP4 198.51.100.7 127.0.0.1 1 2\r\n\r\n".to_owned()),
        // A TLS hello, from a client that uses the wrong port.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400, "request_malformed"),
        (info("a: b"), 400, "host_invalid"),
        (info("host:"), 400, "host_invalid"),
        (info(&format!("host: {MARK}\r\nhost: {MARK}")), 400, "host_invalid"),
        (info(&format!("host: user@{MARK}")), 400, "host_invalid"),
        (info(&format!("host: {MARK}:123456")), 400, "host_invalid"),
        (request("GET", &format!("http://{MARK}{BASE}/info"), &[], b""), 400, "host_invalid"),
        (info(&format!("host: x\r\nx-mark: {}{MARK}", "x".repeat(17 << 10))), 431, "head_too_large"),
        (info(&format!("host: x\r\n{}a: b", format!("{MARK}: x\r\n").repeat(200))), 431, "head_too_large"),
        (get(&format!("/info?{MARK}={}", "x".repeat(17 << 10))), 431, "head_too_large"),
    ]
}

/// Requests that pages may not make.
pub(super) fn origins() -> Vec<Row> {
    let evil = "https://zXyMark.example";
    let rebound = |sign: &str| {
        let text = format!("GET {BASE}/info HTTP/1.1\r\nhost: {MARK}.example\r\n{sign}\r\n\r\n");
        (text.into_bytes(), 403, "host_forbidden")
    };
    vec![
        (post("/publish", &[("origin", evil)], "{}"), 403, "origin_forbidden"),
        (post("/disconnect/a/u", &[("origin", "null")], ""), 403, "origin_forbidden"),
        (request("DELETE", &format!("{BASE}/info"), &[("origin", evil)], b""), 403, "origin_forbidden"),
        rebound("accept-language: en"),
        rebound("sec-fetch-site: same-origin"),
        rebound(&format!("origin: http://{MARK}.example")),
    ]
}
