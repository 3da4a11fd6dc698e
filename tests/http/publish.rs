//! Promise: each publish gets an exact answer: it is accepted, or refused with a code that names the fault.

use crate::common;

use std::time::Duration;

use common::conn::{Conn, chunk, request};
use common::{BASE, TestServer, assert_problem};
use serde_json::json;
use tidegate::config::Rate;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Starts a streamed body.
fn start_stream(server: &TestServer) -> Conn {
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        NDJSON.1
    ));
    conn
}

#[test]
fn the_answer_says_what_became_of_it() {
    let server = TestServer::start();
    let _listeners = ["/stream/a/u", "/stream/a/v", "/stream?room=a&room=b"].map(|path| server.listen(path));
    let table = [
        (json!({"room": "a", "data": 1}), 3, None),
        (json!({"room": "b", "data": 1}), 1, None),
        (json!({"room": "nobody", "data": 1}), 0, None),
        (json!({"user": "u", "data": 1}), 1, None),
        (json!({"all": true, "data": 1}), 3, None),
        (json!([{"room": "a", "data": 1}, {"room": "b", "data": 1}]), 4, Some(2)),
        (json!([{"room": "a", "data": 1}]), 3, Some(1)),
    ];
    let mut offset = 0;
    for (body, subscribers, published) in table {
        offset += published.unwrap_or(1);
        let response = server.post("/publish", &[("content-type", "application/json")], body.to_string());
        let published = published.map(|count| format!(",\"published\":{count}")).unwrap_or_default();
        assert_eq!(
            response.text(),
            format!(
                r#"{{"id":"{}","subscribers":{subscribers},"durability":"memory"{published}}}"#,
                server.id(offset)
            )
        );
        assert_eq!(response.head.0.lines().next(), Some("HTTP/1.1 200 OK"));
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    server.metrics().assert("tidegate_events_published_total", 8.0);
}

#[test]
fn lines_are_delivered_before_the_body_ends() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let mut conn = start_stream(&server);
    for n in 1..=5 {
        conn.send(chunk(&format!("{{\"room\":\"a\",\"data\":{n}}}\n")));
        assert_eq!(listener.event(), format!("id: {}\nroom: a\ndata: {n}\n\n", server.id(n)));
    }
    // Half a line waits for its other half, and blank lines are skipped.
    conn.send(chunk("\n\r\n{\"room\":\"a\","));
    conn.send(chunk("\"data\":6}\r\n{\"room\":\"a\",\"data\":7}"));
    assert_eq!(listener.event(), format!("id: {}\nroom: a\ndata: 6\n\n", server.id(6)));
    conn.send("0\r\n\r\n");
    assert_eq!(listener.event(), format!("id: {}\nroom: a\ndata: 7\n\n", server.id(7)));
    let answer = conn.response();
    assert_eq!(
        answer.text(),
        format!(r#"{{"id":"{}","subscribers":7,"durability":"memory","published":7}}"#, server.id(7))
    );
}

#[test]
fn a_bad_line_ends_the_stream_and_what_came_before_stays() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let good = "{\"room\":\"a\",\"data\":\"x\"}\n";
    for (bad, status, code) in [
        ("{\"room\":\"a\"}\n", 422, "data_missing"),
        ("{\"room\":\n", 400, "body_malformed"),
        ("[{\"room\":\"a\",\"data\":1}]\n", 400, "body_malformed"),
        ("{\"room\":\"a\",\"data\":1,\"evnt\":\"x\"}\n", 422, "field_unknown"),
    ] {
        let body = format!("{good}\n{good}{bad}{good}");
        let response = server.post("/publish", &[NDJSON], body);
        assert_problem(&response, status, code);
        assert_eq!(response.json()["line"], 4, "{bad}");
        assert_eq!(response.json()["published"], 2, "{bad}");
        assert_eq!([listener.data(), listener.data()], ["x", "x"]);
    }
    assert_problem(&server.post("/publish", &[NDJSON], "\n\n"), 422, "batch_empty");
    // No event came after the faulty lines.
    server.publish(&json!({"room": "a", "data": "end"}));
    assert_eq!(listener.data(), "end");
    server.metrics().assert("tidegate_events_published_total", 9.0);
}

/// All faults once had the same text, without the position.
#[test]
fn what_is_wrong_with_a_body_is_told_to_the_byte() {
    let server = TestServer::start();
    let malformed = r#"{"title":"the body is not JSON of the expected form; see detail","status":400,"code":"body_malformed","#;
    let table: [(&[u8], &str); 10] = [
        (b"", r#""detail":"the body is empty","line":1,"column":1}"#),
        (
            b"{\n  \"room\": \"a\",\n  \"data\": 1,\n}",
            r#""detail":"a comma stands before a closing bracket","line":4,"column":1}"#,
        ),
        (
            b"{\"room\":\"a\",\"data\":\"x",
            r#""detail":"the body ends before its JSON value does","line":1,"column":22}"#,
        ),
        (
            b"\"hi\"",
            r#""detail":"an event is a JSON object; a body is one event or an array of events","line":1,"column":4}"#,
        ),
        (b"{\"room\":\"a\",\"data\":\"\xe9\"}", r#""detail":"the body is not UTF-8","line":1,"column":21}"#),
        (
            b"{\"room\":\"a\",\"data\":\"x\0\"}",
            r#""detail":"the body has a NUL byte in it; inside a string it is written \\u0000","line":1,"column":22}"#,
        ),
        (
            b"{\"room\":\"a\",\"data\":\"x\\ud83d!\"}",
            r#""detail":"a string has half of a surrogate pair (\\ud800 to \\udfff without the other half), which is no character","field":"data","line":1,"column":22}"#,
        ),
        (
            b"{\"room\":\"a\",\"group\":\"b\",\"data\":1}",
            r#""detail":"an event has this field twice; room and group are the same field","field":"room","line":1,"column":21}"#,
        ),
        (
            b"[{\"room\":\"a\",\"data\":1},\n7]",
            r#""detail":"an event is a JSON object; a body is one event or an array of events","line":2,"column":1,"index":1}"#,
        ),
        (b"room=a&data=1", r#""detail":"the body is not JSON from here on","line":1,"column":1}"#),
    ];
    for (body, told) in table {
        let response = server.post("/publish", &[], body);
        assert_problem(&response, 400, "body_malformed");
        assert_eq!(response.text(), format!("{malformed}{told}"), "{}", body.escape_ascii());
    }
    let deep = format!(r#"{{"room":"a","data":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    let response = server.post("/publish", &[], deep);
    let told = r#""detail":"data is nested more than 127 levels deep","field":"data","line":1,"column":20}"#;
    assert_eq!(response.text(), format!("{malformed}{told}"));
    let response = server.post("/publish", &[], r#"{"romm":"a","data":1}"#);
    let fields =
        "an event has only room, user, all, event, data, id, exclude, require, key, version, store and once";
    assert_eq!(
        response.text(),
        format!(r#"{{"title":"{fields}","status":422,"code":"field_unknown","field":"romm"}}"#)
    );
    // In a stream of lines, the line number counts within the stream.
    let response = server.post("/publish", &[NDJSON], "\n{\"room\":\"a\",\"data\":1}\n{\"room\":\"a\" 1}\n");
    let told =
        r#""detail":"a colon, a comma or a closing bracket is missing","line":3,"column":13,"published":1}"#;
    assert_eq!(response.text(), format!("{malformed}{told}"));
}

/// Editors and PowerShell put a byte order mark before UTF-8, and lines that began with one were once refused.
#[test]
fn a_byte_order_mark_before_the_text_is_left_out() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let event = |data: u32| format!(r#"{{"room":"a","data":{data}}}"#);
    let post = |headers: &[(&str, &str)], body: String| {
        let response = server.post("/publish", headers, body);
        assert_eq!(response.status(), 200, "{}", response.text());
    };
    post(&[], format!("\u{feff}{}", event(1)));
    post(&[], format!("\u{feff}\n[{}]", event(2)));
    post(&[NDJSON], format!("\u{feff}{}\n{}\n", event(3), event(4)));
    // In parts, before an empty line, and where files were concatenated.
    let mut conn = start_stream(&server);
    for part in [&b"2\r\n\xef\xbb\r\n"[..], b"1\r\n\xbf\r\n", chunk("\r\n").as_bytes()] {
        conn.send(part);
    }
    conn.send(chunk(&format!("{}\n\u{feff}{}\n", event(5), event(6))));
    conn.send("0\r\n\r\n");
    assert_eq!(conn.response().json()["published"], 2);
    for data in 1..=6 {
        assert_eq!(listener.data(), data.to_string());
    }
    // In any other place it is no white space.
    let response = server.post("/publish", &[], "{\u{feff}\"room\":\"a\",\"data\":1}");
    assert_problem(&response, 400, "body_malformed");
    assert_eq!(
        response.json()["detail"],
        "a byte order mark may stand at the beginning of a body or line only"
    );
}

#[test]
fn a_stream_that_falls_silent_is_ended_with_a_word() {
    let server = TestServer::with(|config| config.publish_idle = Duration::from_secs(1));
    let mut conn = start_stream(&server);
    conn.send(chunk("{\"room\":\"a\",\"data\":1}\n"));
    let response = conn.response();
    assert_problem(&response, 408, "request_timeout");
    assert_eq!(response.json()["published"], 1);
    assert!(conn.is_closed());
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_secs(1));
    let mut conn = server.connect();
    conn.send(format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{"));
    assert_problem(&conn.response(), 408, "request_timeout");
    assert!(conn.is_closed());
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 1.0);
}

#[test]
fn a_body_cut_short_publishes_nothing() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let mut conn = server.connect();
    let whole = json!({"room": "a", "data": "cut"}).to_string();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{whole}",
        whole.len() + 1
    ));
    conn.end_sending();
    assert_problem(&conn.response(), 400, "request_malformed");
    assert!(conn.is_closed());
    // From here on, the cut publish can add no event.
    server.publish(&json!({"room": "a", "data": "whole"}));
    assert_eq!(listener.event(), format!("id: {}\nroom: a\ndata: whole\n\n", server.id(1)));
    server.metrics().assert("tidegate_events_published_total", 1.0);
}

#[test]
fn what_is_too_large_is_refused_by_its_bound() {
    let server = TestServer::with(|config| {
        config.max_event_bytes = 1024;
        config.max_body_bytes = 4096;
    });
    let event = |bytes: usize| json!({"room": "a", "data": "x".repeat(bytes)}).to_string();
    let publish = |headers: &[(&str, &str)], body: &str| server.post("/publish", headers, body);
    assert_eq!(publish(&[], &event(1024)).status(), 200);
    assert_problem(&publish(&[], &event(1025)), 413, "event_too_large");
    // White space is not data, so the bound on the body counts.
    assert_eq!(
        publish(&[], &format!("{}{}", event(1024), " ".repeat(4096 - event(1024).len()))).status(),
        200
    );
    assert_problem(&publish(&[], &" ".repeat(4097)), 413, "body_too_large");

    let batch = format!("[{},{}]", event(10), event(1025));
    let response = publish(&[], &batch);
    assert_problem(&response, 413, "event_too_large");
    assert_eq!(response.json()["index"], 1);

    // A stream of lines has no bound as a whole, only each event has.
    let lines = format!("{}\n", event(1024)).repeat(20);
    assert_eq!(publish(&[NDJSON], &lines).json()["published"], 20);
    let response = publish(&[NDJSON], &format!("{}\n{}\n", event(1), event(1025)));
    assert_problem(&response, 413, "event_too_large");
    assert_eq!((&response.json()["line"], &response.json()["published"]), (&json!(2), &json!(1)));
    // A line without an end must not gather memory: it is refused while it comes.
    let mut conn = start_stream(&server);
    conn.send(chunk(&"x".repeat(1024 + (64 << 10) + 1)));
    let response = conn.response();
    assert_problem(&response, 413, "event_too_large");
    assert_eq!(response.json()["line"], 1);
}

#[test]
fn an_announced_length_is_refused_before_the_body_comes() {
    let server = TestServer::start();
    let mut conn = server.connect();
    conn.send(format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 1048577\r\n\r\n"));
    assert_problem(&conn.response(), 413, "body_too_large");
    assert!(conn.is_closed());
}

#[test]
fn an_unannounced_body_is_refused_once_it_is_too_long() {
    let server = TestServer::with(|config| {
        config.max_event_bytes = 1024;
        config.max_body_bytes = 4096;
    });
    let mut conn = server.connect();
    conn.send(format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"));
    conn.send(chunk(&" ".repeat(4096)));
    conn.send(chunk(" "));
    assert_problem(&conn.response(), 413, "body_too_large");
}

#[test]
fn a_peer_that_sends_all_before_it_reads_still_gets_its_answer() {
    let server = TestServer::start();
    let mut conn = server.connect();
    let body = vec![b' '; 2 << 20];
    // The server may close before it has read everything.
    let _ = conn.try_send(&request("POST", &format!("{BASE}/publish"), &[], &body));
    assert_problem(&conn.response(), 413, "body_too_large");
}

#[test]
fn only_json_in_utf_8_is_read() {
    let server = TestServer::start();
    let body = json!({"room": "a", "data": "x"}).to_string();
    for (kind, published) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("Application/JSON;charset=\"UTF-8\"", true),
        // The types that `curl -d` and a bare `fetch` send.
        ("application/x-www-form-urlencoded", true),
        ("text/plain;charset=UTF-8", true),
        ("application/x-ndjson", true),
        ("application/json; charset=latin1", false),
        ("text/html", false),
        ("multipart/form-data; boundary=x", false),
    ] {
        let response = server.post("/publish", &[("content-type", kind)], &body);
        if published {
            assert_eq!(response.status(), 200, "{kind}");
        } else {
            assert_problem(&response, 415, "media_type_unsupported");
        }
    }
    for coding in ["gzip", "br", "identity, gzip"] {
        let response = server.post("/publish", &[("content-encoding", coding)], &body);
        assert_problem(&response, 415, "content_encoding_unsupported");
    }
    assert_eq!(server.post("/publish", &[("content-encoding", "identity")], &body).status(), 200);
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not_at_all() {
    let server = TestServer::start();
    let response = server.post("/publish", &[], r#"[{"room":"a","data":1},{"room":"a"}]"#);
    assert_problem(&response, 422, "data_missing");
    assert_eq!(response.json()["index"], 1);
    server.metrics().assert("tidegate_events_published_total", 0.0);
}

#[test]
fn above_its_rate_a_publisher_is_told_when_to_come_back() {
    let server = TestServer::with(|config| {
        config.publish_rate_per_user = Some(Rate { events: 2, per: Duration::from_mins(1) });
    });
    let body = json!({"room": "a", "data": 1}).to_string();
    let as_user = |user: &str| server.post("/publish", &[("tidegate-user", user)], &body);
    assert_eq!([as_user("u").status(), as_user("u").status()], [200, 200]);
    let refused = as_user("u");
    assert_problem(&refused, 429, "rate_limited");
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    // Other publishers are not limited: another user, and a client that is known by address only.
    assert_eq!(as_user("v").status(), 200);
    assert_eq!(server.post("/publish", &[], &body).status(), 200);
    // In a stream, the events that the rate allows are published.
    let response = server.post("/publish", &[NDJSON, ("tidegate-user", "w")], format!("{body}\n").repeat(3));
    assert_problem(&response, 429, "rate_limited");
    assert_eq!((&response.json()["line"], &response.json()["published"]), (&json!(3), &json!(2)));
    assert!(response.header("retry-after").is_some());
    let metrics = server.metrics();
    metrics.assert("tidegate_events_published_total", 6.0);
    metrics.assert("tidegate_refused_total{reason=\"rate_limited\"}", 2.0);
}

#[test]
fn one_connection_takes_many_publishes() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let mut conn = server.connect();
    for n in 1..=20 {
        let body = json!({"room": "a", "data": n}).to_string();
        conn.send(request("POST", &format!("{BASE}/publish"), &[], body.as_bytes()));
        assert_eq!(conn.response().json()["id"], server.id(n));
        assert_eq!(listener.data(), n.to_string());
    }
    // A refusal does not end it either, as long as the body came.
    conn.send(request("POST", &format!("{BASE}/publish"), &[], b"{}"));
    assert_problem(&conn.response(), 422, "target_missing");
    conn.send(request("GET", &format!("{BASE}/info"), &[], b""));
    assert_eq!(conn.response().status(), 200);
    // One for the subscriber, one for all of these.
    server.metrics().assert("tidegate_accepted_total", 2.0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start();
    let mut conn = server.connect();
    let publish = |n: u32| {
        let body = json!({"room": "a", "data": n}).to_string();
        request("POST", &format!("{BASE}/publish"), &[], body.as_bytes())
    };
    let mut all: Vec<u8> = (1..=10).flat_map(publish).collect();
    all.extend(request("GET", &format!("{BASE}/stream/a/u?history=2"), &[], b""));
    conn.send(all);
    for n in 1..=10 {
        assert_eq!(conn.response().json()["id"], server.id(n));
    }
    let mut listener = common::stream::Listener::answered(conn);
    assert!(listener.event().contains("event: connected\n"));
    assert_eq!([listener.data(), listener.data()], ["9", "10"]);
}

/// As `nc -N` does. Whether the end comes with the request or after it depends on the network.
#[test]
fn a_peer_that_ends_its_side_is_answered_all_the_same() {
    let server = TestServer::start();
    let body = json!({"room": "a", "data": 1}).to_string();
    let publish = request("POST", &format!("{BASE}/publish"), &[], body.as_bytes());
    for n in 1..=300 {
        let mut conn = server.connect();
        conn.send(&publish);
        conn.end_sending();
        assert_eq!(conn.response().json()["id"], server.id(n));
        assert!(conn.is_closed());
    }
}

#[test]
fn a_careful_peer_is_told_to_go_on() {
    let server = TestServer::start();
    let body = json!({"room": "a", "data": 1}).to_string();
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(conn.response().head.0, "HTTP/1.1 100 Continue\r\n\r\n");
    conn.send(body);
    assert_eq!(conn.response().status(), 200);
    // A client whose body would be too large gets the refusal before it sends.
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n"
    ));
    assert_problem(&conn.response(), 413, "body_too_large");
}
