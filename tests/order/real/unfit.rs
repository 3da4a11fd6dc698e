//! Promise: a Redis that may drop what it was given, or in which something else is, is not used, and is looked at again.

use tidegate::order::redis::link::{LinkState, Unfit};
use tidegate::upstream::redis::AppendError;

use super::node::{Node, keep};
use super::server::{RedisServer, redis_or_skip};
use crate::common::eventually;

fn unfit(server: &RedisServer, why: Unfit, put_right: &str) {
    let node = Node::with(&format!("redis://127.0.0.1:{}", server.port()), keep());
    eventually("it is unfit", || node.state() == Some(LinkState::Unfit(why)));
    assert_eq!(node.try_append("a", 1, Vec::new()), Err(AppendError::Away));
    let _: redis::Value = server.ask(put_right);
    node.wait_live();
    node.append("b");
    assert_eq!(node.bodies(), ["b"]);
}

#[test]
fn a_redis_that_evicts_any_key_is_not_used() {
    let server = redis_or_skip!("--maxmemory-policy", "allkeys-lru");
    unfit(&server, Unfit::Eviction, "CONFIG SET maxmemory-policy noeviction");
}

#[test]
fn what_others_wrote_is_not_touched() {
    let server = redis_or_skip!();
    let _: () = server.ask("SET {tidegate}:meta precious");
    unfit(&server, Unfit::Format, "RENAME {tidegate}:meta precious");
    assert_eq!(server.ask::<String>("GET precious"), "precious");
}

#[test]
fn another_format_is_not_touched() {
    let server = redis_or_skip!();
    let _: () = server.ask("HSET {tidegate}:meta v 2 more data");
    unfit(&server, Unfit::Format, "RENAME {tidegate}:meta other");
    assert_eq!(server.ask::<String>("HGET other more"), "data");
}

#[test]
fn a_redis_that_does_not_say_what_it_is_is_not_used() {
    let server = redis_or_skip!();
    let _: () = server.ask("ACL SETUSER default -info");
    unfit(&server, Unfit::Unknown, "ACL SETUSER default +info");
}
