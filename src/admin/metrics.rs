//! Every metric: its name, its help, its labels, and where its value comes from.
//!
//! Counters and gauges go through the `metrics` facade; their handles are looked up once, and a scrape sets them from
//! the shards' own counters. The four histograms are written here: the exporter keeps every single sample until the
//! next scrape, which is too much at half a million deliveries a second. The figures of each shard are written here
//! too, because the facade's counters have no fractions of a second.

use std::fmt::Write as _;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::admin::histogram::{MICROS, count, put_histogram};
use crate::admin::order;
use crate::auth::token_error::TokenError;
use crate::engine::Engine;
use crate::engine::machine::Machine;
use crate::engine::stats::Refused;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::presence::stats::Suppressed;
use crate::order::claims::Kind;
use crate::shard::reason::{CloseReason, DropReason, GapReason, SkipReason};
use crate::shard::stats::Stats;
use crate::types::histogram::Tally;
use crate::types::moment::Moment;
use crate::types::words::Words;
use crate::upstream::stats::{Outcome, Purpose};

/// The metrics of one server.
pub struct Telemetry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    machine: Machine,
    gauges: Gauges,
    counters: Counters,
}

struct Gauges {
    ready: Gauge,
    draining: Gauge,
    memory_max: Gauge,
    memory_limit: Gauge,
    memory_level: Gauge,
    cpus_max: Gauge,
    connections: Gauge,
    connections_max: Gauge,
    rooms: Gauge,
    users: Gauge,
    lagging: Gauge,
    oldest_unsent: Gauge,
    history_bytes: Gauge,
    history_max: Gauge,
    members: Gauge,
    presence_rooms: Gauge,
    history_events: Gauge,
    gzip_ratio: Gauge,
    revocations: Gauge,
    requests: Gauge,
    requests_max: Gauge,
    waiting: Gauge,
    waiting_max: Gauge,
    http_bytes: Gauge,
    http_bytes_max: Gauge,
    claims: [Gauge; 2],
    claims_max: Gauge,
    muted: Gauge,
}

struct Counters {
    opened: Counter,
    refused_connections: Counter,
    accepted: Counter,
    accept_paused: Counter,
    shed: Counter,
    closed: Vec<Counter>,
    published: Counter,
    outdated: Counter,
    replayed: Counter,
    claims_dropped: [Counter; 2],
    delivered: Counter,
    heartbeats: Counter,
    bytes: [Counter; 2],
    dropped: Vec<Counter>,
    skipped: Vec<Counter>,
    gaps: Vec<Counter>,
    refused: Vec<Counter>,
    tokens_verified: Counter,
    tokens_cached: Counter,
    tokens_refused: Vec<Counter>,
    upstream: Vec<(Purpose, Outcome, Counter)>,
    notices_dropped: Counter,
    presence_notices_dropped: Counter,
    presence_suppressed: Vec<Counter>,
    members_refused: Counter,
    presence_sent: Counter,
    presence_stale: Counter,
}

impl Telemetry {
    /// Registers every metric, so that the first scrape has all of them.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let process = metrics_process::Collector::default();
        let (gauges, counters) = metrics::with_local_recorder(&recorder, || {
            process.describe();
            describe_gauge!("tidegate_build_info", "Always 1; the labels name the version that runs.");
            gauge!("tidegate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            (Gauges::register(), Counters::register())
        });
        Self { recorder, handle, process, machine: Machine::read(), gauges, counters }
    }

    /// Renders the current values as Prometheus text.
    #[must_use]
    pub fn render(&self, engine: &Engine) -> String {
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let now = engine.clock.now();
        self.gauges.set(engine, self.machine, now);
        self.counters.set(engine);
        let shards: Vec<&Stats> = engine.shard_stats().collect();
        let mut text = self.handle.render();
        put_histogram(
            &mut text,
            "tidegate_flush_seconds",
            "Time of one flush of a room or a broadcast over a shard's connections. Up to 256 writes count as none.",
            MICROS,
            &shards,
            |stats| &stats.flush,
        );
        put_histogram(
            &mut text,
            "tidegate_flush_batch_events",
            "Events in one flush.",
            1.0,
            &shards,
            |stats| &stats.batch,
        );
        put_histogram(
            &mut text,
            "tidegate_delivery_seconds",
            "Time from an event's publish until a connection's socket took it, for each delivery but replays of history.",
            MICROS,
            &shards,
            |stats| &stats.delivery,
        );
        put_histogram(
            &mut text,
            "tidegate_auth_callback_seconds",
            "Time the application took to allow or refuse a subscriber, time-outs included.",
            MICROS,
            &[&*engine.upstream.stats],
            |stats| &stats.callback,
        );
        put_by_shard(
            &mut text,
            ("tidegate_shard_connections", "gauge"),
            "Open streams of each shard.",
            &shards,
            |stats| count(stats.connections.get()),
        );
        put_by_shard(
            &mut text,
            ("tidegate_shard_busy_seconds_total", "counter"),
            "Time spent on a shard's deliveries, heartbeats and closes. Requests come on top.",
            &shards,
            |stats| seconds(stats.busy.get()),
        );
        put_by_shard(
            &mut text,
            ("tidegate_shard_step_age_seconds", "gauge"),
            "Time since the last step of a shard's thread, which takes ten steps a second.",
            &shards,
            |stats| step_age(stats, now).as_secs_f64(),
        );
        if let Some(disk) = &engine.disk {
            order::put(&mut text, disk);
        }
        if let Some(shared) = engine.shared.get() {
            order::put_link(&mut text, &shared.stats);
        }
        text
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

/// Age of a shard's last step from which on the server is not ready. The probe of `/readyz` waits as long.
const STEP_AGE_MAX: Duration = Duration::from_secs(1);

fn seconds(micros: u64) -> f64 {
    count(micros) / MICROS
}

/// Time since the last step of a shard's thread.
fn step_age(stats: &Stats, now: Moment) -> Duration {
    now.since(Moment(stats.stepped_at.get()))
}

/// Whether a new stream would be served, as far as this shows without publishing an event.
fn is_ready(engine: &Engine, now: Moment) -> bool {
    let hub = &engine.hub;
    !hub.is_draining()
        && hub.memory_level() < MemoryLevel::NoNewcomers
        && hub.connections() < hub.settings().caps.connections_max
        && engine.shard_stats().all(|stats| step_age(stats, now) < STEP_AGE_MAX)
}

/// Sums a figure over the shards.
fn sum(engine: &Engine, tally: impl Fn(&Stats) -> &Tally) -> u64 {
    engine.shard_stats().map(|stats| tally(stats).get()).sum()
}

impl Gauges {
    fn register() -> Self {
        let register = |name: &'static str, help: &'static str| {
            describe_gauge!(name, help);
            gauge!(name)
        };
        Self {
            ready: register(
                "tidegate_ready",
                "1 if new streams are accepted: the server is not draining, full or short of memory, and every shard is at work.",
            ),
            draining: register("tidegate_draining", "1 while the server is draining."),
            memory_max: register(
                "tidegate_memory_max_bytes",
                "Memory the process may use: its control group's limit or all of the machine's.",
            ),
            memory_limit: register(
                "tidegate_memory_limit_bytes",
                "Resident memory that the memory levels are shares of; infinite if they are off.",
            ),
            memory_level: register(
                "tidegate_memory_level",
                "Memory level: 1 no replays, 2 the streams furthest behind are reaped, 3 no new streams, 4 no publishes.",
            ),
            cpus_max: register(
                "tidegate_cpus_max",
                "Cores the process can keep busy: the cores it may use, at most one for each shard.",
            ),
            connections: register("tidegate_connections", "Open streams."),
            connections_max: register(
                "tidegate_connections_max",
                "Streams that may be open at once, by the setting or the open files limit.",
            ),
            rooms: register("tidegate_rooms", "Rooms with subscribers or history."),
            users: register("tidegate_users", "Users with at least one open stream."),
            lagging: register(
                "tidegate_lagging_connections",
                "Streams whose socket takes no more bytes for now.",
            ),
            oldest_unsent: register(
                "tidegate_oldest_unsent_seconds",
                "Age of the oldest event that a socket has not taken.",
            ),
            history_bytes: register(
                "tidegate_history_bytes",
                "Bytes of events kept for all rooms and inboxes.",
            ),
            history_max: register(
                "tidegate_history_max_bytes",
                "Bytes of events that may be kept for all rooms and inboxes together.",
            ),
            members: register("tidegate_presence_members", "Members of all rooms: users that are present."),
            presence_rooms: register(
                "tidegate_presence_rooms",
                "Rooms with members, or with streams that see presence.",
            ),
            history_events: register("tidegate_history_events", "Events kept for all rooms and inboxes."),
            gzip_ratio: register(
                "tidegate_gzip_ratio",
                "Plain bytes per compressed byte, since the start; 0 without gzip.",
            ),
            revocations: register("tidegate_revocations", "Tokens and users whose revocation is stored."),
            requests: register(
                "tidegate_requests",
                "Connections that speak HTTP: requests, and streams that begin.",
            ),
            requests_max: register("tidegate_requests_max", "Connections that may speak HTTP at once."),
            waiting: register(
                "tidegate_waiting_requests",
                "Requests that may wait long: streams of lines, and subscribers while the application is asked.",
            ),
            waiting_max: register("tidegate_waiting_requests_max", "Requests that may wait long at once."),
            http_bytes: register(
                "tidegate_http_bytes",
                "Bytes that bodies of requests and answers hold, without the first 16 KiB of each.",
            ),
            http_bytes_max: register(
                "tidegate_http_max_bytes",
                "Bytes that bodies and answers may hold together.",
            ),
            claims: Kind::ALL.map(|kind| {
                describe_gauge!(
                    "tidegate_claims",
                    "What is remembered: idempotency keys (key), and data that may not be repeated (data)."
                );
                gauge!("tidegate_claims", "kind" => kind.as_str())
            }),
            claims_max: register("tidegate_claims_max", "Those of one kind that may be remembered at once."),
            muted: register("tidegate_muted_users", "Muted users, counted once for each room."),
        }
    }

    fn set(&self, engine: &Engine, machine: Machine, now: Moment) {
        let settings = engine.hub.settings();
        let (events, bytes) = engine.hub.history();
        let oldest = engine.shard_stats().map(|stats| stats.oldest_unsent.get()).max().unwrap_or(0);
        let (plain, packed) = (sum(engine, |stats| &stats.gzip[0]), sum(engine, |stats| &stats.gzip[1]));
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let size = |n: usize| count(n as u64);
        self.ready.set(flag(is_ready(engine, now)));
        self.draining.set(flag(engine.hub.is_draining()));
        // The limit is unknown: then every share of it is zero.
        self.memory_max.set(machine.memory_max.map_or(f64::INFINITY, count));
        self.memory_limit.set(engine.memory.limit().map_or(f64::INFINITY, count));
        self.memory_level.set(f64::from(engine.hub.memory_level().number()));
        self.cpus_max.set(size(machine.cpus.min(engine.shards.len())));
        self.connections.set(count(sum(engine, |stats| &stats.connections)));
        self.connections_max.set(f64::from(settings.caps.connections_max));
        self.rooms.set(size(engine.hub.rooms().len()));
        self.users.set(size(engine.hub.users_connected()));
        self.lagging.set(count(sum(engine, |stats| &stats.lagging)));
        self.oldest_unsent.set(seconds(oldest));
        self.history_bytes.set(size(bytes));
        self.history_max.set(size(settings.history.bytes_max));
        self.history_events.set(size(events));
        self.members.set(size(engine.hub.presence().stats().members()));
        self.presence_rooms.set(size(engine.hub.presence().stats().rooms()));
        self.revocations.set(size(engine.access.revocations.len()));
        self.requests.set(size(engine.stats.requests.get()));
        self.requests_max.set(size(engine.config.max_requests));
        self.waiting.set(size(engine.stats.waiting.get()));
        self.waiting_max.set(size(engine.config.max_waiting_requests));
        self.http_bytes.set(size(engine.buffers.held()));
        self.http_bytes_max.set(size(engine.buffers.bytes_max()));
        for (kind, gauge) in Kind::ALL.into_iter().zip(&self.claims) {
            let claims = engine.order.claims(kind);
            gauge.set(size(claims.held));
            self.claims_max.set(size(claims.max));
        }
        self.muted.set(size(engine.hub.mutes().len()));
        self.gzip_ratio.set(if packed == 0 { 0.0 } else { count(plain) / count(packed) });
    }
}

impl Counters {
    fn register() -> Self {
        let one = |name: &'static str, help: &'static str| {
            describe_counter!(name, help);
            counter!(name)
        };
        let [opened, refused_connections] = by_label(
            "tidegate_connections_total",
            "Streams asked for, by whether they were opened or refused.",
            "outcome",
            ["opened", "refused"],
        );
        Self {
            opened,
            refused_connections,
            accepted: one("tidegate_accepted_total", "Connections accepted, streams and publishes alike."),
            accept_paused: one(
                "tidegate_accept_paused_total",
                "Times accepting paused because descriptors ran out.",
            ),
            shed: one(
                "tidegate_requests_shed_total",
                "HTTP connections that were idle or had an unfinished request, closed because others needed their place.",
            ),
            closed: by_reason::<CloseReason>(
                "tidegate_connections_closed_total",
                "Streams that ended, by reason.",
            ),
            published: one("tidegate_events_published_total", "Events taken from publishers."),
            outdated: one(
                "tidegate_events_outdated_total",
                "Events that were not published, because there is a newer version of what they are about.",
            ),
            replayed: one(
                "tidegate_replayed_total",
                "Publishes with an idempotency key that were answered as before: requests, and events with a key.",
            ),
            claims_dropped: by_label(
                "tidegate_claims_dropped_total",
                "Idempotency keys, and data that may not be repeated, forgotten before their time for want of places.",
                "kind",
                Kind::ALL.map(Kind::as_str),
            ),
            delivered: one(
                "tidegate_events_delivered_total",
                "Events written completely, counted once for each stream.",
            ),
            heartbeats: one("tidegate_heartbeats_total", "Heartbeats written to silent streams."),
            bytes: by_label(
                "tidegate_bytes_sent_total",
                "Bytes that sockets of streams took, by encoding.",
                "encoding",
                ["plain", "gzip"],
            ),
            dropped: by_reason::<DropReason>(
                "tidegate_events_dropped_total",
                "Events lost by open streams, counted once for each stream, by reason.",
            ),
            skipped: by_reason::<SkipReason>(
                "tidegate_events_skipped_total",
                "Events that a room's policy left out for open streams, counted once for each stream, by reason.",
            ),
            gaps: by_reason::<GapReason>("tidegate_gaps_total", "Gaps announced to subscribers, by reason."),
            refused: by_reason::<Refused>("tidegate_refused_total", "Requests refused, by reason."),
            tokens_verified: one(
                "tidegate_token_verifications_total",
                "Tokens whose signature was checked, good and bad.",
            ),
            tokens_cached: one(
                "tidegate_token_cache_hits_total",
                "Tokens found in the cache of good ones, so that only their times were checked.",
            ),
            tokens_refused: by_reason::<TokenError>(
                "tidegate_tokens_refused_total",
                "Tokens that were refused, by reason.",
            ),
            upstream: upstream_requests(),
            notices_dropped: one(
                "tidegate_notices_dropped_total",
                "Streams whose end was not reported to the application.",
            ),
            presence_notices_dropped: one(
                "tidegate_presence_notices_dropped_total",
                "Changes of presence that were not reported to the application.",
            ),
            presence_suppressed: by_reason::<Suppressed>(
                "tidegate_presence_suppressed_total",
                "Changes of presence that needed no message: cancelled by an opposite one, or undone within the grace.",
            ),
            members_refused: one(
                "tidegate_presence_members_refused_total",
                "Users that did not become members because there are the most members allowed, of all users or of this one.",
            ),
            presence_sent: one(
                "tidegate_presence_messages_total",
                "Messages about who is present, counted once for each stream.",
            ),
            presence_stale: one(
                "tidegate_presence_stale_total",
                "Messages about who is present that a slow stream did not take. It gets a state in their place.",
            ),
        }
    }

    fn set(&self, engine: &Engine) {
        self.opened.absolute(sum(engine, |stats| &stats.opened));
        self.refused_connections.absolute(engine.stats.streams_refused.get());
        self.accepted.absolute(engine.stats.accepted.get());
        self.accept_paused.absolute(engine.stats.accept_paused.get());
        self.shed.absolute(engine.stats.shed.get());
        self.published.absolute(engine.hub.events_published());
        self.outdated.absolute(engine.order.stats().skipped.get());
        self.replayed.absolute(engine.order.stats().replayed.get());
        for (kind, counter) in Kind::ALL.into_iter().zip(&self.claims_dropped) {
            counter.absolute(engine.order.claims(kind).dropped);
        }
        self.delivered.absolute(sum(engine, |stats| &stats.delivered));
        self.heartbeats.absolute(sum(engine, |stats| &stats.heartbeats));
        for (at, counter) in self.bytes.iter().enumerate() {
            counter.absolute(sum(engine, |stats| &stats.bytes[at]));
        }
        for (at, counter) in self.closed.iter().enumerate() {
            counter.absolute(sum(engine, |stats| &stats.closed[at]));
        }
        for (at, counter) in self.skipped.iter().enumerate() {
            counter.absolute(sum(engine, |stats| &stats.skipped[at]));
        }
        for (at, counter) in self.dropped.iter().enumerate() {
            counter.absolute(sum(engine, |stats| &stats.dropped[at]));
        }
        for (at, counter) in self.gaps.iter().enumerate() {
            counter.absolute(sum(engine, |stats| &stats.gaps[at]));
        }
        for (counter, (_, count)) in self.refused.iter().zip(engine.stats.refusals()) {
            counter.absolute(count);
        }
        let tokens = &engine.access.token_stats;
        self.tokens_verified.absolute(tokens.verified());
        self.tokens_cached.absolute(tokens.cached());
        for (counter, (_, count)) in self.tokens_refused.iter().zip(tokens.refused()) {
            counter.absolute(count);
        }
        for (kind, outcome, counter) in &self.upstream {
            counter.absolute(engine.upstream.stats.requests(*kind, *outcome));
        }
        self.notices_dropped
            .absolute(engine.upstream.notices.as_ref().map_or(0, |notices| notices.dropped()));
        self.presence_notices_dropped
            .absolute(engine.upstream.presence.as_ref().map_or(0, |notices| notices.dropped()));
        let presence = engine.hub.presence().stats();
        for (counter, why) in self.presence_suppressed.iter().zip(Suppressed::ALL) {
            counter.absolute(presence.suppressed(*why));
        }
        self.members_refused.absolute(presence.refused());
        self.presence_sent.absolute(sum(engine, |stats| &stats.presence_sent));
        self.presence_stale.absolute(sum(engine, |stats| &stats.presence_stale));
    }
}

/// A counter for each of `values`.
fn by_label<const N: usize>(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: [&'static str; N],
) -> [Counter; N] {
    describe_counter!(name, help);
    values.map(|value| counter!(name, label => value))
}

/// A counter for each reason of a closed set.
fn by_reason<T: Words>(name: &'static str, help: &'static str) -> Vec<Counter> {
    describe_counter!(name, help);
    T::ALL.iter().map(|reason| counter!(name, "reason" => reason.word())).collect()
}

/// A counter for each possible outcome of a request to another server.
fn upstream_requests() -> Vec<(Purpose, Outcome, Counter)> {
    describe_counter!(
        "tidegate_upstream_requests_total",
        "Requests to other servers, by purpose and outcome."
    );
    let pairs =
        Purpose::ALL.iter().flat_map(|kind| kind.outcomes().iter().map(move |outcome| (*kind, *outcome)));
    let count = |(kind, outcome): (Purpose, Outcome)| {
        let labels = [("kind", kind.as_str()), ("outcome", outcome.as_str())];
        (kind, outcome, counter!("tidegate_upstream_requests_total", &labels))
    };
    pairs.map(count).collect()
}

/// Appends one series for each shard. Their number is fixed by the settings.
fn put_by_shard(
    out: &mut String,
    (name, kind): (&str, &str),
    help: &str,
    shards: &[&Stats],
    value: impl Fn(&Stats) -> f64,
) {
    let write = |out: &mut String| -> std::fmt::Result {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for (shard, stats) in shards.iter().enumerate() {
            writeln!(out, "{name}{{shard=\"{shard}\"}} {}", value(stats))?;
        }
        writeln!(out)
    };
    write(out).expect("a String takes any text");
}
