//! Promise: whatever a peer sends, the answer is the right status and code in less than a kilobyte, repeats nothing of
//! it, is counted, and the server goes on.

mod common;

use std::time::Duration;

use common::conn::{Response, request};
use common::{BASE, TestServer, assert_problem};

/// Stands in everything that is sent and must not stand in any answer.
const MARK: &str = "zXyMark";

fn assert_refused(response: &Response, status: u16, code: &str) {
    assert_problem(response, status, code);
    let whole = format!("{}{}", response.head.0, response.text());
    assert!(!whole.contains(MARK), "{whole}");
}

#[test]
fn paths_and_queries_are_refused_by_name() {
    let server = TestServer::start();
    let long = format!("{MARK}{}", "r".repeat(128));
    let rooms: Vec<String> = (0..65).map(|n| format!("room={MARK}{n}")).collect();
    let rooms = rooms.join("&");
    let table = [
        (format!("/{MARK}"), 404, "not_found"),
        (format!("/stream/{MARK}"), 404, "not_found"),
        (format!("/stream/{MARK}/u/x"), 404, "not_found"),
        (format!("/rooms/{MARK}/members"), 404, "not_found"),
        ("/rooms".to_owned(), 404, "not_found"),
        (format!("/stream//{MARK}"), 400, "path_invalid"),
        (format!("/stream/../{MARK}"), 400, "path_invalid"),
        (format!("/stream/{MARK}/%2e%2e"), 400, "path_invalid"),
        (format!("/stream/{MARK}/%"), 400, "path_invalid"),
        (format!("/stream/{MARK}/%zz"), 400, "path_invalid"),
        (format!("/stream/{MARK}/%00"), 400, "path_invalid"),
        (format!("/stream/{MARK}/%ff"), 400, "path_invalid"),
        (format!("/stream/{MARK}%0A/u"), 400, "room_invalid"),
        (format!("/stream/{long}/u"), 400, "room_invalid"),
        (format!("/stream/a/{MARK}%0D"), 400, "user_invalid"),
        (format!("/stream/a/{long}"), 400, "user_invalid"),
        ("/stream".to_owned(), 400, "room_missing"),
        (format!("/stream?user={MARK}"), 400, "room_missing"),
        (format!("/stream?room=&user={MARK}"), 400, "room_invalid"),
        (format!("/stream?room={long}"), 400, "room_invalid"),
        (format!("/stream?room={MARK}%0a"), 400, "room_invalid"),
        (format!("/stream?{rooms}"), 400, "rooms_too_many"),
        (format!("/stream?room=a&user={MARK}%00"), 400, "user_invalid"),
        (format!("/stream?room=a&user={MARK}&id={MARK}"), 400, "query_invalid"),
        (format!("/stream?room={MARK}%f"), 400, "query_invalid"),
        (format!("/stream/a/u?room={MARK}"), 400, "query_invalid"),
        (format!("/stream/a/u?history={MARK}"), 400, "history_invalid"),
        ("/stream/a/u?history=-1".to_owned(), 400, "history_invalid"),
        ("/stream/a/u?history=1&history=1".to_owned(), 400, "query_invalid"),
        (format!("/rooms/{MARK}/history?limit=0"), 400, "limit_invalid"),
        (format!("/rooms/{MARK}/history?limit=1001"), 400, "limit_invalid"),
        (format!("/rooms/{MARK}/history?limit={MARK}"), 400, "limit_invalid"),
        (format!("/rooms/a/history?before={MARK}"), 400, "before_invalid"),
        ("/rooms/a/history?before=".to_owned(), 400, "before_invalid"),
        (format!("/rooms/{long}"), 400, "room_invalid"),
    ];
    let count = table.len();
    for (path, status, code) in table {
        let response = server.get(&path);
        assert_eq!((response.status(), &response.json()["code"]), (status, &code.into()), "{path}");
        assert_refused(&response, status, code);
    }
    let response = server.post(&format!("/disconnect/a/u?stay_away={MARK}"), &[], "");
    assert_refused(&response, 400, "query_invalid");
    let body = format!(r#"{{"room":"a","data":1,"{MARK}":"{MARK}"}}"#);
    assert_refused(&server.post("/publish", &[], body), 422, "field_unknown");

    #[allow(clippy::cast_precision_loss, reason = "a short table")]
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", (count + 2) as f64);
    assert_eq!(server.get("/info").status(), 200);
    // A place was asked for by none of them.
    assert_eq!(server.get("/info").json()["rooms"], 0);
}

#[test]
fn other_methods_are_told_the_right_ones() {
    let server = TestServer::start();
    let table = [
        ("POST", "/stream", "GET, OPTIONS"),
        ("HEAD", "/stream/a/u", "GET, OPTIONS"),
        ("DELETE", "/stream/a/u", "GET, OPTIONS"),
        ("GET", "/publish", "POST, OPTIONS"),
        ("PUT", "/publish", "POST, OPTIONS"),
        ("GET", "/disconnect/a/u", "POST, OPTIONS"),
        ("POST", "/info", "GET, HEAD, OPTIONS"),
        ("DELETE", "/rooms/a", "GET, HEAD, OPTIONS"),
        ("PATCH", "/rooms/a/history", "GET, HEAD, OPTIONS"),
        ("zXyMark", "/info", "GET, HEAD, OPTIONS"),
    ];
    for (method, path, allow) in table {
        let mut conn = server.connect();
        conn.send(request(method, &format!("{BASE}{path}"), &[], b""));
        if method == "HEAD" {
            let head = conn.head();
            assert_eq!((head.status(), head.header("allow")), (405, Some(allow)), "{method} {path}");
            continue;
        }
        let response = conn.response();
        assert_refused(&response, 405, "method_not_allowed");
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
        // And what they may send is told to who asks.
        let options = server.connect().round(&request("OPTIONS", &format!("{BASE}{path}"), &[], b""));
        assert_eq!((options.status(), options.header("allow")), (204, Some(allow)), "{path}");
    }
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 10.0);
}

#[test]
fn head_reads_what_get_reads_without_the_body() {
    let server = TestServer::start();
    let mut conn = server.connect();
    conn.send(request("HEAD", &format!("{BASE}/rooms/a"), &[], b""));
    let head = conn.head();
    assert_eq!(head.status(), 200);
    let whole = server.get("/rooms/a").body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*whole));
    // Nothing but the next answer follows.
    conn.send(request("GET", &format!("{BASE}/rooms/a"), &[], b""));
    assert_eq!(conn.response().status(), 200);
}

#[test]
fn what_is_not_http_is_told_so() {
    let server = TestServer::start();
    let table = [
        format!("{MARK}\r\n\r\n"),
        format!("GET {BASE}/{MARK} HTTP/9.9\r\n\r\n"),
        format!("\u{1}\u{2}{MARK}\r\n\r\n"),
        format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\n{MARK} no colon\r\n\r\n"),
        format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nname\u{0}{MARK}: x\r\n\r\n"),
        format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: {MARK}\r\n\r\n"),
        format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
        // A TLS hello, from someone who has the wrong port.
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
    ];
    let count = table.len();
    for text in table {
        let mut conn = server.connect();
        conn.send(&text);
        let response = conn.response();
        assert_refused(&response, 400, "request_malformed");
        assert_eq!(response.header("connection"), Some("close"), "{text:?}");
        assert!(conn.is_closed(), "{text:?}");
    }
    #[allow(clippy::cast_precision_loss, reason = "a short table")]
    server.wait_for("tidegate_refused_total{reason=\"bad_request\"}", count as f64);
    assert_eq!(server.get("/info").status(), 200);
}

#[test]
fn a_head_above_its_bound_is_refused() {
    let server = TestServer::start();
    for head in [
        format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nx-mark: {}{MARK}\r\n\r\n", "x".repeat(17 << 10)),
        format!("GET {BASE}/info?{MARK}={} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(17 << 10)),
        format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\n{}\r\n", format!("{MARK}: x\r\n").repeat(200)),
    ] {
        let mut conn = server.connect();
        let _ = conn.try_send(head.as_bytes());
        assert_refused(&conn.response(), 431, "head_too_large");
    }
    // Just below it, all is well.
    let head = format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(15 << 10));
    assert_eq!(server.connect().round(head.as_bytes()).status(), 200);
    server.wait_for("tidegate_refused_total{reason=\"bad_request\"}", 3.0);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_millis(200));
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send(format!("GET {BASE}/{MARK}"));
    let response = slow.response();
    assert_refused(&response, 408, "request_timeout");
    assert!(slow.is_closed());
    // Whoever has said nothing is told nothing.
    assert!(silent.is_closed());
    server.wait_for("tidegate_refused_total{reason=\"bad_request\"}", 1.0);
    assert_eq!(server.get("/info").status(), 200);
}

#[test]
fn a_connection_without_requests_is_closed_in_silence() {
    let server = TestServer::with(|config| config.keepalive_timeout = Duration::from_millis(200));
    let mut conn = server.connect();
    conn.send(request("GET", &format!("{BASE}/info"), &[], b""));
    assert_eq!(conn.response().status(), 200);
    assert!(conn.is_closed());
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 0.0);
}
