//! The stage of shutting down, and how many threads have finished it.

use std::sync::atomic::AtomicUsize;

use tokio::sync::watch;

/// The stage of shutting down.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Not shutting down.
    Serving,
    /// Streams are being closed. Requests are answered, and then their connections are closed.
    Draining,
    /// Only requests that began before are answered.
    Ending,
}

/// The stage of all threads, and how many threads have finished it.
#[derive(Debug)]
pub struct Lifecycle {
    /// The stage.
    pub stage: watch::Sender<Stage>,
    /// Whether what this node had of a shared order is lost, so that it has to start anew.
    pub lost: watch::Sender<bool>,
    /// Shards that have closed all their streams while draining.
    pub drained: AtomicUsize,
    /// Threads that have no request left in the last stage.
    pub finished: AtomicUsize,
}

impl Lifecycle {
    /// Whether what this node had of a shared order is lost. It can name nothing any more that comes into the order.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        let (drained, finished) = Default::default();
        let lost = watch::Sender::new(false);
        Self { stage: watch::Sender::new(Stage::Serving), lost, drained, finished }
    }
}
