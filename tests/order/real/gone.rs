//! Promise: an order that is gone, or that went back without a trace, is another order: everybody is told `restart`.

use redis::{Value, cmd};
use tidegate::order::redis::link::Loss;

use super::node::{Node, wait_in_step};
use super::server::{RedisServer, redis_or_skip};

/// Both have two events, and both have everything that was appended after `trouble`.
fn restarts(mut server: RedisServer, trouble: impl FnOnce(&mut RedisServer)) {
    let (one, other) = (Node::start(&server), Node::start(&server));
    let before = one.append("a").epoch;
    other.append("b");
    wait_in_step(&server, &[&one, &other]);
    trouble(&mut server);
    one.append_when_possible("c");
    other.append_when_possible("d");
    wait_in_step(&server, &[&one, &other]);
    for node in [&one, &other] {
        assert_eq!(node.bodies(), ["c", "d"]);
        assert_eq!(node.losses(), [Loss::Restart]);
        let adopted = node.book().adopted.pop().expect("it was told");
        assert_eq!((adopted.shared_to, adopted.lineage.terms().len()), (None, 1));
        assert_ne!(adopted.lineage.epoch(), before);
    }
}

#[test]
fn a_restart_without_persistence_is_another_order() {
    restarts(redis_or_skip!(), |server| {
        server.kill();
        server.run();
    });
}

#[test]
fn a_flushed_redis_is_another_order() {
    restarts(redis_or_skip!(), |server| server.ask("FLUSHALL"));
}

#[test]
fn a_redis_that_lost_its_keys_is_another_order() {
    restarts(redis_or_skip!(), |server| server.ask("DEL {tidegate}:meta {tidegate}:log"));
}

const KEYS: [&str; 2] = ["{tidegate}:meta", "{tidegate}:log"];

fn dump(server: &RedisServer) -> Vec<Vec<u8>> {
    let mut conn = server.connect();
    KEYS.map(|key| cmd("DUMP").arg(key).query(&mut conn).expect("it is there")).into()
}

/// As a snapshot of the machine would: same process, same replication id.
fn restore(server: &RedisServer, dumped: &[Vec<u8>]) {
    let mut conn = server.connect();
    for (key, bytes) in KEYS.iter().zip(dumped) {
        let _: Value =
            cmd("RESTORE").arg(key).arg(0).arg(bytes).arg("REPLACE").query(&mut conn).expect("it was dumped");
    }
}

#[test]
fn an_order_that_went_back_without_a_trace_is_given_up() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    one.append("a");
    let dumped = dump(&server);
    other.append("b");
    wait_in_step(&server, &[&one, &other]);
    restore(&server, &dumped);
    one.append_when_possible("c");
    wait_in_step(&server, &[&one, &other]);
    for node in [&one, &other] {
        assert_eq!((node.bodies(), node.losses()), (vec!["c".to_owned()], vec![Loss::Restart]));
    }
}

/// It is as long as before, and other events are in it: only the tags tell.
#[test]
fn an_order_that_went_back_and_grew_again_is_given_up() {
    let server = redis_or_skip!();
    let one = Node::start(&server);
    one.append("a");
    let dumped = dump(&server);
    let meanwhile = one.append("b");
    restore(&server, &dumped);
    // A node that knows nothing of it is the first to come.
    let other = Node::start(&server);
    let placed = other.append("x");
    assert_eq!((placed.epoch, placed.first), (meanwhile.epoch, meanwhile.first), "an id for two events");
    other.append("y");
    one.append_when_possible("c");
    wait_in_step(&server, &[&one, &other]);
    for node in [&one, &other] {
        assert_eq!(node.losses(), [Loss::Restart]);
        assert_ne!(node.book().adopted.pop().map(|adopted| adopted.lineage.epoch()), Some(placed.epoch));
    }
}

#[test]
fn an_entry_that_was_taken_out_is_noticed() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    one.append("a");
    let taken = one.append("b");
    one.append("c");
    wait_in_step(&server, &[&one, &other]);
    let _: () = server.ask(&format!("XDEL {{tidegate}}:log {}-0", taken.first));
    // Those who have it go on; one who cannot have it gives the order up.
    one.append("d");
    other.wait_for(&["a", "b", "c", "d"]);
    let late = Node::start(&server);
    late.append_when_possible("e");
    wait_in_step(&server, &[&one, &other, &late]);
    for node in [&one, &other] {
        assert_eq!(node.losses(), [Loss::Restart]);
    }
}
