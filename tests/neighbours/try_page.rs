//! Promise: a user who opens the server's address in a browser can try it there, in Chromium and in Firefox; data that
//! other users publish stays text; other clients get a text; and a server with authentication serves the page only if
//! the settings say so.
//!
//! The welcome once gave a line of JavaScript that worked in the console of one page only. From a file, another port,
//! `about:blank` and the live page it failed, without a message.

use crate::common::{self, browser::either, neighbours};

use common::conn::{Conn, Response, request};
use common::{BASE, TestServer, assert_problem, bearer};
use serde_json::{Value, json};
use tidegate::config::{ForeignOrigins, TryPage};

use self::either::{Browser, Kind};
use self::neighbours::Server;

/// The headers that Firefox sends when an address is opened.
const BROWSER: &[(&str, &str)] = &[
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en"),
    ("sec-fetch-site", "none"),
];

const FILES: [(&str, &str); 3] = [
    ("/try/style.css", "text/css; charset=utf-8"),
    ("/try/try.js", "text/javascript; charset=utf-8"),
    ("/try/icon.svg", "image/svg+xml"),
];

fn ask(server: &TestServer, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    Conn::tcp(server.addr).round(&request(method, path, headers, b""))
}

fn authenticating(try_page: TryPage) -> TestServer {
    TestServer::with(|config| {
        config.token_keys = vec![bearer::key(bearer::SECRET)];
        config.try_page = try_page;
    })
}

#[track_caller]
fn assert_text(answer: &Response, version: &str) {
    let text = format!(
        "Tidegate{version}\n\nlisten   GET  {BASE}/stream/ROOM/USER\npublish  POST {BASE}/publish\nstate    GET  {BASE}/info\n"
    );
    assert_eq!((answer.status(), answer.text()), (200, text));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("vary"), Some("accept"));
}

#[track_caller]
fn assert_page(answer: &Response, base: &str, token: &str, version: &str) {
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("vary"), Some("accept"));
    let body = format!(
        r#"<body data-state="idle" data-base="{base}" data-token="{token}" data-version="{version}">"#
    );
    assert!(answer.text().contains(&body), "{body} in {}", answer.text());
    assert!(!answer.text().contains(['{', '}']), "nothing is left to fill in");
}

const VERSION: &str = concat!(" ", env!("CARGO_PKG_VERSION"));

#[test]
fn a_browser_gets_the_page_and_everyone_else_the_text() {
    let server = TestServer::start();
    assert_page(&ask(&server, "GET", "/", BROWSER), "api/v1/sse", "none", VERSION.trim());
    for accept in [&[][..], &[("accept", "*/*")], &[("accept", "application/json, text/plain, */*")]] {
        assert_text(&ask(&server, "GET", "/", accept), VERSION);
    }
    // The same heads, without a body.
    for headers in [BROWSER, &[]] {
        let [get, head] = ["GET", "HEAD"].map(|method| {
            let mut conn = server.connect();
            conn.send(request(method, "/", headers, b""));
            conn.head()
        });
        for name in ["content-type", "content-length", "vary", "content-security-policy", "cache-control"] {
            assert_eq!(get.header(name), head.header(name), "{name}");
        }
    }
    let mut conn = server.connect();
    conn.send([request("HEAD", "/", BROWSER, b""), request("GET", "/", &[], b"")].concat());
    assert_eq!(conn.head().header("content-type"), Some("text/html; charset=utf-8"));
    assert_text(&conn.response(), VERSION);
}

#[test]
fn the_page_lets_nothing_else_in() {
    let server = TestServer::start();
    for (path, kind) in [("/", "text/html; charset=utf-8")].iter().chain(&FILES) {
        let answer = ask(&server, "GET", path, BROWSER);
        assert_eq!((answer.status(), answer.header("content-type")), (200, Some(*kind)), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        for rule in
            ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert_problem(&ask(&server, "POST", path, &[]), 405, "method_not_allowed");
    }
    for path in ["/try", "/try/", "/try/index.html", "/try/try.js/"] {
        assert_problem(&ask(&server, "GET", path, BROWSER), 404, "not_found");
    }
}

/// A foreign page whose name was made to resolve to this server could otherwise read this page as its own.
#[test]
fn the_page_is_refused_as_everything_is() {
    let server = TestServer::with(|config| config.foreign_origins = ForeignOrigins::Refuse);
    for path in ["/", "/try/try.js"] {
        let rebound = [BROWSER, &[("host", "evil.example")]].concat();
        let foreign = [BROWSER, &[("origin", "https://evil.example")]].concat();
        assert_problem(&Conn::tcp(server.addr).round(&plain(path, &rebound)), 403, "host_forbidden");
        assert_problem(&ask(&server, "GET", path, &foreign), 403, "origin_forbidden");
    }
}

/// Returns a request with no other `Host` than the one given.
fn plain(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("GET {path} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

#[test]
fn a_server_that_authenticates_shows_strangers_a_page_only_if_told_to() {
    let server = authenticating(TryPage::Auto);
    assert_text(&ask(&server, "GET", "/", BROWSER), "");
    for (path, _) in FILES {
        assert_problem(&ask(&server, "GET", path, BROWSER), 404, "not_found");
    }
    let server = authenticating(TryPage::On);
    assert_page(&ask(&server, "GET", "/", BROWSER), "api/v1/sse", "wanted", "");
    assert_eq!(ask(&server, "GET", "/try/try.js", BROWSER).status(), 200);
    let server = TestServer::with(|config| config.try_page = TryPage::Off);
    assert_text(&ask(&server, "GET", "/", BROWSER), VERSION);
    assert_problem(&ask(&server, "GET", "/try/try.js", BROWSER), 404, "not_found");
}

#[test]
fn the_page_knows_the_base_path() {
    for (base, shown) in [("", ""), ("/push", "push"), ("/a/b.c~d", "a/b.c~d"), ("/try", "try")] {
        let server = TestServer::with(|config| base.clone_into(&mut config.base_path));
        assert_page(&ask(&server, "GET", "/", BROWSER), shown, "none", VERSION.trim());
        assert_eq!(ask(&server, "GET", "/try/try.js", BROWSER).status(), 200, "{base}");
        assert_eq!(ask(&server, "GET", &format!("{base}/info"), &[]).status(), 200, "{base}");
    }
}

/// Text that would be an image with a script, if it were HTML.
const EVIL: &str = r#"<img src=x onerror="document.title='evil'"><script>document.title='evil'</script>"#;

/// The rows that the page shows, newest first.
const ROWS: &str = "[...document.querySelectorAll('#events li')].map((row) => ({
    name: row.querySelector('b').textContent, id: row.querySelector('code').textContent,
    data: row.querySelector('pre').textContent, class: row.className,
}))";

/// The page in a browser.
struct Page {
    browser: Browser,
    /// Always present, except between a stop and a restart.
    server: Option<Server>,
}

impl Page {
    async fn open(kind: Kind, settings: &[(&str, &str)]) -> Option<Self> {
        let mut browser = Browser::start(kind).await?;
        let server = Server::start(&[&[("RETRY", "100ms")], settings].concat()).await;
        browser.open(&format!("http://{}/", server.address)).await;
        Some(Self { browser, server: Some(server) })
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    async fn state(&mut self, wanted: &str) {
        let is_so = format!("document.body.dataset.state === {}", json!(wanted));
        self.browser.until(wanted, &is_so, "document.body.innerText").await;
    }

    /// Waits for `count` rows, and returns them.
    async fn rows(&mut self, count: usize) -> Vec<Value> {
        self.browser.until("the rows", &format!("{ROWS}.length >= {count}"), ROWS).await;
        self.browser.run(&format!("return {ROWS}"), &[]).await
    }

    async fn until_says(&mut self, element: &str, text: &str) {
        let says = format!("document.querySelector({}).innerText", json!(element));
        self.browser.until(text, &format!("{says}.includes({})", json!(text)), &says).await;
    }

    async fn fill(&mut self, id: &str, text: &str) {
        let fill = "const field = document.getElementById(arguments[0]); field.value = arguments[1];
            field.dispatchEvent(new Event('input', { bubbles: true }));
            field.dispatchEvent(new Event('change', { bubbles: true })); return null;";
        let _: Value = self.browser.run(fill, &[json!(id), json!(text)]).await;
    }

    async fn click(&mut self, selector: &str) {
        let click = "document.querySelector(arguments[0]).click(); return null";
        let _: Value = self.browser.run(click, &[json!(selector)]).await;
    }

    /// Returns the element that has the focus.
    async fn focus(&mut self) -> String {
        self.browser.run("return document.activeElement.id || document.activeElement.textContent", &[]).await
    }
}

async fn it_can_be_tried(kind: Kind) {
    let Some(mut page) = Page::open(kind, &[("BASE_PATH", "/api/v1/sse")]).await else { return };
    by_keyboard_alone(&mut page).await;
    others_stay_text(&mut page).await;
    what_the_server_says_is_shown(&mut page).await;
    let console = page.browser.console().await;
    let blocked =
        console.iter().find(|line| line.contains("Content Security") || line.contains("Content-Security"));
    assert_eq!(blocked, None, "{console:?}");
}

/// Subscribes, publishes with a name, and sees the event arrive.
async fn by_keyboard_alone(page: &mut Page) {
    let _: Value = page.browser.run("document.getElementById('room').focus(); return null", &[]).await;
    page.browser.press("Enter").await;
    page.state("open").await;
    assert_eq!(page.focus().await, "room", "Enter takes no focus away");
    let _: Value = page.browser.run("document.getElementById('to').focus(); return null", &[]).await;
    page.browser.press("Tab").await;
    assert_eq!(page.focus().await, "name");
    page.browser.type_text("price").await;
    page.browser.press("Tab").await;
    assert_eq!(page.focus().await, "data");
    page.browser.press("Control+Enter").await;
    let rows = page.rows(2).await;
    assert_eq!((&rows[0]["name"], &rows[0]["data"]), (&json!("price"), &json!("hello")), "{rows:?}");
    assert_eq!(rows[1]["name"], "connected");
    page.until_says("#answer", "to 1 stream.").await;
    page.browser.press("Tab").await;
    assert_eq!(page.focus().await, "Publish");
    let live: [String; 2] = page
        .browser
        .run("const { role, ariaLive } = document.getElementById('log'); return [role, ariaLive]", &[])
        .await;
    assert_eq!(live, ["log", "polite"]);
}

async fn others_stay_text(page: &mut Page) {
    let drafts = [
        json!({ "room": "lobby", "data": EVIL }),
        json!({ "room": "lobby", "event": "price", "data": EVIL }),
        json!({ "user": "me", "data": "for one" }),
        json!({ "all": true, "data": "for all" }),
    ];
    for draft in drafts {
        page.server().publish(draft).await;
    }
    let rows = page.rows(6).await;
    let data: Vec<&str> = rows.iter().filter_map(|row| row["data"].as_str()).take(4).collect();
    assert_eq!(data, ["for all", "for one", EVIL, EVIL]);
    let made: [Value; 3] = page
        .browser
        .run("return [document.title, document.querySelectorAll('#events img, #events script').length, document.images.length]", &[])
        .await;
    assert_eq!(made, [json!("Try Tidegate"), json!(0), json!(1)]);
}

async fn what_the_server_says_is_shown(page: &mut Page) {
    // The server restarts: a gap.
    let server = page.server.take().expect("it runs");
    let address = server.address.to_string();
    server.kill().await;
    page.state("connecting").await;
    let settings = [("RETRY", "100ms"), ("LISTEN", &*address), ("MAX_CONNECTIONS_PER_USER", "1")];
    page.server = Some(Server::start(&settings).await);
    let rows = page.rows(8).await;
    assert_eq!((&rows[0]["name"], &rows[0]["class"]), (&json!("gap"), &json!("own gap")), "{rows:?}");
    page.until_says("#notice", "Events may be missing (restart)").await;
    page.state("open").await;
    // After a disconnect, the page shows the reason, and stays away.
    page.server().post("/disconnect/lobby/me", "").await;
    page.state("closed").await;
    page.until_says("#notice", "204").await;
    page.until_says("#toggle", "Listen").await;
    // The new user has one stream already.
    page.fill("user", "you").await;
    let taken =
        "window.taken = new EventSource(document.body.dataset.base + '/stream/lobby/you'); return null";
    let _: Value = page.browser.run(taken, &[]).await;
    page.browser.until("a stream", "window.taken.readyState === 1", "0").await;
    page.click("#toggle").await;
    page.state("overload").await;
    page.until_says("#notice", "user_connections").await;
    let _: Value = page.browser.run("window.taken.close(); return null", &[]).await;
    page.state("open").await;
    page.click("#toggle").await;
    page.state("idle").await;
}

#[tokio::test]
async fn it_can_be_tried_in_chromium() {
    it_can_be_tried(Kind::Chromium).await;
}

#[tokio::test]
async fn it_can_be_tried_in_firefox() {
    it_can_be_tried(Kind::Firefox).await;
}

/// A token was once of no use to listen unless the server took it from the URL: an `EventSource` sends no headers.
#[tokio::test]
async fn a_stranger_is_asked_for_a_token() {
    let keys = bearer::key_text(bearer::SECRET);
    let token = bearer::token("me", &["sse:read", "sse:publish"]);
    let settings = [("TOKEN_KEYS", &*keys), ("TRY_PAGE", "on")];
    let Some(mut page) = Page::open(Kind::Chromium, &settings).await else { return };
    page.click("#toggle").await;
    page.state("closed").await;
    page.until_says("#notice", "401 unauthorized").await;
    page.click("#publish button").await;
    page.until_says("#answer", "401 unauthorized").await;
    page.fill("token", &token).await;
    page.click("#publish button").await;
    page.until_says("#answer", "Published").await;
    page.click("#toggle").await;
    page.state("open").await;
}

/// On a small screen, and in dark mode.
#[tokio::test]
async fn it_fits_a_small_screen() {
    let Some(mut page) = Page::open(Kind::Chromium, &[]).await else { return };
    page.click("#toggle").await;
    page.server().publish(json!({ "room": "lobby", "data": "x".repeat(2000) })).await;
    page.rows(1).await;
    let mut backgrounds = Vec::new();
    for (scheme, width) in [("light", 390), ("dark", 390), ("light", 1280)] {
        page.browser.size(width, 844).await;
        page.browser.scheme(scheme).await;
        let found: (u32, String) = page
            .browser
            .run("return [document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]", &[])
            .await;
        assert_eq!(found.0, width, "{scheme}: nothing reaches beyond the edge");
        backgrounds.push(found.1);
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    assert_eq!(backgrounds[0], backgrounds[2]);
}
