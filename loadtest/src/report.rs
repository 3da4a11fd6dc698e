//! What a run found: everything raw for JSON, the figures for tables, and the verdict.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize};

use crate::found::Found;
use crate::scenario::{Scenario, Settings};
use crate::usage::Cpu;

/// One run of one scenario against one server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// What was run.
    pub scenario: Scenario,
    /// Against what.
    pub target: String,
    /// Which turn, from one.
    pub round: u32,
    /// With which numbers.
    pub settings: Settings,
    /// How the connections came up.
    pub opening: Opening,
    /// The server's resident memory.
    pub memory: Memory,
    /// What was published and delivered.
    pub traffic: Option<Traffic>,
    /// What the compressed streams were like.
    pub gzip: Option<Gzip>,
    /// What became of the listeners that stopped reading.
    pub stuck: Option<Stuck>,
    /// How the server ended.
    pub drain: Option<Drain>,
    /// What went wrong. Empty, or the run failed.
    pub faults: Vec<String>,
    /// What one should know when reading the figures.
    pub notes: Vec<String>,
    /// What the scenario found beyond all that, under the scenario's name.
    pub found: Option<Found>,
    /// The measured time, second by second.
    pub series: Vec<Second>,
    /// Publish to read of the measured window: percentiles, and the milliseconds that so many took at most.
    pub latency_percentiles: Vec<(f64, f64)>,
    /// Where CPU and memory of the server come from: `process`, `metrics` or `nothing`.
    pub usage_from: String,
}

/// What one second was like.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Second {
    /// Its end, after the window's start.
    pub seconds: f64,
    /// Connections at its end.
    pub connections: usize,
    /// Deliveries a second in it.
    pub deliveries_per_s: f64,
    /// Median latency of what was delivered in it, if anything was.
    pub p50_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// Resident memory of the server at its end, if that can be known.
    pub resident_kib: Option<u64>,
    /// CPU of the server in it, in percent of one core, if that can be known.
    pub cpu_percent: Option<f64>,
}

/// Connections from connect(2) to `connected`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Opening {
    /// Reached `connected`.
    pub connected: usize,
    /// Did not.
    pub failed: usize,
    /// Of those, told `overload`.
    pub refused: u64,
    /// First connect to last `connected`.
    pub seconds: f64,
    /// Connections a second.
    pub rate_per_s: f64,
    /// Server CPU for each, microseconds.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
    /// Median of connect to `connected`.
    pub connect_p50_ms: f64,
    /// 99th percentile.
    pub connect_p99_ms: f64,
    /// Slowest.
    pub connect_max_ms: f64,
}

/// Resident memory of the server, KiB.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Memory {
    /// After one connection came and went. Absent, as the others, when the server's memory can't be known.
    pub before_kib: Option<u64>,
    /// With every connection open and settled.
    pub open_kib: Option<u64>,
    /// After the traffic.
    pub after_kib: Option<u64>,
    /// Highest during the traffic.
    pub peak_kib: Option<u64>,
    /// `(open - before) / connections`; not a number when unknown.
    #[serde(deserialize_with = "or_nan")]
    pub each_kib: f64,
}

/// Publishing and delivery.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Traffic {
    /// Events that should have been sent, warm-up included.
    pub events_offered: u64,
    /// Events that were.
    pub events_sent: u64,
    /// Events whose request was answered with 200.
    pub events_accepted: u64,
    /// Requests answered otherwise.
    pub requests_refused: u64,
    /// Events sent a second.
    pub sent_per_s: f64,
    /// Events accepted a second.
    pub accepted_per_s: f64,
    /// Worst delay of the publisher behind its own deadlines.
    pub late_max_ms: f64,
    /// Deliveries of the whole run that should have been.
    pub deliveries_expected: u64,
    /// Deliveries of the whole run.
    pub deliveries: u64,
    /// Never came.
    pub lost: u64,
    /// Of those, followed by later events: holes. The others are missing at the end of their streams.
    pub lost_inside: u64,
    /// The first listener that lost something: its number and the sequence number it waits for.
    pub lost_first: Option<(usize, u64)>,
    /// Came twice.
    pub duplicated: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Had another length than published.
    pub damaged: u64,
    /// Gaps the server owned up to.
    pub gaps: u64,
    /// Streams that ended unasked.
    pub disconnects: u64,
    /// The measured window.
    pub window_seconds: f64,
    /// Deliveries inside it.
    pub window_deliveries: u64,
    /// Deliveries a second inside it.
    pub deliveries_per_s: f64,
    /// CPU of the server inside it, nanoseconds.
    pub cpu_ns: u64,
    /// Of that, in user mode (10 ms steps).
    pub cpu_user_ns: u64,
    /// Of that, in the kernel (10 ms steps).
    pub cpu_system_ns: u64,
    /// Server CPU for each delivery, microseconds.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_us_each: f64,
    /// Server CPU, in percent of one core.
    #[serde(deserialize_with = "or_nan")]
    pub cpu_percent: f64,
    /// Time the server waited for a core, in percent of the window.
    #[serde(deserialize_with = "or_nan")]
    pub wait_percent: f64,
    /// The load test's own CPU, in percent of one core.
    pub client_percent: f64,
    /// Publish to read, median.
    pub latency_p50_ms: f64,
    /// 90th percentile.
    pub latency_p90_ms: f64,
    /// 99th percentile.
    pub latency_p99_ms: f64,
    /// 99.9th percentile.
    pub latency_p999_ms: f64,
    /// Slowest.
    pub latency_max_ms: f64,
    /// Events that gaps owned up to: neither delivered nor lost.
    pub excused: u64,
    /// Events that came after a reconnect and were published before it.
    pub replayed: u64,
}

impl Traffic {
    /// Whether the server was ready to run and had no core for a third of that time or more. Then its figures are the
    /// machine's. A quarter of a core is what several threads wait for each other anyway.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.wait_percent >= WAIT_PERCENT_MAX && self.wait_percent >= self.cpu_percent / 2.0
    }

    /// Fills in server CPU used in the window, and what follows from it. Not known is not a number.
    pub fn set_cpu(&mut self, used: Option<&Cpu>) {
        let Some(used) = used else {
            (self.cpu_us_each, self.wait_percent, self.cpu_percent) = (f64::NAN, f64::NAN, f64::NAN);
            return;
        };
        self.cpu_ns = used.total_ns;
        self.cpu_user_ns = used.user_ns;
        self.cpu_system_ns = used.system_ns;
        self.cpu_us_each = per(ms(used.total_ns) * 1e3, self.window_deliveries);
        self.wait_percent = ms(used.wait_ns) / 10.0 / self.window_seconds.max(1e-9);
        self.cpu_percent = ms(used.total_ns) / 10.0 / self.window_seconds.max(1e-9);
    }
}

/// What a server may wait for a core, in percent of the time, before that counts.
const WAIT_PERCENT_MAX: f64 = 25.0;

/// Compressed streams.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Gzip {
    /// Inflated and checked in full.
    pub inflated: usize,
    /// Only counted.
    pub counted: usize,
    /// Came uncompressed.
    pub plain: usize,
    /// Body bytes of the typical stream, as sent.
    pub body_bytes_median: u64,
    /// Counted streams with clearly fewer bytes than that.
    pub short: usize,
}

/// Listeners that stopped reading.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Stuck {
    /// How many.
    pub connections: usize,
    /// Closed by the server before they read again.
    pub closed: usize,
    /// Told `gap` when they read again.
    pub gaps: u64,
    /// Highest growth of resident memory for each, KiB.
    #[serde(deserialize_with = "or_nan")]
    pub peak_each_kib: f64,
    /// Growth at the end for each, KiB.
    #[serde(deserialize_with = "or_nan")]
    pub after_each_kib: f64,
}

/// The end of a server that was sent SIGTERM.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Drain {
    /// Streams that ended in each second after the signal.
    pub closes_by_second: Vec<u64>,
    /// After the last chunk.
    pub finished: u64,
    /// At an event boundary without a last chunk.
    pub boundary: u64,
    /// Inside an event or a chunk.
    pub torn: u64,
    /// By reset.
    pub reset: u64,
    /// Still open when the time was up.
    pub open: u64,
    /// `closing` events seen.
    pub closing_events: u64,
    /// Signal to last close.
    pub last_close_seconds: f64,
    /// Signal to exit; absent if it did not exit.
    pub exit_seconds: Option<f64>,
    /// Exit code; absent after a signal or none.
    pub exit_code: Option<i32>,
}

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name in JSON medians.
    pub key: &'static str,
    /// Its name in tables, with the unit.
    pub label: &'static str,
    /// The value.
    pub value: f64,
    /// Whether a ratio between servers means anything.
    pub has_ratio: bool,
}

impl Report {
    /// Nothing found yet.
    #[must_use]
    pub fn new(scenario: Scenario, target: String, round: u32, settings: Settings) -> Self {
        Self {
            scenario,
            target,
            round,
            settings,
            opening: Opening::default(),
            memory: Memory::default(),
            traffic: None,
            gzip: None,
            stuck: None,
            drain: None,
            faults: Vec::new(),
            notes: Vec::new(),
            found: None,
            series: Vec::new(),
            latency_percentiles: Vec::new(),
            usage_from: "nothing".to_owned(),
        }
    }

    /// Why the server can't sustain the scenario, if that shows. Of the scenarios that only offer a load; the others
    /// have more to judge.
    #[must_use]
    pub fn shortfall(&self) -> Option<String> {
        use Scenario::{Accept, Burst, Dense, Fanout, Idle, Latency, Rooms};
        if !matches!(self.scenario, Idle | Accept | Fanout | Dense | Burst | Rooms | Latency) {
            return None;
        }
        let Opening { failed, connected, .. } = self.opening;
        let everybody = failed + connected;
        if count(failed as u64) > LOST_SHARE_MAX * count(everybody as u64) {
            return Some(format!("{failed} of {everybody} listeners did not get in"));
        }
        self.traffic.as_ref().and_then(|traffic| self.traffic_shortfall(traffic))
    }

    fn traffic_shortfall(&self, traffic: &Traffic) -> Option<String> {
        let rate = f64::from(self.settings.rate_per_s);
        let Traffic { lost, deliveries_expected, requests_refused, .. } = *traffic;
        let wrong = traffic.duplicated + traffic.reordered + traffic.damaged + traffic.gaps;
        if count(lost) > LOST_SHARE_MAX * count(deliveries_expected) {
            return Some(format!("lost {lost} of {deliveries_expected} deliveries"));
        }
        if wrong > 0 {
            return Some(format!("{wrong} events repeated, out of order, damaged or owned up to as lost"));
        }
        if requests_refused > 0 {
            return Some(format!("refused {requests_refused} publish requests"));
        }
        if traffic.sent_per_s < 0.98 * rate {
            return Some(format!("took {:.1} of {rate} events/s", traffic.sent_per_s));
        }
        if traffic.events_sent < traffic.events_offered {
            return Some(format!("took {} of {} events", traffic.events_sent, traffic.events_offered));
        }
        let p99 = traffic.latency_p99_ms;
        (p99 > LATE_MS).then(|| format!("fell {:.1} s behind", p99 / 1e3))
    }

    /// The figures this scenario is about, the most telling first.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        if let Some(found) = &self.found {
            figures.extend(found.figures());
        }
        if let Some(traffic) = &self.traffic
            && !matches!(self.scenario, Scenario::Drain | Scenario::Resume | Scenario::Scale)
        {
            traffic_figures(traffic, &mut figures);
        }
        self.special_figures(&mut figures);
        let opening = &self.opening;
        figures.extend([
            ratio("memory_each_kib", "memory per connection, KiB", self.memory.each_kib),
            ratio("accept_cpu_us", "CPU per accepted connection, us", opening.cpu_us_each),
            plain("accept_per_s", "connections opened/s", opening.rate_per_s),
            ratio("connect_p99_ms", "connect to connected p99, ms", opening.connect_p99_ms),
        ]);
        if let Some(traffic) = &self.traffic {
            correctness(traffic, &mut figures);
        }
        figures
    }

    fn special_figures(&self, figures: &mut Vec<Figure>) {
        if let Some(gzip) = &self.gzip {
            figures.extend([
                plain("gzip_stream_bytes", "body bytes of a stream", count(gzip.body_bytes_median)),
                plain("gzip_inflated", "streams inflated and checked", count(gzip.inflated as u64)),
                plain("gzip_counted", "streams counted", count(gzip.counted as u64)),
            ]);
        }
        if self.scenario == Scenario::Gzip
            && let (Some(after), Some(open)) = (self.memory.after_kib, self.memory.open_kib)
        {
            let growth = count(after) - count(open);
            figures.push(plain("traffic_growth_kib", "memory growth in traffic, KiB", growth));
        }
        if let Some(stuck) = &self.stuck {
            figures.extend([
                ratio("stuck_peak_kib", "peak growth per stuck, KiB", stuck.peak_each_kib),
                plain("stuck_after_kib", "growth at the end per stuck, KiB", stuck.after_each_kib),
                plain("stuck_closed", "stuck ones closed", count(stuck.closed as u64)),
                plain("stuck_gaps", "stuck ones told of a gap", count(stuck.gaps)),
            ]);
        }
        if let Some(drain) = &self.drain {
            let nan = f64::NAN;
            figures.extend([
                plain("drain_last_s", "signal to last close, s", drain.last_close_seconds),
                plain("drain_exit_s", "signal to exit, s", drain.exit_seconds.unwrap_or(nan)),
                plain("drain_exit_code", "exit code", drain.exit_code.map_or(nan, f64::from)),
                plain("drain_finished", "ended with the last chunk", count(drain.finished)),
                plain("drain_boundary", "ended at an event boundary", count(drain.boundary)),
                plain("drain_torn", "torn", count(drain.torn)),
                plain("drain_reset", "reset", count(drain.reset)),
                plain("drain_open", "still open", count(drain.open)),
                plain("drain_closing", "told closing", count(drain.closing_events)),
            ]);
        }
    }
}

fn traffic_figures(traffic: &Traffic, figures: &mut Vec<Figure>) {
    figures.extend([
        ratio("cpu_us", "CPU per delivery, us", traffic.cpu_us_each),
        ratio("p50_ms", "latency p50, ms", traffic.latency_p50_ms),
        ratio("p99_ms", "latency p99, ms", traffic.latency_p99_ms),
        ratio("max_ms", "latency max, ms", traffic.latency_max_ms),
        plain("deliveries_per_s", "deliveries/s", traffic.deliveries_per_s),
        plain("sent_per_s", "events sent/s", traffic.sent_per_s),
        plain("accepted_per_s", "events accepted/s", traffic.accepted_per_s),
        plain("late_max_ms", "publisher late by at most, ms", traffic.late_max_ms),
        plain("cpu_percent", "server CPU, % of a core", traffic.cpu_percent),
        plain("wait_percent", "server waiting for a core, %", traffic.wait_percent),
        plain("client_percent", "load test CPU, % of a core", traffic.client_percent),
    ]);
}

fn correctness(traffic: &Traffic, figures: &mut Vec<Figure>) {
    figures.extend([
        plain("lost", "lost", count(traffic.lost)),
        plain("duplicated", "duplicated", count(traffic.duplicated)),
        plain("reordered", "reordered", count(traffic.reordered)),
        plain("gaps", "gaps", count(traffic.gaps)),
        plain("disconnects", "disconnects", count(traffic.disconnects)),
    ]);
}

fn ratio(key: &'static str, label: &'static str, value: f64) -> Figure {
    Figure { key, label, value, has_ratio: true }
}

fn plain(key: &'static str, label: &'static str, value: f64) -> Figure {
    Figure { key, label, value, has_ratio: false }
}

/// Prints one report for people.
pub fn print(report: &Report) {
    println!("{} against {}", report.scenario.name(), report.target);
    for figure in report.figures() {
        println!("  {:<34}{:>14}", figure.label, number(figure.value));
    }
    if let Some(drain) = &report.drain {
        println!("  closes by second after the signal: {:?}", drain.closes_by_second);
    }
    for line in report.found.iter().flat_map(Found::lines) {
        println!("  {line}");
    }
    print_remarks(report);
}

/// Prints faults and notes of `report`, if there are any.
pub fn print_remarks(report: &Report) {
    let Report { target, round, .. } = report;
    for note in &report.notes {
        println!("  note ({target}, round {round}): {note}");
    }
    for fault in &report.faults {
        println!("  FAULT ({target}, round {round}): {fault}");
    }
}

/// Percentiles of `latency`, dense towards the slowest.
#[must_use]
pub fn percentiles(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    PERCENTILES.iter().map(|percentile| (*percentile, ms(latency.value_at_percentile(*percentile)))).collect()
}

/// A number with as many decimals as its size deserves.
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_nan() {
        "-".to_owned()
    } else if value.fract() == 0.0 || value.abs() >= 1_000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else if value.abs() >= 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// A count as a figure.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^53")]
pub fn count(value: u64) -> f64 {
    value as f64
}

/// Nanoseconds as milliseconds.
#[must_use]
pub fn ms(nanoseconds: u64) -> f64 {
    count(nanoseconds) / 1e6
}

/// `total / among`, or zero among none.
#[must_use]
pub fn per(total: f64, among: u64) -> f64 {
    if among == 0 { 0.0 } else { total / count(among) }
}

/// What isn't known is not a number, which JSON writes as null.
pub(crate) fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What a server may lose and still have figures. It is a fault all the same, and told.
const LOST_SHARE_MAX: f64 = 0.01;
/// A server whose slowest events come later than this after they were published is only filling queues.
const LATE_MS: f64 = 1_000.0;

const PERCENTILES: [f64; 29] = [
    0.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 96.0, 97.0, 98.0,
    98.5, 99.0, 99.3, 99.5, 99.7, 99.8, 99.9, 99.95, 99.97, 99.99, 100.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_can_be_read_again_even_if_little_is_known() {
        let scenario = Scenario::Fanout;
        let mut report = Report::new(scenario, "running".to_owned(), 1, scenario.defaults());
        let mut traffic = Traffic { deliveries: 7, ..Traffic::default() };
        traffic.set_cpu(None);
        report.traffic = Some(traffic);
        report.found =
            Some(Found::Churn(crate::found::Churn { cpu_us_each: f64::NAN, ..Default::default() }));
        report.series = vec![Second { seconds: 1.0, ..Second::default() }];
        let text = serde_json::to_string(&report).expect("plain data");
        let back: Report = serde_json::from_str(&text).expect("as written");
        let traffic = back.traffic.expect("it was there");
        assert!(traffic.deliveries == 7 && traffic.cpu_us_each.is_nan());
        assert!(matches!(back.found, Some(Found::Churn(churn)) if churn.cpu_us_each.is_nan()));
        assert_eq!(back.series[0].resident_kib, None);
    }
}
