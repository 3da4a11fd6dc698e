//! Promise: the application decides about access, gets no more questions at once than configured, and no action or
//! failure of it gives access that it did not grant.

mod common;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tidegate::config::{Config, UpstreamUrl};
use tidegate::rights::grant::Action;
use tidegate::types::clock::Clock;
use tidegate::types::name::{RoomName, UserName};
use tidegate::types::position::Epoch;
use tidegate::upstream::answer::ANSWER_BYTES_MAX;
use tidegate::upstream::callback::{Callback, QUESTIONS_MAX};
use tidegate::upstream::client::ClientError;
use tidegate::upstream::publishing::{self, Budget, Unheard};
use tidegate::upstream::question::Question;
use tidegate::upstream::stats::{Outcome, Purpose};
use tidegate::upstream::{Denied, Running, Upstream};

use self::common::application::{Application, Reply};
use self::common::bearer::TempFile;
use self::common::{PATIENCE, config};

/// The upstream thread without a server around it.
struct Asking {
    upstream: Upstream,
    running: Option<Running>,
}

impl Asking {
    fn of(url: &str) -> Self {
        Self::with(url, |_| {})
    }

    fn with(url: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = settings(url);
        change(&mut config);
        let (upstream, work) =
            Upstream::prepare(&config, None, Clock::start(), Epoch::new(1)).expect("certificates");
        let running = work.expect("there is something to do").start().expect("a thread");
        Self { upstream, running: Some(running) }
    }

    fn callback(&self) -> &Callback {
        self.upstream.callback.as_ref().expect("a callback is set")
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.upstream.stats.requests(Purpose::Callback, outcome)
    }
}

fn settings(url: &str) -> Config {
    Config {
        auth_callback: Some(UpstreamUrl::parse(url).expect("a URL")),
        auth_callback_timeout: PATIENCE,
        auth_callback_cache: None,
        ..config()
    }
}

fn question(user: &str) -> Question {
    question_with(user, &[])
}

fn question_with(user: &str, headers: &[(&str, &str)]) -> Question {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    Question {
        user: Some(UserName::new(user).expect("a user")),
        rooms: vec![RoomName::new("lobby").expect("a room")],
        address: None,
        last_event_id: None,
        credentials: Question::credentials(&map, None).expect("a header can hold it"),
    }
}

fn yes() -> Reply {
    Reply::With(200, "{}".into())
}

#[tokio::test]
async fn the_application_is_asked_with_the_listeners_own_credentials() {
    let application = Application::always(yes());
    let asking = Asking::of(&application.url("/auth?v=1"));
    let headers = [("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "Bearer t"), ("x-role", "root")];
    let identity = asking.callback().ask(question_with("me", &headers), |_| true).await.expect("a yes");
    assert_eq!(identity.user(), Some("me"));
    assert!(identity.allows(Action::Read("lobby")) && !identity.allows(Action::Read("attic")));

    let asked = &application.asked()[0];
    assert_eq!(asked.line, "POST /auth?v=1");
    assert_eq!(asked.json(), json!({"user": "me", "rooms": ["lobby"], "address": null}));
    assert_eq!(asked.headers["cookie"], ["a=1", "b=2"]);
    assert_eq!(asked.header("authorization"), Some("Bearer t"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("user-agent"), Some(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(asked.header("x-role"), None);
    assert_eq!(asking.count(Outcome::Ok), 1);
}

#[tokio::test]
async fn a_refusal_is_passed_on_as_it_is() {
    for (status, denied) in [(401, Denied::Unauthorized), (403, Denied::Forbidden)] {
        let application = Application::always(Reply::With(status, "no".into()));
        let asking = Asking::of(&application.url("/"));
        assert_eq!(asking.callback().ask(question("me"), |_| true).await, Err(denied));
        assert_eq!(asking.count(Outcome::Refused), 1);
    }
}

#[tokio::test]
async fn nothing_but_a_yes_lets_anyone_in() {
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let huge = "x".repeat(ANSWER_BYTES_MAX + 1);
    let chunked =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{huge}\r\n", huge.len());
    let headers = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(1000));
    let cases = [
        (Reply::With(500, "{}".into()), Outcome::Status),
        (Reply::With(301, String::new()), Outcome::Status),
        (Reply::With(307, String::new()), Outcome::Status),
        (Reply::With(404, String::new()), Outcome::Status),
        (Reply::With(200, "<html>log in</html>".into()), Outcome::Malformed),
        (Reply::With(200, r#"{"allow":true}"#.into()), Outcome::Malformed),
        (Reply::With(200, huge), Outcome::Malformed),
        (raw(&chunked), Outcome::Malformed),
        (raw(&headers), Outcome::Malformed),
        (raw("\0\u{1}garbage\r\n\r\n"), Outcome::Malformed),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n{}"), Outcome::Malformed),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}"), Outcome::Unreachable),
        (raw("HTTP/1.1 200 OK\r\nconte"), Outcome::Unreachable),
        (raw(""), Outcome::Unreachable),
    ];
    for (reply, outcome) in cases {
        let application = Application::always(reply.clone());
        let asking = Asking::of(&application.url("/auth"));
        assert_eq!(asking.callback().ask(question("me"), |_| true).await, Err(Denied::Down), "{reply:?}");
        assert_eq!(asking.count(outcome), 1, "{reply:?}: {:?}", asking.upstream.stats);
        assert!(
            application.asked().iter().all(|asked| asked.line == "POST /auth"),
            "no redirect is followed"
        );
    }
}

#[tokio::test]
async fn an_application_that_is_not_there_is_down() {
    // No test listens on this port.
    let asking = Asking::of("http://127.0.0.1:1/");
    assert_eq!(asking.callback().ask(question("me"), |_| true).await, Err(Denied::Down));
    assert_eq!(asking.count(Outcome::Unreachable), 1);
}

#[tokio::test]
async fn an_application_that_takes_too_long_is_down() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let asking = Asking::with(&application.url("/"), |config| {
        config.auth_callback_timeout = Duration::from_millis(50);
    });
    assert_eq!(asking.callback().ask(question("me"), |_| true).await, Err(Denied::Down));
    assert_eq!(asking.count(Outcome::Timeout), 1);
}

/// The application closes a connection that it said it would keep, just as the next question is on its way.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nobody_his_stream() {
    let count = AtomicUsize::new(0);
    let application = Application::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        1 => Reply::Raw(Vec::new()),
        _ => yes(),
    });
    let asking = Asking::of(&application.url("/"));
    for (user, asked) in [("first", 1), ("second", 3)] {
        let verdict = asking.callback().ask(question(user), |_| true).await;
        assert!(verdict.is_ok(), "{user}: {verdict:?}");
        assert_eq!(application.count(), asked);
    }
    assert_eq!((asking.count(Outcome::Ok), asking.count(Outcome::Unreachable)), (2, 0));
}

#[tokio::test]
async fn no_more_are_asked_at_once_than_was_agreed() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let asking = Asking::with(&application.url("/"), |config| config.auth_callback_concurrency = 4);
    let asked: Vec<_> = (0..20).map(|user| ask(&asking, question(&user.to_string()))).collect();
    until("four are asked", || application.under_way().0 == 4).await;
    application.release();
    for asked in asked {
        assert!(asked.await.expect("no panic").is_ok());
    }
    assert_eq!((application.count(), application.under_way().1), (20, 4));
}

/// Asks from another task.
fn ask(asking: &Asking, question: Question) -> tokio::task::JoinHandle<tidegate::upstream::Verdict> {
    let callback = asking.callback().clone();
    tokio::spawn(async move { callback.ask(question, |_| true).await })
}

/// Waits for all earlier tasks: tasks run in their order.
async fn all_wait() {
    tokio::spawn(async {}).await.expect("no panic");
}

/// Polls until `condition` holds, while other tasks go on.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let looking = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn the_queue_is_bounded_and_the_next_is_told_so() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let asking = Asking::with(&application.url("/"), |config| config.auth_callback_concurrency = 1);
    let mut asked = vec![ask(&asking, question("first"))];
    until("the first is asked", || application.under_way().0 == 1).await;
    asked.extend((0..QUESTIONS_MAX).map(|user| ask(&asking, question(&user.to_string()))));
    all_wait().await;
    assert_eq!(asking.callback().ask(question("last"), |_| true).await, Err(Denied::Busy));
    assert_eq!(asking.count(Outcome::Busy), 1);
    // A question that equals a waiting one is not refused.
    let same = ask(&asking, question("7"));
    all_wait().await;
    application.release();
    for asked in asked {
        assert!(asked.await.expect("no panic").is_ok());
    }
    assert!(same.await.expect("no panic").is_ok());
    assert_eq!(application.count(), 1 + QUESTIONS_MAX);
}

/// As many bytes as anyone wants.
struct Plenty;

impl Budget for Plenty {
    fn hold(&mut self, _: usize) -> bool {
        true
    }
}

#[tokio::test]
async fn the_queue_of_questions_about_events_is_bounded() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let asking = Asking::with(&application.url("/"), |config| {
        config.publish_callback = config.auth_callback.take();
        config.publish_callback_timeout = PATIENCE;
        config.auth_callback_concurrency = 1;
    });
    let publishing = asking.upstream.publishing.as_ref().expect("a callback is set");
    let ask = |n: usize| {
        let publishing = publishing.clone();
        tokio::spawn(async move {
            let data = n.to_string();
            let question = publishing::Question { user: None, room: "lobby", event: None, data: &data };
            publishing.ask(&question, 1 << 10, Box::new(Plenty)).await.map(|_| ())
        })
    };
    let mut asked = vec![ask(0)];
    until("the first is asked", || application.under_way().0 == 1).await;
    asked.extend((1..=publishing::QUESTIONS_MAX).map(ask));
    all_wait().await;
    assert_eq!(ask(9999).await.expect("no panic"), Err(Unheard::NoAnswer));
    assert_eq!(asking.upstream.stats.requests(Purpose::Publish, Outcome::Busy), 1);
    application.release();
    for asked in asked {
        assert_eq!(asked.await.expect("no panic"), Ok(()));
    }
    assert_eq!((application.count(), application.under_way().1), (1 + publishing::QUESTIONS_MAX, 1));
}

#[tokio::test]
async fn equal_questions_at_once_are_asked_once() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let asking = Asking::of(&application.url("/"));
    let asked: Vec<_> = (0..100).map(|_| ask(&asking, question_with("me", &[("cookie", "s=1")]))).collect();
    let other = ask(&asking, question_with("me", &[("cookie", "s=2")]));
    until("both are asked", || application.under_way().0 == 2).await;
    application.release();
    for asked in asked.into_iter().chain([other]) {
        assert!(asked.await.expect("no panic").is_ok());
    }
    assert_eq!(application.count(), 2);
    // Without a cache the next question goes to the application.
    asking.callback().ask(question_with("me", &[("cookie", "s=1")]), |_| true).await.expect("a yes");
    assert_eq!(application.count(), 3);
}

#[tokio::test]
async fn decisions_are_kept_and_failures_are_not() {
    for (status, asked) in [(200, 1), (401, 1), (403, 1), (500, 2)] {
        let application = Application::always(Reply::With(status, String::new()));
        let asking =
            Asking::with(&application.url("/"), |config| config.auth_callback_cache = Some(PATIENCE));
        let first = asking.callback().ask(question_with("me", &[("cookie", "s=1")]), |_| true).await;
        assert_eq!(asking.callback().ask(question_with("me", &[("cookie", "s=1")]), |_| true).await, first);
        assert_eq!(application.count(), asked, "{status}");
        // An answer to another question is never used.
        let _ = asking.callback().ask(question_with("me", &[("cookie", "s=2")]), |_| true).await;
        let _ = asking.callback().ask(question_with("you", &[("cookie", "s=1")]), |_| true).await;
        assert_eq!(application.count(), asked + 2, "{status}");
    }
}

#[tokio::test]
async fn a_question_nobody_waits_for_is_not_sent() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let asking = Asking::with(&application.url("/"), |config| config.auth_callback_concurrency = 1);
    let first = ask(&asking, question("first"));
    until("the first is asked", || application.under_way().0 == 1).await;
    let left = ask(&asking, question("left"));
    let last = ask(&asking, question("last"));
    all_wait().await;
    left.abort();
    assert!(left.await.expect_err("was given up").is_cancelled());
    application.release();
    assert!(first.await.expect("no panic").is_ok() && last.await.expect("no panic").is_ok());
    let users: Vec<_> = application.asked().iter().map(|asked| asked.json()["user"].clone()).collect();
    assert_eq!(users, ["first", "last"]);
}

#[tokio::test]
async fn whoever_waits_at_the_end_is_told() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let mut asking = Asking::with(&application.url("/"), |config| config.auth_callback_concurrency = 1);
    let asked = [ask(&asking, question("under way")), ask(&asking, question("in the queue"))];
    until("the first is asked", || application.under_way().0 == 1).await;
    asking.running.take().expect("running").end(Duration::ZERO).expect("no panic");
    for asked in asked {
        assert_eq!(asked.await.expect("no panic"), Err(Denied::Down));
    }
    assert_eq!(asking.callback().ask(question("late"), |_| true).await, Err(Denied::Down));
}

/// A certificate authority of its own, and a server of it.
fn authority() -> (String, rustls::ServerConfig) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    (authority.pem(), tls)
}

#[tokio::test]
async fn tls_is_checked_against_the_certificates_that_are_trusted() {
    let (pem, tls) = authority();
    let application = Application::with_tls(tls, |_| yes());
    let url = format!("https://{}/auth", application.addr);
    // The client does not trust its authority.
    let (others, _) = authority();
    for pem in [None, Some(others)] {
        let trusted = pem.as_deref().map(TempFile::new);
        let asking = Asking::with(&url, |config| {
            config.upstream_ca_file = trusted.as_ref().map(|file| file.path().to_owned());
        });
        assert_eq!(asking.callback().ask(question("me"), |_| true).await, Err(Denied::Down));
        assert_eq!((asking.count(Outcome::Unreachable), application.count()), (1, 0));
    }
    let trusted = TempFile::new(&pem);
    let asking = Asking::with(&url, |config| config.upstream_ca_file = Some(trusted.path().to_owned()));
    assert!(asking.callback().ask(question("me"), |_| true).await.is_ok());
    assert_eq!(application.count(), 1);
    // The certificate is for another name.
    let url = format!("https://localhost:{}/auth", application.addr.port());
    let asking = Asking::with(&url, |config| config.upstream_ca_file = Some(trusted.path().to_owned()));
    assert_eq!(asking.callback().ask(question("me"), |_| true).await, Err(Denied::Down));
    assert_eq!(application.count(), 1);
}

#[test]
fn a_file_without_certificates_keeps_the_server_from_starting() {
    let prepare = |path: std::path::PathBuf| {
        let config = Config { upstream_ca_file: Some(path), ..settings("https://127.0.0.1/") };
        Upstream::prepare(&config, None, Clock::start(), Epoch::new(1)).err()
    };
    let absent = prepare("/nonexistent/ca.pem".into()).expect("no file");
    assert!(matches!(absent, ClientError::File(..)), "{absent}");
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "no certificate", bad] {
        let file = TempFile::new(text);
        let err = prepare(file.path().to_owned()).unwrap_or_else(|| panic!("{text:?} is taken"));
        assert!(matches!(err, ClientError::Certificates(_) | ClientError::Tls(_)), "{err}");
    }
}

#[test]
fn nothing_runs_where_nobody_is_asked() {
    let (upstream, work) =
        Upstream::prepare(&config(), None, Clock::start(), Epoch::new(1)).expect("nothing");
    assert!(work.is_none() && upstream.callback.is_none() && upstream.notices.is_none());
}

/// Everything that the process logs, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_shows_credentials_or_what_is_said() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    subscriber.with_writer(move || writer.clone()).init();
    let headers = [("cookie", "s=canary"), ("authorization", "Bearer canary")];
    for body in ["{}", r#"{"permissions":["sse:canary"]}"#, r#"{"canary":1}"#, "canary"] {
        let application = Application::always(Reply::With(200, body.into()));
        let asking = Asking::of(&application.url("/auth?key=canary"));
        let _ = asking.callback().ask(question_with("me", &headers), |_| true).await;
        assert_eq!(application.count(), 1);
    }
    let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    assert!(text.contains("the application was asked") && text.contains("is invalid"), "{text}");
    let line = text.lines().find(|line| line.contains("canary"));
    assert_eq!(line, None);
}
