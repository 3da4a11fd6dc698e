//! What tests with real neighbours share: the real server as a process, the neighbours' programs, and waiting.
//!
//! Everything started here ends when its value is dropped, also when a test fails. Tests use no fixed waiting times:
//! each waits for its condition, up to [`PATIENCE`].

use std::env;
use std::fmt::Debug;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout_at};

/// The longest wait before a test gives up. Only a failure takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Time between two polls of a condition that sends no notice.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Polls `look` until it succeeds; while it fails, its error describes the present state.
pub(crate) async fn until<T, S: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() > deadline => panic!("waited for {what}, have {instead:#?}"),
            Err(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

/// Returns the path of `program`. If it is missing, the test is skipped with a message; in CI it fails.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        skip(program);
    }
    found
}

/// Does the same for a file at a fixed path.
pub(crate) fn find_at(file: &str) -> Option<&Path> {
    let found = Some(Path::new(file)).filter(|file| file.is_file());
    if found.is_none() {
        skip(file);
    }
    found
}

/// Says that `what` is missing, which is false: the test is skipped. In CI it fails.
pub(crate) fn is_missing(what: &str) -> bool {
    skip(what);
    false
}

fn skip(missing: &str) {
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing} is not installed");
    // Not by `eprintln!`, whose output is shown only if the test fails.
    let _ = writeln!(io::stderr(), "skipped: {missing} is not installed");
}

/// A port of 127.0.0.1 that is reserved as long as the value lives: with `SO_REUSEPORT` a neighbour may listen on it,
/// too, and no other program.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    _socket: Socket,
}

impl Port {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_port(true).expect("Linux has it");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has free ports");
        let address = socket.local_addr().ok().and_then(|addr| addr.as_socket()).expect("it is bound");
        Self { address, _socket: socket }
    }
}

/// A temporary folder that is removed with the value. Every user may read it: nginx's workers run as another user.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tidegate-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of `name` in the folder, as text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The real server, as a process.
pub(crate) struct Server {
    /// The address on which it listens.
    pub(crate) address: SocketAddr,
    /// The address of its metrics, if `ADMIN_LISTEN` is among the settings.
    pub(crate) admin: Option<SocketAddr>,
    child: Child,
}

impl Server {
    /// Starts the server with `settings` (`TIDEGATE_<NAME>`), on a free port of 127.0.0.1 if they name none.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let defaults = [("LISTEN", "127.0.0.1:0"), ("ADMIN_LISTEN", "off"), ("LOG_LEVEL", "warn")];
        let settings = defaults.iter().chain(settings);
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .env_clear()
            .envs(settings.map(|(name, value)| (format!("TIDEGATE_{name}"), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server was built with the tests");
        let mut output = Output::of(&mut child);
        let welcome = output.line("the welcome", |line| line.contains("is listening on ")).await;
        let address = welcome.split("is listening on ").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {welcome:?}"));
        let admin = welcome.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok());
        Self { address, admin, child }
    }

    /// Ends it as a crash or a power cut would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it is ours to kill");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn end(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("kill(1)").success());
        assert_eq!(self.child.wait().await.expect("our child").code(), Some(0));
    }

    /// Returns the URL of `path` below the base path.
    pub(crate) fn url(&self, path: &str) -> String {
        url(self.address, path)
    }

    /// Publishes `event`, or several, and returns the answer.
    pub(crate) async fn publish(&self, event: Value) -> Value {
        self.post("/publish", &event.to_string()).await
    }

    /// Posts `body` and returns the answer, which must be 200.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Value {
        let length = body.len();
        let head = format!("POST {BASE}{path} HTTP/1.1\r\nhost: tests\r\ncontent-length: {length}\r\n");
        let request = format!("{head}content-type: application/json\r\nconnection: close\r\n\r\n{body}");
        let mut socket = TcpStream::connect(self.address).await.expect("the server accepts");
        socket.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("the server answers with text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{path} {body}: {answer}");
        serde_json::from_str(body).expect("answers are JSON")
    }
}

/// Returns the id in a publish's answer.
pub(crate) fn id_of(answer: &Value) -> String {
    answer["id"].as_str().expect("every answer to a publish has an id").to_owned()
}

const BASE: &str = "/api/v1/sse";

/// Returns the URL of `path` below the base path of a server at `address`.
pub(crate) fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{BASE}{path}")
}

/// A program's output, line by line.
pub(crate) struct Output {
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Output {
    /// Reads the standard output of `child`, which must be piped.
    pub(crate) fn of(child: &mut Child) -> Self {
        let stdout = child.stdout.take().expect("it is piped, and taken once");
        Self { lines: BufReader::new(stdout).lines(), seen: Vec::new() }
    }

    /// Returns the next line that is `wanted`, and drops those before it.
    pub(crate) async fn line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let next = timeout_at(deadline, self.lines.next_line()).await;
            let next = next.map(|line| line.expect("the output is text"));
            let Ok(Some(line)) = next else { panic!("waited for {what}, have {:#?}", self.seen) };
            self.seen.push(line);
            if let Some(line) = self.seen.last().filter(|line| wanted(line)) {
                return line.clone();
            }
        }
    }
}
