//! Promise: keys from a URL are there soon after the start, stay current, and are never lost to a server that fails.

use crate::common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::Algorithm::{self, ES256, ES384, EdDSA, HS256, PS256, RS256};
use serde_json::{Value, json};
use tidegate::auth::jwks::JWKS_BYTES_MAX;
use tidegate::config::{Config, JwksSource, UpstreamUrl};
use tidegate::types::clock::Clock;
use tidegate::types::position::Epoch;
use tidegate::upstream::jwks::{JWKS_AGAIN_MIN, KeySetSource, KeySets};
use tidegate::upstream::stats::{Outcome, Purpose};
use tidegate::upstream::{Running, Upstream};
use tokio::sync::Notify;

use self::common::application::{Application, Reply};
use self::common::bearer::{bearer, now};
use self::common::conn::{Conn, Response, request};
use self::common::signer::{ISSUER, Issuer, STRANGER};
use self::common::stream::Listener;
use self::common::{BASE, TestServer, assert_problem, config, eventually};

/// A source of keys that takes any body but `bad`.
struct Keys {
    url: UpstreamUrl,
    put: Arc<Mutex<Vec<String>>>,
    wanted: Notify,
}

impl KeySets for Keys {
    fn sources(&self) -> Vec<KeySetSource> {
        let put = self.put.clone();
        let take = move |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if text == "bad" {
                return Err("not a set of keys".to_owned());
            }
            put.lock().expect("no panic").push(text);
            Ok(())
        };
        vec![KeySetSource { url: self.url.clone(), put: Box::new(take) }]
    }

    fn wanted(&self) -> &Notify {
        &self.wanted
    }
}

struct Fetching {
    keys: Arc<Keys>,
    upstream: Upstream,
    _running: Running,
}

impl Fetching {
    fn from(url: &str, refresh: Duration) -> Self {
        let url = UpstreamUrl::parse(url).expect("a URL");
        let keys = Arc::new(Keys { url, put: Arc::default(), wanted: Notify::new() });
        let config = Config { jwks_refresh: refresh, ..config() };
        let prepared = Upstream::prepare(&config, Some(keys.clone()), Clock::start(), Epoch::new(1));
        let (upstream, work) = prepared.expect("certificates");
        Self { keys, upstream, _running: work.expect("keys to fetch").start().expect("a thread") }
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.upstream.stats.requests(Purpose::Jwks, outcome)
    }

    fn put(&self) -> Vec<String> {
        self.keys.put.lock().expect("no panic").clone()
    }
}

const SOON: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_hours(24);

#[test]
fn keys_are_fetched_at_the_start() {
    let application = Application::always(Reply::With(200, r#"{"keys":[]}"#.into()));
    let fetching = Fetching::from(&application.url("/jwks.json"), NEVER);
    eventually("keys are there", || fetching.put() == [r#"{"keys":[]}"#]);
    assert_eq!(application.asked()[0].line, "GET /jwks.json");
    eventually("it is counted", || fetching.count(Outcome::Ok) == 1);
}

#[test]
fn keys_are_fetched_again_and_again() {
    let application = Application::always(Reply::With(200, "{}".into()));
    let fetching = Fetching::from(&application.url("/"), SOON);
    eventually("keys are fetched again", || fetching.put().len() >= 3);
}

#[test]
fn what_is_no_set_of_keys_is_never_put_in_force() {
    let cases = [
        (Reply::With(500, "{}".into()), Outcome::Status),
        (Reply::With(302, "{}".into()), Outcome::Status),
        (Reply::With(204, String::new()), Outcome::Status),
        (Reply::With(200, "bad".into()), Outcome::Malformed),
        (Reply::With(200, "x".repeat(JWKS_BYTES_MAX + 1)), Outcome::Malformed),
        (Reply::Raw(Vec::new()), Outcome::Unreachable),
    ];
    for (reply, outcome) in cases {
        let application = Application::always(reply);
        let fetching = Fetching::from(&application.url("/"), SOON);
        // Twice: the fetcher does not give up either.
        eventually("it fails", || fetching.count(outcome) >= 2);
        assert_eq!(fetching.put(), [""; 0], "{outcome:?}");
    }
}

#[test]
fn keys_never_come_in_the_clear_from_afar() {
    let application = Application::always(Reply::With(200, r#"{"keys":[]}"#.into()));
    // An address that reaches this machine without being marked as local, so that only the refusal prevents the
    // request.
    let afar = SocketAddr::from(([0, 0, 0, 0], application.addr.port()));
    assert_eq!(Conn::tcp(afar).round(&request("GET", "/by-hand", &[], b"")).status(), 200);
    let fetching = Fetching::from(&format!("http://{afar}/jwks.json"), SOON);
    eventually("it is refused again and again", || fetching.count(Outcome::Unreachable) >= 2);
    let asked: Vec<String> = application.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!((asked, fetching.put()), (vec!["GET /by-hand".to_owned()], Vec::new()));
}

/// Anyone can send tokens with keys that the server does not have.
#[test]
fn an_unknown_key_has_the_keys_fetched_but_not_too_often() {
    let application = Application::always(Reply::With(200, "{}".into()));
    let fetching = Fetching::from(&application.url("/"), NEVER);
    eventually("keys are there", || fetching.count(Outcome::Ok) == 1);
    for _ in 0..1000 {
        fetching.keys.wanted.notify_one();
    }
    eventually("keys are fetched again", || fetching.count(Outcome::Ok) == 2);
    let asked = application.asked();
    assert!(asked[1].at - asked[0].at >= JWKS_AGAIN_MIN, "{asked:?}");
}

/// A key for ES256: the point of RFC 7517 appendix A.1.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"1",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

#[test]
fn a_server_fetches_the_keys_of_its_settings_and_of_those_that_a_reload_brings() {
    let application = Application::start(|asked| match asked.line.as_str() {
        "GET /bad" => Reply::With(200, "{}".into()),
        _ => Reply::With(200, JWKS.into()),
    });
    let published = |path: &str| JwksSource::Url(UpstreamUrl::parse(&application.url(path)).expect("a URL"));
    let mut config = Config { jwks_refresh: NEVER, token_jwks: vec![published("/keys")], ..common::config() };
    let settings = config.clone();
    let server = TestServer::with(|config| *config = settings);
    let ended =
        |outcome: &str| format!(r#"tidegate_upstream_requests_total{{kind="jwks",outcome="{outcome}"}}"#);
    server.wait_for(&ended("ok"), 1.0);
    config.token_jwks.push(published("/bad"));
    server.server().reload(&config).expect("nothing to read");
    eventually("the new URL is asked", || server.metrics().get(&ended("malformed")) >= 1.0);
}

/// Algorithms of published keys, one of each kind.
const PUBLISHED: [Algorithm; 5] = [RS256, PS256, ES256, ES384, EdDSA];

/// Returns the keys of `issuer`, each named by its algorithm.
fn set(issuer: &Issuer, algorithms: &[Algorithm]) -> String {
    let member = |algorithm: &Algorithm| {
        let name = format!("{algorithm:?}");
        issuer.pair(*algorithm).jwk(&json!({"kid": name, "alg": name}))
    };
    json!({"keys": algorithms.iter().map(member).collect::<Vec<Value>>()}).to_string()
}

/// A token of `ann` with every permission that the tests use, by the key of that name.
fn token(issuer: &Issuer, algorithm: Algorithm) -> String {
    let claims = json!({"sub": "ann", "exp": now() + 900, "permissions": ["sse:read", "sse:publish"]});
    issuer.token_with(algorithm, &json!({"kid": format!("{algorithm:?}")}), &claims)
}

/// A server that accepts only the keys that it finds at `application`.
fn believing(application: &Application, refresh: Duration) -> TestServer {
    let url = UpstreamUrl::parse(&application.url("/keys")).expect("a URL");
    TestServer::with(|config| {
        config.token_jwks = vec![JwksSource::Url(url)];
        config.jwks_refresh = refresh;
    })
}

fn ended(server: &TestServer, outcome: &str) -> f64 {
    server.metrics().get(&format!(r#"tidegate_upstream_requests_total{{kind="jwks",outcome="{outcome}"}}"#))
}

/// Asks for a route that needs a token.
fn history(server: &TestServer, token: &str) -> Response {
    let path = format!("{BASE}/rooms/vip/history");
    server.connect().round(&request("GET", &path, &[("authorization", &bearer(token))], b""))
}

fn listen(server: &TestServer, token: &str) -> Listener {
    server.listen_with("/stream/vip/ann", &[("authorization", &bearer(token))])
}

#[test]
fn tokens_wait_for_their_keys_and_open_what_they_allow_once_those_are_there() {
    let application = Application::always(Reply::Held(200, set(&ISSUER, &PUBLISHED)));
    let server = believing(&application, NEVER);
    for issuer in [&*ISSUER, &*STRANGER] {
        for algorithm in PUBLISHED {
            let answer = history(&server, &token(issuer, algorithm));
            assert_problem(&answer, 503, "auth_unavailable");
            assert!(answer.header("retry-after").is_some(), "{}", answer.head.0);
        }
    }
    // Secrets are not published: waiting for a key does not help.
    assert_problem(&history(&server, &token(&ISSUER, HS256)), 401, "unauthorized");
    let mut conn = server.connect();
    let headers = [("accept", "text/event-stream"), ("authorization", &*bearer(&token(&ISSUER, RS256)))];
    conn.send(request("GET", &format!("{BASE}/stream/vip/ann"), &headers, b""));
    let mut waiting = Listener::answered(conn);
    assert_eq!(waiting.head.status(), 200, "{}", waiting.head.0);
    let event = waiting.event();
    let wanted = "event: overload\ndata: {\"reason\":\"auth_unavailable\"}\n\n";
    assert!(event.starts_with("retry: ") && event.ends_with(wanted), "{event}");

    application.release();
    eventually("keys are there", || ended(&server, "ok") >= 1.0);
    for algorithm in PUBLISHED {
        assert_eq!(history(&server, &token(&ISSUER, algorithm)).status(), 200, "{algorithm:?}");
        let listener = listen(&server, &token(&ISSUER, algorithm));
        assert_eq!(listener.connected.json()["user"], "ann", "{algorithm:?}");
        assert_problem(&history(&server, &token(&STRANGER, algorithm)), 401, "unauthorized");
    }
    assert_problem(&history(&server, &token(&ISSUER, HS256)), 401, "unauthorized");
}

/// An application whose answer can be changed.
fn changeable(first: Reply) -> (Application, Arc<Mutex<Reply>>) {
    let reply = Arc::new(Mutex::new(first));
    let for_application = reply.clone();
    (Application::start(move |_| for_application.lock().expect("no panic").clone()), reply)
}

#[test]
fn a_token_of_a_new_key_has_it_fetched() {
    let (application, reply) = changeable(Reply::With(200, set(&ISSUER, &PUBLISHED[..4])));
    let server = believing(&application, NEVER);
    eventually("keys are there", || ended(&server, "ok") >= 1.0);
    *reply.lock().expect("no panic") = Reply::With(200, set(&ISSUER, &PUBLISHED));
    let new = token(&ISSUER, EdDSA);
    assert_problem(&history(&server, &new), 503, "auth_unavailable");
    eventually("keys are fetched again", || ended(&server, "ok") >= 2.0);
    for algorithm in PUBLISHED {
        assert_eq!(history(&server, &token(&ISSUER, algorithm)).status(), 200, "{algorithm:?}");
    }
}

#[test]
fn keys_stay_while_their_server_fails_and_go_when_it_withdraws_them() {
    let (application, reply) = changeable(Reply::With(200, set(&ISSUER, &[ES256])));
    let server = believing(&application, SOON);
    let (old, new) = (token(&ISSUER, ES256), token(&STRANGER, ES256));
    eventually("keys are there", || ended(&server, "ok") >= 1.0);
    let mut listener = listen(&server, &old);
    for (failure, outcome) in [
        (Reply::With(500, set(&STRANGER, &[ES256])), "status"),
        (Reply::With(200, r#"{"keys":[]}"#.into()), "malformed"),
        (Reply::Raw(Vec::new()), "unreachable"),
    ] {
        *reply.lock().expect("no panic") = failure;
        // The first request may have come before the failure.
        eventually("it fails again and again", || ended(&server, outcome) >= 2.0);
        assert_eq!(history(&server, &old).status(), 200, "{outcome}");
        assert_problem(&history(&server, &new), 401, "unauthorized");
    }
    *reply.lock().expect("no panic") = Reply::With(200, set(&STRANGER, &[ES256]));
    eventually("the other keys are there", || history(&server, &new).status() == 200);
    assert_problem(&history(&server, &old), 401, "unauthorized");
    // Streams opened with the old keys stay open until their tokens end.
    let event = json!({"room": "vip", "data": "still here"}).to_string();
    assert_eq!(server.post("/publish", &[("authorization", &bearer(&new))], event).status(), 200);
    assert_eq!(listener.data(), "still here");
}
