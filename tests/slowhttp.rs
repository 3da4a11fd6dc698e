//! Promise: an attack with many slow sockets is ended in time, and other clients do not notice it.
//!
//! Debian's `slowhttptest` is the attacker, with more sockets than there are places for requests. `scripts/slow-attack`
//! is the same at full size, with latencies.

mod common;

use common::neighbours;

use std::process::{Child, Command, Stdio};

use common::conn::{Conn, request};
use common::metrics::Metrics;
use common::stream::Listener;
use common::{BASE, eventually};
use neighbours::{Server, find};
use serde_json::json;

/// Attacking sockets: more than the 512 places for requests that a server has at most.
const SOCKETS: u16 = 600;

/// Well-behaved subscribers.
const LISTENERS: u16 = 50;

/// Descriptors that scrapes, publishes and new streams may use at the time of a check.
const PASSING: f64 = 8.0;

/// The attack, which ends when dropped.
struct Attack(Child);

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with well-behaved subscribers, about to be attacked.
struct Scene {
    server: Server,
    listeners: Vec<Listener>,
    events: u32,
    open_files: f64,
}

impl Scene {
    async fn new() -> Self {
        rlimit::increase_nofile_limit(8192).expect("a limit");
        let server = Server::start(&[
            ("ADMIN_LISTEN", "127.0.0.1:0"),
            ("REQUEST_TIMEOUT", "2s"),
            ("MAX_UNSENT_AGE", "2s"),
            ("TCP_USER_TIMEOUT", "4s"),
        ])
        .await;
        let listen = |n| Listener::open(Conn::tcp(server.address), &format!("/stream/a/good{n}"), &[]);
        let listeners = (0..LISTENERS).map(listen).collect();
        let mut scene = Self { server, listeners, events: 0, open_files: 0.0 };
        scene.serve();
        scene.open_files = scene.metrics().get("process_open_fds");
        scene
    }

    fn metrics(&self) -> Metrics {
        Metrics::scrape(self.server.admin.expect("an admin listener"))
    }

    fn publish(&self, room: &str, data: &str) {
        let body = json!({"room": room, "data": data}).to_string();
        let publish = request("POST", &format!("{BASE}/publish"), &[], body.as_bytes());
        assert_eq!(Conn::tcp(self.server.address).round(&publish).status(), 200);
    }

    /// Publishes an event that every subscriber gets, and opens a new stream.
    fn serve(&mut self) {
        let data = format!("event {}", self.events);
        self.publish("a", &data);
        for listener in &mut self.listeners {
            assert_eq!(listener.data(), data);
        }
        self.events += 1;
        Listener::open(Conn::tcp(self.server.address), "/stream/a/newcomer", &[]);
    }

    /// Goes on serving while the attack lasts, until `is_over`.
    fn endure(&mut self, mut attack: Attack, is_over: impl Fn(&Metrics) -> bool) {
        let before = self.metrics().get("tidegate_accepted_total");
        eventually("the attack is on", || {
            self.serve();
            self.metrics().get("tidegate_accepted_total") - before >= f64::from(SOCKETS)
        });
        eventually("the attackers are gone", || {
            self.serve();
            let metrics = self.metrics();
            is_over(&metrics) && metrics.get("process_open_fds") <= self.open_files + PASSING
        });
        // The server ended the attack: the attacker stays as long as it has a socket.
        let ended = attack.0.try_wait().expect("our child");
        assert!(ended.is_none_or(|status| status.success()), "{ended:?}");
        let metrics = self.metrics();
        let client = metrics.closed("client");
        assert!(client <= f64::from(self.events) + 1.0, "{client} left: newcomers, and nobody else");
        eventually("the good ones are there", || {
            self.metrics().is("tidegate_connections", f64::from(LISTENERS))
        });
    }
}

/// Starts `slowhttptest` in `mode` for much longer than the test should take. `None` if it is not installed.
fn attack(scene: &Scene, mode: &str, path: &str, more: &[&str]) -> Option<Attack> {
    let sockets = SOCKETS.to_string();
    let child = Command::new(find("slowhttptest")?)
        .args([mode, "-c", &sockets, "-r", &sockets, "-l", "120", "-p", "10", "-u"])
        .arg(format!("http://{}{BASE}{path}", scene.server.address))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Some(Attack(child.expect("it starts")))
}

#[tokio::test]
async fn slow_heads_are_ended_and_cost_nobody_anything() {
    let mut scene = Scene::new().await;
    let Some(attack) = attack(&scene, "-H", "/info", &["-i", "1"]) else { return };
    scene.endure(attack, |metrics| metrics.refused("bad_request") >= f64::from(SOCKETS));
    assert!(scene.metrics().get("tidegate_requests_shed_total") > 0.0, "there were more than places");
}

#[tokio::test]
async fn slow_bodies_are_ended_and_cost_nobody_anything() {
    let mut scene = Scene::new().await;
    let more = ["-i", "1", "-s", "8192", "-f", "application/json"];
    let Some(attack) = attack(&scene, "-B", "/publish", &more) else { return };
    scene.endure(attack, |metrics| metrics.refused("bad_request") >= f64::from(SOCKETS));
}

#[tokio::test]
async fn slow_readers_are_ended_and_cost_nobody_anything() {
    let mut scene = Scene::new().await;
    for _ in 0..8 {
        scene.publish("slow", &"x".repeat(60_000));
    }
    let more = ["-w", "64", "-y", "256", "-n", "1", "-z", "8"];
    let Some(attack) = attack(&scene, "-X", "/stream?room=slow&history=8", &more) else { return };
    scene.endure(attack, |metrics| metrics.closed("stalled") >= f64::from(SOCKETS));
}
