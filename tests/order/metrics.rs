//! Promise: a server with an order on disk shows how it is written, and says where its order is.

use serde_json::json;

use crate::common::conn::{Conn, request};
use crate::common::metrics::Metrics;
use crate::node::Order;

/// Every metric of an order on disk, with its type.
const PROMISED: [(&str, &str); 6] = [
    ("tidegate_order_bytes", "gauge"),
    ("tidegate_order_commit_seconds", "histogram"),
    ("tidegate_order_commits_total", "counter"),
    ("tidegate_order_entries_total", "counter"),
    ("tidegate_order_failures_total", "counter"),
    ("tidegate_order_segments", "gauge"),
];

#[test]
fn an_order_on_disk_is_shown() {
    let order = Order::new();
    let node = order.start();
    let metrics = node.0.metrics();
    for (name, kind) in PROMISED {
        let head = format!("# TYPE {name} {kind}\n");
        assert!(metrics.text.contains(&head) && metrics.text.contains(&format!("# HELP {name} ")), "{name}");
    }
    let shown = metrics.text.lines().filter(|line| line.starts_with("# TYPE tidegate_order_")).count();
    assert_eq!(shown, PROMISED.len());
    metrics.assert("tidegate_order_segments", 1.0);
    metrics.assert("tidegate_order_bytes", f64::from(16 << 20));
    metrics.assert("tidegate_order_commits_total", 0.0);

    node.say("x");
    node.publish(&json!([{"room": "a", "data": "y"}, {"room": "a", "data": "z"}]));
    let metrics = node.0.metrics();
    metrics.assert("tidegate_order_commits_total", 2.0);
    metrics.assert("tidegate_order_entries_total", 3.0);
    metrics.assert("tidegate_order_commit_seconds_count", 2.0);
    metrics.assert("tidegate_order_failures_total", 0.0);
    // The readiness probe is an entry as well: it shows that the order can be written.
    assert_eq!(node.ready().status(), 200);
    node.0.metrics().assert("tidegate_order_entries_total", 4.0);
    let info = node.send("GET", "/info", &[], "").json();
    assert_eq!(info["order"], "disk");
    let text = Conn::tcp(node.0.admin).round(&request("GET", "/metrics", &[], b"")).text();
    Metrics::parse(text);
}
