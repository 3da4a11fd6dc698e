//! Promise: an answer that ends its connection says so, a client that goes on reading gets the whole answer, and the
//! answer to a `HEAD` has no body, whatever part of the program gives it.

use crate::common;

use std::time::Duration;

use common::conn::{Conn, request};
use common::{BASE, TestServer, assert_problem};
use serde_json::{Value, json};

/// Returns a publish with `rest` after its `host`.
fn publish(rest: &str) -> String {
    format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\n{rest}")
}

/// RFC 9112 §9.6: without it, the next request meets a connection that just closed.
#[test]
fn an_answer_before_the_end_of_the_body_ends_the_connection_and_says_so() {
    let server = TestServer::with(|config| config.publish_idle = Duration::from_millis(200));
    let lines = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n2\r\n\n\n\r\n";
    let table = [
        (publish("content-length: 3000000\r\n\r\nx"), 413),
        (publish("content-length: 50\r\ncontent-type: text/html\r\n\r\n{"), 415),
        (publish("transfer-encoding: chunked\r\n\r\nxyz\r\n"), 400),
        (publish("transfer-encoding: chunked\r\ncontent-type: text/html\r\n\r\n1\r\nx\r\n0\r\n\r\n"), 415),
        (publish("content-length: 18446744073709551615\r\n\r\nx"), 413),
        (publish(lines), 408),
        (format!("POST {BASE}/info HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1234"), 405),
        (format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1234"), 200),
        (format!("GET {BASE}/info HTTP/1.1\r\nhost: a@b\r\ncontent-length: 9\r\n\r\n1234"), 400),
    ];
    for (text, status) in table {
        let mut conn = server.connect();
        conn.send(&text);
        let response = conn.response();
        assert_eq!((response.status(), response.header("connection")), (status, Some("close")), "{text}");
        conn.end_sending();
        assert!(conn.is_closed(), "{text}");
    }
}

#[test]
fn a_body_that_does_not_come_in_time_ends_the_connection() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_millis(300));
    let mut conn = server.connect();
    conn.send(publish("content-length: 50\r\n\r\n{"));
    let response = conn.response();
    assert_problem(&response, 408, "request_timeout");
    assert_eq!(response.header("connection"), Some("close"));
    conn.end_sending();
    assert!(conn.is_closed());
}

#[test]
fn a_body_that_has_come_ends_nothing() {
    let server = TestServer::start();
    let good = json!({"room": "a", "data": "x"}).to_string();
    let chunks = format!("{:x}\r\n{good}\r\n0\r\n\r\n", good.len());
    let lines = format!("{:x}\r\n{good}\n\r\n0\r\n\r\n", good.len() + 1);
    let mut conn = server.connect();
    for (text, status) in [
        (publish(&format!("content-length: {}\r\n\r\n{good}", good.len())), 200),
        (publish(&format!("transfer-encoding: chunked\r\n\r\n{chunks}")), 200),
        (
            publish(&format!(
                "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n{lines}"
            )),
            200,
        ),
        (publish("content-length: 2\r\n\r\n[]"), 422),
        (publish("transfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"), 422),
        // These bodies are not read.
        (format!("POST {BASE}/disconnect/a/u HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"), 200),
        (format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"), 200),
        (publish("content-length: 2\r\ncontent-type: text/html\r\n\r\n{}"), 415),
        (format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n"), 200),
    ] {
        // In one piece, or else the body arrives after the answer.
        conn.send(&text);
        let response = conn.response();
        assert_eq!((response.status(), response.header("connection")), (status, None), "{text}");
    }
}

/// A steady reader was once cut off when the time for an idle connection had passed, counted from the beginning of the
/// answer.
#[test]
fn whoever_goes_on_reading_reads_the_answer_to_its_end() {
    // Half a head is refused after this time, which is how this test measures time.
    const TICK: Duration = Duration::from_millis(200);
    const TICKS: u32 = 12;
    let server = TestServer::with(|config| {
        config.request_timeout = TICK;
        config.keepalive_timeout = TICK * (TICKS - 2);
    });
    for _ in 0..8 {
        server.publish(&json!({"room": "long", "data": "x".repeat(120_000)}));
    }
    let mut conn = Conn::tcp_with_small_buffer(server.addr);
    conn.send(request("GET", &format!("{BASE}/rooms/long/history?limit=1000"), &[], b""));
    let announced: usize = conn.head().header("content-length").unwrap().parse().unwrap();
    let mut page = Vec::new();
    for _ in 0..TICKS {
        let mut clock = server.connect();
        clock.send("GET /");
        assert_eq!(clock.response().status(), 408);
        page.extend(conn.take(16 << 10).unwrap());
    }
    page.extend(conn.take(announced - page.len()).unwrap());
    let page: Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["events"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_answer_to_a_head_has_no_body_whoever_gives_it() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_millis(300));
    let head = |rest: &str| format!("HEAD {BASE}/info{rest}");
    let table = [
        (head(" HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\n"), 400),
        (head(&format!(" HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(17 << 10))), 431),
        (head(&format!("?{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(17 << 10))), 431),
        (head(&format!(" HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200))), 431),
        (head(" HTTP/1.1\r\nhost: x\r\n"), 408),
        (head(""), 408),
        (head(" HTTP/1.1\r\n\r\n"), 400),
        (head("x HTTP/1.1\r\nhost: x\r\n\r\n"), 404),
    ];
    for (text, status) in table {
        let mut conn = server.connect();
        let _ = conn.try_send(text.as_bytes());
        let answer = conn.head();
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!((answer.status(), length > 0), (status, true), "{text}");
        conn.end_sending();
        assert_eq!(conn.take_to_end(), b"", "{text}");
    }
}
