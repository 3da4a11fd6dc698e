//! Sums over all listeners.

use hdrhistogram::Histogram;

use crate::wire::stream::Ending;

/// What the listeners saw.
#[derive(Debug)]
pub struct Tally {
    /// Events with a sequence number.
    pub deliveries: u64,
    /// Events seen twice.
    pub duplicated: u64,
    /// Events that came after a later one.
    pub reordered: u64,
    /// Events whose data was not as long as published.
    pub damaged: u64,
    /// `gap` events on listeners that read all the time.
    pub gaps: u64,
    /// `gap` events on stuck listeners.
    pub gaps_stuck: u64,
    /// `overload` events.
    pub refused: u64,
    /// `closing` events.
    pub closing: u64,
    /// Events that nobody here published.
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
    pub latency: Histogram<u64>,
    /// Begin of connect to `connected`, nanoseconds.
    pub connect: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("constant bounds are valid");
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
        self.deliveries += other.deliveries;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
        self.gaps += other.gaps;
        self.gaps_stuck += other.gaps_stuck;
        self.refused += other.refused;
        self.closing += other.closing;
        self.foreign += other.foreign;
        self.malformed += other.malformed;
        self.ends_finished += other.ends_finished;
        self.ends_boundary += other.ends_boundary;
        self.ends_torn += other.ends_torn;
        self.ends_reset += other.ends_reset;
        self.ended_ns.extend(&other.ended_ns);
        self.latency += &other.latency;
        self.connect += &other.connect;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }
}

/// Longest latency told apart; longer ones count as this.
const LATENCY_MAX_NS: u64 = 300_000_000_000;
