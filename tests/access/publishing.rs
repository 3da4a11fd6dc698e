//! Promise: what a caller may not publish is not published, whether it is in a batch, in a line or above a rate; and a
//! caller that may publish nothing sends no body.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::auth::api_keys;
use tidegate::config::Rate;

use crate::common::bearer::{SECRET, TempFile, api_key_entry, bearer, lasting, now, sign, token};
use crate::common::conn::{Conn, chunk};
use crate::common::{BASE, TestServer, assert_problem, eventually};
use crate::guarded::{ask, ask_as, guarded, history, start};

#[test]
fn every_event_of_a_batch_is_looked_at_before_any_goes_out() {
    let server = start();
    let token = token("ann", &["sse:publish:a", "sse:publish:chat-{user}"]);
    for (events, index) in [
        (json!([{"room":"a","data":1},{"room":"b","data":2}]), 1),
        (json!([{"room":"chat-bob","data":1},{"room":"a","data":2}]), 0),
        (json!([{"room":"a","data":1},{"room":"a","data":2},{"user":"ann","data":3}]), 2),
        (json!([{"room":"a","data":1},{"all":true,"data":2}]), 1),
    ] {
        let answer = ask_as(&server, "POST", "/publish", &token, &events.to_string());
        assert_problem(&answer, 403, "forbidden");
        assert_eq!(answer.json()["index"], index, "{events}");
    }
    assert_eq!(server.server().engine().hub.events_published(), 0);
    let allowed = json!([{"room":"a","data":1},{"room":"chat-ann","data":2}]).to_string();
    assert_eq!(ask_as(&server, "POST", "/publish", &token, &allowed).json()["published"], 2);
}

/// The server once read the body before it checked whether the sender may publish at all: with a token without any
/// permission, a client could make the server hold bodies.
#[test]
fn who_may_publish_nothing_is_refused_before_the_body() {
    let server = start();
    let begin = |token: &str, path: &str| {
        let mut conn = server.connect();
        conn.send(format!(
            "POST {BASE}{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 1000\r\n\r\n"
        ));
        conn.response()
    };
    for permissions in [&[][..], &["sse:read", "sse:members", "admin"]] {
        assert_problem(&begin(&token("ann", permissions), "/publish"), 403, "forbidden");
    }
    assert_problem(&begin(&token("ann", &["sse:publish"]), "/revoke"), 403, "forbidden");
    // A client that may publish somewhere is asked for the rest of the body.
    let mut conn = begin_body(&server, &token("ann", &["sse:publish:elsewhere"]));
    conn.send(r#"{"room":"a","data":1}"#);
    assert_problem(&conn.response(), 403, "forbidden");
}

fn begin_body(server: &TestServer, token: &str) -> Conn {
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 21\r\n\r\n"
    ));
    conn
}

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

#[test]
fn every_line_is_looked_at_and_what_went_out_before_is_told() {
    let server = start();
    let token = token("ann", &["sse:publish:a"]);
    let lines = "{\"room\":\"a\",\"data\":1}\n\n{\"room\":\"a\",\"data\":2}\n{\"room\":\"b\",\"data\":3}\n{\"room\":\"a\",\"data\":4}\n";
    let answer = ask(&server, "POST", "/publish", &[NDJSON, ("authorization", &bearer(&token))], lines);
    assert_problem(&answer, 403, "forbidden");
    assert_eq!((&answer.json()["line"], &answer.json()["published"]), (&json!(4), &json!(2)));
    assert_eq!(
        (history(&server, "a"), history(&server, "b")),
        (vec!["1".to_owned(), "2".to_owned()], vec![])
    );
    let nobody = ask(&server, "POST", "/publish", &[NDJSON], lines);
    assert_problem(&nobody, 401, "unauthorized");
    assert_eq!(nobody.json()["published"], Value::Null);
}

/// Begins a stream of lines and sends the first one.
fn begin_lines(server: &TestServer, token: &str) -> Conn {
    let mut conn = server.connect();
    let head = format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
         authorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    conn.send(head);
    let before = history(server, "a").len();
    conn.send(chunk("{\"room\":\"a\",\"data\":\"before\"}\n"));
    eventually("the first line", || history(server, "a").len() > before);
    conn
}

/// A request can outlast the right to make it: lines that came after the right had ended were once published all the
/// same.
#[test]
fn lines_that_come_after_the_token_was_revoked_or_is_over_are_not_published() {
    let server = TestServer::with(|config| {
        guarded(config);
        config.token_leeway = Duration::ZERO;
    });
    let short = lasting("ann", &["sse:publish"], 5);
    let by_time = begin_lines(&server, &short);
    eventually("the end of the token", || ask_as(&server, "POST", "/publish", &short, "").status() == 401);
    let long = sign(SECRET, &json!({"jti": "j", "exp": now() + 900, "permissions": ["sse:publish"]}));
    let by_name = begin_lines(&server, &long);
    let revoked = ask_as(&server, "POST", "/revoke", &token("ops", &["admin"]), r#"{"token":"j"}"#);
    assert_eq!(revoked.status(), 200);
    for mut conn in [by_time, by_name] {
        conn.send(chunk("{\"room\":\"a\",\"data\":\"after\"}\n"));
        let answer = conn.response();
        assert_problem(&answer, 401, "unauthorized");
        assert_eq!(answer.json()["published"], 1);
    }
    assert_eq!(history(&server, "a"), ["before", "before"]);
}

/// Publishes `count` events with these headers, and returns the statuses.
fn publish_often(server: &TestServer, headers: &[(&str, &str)], count: usize) -> Vec<u16> {
    let event = r#"{"room":"a","data":1}"#;
    (0..count).map(|_| ask(server, "POST", "/publish", headers, event).status()).collect()
}

#[test]
fn rates_are_each_users_and_each_keys_own() {
    let (quick, slow, other) = (api_keys::generate(), api_keys::generate(), api_keys::generate());
    let keys = [
        api_key_entry("quick", &quick, &["sse:publish"], ""),
        api_key_entry("slow", &slow, &["sse:publish"], "publish_rate = \"2/h\""),
        api_key_entry("other", &other, &["sse:publish"], "publish_rate = \"2/h\""),
    ];
    let file = TempFile::new(&keys.concat());
    let server = TestServer::with(|config| {
        guarded(config);
        config.api_keys_file = Some(file.path().to_owned());
        config.publish_rate_per_user = Some(Rate { events: 3, per: Duration::from_hours(1) });
    });
    let auth = |token: &str| bearer(token);
    let ann = auth(&token("ann", &["sse:publish"]));
    assert_eq!(publish_often(&server, &[("authorization", &ann)], 2), [200, 200]);
    let again = auth(&lasting("ann", &["sse:publish"], 60));
    let spent = publish_often(&server, &[("authorization", &again)], 2);
    assert_eq!(spent, [200, 429], "another token is not another user");
    let refused = ask(&server, "POST", "/publish", &[("authorization", &ann)], r#"{"room":"a","data":1}"#);
    assert_problem(&refused, 429, "rate_limited");
    let wait: u32 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=1201).contains(&wait), "{wait}");

    // Only a backend may publish in another user's name.
    let bob = auth(&token("bob", &["sse:publish"]));
    let as_cid = [("authorization", &*bob), ("tidegate-user", "cid")];
    assert_eq!(publish_often(&server, &as_cid, 4), [200, 200, 200, 429]);
    let cid = auth(&token("cid", &["sse:publish"]));
    assert_eq!(publish_often(&server, &[("authorization", &cid)], 3), [200; 3]);

    let quick = auth(&quick);
    assert_eq!(publish_often(&server, &[("authorization", &quick)], 10), [200; 10]);
    assert_eq!(publish_often(&server, &[("authorization", &quick), ("tidegate-user", "ann")], 1), [429]);
    let as_dan = [("authorization", &*quick), ("tidegate-user", "dan")];
    assert_eq!(publish_often(&server, &as_dan, 4), [200, 200, 200, 429]);
    assert_eq!(publish_often(&server, &[("authorization", &auth(&slow))], 3), [200, 200, 429]);
    assert_eq!(publish_often(&server, &[("authorization", &auth(&other))], 3), [200, 200, 429]);
}
