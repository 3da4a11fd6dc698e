//! Headless Chromium, driven by `chromedriver`, and the page in it that listens.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

use crate::common::neighbours::{LOOK_AGAIN, Output, PATIENCE, find, until};

/// One browser at a time: each is a dozen processes, and all tests may share two cores.
static TURN: Mutex<()> = Mutex::const_new(());

/// Flags that separate Chromium from other instances and from the network.
const FLAGS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    // Names that an attacker owns resolve to this machine.
    "--host-resolver-rules=MAP *.rebound.test 127.0.0.1",
    // Twenty tabs of one site do not need twenty processes.
    "--renderer-process-limit=2",
];

/// Types of events that the page listens to.
const TYPES: [&str; 6] = ["message", "price", "connected", "gap", "overload", "closing"];

/// `EventSource.readyState`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "u8")]
pub(crate) enum Ready {
    Connecting,
    Open,
    Closed,
}

impl From<u8> for Ready {
    fn from(state: u8) -> Self {
        match state {
            0 => Self::Connecting,
            1 => Self::Open,
            _ => Self::Closed,
        }
    }
}

/// An event as JavaScript received it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) data: String,
    /// `lastEventId`
    pub(crate) id: String,
}

impl Event {
    pub(crate) fn new(kind: &str, data: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), data: data.into(), id: id.into() }
    }

    /// Returns the event's data as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("{self:?} is not JSON"))
    }
}

/// The state of one `EventSource`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) ready: Ready,
    pub(crate) opened: u32,
    pub(crate) errors: u32,
    pub(crate) events: Vec<Event>,
}

impl State {
    /// Returns its events of one kind, oldest first.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<Event> {
        self.events.iter().filter(|event| event.kind == kind).cloned().collect()
    }
}

/// A browser with a page of its own origin. Its processes and its folder are removed with it.
pub(crate) struct Chromium {
    client: Client,
    driver: Child,
    folder: PathBuf,
    pages: SocketAddr,
    /// Kept open, so that the driver does not end because of its own output.
    _output: Output,
    _turn: MutexGuard<'static, ()>,
}

/// An `EventSource` in the browser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream(u32);

impl Chromium {
    /// Starts a browser and opens the page. `None` if this machine has no browser.
    pub(crate) async fn start() -> Option<Self> {
        let (chromium, driver) = (find("chromium")?, find("chromedriver")?);
        let turn = TURN.lock().await;
        let pages = serve_pages().await;
        let folder = new_folder();
        let driver = Command::new(driver)
            .arg("--port=0")
            // Locks, caches and sockets would otherwise stay behind.
            .envs(["HOME", "TMPDIR"].map(|name| (name, &folder)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The browser's processes join the driver's group, so that they can be ended with it.
            .process_group(0)
            .spawn()
            .expect("it was just found");
        let mut starting = Starting { driver: Some(driver), folder };
        let mut output = Output::of(starting.driver.as_mut().expect("taken below"));
        let line = output.line("ChromeDriver", |line| line.contains("started successfully on port ")).await;
        let port = line.rsplit(' ').next().expect("a line that has spaces").trim_end_matches('.');
        let profile = format!("--user-data-dir={}", starting.folder.join("profile").display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([&*profile]).collect();
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".into(), json!({ "binary": chromium, "args": flags }));
        capabilities.insert("goog:loggingPrefs".into(), json!({ "browser": "ALL" }));
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("ChromeDriver starts Chromium");
        let driver = starting.driver.take().expect("put there above");
        let folder = std::mem::take(&mut starting.folder);
        let browser = Self { client, driver, folder, pages, _output: output, _turn: turn };
        browser.open_page().await;
        Some(browser)
    }

    /// Returns the origin of its pages.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.pages)
    }

    /// Opens an `EventSource` in the current tab.
    pub(crate) async fn listen(&self, url: &str) -> Stream {
        Stream(self.run("return listen(...arguments)", vec![json!(url), json!(TYPES)]).await)
    }

    /// Returns what `stream` of the current tab has received so far.
    pub(crate) async fn state(&self, stream: Stream) -> State {
        self.run("return state(arguments[0])", vec![json!(stream.0)]).await
    }

    /// Waits until the state of `stream` is `wanted`.
    pub(crate) async fn until(&self, what: &str, stream: Stream, wanted: impl Fn(&State) -> bool) -> State {
        let look = async || {
            let state = self.state(stream).await;
            if wanted(&state) { Ok(state) } else { Err(state) }
        };
        until(what, look).await
    }

    /// Opens one more tab with the page. It becomes the current one.
    pub(crate) async fn open_tab(&self) -> WindowHandle {
        let tab = self.client.new_window(true).await.expect("there may be many tabs").handle;
        self.switch_to(&tab).await;
        self.open_page().await;
        tab
    }

    /// Makes `tab` the current one.
    pub(crate) async fn switch_to(&self, tab: &WindowHandle) {
        self.client.switch_to_window(tab.clone()).await.expect("the tab is open");
    }

    /// Opens `url` in the current tab.
    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    /// Makes pages think that the user prefers `light` or `dark`.
    pub(crate) async fn prefer_color_scheme(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
    }

    /// Makes pages think that the user prefers less motion.
    pub(crate) async fn prefer_reduced_motion(&self) {
        let feature = json!({ "name": "prefers-reduced-motion", "value": "reduce" });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
    }

    /// Gives the current tab's window this size, in CSS pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Runs `script` at the start of every page that the current tab opens from now on.
    pub(crate) async fn run_first(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    /// Returns what pages wrote to the console since the last call, the browser's errors included.
    pub(crate) async fn console(&self) -> Vec<String> {
        let log = self.command("se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].as_str().expect("a text").to_owned()).collect()
    }

    /// Returns a PNG of the whole page, `width` CSS pixels wide, with `scale` screen pixels for each.
    pub(crate) async fn picture(&self, width: u32, scale: f64) -> Vec<u8> {
        for _ in 0..2 {
            // The first round sets the width; the second uses the height that it leads to.
            let height: f64 = self.run("return document.body.getBoundingClientRect().height", vec![]).await;
            let metrics = json!({
                "width": width, "height": height.ceil(), "deviceScaleFactor": scale, "mobile": false
            });
            self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        }
        // Animations come to rest, and the page is drawn.
        let drawn = "const done = arguments[0]; setTimeout(() => requestAnimationFrame(done), 1500)";
        self.client.execute_async(drawn, vec![]).await.expect("the page draws");
        self.client.screenshot().await.expect("a picture")
    }

    async fn devtools(&self, cmd: &str, params: Value) {
        self.command("goog/cdp/execute", json!({ "cmd": cmd, "params": params })).await;
    }

    /// Runs a command of `chromedriver` itself.
    async fn command(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Own { path, body }).await.expect("ChromeDriver has this")
    }

    async fn open_page(&self) {
        self.client.goto(&self.origin()).await.expect("the page opens");
    }

    /// Runs `script` and returns its result.
    pub(crate) async fn run<T: DeserializeOwned>(&self, script: &str, args: Vec<Value>) -> T {
        let result = self.client.execute(script, args).await;
        serde_json::from_value(result.expect("the page has this")).expect("as the page says it")
    }
}

/// See [`Chromium::command`].
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        end(&self.driver, &self.folder);
    }
}

/// Parts that must be removed if the start fails half-way.
struct Starting {
    driver: Option<Child>,
    folder: PathBuf,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            end(driver, &self.folder);
        }
    }
}

/// Ends the driver, the browser and all its processes, and removes their files.
fn end(driver: &Child, folder: &Path) {
    if let Some(group) = driver.id() {
        // `std` can kill only one process, which would leave the browser running.
        let kill = process::Command::new("sh").args(["-c", &format!("kill -KILL -{group}")]).status();
        if !kill.is_ok_and(|status| status.success()) {
            eprintln!("the browser's processes (group {group}) stay behind");
        }
    }
    // The last process may still write.
    let deadline = Instant::now() + PATIENCE;
    while fs::remove_dir_all(folder).is_err() && folder.exists() {
        if Instant::now() > deadline {
            return eprintln!("{} stays behind", folder.display());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("tidegate-browser-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    // Not in the target folder: its path may be too long for the sockets that Chromium puts here.
    let folder = std::env::temp_dir().join(name);
    fs::create_dir(&folder).expect("a new folder in the folder for such things");
    folder
}

/// Serves the page at every path, from an origin other than the server's.
async fn serve_pages() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve_page(socket));
        }
    });
    address
}

/// Answers any request with the page. A browser that leaves early does not matter.
async fn serve_page(mut socket: TcpStream) {
    const PAGE: &str = include_str!("page.html");
    let mut request = [0; 4096];
    if socket.read(&mut request).await.is_ok_and(|count| count > 0) {
        let length = PAGE.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close"
        );
        let _ = socket.write_all(format!("{head}\r\n\r\n{PAGE}").as_bytes()).await;
    }
}
