//! Promise: behind Debian's nginx with the files in `deploy/` everything works as without nginx: events leave at once,
//! ten thousand clients subscribe over one Unix socket, and a client that loses nginx or the engine reconnects and
//! learns whether it missed events.

mod nodes;
mod outside;
mod restarts;
mod setup;
mod streams;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::eventsource::{EventSource, Message, connect};
use crate::common::neighbours::{Folder, PATIENCE, Port, Server, find, until};

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
    /// Several servers, divided by room.
    Divided([SocketAddr; 2]),
    /// Several nodes with one order.
    Nodes([&'a str; 2]),
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
        include_str!("../../../deploy/nginx.conf"),
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
    let site = adapt(include_str!("../../../deploy/nginx-site.conf"), &[("listen 80 reuseport;", &listen)]);
    let site = match upstream {
        Upstream::Unix(path) => adapt(&site, &[(shipped, &format!("server unix:{path};"))]),
        Upstream::Tcp(addr) => {
            let server = format!("server {addr};");
            adapt(&site, &[(shipped, ""), ("#server 127.0.0.1:8080;", &server)])
        }
        Upstream::Divided([first, second]) => adapt(
            &site,
            &[
                (shipped, ""),
                ("#hash $tidegate_room consistent;", "hash $tidegate_room consistent;"),
                ("#server 10.0.0.11:8080 max_fails=0;", &format!("server {first} max_fails=0;")),
                ("#server 10.0.0.12:8080 max_fails=0;", &format!("server {second} max_fails=0;")),
            ],
        ),
        Upstream::Nodes([first, second]) => over_redis(&adapt(&site, &[(shipped, "")]), first, second),
    };
    let site = option.map_or_else(|| site.clone(), |option| take_in(&site, option));
    fs::write(folder.path().join("nginx-site.conf"), site).expect("our folder");
    fs::write(folder.path().join("nginx.conf"), main).expect("our folder");
}

/// Returns `site` with what it has in comments for several nodes, which are at these paths.
fn over_redis(site: &str, first: &str, second: &str) -> String {
    let enabled = |line: &str| (format!("#{line}"), line.to_owned());
    let mut changes = [
        "least_conn;",
        "proxy_next_upstream error timeout http_503;",
        "proxy_next_upstream error timeout non_idempotent http_404;",
        "proxy_intercept_errors on;",
    ]
    .map(enabled)
    .to_vec();
    for (shipped, path) in [("10.0.0.11:8080", first), ("10.0.0.12:8080", second)] {
        for rest in ["max_fails=1 fail_timeout=2s;", "backup max_fails=0;"] {
            changes.push((format!("#server {shipped} {rest}"), format!("server unix:{path} {rest}")));
        }
    }
    let changes: Vec<_> = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    adapt(site, &changes)
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

/// Starts the engine with these settings, and nginx as shipped in front of its Unix socket. `None` if there is no nginx.
async fn behind_nginx(settings: &[(&str, &str)]) -> Option<(Folder, Server, Nginx)> {
    let program = find("nginx")?;
    let folder = Folder::new();
    let (server, path) = engine(&folder, settings).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    Some((folder, server, nginx))
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
