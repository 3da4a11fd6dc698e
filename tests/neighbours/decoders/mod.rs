//! HTTP clients and decoders of other projects: curl and Node read streams, plain and compressed, as events happen.
//!
//! Each event must arrive before the next is published, so a decoder that holds an event back fails the test.

use crate::common::neighbours;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::neighbours::{Output, PATIENCE, Server, find, id_of};

/// A running program, and its output.
struct Running {
    child: Child,
    output: Output,
}

impl Running {
    /// Starts `program` in the usual way, without this machine's settings for proxies.
    fn start(program: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .envs(["no_proxy", "NO_PROXY"].map(|name| (name, "*")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it was just found");
        let output = Output::of(&mut child);
        Self { child, output }
    }

    /// Waits until it prints `wanted`, and checks that it goes on after that.
    async fn until_line(&mut self, wanted: &str) {
        self.output.line(wanted, |line| line.trim_end().eq_ignore_ascii_case(wanted)).await;
        assert_eq!(self.child.try_wait().expect("it is ours"), None, "the stream is open");
    }

    /// Returns its only line of output, read as JSON.
    async fn answer(&mut self) -> Value {
        let line = self.output.line("an answer", |_| true).await;
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line} is not JSON"))
    }

    /// Waits for its end and returns whether it succeeded.
    async fn ends_well(&mut self) -> bool {
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("the stream is over");
        ended.expect("it is ours").success()
    }

    async fn write(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped and not closed yet");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
        stdin.flush().await.expect("it reads");
    }
}

/// Publishes to `listener`, event by event, and waits for each to be decoded.
async fn decodes_live(server: &Server, mut listener: Running) {
    listener.until_line("content-encoding: gzip").await;
    listener.until_line("event: connected").await;
    for number in 0..5 {
        // Short events that fit every buffer, and one that fits none.
        let data =
            format!("{number} {}", "dräi \u{1f30a} ".repeat(if number == 3 { 10_000 } else { number }));
        let answer = server.publish(json!({ "room": "a", "event": "tide", "data": data })).await;
        assert_eq!(answer["subscribers"], 1);
        for line in ["event: tide".into(), format!("id: {}", id_of(&answer)), format!("data: {data}")] {
            listener.until_line(line.trim_end()).await;
        }
    }
    // One batch.
    let batch: Vec<Value> = (0..500).map(|number| json!({ "room": "a", "data": number })).collect();
    server.publish(json!(batch)).await;
    for number in 0..500 {
        listener.until_line(&format!("data: {number}")).await;
    }
    server.post("/disconnect/a/me", "").await;
    // The stream may have ended before this check.
    listener.output.line("the farewell", |line| line == "event: closing").await;
    assert!(listener.ends_well().await, "a stream without a trailer is not an error");
}

#[tokio::test]
async fn curl_decodes_gzip_while_the_stream_is_open() {
    let Some(curl) = find("curl") else { return };
    let server = Server::start(&[("GZIP", "on")]).await;
    let url = server.url("/stream/a/me");
    decodes_live(&server, Running::start(&curl, &["-i", "-N", "--compressed", &url])).await;
}

#[tokio::test]
async fn nodes_fetch_decodes_gzip_while_the_stream_is_open() {
    node_decodes("fetch.mjs").await;
}

#[tokio::test]
async fn nodes_zlib_decodes_gzip_while_the_stream_is_open() {
    node_decodes("http.mjs").await;
}

async fn node_decodes(script: &str) {
    let Some(node) = find("node") else { return };
    let server = Server::start(&[("GZIP", "on")]).await;
    let script = format!("{}/tests/neighbours/decoders/{script}", env!("CARGO_MANIFEST_DIR"));
    decodes_live(&server, Running::start(&node, &[&script, &server.url("/stream/a/me")])).await;
}

/// The behaviour that `docs/api.md` describes for long lines.
#[tokio::test]
async fn gos_scanner_takes_64_kib_a_line_unless_it_is_told_otherwise() {
    let Some(go) = find("go") else { return };
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lines-{}", std::process::id()));
    let built = Command::new(go)
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/neighbours/decoders/lines.go"))
        // The program needs only the standard library.
        .envs([("GOFLAGS", "-mod=mod"), ("GOPROXY", "off"), ("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")])
        .output();
    let built = built.await.expect("it was just found");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let server = Server::start(&[]).await;
    let url = server.url("/stream/a/me");
    let mut by_default = Running::start(&program, &[&url]);
    let mut told = Running::start(&program, &[&url, "1048576"]);
    let publish = async |bytes: usize| {
        server.publish(json!({ "room": "a", "data": "x".repeat(bytes - "data: ".len()) })).await;
    };
    by_default.until_line("event: connected").await;
    told.until_line("event: connected").await;
    publish(65_000).await;
    by_default.until_line("a line of 65000 bytes").await;
    told.until_line("a line of 65000 bytes").await;
    publish(70_000).await;
    let stopped = "bufio.Scanner: token too long";
    by_default.output.line(stopped, |line| line.trim_end() == stopped).await;
    told.until_line("a line of 70000 bytes").await;
    std::fs::remove_file(&program).expect("nobody else removes it");
}

/// curl, a server, and curl as a listener at it.
async fn curl_listening() -> Option<(PathBuf, Server, Running)> {
    let curl = find("curl")?;
    let server = Server::start(&[]).await;
    let mut listener = Running::start(&curl, &["-N", &server.url("/stream/lobby/me")]);
    listener.until_line("event: connected").await;
    Some((curl, server, listener))
}

/// The two commands that the server itself suggests when it starts.
#[tokio::test]
async fn curl_listens_and_publishes() {
    let Some((curl, server, mut listener)) = curl_listening().await else { return };
    let publish = server.url("/publish");
    let mut publisher = Running::start(&curl, &[&publish, "-d", r#"{"room":"lobby","data":"hello"}"#]);
    let answer = publisher.answer().await;
    assert_eq!(answer["subscribers"], 1);
    for line in [format!("id: {}", id_of(&answer)), "data: hello".into()] {
        listener.until_line(&line).await;
    }
}

#[tokio::test]
async fn curl_publishes_a_stream_of_lines_as_they_come() {
    let Some((curl, server, mut listener)) = curl_listening().await else { return };
    let content_type = "content-type: application/x-ndjson";
    let url = server.url("/publish");
    let mut publisher = Running::start(&curl, &["-X", "POST", "-T", "-", "-H", content_type, &url]);
    for data in ["one", "two", "three"] {
        publisher.write(&json!({ "room": "lobby", "data": data }).to_string()).await;
        listener.until_line(&format!("data: {data}")).await;
    }
    drop(publisher.child.stdin.take());
    let answer = publisher.answer().await;
    assert_eq!((&answer["published"], &answer["subscribers"]), (&json!(3), &json!(3)));
    assert!(publisher.ends_well().await);
}
