//! Sums over all subscribers.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::client::wire::stream::Ending;
use crate::number::add_counts;

/// What the subscribers saw.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tally {
    /// Events with a sequence number.
    pub deliveries: u64,
    /// Events seen twice.
    pub duplicated: u64,
    /// Events that came after a later one.
    pub reordered: u64,
    /// Events whose data was not as long as published.
    pub damaged: u64,
    /// `gap` events on subscribers that read all the time.
    pub gaps: u64,
    /// `gap` events on stuck subscribers.
    pub gaps_stuck: u64,
    /// `overload` events.
    pub refused: u64,
    /// `closing` events.
    pub closing: u64,
    /// Events that this run did not publish.
    pub foreign: u64,
    /// Streams that could not be parsed, and the first reason.
    pub malformed: u64,
    /// Why the first connection failed or the first stream was malformed.
    pub first_error: Option<String>,
    /// Ends after the last chunk.
    pub ends_finished: u64,
    /// Ends without a last chunk, at an event boundary.
    pub ends_boundary: u64,
    /// Ends inside an event or a chunk.
    pub ends_torn: u64,
    /// Ends by reset.
    pub ends_reset: u64,
    /// When each stream ended, nanoseconds since the start.
    pub ended_ns: Vec<u64>,
    /// Publish to read, nanoseconds.
    #[serde(with = "pairs")]
    pub latency: Histogram<u64>,
    /// Begin of connect to `connected`, nanoseconds.
    #[serde(with = "pairs")]
    pub connect: Histogram<u64>,
    /// The same of subscribers that came back.
    #[serde(with = "pairs")]
    pub reconnect: Histogram<u64>,
    /// Connections cut on this side.
    pub left: u64,
    /// Attempts to come back that failed and were made again.
    pub retries: u64,
    /// Events published before their subscriber began to connect: replayed, not live. They have no latency, except in
    /// `poll`.
    pub replayed: u64,
    /// Streams that ended as polls do, and were asked for again.
    pub polls: u64,
    /// Messages about who is there with which a stream began.
    pub presence_begun: u64,
    /// Further ones that were counts.
    pub presence_counts: u64,
    /// Further ones that named members.
    pub presence_named: u64,
    /// When the last message about who is there was read.
    pub presence_last_ns: u64,
    /// Events that slow subscribers got.
    pub deliveries_slow: u64,
    /// Subscribers that were checked by [`super::Command::Check`].
    pub checked: u64,
    /// What they did not know: subscribers, or keys.
    pub unknown: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            deliveries: 0,
            duplicated: 0,
            reordered: 0,
            damaged: 0,
            gaps: 0,
            gaps_stuck: 0,
            refused: 0,
            closing: 0,
            foreign: 0,
            malformed: 0,
            first_error: None,
            ends_finished: 0,
            ends_boundary: 0,
            ends_torn: 0,
            ends_reset: 0,
            ended_ns: Vec::new(),
            latency: histogram(),
            connect: histogram(),
            reconnect: histogram(),
            left: 0,
            retries: 0,
            replayed: 0,
            polls: 0,
            presence_begun: 0,
            presence_counts: 0,
            presence_named: 0,
            presence_last_ns: 0,
            deliveries_slow: 0,
            checked: 0,
            unknown: 0,
        }
    }
}

impl Tally {
    /// Counts one ended stream.
    pub fn end(&mut self, ending: Option<Ending>, at_ns: u64) {
        self.ended_ns.push(at_ns);
        match ending {
            Some(Ending::Finished) => self.ends_finished += 1,
            Some(Ending::Boundary) => self.ends_boundary += 1,
            Some(Ending::Torn) => self.ends_torn += 1,
            None => self.ends_reset += 1,
        }
    }

    /// Keeps the first of all errors.
    pub fn error(&mut self, text: impl FnOnce() -> String) {
        self.first_error.get_or_insert_with(text);
    }

    /// Adds another thread's sums.
    pub fn merge(&mut self, other: &Self) {
        add_counts!(
            self, other;
            deliveries, duplicated, reordered, damaged, gaps, gaps_stuck, refused, closing, foreign, malformed,
            ends_finished, ends_boundary, ends_torn, ends_reset, left, retries, replayed, polls,
            presence_begun, presence_counts, presence_named, deliveries_slow, checked, unknown,
        );
        self.ended_ns.extend(&other.ended_ns);
        self.latency += &other.latency;
        self.connect += &other.connect;
        self.reconnect += &other.reconnect;
        self.presence_last_ns = self.presence_last_ns.max(other.presence_last_ns);
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("constant bounds are valid")
}

/// Histograms on their way between processes: `[[value, count], …]`. Exact, since both sides have the same buckets.
mod pairs {
    use hdrhistogram::Histogram;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let pairs: Vec<(u64, u64)> = histogram
            .iter_recorded()
            .map(|one| (one.value_iterated_to(), one.count_since_last_iteration()))
            .collect();
        pairs.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let mut histogram = super::histogram();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            histogram.saturating_record_n(value, count);
        }
        Ok(histogram)
    }
}

/// Longest latency told apart; longer ones count as this.
const LATENCY_MAX_NS: u64 = 300_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_survives_the_way_between_processes() {
        let mut tally = Tally { deliveries: 7, ended_ns: vec![3, 4], ..Tally::default() };
        for value in [1, 999, 1_000, 77_777_777, 250_000_000_000, u64::MAX] {
            tally.latency.saturating_record_n(value, 3);
        }
        tally.error(|| "first".to_owned());
        let text = serde_json::to_string(&tally).expect("a tally is plain data");
        let back: Tally = serde_json::from_str(&text).expect("as written");
        assert_eq!(back.latency, tally.latency);
        assert_eq!((back.deliveries, back.ended_ns, back.first_error), (7, vec![3, 4], tally.first_error));
        assert!(back.connect.is_empty());
    }
}
