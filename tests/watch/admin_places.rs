//! Promise: whatever clients hold connections to the admin listener, the next request is answered; and requests are
//! checked as on other listeners.

use crate::common;

use common::conn::{Conn, request};
use common::{PATIENCE, TestServer, assert_problem, eventually};

/// More than are served at once.
const CROWD: usize = 30;

/// A server on which no connection ends by a timeout.
fn patient() -> TestServer {
    TestServer::with(|config| {
        config.request_timeout = 2 * PATIENCE;
        config.keepalive_timeout = 2 * PATIENCE;
    })
}

fn get(path: &str) -> Vec<u8> {
    request("GET", path, &[], b"")
}

/// Each connection once kept its place until `keepalive_timeout`: with eight of them, health checks got no answer.
#[test]
fn an_answer_ends_its_connection() {
    let server = patient();
    for path in ["/livez", "/readyz", "/metrics", "/nothing"] {
        let mut conn = Conn::tcp(server.admin);
        conn.send(get(path));
        assert_eq!(conn.response().header("connection"), Some("close"), "{path}");
        assert!(conn.is_closed(), "{path}");
    }
    // A second request on the connection is not answered.
    let mut conn = Conn::tcp(server.admin);
    conn.send([get("/livez"), get("/livez")].concat());
    assert_eq!(conn.response().status(), 200);
    assert!(conn.is_closed());
}

#[test]
fn a_crowd_that_says_little_keeps_nobody_out() {
    let server = patient();
    for said in
        [&b""[..], b"GET /live", b"POST /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n12345"]
    {
        let crowd: Vec<Conn> = (0..CROWD)
            .map(|_| {
                let mut conn = Conn::tcp(server.admin);
                conn.send(said);
                conn
            })
            .collect();
        assert_eq!(server.admin("/livez").text(), "alive\n", "{}", said.escape_ascii());
        drop(crowd);
    }
}

#[test]
fn readers_that_do_not_read_keep_nobody_out() {
    let server = patient();
    let crowd: Vec<Conn> = (0..CROWD)
        .map(|_| {
            let mut conn = Conn::tcp_with_small_buffer(server.admin);
            // Some megabytes of answers, more than any socket takes at once.
            let _ = conn.try_send(&get("/metrics").repeat(200));
            conn
        })
        .collect();
    assert_eq!(server.admin("/livez").text(), "alive\n");
    drop(crowd);
}

#[test]
fn pages_that_are_watched_need_no_such_place() {
    let server = patient();
    let mut pages: Vec<Conn> = (0..8)
        .map(|_| {
            let mut conn = Conn::tcp(server.admin);
            conn.send(get("/dashboard/stream"));
            assert_eq!(conn.head().status(), 200);
            conn
        })
        .collect();
    for _ in 0..CROWD {
        assert_eq!(server.admin("/livez").text(), "alive\n");
    }
    for page in &mut pages {
        page.take_until(b"data: ").expect("it goes on");
    }
    drop(pages);
    eventually("a page that is closed gives its place back", || {
        let mut conn = Conn::tcp(server.admin);
        conn.send(get("/dashboard/stream"));
        conn.head().status() == 200
    });
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_here_as_well() {
    let server = TestServer::start();
    let long = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(17 << 10));
    let table = [
        (
            "GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "request_malformed",
        ),
        ("GET /livez HTTP/1.1\nhost: x\n\n", 400, "request_malformed"),
        ("\0\0\r\n\r\n", 400, "request_malformed"),
        ("GET /livez HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, "host_invalid"),
        ("GET /livez HTTP/1.1\r\n\r\n", 400, "host_invalid"),
        (&long, 431, "head_too_large"),
    ];
    for (text, status, code) in table {
        let mut conn = Conn::tcp(server.admin);
        let _ = conn.try_send(text.as_bytes());
        let response = conn.response();
        assert_problem(&response, status, code);
        assert_eq!(response.header("connection"), Some("close"), "{text:?}");
        conn.end_sending();
        assert!(conn.is_closed(), "{text:?}");
    }
    assert_eq!(Conn::tcp(server.admin).round(b"GET /livez HTTP/1.0\r\n\r\n").status(), 200);
    server.wait_for("tidegate_refused_total{reason=\"bad_request\"}", 6.0);
}
