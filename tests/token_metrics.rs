//! Promise: what tokens cost is counted: a crowd that comes back with tokens seen before costs one look at each of them, and
//! each token that is not believed is counted by its reason, of which its bearer learns nothing.

mod common;

use std::collections::BTreeSet;

use common::conn::{Conn, Response, request};
use common::{BASE, TestServer, assert_problem};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tidegate::auth::tokens::TokenError;
use tidegate::config::{KeySource, Secret, TokenKey};

const SECRET: &str = "a secret for tests, of 32 bytes.";

/// `SECRET` in base64.
const SECRET_BASE64: &str = "YSBzZWNyZXQgZm9yIHRlc3RzLCBvZiAzMiBieXRlcy4=";

/// The year 2100.
const FAR: u64 = 4_102_444_800;

fn server() -> TestServer {
    TestServer::with(|config| {
        let source = KeySource::Base64(Secret::new(SECRET_BASE64));
        config.token_keys = vec![TokenKey { algorithm: Algorithm::HS256, source }];
    })
}

fn signed(secret: &str, claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// Asks for a room's members, which takes a token.
fn ask(conn: Conn, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    conn.round(&request("GET", &format!("{BASE}/rooms/a"), &[("authorization", &bearer)], b""))
}

const VERIFIED: &str = "tidegate_token_verifications_total";
const CACHED: &str = "tidegate_token_cache_hits_total";

#[test]
fn a_crowd_costs_one_look_at_each_token() {
    let server = server();
    let token = |n: u32| {
        signed(SECRET, &json!({"sub": format!("u{n}"), "exp": FAR, "permissions": ["sse:members:a"]}))
    };
    let tokens: Vec<String> = (0..5).map(token).collect();
    // All at once: whoever comes while a token is being looked at waits for what comes out.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for token in &tokens {
                    assert_eq!(ask(server.connect(), token).status(), 200);
                }
            });
        }
    });
    let metrics = server.metrics();
    metrics.assert(VERIFIED, 5.0);
    metrics.assert(CACHED, 35.0);
}

#[test]
fn each_refused_token_is_counted_by_its_reason_which_its_bearer_is_not_told() {
    let server = server();
    let good = json!({"sub": "u", "exp": FAR});
    let mut answers = BTreeSet::new();
    for (reason, token) in [
        ("form", "neither.here".to_owned()),
        ("signature", signed("another secret, but of 32 bytes.", &good)),
        ("claims", signed(SECRET, &json!({"sub": "u"}))),
        ("expired", signed(SECRET, &json!({"sub": "u", "exp": 1}))),
        ("not_yet", signed(SECRET, &json!({"sub": "u", "exp": FAR, "nbf": FAR}))),
        ("audience", signed(SECRET, &json!({"sub": "u", "exp": FAR, "aud": "others"}))),
    ] {
        let series = format!("tidegate_tokens_refused_total{{reason=\"{reason}\"}}");
        server.metrics().assert(&series, 0.0);
        let answer = ask(server.connect(), &token);
        assert_problem(&answer, 401, "unauthorized");
        answers.insert(answer.text());
        server.metrics().assert(&series, 1.0);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn every_reason_is_there_from_the_first_scrape_on() {
    let metrics = TestServer::start().metrics();
    for err in TokenError::ALL {
        metrics.assert(&format!("tidegate_tokens_refused_total{{reason=\"{}\"}}", err.as_str()), 0.0);
    }
    metrics.assert(VERIFIED, 0.0);
    metrics.assert(CACHED, 0.0);
}
