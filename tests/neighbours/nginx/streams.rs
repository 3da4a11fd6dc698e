//! Streams through nginx: events leave at once, unchanged, to as many as subscribe.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{
    BASE, INSIDE, Nginx, Upstream, behind_nginx, connections, engine, message, patiently, until_connections,
};
use crate::common::eventsource::{client_address, connect};
use crate::common::neighbours::{Folder, find};

#[tokio::test]
async fn each_event_is_there_before_the_next_is_published() {
    let Some(program) = find("nginx") else { return };
    let folders = [Folder::new(), Folder::new()];
    for (folder, over_unix) in folders.iter().zip([true, false]) {
        let (server, path) = engine(folder, &[]).await;
        let upstream = if over_unix { Upstream::Unix(&path) } else { Upstream::Tcp(server.address) };
        let nginx = Nginx::start(&program, folder, &upstream).await;
        let mut listener = nginx.listener(0, "/stream/a/u");
        patiently("connected", listener.message_of("connected")).await;
        for n in 0..50 {
            nginx.publish(&json!({"room": "a", "data": n})).await;
            assert_eq!(patiently("the event", listener.message()).await, message(&n.to_string()));
        }
        assert_eq!(listener.opened, 1);
    }
}

#[tokio::test]
async fn lines_go_out_as_they_arrive() {
    let Some((_folder, _server, nginx)) = behind_nginx(&[]).await else { return };
    let mut listener = nginx.listener(0, "/stream/a/u");
    patiently("connected", listener.message_of("connected")).await;
    let mut publisher = connect(INSIDE, nginx.address).await.expect("nginx listens");
    let head = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close";
    let head = format!("POST {BASE}/publish HTTP/1.1\r\nhost: tests\r\n{head}\r\n\r\n");
    publisher.write_all(head.as_bytes()).await.expect("nginx reads");
    for n in 0..20 {
        let line = format!("{}\n", json!({"room": "a", "data": n}));
        publisher.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.expect("nginx reads");
        assert_eq!(patiently("the line", listener.message()).await, message(&n.to_string()));
    }
    publisher.write_all(b"0\r\n\r\n").await.expect("nginx reads");
    let mut answer = String::new();
    publisher.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""published":20"#), "{answer}");
}

#[tokio::test]
async fn only_the_engine_compresses() {
    let Some(program) = find("nginx") else { return };
    for (gzip, encoding) in [("on", Some("content-encoding: gzip")), ("off", None)] {
        let folder = Folder::new();
        let (server, path) = engine(&folder, &[("GZIP", gzip)]).await;
        let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
        let head = stream_head(&nginx).await;
        assert_eq!(head.contains("content-encoding"), encoding.is_some(), "{head}");
        assert!(encoding.is_none_or(|line| head.contains(line)), "{head}");
        // The answer that nginx gives in the engine's place must not be compressed further on either.
        server.kill().await;
        stream_head(&nginx).await;
    }
}

/// Returns the head of a stream through `nginx`, which proxies further on must leave alone.
async fn stream_head(nginx: &Nginx) -> String {
    let mut socket = connect(client_address(0), nginx.address).await.expect("nginx listens");
    let request = format!("GET {BASE}/stream/a/u HTTP/1.1\r\nhost: tests\r\naccept-encoding: gzip\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("nginx reads");
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        head.push(patiently("the head", socket.read_u8()).await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("ASCII").to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("\r\ncache-control: no-store, no-transform\r\n"), "{head}");
    head
}

/// With a path of its own, `proxy_pass` would decode it, and the comma would divide.
#[tokio::test]
async fn a_comma_inside_a_name_arrives_as_it_was_sent() {
    let Some((_folder, _server, nginx)) = behind_nginx(&[]).await else { return };
    let mut listener = nginx.listener(0, "/stream/a%2Cb,c");
    patiently("connected", listener.message_of("connected")).await;
    for room in ["a", "b", "a,b", "c"] {
        nginx.publish(&json!({"room": room, "data": room})).await;
    }
    for room in ["a,b", "c"] {
        assert_eq!(patiently("the event", listener.message()).await, message(room));
    }
}

#[tokio::test]
async fn a_listener_who_leaves_is_noticed_before_a_heartbeat() {
    // Ten times the patience of this test: meanwhile there is no write that could fail.
    let Some((_folder, server, nginx)) = behind_nginx(&[("HEARTBEAT", "10m")]).await else { return };
    let mut listeners: Vec<_> = (0..40).map(|n| nginx.listener(n, &format!("/stream/a/u{n}"))).collect();
    for listener in &mut listeners {
        patiently("connected", listener.message_of("connected")).await;
    }
    assert_eq!(connections(&server).await, 40);
    listeners.truncate(15);
    until_connections(&server, 15).await;
    drop(listeners);
    until_connections(&server, 0).await;
}

#[tokio::test]
async fn ten_thousand_listen_over_one_unix_socket() {
    const LISTENERS: usize = 10_000;
    /// Clients that connect at once. The queue of a Unix socket takes 4,096 at most, fewer on some machines.
    const ARRIVALS: usize = 128;

    let Some(program) = find("nginx") else { return };
    let open_files = rlimit::increase_nofile_limit(20_000).expect("a limit");
    assert!(open_files >= 11_000, "this test needs 11,000 descriptors, ulimit -Hn is {open_files}");
    let folder = Folder::new();
    let (server, path) = engine(&folder, &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Unix(&path)).await;
    let arrivals = Arc::new(Semaphore::new(ARRIVALS));
    let mut listeners = JoinSet::new();
    for n in 0..LISTENERS {
        let (mut listener, arrivals) = (nginx.listener(n, &format!("/stream/tide/u{n}")), arrivals.clone());
        listeners.spawn(async move {
            let arrival = arrivals.acquire_owned().await.expect("never closed");
            listener.message_of("connected").await;
            drop(arrival);
            let got = [listener.message().await, listener.message().await];
            (got, listener.opened)
        });
    }
    until_connections(&server, LISTENERS as u64).await;
    for data in ["high", "low"] {
        let answer = server.publish(json!({"room": "tide", "data": data})).await;
        assert_eq!(answer["subscribers"], LISTENERS);
    }
    let all = patiently("everyone", listeners.join_all()).await;
    assert_eq!(all.len(), LISTENERS);
    for (got, opened) in all {
        assert_eq!(got, [message("high"), message("low")]);
        assert_eq!(opened, 1, "nobody was turned away");
    }
}
