//! Promise: every client library delivers the published events and nothing else.
//!
//! Heartbeats once were a comment, an id and a blank line. By the standard that is no event. fetch-event-source,
//! httpx-sse, and the decoders of the Python packages `openai` and `anthropic` made an empty message of each, and
//! `openai` failed on it. Here, each subscribes with its real library through several heartbeats.
//! `tests/stream/heartbeat.rs` has the bytes.

mod browser;
use crate::common::{self, neighbours};

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::process::{Child, Command};

use self::common::{BASE, TestServer, eventually};
use self::neighbours::{Output, find_at};

/// The language of a library: the program that runs it, and the script.
#[derive(Clone, Copy)]
enum Language {
    /// Packages of `tests/npm`.
    JavaScript,
    /// Packages of `tests/python`.
    Python,
}

impl Language {
    /// Subscribes to `url` with `library`. `None` if the packages are not installed.
    fn listen(self, library: &str, url: &str) -> Option<Child> {
        let root = env!("CARGO_MANIFEST_DIR");
        let (program, script) = match self {
            Self::JavaScript => {
                find_at(&format!("{root}/tests/npm/node_modules/{library}/package.json"))?;
                ("node".into(), "listen.mjs")
            }
            Self::Python => {
                let python = format!("{root}/target/python/bin/python");
                find_at(&python)?;
                (python, "listen.py")
            }
        };
        let child = Command::new(program)
            .arg(Path::new(root).join("tests/neighbours/clients").join(script))
            .args([library, url])
            // Overrides this machine's settings for proxies.
            .envs(["no_proxy", "NO_PROXY"].map(|name| (name, "*")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        Some(child.expect("it is installed with its packages"))
    }
}

/// Waits for two more heartbeats. A client that gets the next event has received them.
fn wait_for_heartbeats(server: &TestServer) {
    let heartbeats = || server.metrics().get("tidegate_heartbeats_total");
    let before = heartbeats();
    eventually("two heartbeats", || heartbeats() >= before + 2.0);
}

/// Returns the data of every message that `library` delivers from a stream with two events and heartbeats before each.
async fn messages(language: Language, library: &str, query: &str) -> Option<Vec<String>> {
    let server = TestServer::with(|config| config.heartbeat = Duration::from_secs(1));
    let url = format!("http://{}{BASE}/stream/a/me{query}", server.addr);
    let mut child = language.listen(library, &url)?;
    let mut output = Output::of(&mut child);
    let mut seen = vec![output.line("connected", |_| true).await];
    for n in 1..=2 {
        wait_for_heartbeats(&server);
        server.publish(&json!({ "room": "a", "event": "tide", "data": { "n": n } }));
        let last = format!("{{\"n\":{n}}}");
        while seen.last() != Some(&last) {
            seen.push(output.line(&last, |_| true).await);
        }
    }
    Some(seen)
}

async fn hands_out_events_alone(language: Language, library: &str) {
    let Some(seen) = messages(language, library, "").await else { return };
    let (connected, events) = seen.split_first().expect("it is the first");
    assert!(connected.contains(r#""user":"me""#), "{seen:?}");
    assert_eq!(events, [r#"{"n":1}"#, r#"{"n":2}"#]);
}

#[tokio::test]
async fn fetch_event_source_hands_out_events_alone() {
    hands_out_events_alone(Language::JavaScript, "@microsoft/fetch-event-source").await;
}

#[tokio::test]
async fn the_eventsource_package_hands_out_events_alone() {
    hands_out_events_alone(Language::JavaScript, "eventsource").await;
}

#[tokio::test]
async fn the_polyfill_hands_out_events_alone() {
    hands_out_events_alone(Language::JavaScript, "event-source-polyfill").await;
}

#[tokio::test]
async fn openai_for_javascript_hands_out_events_alone() {
    hands_out_events_alone(Language::JavaScript, "openai").await;
}

#[tokio::test]
async fn anthropic_for_javascript_hands_out_events_alone() {
    hands_out_events_alone(Language::JavaScript, "@anthropic-ai/sdk").await;
}

#[tokio::test]
async fn httpx_sse_hands_out_events_alone() {
    hands_out_events_alone(Language::Python, "httpx-sse").await;
}

#[tokio::test]
async fn openai_for_python_hands_out_events_alone() {
    hands_out_events_alone(Language::Python, "openai").await;
}

#[tokio::test]
async fn anthropic_for_python_hands_out_events_alone() {
    hands_out_events_alone(Language::Python, "anthropic").await;
}

/// Shows that these tests would detect an empty message, and that these libraries still need heartbeats without an id.
#[tokio::test]
async fn heartbeats_with_an_id_are_empty_messages_to_some() {
    for (language, library) in [
        (Language::JavaScript, "@microsoft/fetch-event-source"),
        (Language::Python, "httpx-sse"),
        (Language::Python, "anthropic"),
    ] {
        let Some(seen) = messages(language, library, "?heartbeat=id").await else { continue };
        assert!(seen.iter().filter(|data| data.is_empty()).count() >= 4, "{library}: {seen:?}");
    }
}
