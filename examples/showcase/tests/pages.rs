//! Promise: each page works, for several people at once in a real browser. The tests are in `tests/browser`, one file for each
//! page; Node runs them, with puppeteer and axe-core from `tests/npm`.
//!
//! `PICTURES=FOLDER cargo test -p showcase` also writes what the pages look like: light, dark, and on a phone.

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/npm/node_modules/axe-core/axe.min.js");

/// One page at a time: each is a browser with a dozen processes, and all tests may share two cores.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn texts_are_there_in_both_languages_and_used() {
    run("texts.test.mjs", &["node"]);
}

#[test]
fn the_chat_works_for_three_at_once() {
    run("chat.test.mjs", &["node", "chromium"]);
}

#[test]
fn notifications_work_for_three_at_once() {
    run("notifications.test.mjs", &["node", "chromium"]);
}

#[test]
fn progress_is_the_same_in_two_tabs() {
    run("progress.test.mjs", &["node", "chromium"]);
}

#[test]
fn an_answer_of_the_ai_is_read_by_two_at_once() {
    run("ai.test.mjs", &["node", "chromium"]);
}

#[test]
fn the_monitor_moves_for_two_at_once() {
    run("monitor.test.mjs", &["node", "chromium"]);
}

#[test]
fn tickers_are_conflated_for_two_at_once() {
    run("tickers.test.mjs", &["node", "chromium"]);
}

#[test]
fn the_tutorial_is_read_by_two_in_their_languages() {
    run("tutorial.test.mjs", &["node", "chromium"]);
}

/// Runs the tests in `file`, if this machine has the `programs` that they need. In CI it has to have them.
#[track_caller]
fn run(file: &str, programs: &[&str]) {
    let found: Vec<Option<PathBuf>> = programs.iter().map(|program| find(program)).collect();
    let missing = programs.iter().zip(&found).find(|(_, found)| found.is_none()).map(|(program, _)| *program);
    let missing =
        missing.or_else(|| (programs.len() > 1 && !Path::new(AXE).is_file()).then_some("tests/npm"));
    if let Some(missing) = missing {
        assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing} is not installed");
        // Not by `eprintln!`, whose output is shown only if the test fails.
        let _ = writeln!(io::stderr(), "skipped: {missing} is not installed");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut node = Command::new(found[0].as_ref().expect("it was just found"));
    if let Some(Some(chromium)) = found.get(1) {
        node.env("CHROMIUM", chromium);
    }
    let output = node
        .args(["--test", "--test-reporter=spec", &format!("{TESTS}/{file}")])
        .env("SHOWCASE", env!("CARGO_BIN_EXE_showcase"))
        .output()
        .expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    println!("{text}");
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
