//! Promise: pages of other origins may do what the allow list says and no more; for the server's own pages and for
//! other programs nothing changes.

use crate::common;

use common::application::{Application, Reply};
use common::bearer::{SECRET, bearer, key, token};
use common::conn::request;
use common::{BASE, TestServer, assert_problem};
use serde_json::json;
use tidegate::config::{AddressRange, CorsOrigins, ForeignOrigins, UpstreamUrl, UserOverflow};

const OURS: &str = "https://app.example";
const FOREIGN: &str = "https://evil.example";

/// Headers that pages of other origins may send, if `cors_headers` adds none.
const HEADERS: &str = "authorization, baggage, cache-control, content-type, idempotency-key, last-event-id, sentry-trace, \
                       tidegate-user, traceparent, tracestate, x-requested-with";

/// The kind of page, to a server that lists [`LIST`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Page {
    /// No page, or one that sends no origin.
    None,
    /// A page of the server's own.
    Own,
    /// A page on the list.
    Listed,
    /// Any other page.
    Foreign,
}

const LIST: [&str; 3] = ["https://app.example", "https://app.example:8443", "http://localhost:3000"];

/// Lines of `Origin`, and the kind of page that sends them. `Host` is `localhost`.
const ORIGINS: [(&[&str], Page); 18] = [
    (&[], Page::None),
    (&["http://localhost"], Page::Own),
    (&["http://localhost:80"], Page::Own),
    (&["https://localhost"], Page::Own),
    (&["https://app.example"], Page::Listed),
    (&["https://app.example:8443"], Page::Listed),
    (&["http://localhost:3000"], Page::Listed),
    (&["https://APP.example"], Page::Foreign),
    (&["http://app.example"], Page::Foreign),
    (&["https://app.example:443"], Page::Foreign),
    (&["https://www.app.example"], Page::Foreign),
    (&["https://app.example.evil.example"], Page::Foreign),
    (&["https://evil.example"], Page::Foreign),
    (&["http://localhost:8080"], Page::Foreign),
    (&["null"], Page::Foreign),
    (&[""], Page::Foreign),
    (&["https://app.example, https://evil.example"], Page::Foreign),
    (&["https://app.example", "https://app.example"], Page::Foreign),
];

/// Method, path, body, and the status if the origin does not matter.
const REQUESTS: [(&str, &str, &str, u16); 9] = [
    ("GET", "/info", "", 200),
    ("HEAD", "/info", "", 200),
    ("GET", "/stream/a/u", "", 200),
    ("GET", "/nothing", "", 404),
    ("OPTIONS", "/publish", "", 204),
    ("POST", "/publish", r#"{"room":"a","data":1}"#, 200),
    ("POST", "/publish", r#"{"room":"a"}"#, 422),
    ("POST", "/disconnect/a/nobody", "", 200),
    ("DELETE", "/info", "", 405),
];

#[derive(Clone, Copy, Debug)]
struct Setting {
    list: &'static [&'static str],
    credentials: bool,
    refuse: bool,
}

const SETTINGS: [Setting; 6] = [
    Setting { list: &[], credentials: false, refuse: false },
    Setting { list: &[], credentials: true, refuse: true },
    Setting { list: &LIST, credentials: false, refuse: false },
    Setting { list: &LIST, credentials: true, refuse: false },
    Setting { list: &LIST, credentials: true, refuse: true },
    Setting { list: &["*"], credentials: false, refuse: true },
];

impl Setting {
    fn server(self) -> TestServer {
        let list = self.list.iter().map(|origin| (*origin).to_owned()).collect();
        TestServer::with(|config| {
            let any = self.list == ["*"];
            config.cors_origins = if any { CorsOrigins::Any } else { CorsOrigins::Only(list) };
            config.cors_credentials = self.credentials;
            config.foreign_origins = if self.refuse { ForeignOrigins::Refuse } else { ForeignOrigins::Read };
            config.max_connections_per_user = None;
        })
    }

    /// Returns the expected value of `Access-Control-Allow-Origin`.
    fn allows(self, lines: &[&str], page: Page) -> Option<String> {
        match (self.list, page) {
            (["*"], _) => Some("*".to_owned()),
            ([_, ..], Page::Listed) => Some(lines[0].to_owned()),
            _ => None,
        }
    }

    /// Returns whether a request is refused for its origin.
    fn refuses(self, lines: &[&str], page: Page, method: &str) -> bool {
        let foreign = matches!(page, Page::Listed | Page::Foreign) && self.allows(lines, page).is_none();
        foreign && (self.refuse || matches!(method, "POST" | "DELETE"))
    }

    /// Returns the lines about origins that an answer has, in alphabetical order.
    fn tells(self, lines: &[&str], page: Page, method: &str) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(origin) = self.allows(lines, page) {
            if self.credentials {
                told.push("access-control-allow-credentials: true".to_owned());
            }
            if method == "OPTIONS" {
                told.push(format!("access-control-allow-headers: {HEADERS}"));
                told.push("access-control-allow-methods: POST, OPTIONS".to_owned());
            }
            told.push(format!("access-control-allow-origin: {origin}"));
            told.push("access-control-expose-headers: retry-after, idempotency-replayed".to_owned());
            if method == "OPTIONS" {
                told.push("access-control-max-age: 7200".to_owned());
            }
        }
        if !matches!(self.list, [] | ["*"]) {
            told.push("vary: origin".to_owned());
        }
        told
    }
}

#[test]
fn every_origin_is_told_exactly_what_it_may() {
    for setting in SETTINGS {
        let server = setting.server();
        let (mut refused, mut published) = (0, 0);
        for (lines, page) in ORIGINS {
            for (method, path, body, status) in REQUESTS {
                let what = format!("{setting:?} {lines:?} {method} {path}");
                let headers: Vec<_> = lines.iter().map(|line| ("origin", *line)).collect();
                let mut conn = server.connect();
                conn.send(request(method, &format!("{BASE}{path}"), &headers, body.as_bytes()));
                let head = conn.head();
                let mut told: Vec<String> = head
                    .0
                    .lines()
                    .filter(|line| line.starts_with("access-control-") || line.starts_with("vary:"))
                    .map(str::to_owned)
                    .collect();
                told.sort_unstable();
                if setting.refuses(lines, page, method) {
                    refused += 1;
                    assert_eq!(head.status(), 403, "{what}");
                    // A refusal allows nothing, in a preflight as well.
                    assert_eq!(told, setting.tells(lines, page, "GET"), "{what}");
                } else {
                    published += u32::from(path == "/publish" && status == 200);
                    assert_eq!(head.status(), status, "{what}");
                    assert_eq!(told, setting.tells(lines, page, method), "{what}");
                }
            }
        }
        let metrics = server.metrics();
        metrics.assert("tidegate_refused_total{reason=\"origin\"}", f64::from(refused));
        metrics.assert("tidegate_events_published_total", f64::from(published));
    }
}

fn listed() -> TestServer {
    TestServer::with(|config| config.cors_origins = CorsOrigins::Only(vec![OURS.to_owned()]))
}

fn body() -> String {
    json!({"room": "a", "data": 1}).to_string()
}

#[test]
fn a_listed_origin_may_listen_and_publish() {
    let server = listed();
    let listener = server.listen_with("/stream/a/u", &[("origin", OURS)]);
    assert_eq!(listener.head.header("access-control-allow-origin"), Some(OURS));
    assert_eq!(
        listener.head.header("access-control-expose-headers"),
        Some("retry-after, idempotency-replayed")
    );
    assert_eq!(listener.head.header("vary"), Some("origin"));
    let answer = server.post("/publish", &[("origin", OURS)], body());
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, Some(OURS)));
    // The page may also read why it was refused.
    let refused = server.post("/publish", &[("origin", OURS)], "{}");
    assert_problem(&refused, 422, "target_missing");
    assert_eq!(refused.header("access-control-allow-origin"), Some(OURS));
}

#[test]
fn a_foreign_page_changes_nothing_and_reads_nothing() {
    let server = listed();
    for origin in [FOREIGN, "null", "https://app.example.evil.example", "http://app.example"] {
        for path in ["/publish", "/disconnect/a/u"] {
            let refused = server.post(path, &[("origin", origin)], body());
            assert_problem(&refused, 403, "origin_forbidden");
            assert_eq!(refused.header("access-control-allow-origin"), None);
        }
        let listener = server.listen_with("/stream/a/u", &[("origin", origin)]);
        assert_eq!(listener.head.header("access-control-allow-origin"), None);
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"origin\"}", 8.0);
    metrics.assert("tidegate_events_published_total", 0.0);
}

#[test]
fn preflights_tell_a_listed_origin_what_it_may_send() {
    let server = listed();
    let preflight = |origin: &str, path: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        server.connect().round(&request("OPTIONS", &format!("{BASE}{path}"), &headers, b""))
    };
    let answer = preflight(OURS, "/publish");
    assert_eq!(
        answer.head.without_date(),
        format!(
            "HTTP/1.1 204 No Content\r\n\
             allow: POST, OPTIONS\r\n\
             access-control-allow-methods: POST, OPTIONS\r\n\
             access-control-allow-headers: {HEADERS}\r\n\
             access-control-max-age: 7200\r\n\
             access-control-allow-origin: {OURS}\r\n\
             access-control-expose-headers: retry-after, idempotency-replayed\r\n\
             vary: origin\r\n\
             cache-control: no-store\r\n\
             x-content-type-options: nosniff\r\n\
             date: -\r\n\r\n"
        )
    );
    assert_eq!(preflight(OURS, "/stream/a/u").header("access-control-allow-methods"), Some("GET, OPTIONS"));
    let foreign = preflight(FOREIGN, "/publish");
    assert_eq!(foreign.status(), 204);
    assert!(!foreign.head.0.contains("access-control"), "{}", foreign.head.0);
}

/// Libraries for tracing add headers to every `fetch` of a page. The preflight did not name them, so all of the page's
/// requests failed.
#[test]
fn a_preflight_names_what_libraries_and_the_operator_add() {
    let server = TestServer::with(|config| {
        config.cors_origins = CorsOrigins::Only(vec![OURS.to_owned()]);
        config.cors_headers = ["x-request-id", "baggage"].map(|name| name.parse().expect("a name")).to_vec();
    });
    let asked = "baggage,idempotency-key,sentry-trace,traceparent,tracestate,x-request-id,x-requested-with";
    let headers = [
        ("origin", OURS),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", asked),
    ];
    let answer = server.connect().round(&request("OPTIONS", &format!("{BASE}/publish"), &headers, b""));
    let allowed = answer.header("access-control-allow-headers").expect("it is allowed something");
    assert_eq!(allowed, format!("{HEADERS}, x-request-id"));
    assert!(asked.split(',').all(|name| allowed.split(", ").any(|allowed| allowed == name)));
}

/// Pages of apps and of extensions have origins of their own, which the list once did not accept.
#[test]
fn apps_and_extensions_may_be_listed() {
    const APPS: [&str; 7] = [
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "app://-",
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "moz-extension://8b3ad9e1-0d6f-4bd1-9b0a-5d5b3a1b0c11",
        "null",
    ];
    let server = TestServer::with(|config| {
        config.cors_origins = CorsOrigins::parse(&APPS.join(",")).expect("all of them are origins");
        config.max_connections_per_user = None;
    });
    for origin in APPS {
        let answer = server.post("/publish", &[("origin", origin)], body());
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, Some(origin)));
        let listener = server.listen_with("/stream/a/u", &[("origin", origin)]);
        assert_eq!(listener.head.header("access-control-allow-origin"), Some(origin));
        assert_eq!(listener.head.header("access-control-allow-credentials"), None);
    }
    for origin in ["tauri://localhost:1", "chrome-extension://another", "capacitor://LOCALHOST", "file://"] {
        assert_problem(&server.post("/publish", &[("origin", origin)], body()), 403, "origin_forbidden");
    }
}

#[test]
fn without_a_list_only_our_own_pages_may_publish() {
    // Behind a proxy, because names that resolve to this machine are refused otherwise.
    let server = TestServer::with(|config| {
        config.trusted_proxies = vec![AddressRange::Net("127.0.0.1/32".parse().expect("a network"))];
    });
    let publish = |host: &str, origin: &str| {
        let body = body();
        let head = format!(
            "POST {BASE}/publish HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        server.connect().round(format!("{head}{body}").as_bytes())
    };
    assert_eq!(publish("push.example:8080", "http://push.example:8080").status(), 200);
    // TLS ends at the proxy.
    assert_eq!(publish("push.example", "https://push.example").status(), 200);
    assert_problem(&publish("push.example", FOREIGN), 403, "origin_forbidden");
    assert_problem(&publish("push.example:8080", "http://push.example:9090"), 403, "origin_forbidden");
    // A form post needs no preflight, which is why it is refused here.
    let form = [("origin", FOREIGN), ("content-type", "application/x-www-form-urlencoded")];
    assert_problem(&server.post("/publish", &form, body()), 403, "origin_forbidden");
    // Programs other than pages send no origin.
    assert_eq!(server.post("/publish", &[], body()).status(), 200);
    let listener = server.listen("/stream/a/u");
    assert_eq!(listener.head.header("vary"), None);
}

#[test]
fn a_star_lets_everyone_in() {
    let server = TestServer::with(|config| config.cors_origins = CorsOrigins::Any);
    for origin in [FOREIGN, "null"] {
        let answer = server.post("/publish", &[("origin", origin)], body());
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (200, Some("*")));
        let listener = server.listen_with("/stream/a/u", &[("origin", origin)]);
        assert_eq!(listener.head.header("access-control-allow-origin"), Some("*"));
        assert_eq!(listener.head.header("vary"), None);
    }
}

/// Browsers attach cookies to every request of a page, and the application identifies its visitors by them. Foreign
/// pages once were let in as their visitor, closed the visitor's streams or took the visitor's places.
#[test]
fn a_foreign_page_has_no_use_of_cookies_that_the_application_knows() {
    let application = Application::always(Reply::With(200, r#"{"user":"ann"}"#.into()));
    let server = TestServer::with(|config| {
        config.auth_callback = UpstreamUrl::parse(&application.url("/auth"));
        config.auth_callback_cache = None;
        config.token_keys = vec![key(SECRET)];
        config.max_connections_per_user = Some(1);
        config.user_overflow = UserOverflow::Replace;
        config.cors_origins = CorsOrigins::Only(vec![OURS.to_owned()]);
        config.cors_credentials = true;
    });
    let cookie = ("cookie", "session=ann");
    let mut own = server.listen_with("/stream?room=a", &[cookie, ("sec-fetch-site", "same-origin")]);
    let foreign: [&[(&str, &str)]; 5] = [
        &[("origin", FOREIGN), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", FOREIGN)],
        &[("origin", "null")],
    ];
    for signs in foreign {
        let headers = [&[cookie, ("accept", "text/event-stream")], signs].concat();
        let stream = request("GET", &format!("{BASE}/stream?room=a"), &headers, b"");
        assert_problem(&server.connect().round(&stream), 403, "origin_forbidden");
    }
    assert_eq!(application.count(), 1, "nor is the application asked");
    server.metrics().assert("tidegate_refused_total{reason=\"origin\"}", 5.0);
    let publisher = bearer(&token("app", &["sse:publish"]));
    let event = json!({"user": "ann", "data": "still here"}).to_string();
    assert_eq!(server.post("/publish", &[("authorization", &publisher)], event).status(), 200);
    assert_eq!(own.data(), "still here");

    // A page that may use cookies does so.
    let listed = [cookie, ("origin", OURS), ("sec-fetch-site", "same-site")];
    assert_eq!(server.listen_with("/stream?room=a", &listed).connected.json()["user"], "ann");
    own.closing("replaced");
}
