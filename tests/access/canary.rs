//! Promise: a credential or a part of a secret setting appears in no output: not in a log of any level, a metric, the
//! live page, an answer or an error. The test sends known secrets and searches everything the program puts out for
//! them.

use crate::common;

use std::io::Read as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use common::application::{Application, Asked, Reply};
use common::bearer::{FOREIGN_SECRET, SECRET, TempFile, api_key_entry, bearer, key_text, now, sign};
use common::conn::{Conn, request};
use common::process::{Process, command};
use common::stream::Listener;
use common::{BASE, assert_problem, eventually};
use serde_json::json;
use tidegate::auth::api_keys;

/// The value of a header that every request must have.
const HEADER_SECRET: &str = "canary-of-the-required-header";

/// A credential that is no token at all.
const NONSENSE: &str = "canary-that-is-no-token";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// All the secrets that must not appear in any output.
struct Canaries {
    good: String,
    expired: String,
    foreign: String,
    key: String,
    unknown_key: String,
}

impl Canaries {
    fn new() -> Self {
        let token = |secret, exp| {
            let permissions = ["sse:read", "sse:publish", "sse:members", "admin"];
            sign(secret, &json!({"sub": "ann", "exp": exp, "iat": now(), "permissions": permissions}))
        };
        Self {
            good: token(SECRET, now() + 900),
            expired: token(SECRET, now() - 900),
            foreign: token(FOREIGN_SECRET, now() + 900),
            key: api_keys::generate(),
            unknown_key: api_keys::generate(),
        }
    }

    /// Returns the secrets that a peer may send, each in the form it would be sent.
    fn shown(&self) -> [&str; 6] {
        [&self.good, &self.expired, &self.foreign, &self.key, &self.unknown_key, NONSENSE]
    }

    /// Returns the texts that must not appear, parts included: a token's signature is as good as the whole token to a
    /// reader who saw the rest.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![HEADER_SECRET.to_owned(), SECRET.to_owned(), FOREIGN_SECRET.to_owned()];
        for text in [SECRET, FOREIGN_SECRET, HEADER_SECRET] {
            secrets.extend([STANDARD_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(text)]);
        }
        for token in [&self.good, &self.expired, &self.foreign] {
            // The header is the same for all tokens.
            secrets.extend(token.split('.').skip(1).map(str::to_owned));
        }
        secrets.extend([&self.key, &self.unknown_key].map(|key| key["tgk_".len()..].to_owned()));
        secrets.push(NONSENSE.to_owned());
        secrets
    }

    #[track_caller]
    fn assert_not_in(&self, what: &str, text: &str) {
        for secret in self.secrets() {
            assert!(!text.contains(&secret), "{secret} in {what}: {text}");
        }
    }
}

/// Returns all that a connection carries until the server closes it, or up to the first event of a stream.
fn all_of(process: &Process, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut conn = Conn::tcp(process.addr);
    let headers = [&[("accept", "text/event-stream"), ("x-proxy", HEADER_SECRET)], headers].concat();
    conn.send(request(method, path, &headers, body.as_bytes()));
    let head = conn.head();
    let body = if head.header("transfer-encoding").is_some() {
        conn.take_until(b"\n\n").expect("the first event")
    } else {
        let length = head.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        conn.take(length).expect("the whole body")
    };
    head.0 + &String::from_utf8_lossy(&body)
}

const ROUTES: [(&str, &str, &str); 14] = [
    ("GET", "/stream/vip/ann", ""),
    ("GET", "/stream?room=vip&user=bob", ""),
    ("GET", "/stream?room=", ""),
    ("POST", "/publish", r#"{"room":"vip","data":"x"}"#),
    ("POST", "/publish", "{"),
    ("POST", "/disconnect/vip/ann?stay_away=0", ""),
    ("POST", "/refresh", ""),
    ("POST", "/refresh", "x"),
    ("POST", "/revoke", r#"{"user":"nobody"}"#),
    ("GET", "/info", ""),
    ("GET", "/rooms/vip", ""),
    ("GET", "/rooms/vip/history", ""),
    ("DELETE", "/info", ""),
    ("GET", "/nowhere", ""),
];

/// Sends every secret, in every place where one can be sent, on every route.
fn show_all(process: &Process, canaries: &Canaries) -> String {
    let mut answers = String::new();
    for secret in canaries.shown() {
        let cookie = format!("t={secret}");
        let places: [(&str, Vec<(&str, String)>); 8] = [
            ("", vec![("authorization", bearer(secret))]),
            // The application judges these two.
            ("", vec![("authorization", format!("Basic {secret}"))]),
            ("", vec![("cookie", format!("other={secret}"))]),
            ("", vec![("cookie", cookie.clone())]),
            ("", vec![("cookie", format!("other={secret}; {cookie}; {cookie}"))]),
            ("", vec![("cookie", cookie), ("origin", "https://evil.example".into())]),
            (secret, vec![]),
            (secret, vec![("authorization", bearer(secret)), ("user-agent", "curl".into())]),
        ];
        for (query, headers) in &places {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            for (method, path, body) in ROUTES {
                let joint = if path.contains('?') { "&" } else { "?" };
                let path =
                    if query.is_empty() { path.to_owned() } else { format!("{path}{joint}token={query}") };
                answers += &all_of(process, method, &format!("{BASE}{path}"), &headers, body);
            }
        }
    }
    // A request that is not HTTP, and one without the header.
    let mut broken = Conn::tcp(process.addr);
    broken.send(format!(
        "GET {BASE}/info?token={} HTTP/1.1\r\nhost: a b\r\ncookie: t={NONSENSE}\r\n\r\n",
        canaries.good
    ));
    let refused = broken.response();
    assert_eq!(refused.status(), 400);
    answers += &(refused.head.0.clone() + &refused.text());
    let wrong = [("x-proxy", NONSENSE), ("authorization", &*bearer(&canaries.good))];
    let refused = Conn::tcp(process.addr).round(&request("GET", &format!("{BASE}/info"), &wrong, b""));
    assert_eq!(refused.status(), 403);
    answers + &refused.head.0 + &refused.text()
}

/// Returns what the admin listener shows: metrics, the live page, and the first figures of its stream.
fn admin(process: &Process) -> String {
    let mut all = String::new();
    for path in ["/metrics", "/dashboard", "/readyz", "/livez"] {
        let path = format!("{path}?token={NONSENSE}");
        let answer = Conn::tcp(process.admin).round(&request(
            "GET",
            &path,
            &[("cookie", &format!("t={NONSENSE}"))],
            b"",
        ));
        all += &answer.head.0;
        all += &answer.text();
    }
    let mut conn = Conn::tcp(process.admin);
    conn.send(request("GET", "/dashboard/stream", &[("accept", "text/event-stream")], b""));
    let mut figures = Listener::answered(conn);
    assert_eq!(figures.head.status(), 200, "{}", figures.head.0);
    all + &figures.head.0 + &figures.events(2).concat()
}

/// An application that repeats the request where it should answer, or allows everything.
fn careless() -> Application {
    Application::start(|asked| match asked.header("authorization") {
        Some(shown) => Reply::With(200, format!("{{\"user\": {shown}")),
        None => Reply::With(200, String::new()),
    })
}

/// Returns whether `asked` is a question to decide; if not, it is a notice.
fn is_question(asked: &Asked) -> bool {
    asked.line == "POST /auth"
}

/// Returns what the application was told, without what it needs in order to decide.
fn told(asked: &Asked) -> String {
    let is_shown = |name: &&String| is_question(asked) && matches!(&***name, "authorization" | "cookie");
    let headers = asked.headers.iter().filter(|(name, _)| !is_shown(name));
    format!("{} {:?} {}", asked.line, headers.collect::<Vec<_>>(), String::from_utf8_lossy(&asked.body))
}

/// The program's settings, with secrets in a file and in the environment.
struct Settings {
    text: String,
    file: TempFile,
    _keys: TempFile,
    env: [(&'static str, String); 1],
}

impl Settings {
    fn new(canaries: &Canaries, more: &str) -> Self {
        let keys =
            TempFile::new(&api_key_entry("app", &canaries.key, &["sse:publish", "sse:read:other"], ""));
        let text = format!(
            "token_keys = [{:?}]\ntoken_cookie = \"t\"\ntoken_query = \"on\"\napi_keys_file = {:?}\n{more}",
            key_text(SECRET),
            keys.text()
        );
        let required = format!("x-proxy={HEADER_SECRET}");
        let file = TempFile::new(&text);
        Self { text, file, _keys: keys, env: [("TIDEGATE_REQUIRED_HEADERS", required)] }
    }

    fn env(&self) -> Vec<(&str, &str)> {
        self.env.iter().map(|(key, value)| (*key, &**value)).collect()
    }
}

/// Makes the program read its settings again: once when they are right, and then in wrong forms that contain a secret.
fn reload(process: &Process, settings: &Settings, level: &str) {
    settings.file.write(&format!("{}foreign_origins = \"refuse\"\n", settings.text));
    process.signal("-HUP");
    // Not every level logs the reload.
    let headers = [("origin", "https://evil.example"), ("x-proxy", HEADER_SECRET)];
    let info = request("GET", &format!("{BASE}/info"), &headers, b"");
    eventually("the settings are taken over", || {
        let answer = Conn::tcp(process.addr).round(&info);
        let is_taken = answer.status() == 403;
        assert_problem(&answer, answer.status(), if is_taken { "origin_forbidden" } else { "unauthorized" });
        is_taken
    });
    if level == "off" {
        return;
    }
    for wrong in [
        format!("token_keys = [{SECRET:?}]\n"),
        format!("token_keys = [{:?}, {SECRET}]\n", key_text(SECRET)),
        format!("{}required_headers = [\"x y={HEADER_SECRET}\"]\n", settings.text),
    ] {
        settings.file.write(&wrong);
        process.reload("the settings stay as they were");
    }
}

#[test]
fn no_secret_is_found_in_anything_that_is_put_out() {
    for level in LEVELS {
        for format in ["text", "json"] {
            let canaries = Canaries::new();
            let application = careless();
            let asked = format!(
                "auth_callback = {:?}\nauth_callback_cache = \"0\"\ndisconnect_callback = {:?}\n",
                application.url("/auth"),
                application.url("/gone")
            );
            let settings = Settings::new(&canaries, &asked);
            let args = ["--config", settings.file.text(), "--log-level", level, "--log-format", format];
            let process = Process::start(&args, &settings.env());
            let answers = show_all(&process, &canaries);
            canaries.assert_not_in("an answer", &answers);
            assert!(
                answers.contains(" 200 ") && answers.contains(" 401 ") && answers.contains("token_ambiguous")
            );
            canaries.assert_not_in("what the admin listener shows", &admin(&process));
            reload(&process, &settings, level);
            let printed = process.end();
            canaries.assert_not_in("what was printed", &printed);
            let (questions, news): (Vec<Asked>, Vec<Asked>) =
                application.asked().into_iter().partition(is_question);
            for secret in canaries.shown() {
                let is_shown = |asked: &Asked| {
                    let by_header = asked.header("authorization").is_some_and(|text| text.contains(secret));
                    by_header || asked.header("cookie").is_some_and(|text| text.contains(secret))
                };
                assert!(questions.iter().any(is_shown), "{secret} is passed on to whom it is for");
            }
            assert!(!news.is_empty(), "streams that ended are told");
            for asked in questions.iter().chain(&news) {
                canaries.assert_not_in("what the application is told", &told(asked));
            }
            let is_talkative = printed.contains("request refused");
            assert_eq!(is_talkative, matches!(level, "debug" | "trace"), "{level} {format}: {printed}");
        }
    }
}

/// Runs the program with these arguments and variables to its end, and returns its output.
fn said(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut child = command(args)
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    child.wait().expect("our child");
    assert!(!said.is_empty());
    said
}

#[test]
fn settings_are_told_and_blamed_without_their_secrets() {
    let canaries = Canaries::new();
    let settings = Settings::new(&canaries, "");
    let check = ["--config", settings.file.text(), "--check-config"];
    let summary = said(&check, &settings.env());
    assert!(summary.contains("HS256:base64:***") && summary.contains("x-proxy=***"), "{summary}");
    canaries.assert_not_in("the summary", &summary);

    let (short, twice) =
        (format!("HS256:base64:{}", STANDARD.encode(NONSENSE)), format!("{0},{0}", key_text(SECRET)));
    let public = format!("RS256:base64:{}", STANDARD.encode(SECRET));
    for (key, value) in [
        ("TIDEGATE_TOKEN_KEYS", &*short),
        ("TIDEGATE_TOKEN_KEYS", &*twice),
        ("TIDEGATE_TOKEN_KEYS", &*public),
        ("TIDEGATE_TOKEN_KEYS", SECRET),
        ("TIDEGATE_TOKEN_KEYS", &*format!("{} x", key_text(SECRET))),
        ("TIDEGATE_REQUIRED_HEADERS", &*format!("x y={HEADER_SECRET}")),
        ("TIDEGATE_REQUIRED_HEADERS", &*format!("x={HEADER_SECRET},x={HEADER_SECRET}")),
    ] {
        // The short key is found when it is used.
        let wrong = said(&["--listen=127.0.0.1:0", "--admin-listen=off"], &[(key, value)]);
        assert!(!wrong.contains("is listening"), "{value}: {wrong}");
        canaries.assert_not_in("an error", &wrong);
    }
    for text in [
        format!("token_keys = {:?}\n", key_text(SECRET)),
        format!("token_keys = [{:?}\n", key_text(SECRET)),
        format!("token_keys = [{:?}, 1]\n", key_text(SECRET)),
        format!("token_keys = [{SECRET}]\n"),
        format!("token_keys = {{ a = {SECRET:?} }}\n"),
        format!("required_headers = [\"x={HEADER_SECRET}\"\n"),
        format!("required_headers = \"x y={HEADER_SECRET}\"\n"),
    ] {
        let file = TempFile::new(&text);
        let wrong = said(&["--config", file.text(), "--check-config"], &[]);
        canaries.assert_not_in("an error", &wrong);
    }
    let keys = TempFile::new(&format!("[app]\nhash = {:?}\npermissions = []\n", canaries.key));
    let by_file = format!("--api-keys-file={}", keys.text());
    let wrong = said(&["--listen=127.0.0.1:0", "--admin-listen=off", &by_file], &[]);
    assert!(wrong.contains("[app] hash"), "{wrong}");
    canaries.assert_not_in("an error", &wrong);
}
