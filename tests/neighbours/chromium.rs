//! A real browser subscribes: Chromium's `EventSource` against the real server, over networks that break.
//!
//! The tests show what pages can rely on: types, data and `lastEventId` as published; a reconnect that resumes exactly
//! or reports a gap; a full server that every page reaches later; a `204` that ends the stream for good.

use crate::common::{
    browser::{chromium, proxy},
    neighbours,
};

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::chromium::{Chromium, Event, Ready, State, Stream};
use self::neighbours::{PATIENCE, Server, id_of, until, url};
use self::proxy::{Cut, Proxy};

/// Browsers that were cut off reconnect at once; otherwise the tests would take too long.
const RETRY: (&str, &str) = ("RETRY", "100ms");

/// A browser, a server that lets its page in, and a network between them.
struct Scene {
    browser: Chromium,
    server: Server,
    proxy: Proxy,
}

impl Scene {
    /// Sets up a scene. `None` if this machine has no browser.
    async fn set(settings: &[(&str, &str)]) -> Option<Self> {
        let browser = Chromium::start().await?;
        let origin = browser.origin();
        let settings = [&[("CORS_ORIGINS", &*origin), RETRY], settings].concat();
        let server = Server::start(&settings).await;
        let proxy = Proxy::start(server.address).await;
        Some(Self { browser, server, proxy })
    }

    /// Opens a stream through the proxy, and waits until it is connected.
    async fn listen(&self, path: &str) -> Stream {
        let stream = self.browser.listen(&self.proxy.url(path)).await;
        self.browser.until("connected", stream, |state| !state.of_kind("connected").is_empty()).await;
        stream
    }

    /// Publishes `data` to room `a` and returns the message that the page should get.
    async fn publish(&self, data: &str) -> Event {
        let answer = self.server.publish(json!({ "room": "a", "data": data })).await;
        Event::new("message", data, id_of(&answer))
    }

    /// Waits until the page has as many messages as `wanted`, which must be these.
    async fn until_messages(&self, stream: Stream, wanted: &[Event]) -> State {
        let last = wanted.last().expect("something is wanted");
        let has_last =
            |state: &State| state.events.contains(last) || state.of_kind("message").len() > wanted.len();
        let state = self.browser.until(&last.data, stream, has_last).await;
        assert_eq!(state.of_kind("message"), wanted);
        state
    }
}

#[tokio::test]
async fn types_data_and_ids_reach_the_page_as_published() {
    let Some(scene) = Scene::set(&[]).await else { return };
    let Scene { browser, server, proxy } = &scene;
    let stream = scene.listen("/stream?room=a&room=b%20%C3%BC&user=me").await;

    let lines = "one\ntwo\r\nthree\rfour\n\n  five: \u{1f30a}";
    let published = [
        (json!({ "room": "a", "data": "plain" }), "message", "plain"),
        (json!({ "room": "b ü", "event": "price", "data": "42" }), "price", "42"),
        (json!({ "room": "a", "data": lines }), "message", "one\ntwo\nthree\nfour\n\n  five: \u{1f30a}"),
        (json!({ "room": "a", "data": { "a": [null, 1.5] } }), "message", r#"{"a":[null,1.5]}"#),
        (json!({ "user": "me", "event": "price", "data": "" }), "price", ""),
        (json!({ "all": true, "data": " spaces " }), "message", " spaces "),
        (json!({ "room": "a", "data": "own id", "id": "order-17" }), "message", "own id"),
        (json!({ "room": "a", "event": "unheard", "data": "nobody listens to this type" }), "", ""),
        (json!({ "room": "a", "data": "last" }), "message", "last"),
    ];
    let mut wanted = Vec::new();
    for (event, kind, data) in published {
        let id = event["id"].as_str().map(str::to_owned);
        let answer = server.publish(event).await;
        assert_eq!(answer["subscribers"], 1);
        if !kind.is_empty() {
            wanted.push(Event::new(kind, data, id.unwrap_or_else(|| id_of(&answer))));
        }
    }

    let state = browser.until("the last", stream, |state| state.events.len() > wanted.len()).await;
    let (connected, events) = state.events.split_first().expect("there are events");
    assert_eq!(events, wanted);
    assert_eq!((state.ready, state.opened, state.errors), (Ready::Open, 1, 0));
    assert_eq!(connected.kind, "connected");
    let data = connected.json();
    assert_eq!((&data["user"], &data["rooms"]), (&json!("me"), &json!(["a", "b ü"])));
    assert!(data["connection"].as_str().is_some_and(|name| !name.is_empty()), "{data}");

    // Ids are those on the wire; an event of a type that the page does not listen for has one, too.
    let text = proxy.wires()[0].text();
    let on_the_wire: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let mut seen: Vec<&str> = state.events.iter().map(|event| &*event.id).collect();
    let unheard = on_the_wire.len() - 2;
    seen.insert(unheard, on_the_wire[unheard]);
    assert_eq!(on_the_wire, seen);
}

#[tokio::test]
async fn a_cut_connection_resumes_without_loss_or_repeat() {
    let Some(scene) = Scene::set(&[]).await else { return };
    let stream = scene.listen("/stream/a/me").await;
    let mut wanted = Vec::new();
    for data in ["one", "two", "three"] {
        wanted.push(scene.publish(data).await);
    }
    scene.until_messages(stream, &wanted).await;

    scene.proxy.refuse(true);
    scene.proxy.cut(Cut::Close);
    until_refused(&scene.proxy, 1).await;
    for data in ["four", "five", "six"] {
        wanted.push(scene.publish(data).await);
    }
    let again = scene.proxy.refused() + 1;
    until_refused(&scene.proxy, again).await;
    let state = scene.browser.state(stream).await;
    assert_eq!((state.ready, state.of_kind("message").len()), (Ready::Connecting, 3));
    scene.proxy.refuse(false);

    let state = scene.until_messages(stream, &wanted).await;
    assert_eq!(state.of_kind("gap"), []);
    let wires = scene.proxy.wires();
    assert_eq!(wires.len(), 2, "one connection before and one after");
    assert_eq!(wires[0].header("last-event-id"), None);
    assert_eq!(wires[1].header("last-event-id"), Some(&*wanted[2].id));
    // A resumed stream starts where the old one ended, not at the newest event.
    let connected = state.of_kind("connected");
    assert_eq!(connected[1].id, wanted[2].id);

    wanted.push(scene.publish("seven").await);
    scene.until_messages(stream, &wanted).await;
}

/// Heads, chunk sizes, names, ids and data: a connection may break inside any of them.
#[tokio::test]
async fn cuts_at_any_byte_lose_and_repeat_nothing() {
    const CUTS: usize = 24;
    for gzip in ["off", "on"] {
        let Some(scene) = Scene::set(&[("GZIP", gzip)]).await else { return };
        let seed = fastrand::u64(..);
        eprintln!("gzip {gzip}, seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let stream = scene.listen("/stream/a/me").await;
        let mut wanted = vec![scene.publish("first").await];
        scene.until_messages(stream, &wanted).await;

        let head = scene.proxy.wires()[0].text().find("\r\n\r\n").expect("a response has a head");
        // Over plain HTTP, Chromium takes a head that was closed half-way for a whole one. Without the rest, the answer
        // is no stream, and Chromium never reconnects: no server can prevent that. Over TLS it does reconnect.
        let cut = |bytes, close| (bytes, if close && bytes > head + 4 { Cut::Close } else { Cut::Reset });
        scene.proxy.plan((0..CUTS).map(|_| cut(rng.usize(1..1000), rng.bool())));
        scene.proxy.cut(Cut::Reset);
        // Publishes meanwhile, so that there are events to resume, live ones, and both at once.
        until("every cut", async || {
            let data = format!("event {}\nof those", wanted.len());
            wanted.push(scene.publish(&data).await);
            let planned = scene.proxy.planned();
            if planned == 0 { Ok(()) } else { Err((planned, scene.proxy.wires().pop())) }
        })
        .await;
        wanted.push(scene.publish("last").await);

        let state = scene.until_messages(stream, &wanted).await;
        assert_eq!(state.of_kind("gap"), []);
        let wires = scene.proxy.wires();
        assert!(wires.len() > CUTS);
        for wire in &wires[1..] {
            let presented = wire.header("last-event-id").expect("it had one when it was cut");
            assert!(wanted.iter().any(|event| event.id == presented), "{presented} was never published");
        }
    }
}

#[tokio::test]
async fn a_restarted_server_tells_that_history_is_lost() {
    let Some(scene) = Scene::set(&[]).await else { return };
    let Scene { browser, server, proxy: _ } = scene;
    let stream = browser.listen(&server.url("/stream/a/me")).await;
    browser.until("connected", stream, |state| !state.events.is_empty()).await;
    let last = id_of(&server.publish(json!({ "room": "a", "data": "before" })).await);
    browser.until("the event", stream, |state| state.events.len() == 2).await;

    let address = server.address.to_string();
    server.kill().await;
    browser.until("the end", stream, |state| state.ready == Ready::Connecting).await;
    let origin = browser.origin();
    let server = Server::start(&[("LISTEN", &address), ("CORS_ORIGINS", &origin), RETRY]).await;
    // Whether or not the browser has reconnected when this is published.
    let first = id_of(&server.publish(json!({ "room": "a", "data": "after" })).await);
    browser.until("the first event", stream, |state| state.of_kind("message").len() == 2).await;
    let second = id_of(&server.publish(json!({ "room": "a", "data": "long after" })).await);

    let state = browser.until("the second event", stream, |state| state.of_kind("message").len() == 3).await;
    let kinds: Vec<&str> = state.events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["connected", "message", "connected", "gap", "message", "message"]);
    let (connected, gap) = (&state.events[2], &state.events[3]);
    assert_eq!(connected.id, last, "nothing of the new stream has been sent yet");
    let data = gap.json();
    assert_eq!((&data["reason"], &data["rooms"]), (&json!("restart"), &json!(["a"])));
    assert_eq!((&data["from"], &data["to"]), (&json!(last), &json!(gap.id)));
    assert_eq!(
        state.events[4..],
        [Event::new("message", "after", first), Event::new("message", "long after", second),]
    );
}

/// Each tab has a host of its own: browsers open only six connections to one host over HTTP/1.1.
#[tokio::test]
async fn tabs_refused_by_a_full_server_all_come_back_by_themselves() {
    const TABS: u8 = 20;
    let Some(browser) = Chromium::start().await else { return };
    let (origin, tabs_max) = (browser.origin(), TABS.to_string());
    let settings = [
        ("LISTEN", "0.0.0.0:0"),
        ("INSECURE", "true"),
        ("CORS_ORIGINS", &*origin),
        ("MAX_CONNECTIONS", &*tabs_max),
        RETRY,
    ];
    let mut server = Server::start(&settings).await;
    let port = server.address.port();
    server.address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut others = Vec::new();
    for _ in 0..TABS {
        others.push(subscribe(&server, "/stream?room=others").await);
    }

    let mut tabs = Vec::new();
    for number in 0..TABS {
        let tab = browser.open_tab().await;
        let host = SocketAddr::from(([127, 0, 0, 2 + number], port));
        let stream = browser.listen(&url(host, &format!("/stream/a/user-{number}"))).await;
        tabs.push((tab, stream));
    }
    for (tab, stream) in &tabs {
        browser.switch_to(tab).await;
        // Refused more than once: a refusal does not make the browser give up.
        let refused = |state: &State| state.of_kind("overload").len() > 1;
        let state = browser.until("refusals", *stream, refused).await;
        assert!(state.events.iter().all(|event| event.json() == json!({ "reason": "full" })), "{state:?}");
    }

    drop(others);
    for (tab, stream) in &tabs {
        browser.switch_to(tab).await;
        browser.until("a place", *stream, |state| !state.of_kind("connected").is_empty()).await;
    }
    let answer = server.publish(json!({ "room": "a", "data": "all aboard" })).await;
    assert_eq!(answer["subscribers"], TABS);
    let wanted = [Event::new("message", "all aboard", id_of(&answer))];
    for (tab, stream) in &tabs {
        browser.switch_to(tab).await;
        let state = browser.until("the event", *stream, |state| !state.of_kind("message").is_empty()).await;
        assert_eq!((state.ready, state.of_kind("message")), (Ready::Open, wanted.to_vec()));
        assert_eq!(state.of_kind("connected").len(), 1);
    }
}

#[tokio::test]
async fn a_disconnected_user_stays_away() {
    let Some(scene) = Scene::set(&[]).await else { return };
    let Scene { browser, server, proxy } = &scene;
    let out = scene.listen("/stream/a/out").await;
    let answer = server.post("/disconnect/a/out", "").await;
    assert_eq!(answer["disconnected"], 1);

    let state = browser.until("the end", out, |state| state.ready == Ready::Closed).await;
    let kinds: Vec<&str> = state.events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["connected", "closing"]);
    assert_eq!(state.events[1].json(), json!({ "reason": "disconnected" }));
    let wires = proxy.wires();
    let answers: Vec<String> =
        wires.iter().map(|wire| wire.text().lines().next().unwrap_or_default().to_owned()).collect();
    assert_eq!(answers, ["HTTP/1.1 200 OK", "HTTP/1.1 204 No Content"]);

    // Only that user is affected, and only in that room.
    let elsewhere = scene.listen("/stream/b/out").await;
    let other = scene.listen("/stream/a/other").await;
    let event = scene.publish("for those who are in").await;
    scene.until_messages(other, &[event]).await;
    assert_eq!(browser.state(elsewhere).await.ready, Ready::Open);
    assert_eq!(browser.state(out).await.ready, Ready::Closed);
    let requests: usize = proxy.wires().iter().map(|wire| wire.request.matches("GET ").count()).sum();
    assert_eq!(requests, 4, "whoever was sent away has not come again");
}

#[tokio::test]
async fn a_heartbeat_moves_the_id_on_without_an_event() {
    let Some(scene) = Scene::set(&[("HEARTBEAT", "1s")]).await else { return };
    let Scene { browser, server, proxy } = &scene;
    let stream = scene.listen("/stream/a/me").await;
    let first = scene.publish("the only one").await;
    scene.until_messages(stream, std::slice::from_ref(&first)).await;
    // The offset advances in another room.
    let newer = id_of(&server.publish(json!([{ "room": "b", "data": 1 }, { "room": "b", "data": 2 }])).await);
    let heartbeat = format!(":\nid: {newer}\n\n");
    until("the heartbeat", async || {
        let text = proxy.wires()[0].text();
        if text.contains(&heartbeat) { Ok(()) } else { Err(text) }
    })
    .await;

    proxy.cut(Cut::Close);
    let resumed = |state: &State| state.of_kind("connected").len() == 2;
    let state = browser.until("the reconnect", stream, resumed).await;
    assert_eq!(proxy.wires()[1].header("last-event-id"), Some(&*newer));
    assert_eq!(state.events[1..state.events.len() - 1], [first], "nothing was dispatched meanwhile");
    assert_eq!(state.events.last().map(|event| &*event.id), Some(&*newer));
}

#[tokio::test]
async fn gzip_is_decoded_while_the_stream_is_open() {
    let Some(scene) = Scene::set(&[("GZIP", "on")]).await else { return };
    let Scene { browser, server, proxy } = &scene;
    let stream = scene.listen("/stream/a/me").await;
    let head = proxy.wires()[0].text().to_lowercase();
    assert!(head.contains("\r\ncontent-encoding: gzip\r\n"), "{head}");

    let mut wanted = Vec::new();
    for data in ["one", "two\nlines", "", "dräi \u{1f30a}", "five"] {
        // Each arrives before the next is published: no decoder holds an event back.
        wanted.push(scene.publish(data).await);
        scene.until_messages(stream, &wanted).await;
    }
    // Batches that compress well and one that does not, of more than a window (32 KiB).
    let noise = |_| std::iter::repeat_with(fastrand::alphanumeric).take(400).collect::<String>();
    for batch in [vec!["again and again ".repeat(20); 300], (0..300).map(noise).collect()] {
        let drafts: Vec<Value> = batch.iter().map(|data| json!({ "room": "a", "data": data })).collect();
        let newest = id_of(&server.publish(json!(drafts)).await);
        let state = browser
            .until("the batch", stream, |state| state.of_kind("message").len() == wanted.len() + batch.len())
            .await;
        let got = state.of_kind("message").split_off(wanted.len());
        let data: Vec<&String> = got.iter().map(|event| &event.data).collect();
        assert_eq!(data, Vec::from_iter(&batch));
        assert_eq!(got.last().map(|event| &event.id), Some(&newest));
        wanted.extend(got);
    }
    assert_eq!(proxy.wires().len(), 1, "all of it was one stream");

    // Such a stream has no trailer: its end is still an ordinary one.
    assert_eq!(server.post("/disconnect/a/me?stay_away=0", "").await["disconnected"], 1);
    browser.until("the way back", stream, |state| state.of_kind("connected").len() == 2).await;
    wanted.push(scene.publish("resumed").await);
    let state = scene.until_messages(stream, &wanted).await;
    assert_eq!((state.of_kind("closing").len(), state.of_kind("gap").len()), (1, 0));
    assert_eq!(proxy.wires()[1].header("last-event-id"), Some(&*wanted[wanted.len() - 2].id));
}

async fn until_refused(proxy: &Proxy, times: usize) {
    until("a refused connection", async || {
        let refused = proxy.refused();
        if refused >= times { Ok(()) } else { Err(refused) }
    })
    .await;
}

/// A subscriber other than a browser, which takes a place as long as it lives.
async fn subscribe(server: &Server, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.expect("the server accepts");
    let path = server.url(path).splitn(4, '/').last().map(|path| format!("/{path}")).expect("a path");
    let request = format!("GET {path} HTTP/1.1\r\nhost: tests\r\naccept: text/event-stream\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("the server reads");
    let mut seen = Vec::new();
    let connected = async {
        while !seen.windows(16).any(|bytes| bytes == b"event: connected") {
            let count = socket.read_buf(&mut seen).await.expect("the server writes");
            assert!(count > 0, "no stream: {}", String::from_utf8_lossy(&seen));
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("a stream begins at once");
    socket
}
