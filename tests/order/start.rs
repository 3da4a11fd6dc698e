//! Promise: a folder that cannot be used is told in one line, and nothing in it is changed.

use std::fs;

use tidegate::order::disk::record::{self, Header};
use tidegate::types::lineage::Lineage;
use tidegate::types::position::Epoch;

use crate::common::process::{FREE_PORTS, command};
use crate::node::{Order, epoch};

/// Starts a server that must not start, and returns what it says.
fn refused(setting: &str) -> String {
    let output = command(&[&FREE_PORTS[..], &["--order", setting]].concat()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn a_folder_has_one_server_at_a_time() {
    let order = Order::new();
    let node = order.start();
    node.say("x");
    let told = refused(&order.setting());
    assert!(told.contains(&order.setting()) && told.contains("another process uses this folder"), "{told}");
    node.say("y");
    node.kill();
    order.start().say("z");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let order = Order::new();
    // A file stands where the folder should be: whoever starts the server, that cannot be written.
    fs::write(order.path(), "").expect("a temporary file");
    for setting in [order.setting(), format!("{}/below", order.setting())] {
        let told = refused(&setting);
        assert!(told.contains(&setting) && told.contains("wanted a folder that can be written"), "{told}");
    }
}

#[test]
fn a_segment_of_another_version_is_left_alone() {
    let order = Order::new();
    fs::create_dir_all(order.path()).expect("a temporary folder");
    let lineage = Lineage::root(Epoch::new(1), 0);
    let mut bytes = Vec::new();
    record::put_header(&Header { version: 9, segment: 3, after: 0, given: 0, lineage }, &mut bytes);
    fs::write(order.file(3), &bytes).expect("it can be written");
    let told = refused(&order.setting());
    assert!(told.contains("segment 3 is of version 9, and this program knows version 1 only"), "{told}");
    assert_eq!(fs::read(order.file(3)).expect("it is there"), bytes);
    let left: Vec<_> = fs::read_dir(order.path()).expect("it is there").flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == "lock" || entry.path() == order.file(3)));
}

#[test]
fn the_settings_are_checked_without_touching_the_folder() {
    let order = Order::new();
    let checked = command(&["--check-config", "--order", &order.setting()]).output().expect("it runs");
    assert_eq!(checked.status.code(), Some(0));
    assert!(!order.path().exists());
}

/// A server that never got to listen gave nothing out. A program that fails at each start must not end the term each time,
/// nor fill the folder.
#[test]
fn a_start_that_fails_later_leaves_the_order_as_it_was() {
    let order = Order::new();
    let node = order.start();
    let id = node.say("x");
    node.end();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = taken.local_addr().expect("bound").to_string();
    for _ in 0..5 {
        let args = ["--listen", &listen, "--admin-listen", "off", "--order", &order.setting()];
        let output = command(&args).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(told.contains("Address already in use"), "{told}");
    }
    let scan = order.scan();
    assert!(scan.is_clean && scan.segments.len() <= 2, "{scan:?}");
    let next = order.start().say("y");
    assert_eq!(epoch(&next), epoch(&id));
}
