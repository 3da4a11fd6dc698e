//! What the integration tests share: a server in this process, and clients that see every byte.
//!
//! No fixed waiting times: reads block until there is something to read, and [`eventually`] polls until a condition
//! holds. Both give up after [`PATIENCE`], which only a server that is stuck reaches.

#![allow(dead_code, unreachable_pub, reason = "each test program compiles this and uses its part of it")]

pub mod application;
pub mod bearer;
pub mod browser;
pub mod conn;
pub mod control_group;
pub mod eventsource;
pub mod metrics;
pub mod neighbours;
pub mod process;
pub mod signer;
pub mod stream;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::answer::problem::Code;
use tidegate::config::{Config, ListenAddr};
use tidegate::server::Server;

use self::conn::{Conn, Response, request};
use self::metrics::Metrics;
use self::stream::Listener;

/// The longest wait before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The default base path.
pub const BASE: &str = "/api/v1/sse";

/// Any free port of this machine.
pub const LOOPBACK: ListenAddr =
    ListenAddr::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0));

/// A server in this process. Ends at once when dropped.
pub struct TestServer {
    server: Option<Server>,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
}

/// Returns the settings that every test starts from.
pub fn config() -> Config {
    Config {
        listen: vec![LOOPBACK.into()],
        admin_listen: Some(LOOPBACK),
        drain: Duration::ZERO,
        ..Config::default_for(4096)
    }
}

impl TestServer {
    /// Starts a server with [`config`].
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts a server with [`config`], changed by `change`.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let server = Server::start(config).expect("a free port");
        let tcp = |address: &ListenAddr| match address {
            ListenAddr::Tcp(addr) => Some(*addr),
            ListenAddr::Unix(_) => None,
        };
        let addr = server.addresses().iter().find_map(tcp).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let admin = server.admin_address().and_then(tcp).expect("an admin listener");
        Self { server: Some(server), addr, admin }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("not drained yet")
    }

    /// Takes the server out to be drained; clients still use its addresses.
    pub fn take(&mut self) -> Server {
        self.server.take().expect("not drained yet")
    }

    /// Returns the id of the event at `offset`.
    pub fn id(&self, offset: u64) -> String {
        self.server().engine().hub.epoch().position(offset).to_string()
    }

    pub fn connect(&self) -> Conn {
        Conn::tcp(self.addr)
    }

    /// Sends `GET {base}{path}` on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.connect().round(&request("GET", &format!("{BASE}{path}"), &[], b""))
    }

    /// Sends `POST {base}{path}` on a connection of its own.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
        self.connect().round(&request("POST", &format!("{BASE}{path}"), headers, body.as_ref()))
    }

    /// Opens a stream at `{base}{path}` and reads up to and including `connected`.
    pub fn listen(&self, path: &str) -> Listener {
        self.listen_with(path, &[])
    }

    pub fn listen_with(&self, path: &str, headers: &[(&str, &str)]) -> Listener {
        Listener::open(self.connect(), path, headers)
    }

    /// Opens a stream that resumes after `id`.
    pub fn resume(&self, path: &str, id: &str) -> Listener {
        self.listen_with(path, &[("last-event-id", id)])
    }

    /// Publishes `event` and returns its id.
    pub fn publish(&self, event: &Value) -> String {
        let answer = self.post("/publish", &[], event.to_string());
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Sends `GET {path}` to the admin listener.
    pub fn admin(&self, path: &str) -> Response {
        Conn::tcp(self.admin).round(&request("GET", path, &[], b""))
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin)
    }

    /// Waits until `series` has `value`.
    pub fn wait_for(&self, series: &str, value: f64) {
        eventually(&format!("{series} {value}"), || self.metrics().is(series, value));
    }
}

/// Polls until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Checks an error answer, which always has the same shape.
#[track_caller]
pub fn assert_problem(response: &Response, status: u16, code: &str) {
    let text = response.text();
    assert_eq!(response.status(), status, "{text}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{text}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{text}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{text}");
    assert!(response.body.len() < 1024, "{text}");
    let problem = response.json();
    assert_eq!(problem["code"], code, "{text}");
    assert_eq!(problem["status"], status, "{text}");
    // The text is fixed, with numbers and the short name of a field: no other part of the request can appear in it.
    let known = Code::ALL.iter().find(|known| known.as_str() == code).expect("a code");
    assert_eq!(problem["title"], known.title(), "{text}");
    for (name, value) in problem.as_object().expect("an object") {
        match &**name {
            "title" | "status" | "code" => {}
            "detail" => assert!(value.is_string(), "{text}"),
            "field" => assert!(value.as_str().is_some_and(|field| field.len() <= 51), "{text}"),
            "line" | "column" | "index" | "published" => assert!(value.is_u64(), "{text}"),
            _ => panic!("{name} in {text}"),
        }
    }
}

/// A path for a Unix socket that is removed with the value.
pub struct TempPath(pub PathBuf);

impl TempPath {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tidegate-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    pub fn listen(&self) -> ListenAddr {
        self.0.clone().into()
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Returns whether the peer is gone, with or without a reset.
pub fn is_gone(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
