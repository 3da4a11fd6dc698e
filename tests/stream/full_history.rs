//! Promise: when all history has the bytes it may have, the oldest events make room. What has just been published is
//! delivered, however long or short its room keeps it, and the server still knows that it is well.

use crate::common;

use common::TestServer;
use serde_json::{Value, json};

/// A server with a mebibyte of history, which is full.
fn full() -> TestServer {
    let server = TestServer::with(|config| {
        config.history_total_bytes = Some(1 << 20);
        config.history_bytes = 1 << 20;
        config.max_body_bytes = 4 << 20;
    });
    let events: Vec<Value> = (0..1500).map(|_| json!({"room": "old", "data": "x".repeat(1024)})).collect();
    let answer = server.post("/publish", &[], json!(events).to_string());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let room = server.get("/rooms/old").json();
    assert!(room["history"]["events"].as_u64().is_some_and(|held| held < 1000), "it is full: {room}");
    server
}

/// The probe's event is not stored. It was the first to go, before any thread had seen it: the server took itself to be
/// dead, and systemd started it anew.
#[test]
fn a_server_with_a_full_history_is_ready() {
    let server = full();
    for _ in 0..3 {
        assert_eq!(server.admin("/readyz").status(), 200);
    }
}

#[test]
fn what_is_not_stored_is_delivered_although_the_history_is_full() {
    let server = full();
    let mut listener = server.listen("/stream/live/u");
    for n in 0..50 {
        let id = server.publish(&json!({"room": "live", "data": n, "store": false}));
        assert_eq!(listener.event(), format!("id: {id}\nroom: live\ndata: {n}\n\n"));
    }
}
