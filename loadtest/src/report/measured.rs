//! The parts of a report: what was measured of the connections, the memory and the traffic.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize};

use crate::number::{ms, per};
use crate::target::usage::Cpu;

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
    /// The first subscriber that lost something: its number and the sequence number it waits for.
    pub lost_first: Option<(usize, u64)>,
    /// Came twice.
    pub duplicated: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Had another length than published.
    pub damaged: u64,
    /// Gaps that the server announced.
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
    /// Events that gaps announced: neither delivered nor lost.
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

/// Subscribers that stopped reading.
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

/// Percentiles of `latency`, dense towards the slowest.
#[must_use]
pub fn percentiles(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    PERCENTILES.iter().map(|percentile| (*percentile, ms(latency.value_at_percentile(*percentile)))).collect()
}

/// What isn't known is not a number, which JSON writes as null.
pub(crate) fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

const PERCENTILES: [f64; 29] = [
    0.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 96.0, 97.0, 98.0,
    98.5, 99.0, 99.3, 99.5, 99.7, 99.8, 99.9, 99.95, 99.97, 99.99, 100.0,
];
