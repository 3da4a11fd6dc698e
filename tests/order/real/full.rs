//! Promise: what a Redis refuses because it is full, or must not take, is not written at all, and the publisher is told.

use tidegate::order::redis::call::Closed;
use tidegate::order::redis::link::LinkState;
use tidegate::upstream::redis::AppendError;

use super::node::{Node, wait_in_step};
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

/// Attaching writes when a term has to begin, and that must not wait for memory: nodes that cannot write can still read.
#[test]
fn a_node_attaches_to_a_full_redis() {
    let server = redis_or_skip!("--maxmemory", "1");
    let node = Node::start(&server);
    assert_eq!(node.try_append("a", 1, Vec::new()), Err(AppendError::Closed(Closed::Full)));
}
