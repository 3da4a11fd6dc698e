//! What a refusal tells besides its code: the methods, the path that was meant, the field.

use super::{MARK, assert_refused};
use crate::common::conn::request;
use crate::common::{BASE, TestServer};

#[test]
fn other_methods_are_told_the_right_ones() {
    let server = TestServer::start();
    let table = [
        ("POST", "/stream", "GET, OPTIONS"),
        ("HEAD", "/stream/a/u", "GET, OPTIONS"),
        ("DELETE", "/stream/a/u", "GET, OPTIONS"),
        ("GET", "/publish", "POST, OPTIONS"),
        ("PUT", "/publish", "POST, OPTIONS"),
        ("GET", "/disconnect/a/u", "POST, OPTIONS"),
        ("POST", "/stream/a,b", "GET, OPTIONS"),
        ("GET", "/users/online", "POST, OPTIONS"),
        ("POST", "/rooms", "GET, HEAD, OPTIONS"),
        ("POST", "/info", "GET, HEAD, OPTIONS"),
        ("DELETE", "/rooms/a", "GET, HEAD, OPTIONS"),
        ("PATCH", "/rooms/a/history", "GET, HEAD, OPTIONS"),
        ("PUT", "/rooms/a/members", "GET, HEAD, OPTIONS"),
        ("POST", "/presence/a", "PUT, DELETE, OPTIONS"),
        ("GET", "/rooms/a/mute/u", "POST, DELETE, OPTIONS"),
        ("zXyMark", "/info", "GET, HEAD, OPTIONS"),
    ];
    for (method, path, allow) in table {
        let mut conn = server.connect();
        conn.send(request(method, &format!("{BASE}{path}"), &[], b""));
        if method == "HEAD" {
            let head = conn.head();
            assert_eq!((head.status(), head.header("allow")), (405, Some(allow)), "{method} {path}");
            continue;
        }
        let response = conn.response();
        assert_refused(&response, 405, "method_not_allowed");
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
        // `OPTIONS` names the methods that are allowed.
        let options = server.connect().round(&request("OPTIONS", &format!("{BASE}{path}"), &[], b""));
        assert_eq!((options.status(), options.header("allow")), (204, Some(allow)), "{path}");
    }
    let count = u32::try_from(table.len()).expect("a few");
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", count.into());
}

/// The answer to a path that is nearly right once was only "not found", without the path to use.
#[test]
fn a_path_that_is_nearly_right_is_told_the_right_one() {
    let server = TestServer::start();
    let table = [
        ("/api/v1/sse/stream/lobby/", "path_invalid", "or one at the end"),
        ("/api/v1/sse/stream/a/b/c", "not_found", "%2F"),
        ("/api/v1/sse/stream", "room_missing", "/stream?room=ROOM"),
        ("/api/v1/sse/rooms/a/events", "not_found", "/rooms/ROOM"),
        ("/api/v1/sse/users", "not_found", "/users/online"),
        ("/api/v1/sse/history", "not_found", "/rooms/ROOM/history"),
        ("/api/v1/sse/disconnect/lobby", "not_found", "/disconnect/ROOM/USER"),
        ("/api/v1/sse/publish", "method_not_allowed", "POST"),
        ("/api/v1/sse/events", "not_found", "/stream, /publish"),
        ("/stream/lobby/me", "not_found", "base path is missing"),
        ("/api/v2/sse/stream/lobby/me", "not_found", "GET / shows"),
        ("/metrics", "not_found", "admin_listen"),
        ("/api/v1/sse/readyz", "not_found", "admin_listen"),
    ];
    for (path, code, told) in table {
        let response = server.connect().round(&request("GET", path, &[], b""));
        assert_refused(&response, response.status(), code);
        let detail = response.json()["detail"].to_string();
        assert!(detail.contains(told), "{path}: {detail}");
    }
    let elsewhere = server.admin("/api/v1/sse/info");
    assert_refused(&elsewhere, 404, "not_found");
    assert!(elsewhere.text().contains("the admin listener has /metrics"), "{}", elsewhere.text());
}

/// The name of a field is the only part of a request that an answer repeats. It is short, and it is plain text to every
/// reader.
#[test]
fn a_fields_name_is_repeated_as_text_and_no_more() {
    let server = TestServer::start();
    let long = "<script>".repeat(20);
    let cut = format!(r#""field":"{}…""#, "\\u003cscript\\u003e".repeat(6));
    let table: [(&str, &str); 4] = [
        ("romm", r#""field":"romm""#),
        ("<script>&", r#""field":"\u003cscript\u003e\u0026""#),
        (r#"\"}\n\u2028\u202e\u0000"#, r#""field":"\"}\n\u2028\u202e\u0000""#),
        (&long, &cut),
    ];
    for (sent, shown) in table {
        let response = server.post("/publish", &[], format!(r#"{{"room":"a","data":1,"{sent}":"{MARK}"}}"#));
        assert_refused(&response, 422, "field_unknown");
        assert!(response.text().contains(shown), "{}", response.text());
    }
    // Of a query, only names that the server defines are repeated.
    let response = server.get(&format!("/stream?{MARK}=1&history={MARK}&room=a"));
    assert_refused(&response, 400, "history_invalid");
    assert!(response.text().contains(r#""field":"history""#), "{}", response.text());
}
