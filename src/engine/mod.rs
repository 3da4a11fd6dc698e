//! The engine: the state that all requests share, and what they do with it.
//!
//! One value for all threads. Requests publish through it, ask its shards, and are bounded by its limits.

pub mod access;
pub mod ask;
pub mod buffers;
pub mod change;
pub mod lifecycle;
pub mod machine;
pub mod memory;
pub mod nodes;
pub mod process;
pub mod publish_limit;
mod refused;
pub mod reporter;
pub mod shared;
pub mod stale;
pub mod stats;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;

use crate::answer::problem::{Code, Problem};
use crate::config::Config;
use crate::engine::access::Access;
use crate::engine::buffers::Buffers;
use crate::engine::lifecycle::Lifecycle;
use crate::engine::memory::Memory;
use crate::engine::publish_limit::PublishLimit;
use crate::engine::shared::Shared;
use crate::engine::stats::HttpStats;
use crate::hub::draft::Draft;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::own_ids::Repeats;
use crate::hub::{Hub, Published};
use crate::net::sockets::Sockets;
use crate::order::claims::RequestClaim;
use crate::order::disk::committer::DiskStats;
use crate::order::memory::MemoryOrder;
use crate::order::proposals::Proposals;
use crate::order::refused::Refused;
use crate::shard::stats::Stats;
use crate::shard::{Shard, Step};
use crate::types::clock::Clock;
use crate::types::count::Gauge;
use crate::types::moment::Moment;
use crate::upstream::Upstream;

/// Shared by all threads.
pub struct Engine {
    /// The settings.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// Events, their history, and admission.
    pub hub: Arc<Hub>,
    /// Assigns positions to events.
    pub order: MemoryOrder,
    /// Where events are proposed to an order that has to commit them first.
    pub proposals: Option<Arc<Proposals>>,
    /// The way to an order that several nodes follow, once it is followed.
    pub shared: OnceLock<Shared>,
    /// Subscribers that wait for an event which this node has not read yet.
    pub ahead: Gauge,
    /// The counters of an order on disk.
    pub disk: Option<Arc<DiskStats>>,
    /// The shards, by their number.
    pub shards: Box<[ShardHandle]>,
    /// Decides which clients and streams have access.
    pub access: Access,
    /// Resident memory, and the limit from which the memory levels' shares are taken.
    pub memory: Memory,
    /// The budget of bytes that bodies and answers hold.
    pub buffers: Buffers,
    /// The use of publish rates.
    pub publish_limit: PublishLimit,
    /// Counters of requests.
    pub stats: HttpStats,
    /// Requests to other servers.
    pub upstream: Upstream,
    /// The stage of shutting down.
    pub lifecycle: Lifecycle,
}

/// A shard, as other threads use it.
pub struct ShardHandle {
    /// The shard. Locked by its own thread for one step at a time, and by a publisher that finds it free.
    pub core: Mutex<Shard<Sockets>>,
    /// Its counters.
    pub stats: Arc<Stats>,
    /// The kernel's number of its thread, once the thread runs.
    pub thread: OnceLock<u32>,
    /// Requests that its thread has begun and not answered, as of its last check. Updated while the server shuts down.
    pub requests_left: AtomicUsize,
}

impl ShardHandle {
    /// A handle of `shard`, which counts in `stats`. Its thread does not run yet.
    #[must_use]
    pub fn new(shard: Shard<Sockets>, stats: Arc<Stats>) -> Self {
        let (thread, requests_left) = Default::default();
        Self { core: Mutex::new(shard), stats, thread, requests_left }
    }
}

/// The most connections to which the publisher's own thread delivers an event. Waking another thread costs as much as
/// several deliveries; this many take a fifth of a millisecond.
pub const ON_THE_SPOT_MAX: u64 = 32;

/// Bytes an event may take beyond its data: a new room and a new user, their logs, and the event's place.
const NAMES_BYTES: usize = 2 << 10;

/// Bytes of memory an event may take.
fn bytes_of(draft: &Draft) -> usize {
    draft.data.len() + NAMES_BYTES
}

impl Engine {
    /// The counters of each shard, in their order.
    pub fn shard_stats(&self) -> impl Iterator<Item = &Stats> {
        self.shards.iter().map(|shard| &*shard.stats)
    }

    /// What an event survives whose publish was answered: `memory` nothing, `disk` the end of the process and of the machine,
    /// `redis` the end of this node, `redis+1` also the loss of one Redis, `redis-disk` also its restart.
    #[must_use]
    pub fn durability(&self) -> &'static str {
        self.config.ack().as_str()
    }

    /// Waits until everything that was published here so far is where the setting `order_ack` wants it.
    ///
    /// # Errors
    ///
    /// [`Why::Unknown`](crate::order::refused::Why::Unknown), if it may be or may not.
    pub async fn confirm(&self) -> Result<(), Refused> {
        match self.shared.get() {
            Some(shared) => shared.confirm(self).await,
            None => Ok(()),
        }
    }

    /// Publishes `drafts`, and delivers them at once if that is little work.
    ///
    /// # Errors
    ///
    /// If one of them is refused. `repeats` decides about the drafts before it.
    ///
    /// # Panics
    ///
    /// If `drafts` is empty.
    pub async fn publish(&self, drafts: Vec<Draft>, repeats: Repeats) -> Result<Published, Refused> {
        self.propose_events(drafts, None, repeats).await
    }

    /// Publishes the `drafts` of a request once, and delivers them at once if that is little work.
    ///
    /// # Errors
    ///
    /// If one of them is refused, or the request's claim. Then none is published.
    ///
    /// # Panics
    ///
    /// If `drafts` is empty.
    pub async fn publish_once(
        &self,
        request: RequestClaim,
        drafts: Vec<Draft>,
    ) -> Result<Published, Refused> {
        self.propose_events(drafts, Some(request), Repeats::RefuseAll).await
    }

    async fn propose_events(
        &self,
        drafts: Vec<Draft>,
        request: Option<RequestClaim>,
        repeats: Repeats,
    ) -> Result<Published, Refused> {
        let bytes = drafts.iter().map(bytes_of).sum();
        let published = match (&self.proposals, self.shared.get()) {
            (_, Some(shared)) => shared.publish(self, drafts, request, repeats).await,
            (None, None) => {
                let wake = |published: &_, shard, waker| self.wake(published, shard, waker);
                self.order.decide(drafts, request, repeats, self.clock.now(), wake)
            }
            (Some(proposals), None) => proposals.publish(&self.order, drafts, request, repeats).await,
        };
        self.grew(bytes);
        let is_any = match &published {
            Ok(_) => true,
            Err(refused) => refused.before.is_some(),
        };
        if is_any {
            self.confirm().await?;
        }
        published
    }

    /// Wakes a sleeping shard, or delivers in its place.
    fn wake(&self, published: &Published, shard: usize, waker: Waker) {
        let waker = if published.subscribers <= ON_THE_SPOT_MAX && self.deliver(shard) {
            self.hub.mailbox(shard).rearm(waker)
        } else {
            Some(waker)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Counts `bytes` of memory as taken. Measures memory once enough was taken: between two regular measurements, more
    /// could be taken than there is.
    pub fn grew(&self, bytes: usize) {
        if self.memory.grew(bytes) {
            self.memory.look(&self.hub);
        }
    }

    /// Refuses a request of a kind that is not served from memory level `level` on.
    ///
    /// # Errors
    ///
    /// [`Code::MemoryExhausted`].
    pub fn spare_memory(&self, level: MemoryLevel) -> Result<(), Problem> {
        if self.hub.memory_level() < level {
            return Ok(());
        }
        Err(Code::MemoryExhausted.into())
    }

    /// Runs a step of a sleeping shard in place of its thread. Returns false if the thread has to wake up anyway: it is
    /// running, there is more to do, or something is due before its next wake-up.
    fn deliver(&self, shard: usize) -> bool {
        let Some(mut core) = self.shards[shard].core.try_lock() else {
            return false;
        };
        if core.is_busy() {
            return false;
        }
        let step = core.step(self.clock.now());
        core.settle(self.clock.now());
        let done = matches!(step, Step::Sleep(until) if until >= core.sleeps_until());
        if !done {
            // Its mailbox is empty now, so only this makes its thread continue.
            core.set_sleeps_until(Moment(0));
        }
        done
    }
}
