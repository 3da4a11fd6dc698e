//! Promise: every browser that has access draws the live page whole, in light and dark and at any width, and comes back
//! with the server.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate::admin::live::STREAMS_MAX;
use tidegate::config::ListenAddr;

use crate::common::TestServer;
use crate::common::browser::chromium::Chromium;
use crate::common::neighbours::until;
use crate::dashboard::{Watcher, count, members, with_rules};

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

/// It was moved to this file once, and the script then took no picture, and said nothing.
#[test]
fn the_script_that_wants_pictures_names_the_test_that_takes_them() {
    let file = module_path!().rsplit("::").next().expect("a module");
    assert!(include_str!("../../scripts/chat").contains(&format!("\"{file}::screenshot\"")));
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
