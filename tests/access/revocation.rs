//! Promise: a revoked right ends, also in the middle of a request, and no other right ends with it: a client that gets
//! a new right afterwards, or that the application lets in again, comes back.

use crate::common;

use std::time::Duration;

use common::application::{Application, Reply};
use common::bearer::{FOREIGN_SECRET, SECRET, bearer, key, nameless, now, sign};
use common::conn::{Conn, request};
use common::stream::Listener;
use common::{BASE, PATIENCE, TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::config::{Config, UpstreamUrl};

/// A server that accepts tokens, and asks `application` about all other streams. It keeps answers for a long time.
fn asking(application: &Application, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.auth_callback = UpstreamUrl::parse(&application.url("/auth"));
        config.auth_callback_timeout = PATIENCE;
        config.auth_callback_cache = Some(Duration::from_hours(1));
        change(config);
    })
}

/// Returns a request for a stream of [`asking`]'s server, as a browser sends it.
fn stream() -> Vec<u8> {
    request("GET", &format!("{BASE}/stream?room=a"), &[COOKIE], b"")
}

/// Opens a stream with the request of [`stream`].
fn listen(server: &TestServer) -> Listener {
    server.listen_with("/stream?room=a", &[COOKIE])
}

const COOKIE: (&str, &str) = ("cookie", "session=ann");

fn revoke(server: &TestServer, what: &Value) {
    let bearer = bearer(&nameless(&["admin"]));
    let answer = server.post("/revoke", &[("authorization", &bearer)], what.to_string());
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// Waits for the next second of the calendar: from here on every token is younger than what was revoked before.
fn another_second() {
    let before = now();
    eventually("another second", || now() > before);
}

/// The answer was once dated by its arrival: it counted as younger than the revocation, and was then kept for other
/// streams.
#[test]
fn what_the_application_was_asked_before_does_not_outlive_a_revocation() {
    let application = Application::always(Reply::Held(200, r#"{"user":"ann"}"#.into()));
    let server = asking(&application, |_| {});
    let mut conn = server.connect();
    conn.send(stream());
    eventually("the application is asked", || application.count() == 1);
    revoke(&server, &json!({"user": "ann"}));
    another_second();
    application.release();
    // An answer to a question from before the revocation does not count.
    assert_problem(&conn.response(), 503, "auth_unavailable");
    listen(&server);
    assert_eq!(application.count(), 2);
}

/// A cached yes once led to 401 for the closed stream that came back, after which a browser never comes back again.
#[test]
fn whom_the_application_lets_in_again_comes_back_at_once() {
    let application = Application::always(Reply::With(200, r#"{"user":"ann"}"#.into()));
    let server = asking(&application, |_| {});
    let mut listeners = [listen(&server), listen(&server)];
    assert_eq!(application.count(), 1, "the answer is kept");
    revoke(&server, &json!({"user": "ann"}));
    for listener in &mut listeners {
        listener.closing("revoked");
    }
    another_second();
    let _back = [listen(&server), listen(&server)];
    assert_eq!(application.count(), 2, "and so is the next");
}

/// The tokens of an issuer whose clock is a little ahead are accepted; such a token once survived its user's
/// revocation.
#[test]
fn a_token_of_an_issuer_whose_clock_is_ahead_is_revoked_like_others() {
    const AHEAD: u64 = 60;
    let server = TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.token_leeway = Duration::from_secs(AHEAD);
    });
    let issued = |at: u64| {
        bearer(&sign(SECRET, &json!({"sub": "ann", "iat": at, "exp": at + 900, "permissions": ["sse:read"]})))
    };
    let ahead = issued(now() + AHEAD);
    let headers = [("authorization", &*ahead)];
    let mut listener = server.listen_with("/stream/a/ann", &headers);
    revoke(&server, &json!({"user": "ann"}));
    listener.closing("revoked");
    let again = request("GET", &format!("{BASE}/stream/a/ann"), &headers, b"");
    assert_problem(&server.connect().round(&again), 401, "unauthorized");
}

/// Sends a request's head and part of its body; the server waits for the rest.
fn begin(server: &TestServer, path: &str, token: &str, body: &str) -> Conn {
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nexpect: 100-continue\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(conn.head().status(), 100, "the body is waited for");
    conn
}

/// A client that held the body back could once act by a right that had ended by then.
#[test]
fn a_request_that_comes_slowly_needs_its_right_to_the_end() {
    const REQUESTS: [(&str, &str); 3] = [
        ("/publish", r#"{"room":"a","data":"after"}"#),
        ("/revoke", r#"{"user":"bob"}"#),
        ("/refresh", "{}"),
    ];
    type End = fn(&TestServer, u64);
    let ends: [(End, u64); 3] = [
        (|server, _| revoke(server, &json!({"token": "j"})), 900),
        (|_, end| eventually("the end of the token", || now() >= end), 5),
        (
            |server, _| {
                let other = Config { token_keys: vec![key(FOREIGN_SECRET)], ..common::config() };
                assert!(server.server().reload(&other).is_ok());
            },
            900,
        ),
    ];
    for (end, seconds) in ends {
        let server = TestServer::with(|config| {
            config.token_keys = vec![key(SECRET)];
            config.token_leeway = Duration::ZERO;
        });
        let exp = now() + seconds;
        let permissions = json!(["sse:read", "sse:publish", "admin"]);
        let token = sign(SECRET, &json!({"sub": "ann", "jti": "j", "exp": exp, "permissions": permissions}));
        let begun = REQUESTS.map(|(path, body)| begin(&server, path, &token, body));
        end(&server, exp);
        let revocations = server.metrics().get("tidegate_revocations");
        for (mut conn, (path, body)) in begun.into_iter().zip(REQUESTS) {
            conn.send(body);
            let answer = conn.response();
            assert_eq!(answer.status(), 401, "{path}: {}", answer.text());
        }
        let metrics = server.metrics();
        metrics.assert("tidegate_events_published_total", 0.0);
        metrics.assert("tidegate_revocations", revocations);
    }
}

/// The refusal was once counted nowhere, and the log showed it as any refused request.
#[test]
fn that_a_token_was_revoked_is_told_to_whoever_runs_the_server() {
    const REVOKED: &str = "tidegate_tokens_refused_total{reason=\"revoked\"}";
    let server = TestServer::with(|config| config.token_keys = vec![key(SECRET)]);
    let claims =
        json!({"sub": "ann", "jti": "j", "iat": now(), "exp": now() + 900, "permissions": ["sse:read"]});
    let token = bearer(&sign(SECRET, &claims));
    let ask = || {
        let headers = [("authorization", &*token)];
        server.connect().round(&request("GET", &format!("{BASE}/rooms/a/history"), &headers, b""))
    };
    assert_eq!(ask().status(), 200);
    server.metrics().assert(REVOKED, 0.0);
    revoke(&server, &json!({"token": "j"}));
    assert_problem(&ask(), 401, "unauthorized");
    server.metrics().assert(REVOKED, 1.0);
    // A request that had begun before is counted as well.
    let other = sign(SECRET, &json!({"sub": "bob", "exp": now() + 900, "permissions": ["sse:publish"]}));
    let event = r#"{"room":"a","data":1}"#;
    let mut begun = begin(&server, "/publish", &other, event);
    revoke(&server, &json!({"user": "bob"}));
    begun.send(event);
    assert_problem(&begun.response(), 401, "unauthorized");
    server.metrics().assert(REVOKED, 2.0);
}
