//! What the requests of one thread share.

use std::rc::Rc;
use std::sync::Arc;

use parking_lot::MutexGuard;
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::http::conn::places::Places;
use crate::net::sockets::Sockets;
use crate::shard::Shard;

/// The context of one thread.
pub struct Context {
    /// What all threads share.
    pub engine: Arc<Engine>,
    /// The index of the thread and its shard.
    pub index: usize,
    /// Wakes the shard's loop after a request changed something.
    pub changed: Notify,
    /// Places for connections that are still HTTP.
    pub places: Rc<Places>,
}

impl Context {
    /// The thread's shard.
    pub fn shard(&self) -> MutexGuard<'_, Shard<Sockets>> {
        self.engine.shards[self.index].core.lock()
    }
}
