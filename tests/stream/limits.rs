//! Promise: every limit on streams holds, is reported in a way that makes clients come back, is counted, and frees its
//! places again.

use crate::common;

use std::time::Duration;

use common::conn::{Response, request};
use common::stream::{End, Listener};
use common::{BASE, TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::config::{Config, DeliveryOverflow, Rate, RefusalStyle, RoomSettings, RoomTable, UserOverflow};
use tidegate::hub::admission::STAY_AWAY_MAX;

const STREAM: (&str, &str) = ("accept", "text/event-stream");

fn ask(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Response {
    server.connect().round(&request("GET", &format!("{BASE}{path}"), headers, b""))
}

/// Checks a refusal after which a browser reconnects: 200, a delay, one event, and the end.
#[track_caller]
fn assert_soft(server: &TestServer, path: &str, reason: &str) {
    let mut conn = server.connect();
    conn.send(request("GET", &format!("{BASE}{path}"), &[STREAM], b""));
    let response = conn.response();
    let text = response.text();
    let retry = text.strip_prefix("retry: ").and_then(|rest| rest.split('\n').next()).unwrap_or_default();
    assert_eq!(text, format!("retry: {retry}\nevent: overload\ndata: {{\"reason\":\"{reason}\"}}\n\n"));
    assert!((4500..=7500).contains(&retry.parse().unwrap()), "{retry} is twice three seconds, jittered");
    assert_eq!(
        response.head.without_date(),
        format!(
            "HTTP/1.1 200 OK\r\n\
             content-type: text/event-stream\r\n\
             cache-control: no-store, no-transform\r\n\
             x-accel-buffering: no\r\n\
             connection: close\r\n\
             x-content-type-options: nosniff\r\n\
             content-length: {}\r\n\
             date: -\r\n\r\n",
            text.len()
        )
    );
    assert!(conn.is_closed());
}

/// Waits until a stream at `path` is accepted again.
fn welcome_again(server: &TestServer, path: &str) {
    eventually("let in again", || {
        let mut conn = server.connect();
        conn.send(request("GET", &format!("{BASE}{path}"), &[STREAM], b""));
        let mut listener = common::stream::Listener::answered(conn);
        listener.head.status() == 200 && listener.event().contains("event: connected\n")
    });
}

#[test]
fn a_full_server_refuses_softly_and_gives_places_back() {
    let server = TestServer::with(|config| config.max_connections = 2);
    let first = server.listen("/stream/a/u1");
    let mut second = server.listen("/stream/a/u2");
    assert_soft(&server, "/stream/a/u3", "full");
    // Publishing needs no place.
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(second.data(), "x");
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"full\"}", 1.0);
    metrics.assert("tidegate_connections_total{outcome=\"refused\"}", 1.0);
    metrics.assert("tidegate_connections_total{outcome=\"opened\"}", 2.0);
    metrics.assert("tidegate_connections", 2.0);
    drop(first);
    welcome_again(&server, "/stream/a/u3");
}

#[test]
fn those_who_balance_on_status_get_one() {
    let server = TestServer::with(|config| {
        config.max_connections = 1;
        config.refusal = RefusalStyle::Status;
    });
    let _listener = server.listen("/stream/a/u");
    let refused = ask(&server, "/stream/a/v", &[STREAM]);
    assert_problem(&refused, 503, "full");
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((4..=7).contains(&seconds), "{seconds} is twice three seconds, jittered");
}

#[test]
fn who_does_not_ask_for_events_gets_a_status() {
    let server = TestServer::with(|config| config.max_connections = 1);
    let _listener = server.listen("/stream/a/u");
    for headers in [&[][..], &[("accept", "*/*")], &[("accept", "text/event-stream;q=0, text/html")]] {
        assert_problem(&ask(&server, "/stream/a/v", headers), 503, "full");
    }
    assert_soft(&server, "/stream/a/v", "full");
}

#[test]
fn a_user_has_so_many_streams() {
    let server = TestServer::with(|config| config.max_connections_per_user = Some(2));
    let first = server.listen("/stream/a/u");
    let _second = server.listen("/stream/b/u");
    assert_soft(&server, "/stream/c/u", "user_connections");
    let refused = ask(&server, "/stream/c/u", &[]);
    assert_problem(&refused, 503, "user_connections_exceeded");
    assert!(refused.header("retry-after").is_some());
    // Other users, and clients without a name, are not affected.
    let _others =
        ["/stream/a/v", "/stream?room=a", "/stream?room=a", "/stream?room=a"].map(|path| server.listen(path));
    server.metrics().assert("tidegate_refused_total{reason=\"user_connections\"}", 2.0);
    drop(first);
    welcome_again(&server, "/stream/c/u");
}

#[test]
fn eight_streams_are_the_default_and_off_is_off() {
    let server = TestServer::start();
    let _eight: Vec<_> = (0..8).map(|_| server.listen("/stream/a/u")).collect();
    assert_soft(&server, "/stream/a/u", "user_connections");
    let server = TestServer::with(|config| config.max_connections_per_user = None);
    let _many: Vec<_> = (0..40).map(|_| server.listen("/stream/a/u")).collect();
}

#[test]
fn an_address_has_so_many_streams() {
    let server = TestServer::with(|config| config.max_connections_per_address = Some(2));
    let first = server.listen("/stream/a/u1");
    let _second = server.listen("/stream?room=a");
    assert_soft(&server, "/stream/a/u3", "address_connections");
    assert_problem(&ask(&server, "/stream/a/u3", &[]), 503, "address_connections_exceeded");
    server.metrics().assert("tidegate_refused_total{reason=\"address_connections\"}", 2.0);
    drop(first);
    welcome_again(&server, "/stream/a/u3");
}

#[test]
fn the_newest_stream_takes_the_place_of_the_oldest() {
    let server = TestServer::with(|config| {
        config.max_connections_per_user = Some(2);
        config.user_overflow = UserOverflow::Replace;
    });
    let mut tabs =
        std::collections::VecDeque::from([server.listen("/stream/a/u"), server.listen("/stream/a/u")]);
    let mut retries = Vec::new();
    for n in 0..5 {
        // Published before the new stream, so it reaches every stream that was open, the closing one included.
        server.publish(&json!({"room": "a", "data": n}));
        for tab in &mut tabs {
            assert_eq!(tab.data(), n.to_string());
        }
        tabs.push_back(server.listen("/stream/a/u"));
        let mut oldest = tabs.pop_front().expect("three tabs");
        retries.push(oldest.closing("replaced"));
        server.wait_for("tidegate_connections", 2.0);
    }
    // Tabs that replace each other in turns are slowed down: twice as much each time, which outweighs the jitter.
    assert!(retries.is_sorted_by(|earlier, later| earlier < later), "{retries:?}");
    server.publish(&json!({"room": "a", "data": "x"}));
    for tab in &mut tabs {
        assert_eq!(tab.data(), "x");
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_connections_closed_total{reason=\"replaced\"}", 5.0);
    metrics.assert("tidegate_refused_total{reason=\"user_connections\"}", 0.0);
}

/// A server whose users get so many events; a stream of the user `u` in the room `a`, and one without a user.
fn rated(rate: Rate, overflow: DeliveryOverflow) -> (TestServer, [Listener; 2]) {
    let server = TestServer::with(|config| {
        config.delivery_rate_per_user = Some(rate);
        config.delivery_overflow = overflow;
    });
    let listeners = ["/stream/a/u", "/stream?room=a"].map(|path| server.listen(path));
    (server, listeners)
}

/// Publishes the numbers up to `count` to the room `a`, in one batch.
fn publish_numbers(server: &TestServer, count: u32) {
    let events: Vec<Value> = (0..count).map(|n| json!({"room": "a", "data": n.to_string()})).collect();
    server.post("/publish", &[], Value::from(events).to_string());
}

#[test]
fn above_the_delivery_rate_the_oldest_are_dropped_and_that_is_told() {
    let rate = Rate { events: 5, per: Duration::from_hours(1) };
    let (server, [mut limited, mut anonymous]) = rated(rate, DeliveryOverflow::Drop);
    publish_numbers(&server, 12);
    let (from, to) = (server.id(0), server.id(7));
    assert_eq!(
        limited.event(),
        format!(
            "event: gap\nid: {to}\ndata: {{\"rooms\":[\"a\"],\"from\":\"{from}\",\"to\":\"{to}\",\"reason\":\"slow\"}}\n\n"
        )
    );
    assert_eq!([(); 5].map(|()| limited.data()), ["7", "8", "9", "10", "11"]);
    // The rate belongs to the user: a client without a name has none.
    for n in 0..12 {
        assert_eq!(anonymous.data(), n.to_string());
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_events_dropped_total{reason=\"rate\"}", 7.0);
    metrics.assert("tidegate_gaps_total{reason=\"slow\"}", 1.0);
}

#[test]
fn above_the_delivery_rate_events_wait_and_none_is_lost_where_that_is_set() {
    let rate = Rate { events: 10, per: Duration::from_secs(1) };
    let (server, [mut limited, mut other]) = rated(rate, DeliveryOverflow::Defer);
    publish_numbers(&server, 25);
    for listener in [&mut other, &mut limited] {
        for n in 1..=25 {
            assert_eq!(listener.event(), format!("id: {}\nroom: a\ndata: {}\n\n", server.id(n), n - 1));
        }
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_events_dropped_total{reason=\"rate\"}", 0.0);
    metrics.assert("tidegate_gaps_total{reason=\"slow\"}", 0.0);
}

#[test]
fn a_lease_ends_at_an_event_boundary_and_the_resume_is_exact() {
    let server = TestServer::with(|config| {
        config.lease = Some(Duration::from_secs(1));
        config.heartbeat = Duration::from_secs(1);
    });
    let mut listener =
        server.listen_with("/stream/a/u", &[("cache-control", "no-cache"), ("pragma", "no-cache")]);
    let mut last = listener.start_id().to_owned();
    let mut seen = 0;
    let mut count = 0_u64;
    eventually("the end of the lease", || {
        server.publish(&json!({"room": "a", "data": count.to_string()}));
        count += 1;
        let event = listener.event();
        if event.contains("event: closing\n") {
            assert!(event.ends_with("data: {\"reason\":\"lease\"}\n\n"), "{event}");
            return true;
        }
        last = event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        seen += u64::from(event.contains("\ndata: "));
        false
    });
    assert_eq!(listener.end(), common::stream::End::LastChunk);
    let mut again = server.resume("/stream/a/u", &last);
    server.publish(&json!({"room": "a", "data": "end"}));
    loop {
        match again.data() {
            end if end == "end" => break,
            data => assert_eq!(data, seen.to_string()),
        }
        seen += 1;
    }
    assert!(server.metrics().closed("lease") >= 1.0);
}

#[test]
fn a_disconnected_user_is_told_to_stay_away() {
    let server = TestServer::start();
    let mut tabs = [server.listen("/stream/a/u"), server.listen("/stream?room=b&room=a&user=u")];
    let mut elsewhere = server.listen("/stream/b/u");
    let mut other = server.listen("/stream/a/v");
    let answer = server.post("/disconnect/a/u", &[], "");
    assert_eq!((answer.status(), answer.text()), (200, r#"{"disconnected":2,"stay_away_s":60}"#.to_owned()));
    for tab in &mut tabs {
        tab.closing("disconnected");
    }
    let response = ask(&server, "/stream/a/u", &[STREAM]);
    assert_eq!(
        response.head.without_date(),
        "HTTP/1.1 204 No Content\r\n\
         cache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n\
         date: -\r\n\r\n"
    );
    assert_eq!(ask(&server, "/stream?room=c&room=a&user=u", &[STREAM]).status(), 204);
    // It affects this user in this room only.
    server.listen("/stream/c/u");
    server.listen("/stream/a/w");
    server.publish(&json!({"all": true, "data": "x"}));
    assert_eq!([elsewhere.data(), other.data()], ["x", "x"]);
    let metrics = server.metrics();
    metrics.assert("tidegate_connections_closed_total{reason=\"disconnected\"}", 2.0);
    metrics.assert("tidegate_refused_total{reason=\"stay_away\"}", 2.0);
}

#[test]
fn staying_away_ends() {
    let server = TestServer::start();
    let _listener = server.listen("/stream/a/u");
    let answer = server.post("/disconnect/a/u?stay_away=1", &[], "");
    assert_eq!(answer.text(), r#"{"disconnected":1,"stay_away_s":1}"#);
    eventually("let in again", || ask_status(&server) == 200);

    // With `stay_away=0` the user may come back at once.
    let mut listener = server.listen("/stream/b/u");
    let answer = server.post("/disconnect/b/u?stay_away=0", &[], "");
    assert_eq!(answer.text(), r#"{"disconnected":1,"stay_away_s":0}"#);
    listener.closing("disconnected");
    server.listen("/stream/b/u");
    // A user without a stream is no error.
    let answer = server.post("/disconnect/nowhere/nobody?stay_away=0", &[], "");
    assert_eq!(answer.text(), r#"{"disconnected":0,"stay_away_s":0}"#);
}

/// The answer was once 200 and `"stay_away_s":0`: the user could come back at once, which was not intended.
#[test]
fn a_user_who_cannot_be_told_to_stay_away_is_not_disconnected() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let shared = server.server().engine();
    let (hub, now) = (&shared.hub, shared.clock.now());
    let hour = Duration::from_hours(1);
    for n in 0..STAY_AWAY_MAX {
        hub.send_away(&n.to_string(), "a", hour, now).expect("there is room");
    }
    let refused = server.post("/disconnect/a/u", &[], "");
    assert_problem(&refused, 503, "stay_away_full");
    let seconds: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((3000..=3600).contains(&seconds), "{seconds}: when the first place is free");
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"disconnects\"}", 1.0);
    metrics.assert("tidegate_connections", 1.0);
    server.publish(&json!({"room": "a", "data": "still here"}));
    assert_eq!(listener.data(), "still here");
    // An entry that exists already is renewed, and a disconnect without `stay_away` needs no entry.
    let again = server.post("/disconnect/a/7?stay_away=60", &[], "");
    assert_eq!(again.text(), r#"{"disconnected":0,"stay_away_s":60}"#);
    let closed = server.post("/disconnect/a/u?stay_away=0", &[], "");
    assert_eq!(closed.text(), r#"{"disconnected":1,"stay_away_s":0}"#);
    listener.closing("disconnected");
}

fn ask_status(server: &TestServer) -> u16 {
    let mut conn = server.connect();
    conn.send(request("GET", &format!("{BASE}/stream/a/u"), &[STREAM], b""));
    conn.head().status()
}

/// Sends the head of a publish with `content-length: length`, and `sent` bytes of its body.
fn begun(server: &TestServer, length: usize, sent: usize) -> common::conn::Conn {
    let mut conn = server.connect();
    conn.send(format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"));
    conn.send("x".repeat(sent));
    conn
}

/// Half bodies once took as much memory as there were places: 447 of them had a small container killed.
#[test]
fn bodies_hold_no_more_than_their_budget_and_small_ones_need_none() {
    let server = TestServer::with(|config| {
        config.max_body_bytes = 1 << 20;
        config.http_total_bytes = Some(1 << 20);
        config.request_timeout = 2 * common::PATIENCE;
    });
    // One request holds nearly all.
    let holder = begun(&server, 1 << 20, (1 << 20) - 1);
    eventually("the budget is taken", || server.metrics().get("tidegate_http_bytes") > 800_000.0);
    let large = json!({"room": "a", "data": "x".repeat(200_000)}).to_string();
    let refused = server.post("/publish", &[], &large);
    assert_problem(&refused, 503, "buffers_full");
    assert_eq!(refused.header("retry-after"), Some("5"));
    server.metrics().assert("tidegate_refused_total{reason=\"buffers\"}", 1.0);
    // A small body needs no budget, and a head alone takes none.
    let mut heads: Vec<_> = (0..20).map(|_| begun(&server, 1 << 20, 0)).collect();
    let small = json!({"room": "a", "data": "x".repeat(16_000)}).to_string();
    assert_eq!(server.post("/publish", &[], &small).status(), 200);
    // The refused request has shown the need: a request that makes no progress must make room.
    eventually("the holder has to go", || server.post("/publish", &[], &large).status() == 200);
    heads.clear();
    drop(holder);
    server.wait_for("tidegate_http_bytes", 0.0);
}

/// The size of a page was once counted before its characters were escaped: one event could make a page six times as
/// large, and each of 512 readers held one.
#[test]
fn pages_are_counted_as_they_go_out_and_held_within_the_budget() {
    let server = TestServer::with(|config| {
        config.http_total_bytes = Some(1 << 20);
        config.max_requests = 64;
        config.shards = 1;
        config.send_buffer = 4096;
        config.keepalive_timeout = 2 * common::PATIENCE;
    });
    for _ in 0..8 {
        server.publish(&json!({"room": "a", "data": "\u{1}".repeat(10_000)}));
    }
    let page = server.get("/rooms/a/history?limit=8");
    assert!(page.body.len() <= 257 << 10, "{} bytes", page.body.len());
    let first = page.json();
    assert_eq!((first["events"].as_array().map(Vec::len), &first["has_more"]), (Some(4), &json!(true)));
    let before = first["before"].as_str().expect("there are more").to_owned();
    let rest = server.get(&format!("/rooms/a/history?limit=8&before={before}")).json();
    assert_eq!((rest["events"].as_array().map(Vec::len), &rest["has_more"]), (Some(4), &json!(false)));
    assert_eq!(rest["events"][3]["data"], "\u{1}".repeat(10_000));
    // An event that is larger than a page gets a page of its own.
    server.publish(&json!({"room": "b", "data": "\u{1}".repeat(100_000)}));
    let large = server.get("/rooms/b/history").json();
    assert_eq!(
        (&large["events"][0]["data"], &large["has_more"]),
        (&json!("\u{1}".repeat(100_000)), &json!(false))
    );

    let ask = request("GET", &format!("{BASE}/rooms/a/history?limit=4"), &[], b"");
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let mut conn = common::conn::Conn::tcp_with_small_buffer(server.addr);
            conn.send(&ask);
            conn
        })
        .collect();
    eventually("some are refused", || server.metrics().refused("buffers") >= 1.0);
    assert!(server.metrics().get("tidegate_http_bytes") <= f64::from(1 << 20));
    eventually("who does not read makes room", || server.connect().round(&ask).status() == 200);
    drop(stuck);
    server.wait_for("tidegate_http_bytes", 0.0);
}

/// A server whose rooms that begin with `small` have two listeners each.
fn with_small_rooms(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        let settings = RoomSettings { max_listeners: Some(2), ..RoomSettings::default() };
        let pattern = "small*".parse().expect("a pattern");
        config.room_tables = vec![RoomTable { pattern, settings }];
        change(config);
    })
}

#[test]
fn a_room_has_so_many_listeners() {
    let server = with_small_rooms(|_| {});
    let first = server.listen("/stream/small/u1");
    let _second = server.listen("/stream?room=other&room=small");
    assert_soft(&server, "/stream/small/u3", "room_full");
    assert_problem(&ask(&server, "/stream/other,small?user=u3", &[]), 503, "room_full");
    // Other rooms have seats of their own, or as many as there are places.
    let _others = ["/stream/small-2/u", "/stream/other/u", "/stream/other/v", "/stream/other/w"]
        .map(|path| server.listen(path));
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"room_full\"}", 2.0);
    metrics.assert("tidegate_connections", 6.0);
    drop(first);
    welcome_again(&server, "/stream/small/u3");
}

/// A seat is taken before the stream joins its shard. Whatever happens in between gives it back.
#[test]
fn no_seat_is_lost_with_a_stream_that_was_refused_or_broke_off() {
    let server = with_small_rooms(|config| config.max_connections_per_user = Some(1));
    let _tab = server.listen("/stream/other/u");
    for _ in 0..5 {
        assert_problem(&ask(&server, "/stream/small/u", &[]), 503, "user_connections_exceeded");
        assert_problem(&ask(&server, "/stream/small?user=u", &[]), 503, "user_connections_exceeded");
    }
    for _ in 0..50 {
        let mut conn = server.connect();
        conn.send(request("GET", &format!("{BASE}/stream/small"), &[], b""));
        drop(conn);
    }
    server.wait_for("tidegate_connections", 1.0);
    let _two = ["/stream/small", "/stream/small"].map(|path| server.listen(path));
    assert_soft(&server, "/stream/small", "room_full");
}

/// A crowd that comes at once gets exactly as many seats as there are, on whichever threads.
#[test]
fn a_crowd_gets_exactly_the_seats_that_there_are() {
    let server = with_small_rooms(|config| config.shards = 2);
    let mut conns: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for conn in &mut conns {
        conn.send(request("GET", &format!("{BASE}/stream/small"), &[], b""));
    }
    let statuses: Vec<u16> = conns.iter_mut().map(|conn| conn.head().status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 38, "{statuses:?}");
    server.metrics().assert("tidegate_connections", 2.0);
}

/// The oldest stream of a user makes place for the newest, but not if the newest cannot have the room.
#[test]
fn nobody_is_replaced_by_a_stream_that_finds_its_room_full() {
    let server = with_small_rooms(|config| {
        config.max_connections_per_user = Some(1);
        config.user_overflow = UserOverflow::Replace;
    });
    let _full = ["/stream/small", "/stream/small"].map(|path| server.listen(path));
    let mut tab = server.listen("/stream/other/u");
    assert_soft(&server, "/stream/small/u", "room_full");
    server.publish(&json!({"room": "other", "data": "still here"}));
    assert_eq!(tab.data(), "still here");
}

/// A poll takes the places that a stream takes, is refused as one is, and gives them back at its end.
#[test]
fn a_poll_has_the_limits_of_a_stream() {
    let server = with_small_rooms(|config| config.max_connections_per_user = Some(1));
    let polls = ["/stream/small/a?poll=60", "/stream/small/b?poll=60"].map(|path| server.listen(path));
    assert_soft(&server, "/stream/small/c?poll=60", "room_full");
    assert_problem(&ask(&server, "/stream/small/c?poll=60", &[]), 503, "room_full");
    assert_soft(&server, "/stream/other/a?poll=60", "user_connections");
    server.publish(&json!({"room": "small", "data": "x"}));
    for mut poll in polls {
        assert_eq!((poll.data(), poll.end()), ("x".to_owned(), End::LastChunk));
    }
    welcome_again(&server, "/stream/small/c?poll=60");

    for (full, change) in [
        ("full", (|config| config.max_connections = 1) as fn(&mut Config)),
        ("address_connections", |config| config.max_connections_per_address = Some(1)),
    ] {
        let server = TestServer::with(change);
        let poll = server.listen("/stream/a/u?poll=60");
        assert_soft(&server, "/stream/a/v?poll=60", full);
        assert_soft(&server, "/stream/a/v", full);
        drop(poll);
        welcome_again(&server, "/stream/a/v?poll=60");
    }
}
