//! Promise: damage at the end of the log ends it there, and whoever saw more is told; damage inside raises the floor, and
//! whoever comes from below is told. What can be read is exact.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde_json::json;

use crate::common::assert_problem;
use crate::node::{Order, epoch, flip, gap};

/// Publishes three events and kills the server. Returns their ids.
fn three(order: &Order) -> [String; 3] {
    let node = order.start();
    let ids = ["the first", "the second", "the third"].map(|data| node.say(data));
    node.kill();
    ids
}

#[test]
fn a_record_that_is_cut_off_ends_the_log() {
    let order = Order::new();
    let [first, second, third] = three(&order);
    let (segment, begin, end) = order.find("the third");
    let whole = std::fs::read(order.file(segment)).expect("it is there");
    for cut in [begin + 1, begin + 9, end - 1] {
        std::fs::remove_dir_all(order.path()).expect("it is ours");
        std::fs::create_dir_all(order.path()).expect("a temporary folder");
        let cut = usize::try_from(cut).expect("within the file");
        std::fs::write(order.file(segment), &whole[..cut]).expect("it can be written");
        ends_below(&order, &first, &second, &third);
    }
}

/// The third event is gone: who saw it is told, and for the others nothing happened.
fn ends_below(order: &Order, first: &str, second: &str, third: &str) {
    let node = order.start();
    let next = node.say("next");
    assert_ne!(epoch(&next), epoch(third));
    let mut behind = node.resume(first);
    assert_eq!(behind.data(), "the second");
    let mut last = node.resume(second);
    let mut beyond = node.resume(third);
    let told = gap(&mut beyond);
    let (reason, from, to) = (&told["reason"], &told["from"], &told["to"]);
    assert_eq!((reason, from, to), (&json!("restart"), &json!(third), &json!(second)));
    let all = [behind.data(), last.data(), beyond.data()];
    assert_eq!(all, ["next"; 3]);
    node.kill();
}

#[test]
fn garbage_behind_the_last_record_takes_nothing() {
    let order = Order::new();
    let [first, _, third] = three(&order);
    let (segment, _, end) = order.find("the third");
    let file = File::options().write(true).open(order.file(segment)).expect("it is there");
    file.write_all_at(&[0xa5; 4096], end).expect("it can be written");
    let node = order.start();
    let mut behind = node.resume(&first);
    let mut newest = node.resume(&third);
    node.say("next");
    assert_eq!([behind.data(), behind.data(), behind.data()], ["the second", "the third", "next"]);
    assert_eq!(newest.data(), "next");
    assert!(node.0.logged().contains("a record of the order cannot be read"), "{}", node.0.logged());
    // It is gone now, so the next start has nothing to say of it.
    node.kill();
    let damage = order.scan().damage;
    assert!(damage.is_empty(), "{damage:?}");
}

#[test]
fn a_flipped_bit_inside_raises_the_floor() {
    let order = Order::new();
    let [first, second, third] = three(&order);
    let (segment, begin, _) = order.find("the second");
    flip(&order.file(segment), begin + 20);
    let node = order.start();
    // The third is there, and whoever comes from the second gets it.
    let mut from_second = node.resume(&second);
    assert_eq!(from_second.data(), "the third");
    let mut from_first = node.resume(&first);
    let told = gap(&mut from_first);
    assert_eq!((&told["reason"], &told["from"]), (&json!("evicted"), &json!(first)), "{told}");
    assert_eq!(from_first.data(), "the third");
    let mut newest = node.resume(&third);
    node.say("next");
    for listener in [&mut from_first, &mut from_second, &mut newest] {
        assert_eq!(listener.data(), "next");
    }
}

/// What can be read below the damage still says who may not speak, and what was published once.
#[test]
fn what_was_decided_below_the_damage_holds() {
    let order = Order::with_tokens();
    let node = order.start();
    let say = |data: &str| {
        let body = json!({"room": "a", "data": data, "once": data}).to_string();
        let answer = node.post_as("bob", &["sse:publish"], "/publish", &body);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["id"].clone()
    };
    let muted = node.post_as("ops", &["admin"], "/rooms/a/mute/ann", "");
    assert_eq!(muted.status(), 200, "{}", muted.text());
    let ids = ["below", "damaged", "above"].map(say);
    node.kill();
    let (segment, begin, _) = order.find("damaged");
    flip(&order.file(segment), begin + 20);
    let node = order.start();
    let body = r#"{"room":"a","data":"x"}"#;
    assert_problem(&node.post_as("ann", &["sse:publish"], "/publish", body), 403, "muted");
    let again = |data: &str| {
        let body = json!({"room": "a", "data": data, "once": data}).to_string();
        node.post_as("bob", &["sse:publish"], "/publish", &body).json()
    };
    assert_eq!([&again("below")["id"], &again("above")["id"]], [&ids[0], &ids[2]]);
}
