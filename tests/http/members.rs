//! Promise: what an event says about itself holds: a version that is not newer is left out, an event that is not to be
//! kept is delivered and in no history, and each member that is wrong is told with its place.

use crate::common;

use common::{TestServer, assert_problem};
use serde_json::{Value, json};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

fn publish(server: &TestServer, body: &Value) -> String {
    let answer = server.post("/publish", &[], body.to_string());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text()
}

/// An event of one key, with its version as its data.
fn price(version: u64) -> Value {
    json!({"room": "a", "key": "price", "version": version, "data": version})
}

#[test]
fn a_version_that_is_not_newer_is_skipped() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream?room=a");
    let published = |offset: u64, more: &str| {
        format!(r#"{{"id":"{}","subscribers":1,"durability":"memory"{more}}}"#, server.id(offset))
    };
    assert_eq!(publish(&server, &price(7)), published(1, ""));
    for version in [7, 6, 0] {
        assert_eq!(publish(&server, &price(version)), r#"{"skipped":true}"#);
    }
    // Another key, another room, and no version at all are not compared.
    let others = [
        json!({"room": "a", "key": "volume", "version": 1, "data": "v"}),
        json!({"room": "b", "key": "price", "version": 1, "data": 1}),
        json!({"room": "a", "key": "price", "data": "unversioned"}),
    ];
    for other in &others {
        assert!(publish(&server, other).starts_with(r#"{"id":"#));
    }
    let batch = json!([price(7), price(9), price(8), {"user": "u", "data": 1}]);
    let answer = format!(
        r#"{{"id":"{}","subscribers":1,"durability":"memory","published":2,"skipped":2}}"#,
        server.id(6)
    );
    assert_eq!(publish(&server, &batch), answer);
    let none = r#"{"subscribers":0,"durability":"memory","published":0,"skipped":1}"#;
    assert_eq!(publish(&server, &json!([price(9)])), none);
    assert_eq!([(); 4].map(|()| listener.data()), ["7", "v", "unversioned", "9"]);
    server.metrics().assert("tidegate_events_outdated_total", 6.0);
    server.metrics().assert("tidegate_events_published_total", 6.0);
}

#[test]
fn lines_say_how_many_were_skipped() {
    let server = TestServer::start();
    let body = [price(2), price(1), price(3)].map(|event| event.to_string()).join("\n");
    let answer = server.post("/publish", &[NDJSON], body);
    let text = format!(
        r#"{{"id":"{}","subscribers":0,"durability":"memory","published":2,"skipped":1}}"#,
        server.id(2)
    );
    assert_eq!(answer.text(), text);
}

#[test]
fn what_is_not_stored_is_delivered_and_in_no_history() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream?room=a");
    publish(&server, &json!({"room": "a", "data": "kept", "store": true}));
    publish(&server, &json!({"room": "a", "event": "typing", "data": "me", "store": false}));
    assert_eq!([listener.data(), listener.data()], ["kept", "me"]);
    let history = server.get("/rooms/a/history").json();
    assert_eq!(history["events"].as_array().map(Vec::len), Some(1), "{history}");
}

#[test]
fn a_member_that_is_wrong_is_told_with_its_place() {
    let server = TestServer::start();
    let good = r#"{"room":"a","data":1}"#;
    let table = [
        (r#""key":7"#, "key_invalid"),
        (r#""key":"k","version":"1""#, "version_invalid"),
        (r#""version":1"#, "version_without_key"),
        (r#""store":null"#, "store_invalid"),
        (r#""once":[]"#, "once_invalid"),
    ];
    for (member, code) in table {
        let bad = format!(r#"{{"room":"a","data":1,{member}}}"#);
        assert_problem(&server.post("/publish", &[], &bad), 422, code);
        let batch = server.post("/publish", &[], format!("[{good},{bad}]"));
        assert_problem(&batch, 422, code);
        assert_eq!(batch.json()["index"], 1, "{bad}");
        let lines = server.post("/publish", &[NDJSON], format!("{good}\n{bad}\n"));
        assert_problem(&lines, 422, code);
        assert_eq!((&lines.json()["line"], &lines.json()["published"]), (&json!(2), &json!(1)), "{bad}");
    }
}
