//! Chromium or Firefox, driven by `drive.mjs`: one page that a test opens, runs scripts in and types into.

use std::process::Stdio;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, MutexGuard};

use crate::common::neighbours::{Folder, LOOK_AGAIN, PATIENCE, find, find_at, until};

/// One browser at a time: each is a dozen processes, and all tests may share two cores.
static TURN: Mutex<()> = Mutex::const_new(());

const DRIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/browser/drive.mjs");
const PUPPETEER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/npm/node_modules/puppeteer-core/package.json");

/// The kind of browser.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Chromium,
    Firefox,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Chromium, Self::Firefox];

    /// Returns its name for `drive.mjs`, and its program.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Chromium => ("chromium", "chromium"),
            Self::Firefox => ("firefox", "firefox-esr"),
        }
    }
}

/// A browser with one page. The browser and its files are removed when the value is dropped.
pub(crate) struct Browser {
    pub(crate) kind: Kind,
    child: Child,
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    _folder: Folder,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts a browser. `None` if this machine has no such browser, or no driver for it.
    pub(crate) async fn start(kind: Kind) -> Option<Self> {
        let (name, program) = kind.names();
        let (node, program) = (find("node")?, find(program)?);
        find_at(PUPPETEER)?;
        let turn = TURN.lock().await;
        let folder = Folder::new();
        let mut child = Command::new(node)
            .args([DRIVE.as_ref(), name.as_ref(), program.as_os_str(), folder.path().as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut browser = Self { kind, child, commands, answers, _folder: folder, _turn: turn };
        let version = browser.answer("the start").await;
        eprintln!("{kind:?}: {version}");
        Some(browser)
    }

    /// Opens `url`.
    pub(crate) async fn open(&mut self, url: &str) {
        self.command(json!(["open", url])).await;
    }

    /// Runs `script` and returns its result, which may be a promise. `args` are its `arguments`.
    pub(crate) async fn run<T: DeserializeOwned>(&mut self, script: &str, args: &[Value]) -> T {
        let command: Vec<Value> = [json!("run"), json!(script)].iter().chain(args).cloned().collect();
        serde_json::from_value(self.command(command.into()).await).expect("as the page says it")
    }

    /// Presses `key`, such as `Tab`.
    pub(crate) async fn press(&mut self, key: &str) {
        self.command(json!(["press", key])).await;
    }

    /// Types `text` where the focus is.
    pub(crate) async fn type_text(&mut self, text: &str) {
        self.command(json!(["type", text])).await;
    }

    /// Sets the page's size in CSS pixels.
    pub(crate) async fn size(&mut self, width: u32, height: u32) {
        self.command(json!(["size", width, height])).await;
    }

    /// Makes pages think that the user prefers `light` or `dark`. Chromium only.
    pub(crate) async fn scheme(&mut self, scheme: &str) {
        self.command(json!(["scheme", scheme])).await;
    }

    /// Takes a picture of the whole page.
    pub(crate) async fn picture(&mut self, path: &str) {
        self.command(json!(["picture", path])).await;
    }

    /// Returns what pages have printed to the console, the browser's errors included.
    pub(crate) async fn console(&mut self) -> Vec<String> {
        serde_json::from_value(self.command(json!(["console"])).await).expect("texts")
    }

    /// Waits until `script`, an expression, is true; on failure, the message contains the value of `instead`.
    pub(crate) async fn until(&mut self, what: &str, script: &str, instead: &str) {
        let kind = self.kind;
        let look = format!("return [!!({script}), {instead}]");
        until(&format!("{what} in {kind:?}"), async || {
            let (is_so, instead): (bool, Value) = self.run(&look, &[]).await;
            if is_so { Ok(()) } else { Err(instead) }
        })
        .await;
    }

    async fn command(&mut self, command: Value) -> Value {
        let line = format!("{command}\n");
        let commands = self.commands.as_mut().expect("open until the end");
        commands.write_all(line.as_bytes()).await.expect("the driver reads");
        self.answer(&line).await
    }

    async fn answer(&mut self, command: &str) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{:?} does not answer {command}", self.kind));
        let line = line.expect("text").unwrap_or_else(|| panic!("{:?} ended at {command}", self.kind));
        let mut answer: Value = serde_json::from_str(&line).expect("answers are JSON");
        assert!(answer.get("error").is_none(), "{:?}: {command}: {answer}", self.kind);
        answer["ok"].take()
    }
}

impl Drop for Browser {
    /// The driver ends the browser when its input ends, and then itself.
    fn drop(&mut self) {
        drop(self.commands.take());
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("{:?} stays behind", self.kind);
                let _ = self.child.start_kill();
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}
