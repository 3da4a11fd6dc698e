//! Promise: a muted user's publishes to that room are refused until the mute ends or is undone; the user's streams there
//! go on, and are told.

use crate::common;

use std::time::Duration;

use common::bearer::{SECRET, TempFile, api_key_entry, bearer, key, now, token};
use common::conn::{Response, request};
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem, eventually};
use tidegate::auth::api_keys;
use tidegate::config::Config;
use tidegate::hub::mailbox::Command;
use tidegate::hub::mutes::MUTES_MAX;
use tidegate::order::change::Change;
use tidegate::types::name::{RoomName, UserName};

fn with_tokens(config: &mut Config) {
    config.token_keys = vec![key(SECRET)];
}

/// Sends a request as `user` with these permissions.
fn ask(
    server: &TestServer,
    method: &str,
    path: &str,
    user: &str,
    permissions: &[&str],
    body: &str,
) -> Response {
    let authorization = bearer(&token(user, permissions));
    let headers = [("authorization", &*authorization)];
    server.connect().round(&request(method, &format!("{BASE}{path}"), &headers, body.as_bytes()))
}

fn publish(server: &TestServer, user: &str, room: &str) -> Response {
    ask(server, "POST", "/publish", user, &["sse:publish"], &format!(r#"{{"room":"{room}","data":1}}"#))
}

fn mute(server: &TestServer, path: &str) -> Response {
    ask(server, "POST", path, "ops", &["admin"], "")
}

fn listen(server: &TestServer, path: &str, user: &str) -> Listener {
    let authorization = bearer(&token(user, &["sse:read"]));
    server.listen_with(path, &[("authorization", &authorization)])
}

fn muted(server: &TestServer, room: &str) -> u64 {
    let answer = ask(server, "GET", &format!("/rooms/{room}"), "ops", &["admin"], "");
    answer.json()["muted"].as_u64().expect("a number")
}

#[test]
fn a_muted_user_may_not_publish_there_and_may_everywhere_else() {
    let server = TestServer::with(with_tokens);
    let mut there = listen(&server, "/stream/a/me", "me");
    let mut elsewhere = listen(&server, "/stream/b/me", "me");
    let mut other = listen(&server, "/stream/a/you", "you");
    let answer = mute(&server, "/rooms/a/mute/me");
    assert_eq!((answer.status(), &*answer.text()), (200, r#"{"room":"a","user":"me","until":null}"#));
    assert_eq!(there.event(), "event: muted\ndata: {\"room\":\"a\",\"until\":null}\n\n");
    assert_problem(&publish(&server, "me", "a"), 403, "muted");
    let batch = r#"[{"room":"b","data":1},{"room":"a","data":1}]"#;
    let refused = ask(&server, "POST", "/publish", "me", &["sse:publish"], batch);
    assert_problem(&refused, 403, "muted");
    assert_eq!(refused.json()["index"], 1);
    for (user, room) in [("me", "b"), ("you", "a")] {
        assert_eq!(publish(&server, user, room).status(), 200, "{user} in {room}");
    }
    // Nobody else was told, and the muted user still gets what others say.
    assert_eq!([there.data(), elsewhere.data(), other.data()], ["1", "1", "1"]);
    assert_eq!((muted(&server, "a"), muted(&server, "b")), (1, 0));
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"muted\"}", 2.0);
    metrics.assert("tidegate_muted_users", 1.0);

    let undone = ask(&server, "DELETE", "/rooms/a/mute/me", "ops", &["admin"], "");
    assert_eq!((undone.status(), &*undone.text()), (204, ""));
    assert_eq!(publish(&server, "me", "a").status(), 200);
    assert_eq!((there.data(), muted(&server, "a")), ("1".into(), 0));
    assert_eq!(ask(&server, "DELETE", "/rooms/a/mute/me", "ops", &["admin"], "").status(), 204);
}

#[test]
fn a_mute_ends_by_itself() {
    let server = TestServer::with(with_tokens);
    let mut listener = listen(&server, "/stream/a/me", "me");
    let before = now();
    let answer = mute(&server, "/rooms/a/mute/me?for=2s").json();
    let until = answer["until"].as_str().expect("a time").to_owned();
    let told = format!("event: muted\ndata: {{\"room\":\"a\",\"until\":\"{until}\"}}\n\n");
    assert_eq!(listener.event(), told);
    let at = humantime::parse_rfc3339(&until).expect("RFC 3339, in UTC");
    let at = at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((before + 2..=now() + 3).contains(&at), "{until}");
    assert_problem(&publish(&server, "me", "a"), 403, "muted");
    eventually("the end of the mute", || publish(&server, "me", "a").status() == 200);
    assert!(now() >= at);
}

#[test]
fn a_backend_does_not_speak_for_a_muted_user() {
    let secret = api_keys::generate();
    let file = TempFile::new(&api_key_entry("shop", &secret, &["sse:publish", "admin"], ""));
    let server = TestServer::with(|config| config.api_keys_file = Some(file.path().to_owned()));
    let authorization = bearer(&secret);
    let headers = [("authorization", &*authorization), ("tidegate-user", "me")];
    assert_eq!(server.post("/rooms/a/mute/me", &headers, "").status(), 200);
    let event = r#"{"room":"a","data":1}"#;
    assert_problem(&server.post("/publish", &headers, event), 403, "muted");
    assert_eq!(server.post("/publish", &headers[..1], event).status(), 200, "it speaks for itself");
}

#[test]
fn only_an_administrator_of_the_room_mutes() {
    let server = TestServer::with(with_tokens);
    for (method, permissions, status) in [
        ("POST", &["admin:b", "sse:publish", "sse:members"][..], 403),
        ("DELETE", &["sse:publish"], 403),
        ("POST", &["admin:a"], 200),
        ("DELETE", &["admin"], 204),
    ] {
        let answer = ask(&server, method, "/rooms/a/mute/me", "ops", permissions, "");
        assert_eq!(answer.status(), status, "{method} {permissions:?}");
    }
    assert_problem(&server.post("/rooms/a/mute/me", &[], ""), 401, "unauthorized");
    for time in ["", "0", "0s", "366d", "soon", "-1"] {
        assert_problem(&mute(&server, &format!("/rooms/a/mute/me?for={time}")), 400, "query_invalid");
    }
    assert_eq!(mute(&server, "/groups/a/mute/me?for=365d").status(), 200);
}

#[test]
fn a_table_that_is_full_mutes_nobody_more() {
    let server = TestServer::start();
    let engine = server.server().engine();
    let (now, hour) = (engine.clock.now(), Duration::from_hours(1));
    for n in 0..MUTES_MAX {
        engine.hub.mutes().put(&n.to_string(), "a", Some(now + hour), now).expect("a place");
    }
    let response = server.post("/rooms/a/mute/me", &[], "");
    assert_problem(&response, 503, "mutes_full");
    let wait: u64 = response.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a number");
    assert!((3000..=3601).contains(&wait), "{wait}");
    assert_eq!(server.post("/publish", &[("tidegate-user", "me")], r#"{"room":"a","data":1}"#).status(), 200);
    server.metrics().assert("tidegate_refused_total{reason=\"mutes\"}", 1.0);
}

/// The mute was in force, but the answer was 503 `full`: a thread had too many questions to tell its streams.
#[test]
fn a_mute_that_cannot_be_told_is_in_force_and_answered_so() {
    let server = TestServer::with(|config| {
        with_tokens(config);
        config.shards = 1;
    });
    let mut there = listen(&server, "/stream/a/me", "me");
    let engine = server.server().engine();
    let room = engine.hub.rooms().get("a").expect("a room");
    let (user, name) = (UserName::new("me").expect("a name"), RoomName::new("a").expect("a name"));
    let change = Change::Mute { user, room: name, until: None };
    {
        // Its thread does not get to its mail.
        let _busy = engine.shards[0].core.lock();
        let question =
            || Command::Members { room: room.clone(), reply: futures_channel::oneshot::channel().0 };
        while engine.hub.mailbox(0).send(question()).is_ok() {}
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(engine.propose(change)).ok(), Some(0));
    }
    assert_problem(&publish(&server, "me", "a"), 403, "muted");
    // Told again, now that there is room.
    assert_eq!(mute(&server, "/rooms/a/mute/me").status(), 200);
    assert_eq!(there.event(), "event: muted\ndata: {\"room\":\"a\",\"until\":null}\n\n");
}
