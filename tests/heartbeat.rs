//! Promise: no stream is silent for longer than the heartbeat, and each heartbeat moves a quiet listener's id on.

mod common;

use std::time::Duration;

use common::{TestServer, eventually};
use serde_json::json;

fn server() -> TestServer {
    TestServer::with(|config| config.heartbeat = Duration::from_secs(1))
}

#[test]
fn silence_is_broken_with_exact_bytes() {
    let server = server();
    let mut listener = server.listen("/stream/a/u");
    let beat = format!(":\nid: {}\n\n", server.id(0));
    assert_eq!(listener.events(2), [beat.clone(), beat]);
    server.wait_for("tidegate_lagging_connections", 0.0);
    assert!(server.metrics().get("tidegate_heartbeats_total") >= 2.0);
    // A heartbeat is no event.
    server.metrics().assert("tidegate_events_delivered_total", 0.0);
}

#[test]
fn a_heartbeat_is_one_chunk_of_its_own() {
    let server = server();
    let mut listener = server.listen("/stream?room=a");
    assert_eq!(listener.payload(), Some(format!(":\nid: {}\n\n", server.id(0)).into_bytes()));
}

#[test]
fn a_quiet_listeners_id_moves_on_while_others_are_busy() {
    let server = server();
    let mut quiet = server.listen("/stream/quiet/u");
    for n in 1..=3 {
        server.publish(&json!({"room": "busy", "data": n}));
    }
    let fresh = format!(":\nid: {}\n\n", server.id(3));
    eventually("a fresh id", || {
        let event = quiet.event();
        assert!(event.starts_with(":\nid: "), "{event}");
        event == fresh
    });
    // From there a resume is exact, and short.
    drop(quiet);
    server.publish(&json!({"room": "quiet", "data": "x"}));
    let mut again = server.resume("/stream/quiet/u", &server.id(3));
    assert_eq!(again.event(), format!("id: {}\ndata: x\n\n", server.id(4)));
}
