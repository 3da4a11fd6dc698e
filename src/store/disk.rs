//! The order on disk: opened before anything listens, and written by a thread of its own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::order::change::Change;
use crate::order::disk::committer::{Committer, DiskStats};
use crate::order::disk::kept::Kept;
use crate::order::disk::log::{DiskLog, LogBounds};
use crate::order::disk::record::Batch;
use crate::order::disk::scan::{Scan, ScanError};
use crate::order::entry::DecodeError;
use crate::order::memory::MemoryOrder;
use crate::order::proposals::Proposals;
use crate::store::folder::Segments;
use crate::types::clock::{Clock, since_1970};
use crate::types::moment::Moment;
use crate::types::position::{Epoch, Offset};

/// Bytes of a segment.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// Why an order on disk cannot be used.
#[derive(Debug)]
pub struct OpenError {
    /// The folder.
    pub path: PathBuf,
    /// What happened.
    pub why: OpenWhy,
}

/// What happened.
#[derive(Debug)]
pub enum OpenWhy {
    /// The file system.
    Io(io::Error),
    /// What is there cannot be read.
    Scan(ScanError),
    /// A batch cannot be read, although it is whole.
    Batch(Offset, DecodeError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order=\"disk:{}\": ", self.path.display())?;
        match &self.why {
            OpenWhy::Io(err) if err.kind() == io::ErrorKind::ResourceBusy => {
                f.write_str("another process uses this folder")
            }
            OpenWhy::Io(_) => f.write_str("wanted a folder that can be written"),
            OpenWhy::Scan(err) => err.fmt(f),
            OpenWhy::Batch(first, err) => write!(f, "the batch at position {first} is {err}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.why {
            OpenWhy::Io(err) => Some(err),
            OpenWhy::Scan(err) => err.source(),
            OpenWhy::Batch(..) => None,
        }
    }
}

/// An order that was read from disk, before it takes anything. If it is dropped before it starts, nothing was given out, and
/// that is a clean end.
pub struct Opened {
    /// Where to propose.
    pub proposals: Arc<Proposals>,
    /// Its counters.
    pub stats: Arc<DiskStats>,
    /// The changes that are in force, and until when, in seconds since 1970.
    pub changes: Vec<(Change, u64)>,
    /// There until the thread has it.
    committer: Option<Committer<Segments>>,
    clock: Clock,
}

/// The thread that writes.
pub struct Running {
    proposals: Arc<Proposals>,
    thread: JoinHandle<io::Result<()>>,
}

/// Opens the order in the folder at `path`, and applies what is in it to the hub of `order`. Nothing is published yet. The
/// folder will hold at most `bytes_max`, unless one publish alone is larger than a segment.
///
/// # Errors
///
/// If the folder cannot be used, or holds what this program cannot read. Damage is no error: it is logged, and readers are
/// told.
pub fn open(
    path: &Path,
    bytes_max: u64,
    age_max: Duration,
    order: &MemoryOrder,
    clock: Clock,
    epoch: Epoch,
) -> Result<Opened, OpenError> {
    let failed = |why| OpenError { path: path.to_owned(), why };
    let io = |err| failed(OpenWhy::Io(err));
    let folder = Segments::open(path).map_err(io)?;
    let scan = Scan::of(&folder).map_err(|err| failed(OpenWhy::Scan(err)))?;
    let mut kept = Kept::default();
    restore(&folder, &scan, order, clock, &mut kept).map_err(failed)?;
    // One segment is allocated ahead, and one is begun before the oldest is removed.
    let bytes_max = bytes_max.saturating_sub(2 * SEGMENT_BYTES);
    let bounds = LogBounds { segment_bytes: SEGMENT_BYTES, bytes_max, age_max };
    let log = DiskLog::open(folder, &scan, bounds, epoch).map_err(io)?;
    order.hub().go_on(log.lineage().clone());
    order.hub().skip_to(log.next() - 1);
    report(path, &scan, &log);
    let (proposals, stats) = (Arc::<Proposals>::default(), Arc::<DiskStats>::default());
    let changes = kept.in_force(since_1970().as_secs());
    let committer = Committer::new(order.clone(), proposals.clone(), log, kept, stats.clone());
    Ok(Opened { proposals, stats, changes, committer: Some(committer), clock })
}

/// Applies all batches again.
fn restore(
    folder: &Segments,
    scan: &Scan,
    order: &MemoryOrder,
    clock: Clock,
    kept: &mut Kept,
) -> Result<(), OpenWhy> {
    if let Some(lineage) = &scan.lineage {
        order.hub().start_after(scan.floor, lineage.clone());
    }
    let (now, unix_us) = now(clock);
    let mut result = Ok(());
    let visited = scan.visit(folder, |batch: &Batch<'_>| {
        if result.is_err() {
            return;
        }
        let age = Duration::from_micros(unix_us.saturating_sub(batch.unix_us));
        match order.restore(batch.first, batch.body, now.before(age), batch.first <= scan.floor) {
            Ok(changes) => {
                for (change, until, at) in changes {
                    kept.put(&change, until, at, unix_us / 1_000_000);
                }
            }
            Err(err) => result = Err(OpenWhy::Batch(batch.first, err)),
        }
    });
    visited.map_err(OpenWhy::Io)?;
    result
}

fn report(path: &Path, scan: &Scan, log: &DiskLog<Segments>) {
    for damage in &scan.damage {
        tracing::warn!(
            segment = damage.segment,
            at = damage.at,
            inside = damage.is_inside,
            "a record of the order cannot be read"
        );
    }
    tracing::info!(
        path = %path.display(),
        segments = scan.segments.len(),
        bytes = log.bytes(),
        floor = scan.floor,
        newest = scan.newest,
        epoch = log.lineage().epoch().as_str(),
        clean = scan.is_clean || scan.lineage.is_none(),
        "the order goes on from disk"
    );
}

/// Now, and the microseconds since 1970.
fn now(clock: Clock) -> (Moment, u64) {
    (clock.now(), u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX))
}

impl Opened {
    /// Starts the thread that writes; whether it answers before it has written.
    ///
    /// # Errors
    ///
    /// If the operating system makes no thread.
    ///
    /// # Panics
    ///
    /// Never: only this takes the committer, and the value with it.
    pub fn start(mut self, answers_first: bool) -> io::Result<Running> {
        let (proposals, clock) = (self.proposals.clone(), self.clock);
        let committer = self.committer.take().expect("taken here only");
        let mut committer = committer.answering_first(answers_first);
        let thread = std::thread::Builder::new().name("order".into());
        let thread = thread.spawn(move || {
            while committer.step(|| now(clock)) {}
            committer.close(|| now(clock))
        })?;
        Ok(Running { proposals, thread })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(committer) = self.committer.take() {
            // If it fails, the next start begins a new term.
            let clock = self.clock;
            let _ = committer.close(|| now(clock));
        }
    }
}

impl Running {
    /// Commits what was proposed, marks a clean end, and ends the thread.
    ///
    /// # Errors
    ///
    /// Of the file system. The next start begins a new term then.
    pub fn end(self) -> io::Result<()> {
        self.proposals.close();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the order's thread panicked")))
    }
}
