//! Promise: what is published with an idempotency key is published once. A repeat gets the answer of the first time, the
//! key with something else is refused, and a publish that failed can be tried again.

use crate::common;

use std::sync::Barrier;
use std::time::Duration;

use common::bearer::{SECRET, bearer, key, token};
use common::conn::{Response, request};
use common::{BASE, TestServer, assert_problem};
use serde_json::json;
use tidegate::config::Rate;
use tidegate::http::api::publish::idempotency;
use tidegate::types::name::OnceKey;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Publishes `body` with a key for the request.
fn publish(server: &TestServer, key: &str, body: &str) -> Response {
    server.post("/publish", &[("idempotency-key", key)], body)
}

fn is_replayed(response: &Response) -> bool {
    assert_eq!(response.status(), 200, "{}", response.text());
    match response.header("idempotency-replayed") {
        Some(value) => value == "true",
        None => false,
    }
}

#[test]
fn a_repeat_is_answered_as_the_first_and_publishes_nothing() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let bodies = [
        r#"{"room":"a","data":"one"}"#,
        r#"[{"room":"a","data":"two"},{"room":"a","data":"three"}]"#,
        r#"{"room":"a","data":"own","id":"order-17"}"#,
    ];
    for (key, body) in ["k-1", "k-2", "\"k 3\""].into_iter().zip(bodies) {
        let first = publish(&server, key, body);
        assert!(!is_replayed(&first));
        for _ in 0..3 {
            let again = publish(&server, key, body);
            assert!(is_replayed(&again));
            assert_eq!(again.text(), first.text());
        }
    }
    // Without a key, and with another one, the same body is published again.
    assert!(!is_replayed(&server.post("/publish", &[], bodies[0])));
    assert!(!is_replayed(&publish(&server, "k-4", bodies[0])));
    let heard = [(); 6].map(|()| listener.data());
    assert_eq!(heard, ["one", "two", "three", "own", "one", "one"]);
    let metrics = server.metrics();
    metrics.assert("tidegate_events_published_total", 6.0);
    metrics.assert("tidegate_replayed_total", 9.0);
    metrics.assert("tidegate_claims{kind=\"key\"}", 4.0);
    metrics.assert("tidegate_claims_max", 100_000.0);
}

#[test]
fn a_key_with_something_else_is_refused() {
    let server = TestServer::start();
    assert!(!is_replayed(&publish(&server, "k", r#"{"room":"a","data":1}"#)));
    for other in [r#"{"room":"a","data":2}"#, r#"{"room":"a","data":1} "#, r#"[{"room":"a","data":1}]"#] {
        assert_problem(&publish(&server, "k", other), 422, "idempotency_mismatch");
    }
    server.metrics().assert("tidegate_events_published_total", 1.0);
    server.metrics().assert("tidegate_refused_total{reason=\"idempotency\"}", 3.0);
}

#[test]
fn a_publish_that_failed_can_be_tried_again() {
    let rate = Rate { events: 2, per: Duration::from_hours(1) };
    let server = TestServer::with(|config| config.publish_rate_per_user = Some(rate));
    let event = r#"{"room":"a","data":1,"id":"used"}"#;
    assert!(!is_replayed(&server.post("/publish", &[], event)));
    assert_problem(&publish(&server, "k", event), 409, "event_id_repeated");
    assert_problem(&publish(&server, "k", event), 429, "rate_limited");
    // The key is free: it can even be used for something else, by somebody with a rate.
    let headers = [("idempotency-key", "k"), ("tidegate-user", "other")];
    let answer = server.post("/publish", &headers, r#"{"room":"a","data":2}"#);
    assert!(!is_replayed(&answer));
    // A repeat takes nothing from a rate.
    assert!(is_replayed(&publish(&server, "k", r#"{"room":"a","data":2}"#)));
    server.metrics().assert("tidegate_events_published_total", 2.0);
}

#[test]
fn while_the_first_is_not_decided_the_others_are_told() {
    let server = TestServer::start();
    let body = r#"{"room":"a","data":1}"#;
    let engine = server.server().engine();
    let once = OnceKey::new("k").expect("a key");
    let claim = idempotency::of_request("anybody", &once, body.as_bytes(), Duration::from_mins(5));
    let begun = engine.order.begin(&claim, engine.clock.now()).expect("it is free");
    assert_problem(&publish(&server, "k", body), 409, "idempotency_busy");
    assert_problem(&publish(&server, "k", r#"{"room":"a","data":2}"#), 422, "idempotency_mismatch");
    drop(begun);
    assert!(!is_replayed(&publish(&server, "k", body)));
    assert!(is_replayed(&publish(&server, "k", body)));
}

#[test]
fn each_event_can_have_a_key_of_its_own() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream?room=a");
    let event = |key: &str, data: u32| format!(r#"{{"room":"a","data":{data},"once":"{key}"}}"#);
    let first = server.post("/publish", &[], event("k-1", 1));
    assert!(!is_replayed(&first));
    let again = server.post("/publish", &[], event("k-1", 1));
    assert!(is_replayed(&again));
    assert_eq!(again.text(), first.text());
    assert_problem(&server.post("/publish", &[], event("k-1", 2)), 422, "idempotency_mismatch");

    // In a batch, old events are left out, and one that comes twice goes out once.
    let batch = format!("[{},{},{}]", event("k-1", 1), event("k-2", 2), event("k-2", 2));
    let answer = server.post("/publish", &[], &batch);
    assert!(!is_replayed(&answer));
    let text = format!(
        r#"{{"id":"{}","subscribers":2,"durability":"memory","published":1,"replayed":2}}"#,
        server.id(2)
    );
    assert_eq!(answer.text(), text);
    let refused = server.post("/publish", &[], format!("[{},{}]", event("k-3", 3), event("k-2", 7)));
    assert_problem(&refused, 422, "idempotency_mismatch");
    assert_eq!(refused.json()["index"], 1);

    // What a batch claimed that was refused is free again.
    let lines = [event("k-2", 2), event("k-3", 3), event("k-1", 9), event("k-4", 4)].join("\n");
    let refused = server.post("/publish", &[NDJSON], &lines);
    assert_problem(&refused, 422, "idempotency_mismatch");
    assert_eq!((&refused.json()["line"], &refused.json()["published"]), (&json!(3), &json!(1)));
    let lines = [event("k-3", 3), event("k-4", 4)].join("\n");
    let text = format!(
        r#"{{"id":"{}","subscribers":2,"durability":"memory","published":1,"replayed":1}}"#,
        server.id(4)
    );
    assert_eq!(server.post("/publish", &[NDJSON], &lines).text(), text);
    assert_eq!([(); 4].map(|()| listener.data()), ["1", "2", "3", "4"]);
}

#[test]
fn a_version_that_was_skipped_is_skipped_again() {
    let server = TestServer::start();
    let event = |once: &str| format!(r#"{{"room":"a","key":"k","version":1,"data":1,"once":"{once}"}}"#);
    assert!(!is_replayed(&server.post("/publish", &[], event("first"))));
    let skipped = server.post("/publish", &[], event("second"));
    assert_eq!((is_replayed(&skipped), &*skipped.text()), (false, r#"{"skipped":true}"#));
    let again = server.post("/publish", &[], event("second"));
    assert_eq!((is_replayed(&again), &*again.text()), (true, r#"{"skipped":true}"#));
}

#[test]
fn everybody_has_keys_of_their_own() {
    let server = TestServer::with(|config| config.token_keys = vec![key(SECRET)]);
    let event = r#"{"room":"a","data":1,"once":"k"}"#;
    for user in ["me", "you"] {
        let authorization = bearer(&token(user, &["sse:publish"]));
        let headers = [("authorization", &*authorization), ("idempotency-key", "k")];
        assert!(!is_replayed(&server.post("/publish", &headers, event)), "{user}");
        assert!(is_replayed(&server.post("/publish", &headers, event)), "{user}");
        assert!(is_replayed(&server.post("/publish", &headers[..1], event)), "{user}");
    }
    server.metrics().assert("tidegate_events_published_total", 2.0);
}

#[test]
fn a_key_is_one_short_text_and_lines_take_none() {
    let server = TestServer::start();
    let event = r#"{"room":"a","data":1}"#;
    let long = "k".repeat(129);
    for headers in
        [&[("idempotency-key", "")][..], &[("idempotency-key", &long)], &[("idempotency-key", "a"); 2]]
    {
        assert_problem(&server.post("/publish", headers, event), 422, "idempotency_key_invalid");
    }
    let refused = server.post("/publish", &[NDJSON, ("idempotency-key", "k")], event);
    assert_problem(&refused, 422, "idempotency_key_invalid");
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("once")));
}

#[test]
fn a_bounded_number_is_remembered() {
    let server = TestServer::with(|config| config.idempotency_keys = 10);
    let body = r#"{"room":"a","data":1}"#;
    for n in 0..25 {
        assert!(!is_replayed(&publish(&server, &n.to_string(), body)));
    }
    assert!(is_replayed(&publish(&server, "24", body)) && !is_replayed(&publish(&server, "0", body)));
    let metrics = server.metrics();
    metrics.assert("tidegate_claims{kind=\"key\"}", 10.0);
    metrics.assert("tidegate_claims_dropped_total{kind=\"key\"}", 16.0);
}

/// Clients that had no answer in time try again, all at once.
#[test]
fn a_storm_of_equal_requests_publishes_once() {
    const CONNECTIONS: usize = 200;
    const REQUESTS: usize = 10_000;
    let server = TestServer::with(|config| config.max_requests = 2 * CONNECTIONS);
    let mut listener = server.listen("/stream?room=a");
    let body = br#"{"room":"a","data":"once"}"#;
    let request = request("POST", &format!("{BASE}/publish"), &[("idempotency-key", "storm")], body);
    let start = Barrier::new(CONNECTIONS);
    let client = || {
        let mut conn = server.connect();
        start.wait();
        let answers = (0..REQUESTS / CONNECTIONS).map(|_| {
            conn.send(&request);
            let response = conn.response();
            (response.text(), is_replayed(&response))
        });
        answers.collect::<Vec<(String, bool)>>()
    };
    let answers: Vec<(String, bool)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("every answer is right")).collect()
    });
    assert_eq!(answers.len(), REQUESTS);
    assert!(answers.iter().all(|(text, _)| *text == answers[0].0), "all have the same answer");
    assert_eq!(answers.iter().filter(|(_, is_replayed)| !is_replayed).count(), 1);
    assert_eq!(listener.data(), "once");
    let metrics = server.metrics();
    metrics.assert("tidegate_events_published_total", 1.0);
    metrics.assert("tidegate_replayed_total", 9_999.0);
}
