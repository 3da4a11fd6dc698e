//! Promise: a subscriber that does not read does not delay others, is closed after a while, and learns what it missed.

use crate::common;

use std::time::Duration;

use common::conn::Conn;
use common::stream::Listener;
use common::{TestServer, eventually};
use serde_json::json;

/// Bytes of one event's data.
const LARGE: usize = 16 << 10;

/// Publishes event `n`: its number, and enough bytes to fill a socket soon.
fn publish(server: &TestServer, n: u64) {
    server.publish(&json!({"room": "a", "data": format!("{n} {}", "x".repeat(LARGE))}));
}

/// A subscriber with a small receive buffer.
fn sluggish(server: &TestServer, path: &str) -> Listener {
    Listener::open(Conn::tcp_with_small_buffer(server.addr), path, &[])
}

/// Returns the number in an event, and its id.
fn number(event: &str) -> (u64, String) {
    let (id, rest) = event.split_once("\ndata: ").unwrap_or_else(|| panic!("no data in {event:?}"));
    let (number, filling) = rest.split_once(' ').expect("a number");
    assert_eq!(filling.len(), LARGE + 2, "a whole event");
    let id = id.strip_prefix("id: ").and_then(|id| id.strip_suffix("\nroom: a")).expect("an id and the room");
    (number.parse().expect("a number"), id.to_owned())
}

/// Publishes until `slow`'s socket is full while `quick` reads everything. Returns how many events there were.
fn publish_until_blocked(server: &TestServer, quick: &mut Listener) -> u64 {
    let mut count = 0;
    eventually("a socket is full", || {
        publish(server, count);
        assert_eq!(number(&quick.event()).0, count, "the others get everything");
        count += 1;
        let metrics = server.metrics();
        // It may be closed already: a short limit passes while this thread waits for a core.
        metrics.get("tidegate_lagging_connections") >= 1.0 || metrics.closed("stalled") >= 1.0
    });
    count
}

fn server(history: usize, unsent: Duration) -> TestServer {
    TestServer::with(|config| {
        config.history_events = history;
        config.history_bytes = 64 << 20;
        config.send_buffer = 4096;
        config.max_unsent_age = unsent;
    })
}

#[test]
fn who_stops_reading_is_reaped_and_resumes_exactly() {
    let server = server(10_000, Duration::from_millis(300));
    let mut quick = server.listen("/stream/a/quick");
    let mut slow = sluggish(&server, "/stream/a/slow");
    let mut count = publish_until_blocked(&server, &mut quick);
    server.wait_for("tidegate_connections_closed_total{reason=\"stalled\"}", 1.0);
    let metrics = server.metrics();
    metrics.assert("tidegate_connections", 1.0);
    metrics.assert("tidegate_lagging_connections", 0.0);
    for _ in 0..5 {
        publish(&server, count);
        assert_eq!(number(&quick.event()).0, count);
        count += 1;
    }
    // It has received whole events in order; the rest follows on return.
    let (mut next, mut last) = (0, slow.start_id().to_owned());
    while let Some(event) = slow.try_event() {
        let (n, id) = number(&event);
        assert_eq!(n, next);
        (next, last) = (n + 1, id);
    }
    assert!(next < count, "its socket was full");
    let mut again = server.resume("/stream/a/slow", &last);
    for n in next..count {
        assert_eq!(number(&again.event()).0, n);
    }
    server.metrics().assert("tidegate_gaps_total{reason=\"evicted\"}", 0.0);
}

#[test]
fn who_comes_back_too_late_is_told_so() {
    let server = server(3, Duration::from_millis(300));
    let mut quick = server.listen("/stream/a/quick");
    let slow = sluggish(&server, "/stream/a/slow");
    let start = slow.start_id().to_owned();
    let mut count = publish_until_blocked(&server, &mut quick);
    server.wait_for("tidegate_connections_closed_total{reason=\"stalled\"}", 1.0);
    while count < 10 {
        publish(&server, count);
        count += 1;
    }
    let mut again = server.resume("/stream/a/slow", &start);
    let to = server.id(count - 3);
    assert_eq!(
        again.event(),
        format!(
            "event: gap\nid: {to}\ndata: {{\"rooms\":[\"a\"],\"from\":\"{start}\",\"to\":\"{to}\",\"reason\":\"evicted\"}}\n\n"
        )
    );
    for n in count - 3..count {
        assert_eq!(number(&again.event()).0, n);
    }
}

#[test]
fn who_reads_on_in_time_is_told_of_the_gap_in_its_stream() {
    let server = server(4, Duration::from_hours(1));
    let mut quick = server.listen("/stream/a/quick");
    let mut slow = sluggish(&server, "/stream/a/slow");
    let mut count = publish_until_blocked(&server, &mut quick);
    for _ in 0..20 {
        publish(&server, count);
        assert_eq!(number(&quick.event()).0, count);
        count += 1;
    }
    let (mut next, mut last) = (0, slow.start_id().to_owned());
    let gap = loop {
        let event = slow.event();
        if event.starts_with("event: gap\n") {
            break event;
        }
        let (n, id) = number(&event);
        assert_eq!(n, next);
        (next, last) = (n + 1, id);
    };
    let to = server.id(count - 4);
    assert_eq!(
        gap,
        format!(
            "event: gap\nid: {to}\ndata: {{\"rooms\":[\"a\"],\"from\":\"{last}\",\"to\":\"{to}\",\"reason\":\"slow\"}}\n\n"
        )
    );
    for n in count - 4..count {
        assert_eq!(number(&slow.event()).0, n);
    }
    // From there on it gets every event.
    publish(&server, count);
    assert_eq!(number(&slow.event()).0, count);
    server.wait_for("tidegate_lagging_connections", 0.0);
    let metrics = server.metrics();
    metrics.assert("tidegate_gaps_total{reason=\"slow\"}", 1.0);
    #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
    metrics.assert("tidegate_events_dropped_total{reason=\"slow\"}", (count - 4 - next) as f64);
}

#[test]
fn the_age_of_the_oldest_unsent_event_is_shown() {
    let server = server(100, Duration::from_hours(1));
    let mut quick = server.listen("/stream/a/quick");
    let mut slow = sluggish(&server, "/stream/a/slow");
    let count = publish_until_blocked(&server, &mut quick);
    eventually("an age", || server.metrics().get("tidegate_oldest_unsent_seconds") > 0.0);
    for n in 0..count {
        assert_eq!(number(&slow.event()).0, n);
    }
    server.wait_for("tidegate_oldest_unsent_seconds", 0.0);
    server.metrics().assert("tidegate_connections_closed_total{reason=\"stalled\"}", 0.0);
}

#[test]
fn who_floods_its_stream_with_input_is_ended() {
    let server = TestServer::start();
    let mut other = server.listen("/stream/a/other");
    let mut flooding = server.listen("/stream/a/u");
    let garbage = vec![b'x'; 1 << 20];
    eventually("it is cut off", || flooding.conn.try_send(&garbage).is_err());
    server.wait_for("tidegate_connections_closed_total{reason=\"flood\"}", 1.0);
    server.wait_for("tidegate_connections", 1.0);
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(other.data(), "x");
}

#[test]
fn a_little_input_is_forgiven() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    listener.conn.send("are you there?\r\n");
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(listener.data(), "x");
    server.metrics().assert("tidegate_connections", 1.0);
}

#[test]
fn a_listener_that_leaves_is_noticed_at_once() {
    let server = TestServer::start();
    let mut listeners: Vec<_> = (0..20).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    server.metrics().assert("tidegate_connections", 20.0);
    listeners.truncate(15);
    server.wait_for("tidegate_connections", 15.0);
    // A client that ends its sending direction counts as gone: no browser does it otherwise.
    listeners[0].conn.end_sending();
    server.wait_for("tidegate_connections", 14.0);
    drop(listeners);
    server.wait_for("tidegate_connections", 0.0);
    let metrics = server.metrics();
    metrics.assert("tidegate_connections_closed_total{reason=\"client\"}", 20.0);
    metrics.assert("tidegate_users", 0.0);
}

/// The client neither reads nor acknowledges nor closes, like a phone in a tunnel.
#[test]
fn a_listener_that_vanishes_is_noticed_once_something_is_sent_to_it() {
    let server = TestServer::with(|config| {
        config.tcp_user_timeout = Some(Duration::from_millis(500));
        config.max_unsent_age = Duration::from_hours(1);
    });
    let mut stays = server.listen("/stream/a/stays");
    let vanished = server.listen("/stream/a/vanished");
    vanished.conn.vanish();
    server.metrics().assert("tidegate_connections", 2.0);
    // One event is enough, and fits into its socket: only the missing acknowledgement shows the loss.
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(stays.data(), "x");
    server.wait_for("tidegate_connections_closed_total{reason=\"error\"}", 1.0);
    server.metrics().assert("tidegate_connections", 1.0);
    server.metrics().assert("tidegate_connections_closed_total{reason=\"stalled\"}", 0.0);
}

/// A client that reads a byte now and then counts as stalled.
#[test]
fn who_reads_a_byte_at_a_time_is_reaped_like_who_reads_nothing() {
    let server = server(10_000, Duration::from_millis(500));
    let mut quick = server.listen("/stream/a/quick");
    let mut slow = sluggish(&server, "/stream/a/slow");
    publish_until_blocked(&server, &mut quick);
    let mut read = 0;
    eventually("it is reaped", || {
        read += u64::from(slow.conn.sip());
        server.metrics().closed("stalled") >= 1.0
    });
    assert!(read > 0, "it did read");
    server.metrics().assert("tidegate_connections", 1.0);
}

/// The kernel's own timeout passes first: the client's window never opens far enough for a single segment, and this was
/// once counted as a network error.
#[test]
fn who_reads_a_byte_at_a_time_is_stalled_whoever_notices() {
    let server = TestServer::with(|config| {
        config.history_events = 10_000;
        config.history_bytes = 64 << 20;
        config.send_buffer = 4096;
        config.max_unsent_age = Duration::from_hours(1);
        config.tcp_user_timeout = Some(Duration::from_millis(500));
    });
    let mut quick = server.listen("/stream/a/quick");
    let mut slow = sluggish(&server, "/stream/a/slow");
    publish_until_blocked(&server, &mut quick);
    eventually("it is ended", || {
        slow.conn.sip();
        server.metrics().is("tidegate_connections", 1.0)
    });
    let metrics = server.metrics();
    metrics.assert("tidegate_connections_closed_total{reason=\"stalled\"}", 1.0);
    metrics.assert("tidegate_connections_closed_total{reason=\"error\"}", 0.0);
}
