//! Promise: a draining server loses no event: each stream ends at an event boundary with a reconnect delay, streams end
//! spread out, and publishes go on.

use crate::common;

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use common::conn::{Conn, request};
use common::stream::Listener;
use common::{BASE, LOOPBACK, TempPath, TestServer, eventually};
use futures_channel::oneshot;
use serde_json::json;
use tidegate::config::Rate;
use tidegate::hub::mailbox::Command;

/// So slow that a drain takes as long as it may.
const SLOWLY: Rate = Rate { events: 1, per: Duration::from_hours(1) };

fn publish(server: &TestServer, room: &str, data: &str) -> u16 {
    let body = json!({"room": room, "data": data}).to_string();
    server.post("/publish", &[], body).status()
}

/// The first stream is closed at once, and the next after minutes, which is far longer than this test takes.
#[test]
fn publishes_go_on_and_newcomers_are_sent_elsewhere() {
    let mut server = TestServer::with(|config| {
        config.drain = Duration::from_mins(10);
        config.drain_rate = SLOWLY;
        config.shards = 1;
    });
    let mut first = server.listen("/stream/b/first");
    let mut listeners: Vec<Listener> = (0..6).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    assert_eq!(publish(&server, "a", "before"), 200);
    let running = server.take();
    let drain = std::thread::spawn(move || running.drain());

    first.closing("drain");
    eventually("not ready", || server.admin("/readyz").status() == 503);
    assert_eq!(server.admin("/readyz").text(), "not ready: draining\n");
    // New streams are refused in a form that makes browsers reconnect to another server.
    let accept = [("accept", "text/event-stream")];
    let refused = server.connect().round(&request("GET", &format!("{BASE}/stream/a/new"), &accept, b""));
    assert_eq!(refused.status(), 200);
    let text = refused.text();
    assert!(text.ends_with("\nevent: overload\ndata: {\"reason\":\"draining\"}\n\n"), "{text}");
    // A client that reads the status gets an error status.
    let refused = server.connect().round(&request("GET", &format!("{BASE}/stream/a/new"), &[], b""));
    common::assert_problem(&refused, 503, "draining");
    assert_eq!(publish(&server, "a", "during"), 200);
    for listener in &mut listeners {
        assert_eq!([listener.data(), listener.data()], ["before", "during"]);
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_connections", 6.0);
    metrics.assert("tidegate_refused_total{reason=\"draining\"}", 2.0);
    metrics.assert("tidegate_draining", 1.0);
    metrics.assert("tidegate_ready", 0.0);
    metrics.assert("tidegate_events_published_total", 2.0);
    // Once no stream is left, the drain ends.
    drop(listeners);
    drain.join().unwrap().unwrap();
}

/// They once took as long as ten thousand: nine tenths of `drain` for a single one.
#[test]
fn a_few_streams_are_closed_at_once() {
    let mut server = TestServer::with(|config| config.drain = Duration::from_hours(1));
    let mut listeners: Vec<Listener> = (0..20).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    let running = server.take();
    let drain = std::thread::spawn(move || running.drain());
    for listener in &mut listeners {
        listener.closing("drain");
    }
    eventually("its end", || drain.is_finished());
    drain.join().unwrap().unwrap();
}

#[test]
fn streams_end_with_a_word_and_a_time_to_come_back() {
    let mut server = TestServer::with(|config| config.drain = Duration::from_millis(500));
    let mut listeners: Vec<Listener> = (0..6).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    server.take().drain().unwrap();
    for listener in &mut listeners {
        let retry = listener.closing("drain");
        assert!((2250..=3750).contains(&retry), "{retry} is three seconds, jittered");
    }
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
    let hub = server.server().engine().hub.clone();
    server.take().drain().unwrap();
    let (reply, mut answer) = oneshot::channel();
    let room = hub.rooms().get_or_create("a");
    assert!(hub.mailbox(0).send(Command::Members { room, reply }).is_ok());
    assert_eq!(answer.try_recv().map(|answer| answer.map(|users| users.len())), Err(oneshot::Canceled));
}

/// The file used to stay until the very end, and what was connected to it in the last moment was cut off.
#[test]
fn a_path_is_left_to_the_next_server_before_the_last_answer() {
    let path = TempPath::new();
    let mut server = TestServer::with(|config| config.listen = vec![LOOPBACK.into(), path.listen().into()]);
    let body = json!({"room": "a", "data": "x"}).to_string();
    let publish = request("POST", &format!("{BASE}/publish"), &[], body.as_bytes());
    let (begun, rest) = publish.split_at(publish.len() - 1);
    let mut conn = Conn::unix(&path.0);
    conn.send(begun);
    let running = server.take();
    let drain = std::thread::spawn(move || running.drain());
    eventually("its path is free", || !path.0.exists());
    let _next = UnixListener::bind(&path.0).expect("the path is free");
    conn.send(rest);
    assert_eq!(conn.response().status(), 200);
    drain.join().unwrap().unwrap();
    UnixStream::connect(&path.0).expect("the path is the next one's");
}
