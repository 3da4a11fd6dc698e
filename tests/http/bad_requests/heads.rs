//! The head of a request, and connections on which it does not come.

use std::time::Duration;

use super::{MARK, assert_refused};
use crate::common::conn::request;
use crate::common::{BASE, TestServer};

#[test]
fn head_reads_what_get_reads_without_the_body() {
    let server = TestServer::start();
    let mut conn = server.connect();
    conn.send(request("HEAD", &format!("{BASE}/rooms/a"), &[], b""));
    let head = conn.head();
    assert_eq!(head.status(), 200);
    let whole = server.get("/rooms/a").body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*whole));
    // Only the next answer follows.
    conn.send(request("GET", &format!("{BASE}/rooms/a"), &[], b""));
    assert_eq!(conn.response().status(), 200);
}

#[test]
fn what_is_not_http_ends_the_connection() {
    let server = TestServer::start();
    for text in [format!("{MARK}\r\n\r\n"), format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\n{MARK}\r\n\r\n")]
    {
        let mut conn = server.connect();
        conn.send(&text);
        let response = conn.response();
        assert_refused(&response, 400, "request_malformed");
        assert_eq!(response.header("connection"), Some("close"), "{text:?}");
        assert!(conn.is_closed(), "{text:?}");
    }
    assert_eq!(server.get("/info").status(), 200);
}

#[test]
fn a_head_may_be_as_long_as_its_setting_says() {
    for kib in [8, 16, 40] {
        let server = TestServer::with(|config| config.max_head_bytes = kib << 10);
        let head = |kib: usize| {
            format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(kib << 10))
        };
        assert_eq!(server.connect().round(head(kib - 1).as_bytes()).status(), 200);
        let mut conn = server.connect();
        let _ = conn.try_send(head(kib + 1).as_bytes());
        assert_refused(&conn.response(), 431, "head_too_large");
    }
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_secs(1));
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send(format!("GET {BASE}/{MARK}"));
    let response = slow.response();
    assert_refused(&response, 408, "request_timeout");
    assert!(slow.is_closed());
    // A peer that has sent nothing gets no answer.
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
