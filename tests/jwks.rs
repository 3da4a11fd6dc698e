//! Promise: keys from a URL are there soon after the start, stay current, and are never lost to a server that fails.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::auth::jwks::JWKS_BYTES_MAX;
use tidegate::config::{Config, JwksSource, UpstreamUrl};
use tidegate::hub::position::Epoch;
use tidegate::server::clock::Clock;
use tidegate::upstream::jwks::{JWKS_AGAIN_MIN, KeySets, KeySource};
use tidegate::upstream::stats::{Kind, Outcome};
use tidegate::upstream::{Running, Upstream};
use tokio::sync::Notify;

use self::common::application::{Application, Reply};
use self::common::{TestServer, config, eventually};

/// Takes any body but `bad`.
struct Keys {
    url: UpstreamUrl,
    put: Arc<Mutex<Vec<String>>>,
    wanted: Notify,
}

impl KeySets for Keys {
    fn sources(&self) -> Vec<KeySource> {
        let put = self.put.clone();
        let take = move |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if text == "bad" {
                return Err("not a set of keys".to_owned());
            }
            put.lock().expect("no panic").push(text);
            Ok(())
        };
        vec![KeySource { url: self.url.clone(), put: Box::new(take) }]
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
        self.upstream.stats.requests(Kind::Jwks, outcome)
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
        // Twice: it does not give up either.
        eventually("it fails", || fetching.count(outcome) >= 2);
        assert_eq!(fetching.put(), [""; 0], "{outcome:?}");
    }
}

#[test]
fn keys_never_come_in_the_clear_from_afar() {
    let fetching = Fetching::from("http://idp.example/jwks.json", SOON);
    eventually("it is refused", || fetching.count(Outcome::Unreachable) >= 1);
}

/// Anyone can send tokens with keys that nobody knows.
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
