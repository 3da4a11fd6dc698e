//! Promise: with a full disk nothing is published, which publishers and the readiness probe are told; streams stay; and as
//! soon as there is space, everything goes on.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::common::neighbours::{self, Folder};
use crate::common::process::{FREE_PORTS, Process, TIDEGATE, command_of};
use crate::common::{assert_problem, eventually};
use crate::node::Node;

/// A file system of 52 MiB that only the server sees, with a file in it that can be removed. Three segments of 16 MiB do
/// not fit beside that.
const MOUNT: &str =
    r#"mount -t tmpfs -o size=52m none "$0" && head -c 14m /dev/zero >"$0/ballast" && exec "$@""#;

/// Whether a small file system can be mounted here. If not, the test is skipped with a message; in CI it fails.
fn can_mount() -> bool {
    if neighbours::find("unshare").is_none() {
        return false;
    }
    let folder = Folder::new();
    let mounted = Command::new("unshare")
        .args(["-rm", "sh", "-c", MOUNT, &folder.file(""), "true"])
        .output()
        .expect("unshare was found");
    mounted.status.success() || neighbours::is_missing("unshare(1) that may mount a tmpfs")
}

/// A server on such a file system, and its folder as seen from here.
fn start(folder: &Folder) -> (Node, PathBuf) {
    let path = folder.path().display().to_string();
    let order = format!("disk:{path}/order");
    let mut command = command_of("unshare", &["-rm", "sh", "-c", MOUNT, &path, TIDEGATE]);
    command.args(FREE_PORTS).args([
        "--order",
        &order,
        "--max-event-bytes",
        "1MiB",
        "--max-body-bytes",
        "2MiB",
    ]);
    let node = Node(Process::spawn(&mut command));
    let inside = PathBuf::from(format!("/proc/{}/root{path}", node.0.id()));
    (node, inside)
}

#[test]
fn a_full_disk_refuses_publishes_until_there_is_space() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    let (node, inside) = start(&folder);
    let mut listener = node.listen("/stream/small/u", &[]);
    let seen = node.publish(&json!({"room": "small", "data": "before"}));
    assert_eq!(listener.data(), "before");
    assert_eq!(node.ready().status(), 200);
    let body = json!({"room": "large", "data": "x".repeat(1_000_000)}).to_string();
    let mut answer = node.post("/publish", &[], &body);
    let mut taken = 0;
    while answer.status() == 200 {
        taken += 1;
        assert!(taken < 40, "the disk is full by now");
        answer = node.post("/publish", &[], &body);
    }
    assert!(taken > 25, "two segments take more than {taken}");
    assert_problem(&answer, 507, "disk_full");
    assert_eq!(node.ready().status(), 503);
    // Small ones wait as well: their order is that of all.
    assert_problem(&node.post("/publish", &[], r#"{"room":"small","data":"no"}"#), 507, "disk_full");

    fs::remove_file(inside.join("ballast")).expect("it is ours");
    eventually("a publish", || {
        node.post("/publish", &[], r#"{"room":"small","data":"after"}"#).status() == 200
    });
    assert_eq!(listener.data(), "after", "nothing that was refused is heard");
    eventually("ready", || node.ready().status() == 200);
    let mut again = node.listen("/stream/small/u", &[("last-event-id", seen["id"].as_str().expect("an id"))]);
    assert_eq!(again.data(), "after");
    node.end();
}
