//! Promise: `tidegate order --copy` takes an order on disk over to a Redis without one. Who has an id of the disk goes on at a
//! node over Redis, exactly, without a gap; keys, own ids and who may not speak hold on. It refuses to mix two orders.

use serde_json::json;

use crate::common::assert_problem;
use crate::common::bearer::{SECRET, bearer, key_text, token};
use crate::common::conn::Conn;
use crate::common::process::{Process, command};
use crate::common::stream::Listener;
use crate::node::{Node, Order, epoch, flip, gap};
use crate::real::server::{RedisServer, redis_or_skip};

fn url(server: &RedisServer) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

/// Copies `order` to `server`, and returns what is said, what is complained of, and the status.
fn copy(order: &Order, server: &RedisServer) -> (String, String, i32) {
    let output = command(&["order", "--copy", &order.setting(), &url(server)]).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code().expect("no signal"))
}

fn copied(order: &Order, server: &RedisServer) -> String {
    let (said, complained, code) = copy(order, server);
    assert_eq!((code, &*complained), (0, ""), "{said}");
    said
}

/// A node over `server`.
fn over(server: &RedisServer, settings: &[(&str, &str)]) -> Node {
    Node(Process::start(&["--order", &url(server)], settings))
}

/// Publishes `data` to the room `a` of a node over Redis, and returns its id.
fn say(node: &Node, data: &str) -> String {
    let answer = node.post("/publish", &[], &json!({"room": "a", "data": data}).to_string());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.json()["durability"], "redis");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

#[test]
fn who_has_an_id_of_the_disk_goes_on_over_redis() {
    let server = redis_or_skip!();
    let order = Order::new();
    let node = order.start();
    let mut ids = vec![node.say("0")];
    node.publish(&json!([{"room": "b", "data": "x"}, {"room": "a", "data": "1", "id": "mine"}]));
    node.publish(&json!({"room": "a", "data": "heard, and not kept", "store": false}));
    ids.push(node.say("2"));
    // A second term, a third without an event, and a fourth.
    node.kill();
    let node = order.start();
    ids.push(node.say("3"));
    node.kill();
    order.start().kill();
    let node = order.start();
    ids.push(node.say("4"));
    node.end();
    let before = order.scan();
    let said = copied(&order, &server);
    assert!(said.starts_with("copied: positions above 0 up to "), "{said}");
    assert_eq!(order.scan(), before, "the disk stays as it is");

    let node = over(&server, &[]);
    for (id, missed) in ids.iter().zip([&["1", "2", "3", "4"][..], &["3", "4"], &["4"], &[]]) {
        let mut listener = node.resume(id);
        for data in missed {
            assert_eq!(listener.data(), *data, "from {id}");
        }
    }
    let mut by_own_id = node.resume("mine");
    assert_eq!(by_own_id.data(), "2");
    let mut newest = node.resume(&ids[3]);
    let next = say(&node, "5");
    assert_eq!([newest.data(), by_own_id.data()], ["5", "3"]);
    // What the disk gives out from now on is another event.
    assert_ne!(epoch(&next), epoch(&ids[3]));
    let disk = order.start();
    let elsewhere = disk.say("only on the disk");
    let mut listener = node.resume(&elsewhere);
    assert_eq!(gap(&mut listener)["reason"], "failover");
    disk.end();
    // A node that starts later reads the same, from the terms that the copy and the nodes began.
    let other = over(&server, &[]);
    let mut listener = other.resume(&ids[2]);
    assert_eq!([listener.data(), listener.data()], ["4", "5"]);
}

#[test]
fn keys_and_own_ids_are_used_once_over_redis_too() {
    let server = redis_or_skip!();
    let order = Order::new();
    let node = order.start();
    node.say("before");
    let headers = [("idempotency-key", "k1")];
    let several = json!([{"room": "a", "data": "x"}, {"room": "b", "data": "y"}]).to_string();
    let first = node.post("/publish", &headers, &several).json();
    let once = json!({"room": "a", "data": "z", "once": "o1"}).to_string();
    let event = node.post("/publish", &[], &once).json();
    node.publish(&json!({"room": "a", "data": "own", "id": "mine"}));
    node.publish(&json!({"room": "a", "data": "new", "key": "k", "version": 7}));
    node.end();
    let said = copied(&order, &server);
    assert!(said.contains("carried: 2 idempotency keys, 0 changes of access"), "{said}");

    let node = over(&server, &[]);
    let again = node.post("/publish", &headers, &several);
    assert_eq!((again.status(), again.header("idempotency-replayed")), (200, Some("true")));
    assert_eq!((&again.json()["id"], &again.json()["published"]), (&first["id"], &first["published"]));
    let other = node.post("/publish", &headers, &json!({"room": "a", "data": "q"}).to_string());
    assert_problem(&other, 422, "idempotency_mismatch");
    let again = node.post("/publish", &[], &once);
    assert_eq!((again.status(), &again.json()["id"]), (200, &event["id"]), "{}", again.text());
    let own = node.post("/publish", &[], &json!({"room": "a", "data": "q", "id": "mine"}).to_string());
    assert_problem(&own, 409, "event_id_repeated");
    let old = json!({"room": "a", "data": "old", "key": "k", "version": 6}).to_string();
    assert_eq!(node.post("/publish", &[], &old).json()["skipped"], true);
}

/// The change is below what damage left of the order: the copy has no entry of it.
#[test]
fn who_may_not_speak_may_not_over_redis_either() {
    let server = redis_or_skip!();
    let order = Order::with_tokens();
    let node = order.start();
    let event = |data: &str| json!({"room": "a", "data": data}).to_string();
    assert_eq!(node.post_as("ops", &["admin"], "/rooms/a/mute/ann", "").status(), 200);
    let say = |data: &str| {
        let answer = node.post_as("bob", &["sse:publish"], "/publish", &event(data));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let [first, second, _] = ["damaged", "whole", "last"].map(say);
    node.end();
    let (segment, begin, _) = order.find("damaged");
    flip(&order.file(segment), begin + 30);
    let said = copied(&order, &server);
    assert!(said.contains("0 idempotency keys, 1 changes of access"), "{said}");

    let node = over(&server, &[("TIDEGATE_TOKEN_KEYS", &key_text(SECRET))]);
    assert_eq!(node.post_as("ann", &["sse:publish"], "/publish", &event("q")).status(), 403);
    assert_eq!(node.post_as("bob", &["sse:publish"], "/publish", &event("q")).status(), 200);
    let resume = |id: &str| {
        let bearer = bearer(&token("u", &["sse:read"]));
        let headers = [("authorization", &*bearer), ("last-event-id", id)];
        Listener::open(Conn::tcp(node.0.addr), "/stream/a/u", &headers)
    };
    assert_eq!(resume(&second).data(), "last");
    assert_eq!(resume(&first).data(), "whole", "what is damaged was heard, and what follows is whole");
}

#[test]
fn it_takes_no_order_that_is_in_use_and_mixes_no_two() {
    let server = redis_or_skip!();
    let order = Order::new();
    let (_, complained, code) = copy(&order, &server);
    assert!(code == 1 && complained.contains("there is no such folder"), "{complained}");
    let disk = order.start();
    let id = disk.say("disk");
    let (_, complained, code) = copy(&order, &server);
    assert!(code == 1 && complained.contains("a server uses it"), "{complained}");
    disk.end();
    let node = over(&server, &[]);
    let there = say(&node, "redis");
    let (_, complained, code) = copy(&order, &server);
    assert!(code == 1 && complained.contains("an order is there already"), "{complained}");
    say(&node, "goes on");
    let mut listener = node.resume(&there);
    assert_eq!(listener.data(), "goes on");
    node.end();
    // What a copy has left that was broken off is no order.
    let _: String = server.ask("FLUSHALL");
    let begun = redis::cmd("HSET").arg(&["{tidegate}:meta", "v", "copy x"]).query(&mut server.connect());
    assert_eq!(begun, Ok(1));
    copied(&order, &server);
    let node = over(&server, &[]);
    let mut listener = node.resume(&id);
    say(&node, "next");
    assert_eq!(listener.data(), "next");
    for args in [&["order", "--copy", "disk:/a"][..], &["order", "--copy", "disk:a", "redis://r"]] {
        assert_eq!(command(args).output().expect("it runs").status.code(), Some(64));
    }
}
