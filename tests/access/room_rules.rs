//! Promise: a room takes what its table in the settings says: from those who may publish there, events of these names,
//! so large, so many, and not the same again.

use crate::common;

use common::bearer::{SECRET, TempFile, api_key_entry, bearer, key, token};
use common::conn::{Response, request};
use common::{BASE, TestServer, assert_problem};
use serde_json::{Value, json};
use tidegate::auth::api_keys;
use tidegate::config::Config;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// A server with these tables, tokens and the API keys of `file`.
fn server(tables: &str, file: &TempFile) -> TestServer {
    // A file that names no keys would be refused where a table asks for keys.
    let text = format!("api_keys_file = {:?}\n{tables}", file.text());
    let read = Config::from_toml("a.toml".as_ref(), &text, 4096).unwrap_or_else(|errors| panic!("{errors}"));
    TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.api_keys_file = read.api_keys_file;
        (config.rooms, config.room_tables) = (read.rooms, read.room_tables);
        config.idempotency_keys = read.idempotency_keys;
    })
}

/// Publishes with the credential `text`.
fn publish(server: &TestServer, text: &str, event: &Value) -> Response {
    server.post("/publish", &[("authorization", &bearer(text))], event.to_string())
}

fn event(room: &str, data: &str) -> Value {
    json!({"room": room, "data": data})
}

#[test]
fn a_room_takes_what_its_table_says() {
    let backend = api_keys::generate();
    let file = TempFile::new(&api_key_entry("shop", &backend, &["sse:publish"], ""));
    let tables = r#"
        rooms = "listed"
        [[room]]
        match = "ticker"
        publish = "keys"
        [[room]]
        match = "chat-*"
        events = ["chat", "message"]
        max_event_bytes = "1KiB"
        [[room]]
        match = "large"
        max_event_bytes = "300KiB"
    "#;
    let server = server(tables, &file);
    let me = token("me", &["sse:publish"]);
    let long = "x".repeat(1025);
    let table = [
        (event("other", "x"), 403, "room_unknown"),
        (event("ticker", "x"), 403, "publish_keys_only"),
        (json!({"room": "chat-1", "event": "typing", "data": 1}), 422, "event_name_forbidden"),
        (event("chat-1", &long), 413, "event_too_large"),
        (event("ticker", &long), 403, "publish_keys_only"),
    ];
    for (refused, status, code) in table {
        assert_problem(&publish(&server, &me, &refused), status, code);
        let batch = publish(&server, &me, &json!([event("chat-1", "x"), refused.clone()]));
        assert_problem(&batch, status, code);
        assert_eq!(batch.json()["index"], 1);
        let body = format!("{}\n\n{refused}\n", event("chat-1", "x"));
        let headers = [NDJSON, ("authorization", &*bearer(&me))];
        let lines = server.post("/publish", &headers, body);
        assert_problem(&lines, status, code);
        assert_eq!((&lines.json()["line"], &lines.json()["published"]), (&json!(3), &json!(1)));
    }
    // A table may allow more than the server does elsewhere.
    let larger = "x".repeat(280 << 10);
    assert_eq!(publish(&server, &me, &event("large", &larger)).status(), 200);
    assert_problem(&publish(&server, &me, &json!({"user": "u", "data": larger})), 413, "event_too_large");
    for good in [
        event("chat-1", "x"),
        json!({"room": "chat-2", "event": "chat", "data": 1}),
        json!({"user": "u", "data": 1}),
    ] {
        assert_eq!(publish(&server, &me, &good).status(), 200, "{good}");
    }
    assert_eq!(publish(&server, &backend, &event("ticker", "x")).status(), 200);
    assert_problem(&publish(&server, &backend, &event("other", "x")), 403, "room_unknown");
    server.metrics().assert("tidegate_refused_total{reason=\"room_policy\"}", 13.0);
}

#[test]
fn a_room_has_a_rate_of_its_own() {
    let file = TempFile::new(&api_key_entry("shop", &api_keys::generate(), &["sse:publish"], ""));
    let tables = "[[room]]\nmatch = \"slow-*\"\npublish_rate = \"3/h\"";
    let server = server(tables, &file);
    let (me, you) = (token("me", &["sse:publish"]), token("you", &["sse:publish"]));
    assert_eq!(publish(&server, &me, &json!([event("slow-1", "1"), event("fast", "1")])).status(), 200);
    assert_eq!(publish(&server, &you, &event("slow-1", "2")).status(), 200);
    assert_eq!(publish(&server, &me, &event("slow-1", "3")).status(), 200);
    for user in [&me, &you] {
        let refused = publish(&server, user, &event("slow-1", "4"));
        assert_problem(&refused, 429, "rate_limited");
        assert!(refused.header("retry-after").is_some());
    }
    // Nothing of a batch counts that is refused for one of its rooms.
    let both = json!([event("slow-2", "1"), event("slow-1", "4")]);
    assert_problem(&publish(&server, &me, &both), 429, "rate_limited");
    assert_eq!(
        publish(&server, &me, &json!([event("slow-2", "1"), event("slow-2", "2"), event("slow-2", "3")]))
            .status(),
        200
    );
}

#[test]
fn the_same_user_does_not_say_the_same_again() {
    let backend = api_keys::generate();
    let file = TempFile::new(&api_key_entry("shop", &backend, &["sse:publish"], ""));
    let server = server("[[room]]\nmatch = \"chat\"\nrefuse_repeats = \"1h\"", &file);
    let (me, you) = (token("me", &["sse:publish"]), token("you", &["sse:publish"]));
    let hi = event("chat", "hi");
    assert_eq!(publish(&server, &me, &hi).status(), 200);
    assert_problem(&publish(&server, &me, &hi), 409, "repeated");
    let batch =
        publish(&server, &me, &json!([event("chat", "new"), event("chat", "twice"), event("chat", "twice")]));
    assert_problem(&batch, 409, "repeated");
    assert_eq!(batch.json()["index"], 2);
    // What was refused with it was not said.
    assert_eq!(publish(&server, &me, &event("chat", "new")).status(), 200);
    for other in
        [event("chat", "ho"), event("other", "hi"), json!({"room": "chat", "event": "chat", "data": "hi"})]
    {
        assert_eq!(publish(&server, &me, &other).status(), 200, "{other}");
    }
    assert_eq!(publish(&server, &you, &hi).status(), 200);
    // A backend repeats itself, but not the user for whom it publishes.
    for _ in 0..2 {
        assert_eq!(publish(&server, &backend, &hi).status(), 200);
    }
    let authorization = bearer(&backend);
    let headers = [("authorization", &*authorization), ("tidegate-user", "me")];
    assert_problem(&server.post("/publish", &headers, hi.to_string()), 409, "repeated");
    // A repeat that says it is one gets its answer.
    let once = json!({"room": "chat", "data": "sure", "once": "k"});
    assert_eq!([(); 2].map(|()| publish(&server, &me, &once).status()), [200, 200]);
}

/// Both were remembered in the same places, and what ends first made room. With repeats refused for longer than a key
/// lasts, anybody's messages drove out each new key, and a publisher that tried again published twice.
#[test]
fn what_users_say_does_not_make_keys_forgotten() {
    let file = TempFile::new(&api_key_entry("shop", &api_keys::generate(), &["sse:publish"], ""));
    let tables = "idempotency_keys = 10\n[[room]]\nmatch = \"chat\"\nrefuse_repeats = \"1h\"";
    let server = server(tables, &file);
    let (me, you) = (token("me", &["sse:publish"]), token("you", &["sse:publish"]));
    let say = |from: u32| {
        let events = (from..from + 20).map(|n| event("chat", &n.to_string()));
        assert_eq!(publish(&server, &me, &events.collect()).status(), 200);
    };
    say(0);
    let paid = json!({"room": "orders", "data": "paid", "once": "order-17"});
    let first = publish(&server, &you, &paid);
    say(20);
    let again = publish(&server, &you, &paid);
    assert_eq!((again.header("idempotency-replayed"), again.text()), (Some("true"), first.text()));
    let metrics = server.metrics();
    for (kind, held, dropped) in [("key", 1.0, 0.0), ("data", 10.0, 30.0)] {
        metrics.assert(&format!("tidegate_claims{{kind=\"{kind}\"}}"), held);
        metrics.assert(&format!("tidegate_claims_dropped_total{{kind=\"{kind}\"}}"), dropped);
    }
}

/// The page once said that nobody can be muted or disconnected in a room that the settings do not list.
#[test]
fn in_a_room_that_is_not_listed_one_can_be_muted_and_disconnected_and_nothing_else() {
    let file = TempFile::new(&api_key_entry("shop", &api_keys::generate(), &["sse:publish"], ""));
    let tables = "rooms = \"listed\"\n[[room]]\nmatch = \"hall\"\npresence = \"members\"";
    let server = server(tables, &file);
    let ops = bearer(&token("ops", &["admin", "sse:read", "sse:publish", "sse:members"]));
    let ask = |method: &str, path: &str, body: &str| {
        let headers = [("authorization", &*ops)];
        server.connect().round(&request(method, &format!("{BASE}{path}"), &headers, body.as_bytes()))
    };
    for (method, path, body) in [
        ("GET", "/stream/gone", ""),
        ("GET", "/stream?room=hall&room=gone", ""),
        ("GET", "/rooms/gone", ""),
        ("GET", "/rooms/gone/history", ""),
        ("GET", "/rooms/gone/members", ""),
        ("PUT", "/presence/gone", r#"{"data":1}"#),
        ("DELETE", "/presence/gone", ""),
        ("POST", "/publish", r#"{"room":"gone","data":1}"#),
    ] {
        assert_problem(&ask(method, path, body), 403, "room_unknown");
    }
    for (method, path, status) in [
        ("POST", "/rooms/gone/mute/me", 200),
        ("DELETE", "/rooms/gone/mute/me", 204),
        ("POST", "/disconnect/gone/me", 200),
        ("GET", "/rooms/hall", 200),
    ] {
        assert_eq!(ask(method, path, "").status(), status, "{method} {path}");
    }
}
