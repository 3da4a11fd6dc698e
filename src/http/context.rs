//! What a thread's requests work with.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;
use tokio::sync::Notify;

use super::cors::Cors;
use super::exchange::{Exchange, Times};
use super::limit::PublishLimit;
use super::stats::HttpStats;
use crate::config::Config;
use crate::hub::Hub;
use crate::server::clock::Clock;
use crate::server::sockets::Sockets;
use crate::server::transfer::Transfers;
use crate::shard::Shard;
use crate::shard::join::Join;
use crate::shard::stats::Stats;

/// Shared by all threads.
pub struct Shared {
    /// Events and presence.
    pub hub: Arc<Hub>,
    /// The settings.
    pub config: Config,
    /// Who may use the server from other origins.
    pub cors: Cors,
    /// The time.
    pub clock: Clock,
    /// Rates of publishers, if bounded.
    pub publish_limit: Option<PublishLimit>,
    /// Counters of requests.
    pub stats: HttpStats,
    /// Counters of each shard.
    pub shards: Vec<Arc<Stats>>,
    /// Connections on their way to each shard.
    pub transfers: Vec<Transfers>,
}

/// One thread's.
pub struct Context {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The thread's shard.
    pub shard: RefCell<Shard<Sockets>>,
    /// Wakes the shard's loop after something was changed from a request.
    pub changed: Notify,
    /// Tells those who wait for a place that a connection has nothing to do.
    pub idle: Notify,
    /// Connections that are still HTTP, to be given up when their time is over.
    pub exchanges: RefCell<Slab<Rc<Exchange>>>,
}

impl Context {
    /// Hands a connection to this thread's shard.
    pub fn join(&self, join: Join<socket2::Socket>) {
        let joined = self.shard.borrow_mut().join(join, self.shared.clock.now());
        if let Err(err) = joined {
            tracing::warn!(%err, "a connection could not be watched");
        }
        self.changed.notify_one();
    }

    /// The times of a connection.
    #[must_use]
    pub fn times(&self) -> Times {
        let Config { request_timeout, keepalive_timeout, .. } = self.shared.config;
        Times { clock: self.shared.clock, request: request_timeout, keepalive: keepalive_timeout }
    }
}
