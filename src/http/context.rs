//! What a thread's requests work with.

use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use super::buffers::Buffers;
use super::exchange::Times;
use super::limit::PublishLimit;
use super::places::Places;
use super::policy::Policy;
use super::problem::{Code, Problem};
use super::stats::HttpStats;
use crate::auth::identity::{Identity, Standing};
use crate::auth::revocation::Revocations;
use crate::auth::tokens::TokenStats;
use crate::config::Config;
use crate::hub::draft::Draft;
use crate::hub::moment::Moment;
use crate::hub::own_ids::{Repeated, Repeats};
use crate::hub::pressure::Rung;
use crate::hub::{Hub, Published};
use crate::server::clock::Clock;
use crate::server::memory::Memory;
use crate::server::sockets::Sockets;
use crate::shard::stats::Stats;
use crate::shard::{Shard, Step};
use crate::upstream::Upstream;

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

/// Shared by all threads.
pub struct Shared {
    /// Events and presence.
    pub hub: Arc<Hub>,
    /// The settings.
    pub config: Config,
    /// Whom to let in. A reload puts another in its place.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Notified when a token names a key that has not been read.
    pub keys_wanted: Arc<Notify>,
    /// What looking at tokens counts.
    pub token_stats: Arc<TokenStats>,
    /// Tokens that are worth nothing any more.
    pub revocations: Revocations,
    /// The time.
    pub clock: Clock,
    /// Resident memory, and the limit from which the ladder's shares are taken.
    pub memory: Memory,
    /// Bytes that bodies and answers hold.
    pub buffers: Buffers,
    /// What publishers have used of their rates.
    pub publish_limit: PublishLimit,
    /// Counters of requests.
    pub stats: HttpStats,
    /// Other servers that are asked.
    pub upstream: Upstream,
    /// Counters of each shard.
    pub shards: Vec<Arc<Stats>>,
    /// The kernel's number of each shard's thread, once it runs.
    pub threads: Vec<OnceLock<u32>>,
    /// How far the server is on its way out.
    pub stage: watch::Sender<Stage>,
    /// Shards that have closed everyone in a drain.
    pub drained: AtomicUsize,
    /// Requests that each thread has begun and not answered, by its last look. Looked at while the server is on its way out.
    pub requests_left: Vec<AtomicUsize>,
    /// Threads that have no request left, at the end.
    pub finished: AtomicUsize,
    /// The shards. Each is locked by its own thread for a step at a time, and by a publisher that finds it free.
    pub cores: Vec<Mutex<Shard<Sockets>>>,
}

/// Connections an event may be for and still be delivered by the thread that has its publisher. Waking another thread
/// costs as much as several deliveries; this many take it a fifth of a millisecond.
pub const ON_THE_SPOT_MAX: u64 = 32;

/// Bytes an event may take beyond its data: a room and a user that are new, their logs, and the event's place.
const NAMES_BYTES: usize = 2 << 10;

impl Shared {
    /// Whether `identity`, proved before, still counts.
    #[must_use]
    pub fn trusts(&self, identity: &Identity) -> bool {
        self.policy.load().trusts(identity) && !self.revocations.cover(identity, self.clock.unix_s())
    }

    /// Whether a stream may stay open as things are now.
    #[must_use]
    pub fn lets_stay(&self, standing: &Standing<'_>) -> bool {
        let is_revoked = |identity| self.revocations.cover(identity, self.clock.unix_s());
        self.policy.load().lets_stay(standing) && !standing.identity.is_some_and(is_revoked)
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
        let published =
            self.hub.publish_waking(drafts, repeats, self.clock.now(), |published, shard, waker| {
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

    /// The times of a connection.
    #[must_use]
    pub fn times(&self) -> Times {
        let Config { request_timeout, keepalive_timeout, .. } = self.config;
        Times { clock: self.clock, request: request_timeout, keepalive: keepalive_timeout }
    }

    /// Refuses a request of a kind that is given up on `rung`, if the engine is there.
    ///
    /// # Errors
    ///
    /// That memory is short.
    pub fn spare_memory(&self, rung: Rung) -> Result<(), Problem> {
        if self.hub.rung() < rung {
            return Ok(());
        }
        Err(Code::MemoryExhausted.into())
    }

    /// Steps a sleeping shard on behalf of its thread. False if that has to wake up nevertheless: it is at work, there
    /// is more to do, or there is something to be done before it would have woken up.
    fn deliver(&self, shard: usize) -> bool {
        let Some(mut core) = self.cores[shard].try_lock() else {
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

/// One thread's.
pub struct Context {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The number of the thread and its shard.
    pub index: usize,
    /// Wakes the shard's loop after something was changed from a request.
    pub changed: Notify,
    /// Places for connections that are still HTTP.
    pub places: Rc<Places>,
}

impl Context {
    /// The thread's shard.
    pub fn shard(&self) -> MutexGuard<'_, Shard<Sockets>> {
        self.shared.cores[self.index].lock()
    }
}
