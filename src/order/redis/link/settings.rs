//! Times and bounds of a link.

use std::time::Duration;

/// Times and bounds of a link.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this life of the node, in its tags: `[a-z0-9]`, never used before.
    pub life: String,
    /// Marks of what was applied, 16 bytes each. A loss that reaches further back is a restart for this node.
    pub marks_max: usize,
    /// Batches that wait.
    pub waiting_max: usize,
    /// Bytes of batches that wait.
    pub waiting_bytes_max: usize,
    /// Events in one entry.
    pub entry_events_max: u32,
    /// Bytes in one entry, unless it is one batch.
    pub entry_bytes_max: usize,
    /// The longest that opening connections may take.
    pub connect_within: Duration,
    /// The longest that attaching may take.
    pub answer_within: Duration,
    /// Without an own entry that comes back when one is due, the link is late after this time. Batches wait.
    pub late_after: Duration,
    /// After this time it is lost.
    pub lost_after: Duration,
    /// After this time the publisher of a batch is told that its fate is unknown.
    pub unknown_after: Duration,
    /// A link without entries of its own sends one.
    pub tick_every: Duration,
    /// An unfit server is looked at again.
    pub unfit_every: Duration,
    /// The first wait before another attempt; it doubles.
    pub backoff_min: Duration,
    /// The longest.
    pub backoff_max: Duration,
}

impl Settings {
    /// The usual ones.
    #[must_use]
    pub fn new(life: String) -> Self {
        Self {
            life,
            marks_max: 65_536,
            waiting_max: 16_384,
            waiting_bytes_max: 16 << 20,
            entry_events_max: 4096,
            entry_bytes_max: 1 << 20,
            connect_within: Duration::from_secs(1),
            answer_within: Duration::from_secs(2),
            late_after: Duration::from_millis(1500),
            lost_after: Duration::from_secs(3),
            unknown_after: Duration::from_secs(5),
            tick_every: Duration::from_secs(1),
            unfit_every: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}
