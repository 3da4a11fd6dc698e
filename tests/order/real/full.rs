//! Promise: what a Redis refuses because it is full, or must not take, is not written at all, and the publisher is told.

use tidegate::order::redis::call::Closed;
use tidegate::order::redis::link::LinkState;
use tidegate::upstream::redis::AppendError;

use super::node::{Node, keep, wait_in_step};
use super::server::{RedisServer, redis_or_skip};
use crate::common::eventually;

fn refuses(server: &RedisServer, close: &str, open: &str, why: Closed) {
    let (one, other) = (Node::start(server), Node::start(server));
    one.append("a");
    wait_in_step(server, &[&one, &other]);
    let _: () = server.ask(close);
    for _ in 0..3 {
        assert_eq!(one.try_append("b", 1, Vec::new()), Err(AppendError::Closed(why)));
    }
    // Ticks are refused as well, and that is an answer.
    assert_eq!(one.state(), Some(LinkState::Live));
    let _: () = server.ask(open);
    eventually("it takes writes again", || other.try_append("c", 1, Vec::new()).is_ok());
    wait_in_step(server, &[&one, &other]);
    for node in [&one, &other] {
        assert_eq!((node.bodies(), node.losses()), (["a", "c"].map(str::to_owned).into(), vec![]));
    }
}

#[test]
fn a_full_redis_refuses_and_writes_nothing() {
    let server = redis_or_skip!();
    refuses(&server, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", Closed::Full);
}

#[test]
fn a_redis_without_its_replicas_refuses_and_writes_nothing() {
    let server = redis_or_skip!();
    let (close, open) = ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0");
    refuses(&server, close, open, Closed::Unsafe);
}

/// A node that comes, and one whose connections break, can read what is there. Only what has to be written waits.
fn reads_on(server: &RedisServer, close: &str, open: &str) {
    let (one, other) = (Node::start(server), Node::start(server));
    one.append("a");
    wait_in_step(server, &[&one, &other]);
    let _: () = server.ask(close);
    let begun = one.book().states.len();
    let _: i64 = server.ask("CLIENT KILL TYPE normal");
    let again = |node: &Node| node.book().states[begun..].contains(&LinkState::Attaching);
    eventually("it attaches again", || again(&one) && again(&other));
    wait_in_step(server, &[&one, &other]);
    let late = Node::start(server);
    assert_eq!(late.bodies(), ["a"]);
    for node in [&one, &other, &late] {
        assert_eq!(node.try_append("b", 1, Vec::new()), Err(AppendError::Closed(Closed::Unsafe)));
    }
    let _: () = server.ask(open);
    eventually("it takes writes again", || late.try_append("c", 1, Vec::new()).is_ok());
    wait_in_step(server, &[&one, &other, &late]);
    assert_eq!((one.bodies(), one.losses()), (["a", "c"].map(str::to_owned).into(), vec![]));
}

#[test]
fn a_redis_without_its_replicas_is_read() {
    let server = redis_or_skip!();
    let (close, open) = ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0");
    reads_on(&server, close, open);
}

#[test]
fn a_redis_that_cannot_save_is_read() {
    let server = redis_or_skip!("--save", "3600 1");
    // It cannot put a file in this place.
    std::fs::create_dir(server.file("dump.rdb")).expect("a folder");
    let (one, other) = (Node::start(&server), Node::start(&server));
    one.append("a");
    wait_in_step(&server, &[&one, &other]);
    let _: redis::Value = server.ask("BGSAVE");
    eventually("it has failed to save", || server.info("rdb_last_bgsave_status").trim() == "err");
    let late = Node::start(&server);
    assert_eq!(late.bodies(), ["a"]);
    assert_eq!(late.try_append("b", 1, Vec::new()), Err(AppendError::Closed(Closed::Unsafe)));
    let _: () = server.ask("CONFIG SET stop-writes-on-bgsave-error no");
    eventually("it takes writes again", || late.try_append("c", 1, Vec::new()).is_ok());
    wait_in_step(&server, &[&one, &other, &late]);
}

/// A term has to begin, which cannot be written: the node waits, and reads nothing that may be two orders.
#[test]
fn an_order_that_has_to_begin_waits_for_a_redis_that_takes_writes() {
    let server = redis_or_skip!("--min-replicas-to-write", "1");
    let node = Node::with(&format!("redis://127.0.0.1:{}", server.port()), keep());
    eventually("it is lost", || node.state() == Some(LinkState::Lost));
    assert!(!node.book().states.contains(&LinkState::CatchingUp));
    let _: () = server.ask("CONFIG SET min-replicas-to-write 0");
    node.wait_live();
}

/// Attaching writes when a term has to begin, and that must not wait for memory: nodes that cannot write can still read.
#[test]
fn a_node_attaches_to_a_full_redis() {
    let server = redis_or_skip!("--maxmemory", "1");
    let node = Node::start(&server);
    assert_eq!(node.try_append("a", 1, Vec::new()), Err(AppendError::Closed(Closed::Full)));
}
