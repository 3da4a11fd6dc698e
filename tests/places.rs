//! Promise: connections that ask for nothing keep nobody out who does.

mod common;

use common::conn::{Conn, request};
use common::{BASE, PATIENCE, TestServer, eventually};
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

#[test]
fn one_that_is_being_answered_is_not_cut_off() {
    let server = narrow();
    let begin = || {
        let mut conn = server.connect();
        conn.send(format!(
            "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 23\r\n\r\n{{\"room\":"
        ));
        conn
    };
    let (mut first, mut second) = (begin(), begin());
    server.wait_for("tidegate_accepted_total", 2.0);
    // Nobody can make room, so this one waits in the kernel's queue.
    let mut third = server.connect();
    third.send(request("GET", &format!("{BASE}/info"), &[], b""));
    for conn in [&mut first, &mut second] {
        conn.send("\"a\", \"data\":1 }");
        assert_eq!(conn.response().status(), 200);
    }
    assert_eq!(third.response().status(), 200);
    eventually("all taken", || server.metrics().get("tidegate_accepted_total") >= 3.0);
}
