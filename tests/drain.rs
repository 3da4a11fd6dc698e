//! Promise: a server on its way out loses nobody's events: each stream ends at an event boundary with a time to come
//! back, spread out, while publishes go on.

mod common;

use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use common::conn::{Conn, request};
use common::stream::{End, Listener};
use common::{BASE, TestServer, eventually};
use serde_json::json;
use tidegate::hub::mailbox::Command;

/// Long enough for a test to act while it goes on.
const DRAIN: Duration = Duration::from_secs(3);

fn publish(server: &TestServer, room: &str, data: &str) -> u16 {
    let body = json!({"room": room, "data": data}).to_string();
    server.post("/publish", &[], body).status()
}

#[test]
fn streams_end_with_a_word_while_publishes_go_on() {
    let mut server = TestServer::with(|config| {
        config.drain = DRAIN;
        config.shards = 1;
    });
    let mut listeners: Vec<Listener> = (0..6).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    assert_eq!(publish(&server, "a", "before"), 200);
    let running = server.take();
    let drain = std::thread::spawn(move || running.drain());

    eventually("not ready", || server.admin("/readyz").status() == 503);
    assert_eq!(server.admin("/readyz").text(), "not ready: draining\n");
    // Newcomers are sent elsewhere, softly.
    let accept = [("accept", "text/event-stream")];
    let refused = server.connect().round(&request("GET", &format!("{BASE}/stream/a/new"), &accept, b""));
    assert_eq!(refused.status(), 200);
    let text = refused.text();
    assert!(text.ends_with("\nevent: overload\ndata: {\"reason\":\"draining\"}\n\n"), "{text}");
    // Whoever reads the status gets one.
    let refused = server.connect().round(&request("GET", &format!("{BASE}/stream/a/new"), &[], b""));
    common::assert_problem(&refused, 503, "draining");
    assert_eq!(publish(&server, "a", "during"), 200);
    let metrics = server.metrics();
    assert!(metrics.refused("draining") >= 2.0);
    metrics.assert("tidegate_draining", 1.0);
    metrics.assert("tidegate_ready", 0.0);
    metrics.assert("tidegate_events_published_total", 2.0);

    // The last of them is there until nearly the end, and has everything.
    let mut complete = 0;
    for listener in &mut listeners {
        assert_eq!(listener.data(), "before");
        let event = listener.event();
        let closing = if event.ends_with("\ndata: during\n\n") {
            complete += 1;
            listener.event()
        } else {
            event
        };
        let retry = closing.strip_prefix("retry: ").and_then(|rest| rest.split('\n').next()).unwrap();
        assert!((2250..=3750).contains(&retry.parse().unwrap()), "{retry}");
        assert_eq!(closing, format!("retry: {retry}\nevent: closing\ndata: {{\"reason\":\"drain\"}}\n\n"));
        assert_eq!(listener.end(), End::LastChunk);
    }
    assert!(complete >= 1);
    drain.join().unwrap().unwrap();
}

#[test]
fn what_was_published_before_is_delivered_first() {
    let mut server = TestServer::start();
    let mut listeners: Vec<Listener> = (0..10).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    for n in 0..200 {
        assert_eq!(publish(&server, "a", &n.to_string()), 200);
    }
    server.take().drain().unwrap();
    for listener in &mut listeners {
        for n in 0..200 {
            assert_eq!(listener.data(), n.to_string());
        }
        listener.closing("drain");
    }
}

#[test]
fn a_listener_that_does_not_read_does_not_hold_the_drain_up() {
    let mut server = TestServer::with(|config| {
        config.send_buffer = 4096;
        config.drain = Duration::from_millis(300);
    });
    let stuck = Listener::open(Conn::tcp_with_small_buffer(server.addr), "/stream/a/stuck", &[]);
    let mut other = server.listen("/stream/b/other");
    let large = "x".repeat(64 << 10);
    eventually("a socket is full", || {
        assert_eq!(publish(&server, "a", &large), 200);
        server.metrics().get("tidegate_lagging_connections") >= 1.0
    });
    server.take().drain().unwrap();
    other.closing("drain");
    drop(stuck);
}

#[test]
fn nobody_can_connect_afterwards() {
    let mut server = TestServer::start();
    let (addr, admin) = (server.addr, server.admin);
    server.take().drain().unwrap();
    for addr in [addr, admin] {
        let err = std::net::TcpStream::connect(addr).expect_err("nobody listens");
        assert_eq!(err.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn nobody_waits_for_an_answer_afterwards() {
    let mut server = TestServer::start();
    let hub = server.server().shared().hub.clone();
    server.take().drain().unwrap();
    let (send, answer) = channel();
    let done = Box::new(move |users: Vec<_>| send.send(users.len()).expect("somebody waits"));
    let room = hub.rooms().get_or_create("a");
    assert!(hub.mailbox(0).send(Command::Members { room, done }).is_ok());
    assert_eq!(answer.try_recv(), Err(TryRecvError::Disconnected));
}
