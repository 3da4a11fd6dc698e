//! Promise: the examples in the README and the guides work unchanged, except for ports: commands are run, pages are
//! opened in Chromium, and what the server sends has the form shown.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::common::application::{Application, Reply};
use crate::common::browser::either::{Browser, Kind};
use crate::common::browser::pages::Pages;
use crate::common::neighbours::{Folder, Output, Server, find, id_of, until};

const README: &str = include_str!("../../README.md");
const CALLBACKS: &str = include_str!("../../docs/callbacks.md");
const DEPLOYING: &str = include_str!("../../docs/deploying.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const PRESENCE: &str = include_str!("../../docs/presence.md");
const PROXIES: &str = include_str!("../../docs/proxies.md");
const PERSISTENCE: &str = include_str!("../../docs/persistence.md");
const RESUME: &str = include_str!("../../docs/resume.md");
const SETTINGS: &str = include_str!("../../docs/settings.md");
const TOKENS: &str = include_str!("../../docs/tokens.md");
const TUTORIAL: &str = include_str!("../../docs/tutorial/first-page.md");

const SECRET: &str = "HS256:base64:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";

/// Returns the block in `language` of `page` that begins with `start`, with `changes` made.
fn block(page: &str, language: &str, start: &str, changes: &[(&str, &str)]) -> String {
    let fence = format!("```{language}\n{start}");
    let (_, rest) = page.split_once(&fence).unwrap_or_else(|| panic!("no block that begins with {fence:?}"));
    let rest = rest.split("\n```").next().expect("a split has a first part");
    let mut block = format!("{start}{rest}\n");
    for (from, to) in changes {
        assert!(block.contains(from), "{from:?} is in {block}");
        block = block.replace(from, to);
    }
    block
}

/// Returns a shell that runs `script`, with `tidegate` on its path.
fn bash(folder: &Folder, script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("there is one"));
    let mut command = Command::new("bash");
    command.args(["-ec", script]).current_dir(folder.path()).env("PATH", path).env("no_proxy", "*");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs `script`, which must succeed, and returns its output.
async fn said(folder: &Folder, script: &str) -> String {
    let output = bash(folder, &script.replace("curl ", "curl -sS ")).output().await.expect("bash runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{script}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Starts a command that keeps running, and returns it with its output.
fn begin(folder: &Folder, script: &str) -> (Child, Output) {
    let script = format!("exec {}", script.replace("curl ", "curl -sS "));
    let mut child = bash(folder, &script).stdout(Stdio::piped()).spawn().expect("bash runs");
    let output = Output::of(&mut child);
    (child, output)
}

#[tokio::test]
async fn the_first_commands_work() {
    let Some(_) = find("curl") else { return };
    let (server, folder) = (Server::start(&[]).await, Folder::new());
    let here = [("127.0.0.1:8080", &*server.address.to_string())];
    let commands = block(README, "sh", "curl -N http", &here);
    let (listen, publish) = commands.split_once('\n').expect("two commands");
    let (_child, mut heard) = begin(&folder, listen);
    heard.line("the stream", |line| line == "event: connected").await;
    assert!(said(&folder, publish).await.starts_with(r#"{"id":""#));
    heard.line("the event", |line| line == "data: hello").await;
}

#[tokio::test]
async fn an_id_that_is_passed_by_hand_is_answered() {
    let Some(_) = find("curl") else { return };
    let (server, folder) = (Server::start(&[]).await, Folder::new());
    let first = id_of(&server.publish(json!({"room": "lobby", "data": 1})).await);
    server.publish(json!({"room": "lobby", "data": 2})).await;
    let address = server.address.to_string();
    // An id of another epoch, as shown, and one of this server.
    for (changes, wanted) in [
        (&[("127.0.0.1:8080", &*address)][..], "event: gap"),
        (&[("127.0.0.1:8080", &*address), ("k3v9q2-1041", &*first)][..], "data: 2"),
    ] {
        let (_child, mut heard) = begin(&folder, block(README, "sh", "curl -N \"http", changes).trim_end());
        heard.line(wanted, |line| line == wanted).await;
    }
}

/// The README's few lines, on a page that records `console.log`.
#[tokio::test]
async fn the_first_script_shows_what_comes() {
    let Some(mut browser) = Browser::start(Kind::Chromium).await else { return };
    let pages = Pages::serve().await;
    let server = Server::start(&[("CORS_ORIGINS", &pages.origin())]).await;
    let url = server.url("/stream/lobby/me");
    let script = block(README, "html", "<script>", &[("/api/v1/sse/stream/lobby/me", &url)]);
    let stage = "<!doctype html><script>const seen = []; console.log = (...said) => seen.push(said);
        let loads = 0; const reloadStateFromYourServer = () => { loads += 1; };</script>";
    pages.put(format!("{stage}{script}"));
    browser.open(&pages.origin()).await;
    browser.until("a stream", "stream.readyState === 1", "stream.readyState").await;
    let id = id_of(&server.publish(json!({"room": "lobby", "data": "hello"})).await);
    server.publish(json!({"room": "lobby", "event": "price", "data": {"eur": 2}})).await;
    browser.until("both", "seen.length === 2", "seen").await;
    let seen: Value = browser.run("return seen", &[]).await;
    assert_eq!(seen, json!([[id, "hello"], ["price", {"eur": 2}]]));
}

/// The web server of the tutorial with its pages, Tidegate as the tutorial starts it, and a browser.
struct Lesson {
    browser: Browser,
    folder: Folder,
    origin: String,
    address: String,
    _servers: [(Child, Output); 2],
}

impl Lesson {
    async fn begin() -> Option<Self> {
        let (_, _, browser) = (find("python3")?, find("curl")?, Browser::start(Kind::Chromium).await?);
        let folder = Folder::new();
        let commands = block(TUTORIAL, "sh", "tidegate --cors-origins", &[]);
        let (tidegate, pages) = commands.trim_end().split_once('\n').expect("two commands");
        let pages = pages.strip_suffix(" &").expect("it goes on").replace("3000", "0");
        let mut pages = begin(&folder, &pages.replace("python3", "python3 -u"));
        let line = pages.1.line("the web server", |line| line.starts_with("Serving HTTP on ")).await;
        let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
        let tidegate = tidegate.strip_suffix(" &").expect("it goes on").replace(":3000", &format!(":{port}"));
        let mut tidegate = begin(&folder, &format!("{tidegate} --listen 127.0.0.1:0 --admin-listen off"));
        let line = tidegate.1.line("the welcome", |line| line.contains("is listening on ")).await;
        let address = line.split("is listening on ").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.expect("where it listens").to_owned();
        for (name, title) in [
            ("index.html", "First page"),
            ("chat.html", "Chat"),
            ("notifications.html", "Notifications"),
            ("answer.html", "An answer"),
        ] {
            let page = TUTORIAL.split("```html\n").find(|page| page.contains(&format!("<title>{title}<")));
            let page = page.and_then(|page| page.split("```").next()).expect("a page of that title");
            assert!(TUTORIAL.contains(&format!("`{name}`")), "{name}");
            fs::write(folder.path().join(name), page.replace("127.0.0.1:8080", &address))
                .expect("our folder");
        }
        let origin = format!("http://127.0.0.1:{port}");
        Some(Self { browser, folder, origin, address, _servers: [pages, tidegate] })
    }

    async fn open(&mut self, page: &str) {
        self.browser.open(&format!("{}/{page}", self.origin)).await;
        self.until("stream.readyState === 1 || document.body.innerText.includes('done')").await;
    }

    async fn until(&mut self, wanted: &str) {
        self.browser.until(wanted, wanted, "document.body.innerText").await;
    }

    /// Runs the tutorial's commands that begin with `start`.
    async fn run(&self, start: &str) -> String {
        let commands = block(TUTORIAL, "sh", start, &[("127.0.0.1:8080", &self.address)]);
        said(&self.folder, &commands.replace("sleep 0.2", "sleep 0.01")).await
    }
}

#[tokio::test]
async fn the_tutorial_works_as_it_stands() {
    let Some(mut lesson) = Lesson::begin().await else { return };
    lesson.open("").await;
    lesson.run("curl http").await;
    lesson.until("document.querySelector('#events').textContent === 'hello'").await;

    lesson.open("chat.html").await;
    let send =
        "document.querySelector('[name=text]').value = 'hi'; document.querySelector('form').requestSubmit()";
    let _: Value = lesson.browser.run(&format!("{send}; return null"), &[]).await;
    lesson.until("document.querySelector('#lines').textContent.endsWith(': hi')").await;
    // Another user's message comes next; the page's own message is not repeated.
    let other = r#"{"room":"chat","event":"chat","data":{"from":"ann","text":"hello"}}"#;
    until("the message in the room", async || {
        let said =
            said(&lesson.folder, &format!("curl http://{}/api/v1/sse/rooms/chat", lesson.address)).await;
        if said.contains(r#""events":1,"#) { Ok(()) } else { Err(said) }
    })
    .await;
    said(&lesson.folder, &format!("curl http://{}/api/v1/sse/publish -d '{other}'", lesson.address)).await;
    lesson.until("document.querySelector('#lines').textContent.endsWith('ann: hello')").await;
    lesson.until("document.querySelectorAll('#lines li').length === 2").await;
    lesson.open("chat.html").await;
    lesson.until("document.querySelectorAll('#lines li').length === 2").await;

    lesson.open("notifications.html").await;
    lesson.run("url=").await;
    lesson.until("document.querySelector('#unread').textContent === '2'").await;

    lesson.open("answer.html").await;
    let is_whole = "document.querySelector('#answer').textContent === 'The tide comes in twice a day '
        && document.querySelector('#state').textContent === 'done'";
    assert!(lesson.run("model() {").await.contains(r#""published":8"#));
    lesson.until(is_whole).await;
    lesson.open("answer.html").await;
    lesson.until(is_whole).await;
}

/// Returns the members of an object, and the kind of each value.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(values) => values.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn the_application_is_asked_as_shown() {
    let Some(_) = find("curl") else { return };
    let application = Application::always(Reply::With(200, "{}".to_owned()));
    let folder = Folder::new();
    let here = [("127.0.0.1:3000", &*application.addr.to_string())];
    let settings = ["auth_callback", "disconnect_callback"].map(|name| block(CALLBACKS, "toml", name, &here));
    fs::write(folder.file("tidegate.toml"), settings.concat()).expect("our folder");
    let command =
        "tidegate --config tidegate.toml --listen 127.0.0.1:0 --admin-listen off --trusted-proxies 127.0.0.1";
    let (_server, mut output) = begin(&folder, command);
    let line = output.line("the welcome", |line| line.contains("is listening on ")).await;
    let address = line.split("is listening on ").nth(1).and_then(|rest| rest.split(',').next()).expect("one");
    let shown = block(CALLBACKS, "http", "POST /sse/auth", &[]);
    let (head, body) = shown.split_once("\n\n").expect("a head and a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    let listen = format!(
        "curl -N 'http://{address}/api/v1/sse/stream?room=lobby' -H 'cookie: session=x' -H 'x-forwarded-for: {}'",
        body["address"].as_str().expect("an address")
    );
    let (child, mut heard) = begin(&folder, &listen);
    heard.line("a stream", |line| line == "event: connected").await;
    let asked = &application.asked()[0];
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some(&*asked.line));
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header");
        assert_eq!(
            asked.header(&name.to_lowercase()).map(|sent| sent.starts_with(&value[..7])),
            Some(true),
            "{line}"
        );
    }
    assert_eq!(asked.json(), body);

    drop(child);
    until("a notice", async || if application.count() > 1 { Ok(()) } else { Err(application.count()) }).await;
    let told = &application.asked()[1];
    assert_eq!(told.line, "POST /sse/gone");
    let mut shown: Value = serde_json::from_str(&block(CALLBACKS, "json", "{\"epoch\"", &[])).expect("JSON");
    let mut found = told.json();
    // The page shows the event of a stream with a user.
    assert_eq!(shown["events"][0]["reason"], found["events"][0]["reason"]);
    for event in [&mut shown["events"][0], &mut found["events"][0]] {
        event.as_object_mut().expect("an object").remove("user");
    }
    assert_eq!(shape(&shown), shape(&found));
}

#[tokio::test]
async fn the_application_hears_of_members_as_shown() {
    let Some(_) = find("curl") else { return };
    let application = Application::always(Reply::With(200, "{}".to_owned()));
    let here = [("127.0.0.1:3000", &*application.addr.to_string())];
    let settings = block(CALLBACKS, "toml", "presence_callback", &here);
    let (folder, server) = with_tables(&settings).await;
    let (_child, mut heard) =
        begin(&folder, &format!("curl -N '{}'", server.url("/stream/lobby/me?presence=on")));
    heard.line("who is there", |line| line == "event: presence").await;
    let told = || -> Vec<Value> {
        let events = |body: Value| body["events"].as_array().cloned().expect("a list");
        application.asked().iter().flat_map(|asked| events(asked.json())).collect()
    };
    until("both notices", async || if told().len() == 2 { Ok(()) } else { Err(told()) }).await;
    let asked = &application.asked()[0];
    assert_eq!((&*asked.line, asked.json()["epoch"].is_string()), ("POST /sse/presence", true));
    let shown = block(CALLBACKS, "json", "{\"epoch\":\"k3v9q2\",\"events\":[{\"type\"", &[]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["events"], json!(told()));
}

/// A user publishes with a token, and the application signs, refuses or is asked nothing.
#[tokio::test]
async fn the_application_decides_about_events_as_shown() {
    let Some(_) = find("curl") else { return };
    let application = Application::start(|asked| match asked.json()["data"].as_str() {
        Some("LOUD") => Reply::With(403, r#"{"code":"too_loud","title":"Say it softly"}"#.to_owned()),
        _ => Reply::With(200, "{}".to_owned()),
    });
    let here = [("127.0.0.1:3000", &*application.addr.to_string())];
    let settings = block(CALLBACKS, "toml", "publish_callback", &here);
    let (folder, server) = with_tables(&settings).await;
    let secret = settings.split("token_keys = [\"").nth(1).and_then(|rest| rest.split('"').next());
    let program = env!("CARGO_BIN_EXE_tidegate");
    let token = said(
        &folder,
        &format!("{program} --token-keys {} token --user me --allow sse:publish", secret.expect("a key")),
    )
    .await;
    let publish = |data: &str| {
        let body = json!({"room": "chat-1", "event": "say", "data": data});
        let url = server.url("/publish");
        format!("curl '{url}' -H 'authorization: Bearer {}' -d '{body}'", token.trim())
    };
    let accepted = said(&folder, &publish("hello")).await;
    assert!(accepted.starts_with(r#"{"id":"#), "{accepted}");
    let refused = said(&folder, &publish("LOUD")).await;
    assert_eq!(refused, r#"{"title":"Say it softly","status":403,"code":"too_loud"}"#);
    let asked = &application.asked()[0];
    let shown: Value =
        serde_json::from_str(&block(CALLBACKS, "json", "{\"user\":\"me\",\"room\"", &[])).expect("JSON");
    assert_eq!((&*asked.line, asked.json()), ("POST /sse/publish", shown));
}

/// Starts a server with these settings, which may have tables.
async fn with_tables(settings: &str) -> (Folder, Server) {
    let folder = Folder::new();
    fs::write(folder.file("tidegate.toml"), settings).expect("our folder");
    let server = Server::start(&[("CONFIG", &folder.file("tidegate.toml"))]).await;
    (folder, server)
}

/// Returns the data of the message about presence that the guide shows, by its `type`.
fn message_shown(kind: &str) -> Value {
    let start = format!("data: {{\"type\":\"{kind}\"");
    let (_, rest) = PRESENCE.split_once(&start).expect("the guide shows it");
    let line = rest.lines().next().expect("the rest of its line");
    serde_json::from_str(&format!("{{\"type\":\"{kind}\"{line}")).expect("JSON")
}

fn members(message: &Value) -> Vec<&String> {
    message.as_object().expect("an object").keys().collect()
}

#[tokio::test]
async fn presence_works_as_shown() {
    let Some(_) = find("curl") else { return };
    let table = block(PRESENCE, "toml", "[[room]]", &[]);
    let counted = table.replace("lobby", "arena").replace("members", "count");
    let (folder, server) = with_tables(&format!("{table}{counted}")).await;
    let address = server.address.to_string();
    let here = [("127.0.0.1:8080", &*address)];
    let listen = block(PRESENCE, "sh", "curl -N", &here);
    let (_me, mut heard) = begin(&folder, listen.trim_end());
    let arena = server.url("/stream/arena/me?presence=on");
    let (_other, mut heard_in_arena) = begin(&folder, &format!("curl -N '{arena}'"));
    // Nobody is present before the streams are.
    for (heard, kind, room) in [(&mut heard, "state", "lobby"), (&mut heard_in_arena, "count", "arena")] {
        check_message(heard, kind, room).await;
    }
    let said = said(&folder, &block(PRESENCE, "sh", "url=", &here)).await;
    assert!(said.starts_with(r#"{"room":"lobby","user":"me","rev":"#), "{said}");
    assert!(
        said.contains(r#""members":[{"user":"me","#) && said.contains(r#""data":{"status":"away"}"#),
        "{said}"
    );
    check_message(&mut heard, "diff", "lobby").await;
}

/// Checks the next message about presence against the one that the guide shows.
async fn check_message(heard: &mut Output, kind: &str, room: &str) {
    heard.line("a message", |line| line == "event: presence").await;
    assert_eq!(heard.line("its room", |_| true).await, format!("room: {room}"));
    let data = heard.line("its data", |_| true).await;
    let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{data}"));
    let found: Value = serde_json::from_str(data).expect("JSON");
    let shown = message_shown(kind);
    assert_eq!((&found["type"], members(&found)), (&shown["type"], members(&shown)), "{data}");
    for list in ["members", "update"] {
        if let (Some(found), Some(shown)) = (found[list].get(0), shown[list].get(0)) {
            assert!(members(found).iter().all(|name| members(shown).contains(name)), "{data}");
        }
    }
}

/// The guide's lines, on a page that records what it would show, in every browser. An event's line `room:` changes
/// nothing for the page.
#[tokio::test]
async fn a_page_shows_who_is_there() {
    for kind in Kind::ALL {
        if let Some(browser) = Browser::start(kind).await {
            shows_who_is_there(browser).await;
        }
    }
}

async fn shows_who_is_there(mut browser: Browser) {
    let pages = Pages::serve().await;
    let origins = format!("cors_origins = [\"{}\"]\n", pages.origin());
    let table = block(PRESENCE, "toml", "[[room]]", &[]);
    let (folder, server) = with_tables(&format!("{origins}{table}presence_interval = \"100ms\"\n")).await;
    let url = server.url("/stream/lobby/me?presence=on");
    let script = block(PRESENCE, "js", "const members", &[]);
    pages.put(format!(
        "<!doctype html><script>let seen; const show = (total, members) => {{
            seen = JSON.stringify([total, [...members]]); }};
        const stream = new EventSource('{url}');
        let said; stream.onmessage = e => {{ said = JSON.stringify([e.data, e.lastEventId]); }};\n{script}</script>"
    ));
    browser.open(&pages.origin()).await;
    let until = async |browser: &mut Browser, wanted: &str| {
        browser.until(wanted, &format!("seen === '{wanted}'"), "seen").await;
    };
    until(&mut browser, r#"[1,[["me",null]]]"#).await;
    let event = server.publish(json!({"room": "lobby", "data": "room: other"})).await;
    let wanted = json!(["room: other", id_of(&event)]).to_string();
    browser.until(&wanted, &format!("said === '{wanted}'"), "said").await;
    let other = server.url("/stream/lobby/other?presence=on");
    let (_child, _heard) = begin(&folder, &format!("curl -N '{other}'"));
    until(&mut browser, r#"[2,[["me",null],["other",null]]]"#).await;
    let presence = server.url("/presence/lobby");
    let change = |method: &str, user: &str, rest: &str| {
        format!("curl -X {method} '{presence}' -H 'tidegate-user: {user}' {rest}")
    };
    said(&folder, &change("PUT", "other", r#"-d '{"data":7}'"#)).await;
    until(&mut browser, r#"[2,[["me",null],["other",7]]]"#).await;
    said(&folder, &change("DELETE", "other", "")).await;
    until(&mut browser, r#"[1,[["me",null]]]"#).await;
}

#[tokio::test]
async fn a_gap_looks_as_shown() {
    let Some(_) = find("curl") else { return };
    let (server, folder) = (Server::start(&[("HISTORY_EVENTS", "1")]).await, Folder::new());
    let first = id_of(&server.publish(json!({"room": "lobby", "data": 1})).await);
    for n in 2..=3 {
        server.publish(json!({"room": "lobby", "data": n})).await;
    }
    let shown = block(RESUME, "text", "event: gap", &[]);
    let listen = format!("curl -N '{}'", server.url(&format!("/stream?room=lobby&last_event_id={first}")));
    let (_child, mut heard) = begin(&folder, &listen);
    heard.line("a gap", |line| line == "event: gap").await;
    for shown in shown.lines().skip(1) {
        let found = heard.line(shown, |_| true).await;
        let ((name, shown), (found_name, found)) =
            (shown.split_once(": ").expect("a field"), found.split_once(": ").expect("a field"));
        assert_eq!(name, found_name);
        if name == "data" {
            let [shown, found]: [Value; 2] =
                [shown, found].map(|text| serde_json::from_str(text).expect("JSON"));
            assert_eq!(shape(&shown), shape(&found));
            assert_eq!((&shown["reason"], &found["from"]), (&found["reason"], &json!(first)));
        }
    }
}

#[tokio::test]
async fn settings_of_the_guides_are_right() {
    let folder = Folder::new();
    let check = block(SETTINGS, "sh", "tidegate --config", &[]);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/tidegate.toml");
    fs::copy(example, folder.path().join("tidegate.toml")).expect("our folder");
    said(&folder, &check).await;
    // Addresses of another machine: this checks the settings only.
    for (page, start, told) in [
        (DEPLOYING, "listen = [\"unix:", "unix:/run/tidegate/http.sock;mode=0660;group=www-data"),
        (PROXIES, "listen = [\"proxy:", "proxy:10.0.0.2:8081"),
        (PERSISTENCE, "order = ", "disk:/var/lib/tidegate/order"),
    ] {
        let settings = block(page, "toml", start, &[]);
        fs::write(folder.path().join("tidegate.toml"), format!("insecure = true\n{settings}"))
            .expect("our folder");
        let said = said(&folder, &check).await;
        assert!(said.contains(told), "{said}");
    }
}

#[tokio::test]
async fn a_token_is_looked_into_as_shown() {
    let folder = Folder::new();
    fs::write(folder.path().join("tidegate.toml"), format!("token_keys = [\"{SECRET}\"]\n"))
        .expect("our folder");
    said(&folder, "tidegate --config tidegate.toml token --user me --allow sse:read:lobby > token").await;
    let check = block(OPERATIONS, "sh", "tidegate --config", &[("/etc/tidegate/", "")]);
    said(&folder, &check).await;
    let refused = bash(&folder, &check.replace("lobby", "other")).output().await.expect("bash runs");
    assert_eq!(refused.status.code(), Some(1));
}

#[tokio::test]
async fn tokens_are_refreshed_and_revoked_as_shown() {
    let (Some(_), Some(_)) = (find("curl"), find("node")) else { return };
    let (server, folder) = (Server::start(&[("TOKEN_KEYS", SECRET)]).await, Folder::new());
    let make = format!("tidegate --token-keys {SECRET} token --user me --allow sse:read --allow admin");
    let token = said(&folder, &make).await;
    let listen =
        format!("curl -N {} -H 'authorization: Bearer {}'", server.url("/stream/lobby/me"), token.trim());
    let (_child, mut heard) = begin(&folder, &listen);
    heard.line("a stream", |line| line == "event: connected").await;

    let refresh = block(TOKENS, "js", "await fetch", &[("\"/api/v1/sse/refresh\"", "url")]);
    let refresh = refresh.trim_end().trim_end_matches(';');
    let script = format!(
        "const [url, token] = [\"{}\", \"{}\"];\nconst answer = {refresh};\nconsole.log(await answer.text());\n",
        server.url("/refresh"),
        token.trim()
    );
    fs::write(folder.path().join("refresh.mjs"), script).expect("our folder");
    let answer: Value = serde_json::from_str(&said(&folder, "node refresh.mjs").await).expect("JSON");
    assert_eq!((&answer["refreshed"], &answer["refused"]), (&json!(1), &json!(0)));

    let here = [("127.0.0.1:8080", &*server.address.to_string())];
    let revoke = block(TOKENS, "sh", "curl http", &here);
    let (user, other) = revoke.split_once('\n').expect("two commands");
    let set = format!("token={}", token.trim());
    // The user's revocation goes last: the command's token is one of that user's tokens.
    assert_eq!(said(&folder, &format!("{set}\n{other}")).await, r#"{"closed":0}"#);
    assert_eq!(said(&folder, &format!("{set}\n{user}")).await, r#"{"closed":1}"#);
    heard.line("its end", |line| line == r#"data: {"reason":"revoked"}"#).await;
}
