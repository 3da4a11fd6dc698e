//! The engine: what all requests share, and what they do with it together.
//!
//! One value for all threads. Requests publish through it, ask its shards, and are bounded by its limits.

pub mod access;
pub mod ask;
pub mod buffers;
pub mod change;
pub mod lifecycle;
pub mod machine;
pub mod memory;
pub mod process;
pub mod publish_limit;
pub mod stats;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::answer::problem::{Code, Problem};
use crate::config::Config;
use crate::engine::access::Access;
use crate::engine::buffers::Buffers;
use crate::engine::lifecycle::Lifecycle;
use crate::engine::memory::Memory;
use crate::engine::publish_limit::PublishLimit;
use crate::engine::stats::HttpStats;
use crate::hub::draft::Draft;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::own_ids::{Repeated, Repeats};
use crate::hub::{Hub, Published};
use crate::net::sockets::Sockets;
use crate::order::memory::MemoryOrder;
use crate::shard::stats::Stats;
use crate::shard::{Shard, Step};
use crate::types::clock::Clock;
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
    /// Where events get their positions.
    pub order: MemoryOrder,
    /// The shards, by their number.
    pub shards: Box<[ShardHandle]>,
    /// Whom to let in.
    pub access: Access,
    /// Resident memory, and the limit from which the memory levels' shares are taken.
    pub memory: Memory,
    /// Bytes that bodies and answers hold.
    pub buffers: Buffers,
    /// What publishers have used of their rates.
    pub publish_limit: PublishLimit,
    /// Counters of requests.
    pub stats: HttpStats,
    /// Other servers that are asked.
    pub upstream: Upstream,
    /// How far the server is on its way out.
    pub lifecycle: Lifecycle,
}

/// A shard, as other threads see it.
pub struct ShardHandle {
    /// The shard. Locked by its own thread for a step at a time, and by a publisher that finds it free.
    pub core: Mutex<Shard<Sockets>>,
    /// Its counters.
    pub stats: Arc<Stats>,
    /// The kernel's number of its thread, once that runs.
    pub thread: OnceLock<u32>,
    /// Requests that its thread has begun and not answered, by its last look. Verified at while the server is on its way out.
    pub requests_left: AtomicUsize,
}

impl ShardHandle {
    /// `shard`, which counts in `stats`. Its thread does not run yet.
    #[must_use]
    pub fn new(shard: Shard<Sockets>, stats: Arc<Stats>) -> Self {
        let (thread, requests_left) = Default::default();
        Self { core: Mutex::new(shard), stats, thread, requests_left }
    }
}

/// Connections an event may be for and still be delivered by the thread that has its publisher. Waking another thread
/// costs as much as several deliveries; this many take it a fifth of a millisecond.
pub const ON_THE_SPOT_MAX: u64 = 32;

/// Bytes an event may take beyond its data: a room and a user that are new, their logs, and the event's place.
const NAMES_BYTES: usize = 2 << 10;

impl Engine {
    /// The counters of each shard, in their order.
    pub fn shard_stats(&self) -> impl Iterator<Item = &Stats> {
        self.shards.iter().map(|shard| &*shard.stats)
    }

    /// Publishes `drafts`, and delivers them at once if that is little work.
    ///
    /// # Errors
    ///
    /// If one of them has an id that was used before. `repeats` says what becomes of those before it.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn publish(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        repeats: Repeats,
    ) -> Result<Published, Repeated> {
        let mut bytes = 0;
        let drafts = drafts.into_iter().inspect(|draft| bytes += draft.data.len() + NAMES_BYTES);
        let published = self.order.propose(drafts, repeats, self.clock.now(), |published, shard, waker| {
            let waker = if published.subscribers <= ON_THE_SPOT_MAX && self.deliver(shard) {
                self.hub.mailbox(shard).rearm(waker)
            } else {
                Some(waker)
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        self.grew(bytes);
        published
    }

    /// Notes that up to `bytes` of memory were taken. Every so many of them memory is measured at once: what comes in
    /// between two of the regular looks could be more than there is.
    pub fn grew(&self, bytes: usize) {
        if self.memory.grew(bytes) {
            self.memory.look(&self.hub);
        }
    }

    /// Refuses a request of a kind that is given up on `level`, if the engine is there.
    ///
    /// # Errors
    ///
    /// That memory is short.
    pub fn spare_memory(&self, level: MemoryLevel) -> Result<(), Problem> {
        if self.hub.memory_level() < level {
            return Ok(());
        }
        Err(Code::MemoryExhausted.into())
    }

    /// Steps a sleeping shard on behalf of its thread. False if that has to wake up nevertheless: it is at work, there
    /// is more to do, or there is something to be done before it would have woken up.
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
            // Its thread will find no mail any more: this is what makes it look.
            core.set_sleeps_until(Moment(0));
        }
        done
    }
}
