//! Promise: an id that a publisher chose belongs to one event, so a client that resumes from it continues after exactly
//! that event, or gets a gap. No publisher can choose an id that makes clients resume elsewhere.

use crate::common;

use common::stream::Listener;
use common::{TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::types::position::Epoch;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Publishes with an id, to the target that `event` names.
fn publish_as(server: &TestServer, id: &str, event: &Value) {
    let mut event = event.clone();
    event["id"] = id.into();
    event["data"] = id.into();
    server.publish(&event);
}

fn assert_unknown(listener: &mut Listener, id: &str, head: &str, rest: &str) {
    assert_eq!(
        listener.event(),
        format!(
            "event: gap\nid: {head}\ndata: {{\"rooms\":[\"a\"],\"from\":\"{id}\",\"to\":\"{head}\",\"reason\":\"unknown\"{rest}}}\n\n"
        )
    );
}

/// A publisher to one room could once make its subscribers skip events of their private inboxes: with an id some way
/// ahead of the newest, from which they resumed as if they had seen everything up to there.
#[test]
fn an_id_that_is_a_position_cannot_be_chosen() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let (ahead, behind, elsewhere) = (server.id(5), server.id(0), Epoch::new(7).position(3).to_string());
    for id in [&*ahead, &*behind, &*elsewhere, "orders-17"] {
        let one = json!({"room": "a", "id": id, "data": 1});
        assert_problem(&server.post("/publish", &[], one.to_string()), 422, "event_id_reserved");
        let batch = server.post("/publish", &[], json!([{"room": "a", "data": 1}, one]).to_string());
        assert_problem(&batch, 422, "event_id_reserved");
        assert_eq!(batch.json()["index"], 1);
    }
    server.publish(&json!({"room": "a", "data": "end"}));
    assert_eq!(
        listener.event(),
        format!("id: {}\nroom: a\ndata: end\n\n", server.id(1)),
        "nothing of them came through"
    );
}

/// The second event once replaced the first: the events published between them were skipped, without a gap.
#[test]
fn an_id_that_was_used_before_is_refused_wherever_it_is_used_again() {
    let server = TestServer::with(|config| config.history_events = 2);
    publish_as(&server, "A", &json!({"room": "a"}));
    let refuse = || {
        for target in [json!({"room": "a"}), json!({"room": "b"}), json!({"user": "u"}), json!({"all": true})]
        {
            let mut again = target.clone();
            (again["id"], again["data"]) = ("A".into(), "x".into());
            assert_problem(&server.post("/publish", &[], again.to_string()), 409, "event_id_repeated");
        }
    };
    refuse();
    // Its event leaves the history. The id stays used.
    for n in 0..3 {
        server.publish(&json!({"room": "a", "data": n}));
        refuse();
    }
    let mut listener = server.resume("/stream?room=a", "A");
    assert_unknown(&mut listener, "A", &server.id(4), ",\"all\":true");
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"repeated\"}", 16.0);
    metrics.assert("tidegate_refused_total{reason=\"bad_request\"}", 0.0);
    metrics.assert("tidegate_events_published_total", 4.0);
}

#[test]
fn a_batch_with_a_repeat_is_refused_as_a_whole() {
    let server = TestServer::start();
    publish_as(&server, "A", &json!({"room": "a"}));
    for (batch, index) in [
        (json!([{"room": "a", "id": "B", "data": 1}, {"user": "u", "id": "A", "data": 2}]), 1),
        (
            json!([{"room": "a", "id": "C", "data": 1}, {"all": true, "data": 2}, {"room": "b", "id": "C", "data": 3}]),
            2,
        ),
    ] {
        let answer = server.post("/publish", &[], batch.to_string());
        assert_problem(&answer, 409, "event_id_repeated");
        assert_eq!((&answer.json()["index"], &answer.json()["line"]), (&json!(index), &Value::Null));
    }
    // The other ids of the refused batches are still unused.
    for id in ["B", "C"] {
        publish_as(&server, id, &json!({"room": "a"}));
    }
    server.metrics().assert("tidegate_events_published_total", 3.0);
}

#[test]
fn lines_before_a_repeat_stay_published_and_those_after_it_are_not() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream?room=a");
    publish_as(&server, "A", &json!({"room": "a"}));
    let line = |id: &str| format!("{}\n", json!({"room": "a", "id": id, "data": id}));
    let body = format!("{}\n{}{}{}", line("B"), line("C"), line("A"), line("D"));
    let answer = server.post("/publish", &[NDJSON], body);
    assert_problem(&answer, 409, "event_id_repeated");
    assert_eq!((&answer.json()["line"], &answer.json()["published"]), (&json!(4), &json!(2)));
    // The very first line.
    let answer = server.post("/publish", &[NDJSON], line("B"));
    assert_problem(&answer, 409, "event_id_repeated");
    assert_eq!((&answer.json()["line"], &answer.json()["published"]), (&json!(1), &json!(0)));
    publish_as(&server, "D", &json!({"room": "a"}));
    assert_eq!([0; 4].map(|_| listener.data()), ["A", "B", "C", "D"]);
    // The answer names the repeated line, not the faulty line after it.
    let answer = server.post("/publish", &[NDJSON], format!("{}{{\n", line("A")));
    assert_problem(&answer, 409, "event_id_repeated");
    assert_eq!(answer.json()["line"], 1);
}

/// The position of an id counts for all sources of the stream, not only for the one in which it was found.
#[test]
fn a_resume_from_an_own_id_neither_skips_nor_repeats() {
    let server = TestServer::start();
    let targets = [json!({"room": "a"}), json!({"user": "u"}), json!({"all": true}), json!({"room": "b"})];
    let all: Vec<String> = (0..12).map(|n| format!("own.{n}")).collect();
    for (n, id) in all.iter().enumerate() {
        publish_as(&server, id, &targets[n % 4]);
    }
    for (n, id) in all.iter().enumerate() {
        let mut listener = server.resume("/stream?room=a&room=b&user=u", id);
        assert_eq!(listener.connected.id.as_deref(), Some(&**id));
        for wanted in &all[n + 1..] {
            assert_eq!(&listener.data(), wanted, "after {id}");
        }
    }
    server.metrics().assert("tidegate_gaps_total{reason=\"unknown\"}", 0.0);
    // A client outside room b learns nothing about its ids.
    let mut stranger = server.resume("/stream?room=a", "own.3");
    assert_unknown(&mut stranger, "own.3", &server.id(12), ",\"all\":true");
}

/// A server that restarts cannot tell which ids of its former epoch a client has seen.
#[test]
fn an_own_id_from_before_a_restart_is_a_gap() {
    let old = TestServer::start();
    publish_as(&old, "own.1", &json!({"room": "a"}));
    drop(old);
    let server = TestServer::start();
    publish_as(&server, "own.2", &json!({"room": "a"}));
    let mut listener = server.resume("/stream?room=a", "own.1");
    assert_unknown(&mut listener, "own.1", &server.id(1), ",\"all\":true");
}

/// Where an event was that is in no history, nobody knows by its id. The server's own id says the place by itself.
#[test]
fn a_resume_from_an_own_id_of_an_event_that_is_not_kept_is_a_gap() {
    let server = TestServer::start();
    let mut first = server.listen("/stream?room=a");
    publish_as(&server, "typing.1", &json!({"room": "a", "store": false}));
    let typing = server.publish(&json!({"room": "a", "store": false, "data": "typing"}));
    publish_as(&server, "kept.1", &json!({"room": "a"}));
    assert_eq!([0; 3].map(|_| first.data()), ["typing.1", "typing", "kept.1"]);
    eventually("it has left the log", || {
        server.publish(&json!({"room": "other", "data": 1}));
        server.resume("/stream?room=a", "typing.1").event().starts_with("event: gap\n")
    });
    let mut second = server.resume("/stream?room=a", "typing.1");
    assert!(second.event().contains("\"reason\":\"unknown\""));
    let mut second = server.resume("/stream?room=a", &typing);
    assert_eq!(second.data(), "kept.1");
    publish_as(&server, "kept.2", &json!({"room": "a"}));
    assert_eq!(server.resume("/stream?room=a", "kept.1").data(), "kept.2");
}
