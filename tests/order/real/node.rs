//! A node: a link with a follower that remembers what it was told, and checks that it makes sense.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redis::{Value, cmd};
use tidegate::order::redis::call::{Beyond, OnceKey};
use tidegate::order::redis::link::{Adopted, Applied, LinkState, Loss, Placed, Settings};
use tidegate::order::redis::scripts::Keep;
use tidegate::order::redis::terms::follows;
use tidegate::types::position::Offset;
use tidegate::upstream::redis::{Address, AppendError, Appended, Follower, Handle, Running, Setup, start};

use super::server::RedisServer;
use crate::common::eventually;

pub(crate) const PREFIX: &str = "tidegate";

/// What a node has, and what it was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// What it has: the offset of the first event of each batch, the count, and the batch.
    pub(crate) has: Vec<(Offset, u32, String)>,
    /// Offset of the newest event.
    pub(crate) head: Offset,
    /// What was lost, in order; not what was adopted without a loss.
    pub(crate) losses: Vec<Loss>,
    pub(crate) adopted: Vec<Adopted>,
    pub(crate) states: Vec<LinkState>,
}

struct Writer(Arc<Mutex<Book>>);

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower for Writer {
    type Outcome = ();

    fn apply(&mut self, batch: Applied) {
        let mut book = lock(&self.0);
        let lineage = book.adopted.last().expect("adopted before it is applied").lineage.clone();
        assert!(follows(&lineage, book.head, batch.first), "{batch:?} behind {}", book.head);
        book.head = batch.first + u64::from(batch.count) - 1;
        let body = String::from_utf8(batch.body.into()).expect("tests append text");
        book.has.push((batch.first, batch.count, body));
    }

    fn adopt(&mut self, adopted: Adopted) {
        let mut book = lock(&self.0);
        let kept = adopted.shared_to.filter(|shared| *shared == adopted.from);
        book.has.retain(|(first, count, _)| kept.is_some_and(|to| first + u64::from(*count) - 1 <= to));
        book.head = adopted.from;
        if !matches!(adopted.loss, Loss::Start | Loss::Nothing) {
            book.losses.push(adopted.loss);
        }
        book.adopted.push(adopted);
    }

    fn state(&mut self, state: LinkState) {
        lock(&self.0).states.push(state);
    }
}

pub(crate) struct Node {
    pub(crate) handle: Handle<()>,
    book: Arc<Mutex<Book>>,
    running: Option<Running>,
    runtime: tokio::runtime::Runtime,
}

/// An order of 64 MiB.
pub(crate) fn keep() -> Keep {
    Keep { prefix: PREFIX.into(), bytes: 64 << 20, age_ms: 0 }
}

impl Node {
    /// A node that is live.
    pub(crate) fn start(server: &RedisServer) -> Self {
        let node = Self::with(&format!("redis://127.0.0.1:{}", server.port()), keep());
        node.wait_live();
        node
    }

    pub(crate) fn with(url: &str, keep: Keep) -> Self {
        Self::at(Address::parse(url).expect("an address"), keep)
    }

    pub(crate) fn at(address: Address, keep: Keep) -> Self {
        Self::beyond(address, keep, None)
    }

    /// A node whose batches can be confirmed.
    pub(crate) fn beyond(address: Address, keep: Keep, beyond: Option<Beyond>) -> Self {
        let life: String = std::iter::repeat_with(fastrand::alphanumeric).take(10).collect();
        let settings = Settings::new(life.to_lowercase());
        let (unanswered_bytes_max, unanswered_max) = (16 << 20, 1024);
        let stats = Arc::default();
        let setup = Setup { address, keep, settings, beyond, stats, unanswered_bytes_max, unanswered_max };
        let book = Arc::<Mutex<Book>>::default();
        let (handle, running) = start(setup, Writer(book.clone())).expect("a thread");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { handle, book, running: Some(running), runtime }
    }

    pub(crate) fn book(&self) -> Book {
        lock(&self.book).clone()
    }

    pub(crate) fn state(&self) -> Option<LinkState> {
        lock(&self.book).states.last().copied()
    }

    pub(crate) fn wait_live(&self) {
        eventually("the node is live", || self.state() == Some(LinkState::Live));
    }

    pub(crate) fn try_append(
        &self,
        body: &str,
        count: u32,
        once: Vec<OnceKey>,
    ) -> Result<Appended<()>, AppendError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.runtime.block_on(self.handle.append(body, count, once))
    }

    pub(crate) fn confirm(&self) -> bool {
        self.runtime.block_on(self.handle.confirm())
    }

    /// Appends one event. It was applied here when this returns.
    pub(crate) fn append(&self, body: &str) -> Placed {
        match self.try_append(body, 1, Vec::new()) {
            Ok(Appended::Placed(placed, _)) => placed,
            other => panic!("{body}: {other:?}"),
        }
    }

    /// Appends one event as a publisher does that tries again while Redis is away.
    pub(crate) fn append_when_possible(&self, body: &str) {
        eventually("an append", || match self.try_append(body, 1, Vec::new()) {
            Ok(_) => true,
            Err(AppendError::Away) => false,
            Err(other) => panic!("{body}: {other:?}"),
        });
    }

    /// What it has, as text.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.book().has.into_iter().map(|(_, _, body)| body).collect()
    }

    /// Waits until it has exactly these.
    pub(crate) fn wait_for(&self, bodies: &[&str]) {
        eventually(&format!("{bodies:?}"), || self.bodies() == bodies);
    }

    pub(crate) fn losses(&self) -> Vec<Loss> {
        self.book().losses
    }

    pub(crate) fn end(mut self) {
        self.running.take().expect("it runs").end().expect("no panic");
    }
}

/// The log in Redis: offset of the last event of each entry with events, and its bytes.
pub(crate) fn log_of(server: &RedisServer) -> Vec<(Offset, String)> {
    let key = format!("{{{PREFIX}}}:log");
    let found: Vec<(String, Vec<(String, Value)>)> = {
        let raw: Vec<(String, Vec<Value>)> =
            cmd("XRANGE").arg(key).arg("-").arg("+").query(&mut server.connect()).expect("a stream");
        let pairs = |fields: Vec<Value>| {
            fields
                .chunks(2)
                .map(|pair| (redis::from_redis_value(pair[0].clone()).expect("a name"), pair[1].clone()))
                .collect()
        };
        raw.into_iter().map(|(id, fields)| (id, pairs(fields))).collect()
    };
    let mut log = Vec::new();
    for (id, fields) in found {
        let field = |name: &str| {
            let value = fields.iter().find(|(key, _)| key == name)?.1.clone();
            redis::from_redis_value::<String>(value).ok()
        };
        if field("c").is_some_and(|count| count != "0") {
            let offset = id.split('-').next().and_then(|offset| offset.parse().ok());
            log.push((offset.expect("an id"), field("b").expect("a body")));
        }
    }
    log
}

/// Waits until all nodes have what is in the log, at the same places.
pub(crate) fn wait_in_step(server: &RedisServer, nodes: &[&Node]) {
    for node in nodes {
        node.wait_live();
        eventually("the node has what is in the log", || {
            let log = log_of(server);
            let bytes = |book: &Book| book.has.iter().map(|(_, _, body)| body.as_str()).collect::<String>();
            let all: String = log.iter().map(|(_, body)| body.as_str()).collect();
            let book = node.book();
            bytes(&book) == all && log.last().is_none_or(|(last, _)| *last == book.head)
        });
    }
}
