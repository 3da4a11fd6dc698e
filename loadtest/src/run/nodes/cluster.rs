//! Nodes and two servers of Redis, and what is done to them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use super::PATIENCE;
use super::fault::Fault;
use super::node::Node;
use super::redis::{RedisServer, Value, copy, lead, sleep_ms};
use crate::client::herd::Herd;
use crate::client::order::book::{Book, Logged};
use crate::client::order::terms::{Excuse, Terms};
use crate::number::Random;
use crate::plan::scenario::{Scenario, Settings};
use crate::plan::source::Source;
use crate::target::server::Target;

/// Everything that can go wrong.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    servers: [RedisServer; 2],
    /// Which server counts.
    master: usize,
    /// By which the nodes find it.
    route: PathBuf,
    folder: TempDir,
    /// What the faults since the last look may have lost.
    excuse: Excuse,
    pub(super) terms: Terms,
    pub(super) book: Book,
}

impl Cluster {
    /// Starts all, and waits until every node listens.
    pub(super) fn start(
        program: &Path,
        args: &[String],
        nodes: u32,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::Builder::new().prefix("tidegate-nodes-").tempdir()?;
        let route = folder.path().join("route.sock");
        let mut servers =
            [RedisServer::new(folder.path().join("0"))?, RedisServer::new(folder.path().join("1"))?];
        servers[0].start()?;
        lead(&route, &servers[0].socket())?;
        let mut all = Vec::new();
        for _ in 0..nodes {
            let mut node = Node::new(program, args, &route)?;
            node.start()?;
            all.push(node);
        }
        let (excuse, terms, book) = (Excuse::default(), Terms::default(), Book::default());
        let mut cluster = Self { nodes: all, servers, master: 0, route, folder, excuse, terms, book };
        cluster.wait_listening()?;
        Ok(cluster)
    }

    fn wait_listening(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let deadline = Instant::now() + PATIENCE;
        for node in &mut self.nodes {
            while std::net::TcpStream::connect(node.addr()).is_err() {
                if let Some(obituary) = node.obituary()? {
                    return Err(obituary.into());
                }
                if Instant::now() > deadline {
                    return Err(format!("a node does not listen: {}", node.log()).into());
                }
                sleep_ms(5);
            }
        }
        Ok(())
    }

    /// Its nodes, for those who publish.
    pub(super) fn targets(
        &self,
        settings: &Settings,
    ) -> Result<Vec<Arc<Target>>, Box<dyn std::error::Error>> {
        let target = |node: &Node| {
            let url = format!("http://{}/api/v1/sse", node.addr());
            let running = Source::Running { url, pid: None, admin: None, credentials: None };
            Ok(Arc::new(Target::start(&running, Scenario::Nodes, settings)?))
        };
        self.nodes.iter().map(target).collect()
    }

    /// Starts the subscribers.
    pub(super) fn listen(&self, listeners: usize) -> io::Result<Herd> {
        let addrs: Vec<_> = self.nodes.iter().map(Node::addr).collect();
        Herd::start(&addrs, super::ROOM, listeners)
    }

    /// How a node ended by itself, if one did.
    pub(super) fn obituary(&mut self) -> io::Result<Option<String>> {
        for node in &mut self.nodes {
            if let Some(obituary) = node.obituary()? {
                return Ok(Some(obituary));
            }
        }
        Ok(None)
    }

    /// What the nodes logged last.
    pub(super) fn logs(&self) -> String {
        self.nodes.iter().map(Node::log).collect::<Vec<_>>().join("\n")
    }

    /// `fault` happens, and is over: everything runs again.
    pub(super) fn strike(
        &mut self,
        fault: Fault,
        random: &mut Random,
        herd: &Herd,
        streams: u64,
    ) -> io::Result<()> {
        let Excuse { tail, all } = fault.excuse();
        self.excuse = Excuse { tail: tail | self.excuse.tail, all: all | self.excuse.all };
        let at = usize::try_from(random.below(self.nodes.len() as u64)).unwrap_or(0);
        match fault {
            Fault::NodeKilled => self.restart_node(at, Signal::KILL, random.below(150)),
            Fault::NodeEnded => self.restart_node(at, Signal::TERM, random.below(50)),
            Fault::NodeStopped => {
                self.nodes[at].signal(Signal::STOP)?;
                sleep_ms(long(random));
                self.nodes[at].signal(Signal::CONT)
            }
            Fault::StreamsCut => {
                herd.cut(usize::try_from(random.below(streams)).unwrap_or(0));
                Ok(())
            }
            _ => self.strike_redis(fault, random),
        }
    }

    fn restart_node(&mut self, at: usize, signal: Signal, away_ms: u64) -> io::Result<()> {
        self.nodes[at].signal(signal)?;
        self.nodes[at].wait()?;
        sleep_ms(away_ms);
        self.nodes[at].start()
    }

    fn strike_redis(&mut self, fault: Fault, random: &mut Random) -> io::Result<()> {
        let away_ms = random.below(100);
        let server = &mut self.servers[self.master];
        match fault {
            Fault::RedisStopped => {
                server.signal(Signal::STOP)?;
                sleep_ms(long(random));
                server.signal(Signal::CONT)
            }
            Fault::RedisSleeps => {
                let seconds = format!("{}.{:03}", long(random) / 1_000, random.below(1_000));
                server.ask(&["DEBUG", "SLEEP", &seconds]).map(drop)
            }
            Fault::ConnectionsCut => server.ask(&["CLIENT", "KILL", "TYPE", "normal"]).map(drop),
            Fault::BuffersLimited => {
                server.ask(&["CONFIG", "SET", "client-output-buffer-limit", "normal 2048 0 0"])?;
                sleep_ms(100 + away_ms);
                server.ask(&["CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"]).map(drop)
            }
            Fault::RedisFlushed => {
                let terms = server.ask(&["EVAL", FLUSH, "1", META])?;
                self.lose(&terms)
            }
            Fault::RedisEmpty => self.empty(away_ms),
            Fault::ReplicaPromoted => self.promote(random),
            Fault::RedisStale => self.go_back(random),
            _ => {
                server.kill()?;
                sleep_ms(away_ms);
                server.start()
            }
        }
    }

    /// Terms of which nobody else will know are about to be lost. There may be none.
    fn lose(&mut self, terms: &Value) -> io::Result<()> {
        let Some(text) = terms.text() else { return Ok(()) };
        self.terms.lose(text).ok_or_else(|| io::Error::other("terms that cannot be read"))
    }

    /// Redis was killed. Starts it where no node finds it, to see which terms it had, and kills it again.
    fn look_at_killed(&mut self) -> io::Result<()> {
        lead(&self.route, &self.folder.path().join("nowhere"))?;
        self.servers[self.master].start()?;
        let terms = self.servers[self.master].ask(&["HGET", META, "t"])?;
        self.lose(&terms)?;
        self.servers[self.master].kill()?;
        lead(&self.route, &self.servers[self.master].socket())
    }

    fn empty(&mut self, away_ms: u64) -> io::Result<()> {
        self.servers[self.master].kill()?;
        self.look_at_killed()?;
        self.servers[self.master].forget()?;
        sleep_ms(away_ms);
        self.servers[self.master].start()
    }

    /// The other server follows, lags, and takes the place of the master, which takes events for a moment longer.
    fn promote(&mut self, random: &mut Random) -> io::Result<()> {
        let next = 1 - self.master;
        self.servers[next].forget()?;
        self.servers[next].start()?;
        self.servers[next].replicate(&self.servers[self.master])?;
        sleep_ms(random.below(100));
        if random.below(2) == 0 {
            // A stopped replica would have the rest in its socket.
            self.servers[next].ask(&["REPLICAOF", "127.0.0.1", "1"])?;
            sleep_ms(random.below(300));
        }
        lead(&self.route, &self.servers[next].socket())?;
        self.servers[next].ask(&["REPLICAOF", "NO", "ONE"])?;
        sleep_ms(random.below(100));
        let terms = self.servers[self.master].ask(&["HGET", META, "t"])?;
        self.lose(&terms)?;
        self.servers[self.master].kill()?;
        self.master = next;
        Ok(())
    }

    /// What Redis kept is exchanged for what it had kept a moment before.
    fn go_back(&mut self, random: &mut Random) -> io::Result<()> {
        let before = self.folder.path().join("before");
        copy(&self.servers[self.master].kept(), &before)?;
        sleep_ms(random.below(300));
        self.servers[self.master].kill()?;
        self.look_at_killed()?;
        let server = &mut self.servers[self.master];
        server.forget()?;
        fs::rename(before, server.kept())?;
        server.start()
    }

    /// Looks which terms there are, and reads what is new in the log.
    pub(super) fn look(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let server = &self.servers[self.master];
        let terms = server.ask(&["HGET", META, "t"])?;
        let terms = terms.text().ok_or("Redis has no order")?;
        let is_new =
            self.terms.read(terms, std::mem::take(&mut self.excuse)).ok_or("terms that cannot be read")?;
        if is_new {
            self.book.begin_again();
        }
        loop {
            let page = server.ask(&["XRANGE", LOG, &self.book.read_from(), "+", "COUNT", "1000"])?;
            for entry in page.list() {
                self.book.take(&logged(entry.list()).ok_or("an entry that cannot be read")?)?;
            }
            if page.list().is_empty() {
                return Ok(());
            }
        }
    }

    /// The id of the newest event.
    pub(super) fn newest(&self) -> Result<String, Box<dyn std::error::Error>> {
        let newest = self.servers[self.master].ask(&["HGET", META, "n"])?;
        let epoch = self.terms.newest().ok_or("Redis has no order")?;
        Ok(format!("{epoch}-{}", newest.text().ok_or("Redis has no order")?))
    }
}

/// One entry as `XRANGE` shows it.
fn logged(entry: &[Value]) -> Option<Logged> {
    let [id, fields] = entry else { return None };
    let mut logged = Logged { id: id.text()?.to_owned(), ..Logged::default() };
    for pair in fields.list().chunks(2) {
        let [name, value] = pair else { return None };
        match (name.text()?, value) {
            ("g", value) => value.text()?.clone_into(&mut logged.tag),
            ("c", value) => logged.counts = Some(value.text()?.to_owned()),
            ("b", Value::Text(body)) => logged.body.clone_from(body),
            _ => {}
        }
    }
    Some(logged)
}

/// From a tenth of a second to more than it takes to be late, and rarely to be lost.
fn long(random: &mut Random) -> u64 {
    match random.below(20) {
        0 => 3_000 + random.below(1_500),
        1..=4 => 1_000 + random.below(1_500),
        _ => 100 + random.below(600),
    }
}

/// Says which terms there were, at the moment in which they go.
const FLUSH: &str = "local terms = redis.call('HGET', KEYS[1], 't') redis.call('FLUSHALL') return terms";
const META: &str = "{tidegate}:meta";
const LOG: &str = "{tidegate}:log";
