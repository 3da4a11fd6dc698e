//! Promise: where gzip is enabled, a subscriber that asks for it can decode every event the moment it is sent, and
//! needs no compressor of its own.

use crate::common;

use std::time::Duration;

use common::conn::request;
use common::stream::{End, Listener};
use common::{BASE, TestServer};
use serde_json::json;

const GZIP: &[(&str, &str)] = &[("accept-encoding", "gzip, deflate, br")];

fn server() -> TestServer {
    TestServer::with(|config| config.gzip = true)
}

#[test]
fn only_who_asks_gets_it_and_only_where_it_is_on() {
    let server = server();
    for (headers, encoding) in [
        (GZIP, Some("gzip")),
        (&[("accept-encoding", "br, GZIP;q=0.5")], Some("gzip")),
        (&[("accept-encoding", "gzip;q=0")], None),
        (&[("accept-encoding", "br")], None),
        (&[], None),
    ] {
        let listener = server.listen_with("/stream/a/u", headers);
        assert_eq!(listener.head.header("content-encoding"), encoding, "{headers:?}");
        assert_eq!(listener.head.header("vary"), Some("accept-encoding"));
    }
    let off = TestServer::start();
    let listener = off.listen_with("/stream/a/u", GZIP);
    assert_eq!(listener.head.header("content-encoding"), None);
    assert_eq!(listener.head.header("vary"), None);
}

#[test]
fn the_head_is_exact() {
    let server = server();
    let listener = server.listen_with("/stream/a/u", GZIP);
    assert_eq!(
        listener.head.without_date(),
        "HTTP/1.1 200 OK\r\n\
         content-type: text/event-stream\r\n\
         cache-control: no-store, no-transform\r\n\
         x-accel-buffering: no\r\n\
         vary: accept-encoding\r\n\
         content-encoding: gzip\r\n\
         connection: close\r\n\
         x-content-type-options: nosniff\r\n\
         transfer-encoding: chunked\r\n\
         date: -\r\n\r\n"
    );
}

#[test]
fn every_event_decodes_as_it_comes() {
    let server = server();
    let mut zipped = server.listen_with("/stream/a/u", GZIP);
    let mut plain = server.listen("/stream/a/v");
    assert_eq!(zipped.start_id(), server.id(0));
    for n in 1..=20 {
        let data = format!("{n} {}", "again and again ".repeat(n));
        server.publish(&json!({"room": "a", "event": "say", "data": data}));
        let event = format!("event: say\nid: {}\nroom: a\ndata: {data}\n\n", server.id(n as u64));
        // Each arrives before the next is published: no event is held back.
        assert_eq!(zipped.event(), event);
        assert_eq!(plain.event(), event);
    }
    // Large events, too, which take more than one block.
    let large: String = (0..40_000).map(|n| char::from(b'!' + u8::try_from(n * n % 89).unwrap())).collect();
    server.publish(&json!({"user": "u", "data": large}));
    assert_eq!(zipped.data(), large);
    server.post("/disconnect/a/u", &[], "");
    zipped.closing("disconnected");
    let metrics = server.metrics();
    assert!(metrics.get("tidegate_bytes_sent_total{encoding=\"gzip\"}") > 0.0);
    assert!(metrics.get("tidegate_gzip_ratio") > 1.0, "{}", metrics.get("tidegate_gzip_ratio"));
}

#[test]
fn heartbeats_gaps_and_replays_decode_too() {
    let server = TestServer::with(|config| {
        config.gzip = true;
        config.heartbeat = Duration::from_secs(1);
        config.history_events = 2;
    });
    for n in 0..4 {
        server.publish(&json!({"room": "a", "data": n}));
    }
    let mut headers = GZIP.to_vec();
    let first = server.id(1);
    headers.extend([("last-event-id", &*first), ("cache-control", "no-cache"), ("pragma", "no-cache")]);
    let mut listener = server.listen_with("/stream/a/u", &headers);
    assert!(listener.event().starts_with(&format!("event: gap\nid: {}\n", server.id(2))));
    assert_eq!([listener.data(), listener.data()], ["2", "3"]);
    assert_eq!(listener.event(), format!(":\nid: {}\n\n", server.id(4)));
    server.publish(&json!({"room": "a", "data": "after"}));
    assert_eq!(listener.data(), "after");
    let mut other = server.listen_with("/stream/a/v", GZIP);
    assert_eq!(other.events(2), [":\n", ":\n"]);
    let id = server.publish(&json!({"room": "a", "data": "more"}));
    let next = std::iter::repeat_with(|| other.event()).find(|event| event != ":\n");
    assert_eq!(next, Some(format!("id: {id}\nroom: a\ndata: more\n\n")));
}

#[test]
fn a_batch_is_compressed_once_for_all() {
    let server = TestServer::with(|config| {
        config.gzip = true;
        config.shards = 1;
    });
    let mut listeners: Vec<Listener> =
        (0..50).map(|n| server.listen_with(&format!("/stream/a/u{n}"), GZIP)).collect();
    let stats = &server.server().engine().shards[0].stats;
    assert_eq!(stats.gzip[0].get(), 0, "what is for one connection only is not worth compressing");
    let data = "text that repeats itself, ".repeat(40);
    server.publish(&json!({"room": "a", "data": data}));
    let event = format!("id: {}\nroom: a\ndata: {data}\n\n", server.id(1));
    let payloads: Vec<Vec<u8>> = listeners.iter_mut().map(|listener| listener.payload().unwrap()).collect();
    assert!(payloads.iter().all(|payload| *payload == payloads[0]), "the same bytes for everyone");
    assert!(payloads[0].len() < event.len() / 4, "{} bytes for {}", payloads[0].len(), event.len());
    // However many subscribers there are, only one event went through the compressor.
    assert_eq!(stats.gzip[0].get(), event.len() as u64);
    assert_eq!(stats.gzip[1].get(), payloads[0].len() as u64);
}

#[test]
fn http_1_0_gets_bare_gzip() {
    let server = server();
    let mut conn = server.connect();
    conn.send(format!("GET {BASE}/stream/a/old HTTP/1.0\r\naccept-encoding: gzip\r\n\r\n"));
    let mut listener = Listener::answered(conn);
    assert_eq!(listener.head.header("content-encoding"), Some("gzip"));
    assert_eq!(listener.head.header("transfer-encoding"), None);
    assert!(listener.event().contains("event: connected\n"));
    for n in 1..=3 {
        server.publish(&json!({"room": "a", "data": n}));
        assert_eq!(listener.event(), format!("id: {}\nroom: a\ndata: {n}\n\n", server.id(n)));
    }
    server.post("/disconnect/a/old", &[], "");
    listener.closing("disconnected");
    assert_eq!(listener.end(), End::Closed);
}

#[test]
fn a_refusal_is_never_compressed() {
    let server = TestServer::with(|config| {
        config.gzip = true;
        config.max_connections = 1;
    });
    let _listener = server.listen_with("/stream/a/u", GZIP);
    let headers = [("accept", "text/event-stream"), GZIP[0]];
    let response = server.connect().round(&request("GET", &format!("{BASE}/stream/a/v"), &headers, b""));
    assert_eq!((response.status(), response.header("content-encoding")), (200, None));
    assert!(response.text().contains("event: overload\n"));
}
