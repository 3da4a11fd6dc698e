//! Promise: pages of other origins may do what the allow list says and no more; our own and other programs notice
//! nothing.

mod common;

use common::conn::request;
use common::{BASE, TestServer, assert_problem};
use serde_json::json;
use tidegate::config::{AddressRange, CorsOrigins};

const OURS: &str = "https://app.example";
const FOREIGN: &str = "https://evil.example";

fn listed() -> TestServer {
    TestServer::with(|config| config.cors_origins = CorsOrigins::Only(vec![OURS.to_owned()]))
}

fn body() -> String {
    json!({"room": "a", "data": 1}).to_string()
}

#[test]
fn a_listed_origin_may_listen_and_publish() {
    let server = listed();
    let listener = server.listen_with("/stream/a/u", &[("origin", OURS)]);
    assert_eq!(listener.head.header("access-control-allow-origin"), Some(OURS));
    assert_eq!(listener.head.header("access-control-expose-headers"), Some("retry-after"));
    assert_eq!(listener.head.header("vary"), Some("origin"));
    let answer = server.post("/publish", &[("origin", OURS)], body());
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, Some(OURS)));
    // It may read why it was refused, too.
    let refused = server.post("/publish", &[("origin", OURS)], "{}");
    assert_problem(&refused, 422, "target_missing");
    assert_eq!(refused.header("access-control-allow-origin"), Some(OURS));
}

#[test]
fn a_foreign_page_changes_nothing_and_reads_nothing() {
    let server = listed();
    for origin in [FOREIGN, "null", "https://app.example.evil.example", "http://app.example"] {
        for path in ["/publish", "/disconnect/a/u"] {
            let refused = server.post(path, &[("origin", origin)], body());
            assert_problem(&refused, 403, "origin_forbidden");
            assert_eq!(refused.header("access-control-allow-origin"), None);
        }
        let listener = server.listen_with("/stream/a/u", &[("origin", origin)]);
        assert_eq!(listener.head.header("access-control-allow-origin"), None);
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"origin\"}", 8.0);
    metrics.assert("tidegate_events_published_total", 0.0);
}

#[test]
fn preflights_tell_a_listed_origin_what_it_may_send() {
    let server = listed();
    let preflight = |origin: &str, path: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        server.connect().round(&request("OPTIONS", &format!("{BASE}{path}"), &headers, b""))
    };
    let answer = preflight(OURS, "/publish");
    assert_eq!(
        answer.head.without_date(),
        format!(
            "HTTP/1.1 204 No Content\r\n\
             allow: POST, OPTIONS\r\n\
             access-control-allow-methods: POST, OPTIONS\r\n\
             access-control-allow-headers: authorization, cache-control, content-type, last-event-id\r\n\
             access-control-max-age: 7200\r\n\
             access-control-allow-origin: {OURS}\r\n\
             access-control-expose-headers: retry-after\r\n\
             vary: origin\r\n\
             date: -\r\n\r\n"
        )
    );
    assert_eq!(preflight(OURS, "/stream/a/u").header("access-control-allow-methods"), Some("GET, OPTIONS"));
    let foreign = preflight(FOREIGN, "/publish");
    assert_eq!(foreign.status(), 204);
    assert!(!foreign.head.0.contains("access-control"), "{}", foreign.head.0);
}

#[test]
fn without_a_list_only_our_own_pages_may_publish() {
    // Behind a proxy, as names are that stand for this machine.
    let server = TestServer::with(|config| {
        config.trusted_proxies = vec![AddressRange::Net("127.0.0.1/32".parse().expect("a network"))]
    });
    let publish = |host: &str, origin: &str| {
        let body = body();
        let head = format!(
            "POST {BASE}/publish HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        server.connect().round(format!("{head}{body}").as_bytes())
    };
    assert_eq!(publish("push.example:8080", "http://push.example:8080").status(), 200);
    // TLS ends before us.
    assert_eq!(publish("push.example", "https://push.example").status(), 200);
    assert_problem(&publish("push.example", FOREIGN), 403, "origin_forbidden");
    assert_problem(&publish("push.example:8080", "http://push.example:9090"), 403, "origin_forbidden");
    // A form post needs no preflight, which is why it is refused here.
    let form = [("origin", FOREIGN), ("content-type", "application/x-www-form-urlencoded")];
    assert_problem(&server.post("/publish", &form, body()), 403, "origin_forbidden");
    // Programs that are no pages send no origin.
    assert_eq!(server.post("/publish", &[], body()).status(), 200);
    let listener = server.listen("/stream/a/u");
    assert_eq!(listener.head.header("vary"), None);
}

#[test]
fn a_star_lets_everyone_in() {
    let server = TestServer::with(|config| config.cors_origins = CorsOrigins::Any);
    for origin in [FOREIGN, "null"] {
        let answer = server.post("/publish", &[("origin", origin)], body());
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, Some("*")));
        let listener = server.listen_with("/stream/a/u", &[("origin", origin)]);
        assert_eq!(listener.head.header("access-control-allow-origin"), Some("*"));
        assert_eq!(listener.head.header("vary"), None);
    }
}
