//! The log: commits batches, and removes segments that are too old or too many.
//!
//! A commit is one write and one sync, which many publishes share. After a failed one the segment is never used again: a
//! second fdatasync(2) may succeed although data is lost. The next commit begins a segment, whose header says where the
//! log really ended.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::order::disk::files::Folder;
use crate::order::disk::record::{self, BATCH_BYTES, Batch, HEAD_BYTES, Header};
use crate::order::disk::scan::{Damage, Scan, Scanned};
use crate::types::lineage::Lineage;
use crate::types::position::{Epoch, Offset};

/// Segments that a log has at most. Each start begins one.
pub const SEGMENTS_MAX: usize = 1024;

/// Bytes that are kept free in a segment for the mark of a clean end.
const END_BYTES: u64 = (HEAD_BYTES + 9) as u64;

/// Bounds of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogBounds {
    /// Bytes of a segment. A batch that is larger gets one of its own size.
    pub segment_bytes: u64,
    /// Bytes of all segments, before the oldest is removed.
    pub bytes_max: u64,
    /// The age at which a segment is removed: that of its newest batch.
    pub age_max: Duration,
}

/// A log in a folder.
#[derive(Debug)]
pub struct DiskLog<F: Folder> {
    folder: F,
    bounds: LogBounds,
    /// Segments that are not written any more, oldest first.
    closed: VecDeque<Scanned>,
    open: Option<Open<F::File>>,
    /// The number of the newest segment that was made.
    number: u64,
    /// The number of the segment that [`DiskLog::open`] made. As long as it is there, an earlier clean end does not count.
    opened: u64,
    lineage: Lineage,
    newest: Offset,
    /// The newest position that was given to a batch, committed or not.
    given: Offset,
    buffer: Vec<u8>,
}

/// The segment that is written.
#[derive(Debug)]
struct Open<T> {
    file: T,
    segment: Scanned,
}

impl<F: Folder> DiskLog<F> {
    /// Opens the log that `scan` found in `folder`, and begins a segment. After any end but a clean one, the order goes on in
    /// a new term, called `epoch`.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn open(folder: F, scan: &Scan, bounds: LogBounds, epoch: Epoch) -> io::Result<Self> {
        let lineage = match &scan.lineage {
            None => Lineage::root(epoch, 0),
            Some(lineage) if scan.is_clean => lineage.clone(),
            Some(lineage) => {
                let mut lineage = lineage.clone();
                let end = scan.newest.max(lineage.newest().first);
                lineage.fork(end, end, epoch);
                lineage
            }
        };
        let mut log = Self {
            folder,
            bounds,
            closed: scan.segments.iter().cloned().collect(),
            open: None,
            number: scan.number,
            opened: scan.number + 1,
            lineage,
            newest: scan.newest,
            given: scan.given,
            buffer: Vec::new(),
        };
        if let Some(newest) = log.closed.back() {
            log.folder.settle(newest.number)?;
        }
        for segment in &scan.unfinished {
            log.folder.remove(*segment)?;
        }
        log.begin(0)?;
        log.write()?;
        log.tidy(&scan.damage);
        Ok(log)
    }

    /// Tidies what earlier lives left, now that the header of the open segment is durable and says as much. Segments without
    /// a batch go: a program that fails at each start would fill the folder with them. Others end behind their last record,
    /// with what a crash left of another: a killed process could not give that space back, and a few kills would push out
    /// all that counts. Damage inside is left as it is, for whoever looks into that.
    fn tidy(&mut self, damage: &[Damage]) {
        let folder = &mut self.folder;
        self.closed.retain_mut(|segment| {
            let mut of_it = damage.iter().filter(|damage| damage.segment == segment.number);
            if of_it.any(|damage| damage.is_inside || damage.at < segment.used || damage.at == 0) {
                return true;
            }
            if segment.bytes > segment.used && folder.trim(segment.number, segment.used).is_ok() {
                segment.bytes = segment.used;
            }
            segment.batches > 0 || folder.remove(segment.number).is_err()
        });
    }

    /// The terms of the order.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The position of the next entry.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.newest.max(self.given).max(self.lineage.newest().first) + 1
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &Scanned> {
        self.closed.iter().chain(self.open.as_ref().map(|open| &open.segment))
    }

    /// Commits a batch of `count` entries, at least 1, and returns the position of the first. It is durable then.
    ///
    /// # Errors
    ///
    /// Of the file system; [`io::ErrorKind::StorageFull`] if there is no space for another segment. The batch may be read
    /// back all the same after a crash, unless another is committed before.
    pub fn commit(&mut self, count: u32, body: &[u8], unix_us: u64) -> io::Result<Offset> {
        let need = (HEAD_BYTES + BATCH_BYTES + body.len()) as u64 + END_BYTES;
        if self.open.as_ref().is_none_or(|open| open.segment.used + need > open.segment.bytes) {
            self.begin(need)?;
        }
        let batch = Batch { first: self.next(), count, unix_us, body };
        record::put_batch(self.number, &batch, &mut self.buffer);
        // Given for good: if it is committed or not, a damaged log must not show two batches at one position.
        self.given = batch.last();
        self.write()?;
        self.newest = batch.last();
        if let Some(Open { segment, .. }) = &mut self.open {
            segment.last = batch.last();
            segment.batches += 1;
            segment.newest_us = segment.newest_us.max(unix_us);
        }
        Ok(batch.first)
    }

    /// Passes over the positions up to `newest`: they were given out, and their batch was not committed. A reader from
    /// below is told. Nothing happens if they are not new.
    pub fn pass(&mut self, newest: Offset) {
        if newest > self.newest {
            (self.newest, self.given) = (newest, newest.max(self.given));
            // The header of the next segment says that there is nothing in between.
            self.retire();
        }
    }

    /// Marks a clean end: the next start goes on in the same term.
    ///
    /// # Errors
    ///
    /// Of the file system. The next start begins a new term then.
    pub fn close(mut self) -> io::Result<()> {
        if self.open.is_none() {
            self.begin(END_BYTES)?;
        }
        record::put_end(self.number, self.newest, &mut self.buffer);
        self.write()?;
        self.shorten();
        Ok(())
    }

    /// The oldest segment, if there is too much, or it is too old by `unix_us`. Never the one that is written.
    #[must_use]
    pub fn excess(&self, unix_us: u64) -> Option<&Scanned> {
        let oldest = self.closed.front()?;
        let age_us = u64::try_from(self.bounds.age_max.as_micros()).unwrap_or(u64::MAX);
        let is_old = oldest.newest_us.saturating_add(age_us) < unix_us;
        let is_too_much = self.bytes() > self.bounds.bytes_max || self.closed.len() >= SEGMENTS_MAX;
        (is_old || is_too_much).then_some(oldest)
    }

    /// Removes the oldest segment.
    ///
    /// # Errors
    ///
    /// Of the file system. Then it is still there.
    pub fn remove_oldest(&mut self) -> io::Result<()> {
        if let Some(oldest) = self.closed.front() {
            self.folder.remove(oldest.number)?;
            self.closed.pop_front();
        }
        Ok(())
    }

    /// Makes a segment with space for `need` bytes beyond its header. The header is in the buffer then.
    fn begin(&mut self, need: u64) -> io::Result<()> {
        self.buffer.clear();
        let (segment, after, given) = (self.number + 1, self.newest, self.given);
        let header =
            Header { version: record::VERSION, segment, after, given, lineage: self.lineage.clone() };
        record::put_header(&header, &mut self.buffer);
        let bytes = self.bounds.segment_bytes.max(self.buffer.len() as u64 + need);
        let file = self.folder.create(segment, bytes).inspect_err(|_| self.buffer.clear())?;
        self.retire();
        self.number = segment;
        let segment =
            Scanned { number: segment, after, last: after, used: 0, bytes, batches: 0, newest_us: 0 };
        self.open = Some(Open { file, segment });
        Ok(())
    }

    /// Writes the buffer to the open segment, durably.
    fn write(&mut self) -> io::Result<()> {
        let open = self.open.as_mut().expect("begun before");
        let used = open.segment.used;
        let written = self.folder.write(&mut open.file, used, &self.buffer);
        let written = written.and_then(|()| self.folder.sync(&mut open.file));
        open.segment.used += self.buffer.len() as u64;
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_BYTES_MAX {
            self.buffer = Vec::new();
        }
        written.inspect_err(|_| self.give_up())
    }

    /// Leaves the open segment, after it failed.
    fn give_up(&mut self) {
        let Some(Open { segment, .. }) = self.open.take() else { return };
        // Without a batch it is of no use, but for the first: it undoes the mark of a clean end.
        let is_of_use = segment.batches > 0 || segment.number == self.opened;
        if is_of_use || self.folder.remove(segment.number).is_err() {
            self.closed.push_back(segment);
        }
    }

    /// Closes the open segment.
    fn retire(&mut self) {
        self.shorten();
        self.closed.extend(self.open.take().map(|open| open.segment));
    }

    /// Gives back what the open segment does not use.
    fn shorten(&mut self) {
        if let Some(Open { file, segment }) = &mut self.open
            && self.folder.shorten(file, segment.used).is_ok()
        {
            segment.bytes = segment.used;
        }
    }
}

/// A buffer that grew above this is not kept.
const BUFFER_BYTES_MAX: usize = 4 << 20;
