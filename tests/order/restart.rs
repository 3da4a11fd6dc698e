//! Promise: after a kill and after an end in order, a listener that comes back gets exactly what it missed, and everything
//! that was decided before holds: ids, keys, versions, and who may not be connected or speak.

use serde_json::json;

use crate::common::assert_problem;
use crate::common::bearer::{SECRET, bearer, now, sign, token};
use crate::common::process::command;
use crate::node::{Node, Order, epoch, gap};

/// Ends `node` in one of two ways.
fn stop(node: Node, is_killed: bool) {
    if is_killed { node.kill() } else { drop(node.end()) }
}

#[test]
fn a_listener_that_comes_back_gets_what_it_missed() {
    for is_killed in [true, false] {
        let order = Order::new();
        let node = order.start();
        let mut listener = node.listen("/stream/a/u", &[]);
        let seen = node.say("seen");
        assert_eq!(listener.data(), "seen");
        drop(listener);
        for n in 0..20 {
            node.say(&format!("missed {n}"));
            node.publish(&json!({"room": "other", "data": "not for it"}));
        }
        let last = node.publish(&json!([{"user": "u", "data": "inbox"}, {"all": true, "data": "all"}]));
        stop(node, is_killed);

        let node = order.start();
        let mut listener = node.resume(&seen);
        for n in 0..20 {
            assert_eq!(listener.data(), format!("missed {n}"));
        }
        assert_eq!([listener.data(), listener.data()], ["inbox", "all"]);
        let next = node.say("next");
        assert_eq!(listener.data(), "next");
        // Nobody knows whether a kill lost something, so a new term begins; an end in order ends nothing.
        assert_eq!(epoch(&next) == epoch(&seen), !is_killed);
        // A listener that missed nothing is told of no gap.
        let mut newest = node.resume(last["id"].as_str().expect("an id"));
        assert_eq!(newest.data(), "next");
    }
}

#[test]
fn many_ends_of_either_kind_leave_one_order() {
    let order = Order::new();
    let node = order.start();
    let first = node.say("0");
    stop(node, true);
    for n in 1..12 {
        let node = order.start();
        node.say(&n.to_string());
        stop(node, n % 3 == 0);
    }
    let node = order.start();
    let mut listener = node.resume(&first);
    for n in 1..12 {
        assert_eq!(listener.data(), n.to_string());
    }
}

/// An offset of the old term that was never given out is no position of the new one.
#[test]
fn an_id_that_was_never_given_out_is_told() {
    let order = Order::new();
    let node = order.start();
    let id = node.say("x");
    let beyond = format!("{}-{}", epoch(&id), 1000);
    node.kill();
    let node = order.start();
    node.say("y");
    let told = gap(&mut node.resume(&beyond));
    assert_eq!(told["reason"], "restart", "{told}");
}

#[test]
fn what_was_published_once_stays_so() {
    for is_killed in [true, false] {
        let order = Order::new();
        let node = order.start();
        let own = json!({"room": "a", "data": "own", "id": "order-17"});
        let once =
            json!([{"room": "a", "data": "x", "once": "k1"}, {"room": "a", "data": "y", "once": "k2"}]);
        let with_key =
            |node: &Node, body: &str| node.post("/publish", &[("idempotency-key", "\"request-1\"")], body);
        node.publish(&own);
        let of_once = node.publish(&once);
        let first = with_key(&node, r#"{"room":"a","data":"by request"}"#).json();
        stop(node, is_killed);

        let node = order.start();
        assert_problem(&node.post("/publish", &[], &own.to_string()), 409, "event_id_repeated");
        let again = node.publish(&once);
        assert_eq!((&again["id"], &again["replayed"]), (&of_once["id"], &json!(2)));
        let again = with_key(&node, r#"{"room":"a","data":"by request"}"#);
        assert_eq!((again.status(), &again.json()["id"]), (200, &first["id"]));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_problem(&with_key(&node, r#"{"room":"a","data":"else"}"#), 422, "idempotency_mismatch");
    }
}

#[test]
fn an_old_version_of_a_key_stays_old() {
    for is_killed in [true, false] {
        let order = Order::new();
        let node = order.start();
        let price = |node: &Node, version: u64| {
            let event = json!({"room": "a", "data": version, "key": "p", "version": version});
            node.post("/publish", &[], &event.to_string()).json()
        };
        assert!(price(&node, 7)["id"].is_string());
        stop(node, is_killed);
        let node = order.start();
        assert_eq!(price(&node, 6)["skipped"], true);
        assert!(price(&node, 8)["id"].is_string());
    }
}

#[test]
fn who_may_not_speak_or_be_connected_still_may_not() {
    for is_killed in [true, false] {
        let order = Order::with_tokens();
        let node = order.start();
        let admin = |node: &Node, path: &str, body: &str| {
            let answer = node.post_as("ops", &["admin"], path, body);
            assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        };
        let old = sign(
            SECRET,
            &json!({"sub": "ann", "jti": "t1", "iat": now() - 100, "exp": now() + 3600, "permissions": ["sse:read"]}),
        );
        let listens = |node: &Node, path: &str, token: &str| {
            node.send("GET", path, &[("authorization", &bearer(token)), ("accept", "text/plain")], "")
        };
        admin(&node, "/rooms/a/mute/muted", "");
        admin(&node, "/rooms/a/mute/spoken", "");
        admin(&node, "/disconnect/a/away?stay_away=1h", "");
        admin(&node, "/revoke", r#"{"user":"ann"}"#);
        admin(&node, "/revoke", r#"{"token":"t2"}"#);
        let undone = node.send(
            "DELETE",
            "/rooms/a/mute/spoken",
            &[("authorization", &bearer(&token("ops", &["admin"])))],
            "",
        );
        assert_eq!(undone.status(), 204);
        stop(node, is_killed);

        let node = order.start();
        let says = |user: &str| node.post_as(user, &["sse:publish"], "/publish", r#"{"room":"a","data":1}"#);
        assert_problem(&says("muted"), 403, "muted");
        assert_eq!(says("spoken").status(), 200);
        let away = listens(&node, "/stream/a/away", &token("away", &["sse:read"]));
        assert_eq!(away.status(), 204, "{}", away.text());
        assert_problem(&listens(&node, "/stream/a/ann", &old), 401, "unauthorized");
        let claims = json!({"sub": "bob", "jti": "t2", "iat": now(), "exp": now() + 3600, "permissions": ["sse:read"]});
        let by_token = sign(SECRET, &claims);
        assert_problem(&listens(&node, "/stream/a/bob", &by_token), 401, "unauthorized");
    }
}

/// Nobody waits for the disk. An end in order writes what was answered; after a kill it is there, or those who had it are told.
#[test]
fn what_was_answered_from_memory_is_there_or_told_to_be_lost() {
    for is_killed in [true, false] {
        let order = Order::new().set("TIDEGATE_ORDER_ACK", "memory");
        let node = order.start();
        let say = |node: &Node, data: u32| {
            let answer = node.post("/publish", &[], &json!({"room": "a", "data": data}).to_string()).json();
            assert_eq!(answer["durability"], "memory");
            answer["id"].as_str().expect("an id").to_owned()
        };
        let first = say(&node, 0);
        let ids: Vec<String> = (1..=20).map(|n| say(&node, n)).collect();
        let last = ids.last().expect("some");
        assert_eq!(node.send("GET", "/info", &[], "").json()["order"], "disk");
        stop(node, is_killed);
        let node = order.start();
        let mut whole = node.resume(last);
        let next = say(&node, 21);
        if epoch(&next) == epoch(&first) {
            assert!(!is_killed);
            assert_eq!(whole.data(), "21");
            let mut listener = node.resume(&first);
            for n in 1..=21 {
                assert_eq!(listener.data(), n.to_string());
            }
        } else if !order.has("20") {
            assert_eq!(gap(&mut whole)["reason"], "restart");
        } else {
            assert_eq!(whole.data(), "21");
        }
    }
}

#[test]
fn an_answer_that_the_order_cannot_give_is_refused_at_the_start() {
    for (order, ack) in
        [("memory", "disk"), ("memory", "redis+1"), ("disk:/tmp/order", "redis"), ("redis://r", "memory")]
    {
        let args = ["--order", order, "--order-ack", ack, "--check-config"];
        let ended = command(&args).output().expect("it runs");
        let said = String::from_utf8(ended.stderr).expect("text");
        assert_eq!(ended.status.code(), Some(78), "{order} {ack}: {said}");
        assert!(said.contains("order-ack=") && said.contains("with this order"), "{said}");
    }
}
