//! What nginx lets in from outside, and what it keeps for the inside.

use std::process::Command;

use serde_json::json;

use super::{BASE, INSIDE, Nginx, Upstream, behind_nginx, connections, engine, message, patiently};
use crate::common::eventsource::{EventSource, Message, client_address};
use crate::common::neighbours::{Folder, find};

#[tokio::test]
async fn publishing_is_for_the_inside() {
    let Some((_folder, _server, nginx)) = behind_nginx(&[]).await else { return };
    let event = json!({"room": "a", "data": 1}).to_string();
    let outside = client_address(0);
    for (method, path) in [
        ("POST", "/publish"),
        ("POST", "//publish"),
        ("POST", "/stream/../publish"),
        ("POST", "/stream%2f..%2fpublish"),
        ("POST", "/disconnect/a/u"),
        ("POST", "/stream/a/u"),
        ("DELETE", "/stream/a/u"),
        ("GET", "/info"),
        ("GET", "/rooms/a/history"),
        ("POST", "/revoke"),
        ("GET", "/refresh"),
        ("PUT", "/refresh"),
        ("POST", "/refresh/"),
        ("POST", "/refresh/../publish"),
        ("POST", "/refresh%2f..%2fpublish"),
    ] {
        let (status, text) = nginx.ask(outside, method, &format!("{BASE}{path}"), "", &event).await;
        assert_eq!(status, 403, "{method} {path}: {text}");
        // A client that claims an internal address is still outside.
        let lie = "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\n";
        assert_eq!(nginx.ask(outside, method, &format!("{BASE}{path}"), lie, &event).await.0, 403);
    }
    for path in ["/metrics", "/readyz", "/dashboard", "/"] {
        assert_eq!(nginx.ask(INSIDE, "GET", path, "", "").await.0, 404, "{path}");
    }
    let (status, text) = nginx.ask(INSIDE, "GET", &format!("{BASE}/info"), "", "").await;
    assert_eq!(status, 200, "{text}");
    // A page of this very site is not foreign, whatever the port.
    let own = format!("origin: http://{}\r\n", nginx.address);
    let (status, text) = nginx.ask(INSIDE, "POST", &format!("{BASE}/publish"), &own, &event).await;
    assert_eq!(status, 200, "{text}");
}

/// The setting with [`KEY`], which signs the tokens.
pub(super) const SIGNED: (&str, &str) = ("TOKEN_KEYS", KEY);

const KEY: &str = "HS256:base64:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";

/// Returns a header with a token of the user `u` that has `permission`.
pub(super) fn authorization(permission: &str) -> String {
    let made = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env_clear()
        .args(["--token-keys", KEY, "token", "--user", "u", "--allow", permission])
        .output()
        .expect("it runs");
    format!("Bearer {}", String::from_utf8(made.stdout).expect("a token").trim())
}

/// The guide tells pages what to do when their token expires soon; this does it from outside.
#[tokio::test]
async fn browsers_refresh_their_streams() {
    let origin = ("CORS_ORIGINS", "https://app.example");
    let Some((_folder, _server, nginx)) = behind_nginx(&[SIGNED, origin]).await else { return };
    let bearer = authorization("sse:read");
    let mut listener = nginx.listener(0, "/stream/a/u").header("authorization", &bearer);
    patiently("connected", listener.message_of("connected")).await;
    let refresh = async |method: &str, headers: &str, body: &str| {
        nginx.ask(client_address(0), method, &format!("{BASE}/refresh"), headers, body).await
    };
    let known = format!("authorization: {bearer}\r\n");
    let (status, text) = refresh("POST", &known, "").await;
    assert!(status == 200 && text.contains(r#""refreshed":1,"#), "{status} {text}");
    let (status, text) = refresh("POST", &known, r#"{"connection":"9.9.9"}"#).await;
    assert!(status == 404 && text.contains("connection_unknown"), "{status} {text}");
    let (status, text) = refresh("POST", "", "").await;
    assert!(status == 401 && text.contains(r#""code":"unauthorized""#), "{status} {text}");
    let preflight = "origin: https://app.example\r\naccess-control-request-method: POST\r\n";
    assert_eq!(refresh("OPTIONS", preflight, "").await.0, 204);
}

#[tokio::test]
async fn history_can_be_let_out_and_nothing_else_with_it() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (_server, path) = engine(&folder, &[SIGNED]).await;
    let option = "location ~ ^/api/v1/sse/rooms/.+/history$ {";
    let nginx = Nginx::start_with(&program, &folder, &Upstream::Unix(&path), Some(option)).await;
    let outside = client_address(0);
    let known = format!("authorization: {}\r\n", authorization("sse:read"));
    for room in ["a", "a%2Fb", "caf%C3%A9"] {
        let path = format!("{BASE}/rooms/{room}/history?limit=2");
        let (status, text) = nginx.ask(outside, "GET", &path, &known, "").await;
        assert!(status == 200 && text.contains(r#""events":[]"#), "{room}: {status} {text}");
        assert_eq!(nginx.ask(outside, "GET", &path, "", "").await.0, 401, "{room}");
        assert_eq!(nginx.ask(outside, "POST", &path, &known, "").await.0, 403, "{room}");
    }
    let refused = [
        ("/rooms/a", 403),
        ("/rooms/history", 403),
        ("/info?/rooms/a/history", 403),
        ("/rooms/a/history/../../../info", 403),
        ("/rooms/a/history%2f..%2f..%2f..%2finfo", 403),
        // nginx treats this path as history, and the engine refuses it.
        ("/info/../rooms/a/history", 400),
        // nginx treats these as history, and the engine would take the second for the room `a/history`.
        ("/info%2f..%2frooms%2fa%2fhistory", 403),
        ("/rooms/a%2Fhistory", 403),
        ("/rooms/a%2Fhistory?x=/history", 403),
    ];
    for (path, wanted) in refused {
        let (status, text) = nginx.ask(outside, "GET", &format!("{BASE}{path}"), &known, "").await;
        assert_eq!(status, wanted, "{path}: {text}");
        assert_eq!(text.contains("\"code\":"), wanted == 400, "{path}: who refuses it: {text}");
    }
}

/// Paths that an outsider sends with `POST` to make the engine disconnect `bob` in `lobby`, or publish, while nginx
/// applies the rules of another location.
const BEHIND_ANOTHER_NAME: [&str; 24] = [
    "/disconnect/lobby/bob%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%2F..%2F..%2F..%2Frefresh",
    "/disconnect/lobby/bob%2f%2e%2e%2f%2E%2E%2f%2e.%2frefresh",
    "/disconnect/lobby/bob%2f.%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%2f%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%2f..%2f../../refresh",
    "/disconnect/lobby%2f..%2f..%2frefresh/..%2frefresh",
    "/disconnect/lobby/bob/../../../refresh",
    "/disconnect/lobby/bob/..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%5c..%5c..%5c..%5crefresh",
    "/disconnect/lobby/bob\\..\\..\\..\\refresh",
    "/disconnect/lobby/bob;/../../../refresh",
    "/disconnect/lobby/bob;%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%00%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%252f..%252f..%252f..%252frefresh",
    "/disconnect/lobby/bob%25%32%66..%25%32%66refresh",
    "/disconnect/lobby/bob#/../../../refresh",
    "/disconnect/lobby/bob%23%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%3f%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob?/../../../refresh",
    "/refresh#/../disconnect/lobby/bob",
    "/refresh%2f..%2fdisconnect%2flobby%2fbob",
    "//disconnect/lobby/bob",
    "/publish%2f..%2frefresh",
];

/// The same with `GET`, to read a room's members.
const MEMBERS_BEHIND_ANOTHER_NAME: [&str; 5] = [
    "/rooms/lobby%2f..%2f..%2fstream",
    "/rooms/%2e%2e%2f%2e%2e%2fsse%2fstream",
    "/rooms/lobby%2f..%2f..%2fstream/history",
    "/rooms/lobby/..%2f..%2fstream",
    "/info%2f..%2fstream",
];

/// nginx decodes the whole path and resolves its dots before it chooses a location; the engine splits it into segments
/// first. The first path above was a location for everyone to nginx, and a disconnect of `bob/../../../refresh` to the
/// engine.
#[tokio::test]
async fn no_path_is_two_things_to_nginx_and_the_engine() {
    let Some((_folder, server, nginx)) = behind_nginx(&[]).await else { return };
    let mut listener = nginx.listener(0, "/stream/lobby/bob");
    patiently("connected", listener.message_of("connected")).await;
    let event = json!({"room": "lobby", "data": "from outside"}).to_string();
    let posts = BEHIND_ANOTHER_NAME.map(|path| ("POST", path));
    let gets = MEMBERS_BEHIND_ANOTHER_NAME.map(|path| ("GET", path));
    for (method, path) in posts.into_iter().chain(gets) {
        let (status, text) = nginx.ask(client_address(1), method, &format!("{BASE}{path}"), "", &event).await;
        assert!(matches!(status, 400 | 403 | 404 | 405), "{method} {path}: {status} {text}");
        assert!(!text.contains("disconnected") && !text.contains("members"), "{path}: {text}");
    }
    assert_eq!(connections(&server).await, 1);
    nginx.publish(&json!({"room": "lobby", "data": "from inside"})).await;
    assert_eq!(patiently("the event", listener.message()).await, message("from inside"));
    // In the query, such a name is a plain name.
    let mut odd = nginx.listener(2, "/stream?room=a/../../b&user=..");
    patiently("connected", odd.message_of("connected")).await;
}

#[tokio::test]
async fn a_forged_address_does_not_dodge_a_limit() {
    let Some((_folder, server, nginx)) = behind_nginx(&[("MAX_CONNECTIONS_PER_ADDRESS", "2")]).await else {
        return;
    };
    let forged = |number: usize, name: &str| {
        let listener = nginx.listener(0, &format!("/stream/a/{name}"));
        listener.header("x-forwarded-for", &format!("198.51.100.{number}, 203.0.113.{number}"))
    };
    let mut two = [forged(1, "u1"), forged(2, "u2")];
    for listener in &mut two {
        assert_eq!(patiently("a place", listener.message()).await.kind, "connected");
    }
    let refusal = Message { kind: "overload".into(), data: r#"{"reason":"address_connections"}"#.into() };
    assert_eq!(patiently("a refusal", forged(3, "u3").message()).await, refusal);
    // Another client is not affected, even if it sends the first client's address.
    let mut other =
        nginx.listener(1, "/stream/a/v").header("x-forwarded-for", &client_address(0).to_string());
    assert_eq!(patiently("a place", other.message()).await.kind, "connected");
    // No peer on the port is a trusted proxy: there, the header does not count.
    let direct = |name: &str| {
        EventSource::new(2, server.address, &format!("{BASE}/stream/a/{name}"))
            .header("x-forwarded-for", &format!("198.51.100.{}", name.len()))
    };
    let mut two = [direct("w"), direct("ww")];
    for listener in &mut two {
        assert_eq!(patiently("a place", listener.message()).await.kind, "connected");
    }
    assert_eq!(patiently("a refusal", direct("www").message()).await, refusal);
}
