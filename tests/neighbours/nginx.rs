//! Promise: behind Debian's nginx with the files in `deploy/` everything works as without nginx: events leave at once,
//! ten thousand clients subscribe over one Unix socket, and a client that loses nginx or the engine reconnects and
//! learns whether it missed events.

use crate::common::{eventsource, neighbours};

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::eventsource::{Event, EventSource, Message, client_address, connect};
use self::neighbours::{Folder, PATIENCE, Port, Server, find, until};

const BASE: &str = "/api/v1/sse";

/// The address that nginx treats as internal.
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Subscribers that were cut off reconnect at once; otherwise the tests would take too long.
const RETRY: (&str, &str) = ("RETRY", "100ms");

/// nginx with the shipped files. Ends with all its workers when dropped.
struct Nginx {
    address: SocketAddr,
    program: PathBuf,
    conf: String,
    child: Child,
    _port: Port,
}

/// The address at which nginx reaches the engine.
enum Upstream<'a> {
    Unix(&'a str),
    Tcp(SocketAddr),
    /// Several nodes, divided by room.
    Nodes([SocketAddr; 2]),
}

impl Nginx {
    async fn start(program: &Path, folder: &Folder, upstream: &Upstream<'_>) -> Self {
        Self::start_with(program, folder, upstream, None).await
    }

    /// Like [`Self::start`], with the block of the site that begins with `option` enabled; as shipped it is a comment.
    async fn start_with(
        program: &Path,
        folder: &Folder,
        upstream: &Upstream<'_>,
        option: Option<&str>,
    ) -> Self {
        let port = Port::new();
        configure(folder, port.address, upstream, option);
        Self::run(program, folder, port).await
    }

    /// Runs nginx with the `nginx.conf` in `folder`, which has it listen on `port`.
    async fn run(program: &Path, folder: &Folder, port: Port) -> Self {
        let address = port.address;
        let conf = folder.file("nginx.conf");
        let child = Command::new(program)
            .args(["-c", &conf, "-g", "daemon off;"])
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.path().join("stderr")).expect("a file"))
            .spawn()
            .expect("nginx is installed");
        let nginx = Self { address, program: program.to_owned(), conf, child, _port: port };
        until("nginx", async || TcpStream::connect(address).await.map(drop)).await;
        nginx
    }

    /// Runs `nginx -s reload`.
    fn reload(&self) {
        let reloaded = Command::new(&self.program).args(["-c", &self.conf, "-s", "reload"]).output();
        let reloaded = reloaded.expect("nginx is installed");
        assert!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    }

    fn listener(&self, number: usize, path: &str) -> EventSource {
        EventSource::new(number, self.address, &format!("{BASE}{path}"))
    }

    /// Sends `method` for `path` from `from` and returns the status and the body.
    async fn ask(&self, from: IpAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        ask(self.address, from, method, path, headers, body).await
    }

    /// Publishes `event` from the inside.
    async fn publish(&self, event: &Value) {
        let (status, text) =
            self.ask(INSIDE, "POST", &format!("{BASE}/publish"), "", &event.to_string()).await;
        assert_eq!(status, 200, "{text}");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // If it were killed, its workers would stay behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

async fn ask(
    address: SocketAddr,
    from: IpAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let mut socket = connect(from, address).await.expect("it listens");
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status for {path} in {answer:?}"));
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Writes the shipped files to `folder` with this machine's paths, a worker for each of two cores, and shorter
/// timeouts.
fn configure(folder: &Folder, address: SocketAddr, upstream: &Upstream<'_>, option: Option<&str>) {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", folder.file(kind)))
        .concat();
    let main = adapt(
        include_str!("../../deploy/nginx.conf"),
        &[
            ("user www-data;", "user root;"),
            ("/run/nginx.pid", &folder.file("pid")),
            ("/var/log/nginx/error.log", &folder.file("error.log")),
            ("/var/log/nginx/access.log", &folder.file("access.log")),
            ("worker_processes auto;", "worker_processes 2;"),
            ("worker_shutdown_timeout 30s;", "worker_shutdown_timeout 1s;"),
            ("include nginx-site.conf;", &format!("{temporary}include nginx-site.conf;")),
        ],
    );
    let shipped = "server unix:/run/tidegate/http.sock;";
    let listen = format!("listen {address} reuseport;");
    let site = adapt(include_str!("../../deploy/nginx-site.conf"), &[("listen 80 reuseport;", &listen)]);
    let site = match upstream {
        Upstream::Unix(path) => adapt(&site, &[(shipped, &format!("server unix:{path};"))]),
        Upstream::Tcp(addr) => {
            let server = format!("server {addr};");
            adapt(&site, &[(shipped, ""), ("#server 127.0.0.1:8080;", &server)])
        }
        Upstream::Nodes([first, second]) => adapt(
            &site,
            &[
                (shipped, ""),
                ("#hash $tidegate_room consistent;", "hash $tidegate_room consistent;"),
                ("#server 10.0.0.11:8080 max_fails=0;", &format!("server {first} max_fails=0;")),
                ("#server 10.0.0.12:8080 max_fails=0;", &format!("server {second} max_fails=0;")),
            ],
        ),
    };
    let site = option.map_or_else(|| site.clone(), |option| take_in(&site, option));
    fs::write(folder.path().join("nginx-site.conf"), site).expect("our folder");
    fs::write(folder.path().join("nginx.conf"), main).expect("our folder");
}

/// Returns `text` with each of `changes` made once.
fn adapt(text: &str, changes: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from:?} is there once");
        text = text.replace(from, to);
    }
    text
}

/// Returns `text` without the comment marks of the block that begins with `option`.
fn take_in(text: &str, option: &str) -> String {
    let (before, rest) = text.split_once(&format!("    #{option}")).expect("it is there");
    let (block, after) = rest.split_once("\n\n").expect("an empty line follows");
    format!("{before}    {option}{}\n\n{after}", block.replace("\n    #", "\n    "))
}

/// Starts the engine on a Unix socket in `folder`, on which it trusts nginx, and on a port.
async fn engine(folder: &Folder, settings: &[(&str, &str)]) -> (Server, String) {
    let path = folder.file("http.sock");
    let listen = format!("127.0.0.1:0,unix:{path}");
    let ours = [("LISTEN", &*listen), ("TRUSTED_PROXIES", "unix"), RETRY];
    (Server::start(&[&ours[..], settings].concat()).await, path)
}

/// Returns how many streams the engine has open.
async fn connections(server: &Server) -> u64 {
    let (status, text) = ask(server.address, INSIDE, "GET", &format!("{BASE}/info"), "", "").await;
    assert_eq!(status, 200, "{text}");
    let info: Value = serde_json::from_str(&text).expect("JSON");
    info["connections"].as_u64().unwrap_or_else(|| panic!("no connections in {info}"))
}

async fn until_connections(server: &Server, count: u64) {
    until(&format!("{count} connections"), async || match connections(server).await {
        found if found == count => Ok(()),
        found => Err(found),
    })
    .await;
}

async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

fn message(data: &str) -> Message {
    Message { kind: "message".into(), data: data.into() }
}

/// Browsers ask for a site by its name. Behind nginx, a request with that name comes from loopback, and so would one
/// with the name of an attacker.
#[tokio::test]
async fn browsers_reach_a_site_by_its_name() {
    let Some(program) = find("nginx") else { return };
    let by_name = async |address: SocketAddr, method: &str, path: &str, body: &str| {
        let mut socket = connect(INSIDE, address).await.expect("it listens");
        let head = format!(
            "{method} {BASE}{path} HTTP/1.1\r\nhost: push.example\r\nconnection: close\r\naccept-language: en"
        );
        let length = body.len();
        let request =
            format!("{head}\r\norigin: http://push.example\r\ncontent-length: {length}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer).await;
        answer
    };
    // As shipped, over TCP as the comments say, and over TCP without trust in nginx.
    for (over_tcp, trusted, status) in [(false, "unix", "200"), (true, "127.0.0.1", "200"), (true, "", "403")]
    {
        let folder = Folder::new();
        let (server, path) = engine(&folder, &[("TRUSTED_PROXIES", trusted)]).await;
        let upstream = if over_tcp { Upstream::Tcp(server.address) } else { Upstream::Unix(&path) };
        let nginx = Nginx::start(&program, &folder, &upstream).await;
        for (method, path, body) in [("GET", "/info", ""), ("POST", "/publish", r#"{"room":"a","data":1}"#)] {
            let answer = by_name(nginx.address, method, path, body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{trusted:?} {method}: {answer}");
            assert_eq!(answer.contains("host_forbidden"), status == "403", "{answer}");
        }
    }
    // The few lines of the page on proxies do not pass the name on, so they need no trust.
    let folder = Folder::new();
    let server = Server::start(&[]).await;
    let page = include_str!("../../docs/proxies.md")
        .split("```nginx\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let location = page.expect("a block").replace("127.0.0.1:8080", &server.address.to_string());
    let port = Port::new();
    let address = port.address;
    let conf = format!(
        "pid {pid};\nerror_log {log};\nuser root;\nevents {{}}\nhttp {{ access_log off; server {{ listen {address} reuseport;\n{location}}} }}\n",
        pid = folder.file("pid"),
        log = folder.file("error.log"),
    );
    fs::write(folder.path().join("nginx.conf"), conf).expect("our folder");
    let _nginx = Nginx::run(&program, &folder, port).await;
    let answer = by_name(address, "GET", "/stream?nowhere", "").await;
    assert!(answer.contains("room_missing"), "it went all the way: {answer}");
}

/// As shipped, nginx runs as `www-data`. Without systemd the socket was once open only to the server's own user: 502.
#[tokio::test]
async fn without_systemd_nginx_is_let_in_by_its_group() {
    let Some(program) = find("nginx") else { return };
    if fs::metadata("/proc/self").expect("procfs").uid() != 0 {
        // Not by `eprintln!`, whose output is shown only if the test fails.
        let _ = writeln!(io::stderr(), "skipped: only root can run nginx as another user");
        return;
    }
    let folder = Folder::new();
    let path = folder.file("http.sock");
    let listen = format!("127.0.0.1:0,unix:{path};mode=0660;group=www-data");
    let _server = Server::start(&[("LISTEN", &listen), ("TRUSTED_PROXIES", "unix")]).await;
    let port = Port::new();
    configure(&folder, port.address, &Upstream::Unix(&path), None);
    let conf = folder.path().join("nginx.conf");
    let text = fs::read_to_string(&conf).expect("it was written");
    fs::write(&conf, adapt(&text, &[("user root;", "user www-data;")])).expect("our folder");
    let nginx = Nginx::run(&program, &folder, port).await;
    let mut listener = nginx.listener(0, "/stream/a/u");
    patiently("connected", listener.message_of("connected")).await;
    nginx.publish(&json!({"room": "a", "data": "let in"})).await;
    assert_eq!(patiently("the event", listener.message()).await, message("let in"));
}

#[tokio::test]
async fn each_event_is_there_before_the_next_is_published() {
    let Some(program) = find("nginx") else { return };
    let folders = [Folder::new(), Folder::new()];
    for (folder, over_unix) in folders.iter().zip([true, false]) {
        let (server, path) = engine(folder, &[]).await;
        let upstream = if over_unix { Upstream::Unix(&path) } else { Upstream::Tcp(server.address) };
        let nginx = Nginx::start(&program, folder, &upstream).await;
        let mut listener = nginx.listener(0, "/stream/a/u");
        patiently("connected", listener.message_of("connected")).await;
        for n in 0..50 {
            nginx.publish(&json!({"room": "a", "data": n})).await;
            assert_eq!(patiently("the event", listener.message()).await, message(&n.to_string()));
        }
        assert_eq!(listener.opened, 1);
    }
}

#[tokio::test]
async fn lines_go_out_as_they_arrive() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (_server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let mut listener = nginx.listener(0, "/stream/a/u");
    patiently("connected", listener.message_of("connected")).await;
    let mut publisher = connect(INSIDE, nginx.address).await.expect("nginx listens");
    let head = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close";
    let head = format!("POST {BASE}/publish HTTP/1.1\r\nhost: tests\r\n{head}\r\n\r\n");
    publisher.write_all(head.as_bytes()).await.expect("nginx reads");
    for n in 0..20 {
        let line = format!("{}\n", json!({"room": "a", "data": n}));
        publisher.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.expect("nginx reads");
        assert_eq!(patiently("the line", listener.message()).await, message(&n.to_string()));
    }
    publisher.write_all(b"0\r\n\r\n").await.expect("nginx reads");
    let mut answer = String::new();
    publisher.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""published":20"#), "{answer}");
}

#[tokio::test]
async fn only_the_engine_compresses() {
    let Some(program) = find("nginx") else { return };
    for (gzip, encoding) in [("on", Some("content-encoding: gzip")), ("off", None)] {
        let folder = Folder::new();
        let (server, path) = engine(&folder, &[("GZIP", gzip)]).await;
        let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
        let head = stream_head(&nginx).await;
        assert_eq!(head.contains("content-encoding"), encoding.is_some(), "{head}");
        assert!(encoding.is_none_or(|line| head.contains(line)), "{head}");
        // The answer that nginx gives in the engine's place must not be compressed further on either.
        server.kill().await;
        stream_head(&nginx).await;
    }
}

/// Returns the head of a stream through `nginx`, which proxies further on must leave alone.
async fn stream_head(nginx: &Nginx) -> String {
    let mut socket = connect(client_address(0), nginx.address).await.expect("nginx listens");
    let request = format!("GET {BASE}/stream/a/u HTTP/1.1\r\nhost: tests\r\naccept-encoding: gzip\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("nginx reads");
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        head.push(patiently("the head", socket.read_u8()).await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("ASCII").to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("\r\ncache-control: no-store, no-transform\r\n"), "{head}");
    head
}

#[tokio::test]
async fn publishing_is_for_the_inside() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (_server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let event = json!({"room": "a", "data": 1}).to_string();
    let outside = client_address(0);
    for (method, path) in [
        ("POST", "/publish"),
        ("POST", "//publish"),
        ("POST", "/stream/../publish"),
        ("POST", "/stream%2f..%2fpublish"),
        ("POST", "/disconnect/a/u"),
        ("POST", "/stream/a/u"),
        ("DELETE", "/stream/a/u"),
        ("GET", "/info"),
        ("GET", "/rooms/a/history"),
        ("POST", "/revoke"),
        ("GET", "/refresh"),
        ("PUT", "/refresh"),
        ("POST", "/refresh/"),
        ("POST", "/refresh/../publish"),
        ("POST", "/refresh%2f..%2fpublish"),
    ] {
        let (status, text) = nginx.ask(outside, method, &format!("{BASE}{path}"), "", &event).await;
        assert_eq!(status, 403, "{method} {path}: {text}");
        // A client that claims an internal address is still outside.
        let lie = "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\n";
        assert_eq!(nginx.ask(outside, method, &format!("{BASE}{path}"), lie, &event).await.0, 403);
    }
    for path in ["/metrics", "/readyz", "/dashboard", "/"] {
        assert_eq!(nginx.ask(INSIDE, "GET", path, "", "").await.0, 404, "{path}");
    }
    let (status, text) = nginx.ask(INSIDE, "GET", &format!("{BASE}/info"), "", "").await;
    assert_eq!(status, 200, "{text}");
    // A page of this very site is not foreign, whatever the port.
    let own = format!("origin: http://{}\r\n", nginx.address);
    let (status, text) = nginx.ask(INSIDE, "POST", &format!("{BASE}/publish"), &own, &event).await;
    assert_eq!(status, 200, "{text}");
}

/// The setting with [`KEY`], which signs the tokens.
const SIGNED: (&str, &str) = ("TOKEN_KEYS", KEY);
const KEY: &str = "HS256:base64:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";

/// Returns a header with a token of the user `u` that has `permission`.
fn authorization(permission: &str) -> String {
    let made = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env_clear()
        .args(["--token-keys", KEY, "token", "--user", "u", "--allow", permission])
        .output()
        .expect("it runs");
    format!("Bearer {}", String::from_utf8(made.stdout).expect("a token").trim())
}

/// With a path of its own, `proxy_pass` would decode it, and the comma would divide.
#[tokio::test]
async fn a_comma_inside_a_name_arrives_as_it_was_sent() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (_server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let mut listener = nginx.listener(0, "/stream/a%2Cb,c");
    patiently("connected", listener.message_of("connected")).await;
    for room in ["a", "b", "a,b", "c"] {
        nginx.publish(&json!({"room": room, "data": room})).await;
    }
    for room in ["a,b", "c"] {
        assert_eq!(patiently("the event", listener.message()).await, message(room));
    }
}

/// The guide tells pages what to do when their token expires soon; this does it from outside.
#[tokio::test]
async fn browsers_refresh_their_streams() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let origin = ("CORS_ORIGINS", "https://app.example");
    let (_server, path) = engine(&folder, &[SIGNED, origin]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let bearer = authorization("sse:read");
    let mut listener = nginx.listener(0, "/stream/a/u").header("authorization", &bearer);
    patiently("connected", listener.message_of("connected")).await;
    let refresh = async |method: &str, headers: &str, body: &str| {
        nginx.ask(client_address(0), method, &format!("{BASE}/refresh"), headers, body).await
    };
    let known = format!("authorization: {bearer}\r\n");
    let (status, text) = refresh("POST", &known, "").await;
    assert!(status == 200 && text.contains(r#""refreshed":1,"#), "{status} {text}");
    let (status, text) = refresh("POST", &known, r#"{"connection":"9.9.9"}"#).await;
    assert!(status == 404 && text.contains("connection_unknown"), "{status} {text}");
    let (status, text) = refresh("POST", "", "").await;
    assert!(status == 401 && text.contains(r#""code":"unauthorized""#), "{status} {text}");
    let preflight = "origin: https://app.example\r\naccess-control-request-method: POST\r\n";
    assert_eq!(refresh("OPTIONS", preflight, "").await.0, 204);
}

#[tokio::test]
async fn history_can_be_let_out_and_nothing_else_with_it() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (_server, path) = engine(&folder, &[SIGNED]).await;
    let option = "location ~ ^/api/v1/sse/rooms/.+/history$ {";
    let nginx = Nginx::start_with(&program, &folder, &Upstream::Unix(&path), Some(option)).await;
    let outside = client_address(0);
    let known = format!("authorization: {}\r\n", authorization("sse:read"));
    for room in ["a", "a%2Fb", "caf%C3%A9"] {
        let path = format!("{BASE}/rooms/{room}/history?limit=2");
        let (status, text) = nginx.ask(outside, "GET", &path, &known, "").await;
        assert!(status == 200 && text.contains(r#""events":[]"#), "{room}: {status} {text}");
        assert_eq!(nginx.ask(outside, "GET", &path, "", "").await.0, 401, "{room}");
        assert_eq!(nginx.ask(outside, "POST", &path, &known, "").await.0, 403, "{room}");
    }
    let refused = [
        ("/rooms/a", 403),
        ("/rooms/history", 403),
        ("/info?/rooms/a/history", 403),
        ("/rooms/a/history/../../../info", 403),
        ("/rooms/a/history%2f..%2f..%2f..%2finfo", 403),
        // nginx treats this path as history, and the engine refuses it.
        ("/info/../rooms/a/history", 400),
        // nginx treats these as history, and the engine would take the second for the room `a/history`.
        ("/info%2f..%2frooms%2fa%2fhistory", 403),
        ("/rooms/a%2Fhistory", 403),
        ("/rooms/a%2Fhistory?x=/history", 403),
    ];
    for (path, wanted) in refused {
        let (status, text) = nginx.ask(outside, "GET", &format!("{BASE}{path}"), &known, "").await;
        assert_eq!(status, wanted, "{path}: {text}");
        assert_eq!(text.contains("\"code\":"), wanted == 400, "{path}: who refuses it: {text}");
    }
}

/// Paths that an outsider sends with `POST` to make the engine disconnect `bob` in `lobby`, or publish, while nginx
/// applies the rules of another location.
const BEHIND_ANOTHER_NAME: [&str; 24] = [
    "/disconnect/lobby/bob%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%2F..%2F..%2F..%2Frefresh",
    "/disconnect/lobby/bob%2f%2e%2e%2f%2E%2E%2f%2e.%2frefresh",
    "/disconnect/lobby/bob%2f.%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%2f%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%2f..%2f../../refresh",
    "/disconnect/lobby%2f..%2f..%2frefresh/..%2frefresh",
    "/disconnect/lobby/bob/../../../refresh",
    "/disconnect/lobby/bob/..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%5c..%5c..%5c..%5crefresh",
    "/disconnect/lobby/bob\\..\\..\\..\\refresh",
    "/disconnect/lobby/bob;/../../../refresh",
    "/disconnect/lobby/bob;%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%00%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%252f..%252f..%252f..%252frefresh",
    "/disconnect/lobby/bob%25%32%66..%25%32%66refresh",
    "/disconnect/lobby/bob#/../../../refresh",
    "/disconnect/lobby/bob%23%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob%3f%2f..%2f..%2f..%2frefresh",
    "/disconnect/lobby/bob?/../../../refresh",
    "/refresh#/../disconnect/lobby/bob",
    "/refresh%2f..%2fdisconnect%2flobby%2fbob",
    "//disconnect/lobby/bob",
    "/publish%2f..%2frefresh",
];

/// The same with `GET`, to read a room's members.
const MEMBERS_BEHIND_ANOTHER_NAME: [&str; 5] = [
    "/rooms/lobby%2f..%2f..%2fstream",
    "/rooms/%2e%2e%2f%2e%2e%2fsse%2fstream",
    "/rooms/lobby%2f..%2f..%2fstream/history",
    "/rooms/lobby/..%2f..%2fstream",
    "/info%2f..%2fstream",
];

/// nginx decodes the whole path and resolves its dots before it chooses a location; the engine splits it into segments
/// first. The first path above was a location for everyone to nginx, and a disconnect of `bob/../../../refresh` to the
/// engine.
#[tokio::test]
async fn no_path_is_two_things_to_nginx_and_the_engine() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let mut listener = nginx.listener(0, "/stream/lobby/bob");
    patiently("connected", listener.message_of("connected")).await;
    let event = json!({"room": "lobby", "data": "from outside"}).to_string();
    let posts = BEHIND_ANOTHER_NAME.map(|path| ("POST", path));
    let gets = MEMBERS_BEHIND_ANOTHER_NAME.map(|path| ("GET", path));
    for (method, path) in posts.into_iter().chain(gets) {
        let (status, text) = nginx.ask(client_address(1), method, &format!("{BASE}{path}"), "", &event).await;
        assert!(matches!(status, 400 | 403 | 404 | 405), "{method} {path}: {status} {text}");
        assert!(!text.contains("disconnected") && !text.contains("members"), "{path}: {text}");
    }
    assert_eq!(connections(&server).await, 1);
    nginx.publish(&json!({"room": "lobby", "data": "from inside"})).await;
    assert_eq!(patiently("the event", listener.message()).await, message("from inside"));
    // In the query, such a name is a plain name.
    let mut odd = nginx.listener(2, "/stream?room=a/../../b&user=..");
    patiently("connected", odd.message_of("connected")).await;
}

#[tokio::test]
async fn a_forged_address_does_not_dodge_a_limit() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (server, path) = engine(&folder, &[("MAX_CONNECTIONS_PER_ADDRESS", "2")]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let forged = |number: usize, name: &str| {
        let listener = nginx.listener(0, &format!("/stream/a/{name}"));
        listener.header("x-forwarded-for", &format!("198.51.100.{number}, 203.0.113.{number}"))
    };
    let mut two = [forged(1, "u1"), forged(2, "u2")];
    for listener in &mut two {
        assert_eq!(patiently("a place", listener.message()).await.kind, "connected");
    }
    let refusal = Message { kind: "overload".into(), data: r#"{"reason":"address_connections"}"#.into() };
    assert_eq!(patiently("a refusal", forged(3, "u3").message()).await, refusal);
    // Another client is not affected, even if it sends the first client's address.
    let mut other =
        nginx.listener(1, "/stream/a/v").header("x-forwarded-for", &client_address(0).to_string());
    assert_eq!(patiently("a place", other.message()).await.kind, "connected");
    // No peer on the port is a trusted proxy: there, the header does not count.
    let direct = |name: &str| {
        EventSource::new(2, server.address, &format!("{BASE}/stream/a/{name}"))
            .header("x-forwarded-for", &format!("198.51.100.{}", name.len()))
    };
    let mut two = [direct("w"), direct("ww")];
    for listener in &mut two {
        assert_eq!(patiently("a place", listener.message()).await.kind, "connected");
    }
    assert_eq!(patiently("a refusal", direct("www").message()).await, refusal);
}

#[tokio::test]
async fn a_listener_who_leaves_is_noticed_before_a_heartbeat() {
    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    // Ten times the patience of this test: meanwhile there is no write that could fail.
    let (server, path) = engine(&folder, &[("HEARTBEAT", "10m")]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let mut listeners: Vec<_> = (0..40).map(|n| nginx.listener(n, &format!("/stream/a/u{n}"))).collect();
    for listener in &mut listeners {
        patiently("connected", listener.message_of("connected")).await;
    }
    assert_eq!(connections(&server).await, 40);
    listeners.truncate(15);
    until_connections(&server, 15).await;
    drop(listeners);
    until_connections(&server, 0).await;
}

#[tokio::test]
async fn ten_thousand_listen_over_one_unix_socket() {
    const LISTENERS: usize = 10_000;
    /// Clients that connect at once. The queue of a Unix socket takes 4,096 at most, fewer on some machines.
    const ARRIVALS: usize = 128;

    let Some(program) = find("nginx") else { return };
    let open_files = rlimit::increase_nofile_limit(20_000).expect("a limit");
    assert!(open_files >= 11_000, "this test needs 11,000 descriptors, ulimit -Hn is {open_files}");
    let folder = Folder::new();
    let (server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let arrivals = Arc::new(Semaphore::new(ARRIVALS));
    let mut listeners = JoinSet::new();
    for n in 0..LISTENERS {
        let (mut listener, arrivals) = (nginx.listener(n, &format!("/stream/tide/u{n}")), arrivals.clone());
        listeners.spawn(async move {
            let arrival = arrivals.acquire_owned().await.expect("never closed");
            listener.message_of("connected").await;
            drop(arrival);
            let got = [listener.message().await, listener.message().await];
            (got, listener.opened)
        });
    }
    until_connections(&server, LISTENERS as u64).await;
    for data in ["high", "low"] {
        let answer = server.publish(json!({"room": "tide", "data": data})).await;
        assert_eq!(answer["subscribers"], LISTENERS);
    }
    let all = patiently("everyone", listeners.join_all()).await;
    assert_eq!(all.len(), LISTENERS);
    for (got, opened) in all {
        assert_eq!(got, [message("high"), message("low")]);
        assert_eq!(opened, 1, "nobody was turned away");
    }
}

#[tokio::test]
async fn rooms_can_be_divided_among_nodes() {
    const ROOMS: usize = 40;

    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let nodes = [Server::start(&[RETRY]).await, Server::start(&[RETRY]).await];
    let nginx = Nginx::start(&program, &folder, &Upstream::Nodes([nodes[0].address, nodes[1].address])).await;
    let mut listeners: Vec<_> =
        (0..ROOMS).map(|n| nginx.listener(n, &format!("/stream/r{n}/u{n}"))).collect();
    for listener in &mut listeners {
        patiently("connected", listener.message_of("connected")).await;
    }
    for (n, listener) in listeners.iter_mut().enumerate() {
        let event = json!({"room": format!("r{n}"), "data": n}).to_string();
        let path = format!("{BASE}/publish?room=r{n}");
        let (status, answer) = nginx.ask(INSIDE, "POST", &path, "", &event).await;
        assert!(status == 200 && answer.contains(r#""subscribers":1,"#), "{answer}");
        assert_eq!(patiently("the event", listener.message()).await, message(&n.to_string()));
    }
    let [first, second] = [connections(&nodes[0]).await, connections(&nodes[1]).await];
    assert!(first > 0 && second > 0 && first + second == ROOMS as u64, "{first} and {second}");
    // By query or by path, a room belongs to the same node.
    for n in 0..ROOMS {
        let mut other = nginx.listener(n, &format!("/stream?room=r{n}&user=v{n}"));
        patiently("connected", other.message_of("connected")).await;
        let (status, text) = nginx.ask(INSIDE, "GET", &format!("{BASE}/rooms/r{n}"), "", "").await;
        let room: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status, &room["connections"]), (200, &json!(2)), "{text}");
    }
}

/// Reads numbers up to "end", and returns how many there were. They must come one by one, whatever happens to the
/// stream.
async fn count(mut listener: EventSource, opened: Arc<AtomicUsize>) -> usize {
    let mut count = 0;
    loop {
        match listener.next().await {
            Event::Open => drop(opened.fetch_add(1, Ordering::Relaxed)),
            Event::Message(message) if message.kind == "connected" => {}
            Event::Message(message) if message.data == "end" => return count,
            Event::Message(found) => {
                assert_eq!(found, message(&count.to_string()));
                count += 1;
            }
            Event::End => {}
            failed => panic!("a browser would not come back from {failed:?}"),
        }
    }
}

#[tokio::test]
async fn a_reload_of_nginx_costs_no_event() {
    const LISTENERS: usize = 100;
    const RELOADS: usize = 3;

    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let opened = Arc::new(AtomicUsize::new(0));
    let mut listeners = JoinSet::new();
    for n in 0..LISTENERS {
        listeners.spawn(count(nginx.listener(n, &format!("/stream/a/u{n}")), opened.clone()));
    }
    until_connections(&server, LISTENERS as u64).await;
    let mut published = 0;
    for round in 1..=RELOADS {
        nginx.reload();
        // Publishes while the old workers, which have the streams, close all of them.
        until("everyone is with the new workers", async || {
            nginx.publish(&json!({"room": "a", "data": published})).await;
            published += 1;
            let found = opened.load(Ordering::Relaxed);
            if found >= (round + 1) * LISTENERS { Ok(()) } else { Err(found) }
        })
        .await;
    }
    nginx.publish(&json!({"room": "a", "data": "end"})).await;
    for count in patiently("everyone", listeners.join_all()).await {
        assert_eq!(count, published);
    }
}

#[tokio::test]
async fn after_a_restart_of_the_engine_everyone_is_back_and_told_what_is_lost() {
    const LISTENERS: usize = 300;

    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let (server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let heard = Arc::new(AtomicUsize::new(0));
    let turned_away = Arc::new(AtomicUsize::new(0));
    let mut listeners = JoinSet::new();
    for n in 0..LISTENERS {
        let mut listener = nginx.listener(n, &format!("/stream/a/u{n}"));
        let (heard, turned_away) = (heard.clone(), turned_away.clone());
        listeners.spawn(async move {
            let mut got = Vec::new();
            while !got.contains(&message("after")) {
                match listener.next().await {
                    Event::Message(message) if message.kind == "overload" => {
                        assert_eq!(message.data, r#"{"reason":"unreachable"}"#);
                        turned_away.fetch_add(1, Ordering::Relaxed);
                    }
                    Event::Message(message) => {
                        got.push(message);
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                    Event::Open | Event::End => {}
                    failed => panic!("a browser would not come back from {failed:?}"),
                }
            }
            got
        });
    }
    until_connections(&server, LISTENERS as u64).await;
    nginx.publish(&json!({"room": "a", "data": "before"})).await;
    let at_least = async |what: &str, count: &AtomicUsize, least: usize| {
        until(what, async || {
            let found = count.load(Ordering::Relaxed);
            if found >= least { Ok(()) } else { Err(found) }
        })
        .await;
    };
    at_least("the first event", &heard, 2 * LISTENERS).await;
    server.kill().await;
    at_least("the news that nobody is there", &turned_away, LISTENERS).await;
    let (server, _) = engine(&folder, &[]).await;
    until_connections(&server, LISTENERS as u64).await;
    nginx.publish(&json!({"room": "a", "data": "after"})).await;
    for got in patiently("everyone", listeners.join_all()).await {
        let kinds: Vec<&str> = got.iter().map(|message| message.kind.as_str()).collect();
        assert_eq!(kinds, ["connected", "message", "connected", "gap", "message"], "{got:?}");
        assert_eq!(got[1], message("before"));
        let gap: Value = serde_json::from_str(&got[3].data).expect("JSON");
        assert_eq!(gap["reason"], "restart");
    }
}
