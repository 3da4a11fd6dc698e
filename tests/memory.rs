//! Promise: when memory runs short, the engine gives up replays, then the subscribers furthest behind, then new
//! streams, then publishes, each in a way that loses nothing; and it returns to normal by itself.
//!
//! The real program, because the memory of a process is measured.

mod common;

use common::neighbours;

use std::net::SocketAddr;

use common::conn::{Conn, Response, request};
use common::metrics::Metrics;
use common::stream::Listener;
use common::{BASE, assert_problem, eventually};
use neighbours::Server;
use serde_json::json;

/// The limit, and bytes of an event: some thirty events lead from the first memory level to the last.
const LIMIT: u64 = 160 << 20;
const LARGE: usize = 1 << 20;

/// Where each memory level begins, in per cent of the limit.
const BEGINS_AT: [u64; 4] = [70, 80, 85, 92];

const STREAM: (&str, &str) = ("accept", "text/event-stream");

/// The program, its fast subscriber, and how many events were published.
struct Engine {
    addr: SocketAddr,
    admin: SocketAddr,
    /// Reads everything, at once.
    quick: Listener,
    published: usize,
}

impl Engine {
    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        Conn::tcp(self.addr).round(&request("GET", &format!("{BASE}{path}"), headers, b""))
    }

    fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin)
    }

    fn level(&self) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 4")]
        let level = self.metrics().get("tidegate_memory_level") as u64;
        level
    }

    fn post(&self, room: &str, data: &str) -> Response {
        let body = json!({"room": room, "data": data}).to_string();
        Conn::tcp(self.addr).round(&request("POST", &format!("{BASE}/publish"), &[], body.as_bytes()))
    }

    /// Publishes one large event. Either the fast subscriber gets it, or the last memory level refuses it.
    fn fill(&mut self) {
        let answer = self.post("a", &"x".repeat(LARGE - 1024));
        if answer.status() == 503 {
            // The body itself may raise the level: memory is checked while bytes come in.
            assert_problem(&answer, 503, "memory_exhausted");
            return assert_eq!(self.level(), 4, "only the last rung refuses");
        }
        assert_eq!(answer.status(), 200);
        assert_eq!(self.quick.data().len(), LARGE - 1024);
        self.published += 1;
    }

    /// Fills until the engine is on `level`, and checks that it follows its memory all the way.
    fn climb_to(&mut self, level: u64) {
        let begins_at = BEGINS_AT[usize::try_from(level - 1).expect("1 to 4")] * LIMIT / 100;
        eventually("the next rung", || {
            let now_on = self.level();
            assert!(now_on <= level, "one after the other");
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some millions")]
            let resident = self.metrics().get("process_resident_memory_bytes") as u64;
            // Past the threshold, the engine checks four times a second. Memory that a request took for a moment may be
            // free by then.
            if now_on < level && resident < begins_at {
                self.fill();
            }
            now_on == level
        });
    }

    /// Checks a refusal after which a browser reconnects.
    #[track_caller]
    fn assert_soft(&self, path: &str, headers: &[(&str, &str)]) {
        let answer = self.get(path, &[&[STREAM], headers].concat());
        assert_eq!(answer.status(), 200);
        assert!(answer.text().starts_with("retry: "), "{}", answer.text());
        assert!(
            answer.text().ends_with("event: overload\ndata: {\"reason\":\"memory\"}\n\n"),
            "{}",
            answer.text()
        );
    }

    #[track_caller]
    fn assert_welcome(&self, path: &str, headers: &[(&str, &str)]) -> Listener {
        Listener::open(Conn::tcp(self.addr), path, headers)
    }

    #[track_caller]
    fn assert_readiness(&self, status: u16, text: &str) {
        let answer = Conn::tcp(self.admin).round(&request("GET", "/readyz", &[], b""));
        assert_eq!((answer.status(), answer.text()), (status, text.to_owned()));
    }
}

async fn start() -> (Server, Engine, Vec<Listener>) {
    let server = Server::start(&[
        ("ADMIN_LISTEN", "127.0.0.1:0"),
        ("MEMORY_LIMIT", "160MiB"),
        ("HISTORY_AGE", "20s"),
        ("HISTORY_BYTES", "256MiB"),
        ("HISTORY_TOTAL_BYTES", "256MiB"),
        ("MAX_EVENT_BYTES", "1MiB"),
        ("MAX_BODY_BYTES", "2MiB"),
        ("MAX_UNSENT_AGE", "1h"),
        ("SHARDS", "2"),
    ])
    .await;
    let (addr, admin) = (server.address, server.admin.expect("an admin listener"));
    let quick = Listener::open(Conn::tcp(addr), "/stream/a/quick", &[]);
    let stuck = (0..4).map(|_| Listener::open(Conn::tcp_with_small_buffer(addr), "/stream?room=a", &[]));
    let stuck = stuck.collect();
    (server, Engine { addr, admin, quick, published: 0 }, stuck)
}

#[tokio::test]
async fn each_rung_gives_up_a_little_more_and_all_of_it_comes_back() {
    let (_server, mut engine, stuck) = start().await;
    let first = engine.quick.start_id().to_owned();
    engine.fill();
    drop(engine.assert_welcome("/stream?room=a&history=1", &[]));
    eventually("their sockets are full", || engine.metrics().is("tidegate_lagging_connections", 4.0));

    engine.climb_to(1);
    engine.assert_soft("/stream?room=a&history=1", &[]);
    engine.assert_soft("/stream?room=a", &[("last-event-id", &first)]);
    assert_problem(&engine.get("/stream?room=a&history=1", &[]), 503, "memory_exhausted");
    assert_problem(&engine.get("/rooms/a/history", &[]), 503, "memory_exhausted");
    drop(engine.assert_welcome("/stream?room=a&history=0", &[]));
    drop(engine.assert_welcome("/stream?room=quiet&history=10", &[]));
    drop(engine.assert_welcome("/stream?room=quiet", &[("last-event-id", &first)]));
    let metrics = engine.metrics();
    assert!(metrics.refused("memory") >= 3.0 && metrics.refused("memory_requests") >= 1.0);
    metrics.assert("tidegate_connections_closed_total{reason=\"memory\"}", 0.0);

    engine.climb_to(2);
    eventually("those behind are reaped", || engine.metrics().closed("memory") >= 4.0);
    engine.metrics().assert("tidegate_lagging_connections", 0.0);
    let mut newcomer = engine.assert_welcome("/stream?room=quiet", &[]);
    engine.assert_readiness(200, "ready\n");

    engine.climb_to(3);
    engine.assert_soft("/stream?room=quiet", &[]);
    engine.assert_readiness(503, "not ready: memory\n");
    engine.metrics().assert("tidegate_ready", 0.0);
    assert_eq!(engine.post("quiet", "still").status(), 200);
    assert_eq!(newcomer.data(), "still");

    engine.climb_to(4);
    let refused = engine.post("quiet", "not now");
    assert_problem(&refused, 503, "memory_exhausted");
    assert_eq!(refused.header("retry-after"), Some("5"));
    engine.metrics().assert("tidegate_connections_closed_total{reason=\"memory\"}", 4.0);

    // No client does anything any more. The history expires, and its memory goes back to the system.
    eventually("back on the ground", || engine.level() == 0);
    engine.assert_readiness(200, "ready\n");
    assert_eq!(engine.post("quiet", "again").status(), 200);
    assert_eq!(newcomer.data(), "again");
    engine.fill();
    drop(engine.assert_welcome("/stream?room=a&history=1", &[]));
    // Reaped means reset: bytes that were not read are gone with the socket. No other subscriber lost an event.
    drop(stuck);
    engine.metrics().assert("tidegate_events_dropped_total{reason=\"slow\"}", 0.0);
    assert!(engine.published > 80, "{} events", engine.published);
}

/// `off` means no limit, and `auto` means the machine's memory.
#[tokio::test]
async fn the_limit_is_shown() {
    for (setting, finite) in [("off", false), ("auto", true)] {
        let server = Server::start(&[("ADMIN_LISTEN", "127.0.0.1:0"), ("MEMORY_LIMIT", setting)]).await;
        let metrics = Metrics::scrape(server.admin.expect("an admin listener"));
        assert_eq!(metrics.get("tidegate_memory_limit_bytes").is_finite(), finite, "{setting}");
        metrics.assert("tidegate_memory_level", 0.0);
    }
}
