//! Work that is due by the clock: heartbeats, reaping, leases, and the drain.

use std::collections::VecDeque;
use std::time::Duration;

use crate::hub::memory_level::MemoryLevel;
use crate::shard::Shard;
use crate::shard::batch::Piece;
use crate::shard::conn::{Conn, ConnKey, flag};
use crate::shard::net::Net;
use crate::shard::reason::CloseReason;
use crate::shard::shrink::SHRINK_INTERVAL;
use crate::types::histogram::micros;
use crate::types::moment::Moment;
use crate::types::rate::Rate;
use crate::wire::control::{self, Heartbeat};

/// Time between two rounds of this work.
pub const TEND_INTERVAL: Duration = Duration::from_millis(100);

/// How often every connection is checked in one heartbeat interval. A heartbeat is written after a silence of four
/// fifths of the interval. So no silence is longer than the setting, and the heartbeats of a room that falls silent at
/// once are spread over a fifth of it.
const LOOKS_PER_HEARTBEAT: u32 = 5;

/// Time between two searches for connections to reap, while there are slow ones.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// When memory is short, each search reaps one in this many of the connections that are behind, those furthest behind
/// first: enough to reach most of them within seconds, but few enough to stop when the first have freed enough.
const SHORT_OF_MEMORY_SHARE: usize = 4;

/// Part of the longest time of a drain within which all connections are told to close; the rest is for slow sockets.
const DRAIN_SHARE: f64 = 0.9;

/// State of the work that is due by the clock.
#[derive(Default)]
pub struct Tending {
    at: Moment,
    heartbeats: Round,
    pub(super) sessions: Round,
    last: Moment,
    reap_at: Moment,
    shrink_at: Moment,
    drain: Option<Drain>,
}

/// A walk over all slots, a part at a time.
#[derive(Default)]
pub(super) struct Round {
    slot: u32,
}

impl Round {
    /// The next of `slots` slots, `passed` after the last: so many that every slot comes once within `period`.
    pub(super) fn next_slots(
        &mut self,
        slots: u32,
        passed: Duration,
        period: Duration,
    ) -> impl Iterator<Item = u32> + use<> {
        let share = (passed.as_secs_f64() / period.as_secs_f64()).min(1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and slots")]
        let count = (f64::from(slots) * share).ceil() as u32;
        let first = self.slot;
        let nth = move |n: u32| u32::try_from((u64::from(first) + u64::from(n)) % u64::from(slots.max(1)));
        self.slot = nth(count).unwrap_or(0);
        (0..count).filter_map(move |n| nth(n).ok())
    }
}

struct Drain {
    started: Moment,
    /// Time over which the closes are spread.
    window: Duration,
    count: usize,
    /// Connections that are still to be closed.
    rest: VecDeque<ConnKey>,
}

impl Tending {
    /// When there is work again.
    pub(super) fn at(&self) -> Moment {
        self.at
    }
}

/// Time over which a drain closes `streams`, of all shards together: at `rate`, or faster if that would take too much of
/// `drain`. One stream is closed at once, and ten thousand do not come back in the same moment.
#[must_use]
pub fn drain_window(streams: u32, rate: Rate, drain: Duration) -> Duration {
    let at_rate = rate.per.mul_f64(f64::from(streams) / f64::from(rate.events));
    at_rate.min(drain.mul_f64(DRAIN_SHARE))
}

/// How long connection `index` of `count` stays after a drain begins.
///
/// Closing all connections at once makes every client reconnect at once, to whichever nodes are left. Spacing the
/// closes evenly over `window` keeps the reconnect rate near `count / window`.
#[must_use]
pub fn close_after(index: usize, count: usize, window: Duration) -> Duration {
    debug_assert!(index < count);
    #[allow(clippy::cast_precision_loss, reason = "a few thousand connections, to the microsecond")]
    let share = index as f64 / count as f64;
    window.mul_f64(share)
}

/// The age at `now` of the oldest unsent event of a connection whose socket is full, and its slot. `None` for others.
fn unsent_age<S>(now: Moment) -> impl Fn((u32, &Conn<S>)) -> Option<(Duration, u32)> {
    move |(slot, conn)| {
        let lag = conn.lag.as_ref().filter(|_| conn.has(flag::BLOCKED))?;
        // Events from before it joined are old from the start. With those, it only has to keep taking bytes.
        let since = if lag.published < conn.opened { conn.written } else { lag.published };
        Some((now.since(since), slot))
    }
}

impl<N: Net> Shard<N> {
    pub(super) fn tend(&mut self) {
        if self.now < self.tending.at {
            return;
        }
        let passed = self.now.since(self.tending.last);
        self.tending.last = self.now;
        self.tending.at = self.now + TEND_INTERVAL;
        self.tick_presence();
        self.make_round(passed);
        self.check_sessions(passed);
        self.tell_the_untold();
        if self.now >= self.tending.reap_at {
            self.tending.reap_at = self.now + REAP_INTERVAL;
            self.reap();
        }
        if self.now >= self.tending.shrink_at {
            self.tending.shrink_at = self.now + SHRINK_INTERVAL;
            self.shrink();
        }
        // The command to drain is lost if the mailbox is full.
        if self.hub.is_draining() {
            self.start_drain();
        }
        self.continue_drain();
    }

    /// Does what is due about who is present, in all rooms: one shard does it for all.
    fn tick_presence(&mut self) {
        if self.settings.index == 0 {
            let tick = self.hub.presence().tick(self.now);
            if tick.has_more {
                self.tending.at = self.now;
            }
            tick.wakers.into_iter().for_each(std::task::Waker::wake);
        }
    }

    /// Checks the next part of the slots, so large that all are checked often enough.
    fn make_round(&mut self, passed: Duration) {
        let slots = self.conns.slots();
        let period = self.settings.heartbeat / LOOKS_PER_HEARTBEAT;
        for slot in self.tending.heartbeats.next_slots(slots, passed, period) {
            self.check_timers(slot);
        }
    }

    fn check_timers(&mut self, slot: u32) {
        let silence = self.settings.heartbeat * (LOOKS_PER_HEARTBEAT - 1) / LOOKS_PER_HEARTBEAT;
        // The probe needs no heartbeat, which might stay unread, and no lease, because nothing renews it.
        let left_alone = flag::BLOCKED | flag::CLOSING | flag::PROBE;
        let Some(conn) = self.conns.get(slot).filter(|conn| !conn.has(left_alone)) else {
            return;
        };
        let (opened, written) = (conn.opened, conn.written);
        if self.settings.lease.is_some_and(|lease| self.now.since(opened) >= lease) {
            return self.close(slot, CloseReason::Lease);
        }
        if self.now.since(written) < silence {
            return;
        }
        // Moves the cursor over everything that was not for this connection.
        self.advance(slot);
        let quiet = |conn: &&Conn<N::Socket>| !conn.has(flag::BLOCKED) && conn.written == written;
        if let Some(piece) = self.conns.get(slot).filter(quiet).map(|conn| self.heartbeat(slot, conn)) {
            self.stats.heartbeats.add(1);
            self.write(slot, &[piece]);
        }
    }

    /// The heartbeat of `conn`, which is at `slot`.
    fn heartbeat(&self, slot: u32, conn: &Conn<N::Socket>) -> Piece {
        let cursor = conn.cursor;
        match conn.heartbeat {
            Heartbeat::Comment => {
                let bytes = conn.encoding.comment();
                Piece { bytes, upto: cursor, published: self.now, events: 0 }
            }
            Heartbeat::Id => {
                let mut plain = Vec::new();
                control::put_heartbeat(self.hub.position(cursor).as_str(), &mut plain);
                self.own_piece(slot, &plain, cursor)
            }
        }
    }

    /// Closes connections whose oldest unsent event is too old, and notes the age of the oldest of the others.
    fn reap(&mut self) {
        let mut oldest = Duration::ZERO;
        if self.stats.lagging.get() > 0 {
            let mut behind: Vec<(Duration, u32)> =
                self.conns.iter().filter_map(unsent_age(self.now)).collect();
            let is_stalled = |(age, _): &(Duration, u32)| *age >= self.settings.max_unsent_age;
            let stalled: Vec<_> = behind.extract_if(.., |conn| is_stalled(conn)).collect();
            for (_, slot) in stalled {
                self.remove(slot, CloseReason::Stalled);
            }
            if self.hub.memory_level() >= MemoryLevel::ReapLagging {
                self.reap_furthest_behind(&mut behind);
            }
            oldest = behind.iter().map(|(age, _)| *age).max().unwrap_or_default();
        }
        self.stats.oldest_unsent.set(micros(oldest));
    }

    /// Closes a share of `behind`, furthest first, and leaves the others in it.
    fn reap_furthest_behind(&mut self, behind: &mut Vec<(Duration, u32)>) {
        behind.sort_unstable_by(|one, other| other.cmp(one));
        for (_, slot) in behind.drain(..behind.len().div_ceil(SHORT_OF_MEMORY_SHARE)) {
            self.remove(slot, CloseReason::Memory);
        }
    }

    /// Begins a drain, unless it has begun.
    pub(super) fn start_drain(&mut self) {
        if self.is_draining() {
            return;
        }
        // The probe would keep an empty server waiting; readiness ended when the drain began.
        let probe = self.conns.iter().find(|(_, conn)| conn.has(flag::PROBE)).map(|(slot, _)| slot);
        if let Some(slot) = probe {
            self.remove(slot, CloseReason::Drain);
        }
        let rest: VecDeque<ConnKey> = self.conns.iter().map(|(slot, _)| self.conns.key(slot)).collect();
        // Connections of other shards reconnect to the same servers, so they count too.
        let all = self.hub.connections().max(u32::try_from(rest.len()).unwrap_or(u32::MAX));
        let window = drain_window(all, self.settings.drain_rate, self.settings.drain);
        self.tending.drain = Some(Drain { started: self.now, window, count: rest.len(), rest });
        self.continue_drain();
    }

    fn continue_drain(&mut self) {
        let Some(mut drain) = self.tending.drain.take() else {
            return;
        };
        let passed = self.now.since(drain.started);
        while let Some(key) = drain.rest.front().copied() {
            let index = drain.count - drain.rest.len();
            if close_after(index, drain.count, drain.window) > passed {
                break;
            }
            drain.rest.pop_front();
            if let Some(slot) = self.conns.find(key) {
                self.close(slot, CloseReason::Drain);
            }
        }
        if drain.rest.is_empty() && passed >= self.settings.drain {
            // Time is up: slow connections are cut off.
            let left: Vec<u32> = self.conns.iter().map(|(slot, _)| slot).collect();
            for slot in left {
                self.remove(slot, CloseReason::Drain);
            }
        }
        self.tending.drain = Some(drain);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.tending.drain.is_some()
    }

    /// Whether a drain has closed all connections.
    pub(super) fn is_drained(&self) -> bool {
        self.is_draining() && self.conns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_spread_evenly() {
        let window = Duration::from_secs(9);
        let at: Vec<u128> = (0..9).map(|index| close_after(index, 9, window).as_millis()).collect();
        assert_eq!(at, [0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000]);
    }

    /// A drain of one stream took as long as one of ten thousand.
    #[test]
    fn a_drain_takes_as_long_as_its_streams_need_and_no_longer_than_it_may() {
        let (rate, drain) = (Rate { events: 1000, per: Duration::from_secs(1) }, Duration::from_secs(5));
        let window = |streams| drain_window(streams, rate, drain).as_millis();
        assert_eq!([0, 1, 100, 4000].map(window), [0, 1, 100, 4000]);
        assert_eq!([4500, 10_000, u32::MAX].map(window), [4500; 3], "the rest is for slow sockets");
        assert_eq!(drain_window(1, rate, Duration::ZERO), Duration::ZERO);
    }
}
