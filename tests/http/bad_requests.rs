//! Promise: whatever a peer sends, the answer has the right status and code in less than a kilobyte, says where to
//! look, repeats nothing of the request but the name of a field, and is counted; and the server goes on.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::application::{Application, Reply};
use common::bearer;
use common::conn::{Response, chunk, request};
use common::metrics::Metrics;
use common::signer;
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem, eventually};
use jsonwebtoken::Algorithm;
use tidegate::answer::problem::Code;
use tidegate::config::{
    AddressRange, Config, DeniedUserAgent, ForeignOrigins, HostPattern, JwksSource, KnownRooms, Rate,
    RequiredHeader, RoomSettings, RoomTable, Secret, UpstreamUrl,
};
use tidegate::engine::lifecycle::Stage;
use tidegate::http::api::publish::idempotency;
use tidegate::hub::room_policy::{PresencePolicy, RoomPolicies, RoomPolicy};
use tidegate::rights::pattern::Pattern;
use tidegate::types::name::OnceKey;

/// A text that every request contains and no answer may contain.
const MARK: &str = "zXyMark";

fn assert_refused(response: &Response, status: u16, code: &str) {
    assert_problem(response, status, code);
    let whole = format!("{}{}", response.head.0, response.text());
    assert!(!whole.contains(MARK), "{whole}");
    // A code with many causes comes with a detail.
    let many = ["not_found", "path_invalid", "query_invalid", "room_missing", "body_malformed"];
    assert!(!many.contains(&code) || response.json()["detail"].is_string(), "{whole}");
    assert!(code != "field_unknown" || response.json()["field"].is_string(), "{whole}");
}

/// A request on a connection of its own, and the status and code of its answer.
type Row = (Vec<u8>, u16, &'static str);

/// A server, the streams that keep its state, and the requests that it refuses.
struct Scene {
    server: TestServer,
    kept: Vec<Listener>,
    /// Asked by the server.
    application: Option<Application>,
    rows: Vec<Row>,
}

impl Scene {
    fn new(server: TestServer, rows: Vec<Row>) -> Self {
        Self { server, kept: Vec::new(), application: None, rows }
    }

    fn beside(self, application: Application) -> Self {
        Self { application: Some(application), ..self }
    }

    /// Opens a stream at `path` that stays open.
    fn keeping(mut self, path: &str) -> Self {
        self.kept.push(self.server.listen(path));
        self
    }
}

fn get(path: &str) -> Vec<u8> {
    get_with(path, &[])
}

fn get_with(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", &format!("{BASE}{path}"), headers, b"")
}

fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    request("POST", &format!("{BASE}{path}"), headers, body.as_bytes())
}

/// Changes the presence of the user `u`.
fn put(path: &str, body: &str) -> Vec<u8> {
    request("PUT", &format!("{BASE}{path}"), &[("tidegate-user", "u")], body.as_bytes())
}

fn publish(body: &str) -> Vec<u8> {
    post("/publish", &[], body)
}

/// Every fault of a request, by the server that it is sent to. A code that is in no row fails the test below.
fn scenes() -> Vec<Scene> {
    let mut scenes = vec![
        Scene::new(
            TestServer::start(),
            [paths(), queries(), bodies(), events(), messages(), origins()].concat(),
        ),
        Scene::new(TestServer::with(strict), checks()),
        Scene::new(
            TestServer::with(|config| config.token_keys = vec![bearer::key(bearer::SECRET)]),
            credentials(),
        ),
        unreachable(),
        keyless(),
        Scene::new(
            TestServer::with(|config| config.request_timeout = Duration::from_secs(1)),
            vec![(format!("GET {BASE}/{MARK}").into_bytes(), 408, "request_timeout")],
        ),
        Scene::new(
            TestServer::with(|config| config.denied_addresses = vec![range("127.0.0.0/8")]),
            vec![(get("/info"), 403, "address_forbidden"), (publish("{"), 403, "address_forbidden")],
        ),
        Scene::new(
            TestServer::with(|config| config.max_connections = 1),
            vec![(get(&format!("/stream/a/{MARK}")), 503, "full")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| config.max_connections_per_user = Some(1)),
            vec![(get("/stream/a/u"), 503, "user_connections_exceeded")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| config.max_connections_per_address = Some(1)),
            vec![(get("/stream/a/other"), 503, "address_connections_exceeded")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| config.room_tables = vec![small_room()]),
            vec![(get(&format!("/stream/a?user={MARK}")), 503, "room_full")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| {
                config.rooms = KnownRooms::Listed;
                config.room_tables = vec![small_room()];
            }),
            vec![
                (get(&format!("/stream/{MARK}")), 403, "room_unknown"),
                (get(&format!("/rooms/{MARK}")), 403, "room_unknown"),
                (get(&format!("/rooms/{MARK}/history")), 403, "room_unknown"),
            ],
        ),
        present(),
        draining(),
        spent(),
        used(),
        ruled(),
    ];
    scenes.extend(refusing());
    scenes
}

/// The room `a`, with one listener.
fn small_room() -> RoomTable {
    let settings = RoomSettings { max_listeners: Some(1), ..RoomSettings::default() };
    RoomTable { pattern: "a".parse().expect("a pattern"), settings }
}

fn paths() -> Vec<Row> {
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

fn queries() -> Vec<Row> {
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

fn bodies() -> Vec<Row> {
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

fn events() -> Vec<Row> {
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
fn messages() -> Vec<Row> {
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
fn origins() -> Vec<Row> {
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

fn strict(config: &mut Config) {
    let key = RequiredHeader { name: "x-key".parse().expect("a name"), value: Some(Secret::new("open")) };
    config.required_headers = vec![key];
    config.denied_user_agents = vec![DeniedUserAgent::Containing("zxymark".to_owned())];
    config.allowed_hosts = vec![HostPattern::Exact("localhost".to_owned())];
    config.foreign_origins = ForeignOrigins::Refuse;
}

fn checks() -> Vec<Row> {
    let key = ("x-key", "open");
    let elsewhere =
        |host: &str| format!("GET {BASE}/info HTTP/1.1\r\nhost: {host}\r\nx-key: open\r\n\r\n").into_bytes();
    vec![
        (get("/info"), 403, "header_required"),
        (get_with("/info", &[("x-key", MARK)]), 403, "header_required"),
        (get_with("/info", &[key, ("x-key", MARK)]), 403, "header_required"),
        (get_with("/info", &[key, ("user-agent", MARK)]), 403, "user_agent_forbidden"),
        (elsewhere(MARK), 403, "host_forbidden"),
        (elsewhere("127.0.0.1"), 403, "host_forbidden"),
        (get_with("/info", &[key, ("origin", "https://zXyMark.example")]), 403, "origin_forbidden"),
    ]
}

/// Faulty credentials.
fn credentials() -> Vec<Row> {
    let with = |token: &str| bearer::bearer(token);
    let may_little = with(&bearer::token("u", &["sse:read:a", "sse:publish:a"]));
    let marked = with(&format!("{MARK}.{MARK}.{MARK}"));
    let stream = format!("/stream/a/{MARK}");
    let body = format!(r#"{{"room":"{MARK}","data":1}}"#);
    let by = |value: &'static str| ("authorization", value);
    let may_little: &'static str = may_little.leak();
    let may_revoke: &'static str = with(&bearer::token("ops", &["admin"])).leak();
    let marked: &'static str = marked.leak();
    let bad_require = r#"{"room":"a","data":1,"require":"zXyMark!"}"#;
    vec![
        (get(&stream), 401, "unauthorized"),
        (get_with(&stream, &[by(marked)]), 401, "unauthorized"),
        (get_with("/info", &[by("Basic zXyMark")]), 401, "unauthorized"),
        (post("/publish", &[], &body), 401, "unauthorized"),
        (get_with(&stream, &[by(may_little)]), 403, "forbidden"),
        (get_with("/info", &[by(may_little)]), 403, "forbidden"),
        (post("/publish", &[by(may_little)], &body), 403, "forbidden"),
        (post("/revoke", &[by(may_little)], "{}"), 403, "forbidden"),
        (post("/revoke", &[by(may_revoke)], "{}"), 422, "revocation_invalid"),
        (post("/revoke", &[by(may_revoke)], r#"{"users":["zXyMark"]}"#), 422, "revocation_invalid"),
        (post("/revoke", &[by(may_revoke)], "{\"user\":zXyMark"), 400, "body_malformed"),
        (post("/publish", &[by(may_little)], bad_require), 422, "require_invalid"),
        (post("/refresh", &[by(may_little)], ""), 404, "connection_unknown"),
        (get_with("/info", &[by(may_little), by(marked)]), 400, "token_ambiguous"),
    ]
}

/// A server whose application is not there.
fn unreachable() -> Scene {
    let server = TestServer::with(|config| {
        config.auth_callback = UpstreamUrl::parse("http://127.0.0.1:1/auth");
    });
    Scene::new(server, vec![(get(&format!("/stream/a/{MARK}")), 503, "auth_unavailable")])
}

/// A server whose application refuses each event, and one whose application is not there.
fn refusing() -> [Scene; 2] {
    let event = format!(r#"{{"room":"a","data":"{MARK}"}}"#);
    let me = bearer::bearer(&bearer::token("me", &["sse:publish"]));
    let scene = |url: &str, status, code| {
        let server = TestServer::with(|config| {
            config.token_keys = vec![bearer::key(bearer::SECRET)];
            config.publish_callback = UpstreamUrl::parse(url);
            let text =
                format!("publish_callback = {url:?}\n[[room]]\nmatch = \"a\"\ncallbacks = [\"publish\"]\n");
            config.room_tables =
                Config::from_toml("a.toml".as_ref(), &text, 4096).expect("settings").room_tables;
        });
        Scene::new(server, vec![(post("/publish", &[("authorization", &me)], &event), status, code)])
    };
    let application = Application::always(Reply::With(403, String::new()));
    let url = application.url("/publish");
    [
        scene(&url, 403, "publish_refused").beside(application),
        scene("http://127.0.0.1:1/publish", 503, "callback_unavailable"),
    ]
}

/// A server that has not read the keys yet that the tokens need.
fn keyless() -> Scene {
    let url = UpstreamUrl::parse("http://127.0.0.1:1/jwks").expect("a URL");
    let server = TestServer::with(|config| config.token_jwks = vec![JwksSource::Url(url)]);
    let token = signer::ISSUER.token(Algorithm::ES256, &signer::claims());
    let by = bearer::bearer(&token);
    let by = [("authorization", &*by)];
    Scene::new(
        server,
        vec![
            (get_with("/stream/a/u", &by), 503, "auth_unavailable"),
            (get_with("/info", &by), 503, "auth_unavailable"),
            (post("/publish", &by, "{}"), 503, "auth_unavailable"),
        ],
    )
}

/// A server whose rooms have presence. Nobody is present.
fn present() -> Scene {
    let server = TestServer::start();
    let engine = server.server().engine();
    let policy = RoomPolicy { presence: Some(PresencePolicy::default()), ..(*RoomPolicy::example()).clone() };
    let tables = vec![(Pattern::parse("*").expect("a pattern"), Arc::new(policy))];
    engine.hub.set_policies(RoomPolicies { tables, ..RoomPolicies::default() }, engine.clock.now());
    let put = |body: &str| put("/presence/a", body);
    let rows = vec![
        (put(&format!(r#"{{"data":"{MARK}"}}"#)), 404, "not_present"),
        (put(&format!(r#"{{"status":"{MARK}"}}"#)), 422, "presence_invalid"),
        (put(r#"{"data":"zXyMark\ud800"}"#), 422, "presence_invalid"),
        (put(&format!("{{{MARK}")), 400, "body_malformed"),
        (put(&format!(r#"{{"data":"{MARK}{}"}}"#, "x".repeat(1024))), 413, "presence_too_large"),
        (request("PUT", &format!("{BASE}/presence/a"), &[], b"{\"data\":1}"), 422, "presence_invalid"),
        (get(&format!("/rooms/a/members?after={MARK}%00")), 400, "user_invalid"),
        (get(&format!("/rooms/a/members?limit={MARK}")), 400, "limit_invalid"),
    ];
    Scene::new(server, rows)
}

fn draining() -> Scene {
    let scene = Scene::new(TestServer::start(), vec![(get(&format!("/stream/a/{MARK}")), 503, "draining")]);
    scene.server.server().engine().hub.drain();
    scene
}

/// A server whose publisher has used up its rate.
fn spent() -> Scene {
    let rate = Rate { events: 1, per: Duration::from_hours(1) };
    let server = TestServer::with(|config| config.publish_rate_per_user = Some(rate));
    server.publish(&serde_json::json!({"room": "a", "data": 1}));
    Scene::new(server, vec![(publish(r#"{"room":"a","data":1}"#), 429, "rate_limited")])
}

/// A server that has an event with its publisher's own id.
fn used() -> Scene {
    let server = TestServer::start();
    server.publish(&serde_json::json!({"room": "a", "data": 1, "id": "once"}));
    let repeated = |body: &str| (publish(body), 409, "event_id_repeated");
    let rows = vec![
        repeated(r#"{"room":"a","data":1,"id":"once"}"#),
        repeated(r#"{"user":"u","data":2,"id":"once"}"#),
        repeated(r#"[{"all":true,"data":1},{"all":true,"data":2,"id":"once"}]"#),
        repeated(r#"[{"room":"a","data":1,"id":"twin"},{"room":"b","data":2,"id":"twin"}]"#),
    ];
    Scene::new(server, rows)
}

/// A server whose rooms have rules, with a user that has published, and one that is muted.
fn ruled() -> Scene {
    let tables = r#"
        rooms = "listed"
        [[room]]
        match = "keys"
        publish = "keys"
        [[room]]
        match = "chat"
        events = ["chat"]
        refuse_repeats = "1h"
    "#;
    let text = format!("api_keys_file = \"/keys.toml\"\n{tables}");
    let read = Config::from_toml("a.toml".as_ref(), &text, 4096).expect("right settings");
    let server = TestServer::with(|config| {
        config.token_keys = vec![bearer::key(bearer::SECRET)];
        (config.rooms, config.room_tables) = (read.rooms, read.room_tables);
    });
    let by = |user: &str| bearer::bearer(&bearer::token(user, &["sse:publish"]));
    let publish = |user: &str, body: &str| post("/publish", &[("authorization", &by(user))], body);
    let said = r#"{"room":"chat","event":"chat","data":1,"once":"k"}"#;
    assert_eq!(server.connect().round(&publish("u", said)).status(), 200);
    let engine = server.server().engine();
    engine.hub.mutes().put("quiet", "chat", None, engine.clock.now()).expect("a place");
    let (slow, key) = (r#"{"room":"chat","event":"chat","data":2}"#, OnceKey::new("slow").expect("a key"));
    let claim = idempotency::of_request("user u", &key, slow.as_bytes(), Duration::from_mins(5));
    // A first request that never ends.
    std::mem::forget(engine.order.begin(&claim, engine.clock.now()));
    let busy = post("/publish", &[("authorization", &by("u")), ("idempotency-key", "slow")], slow);
    let rows = vec![
        (publish("u", r#"{"room":"zXyMark","data":1}"#), 403, "room_unknown"),
        (publish("u", r#"{"room":"keys","data":"zXyMark"}"#), 403, "publish_keys_only"),
        (publish("u", r#"{"room":"chat","data":1}"#), 422, "event_name_forbidden"),
        (publish("u", r#"{"room":"chat","event":"zXyMark","data":1}"#), 422, "event_name_forbidden"),
        (publish("u", r#"{"room":"chat","event":"chat","data":1}"#), 409, "repeated"),
        (publish("quiet", said), 403, "muted"),
        (publish("u", r#"{"room":"chat","event":"chat","data":3,"once":"k"}"#), 422, "idempotency_mismatch"),
        (busy, 409, "idempotency_busy"),
    ];
    Scene::new(server, rows)
}

fn range(text: &str) -> AddressRange {
    AddressRange::Net(text.parse().expect("a network"))
}

/// Codes that need more than one request, and the tests that show them.
const ELSEWHERE: [(&str, &str); 7] = [
    ("mutes_full", include_str!("../access/mute.rs")),
    ("buffers_full", include_str!("../stream/limits.rs")),
    ("waiting_full", include_str!("places.rs")),
    ("dashboard_full", include_str!("../watch/dashboard.rs")),
    ("memory_exhausted", include_str!("../memory.rs")),
    ("revocations_full", include_str!("../access/sessions.rs")),
    ("stay_away_full", include_str!("../stream/limits.rs")),
];

#[test]
fn codes_that_are_shown_elsewhere_are() {
    for (code, test) in ELSEWHERE {
        let asserted = format!("503, \"{code}\");");
        let shows =
            |line: &str| line.trim_start().starts_with("assert_problem(") && line.ends_with(&asserted);
        assert!(test.lines().any(shows), "{code}");
    }
}

/// Returns the reason under which a refusal is counted. A second list, so that an error in the first one shows.
fn reason(code: &'static str) -> &'static str {
    match code {
        "buffers_full" => "buffers",
        "waiting_full" => "waiting",
        "user_connections_exceeded" => "user_connections",
        "address_connections_exceeded" => "address_connections",
        "origin_forbidden" => "origin",
        "address_forbidden" => "address",
        "header_required" => "header",
        "user_agent_forbidden" => "user_agent",
        "host_forbidden" => "host",
        "room_full" => "room_full",
        "event_id_repeated" => "repeated",
        "idempotency_mismatch" | "idempotency_busy" => "idempotency",
        "room_unknown" | "publish_keys_only" | "event_name_forbidden" | "repeated" => "room_policy",
        "publish_refused" => "application",
        "full"
        | "draining"
        | "muted"
        | "callback_unavailable"
        | "rate_limited"
        | "auth_unavailable"
        | "unauthorized"
        | "forbidden" => code,
        _ => "bad_request",
    }
}

/// Returns how many requests were refused, by reason.
fn refusals(metrics: &Metrics) -> BTreeMap<String, f64> {
    let reason = |series: &str| {
        let labels = series.strip_prefix("tidegate_refused_total{reason=\"")?;
        Some(labels.strip_suffix("\"}").expect("one label").to_owned())
    };
    let all = metrics.series.iter().filter_map(|(series, count)| Some((reason(series)?, *count)));
    all.filter(|(_, count)| *count > 0.0).collect()
}

#[test]
fn every_bad_request_has_its_status_and_code() {
    let mut seen = BTreeSet::from(ELSEWHERE.map(|(code, _)| code));
    for Scene { server, kept, application, rows } in scenes() {
        let before = server.metrics();
        let mut counted = BTreeMap::<String, f64>::new();
        for (bytes, status, code) in rows {
            let mut conn = server.connect();
            // The server may answer before the request has come whole.
            let _ = conn.try_send(&bytes);
            let response = conn.response();
            let what = bytes[..bytes.len().min(200)].escape_ascii();
            assert_eq!((response.status(), &response.json()["code"]), (status, &code.into()), "{what}");
            assert_refused(&response, status, code);
            *counted.entry(reason(code).to_owned()).or_default() += 1.0;
            seen.insert(code);
        }
        eventually(&format!("{counted:?}"), || refusals(&server.metrics()) == counted);
        let published = "tidegate_events_published_total";
        server.metrics().assert(published, before.get(published));
        // Only requests that could have been accepted take a place among the connections.
        let open = kept.len();
        server.wait_for("tidegate_connections", f64::from(u32::try_from(open).expect("a few")));
        drop(application);
    }
    let all: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(seen, all, "each code is in a row");
}

#[test]
fn other_methods_are_told_the_right_ones() {
    let server = TestServer::start();
    let table = [
        ("POST", "/stream", "GET, OPTIONS"),
        ("HEAD", "/stream/a/u", "GET, OPTIONS"),
        ("DELETE", "/stream/a/u", "GET, OPTIONS"),
        ("GET", "/publish", "POST, OPTIONS"),
        ("PUT", "/publish", "POST, OPTIONS"),
        ("GET", "/disconnect/a/u", "POST, OPTIONS"),
        ("POST", "/stream/a,b", "GET, OPTIONS"),
        ("GET", "/users/online", "POST, OPTIONS"),
        ("POST", "/rooms", "GET, HEAD, OPTIONS"),
        ("POST", "/info", "GET, HEAD, OPTIONS"),
        ("DELETE", "/rooms/a", "GET, HEAD, OPTIONS"),
        ("PATCH", "/rooms/a/history", "GET, HEAD, OPTIONS"),
        ("PUT", "/rooms/a/members", "GET, HEAD, OPTIONS"),
        ("POST", "/presence/a", "PUT, DELETE, OPTIONS"),
        ("GET", "/rooms/a/mute/u", "POST, DELETE, OPTIONS"),
        ("zXyMark", "/info", "GET, HEAD, OPTIONS"),
    ];
    for (method, path, allow) in table {
        let mut conn = server.connect();
        conn.send(request(method, &format!("{BASE}{path}"), &[], b""));
        if method == "HEAD" {
            let head = conn.head();
            assert_eq!((head.status(), head.header("allow")), (405, Some(allow)), "{method} {path}");
            continue;
        }
        let response = conn.response();
        assert_refused(&response, 405, "method_not_allowed");
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
        // `OPTIONS` names the methods that are allowed.
        let options = server.connect().round(&request("OPTIONS", &format!("{BASE}{path}"), &[], b""));
        assert_eq!((options.status(), options.header("allow")), (204, Some(allow)), "{path}");
    }
    let count = u32::try_from(table.len()).expect("a few");
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", count.into());
}

/// The answer to a path that is nearly right once was only "not found", without the path to use.
#[test]
fn a_path_that_is_nearly_right_is_told_the_right_one() {
    let server = TestServer::start();
    let table = [
        ("/api/v1/sse/stream/lobby/", "path_invalid", "or one at the end"),
        ("/api/v1/sse/stream/a/b/c", "not_found", "%2F"),
        ("/api/v1/sse/stream", "room_missing", "/stream?room=ROOM"),
        ("/api/v1/sse/rooms/a/events", "not_found", "/rooms/ROOM"),
        ("/api/v1/sse/users", "not_found", "/users/online"),
        ("/api/v1/sse/history", "not_found", "/rooms/ROOM/history"),
        ("/api/v1/sse/disconnect/lobby", "not_found", "/disconnect/ROOM/USER"),
        ("/api/v1/sse/publish", "method_not_allowed", "POST"),
        ("/api/v1/sse/events", "not_found", "/stream, /publish"),
        ("/stream/lobby/me", "not_found", "base path is missing"),
        ("/api/v2/sse/stream/lobby/me", "not_found", "GET / shows"),
        ("/metrics", "not_found", "admin_listen"),
        ("/api/v1/sse/readyz", "not_found", "admin_listen"),
    ];
    for (path, code, told) in table {
        let response = server.connect().round(&request("GET", path, &[], b""));
        assert_refused(&response, response.status(), code);
        let detail = response.json()["detail"].to_string();
        assert!(detail.contains(told), "{path}: {detail}");
    }
    let elsewhere = server.admin("/api/v1/sse/info");
    assert_refused(&elsewhere, 404, "not_found");
    assert!(elsewhere.text().contains("the admin listener has /metrics"), "{}", elsewhere.text());
}

/// The name of a field is the only part of a request that an answer repeats. It is short, and it is plain text to every
/// reader.
#[test]
fn a_fields_name_is_repeated_as_text_and_no_more() {
    let server = TestServer::start();
    let long = "<script>".repeat(20);
    let cut = format!(r#""field":"{}…""#, "\\u003cscript\\u003e".repeat(6));
    let table: [(&str, &str); 4] = [
        ("romm", r#""field":"romm""#),
        ("<script>&", r#""field":"\u003cscript\u003e\u0026""#),
        (r#"\"}\n\u2028\u202e\u0000"#, r#""field":"\"}\n\u2028\u202e\u0000""#),
        (&long, &cut),
    ];
    for (sent, shown) in table {
        let response = server.post("/publish", &[], format!(r#"{{"room":"a","data":1,"{sent}":"{MARK}"}}"#));
        assert_refused(&response, 422, "field_unknown");
        assert!(response.text().contains(shown), "{}", response.text());
    }
    // Of a query, only names that the server defines are repeated.
    let response = server.get(&format!("/stream?{MARK}=1&history={MARK}&room=a"));
    assert_refused(&response, 400, "history_invalid");
    assert!(response.text().contains(r#""field":"history""#), "{}", response.text());
}

#[test]
fn head_reads_what_get_reads_without_the_body() {
    let server = TestServer::start();
    let mut conn = server.connect();
    conn.send(request("HEAD", &format!("{BASE}/rooms/a"), &[], b""));
    let head = conn.head();
    assert_eq!(head.status(), 200);
    let whole = server.get("/rooms/a").body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*whole));
    // Only the next answer follows.
    conn.send(request("GET", &format!("{BASE}/rooms/a"), &[], b""));
    assert_eq!(conn.response().status(), 200);
}

#[test]
fn what_is_not_http_ends_the_connection() {
    let server = TestServer::start();
    for text in [format!("{MARK}\r\n\r\n"), format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\n{MARK}\r\n\r\n")]
    {
        let mut conn = server.connect();
        conn.send(&text);
        let response = conn.response();
        assert_refused(&response, 400, "request_malformed");
        assert_eq!(response.header("connection"), Some("close"), "{text:?}");
        assert!(conn.is_closed(), "{text:?}");
    }
    assert_eq!(server.get("/info").status(), 200);
}

#[test]
fn a_head_may_be_as_long_as_its_setting_says() {
    for kib in [8, 16, 40] {
        let server = TestServer::with(|config| config.max_head_bytes = kib << 10);
        let head = |kib: usize| {
            format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(kib << 10))
        };
        assert_eq!(server.connect().round(head(kib - 1).as_bytes()).status(), 200);
        let mut conn = server.connect();
        let _ = conn.try_send(head(kib + 1).as_bytes());
        assert_refused(&conn.response(), 431, "head_too_large");
    }
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_secs(1));
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send(format!("GET {BASE}/{MARK}"));
    let response = slow.response();
    assert_refused(&response, 408, "request_timeout");
    assert!(slow.is_closed());
    // A peer that has sent nothing gets no answer.
    assert!(silent.is_closed());
    server.wait_for("tidegate_refused_total{reason=\"bad_request\"}", 1.0);
    assert_eq!(server.get("/info").status(), 200);
}

#[test]
fn a_connection_without_requests_is_closed_in_silence() {
    let server = TestServer::with(|config| config.keepalive_timeout = Duration::from_millis(200));
    let mut conn = server.connect();
    conn.send(request("GET", &format!("{BASE}/info"), &[], b""));
    assert_eq!(conn.response().status(), 200);
    assert!(conn.is_closed());
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 0.0);
}

#[test]
fn what_is_no_stream_is_not_counted_as_one() {
    let Scene { server, rows, .. } = keyless();
    for (bytes, ..) in rows {
        server.connect().round(&bytes);
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"auth_unavailable\"}", 3.0);
    metrics.assert("tidegate_connections_total{outcome=\"refused\"}", 1.0);
}

#[test]
fn lines_that_a_drain_cuts_short_are_counted() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let mut lines = server.connect();
    let head = "host: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked";
    lines.send(format!("POST {BASE}/publish HTTP/1.1\r\n{head}\r\n\r\n"));
    lines.send(chunk("{\"room\":\"a\",\"data\":\"x\"}\n"));
    assert_eq!(listener.data(), "x");
    server.server().engine().lifecycle.stage.send_replace(Stage::Ending);
    assert_problem(&lines.response(), 503, "draining");
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"draining\"}", 1.0);
    metrics.assert("tidegate_connections_total{outcome=\"refused\"}", 0.0);
}
