//! Promise: behind the proxies of `docs/proxies.md`, set up as that page says, each event arrives while the stream is
//! open.
//!
//! Two kinds once held streams back. Proxies of development servers (webpack-dev-server, express with `compression`,
//! Next.js, whose rewrites go through the same `compression`) compressed them, for want of `no-transform`. Varnish
//! asked for gzip and held back the decompressed bytes for clients that take none: they did not even get the head.

use crate::common::{self, neighbours};

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

use self::common::TestServer;
use self::common::conn::Conn;
use self::common::stream::Listener;
use self::neighbours::{Folder, Output, PATIENCE, Port, find, find_at, until};

/// The server's address in the page.
const DEFAULT: &str = "127.0.0.1:8080";

/// A proxy in front of a server. Dropping it asks it to end, so that its workers end, too.
struct Proxy {
    at: At,
    child: Child,
    /// Kept open, so that the proxy can go on printing.
    _output: Option<Output>,
    _folder: Folder,
    _port: Option<Port>,
}

enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Proxy {
    async fn start(at: At, mut command: Command, folder: Folder, port: Option<Port>) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("it was just found");
        let proxy = Self { at, child, _output: None, _folder: folder, _port: port };
        until("the proxy", async || match &proxy.at {
            At::Tcp(address) => TcpStream::connect(address).await.map(drop),
            At::Unix(path) => UnixStream::connect(path).await.map(drop),
        })
        .await;
        proxy
    }

    fn listen(&self, headers: &[(&str, &str)]) -> Listener {
        let conn = match &self.at {
            At::Tcp(address) => Conn::tcp(*address),
            At::Unix(path) => Conn::unix(path),
        };
        Listener::open(conn, "/stream/a/me", headers)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let Some(id) = self.child.id() else { return };
        let _ = std::process::Command::new("kill").args(["-TERM", &id.to_string()]).status();
        let deadline = std::time::Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(neighbours::LOOK_AGAIN);
        }
    }
}

/// Returns block number `nth` in `language` of the page, with `changes` made.
fn block(language: &str, nth: usize, changes: &[(&str, &str)]) -> String {
    let page = include_str!("../../docs/proxies.md");
    let block =
        page.split(&format!("```{language}\n")).nth(nth + 1).and_then(|rest| rest.split("```").next());
    let mut block = block.expect("the page has it").to_owned();
    for (from, to) in changes {
        assert!(block.contains(from), "{from:?} is in {block}");
        block = block.replace(from, to);
    }
    block
}

/// A server that compresses, or leaves that to others.
fn server(gzip: bool) -> TestServer {
    TestServer::with(|config| {
        config.gzip = gzip;
        config.heartbeat = Duration::from_secs(1);
    })
}

/// Subscribes through `proxy` with and without gzip, at the same URL at once, and returns the answers' encodings. Each
/// event must arrive before the next is published.
#[track_caller]
fn passes_events_on(server: &TestServer, proxy: &Proxy) -> [Option<String>; 2] {
    let mut listeners = [proxy.listen(&[("accept-encoding", "gzip")]), proxy.listen(&[])];
    for n in 1..=3 {
        let id = server.publish(&json!({ "room": "a", "data": n }));
        for listener in &mut listeners {
            let event = std::iter::repeat_with(|| listener.event()).find(|event| event != ":\n");
            assert_eq!(event, Some(format!("id: {id}\nroom: a\ndata: {n}\n\n")), "{}", listener.head.0);
        }
    }
    listeners.map(|listener| {
        assert_eq!(listener.head.header("cache-control"), Some("no-store, no-transform"));
        listener.head.header("content-encoding").map(str::to_owned)
    })
}

/// Returns whether the server recognizes a browser's `EventSource` through `proxy`, and so sends ids by heartbeat.
#[track_caller]
fn knows_browsers(proxy: &Proxy) -> bool {
    let beat = proxy.listen(&[("cache-control", "no-cache"), ("pragma", "no-cache")]).event();
    assert!(beat == ":\n" || beat.starts_with(":\nid: "), "{beat:?}");
    beat != ":\n"
}

/// Returns the encodings if a proxy leaves them unchanged.
fn as_sent(gzip: bool) -> [Option<String>; 2] {
    [gzip.then(|| "gzip".to_owned()), None]
}

#[tokio::test]
async fn haproxy_passes_events_on_and_compresses_none() {
    let Some(program) = find("haproxy") else { return };
    for gzip in [false, true] {
        let server = server(gzip);
        let (folder, port) = (Folder::new(), Port::new());
        let bind = format!("bind {}", port.address);
        let conf = block("haproxy", 0, &[(DEFAULT, &server.addr.to_string()), ("bind :80", &bind)]);
        fs::write(folder.file("haproxy.cfg"), conf).expect("our folder");
        let mut command = Command::new(&program);
        command.args(["-f", &folder.file("haproxy.cfg")]);
        let proxy = Proxy::start(At::Tcp(port.address), command, folder, Some(port)).await;
        assert_eq!(passes_events_on(&server, &proxy), as_sent(gzip));
        assert!(knows_browsers(&proxy));
    }
}

/// Modules that the page's lines need, and one for the rest of a site.
const APACHE_MODULES: [&str; 7] =
    ["mpm_event", "authz_core", "env", "proxy", "proxy_http", "filter", "deflate"];

/// Apache with `lines`, on a site that compresses everything.
async fn apache(program: &Path, lines: &str) -> Proxy {
    let folder = Folder::new();
    // Apache does not share a port, and this port is outside the range that the kernel assigns by itself.
    let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(20_000..32_000)));
    let modules = APACHE_MODULES
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let conf = format!(
        "ServerRoot {}\nServerName localhost\nUser www-data\nGroup www-data\nPidFile {}\nErrorLog {}\n\
         Listen {address}\n{modules}SetOutputFilter DEFLATE\n{lines}",
        folder.path().display(),
        folder.file("pid"),
        folder.file("error.log"),
    );
    fs::write(folder.file("apache.conf"), conf).expect("our folder");
    let mut command = Command::new(program);
    command.args(["-D", "FOREGROUND", "-f", &folder.file("apache.conf")]);
    Proxy::start(At::Tcp(address), command, folder, None).await
}

#[tokio::test]
async fn apache_passes_events_on_and_compresses_none() {
    let Some(program) = find("apache2") else { return };
    for gzip in [false, true] {
        let server = server(gzip);
        let proxy = apache(&program, &block("apache", 0, &[(DEFAULT, &server.addr.to_string())])).await;
        assert_eq!(passes_events_on(&server, &proxy), as_sent(gzip));
        assert!(knows_browsers(&proxy));
    }
}

/// Without the page's lines, `mod_deflate` costs memory and no event.
#[tokio::test]
async fn apache_holds_nothing_back_where_it_compresses() {
    let Some(program) = find("apache2") else { return };
    let server = server(false);
    let changes = [(DEFAULT, &*server.addr.to_string()), ("SetEnv no-gzip 1", "")];
    let proxy = apache(&program, &block("apache", 0, &changes)).await;
    assert_eq!(passes_events_on(&server, &proxy), as_sent(true));
}

/// Varnish with `vcl`, or with its own and `server` as the only backend.
async fn varnish(program: &Path, server: &TestServer, vcl: Option<String>) -> Proxy {
    let folder = Folder::new();
    let socket = folder.path().join("http.sock");
    let mut command = Command::new(program);
    command.args(["-F", "-j", "none", "-n", &folder.file("work"), "-a", &folder.file("http.sock")]);
    match vcl {
        Some(vcl) => {
            fs::write(folder.file("default.vcl"), vcl).expect("our folder");
            command.args(["-f", &folder.file("default.vcl")]);
        }
        None => drop(command.args(["-b", &server.addr.to_string()])),
    }
    Proxy::start(At::Unix(socket), command, folder, None).await
}

/// Returns the page's VCL, in front of `server`.
fn vcl(server: &TestServer) -> String {
    let port = format!("\"{}\"", server.addr.port());
    block("vcl", 0, &[("\"8080\"", &port)])
}

#[tokio::test]
async fn varnish_passes_events_on_without_gzip() {
    let Some(program) = find("varnishd") else { return };
    for gzip in [false, true] {
        let server = server(gzip);
        for vcl in [None, Some(vcl(&server))] {
            // For an object that it may cache, Varnish sends its own request headers.
            let passes = vcl.is_some();
            let proxy = varnish(&program, &server, vcl).await;
            assert_eq!(passes_events_on(&server, &proxy), [None, None]);
            assert_eq!(knows_browsers(&proxy), passes);
        }
    }
}

#[tokio::test]
async fn varnish_that_hides_itself_passes_gzip_on() {
    let Some(program) = find("varnishd") else { return };
    let server = server(true);
    let proxy = varnish(&program, &server, Some(vcl(&server) + &block("vcl", 1, &[]))).await;
    assert_eq!(passes_events_on(&server, &proxy), as_sent(true));
}

/// A development server: `script`, which prints the port that it listens on, with `files` beside it.
async fn node(script: &str, files: &[(&str, &str)]) -> Option<Proxy> {
    let packages = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/npm/node_modules");
    let (program, _) = (find("node")?, find_at(&format!("{packages}/express/package.json"))?);
    let folder = Folder::new();
    symlink(packages, folder.file("node_modules")).expect("our folder");
    for (name, text) in files.iter().chain(&[("server.mjs", script)]) {
        fs::write(folder.file(name), text).expect("our folder");
    }
    let mut command = Command::new(program);
    command.arg(folder.file("server.mjs")).current_dir(folder.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = child.expect("it was just found");
    let mut output = Output::of(&mut child);
    let line = output.line("the port", |line| line.starts_with("listens on ")).await;
    let port = line.rsplit(' ').next().and_then(|port| port.parse().ok()).expect("a port");
    let at = At::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    Some(Proxy { at, child, _output: Some(output), _folder: folder, _port: None })
}

/// A page behind a development server once learned of a killed server by the silence only, after 50 seconds, and with
/// `EventSource` not at all: the proxy left the page's stream open.
async fn ends_a_stream(server: neighbours::Server, proxy: &Proxy) {
    let mut listener = proxy.listen(&[]);
    server.kill().await;
    listener.end();
}

#[tokio::test]
async fn express_with_compression_leaves_streams_alone() {
    const LISTEN: &str =
        "app.listen(0, '127.0.0.1', function () { console.log('listens on', this.address().port) });";
    for gzip in [false, true] {
        let server = server(gzip);
        let changes = [(DEFAULT, &*server.addr.to_string()), ("app.listen(3000);", LISTEN)];
        let Some(proxy) = node(&block("js", 0, &changes), &[]).await else { return };
        assert_eq!(passes_events_on(&server, &proxy), as_sent(gzip));
        assert!(knows_browsers(&proxy));
    }
    let dying = neighbours::Server::start(&[]).await;
    let changes = [(DEFAULT, &*dying.address.to_string()), ("app.listen(3000);", LISTEN)];
    let proxy = node(&block("js", 0, &changes), &[]).await.expect("it was there a moment ago");
    ends_a_stream(dying, &proxy).await;
}

#[tokio::test]
async fn the_development_server_of_webpack_leaves_streams_alone() {
    const SERVER: &str = "
        import webpack from 'webpack';
        import WebpackDevServer from 'webpack-dev-server';
        import config from './webpack.config.mjs';
        const options = { ...config.devServer, host: '127.0.0.1', port: 0 };
        const server = new WebpackDevServer(options, webpack({ ...config, entry: './page.js' }));
        await server.start();
        console.log('listens on', server.server.address().port);
    ";
    for gzip in [false, true] {
        let server = server(gzip);
        let config = block("js", 1, &[(DEFAULT, &server.addr.to_string())]);
        let files = [("webpack.config.mjs", &*config), ("page.js", "")];
        let Some(proxy) = node(SERVER, &files).await else { return };
        assert_eq!(passes_events_on(&server, &proxy), as_sent(gzip));
        assert!(knows_browsers(&proxy));
    }
    let dying = neighbours::Server::start(&[]).await;
    let config = block("js", 1, &[(DEFAULT, &dying.address.to_string())]);
    let files = [("webpack.config.mjs", &*config), ("page.js", "")];
    let proxy = node(SERVER, &files).await.expect("it was there a moment ago");
    ends_a_stream(dying, &proxy).await;
}
