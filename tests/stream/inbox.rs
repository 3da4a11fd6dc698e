//! Promise: a user can subscribe to the user's own inbox without any room, no other user can, and such a stream ends
//! like any other when its right does.

use crate::common;

use std::time::Duration;

use common::bearer::{SECRET, bearer, key, lasting, nameless, token};
use common::conn::{Response, request};
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem};
use serde_json::json;

/// A server that needs tokens, with a public room.
fn guarded() -> TestServer {
    TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.token_leeway = Duration::ZERO;
        config.public_rooms = vec!["lobby".parse().expect("a pattern")];
    })
}

fn listen(server: &TestServer, path: &str, token: &str) -> Listener {
    server.listen_with(path, &[("authorization", &bearer(token))])
}

fn ask(server: &TestServer, path: &str, token: Option<&str>) -> Response {
    let bearer = token.map(bearer);
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", &**bearer)).collect();
    server.connect().round(&request("GET", &format!("{BASE}{path}"), &headers, b""))
}

fn post(server: &TestServer, path: &str, token: &str, body: &str) -> Response {
    server.post(path, &[("authorization", &bearer(token))], body)
}

#[test]
fn it_gets_what_is_for_the_user_and_for_everyone_and_resumes() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream?user=u");
    assert_eq!(listener.connected.json()["rooms"], json!([]));
    assert_eq!(listener.connected.json()["user"], "u");
    let publish = |event: serde_json::Value| server.post("/publish", &[], event.to_string()).json();
    assert_eq!(publish(json!({"room": "a", "data": "room"}))["subscribers"], 0);
    assert_eq!(publish(json!({"user": "u", "data": "mine"}))["subscribers"], 1);
    assert_eq!(publish(json!({"user": "v", "data": "theirs"}))["subscribers"], 0);
    assert_eq!(publish(json!({"all": true, "data": "all"}))["subscribers"], 1);
    assert_eq!(listener.event(), format!("id: {}\ndata: mine\n\n", server.id(2)));
    assert_eq!(listener.event(), format!("id: {}\ndata: all\n\n", server.id(4)));
    let mut again = server.resume("/stream?id=u", &server.id(2));
    assert_eq!(again.data(), "all");
    assert_problem(&ask(&server, "/stream", None), 400, "room_missing");
    assert_problem(&ask(&server, "/stream?history=5", None), 400, "room_missing");
}

#[test]
fn a_gap_in_an_inbox_alone_says_so() {
    let server = TestServer::with(|config| config.history_events = 1);
    for data in ["1", "2", "3"] {
        server.publish(&json!({"user": "u", "data": data}));
    }
    let mut listener = server.resume("/stream?user=u", &server.id(1));
    let (from, to) = (server.id(1), server.id(2));
    assert_eq!(
        listener.event(),
        format!(
            "event: gap\nid: {to}\ndata: {{\"rooms\":[],\"from\":\"{from}\",\"to\":\"{to}\",\"reason\":\"evicted\",\"inbox\":true}}\n\n"
        )
    );
    assert_eq!(listener.data(), "3");
}

#[test]
fn whose_it_is_stands_in_the_token() {
    let server = guarded();
    // A user's own inbox needs no permission.
    let ann = token("ann", &[]);
    let mut listeners = [listen(&server, "/stream", &ann), listen(&server, "/stream?user=ann", &ann)];
    let answer = post(&server, "/publish", &token("app", &["sse:publish"]), r#"{"user":"ann","data":"hi"}"#);
    assert_eq!(answer.json()["subscribers"], 2);
    for listener in &mut listeners {
        assert_eq!(listener.connected.json()["user"], "ann");
        assert_eq!(listener.data(), "hi");
    }
    let backend = nameless(&["sse:user"]);
    assert_eq!(listen(&server, "/stream?user=ann", &backend).connected.json()["user"], "ann");
    for (path, token, status, code) in [
        ("/stream?user=bob", Some(&*ann), 403, "forbidden"),
        ("/stream?user=ann&room=secret", Some(&*ann), 403, "forbidden"),
        ("/stream?user=ann", None, 401, "unauthorized"),
        ("/stream", Some(&*backend), 400, "room_missing"),
        ("/stream", None, 400, "room_missing"),
        ("/stream", Some("no token"), 401, "unauthorized"),
    ] {
        assert_problem(&ask(&server, path, token), status, code);
    }
}

/// Each check of a stream was once made for each of its rooms; without a room, no check was made.
#[test]
fn it_ends_when_its_right_does_and_can_be_refreshed() {
    let server = guarded();
    let (ann, admin) = (token("ann", &[]), token("root", &["admin"]));
    let mut ending = listen(&server, "/stream", &lasting("bob", &[], 5));
    assert!(ending.event().starts_with("event: expiring\n"));
    // So near its end that the announcement comes at once, and far enough for the refresh on a slow machine.
    let mut refreshed = listen(&server, "/stream", &lasting("bob", &[], 29));
    assert!(refreshed.event().starts_with("event: expiring\n"));
    let connection = refreshed.connected.json()["connection"].as_str().expect("a name").to_owned();
    let answer =
        post(&server, "/refresh", &token("bob", &[]), &json!({"connection": connection}).to_string());
    assert_eq!((&answer.json()["refreshed"], &answer.json()["refused"]), (&json!(1), &json!(0)));
    ending.closing("expired");

    let mut revoked = listen(&server, "/stream", &ann);
    // A disconnect from a room does not close a stream that is not in the room.
    let answer = post(&server, "/disconnect/lobby/ann?stay_away=60", &admin, "");
    assert_eq!(answer.json()["disconnected"], 0);
    assert_eq!(post(&server, "/revoke", &admin, r#"{"user":"ann"}"#).json()["closed"], 1);
    revoked.closing("revoked");

    let answer =
        post(&server, "/publish", &token("app", &["sse:publish"]), r#"{"user":"bob","data":"still"}"#);
    assert_eq!(answer.json()["subscribers"], 1);
    assert_eq!(refreshed.data(), "still");
}
