//! Promise: the admin listener tells the truth: every metric from the start, readiness by a real event, and the state
//! of rooms in a fixed form.

use crate::common;
use crate::promised::{LABELS, OF_PROCESSES, PROMISED, UPSTREAM};

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::application::{Application, Reply};
use common::conn::{Conn, request};
use common::metrics::Metrics;
use common::{BASE, TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::config::UpstreamUrl;

/// Returns the names of our series. Those of the process belong to the system.
fn ours_of(metrics: &Metrics) -> Vec<&String> {
    metrics.series.keys().filter(|name| name.starts_with("tidegate_")).collect()
}

#[test]
fn every_metric_is_there_from_the_start() {
    let server = TestServer::with(|config| config.shards = 2);
    let metrics = server.metrics();
    let types = metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeSet<(&str, &str)> = types.collect();
    let (ours, of_processes): (Vec<_>, Vec<_>) =
        types.iter().copied().partition(|(name, _)| name.starts_with("tidegate_"));
    assert_eq!(ours, PROMISED);
    assert!(OF_PROCESSES.iter().all(|one| of_processes.contains(one)), "{of_processes:?}");
    for (name, _) in types {
        assert!(metrics.text.contains(&format!("# HELP {name} ")), "{name}");
    }
    let build = format!("tidegate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    let mut promised: BTreeSet<String> = LABELS
        .iter()
        .flat_map(|(name, label, values)| {
            values.iter().map(move |value| format!("{name}{{{label}=\"{value}\"}}"))
        })
        .collect();
    promised.extend(UPSTREAM.iter().flat_map(|(kind, outcomes)| {
        let series = "tidegate_upstream_requests_total";
        outcomes.iter().map(move |outcome| format!("{series}{{kind=\"{kind}\",outcome=\"{outcome}\"}}"))
    }));
    promised.insert(build.clone());
    // In a histogram, `le` is part of the format.
    let labelled = |name: &&&String| name.contains('{') && !name.contains("_bucket{le=");
    let labelled: BTreeSet<String> = ours_of(&metrics).iter().filter(labelled).copied().cloned().collect();
    assert_eq!(labelled, promised);
    metrics.assert(&build, 1.0);
    assert!(metrics.get("process_resident_memory_bytes") > 0.0);
    metrics.assert("tidegate_draining", 0.0);
}

#[test]
fn values_follow_what_happens() {
    let server = TestServer::start();
    let mut a = server.listen("/stream/a/u");
    let mut b = server.listen("/stream/a/v");
    // An event is counted after its bytes are, so that from here on no other count changes.
    server.publish(&json!({"room": "a", "data": "first"}));
    assert_eq!([a.data(), b.data()], ["first", "first"]);
    server.wait_for("tidegate_delivery_seconds_count", 2.0);
    let before = server.metrics();
    before.assert("tidegate_rooms", 1.0);
    before.assert("tidegate_users", 2.0);
    let mut bytes = 0;
    for n in 0..3 {
        server.publish(&json!({"room": "a", "data": n}));
        let event = a.event();
        assert_eq!(event, b.event());
        // Both get it as one chunk: `<size>\r\n...\r\n`.
        bytes += 2 * (format!("{:x}", event.len()).len() + event.len() + 4);
    }
    server.wait_for("tidegate_delivery_seconds_count", 8.0);
    let metrics = server.metrics();
    metrics.assert("tidegate_events_published_total", 4.0);
    metrics.assert("tidegate_events_delivered_total", 8.0);
    metrics.assert("tidegate_delivery_seconds_bucket{le=\"+Inf\"}", 8.0);
    metrics.assert("tidegate_history_events", 4.0);
    assert!(metrics.get("tidegate_history_bytes") > 0.0);
    assert!(metrics.get("tidegate_flush_seconds_count") >= 1.0);
    metrics.assert("tidegate_flush_batch_events_sum", metrics.get("tidegate_flush_batch_events_count"));
    let sent = |metrics: &Metrics| metrics.get("tidegate_bytes_sent_total{encoding=\"plain\"}");
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let wanted = sent(&before) + bytes as f64;
    metrics.assert("tidegate_bytes_sent_total{encoding=\"plain\"}", wanted);
}

/// The time is at least from the application's receipt of the question until its answer, and at most from the client's
/// request until its stream opens.
#[test]
fn the_time_that_the_application_takes_is_shown() {
    let application = Application::always(Reply::Held(200, "{}".to_owned()));
    let server = TestServer::with(|config| {
        config.auth_callback = UpstreamUrl::parse(&application.url("/auth"));
    });
    let mut conn = server.connect();
    let asked = Instant::now();
    conn.send(request("GET", &format!("{BASE}/stream/a/u"), &[], b""));
    eventually("a question", || application.under_way().0 == 1);
    server.metrics().assert("tidegate_auth_callback_seconds_count", 0.0);
    let least = application.asked()[0].at.elapsed();
    application.release();
    assert_eq!(conn.head().status(), 200);
    let most = asked.elapsed();
    let metrics = server.metrics();
    metrics.assert("tidegate_auth_callback_seconds_count", 1.0);
    metrics.assert("tidegate_auth_callback_seconds_bucket{le=\"+Inf\"}", 1.0);
    // To the microsecond.
    let took = metrics.get("tidegate_auth_callback_seconds_sum") + 1e-6;
    assert!(
        (least.as_secs_f64()..=most.as_secs_f64() + 2e-6).contains(&took),
        "{least:?}, {took} s, {most:?}"
    );
}

#[test]
fn bounds_and_shares_are_told_beside_what_they_bound() {
    let server = TestServer::with(|config| {
        config.shards = 3;
        config.max_connections = 7;
        config.history_total_bytes = Some(5 << 20);
        config.http_total_bytes = Some(3 << 20);
        config.max_requests = 12;
        config.max_waiting_requests = 6;
    });
    let mut listeners: Vec<_> = (0..6).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    server.publish(&json!({"room": "a", "data": 1}));
    for listener in &mut listeners {
        assert_eq!(listener.data(), "1");
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_connections_max", 7.0);
    metrics.assert("tidegate_history_max_bytes", f64::from(5 << 20));
    metrics.assert("tidegate_http_max_bytes", f64::from(3 << 20));
    metrics.assert("tidegate_requests_max", 12.0);
    metrics.assert("tidegate_waiting_requests_max", 6.0);
    metrics.assert("tidegate_users", 6.0);
    assert!(metrics.get("tidegate_memory_max_bytes") > metrics.get("process_resident_memory_bytes"));
    assert!((1.0..=3.0).contains(&metrics.get("tidegate_cpus_max")));
    let of_shards = |metrics: &Metrics, name: &str| -> f64 {
        (0..3).map(|shard| metrics.get(&format!("{name}{{shard=\"{shard}\"}}"))).sum()
    };
    assert!((of_shards(&metrics, "tidegate_shard_connections") - 6.0).abs() < f64::EPSILON);
    eventually("work", || of_shards(&server.metrics(), "tidegate_shard_busy_seconds_total") > 0.0);

    // A user with two streams counts once until both have ended.
    listeners.push(server.listen("/stream/a/u0"));
    server.wait_for("tidegate_ready", 0.0);
    server.metrics().assert("tidegate_users", 6.0);
    listeners.remove(0);
    server.wait_for("tidegate_ready", 1.0);
    server.metrics().assert("tidegate_users", 6.0);
    listeners.clear();
    server.wait_for("tidegate_users", 0.0);
}

#[test]
fn no_label_depends_on_what_users_choose() {
    let server = TestServer::start();
    let before = server.metrics();
    let events: Vec<Value> = (0..1000)
        .flat_map(|n| {
            let n = n.to_string();
            let in_room = json!({"room": &n, "data": 1, "event": &n, "exclude": &n});
            [in_room, json!({"user": &n, "data": 1})]
        })
        .collect();
    assert_eq!(server.post("/publish", &[], Value::from(events).to_string()).status(), 200);
    let _listeners: Vec<_> = (0..100).map(|n| server.listen(&format!("/stream/room{n}/user{n}"))).collect();
    for n in 0..100 {
        server.get(&format!("/{n}"));
        server.post(&format!("/disconnect/room{n}/user{n}"), &[("origin", "http://x.example")], "");
    }
    let after = server.metrics();
    after.assert("tidegate_rooms", 1100.0);
    assert_eq!(ours_of(&before), ours_of(&after));
}

#[test]
fn life_and_readiness_are_told_on_the_admin_listener_alone() {
    let server = TestServer::start();
    for (path, text) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let answer = server.admin(path);
        assert_eq!((answer.status(), answer.text()), (200, text.to_owned()));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_problem(&server.admin("/"), 404, "not_found");
    assert_problem(&server.admin("/api/v1/sse/info"), 404, "not_found");
    let post = Conn::tcp(server.admin).round(&request("POST", "/livez", &[], b""));
    assert_problem(&post, 405, "method_not_allowed");
    assert_eq!(post.header("allow"), Some("GET, HEAD"));
    // The public listener serves none of it.
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_problem(&server.connect().round(&request("GET", path, &[], b"")), 404, "not_found");
    }
}

#[test]
fn the_probe_is_nobodys_connection_and_nobodys_event() {
    let server = TestServer::with(|config| config.shards = 3);
    for _ in 0..10 {
        assert_eq!(server.admin("/readyz").status(), 200);
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_connections", 0.0);
    metrics.assert("tidegate_connections_total{outcome=\"opened\"}", 0.0);
    metrics.assert("tidegate_rooms", 0.0);
    metrics.assert("tidegate_users", 0.0);
    metrics.assert("tidegate_events_published_total", 0.0);
    assert_eq!(server.get("/info").json()["connections"], 0);
    // It takes no subscriber's place either.
    let full = TestServer::with(|config| config.max_connections = 1);
    let mut listener = full.listen("/stream/a/u");
    full.publish(&json!({"all": true, "data": "x"}));
    assert_eq!(listener.data(), "x");
}

#[test]
fn a_full_server_is_not_ready_until_someone_leaves() {
    let server = TestServer::with(|config| config.max_connections = 1);
    let listener = server.listen("/stream/a/u");
    let answer = server.admin("/readyz");
    assert_eq!((answer.status(), answer.text()), (503, "not ready: full\n".to_owned()));
    assert_eq!(server.admin("/livez").status(), 200);
    drop(listener);
    eventually("ready", || server.admin("/readyz").status() == 200);
}

/// The probe's own stream once filled up with broadcasts that it did not read, was reaped, and left the server "not
/// ready" for good.
#[test]
fn broadcasts_do_not_end_the_probe() {
    let server = TestServer::with(|config| config.max_unsent_age = Duration::from_secs(1));
    let mut listener = server.listen("/stream/a/u");
    let large = "x".repeat(100 << 10);
    for _ in 0..10 {
        server.publish(&json!({"all": true, "data": large}));
        assert_eq!(listener.data(), large);
    }
    // When the stalled subscriber has been reaped, any stream to be reaped has been.
    let stalled =
        common::stream::Listener::open(Conn::tcp_with_small_buffer(server.addr), "/stream/a/v", &[]);
    eventually("a reaping", || {
        server.publish(&json!({"all": true, "data": large}));
        assert_eq!(listener.data(), large);
        server.metrics().closed("stalled") >= 1.0
    });
    drop(stalled);
    let answer = server.admin("/readyz");
    assert_eq!((answer.status(), answer.text()), (200, "ready\n".to_owned()));
}

/// A lease does not end it either.
#[test]
fn leases_do_not_end_the_probe() {
    let server = TestServer::with(|config| config.lease = Some(Duration::from_secs(1)));
    let mut listener = server.listen("/stream/a/u");
    listener.closing("lease");
    // The probe is older, and is checked in the same round or the next.
    let mut listener = server.listen("/stream/a/u");
    listener.closing("lease");
    assert_eq!(server.admin("/readyz").text(), "ready\n");
}

#[test]
fn info_tells_of_the_whole_server() {
    let server = TestServer::with(|config| {
        config.shards = 2;
        config.max_connections_per_user = None;
    });
    let _listeners = ["/stream/a/u", "/stream/a/v", "/stream?room=b"].map(|path| server.listen(path));
    server.publish(&json!({"room": "a", "data": 1}));
    server.wait_for("tidegate_events_delivered_total", 2.0);
    let mut info = server.get("/info").json();
    let shards = info["shards"].take();
    let sum =
        |key: &str| shards.as_array().unwrap().iter().map(|shard| shard[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("index"), sum("connections"), sum("lagging"), sum("events_delivered")), (1, 3, 0, 2));
    assert!(sum("bytes_sent") > 0);
    assert_eq!(shards[0].as_object().unwrap().len(), 5);
    assert!(info["uptime_s"].take().is_u64());
    assert!(info["history"]["bytes"].take().as_u64().unwrap() > 0);
    let head = server.id(1);
    let epoch = head.split('-').next().unwrap();
    let config = &server.server().engine().config;
    assert_eq!(
        info,
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "epoch": epoch,
            "head": head,
            "order": "memory",
            "uptime_s": null,
            "draining": false,
            "rooms": 2,
            "users": 2,
            "connections": 3,
            "events_published": 1,
            "history": {"events": 1, "bytes": null},
            "shards": null,
            "limits": {
                "max_connections": config.max_connections,
                "max_connections_per_user": null,
                "max_connections_per_address": null,
                "history_events": 1000,
                "history_bytes": 1 << 20,
                "history_age_s": 3600,
                "history_total_bytes": 256 << 20,
                "http_total_bytes": 64 << 20,
                "max_requests": config.max_requests,
                "max_waiting_requests": config.max_waiting_requests,
                "max_event_bytes": 256 << 10,
                "max_body_bytes": 1 << 20,
            },
        })
    );
}

#[test]
fn a_room_tells_who_is_there_and_how_far_back_it_goes() {
    let server = TestServer::with(|config| config.history_events = 2);
    let bounds = r#""events_max":2,"bytes_max":1048576,"age_max_s":3600"#;
    let nowhere = format!(
        r#"{{"room":"nowhere","connections":0,"members":[],"members_total":0,"muted":0,"history":{{"events":0,"bytes":0,"complete_after":null,"newest":null,{bounds}}}}}"#
    );
    let answer = server.get("/rooms/nowhere");
    assert_eq!((answer.status(), answer.text()), (200, nowhere.clone()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(server.get("/groups/nowhere").text(), nowhere);

    let _listeners = ["/stream/a/zoe", "/stream/a/adam", "/stream?room=b&room=a&user=adam", "/stream?room=a"]
        .map(|path| server.listen(path));
    for n in 0..3 {
        server.publish(&json!({"room": "a", "data": n}));
    }
    server.wait_for("tidegate_events_delivered_total", 12.0);
    let mut room = server.get("/rooms/a").json();
    assert!(room["history"]["bytes"].take().as_u64().unwrap() > 0);
    assert_eq!(
        room,
        json!({
            "room": "a",
            "connections": 4,
            "members": ["adam", "zoe"],
            "members_total": 2,
            "muted": 0,
            "history": {
                "events": 2,
                "bytes": null,
                "complete_after": server.id(1),
                "newest": server.id(3),
                "events_max": 2,
                "bytes_max": 1 << 20,
                "age_max_s": 3600,
            },
        })
    );
}

#[test]
fn history_is_paged_from_the_newest_back() {
    let server = TestServer::start();
    for n in 1..=7 {
        server.publish(&json!({"room": "a", "data": format!("{n}\nsecond line"), "event": "say"}));
    }
    let (mut query, mut seen) = ("limit=3".to_owned(), Vec::new());
    loop {
        let page = server.get(&format!("/rooms/a/history?{query}")).json();
        assert_eq!(page["room"], "a");
        let events = page["events"].as_array().unwrap();
        for event in events.iter().rev() {
            let at = 7 - seen.len();
            assert!(event["age_ms"].is_u64());
            assert_eq!(event["id"], server.id(at as u64));
            assert_eq!(event["event"], "say");
            assert_eq!(event["data"], format!("{at}\nsecond line"));
            assert_eq!(event.as_object().unwrap().len(), 4);
            seen.push(at);
        }
        let oldest = &events[0]["id"];
        if page["has_more"] == json!(false) {
            assert_eq!(page.as_object().unwrap().len(), 3, "no `before` on the last page");
            break;
        }
        assert_eq!((&page["has_more"], &page["before"]), (&json!(true), oldest));
        assert_eq!(events.len(), 3);
        query = format!("limit=3&before={}", oldest.as_str().unwrap());
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(server.get("/groups/a/history").json()["events"].as_array().unwrap().len(), 7);
    assert_eq!(server.get("/rooms/b/history").text(), r#"{"room":"b","events":[],"has_more":false}"#);
    // An id of another epoch is no position in this one.
    assert_problem(&server.get("/rooms/a/history?before=zzzzzz-3"), 400, "before_invalid");
}

/// Pages are held until they are read: a few hundred of a mebibyte were once more than all the rest of the server.
#[test]
fn a_page_of_large_events_ends_early_and_says_how_to_go_on() {
    let server = TestServer::start();
    for n in 0..8 {
        server.publish(&json!({"room": "a", "data": format!("{n}{}", "x".repeat(110_000))}));
    }
    let (mut query, mut pages) = ("limit=1000".to_owned(), Vec::new());
    loop {
        let page = server.get(&format!("/rooms/a/history?{query}")).json();
        let firsts = page["events"].as_array().unwrap().iter();
        pages.push(firsts.map(|event| event["data"].as_str().unwrap()[..1].to_owned()).collect::<String>());
        match page["before"].as_str() {
            Some(before) => query = format!("limit=1000&before={before}"),
            None => break,
        }
    }
    assert_eq!(pages, ["67", "45", "23", "01"]);
}

#[test]
fn the_front_door_says_what_there_is() {
    let server = TestServer::start();
    let answer = server.connect().round(&request("GET", "/", &[], b""));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        answer.text(),
        format!(
            "Tidegate {}\n\n\
             listen   GET  /api/v1/sse/stream/ROOM/USER\n\
             publish  POST /api/v1/sse/publish\n\
             state    GET  /api/v1/sse/info\n",
            env!("CARGO_PKG_VERSION")
        )
    );
    let mut conn = server.connect();
    conn.send(request("HEAD", "/", &[], b""));
    let (head, length) = (conn.head(), answer.body.len().to_string());
    assert_eq!((head.status(), head.header("content-length")), (200, Some(&*length)));
    let options = server.connect().round(&request("OPTIONS", "/", &[], b""));
    assert_eq!((options.status(), options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    let post = server.connect().round(&request("POST", "/", &[], b""));
    assert_problem(&post, 405, "method_not_allowed");
    assert_eq!(post.header("allow"), Some("GET, HEAD, OPTIONS"));
}
