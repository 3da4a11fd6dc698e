//! What the scenarios about rooms with rules find.

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::measured::or_nan;
use crate::number::count;

/// Who is there, for all users of one large room or of many small ones.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Presence {
    /// Members of a room.
    pub members: u64,
    /// From the first connect until every stream knew the number of members: until the last message was read.
    pub join_seconds: f64,
    /// Messages in that time, over all streams; those that streams began with are not among them.
    pub join_messages: u64,
    /// What they may be at most.
    pub join_messages_max: u64,
    /// Streams cut and opened again while all reloaded.
    pub reloads: u64,
    /// Messages that came of that. None should.
    pub reload_messages: u64,
    /// From the moment at which all left until that was known.
    pub leave_seconds: f64,
    /// Messages in that time, over all who watched.
    pub leave_messages: u64,
    /// What they may be at most.
    pub leave_messages_max: u64,
    /// Messages with which streams began.
    pub begun: u64,
    /// Latencies of ordinary events in the same room, if there were any.
    pub with: Option<Latencies>,
    /// The same in the run without presence.
    pub without: Option<Latencies>,
    /// Memory for each connection in the run without presence, KiB.
    #[serde(deserialize_with = "or_nan")]
    pub memory_each_kib_without: f64,
}

/// 99th percentiles of publish to read, milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Latencies {
    /// While all joined.
    pub join_p99_ms: f64,
    /// While nobody came or went.
    pub calm_p99_ms: f64,
    /// While all reloaded.
    pub reload_p99_ms: f64,
    /// Over all that.
    pub p99_ms: f64,
}

/// Events that replace each other.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Conflate {
    /// Keys.
    pub keys: u64,
    /// Updates that were published.
    pub updates: u64,
    /// Updates that a subscriber got, on average. Slow ones are not among them.
    pub each: f64,
    /// Of all updates, the share that went out to such a subscriber in none of its flushes, percent.
    pub conflated_percent: f64,
    /// Server CPU for each update, microseconds.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_update: f64,
    /// Subscribers that read slowly.
    pub slow: u64,
    /// Updates that one of them got, on average.
    pub slow_each: f64,
    /// Pairs of subscriber and key whose newest version was checked at the end.
    pub checked: u64,
}

/// Streams that end early.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Poll {
    /// Polls that ended in the window, and were followed by another one.
    pub polls: u64,
    /// The same a second.
    pub polls_per_s: f64,
    /// Server CPU for each, microseconds. The deliveries are in it.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
    /// Events that one brought, on average.
    pub events_each: f64,
    /// Connect to `connected`, 99th percentile.
    pub connect_p99_ms: f64,
    /// Polls that were refused and made again.
    pub refused: u64,
}

/// A server with an order on disk that was killed again and again.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Kill {
    /// Kills.
    pub kills: u64,
    /// From the first to the last.
    pub seconds: f64,
    /// Events that were answered, each sent until it was.
    pub events: u64,
    /// The same a second, with the server away for much of it.
    pub events_per_s: f64,
    /// Events that subscribers got.
    pub deliveries: u64,
    /// Times that they came back.
    pub returned: u64,
    /// The longest time until a killed server accepted again.
    pub start_max_ms: f64,
    /// Events that were answered and did not come to a subscriber, without a gap.
    pub undeclared: u64,
    /// Events that came twice.
    pub duplicated: u64,
    /// Events that came after newer ones.
    pub reordered: u64,
    /// Events that came under another id than that of their answer.
    pub other_ids: u64,
    /// Events that were answered and that nobody got.
    pub lost: u64,
    /// Gaps told.
    pub gaps: u64,
}

/// Several nodes with one Redis, of which everything failed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Nodes {
    /// Nodes.
    pub nodes: u64,
    /// Times that something went wrong.
    pub faults: u64,
    /// From the first fault to the last.
    pub seconds: f64,
    /// Events that were answered, each sent until it was.
    pub events: u64,
    /// The same a second, with something wrong for much of it.
    pub events_per_s: f64,
    /// Events that subscribers got, each of them checked.
    pub deliveries: u64,
    /// Times that they came back.
    pub returned: u64,
    /// Orders that there were: one more for each time that Redis lost everything.
    pub orders: u64,
    /// Terms of them.
    pub terms: u64,
    /// The longest time from a fault's end until every node had answered again.
    pub heal_max_ms: f64,
    /// Events that did not come to a subscriber, without a gap.
    pub undeclared: u64,
    /// Events that came twice, or were in one order twice.
    pub duplicated: u64,
    /// Events that came after newer ones.
    pub reordered: u64,
    /// Events that came under an id that the log had for another one, or for none.
    pub other_ids: u64,
    /// Events that were answered and then lost by what may lose none.
    pub lost: u64,
    /// Gaps told to who had only what was still there.
    pub needless: u64,
    /// Gaps told.
    pub gaps: u64,
    /// Events that were answered and then lost by a fault of which the documentation says so.
    pub excused: u64,
}

/// Publishes that came more than once.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Retry {
    /// Events that all workers published at the same time.
    pub events: u64,
    /// Workers.
    pub workers: u64,
    /// Requests for them.
    pub requests: u64,
    /// Equal requests for one more event.
    pub equal: u64,
    /// Those a second.
    pub equal_per_s: f64,
    /// Answers that were marked as replayed.
    pub replayed: u64,
    /// Answers that asked to try again.
    pub busy: u64,
    /// Different keys after that.
    pub keys: u64,
    /// Those a second.
    pub keys_per_s: f64,
    /// Keys that the server remembers.
    pub remembered: u64,
    /// Growth of resident memory once more keys had come than it remembers, and at least half of all, KiB.
    pub growth_full_kib: Option<i64>,
    /// Growth at the end, KiB.
    pub growth_kib: Option<i64>,
    /// What it may be at most, KiB.
    pub growth_kib_max: u64,
}

impl Presence {
    /// How much later ordinary events are than without presence.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let both = self.with.zip(self.without);
        both.map_or(f64::NAN, |(with, without)| with.p99_ms / without.p99_ms)
    }

    pub(super) fn figures(&self) -> Vec<Figure> {
        let seconds = self.join_seconds.max(1e-9);
        let mut figures = vec![
            Figure::plain("members", "members of a room", count(self.members)),
            Figure::plain("join_s", "first connect to all know, s", self.join_seconds),
            Figure::plain("join_messages", "messages meanwhile", count(self.join_messages)),
            Figure::plain("join_messages_max", "of at most", count(self.join_messages_max)),
            Figure::plain("join_messages_per_s", "messages/s meanwhile", count(self.join_messages) / seconds),
            Figure::plain("begun", "streams that began with a message", count(self.begun)),
        ];
        if self.with.is_some() {
            figures.extend([
                Figure::plain("reloads", "reloads", count(self.reloads)),
                Figure::plain("reload_messages", "messages they caused", count(self.reload_messages)),
                Figure::plain("leave_s", "all left to that known, s", self.leave_seconds),
                Figure::plain("leave_messages", "messages meanwhile, 4 watchers", count(self.leave_messages)),
            ]);
        }
        self.latencies(&mut figures);
        if !self.memory_each_kib_without.is_nan() {
            let each = self.memory_each_kib_without;
            figures.push(Figure::plain("memory_without_kib", "the same without presence, KiB", each));
        }
        figures
    }

    fn latencies(&self, figures: &mut Vec<Figure>) {
        if let Some(with) = &self.with {
            figures.extend([
                Figure::plain("with_join_p99_ms", "events while all join, p99, ms", with.join_p99_ms),
                Figure::plain("with_calm_p99_ms", "events in between, p99, ms", with.calm_p99_ms),
                Figure::plain("with_reload_p99_ms", "events while all reload, p99, ms", with.reload_p99_ms),
                Figure::plain("with_p99_ms", "all events, p99, ms", with.p99_ms),
            ]);
        }
        if let Some(without) = &self.without {
            figures.extend([
                Figure::plain("without_join_p99_ms", "without: while all join, ms", without.join_p99_ms),
                Figure::plain("without_calm_p99_ms", "without: in between, ms", without.calm_p99_ms),
                Figure::plain(
                    "without_reload_p99_ms",
                    "without: while all reload, ms",
                    without.reload_p99_ms,
                ),
                Figure::plain("without_p99_ms", "without: all events, p99, ms", without.p99_ms),
            ]);
        }
        if !self.ratio().is_nan() {
            figures.push(Figure::plain("presence_ratio", "p99 with / without", self.ratio()));
        }
    }
}

impl Conflate {
    pub(super) fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::plain("updates", "updates in", count(self.updates)),
            Figure::plain("updates_each", "updates out per subscriber", self.each),
            Figure::plain("conflated_percent", "conflated, %", self.conflated_percent),
            Figure::plain("update_cpu_us", "CPU per update, us", self.cpu_us_update),
            Figure::plain("slow", "slow subscribers", count(self.slow)),
            Figure::plain("slow_each", "updates out per slow one", self.slow_each),
            Figure::plain("newest_checked", "newest versions checked", count(self.checked)),
        ]
    }
}

impl Poll {
    pub(super) fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::plain("polls_per_s", "polls/s", self.polls_per_s),
            Figure::plain("poll_cpu_us", "CPU per poll, us", self.cpu_us_each),
            Figure::plain("polls", "polls", count(self.polls)),
            Figure::plain("poll_events", "events per poll", self.events_each),
            Figure::plain("poll_connect_p99_ms", "connect to connected p99, ms", self.connect_p99_ms),
            Figure::plain("refused", "polls refused", count(self.refused)),
        ]
    }
}

impl Retry {
    pub(super) fn figures(&self) -> Vec<Figure> {
        let signed = |kib: Option<i64>| kib.map_or(f64::NAN, |kib| count(kib.unsigned_abs()) * sign(kib));
        vec![
            Figure::plain("events", "events, once each", count(self.events)),
            Figure::plain("requests", "requests for them", count(self.requests)),
            Figure::plain("equal", "equal requests for one more", count(self.equal)),
            Figure::plain("equal_per_s", "those a second", self.equal_per_s),
            Figure::plain("answers_replayed", "answers marked as replayed", count(self.replayed)),
            Figure::plain("busy", "answers to try again", count(self.busy)),
            Figure::plain("keys", "different keys", count(self.keys)),
            Figure::plain("keys_per_s", "those a second", self.keys_per_s),
            Figure::plain("remembered", "keys remembered at most", count(self.remembered)),
            Figure::plain("keys_full_kib", "memory growth when full, KiB", signed(self.growth_full_kib)),
            Figure::plain("keys_growth_kib", "memory growth at the end, KiB", signed(self.growth_kib)),
            Figure::plain("keys_growth_max_kib", "of at most, KiB", count(self.growth_kib_max)),
        ]
    }
}

impl Kill {
    pub(super) fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::plain("kills", "kills", count(self.kills)),
            Figure::plain("undeclared", "undeclared gaps", count(self.undeclared)),
            Figure::plain("duplicated", "events twice", count(self.duplicated)),
            Figure::plain("reordered", "events out of order", count(self.reordered)),
            Figure::plain("other_ids", "events under another id", count(self.other_ids)),
            Figure::plain("lost", "answered events lost", count(self.lost)),
            Figure::plain("gaps", "gaps told", count(self.gaps)),
            Figure::plain("events", "events answered", count(self.events)),
            Figure::plain("events_per_s", "those a second", self.events_per_s),
            Figure::plain("deliveries", "deliveries", count(self.deliveries)),
            Figure::plain("returned", "reconnects", count(self.returned)),
            Figure::plain("start_max_ms", "slowest start, ms", self.start_max_ms),
        ]
    }
}

impl Nodes {
    pub(super) fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::plain("nodes", "nodes", count(self.nodes)),
            Figure::plain("faults", "faults", count(self.faults)),
            Figure::plain("deliveries", "deliveries checked", count(self.deliveries)),
            Figure::plain("undeclared", "undeclared gaps", count(self.undeclared)),
            Figure::plain("duplicated", "events twice", count(self.duplicated)),
            Figure::plain("reordered", "events out of order", count(self.reordered)),
            Figure::plain("other_ids", "events under another id", count(self.other_ids)),
            Figure::plain("lost", "answered events lost", count(self.lost)),
            Figure::plain("needless", "gaps told for nothing", count(self.needless)),
            Figure::plain("gaps", "gaps told", count(self.gaps)),
            Figure::plain("excused", "answered events lost as documented", count(self.excused)),
            Figure::plain("events", "events answered", count(self.events)),
            Figure::plain("events_per_s", "those a second", self.events_per_s),
            Figure::plain("returned", "reconnects", count(self.returned)),
            Figure::plain("orders", "orders", count(self.orders)),
            Figure::plain("terms", "terms", count(self.terms)),
            Figure::plain("heal_max_ms", "slowest until all answered, ms", self.heal_max_ms),
        ]
    }
}

fn sign(value: i64) -> f64 {
    if value < 0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_needs_both_runs() {
        let p99 = |p99_ms| Some(Latencies { p99_ms, ..Latencies::default() });
        let both = Presence { with: p99(11.0), without: p99(10.0), ..Presence::default() };
        assert!((both.ratio() - 1.1).abs() < 1e-9);
        let has = |found: &Presence| found.figures().iter().any(|figure| figure.key == "presence_ratio");
        assert!(has(&both) && !has(&Presence { without: None, ..both.clone() }));
    }
}
