//! Promise: Redis is found by an address with a password, at a socket, and through sentinels.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Command, Stdio};

use tidegate::order::redis::link::LinkState;
use tidegate::upstream::redis::Address;

use super::node::{Node, keep, wait_in_step};
use super::server::{RedisServer, redis_or_skip};
use crate::common::eventually;
use crate::common::neighbours::{Folder, find};

#[test]
fn a_password_is_in_the_address_or_in_a_file_that_may_change() {
    let server = redis_or_skip!();
    let folder = Folder::new();
    let file = folder.file("password");
    fs::write(&file, "wrong\n").expect("a file");
    let _: () = server.ask("ACL SETUSER pusher on >se@cret ~* +@all");
    let place = format!("127.0.0.1:{}", server.port());
    let by_address = Node::with(&format!("redis://pusher:se%40cret@{place}"), keep());
    by_address.wait_live();
    let address = Address::parse(&format!("redis://pusher@{place}")).expect("an address");
    let by_file = Node::at(address.with_password_file(Some(file.clone().into())), keep());
    eventually("it is not let in", || by_file.state() == Some(LinkState::Lost));
    fs::write(&file, "se@cret\n").expect("a file");
    by_file.wait_live();
    by_address.append("a");
    wait_in_step(&server, &[&by_address, &by_file]);
}

#[test]
fn another_database_and_another_prefix_are_other_orders() {
    let server = redis_or_skip!();
    let place = format!("redis://127.0.0.1:{}", server.port());
    let mut other = keep();
    other.prefix = "other".into();
    let nodes =
        [Node::with(&place, keep()), Node::with(&format!("{place}/3"), keep()), Node::with(&place, other)];
    for (n, node) in nodes.iter().enumerate() {
        node.wait_live();
        node.append(&n.to_string());
    }
    for (n, node) in nodes.iter().enumerate() {
        assert_eq!(node.bodies(), [n.to_string()]);
    }
}

pub(crate) struct Sentinel {
    child: Child,
    port: u16,
    _folder: Folder,
}

impl Sentinel {
    fn of(master: &RedisServer) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        Self::with(master.port(), port, &[("port", port.to_string())])
    }

    /// A sentinel on `port`, of the master on another one, with these settings.
    pub(crate) fn with(master: u16, port: u16, settings: &[(&str, String)]) -> Option<Self> {
        let program = find("redis-sentinel")?;
        let folder = Folder::new();
        let file = folder.file("sentinel.conf");
        let mut text = format!(
            "bind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        );
        for (name, value) in settings {
            writeln!(text, "{name} {value}").expect("a String takes any text");
        }
        fs::write(&file, text).expect("a file");
        let child = Command::new(program)
            .arg(&file)
            .args(["--dir", &folder.path().display().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program is there");
        Some(Self { child, port, _folder: folder })
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sentinels_say_where_the_master_is() {
    let mut master = redis_or_skip!();
    let replica = redis_or_skip!();
    let Some(sentinel) = Sentinel::of(&master) else { return };
    replica.replicate(&master);
    let node = Node::with(&format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", sentinel.port), keep());
    node.wait_live();
    node.append("a");
    eventually("the replica has it, and the sentinel knows the replica", || {
        let known: usize = redis::cmd("SENTINEL")
            .arg("REPLICAS")
            .arg("main")
            .query::<Vec<redis::Value>>(
                &mut redis::Client::open(("127.0.0.1", sentinel.port))
                    .and_then(|client| client.get_connection())
                    .expect("it runs"),
            )
            .map_or(0, |replicas| replicas.len());
        known == 1 && replica.info("slave_repl_offset") == master.info("master_repl_offset")
    });
    master.kill();
    node.append_when_possible("b");
    wait_in_step(&replica, &[&node]);
    assert_eq!((node.losses(), node.bodies()), (vec![], vec!["a".to_owned(), "b".to_owned()]));
}
