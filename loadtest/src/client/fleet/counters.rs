//! What subscribers and main thread tell each other while it runs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// Written by the threads that read, or by what another process tells; read by the main thread any time.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connected: AtomicUsize,
    pub(super) returned: AtomicUsize,
    pub(super) up: AtomicUsize,
    pub(super) failed: AtomicUsize,
    pub(super) ended: AtomicUsize,
    pub(super) deliveries: AtomicU64,
    pub(super) excused: AtomicU64,
    pub(super) connected_last_ns: AtomicU64,
    pub(super) delivered_last_ns: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Subscribers that reached `connected` for the first time.
    pub connected: usize,
    /// Times a subscriber that had left reached `connected` again.
    pub returned: usize,
    /// Subscribers that are connected now.
    pub up: usize,
    /// Subscribers that ended before `connected` and won't try again.
    pub failed: usize,
    /// Streams that ended after `connected`, unasked.
    pub ended: usize,
    /// Events seen.
    pub deliveries: u64,
    /// Events that gaps announced.
    pub excused: u64,
    /// When the last stream reached `connected`.
    pub connected_last_ns: u64,
    /// When the last event was seen.
    pub delivered_last_ns: u64,
}

impl Counters {
    /// The counters now. They are read one after the other, so they may differ by what happened meanwhile.
    #[must_use]
    pub(super) fn load(&self) -> Counts {
        Counts {
            connected: self.connected.load(Ordering::Acquire),
            returned: self.returned.load(Ordering::Acquire),
            up: self.up.load(Ordering::Acquire),
            failed: self.failed.load(Ordering::Acquire),
            ended: self.ended.load(Ordering::Acquire),
            deliveries: self.deliveries.load(Ordering::Acquire),
            excused: self.excused.load(Ordering::Acquire),
            connected_last_ns: self.connected_last_ns.load(Ordering::Acquire),
            delivered_last_ns: self.delivered_last_ns.load(Ordering::Acquire),
        }
    }

    /// Takes over what another process counted.
    pub(super) fn store(&self, counts: &Counts) {
        self.connected.store(counts.connected, Ordering::Release);
        self.returned.store(counts.returned, Ordering::Release);
        self.up.store(counts.up, Ordering::Release);
        self.failed.store(counts.failed, Ordering::Release);
        self.ended.store(counts.ended, Ordering::Release);
        self.deliveries.store(counts.deliveries, Ordering::Release);
        self.excused.store(counts.excused, Ordering::Release);
        self.connected_last_ns.store(counts.connected_last_ns, Ordering::Release);
        self.delivered_last_ns.store(counts.delivered_last_ns, Ordering::Release);
    }
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            connected: self.connected + other.connected,
            returned: self.returned + other.returned,
            up: self.up + other.up,
            failed: self.failed + other.failed,
            ended: self.ended + other.ended,
            deliveries: self.deliveries + other.deliveries,
            excused: self.excused + other.excused,
            connected_last_ns: self.connected_last_ns.max(other.connected_last_ns),
            delivered_last_ns: self.delivered_last_ns.max(other.delivered_last_ns),
        }
    }

    /// Subscribers that are not about to connect: up, ended or given up.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.up + self.failed + self.ended
    }
}
