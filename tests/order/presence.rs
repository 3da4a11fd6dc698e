//! Promise: a member is one wherever its connections are; all nodes know all members, and a node that is killed takes its own along.

use serde_json::{Value, json};

use super::common::conn::Conn;
use super::common::eventually;
use super::common::stream::Listener;
use super::nodes::Node;
use super::real::server::redis_or_skip;

const PRESENCE: &str = "[[room]]\nmatch = \"*\"\npresence = \"members\"\npresence_grace = \"1s\"\n";

/// Nodes whose rooms have presence.
struct Cluster {
    server: super::real::server::RedisServer,
    /// Removed at the end.
    _folder: super::common::neighbours::Folder,
    config: String,
}

impl Cluster {
    fn new(server: super::real::server::RedisServer) -> Self {
        let folder = super::common::neighbours::Folder::new();
        let config = folder.path().join("tidegate.toml");
        std::fs::write(&config, PRESENCE).expect("a file");
        Self { server, config: config.display().to_string(), _folder: folder }
    }

    fn start(&self) -> Node {
        Node::with(&self.server, &["--config", &self.config])
    }
}

fn listen(node: &Node, user: &str) -> Listener {
    Listener::open(Conn::tcp(node.0.addr), &format!("/stream/r/{user}?presence=on"), &[])
}

/// The members as a node lists them: names, connections, data.
fn members(node: &Node) -> Vec<(String, u64, Value)> {
    let answer = node.send("GET", "/rooms/r/members", &[], "").json();
    let member = |member: &Value| {
        let name = member["user"].as_str().expect("a name").to_owned();
        (name, member["connections"].as_u64().expect("a number"), member["data"].clone())
    };
    answer["members"].as_array().expect("members").iter().map(member).collect()
}

fn one(name: &str, connections: u64) -> (String, u64, Value) {
    (name.to_owned(), connections, Value::Null)
}

#[test]
fn members_are_the_same_on_all_nodes_and_for_one_that_starts_later() {
    let cluster = Cluster::new(redis_or_skip!());
    let nodes = [cluster.start(), cluster.start()];
    let _streams = [listen(&nodes[0], "ann"), listen(&nodes[1], "ann"), listen(&nodes[1], "bob")];
    for node in &nodes {
        eventually("it knows both", || members(node) == [one("ann", 2), one("bob", 1)]);
    }
    let shown =
        nodes[1].send("PUT", "/presence/r", &[("tidegate-user", "ann")], r#"{"data":{"status":"away"}}"#);
    assert_eq!(shown.status(), 200, "{}", shown.text());
    let away = ("ann".to_owned(), 2, json!({"status": "away"}));
    eventually("the other knows what she shows", || members(&nodes[0])[0] == away);
    // At once: it does not listen before it knows.
    let third = cluster.start();
    assert_eq!(members(&third), [away, one("bob", 1)]);
}

#[test]
fn a_page_is_told_who_comes_and_goes_on_another_node() {
    let cluster = Cluster::new(redis_or_skip!());
    let (here, there) = (cluster.start(), cluster.start());
    let mut page = listen(&here, "me");
    assert!(page.event().contains(r#""total":1"#));
    let stream = listen(&there, "x");
    let joined = page.event();
    assert!(joined.contains(r#""join":[{"user":"x"}]"#), "{joined}");
    drop(stream);
    let left = page.event();
    assert!(left.contains(r#""leave":["x"]"#), "{left}");
}

#[test]
fn the_members_of_a_killed_node_leave() {
    let cluster = Cluster::new(redis_or_skip!());
    let (here, there) = (cluster.start(), cluster.start());
    let _streams = [listen(&here, "me"), listen(&there, "me"), listen(&there, "x")];
    eventually("both are known", || members(&here) == [one("me", 2), one("x", 1)]);
    there.kill();
    eventually("its connections are gone", || members(&here) == [one("me", 1)]);
}

#[test]
fn a_node_that_ends_says_so() {
    let cluster = Cluster::new(redis_or_skip!());
    let (here, mut there) = (cluster.start(), cluster.start());
    let _streams = [listen(&here, "me"), listen(&there, "x")];
    eventually("both are known", || members(&here).len() == 2);
    there.0.signal("-TERM");
    there.0.exit_code();
    eventually("only one is left", || members(&here) == [one("me", 1)]);
}

#[test]
fn who_leaves_leaves_on_all_nodes() {
    let cluster = Cluster::new(redis_or_skip!());
    let (here, there) = (cluster.start(), cluster.start());
    let _streams = [listen(&here, "me"), listen(&there, "me"), listen(&there, "x")];
    eventually("both are known", || members(&here) == [one("me", 2), one("x", 1)]);
    let left = here.send("DELETE", "/presence/r", &[("tidegate-user", "me")], "");
    assert_eq!(left.status(), 204);
    for node in [&here, &there] {
        eventually("one is left", || members(node) == [one("x", 1)]);
    }
    let ended = here.post("/disconnect/r/x", &[], &json!(null));
    assert_eq!(ended.status(), 200);
    eventually("nobody is left", || members(&there).is_empty());
}

#[test]
fn every_node_lists_all_nodes() {
    let cluster = Cluster::new(redis_or_skip!());
    let (here, there) = (cluster.start(), cluster.start());
    let nodes = |node: &Node| node.send("GET", "/info", &[], "").json()["nodes"].clone();
    for node in [&here, &there] {
        eventually("both have said what they are", || {
            let nodes = nodes(node);
            let nodes = nodes.as_array().expect("a list");
            nodes.len() == 2 && nodes.iter().all(|node| node["started_s"].as_u64().is_some_and(|at| at > 0))
        });
        let nodes = nodes(node);
        let this: Vec<bool> = (0..2).filter_map(|at| nodes[at]["is_this"].as_bool()).collect();
        assert!(this == [true, false] || this == [false, true], "{nodes}");
    }
    there.kill();
    eventually("one has ended", || nodes(&here).as_array().is_some_and(|nodes| nodes.len() == 1));
}

/// An order that outlives the process has moments from before its start, and these were counted as well: a month.
#[test]
fn the_uptime_is_that_of_the_process() {
    let cluster = Cluster::new(redis_or_skip!());
    let uptime = cluster.start().send("GET", "/info", &[], "").json()["uptime_s"].as_u64();
    assert!(uptime.is_some_and(|seconds| seconds < 3600), "{uptime:?}");
}

#[test]
fn who_is_online_is_asked_of_all_nodes() {
    let cluster = Cluster::new(redis_or_skip!());
    let (here, there) = (cluster.start(), cluster.start());
    let _streams = [listen(&here, "a"), listen(&there, "b"), listen(&there, "c")];
    let online = here.post("/users/online", &[], &json!({"users": ["c", "z", "a", "b"]}));
    assert_eq!(online.json(), json!({"online": ["c", "a", "b"]}));
    let room = there.send("GET", "/rooms/r", &[], "").json();
    assert_eq!((&room["connections"], &room["subscribers_total"]), (&json!(2), &json!(3)));
    there.0.signal("-STOP");
    let online = here.post("/users/online", &[], &json!({"users": ["a", "b"]}));
    assert_eq!(online.json(), json!({"online": ["a"], "missing_nodes": 1}));
    there.0.signal("-CONT");
}
