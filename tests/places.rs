//! Promise: connections that ask for nothing, or never finish asking, keep nobody out who does.

mod common;

use common::conn::{Conn, request};
use common::{BASE, PATIENCE, TestServer, assert_problem};
use serde_json::json;

fn info(conn: &mut Conn) -> u16 {
    conn.send(request("GET", &format!("{BASE}/info"), &[], b""));
    conn.response().status()
}

/// A server with places for two requests.
fn narrow() -> TestServer {
    TestServer::with(|config| {
        config.shards = 1;
        config.requests_max = 2;
        // Longer than any test waits: room is made, not waited for.
        config.request_timeout = 2 * PATIENCE;
    })
}

/// Connects, and waits until the server has accepted the connection and looked at it.
fn settled(server: &TestServer, before: f64) -> Conn {
    let conn = server.connect();
    server.wait_for("tidegate_accepted_total", before + 1.0);
    conn
}

/// The one that made room was once the one that had come last, because its slot was the first.
#[test]
fn the_idle_connection_that_waited_longest_makes_room() {
    let server = narrow();
    let mut first = settled(&server, 0.0);
    assert_eq!(info(&mut first), 200);
    let mut second = settled(&server, 1.0);
    assert_eq!(info(&mut second), 200);
    // One more is taken for each that comes.
    let mut third = server.connect();
    assert!(first.is_closed());
    assert_eq!(info(&mut third), 200);
    let mut fourth = server.connect();
    assert!(second.is_closed());
    assert_eq!(info(&mut fourth), 200);
    assert_eq!(info(&mut third), 200, "it has not waited longest");
}

/// However many come at once.
#[test]
fn a_publisher_gets_through_a_crowd_that_says_nothing() {
    let server = narrow();
    let mut listener = server.listen("/stream/a/u");
    let crowd: Vec<Conn> = std::thread::scope(|scope| {
        let connect = || (0..20).map(|_| server.connect()).collect::<Vec<Conn>>();
        let threads = [(); 4].map(|()| scope.spawn(connect));
        threads.into_iter().flat_map(|thread| thread.join().expect("it connects")).collect()
    });
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(listener.data(), "x");
    drop(crowd);
}

#[test]
fn streams_need_no_such_place() {
    let server = narrow();
    let mut listeners: Vec<_> = (0..50).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    server.publish(&json!({"room": "a", "data": "x"}));
    for listener in &mut listeners {
        assert_eq!(listener.data(), "x");
    }
}

/// Half a head, as a slow client would send it, or an attacker.
fn half_a_head(server: &TestServer) -> Conn {
    let mut conn = server.connect();
    conn.send(format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nx-slow: "));
    conn
}

/// The beginning of a body.
fn half_a_body(server: &TestServer, media: &str) -> Conn {
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\ncontent-length: 1000\r\n\r\n{{\"room\":"
    ));
    conn
}

/// However many hold on to half a request, the time that requests have is not what others wait.
#[test]
fn half_requests_keep_nobody_out() {
    let server = narrow();
    let mut listener = server.listen("/stream/a/u");
    let mut crowd: Vec<Conn> = Vec::new();
    for _ in 0..10 {
        crowd.push(half_a_head(&server));
        crowd.push(half_a_body(&server, "application/json"));
        crowd.push(half_a_body(&server, "application/x-ndjson"));
    }
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(listener.data(), "x");
    let mut newcomer = server.listen("/stream/a/v");
    server.publish(&json!({"room": "a", "data": "y"}));
    assert_eq!(newcomer.data(), "y");
    // Whoever made room is told, and is gone. Those that came last may still have the places.
    let kept = 2;
    for conn in crowd.iter_mut().take(30 - kept) {
        assert_problem(&conn.response(), 408, "request_timeout");
        assert!(conn.is_closed());
    }
    assert!(server.metrics().get("tidegate_requests_shed_total") >= 28.0);
}

#[test]
fn an_answer_that_nobody_reads_keeps_nobody_out() {
    let server = TestServer::with(|config| {
        config.shards = 1;
        config.requests_max = 2;
        config.keepalive_timeout = 2 * PATIENCE;
        config.send_buffer = 4096;
    });
    for _ in 0..6 {
        server.publish(&json!({"room": "a", "data": "x".repeat(128 << 10)}));
    }
    let page = request("GET", &format!("{BASE}/rooms/a/history"), &[], b"");
    let stuck: Vec<Conn> = (0..4)
        .map(|_| {
            let mut conn = Conn::tcp_with_small_buffer(server.addr);
            conn.send(&page);
            conn
        })
        .collect();
    server.wait_for("tidegate_accepted_total", 10.0);
    assert_eq!(info(&mut server.connect()), 200);
    drop(stuck);
}

#[test]
fn who_was_refused_in_mid_sentence_keeps_nobody_out() {
    let server = narrow();
    let crowd: Vec<Conn> = (0..10)
        .map(|_| {
            let mut conn = server.connect();
            conn.send("no request at all\r\n\r\nbut more of it");
            conn
        })
        .collect();
    assert_eq!(info(&mut server.connect()), 200);
    drop(crowd);
}

/// They may be silent for minutes when there is room, and are worth more than half a request. But not everybody else.
#[test]
fn silent_streams_of_lines_make_room_last_and_are_told_how_far_they_got() {
    let server = narrow();
    let mut listener = server.listen("/stream/a/u");
    let mut lines: Vec<Conn> = Vec::new();
    for n in 0..2 {
        let mut conn = server.connect();
        let head =
            format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n");
        conn.send(format!("{head}transfer-encoding: chunked\r\n\r\n"));
        conn.send(common::conn::chunk(&format!("{}\n", json!({"room": "a", "data": n}))));
        assert_eq!(listener.data(), n.to_string());
        lines.push(conn);
    }
    // Both places are theirs.
    assert_eq!(info(&mut server.connect()), 200);
    let told = lines[0].response();
    assert_problem(&told, 408, "request_timeout");
    assert_eq!(told.json()["published"], 1);
    // The other one stays: half requests make room for each other.
    let mut halves: Vec<Conn> = (0..3).map(|_| half_a_head(&server)).collect();
    assert_eq!(info(&mut server.connect()), 200);
    assert_problem(&halves[0].response(), 408, "request_timeout");
    lines[1].send(common::conn::chunk(&format!("{}\n", json!({"room": "a", "data": "on"}))));
    assert_eq!(listener.data(), "on");
}

/// Whoever ends its own direction in the middle of a request will not finish it.
#[test]
fn a_peer_that_half_closes_in_mid_request_is_not_waited_for() {
    let server = narrow();
    let mut head = half_a_head(&server);
    head.end_sending();
    // Far sooner than the time that heads have, which is longer than this waits.
    head.take_to_end();
    let mut body = half_a_body(&server, "application/json");
    body.end_sending();
    assert_problem(&body.response(), 400, "request_malformed");
    assert!(body.is_closed());
    assert_eq!(info(&mut server.connect()), 200);
    server.metrics().assert("tidegate_requests_shed_total", 0.0);
}
