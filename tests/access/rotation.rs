//! Promise: while keys are exchanged, or one of several sets cannot be read, a client whose token may be accepted in a
//! moment is asked to come back; a client whose token will never be accepted is refused for good.

use crate::common;

use std::sync::{Arc, Mutex};

use common::application::{Application, Reply};
use common::bearer::{bearer, now};
use common::conn::{Response, request};
use common::signer::{ISSUER, STRANGER};
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem};
use jsonwebtoken::Algorithm::ES256;
use serde_json::{Value, json};
use tidegate::config::{JwksSource, UpstreamUrl};

/// A token whose header names `kid`, signed with an issuer's key.
fn token(issuer: &common::signer::Issuer, kid: &str) -> String {
    let claims = json!({"sub": "ann", "exp": now() + 900, "permissions": ["sse:read"]});
    issuer.token_with(ES256, &json!({ "kid": kid }), &claims)
}

/// Returns a set that has the issuer's key under each of `names`.
fn set(names: &[&str]) -> Reply {
    let key = |name: &&str| ISSUER.pair(ES256).jwk(&json!({ "kid": name }));
    Reply::With(200, json!({ "keys": names.iter().map(key).collect::<Vec<Value>>() }).to_string())
}

fn listen(server: &TestServer, token: &str) -> Response {
    let bearer = bearer(token);
    server.connect().round(&request(
        "GET",
        &format!("{BASE}/stream/a/ann"),
        &[("authorization", &bearer)],
        b"",
    ))
}

fn fetched(outcome: &str) -> String {
    format!(r#"tidegate_upstream_requests_total{{kind="jwks",outcome="{outcome}"}}"#)
}

/// Such tokens were once answered with "come back" for as long as another set could not be read, and were counted so.
#[test]
fn a_key_that_is_there_says_no_by_itself() {
    let application = Application::start(|asked| match asked.line.as_str() {
        "GET /down" => Reply::With(500, String::new()),
        _ => set(&["known"]),
    });
    let server = TestServer::with(|config| {
        let url = |path: &str| UpstreamUrl::parse(&application.url(path)).expect("a URL");
        config.token_jwks = ["/up", "/down"].map(|path| JwksSource::Url(url(path))).into();
    });
    server.wait_for(&fetched("ok"), 1.0);
    server.wait_for(&fetched("status"), 1.0);
    assert_problem(&listen(&server, &token(&STRANGER, "known")), 401, "unauthorized");
    server.metrics().assert("tidegate_tokens_refused_total{reason=\"signature\"}", 1.0);
    assert_problem(&listen(&server, &token(&STRANGER, "elsewhere")), 503, "auth_unavailable");
    assert_eq!(
        server
            .listen_with("/stream/a/ann", &[("authorization", &bearer(&token(&ISSUER, "known")))])
            .connected
            .json()["user"],
        "ann"
    );
}

/// The keys are fetched again soon after a token came with an unknown key name. A client that came with such a token in
/// between once got 401, after which a browser never comes back.
#[test]
fn whose_key_is_about_to_be_fetched_is_asked_to_come_back() {
    let names = Arc::new(Mutex::new(vec!["old"]));
    let published = names.clone();
    let application = Application::start(move |_| set(&published.lock().expect("no panic")));
    let server = TestServer::with(|config| {
        let url = UpstreamUrl::parse(&application.url("/keys")).expect("a URL");
        config.token_jwks = vec![JwksSource::Url(url)];
    });
    server.wait_for(&fetched("ok"), 1.0);
    names.lock().expect("no panic").push("new");
    let (new, made_up) = (token(&ISSUER, "new"), token(&STRANGER, "made up"));
    for token in [&new, &made_up, &new, &made_up] {
        let mut conn = server.connect();
        let headers = [("authorization", &*bearer(token)), ("accept", "text/event-stream")];
        conn.send(request("GET", &format!("{BASE}/stream/a/ann"), &headers, b""));
        let event = Listener::answered(conn).event();
        assert!(event.contains("event: overload\n") && event.contains("auth_unavailable"), "{event}");
    }
    assert_problem(&listen(&server, &made_up), 503, "auth_unavailable");

    server.wait_for(&fetched("ok"), 2.0);
    let user = server.listen_with("/stream/a/ann", &[("authorization", &bearer(&new))]);
    assert_eq!(user.connected.json()["user"], "ann");
    // The server has looked this key up already: the request does not wait again, although it causes another fetch.
    for _ in 0..3 {
        assert_problem(&listen(&server, &made_up), 401, "unauthorized");
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_tokens_refused_total{reason=\"no_keys\"}", 5.0);
    metrics.assert("tidegate_tokens_refused_total{reason=\"unknown_key\"}", 3.0);
}
