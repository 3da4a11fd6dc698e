//! How far the server is on its way out, and which threads have got there.

use std::sync::atomic::AtomicUsize;

use tokio::sync::watch;

/// How far the server is on its way out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Not at all.
    Serving,
    /// Streams are being closed. Requests are answered, and their connections not kept.
    Draining,
    /// Only requests that were begun are answered yet.
    Ending,
}

/// The stage of all threads, and how many of them are done with it.
#[derive(Debug)]
pub struct Lifecycle {
    /// The stage.
    pub stage: watch::Sender<Stage>,
    /// Shards that have closed every stream in a drain.
    pub drained: AtomicUsize,
    /// Threads that have no request left, at the end.
    pub finished: AtomicUsize,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let (drained, finished) = Default::default();
        Self { stage: watch::Sender::new(Stage::Serving), drained, finished }
    }
}
