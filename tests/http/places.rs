//! Promise: connections that send no request, or never finish one, do not block connections that do.

use crate::common;

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
        config.max_requests = 2;
        // Longer than any test waits: room is made, not waited for.
        config.request_timeout = 2 * PATIENCE;
    })
}

/// Connects, and waits until the server has accepted the connection.
fn settled(server: &TestServer, before: f64) -> Conn {
    let conn = server.connect();
    server.wait_for("tidegate_accepted_total", before + 1.0);
    conn
}

/// The connection that made room was once the newest one, because its slot was the first.
#[test]
fn the_idle_connection_that_waited_longest_makes_room() {
    let server = narrow();
    let mut first = settled(&server, 0.0);
    assert_eq!(info(&mut first), 200);
    let mut second = settled(&server, 1.0);
    assert_eq!(info(&mut second), 200);
    // Each new connection closes the idle one that waited longest.
    let mut third = server.connect();
    assert!(first.is_closed());
    assert_eq!(info(&mut third), 200);
    let mut fourth = server.connect();
    assert!(second.is_closed());
    assert_eq!(info(&mut fourth), 200);
    assert_eq!(info(&mut third), 200, "it has not waited longest");
}

/// However many connections come at once.
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

/// Sends half a head, as a slow client or an attacker would.
fn half_a_head(server: &TestServer) -> Conn {
    let mut conn = server.connect();
    conn.send(format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nx-slow: "));
    conn
}

/// Sends the beginning of a body.
fn half_a_body(server: &TestServer, media: &str) -> Conn {
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\ncontent-length: 1000\r\n\r\n{{\"room\":"
    ));
    conn
}

/// However many clients hold on to half a request, other clients do not wait for the request timeout.
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
    // A connection that makes room is told so, and is closed. The newest connections may still have the places.
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
        config.max_requests = 2;
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

/// Begins a stream of lines, and waits until its first line has reached `listener`.
fn stream_of_lines(server: &TestServer, listener: &mut common::stream::Listener) -> Conn {
    let mut conn = lines_head(server);
    conn.send(common::conn::chunk(&line("first")));
    assert_eq!(listener.data(), "first");
    conn
}

fn line(data: &str) -> String {
    format!("{}\n", json!({"room": "a", "data": data}))
}

fn lines_head(server: &TestServer) -> Conn {
    let mut conn = server.connect();
    let head = format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n");
    conn.send(format!("{head}transfer-encoding: chunked\r\n\r\n"));
    conn
}

/// 520 streams of lines, with a line each in 0.4 s, once held all 512 places for ever: new clients and publishers
/// waited without an answer, no metric counted it, and `/readyz` said ready.
#[test]
fn streams_of_lines_have_half_of_the_places_and_one_more_is_refused_at_once() {
    let server = TestServer::with(|config| {
        config.shards = 1;
        config.max_requests = 8;
        config.max_waiting_requests = 4;
        config.request_timeout = 2 * PATIENCE;
    });
    let mut listener = server.listen("/stream/a/u");
    let mut lines: Vec<Conn> = (0..4).map(|_| stream_of_lines(&server, &mut listener)).collect();
    server.metrics().assert("tidegate_waiting_requests", 4.0);
    for round in 1..=3 {
        // All of them send lines, so none of them makes room.
        for conn in &mut lines {
            conn.send(common::conn::chunk(&line("more")));
            assert_eq!(listener.data(), "more");
        }
        let refused = lines_head(&server).response();
        assert_problem(&refused, 503, "waiting_full");
        assert_eq!(
            (refused.header("retry-after"), refused.json().get("published")),
            (Some("5"), Some(&json!(0)))
        );
        server.metrics().assert("tidegate_refused_total{reason=\"waiting\"}", f64::from(round));
        // All other clients get through.
        server.publish(&json!({"room": "a", "data": "x"}));
        assert_eq!(listener.data(), "x");
        let mut newcomer = server.listen("/stream/a/v");
        server.publish(&json!({"room": "a", "data": "y"}));
        assert_eq!((listener.data(), newcomer.data()), ("y".to_owned(), "y".to_owned()));
    }
    // A body of lines that has come whole needs no such place.
    let whole = server.post("/publish", &[("content-type", "application/x-ndjson")], line("whole"));
    assert_eq!((whole.status(), listener.data()), (200, "whole".to_owned()));
    for mut conn in lines {
        conn.send("0\r\n\r\n");
        assert_eq!(conn.response().json()["published"], 4);
    }
    server.wait_for("tidegate_waiting_requests", 0.0);
    stream_of_lines(&server, &mut listener);
}

/// A stream of lines may be silent for minutes while there is room, but not while others of its kind are refused.
#[test]
fn a_silent_stream_of_lines_makes_room_for_the_next_and_is_told_how_far_it_got() {
    let server = narrow();
    let mut listener = server.listen("/stream/a/u");
    let mut silent = stream_of_lines(&server, &mut listener);
    // The other place is enough for all short requests, and no short request ends the stream.
    let mut halves: Vec<Conn> = (0..3).map(|_| half_a_head(&server)).collect();
    assert_eq!(info(&mut server.connect()), 200);
    assert_problem(&halves[0].response(), 408, "request_timeout");
    silent.send(common::conn::chunk(&line("on")));
    assert_eq!(listener.data(), "on");
    // The next stream of lines is refused until the one that has been silent for a second is asked to end.
    common::eventually("room for another", || {
        let mut conn = lines_head(&server);
        conn.send(common::conn::chunk(&line("first")) + "0\r\n\r\n");
        conn.response().status() == 200
    });
    let told = silent.response();
    assert_problem(&told, 408, "request_timeout");
    assert_eq!(told.json()["published"], 2);
}

/// A client that ends its sending direction in the middle of a request cannot finish it.
#[test]
fn a_peer_that_half_closes_in_mid_request_is_not_waited_for() {
    let server = narrow();
    let mut head = half_a_head(&server);
    head.end_sending();
    // Far sooner than the timeout for heads, which is longer than this waits.
    head.take_to_end();
    let mut body = half_a_body(&server, "application/json");
    body.end_sending();
    assert_problem(&body.response(), 400, "request_malformed");
    assert!(body.is_closed());
    assert_eq!(info(&mut server.connect()), 200);
    server.metrics().assert("tidegate_requests_shed_total", 0.0);
}

/// Streams of lines that publish nothing were once never asked to end: with one blank line each, they took every
/// waiting place for good.
#[test]
fn streams_of_lines_that_publish_nothing_make_room_first() {
    let server = narrow();
    let mut listener = server.listen("/stream/a/u");
    let mut useless = lines_head(&server);
    useless.send(common::conn::chunk("\n"));
    server.wait_for("tidegate_waiting_requests", 1.0);
    common::eventually("room for another", || {
        let mut conn = lines_head(&server);
        conn.send(common::conn::chunk(&line("first")) + "0\r\n\r\n");
        conn.response().status() == 200
    });
    assert_eq!(listener.data(), "first");
    assert_problem(&useless.response(), 408, "request_timeout");
}

/// Bytes of a line that had begun were once held for good after the stream had published an event.
#[test]
fn a_line_that_never_ends_makes_room_for_other_bodies() {
    let server = TestServer::with(|config| {
        config.shards = 1;
        config.max_body_bytes = 400 << 10;
        config.http_total_bytes = Some(500 << 10);
        config.request_timeout = 2 * PATIENCE;
    });
    let mut listener = server.listen("/stream/a/u");
    let mut lines: Vec<Conn> = (0..2)
        .map(|_| {
            let mut conn = stream_of_lines(&server, &mut listener);
            conn.send(common::conn::chunk(&"x".repeat(250_000)));
            conn
        })
        .collect();
    common::eventually("the budget is taken", || server.metrics().get("tidegate_http_bytes") > 370_000.0);
    let large = json!({"room": "b", "data": "x".repeat(200_000)}).to_string();
    common::eventually("a large publish", || server.post("/publish", &[], &large).status() == 200);
    let told = lines[0].response();
    assert_problem(&told, 408, "request_timeout");
    assert_eq!(told.json()["published"], 1);
}

/// As AI answers use them: each takes one place, and there can be as many as the settings say.
#[test]
fn streams_of_lines_in_the_thousands_leave_everybody_else_their_places() {
    const LINES: usize = 3000;
    let server = TestServer::with(|config| {
        config.max_requests = 2 * LINES + 400;
        config.max_waiting_requests = LINES + 200;
        config.shards = 2;
    });
    let mut listener = server.listen("/stream/a/u");
    let mut lines: Vec<Conn> = (0..LINES).map(|_| stream_of_lines(&server, &mut listener)).collect();
    let waiting = server.metrics().get("tidegate_waiting_requests");
    assert!(waiting.total_cmp(&3000.0).is_eq(), "{waiting}");
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(listener.data(), "x");
    let mut newcomer = server.listen("/stream/a/v");
    for conn in lines.iter_mut().step_by(100) {
        conn.send(common::conn::chunk(&line("more")));
        assert_eq!((listener.data(), newcomer.data()), ("more".to_owned(), "more".to_owned()));
    }
    server.metrics().assert("tidegate_refused_total{reason=\"waiting\"}", 0.0);
}
