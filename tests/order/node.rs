//! A server with an order on disk, which can be killed and started again, and what is in its folder.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate::order::disk::record::{self, Read, Record};
use tidegate::order::disk::scan::Scan;
use tidegate::order::entry::{self, Entry};
use tidegate::store::folder::Reading;

use crate::common::BASE;
use crate::common::bearer::{SECRET, bearer, key_text, token};
use crate::common::conn::{Conn, Response, request};
use crate::common::neighbours::Folder;
use crate::common::process::Process;
use crate::common::stream::Listener;

/// The folder of an order, and the settings of the servers that use it one after the other.
pub(crate) struct Order {
    folder: Folder,
    settings: Vec<(&'static str, String)>,
}

impl Order {
    /// A folder without an order.
    pub(crate) fn new() -> Self {
        Self { folder: Folder::new(), settings: Vec::new() }
    }

    /// The same; its servers want tokens.
    pub(crate) fn with_tokens() -> Self {
        Self::new().set("TIDEGATE_TOKEN_KEYS", key_text(SECRET))
    }

    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("order")
    }

    /// The value of the setting.
    pub(crate) fn setting(&self) -> String {
        format!("disk:{}", self.path().display())
    }

    /// Starts a server on it.
    pub(crate) fn start(&self) -> Node {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Node(Process::start(&["--order", &self.setting()], &settings))
    }

    /// What is in the folder.
    pub(crate) fn scan(&self) -> Scan {
        Scan::of(&Reading(self.path())).expect("it can be read")
    }

    /// The file of a segment.
    pub(crate) fn file(&self, segment: u64) -> PathBuf {
        self.path().join(format!("{segment:016}.log"))
    }

    /// Whether an event of the room `a` with this number is on the disk.
    pub(crate) fn has(&self, number: &str) -> bool {
        let is_it = |body: &[u8]| {
            let mut found = false;
            let read = entry::read(body, |entry| {
                found |= matches!(entry, Entry::Event(draft, _) if &*draft.data == number);
            });
            read.is_ok() && found
        };
        let mut has = false;
        let visited = self.scan().visit(&Reading(self.path()), |batch| has |= is_it(batch.body));
        visited.expect("it can be read");
        has
    }

    /// The segment of the batch that contains `data`, and where in it the batch begins and ends.
    pub(crate) fn find(&self, data: &str) -> (u64, u64, u64) {
        for segment in self.scan().segments {
            let bytes = std::fs::read(self.file(segment.number)).expect("it is there");
            let mut at = 0;
            while let Read::Record(record, next) = record::read(segment.number, &bytes, at) {
                let contains = |body: &[u8]| body.windows(data.len()).any(|part| part == data.as_bytes());
                if matches!(record, Record::Batch(batch) if contains(batch.body)) {
                    return (segment.number, at as u64, next as u64);
                }
                at = next;
            }
        }
        panic!("no batch contains {data}");
    }
}

/// Flips a bit of `file`.
pub(crate) fn flip(file: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(file).expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("within the file");
    file.write_all_at(&[byte[0] ^ 1], at).expect("it can be written");
}

/// A running server.
pub(crate) struct Node(pub(crate) Process);

impl Node {
    /// Ends it as a crash would.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Ends it in order, and returns all its output.
    pub(crate) fn end(self) -> String {
        self.0.end()
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let request = request(method, &format!("{BASE}{path}"), headers, body.as_bytes());
        Conn::tcp(self.0.addr).round(&request)
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        self.send("POST", path, headers, body)
    }

    /// Posts `body` as `user` with these permissions.
    pub(crate) fn post_as(&self, user: &str, permissions: &[&str], path: &str, body: &str) -> Response {
        self.post(path, &[("authorization", &bearer(&token(user, permissions)))], body)
    }

    /// Publishes `event`, or several, and returns the answer.
    pub(crate) fn publish(&self, event: &Value) -> Value {
        let answer = self.post("/publish", &[], &event.to_string());
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(answer.json()["durability"], "disk");
        answer.json()
    }

    /// Publishes `data` to the room `a`, and returns its id.
    pub(crate) fn say(&self, data: &str) -> String {
        self.publish(&json!({"room": "a", "data": data}))["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) fn listen(&self, path: &str, headers: &[(&str, &str)]) -> Listener {
        Listener::open(Conn::tcp(self.0.addr), path, headers)
    }

    /// Opens a stream of the room `a` that resumes after `id`.
    pub(crate) fn resume(&self, id: &str) -> Listener {
        self.listen("/stream/a/u", &[("last-event-id", id)])
    }

    /// Asks the readiness probe.
    pub(crate) fn ready(&self) -> Response {
        Conn::tcp(self.0.admin).round(&request("GET", "/readyz", &[], b""))
    }
}

/// The epoch in an id.
pub(crate) fn epoch(id: &str) -> &str {
    id.split_once('-').expect("an id is an epoch and an offset").0
}

/// Reads the next event, which must be a gap, and returns its data.
#[track_caller]
pub(crate) fn gap(listener: &mut Listener) -> Value {
    let event = listener.event();
    assert!(event.starts_with("event: gap\n"), "{event}");
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("a gap has data");
    serde_json::from_str(data).expect("JSON")
}
