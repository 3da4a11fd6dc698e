//! Promise: while the order cannot be written nothing is published, which publishers and the readiness probe are told; and
//! as soon as it can be written, everything goes on, with nothing in between that was refused.

use std::fs;

use serde_json::json;

use crate::common::{assert_problem, eventually};
use crate::node::Order;

/// The folder is moved away under the server, so that the next segment has no place.
#[test]
fn an_order_that_cannot_be_written_refuses_publishes_until_it_can() {
    let order = Order::new();
    let order = order.set("TIDEGATE_MAX_EVENT_BYTES", "1MiB").set("TIDEGATE_MAX_BODY_BYTES", "2MiB");
    let node = order.start();
    let mut listener = node.listen("/stream/a/u", &[]);
    let seen = node.say("before");
    assert_eq!(listener.data(), "before");
    let away = order.path().with_file_name("away");
    fs::rename(order.path(), &away).expect("it is ours");
    let body = json!({"room": "large", "data": "x".repeat(1_000_000)}).to_string();
    let mut answer = node.post("/publish", &[], &body);
    for _ in 0..20 {
        if answer.status() == 200 {
            answer = node.post("/publish", &[], &body);
        }
    }
    assert_problem(&answer, 503, "order_unavailable");
    assert!(answer.header("retry-after").is_some(), "{}", answer.head.0);
    assert_eq!(node.ready().status(), 503);
    assert_problem(&node.post("/publish", &[], r#"{"room":"a","data":"no"}"#), 503, "order_unavailable");

    fs::rename(&away, order.path()).expect("it is ours");
    eventually("a publish", || node.post("/publish", &[], r#"{"room":"a","data":"after"}"#).status() == 200);
    assert_eq!(listener.data(), "after", "nothing that was refused is heard");
    eventually("ready", || node.ready().status() == 200);
    node.kill();
    let node = order.start();
    let mut again = node.resume(&seen);
    assert_eq!(again.data(), "after");
}
