//! Promise: after a failover, or a restart that lost the tail, only what was lost is told to be lost.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use tidegate::order::redis::link::Loss;

use super::node::{Node, keep, wait_in_step};
use super::server::{RedisServer, Route, redis_or_skip};
use crate::common::eventually;

/// All of these nodes were told `losses`, have `bodies`, and share the beginning with the order before.
fn check(nodes: &[&Node], losses: &[Loss], bodies: &[&str]) {
    for node in nodes {
        assert_eq!(node.losses(), losses);
        assert_eq!(node.bodies(), bodies);
        let adopted = node.book().adopted.pop().expect("it was told");
        // Redis takes a new replication id also when its first replica comes, so there may be more terms.
        let (_, ended) = adopted.lineage.terms().split_last().expect("there is one");
        let is_end = ended.iter().any(|term| adopted.shared_to == Some(term.last));
        assert!(is_end && adopted.shared_to == Some(adopted.from), "{adopted:?}");
    }
}

const AOF: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn aof_file(server: &RedisServer) -> PathBuf {
    let folder = server.file("appendonlydir");
    let files = fs::read_dir(folder).expect("the folder of the log");
    let mut paths = files.map(|file| file.expect("a file").path());
    paths.find(|path| path.to_string_lossy().ends_with(".incr.aof")).expect("a log")
}

#[test]
fn a_restart_with_all_that_was_written_loses_nothing() {
    let mut server = redis_or_skip!(AOF[0], AOF[1], AOF[2], AOF[3]);
    let (one, other) = (Node::start(&server), Node::start(&server));
    one.append("a");
    other.append("b");
    wait_in_step(&server, &[&one, &other]);
    server.kill();
    server.run();
    other.append_when_possible("c");
    wait_in_step(&server, &[&one, &other]);
    check(&[&one, &other], &[], &["a", "b", "c"]);
}

#[test]
fn a_log_on_disk_without_its_end_loses_its_end() {
    let mut server = redis_or_skip!(AOF[0], AOF[1], AOF[2], AOF[3]);
    let (one, other) = (Node::start(&server), Node::start(&server));
    one.append("a");
    let kept = fs::metadata(aof_file(&server)).expect("a log").len();
    other.append("b");
    one.append("c");
    wait_in_step(&server, &[&one, &other]);
    server.kill();
    let file = OpenOptions::new().write(true).open(aof_file(&server)).expect("a log");
    // In the middle of the next transaction.
    file.set_len(kept + 20).expect("it is cut");
    server.run();
    one.append_when_possible("d");
    wait_in_step(&server, &[&one, &other]);
    check(&[&one, &other], &[Loss::Failover], &["a", "d"]);
}

#[test]
fn an_old_dump_loses_what_is_newer() {
    let mut server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    one.append("a");
    let _: () = server.ask("SAVE");
    other.append("b");
    wait_in_step(&server, &[&one, &other]);
    server.kill();
    server.run();
    other.append_when_possible("c");
    wait_in_step(&server, &[&one, &other]);
    check(&[&one, &other], &[Loss::Failover], &["a", "c"]);
}

fn by(route: &Route) -> Node {
    let node = Node::with(&format!("unix:{}", route.path().display()), keep());
    node.wait_live();
    node
}

#[test]
fn a_replica_that_is_promoted_loses_what_it_did_not_get() {
    let mut master = redis_or_skip!();
    let replica = redis_or_skip!();
    let route = Route::to(&master);
    let (one, other) = (by(&route), by(&route));
    one.append("a");
    replica.replicate(&master);
    replica.lag();
    other.append("b");
    wait_in_step(&master, &[&one, &other]);
    master.kill();
    replica.promote();
    route.lead(&replica.socket());
    one.append_when_possible("c");
    wait_in_step(&replica, &[&one, &other]);
    check(&[&one, &other], &[Loss::Failover], &["a", "c"]);
}

/// A node that was behind has nothing that is lost.
#[test]
fn a_failover_is_no_loss_for_who_did_not_see_what_is_lost() {
    let mut master = redis_or_skip!();
    let replica = redis_or_skip!();
    let route = Route::to(&master);
    let (to_one, to_other) = (Route::to(&master), &route);
    let (one, other) = (by(&to_one), by(to_other));
    one.append("a");
    replica.replicate(&master);
    to_one.lead_nowhere();
    let _: i64 = master.ask("CLIENT KILL TYPE normal");
    other.append_when_possible("b");
    replica.replicate(&master);
    replica.lag();
    other.append("c");
    master.kill();
    replica.promote();
    route.lead(&replica.socket());
    to_one.lead(&replica.socket());
    other.append_when_possible("d");
    wait_in_step(&replica, &[&one, &other]);
    check(&[&other], &[Loss::Failover], &["a", "b", "d"]);
    assert_eq!((one.losses(), one.bodies()), (vec![], ["a", "b", "d"].map(str::to_owned).into()));
}

#[test]
fn a_coordinated_failover_loses_nothing() {
    let master = redis_or_skip!();
    let replica = redis_or_skip!();
    let route = Route::to(&master);
    let (one, other) = (by(&route), by(&route));
    one.append("a");
    replica.replicate(&master);
    // A replica is in step a moment before its master hears of it.
    eventually("the master knows", || master.info("slave0").contains("state=online"));
    let _: () = master.ask(&format!("FAILOVER TO 127.0.0.1 {}", replica.port()));
    eventually("the replica is the master", || replica.info("role") == "master");
    route.lead(&replica.socket());
    other.append_when_possible("b");
    wait_in_step(&replica, &[&one, &other]);
    check(&[&one, &other], &[], &["a", "b"]);
}

/// Both sides of a split have nodes. When it ends, the side that is given up is told, from where the two parted.
#[test]
fn after_a_split_only_one_side_loses() {
    let old = redis_or_skip!();
    let new = redis_or_skip!();
    let (to_one, to_other) = (Route::to(&old), Route::to(&old));
    let (one, other) = (by(&to_one), by(&to_other));
    one.append("a");
    wait_in_step(&old, &[&one, &other]);
    new.replicate(&old);
    new.promote();
    to_other.lead(&new.socket());
    let _: i64 = old.ask("CLIENT KILL TYPE normal");
    other.append_when_possible("new");
    one.append_when_possible("old");
    wait_in_step(&old, &[&one]);
    wait_in_step(&new, &[&other]);
    assert_eq!((one.losses(), other.losses()), (vec![], vec![]));
    old.replicate(&new);
    to_one.lead(&new.socket());
    one.append_when_possible("b");
    wait_in_step(&new, &[&one, &other]);
    check(&[&one], &[Loss::Failover], &["a", "new", "b"]);
    check(&[&other], &[], &["a", "new", "b"]);
}
