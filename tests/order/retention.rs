//! Promise: the order takes no more of the disk than it may, whoever comes from what is gone is told, and a change that is
//! older than the log is still in force.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::common::assert_problem;
use crate::common::bearer::{bearer, token};
use crate::node::{Node, Order, gap};

const MIB: u64 = 1 << 20;

/// Bytes of all files in `folder`.
fn bytes_of(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("it is there").flatten();
    files.map(|file| file.metadata().expect("it is there").len()).sum()
}

fn say(node: &Node, data: &str) -> String {
    let body = json!({"room": "a", "data": data}).to_string();
    let answer = node.post_as("bob", &["sse:publish"], "/publish", &body);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn what_is_too_much_goes_and_mutes_do_not() {
    let order = Order::with_tokens().set("TIDEGATE_ORDER_BYTES", "64MiB");
    let order = order.set("TIDEGATE_PUBLISH_RATE_PER_USER", "off");
    let order = order.set("TIDEGATE_MAX_EVENT_BYTES", "1MiB").set("TIDEGATE_MAX_BODY_BYTES", "2MiB");
    let node = order.start();
    let muted = node.post_as("ops", &["admin"], "/rooms/a/mute/ann", "");
    assert_eq!(muted.status(), 200, "{}", muted.text());
    let first = say(&node, "first");
    let large = "x".repeat(1_000_000);
    for _ in 0..100 {
        say(&node, &large);
        let bytes = bytes_of(&order.path());
        assert!(bytes <= 64 * MIB, "{bytes}");
    }
    node.kill();
    let scan = order.scan();
    assert!(scan.floor > 1 && scan.segments[0].number > 1, "{scan:?}");

    let node = order.start();
    let body = r#"{"room":"a","data":1}"#;
    assert_problem(&node.post_as("ann", &["sse:publish"], "/publish", body), 403, "muted");
    let authorization = bearer(&token("u", &["sse:read"]));
    let mut listener =
        node.listen("/stream/a/u", &[("authorization", &authorization), ("last-event-id", &first)]);
    assert_eq!(gap(&mut listener)["reason"], "evicted");
}

/// A killed server cannot give back what its segment does not use. A few kills once pushed out everything.
#[test]
fn kills_take_nothing_of_what_is_kept() {
    let order = Order::new().set("TIDEGATE_ORDER_BYTES", "64MiB");
    let node = order.start();
    let first = node.say("0");
    node.kill();
    for n in 1..10 {
        let node = order.start();
        node.say(&n.to_string());
        node.kill();
    }
    let node = order.start();
    let mut listener = node.resume(&first);
    for n in 1..10 {
        assert_eq!(listener.data(), n.to_string());
    }
    let bytes = bytes_of(&order.path());
    assert!(bytes < 33 * MIB, "the open segment, the spare one, and little else: {bytes}");
}
