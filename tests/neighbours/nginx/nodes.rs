//! Several nodes over one Redis behind nginx as shipped: streams are spread over them, and each may restart.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::outside::{SIGNED, authorization};
use super::{BASE, INSIDE, Nginx, RETRY, Upstream, connections, patiently};
use crate::common::eventsource::{Event, EventSource, connect};
use crate::common::neighbours::{Folder, Server, find, until};

const LISTENERS: usize = 5_000;
const ROOMS: usize = 500;
const PUBLISHERS: usize = 5;
const PUBLISHES_PER_S: u32 = 500;

/// Clients that connect at once.
const ARRIVALS: usize = 128;

/// A real Redis on a socket in `folder`. Killed when dropped.
struct Redis(Child);

impl Redis {
    async fn start(program: &Path, folder: &Folder) -> Self {
        let (socket, folder) = (folder.file("redis.sock"), folder.path().display().to_string());
        let child = Command::new(program)
            .args(["--port", "0", "--unixsocket", &socket, "--dir", &folder, "--save", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self(child);
        until("Redis", async || UnixStream::connect(&socket).await.map(drop)).await;
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a node on the Unix socket at `path`, with the settings that the site asks for.
async fn node(folder: &Folder, path: &str, settings: &[(&str, &str)]) -> Server {
    let (listen, order) = (format!("127.0.0.1:0,unix:{path}"), format!("unix:{}", folder.file("redis.sock")));
    let drain = ("DRAIN", "1s");
    let ours = [("LISTEN", &*listen), ("TRUSTED_PROXIES", "unix"), RETRY, drain];
    let over_redis = [("ORDER", &*order), ("REFUSAL", "status")];
    Server::start(&[&ours[..], &over_redis, settings].concat()).await
}

/// Counts that all tasks of a test share.
#[derive(Default)]
struct Tally {
    /// Listeners that had an event, and events of all listeners.
    reached: AtomicUsize,
    heard: AtomicUsize,
    stop: AtomicBool,
}

/// Listens to its room until "end", and checks every step: no attempt fails or is turned away, every end is announced, and
/// numbers come one by one. Returns its room's publisher, and how many there were.
async fn listen(
    number: usize,
    mut source: EventSource,
    arrivals: Arc<Semaphore>,
    tally: Arc<Tally>,
) -> (usize, usize) {
    let mut arrival = Some(arrivals.acquire_owned().await.expect("never closed"));
    let (mut next, mut is_told) = (0, false);
    loop {
        match source.next().await {
            Event::Open => is_told = false,
            Event::End => assert!(is_told, "listener {number}: its stream was cut"),
            Event::Unreached(err) => panic!("listener {number} was refused: {err}"),
            Event::Fatal(head) => panic!("listener {number}: {head}"),
            Event::Message(message) => match message.kind.as_str() {
                "connected" => drop(arrival.take()),
                "closing" => is_told = true,
                "message" if message.data == "end" => return (number % ROOMS % PUBLISHERS, next),
                "message" => {
                    assert_eq!(message.data, next.to_string(), "listener {number}");
                    tally.reached.fetch_add(usize::from(next == 0), Ordering::Relaxed);
                    tally.heard.fetch_add(1, Ordering::Relaxed);
                    next += 1;
                }
                other => panic!("listener {number} was told {other}: {}", message.data),
            },
        }
    }
}

/// Publishes numbers to its rooms by turns, at its share of the rate, over one connection to nginx. Each has to be taken at
/// the first attempt. Returns its number, and how many each of its rooms got before "end".
async fn publish(number: usize, nginx: std::net::SocketAddr, tally: Arc<Tally>) -> (usize, usize) {
    let mut socket = connect(INSIDE, nginx).await.expect("nginx listens");
    let share = u32::try_from(PUBLISHERS).expect("few");
    let mut turns = interval(Duration::from_secs(1) * share / PUBLISHES_PER_S);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for round in 0.. {
        // Whole rounds only, so that all rooms have the same last number.
        let is_last = tally.stop.load(Ordering::Relaxed);
        for room in (number..ROOMS).step_by(PUBLISHERS) {
            turns.tick().await;
            let data = if is_last { json!("end") } else { json!(round) };
            post(&mut socket, &json!({"room": format!("r{room}"), "data": data}).to_string()).await;
        }
        if is_last {
            return (number, round);
        }
    }
    unreachable!("it is told to stop")
}

/// Posts an event and reads the answer, which has to be 200.
async fn post(socket: &mut TcpStream, event: &str) {
    let head =
        format!("POST {BASE}/publish HTTP/1.1\r\nhost: tests\r\ncontent-length: {}\r\n\r\n", event.len());
    socket.write_all(format!("{head}{event}").as_bytes()).await.expect("nginx reads");
    let (mut answer, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let count = patiently("an answer", socket.read(&mut buf)).await.expect("nginx answers");
        assert!(count > 0, "a publish is answered, not dropped");
        answer.extend_from_slice(&buf[..count]);
        let text = std::str::from_utf8(&answer).expect("text");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if length == Some(body.len()) {
            return;
        }
    }
}

/// Waits until the streams of both nodes are `LISTENERS` together.
async fn until_all_are_back(nodes: [&Server; 2]) -> [u64; 2] {
    until("all listeners", async || {
        let found = [connections(nodes[0]).await, connections(nodes[1]).await];
        if found.iter().sum::<u64>() == LISTENERS as u64 { Ok(found) } else { Err(found) }
    })
    .await
}

/// The nodes restart in turn under all their listeners and publishers. Nobody loses, repeats or reorders an event, nobody is
/// told of a gap, and no listener or publisher has an attempt that fails.
#[tokio::test]
async fn each_node_restarts_and_nobody_notices() {
    let (Some(program), Some(redis)) = (find("nginx"), find("redis-server")) else { return };
    let open_files = rlimit::increase_nofile_limit(20_000).expect("a limit");
    assert!(open_files >= 7_000, "this test needs 7,000 descriptors, ulimit -Hn is {open_files}");
    let folder = Folder::new();
    let _redis = Redis::start(&redis, &folder).await;
    let paths = [folder.file("one.sock"), folder.file("other.sock")];
    let mut one = node(&folder, &paths[0], &[]).await;
    let mut other = node(&folder, &paths[1], &[]).await;
    let nginx = Nginx::start(&program, &folder, &Upstream::Nodes([&paths[0], &paths[1]])).await;
    let (tally, arrivals) = (Arc::<Tally>::default(), Arc::new(Semaphore::new(ARRIVALS)));
    let mut listeners = JoinSet::new();
    for n in 0..LISTENERS {
        let source = nginx.listener(n, &format!("/stream/r{}/u{n}", n % ROOMS));
        listeners.spawn(listen(n, source, arrivals.clone(), tally.clone()));
    }
    let spread = until_all_are_back([&one, &other]).await;
    assert!(spread.iter().all(|count| *count > LISTENERS as u64 / 3), "{spread:?}");

    let mut publishers = JoinSet::new();
    for n in 0..PUBLISHERS {
        publishers.spawn(publish(n, nginx.address, tally.clone()));
    }
    let all_have_heard = async |times: usize| {
        until("an event for everyone", async || match tally.heard.load(Ordering::Relaxed) {
            heard if heard >= times * LISTENERS && tally.reached.load(Ordering::Relaxed) == LISTENERS => {
                Ok(())
            }
            heard => Err(heard),
        })
        .await;
    };
    all_have_heard(1).await;
    one.end().await;
    one = node(&folder, &paths[0], &[]).await;
    until_all_are_back([&one, &other]).await;
    other.end().await;
    other = node(&folder, &paths[1], &[]).await;
    until_all_are_back([&one, &other]).await;
    tally.stop.store(true, Ordering::Relaxed);
    let published = patiently("publishers", publishers.join_all()).await;
    let published: HashMap<usize, usize> = published.into_iter().collect();
    assert!(published.len() == PUBLISHERS && published.values().all(|rounds| *rounds > 1), "{published:?}");
    let heard = patiently("everyone", listeners.join_all()).await;
    assert_eq!(heard.len(), LISTENERS);
    for (publisher, count) in heard {
        assert_eq!(count, published[&publisher]);
    }
}

/// A page does not know on which node its stream is.
#[tokio::test]
async fn a_page_refreshes_its_stream_whichever_node_has_it() {
    let (Some(program), Some(redis)) = (find("nginx"), find("redis-server")) else { return };
    let folder = Folder::new();
    let _redis = Redis::start(&redis, &folder).await;
    let paths = [folder.file("one.sock"), folder.file("other.sock")];
    let _nodes = [node(&folder, &paths[0], &[SIGNED]).await, node(&folder, &paths[1], &[SIGNED]).await];
    let nginx = Nginx::start(&program, &folder, &Upstream::Nodes([&paths[0], &paths[1]])).await;
    let bearer = authorization("sse:read");
    let mut listener = nginx.listener(0, "/stream/a/u").header("authorization", &bearer);
    patiently("connected", listener.message_of("connected")).await;
    let known = format!("authorization: {bearer}\r\n");
    // By turns, nginx asks each of them first.
    for _ in 0..4 {
        let (status, text) = nginx.ask(INSIDE, "POST", &format!("{BASE}/refresh"), &known, "").await;
        assert!(status == 200 && text.contains(r#""refreshed":1,"#), "{status} {text}");
    }
}
