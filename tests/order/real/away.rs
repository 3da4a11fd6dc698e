//! Promise: while Redis is away, nothing is lost: publishers are told that they have to try again, and what was appended
//! meanwhile comes later. A batch whose answer is lost is appended once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate::order::redis::link::{LinkState, Loss};
use tidegate::upstream::redis::{AppendError, Appended};

use super::node::{Node, keep, log_of, wait_in_step};
use super::proxy::Proxy;
use super::server::{RedisServer, Route, redis_or_skip};
use crate::common::eventually;

/// Publishes until Redis was away and is back. Returns what is in the order, or may be.
fn publish_through(node: &Node, come_back: impl FnOnce()) -> Vec<String> {
    let mut unsure = Vec::new();
    let mut come_back = Some(come_back);
    for n in 0_u32.. {
        let body = format!("{n};");
        match node.try_append(&body, 1, Vec::new()) {
            Ok(Appended::Placed(..)) if come_back.is_none() => return unsure,
            // It may be away only in a moment.
            Ok(Appended::Placed(..)) | Err(AppendError::Unknown) => unsure.push(body),
            Ok(other @ Appended::Repeat(_)) => panic!("{other:?}"),
            Err(AppendError::Away) => {
                if let Some(come_back) = come_back.take() {
                    come_back();
                }
                std::thread::yield_now();
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    unreachable!("it goes on until it succeeds")
}

fn bridges(server: &RedisServer, leave: impl FnOnce(), come_back: impl FnOnce()) {
    let (one, other) = (Node::start(server), Node::start(server));
    one.append("a");
    leave();
    let unsure = publish_through(&one, come_back);
    wait_in_step(server, &[&one, &other]);
    for node in [&one, &other] {
        assert_eq!(node.losses(), []);
        assert!(node.book().states.contains(&LinkState::Lost), "{:?}", node.book().states);
    }
    let bodies = one.bodies();
    assert_eq!(bodies.first().map(String::as_str), Some("a"));
    for (at, body) in bodies.iter().enumerate() {
        assert!(!bodies[..at].contains(body), "{body} is there twice");
    }
    // Everything that is there was appended at last, or its publisher was told that it may be.
    assert!(bodies[1..bodies.len() - 1].iter().all(|body| unsure.contains(body)), "{bodies:?}, {unsure:?}");
}

#[test]
fn a_stopped_redis_is_waited_for() {
    let server = redis_or_skip!();
    bridges(&server, || server.signal("-STOP"), || server.signal("-CONT"));
}

#[test]
fn a_sleeping_redis_is_waited_for() {
    let server = redis_or_skip!();
    let mut conn = server.connect();
    std::thread::scope(|threads| {
        let sleep = || drop(threads.spawn(move || redis::cmd("DEBUG").arg("SLEEP").arg("7").exec(&mut conn)));
        bridges(&server, sleep, || {});
    });
}

#[test]
fn a_busy_script_is_waited_for() {
    let server = redis_or_skip!("--busy-reply-threshold", "100");
    let mut conn = server.connect();
    std::thread::scope(|threads| {
        let run = || {
            let mut asked = redis::cmd("EVAL");
            asked.arg("while true do end").arg(0);
            drop(threads.spawn(move || asked.exec(&mut conn)));
        };
        bridges(&server, run, || server.ask("SCRIPT KILL"));
    });
}

#[test]
fn connections_that_are_killed_are_opened_again() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    for n in 0..10 {
        one.append_when_possible(&format!("{n};"));
        let _: i64 = server.ask("CLIENT KILL TYPE normal");
        // The batch waits meanwhile, or is sent again.
        other.append_when_possible(&format!("other {n};"));
    }
    wait_in_step(&server, &[&one, &other]);
    assert_eq!((one.losses(), one.bodies().len()), (vec![], 20));
    assert_eq!((other.losses(), other.bodies()), (vec![], one.bodies()));
}

#[test]
fn a_reader_that_is_too_slow_for_redis_reads_again() {
    let server = redis_or_skip!();
    let (one, other) = (Node::start(&server), Node::start(&server));
    one.append("a");
    let limit = |bytes: u32| {
        let mut asked = redis::cmd("CONFIG");
        asked.arg("SET").arg("client-output-buffer-limit").arg(format!("normal {bytes} 0 0"));
        asked.exec(&mut server.connect()).expect("a limit");
    };
    // An answer with this batch is more than Redis holds for a reader: it closes the connection instead.
    limit(20_000);
    let large = "x".repeat(100_000);
    std::thread::scope(|threads| {
        let appended = threads.spawn(|| one.try_append(&large, 1, Vec::new()));
        eventually("both were closed", || {
            [&one, &other].iter().all(|node| node.book().states.contains(&LinkState::Lost))
        });
        limit(0);
        let appended = appended.join().expect("no panic");
        assert!(matches!(appended, Ok(_) | Err(AppendError::Unknown)), "{appended:?}");
    });
    wait_in_step(&server, &[&one, &other]);
    assert_eq!((one.losses(), one.bodies()), (vec![], vec!["a".to_owned(), large]));
    assert_eq!((other.losses(), other.bodies()), (vec![], one.bodies()));
}

#[test]
fn a_node_that_was_cut_off_gets_what_it_missed() {
    let server = redis_or_skip!();
    let route = Route::to(&server);
    let one = Node::start(&server);
    let other = Node::with(&format!("unix:{}", route.path().display()), keep());
    other.wait_live();
    one.append("a");
    other.wait_for(&["a"]);
    route.lead_nowhere();
    let _: i64 = server.ask("CLIENT KILL TYPE normal");
    eventually("it is lost", || other.state() == Some(LinkState::Lost));
    eventually("publishes are refused", || other.try_append("x", 1, Vec::new()) == Err(AppendError::Away));
    for n in 0..200 {
        one.append_when_possible(&format!("{n};"));
    }
    route.lead(&server.socket());
    wait_in_step(&server, &[&one, &other]);
    assert_eq!((other.losses(), other.bodies()), (vec![], one.bodies()));
}

#[test]
fn a_node_that_was_away_for_longer_than_the_log_reaches_is_told() {
    let server = redis_or_skip!();
    let route = Route::to(&server);
    let mut small = keep();
    small.bytes = 1 << 20;
    let one = Node::with(&format!("redis://127.0.0.1:{}", server.port()), small.clone());
    let other = Node::with(&format!("unix:{}", route.path().display()), small);
    one.wait_live();
    other.wait_live();
    one.append("a");
    other.wait_for(&["a"]);
    route.lead_nowhere();
    let _: i64 = server.ask("CLIENT KILL TYPE normal");
    let large = "x".repeat(50_000);
    for n in 0..60 {
        one.append_when_possible(&format!("{n}{large};"));
    }
    let kept = log_of(&server);
    let bytes: usize = kept.iter().map(|(_, body)| body.len()).sum();
    assert!((500_000..=1_300_000).contains(&bytes), "{bytes} bytes are kept");
    route.lead(&server.socket());
    eventually("it has the newest", || other.book().head == one.book().head);
    assert_eq!(other.losses(), [Loss::Evicted]);
    let adopted = other.book().adopted.pop().expect("it was told");
    assert!(adopted.shared_to.is_some_and(|shared| shared < adopted.from), "{adopted:?}");
    let bodies: Vec<String> = kept.into_iter().map(|(_, body)| body).collect();
    assert_eq!(other.bodies(), bodies);
    assert_eq!(one.losses(), []);
}

/// The proxy takes commands to Redis and keeps answers back: the command is run, and nobody hears of it.
#[test]
fn a_batch_whose_answer_is_lost_is_there_once() {
    let server = redis_or_skip!();
    let proxy = Proxy::to(server.port());
    let node = Node::with(&format!("redis://127.0.0.1:{}", proxy.port()), keep());
    node.wait_live();
    node.append("a");
    let deaf = AtomicBool::new(false);
    for n in 0..5 {
        let before = log_of(&server).len();
        std::thread::scope(|threads| {
            proxy.keep_answers(true);
            threads.spawn(|| {
                eventually("it is in the log", || log_of(&server).len() > before);
                proxy.cut();
                proxy.keep_answers(false);
                deaf.store(true, Ordering::Release);
            });
            let placed = node.append(&format!("{n};"));
            assert!(deaf.load(Ordering::Acquire), "{placed:?} before an answer could come");
        });
        assert_eq!(log_of(&server).len(), before + 1);
    }
    wait_in_step(&server, &[&node]);
    assert_eq!(node.losses(), []);
}

/// A Redis that never answers in time: whether the batch is there is not known, and it is not there twice.
#[test]
fn a_batch_without_an_answer_is_unknown_after_a_while() {
    let server = redis_or_skip!();
    let node = Node::start(&server);
    node.append("a");
    server.signal("-STOP");
    let begun = std::time::Instant::now();
    assert_eq!(node.try_append("b", 1, Vec::new()), Err(AppendError::Unknown));
    assert!(begun.elapsed() >= Duration::from_secs(5));
    server.signal("-CONT");
    node.append_when_possible("c");
    wait_in_step(&server, &[&node]);
    assert!(
        [&["a", "b", "c"][..], &["a", "c"]]
            .contains(&&node.bodies().iter().map(String::as_str).collect::<Vec<_>>()[..])
    );
}
