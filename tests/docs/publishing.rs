//! Promise: the programs of `docs/publishing.md` publish an event once, also if the answer to it is lost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tidegate::auth::api_keys;
use tokio::process::Command;

use crate::common::application::{Application, Asked, Reply};
use crate::common::bearer::api_key_entry;
use crate::common::neighbours::{Folder, Server, find};

const PAGE: &str = include_str!("../../docs/publishing.md");

/// What stands between a program and the server, and loses the answer to the first request.
fn lossy(server: SocketAddr) -> Application {
    let was_lost = AtomicBool::new(false);
    Application::start(move |asked| {
        let (status, body) = pass_on(server, asked);
        if was_lost.swap(true, Ordering::AcqRel) { Reply::With(status, body) } else { Reply::Raw(Vec::new()) }
    })
}

fn pass_on(server: SocketAddr, asked: &Asked) -> (u16, String) {
    let mut socket = TcpStream::connect(server).expect("the server listens");
    let mut head = format!("{} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n", asked.line);
    for name in ["authorization", "content-type", "idempotency-key"] {
        if let Some(value) = asked.header(name) {
            head.extend([name, ": ", value, "\r\n"]);
        }
    }
    head.extend(["content-length: ", &asked.body.len().to_string(), "\r\n\r\n"]);
    socket.write_all(&[head.as_bytes(), &asked.body].concat()).expect("the server reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("the server answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// Returns the block of the page that is the program in `language`.
fn program(language: &str) -> &'static str {
    let blocks: Vec<&str> = PAGE
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect();
    blocks.last().unwrap_or_else(|| panic!("the page has a program in {language}"))
}

#[tokio::test]
async fn each_language_publishes_once() {
    assert!(PAGE.contains("export TIDEGATE_URL=http") && PAGE.contains("export TIDEGATE_KEY="));
    let folder = Folder::new();
    let key = api_keys::generate();
    let keys = folder.file("keys.toml");
    fs::write(&keys, api_key_entry("app", &key, &["sse:publish", "sse:read"], "")).expect("our folder");
    let server = Server::start(&[("API_KEYS_FILE", &keys)]).await;
    let mut count = 0;
    for (language, file, command) in [
        ("sh", "publish.sh", &["bash"][..]),
        ("python", "publish.py", &["python3"]),
        ("js", "publish.mjs", &["node"]),
        ("go", "publish.go", &["go", "run"]),
        ("php", "publish.php", &["php"]),
    ] {
        let Some(path) = find(command[0]) else { continue };
        fs::write(folder.file(file), program(language)).expect("our folder");
        let front = lossy(server.address);
        let output = Command::new(path)
            .args(&command[1..])
            .arg(file)
            .current_dir(folder.path())
            .env("TIDEGATE_URL", front.url("/api/v1/sse"))
            .env("TIDEGATE_KEY", &key)
            .env("no_proxy", "*")
            .output()
            .await
            .expect("it was just found");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{language}: {said}{}", String::from_utf8_lossy(&output.stderr));
        count += 1;
        assert_eq!(front.count(), 2, "{language}: the first answer was lost");

        let history = history_of(server.address, &key);
        let events = history["events"].as_array().expect("a list");
        assert_eq!(events.len(), count, "{language}: {history}");
        let id = events[count - 1]["id"].as_str().expect("an id");
        assert!(said.contains(id), "{language}: {id} is in {said}");
        assert_eq!(events[count - 1]["data"], r#"{"order":17}"#, "{language}");
    }
}

fn history_of(server: SocketAddr, key: &str) -> Value {
    let asked = Asked {
        line: "GET /api/v1/sse/rooms/orders/history".to_owned(),
        headers: [("authorization".to_owned(), vec![format!("Bearer {key}")])].into(),
        body: Vec::new(),
        at: std::time::Instant::now(),
    };
    let (status, body) = pass_on(server, &asked);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}
