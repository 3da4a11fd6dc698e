//! What the scenarios beyond plain traffic find.

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::measured::or_nan;
use super::special::{Conflate, Kill, Nodes, Poll, Presence, Retry};
use crate::number::{count, number};

/// Goes into the report under the scenario's name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// Of `churn`.
    Churn(Churn),
    /// Of `storm`.
    Storm(Storm),
    /// Of `resume`.
    Resume(Resume),
    /// Of `soak`.
    Soak(Soak),
    /// Of `saturate`.
    Saturate(Saturate),
    /// Of `scale`.
    Scale(Scale),
    /// Of `presence`.
    Presence(Presence),
    /// Of `conflate`.
    Conflate(Conflate),
    /// Of `poll`.
    Poll(Poll),
    /// Of `retry`.
    Retry(Retry),
    /// Of `kill`.
    Kill(Kill),
    /// Of `nodes`.
    Nodes(Nodes),
}

/// Subscribers that leave and come back in turns.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Churn {
    /// Connections cut.
    pub left: u64,
    /// Times a subscriber came back.
    pub returned: u64,
    /// Attempts to come back that failed.
    pub retries: u64,
    /// Of those, refused by `overload`.
    pub refused: u64,
    /// Events replayed to them.
    pub replayed: u64,
    /// Connect to `connected` after a reconnect, median.
    pub reconnect_p50_ms: f64,
    /// 99th percentile.
    pub reconnect_p99_ms: f64,
    /// Server CPU for each reconnect, microseconds: what was used beyond the same traffic without churn.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
}

/// All connections cut, twice.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Storm {
    /// All come back in the same moment.
    pub at_once: Surge,
    /// Each comes back after the time of the server's `retry:`.
    pub with_jitter: Surge,
    /// With tokens, how many of them the server looked at in full, from its start: one for each subscriber and publisher,
    /// however often they come.
    #[serde(default)]
    pub verifications: Option<u64>,
}

/// All connections cut, and all coming back.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Surge {
    /// Connections cut.
    pub left: u64,
    /// Came back.
    pub returned: u64,
    /// From the cut until the last was back.
    pub back_seconds: f64,
    /// Connect to `connected`, median.
    pub reconnect_p50_ms: f64,
    /// 99th percentile.
    pub reconnect_p99_ms: f64,
    /// Slowest.
    pub reconnect_max_ms: f64,
    /// Attempts that failed and were made again.
    pub retries: u64,
    /// Of those, refused by `overload`.
    pub refused: u64,
    /// Events replayed.
    pub replayed: u64,
    /// Server CPU for each reconnect, with the deliveries meanwhile, microseconds.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
}

/// Subscribers that missed events and come back for them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Resume {
    /// Events of each room missed in the first part.
    pub missed: u64,
    /// Events replayed in the first part.
    pub replayed: u64,
    /// From the first reconnect to the last replayed event.
    pub replay_seconds: f64,
    /// Events replayed a second.
    pub replayed_per_s: f64,
    /// Server CPU for each replayed event, microseconds; accepting the connections is in it.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
    /// Events of each room missed in the second part: more than the server remembers.
    pub missed_beyond: u64,
    /// Subscribers that came back in the second part.
    pub returned_beyond: u64,
    /// Of those, told by `gap`.
    pub told_gap: u64,
}

/// A long time of everything.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Soak {
    /// When memory was taken for a start: after the warm-up.
    pub warm_up_seconds: f64,
    /// Resident memory then.
    pub start_kib: Option<u64>,
    /// Resident memory at the end.
    pub end_kib: Option<u64>,
    /// The growth between.
    pub growth_kib: Option<i64>,
    /// Stretches of single events published.
    pub single_stretches: u32,
    /// Stretches of bursts published.
    pub burst_stretches: u32,
    /// Connections cut.
    pub left: u64,
    /// Times a subscriber came back.
    pub returned: u64,
}

/// The search for the highest rate.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Saturate {
    /// The highest rate that was sustained, if any was.
    pub events_per_s: Option<u32>,
    /// Deliveries a second at that rate.
    pub deliveries_per_s: f64,
    /// Every rate that was tried, in order.
    pub steps: Vec<Step>,
}

/// One rate that was tried.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Step {
    /// Events a second offered.
    pub rate_per_s: u32,
    /// Why it was not sustained; absent if it was.
    pub failed_by: Option<String>,
    /// Events a second sent.
    pub sent_per_s: f64,
    /// Deliveries a second.
    pub deliveries_per_s: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Server CPU, in percent of one core.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_percent: f64,
    /// Server CPU for each delivery, microseconds.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
}

/// Cost as connections and rooms grow.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Scale {
    /// Every point, connections first.
    pub points: Vec<Point>,
}

/// One measurement among others of the same kind.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Point {
    /// What grows along this row of points: `connections` or `rooms`.
    pub along: String,
    /// Subscribers.
    pub connections: usize,
    /// Rooms.
    pub rooms: usize,
    /// Events a second over all rooms.
    pub rate_per_s: u32,
    /// Deliveries a second.
    pub deliveries_per_s: f64,
    /// Server CPU for each delivery, microseconds.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
    /// Server CPU, in percent of one core.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_percent: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Resident memory with every connection open, KiB.
    pub resident_kib: Option<u64>,
    /// Its growth for each connection, KiB.
    #[serde(deserialize_with = "or_nan")]
    pub memory_each_kib: f64,
}

impl Found {
    /// The figures for tables, the most telling first.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        match self {
            Self::Churn(churn) => churn.figures(),
            Self::Storm(storm) => storm.figures(),
            Self::Resume(resume) => resume.figures(),
            Self::Soak(soak) => soak.figures(),
            Self::Saturate(saturate) => saturate.figures(),
            Self::Presence(presence) => presence.figures(),
            Self::Conflate(conflate) => conflate.figures(),
            Self::Poll(poll) => poll.figures(),
            Self::Retry(retry) => retry.figures(),
            Self::Kill(kill) => kill.figures(),
            Self::Nodes(nodes) => nodes.figures(),
            // Its points are a table of their own.
            Self::Scale(_) => Vec::new(),
        }
    }

    /// What does not fit into figures.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Saturate(saturate) => saturate.steps.iter().map(Step::line).collect(),
            Self::Scale(scale) => {
                std::iter::once(Point::head()).chain(scale.points.iter().map(Point::line)).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Churn {
    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::plain("reconnect_p50_ms", "reconnect p50, ms", self.reconnect_p50_ms),
            Figure::plain("reconnect_p99_ms", "reconnect p99, ms", self.reconnect_p99_ms),
            Figure::plain("reconnect_cpu_us", "CPU per reconnect, us", self.cpu_us_each),
            Figure::plain("left", "connections cut", count(self.left)),
            Figure::plain("returned", "reconnects", count(self.returned)),
            Figure::plain("retries", "reconnects tried again", count(self.retries)),
            Figure::plain("refused", "reconnects refused", count(self.refused)),
            Figure::plain("replayed", "events replayed", count(self.replayed)),
        ]
    }
}

impl Storm {
    fn figures(&self) -> Vec<Figure> {
        let Self { at_once: now, with_jitter: told, verifications } = self;
        let mut figures = vec![
            Figure::plain("once_back_s", "at once: cut to all back, s", now.back_seconds),
            Figure::plain("jitter_back_s", "with jitter: cut to all back, s", told.back_seconds),
            Figure::plain("once_p50_ms", "at once: reconnect p50, ms", now.reconnect_p50_ms),
            Figure::plain("jitter_p50_ms", "with jitter: reconnect p50, ms", told.reconnect_p50_ms),
            Figure::plain("once_p99_ms", "at once: reconnect p99, ms", now.reconnect_p99_ms),
            Figure::plain("jitter_p99_ms", "with jitter: reconnect p99, ms", told.reconnect_p99_ms),
            Figure::plain("once_cpu_us", "at once: CPU per reconnect, us", now.cpu_us_each),
            Figure::plain("jitter_cpu_us", "with jitter: CPU per reconnect, us", told.cpu_us_each),
            Figure::plain("once_retries", "at once: tried again", count(now.retries)),
            Figure::plain("jitter_retries", "with jitter: tried again", count(told.retries)),
            Figure::plain("once_refused", "at once: refused", count(now.refused)),
            Figure::plain("jitter_refused", "with jitter: refused", count(told.refused)),
            Figure::plain("once_replayed", "at once: events replayed", count(now.replayed)),
            Figure::plain("jitter_replayed", "with jitter: events replayed", count(told.replayed)),
        ];
        let verified = |count_of: &u64| Figure::plain("verifications", "tokens verified", count(*count_of));
        figures.extend(verifications.iter().map(verified));
        figures
    }
}

impl Resume {
    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::plain("replayed_per_s", "events replayed/s", self.replayed_per_s),
            Figure::plain("replay_cpu_us", "CPU per replayed event, us", self.cpu_us_each),
            Figure::plain("replayed", "events replayed", count(self.replayed)),
            Figure::plain("replay_s", "first reconnect to last replay, s", self.replay_seconds),
            Figure::plain("beyond", "came back beyond history", count(self.returned_beyond)),
            Figure::plain("told_gap", "of those told by gap", count(self.told_gap)),
        ]
    }
}

impl Soak {
    fn figures(&self) -> Vec<Figure> {
        let kib = |kib: Option<u64>| kib.map_or(f64::NAN, count);
        let growth =
            self.end_kib.zip(self.start_kib).map_or(f64::NAN, |(end, start)| count(end) - count(start));
        vec![
            Figure::plain("soak_growth_kib", "memory growth after warm-up, KiB", growth),
            Figure::plain("soak_start_kib", "memory after warm-up, KiB", kib(self.start_kib)),
            Figure::plain("soak_end_kib", "memory at the end, KiB", kib(self.end_kib)),
            Figure::plain("left", "connections cut", count(self.left)),
            Figure::plain("returned", "reconnects", count(self.returned)),
        ]
    }
}

impl Saturate {
    fn figures(&self) -> Vec<Figure> {
        let rate = self.events_per_s.map_or(f64::NAN, f64::from);
        vec![
            Figure::plain("sustained_per_s", "sustained events/s", rate),
            Figure::plain("sustained_deliveries", "sustained deliveries/s", self.deliveries_per_s),
        ]
    }
}

impl Step {
    fn line(&self) -> String {
        let verdict = self.failed_by.as_ref().map_or("sustained".to_owned(), |why| format!("not: {why}"));
        let (rate, p99, cpu) = (self.rate_per_s, number(self.p99_ms), number(self.cpu_percent));
        format!("{rate:>9} events/s  p99 {p99:>8} ms  CPU {cpu:>6} %  {verdict}")
    }
}

impl Point {
    fn head() -> String {
        "connections    rooms  events/s  deliveries/s  CPU/delivery us   p99 ms  memory KiB".to_owned()
    }

    fn line(&self) -> String {
        format!(
            "{:>11}{:>9}{:>10}{:>14}{:>17}{:>9}{:>12}",
            self.connections,
            self.rooms,
            self.rate_per_s,
            number(self.deliveries_per_s.round()),
            number(self.cpu_us_each),
            number(self.p99_ms),
            self.resident_kib.map_or("-".to_owned(), |kib| kib.to_string()),
        )
    }
}
