//! The parameters of a seed: its bounds, its pace, and how its sockets behave.

use std::time::Duration;

use fastrand::Rng;
use tidegate::hub::Overflow;
use tidegate::hub::admission::Caps;
use tidegate::hub::history::HistoryBounds;
use tidegate::hub::log::rules::LogBounds;
use tidegate::types::rate::Rate;

use super::kind::Kind;

/// Number of names for rooms.
pub(crate) const ROOMS: usize = 6;
/// Number of names for users.
pub(crate) const USERS: usize = 5;

/// A bound that no seed reaches.
pub(crate) const HUGE: usize = 1 << 40;
pub(crate) const LONG: Duration = Duration::from_hours(24);

/// Everything that stays the same for the lives of one seed.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Plan {
    pub shards: usize,
    pub history: HistoryBounds,
    pub caps: Caps,
    pub delivery: Option<(Rate, Overflow)>,
    pub flush_interval: Duration,
    /// Members of a room that are flushed in one go.
    pub portion: u32,
    pub heartbeat: Duration,
    pub max_unsent_age: Duration,
    pub lease: Option<Duration>,
    pub drain: Duration,
    pub drain_rate: Rate,
    /// Random operations in a life.
    pub operations: usize,
    /// Connections that exist before the operations begin. In some seeds, more than one step can write to.
    pub crowd: usize,
    /// Rooms that connections choose from.
    pub rooms: usize,
    /// Of a hundred sockets, those that take a random number of bytes.
    pub moody: u32,
    /// Whether time may jump far.
    pub leaps: bool,
    /// Whether events are so large that they do not all fit into one batch.
    pub fat: bool,
    /// Of a hundred events, those that exclude a user.
    pub excluding: u32,
    /// Of a hundred events, those that require the permission `vip`.
    pub requiring: u32,
    /// Of a hundred connections with an identity, those whose identity expires.
    pub expiring: u32,
    /// The policies of the rooms at first; `None` if there are none in this seed.
    pub kinds: Option<[Kind; ROOMS]>,
    /// Whether events have keys under which they are published once.
    pub claims: bool,
    /// Of a hundred connections, those that poll.
    pub polling: u32,
    /// Whether events say which room they are from.
    pub says_room: bool,
    /// Whether users are muted.
    pub mutes: bool,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let one_in = |rng: &mut Rng, n: u32| rng.u32(0..n) == 0;
        let big = one_in(rng, 128);
        let fat = !big && one_in(rng, 50);
        let log = LogBounds {
            events_max: *rng.choice(&[0, 1, 2, 5, 10, 20]).expect("some"),
            bytes_max: if one_in(rng, 5) { rng.usize(200..3000) } else { HUGE },
        };
        let history = HistoryBounds {
            log,
            bytes_max: if one_in(rng, 5) { rng.usize(900..12_000) } else { HUGE },
            age_max: if one_in(rng, 5) { Duration::from_millis(rng.u64(10..500)) } else { LONG },
        };
        let caps = Caps {
            connections_max: if one_in(rng, 8) { rng.u32(1..12) } else { 10_000 },
            per_user_max: one_in(rng, 4).then(|| rng.u32(1..4)),
            replace: rng.bool(),
            per_address_max: one_in(rng, 8).then(|| rng.u32(1..4)),
        };
        let rate = Rate { events: rng.u32(1..6), per: Duration::from_millis(rng.u64(10..200)) };
        let overflow = if rng.bool() { Overflow::Drop } else { Overflow::Defer };
        Self {
            shards: rng.usize(1..=3),
            history,
            caps,
            delivery: one_in(rng, 6).then_some((rate, overflow)),
            flush_interval: if one_in(rng, 4) {
                Duration::ZERO
            } else {
                Duration::from_millis(rng.u64(1..20))
            },
            portion: if big { rng.u32(10..1000) } else { rng.u32(1..6) },
            heartbeat: Duration::from_millis(rng.u64(50..3000)),
            max_unsent_age: Duration::from_millis(if one_in(rng, 3) { rng.u64(50..2000) } else { 3_600_000 }),
            lease: one_in(rng, 6).then(|| Duration::from_millis(rng.u64(50..1500))),
            drain: Duration::from_millis(rng.u64(50..600)),
            drain_rate: Rate { events: rng.u32(1..2000), per: Duration::from_secs(1) },
            operations: if big {
                rng.usize(100..300)
            } else if fat {
                rng.usize(20..60)
            } else {
                rng.usize(20..160)
            },
            crowd: if big { rng.usize(260..700) } else { rng.usize(0..6) },
            rooms: if big { rng.usize(1..3) } else { rng.usize(1..=ROOMS) },
            moody: *rng.choice(&[0, 5, 30, 100]).expect("some"),
            leaps: rng.bool(),
            fat,
            excluding: *rng.choice(&[0, 0, 20]).expect("some"),
            requiring: *rng.choice(&[0, 0, 20, 70]).expect("some"),
            expiring: *rng.choice(&[0, 0, 30]).expect("some"),
            kinds: (fat || rng.bool()).then(|| std::array::from_fn(|_| Kind::draw(rng, history))),
            claims: rng.bool(),
            polling: *rng.choice(&[0, 0, 0, 30]).expect("some"),
            says_room: rng.u32(0..4) > 0,
            mutes: one_in(rng, 4),
        }
    }

    /// Returns whether a log without a policy drops events by their number alone.
    pub(crate) fn counts_only(&self) -> bool {
        let is_unlimited = self.history.log.bytes_max == HUGE && self.is_unlimited_together();
        is_unlimited && self.history.age_max == LONG
    }

    /// Returns whether the history as a whole is unbounded, so that only slow subscribers can lose events.
    pub(crate) fn is_unlimited_together(&self) -> bool {
        self.history.bytes_max == HUGE
    }
}
