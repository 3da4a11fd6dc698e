//! Promise: a resume gives exactly the events after the presented id, or says first that it cannot. Never a silent
//! hole, never an event twice.

use crate::common;

use common::TestServer;
use common::stream::Listener;
use serde_json::{Value, json};

/// Publishes `0..count` to `room`.
fn publish(server: &TestServer, room: &str, range: std::ops::Range<u64>) {
    let events: Vec<Value> = range.map(|n| json!({"room": room, "data": n.to_string()})).collect();
    let answer = server.post("/publish", &[], Value::from(events).to_string());
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

fn assert_next(listener: &mut Listener, wanted: std::ops::Range<u64>) {
    for n in wanted {
        assert_eq!(listener.data(), n.to_string());
    }
}

fn assert_gap(listener: &mut Listener, data: &str) {
    let to = data.split("\"to\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(listener.event(), format!("event: gap\nid: {to}\ndata: {data}\n\n"));
}

#[test]
fn the_header_and_the_query_resume_and_the_header_wins() {
    let server = TestServer::start();
    publish(&server, "a", 0..10);
    let third = server.id(3);
    let fifth = server.id(5);
    for (path, headers, first) in [
        ("/stream/a/u".to_owned(), vec![("last-event-id", &*third)], 3),
        (format!("/stream/a/u?last_event_id={third}"), vec![], 3),
        (format!("/stream?room=a&last_event_id={third}"), vec![], 3),
        // Polyfills put it into the URL under other names. These were once ignored, and the stream began with the next
        // event.
        (format!("/stream/a/u?lastEventId={third}"), vec![], 3),
        (format!("/stream?room=a&lastEventID={third}"), vec![], 3),
        (format!("/stream/a/u?lastEventId={third}"), vec![("last-event-id", &*fifth)], 5),
        (format!("/stream/a/u?last_event_id={third}"), vec![("last-event-id", &*fifth)], 5),
        // An empty header is what a client without an id sends.
        (format!("/stream/a/u?last_event_id={third}"), vec![("last-event-id", "")], 3),
        // A browser repeats its first URL: `history` must not repeat events that were seen.
        ("/stream/a/u?history=9".to_owned(), vec![("last-event-id", &*fifth)], 5),
    ] {
        let mut listener = server.listen_with(&path, &headers);
        assert_eq!(listener.start_id(), server.id(first), "connected repeats the presented cursor: {path}");
        assert_next(&mut listener, first..10);
    }
    server.metrics().assert("tidegate_gaps_total{reason=\"evicted\"}", 0.0);
}

#[test]
fn replay_goes_over_into_live_without_a_seam() {
    let server = TestServer::start();
    let mut first = server.listen("/stream/a/u");
    publish(&server, "a", 0..1);
    let event = first.event();
    let id = event.lines().next().and_then(|line| line.strip_prefix("id: ")).unwrap();
    drop(first);
    publish(&server, "a", 1..5);
    let mut second = server.resume("/stream/a/u", id);
    publish(&server, "a", 5..9);
    assert_next(&mut second, 1..9);
}

#[test]
fn the_newest_event_resumes_to_nothing_but_what_comes() {
    let server = TestServer::start();
    publish(&server, "a", 0..5);
    let mut listener = server.resume("/stream/a/u", &server.id(5));
    publish(&server, "a", 5..6);
    assert_next(&mut listener, 5..6);
}

#[test]
fn history_sends_the_newest_of_all_rooms_first() {
    let server = TestServer::start();
    publish(&server, "a", 0..5);
    publish(&server, "b", 5..8);
    publish(&server, "a", 8..10);
    for (path, wanted) in [
        ("/stream/a/u?history=4", vec![3, 4, 8, 9]),
        ("/stream?room=a&room=b&history=4", vec![6, 7, 8, 9]),
        ("/stream/a/u?history=1000000", vec![0, 1, 2, 3, 4, 8, 9]),
        ("/stream/a/u?history=0", vec![]),
        ("/stream/a/u", vec![]),
        ("/stream/never/u?history=5", vec![]),
    ] {
        let mut listener = server.listen(path);
        assert_eq!(listener.start_id(), server.id(wanted.first().copied().unwrap_or(10)), "{path}");
        for n in wanted {
            assert_eq!(listener.data(), n.to_string(), "{path}");
        }
    }
}

/// Events that a user got while away were once not counted, and so not shown.
#[test]
fn history_counts_what_was_sent_to_the_user_and_to_everyone() {
    let server = TestServer::start();
    for event in [
        json!({"room": "a", "data": "1"}),
        json!({"user": "u", "data": "2"}),
        json!({"user": "v", "data": "3"}),
        json!({"all": true, "data": "4"}),
        json!({"room": "a", "data": "5", "exclude": "u"}),
        json!({"room": "a", "data": "6"}),
    ] {
        server.publish(&event);
    }
    for (path, wanted) in [
        ("/stream/a/u?history=1", vec![6]),
        ("/stream/a/u?history=3", vec![2, 4, 6]),
        ("/stream/a/v?history=3", vec![4, 5, 6]),
        ("/stream?room=a&history=9", vec![1, 4, 5, 6]),
        ("/stream?user=u&history=9", vec![2, 4]),
        ("/stream?user=v&history=1", vec![4]),
    ] {
        let mut listener = server.listen(path);
        assert_eq!(listener.start_id(), server.id(wanted[0] - 1), "{path}");
        for n in wanted {
            assert_eq!(listener.data(), n.to_string(), "{path}");
        }
    }
}

#[test]
fn an_evicted_id_is_a_gap_and_then_everything_that_is_left() {
    let server = TestServer::with(|config| config.history_events = 3);
    publish(&server, "a", 0..10);
    let (second, seventh) = (server.id(2), server.id(7));
    let mut listener = server.resume("/stream/a/u", &second);
    assert_eq!(listener.start_id(), second);
    let data = format!(r#"{{"rooms":["a"],"from":"{second}","to":"{seventh}","reason":"evicted"}}"#);
    assert_gap(&mut listener, &data);
    assert_next(&mut listener, 7..10);
    server.metrics().assert("tidegate_gaps_total{reason=\"evicted\"}", 1.0);

    // The oldest position that is still exact.
    let mut exact = server.resume("/stream/a/u", &seventh);
    assert_next(&mut exact, 7..10);
    // Only the room that lost an event is named.
    let mut both = server.resume("/stream?room=b&room=a", &second);
    assert_gap(&mut both, &data);
    server.metrics().assert("tidegate_gaps_total{reason=\"evicted\"}", 2.0);
}

#[test]
fn an_id_that_means_nothing_is_a_gap_and_not_an_error() {
    let server = TestServer::start();
    publish(&server, "a", 0..2);
    let head = server.id(2);
    let ahead = server.id(3);
    let long = "x".repeat(128);
    for (presented, repeated) in [
        ("order-17", "order-17"),
        (&*ahead, &*ahead),
        ("no id at all!", ""),
        ("\u{e9}", ""),
        (&*long, ""),
        ("..", ".."),
    ] {
        let mut listener = server.resume("/stream/a/u", presented);
        let known = (!repeated.is_empty()).then_some(repeated);
        assert_eq!(listener.connected.id.as_deref(), known, "{presented}");
        assert_gap(
            &mut listener,
            &format!(
                r#"{{"rooms":["a"],"from":"{repeated}","to":"{head}","reason":"unknown","inbox":true,"all":true}}"#
            ),
        );
    }
    server.metrics().assert("tidegate_gaps_total{reason=\"unknown\"}", 6.0);
}

#[test]
fn a_restart_is_a_gap_and_then_everything_the_new_life_has() {
    let old = TestServer::start();
    publish(&old, "a", 0..5);
    let id = old.id(3);
    drop(old);
    let server = TestServer::start();
    publish(&server, "a", 0..2);
    let mut listener = server.resume("/stream?room=a", &id);
    assert_eq!(listener.start_id(), id);
    assert_gap(
        &mut listener,
        &format!(r#"{{"rooms":["a"],"from":"{id}","to":"{}","reason":"restart","all":true}}"#, server.id(0)),
    );
    assert_next(&mut listener, 0..2);
    server.metrics().assert("tidegate_gaps_total{reason=\"restart\"}", 1.0);
}

#[test]
fn a_quiet_room_loses_nothing_while_others_are_busy() {
    let server = TestServer::with(|config| config.history_events = 10);
    publish(&server, "quiet", 0..1);
    let id = server.id(1);
    for _ in 0..20 {
        publish(&server, "busy", 0..250);
    }
    let mut listener = server.resume("/stream/quiet/u", &id);
    publish(&server, "quiet", 1..2);
    assert_next(&mut listener, 1..2);
}

#[test]
fn a_user_who_was_away_finds_the_inbox() {
    let server = TestServer::start();
    let first = server.listen("/stream/a/u");
    let id = first.start_id().to_owned();
    drop(first);
    server.wait_for("tidegate_connections", 0.0);
    for n in 0..3 {
        let answer = server.post("/publish", &[], json!({"user": "u", "data": n.to_string()}).to_string());
        assert_eq!(answer.json()["subscribers"], 0);
    }
    publish(&server, "a", 3..4);
    let mut again = server.resume("/stream/a/u", &id);
    assert_next(&mut again, 0..4);
    // Another user's inbox stays private.
    let mut other = server.resume("/stream/a/v", &id);
    assert_next(&mut other, 3..4);
}

#[test]
fn many_cuts_add_up_to_one_stream() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream?room=a&room=b&user=u");
    let mut last = listener.start_id().to_owned();
    let mut next = 0;
    for round in 0..30_u64 {
        publish(&server, if round % 2 == 0 { "a" } else { "b" }, round * 4..round * 4 + 4);
        for _ in 0..round % 5 {
            let event = listener.event();
            last = event.lines().next().and_then(|line| line.strip_prefix("id: ")).unwrap().to_owned();
            assert!(event.ends_with(&format!("\ndata: {next}\n\n")), "{event}");
            next += 1;
        }
        // Cut at any point, with events under way.
        listener = server.resume("/stream?room=a&room=b&user=u", &last);
    }
    assert_next(&mut listener, next..120);
}
