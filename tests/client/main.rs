//! Promise: the JavaScript client in `clients/js` keeps the rules of `docs/client.md`, with the server of this build and in
//! Chromium; it is as small as it says, and its documents work as they stand.
//!
//! The tests are `clients/js/test`, run by Node. One folder of them is one test here, and they take turns: most of them run a
//! server or a browser of their own.

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use common::neighbours::{find, find_at};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/js");
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/js/node_modules/esbuild/package.json");

/// One at a time. A test that fails says so by itself.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `program` in the client's folder. It has to succeed; otherwise what it printed is shown.
fn run(program: &str, args: &[&str]) {
    let (Some(path), Some(_)) = (find(program), find_at(INSTALLED)) else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(path);
    command.args(args).current_dir(Path::new(CLIENT)).stdin(Stdio::null());
    command.env("TIDEGATE_PROGRAM", env!("CARGO_BIN_EXE_tidegate"));
    let output = command.output().expect("it was just found");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}:\n{said}\n{wrong}");
}

#[test]
fn the_client_keeps_its_rules() {
    run("node", &["--test", "test/unit/", "test/hooks/"]);
}

#[test]
fn the_client_is_exact_against_the_server() {
    run("node", &["--test", "test/server/"]);
}

#[test]
fn the_client_is_exact_in_a_browser() {
    run("node", &["--test", "test/browser/core.test.js"]);
}

#[test]
fn the_client_is_exact_in_firefox() {
    run("node", &["--test", "test/browser/firefox.test.js"]);
}

#[test]
fn tabs_share_one_stream() {
    run("node", &["--test", "test/browser/tabs.test.js"]);
}

#[test]
fn the_client_works_as_shown() {
    run("node", &["--test", "test/browser/documents.test.js"]);
}

#[test]
fn each_state_of_a_stream_is_seen() {
    run("node", &["--test", "test/browser/states.test.js"]);
}

#[test]
fn the_examples_with_react_and_vue_work() {
    run("node", &["--test", "test/browser/examples.test.js"]);
}

#[test]
fn the_client_is_small_and_its_types_fit() {
    run("npm", &["run", "check"]);
}

#[test]
fn others_can_use_the_package() {
    run("npm", &["run", "package"]);
}
