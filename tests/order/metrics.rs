//! Promise: a server with an order on disk shows how it is written, one with an order in Redis how that is followed, and
//! each says where its order is.

use serde_json::{Value, json};

use crate::common::conn::{Conn, request};
use crate::common::eventually;
use crate::common::metrics::Metrics;
use crate::common::process::Process;
use crate::node::Order;
use crate::real::server::redis_or_skip;

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

/// Every metric of the link to an order in Redis, with its type.
const PROMISED_OF_LINKS: [(&str, &str); 11] = [
    ("tidegate_order_append_seconds", "histogram"),
    ("tidegate_order_appended_events_total", "counter"),
    ("tidegate_order_applied_batches_total", "counter"),
    ("tidegate_order_applied_events_total", "counter"),
    ("tidegate_order_attaches_total", "counter"),
    ("tidegate_order_batches_total", "counter"),
    ("tidegate_order_echo_age_seconds", "gauge"),
    ("tidegate_order_link_state", "gauge"),
    ("tidegate_order_losses_total", "counter"),
    ("tidegate_order_terms_total", "counter"),
    ("tidegate_order_unconfirmed_total", "counter"),
];

#[test]
fn the_link_to_an_order_in_redis_is_shown() {
    let server = redis_or_skip!();
    let order = format!("redis://127.0.0.1:{}", server.port());
    let nodes = [(), ()].map(|()| Process::start(&["--order", &order], &[]));
    let publish = |event: &Value| {
        let head = [("content-type", "application/json")];
        let body = event.to_string();
        let asked = request("POST", "/api/v1/sse/publish", &head, body.as_bytes());
        Conn::tcp(nodes[0].addr).round(&asked).status()
    };
    assert_eq!(publish(&json!({"room": "a", "data": "x", "once": "k"})), 200);
    assert_eq!(publish(&json!({"room": "a", "data": "x", "once": "k"})), 200);
    assert_eq!(publish(&json!([{"room": "a", "data": "y"}, {"room": "a", "data": "z"}])), 200);
    // Both have read what both have appended: the events, and what the nodes tell each other.
    eventually("all that was appended is applied", || {
        let metrics = nodes.each_ref().map(Process::metrics);
        let sum = |name: &str| metrics.iter().map(|metrics| metrics.get(name)).sum::<f64>();
        let (events, batches) = (
            sum("tidegate_order_appended_events_total"),
            sum("tidegate_order_batches_total{fate=\"placed\"}"),
        );
        let are_in_step = metrics.iter().all(|metrics| {
            metrics.is("tidegate_order_applied_events_total", events)
                && metrics.is("tidegate_order_applied_batches_total", batches)
        });
        are_in_step && metrics[0].get("tidegate_order_appended_events_total") >= 3.0
    });
    let metrics = nodes[0].metrics();
    for (name, kind) in PROMISED_OF_LINKS {
        let head = format!("# TYPE {name} {kind}\n");
        assert!(metrics.text.contains(&head) && metrics.text.contains(&format!("# HELP {name} ")), "{name}");
    }
    let shown = metrics.text.lines().filter(|line| line.starts_with("# TYPE tidegate_order_")).count();
    assert_eq!(shown, PROMISED_OF_LINKS.len());
    metrics.assert("tidegate_order_link_state{state=\"live\"}", 1.0);
    metrics.assert("tidegate_order_link_state{state=\"lost\"}", 0.0);
    let placed = metrics.get("tidegate_order_batches_total{fate=\"placed\"}");
    assert!(placed >= 2.0, "{placed}");
    metrics.assert("tidegate_order_batches_total{fate=\"repeated\"}", 1.0);
    metrics.assert("tidegate_order_append_seconds_count", placed);
    metrics.assert("tidegate_order_attaches_total", 1.0);
    metrics.assert("tidegate_order_losses_total", 0.0);

    let _: i64 = server.ask("CLIENT KILL TYPE normal");
    eventually("it has attached again", || nodes[0].metrics().get("tidegate_order_attaches_total") >= 2.0);
    server.signal("-STOP");
    eventually("it is lost, and it shows", || {
        let metrics = nodes[0].metrics();
        metrics.get("tidegate_order_echo_age_seconds") > 3.0
            && metrics.is("tidegate_order_link_state{state=\"live\"}", 0.0)
            && publish(&json!({"room": "a", "data": "w"})) == 503
    });
    let refused = |fate: &str| {
        let name = format!("tidegate_order_batches_total{{fate=\"{fate}\"}}");
        nodes[0].metrics().get(&name)
    };
    assert!(refused("away") + refused("unknown") > 0.0);
}
