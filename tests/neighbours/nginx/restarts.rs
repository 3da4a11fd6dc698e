//! A reload of nginx and a restart of the engine, under streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{BASE, INSIDE, behind_nginx, engine, message, patiently, until_connections};
use crate::common::eventsource::{Event, EventSource};
use crate::common::neighbours::until;

/// Reads numbers up to "end", and returns how many there were. They must come one by one, whatever happens to the
/// stream.
async fn count(mut listener: EventSource, opened: Arc<AtomicUsize>) -> usize {
    let mut count = 0;
    loop {
        match listener.next().await {
            Event::Open => drop(opened.fetch_add(1, Ordering::Relaxed)),
            Event::Message(message) if message.kind == "connected" => {}
            Event::Message(message) if message.data == "end" => return count,
            Event::Message(found) => {
                assert_eq!(found, message(&count.to_string()));
                count += 1;
            }
            Event::End => {}
            failed => panic!("a browser would not come back from {failed:?}"),
        }
    }
}

#[tokio::test]
async fn a_reload_of_nginx_costs_no_event() {
    const LISTENERS: usize = 100;
    const RELOADS: usize = 3;

    let Some((_folder, server, nginx)) = behind_nginx(&[]).await else { return };
    let opened = Arc::new(AtomicUsize::new(0));
    let mut listeners = JoinSet::new();
    for n in 0..LISTENERS {
        listeners.spawn(count(nginx.listener(n, &format!("/stream/a/u{n}")), opened.clone()));
    }
    until_connections(&server, LISTENERS as u64).await;
    let mut published = 0;
    for round in 1..=RELOADS {
        nginx.reload();
        // Publishes while the old workers, which have the streams, close all of them.
        until("everyone is with the new workers", async || {
            nginx.publish(&json!({"room": "a", "data": published})).await;
            published += 1;
            let found = opened.load(Ordering::Relaxed);
            if found >= (round + 1) * LISTENERS { Ok(()) } else { Err(found) }
        })
        .await;
    }
    nginx.publish(&json!({"room": "a", "data": "end"})).await;
    for count in patiently("everyone", listeners.join_all()).await {
        assert_eq!(count, published);
    }
}

#[tokio::test]
async fn after_a_restart_of_the_engine_everyone_is_back_and_told_what_is_lost() {
    const LISTENERS: usize = 300;

    let Some((folder, server, nginx)) = behind_nginx(&[]).await else { return };
    let heard = Arc::new(AtomicUsize::new(0));
    let turned_away = Arc::new(AtomicUsize::new(0));
    let mut listeners = JoinSet::new();
    for n in 0..LISTENERS {
        let mut listener = nginx.listener(n, &format!("/stream/a/u{n}"));
        let (heard, turned_away) = (heard.clone(), turned_away.clone());
        listeners.spawn(async move {
            let mut got = Vec::new();
            while !got.contains(&message("after")) {
                match listener.next().await {
                    Event::Message(message) if message.kind == "overload" => {
                        assert_eq!(message.data, r#"{"reason":"unreachable"}"#);
                        turned_away.fetch_add(1, Ordering::Relaxed);
                    }
                    Event::Message(message) => {
                        got.push(message);
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                    Event::Open | Event::End => {}
                    failed => panic!("a browser would not come back from {failed:?}"),
                }
            }
            got
        });
    }
    until_connections(&server, LISTENERS as u64).await;
    nginx.publish(&json!({"room": "a", "data": "before"})).await;
    let at_least = async |what: &str, count: &AtomicUsize, least: usize| {
        until(what, async || {
            let found = count.load(Ordering::Relaxed);
            if found >= least { Ok(()) } else { Err(found) }
        })
        .await;
    };
    at_least("the first event", &heard, 2 * LISTENERS).await;
    server.kill().await;
    at_least("the news that nobody is there", &turned_away, LISTENERS).await;
    let (server, _) = engine(&folder, &[]).await;
    until_connections(&server, LISTENERS as u64).await;
    nginx.publish(&json!({"room": "a", "data": "after"})).await;
    for got in patiently("everyone", listeners.join_all()).await {
        let kinds: Vec<&str> = got.iter().map(|message| message.kind.as_str()).collect();
        assert_eq!(kinds, ["connected", "message", "connected", "gap", "message"], "{got:?}");
        assert_eq!(got[1], message("before"));
        let gap: Value = serde_json::from_str(&got[3].data).expect("JSON");
        assert_eq!(gap["reason"], "restart");
    }
}

/// A poll that got the answer for browsers had an answer without an id, and lost its place.
#[tokio::test]
async fn a_poll_of_an_engine_that_is_away_is_told_by_a_status() {
    let Some((_folder, server, nginx)) = behind_nginx(&[]).await else { return };
    server.kill().await;
    let ask =
        async |query: &str| nginx.ask(INSIDE, "GET", &format!("{BASE}/stream/a/u{query}"), "", "").await;
    let (status, text) = ask("?poll=25").await;
    assert!(status == 503 && !text.contains("overload"), "{text}");
    let (status, text) = ask("").await;
    assert!(status == 200 && text.contains("event: overload"), "{text}");
}
