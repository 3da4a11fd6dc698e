//! Promise: the table of `docs/resume.md` on `EventSource` is correct in Chromium and in Firefox, line by line; and the
//! page it shows reconnects after every case, with every event once, named ones too.
//!
//! The README once had a page that stored ids in `onmessage` alone, and said that browsers reconnect after every
//! failure. Named events were lost or came twice, a gap went by unseen, and Firefox never reconnected when a server on
//! another origin was restarted, or after a download.

use crate::common::{
    browser::{either, pages, proxy},
    neighbours,
};

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use self::either::{Browser, Kind};
use self::neighbours::{Server, id_of, until};
use self::pages::Pages;
use self::proxy::{Cut, Proxy};

const DOCUMENT: &str = include_str!("../../docs/resume.md");

/// Browsers that reconnect do so soon; otherwise the tests would take too long.
const RETRY: (&str, &str) = ("RETRY", "100ms");

/// The functions that the page's application provides. Timers run ten times as fast, and are counted.
const STAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>A page that comes back</title><script>
const shown = [];
let loads = 0, tokens = 0, rounds = 0;
const show = (name, data) => shown.push(`${name} ${data}`);
const loadState = () => { loads += 1; };
const freshToken = async () => `t${tokens += 1}`;
const realTimeout = setTimeout;
window.setTimeout = (next, ms) => realTimeout(() => { rounds += 1; next(); }, ms / 10);
</script><script>"#;

/// Returns the page as the document has it, except for the server's address.
fn sample(server: SocketAddr) -> String {
    let block = DOCUMENT.split("```js\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the page");
    let here = block.replace("`/api/v1/sse/stream?", &format!("`http://{server}/api/v1/sse/stream?"));
    assert_ne!(here, block, "the page names the stream");
    format!("{STAGE}{here}</script>")
}

/// A server at `address` that accepts pages of `origin`.
async fn serve(address: &str, origin: &str) -> Server {
    Server::start(&[("LISTEN", address), ("CORS_ORIGINS", origin), RETRY]).await
}

const ANY_PORT: &str = "127.0.0.1:0";

/// A browser with that page, subscribed through `proxy`.
struct Scene {
    browser: Browser,
    server: Server,
    proxy: Proxy,
    pages: Pages,
}

const SHOWN: &str = "({ shown, loads, last, away, tokens, ready: stream && stream.readyState })";

impl Scene {
    async fn set(kind: Kind) -> Option<Self> {
        let mut browser = Browser::start(kind).await?;
        let pages = Pages::serve().await;
        let server = serve(ANY_PORT, &pages.origin()).await;
        let proxy = Proxy::start(server.address).await;
        pages.put(sample(proxy.address));
        browser.open(&pages.origin()).await;
        browser.until("an open stream", "last !== ''", SHOWN).await;
        Some(Self { browser, server, proxy, pages })
    }

    async fn publish(&self, event: Option<&str>, data: &str) -> String {
        let mut draft = json!({ "room": "lobby", "data": data });
        if let Some(name) = event {
            draft["event"] = name.into();
        }
        id_of(&self.server.publish(draft).await)
    }

    /// Waits until the page has shown as many events as `wanted`, which must be these, and has stored `last`.
    async fn until_shown(&mut self, wanted: &[&str], last: &str) {
        let enough = format!("shown.length >= {}", wanted.len());
        self.browser.until("all events", &enough, SHOWN).await;
        let state: Value = self.browser.run(&format!("return {SHOWN}"), &[]).await;
        assert_eq!(state["shown"], json!(wanted), "{:?}: {state}", self.browser.kind);
        assert_eq!(state["last"], last, "{:?}: {state}", self.browser.kind);
    }

    /// Makes the page lose its stream: in Firefox it gives up without an event, which the page sees only in
    /// `readyState`.
    async fn lose_the_stream(&mut self) {
        if self.browser.kind == Kind::Firefox {
            // Set before the page's own timer can check.
            self.proxy.refuse(true);
            let _: Value = self.browser.run("location.href = '/download'; return null", &[]).await;
            let (pages, proxy) = (&self.pages, &self.proxy);
            until("a download and a new stream", async || {
                let seen = (pages.left(), proxy.refused());
                if seen.0 > 0 && seen.1 > 0 { Ok(()) } else { Err(seen) }
            })
            .await;
        } else {
            self.proxy.refuse(true);
            self.proxy.cut(Cut::Reset);
            let proxy = &self.proxy;
            until(
                "a browser that tries",
                async || {
                    if proxy.refused() > 1 { Ok(()) } else { Err(proxy.refused()) }
                },
            )
            .await;
        }
    }
}

async fn the_page_has_every_event_once(kind: Kind) {
    let Some(mut scene) = Scene::set(kind).await else { return };
    scene.publish(None, "one").await;
    let id = scene.publish(Some("price"), "two").await;
    scene.until_shown(&["message one", "price two"], &id).await;

    // While the page is away. The last event it has seen has a name, and so has the last one it has missed.
    scene.lose_the_stream().await;
    scene.publish(None, "three").await;
    let id = scene.publish(Some("notice"), "four").await;
    scene.proxy.refuse(false);
    let wanted = ["message one", "price two", "message three", "notice four"];
    scene.until_shown(&wanted, &id).await;
    let loads: u32 = scene.browser.run("return loads", &[]).await;
    assert_eq!(loads, 0, "{kind:?}: nothing was missing");

    // The restarted server has none of the events before: a gap, and the page loads its state.
    let address = scene.server.address.to_string();
    scene.server.kill().await;
    scene.server = serve(&address, &scene.pages.origin()).await;
    scene.browser.until("a gap", "loads > 0", SHOWN).await;
    let id = scene.publish(Some("price"), "five").await;
    scene.until_shown(&[&wanted[..], &["price five"]].concat(), &id).await;
    let loads: u32 = scene.browser.run("return loads", &[]).await;
    assert_eq!(loads, 1, "{kind:?}: one gap");

    stays_away_once_disconnected(scene).await;
}

/// A page that reconnects again and again would always get the same answer.
async fn stays_away_once_disconnected(mut scene: Scene) {
    assert_eq!(scene.server.post("/disconnect/lobby/me", "").await["disconnected"], 1);
    scene.browser.until("the end", "away && stream.readyState === EventSource.CLOSED", SHOWN).await;
    let requests = |proxy: &Proxy| -> usize {
        proxy.wires().iter().map(|wire| wire.request.matches("GET ").count()).sum()
    };
    let before = requests(&scene.proxy);
    let rounds: u32 = scene.browser.run("return rounds", &[]).await;
    scene.browser.until("two more looks", &format!("rounds > {}", rounds + 2), SHOWN).await;
    assert_eq!(requests(&scene.proxy), before, "whoever was sent away has not come again");
    // Each new stream had a fresh token, and the URL named the last id of the stream before.
    let first = scene.proxy.wires()[0].request.lines().next().unwrap_or_default().to_owned();
    assert!(first.contains("token=t1") && !first.contains("last_event_id"), "{first}");
    if scene.browser.kind == Kind::Firefox {
        let again = scene.proxy.wires().iter().any(|wire| {
            let line = wire.request.lines().next().unwrap_or_default();
            line.contains("last_event_id=") && !line.contains("token=t1&")
        });
        assert!(again, "a stream was begun anew");
    }
}

#[tokio::test]
async fn the_page_has_every_event_once_in_chromium() {
    the_page_has_every_event_once(Kind::Chromium).await;
}

#[tokio::test]
async fn the_page_has_every_event_once_in_firefox() {
    the_page_has_every_event_once(Kind::Firefox).await;
}

/// Returns the table's entries for each case: for Chromium, for Firefox.
fn table() -> BTreeMap<String, [String; 2]> {
    let rows = DOCUMENT.split("<!-- the tests read this table -->\n").nth(1).expect("the table");
    let rows = rows.lines().take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [case, chromium, firefox] = cells[..] else { panic!("three cells: {row}") };
        (case.to_owned(), [chromium.to_owned(), firefox.to_owned()])
    })
    .collect()
}

const LISTEN: &str = r#"
const source = new EventSource(arguments[0]);
const seen = window.seen = { source, opened: 0, errors: 0, messages: 0, overloads: 0 };
source.onopen = () => { seen.opened += 1; };
source.onerror = () => { seen.errors += 1; };
source.onmessage = () => { seen.messages += 1; };
source.addEventListener("overload", () => { seen.overloads += 1; });
return null;
"#;

const SEEN: &str = "({ ...seen, source: seen.source.readyState })";

/// Cases of the table, and the ones that are still to be seen.
struct Cases {
    browser: Browser,
    table: BTreeMap<String, [String; 2]>,
    pages: Pages,
    origin: String,
}

impl Cases {
    async fn begin(kind: Kind) -> Option<Self> {
        let browser = Browser::start(kind).await?;
        let pages = Pages::serve().await;
        let origin = pages.origin();
        Some(Self { browser, table: table(), pages, origin })
    }

    /// A server that accepts the pages.
    async fn server(&self, settings: &[(&str, &str)]) -> Server {
        Server::start(&[&[("CORS_ORIGINS", &*self.origin), RETRY], settings].concat()).await
    }

    /// Opens a page of `origin` that subscribes to `url`.
    async fn listen(&mut self, origin: &str, url: &str) {
        self.browser.open(origin).await;
        let _: Value = self.browser.run(LISTEN, &[json!(url)]).await;
    }

    async fn until_open(&mut self) {
        self.browser.until("an open stream", "seen.opened === 1", SEEN).await;
    }

    /// Compares the outcome of `case` with the table.
    async fn assert(&mut self, case: &str) {
        let row = self.table.remove(case).unwrap_or_else(|| panic!("the table has no {case:?}"));
        let said = &row[usize::from(self.browser.kind == Kind::Firefox)];
        let wanted = match &**said {
            "comes back" => "seen.source.readyState !== 2 && (seen.opened > 1 || seen.errors > 1)",
            "gives up" => "seen.source.readyState === 2 && seen.errors > 0",
            "gives up, without any event" => "seen.source.readyState === 2 && seen.errors === 0",
            "stays" => "seen.source.readyState === 1 && seen.errors === 0 && seen.messages > 0",
            _ => panic!("{case}: {said}"),
        };
        self.browser.until(&format!("{case}: {said}"), wanted, SEEN).await;
    }
}

async fn the_table_is_so(kind: Kind) {
    let Some(mut cases) = Cases::begin(kind).await else { return };
    refusals(&mut cases).await;
    broken_connections(&mut cases).await;
    servers_that_are_gone(&mut cases).await;
    let mut left = std::mem::take(&mut cases.table);
    // One browser at a time, and a new one each time: Firefox's driver opens no page after a navigation that led
    // nowhere.
    drop(cases);
    for path in ["/download", "/nothing"] {
        let mut cases = Cases::begin(kind).await.expect("it was there just now");
        navigation(&mut cases, path).await;
        left.retain(|case, _| cases.table.contains_key(case));
    }
    assert!(left.is_empty(), "nothing shows {left:?}");
}

async fn refusals(cases: &mut Cases) {
    let origin = cases.origin.clone();
    let server = cases.server(&[("MAX_CONNECTIONS", "1")]).await;
    cases.listen(&origin, &server.url("/nothing")).await;
    cases.assert("the answer has any other status than 200").await;
    cases.listen(&origin, &server.url("/stream/a/me")).await;
    cases.until_open().await;
    server.post("/disconnect/a/me", "").await;
    cases.assert("the answer is 204: disconnected, and told to stay away").await;

    let secret = "HS256:base64:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
    let server = cases.server(&[("TOKEN_KEYS", secret)]).await;
    cases.listen(&origin, &server.url("/stream/a/me")).await;
    cases.assert("the answer is 401 or 403: not let in").await;

    let server = Server::start(&[RETRY]).await;
    cases.listen(&origin, &server.url("/stream/a/me")).await;
    cases.assert("the page's origin is not in `cors_origins`").await;

    let server = cases.server(&[("MAX_CONNECTIONS", "1")]).await;
    let _place = occupy(server.address).await;
    cases.listen(&origin, &server.url("/stream/a/me")).await;
    cases.browser.until("refusals", "seen.overloads > 1", SEEN).await;
    cases.assert("the server is full for now: 200 with `overload`").await;
}

/// Takes the only place.
async fn occupy(server: SocketAddr) -> tokio::net::TcpStream {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(server).await.expect("the server accepts");
    let request = "GET /api/v1/sse/stream/a/other HTTP/1.1\r\nhost: tests\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("the server reads");
    let mut first = [0; 1];
    socket.read_exact(&mut first).await.expect("the server answers");
    socket
}

async fn broken_connections(cases: &mut Cases) {
    let origin = cases.origin.clone();
    let server = cases.server(&[]).await;
    let proxy = Proxy::start(server.address).await;
    for cut in [Cut::Close, Cut::Reset] {
        let case = "the stream ends, or its connection breaks";
        let row = cases.table[case].clone();
        cases.listen(&origin, &proxy.url("/stream/a/me")).await;
        cases.until_open().await;
        proxy.cut(cut);
        cases.browser.until("a second stream", "seen.opened > 1", SEEN).await;
        cases.assert(case).await;
        if matches!(cut, Cut::Close) {
            cases.table.insert(case.to_owned(), row);
        }
    }
}

async fn servers_that_are_gone(cases: &mut Cases) {
    let origin = cases.origin.clone();
    for (case, is_same) in [
        ("no server at the port, page of another origin", false),
        ("no server at the port, page of the same origin", true),
    ] {
        let server = serve(ANY_PORT, &origin).await;
        let address = server.address.to_string();
        let own = format!("http://{address}");
        cases.listen(if is_same { &own } else { &origin }, &server.url("/stream/a/me")).await;
        cases.until_open().await;
        server.kill().await;
        cases.assert(case).await;
        let is_over: bool = cases.browser.run("return seen.source.readyState === 2", &[]).await;
        if !is_over {
            let _server = serve(&address, &origin).await;
            cases.browser.until("a second stream", "seen.opened > 1", SEEN).await;
        }
    }
    cases.listen(&origin, "http://tidegate.invalid/api/v1/sse/stream/a/me").await;
    cases.assert("the name does not resolve").await;
}

/// Navigates the page to `path`, which does not leave the page.
async fn navigation(cases: &mut Cases, path: &str) {
    let origin = cases.origin.clone();
    let server = cases.server(&[]).await;
    cases.listen(&origin, &server.url("/stream/a/me")).await;
    cases.until_open().await;
    let _: Value = cases.browser.run("location.href = arguments[0]; return null", &[json!(path)]).await;
    let pages = &cases.pages;
    until("the navigation", async || if pages.left() > 0 { Ok(()) } else { Err(pages.left()) }).await;
    server.publish(json!({ "room": "a", "data": "after it" })).await;
    cases.assert("the page navigates, and gets a download or a 204").await;
}

#[tokio::test]
async fn the_table_is_so_in_chromium() {
    the_table_is_so(Kind::Chromium).await;
}

#[tokio::test]
async fn the_table_is_so_in_firefox() {
    the_table_is_so(Kind::Firefox).await;
}
