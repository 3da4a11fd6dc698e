//! Promise: the live page has the present state from the start, and its stream is not counted as a connection, room or
//! event.

use crate::common;

use std::net::SocketAddr;
use std::time::Duration;

use common::conn::{Conn, request};
use common::stream::Listener;
use common::{TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::admin::live::STREAMS_MAX;
use tidegate::config::{Config, Rate, RoomPresence, RoomSettings, RoomTable};

/// A page's stream.
pub(crate) struct Watcher(Listener);

impl Watcher {
    fn request(admin: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Listener {
        let mut conn = Conn::tcp(admin);
        conn.send(request("GET", path, headers, b""));
        Listener::answered(conn)
    }

    /// Opens the stream and reads up to and including `connected`.
    pub(crate) fn open(admin: SocketAddr, headers: &[(&str, &str)]) -> Self {
        let mut stream = Self::request(admin, "/dashboard/stream", headers);
        assert_eq!(stream.head.status(), 200, "{}", stream.head.0);
        assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
        assert_eq!(stream.head.header("cache-control"), Some("no-store, no-transform"));
        let connected = stream.event();
        assert!(connected.contains("event: connected\n"), "{connected}");
        Self(stream)
    }

    /// Returns the next sample, with its id.
    fn sample(&mut self) -> (String, Value) {
        let event = self.0.event();
        let mut lines = event.lines();
        assert_eq!(lines.next(), Some("event: sample"), "{event}");
        let id = lines.next().and_then(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
        let data = lines.next().and_then(|line| line.strip_prefix("data: ")).expect("one line of data");
        (id, serde_json::from_str(data).expect("JSON"))
    }

    /// Adds samples up until their sum is `wanted`.
    pub(crate) fn until<T: Default + PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        wanted: &T,
        mut add: impl FnMut(&mut T, &Value),
    ) -> Value {
        let mut sum = T::default();
        for _ in 0..60 {
            let (_, sample) = self.sample();
            add(&mut sum, &sample);
            if sum == *wanted {
                return sample;
            }
        }
        panic!("{what} came to {sum:?} in a minute, not {wanted:?}");
    }
}

pub(crate) fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn the_page_comes_with_the_program_and_lets_nothing_else_in() {
    let server = TestServer::start();
    let files = [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/dashboard.js", "text/javascript; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ];
    for (path, kind) in files {
        let answer = server.admin(path);
        assert_eq!((answer.status(), answer.header("content-type")), (200, Some(kind)), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let post = Conn::tcp(server.admin).round(&request("POST", path, &[], b""));
        assert_problem(&post, 405, "method_not_allowed");
        // Names of rooms are private: only the admin listener serves the page.
        assert_problem(&server.connect().round(&request("GET", path, &[], b"")), 404, "not_found");
    }
    let post = Conn::tcp(server.admin).round(&request("POST", "/dashboard/stream", &[], b""));
    assert_problem(&post, 405, "method_not_allowed");
    for path in ["/dashboard/", "/dashboard/stream/", "/dashboard/index.html", "/"] {
        assert_problem(&server.admin(path), 404, "not_found");
    }
}

#[test]
fn samples_count_exactly_what_was_done() {
    let server = TestServer::with(|config| config.shards = 2);
    let mut watcher = Watcher::open(server.admin, &[]);
    let mut listeners = ["/stream/a/u", "/stream/a/v", "/stream/b/w"].map(|path| server.listen(path));
    for n in 0..5 {
        server.publish(&json!({"room": "a", "data": n}));
    }
    server.publish(&json!({"room": "b", "data": "x"}));
    let mut hottest = Vec::new();
    let counted = watcher.until("all of it", &[6, 11, 3, 5, 1], |sum: &mut [u64; 5], sample| {
        sum[0] += count(&sample["published"]);
        sum[1] += count(&sample["delivered"]);
        sum[2] += count(&sample["opened"]);
        for room in sample["rooms"]["busiest"].as_array().expect("a list") {
            let at = 3 + ["a", "b"].iter().position(|name| room["room"] == **name).expect("no other room");
            sum[at] += count(&room["events"]);
            hottest.push(room["room"].clone());
        }
        let shards = sample["shards"].as_array().expect("a list");
        let of_shards: u64 = shards.iter().map(|shard| count(&shard["delivered"])).sum();
        assert_eq!((shards.len(), of_shards), (2, count(&sample["delivered"])));
        if of_shards > 0 {
            let [p50, p99] =
                ["p50_ms", "p99_ms"].map(|key| sample[key].as_f64().expect("there were deliveries"));
            assert!(0.0 < p50 && p50 <= p99, "{sample}");
        } else {
            assert_eq!(sample["p99_ms"], Value::Null);
        }
    });
    assert_eq!(hottest.first(), Some(&json!("a")), "the most first");
    assert_eq!((&counted["state"], &counted["connections"]), (&json!("ready"), &json!(3)));
    assert_eq!(counted["connections_max"], server.server().engine().config.max_connections);
    assert_eq!((&counted["rooms"]["count"], &counted["history_events"]), (&json!(2), &json!(6)));
    let fullest = &counted["rooms"]["fullest"];
    assert_eq!((&fullest[0]["room"], &fullest[0]["connections"]), (&json!("a"), &json!(2)));
    assert_eq!((&fullest[1]["room"], &fullest[1]["connections"]), (&json!("b"), &json!(1)));
    assert!(count(&counted["memory"]) > 1 << 20);
    assert!(counted["cpu"].is_number() && counted["shards"][1]["cpu"].is_number(), "{counted}");

    // Closed streams, refusals and lost events, each by reason.
    assert_eq!(server.post("/disconnect/a/u?stay_away=0", &[], "").status(), 200);
    assert_eq!(listeners[0].events(5).len(), 5);
    listeners[0].closing("disconnected");
    drop(listeners);
    drop(server.resume("/stream/a/z", "zzzzzz-9"));
    assert_problem(&server.post("/publish", &[], "{"), 400, "body_malformed");
    watcher.until("the ends", &[1, 3, 1, 1], |sum: &mut [u64; 4], sample| {
        let one = |key: &str, reason: &str| sample[key][reason].as_u64().unwrap_or(0);
        sum[0] += one("closed", "disconnected");
        // A client that leaves with unread events resets the connection.
        sum[1] += one("closed", "client") + one("closed", "error");
        sum[2] += one("gaps", "restart");
        sum[3] += one("refused", "bad_request");
        assert_eq!(sample["dropped"], json!({}));
    });
}

/// Rooms that begin with `chat` have presence. Of events with the same key only the newest goes out.
pub(crate) fn with_rules(config: &mut Config) {
    let settings = RoomSettings {
        presence: RoomPresence::Members,
        conflate: Some(Duration::from_secs(1)),
        ..RoomSettings::default()
    };
    config.room_tables = vec![RoomTable { pattern: "chat*".parse().expect("a pattern"), settings }];
}

/// Two members, and one stream in a room without presence.
pub(crate) fn members(server: &TestServer) -> [Listener; 3] {
    ["/stream/chat/u?presence=on", "/stream/chat/v?presence=on", "/stream/plain/w"]
        .map(|path| server.listen(path))
}

#[test]
fn rooms_with_rules_are_counted_once_there_is_something() {
    let server = TestServer::with(with_rules);
    let mut watcher = Watcher::open(server.admin, &[]);
    let (_, before) = watcher.sample();
    assert_eq!((&before["has_rules"], &before["members"]), (&json!(false), &json!(0)));
    let _listeners = members(&server);
    let batch: Value = (0..5).map(|n| json!({"room": "chat", "key": "cursor", "data": n})).collect();
    assert_eq!(server.post("/publish", &[], batch.to_string()).status(), 200);
    for _ in 0..3 {
        let paid = json!({"room": "plain", "data": "paid"}).to_string();
        assert_eq!(server.post("/publish", &[("idempotency-key", "k")], paid).status(), 200);
    }
    let counted = watcher.until("all of it", &[2, 8, 2], |sum: &mut [u64; 3], sample| {
        sum[0] = count(&sample["members"]);
        sum[1] += sample["skipped"]["conflated"].as_u64().unwrap_or(0);
        sum[2] += count(&sample["replayed"]);
    });
    assert_eq!((&counted["has_rules"], &counted["presence_rooms"]), (&json!(true), &json!(1)));
    assert_eq!(counted["claims"], 1);
    let fullest = &counted["rooms"]["fullest"];
    assert_eq!((&fullest[0]["room"], &fullest[0]["members"]), (&json!("chat"), &json!(2)));
    assert_eq!((&fullest[1]["room"], &fullest[1]["members"]), (&json!("plain"), &Value::Null));
    // A stream ends without a word: nobody is told, because a page may come back.
    server.metrics().assert("tidegate_presence_members", 2.0);
}

#[test]
fn messages_about_presence_and_those_that_were_saved_are_counted() {
    let server = TestServer::with(with_rules);
    let mut watcher = Watcher::open(server.admin, &[]);
    let seeing = server.listen("/stream/chat/u?presence=on");
    drop(server.listen("/stream/chat/v?presence=on"));
    server.wait_for("tidegate_connections", 1.0);
    let back = server.listen("/stream/chat/v?presence=on");
    watcher.until("a member that came back", &[true, true], |seen: &mut [bool; 2], sample| {
        seen[0] |= count(&sample["presence_messages"]) > 0;
        seen[1] |= count(&sample["suppressed"]) == 1;
    });
    drop((seeing, back));
}

#[test]
fn watching_is_nobodys_connection_room_or_event() {
    let server = TestServer::start();
    let mut watchers: Vec<_> = (0..STREAMS_MAX).map(|_| Watcher::open(server.admin, &[])).collect();
    let mut listener = server.listen("/stream/dashboard/u");
    for watcher in &mut watchers {
        watcher.sample();
    }
    server.publish(&json!({"all": true, "data": "to all"}));
    server.publish(&json!({"room": "dashboard", "data": "to a room of that name"}));
    assert_eq!([listener.data(), listener.data()], ["to all", "to a room of that name"]);
    // `sample` fails at any other event.
    let (_, sample) = watchers[0].sample();
    assert_eq!((&sample["connections"], &sample["rooms"]["count"]), (&json!(1), &json!(1)));
    let metrics = server.metrics();
    metrics.assert("tidegate_connections", 1.0);
    metrics.assert("tidegate_connections_total{outcome=\"opened\"}", 1.0);
    metrics.assert("tidegate_rooms", 1.0);
    metrics.assert("tidegate_users", 1.0);
    metrics.assert("tidegate_events_published_total", 2.0);
    metrics.assert("tidegate_events_delivered_total", 2.0);
    metrics.assert("tidegate_history_events", 2.0);
    let info = server.get("/info").json();
    assert_eq!((&info["connections"], &info["rooms"], &info["users"]), (&json!(1), &json!(1), &json!(1)));
    // No offset was used.
    assert_eq!(info["head"], server.id(2));
    assert_eq!(server.get("/rooms/dashboard").json()["connections"], 1);
    drop(watchers);
    eventually("a place", || Watcher::request(server.admin, "/dashboard/stream", &[]).head.status() == 200);
    server.metrics().assert("tidegate_connections_closed_total{reason=\"client\"}", 0.0);
}

#[test]
fn one_page_too_many_is_refused_and_no_scraper_is() {
    let server = TestServer::start();
    let mut watchers: Vec<_> = (0..STREAMS_MAX).map(|_| Watcher::open(server.admin, &[])).collect();
    let refused = server.admin("/dashboard/stream");
    assert_problem(&refused, 503, "dashboard_full");
    assert!(refused.header("retry-after").is_some());
    // On one connection that stays, and on as many others as there may be.
    let mut scraper = Conn::tcp(server.admin);
    for path in ["/metrics", "/readyz", "/livez", "/dashboard", "/metrics"] {
        assert_eq!(server.admin(path).status(), 200, "{path}");
    }
    scraper.send(request("GET", "/metrics", &[], b""));
    assert_eq!(scraper.response().status(), 200);
    // None of it disturbed the open pages.
    for watcher in &mut watchers {
        watcher.sample();
    }
    watchers.pop();
    eventually("a place", || Watcher::request(server.admin, "/dashboard/stream", &[]).head.status() == 200);
    // A `HEAD` request takes no place.
    let mut head = Conn::tcp(server.admin);
    head.send(request("HEAD", "/dashboard/stream", &[], b""));
    assert_eq!(head.head().header("content-type"), Some("text/event-stream"));
}

#[test]
fn history_comes_first_and_a_resume_is_exact() {
    let server = TestServer::start();
    let mut first = Watcher::open(server.admin, &[]);
    let seen: Vec<(String, Value)> = (0..3).map(|_| first.sample()).collect();
    // A page that opens later gets all samples at once and in order.
    let mut later = Watcher::open(server.admin, &[]);
    for sample in &seen {
        assert_eq!(later.sample(), *sample);
    }
    // A resume starts after the id, from the header, or from the URL for a new `EventSource`; the header is newer.
    let mut resumed = Watcher::open(server.admin, &[("last-event-id", &seen[1].0)]);
    assert_eq!(resumed.sample(), seen[2]);
    let path = format!("/dashboard/stream?last_event_id={}", seen[0].0);
    let mut anew = Watcher(Watcher::request(server.admin, &path, &[]));
    assert!(anew.0.event().contains(&format!("id: {}\n", seen[0].0)));
    assert_eq!(anew.sample(), seen[1]);
    let mut both = Watcher(Watcher::request(server.admin, &path, &[("last-event-id", &seen[1].0)]));
    both.0.event();
    assert_eq!(both.sample(), seen[2]);
    // An id of another epoch: a gap, and all samples of this one.
    let mut lost = Watcher::open(server.admin, &[("last-event-id", "zzzzzz-9")]);
    let gap = lost.0.event();
    assert!(gap.starts_with("event: gap\n") && gap.contains(r#""reason":"restart""#), "{gap}");
    assert_eq!(lost.sample(), seen[0]);
}

#[test]
fn a_drain_is_watched_to_its_end() {
    let mut server = TestServer::with(|config| {
        config.drain = Duration::from_mins(10);
        config.drain_rate = Rate { events: 1, per: Duration::from_hours(1) };
    });
    let listeners: Vec<_> = (0..20).map(|n| server.listen(&format!("/stream/a/{n}"))).collect();
    let mut watcher = Watcher::open(server.admin, &[]);
    watcher.until("everyone", &20, |sum, sample| *sum = count(&sample["connections"]));
    let draining = server.take();
    let draining = std::thread::spawn(move || draining.drain());
    watcher.until("the drain", &true, |sum, sample| *sum = sample["state"] == "draining");
    // The drain ends early, once no stream is left.
    drop(listeners);
    draining.join().expect("no panic").expect("a clean end");
    let farewell = loop {
        let event = watcher.0.event();
        if !event.starts_with("event: sample\n") {
            break event;
        }
    };
    assert!(farewell.ends_with("event: closing\ndata: {\"reason\":\"drain\"}\n\n"), "{farewell}");
    assert_eq!(watcher.0.end(), common::stream::End::LastChunk);
}
