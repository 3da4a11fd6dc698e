//! What is in a folder of segments: where the log begins and ends, and what is damaged.
//!
//! Damage at the very end ends the log: it is what a crash leaves of a batch that nobody was promised. Damage elsewhere
//! raises the floor to what follows it. Batches of a segment above the `after` of the next one do not count: their commit
//! failed.

use std::fmt;
use std::io;

use crate::order::disk::files::Folder;
use crate::order::disk::record::{self, Batch, Header, Read, Record};
use crate::types::lineage::Lineage;
use crate::types::position::Offset;

/// What a folder holds.
#[derive(Debug, Eq, PartialEq)]
pub struct Scan {
    /// The segments that can be read, oldest first.
    pub segments: Vec<Scanned>,
    /// Segments without a byte in them: a crash was faster.
    pub unfinished: Vec<u64>,
    /// The highest number of a segment that is or was there.
    pub number: u64,
    /// All that was committed above this position is there.
    pub floor: Offset,
    /// The newest position.
    pub newest: Offset,
    /// The newest position that was given to a batch, as far as is known.
    pub given: Offset,
    /// The terms; `None` if there is no segment.
    pub lineage: Option<Lineage>,
    /// Whether the log was closed.
    pub is_clean: bool,
    /// What cannot be read, oldest first.
    pub damage: Vec<Damage>,
}

/// A segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scanned {
    /// Its number.
    pub number: u64,
    /// The position after which it begins.
    pub after: Offset,
    /// Its newest position; `after` without one.
    pub last: Offset,
    /// Bytes of it that are records.
    pub used: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Batches that count.
    pub batches: u64,
    /// When its newest batch was committed, in microseconds since 1970; 0 without one.
    pub newest_us: u64,
}

/// A place that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// The byte at which it begins.
    pub at: u64,
    /// Whether something follows it that can be read: then what is below it is given up.
    pub is_inside: bool,
}

/// Why a folder cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScanError {
    /// The file system.
    Io(io::Error),
    /// A segment has a version that this program does not know.
    Version {
        /// The segment.
        segment: u64,
        /// Its version.
        version: u8,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(err) => err.fmt(f),
            Self::Version { segment, version } => write!(
                f,
                "segment {segment} is of version {version}, and this program knows version {} only",
                record::VERSION
            ),
        }
    }
}

impl std::error::Error for ScanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(err) => Some(err),
            Self::Version { .. } => None,
        }
    }
}

impl From<io::Error> for ScanError {
    fn from(err: io::Error) -> Self {
        Self::Io(err)
    }
}

impl Scan {
    /// Reads all of `folder`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or is of another version.
    pub fn of(folder: &impl Folder) -> Result<Self, ScanError> {
        let mut numbers = folder.segments()?;
        numbers.sort_unstable();
        let mut scan = Self::nothing();
        for number in numbers {
            scan.take(number, &folder.read(number)?)?;
        }
        Ok(scan)
    }

    fn nothing() -> Self {
        Self {
            segments: Vec::new(),
            unfinished: Vec::new(),
            number: 0,
            floor: 0,
            newest: 0,
            given: 0,
            lineage: None,
            is_clean: false,
            damage: Vec::new(),
        }
    }

    /// Takes the next segment.
    fn take(&mut self, number: u64, bytes: &[u8]) -> Result<(), ScanError> {
        self.number = number;
        let (header, at) = match record::read(number, bytes, 0) {
            Read::Record(Record::Header(header), at) if header.segment == number => (header, at),
            Read::Nothing => {
                self.unfinished.push(number);
                return Ok(());
            }
            _ => {
                self.damaged(number, 0);
                self.push(number, self.newest, 0, bytes.len());
                return Ok(());
            }
        };
        if header.version != record::VERSION {
            return Err(ScanError::Version { segment: number, version: header.version });
        }
        self.begin(&header, at, bytes.len());
        self.records(number, bytes, at);
        Ok(())
    }

    /// Begins a segment.
    fn begin(&mut self, header: &Header, used: usize, bytes: usize) {
        let Header { after, given, lineage, .. } = header;
        match self.segments.last_mut() {
            // What the one before has above this was not committed.
            Some(before) if *after <= self.newest => before.last = before.last.min(*after),
            _ => self.resume_at(*after),
        }
        self.newest = *after;
        self.given = *given;
        self.lineage = Some(lineage.clone());
        self.is_clean = false;
        self.push(header.segment, *after, used, bytes);
    }

    fn push(&mut self, number: u64, after: Offset, used: usize, bytes: usize) {
        let (used, bytes) = (used as u64, bytes as u64);
        self.segments.push(Scanned { number, after, last: after, used, bytes, batches: 0, newest_us: 0 });
    }

    /// What follows damage begins above `floor`.
    fn resume_at(&mut self, floor: Offset) {
        self.floor = floor;
        self.damage.iter_mut().for_each(|damage| damage.is_inside = true);
    }

    fn records(&mut self, number: u64, bytes: &[u8], mut at: usize) {
        loop {
            match record::read(number, bytes, at) {
                Read::Nothing => return,
                Read::Record(record, next) => {
                    self.record(number, at, &record, next);
                    at = next;
                }
                Read::Damaged(next) => {
                    self.damaged(number, at as u64);
                    let Some(next) = next else { return };
                    at = next;
                }
            }
        }
    }

    fn record(&mut self, number: u64, at: usize, record: &Record<'_>, next: usize) {
        self.is_clean = false;
        match record {
            Record::Batch(batch) if batch.first >= self.next() => self.batch(batch, next),
            Record::End(newest) if *newest == self.newest => {
                self.is_clean = true;
                self.use_up_to(next);
            }
            // A second header, or a position that was there already: no writer of this log wrote it.
            _ => self.damaged(number, at as u64),
        }
    }

    fn batch(&mut self, batch: &Batch<'_>, next: usize) {
        if batch.first > self.next() {
            self.resume_at(batch.first - 1);
        }
        (self.newest, self.given) = (batch.last(), batch.last());
        if let Some(segment) = self.segments.last_mut() {
            segment.last = batch.last();
            segment.batches += 1;
            segment.newest_us = segment.newest_us.max(batch.unix_us);
        }
        self.use_up_to(next);
    }

    fn use_up_to(&mut self, next: usize) {
        if let Some(segment) = self.segments.last_mut() {
            segment.used = next as u64;
        }
    }

    /// The position of the next entry.
    fn next(&self) -> Offset {
        let first = self.lineage.as_ref().map_or(0, |lineage| lineage.newest().first);
        self.newest.max(self.given).max(first) + 1
    }

    fn damaged(&mut self, segment: u64, at: u64) {
        self.is_clean = false;
        self.damage.push(Damage { segment, at, is_inside: false });
    }

    /// Calls `visit` with each batch that counts, oldest first. Those up to the floor are there too, as far as they can be
    /// read: there may be some missing between them. Reads all segments again.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn visit(&self, folder: &impl Folder, mut visit: impl FnMut(&Batch<'_>)) -> io::Result<()> {
        for segment in &self.segments {
            let bytes = folder.read(segment.number)?;
            let mut at = 0;
            loop {
                match record::read(segment.number, &bytes, at) {
                    Read::Record(Record::Batch(batch), next) => {
                        at = next;
                        if batch.last() <= segment.last {
                            visit(&batch);
                        }
                    }
                    Read::Record(_, next) | Read::Damaged(Some(next)) => at = next,
                    Read::Nothing | Read::Damaged(None) => break,
                }
            }
        }
        Ok(())
    }
}
