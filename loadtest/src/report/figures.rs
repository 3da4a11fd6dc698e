//! The figures of a run, for tables.

use super::figure::Figure;
use super::measured::Traffic;
use super::run_report::Report;
use crate::number::count;
use crate::plan::scenario::Scenario;

impl Report {
    /// The figures this scenario is about, the most telling first.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        if let Some(found) = &self.found {
            figures.extend(found.figures());
        }
        if let Some(traffic) = &self.traffic
            && !matches!(
                self.scenario,
                Scenario::Drain | Scenario::Resume | Scenario::Scale | Scenario::Retry
            )
        {
            traffic_figures(traffic, &mut figures);
        }
        self.special_figures(&mut figures);
        let opening = &self.opening;
        figures.extend([
            Figure::ratio("memory_each_kib", "memory per connection, KiB", self.memory.each_kib),
            Figure::ratio("accept_cpu_us", "CPU per accepted connection, us", opening.cpu_us_each),
            Figure::plain("accept_per_s", "connections opened/s", opening.rate_per_s),
            Figure::ratio("connect_p99_ms", "connect to connected p99, ms", opening.connect_p99_ms),
        ]);
        if let Some(traffic) = &self.traffic {
            correctness(traffic, &mut figures);
        }
        figures
    }

    fn special_figures(&self, figures: &mut Vec<Figure>) {
        if let Some(gzip) = &self.gzip {
            figures.extend([
                Figure::plain("gzip_stream_bytes", "body bytes of a stream", count(gzip.body_bytes_median)),
                Figure::plain("gzip_inflated", "streams inflated and checked", count(gzip.inflated as u64)),
                Figure::plain("gzip_counted", "streams counted", count(gzip.counted as u64)),
            ]);
        }
        if self.scenario == Scenario::Gzip
            && let (Some(after), Some(open)) = (self.memory.after_kib, self.memory.open_kib)
        {
            let growth = count(after) - count(open);
            figures.push(Figure::plain("traffic_growth_kib", "memory growth in traffic, KiB", growth));
        }
        if let Some(stuck) = &self.stuck {
            figures.extend([
                Figure::ratio("stuck_peak_kib", "peak growth per stuck, KiB", stuck.peak_each_kib),
                Figure::plain("stuck_after_kib", "growth at the end per stuck, KiB", stuck.after_each_kib),
                Figure::plain("stuck_closed", "stuck ones closed", count(stuck.closed as u64)),
                Figure::plain("stuck_gaps", "stuck ones told of a gap", count(stuck.gaps)),
            ]);
        }
        if let Some(drain) = &self.drain {
            let nan = f64::NAN;
            figures.extend([
                Figure::plain("drain_last_s", "signal to last close, s", drain.last_close_seconds),
                Figure::plain("drain_exit_s", "signal to exit, s", drain.exit_seconds.unwrap_or(nan)),
                Figure::plain("drain_exit_code", "exit code", drain.exit_code.map_or(nan, f64::from)),
                Figure::plain("drain_finished", "ended with the last chunk", count(drain.finished)),
                Figure::plain("drain_boundary", "ended at an event boundary", count(drain.boundary)),
                Figure::plain("drain_torn", "torn", count(drain.torn)),
                Figure::plain("drain_reset", "reset", count(drain.reset)),
                Figure::plain("drain_open", "still open", count(drain.open)),
                Figure::plain("drain_closing", "told closing", count(drain.closing_events)),
            ]);
        }
    }
}

fn traffic_figures(traffic: &Traffic, figures: &mut Vec<Figure>) {
    figures.extend([
        Figure::ratio("cpu_us", "CPU per delivery, us", traffic.cpu_us_each),
        Figure::ratio("p50_ms", "latency p50, ms", traffic.latency_p50_ms),
        Figure::ratio("p99_ms", "latency p99, ms", traffic.latency_p99_ms),
        Figure::ratio("max_ms", "latency max, ms", traffic.latency_max_ms),
        Figure::plain("deliveries_per_s", "deliveries/s", traffic.deliveries_per_s),
        Figure::plain("sent_per_s", "events sent/s", traffic.sent_per_s),
        Figure::plain("accepted_per_s", "events accepted/s", traffic.accepted_per_s),
        Figure::plain("late_max_ms", "publisher late by at most, ms", traffic.late_max_ms),
        Figure::plain("cpu_percent", "server CPU, % of a core", traffic.cpu_percent),
        Figure::plain("wait_percent", "server waiting for a core, %", traffic.wait_percent),
        Figure::plain("client_percent", "load test CPU, % of a core", traffic.client_percent),
    ]);
}

fn correctness(traffic: &Traffic, figures: &mut Vec<Figure>) {
    figures.extend([
        Figure::plain("lost", "lost", count(traffic.lost)),
        Figure::plain("duplicated", "duplicated", count(traffic.duplicated)),
        Figure::plain("reordered", "reordered", count(traffic.reordered)),
        Figure::plain("gaps", "gaps", count(traffic.gaps)),
        Figure::plain("disconnects", "disconnects", count(traffic.disconnects)),
    ]);
}
