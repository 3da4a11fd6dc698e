//! Promise: every answer, whatever part of the program gives it, is safe: no browser takes it for another type, no
//! cache keeps it, it does not describe the server's software, and a page that is allowed to read it can.

use crate::common;

use std::time::Duration;

use common::conn::{Conn, Head, request};
use common::{BASE, TestServer};
use serde_json::json;
use tidegate::admin::live::STREAMS_MAX;
use tidegate::config::{AddressRange, Config, CorsOrigins, HostPattern, RefusalStyle};

/// A page that may read everything.
const LISTED: &str = "https://app.example";

fn listed(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.cors_origins = CorsOrigins::Only(vec![LISTED.to_owned()]);
        change(config);
    })
}

/// Returns the head of the answer to `bytes`.
fn head_of(mut conn: Conn, bytes: &[u8]) -> Head {
    let _ = conn.try_send(bytes);
    conn.head()
}

#[track_caller]
fn assert_safe(head: &Head, status: u16) {
    let text = &head.0;
    assert_eq!(head.status(), status, "{text}");
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"), "{text}");
    // Proxies that compress would hold a stream back.
    let is_stream = head.header("content-type") == Some("text/event-stream");
    let cache = if is_stream { "no-store, no-transform" } else { "no-store" };
    assert_eq!(head.header("cache-control"), Some(cache), "{text}");
    for name in ["server", "via", "x-powered-by", "etag", "last-modified", "set-cookie"] {
        assert_eq!(head.header(name), None, "{text}");
    }
    assert!(!text.to_lowercase().contains("hyper"), "{text}");
}

/// Returns a request from a listed page, with `accept`, and with a body if there is one.
fn from_page(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    request(method, path, &[&[("origin", LISTED)], headers].concat(), body.as_bytes())
}

const STREAM: (&str, &str) = ("accept", "text/event-stream");

#[test]
fn every_answer_to_a_request_is_safe_and_readable() {
    let server = listed(|config| {
        config.gzip = true;
        config.max_connections_per_user = Some(1);
    });
    let _kept = server.listen("/stream/a/taken");
    let base = |path: &str| format!("{BASE}{path}");
    let publish = |headers: &[(&str, &str)], body: &str| from_page("POST", &base("/publish"), headers, body);
    let table = [
        (from_page("GET", "/", &[], ""), 200),
        (from_page("GET", "/", &[("accept", "text/html")], ""), 200),
        (from_page("GET", "/try/try.js", &[], ""), 200),
        (from_page("OPTIONS", "*", &[], ""), 204),
        (from_page("OPTIONS", &base("/publish"), &[("access-control-request-method", "POST")], ""), 204),
        (from_page("OPTIONS", &base("/stream"), &[], ""), 204),
        (from_page("GET", &base("/stream/a/u"), &[STREAM], ""), 200),
        (from_page("GET", &base("/stream/a/v"), &[STREAM, ("accept-encoding", "gzip")], ""), 200),
        (from_page("GET", &base("/stream/a/taken"), &[STREAM], ""), 200),
        (from_page("GET", &base("/stream/a/taken"), &[], ""), 503),
        (from_page("GET", &base("/info"), &[], ""), 200),
        (from_page("HEAD", &base("/info"), &[], ""), 200),
        (from_page("GET", &base("/rooms/a"), &[], ""), 200),
        (from_page("GET", &base("/rooms/a/history"), &[], ""), 200),
        (publish(&[], r#"{"room":"a","data":1}"#), 200),
        (from_page("POST", &base("/disconnect/a/away"), &[], ""), 200),
        (from_page("GET", &base("/stream/a/away"), &[STREAM], ""), 204),
        (from_page("GET", "/nothing", &[], ""), 404),
        (from_page("DELETE", &base("/info"), &[], ""), 405),
        (from_page("GET", &base("/rooms/%zz"), &[], ""), 400),
        (from_page("GET", &base("/info"), &[("host", "twice")], ""), 400),
        (publish(&[], "{"), 400),
        (publish(&[], "{}"), 422),
        (publish(&[("content-encoding", "gzip")], "{}"), 415),
        (publish(&[], &" ".repeat((1 << 20) + 1)), 413),
    ];
    for (bytes, status) in table {
        let head = head_of(server.connect(), &bytes);
        assert_safe(&head, status);
        assert_eq!(head.header("access-control-allow-origin"), Some(LISTED), "{}", head.0);
    }
    // HTTP/1.0 gets the same headers.
    let old = format!("GET {BASE}/stream/a/old HTTP/1.0\r\nhost: localhost\r\norigin: {LISTED}\r\n\r\n");
    let head = head_of(server.connect(), old.as_bytes());
    assert_safe(&head, 200);
    assert_eq!(head.header("access-control-allow-origin"), Some(LISTED));
}

#[test]
fn every_refusal_is_safe_and_readable() {
    let info = from_page("GET", &format!("{BASE}/info"), &[], "");
    let stream = from_page("GET", &format!("{BASE}/stream/a/u"), &[STREAM], "");
    let asked = |server: &TestServer, bytes: &[u8], status: u16, readable: bool| {
        let head = head_of(server.connect(), bytes);
        assert_safe(&head, status);
        let allowed = head.header("access-control-allow-origin");
        assert_eq!(allowed, readable.then_some(LISTED), "{}", head.0);
    };
    let loopback = AddressRange::Net("127.0.0.0/8".parse().expect("a network"));
    asked(&listed(|config| config.denied_addresses = vec![loopback]), &info, 403, true);
    let named = listed(|config| config.allowed_hosts = vec![HostPattern::Exact("push.example".into())]);
    asked(&named, &info, 403, true);
    asked(&TestServer::start(), &from_page("POST", &format!("{BASE}/publish"), &[], "{}"), 403, false);
    for refusal in [RefusalStyle::Event, RefusalStyle::Status] {
        let server = listed(|config| config.refusal = refusal);
        server.server().engine().hub.drain();
        asked(&server, &stream, if refusal == RefusalStyle::Status { 503 } else { 200 }, true);
        // Answers that end a connection, too.
        asked(&server, &info, 200, true);
    }
}

/// Before a head is complete, the server does not know whose page sent it.
#[test]
fn heads_that_are_none_are_answered_as_safely() {
    let server = TestServer::with(|config| config.request_timeout = Duration::from_secs(1));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(17 << 10));
    for (bytes, status) in [
        ("\u{1}\r\n\r\n", 400),
        ("GET / HTTP/1.1\n\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\n", 400),
        (&long, 431),
        ("GET / HTTP/1.1\r\nhost", 408),
    ] {
        assert_safe(&head_of(server.connect(), bytes.as_bytes()), status);
    }
    let body = format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{");
    assert_safe(&head_of(server.connect(), body.as_bytes()), 408);
}

#[test]
fn the_admin_listener_answers_alike() {
    let server = TestServer::start();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        head_of(Conn::tcp(server.admin), &request(method, path, headers, b""))
    };
    for (method, path, status) in [
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/dashboard", 200),
        ("GET", "/dashboard/style.css", 200),
        ("GET", "/dashboard/dashboard.js", 200),
        ("GET", "/dashboard/icon.svg", 200),
        ("HEAD", "/dashboard/stream", 200),
        ("GET", "/nothing", 404),
        ("POST", "/metrics", 405),
        ("OPTIONS", "/livez", 405),
    ] {
        let head = ask(method, path, &[("origin", LISTED)]);
        assert_safe(&head, status);
        assert!(!head.0.contains("access-control-"), "no page but its own: {}", head.0);
    }
    let streams: Vec<_> = (0..STREAMS_MAX)
        .map(|_| {
            let mut conn = Conn::tcp(server.admin);
            conn.send(request("GET", "/dashboard/stream", &[], b""));
            assert_safe(&conn.head(), 200);
            conn
        })
        .collect();
    assert_safe(&ask("GET", "/dashboard/stream", &[]), 503);
    drop(streams);
    server.server().engine().hub.drain();
    assert_safe(&ask("GET", "/readyz", &[]), 503);
}

/// The live page shows names of rooms, and needs no authentication.
#[test]
fn no_page_has_the_admin_listener_stand_for_its_own() {
    let server = TestServer::start();
    server.publish(&json!({"room": "secret plans", "data": 1}));
    let ask = |host: &str, sign: &str| {
        let head = format!("GET /dashboard HTTP/1.1\r\nhost: {host}\r\n{sign}: en\r\n\r\n");
        Conn::tcp(server.admin).round(head.as_bytes())
    };
    for sign in ["accept-language", "origin", "referer", "sec-fetch-site"] {
        common::assert_problem(&ask("evil.example:9180", sign), 403, "host_forbidden");
        assert_eq!(ask("localhost:9180", sign).status(), 200);
        assert_eq!(ask(&server.admin.to_string(), sign).status(), 200);
    }
    // Prometheus and probes may use any name.
    assert_eq!(ask("tidegate:9180", "x-scraper").status(), 200);
    server.metrics().assert("tidegate_refused_total{reason=\"host\"}", 4.0);
}

/// A proxy on this machine has browsers behind it, but no proxy passes the admin listener on. The exception for such a
/// proxy once opened the admin listener to every page.
#[test]
fn nor_does_one_where_a_proxy_on_the_same_machine_is_trusted() {
    let server = TestServer::with(|config| {
        config.trusted_proxies = vec![AddressRange::Net("127.0.0.0/8".parse().expect("a network"))];
        config.allowed_hosts = vec![HostPattern::Exact("push.example".into())];
    });
    let ask = |path: &str, host: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept-language: en\r\n\r\n");
        Conn::tcp(server.admin).round(head.as_bytes())
    };
    for path in ["/dashboard", "/dashboard/stream", "/metrics", "/nothing"] {
        common::assert_problem(&ask(path, "evil.example:9180"), 403, "host_forbidden");
    }
    assert_eq!(ask("/dashboard", "push.example").status(), 200, "a name that was given");
}

/// The page at the root once told everyone the exact version, which helps an attacker first of all.
#[test]
fn a_stranger_is_not_told_the_version() {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let root = |server: &TestServer| server.connect().round(&request("GET", "/", &[], b"")).text();
    assert!(root(&TestServer::start()).starts_with(&format!("Tidegate {VERSION}\n")));
    let guarded =
        TestServer::with(|config| config.token_keys = vec![common::bearer::key(common::bearer::SECRET)]);
    let text = root(&guarded);
    assert!(text.starts_with("Tidegate\n") && !text.contains(VERSION), "{text}");
}
