//! A short load that moves every metric.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::common::neighbours::{Folder, PATIENCE, Server, find, until};

/// The base path of streams and publishes.
const BASE: &str = "/api/v1/sse";

/// Settings under which each of these can happen within seconds.
const SETTINGS: [(&str, &str); 9] = [
    ("ADMIN_LISTEN", "127.0.0.1:0"),
    ("GZIP", "on"),
    ("MAX_CONNECTIONS_PER_USER", "1"),
    ("DELIVERY_RATE_PER_USER", "1/s"),
    ("PUBLISH_RATE_PER_USER", "1/s"),
    ("HEARTBEAT", "1s"),
    ("SEND_BUFFER", "4KiB"),
    // A stuck subscriber stays, however long the rest takes.
    ("MAX_UNSENT_AGE", "1h"),
    ("TCP_USER_TIMEOUT", "off"),
];

/// Starts a server with all metrics, those of an order on disk included. The folder is that of its order.
pub(crate) async fn server() -> (Folder, Server) {
    let folder = Folder::new();
    let order = format!("disk:{}", folder.file("order"));
    let server = Server::start(&[&SETTINGS[..], &[("ORDER", &order)]].concat()).await;
    (folder, server)
}

/// A server with an order in Redis, and that Redis. `None` if this machine has none.
pub(crate) struct Node {
    pub(crate) server: Server,
    _redis: Child,
    _folder: Folder,
}

/// Starts a server with all metrics of the link to an order in Redis. It waits until Redis is there.
pub(crate) async fn node() -> Option<Node> {
    let program = find("redis-server")?;
    let folder = Folder::new();
    let socket = folder.file("redis.sock");
    let redis = Command::new(program)
        .args(["--port", "0", "--unixsocket", &socket, "--save", ""])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("Redis starts");
    let order = format!("unix:{socket}");
    let server = Server::start(&[("ADMIN_LISTEN", "127.0.0.1:0"), ("ORDER", &order)]).await;
    Some(Node { server, _redis: redis, _folder: folder })
}

/// Returns the body of the answer to `GET path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let answer = ask(address, &format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n")).await;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// Sends `request` and reads the answer until the connection ends.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut answer = String::new();
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(request.as_bytes()).await.expect("it reads");
    let read = timeout(PATIENCE, socket.read_to_string(&mut answer)).await;
    read.expect("an answer").expect("text");
    answer
}

/// Requests a stream on `socket` and reads up to the end of the answer's head.
async fn stream_on(mut socket: TcpStream, path: &str, headers: &str) -> TcpStream {
    let head =
        format!("GET {BASE}{path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.expect("it reads");
    let mut seen = Vec::new();
    let answered = async {
        while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(
                socket.read_buf(&mut seen).await.expect("an open stream") > 0,
                "{path}: ended in the head"
            );
        }
    };
    timeout(PATIENCE, answered).await.expect("an answer");
    assert!(seen.starts_with(b"HTTP/1.1 200 "), "{path}: {}", String::from_utf8_lossy(&seen));
    socket
}

/// Opens a stream at `path`.
pub(crate) async fn stream(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    stream_on(TcpStream::connect(address).await.expect("it listens"), path, headers).await
}

/// Publishes `body` with `headers`, and returns any answer.
async fn post(address: SocketAddr, headers: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST {BASE}/publish HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}");
    ask(address, &format!("{head}content-length: {length}\r\n\r\n{body}")).await
}

/// Publishes as a new publisher, so that no rate applies.
pub(crate) async fn publish(address: SocketAddr, event: &Value) {
    static PUBLISHERS: AtomicUsize = AtomicUsize::new(0);
    let publisher = format!("tidegate-user: p{}\r\n", PUBLISHERS.fetch_add(1, Ordering::Relaxed));
    let answer = post(address, &publisher, &event.to_string()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A load that goes on until it is dropped.
pub(crate) struct Load {
    _tasks: JoinSet<()>,
    /// Reads nothing.
    _stuck: TcpStream,
}

impl Load {
    /// Starts the load, and waits until one subscriber is stuck. On `other` there are only publishes.
    pub(crate) async fn start(server: &Server, other: &Server) -> Self {
        let address = server.address;
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let encoding = if n % 2 == 0 { "accept-encoding: gzip\r\n" } else { "" };
            let listener = stream(address, "/stream?room=a&room=b", encoding).await;
            tasks.spawn(drain(listener));
        }
        // Its rate is limited to one event a second.
        tasks.spawn(drain(stream(address, "/stream/a/limited", "").await));
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let socket = socket.connect(address).await.expect("it listens");
        let stuck = stream_on(socket, "/stream?room=large", "").await;
        let admin = server.admin.expect("an admin listener");
        until("a stuck listener", async || {
            publish(address, &json!({"room": "large", "data": "x".repeat(64 << 10)})).await;
            let metrics = get(admin, "/metrics").await;
            let lagging = metrics.lines().find(|line| line.starts_with("tidegate_lagging_connections "));
            if lagging == Some("tidegate_lagging_connections 1") {
                Ok(())
            } else {
                Err(lagging.map(str::to_owned))
            }
        })
        .await;
        tasks.spawn(trouble(address));
        tasks.spawn(publishes(other.address));
        Self { _tasks: tasks, _stuck: stuck }
    }
}

/// Reads a stream to its end.
async fn drain(mut socket: TcpStream) {
    let mut buf = vec![0; 16 << 10];
    while socket.read(&mut buf).await.is_ok_and(|count| count > 0) {}
}

/// Publishes.
async fn publishes(address: SocketAddr) {
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    loop {
        pace.tick().await;
        publish(address, &json!({"room": "a", "data": "x"})).await;
    }
}

/// Publishes, and sends requests that are refused, one for each reason.
async fn trouble(address: SocketAddr) {
    // Not a wait for a condition: this sets the density of the load.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        pace.tick().await;
        publish(address, &(0..10).map(|n| json!({"room": "a", "data": n})).collect()).await;
        // A client that connects, gets a gap, and leaves.
        drop(stream(address, "/stream/a/guest", "last-event-id: nonsense\r\n").await);
        // Another tab of a user who may have one.
        drop(stream(address, "/stream/a/limited", "").await);
        for (headers, body) in [
            ("", "nonsense"),
            ("origin: http://elsewhere.example\r\n", r#"{"room":"a","data":1}"#),
            ("tidegate-user: hasty\r\n", r#"{"room":"a","data":1}"#),
        ] {
            post(address, headers, body).await;
        }
    }
}
