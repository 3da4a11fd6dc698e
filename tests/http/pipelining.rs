//! Promise: each request on a connection is answered by itself. The bytes after a request, together with it or early,
//! change nothing about its answer, and earlier requests change nothing about how the next one is read.

use crate::common;

use std::time::Duration;

use common::conn::{Conn, request};
use common::{BASE, TestServer, assert_problem};
use serde_json::{Value, json};
use tidegate::config::Config;

fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", &format!("{BASE}{path}"), headers, b"")
}

/// A connection that has had one answer already.
fn used(server: &TestServer) -> Conn {
    let mut conn = server.connect();
    conn.send(get("/info", &[("x", &"a".repeat(9_000))]));
    assert_eq!(conn.response().status(), 200);
    conn
}

/// An idle connection ends in silence, and well after half a request would have.
fn times(config: &mut Config) {
    config.request_timeout = Duration::from_millis(500);
    config.keepalive_timeout = Duration::from_secs(3);
}

/// Fills a room with more history than a socket takes at once, and returns the path to read it.
fn long_history(server: &TestServer) -> &'static str {
    for _ in 0..8 {
        server.publish(&json!({"room": "long", "data": "x".repeat(120_000)}));
    }
    "/rooms/long/history?limit=1000"
}

/// A head that is too long was once left to hyper, which checked its length only while it was incomplete. With another
/// request before it in the same buffer it was complete first: it was answered, and its length was never checked.
#[test]
fn a_head_above_its_bound_is_refused_wherever_it_stands() {
    let server = TestServer::start();
    let long = get("/info", &[("x", &"b".repeat(22_000))]);
    for cut in [0, 1, 15_000, 16_000, 16_384, 20_000] {
        let mut conn = used(&server);
        conn.send([&get("/info", &[])[..], &long[..cut]].concat());
        assert_eq!(conn.response().status(), 200, "{cut}");
        // The server may refuse it before it has come whole.
        let _ = conn.try_send(&long[cut..]);
        assert_problem(&conn.response(), 431, "head_too_large");
        conn.end_sending();
        assert!(conn.is_closed(), "{cut}");
    }
}

/// Bytes of a body that the answer did not wait for were once taken for another request, and the answer was mixed with
/// hyper's refusal of it: the answer was cut off, and a 408 came in the middle of it.
#[test]
fn an_answer_is_whole_however_late_the_body_comes() {
    let server = TestServer::with(times);
    let path = long_history(&server);
    let body = vec![b'x'; 9_000];
    let padding = "a".repeat(8_000);
    let mut answered = Vec::new();
    for headers in [&[][..], &[("x", &*padding)]] {
        let asked = request("GET", &format!("{BASE}{path}"), headers, &body);
        for cut in [asked.len(), asked.len() - 1, asked.len() - body.len()] {
            let mut conn = server.connect();
            conn.send(&asked[..cut]);
            let head = conn.head();
            assert_eq!(head.status(), 200);
            let _ = conn.try_send(&asked[cut..]);
            let announced = head.header("content-length").unwrap().parse().unwrap();
            let page: Value = serde_json::from_slice(&conn.take(announced).unwrap()).unwrap();
            assert_eq!(page["events"].as_array().map(Vec::len), Some(2), "{cut}");
            answered.push(conn);
        }
    }
    assert!(answered.iter_mut().all(Conn::is_closed));
}

/// The peer had sent its whole request, and was told that its request did not come in time.
#[test]
fn whoever_was_answered_early_owes_nothing() {
    let server = TestServer::with(times);
    let mut answered = Vec::new();
    for (path, status) in [("/nothing", 404), ("/info", 405)] {
        let mut conn = server.connect();
        conn.send(request("POST", &format!("{BASE}{path}"), &[], &vec![b'x'; 20_000]));
        assert_eq!(conn.response().status(), status);
        answered.push(conn);
    }
    assert!(answered.iter_mut().all(Conn::is_closed));
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 2.0);
}

/// For half a head after a whole request, the server once waited as long as on an idle connection.
#[test]
fn half_a_head_behind_a_request_is_waited_for_like_any() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_millis(200));
    let mut conn = server.connect();
    let half = format!("GET {BASE}/in");
    conn.send([&get("/info", &[])[..], half.as_bytes()].concat());
    assert_eq!(conn.response().status(), 200);
    assert_problem(&conn.response(), 408, "request_timeout");
    assert!(conn.is_closed());
}

#[test]
fn requests_are_answered_in_their_order_however_they_are_cut() {
    let server = TestServer::start();
    let publish = |data: &str| {
        request(
            "POST",
            &format!("{BASE}/publish"),
            &[],
            json!({"room": "a", "data": data}).to_string().as_bytes(),
        )
    };
    let all = [
        publish("1"),
        get("/rooms/a", &[]),
        publish("2"),
        b"\r\n".to_vec(),
        get("/nothing", &[]),
        publish("3"),
    ];
    let all = all.concat();
    for step in [1, 7, 100, all.len()] {
        let mut conn = server.connect();
        all.chunks(step).for_each(|piece| conn.send(piece));
        let statuses: Vec<u16> = (0..5).map(|_| conn.response().status()).collect();
        assert_eq!(statuses, [200, 200, 200, 404, 200], "{step}");
        conn.end_sending();
        assert!(conn.is_closed());
    }
}
