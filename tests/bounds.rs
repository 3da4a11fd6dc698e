//! Promise: the bytes that a stranger's requests occupy are bounded. The program runs in a control group, as in a
//! container, with its default settings. Each attack once had it killed for want of memory, or took ten times what the
//! settings say. Beside it, 300 well-behaved subscribers get every event, and afterwards the memory returns to its
//! former size.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::conn::{Conn, request};
use common::control_group::ControlGroup;
use common::process::{FREE_PORTS, Process};
use common::stream::Listener;
use common::{BASE, eventually};
use serde_json::{Value, json};

const GOOD_LISTENERS: usize = 300;

/// The control groups of the tests: a small container and a usual one.
const GROUPS: [u64; 2] = [384 << 20, 1 << 30];

/// A server in a control group, and its well-behaved subscribers.
struct Scene {
    group: ControlGroup,
    process: Process,
    good: Vec<Listener>,
    /// Resident memory before the attack.
    calm: f64,
}

impl Scene {
    /// `None` where control groups cannot be made, which only a developer's machine may be.
    fn new(bytes_max: u64, args: &[&str]) -> Option<Self> {
        let Some(group) = ControlGroup::new(bytes_max) else {
            assert!(std::env::var_os("CI").is_none(), "control groups are needed");
            eprintln!("skipped: no control group can be made here");
            return None;
        };
        let process = Process::spawn(&mut group.command(&[&FREE_PORTS, args].concat()));
        let listen = |n| Listener::open(Conn::tcp(process.addr), &format!("/stream/good/u{n}"), &[]);
        let good = (0..GOOD_LISTENERS).map(listen).collect();
        let calm = process.metrics().get("process_resident_memory_bytes");
        Some(Self { group, process, good, calm })
    }

    /// Runs `attack` while events are published one after the other and every well-behaved subscriber reads each of
    /// them. The value it returns stays open until the checks are done.
    fn survive<T: Send>(&mut self, attack: impl FnOnce(SocketAddr) -> T + Send) {
        let addr = self.process.addr;
        let (mut rounds, mut worst) = (0, Duration::ZERO);
        let open = std::thread::scope(|scope| {
            let attacking = scope.spawn(|| attack(addr));
            while !attacking.is_finished() {
                worst = worst.max(round(addr, &mut self.good, rounds));
                rounds += 1;
            }
            attacking.join().expect("the attack is ours")
        });
        round(addr, &mut self.good, rounds);
        assert_eq!(self.group.kills(), 0, "{}", self.process.printed());
        let peak = self.process.metrics().get("process_resident_memory_bytes") / MIB;
        println!(
            "{rounds} good events beside the attack, each at {GOOD_LISTENERS} listeners after {worst:?} at most; {peak:.0} MiB"
        );
        drop(open);
    }

    /// Does the same, and checks that the memory returns to its former size.
    fn recover<T: Send>(&mut self, attack: impl FnOnce(SocketAddr) -> T + Send) {
        self.survive(attack);
        self.assert_memory_comes_back();
    }

    /// Checks that memory is at most 1.3 times what is held, plus what the allocator keeps for each thread.
    fn assert_memory_comes_back(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let metrics = self.process.metrics();
            let held = self.calm + metrics.get("tidegate_history_bytes");
            let resident = metrics.get("process_resident_memory_bytes");
            if resident <= held * 1.3 + ALLOCATOR_BYTES {
                println!("{:.0} MiB resident for {:.0} MiB held", resident / MIB, held / MIB);
                return;
            }
            assert!(Instant::now() < deadline, "{resident} bytes resident for {held} held");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

const MIB: f64 = 1_048_576.0;

const ALLOCATOR_BYTES: f64 = 4.0 * MIB;

/// Publishes event `n`, and returns the time until each of `good` has it.
fn round(addr: SocketAddr, good: &mut [Listener], n: u64) -> Duration {
    let event = json!({"room": "good", "data": n}).to_string();
    eventually("a publish is taken", || publish(addr, &event) == 200);
    let published = Instant::now();
    for listener in good {
        assert_eq!(listener.data(), n.to_string());
    }
    published.elapsed()
}

fn publish(addr: SocketAddr, body: &str) -> u16 {
    Conn::tcp(addr).round(&request("POST", &format!("{BASE}/publish"), &[], body.as_bytes())).status()
}

/// Three events of a character that takes six bytes in JSON, and 512 clients that ask for them and do not read: 43 KB
/// of requests held 994 MiB.
#[test]
fn pages_that_nobody_reads() {
    for bytes_max in GROUPS {
        let Some(mut scene) = Scene::new(bytes_max, &[]) else { return };
        for _ in 0..3 {
            let event = json!({"room": "r", "data": "\u{1}".repeat(174_000)}).to_string();
            assert_eq!(publish(scene.process.addr, &event), 200);
        }
        let ask = request("GET", &format!("{BASE}/rooms/r/history?limit=1000"), &[], b"");
        scene.recover(|addr| -> Vec<Conn> {
            let stuck = |_| {
                let mut conn = Conn::tcp_with_small_buffer(addr);
                conn.send(&ask);
                conn
            };
            (0..512).map(stuck).collect()
        });
        assert!(scene.process.metrics().refused("buffers") >= 1.0);
    }
}

/// 447 bodies of a mebibyte, without their last byte.
#[test]
fn bodies_that_never_end() {
    for bytes_max in GROUPS {
        let Some(mut scene) = Scene::new(bytes_max, &[]) else { return };
        let body = json!({"room": "r", "data": "x".repeat((1 << 20) - 64)}).to_string();
        let whole = request("POST", &format!("{BASE}/publish"), &[], body.as_bytes());
        scene.recover(|addr| -> Vec<Conn> {
            let unfinished = |_| {
                let mut conn = Conn::tcp(addr);
                // The server refuses most of them in the middle.
                let _ = conn.try_send(&whole[..whole.len() - 1]);
                conn
            };
            (0..447).map(unfinished).collect()
        });
        assert!(scene.process.metrics().refused("buffers") >= 1.0);
    }
}

/// Lines that never end, behind one that does.
#[test]
fn lines_that_never_end() {
    let Some(mut scene) = Scene::new(GROUPS[0], &[]) else { return };
    let first = json!({"room": "r", "data": 1}).to_string() + "\n";
    let head = "content-type: application/x-ndjson\r\ncontent-length: 10000000";
    let head = format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
    scene.recover(|addr| -> Vec<Conn> {
        let unfinished = |_| {
            let mut conn = Conn::tcp(addr);
            let _ = conn.try_send(head.as_bytes());
            let _ = conn.try_send(first.as_bytes());
            let _ = conn.try_send("x".repeat(300_000).as_bytes());
            conn
        };
        (0..400).map(unfinished).collect()
    });
}

/// Publishes `count` events made by `event`, from two publishers, in batches.
fn flood(addr: SocketAddr, count: usize, event: impl Fn(usize) -> Value + Sync) {
    std::thread::scope(|scope| {
        for publisher in 0..2 {
            let event = &event;
            scope.spawn(move || {
                for batch in (publisher * BATCH..count).step_by(2 * BATCH) {
                    let events: Vec<Value> = (batch..batch + BATCH).map(event).collect();
                    let status = publish(addr, &Value::from(events).to_string());
                    assert!(status == 200 || status == 503, "{status}");
                }
            });
        }
    });
}

const BATCH: usize = 4096;

/// Each event to a new room, or to a new user: 384 MiB in about a second, 2.7 GiB where there was room, and 1.2 GiB
/// stayed.
#[test]
fn names_of_rooms_and_users_without_end() {
    for (bytes_max, count) in GROUPS.into_iter().zip([1_000_000, 2_000_000]) {
        let Some(mut scene) = Scene::new(bytes_max, &[]) else { return };
        scene.recover(|addr| {
            flood(addr, count, |n| match n % 2 {
                0 => json!({"room": format!("room {n}"), "data": n}),
                _ => json!({"user": format!("user {n}"), "data": n}),
            });
        });
    }
}

/// Each event excludes a user that has no stream.
#[test]
fn names_of_excluded_users_without_end() {
    let Some(mut scene) = Scene::new(GROUPS[0], &["--history-events=1000000", "--history-bytes=128MiB"])
    else {
        return;
    };
    let long = "x".repeat(110);
    scene.recover(|addr| {
        flood(addr, 800_000, |n| json!({"room": "r", "exclude": format!("{long}{n}"), "data": n}));
    });
}

/// Streams begin in 64 new rooms each, for a new user, and end.
#[test]
fn names_of_streams_that_come_and_go() {
    let Some(mut scene) = Scene::new(GROUPS[0], &[]) else { return };
    let long = "x".repeat(100);
    scene.recover(|addr| {
        for n in 0..3000 {
            let rooms: Vec<String> = (0..64).map(|room| format!("&room={long}{n}.{room}")).collect();
            let rooms = rooms.concat();
            drop(Listener::open(Conn::tcp(addr), &format!("/stream?user={long}{n}{rooms}"), &[]));
        }
    });
}

/// Readers stop in the middle of an event, each in another: what each is owed stays in memory after its room has
/// dropped it. What they free lies between events that are held, so the process stays larger; but the last memory level
/// drops history, and publishes are accepted again.
#[test]
fn readers_that_are_stuck_in_an_event_each() {
    let Some(mut scene) = Scene::new(GROUPS[0], &["--max-unsent-age=1h"]) else { return };
    let data = "x".repeat(200_000);
    scene.survive(|addr| -> Vec<Conn> {
        let stuck = |n| {
            let mut conn = Conn::tcp_with_small_buffer(addr);
            // Refused once memory runs short.
            conn.send(request("GET", &format!("{BASE}/stream?room=stuck{n}"), &[], b""));
            let _ = conn.take_until(b"\r\n\r\n");
            for _ in 0..2 {
                let status = publish(addr, &json!({"room": format!("stuck{n}"), "data": data}).to_string());
                assert!(status == 200 || status == 503, "{status}");
            }
            conn
        };
        (0..2000).map(stuck).collect()
    });
}
