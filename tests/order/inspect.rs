//! Promise: `tidegate order` says what is in a folder, changes nothing, and exits with 1 if anything cannot be read.

use std::fs;

use serde_json::json;

use crate::common::process::command;
use crate::node::{Order, epoch, flip};

/// Runs the tool, and returns what it prints, what it complains of, and its status.
fn look(order: &Order, flag: &str) -> (String, String, i32) {
    let path = order.path().display().to_string();
    let output = command(&["order", flag, &path]).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code().expect("no signal"))
}

/// An order with two terms, and an id of the older one.
fn two_terms() -> (Order, String, String) {
    let order = Order::new();
    let node = order.start();
    let old = node.say("one");
    node.publish(&json!([{"room": "a", "data": "two"}, {"room": "b", "data": "three"}]));
    node.kill();
    let node = order.start();
    let new = node.say("four");
    node.end();
    (order, old, new)
}

#[test]
fn it_says_what_is_there() {
    let (order, old, new) = two_terms();
    let (said, complained, code) = look(&order, "--inspect");
    assert_eq!((code, &*complained), (0, ""), "{said}");
    for part in [
        "positions: above 0 up to ",
        "end: clean",
        &format!("term {}: from 0 up to 3", epoch(&old)),
        &format!("term {}: from ", epoch(&new)),
        "segment 1: 2 batches, ",
        "above 0 up to 3, the newest at ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (said, _, code) = look(&order, "--verify");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("read: 3 batches with 4 events, 0 changes of access"), "{said}");
    assert!(said.ends_with("All of it can be read.\n"), "{said}");
}

#[test]
fn it_finds_what_is_damaged() {
    let (order, ..) = two_terms();
    let (segment, begin, _) = order.find("two");
    let file = order.file(segment);
    flip(&file, begin + 20);
    let before = fs::read(&file).expect("it is there");
    let (said, _, code) = look(&order, "--inspect");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("damage: segment {segment}, byte {begin}: ")), "{said}");
    let (said, _, code) = look(&order, "--verify");
    assert_eq!(code, 1, "{said}");
    assert!(said.ends_with("Not all of it can be read.\n"), "{said}");
    assert_eq!(fs::read(&file).expect("it is there"), before);
}

#[test]
fn where_there_is_no_order_it_says_so() {
    let order = Order::new();
    for flag in ["--inspect", "--verify"] {
        let (said, complained, code) = look(&order, flag);
        assert_eq!((code, &*said), (1, ""));
        assert!(complained.contains("it cannot be read"), "{complained}");
    }
    fs::create_dir_all(order.path()).expect("a temporary folder");
    let (_, complained, code) = look(&order, "--inspect");
    assert!(code == 1 && complained.contains("there is no order in it"), "{complained}");
    for args in [&["order"][..], &["order", "--inspect", "/a", "--verify", "/b"]] {
        assert_eq!(command(args).output().expect("it runs").status.code(), Some(64));
    }
}

/// Beside a server, which has the folder locked.
#[test]
fn it_works_beside_a_server() {
    let order = Order::new();
    let node = order.start();
    node.say("x");
    let (said, complained, code) = look(&order, "--verify");
    assert_eq!(code, 0, "{said}{complained}");
    assert!(said.contains("unless a server runs"), "{said}");
    node.say("y");
    node.end();
}
