//! The series of seconds that plots are drawn from, as far as it has come.

use crate::client::fleet::Tally;
use crate::number::{count, ms, number};
use crate::report::measured::Second;

/// The last second, and what was counted since the scenario last asked.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) start_ns: u64,
    /// When the next sample is due; never before the window has begun.
    pub(super) next_ns: u64,
    pub(super) last_ns: u64,
    pub(super) deliveries: u64,
    pub(super) cpu_ns: Option<u64>,
    pub(super) so_far: Tally,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            start_ns: 0,
            next_ns: u64::MAX,
            last_ns: 0,
            deliveries: 0,
            cpu_ns: None,
            so_far: Tally::default(),
        }
    }
}

/// The last second, with latencies so far.
pub(super) fn line(second: &Second, so_far: &Tally) -> String {
    let latency = |quantile| {
        let is_empty = so_far.latency.is_empty();
        number(if is_empty { f64::NAN } else { ms(so_far.latency.value_at_quantile(quantile)) })
    };
    let mut line = format!(
        "{} connections, {:.0} deliveries/s, p50 {} ms, p99 {} ms",
        second.connections,
        second.deliveries_per_s,
        latency(0.5),
        latency(0.99),
    );
    if let (Some(kib), Some(percent)) = (second.resident_kib, second.cpu_percent) {
        let mib = number(count(kib) / 1024.0);
        line = format!("{line}, server {mib} MiB, {percent:.0} % CPU");
    }
    line
}
