//! Promise: what one node appends, every node has at the same place, once.

use std::time::Duration;

use tidegate::order::redis::call::OnceKey;
use tidegate::order::redis::link::Loss;
use tidegate::upstream::redis::{AppendError, Appended};

use super::node::{Node, log_of, wait_in_step};
use super::server::redis_or_skip;

fn once(key: u128, content: u128) -> OnceKey {
    OnceKey { key, content, time: Duration::from_mins(1), first: 0, count: 1 }
}

#[test]
fn two_nodes_have_the_same_events_at_the_same_places() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    let mut places = Vec::new();
    for n in 0..20 {
        places.push([&one, &other][n % 2].append(&format!("{n};")));
    }
    assert!(places.windows(2).all(|pair| pair[1].first == pair[0].last + 1), "{places:?}");
    wait_in_step(&server, &[&one, &other]);
    assert_eq!(one.book().has, other.book().has);
    let late = Node::start(&server);
    assert_eq!(late.book().has, one.book().has);
    assert_eq!(late.book().adopted.iter().map(|adopted| adopted.loss).collect::<Vec<_>>(), [Loss::Start]);
    late.end();
}

#[test]
fn an_append_returns_after_its_batch_was_applied() {
    let server = redis_or_skip!();
    let node = Node::start(&server);
    for n in 0..50 {
        let placed = node.append(&format!("{n}"));
        assert_eq!(node.book().has.last(), Some(&(placed.first, 1, format!("{n}"))));
    }
}

#[test]
fn batches_that_gather_are_one_entry_and_keep_their_own_places() {
    let server = redis_or_skip!();
    let node = Node::start(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let placed = runtime.block_on(async {
        let append = |n: u32| {
            let handle = node.handle.clone();
            async move { handle.append(format!("{n};").into(), 1 + n % 3, Vec::new()).await }
        };
        let all = (0..300).map(|n| tokio::spawn(append(n))).collect::<Vec<_>>();
        let mut placed = Vec::new();
        for one in all {
            placed.push(one.await.expect("no panic"));
        }
        placed
    });
    runtime_free_check(&placed);
    let log = log_of(&server);
    assert!(log.len() < 100, "{} entries", log.len());
    wait_in_step(&server, &[&node]);
    let has = node.book().has;
    for (n, placed) in placed.iter().enumerate() {
        let Ok(Appended::Placed(placed, _)) = placed else { panic!("{placed:?}") };
        let count = u32::try_from(1 + n % 3).expect("small");
        assert!(has.contains(&(placed.first, count, format!("{n};"))), "{n} at {placed:?}");
    }
}

fn runtime_free_check(placed: &[Result<Appended<()>, AppendError>]) {
    assert!(placed.iter().all(Result::is_ok), "{placed:?}");
}

#[test]
fn a_key_is_for_one_batch() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    let Ok(Appended::Placed(placed, _)) = one.try_append("a", 1, vec![once(7, 1)]) else {
        panic!("not placed")
    };
    let repeat = other.try_append("a", 1, vec![once(9, 1), once(7, 1)]);
    let Ok(Appended::Repeat(repeat)) = repeat else { panic!("{repeat:?}") };
    assert_eq!((repeat.index, repeat.epoch), (1, placed.epoch));
    assert_eq!((repeat.first, repeat.last), (placed.first, placed.last));
    assert_eq!(other.try_append("b", 1, vec![once(7, 2)]), Err(AppendError::Mismatch(0)));
    // The key that came with it is free, because the batch was not appended.
    assert!(matches!(other.try_append("c", 1, vec![once(9, 1)]), Ok(Appended::Placed(..))));
    wait_in_step(&server, &[&one, &other]);
    assert_eq!(one.bodies(), ["a", "c"]);
}

#[test]
fn a_key_of_an_order_that_was_given_up_is_free() {
    let server = redis_or_skip!();
    let node = Node::start(&server);
    assert!(matches!(node.try_append("a", 1, vec![once(7, 1)]), Ok(Appended::Placed(..))));
    let _: () = server.ask("DEL {tidegate}:meta");
    node.append_when_possible("b");
    assert_eq!(node.losses(), [Loss::Restart]);
    assert!(matches!(node.try_append("a", 1, vec![once(7, 1)]), Ok(Appended::Placed(..))));
    assert_eq!(node.bodies(), ["b", "a"]);
}
