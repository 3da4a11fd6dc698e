//! Promise: the live page shows the present state from the start, in every browser that has access; and its own stream
//! is not counted as a connection, room or event.

use crate::common::{self, browser::chromium, neighbours};

use std::net::SocketAddr;
use std::time::Duration;

use common::conn::{Conn, request};
use common::stream::Listener;
use common::{TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::admin::live::STREAMS_MAX;
use tidegate::config::{Config, ListenAddr, Rate, RoomPresence, RoomSettings, RoomTable};

use self::chromium::Chromium;
use self::neighbours::until;

/// A page's stream.
struct Watcher(Listener);

impl Watcher {
    fn request(admin: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Listener {
        let mut conn = Conn::tcp(admin);
        conn.send(request("GET", path, headers, b""));
        Listener::answered(conn)
    }

    /// Opens the stream and reads up to and including `connected`.
    fn open(admin: SocketAddr, headers: &[(&str, &str)]) -> Self {
        let mut stream = Self::request(admin, "/dashboard/stream", headers);
        assert_eq!(stream.head.status(), 200, "{}", stream.head.0);
        assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
        assert_eq!(stream.head.header("cache-control"), Some("no-store, no-transform"));
        let connected = stream.event();
        assert!(connected.contains("event: connected\n"), "{connected}");
        Self(stream)
    }

    /// Returns the next sample, with its id.
    fn sample(&mut self) -> (String, Value) {
        let event = self.0.event();
        let mut lines = event.lines();
        assert_eq!(lines.next(), Some("event: sample"), "{event}");
        let id = lines.next().and_then(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
        let data = lines.next().and_then(|line| line.strip_prefix("data: ")).expect("one line of data");
        (id, serde_json::from_str(data).expect("JSON"))
    }

    /// Adds samples up until their sum is `wanted`.
    fn until<T: Default + PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        wanted: &T,
        mut add: impl FnMut(&mut T, &Value),
    ) -> Value {
        let mut sum = T::default();
        for _ in 0..60 {
            let (_, sample) = self.sample();
            add(&mut sum, &sample);
            if sum == *wanted {
                return sample;
            }
        }
        panic!("{what} came to {sum:?} in a minute, not {wanted:?}");
    }
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn the_page_comes_with_the_program_and_lets_nothing_else_in() {
    let server = TestServer::start();
    let files = [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/dashboard.js", "text/javascript; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ];
    for (path, kind) in files {
        let answer = server.admin(path);
        assert_eq!((answer.status(), answer.header("content-type")), (200, Some(kind)), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let post = Conn::tcp(server.admin).round(&request("POST", path, &[], b""));
        assert_problem(&post, 405, "method_not_allowed");
        // Names of rooms are private: only the admin listener serves the page.
        assert_problem(&server.connect().round(&request("GET", path, &[], b"")), 404, "not_found");
    }
    let post = Conn::tcp(server.admin).round(&request("POST", "/dashboard/stream", &[], b""));
    assert_problem(&post, 405, "method_not_allowed");
    for path in ["/dashboard/", "/dashboard/stream/", "/dashboard/index.html", "/"] {
        assert_problem(&server.admin(path), 404, "not_found");
    }
}

#[test]
fn samples_count_exactly_what_was_done() {
    let server = TestServer::with(|config| config.shards = 2);
    let mut watcher = Watcher::open(server.admin, &[]);
    let mut listeners = ["/stream/a/u", "/stream/a/v", "/stream/b/w"].map(|path| server.listen(path));
    for n in 0..5 {
        server.publish(&json!({"room": "a", "data": n}));
    }
    server.publish(&json!({"room": "b", "data": "x"}));
    let mut hottest = Vec::new();
    let counted = watcher.until("all of it", &[6, 11, 3, 5, 1], |sum: &mut [u64; 5], sample| {
        sum[0] += count(&sample["published"]);
        sum[1] += count(&sample["delivered"]);
        sum[2] += count(&sample["opened"]);
        for room in sample["rooms"]["busiest"].as_array().expect("a list") {
            let at = 3 + ["a", "b"].iter().position(|name| room["room"] == **name).expect("no other room");
            sum[at] += count(&room["events"]);
            hottest.push(room["room"].clone());
        }
        let shards = sample["shards"].as_array().expect("a list");
        let of_shards: u64 = shards.iter().map(|shard| count(&shard["delivered"])).sum();
        assert_eq!((shards.len(), of_shards), (2, count(&sample["delivered"])));
        if of_shards > 0 {
            let [p50, p99] =
                ["p50_ms", "p99_ms"].map(|key| sample[key].as_f64().expect("there were deliveries"));
            assert!(0.0 < p50 && p50 <= p99, "{sample}");
        } else {
            assert_eq!(sample["p99_ms"], Value::Null);
        }
    });
    assert_eq!(hottest.first(), Some(&json!("a")), "the most first");
    assert_eq!((&counted["state"], &counted["connections"]), (&json!("ready"), &json!(3)));
    assert_eq!(counted["connections_max"], server.server().engine().config.max_connections);
    assert_eq!((&counted["rooms"]["count"], &counted["history_events"]), (&json!(2), &json!(6)));
    let fullest = &counted["rooms"]["fullest"];
    assert_eq!((&fullest[0]["room"], &fullest[0]["connections"]), (&json!("a"), &json!(2)));
    assert_eq!((&fullest[1]["room"], &fullest[1]["connections"]), (&json!("b"), &json!(1)));
    assert!(count(&counted["memory"]) > 1 << 20);
    assert!(counted["cpu"].is_number() && counted["shards"][1]["cpu"].is_number(), "{counted}");

    // Closed streams, refusals and lost events, each by reason.
    assert_eq!(server.post("/disconnect/a/u?stay_away=0", &[], "").status(), 200);
    assert_eq!(listeners[0].events(5).len(), 5);
    listeners[0].closing("disconnected");
    drop(listeners);
    drop(server.resume("/stream/a/z", "zzzzzz-9"));
    assert_problem(&server.post("/publish", &[], "{"), 400, "body_malformed");
    watcher.until("the ends", &[1, 3, 1, 1], |sum: &mut [u64; 4], sample| {
        let one = |key: &str, reason: &str| sample[key][reason].as_u64().unwrap_or(0);
        sum[0] += one("closed", "disconnected");
        // A client that leaves with unread events resets the connection.
        sum[1] += one("closed", "client") + one("closed", "error");
        sum[2] += one("gaps", "restart");
        sum[3] += one("refused", "bad_request");
        assert_eq!(sample["dropped"], json!({}));
    });
}

/// Rooms that begin with `chat` have presence. Of events with the same key only the newest goes out.
fn with_rules(config: &mut Config) {
    let settings = RoomSettings {
        presence: RoomPresence::Members,
        conflate: Some(Duration::from_secs(1)),
        ..RoomSettings::default()
    };
    config.room_tables = vec![RoomTable { pattern: "chat*".parse().expect("a pattern"), settings }];
}

/// Two members, and one stream in a room without presence.
fn members(server: &TestServer) -> [Listener; 3] {
    ["/stream/chat/u?presence=on", "/stream/chat/v?presence=on", "/stream/plain/w"]
        .map(|path| server.listen(path))
}

#[test]
fn rooms_with_rules_are_counted_once_there_is_something() {
    let server = TestServer::with(with_rules);
    let mut watcher = Watcher::open(server.admin, &[]);
    let (_, before) = watcher.sample();
    assert_eq!((&before["has_rules"], &before["members"]), (&json!(false), &json!(0)));
    let _listeners = members(&server);
    let batch: Value = (0..5).map(|n| json!({"room": "chat", "key": "cursor", "data": n})).collect();
    assert_eq!(server.post("/publish", &[], batch.to_string()).status(), 200);
    for _ in 0..3 {
        let paid = json!({"room": "plain", "data": "paid"}).to_string();
        assert_eq!(server.post("/publish", &[("idempotency-key", "k")], paid).status(), 200);
    }
    let counted = watcher.until("all of it", &[2, 8, 2], |sum: &mut [u64; 3], sample| {
        sum[0] = count(&sample["members"]);
        sum[1] += sample["skipped"]["conflated"].as_u64().unwrap_or(0);
        sum[2] += count(&sample["replayed"]);
    });
    assert_eq!((&counted["has_rules"], &counted["presence_rooms"]), (&json!(true), &json!(1)));
    assert_eq!(counted["claims"], 1);
    let fullest = &counted["rooms"]["fullest"];
    assert_eq!((&fullest[0]["room"], &fullest[0]["members"]), (&json!("chat"), &json!(2)));
    assert_eq!((&fullest[1]["room"], &fullest[1]["members"]), (&json!("plain"), &Value::Null));
    // A stream ends without a word: nobody is told, because a page may come back.
    server.metrics().assert("tidegate_presence_members", 2.0);
}

#[test]
fn messages_about_presence_and_those_that_were_saved_are_counted() {
    let server = TestServer::with(with_rules);
    let mut watcher = Watcher::open(server.admin, &[]);
    let seeing = server.listen("/stream/chat/u?presence=on");
    drop(server.listen("/stream/chat/v?presence=on"));
    server.wait_for("tidegate_connections", 1.0);
    let back = server.listen("/stream/chat/v?presence=on");
    watcher.until("a member that came back", &[true, true], |seen: &mut [bool; 2], sample| {
        seen[0] |= count(&sample["presence_messages"]) > 0;
        seen[1] |= count(&sample["suppressed"]) == 1;
    });
    drop((seeing, back));
}

#[test]
fn watching_is_nobodys_connection_room_or_event() {
    let server = TestServer::start();
    let mut watchers: Vec<_> = (0..STREAMS_MAX).map(|_| Watcher::open(server.admin, &[])).collect();
    let mut listener = server.listen("/stream/dashboard/u");
    for watcher in &mut watchers {
        watcher.sample();
    }
    server.publish(&json!({"all": true, "data": "to all"}));
    server.publish(&json!({"room": "dashboard", "data": "to a room of that name"}));
    assert_eq!([listener.data(), listener.data()], ["to all", "to a room of that name"]);
    // `sample` fails at any other event.
    let (_, sample) = watchers[0].sample();
    assert_eq!((&sample["connections"], &sample["rooms"]["count"]), (&json!(1), &json!(1)));
    let metrics = server.metrics();
    metrics.assert("tidegate_connections", 1.0);
    metrics.assert("tidegate_connections_total{outcome=\"opened\"}", 1.0);
    metrics.assert("tidegate_rooms", 1.0);
    metrics.assert("tidegate_users", 1.0);
    metrics.assert("tidegate_events_published_total", 2.0);
    metrics.assert("tidegate_events_delivered_total", 2.0);
    metrics.assert("tidegate_history_events", 2.0);
    let info = server.get("/info").json();
    assert_eq!((&info["connections"], &info["rooms"], &info["users"]), (&json!(1), &json!(1), &json!(1)));
    // No offset was used.
    assert_eq!(info["head"], server.id(2));
    assert_eq!(server.get("/rooms/dashboard").json()["connections"], 1);
    drop(watchers);
    eventually("a place", || Watcher::request(server.admin, "/dashboard/stream", &[]).head.status() == 200);
    server.metrics().assert("tidegate_connections_closed_total{reason=\"client\"}", 0.0);
}

#[test]
fn one_page_too_many_is_refused_and_no_scraper_is() {
    let server = TestServer::start();
    let mut watchers: Vec<_> = (0..STREAMS_MAX).map(|_| Watcher::open(server.admin, &[])).collect();
    let refused = server.admin("/dashboard/stream");
    assert_problem(&refused, 503, "dashboard_full");
    assert!(refused.header("retry-after").is_some());
    // On one connection that stays, and on as many others as there may be.
    let mut scraper = Conn::tcp(server.admin);
    for path in ["/metrics", "/readyz", "/livez", "/dashboard", "/metrics"] {
        assert_eq!(server.admin(path).status(), 200, "{path}");
    }
    scraper.send(request("GET", "/metrics", &[], b""));
    assert_eq!(scraper.response().status(), 200);
    // None of it disturbed the open pages.
    for watcher in &mut watchers {
        watcher.sample();
    }
    watchers.pop();
    eventually("a place", || Watcher::request(server.admin, "/dashboard/stream", &[]).head.status() == 200);
    // A `HEAD` request takes no place.
    let mut head = Conn::tcp(server.admin);
    head.send(request("HEAD", "/dashboard/stream", &[], b""));
    assert_eq!(head.head().header("content-type"), Some("text/event-stream"));
}

#[test]
fn history_comes_first_and_a_resume_is_exact() {
    let server = TestServer::start();
    let mut first = Watcher::open(server.admin, &[]);
    let seen: Vec<(String, Value)> = (0..3).map(|_| first.sample()).collect();
    // A page that opens later gets all samples at once and in order.
    let mut later = Watcher::open(server.admin, &[]);
    for sample in &seen {
        assert_eq!(later.sample(), *sample);
    }
    // A resume starts after the id, from the header, or from the URL for a new `EventSource`; the header is newer.
    let mut resumed = Watcher::open(server.admin, &[("last-event-id", &seen[1].0)]);
    assert_eq!(resumed.sample(), seen[2]);
    let path = format!("/dashboard/stream?last_event_id={}", seen[0].0);
    let mut anew = Watcher(Watcher::request(server.admin, &path, &[]));
    assert!(anew.0.event().contains(&format!("id: {}\n", seen[0].0)));
    assert_eq!(anew.sample(), seen[1]);
    let mut both = Watcher(Watcher::request(server.admin, &path, &[("last-event-id", &seen[1].0)]));
    both.0.event();
    assert_eq!(both.sample(), seen[2]);
    // An id of another epoch: a gap, and all samples of this one.
    let mut lost = Watcher::open(server.admin, &[("last-event-id", "zzzzzz-9")]);
    let gap = lost.0.event();
    assert!(gap.starts_with("event: gap\n") && gap.contains(r#""reason":"restart""#), "{gap}");
    assert_eq!(lost.sample(), seen[0]);
}

#[test]
fn a_drain_is_watched_to_its_end() {
    let mut server = TestServer::with(|config| {
        config.drain = Duration::from_mins(10);
        config.drain_rate = Rate { events: 1, per: Duration::from_hours(1) };
    });
    let listeners: Vec<_> = (0..20).map(|n| server.listen(&format!("/stream/a/{n}"))).collect();
    let mut watcher = Watcher::open(server.admin, &[]);
    watcher.until("everyone", &20, |sum, sample| *sum = count(&sample["connections"]));
    let draining = server.take();
    let draining = std::thread::spawn(move || draining.drain());
    watcher.until("the drain", &true, |sum, sample| *sum = sample["state"] == "draining");
    // The drain ends early, once no stream is left.
    drop(listeners);
    draining.join().expect("no panic").expect("a clean end");
    let farewell = loop {
        let event = watcher.0.event();
        if !event.starts_with("event: sample\n") {
            break event;
        }
    };
    assert!(farewell.ends_with("event: closing\ndata: {\"reason\":\"drain\"}\n\n"), "{farewell}");
    assert_eq!(watcher.0.end(), common::stream::End::LastChunk);
}

/// A room whose name is an attack on the page.
const EVIL: &str = r#"<img src=x onerror="document.title='evil'">"#;

/// The page in a browser.
struct Page(Chromium);

impl Page {
    async fn open(admin: SocketAddr) -> Option<Self> {
        let browser = Chromium::start().await?;
        browser.open(&format!("http://{admin}/dashboard")).await;
        Some(Self(browser))
    }

    /// Waits until `script` gives true; on failure, the message has the text of the page.
    async fn until(&self, what: &str, script: &str) {
        let look = async || {
            let ready: bool = self.0.run(&format!("return !!({script})"), vec![]).await;
            if ready { Ok(()) } else { Err(self.text("body").await) }
        };
        until(what, look).await;
    }

    async fn text(&self, element: &str) -> String {
        self.0.run("return document.querySelector(arguments[0]).innerText", vec![json!(element)]).await
    }

    async fn state(&self, wanted: &str) {
        self.until(wanted, &format!("document.body.dataset.state === '{wanted}'")).await;
    }
}

#[tokio::test]
async fn chromium_draws_what_happens_in_light_and_dark() {
    let server = TestServer::with(|config| config.shards = 2);
    let Some(page) = Page::open(server.admin).await else { return };
    let _listeners = ["/stream/a/u", "/stream/a/v", "/stream/b/w"].map(|path| server.listen(path));
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        page.0.prefer_color_scheme(scheme).await;
        page.0.open(&format!("http://{}/dashboard", server.admin)).await;
        page.state("ready").await;
        until("data in every chart", async || {
            server.publish(&json!({"room": EVIL, "data": "x"}));
            server.publish(&json!({"room": "a", "data": "x"}));
            let points =
                "return [...document.querySelectorAll('canvas')].map((chart) => +chart.dataset.points)";
            let points: Vec<u64> = page.0.run(points, vec![]).await;
            if points.len() == 8 && points.iter().all(|points| *points >= 2) { Ok(()) } else { Err(points) }
        })
        .await;
        // The grid, its labels, a line and the area under it.
        let colors: Vec<u64> = page.0.run(COLORS, vec![]).await;
        assert!(colors.iter().all(|colors| *colors > 4), "{scheme}: {colors:?}");
        let background = "return getComputedStyle(document.body).backgroundColor";
        backgrounds.push(page.0.run::<String>(background, vec![]).await);
        page.until("the hot room", "document.querySelector('#busiest td')").await;
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    page.until(
        "the room",
        &format!("document.querySelector('#busiest').innerText.includes({})", json!(EVIL)),
    )
    .await;
    assert_eq!(page.text("#tiles .tile .value").await, "3");
    let said: String =
        page.0.run("return document.querySelector('canvas').getAttribute('aria-label')", vec![]).await;
    assert!(said.starts_with("Connections over five minutes: 3, from "), "{said}");

    // One image, which is ours, and no other title: the name is text.
    let images: u64 = page.0.run("return document.images.length", vec![]).await;
    let title: String = page.0.run("return document.title", vec![]).await;
    assert_eq!((images, &*title), (1, "Tidegate"));
    let loaded = "return performance.getEntriesByType('resource').map((entry) => entry.name)";
    let loaded: Vec<String> = page.0.run(loaded, vec![]).await;
    let own = format!("http://{}/dashboard/", server.admin);
    assert!(loaded.len() >= 3 && loaded.iter().all(|name| name.starts_with(&own)), "{loaded:?}");
    assert_eq!(page.0.console().await, Vec::<String>::new());
}

/// Returns the number of different colours in each chart.
const COLORS: &str = "return [...document.querySelectorAll('canvas')].map((chart) => {
    const { data } = chart.getContext('2d').getImageData(0, 0, chart.width, chart.height);
    return new Set(new Uint32Array(data.buffer)).size;
})";

/// Measurements in the browser.
const LAYOUT: &str = include_str!("layout.js");

/// A laptop, a tablet and a phone.
const WIDTHS: [u32; 3] = [1280, 1024, 390];

impl Page {
    /// Reloads the page in a window of `width`, with [`LAYOUT`] beside it, and waits for samples.
    async fn open_wide(&self, admin: SocketAddr, width: u32) {
        self.0.resize(width, 900).await;
        self.0.open(&format!("http://{admin}/dashboard")).await;
        self.state("ready").await;
        self.until("the first sample", "!document.body.classList.contains('waiting')").await;
    }

    async fn list(&self, script: &str) -> Vec<String> {
        self.0.run(&format!("return {script}"), vec![]).await
    }
}

/// At 1280 pixels the eighth tile once stood alone in a row, and two columns of *Busiest rooms* touched.
#[tokio::test]
async fn rows_are_even_and_no_text_touches_another_at_any_width() {
    let server = TestServer::with(with_rules);
    let Some(page) = Page::open(server.admin).await else { return };
    page.0.run_first(LAYOUT).await;
    for has_rules in [false, true] {
        let _listeners = has_rules.then(|| members(&server));
        for width in WIDTHS {
            page.open_wide(server.admin, width).await;
            let shown: bool = page.0.run(RULES_SHOWN, vec![]).await;
            assert_eq!(shown, has_rules, "{width}");
            assert_eq!(page.list("layout.faults()").await, Vec::<String>::new(), "{width}");
            assert_eq!(page.list("layout.crowded()").await, Vec::<String>::new(), "{width}, crowded");
        }
    }
}

/// Between 769 and 1,024 KiB a second, "1,000 KiB" once began left of its chart.
#[tokio::test]
async fn labels_of_charts_have_room_whatever_the_maximum() {
    let server = TestServer::start();
    let Some(page) = Page::open(server.admin).await else { return };
    page.0.run_first(LAYOUT).await;
    page.open_wide(server.admin, WIDTHS[0]).await;
    assert_eq!(page.list("layout.wideLabels()").await, Vec::<String>::new());
}

/// Whether the page has tiles about rooms with rules.
const RULES_SHOWN: &str = "return document.querySelector('#rules').checkVisibility()";

#[tokio::test]
async fn rooms_with_rules_have_tiles_from_their_first_member_on() {
    let server = TestServer::with(with_rules);
    let Some(page) = Page::open(server.admin).await else { return };
    page.state("ready").await;
    page.until("the first sample", "!document.body.classList.contains('waiting')").await;
    assert!(!page.0.run::<bool>(RULES_SHOWN, vec![]).await);
    let _listeners = members(&server);
    page.until("two members", "document.querySelector('#rules .value').checkVisibility()").await;
    page.until("their number", "document.querySelector('#rules .value').innerText === '2'").await;
    let paid = json!({"room": "plain", "data": "paid"}).to_string();
    for _ in 0..2 {
        server.post("/publish", &[("idempotency-key", "k")], &paid);
    }
    page.until("the replay", "document.querySelectorAll('#rules .value')[3].innerText.startsWith('1')").await;
    let tiles: Vec<String> =
        page.list("[...document.querySelectorAll('#rules .tile')].map((tile) => tile.innerText)").await;
    let wanted = ["Members\n2\nin 1 room", "", "Skipped events\n0", "Replayed publishes\n1"];
    for (tile, wanted) in tiles.iter().zip(wanted) {
        assert!(tile.replace("\n\n", "\n").starts_with(wanted), "{tiles:?}");
    }
    assert_eq!(page.list("[...document.querySelectorAll('#fullest tr')].map((row) => row.innerText.replace(/\\s+/g, ' ').trim())").await,
        ["room connections members", "chat 2 2", "plain 1 \u{2013}"]);
    page.until(
        "them in the summary",
        "document.querySelector('#gist').textContent.startsWith('3 connected, 2 present, ')",
    )
    .await;
}

#[tokio::test]
async fn nothing_moves_when_the_first_sample_comes() {
    let server = TestServer::with(|config| {
        config.shards = 2;
        with_rules(config);
    });
    server.publish(&json!({"room": "a", "data": "x"}));
    let Some(page) = Page::open(server.admin).await else { return };
    page.state("ready").await;
    page.0.run_first(LAYOUT).await;
    for (has_rules, headings) in [(false, 27), (true, 31)] {
        let _listeners = has_rules.then(|| members(&server));
        for width in WIDTHS {
            page.open_wide(server.admin, width).await;
            page.until("a chart", "document.querySelector('canvas').dataset.points >= 1").await;
            let [before, after]: [Value; 2] =
                page.0.run("return [layout.first, layout.headings()]", vec![]).await;
            let count = before.as_array().map(Vec::len);
            assert_eq!(count, Some(headings), "{width}: {before}");
            assert_eq!(before, after, "{width}");
            let shifts: f64 = page.0.run("return layout.shifts", vec![]).await;
            assert!(shifts < 0.001, "{width}: {shifts}");
        }
    }
}

#[tokio::test]
async fn the_skeleton_keeps_still_for_those_who_want_less_motion() {
    const MOTIONS: &str =
        "document.body.dataset.state = 'connecting'; document.body.classList.add('waiting');
        return document.getAnimations().length";
    let server = TestServer::start();
    let Some(page) = Page::open(server.admin).await else { return };
    page.state("ready").await;
    assert!(page.0.run::<u64>(MOTIONS, vec![]).await > 0);
    page.0.prefer_reduced_motion().await;
    assert_eq!(page.0.run::<u64>(MOTIONS, vec![]).await, 0);
}

#[tokio::test]
async fn every_text_stands_out_in_light_and_dark() {
    let server = TestServer::with(with_rules);
    let _listeners = members(&server);
    let Some(page) = Page::open(server.admin).await else { return };
    page.0.run_first(LAYOUT).await;
    for scheme in ["light", "dark"] {
        page.0.prefer_color_scheme(scheme).await;
        for width in [1280, 390] {
            page.open_wide(server.admin, width).await;
            page.list("layout.crowded()").await;
            for state in ["ready", "full", "lost"] {
                let faint = format!("(document.body.dataset.state = '{state}', layout.faint())");
                assert_eq!(page.list(&faint).await, Vec::<String>::new(), "{scheme}, {width}, {state}");
            }
        }
    }
}

#[tokio::test]
async fn a_phone_shows_a_summary_first() {
    const FIRST: &str =
        "return [...document.querySelector('main').children].find((part) => part.checkVisibility()).id";
    let server = TestServer::start();
    let _listener = server.listen("/stream/a/u");
    let Some(page) = Page::open(server.admin).await else { return };
    page.open_wide(server.admin, 390).await;
    assert_eq!(page.0.run::<String>(FIRST, vec![]).await, "summary");
    page.until("one connection", "document.querySelector('#gist').innerText.startsWith('1 connected, ')")
        .await;
    assert_eq!(page.text("#verdict").await, "Every connection is up to date");
    page.0.resize(1280, 900).await;
    assert_eq!(page.0.run::<String>(FIRST, vec![]).await, "tiles");
}

/// The memory of the whole process was once divided by the connections: a hundred times what a connection takes.
#[tokio::test]
async fn memory_a_connection_is_without_the_fixed_share() {
    let server = TestServer::start();
    let mut watcher = Watcher::open(server.admin, &[]);
    let _few = server.listen("/stream/a/u");
    let few = watcher.until("one connection", &1, |sum, sample| *sum = count(&sample["connections"]));
    assert_eq!(few["memory_per_connection"], Value::Null, "too few to tell");
    let _many: Vec<_> = (0..1000).map(|n| server.listen(&format!("/stream/a/{n}"))).collect();
    let many = watcher.until("a thousand", &1001, |sum, sample| *sum = count(&sample["connections"]));
    let shared_out = count(&many["memory"]) / 1001;
    assert!(count(&many["memory_per_connection"]) < shared_out, "{many}");
    let Some(page) = Page::open(server.admin).await else { return };
    page.until(
        "its memory",
        "/^\\d+\\.\\d\\d KiB a conn/.test(document.querySelectorAll('.more')[6].innerText)",
    )
    .await;
}

#[tokio::test]
async fn the_page_comes_back_with_the_server() {
    let server = TestServer::start();
    let admin = server.admin;
    let Some(page) = Page::open(admin).await else { return };
    page.state("ready").await;
    page.until("some samples", "document.querySelector('canvas').dataset.points >= 2").await;
    drop(server);
    page.state("lost").await;
    assert!(page.text("#status").await.contains("Connection lost"));

    let server = TestServer::with(|config| config.admin_listen = Some(ListenAddr::Tcp(admin)));
    let _listener = server.listen("/stream/a/u");
    page.state("ready").await;
    let notice = page.text("#notice").await;
    assert!(notice.contains("restarted"), "{notice}");
    page.until("the new server's figures", "document.querySelector('#tiles .value').innerText === '1'").await;
}

#[tokio::test]
async fn a_page_that_finds_no_place_gets_one_later() {
    let server = TestServer::start();
    let watchers: Vec<_> = (0..STREAMS_MAX).map(|_| Watcher::open(server.admin, &[])).collect();
    let Some(page) = Page::open(server.admin).await else { return };
    page.state("lost").await;
    let notice = page.text("#notice").await;
    assert!(notice.contains("too many pages"), "{notice}");
    drop(watchers);
    page.state("ready").await;
}

/// Takes the pictures of `docs/operations.md`, of a running server at `TIDEGATE_DASHBOARD`, or at the default address:
/// `cargo test --test watch -- --ignored screenshot`. `TIDEGATE_PICTURE` begins other names of files, as in `scripts/chat`.
#[tokio::test]
#[ignore = "takes pictures of a server that has to be there"]
async fn screenshot() {
    let url = std::env::var("TIDEGATE_DASHBOARD").unwrap_or("http://127.0.0.1:9180/dashboard".into());
    let names = std::env::var("TIDEGATE_PICTURE").unwrap_or("dashboards/dashboard".into());
    let page = Page(Chromium::start().await.expect("this needs a browser"));
    for scheme in ["light", "dark"] {
        page.0.prefer_color_scheme(scheme).await;
        page.0.open(&url).await;
        page.state("ready").await;
        page.until("some samples", "document.querySelector('canvas').dataset.points >= 2").await;
        let file = format!("{}/{names}-{scheme}.png", env!("CARGO_MANIFEST_DIR"));
        let mut picture = packed(&page.0.picture(1440, 1.25).await);
        if picture.len() > PICTURE_BYTES_MAX {
            picture = packed(&page.0.picture(1440, 1.0).await);
        }
        assert!(picture.len() <= PICTURE_BYTES_MAX, "{}", picture.len());
        std::fs::write(&file, picture).expect("a file");
    }
}

/// Every clone of the repository contains the pictures.
const PICTURE_BYTES_MAX: usize = 200 << 10;

/// Returns the same picture in fewer bytes: browsers compress fast rather than well.
fn packed(picture: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("of this size")];
    let info = reader.next_frame(&mut pixels).expect("a picture");
    let mut packed = Vec::new();
    let mut encoder = png::Encoder::new(&mut packed, info.width, info.height);
    encoder.set_color(info.color_type);
    encoder.set_compression(png::Compression::High);
    // Large areas of one colour compress best unfiltered.
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().expect("a Vec takes it");
    writer.write_image_data(&pixels[..info.buffer_size()]).expect("a Vec takes it");
    drop(writer);
    packed
}
