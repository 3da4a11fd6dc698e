//! Promise: the cost of tokens is counted: many clients that come back with known tokens cost one lookup each, and each
//! refused token is counted by its reason, which its bearer does not learn.

use crate::common;

use std::collections::BTreeSet;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD, Engine as _};
use common::bearer::{FOREIGN_SECRET, SECRET, TempFile, bearer, key, now, sign};
use common::conn::{Response, request};
use common::signer::{ISSUER, changed};
use common::{BASE, TestServer, assert_problem};
use jsonwebtoken::Algorithm::{ES256, HS256, HS384, HS512};
use serde_json::{Value, json};
use tidegate::auth::token_error::TokenError;
use tidegate::config::{JwksSource, UpstreamUrl};
use tidegate::rights::revocation::{Revoked, When};

const ISSUER_NAME: &str = "https://idp.example";

/// A server with a set of keys that can never be read, a set with a named key, and a key without a name.
fn server() -> TestServer {
    let nowhere = UpstreamUrl::parse("http://127.0.0.1:1/jwks.json").expect("a URL");
    let other = json!({"kty": "oct", "alg": "HS384", "kid": "known", "k": URL_SAFE_NO_PAD.encode([7; 48])});
    let named = TempFile::new(&json!({"keys": [other]}).to_string());
    TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.token_jwks = vec![JwksSource::Url(nowhere), JwksSource::File(named.path().to_owned())];
        config.token_issuer = Some(ISSUER_NAME.to_owned());
    })
}

fn claims(more: &Value) -> Value {
    let usual =
        json!({"sub": "u", "exp": now() + 3600, "iss": ISSUER_NAME, "permissions": ["sse:members:a"]});
    changed(usual, more)
}

/// Asks for a room's members, which needs a token.
fn ask(server: &TestServer, token: &str) -> Response {
    let headers = [("authorization", &*bearer(token))];
    server.connect().round(&request("GET", &format!("{BASE}/rooms/a"), &headers, b""))
}

/// The id of a token that was revoked.
const REVOKED: &str = "gone";

const VERIFIED: &str = "tidegate_token_verifications_total";
const CACHED: &str = "tidegate_token_cache_hits_total";

#[test]
fn a_crowd_costs_one_look_at_each_token() {
    let server = server();
    let token = |n: u32| sign(SECRET, &claims(&json!({"sub": format!("u{n}")})));
    let tokens: Vec<String> = (0..5).map(token).collect();
    // All at once: a request that comes while its token is being verified waits for the result.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for token in &tokens {
                    assert_eq!(ask(&server, token).status(), 200);
                }
            });
        }
    });
    let metrics = server.metrics();
    metrics.assert(VERIFIED, 5.0);
    metrics.assert(CACHED, 35.0);
}

/// A token with this fault and no other.
fn wrong_by(reason: TokenError) -> String {
    let with = |more: Value| sign(SECRET, &claims(&more));
    let by = |algorithm, header: Value| ISSUER.token_with(algorithm, &header, &claims(&json!({})));
    match reason {
        TokenError::Form => "neither.here".to_owned(),
        TokenError::Header => by(HS256, json!({"crit": ["exp"]})),
        TokenError::Algorithm => by(HS512, json!({})),
        TokenError::UnknownKey => by(HS384, json!({"kid": "x"})),
        TokenError::NoKeys => by(ES256, json!({})),
        TokenError::Signature => sign(FOREIGN_SECRET, &claims(&json!({}))),
        TokenError::Claims => with(json!({"exp": null})),
        TokenError::Expired => with(json!({"exp": now() - 3600})),
        TokenError::NotYet => with(json!({"nbf": now() + 3600})),
        TokenError::Issuer => with(json!({"iss": "https://other.example"})),
        TokenError::Audience => with(json!({"aud": "others"})),
        TokenError::Revoked => with(json!({"jti": REVOKED})),
        other => panic!("no token is wrong by {other}"),
    }
}

#[test]
fn each_refused_token_is_counted_by_its_reason_which_its_bearer_is_not_told() {
    let server = server();
    let when = When { at: now(), leeway_s: 0 };
    server
        .server()
        .engine()
        .access
        .revocations
        .add(&Revoked::Token(REVOKED.into()), when)
        .expect("there is room");
    let mut answers = BTreeSet::new();
    for reason in TokenError::ALL {
        let series = format!("tidegate_tokens_refused_total{{reason=\"{}\"}}", reason.as_str());
        server.metrics().assert(&series, 0.0);
        let answer = ask(&server, &wrong_by(*reason));
        server.metrics().assert(&series, 1.0);
        if *reason == TokenError::NoKeys {
            // The token may be good. The client comes back.
            assert_problem(&answer, 503, "auth_unavailable");
            continue;
        }
        assert_problem(&answer, 401, "unauthorized");
        answers.insert((answer.head.without_date(), answer.text()));
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
