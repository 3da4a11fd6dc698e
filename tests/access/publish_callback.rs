//! Promise: in rooms whose table says so, the application decides about every event that a user publishes: it accepts
//! it, gives other data, or refuses it in its own words. Without its answer nothing is published. One user's events keep
//! their order, and backends are not asked about.

use crate::common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::application::{Application, Asked, Reply};
use common::bearer::{SECRET, TempFile, api_key_entry, bearer, key, token};
use common::conn::{Response, request};
use common::{BASE, TestServer, assert_problem};
use serde_json::{Value, json};
use tidegate::auth::api_keys;
use tidegate::config::{Config, Rate};
use tidegate::http::api::publish::asking::ASKED_EVENTS_MAX;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// A server whose application is asked about the room `asked`, but not about others.
fn server(application: &Application, file: &TempFile, change: impl FnOnce(&mut Config)) -> TestServer {
    let text = format!(
        "publish_callback = {:?}\napi_keys_file = {:?}\n[[room]]\nmatch = \"asked\"\ncallbacks = [\"publish\"]\nmax_event_bytes = \"1KiB\"\n",
        application.url("/publish"),
        file.text(),
    );
    let read = Config::from_toml("a.toml".as_ref(), &text, 4096).unwrap_or_else(|errors| panic!("{errors}"));
    TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.api_keys_file = read.api_keys_file;
        config.publish_callback = read.publish_callback;
        config.room_tables = read.room_tables;
        change(config);
    })
}

/// Accepts what is fine, and answers the rest as its data asks.
fn by_data(asked: &Asked) -> Reply {
    match asked.json()["data"].as_str().expect("text") {
        "sign" => Reply::With(200, r#"{"data":{ "by": "me", "text": "signed" }}"#.into()),
        "shout" => Reply::With(403, r#"{"code":"too_loud","title":"Say it \"softly\""}"#.into()),
        "no" => Reply::With(403, String::new()),
        "long" => Reply::With(200, json!({"data": "x".repeat(1025)}).to_string()),
        "odd" => Reply::With(200, "fine".into()),
        "down" => Reply::With(500, "{}".into()),
        _ => Reply::With(200, "{}".into()),
    }
}

fn backend() -> (String, TempFile) {
    let backend = api_keys::generate();
    let file = TempFile::new(&api_key_entry("shop", &backend, &["sse:publish", "sse:read"], ""));
    (backend, file)
}

fn publish(server: &TestServer, text: &str, event: &Value) -> Response {
    server.post("/publish", &[("authorization", &bearer(text))], event.to_string())
}

/// The data that is in the history of `room`.
fn said(server: &TestServer, room: &str, text: &str) -> Vec<String> {
    let path = format!("{BASE}/rooms/{room}/history");
    let answer = server.connect().round(&request("GET", &path, &[("authorization", &bearer(text))], b""));
    let events = answer.json()["events"].as_array().cloned().expect("a list");
    events.iter().map(|event| event["data"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn the_application_accepts_replaces_or_refuses() {
    let (application, (backend, file)) = (Application::start(by_data), backend());
    let server = server(&application, &file, |_| {});
    let me = token("me", &["sse:publish", "sse:read"]);
    let event = |data: &str| json!({"room": "asked", "event": "chat", "data": data});
    assert_eq!(publish(&server, &me, &event("fine")).status(), 200);
    assert_eq!(publish(&server, &me, &event("sign")).status(), 200);
    let shout = publish(&server, &me, &event("shout"));
    assert_eq!(
        (shout.status(), shout.text().as_str()),
        (403, r#"{"title":"Say it \"softly\"","status":403,"code":"too_loud"}"#)
    );
    assert_problem(&publish(&server, &me, &event("no")), 403, "publish_refused");
    assert_problem(&publish(&server, &me, &event("long")), 413, "event_too_large");
    for data in ["odd", "down"] {
        let answer = publish(&server, &me, &event(data));
        assert_problem(&answer, 503, "callback_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(said(&server, "asked", &me), ["fine", r#"{"by":"me","text":"signed"}"#]);
    let asked = application.asked();
    assert_eq!(
        (asked[0].line.as_str(), asked[0].json()),
        ("POST /publish", json!({"user": "me", "room": "asked", "event": "chat", "data": "fine"}))
    );
    let unnamed = publish(&server, &me, &json!({"room": "asked", "data": {"a": 1}}));
    assert_eq!(unnamed.status(), 200);
    assert_eq!(
        application.asked().last().expect("it was asked").json(),
        json!({"user": "me", "room": "asked", "event": null, "data": "{\"a\":1}"})
    );
    let count = application.count();
    assert_eq!(publish(&server, &backend, &event("no")).status(), 200, "backends are not asked about");
    assert_eq!(publish(&server, &me, &json!({"room": "other", "data": "no"})).status(), 200);
    assert_eq!(application.count(), count);
    let metrics = server.metrics();
    for (outcome, wanted) in [("ok", 4.0), ("refused", 2.0), ("malformed", 1.0), ("status", 1.0)] {
        metrics.assert(
            &format!("tidegate_upstream_requests_total{{kind=\"publish\",outcome=\"{outcome}\"}}"),
            wanted,
        );
    }
}

#[test]
fn a_batch_goes_out_whole_or_not_at_all_and_lines_as_far_as_they_may() {
    let (application, (_, file)) = (Application::start(by_data), backend());
    let server = server(&application, &file, |_| {});
    let me = token("me", &["sse:publish", "sse:read"]);
    let event = |data: &str| json!({"room": "asked", "data": data});
    let refused = publish(&server, &me, &json!([event("one"), event("no"), event("three")]));
    assert_problem(&refused, 403, "publish_refused");
    assert_eq!((&refused.json()["index"], said(&server, "asked", &me).len()), (&json!(1), 0));
    let lines = [event("one"), event("shout"), event("three")].map(|line| line.to_string()).join("\n");
    let headers = [("authorization", &*bearer(&me)), NDJSON];
    let refused = server.post("/publish", &headers, lines);
    let body = refused.json();
    assert_eq!(
        (refused.status(), &body["code"], &body["line"], &body["published"]),
        (403, &json!("too_loud"), &json!(2), &json!(1))
    );
    assert_eq!(said(&server, "asked", &me), ["one"]);
}

/// An array of thousands would hold its user's turn, and a place among those who wait, for hours.
#[test]
fn an_array_has_few_events_that_the_application_is_asked_about() {
    let (application, (_, file)) = (Application::start(by_data), backend());
    let server = server(&application, &file, |_| {});
    let me = token("me", &["sse:publish", "sse:read"]);
    let asked = |count: usize| vec![json!({"room": "asked", "data": "x"}); count];
    let mixed = [asked(ASKED_EVENTS_MAX), vec![json!({"room": "other", "data": "x"})]].concat();
    assert_eq!(publish(&server, &me, &json!(mixed)).status(), 200);
    let answer = publish(&server, &me, &json!(asked(ASKED_EVENTS_MAX + 1)));
    assert_problem(&answer, 413, "batch_too_large");
    let detail = format!("at most {ASKED_EVENTS_MAX} events of an array");
    assert!(answer.json()["detail"].as_str().expect("text").ends_with(&detail), "{}", answer.text());
    assert_eq!(
        (application.count(), said(&server, "asked", &me).len()),
        (ASKED_EVENTS_MAX, ASKED_EVENTS_MAX)
    );
}

#[test]
fn without_an_answer_in_time_nothing_goes_out() {
    let (application, (_, file)) = (Application::always(Reply::Held(200, "{}".into())), backend());
    let server = server(&application, &file, |config| {
        config.publish_callback_timeout = Duration::from_millis(50);
    });
    let me = token("me", &["sse:publish", "sse:read"]);
    let answer = publish(&server, &me, &json!({"room": "asked", "data": "x"}));
    assert_problem(&answer, 503, "callback_unavailable");
    assert_eq!(said(&server, "asked", &me), Vec::<String>::new());
    application.release();
}

/// What was refused or not answered may be tried again with its key; what was published is not asked about again.
#[test]
fn a_repeat_is_asked_about_once() {
    let (application, (_, file)) = (Application::start(by_data), backend());
    let server = server(&application, &file, |_| {});
    let me = bearer(&token("me", &["sse:publish", "sse:read"]));
    let post = |key: &str, data: &str| {
        let body = json!({"room": "asked", "data": data}).to_string();
        server.post("/publish", &[("authorization", &me), ("idempotency-key", key)], body)
    };
    assert_problem(&post("a", "down"), 503, "callback_unavailable");
    assert_problem(&post("a", "down"), 503, "callback_unavailable");
    let (first, again) = (post("b", "sign"), post("b", "sign"));
    assert_eq!((first.status(), first.header("idempotency-replayed")), (200, None));
    assert_eq!((again.status(), again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!((first.text(), application.count()), (again.text(), 3));
}

/// Many requests of one user at once: the application hears them one after the other, in the order of the room.
#[test]
fn one_users_events_keep_their_order() {
    let (application, (_, file)) = (Application::start(by_data), backend());
    let server = server(&application, &file, |config| {
        config.shards = 2;
        config.publish_rate_per_user = None;
        config.max_requests = 64;
    });
    let me = token("me", &["sse:publish", "sse:read"]);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (server, me) = (&server, &me);
            scope.spawn(move || {
                let answer = publish(server, me, &json!({"room": "asked", "data": n.to_string()}));
                assert_eq!(answer.status(), 200, "{}", answer.text());
            });
        }
    });
    let asked: Vec<String> = application
        .asked()
        .iter()
        .map(|asked| asked.json()["data"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(said(&server, "asked", &me), asked);
    assert_eq!(application.under_way().1, 1, "never two at once");
}

/// A moderator muted the user because of that very event, while the application was still thinking about it.
#[test]
fn who_is_muted_while_the_application_is_asked_does_not_publish() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let (_, file) = backend();
    let server = server(&application, &file, |_| {});
    let event = json!({"room": "asked", "data": "x"}).to_string();
    let me = bearer(&token("me", &["sse:publish"]));
    let line = bearer(&token("writer", &["sse:publish"]));
    let body = event.as_bytes();
    let (mut one, mut lines) = (server.connect(), server.connect());
    one.send(request("POST", &format!("{BASE}/publish"), &[("authorization", &me)], body));
    let headers = [("authorization", &*line), NDJSON];
    lines.send(request("POST", &format!("{BASE}/publish"), &headers, body));
    common::eventually("the application is asked twice", || application.count() == 2);
    let ops = bearer(&token("ops", &["admin", "sse:read"]));
    for user in ["me", "writer"] {
        let path = format!("/rooms/asked/mute/{user}");
        assert_eq!(server.post(&path, &[("authorization", &ops)], "").status(), 200);
    }
    application.release();
    assert_problem(&one.response(), 403, "muted");
    let refused = lines.response();
    assert_eq!((refused.status(), &refused.json()["line"]), (403, &json!(1)));
    assert_eq!(said(&server, "asked", &token("ops", &["sse:read"])), Vec::<String>::new());
}

/// The key of an event freed a repeat from rates, rules and mutes, but not from the question: it was asked about again, and
/// refused as `muted`, by the application, or for want of its answer, where the first time was to be answered again.
#[test]
fn an_event_that_was_published_is_not_asked_about_again() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let answer = move |_: &Asked| Reply::With(if is_down.load(Relaxed) { 403 } else { 200 }, "{}".into());
    let (application, (_, file)) = (Application::start(answer), backend());
    let server = server(&application, &file, |_| {});
    let me = token("me", &["sse:publish", "sse:read"]);
    let event = |key: &str| json!({"room": "asked", "data": key, "once": key});
    let lines = |keys: &[&str]| {
        let body = keys.iter().map(|key| event(key).to_string()).collect::<Vec<_>>().join("\n");
        server.post("/publish", &[("authorization", &bearer(&me)), NDJSON], body)
    };
    let first = publish(&server, &me, &event("a"));
    let array = publish(&server, &me, &json!([event("b"), event("c")]));
    let some_lines = lines(&["d", "e"]);
    assert_eq!([first.status(), array.status(), some_lines.status()], [200; 3]);
    assert_eq!(application.count(), 5);

    let ops = bearer(&token("ops", &["admin"]));
    for is_muted in [false, true] {
        down.store(true, Relaxed);
        if is_muted {
            assert_eq!(server.post("/rooms/asked/mute/me", &[("authorization", &ops)], "").status(), 200);
        }
        let again = publish(&server, &me, &event("a"));
        assert_eq!((again.status(), again.text()), (200, first.text()));
        let again = publish(&server, &me, &json!([event("b"), event("c")]));
        assert_eq!((again.status(), &again.json()["replayed"]), (200, &json!(2)), "{}", again.text());
        let again = lines(&["d", "e"]);
        assert_eq!((again.status(), &again.json()["replayed"]), (200, &json!(2)), "{}", again.text());
    }
    assert_eq!(application.count(), 5);

    // What is new among what is not is asked about all the same.
    let unmute = format!("{BASE}/rooms/asked/mute/me");
    server.connect().round(&request("DELETE", &unmute, &[("authorization", &ops)], b""));
    let mixed = publish(&server, &me, &json!([event("a"), event("new")]));
    assert_problem(&mixed, 403, "publish_refused");
    assert_eq!((&mixed.json()["index"], application.count()), (&json!(1), 6));
    let mixed = lines(&["a", "new"]);
    assert_problem(&mixed, 403, "publish_refused");
    assert_eq!((&mixed.json()["line"], application.count()), (&json!(2), 7));
    down.store(false, Relaxed);
    let mixed = publish(&server, &me, &json!([event("a"), event("new")]));
    assert_eq!((mixed.status(), &mixed.json()["replayed"]), (200, &json!(1)));
    assert_eq!(said(&server, "asked", &me), ["a", "b", "c", "d", "e", "new"]);
}

/// It was sent again while the first waited: one of the two was asked about and published, and so was the other one.
#[test]
fn an_event_that_waits_behind_its_twin_is_not_asked_about() {
    let (application, (_, file)) = (Application::always(Reply::Held(200, "{}".into())), backend());
    let server = server(&application, &file, |_| {});
    let me = bearer(&token("me", &["sse:publish", "sse:read"]));
    let event = json!({"room": "asked", "data": "x", "once": "k"}).to_string();
    let mut twins = [server.connect(), server.connect()];
    for twin in &mut twins {
        let headers = [("authorization", &*me)];
        twin.send(request("POST", &format!("{BASE}/publish"), &headers, event.as_bytes()));
    }
    server.wait_for("tidegate_waiting_requests", 2.0);
    application.release();
    let answers = twins.map(|mut twin| twin.response());
    assert_eq!(answers[0].text(), answers[1].text());
    assert_eq!((answers.map(|answer| answer.status()), application.count()), ([200; 2], 1));
}

/// A retry waited for the turn of its user behind the very request that it repeats, for minutes at worst, and had to have
/// a rate left.
#[test]
fn a_retry_of_what_is_being_asked_about_is_told_at_once() {
    let (application, (_, file)) = (Application::always(Reply::Held(200, "{}".into())), backend());
    let server = server(&application, &file, |config| {
        config.publish_rate_per_user = Some(Rate { events: 2, per: Duration::from_hours(1) });
    });
    let me = bearer(&token("me", &["sse:publish", "sse:read"]));
    let post = |key: &str, data: &str| {
        let headers = [("authorization", &*me), ("idempotency-key", key)];
        let body = json!({"room": "asked", "data": data}).to_string();
        let mut conn = server.connect();
        conn.send(request("POST", &format!("{BASE}/publish"), &headers, body.as_bytes()));
        conn
    };
    let mut first = post("a", "one");
    common::eventually("the application is asked", || application.count() == 1);
    // It waits for its turn.
    let mut second = post("b", "two");
    server.wait_for("tidegate_waiting_requests", 2.0);
    for (key, data) in [("a", "one"), ("b", "two")] {
        assert_problem(&post(key, data).response(), 409, "idempotency_busy");
        assert_problem(&post(key, "other").response(), 422, "idempotency_mismatch");
    }
    application.release();
    let answers = [first.response(), second.response()];
    for ((key, data), answer) in [("a", "one"), ("b", "two")].into_iter().zip(&answers) {
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let again = post(key, data).response();
        assert_eq!((again.text(), again.header("idempotency-replayed")), (answer.text(), Some("true")));
    }
    assert_eq!(application.count(), 2);
}

/// Whatever they publish, and for whomever.
#[test]
fn backends_are_not_asked_about() {
    let (application, (backend, file)) = (Application::always(Reply::With(403, String::new())), backend());
    let server = server(&application, &file, |_| {});
    let (authorization, event) = (bearer(&backend), json!({"room": "asked", "data": "x"}).to_string());
    let headers = [("authorization", &*authorization), ("tidegate-user", "me")];
    let with = |more: (&'static str, &'static str)| [headers[0], headers[1], more];
    for (headers, body) in [
        (&headers[..1], event.clone()),
        (&headers[..], event.clone()),
        (&headers[..], format!("[{event},{event}]")),
        (&with(NDJSON)[..], format!("{event}\n{event}")),
        (&with(("idempotency-key", "k"))[..], event.clone()),
    ] {
        assert_eq!(server.post("/publish", headers, body).status(), 200);
    }
    assert_eq!(application.count(), 0);
}

/// The settings name the one server that is asked.
#[test]
fn no_redirect_is_followed() {
    let elsewhere = Application::always(Reply::With(200, "{}".into()));
    for status in [301, 302, 307, 308] {
        let head =
            format!("HTTP/1.1 {status} x\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url("/"));
        let (application, (_, file)) = (Application::always(Reply::Raw(head.into_bytes())), backend());
        let server = server(&application, &file, |_| {});
        let me = token("me", &["sse:publish", "sse:read"]);
        let answer = publish(&server, &me, &json!({"room": "asked", "data": "x"}));
        assert_problem(&answer, 503, "callback_unavailable");
        assert_eq!((application.count(), elsewhere.count()), (1, 0));
    }
}

/// An answer had 8 MiB at most, whatever events a room takes: a replacement that the settings allow was refused.
#[test]
fn the_application_may_give_data_as_large_as_the_room_takes() {
    const EVENT_BYTES: usize = 10 << 20;
    let answer = |asked: &Asked| match asked.json()["data"].as_str().expect("text") {
        "plain" => Reply::With(200, json!({"data": "x".repeat(EVENT_BYTES)}).to_string()),
        // Six bytes for each.
        "escaped" => Reply::With(200, json!({"data": "\u{7}".repeat(EVENT_BYTES)}).to_string()),
        _ => Reply::With(200, json!({"data": "x".repeat(7 * EVENT_BYTES)}).to_string()),
    };
    let (application, (_, file)) = (Application::start(answer), backend());
    let server = server(&application, &file, |config| {
        config.room_tables[0].settings.max_event_bytes = Some(EVENT_BYTES);
        config.max_body_bytes = 2 * EVENT_BYTES;
        config.http_total_bytes = Some(20 * EVENT_BYTES);
        config.history_total_bytes = Some(10 * EVENT_BYTES);
        config.publish_callback_timeout = common::PATIENCE;
    });
    let me = token("me", &["sse:publish", "sse:read"]);
    for data in ["plain", "escaped"] {
        let answer = publish(&server, &me, &json!({"room": "asked", "data": data}));
        assert_eq!(answer.status(), 200, "{data}: {}", answer.text());
    }
    let larger = publish(&server, &me, &json!({"room": "asked", "data": "larger"}));
    assert_problem(&larger, 503, "callback_unavailable");
    server.wait_for("tidegate_http_bytes", 0.0);
}

/// What waited for the application, and what it answered, was in no bound: 1,024 questions and answers of some megabytes.
#[test]
fn questions_and_answers_hold_bytes_of_the_one_budget() {
    let answer = |asked: &Asked| {
        let data = asked.json()["data"].as_str().expect("text").to_owned();
        let wanted = json!({"data": "y".repeat(200 << 10)}).to_string();
        match &*data {
            "large" => Reply::With(200, wanted),
            "some" => Reply::With(200, json!({"data": "y".repeat(15 << 10)}).to_string()),
            _ => Reply::Held(200, "{}".into()),
        }
    };
    let (application, (_, file)) = (Application::start(answer), backend());
    let server = server(&application, &file, |config| {
        config.room_tables[0].settings.max_event_bytes = None;
        (config.max_event_bytes, config.max_body_bytes) = (256 << 10, 128 << 10);
        config.http_total_bytes = Some(128 << 10);
    });
    let me = token("me", &["sse:publish", "sse:read"]);
    let large = publish(&server, &me, &json!({"room": "asked", "data": "large"}));
    assert_problem(&large, 503, "buffers_full");
    assert_eq!(application.count(), 1);
    // Each of them would be free by itself.
    let some = |count: usize| Value::from(vec![json!({"room": "asked", "data": "some"}); count]);
    assert_problem(&publish(&server, &me, &some(12)), 503, "buffers_full");
    assert_eq!(publish(&server, &me, &some(4)).status(), 200);
    server.wait_for("tidegate_http_bytes", 0.0);
    let asked = application.count();

    // The body and the question, without what is free of each.
    let post = |user: &str, bytes: usize| {
        let body = json!({"room": "asked", "data": "x".repeat(bytes)}).to_string();
        let headers = [("authorization", &*bearer(&token(user, &["sse:publish"])))];
        let mut conn = server.connect();
        conn.send(request("POST", &format!("{BASE}/publish"), &headers, body.as_bytes()));
        conn
    };
    let mut waiting = post("me", 60 << 10);
    common::eventually("it is asked about", || application.count() == asked + 1);
    let held = server.metrics().get("tidegate_http_bytes");
    assert!((80_000.0..100_000.0).contains(&held), "{held}");
    // The body fits, the question does not.
    assert_problem(&post("you", 50 << 10).response(), 503, "buffers_full");
    application.release();
    assert_eq!(waiting.response().status(), 200);
    server.wait_for("tidegate_http_bytes", 0.0);
}
