//! Writes a copy of an order to a Redis that has none. For a subcommand, which waits for each step.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::order::change::Change;
use crate::order::entry;
use crate::order::redis::call::{AppendAnswer, AppendCall, AttachAnswer, AttachCall, Batch, Whereabouts};
use crate::order::redis::copy::{Key, Row};
use crate::order::redis::link::Happened;
use crate::order::redis::scripts::{COPY, FORMAT, Keep, Step, Value};
use crate::order::redis::terms;
use crate::types::lineage::Lineage;
use crate::types::position::{Epoch, Offset};
use crate::upstream::redis::address::Address;
use crate::upstream::redis::conn::{NoPair, Pair};

/// The longest that one step may take.
const STEP_WITHIN: Duration = Duration::from_secs(30);

/// Bytes of entries that go together, unless one has more.
const STEP_BYTES: u64 = 256 << 10;

/// Keys that go together.
const STEP_KEYS: usize = 500;

/// Changes that go together.
const STEP_CHANGES: usize = 500;

/// Why there is no copy.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyError {
    /// An order is there already.
    There,
    /// Another copy, or a node, took over.
    Gone,
    /// Redis cannot be reached or used.
    Failed(String),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There => f.write_str("an order is there already, and nothing was changed"),
            Self::Gone => f.write_str("something else writes there: copy again"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CopyError {}

impl From<NoPair> for CopyError {
    fn from(err: NoPair) -> Self {
        match err {
            NoPair::Failed(why) => Self::Failed(why),
            NoPair::Unfit(why) => Self::Failed(format!("a Redis that cannot be used ({why:?})")),
        }
    }
}

impl From<redis::RedisError> for CopyError {
    fn from(err: redis::RedisError) -> Self {
        Self::Failed(err.to_string())
    }
}

/// A Redis that takes a copy.
pub struct Target {
    runtime: Runtime,
    pair: Pair,
    /// The hash of the script.
    sha: String,
    keep: Keep,
    name: String,
    /// Entries that are not written yet, and their bytes.
    rows: Vec<Row>,
    waiting: u64,
    /// Bytes since the last mile, and of all miles.
    bytes: u64,
    held: u64,
    /// When the last mile ended.
    marked_ms: u64,
}

impl Target {
    /// Connects, and makes sure that there is no order. `name` is that of the copy.
    ///
    /// # Errors
    ///
    /// If there is one, or Redis cannot be used.
    pub fn begin(address: &Address, keep: Keep, name: String) -> Result<Self, CopyError> {
        let failed = |err: io::Error| CopyError::Failed(err.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let open = async {
            let mut pair = Pair::open(address, None).await?;
            let sha = pair.load(COPY).await?;
            Ok::<_, CopyError>((pair, sha))
        };
        let opened = runtime.block_on(async { timeout(STEP_WITHIN, open).await });
        let (pair, sha) = opened.map_err(|_| too_late())??;
        let (rows, waiting, bytes, held, marked_ms) = Default::default();
        let mut target = Self { runtime, pair, sha, keep, name, rows, waiting, bytes, held, marked_ms };
        target.step(Step::Begin)?;
        Ok(target)
    }

    /// Writes `rows`, some of them later. They were written first at `time_ms`.
    ///
    /// # Errors
    ///
    /// If they cannot be.
    pub fn add(&mut self, rows: Vec<Row>, time_ms: u64) -> Result<(), CopyError> {
        let bytes: u64 = rows.iter().map(Row::bytes).sum();
        self.rows.extend(rows);
        (self.waiting, self.bytes) = (self.waiting + bytes, self.bytes + bytes);
        if self.waiting >= STEP_BYTES { self.flush(time_ms) } else { Ok(()) }
    }

    fn flush(&mut self, time_ms: u64) -> Result<(), CopyError> {
        let rows = std::mem::take(&mut self.rows);
        let Some(last) = rows.last() else { return Ok(()) };
        let mut mile = String::new();
        if self.bytes >= (1 << 20).min(self.keep.bytes / 16) {
            mile = format!("{} {time_ms} {}", last.offset, self.bytes);
            self.held += std::mem::take(&mut self.bytes);
            self.marked_ms = time_ms;
        }
        self.waiting = 0;
        self.step(Step::Add { mile: &mile, rows: &rows, keys: &[] })
    }

    /// Claims `keys`.
    ///
    /// # Errors
    ///
    /// If they cannot be.
    pub fn claim(&mut self, keys: &[Key]) -> Result<(), CopyError> {
        keys.chunks(STEP_KEYS).try_for_each(|keys| self.step(Step::Add { mile: "", rows: &[], keys }))
    }

    /// Ends the copy at `newest`, whose entry has `tag`, and begins a term behind it: the order on disk may go on, and no id
    /// may mean two events. Offsets up to `given` may have been given out. `changes` are in force.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    pub fn end(
        mut self,
        lineage: &Lineage,
        (newest, tag): (Offset, &str),
        given: Offset,
        time_ms: u64,
        changes: &[(Change, u64)],
    ) -> Result<Lineage, CopyError> {
        self.flush(time_ms)?;
        let marked_ms = if self.marked_ms == 0 { time_ms } else { self.marked_ms };
        self.step(Step::End(&[
            ("e", lineage.epoch().to_string()),
            ("n", newest.to_string()),
            ("t", terms::write(lineage)),
            ("g", tag.to_owned()),
            ("b", self.bytes.to_string()),
            ("k", marked_ms.to_string()),
            ("h", self.held.to_string()),
            // Of no server: whoever attaches first begins a term.
            ("r", "copy".to_owned()),
            ("v", FORMAT.to_owned()),
        ]))?;
        let here = self.attach(given)?;
        self.append(&here, changes)?;
        Ok(here.lineage)
    }

    fn attach(&mut self, given: Offset) -> Result<Whereabouts, CopyError> {
        loop {
            let fresh = Epoch::new(fastrand::u64(..));
            let asked = AttachCall { epoch: None, seen: 0, high: given, given_up: None, fresh };
            let attach = self.pair.clone().attach(&self.keep, &asked);
            let answer = self.runtime.block_on(async { timeout(STEP_WITHIN, attach).await });
            match answer.map_err(|_| too_late())?? {
                Happened::Attached(AttachAnswer::Here(here)) => return Ok(here),
                Happened::Attached(AttachAnswer::Again) => {}
                _ => return Err(CopyError::Gone),
            }
        }
    }

    fn append(&mut self, here: &Whereabouts, changes: &[(Change, u64)]) -> Result<(), CopyError> {
        let mut seen = here.newest;
        for (changes, seq) in changes.chunks(STEP_CHANGES).zip(1..) {
            let (epoch, tag) = (here.lineage.epoch(), format!("{}:a{seq}", self.name));
            let batches = changes.iter().map(of_change).collect();
            let asked = AppendCall { epoch, seen, seq: Some(seq), tag, batches };
            let append = self.pair.clone().append(&self.keep, &self.name, &asked);
            let answer = self.runtime.block_on(async { timeout(STEP_WITHIN, append).await });
            match answer.map_err(|_| too_late())?? {
                Happened::Appended(_, AppendAnswer::Done(newest, _)) => seen = newest,
                _ => return Err(CopyError::Gone),
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step<'_>) -> Result<(), CopyError> {
        let call = self.keep.copy(&self.name, step);
        let run = self.pair.run(&self.sha, COPY, &call);
        let answer = self.runtime.block_on(async { timeout(STEP_WITHIN, run).await });
        match answer.map_err(|_| too_late())?? {
            Value::Bytes(text) if text == "ok" => Ok(()),
            Value::Bytes(text) if text == "there" => Err(CopyError::There),
            _ => Err(CopyError::Gone),
        }
    }
}

fn of_change((change, until): &(Change, u64)) -> Batch {
    let mut body = vec![entry::VERSION];
    entry::put_change(change, *until, &mut body);
    Batch { body: body.into(), count: 1, once: Vec::new() }
}

fn too_late() -> CopyError {
    CopyError::Failed("it does not answer".into())
}
