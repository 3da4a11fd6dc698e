//! Promise: what is confirmed beyond Redis is where it was asked to be, and where nothing can be, the publisher is not told
//! that it is.

use tidegate::order::redis::call::Beyond;
use tidegate::order::redis::link::{LinkState, Unfit};
use tidegate::upstream::redis::{Address, Appended};

use super::node::{Node, keep, log_of, wait_in_step};
use super::server::{RedisServer, redis_or_skip};
use crate::common::eventually;

fn node(server: &RedisServer, beyond: Beyond) -> Node {
    let address = Address::parse(&format!("redis://127.0.0.1:{}", server.port())).expect("an address");
    Node::beyond(address, keep(), Some(beyond))
}

#[test]
fn a_replica_has_what_is_confirmed() {
    let (master, replica) = (redis_or_skip!(), redis_or_skip!());
    replica.replicate(&master);
    let node = node(&master, Beyond::Replica);
    node.wait_live();
    eventually("the replica counts", || node.confirm());
    for n in 0..50 {
        node.append(&format!("{n};"));
        assert!(node.confirm(), "{n}");
        let there = log_of(&replica);
        assert_eq!(there.last().map(|(_, body)| body.clone()), Some(format!("{n};")));
    }
}

#[test]
fn without_a_replica_nothing_is_confirmed_and_everything_goes_on() {
    let (master, replica) = (redis_or_skip!(), redis_or_skip!());
    replica.replicate(&master);
    let (node, other) = (node(&master, Beyond::Replica), Node::start(&master));
    node.wait_live();
    node.append("a");
    // A replica counts from its first acknowledgement on.
    eventually("the replica has it", || node.confirm());
    replica.lag();
    eventually("the replica is gone", || master.info("connected_slaves").trim() == "0");
    node.append("b");
    assert!(!node.confirm());
    // Publishes and reads do not wait for a question that waits.
    std::thread::scope(|threads| {
        let asks = threads.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(node.handle.confirm())
        });
        for n in 0..20 {
            node.append(&format!("{n};"));
        }
        wait_in_step(&master, &[&node, &other]);
        assert!(!asks.join().expect("no panic"));
    });
    assert_eq!(node.state(), Some(LinkState::Live));
    replica.replicate(&master);
    eventually("it is confirmed again", || node.confirm());
    assert_eq!(node.losses(), []);
}

/// The replica has not got it, and is promoted: what was asked about is gone, whatever the new master's replicas have.
#[test]
fn what_a_failover_has_lost_is_not_confirmed() {
    let (master, replica, third) = (redis_or_skip!(), redis_or_skip!(), redis_or_skip!());
    replica.replicate(&master);
    let route = super::server::Route::to(&master);
    let address = Address::parse(&format!("unix:{}", route.path().display())).expect("an address");
    let node = Node::beyond(address, keep(), Some(Beyond::Replica));
    node.wait_live();
    node.append("a");
    eventually("the replica has it", || node.confirm());
    replica.lag();
    eventually("the replica is gone", || master.info("connected_slaves").trim() == "0");
    node.append("b");
    std::thread::scope(|threads| {
        let asks = threads.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(node.handle.confirm())
        });
        eventually("Redis waits for a replica", || master.info("blocked_clients").trim() != "0");
        replica.promote();
        third.replicate(&replica);
        route.lead(&replica.socket());
        master.signal("-KILL");
        assert!(!asks.join().expect("no panic"));
    });
    node.append_when_possible("c");
    eventually("the third has it", || node.confirm());
    assert_eq!(node.bodies(), ["a", "c"]);
}

#[test]
fn many_publishers_share_a_question() {
    let (master, replica) = (redis_or_skip!(), redis_or_skip!());
    replica.replicate(&master);
    let node = node(&master, Beyond::Replica);
    node.wait_live();
    eventually("the replica counts", || node.confirm());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let publish = |n: u32| {
            let handle = node.handle.clone();
            async move {
                let placed = handle.append(format!("{n};").into(), 1, Vec::new()).await;
                assert!(matches!(placed, Ok(Appended::Placed(..))), "{placed:?}");
                handle.confirm().await
            }
        };
        for all in (0..500).map(|n| tokio::spawn(publish(n))).collect::<Vec<_>>() {
            assert!(all.await.expect("no panic"));
        }
    });
    let calls = master.info("cmdstat_wait");
    let calls: u32 =
        calls.split("calls=").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok()).expect("calls");
    assert!(calls < 250, "{calls} questions for 500 publishes");
}

/// Each is said at once, and looked at again: it may be put right.
#[test]
fn a_redis_that_cannot_confirm_is_not_used() {
    let server = redis_or_skip!();
    let _: () = server.ask("ACL SETUSER default -wait");
    let waits = node(&server, Beyond::Replica);
    eventually("it is unfit", || waits.state() == Some(LinkState::Unfit(Unfit::NoWait)));
    let _: () = server.ask("ACL SETUSER default +wait");
    waits.wait_live();
    let version = server.info("redis_version");
    let mut numbers = version.trim().split('.').map(|number| number.parse::<u32>().expect("a number"));
    let version = (numbers.next().expect("major"), numbers.next().expect("minor"));
    let why = if version < (7, 2) { Unfit::NoWaitaof } else { Unfit::NoLog };
    let disk = node(&server, Beyond::Disk);
    eventually("it is unfit", || disk.state() == Some(LinkState::Unfit(why)));
    if version >= (7, 2) {
        let _: () = server.ask("CONFIG SET appendonly yes");
        disk.wait_live();
        disk.append("a");
        assert!(disk.confirm());
    }
}
