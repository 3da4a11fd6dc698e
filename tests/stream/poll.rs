//! Promise: a poll is a stream that ends by itself, after its first event or after its time, and polls that follow one
//! another miss nothing.

use crate::common;

use common::TestServer;
use common::stream::{End, Listener};
use serde_json::json;

/// The events of a poll up to its end, which has to be clean.
fn rest(mut poll: Listener) -> Vec<String> {
    let events = std::iter::from_fn(|| poll.try_event()).filter(|event| event != ":\n").collect();
    assert_eq!(poll.end(), End::LastChunk);
    events
}

/// The last id of an answer.
fn last_id<'a>(events: &'a [String], start: &'a str) -> &'a str {
    let last = |event: &'a String| event.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
    events.iter().rev().find_map(last).unwrap_or(start)
}

#[test]
fn a_poll_ends_after_its_first_event() {
    let server = TestServer::with(|config| config.gzip = true);
    let poll = server.listen_with("/stream/a/u?poll=60", &[("accept-encoding", "gzip")]);
    let head = |name| poll.head.header(name);
    assert_eq!((head("connection"), head("content-encoding")), (Some("close"), None));
    assert_eq!(
        (head("content-type"), head("transfer-encoding")),
        (Some("text/event-stream"), Some("chunked"))
    );
    let id = server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(rest(poll), [format!("id: {id}\nroom: a\ndata: x\n\n")]);
    server.wait_for("tidegate_connections", 0.0);
}

#[test]
fn a_poll_without_an_event_ends_after_its_time() {
    let server = TestServer::start();
    let poll = server.listen("/stream/a/u?poll=1");
    server.publish(&json!({"room": "elsewhere", "data": "x"}));
    assert_eq!(rest(poll), [""; 0]);
}

#[test]
fn a_poll_brings_all_that_was_missed() {
    let server = TestServer::start();
    let first = server.listen("/stream/a/u?poll=1");
    let start = first.start_id().to_owned();
    assert_eq!(rest(first), [""; 0]);
    for n in 0..3 {
        server.publish(&json!({"room": "a", "data": n}));
    }
    let missed = rest(server.listen(&format!("/stream/a/u?poll=60&last_event_id={start}")));
    assert_eq!(missed.len(), 3);
    server.publish(&json!({"room": "a", "data": 3}));
    let next =
        rest(server.listen(&format!("/stream/a/u?poll=60&last_event_id={}", last_id(&missed, &start))));
    assert_eq!(next, [format!("id: {}\nroom: a\ndata: 3\n\n", server.id(4))]);
}

#[test]
fn polls_that_follow_one_another_miss_nothing() {
    let server = TestServer::start();
    let mut last = server.listen("/stream?room=a&room=b").start_id().to_owned();
    let (mut seen, mut sent) = (Vec::new(), 0_u64);
    while seen.len() < 50 {
        for _ in 0..=sent % 4 {
            server.publish(&json!({"room": if sent.is_multiple_of(3) { "a" } else { "b" }, "data": sent}));
            sent += 1;
        }
        let events = rest(server.listen(&format!("/stream?room=a&room=b&poll=60&last_event_id={last}")));
        last = last_id(&events, &last).to_owned();
        let data =
            events.iter().filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
        seen.extend(data.map(|data| data.parse::<u64>().expect("a number")));
    }
    assert_eq!(seen, (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_gap_ends_a_poll() {
    let server = TestServer::start();
    let events = rest(server.listen("/stream/a/u?poll=60&last_event_id=zzzzzz-9"));
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("event: gap\n"), "{events:?}");
}
