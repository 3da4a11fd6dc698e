//! Promise: all nodes with the same Redis have one order. What is published on one is heard on all, a subscriber may come
//! back anywhere, and what somebody may not do, it may not do anywhere.

use serde_json::{Value, json};

use super::common::bearer::{SECRET, bearer, key_text, nameless, token};
use super::common::conn::{Conn, Response, request};
use super::common::process::{FREE_PORTS, Process, command};
use super::common::stream::Listener;
use super::common::{assert_problem, eventually};
use super::real::server::{RedisServer, redis_or_skip};

const BASE: &str = "/api/v1/sse";

/// A node as a process.
pub(crate) struct Node(pub(crate) Process);

impl Node {
    fn start(server: &RedisServer) -> Self {
        Self::with(server, &[])
    }

    pub(crate) fn with(server: &RedisServer, args: &[&str]) -> Self {
        let order = format!("redis://127.0.0.1:{}", server.port());
        Self::at(&order, &[&FREE_PORTS[..], args].concat())
    }

    /// A node that has the same addresses when it starts anew.
    fn fixed(order: &str) -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let [listen, admin] = [free(), free()].map(|address| address.expect("a free port").to_string());
        Self::at(order, &["--listen", &listen, "--admin-listen", &admin])
    }

    fn at(order: &str, args: &[&str]) -> Self {
        Self(Process::spawn(&mut command(&[&["--order", order, "--drain", "0s"], args].concat())))
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let request = request(method, &format!("{BASE}{path}"), headers, body.as_bytes());
        Conn::tcp(self.0.addr).round(&request)
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        self.send("POST", path, headers, &body.to_string())
    }

    fn publish(&self, event: &Value) -> Response {
        self.post("/publish", &[], event)
    }

    /// Publishes `data` to the room, and returns its id.
    fn say(&self, data: &str) -> String {
        let answer = self.publish(&json!({"room": "r", "data": data}));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    fn listen(&self) -> Listener {
        Listener::open(Conn::tcp(self.0.addr), "/stream/r/ann", &[])
    }

    fn resume(&self, id: &str) -> Listener {
        let headers = [("last-event-id", id)];
        Listener::open(Conn::tcp(self.0.addr), "/stream/r/ann", &headers)
    }

    fn is_ready(&self) -> bool {
        Conn::tcp(self.0.admin).round(&request("GET", "/readyz", &[], b"")).status() == 200
    }

    /// Waits until the process has started anew, and serves again.
    fn until_anew(&self) {
        eventually("a new start", || self.0.logged().contains("starts anew"));
        eventually("it serves again", || {
            let logged = self.0.logged();
            let (_, since) = logged.rsplit_once("starts anew").expect("it did");
            since.contains(": listening")
        });
    }

    /// Publishes until it is taken: the process may not serve for a moment.
    fn say_when_possible(&self, data: &str) {
        eventually("it takes events", || {
            let is_there = std::net::TcpStream::connect(self.0.addr).is_ok();
            is_there && self.publish(&json!({"room": "r", "data": data})).status() == 200
        });
    }

    /// Kills the process at once.
    pub(crate) fn kill(mut self) {
        self.0.signal("-KILL");
        self.0.exit_code();
    }
}

#[test]
fn what_is_published_on_one_node_is_heard_on_all_with_one_id() {
    let server = redis_or_skip!();
    let nodes = [Node::start(&server), Node::start(&server)];
    let mut listeners = nodes.each_ref().map(Node::listen);
    let ids: Vec<String> = (0..20).map(|n| nodes[n % 2].say(&n.to_string())).collect();
    for listener in &mut listeners {
        let events = listener.events(20);
        for ((n, event), id) in events.iter().enumerate().zip(&ids) {
            assert_eq!(event, &format!("id: {id}\nroom: r\ndata: {n}\n\n"));
        }
    }
    let answer = nodes[0].publish(&json!({"room": "r", "data": 1})).json();
    assert_eq!(answer["durability"], "redis");
}

#[test]
fn a_subscriber_comes_back_on_any_node_also_when_its_own_was_killed() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    let mut listener = one.listen();
    let first = one.say("a");
    assert!(listener.event().contains(&first));
    other.say("b");
    one.kill();
    other.say("c");
    let mut resumed = other.resume(&first);
    assert_eq!([resumed.data(), resumed.data()], ["b", "c"]);
    // A node that starts has all of it, too.
    let third = Node::start(&server);
    let mut resumed = third.resume(&first);
    assert_eq!([resumed.data(), resumed.data()], ["b", "c"]);
}

/// Each node used to decide by what it remembered itself.
#[test]
fn a_key_is_used_once_on_all_nodes_and_an_own_id_too() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    let event = json!({"room": "r", "data": "paid"});
    let headers = [("idempotency-key", "k1")];
    let first = one.post("/publish", &headers, &event);
    let again = other.post("/publish", &headers, &event);
    assert_eq!((again.status(), again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!(again.json()["id"], first.json()["id"]);
    let mismatch = other.post("/publish", &headers, &json!({"room": "r", "data": "other"}));
    assert_problem(&mismatch, 422, "idempotency_mismatch");
    // One of three events was published before, on the other node.
    let once = |key: &str| json!({"room": "r", "data": key, "once": key});
    let known = other.publish(&once("b")).json();
    let batch = one.publish(&json!([once("a"), once("b"), once("c")])).json();
    assert_eq!((&batch["published"], &batch["replayed"]), (&json!(2), &json!(1)), "{batch}");
    let own = json!({"room": "r", "data": "own", "id": "order-17"});
    assert_eq!(one.publish(&own).status(), 200);
    assert_problem(&other.publish(&own), 409, "event_id_repeated");
    let mut listener = one.resume(first.json()["id"].as_str().expect("an id"));
    let seen: Vec<String> = (0..4).map(|_| listener.data()).collect();
    assert_eq!(seen, ["b", "a", "c", "own"], "{known}");
}

#[test]
fn versions_of_a_key_have_one_order_on_all_nodes() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    let versioned = |version: u32| json!({"room": "r", "data": version, "key": "k", "version": version});
    assert_eq!(one.publish(&versioned(5)).status(), 200);
    let late = other.publish(&versioned(4));
    assert_eq!((late.status(), &late.json()["skipped"]), (200, &json!(true)), "{}", late.text());
    assert_eq!(other.publish(&versioned(6)).status(), 200);
    let answer = one.send("GET", "/rooms/r/history", &[], "").json();
    let data: Vec<&Value> = answer["events"].as_array().expect("events").iter().map(|e| &e["data"]).collect();
    assert_eq!(data, ["5", "6"]);
}

/// The page for operators.
const PAGE: &str = include_str!("../../docs/nodes.md");

#[test]
fn the_documented_command_makes_one_order() {
    let server = redis_or_skip!();
    let line = PAGE.lines().find(|line| line.starts_with("tidegate ")).expect("the command");
    let line = line.replace("6379", &server.port().to_string());
    let args: Vec<&str> = line.split(' ').skip(1).collect();
    let nodes = [(), ()].map(|()| Node(Process::start(&args, &[])));
    let mut listener = nodes[1].listen();
    nodes[0].say("a");
    assert_eq!(listener.data(), "a");
}

/// The rule is cut from the page.
#[test]
fn the_documented_rights_are_enough_and_needed() {
    let server = redis_or_skip!();
    let rule = PAGE.lines().find(|line| line.starts_with("ACL SETUSER tidegate ")).expect("the rule");
    let _: String = server.ask(rule);
    let order = format!("redis://tidegate:secret@127.0.0.1:{}", server.port());
    let node = Node::at(&order, &FREE_PORTS);
    let mut listener = node.listen();
    let event = json!({"room": "r", "data": "a", "once": "k"});
    assert_eq!([node.publish(&event).status(), node.publish(&event).status()], [200, 200]);
    assert_eq!(listener.data(), "a");
    assert_eq!(node.post("/disconnect/r/ann", &[], &json!(null)).status(), 200);
    let replica = redis_or_skip!();
    replica.replicate(&server);
    let waits = Node::at(&order, &[&FREE_PORTS[..], &["--order-ack", "redis+1"]].concat());
    let event = json!({"room": "r", "data": "b"});
    eventually("a replica has it", || waits.publish(&event).json()["durability"] == "redis+1");
    let refused = std::process::Command::new("redis-cli")
        .args(["-p", &server.port().to_string(), "--user", "tidegate", "--pass", "secret", "FLUSHALL"])
        .output();
    let refused = String::from_utf8(refused.expect("redis-cli").stdout).expect("text");
    assert!(refused.contains("NOPERM"), "{refused}");
}

#[test]
fn who_may_not_stay_or_speak_may_not_anywhere() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    let mut listener = other.listen();
    let answer = one.post("/disconnect/r/ann", &[], &json!(null));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    listener.closing("disconnected");
    eventually("it is not let in again", || {
        let answer = other.send("GET", "/stream/r/ann", &[], "");
        answer.status() == 204
    });
    // A node that starts later knows.
    let third = Node::start(&server);
    assert_eq!(third.send("GET", "/stream/r/ann", &[], "").status(), 204);
}

#[test]
fn while_redis_is_away_publishes_are_refused_and_streams_stay() {
    let server = redis_or_skip!();
    let node = Node::start(&server);
    let mut listener = node.listen();
    node.say("a");
    assert_eq!(listener.data(), "a");
    server.signal("-STOP");
    eventually("it is not ready", || !node.is_ready());
    let refused = node.publish(&json!({"room": "r", "data": "b"}));
    assert_problem(&refused, 503, "order_unavailable");
    server.signal("-CONT");
    eventually("it is ready again", || node.is_ready());
    node.say("c");
    assert_eq!(listener.data(), "c", "the stream is the same");
}

#[test]
fn subscribers_that_are_to_know_are_told_once_that_redis_is_away() {
    let server = redis_or_skip!();
    let quiet = ["--heartbeat", "10m"];
    let tells = Node::with(&server, &[&quiet[..], &["--order-stale", "on"]].concat());
    let silent = Node::with(&server, &quiet);
    let mut listeners = [tells.listen(), tells.listen(), silent.listen()];
    let shown = tells.say("a");
    for listener in &mut listeners {
        assert_eq!(listener.data(), "a");
    }
    for _ in 0..2 {
        server.signal("-STOP");
        for listener in &mut listeners[..2] {
            let told = listener.event();
            let seconds = told.strip_prefix("event: stale\ndata: {\"away_s\":").expect("it is told");
            let seconds: u32 = seconds.trim_end().trim_end_matches('}').parse().expect("a number");
            assert!((10..60).contains(&seconds), "{told}");
        }
        server.signal("-CONT");
        eventually("both are ready again", || tells.is_ready() && silent.is_ready());
    }
    tells.say("b");
    for listener in &mut listeners {
        assert_eq!(listener.data(), "b", "and nothing in between");
    }
    assert_eq!(tells.resume(&shown).data(), "b");
}

/// A publisher that was to have its event on a replica is told only once it is there, also by a repeat of its key.
#[test]
fn what_no_replica_has_is_not_acknowledged() {
    let (master, replica) = (redis_or_skip!(), redis_or_skip!());
    replica.replicate(&master);
    let node = Node::with(&master, &["--order-ack", "redis+1"]);
    let keyed =
        |key: &str| node.post("/publish", &[("idempotency-key", key)], &json!({"room": "r", "data": key}));
    eventually("the replica counts", || keyed("a").status() == 200);
    let mut listener = node.listen();
    let first = keyed("b0").json();
    assert_eq!((listener.data().as_str(), &first["durability"]), ("b0", &json!("redis+1")));
    replica.lag();
    eventually("the replica is gone", || master.info("connected_slaves").trim() == "0");
    assert_problem(&keyed("b"), 503, "publish_unknown");
    assert_eq!(listener.data(), "b", "the master has it, and so do listeners");
    assert_problem(&keyed("b"), 503, "publish_unknown");
    assert_problem(&keyed("a"), 503, "publish_unknown");
    let lines = [("content-type", "application/x-ndjson")];
    let lines = node.send("POST", "/publish", &lines, "{\"room\":\"r\",\"data\":\"c\"}\n");
    assert!(lines.text().contains("publish_unknown"), "{}", lines.text());
    replica.replicate(&master);
    eventually("it is acknowledged", || keyed("b").status() == 200);
    assert_eq!(keyed("b").json()["durability"], "redis+1");
    node.0.metrics().assert("tidegate_order_link_state{state=\"live\"}", 1.0);
    assert!(node.0.metrics().get("tidegate_order_unconfirmed_total") >= 4.0);
}

#[test]
fn an_acknowledgement_that_redis_cannot_give_is_said_at_the_start() {
    let server = redis_or_skip!();
    let order = format!("redis://127.0.0.1:{}", server.port());
    let args = [&FREE_PORTS[..], &["--order", &order, "--order-ack", "redis-disk"]].concat();
    let line = logged_until(&mut command(&args), "Redis cannot be used");
    assert!(line.contains("order_ack = redis-disk needs"), "{line}");
}

/// The answer is lost, and nobody can know: the key does.
#[test]
fn what_redis_did_not_answer_is_unknown_and_its_key_tells() {
    let server = redis_or_skip!();
    let node = Node::start(&server);
    let before = node.say("a");
    server.signal("-STOP");
    let event = json!({"room": "r", "data": "b"});
    let headers = [("idempotency-key", "k1")];
    let unknown = node.post("/publish", &headers, &event);
    assert_problem(&unknown, 503, "publish_unknown");
    server.signal("-CONT");
    eventually("it is ready again", || node.is_ready());
    eventually("it is answered", || node.post("/publish", &headers, &event).status() == 200);
    node.say("c");
    let mut listener = node.resume(&before);
    assert_eq!([listener.data(), listener.data()], ["b", "c"], "once, and in order");
}

#[test]
fn who_is_muted_or_revoked_is_so_on_all_nodes() {
    let server = redis_or_skip!();
    let start = || Node::with(&server, &["--token-keys", &key_text(SECRET)]);
    let (one, other) = (start(), start());
    let ops = bearer(&nameless(&["admin"]));
    let ann = bearer(&token("ann", &["sse:read", "sse:publish"]));
    let say = |node: &Node| {
        node.post("/publish", &[("authorization", &ann)], &json!({"room": "r", "data": 1})).status()
    };
    assert_eq!((say(&one), say(&other)), (200, 200));
    let muted = one.post("/rooms/r/mute/ann", &[("authorization", &ops)], &json!(null));
    assert_eq!(muted.status(), 200, "{}", muted.text());
    eventually("she is muted on the other", || say(&other) == 403);
    let undone = other.send("DELETE", "/rooms/r/mute/ann", &[("authorization", &ops)], "");
    assert_eq!(undone.status(), 204);
    eventually("she may speak again", || say(&one) == 200 && say(&other) == 200);
    let mut listener = Listener::open(Conn::tcp(other.0.addr), "/stream/r/ann", &[("authorization", &ann)]);
    let revoked = one.post("/revoke", &[("authorization", &ops)], &json!({"user": "ann"}));
    assert_eq!(revoked.status(), 200, "{}", revoked.text());
    listener.closing("revoked");
    assert_eq!(say(&other), 401);
    // A node that starts later knows.
    assert_eq!(say(&start()), 401);
}

#[test]
fn when_all_is_gone_everybody_is_told_and_the_node_serves_again() {
    let server = redis_or_skip!();
    let node = Node::fixed(&format!("redis://127.0.0.1:{}", server.port()));
    let before = node.say("a");
    let _: String = server.ask("FLUSHALL");
    node.until_anew();
    node.say_when_possible("b");
    node.0.metrics().assert("tidegate_order_losses_total", 1.0);
    let mut listener = node.resume(&before);
    let gap = listener.event();
    assert!(gap.contains("event: gap\n") && gap.contains(r#""reason":"restart""#), "{gap}");
    assert_eq!(listener.data(), "b");
}

/// A node that has lost the order answers what it was asked before, and then starts anew. It used to answer a repeat with the place
/// that Redis told in the new order, under the name of the old one: an id that there never was. The load test `nodes` found it.
#[test]
fn a_node_that_has_lost_the_order_names_nothing_in_the_new_one() {
    let server = redis_or_skip!();
    let order = format!("redis://127.0.0.1:{}", server.port());
    let (lost, other) = (Node::start(&server), Node::fixed(&order));
    lost.say("before");
    let key = [("idempotency-key", "k1")];
    let event = json!({"room": "r", "data": "paid"});
    let publish = request("POST", &format!("{BASE}/publish"), &key, event.to_string().as_bytes());
    let (begun, rest) = publish.split_at(publish.len() - 3);
    let mut conn = Conn::tcp(lost.0.addr);
    conn.send(begun);
    let _: String = server.ask("FLUSHALL");
    eventually("it is lost", || lost.0.logged().contains("is lost in part"));
    other.until_anew();
    other.say_when_possible("after");
    let placed = other.post("/publish", &key, &event);
    assert_eq!(placed.status(), 200, "{}", placed.text());
    assert_problem(&conn.round(rest), 503, "order_unavailable");
}

#[test]
fn after_a_failover_only_those_who_saw_what_is_lost_have_a_gap() {
    let master = redis_or_skip!();
    let replica = redis_or_skip!();
    let route = super::real::server::Route::to(&master);
    // Before the node begins: with its first replica Redis takes a new replication id, and the order a new term.
    replica.replicate(&master);
    let node = Node::fixed(&format!("unix:{}", route.path().display()));
    let shared = node.say("a");
    replica.replicate(&master);
    replica.lag();
    let lost = node.say("b");
    route.lead(&replica.socket());
    replica.promote();
    master.signal("-KILL");
    node.until_anew();
    node.say_when_possible("c");
    let mut saw_it = node.resume(&lost);
    let gap = saw_it.event();
    assert!(gap.contains("event: gap\n") && gap.contains(r#""reason":"failover""#), "{gap}");
    assert_eq!(saw_it.data(), "c");
    let mut saw_nothing_lost = node.resume(&shared);
    assert_eq!(saw_nothing_lost.data(), "c");
}

/// Starts `command`, which waits for Redis, and returns the first line that it logs with `what`. Then it is killed.
pub(crate) fn logged_until(command: &mut std::process::Command, what: &str) -> String {
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let logged = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut lines = std::io::BufRead::lines(logged).map(|line| line.expect("text"));
    let line = lines.find(|line| line.contains(what));
    child.kill().expect("it is ours to kill");
    child.wait().expect("it was killed");
    line.unwrap_or_else(|| panic!("it says nothing of {what:?}"))
}

/// A signal that came while a start waited for Redis used to be kept until Redis was there.
#[test]
fn a_start_that_waits_for_redis_can_be_ended() {
    let mut server = redis_or_skip!();
    server.kill();
    let order = format!("redis://127.0.0.1:{}", server.port());
    let args = [&FREE_PORTS[..], &["--order", &order]].concat();
    let mut child = command(&args).stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut logged = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut logged, &mut line).expect("it says that Redis is away");
    assert!(line.contains("Redis is lost"), "{line}");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill(1)").success());
    assert_eq!(child.wait().expect("our child").code(), Some(0));
}
