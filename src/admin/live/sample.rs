//! One second of the server: its counters now, minus its counters at the sample before.

use serde::{Serialize, Serializer};

use crate::admin::live::rooms::{Hottest, Rooms, rounded};
use crate::engine::Engine;
use crate::engine::process;
use crate::hub::presence::stats::Suppressed;
use crate::order::claims::Kind;
use crate::shard::reason::{CloseReason, DropReason, GapReason, SkipReason};
use crate::shard::stats::Stats;
use crate::types::histogram::{TIME_BUCKETS, Tally};
use crate::types::moment::Moment;

/// The page's data, once a second. Events are counted since the sample before; states are as of now.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    version: &'static str,
    /// Milliseconds since the server's start: the page's time.
    up_ms: u64,
    /// Seconds since the sample before.
    seconds: f64,
    state: &'static str,
    connections: u64,
    connections_max: u32,
    lagging: u64,
    oldest_unsent_ms: f64,
    opened: u64,
    accepted: u64,
    published: u64,
    delivered: u64,
    bytes: u64,
    /// Time from publish to written, for the deliveries of this sample. Null if there were none.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// In cores. Null if the kernel does not report it.
    cpu: Option<f64>,
    /// Resident, in bytes.
    memory: Option<u64>,
    /// What each connection adds to it: see [`per_connection`].
    memory_per_connection: Option<u64>,
    history_events: usize,
    history_bytes: usize,
    shards: Vec<ShardSample>,
    closed: Counts,
    refused: Counts,
    dropped: Counts,
    gaps: Counts,
    /// Whether the next ones are worth a place: see [`has_rules`].
    has_rules: bool,
    members: usize,
    presence_rooms: usize,
    presence_messages: u64,
    /// Changes of presence that were told to nobody.
    suppressed: u64,
    skipped: Counts,
    replayed: u64,
    /// Idempotency keys, and data that may not be repeated, that are remembered.
    claims: usize,
    rooms: Rooms,
}

#[derive(Debug, Serialize)]
struct ShardSample {
    connections: u64,
    delivered: u64,
    cpu: Option<f64>,
}

/// Numbers by reason, without zeros.
#[derive(Debug)]
struct Counts(Vec<(&'static str, u64)>);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// Takes samples of one server.
pub(super) struct Sampler {
    before: Totals,
    hottest: Hottest,
    /// What the process had allocated before the first connection. Null where the kernel does not tell.
    memory_fixed: Option<u64>,
}

/// The counters that only grow.
struct Totals {
    at: Moment,
    opened: u64,
    accepted: u64,
    published: u64,
    bytes: u64,
    /// Deliveries by the upper bound of their time, in microseconds.
    delivery: Vec<(u64, u64)>,
    closed: Vec<u64>,
    dropped: Vec<u64>,
    gaps: Vec<u64>,
    presence_messages: u64,
    suppressed: u64,
    skipped: Vec<u64>,
    replayed: u64,
    refused: Vec<(&'static str, u64)>,
    /// Events delivered by each shard.
    delivered: Vec<u64>,
    threads: Vec<(u32, u64)>,
}

impl Sampler {
    /// Starts counting from now.
    pub(super) fn new(engine: &Engine) -> Self {
        let memory_fixed = process::memory().and_then(|memory| memory.allocated);
        Self { before: Totals::read(engine), hottest: Hottest::new(engine.clock.now()), memory_fixed }
    }

    /// Returns the sample for now.
    pub(super) fn sample(&mut self, engine: &Engine) -> Sample {
        let now = Totals::read(engine);
        let before = std::mem::replace(&mut self.before, now);
        let now = &self.before;
        let (hub, caps) = (&engine.hub, &engine.hub.settings().caps);
        let seconds = now.at.since(before.at).as_secs_f64();
        let state = if hub.is_draining() {
            "draining"
        } else if hub.connections() >= caps.connections_max {
            "full"
        } else {
            "ready"
        };
        let buckets = now.delivery.iter().zip(&before.delivery);
        let buckets: Vec<(u64, u64)> = buckets.map(|((upto, now), (_, was))| (*upto, now - was)).collect();
        let (history_events, history_bytes) = hub.history();
        let connections = sum(engine, |stats| &stats.connections);
        let memory = process::memory();
        if sum(engine, |stats| &stats.opened) == 0 && history_bytes == 0 {
            // Until the first stream: threads and buffers grow after the start, and are not the connections'.
            self.memory_fixed = memory.and_then(|memory| memory.allocated);
        }
        let fixed = self.memory_fixed.map(|fixed| fixed + history_bytes as u64);
        let oldest = engine.shard_stats().map(|stats| stats.oldest_unsent.get()).max().unwrap_or(0);
        let refused =
            now.refused.iter().zip(&before.refused).map(|((name, now), (_, was))| (*name, now - was));
        let mut rooms = self.hottest.look(hub.rooms(), now.at);
        rooms.count_members(hub, now.at);
        Sample {
            version: env!("CARGO_PKG_VERSION"),
            up_ms: now.at.0 / 1000,
            seconds: rounded(seconds),
            state,
            connections,
            connections_max: caps.connections_max,
            lagging: sum(engine, |stats| &stats.lagging),
            oldest_unsent_ms: millis(oldest),
            opened: now.opened - before.opened,
            accepted: now.accepted - before.accepted,
            published: now.published - before.published,
            delivered: now.delivered.iter().sum::<u64>() - before.delivered.iter().sum::<u64>(),
            bytes: now.bytes - before.bytes,
            p50_ms: quantile(&buckets, 0.5),
            p99_ms: quantile(&buckets, 0.99),
            cpu: now.cpu_since(&before, seconds),
            memory: memory.map(|memory| memory.resident),
            memory_per_connection: memory
                .and_then(|memory| memory.allocated)
                .zip(fixed)
                .and_then(|(allocated, fixed)| per_connection(allocated, fixed, connections)),
            history_events,
            history_bytes,
            shards: (0..engine.shards.len())
                .map(|index| now.shard(&before, engine, index, seconds))
                .collect(),
            closed: Counts::since(CloseReason::ALL, CloseReason::as_str, &now.closed, &before.closed),
            refused: Counts(refused.filter(|(_, count)| *count > 0).collect()),
            dropped: Counts::since(DropReason::ALL, DropReason::as_str, &now.dropped, &before.dropped),
            gaps: Counts::since(GapReason::ALL, GapReason::as_str, &now.gaps, &before.gaps),
            has_rules: has_rules(engine),
            members: hub.presence().stats().members(),
            presence_rooms: hub.presence().stats().rooms(),
            presence_messages: now.presence_messages - before.presence_messages,
            suppressed: now.suppressed - before.suppressed,
            skipped: Counts::since(SkipReason::ALL, SkipReason::as_str, &now.skipped, &before.skipped),
            replayed: now.replayed - before.replayed,
            claims: engine.order.claims(Kind::Key).held,
            rooms,
        }
    }
}

impl Totals {
    fn read(engine: &Engine) -> Self {
        let by = |count: usize, tally: &dyn Fn(&Stats, usize) -> u64| -> Vec<u64> {
            (0..count).map(|at| engine.shard_stats().map(|stats| tally(stats, at)).sum()).collect()
        };
        let mut delivery = vec![(0, 0); TIME_BUCKETS + 1];
        for stats in engine.shard_stats() {
            let (buckets, above, _) = stats.delivery.read();
            for (sum, (upto, count)) in delivery.iter_mut().zip(buckets.chain([(u64::MAX, above)])) {
                *sum = (upto, sum.1 + count);
            }
        }
        Self {
            at: engine.clock.now(),
            opened: sum(engine, |stats| &stats.opened),
            accepted: engine.stats.accepted.get(),
            published: engine.hub.events_published(),
            bytes: engine.shard_stats().flat_map(|stats| &stats.bytes).map(Tally::get).sum(),
            delivery,
            closed: by(CloseReason::ALL.len(), &|stats, at| stats.closed[at].get()),
            dropped: by(DropReason::ALL.len(), &|stats, at| stats.dropped[at].get()),
            gaps: by(GapReason::ALL.len(), &|stats, at| stats.gaps[at].get()),
            presence_messages: sum(engine, |stats| &stats.presence_sent),
            suppressed: suppressed(engine),
            skipped: by(SkipReason::ALL.len(), &|stats, at| stats.skipped[at].get()),
            replayed: engine.order.stats().replayed.get(),
            refused: engine.stats.refusals().collect(),
            delivered: engine.shard_stats().map(|stats| stats.delivered.get()).collect(),
            threads: process::threads(),
        }
    }

    fn shard(&self, before: &Self, engine: &Engine, index: usize, seconds: f64) -> ShardSample {
        let thread = engine.shards[index].thread.get();
        ShardSample {
            connections: engine.shards[index].stats.connections.get(),
            delivered: self.delivered[index] - before.delivered[index],
            cpu: thread.and_then(|thread| {
                let used = |threads: &[(u32, u64)]| Some(threads.iter().find(|(id, _)| id == thread)?.1);
                cores(used(&self.threads)?.saturating_sub(used(&before.threads)?), seconds)
            }),
        }
    }

    /// Processor time of the whole process, without threads that have ended since.
    fn cpu_since(&self, before: &Self, seconds: f64) -> Option<f64> {
        let used =
            |thread: &u32| before.threads.iter().find(|(id, _)| id == thread).map_or(0, |(_, used)| *used);
        let new = self.threads.iter().map(|(thread, now)| now.saturating_sub(used(thread))).sum();
        if self.threads.is_empty() { None } else { cores(new, seconds) }
    }
}

impl Counts {
    fn since<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, now: &[u64], before: &[u64]) -> Self {
        let counts =
            all.iter().zip(now.iter().zip(before)).map(|(reason, (now, was))| (name(*reason), now - was));
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }
}

fn sum(engine: &Engine, tally: impl Fn(&Stats) -> &Tally) -> u64 {
    engine.shard_stats().map(|stats| tally(stats).get()).sum()
}

/// Changes of presence that were told to nobody, since the start.
fn suppressed(engine: &Engine) -> u64 {
    Suppressed::ALL.iter().map(|why| engine.hub.presence().stats().suppressed(*why)).sum()
}

/// Whether anything has happened that only rooms with rules and idempotency keys have: presence, an event that was
/// skipped, or a publish that was answered as before. Other servers' pages do not speak of it.
#[must_use]
pub fn has_rules(engine: &Engine) -> bool {
    let presence = engine.hub.presence().stats();
    presence.rooms() > 0
        || engine.order.stats().replayed.get() > 0
        || sum(engine, |stats| &stats.presence_sent) > 0
        || engine.shard_stats().flat_map(|stats| &stats.skipped).any(|skipped| skipped.get() > 0)
}

/// Connections from which on their memory can be told apart from the rest of the process.
const CONNECTIONS_MIN: u64 = 1_000;

/// Bytes for each of `connections`, of what is `allocated` beyond the `fixed` share: the process without a connection, and
/// history, which is the same for one connection and for a million.
fn per_connection(allocated: u64, fixed: u64, connections: u64) -> Option<u64> {
    (connections >= CONNECTIONS_MIN).then(|| allocated.saturating_sub(fixed) / connections)
}

/// `nanos` of processor time in `seconds`, in cores.
#[allow(clippy::cast_precision_loss, reason = "nanoseconds of some seconds")]
fn cores(nanos: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| rounded(nanos as f64 * 1e-9 / seconds))
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of some hours")]
fn millis(micros: u64) -> f64 {
    rounded(micros as f64 / 1000.0)
}

/// The time within which share `q` of deliveries took place, in milliseconds; `None` if there were none. Within a
/// bucket, deliveries are assumed to be spread evenly, as in Prometheus.
fn quantile(buckets: &[(u64, u64)], q: f64) -> Option<f64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    #[allow(clippy::cast_precision_loss, reason = "a share of a count needs no last digit")]
    let rank = total as f64 * q;
    let (mut below, mut from) = (0.0, 0);
    for (upto, count) in buckets.iter().filter(|_| total > 0) {
        #[allow(clippy::cast_precision_loss, reason = "as above")]
        let (count, width) = (*count as f64, upto.saturating_sub(from) as f64);
        if count > 0.0 && below + count >= rank {
            // Above all buckets only the lower bound is known.
            let within = if *upto == u64::MAX { 0.0 } else { width * (rank - below) / count };
            #[allow(clippy::cast_precision_loss, reason = "powers of two")]
            return Some(rounded((from as f64 + within) / 1000.0));
        }
        below += count;
        from = *upto;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let buckets = [(1000, 50), (2000, 0), (4000, 50), (u64::MAX, 0)];
        assert_eq!(quantile(&buckets, 0.5), Some(1.0));
        assert_eq!(quantile(&buckets, 0.75), Some(3.0));
        assert_eq!(quantile(&buckets, 1.0), Some(4.0));
        assert_eq!(quantile(&[(1000, 0), (u64::MAX, 0)], 0.5), None);
        assert_eq!(quantile(&[(1000, 1), (u64::MAX, 9)], 0.99), Some(1.0), "beyond the last bound");
    }

    #[test]
    fn memory_per_connection_is_without_the_fixed_share() {
        assert_eq!(per_connection(8_000_000, 3_000_000, 10_000), Some(500));
        assert_eq!(per_connection(8_000_000, 3_000_000, 999), None, "too few to tell");
        assert_eq!(per_connection(3_000_000, 3_000_000, 0), None);
        assert_eq!(per_connection(2_000_000, 3_000_000, 1_000), Some(0), "memory was given back");
    }

    #[test]
    fn only_what_happened_is_named() {
        let counts = Counts::since(DropReason::ALL, DropReason::as_str, &[7, 3], &[7, 1]);
        assert_eq!(serde_json::to_string(&counts).unwrap(), r#"{"rate":2}"#);
    }
}
