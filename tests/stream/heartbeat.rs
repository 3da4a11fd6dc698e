//! Promise: no stream is silent for longer than the heartbeat interval. A heartbeat tells a browser's `EventSource`
//! that it has everything up to now, and no other client takes it for a message.
//!
//! A heartbeat once was a comment, an id and a blank line for every client. Browsers dispatch nothing then. Four widely
//! used parsers do: fetch-event-source, httpx-sse, and the Python packages `openai` and `anthropic` made an empty
//! message of each heartbeat. `tests/neighbours/clients/mod.rs` runs them.

use crate::common;

use std::time::Duration;

use common::stream::Listener;
use common::{TestServer, assert_problem, eventually};
use serde_json::json;

/// Headers that a browser's `EventSource` sends and other clients do not.
const BROWSER: &[(&str, &str)] = &[("cache-control", "no-cache"), ("pragma", "no-cache")];

fn server() -> TestServer {
    TestServer::with(|config| config.heartbeat = Duration::from_secs(1))
}

#[test]
fn silence_is_broken_with_exact_bytes() {
    let server = server();
    let mut listener = server.listen("/stream/a/u");
    assert_eq!(listener.payload(), Some(b":\n".to_vec()), "one chunk of its own, without a blank line");
    assert_eq!(listener.payload(), Some(b":\n".to_vec()));
    server.wait_for("tidegate_lagging_connections", 0.0);
    assert!(server.metrics().get("tidegate_heartbeats_total") >= 2.0);
    // A heartbeat does not count as an event.
    server.metrics().assert("tidegate_events_delivered_total", 0.0);
}

#[test]
fn a_browsers_heartbeat_is_one_chunk_with_the_id() {
    let server = server();
    let mut listener = server.listen_with("/stream?room=a", BROWSER);
    let beat = format!(":\nid: {}\n\n", server.id(0)).into_bytes();
    assert_eq!([listener.payload(), listener.payload()], [Some(beat.clone()), Some(beat)]);
}

#[test]
fn the_query_decides_where_headers_would_say_otherwise() {
    let server = server();
    let with_id = format!(":\nid: {}\n\n", server.id(0));
    let table = [
        ("/stream/a/u?heartbeat=id", &[][..], &*with_id),
        ("/stream/a/u?heartbeat=comment", BROWSER, ":\n"),
        ("/stream?room=a&heartbeat=id", &[("cache-control", "max-age=0")], &with_id),
        ("/stream?heartbeat=comment&room=a", BROWSER, ":\n"),
        // As sent by libraries that ask for no cache by themselves, and make a message of each id.
        ("/stream?room=a", &[("cache-control", "no-cache")], ":\n"),
    ];
    let listeners = table.map(|(path, headers, beat)| (server.listen_with(path, headers), path, beat));
    for (mut listener, path, beat) in listeners {
        assert_eq!(listener.event(), beat, "{path}");
    }
    assert_problem(&server.get("/stream/a/u?heartbeat=none"), 400, "heartbeat_invalid");
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 1.0);
}

/// Returns the next event, without heartbeats that have no id.
fn next(listener: &mut Listener) -> String {
    std::iter::repeat_with(|| listener.event()).find(|event| event != ":\n").expect("an event")
}

#[test]
fn a_comment_leaves_events_and_ids_as_they_are() {
    let server = server();
    let mut listener = server.listen("/stream/a/u");
    let first = server.publish(&json!({"room": "a", "data": 1}));
    assert_eq!(next(&mut listener), format!("id: {first}\nroom: a\ndata: 1\n\n"));
    assert_eq!(listener.event(), ":\n");
    server.publish(&json!({"room": "elsewhere", "data": 2}));
    assert_eq!(listener.event(), ":\n");
    let third = server.publish(&json!({"room": "a", "data": 3}));
    assert_eq!(next(&mut listener), format!("id: {third}\nroom: a\ndata: 3\n\n"));
    // A resume from the last id it received is still exact.
    drop(listener);
    let mut again = server.resume("/stream/a/u", &first);
    assert_eq!(next(&mut again), format!("id: {third}\nroom: a\ndata: 3\n\n"));
}

#[test]
fn a_quiet_browsers_id_moves_on_while_others_are_busy() {
    let server = server();
    let mut quiet = server.listen_with("/stream/quiet/u", BROWSER);
    for n in 1..=3 {
        server.publish(&json!({"room": "busy", "data": n}));
    }
    let fresh = format!(":\nid: {}\n\n", server.id(3));
    eventually("a fresh id", || {
        let event = quiet.event();
        assert!(event.starts_with(":\nid: "), "{event}");
        event == fresh
    });
    // From there a resume is exact, and short.
    drop(quiet);
    server.publish(&json!({"room": "quiet", "data": "x"}));
    let mut again = server.resume("/stream/quiet/u", &server.id(3));
    assert_eq!(next(&mut again), format!("id: {}\nroom: quiet\ndata: x\n\n", server.id(4)));
}
