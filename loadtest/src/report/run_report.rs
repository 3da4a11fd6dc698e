//! What one run found, as it is kept in JSON.

use serde::{Deserialize, Serialize};

use super::found::Found;
use super::measured::{Drain, Gzip, Memory, Opening, Second, Stuck, Traffic};
use crate::number::count;
use crate::plan::scenario::{Scenario, Settings};

/// One run of one scenario against one server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// What was run.
    pub scenario: Scenario,
    /// Against what.
    pub target: String,
    /// Which round, from one.
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
    /// What became of the subscribers that stopped reading.
    pub stuck: Option<Stuck>,
    /// How the server ended.
    pub drain: Option<Drain>,
    /// What went wrong. Empty, or the run failed.
    pub faults: Vec<String>,
    /// Remarks on the figures.
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

    /// Why the server can't sustain the scenario, if it can't. Only for scenarios that offer a fixed load.
    #[must_use]
    pub fn shortfall(&self) -> Option<String> {
        use Scenario::{Accept, Burst, Dense, Fanout, Idle, Latency, Rooms};
        if !matches!(self.scenario, Idle | Accept | Fanout | Dense | Burst | Rooms | Latency) {
            return None;
        }
        let Opening { failed, connected, .. } = self.opening;
        let all = failed + connected;
        if count(failed as u64) > LOST_SHARE_MAX * count(all as u64) {
            return Some(format!("{failed} of {all} subscribers did not get in"));
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
            return Some(format!("{wrong} events repeated, out of order, damaged or announced as lost"));
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
}

/// The share of deliveries that a server may lose and still have figures. Each loss is a fault all the same.
const LOST_SHARE_MAX: f64 = 0.01;
/// A server whose slowest events are later than this only fills queues.
const LATE_MS: f64 = 1_000.0;

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
            Some(Found::Churn(crate::report::found::Churn { cpu_us_each: f64::NAN, ..Default::default() }));
        report.series = vec![Second { seconds: 1.0, ..Second::default() }];
        let text = serde_json::to_string(&report).expect("plain data");
        let back: Report = serde_json::from_str(&text).expect("as written");
        let traffic = back.traffic.expect("it was there");
        assert!(traffic.deliveries == 7 && traffic.cpu_us_each.is_nan());
        assert!(matches!(back.found, Some(Found::Churn(churn)) if churn.cpu_us_each.is_nan()));
        assert_eq!(back.series[0].resident_kib, None);
    }
}
