//! What was answered and is not on the disk yet, where publishers do not wait for that.

use std::time::Duration;

use crate::order::entry;
use crate::types::moment::Moment;

/// What was answered is written at most so much later. The thread that writes takes nothing meanwhile, so it is not done for
/// each publish.
pub(super) const WRITE_EVERY: Duration = Duration::from_millis(100);

/// Entries that are to be one batch.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    body: Vec<u8>,
    count: u64,
    since: Moment,
}

impl Unwritten {
    /// Adds the `count` entries of a batch.
    pub(super) fn add(&mut self, body: &[u8], count: u64, now: Moment) {
        if count == 0 {
            return;
        }
        if self.is_empty() {
            self.since = now;
            self.body.push(entry::VERSION);
        }
        // Each batch begins with its version.
        self.body.extend_from_slice(&body[1..]);
        self.count += count;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of entries.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of its batch.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// How long it may still wait; `None` if there is nothing.
    pub(super) fn patience(&self, now: Moment) -> Option<Duration> {
        (!self.is_empty()).then(|| (self.since + WRITE_EVERY).since(now))
    }

    /// The batch, and the number of its entries. Nothing is left.
    pub(super) fn take(&mut self) -> (Vec<u8>, u64) {
        (std::mem::take(&mut self.body), std::mem::take(&mut self.count))
    }
}
