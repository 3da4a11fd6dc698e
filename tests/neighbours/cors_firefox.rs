//! Promise: Firefox lets a page with the origin `null` subscribe where `null` is listed, and in no other case. A small
//! program of the tests drives Firefox by puppeteer.

use crate::common::neighbours;

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use self::neighbours::{Folder, PATIENCE, Server, find, find_at};

/// Prints what a sandboxed frame in Firefox receives from each of the servers at these URLs.
const PROGRAM: &str = "tests/npm/null_origin.js";

/// The library that drives the browser, which `npm ci` puts there.
const LIBRARY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/npm/node_modules/puppeteer-core/package.json");

#[tokio::test]
async fn a_sandboxed_frame_may_listen_where_null_is_listed() {
    let (Some(node), Some(firefox)) = (find("node"), find("firefox-esr")) else { return };
    if find_at(LIBRARY).is_none() {
        return;
    }
    let listed = Server::start(&[("CORS_ORIGINS", "null")]).await;
    let unlisted = Server::start(&[("CORS_ORIGINS", "https://app.example")]).await;
    let folder = Folder::new();
    let run = Command::new(node)
        .arg(PROGRAM)
        .arg(firefox)
        .args([listed.url("/stream/a/me"), unlisted.url("/stream/a/me")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Its profile and its caches are removed with the folder.
        .envs(["HOME", "TMPDIR"].map(|name| (name, folder.path())))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let run = timeout(2 * PATIENCE, run).await.expect("the browser answers").expect("it was just found");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    let found: Value = serde_json::from_slice(&run.stdout).expect("it prints JSON");
    assert_eq!(found, json!({ "origin": "null", "found": ["connected", "closed"] }));
}
