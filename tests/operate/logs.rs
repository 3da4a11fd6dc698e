//! Promise: whatever a peer sends, a log entry is one line in the server's own format: text without a control
//! character, or one JSON object.

use crate::common;

use common::conn::{Conn, request};
use common::process::Process;
use common::stream::Listener;
use common::{BASE, eventually};
use serde_json::{Value, json};

/// The real server with everything in its log.
fn start(format: &str) -> Process {
    let settings = [
        ("TIDEGATE_LOG_LEVEL", "trace"),
        ("TIDEGATE_LOG_FORMAT", format),
        ("TIDEGATE_DENIED_USER_AGENTS", "denied"),
    ];
    Process::start(&[], &settings)
}

/// Text that would forge a log line.
const FORGED: &str = "{\"level\":\"ERROR\",\"message\":\"forged\"}";

/// Sends hostile text in every place that takes text, and waits until the log has the last of it.
fn attack(server: &Process) -> String {
    let ask = |bytes: &[u8]| {
        let mut conn = Conn::tcp(server.addr);
        conn.send(bytes);
        assert!(conn.fill(), "unanswered: {}", bytes.escape_ascii());
    };
    let raw = |path: &[u8], agent: &[u8]| {
        let start = [b"GET ", path, b" HTTP/1.1\r\nhost: localhost\r\nuser-agent: "].concat();
        ask(&[&start[..], agent, b"\r\nlast-event-id: ", agent, b"\r\n\r\n"].concat());
    };
    let encoded = "%0A%0D%1B%5B31m%22%5C%E2%80%A8%C2%85%7F%00";
    for agent in
        [&b"\"quoted\\\""[..], "\u{2028}\u{85}\u{202e}é".as_bytes(), b"\xff\xfe\x9b2J", b"a\tb", b"x denied"]
    {
        for path in [
            format!("{BASE}/info"),
            format!("{BASE}/stream/a/{encoded}"),
            format!("{BASE}/rooms/{FORGED}"),
            format!("{BASE}/rooms/\u{2028}\u{85}\u{202e}"),
            format!("/{encoded}"),
        ] {
            raw(path.as_bytes(), agent);
        }
    }
    // Bytes that no request may contain, and bytes that are no request.
    raw(b"/\x1b[31m", b"x");
    raw(b"/", b"x\x1b[2Jy\x07");
    raw(b"/", format!("x\n{FORGED}\n").as_bytes());
    ask(format!("\n{FORGED}\n\r\n\r\n").as_bytes());
    ask(&[0x1b; 100]);
    // A user with such a name, with a stream and a publish.
    let user = "u%22%5C%E2%80%A8%E2%80%AE";
    drop(Listener::open(Conn::tcp(server.addr), &format!("/stream/a/{user}"), &[]));
    let event = json!({"user": "u\"\\\u{2028}\u{202e}", "data": format!("\n{FORGED}\n")}).to_string();
    let publish = request("POST", &format!("{BASE}/publish"), &[], event.as_bytes());
    assert_eq!(Conn::tcp(server.addr).round(&publish).status(), 200);
    ask(b"GET /the-last-one HTTP/1.1\r\nhost: localhost\r\n\r\n");
    eventually("the last line", || server.logged().lines().any(|line| line.contains("the-last-one")));
    server.logged()
}

/// Checks that the log has the lines of [`attack`]'s requests; otherwise the other checks would show nothing.
fn assert_they_were_seen(log: &str) {
    for seen in ["%0A%0D%1B", "forged", "quoted", "user_agent_forbidden", "/the-last-one"] {
        assert!(log.contains(seen), "{seen}: {log}");
    }
}

#[test]
fn text_has_nothing_in_it_but_text() {
    let log = attack(&start("text"));
    assert_they_were_seen(&log);
    for line in log.lines() {
        let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
        assert!(!line.contains(odd), "{line:?}");
        // Each begins with the server's own time.
        let time = line.split(' ').next().unwrap_or_default();
        assert!(time.len() == 27 && time.starts_with("20") && time.ends_with('Z'), "{line:?}");
    }
}

#[test]
fn each_line_of_json_is_one_object_of_ours() {
    let log = attack(&start("json"));
    assert_they_were_seen(&log);
    for line in log.split_terminator('\n') {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line:?}"));
        assert!(object["timestamp"].is_string() && object["target"].is_string(), "{line}");
        assert_ne!(object["level"], "ERROR", "{line}");
        assert!(
            !line.contains(char::is_control) && !line.contains(['\u{2028}', '\u{2029}', '\u{202e}']),
            "{line:?}"
        );
    }
}

/// Crates that log through `log` were lost for a while, with the warnings that explain why a certificate is not accepted.
#[test]
fn lines_of_other_crates_are_in_the_log() {
    let settings = [("TIDEGATE_LOG_LEVEL", "debug"), ("TIDEGATE_AUTH_CALLBACK", "http://127.0.0.1:9/")];
    let server = Process::start(&[], &settings);
    let answer = Conn::tcp(server.addr).round(&request("GET", &format!("{BASE}/stream?room=a"), &[], b""));
    assert_ne!(answer.status(), 200);
    let line = "reqwest::connect: starting new connection";
    eventually(line, || server.logged().contains(line));
}

/// The log line of a refusal once had neither the path nor the client.
#[test]
fn a_refusal_tells_the_path_the_user_and_the_address() {
    let secret = "hunter2";
    let settings = [
        ("TIDEGATE_LOG_LEVEL", "debug"),
        ("TIDEGATE_LOG_FORMAT", "json"),
        ("TIDEGATE_TRUSTED_PROXIES", "127.0.0.1"),
        ("TIDEGATE_MAX_CONNECTIONS_PER_USER", "1"),
    ];
    let server = Process::start(&[], &settings);
    let ask = |path: &str| {
        let headers = [("x-forwarded-for", "203.0.113.7"), ("accept", "text/event-stream")];
        Conn::tcp(server.addr).round(&request("GET", path, &headers, b""))
    };
    let refused = |wanted: &Value| {
        let is_wanted = |line: &Value| {
            wanted.as_object().expect("members").iter().all(|(name, value)| &line[name] == value)
        };
        let find = || {
            let log = server.logged();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter(is_wanted).count()
        };
        eventually(&format!("{wanted} in {}", server.logged()), || find() == 1);
    };
    assert_eq!(ask(&format!("{BASE}/stream/a/b/c?token={secret}")).status(), 404);
    refused(&json!({
        "level": "DEBUG", "message": "request refused", "code": "not_found", "method": "GET",
        "path": format!("{BASE}/stream/a/b/c"), "client": "203.0.113.7", "user": null,
    }));
    assert_eq!(ask(&format!("{BASE}/stream?room=a&user=me&history={secret}")).status(), 400);
    refused(&json!({"code": "history_invalid", "path": format!("{BASE}/stream"), "client": "203.0.113.7"}));

    // These refused streams are answered with 200.
    let _first = Listener::open(Conn::tcp(server.addr), "/stream/lobby/me", &[]);
    assert_eq!(ask(&format!("{BASE}/stream/lobby/me")).status(), 200);
    refused(&json!({
        "message": "stream refused", "reason": "user_connections", "room": "lobby", "user": "me",
        "client": "203.0.113.7",
    }));

    // The line is short, however long the path is.
    assert_eq!(ask(&format!("/{}", "x".repeat(8_000))).status(), 404);
    refused(&json!({"code": "not_found", "path": format!("/{}", "x".repeat(255))}));

    // A request that was not read to its end has no path, but an address.
    Conn::tcp(server.addr).round(b"GET / HTTP/9.9\r\n\r\n");
    refused(&json!({
        "message": "a request was refused before it was read: it is malformed, too large or too late",
        "client": "127.0.0.1",
    }));
    assert!(!server.logged().contains(secret), "{}", server.logged());
}

/// With tokens, the user is the token's.
#[test]
fn a_refusal_tells_whose_token_it_was() {
    let key = common::bearer::key_text(common::bearer::SECRET);
    let settings = [("TIDEGATE_LOG_LEVEL", "debug"), ("TIDEGATE_TOKEN_KEYS", &*key)];
    let server = Process::start(&[], &settings);
    let by = common::bearer::bearer(&common::bearer::token("alice", &["sse:read:a"]));
    let response = Conn::tcp(server.addr).round(&request(
        "GET",
        &format!("{BASE}/info"),
        &[("authorization", &by)],
        b"",
    ));
    assert_eq!(response.status(), 403);
    let told = |line: &str| {
        ["code=\"forbidden\"", "path=\"/api/v1/sse/info\"", "user=\"alice\"", "client=127.0.0.1"]
            .iter()
            .all(|part| line.contains(part))
    };
    eventually("the line", || server.logged().lines().any(told));
}
