//! The verdict on a run: sums over all subscribers, and its faults.

use super::one::Run;
use crate::client::fleet::{Account, Done, Standing, Tally};
use crate::client::published::Published;
use crate::number::{count, ms, per};
use crate::plan::scenario::Scenario;
use crate::report::measured::{Gzip, Stuck, Traffic, percentiles};

impl Run {
    /// Sums over subscribers, for everything but the window, whose latencies are in `counted`.
    pub(super) fn tally(&mut self, done: &Done, counted: &Tally) -> Traffic {
        let latency = |quantile| ms(counted.latency.value_at_quantile(quantile));
        self.report.latency_percentiles = percentiles(&counted.latency);
        let settings = self.settings();
        let published = &self.published;
        let checked = || done.subscribers.iter().filter(|subscriber| is_checked(subscriber));
        let stream = |subscriber: &Account| {
            published.counts.get(settings.stream_of(subscriber.index)).copied().unwrap_or(0)
        };
        let is_drain = self.job.scenario == Scenario::Drain;
        let lost = |subscriber: &Account| {
            // A stream that was meant to end has no tail to lose, only holes.
            if is_drain { subscriber.track.holes() } else { subscriber.track.lost(stream(subscriber)) }
        };
        let lost_first = |one: &Account| {
            let published = if is_drain { 0 } else { stream(one) };
            one.track.first_lost(published).map(|seq| (one.index, seq))
        };
        let tally = &done.tally;
        // Of events that replace each other, nobody has to get all. The newest of each key was asked for.
        let is_keyed = settings.keyed.keys > 0;
        let checked = || checked().filter(|_| !is_keyed);
        let ended = |one: &&Account| one.standing == Standing::Ended && !one.is_stuck;
        Traffic {
            events_offered: published.offered,
            events_sent: published.sent,
            events_accepted: published.accepted,
            requests_refused: published.requests_refused,
            sent_per_s: published.sent_per_s(settings),
            accepted_per_s: published.accepted_per_s(settings),
            late_max_ms: ms(published.late_max_ns),
            deliveries_expected: if is_keyed { tally.deliveries } else { checked().map(stream).sum() },
            deliveries: tally.deliveries,
            lost: checked().map(lost).sum(),
            lost_inside: checked().map(|one| one.track.holes()).sum(),
            lost_first: checked().find_map(lost_first),
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            damaged: tally.damaged,
            gaps: tally.gaps,
            disconnects: done.subscribers.iter().filter(ended).count() as u64,
            latency_p50_ms: latency(0.5),
            latency_p90_ms: latency(0.9),
            latency_p99_ms: latency(0.99),
            latency_p999_ms: latency(0.999),
            latency_max_ms: ms(counted.latency.max()),
            excused: checked().map(|one| one.track.excused()).sum(),
            replayed: tally.replayed,
            ..Traffic::default()
        }
    }

    /// Deliveries of the window, counted streams included: they get what the inflated ones get.
    pub(super) fn scaled(&self, done: &Done, deliveries: u64) -> u64 {
        let counted = done.subscribers.iter().filter(|one| one.is_counted).count() as u64;
        let inflated = done.subscribers.iter().filter(|one| one.is_inflated).count() as u64;
        if !self.settings().gzip || inflated == 0 {
            return deliveries;
        }
        deliveries * (counted + inflated) / inflated
    }

    pub(super) fn fault(&mut self, amount: u64, text: &str) {
        if amount > 0 {
            self.report.faults.push(format!("{amount} {text}"));
        }
    }

    pub(super) fn judge_opening(&mut self, done: &Done) {
        let opening = &mut self.report.opening;
        let tally = &done.tally;
        opening.refused = tally.refused;
        opening.connect_p50_ms = ms(tally.connect.value_at_quantile(0.5));
        opening.connect_p99_ms = ms(tally.connect.value_at_quantile(0.99));
        opening.connect_max_ms = ms(tally.connect.max());
        let failed = opening.failed as u64;
        let why = tally.first_error.as_deref().unwrap_or("timed out");
        let text = format!("connections not opened, {} refused; first: {why}", tally.refused);
        self.fault(failed, &text);
        if self.report.traffic.is_none() {
            self.fault(tally.malformed, &format!("streams malformed; first: {why}"));
            self.fault(tally.ended_ns.len() as u64, "streams ended unasked");
        }
    }

    pub(super) fn judge_traffic(&mut self, traffic: &Traffic, done: &Done) {
        let inside = traffic.lost_inside;
        let first = traffic
            .lost_first
            .map_or(String::new(), |(index, seq)| format!("; first: u{index} waits for {seq}"));
        self.fault(traffic.lost, &format!("events lost, {inside} of them before others{first}"));
        self.fault(traffic.duplicated, "events duplicated");
        self.fault(traffic.reordered, "events reordered");
        self.fault(traffic.damaged, "events damaged");
        self.judge_gaps(traffic);
        let is_missing = |one: &&Account| matches!(one.standing, Standing::Away | Standing::Failed);
        let missing = done.subscribers.iter().filter(is_missing).count();
        // Connections that never opened are a fault of their own.
        self.fault(missing.saturating_sub(self.report.opening.failed) as u64, "subscribers never came back");
        self.fault(traffic.disconnects, "streams ended unasked");
        self.fault(traffic.requests_refused, "publish requests refused");
        let why = done.tally.first_error.clone().unwrap_or_default();
        self.fault(done.tally.malformed, &format!("streams malformed; first: {why}"));
        self.fault(done.tally.foreign, "events that this run did not publish");
        if let Some(error) = &self.published.error {
            self.report.faults.push(error.clone());
        }
        if !self.has_one_rate() || !self.published.fell_behind(self.settings()) {
            return;
        }
        let Published { offered, sent, .. } = self.published;
        let (rate, achieved) = (self.settings().rate_per_s, traffic.sent_per_s);
        self.report.notes.push(format!(
            "fell behind: {rate} events/s offered, {achieved:.1} achieved ({sent} of {offered} events)"
        ));
    }

    /// A gap is no loss, since the server has told of it. It is a fault where no subscriber was away or slow.
    fn judge_gaps(&mut self, traffic: &Traffic) {
        match self.job.scenario {
            // Judged there: the first part must have none, the second one each.
            Scenario::Resume => {}
            Scenario::Churn | Scenario::Storm | Scenario::Soak | Scenario::Saturate => {
                if traffic.gaps > 0 {
                    let (gaps, excused) = (traffic.gaps, traffic.excused);
                    self.report.notes.push(format!("{gaps} gaps announced, over {excused} events"));
                }
            }
            _ => self.fault(traffic.gaps, "gaps announced"),
        }
    }

    /// Whether one publisher with one rate was at work from start to end.
    fn has_one_rate(&self) -> bool {
        use Scenario::{Drain, Resume, Retry, Saturate, Soak};
        !matches!(self.job.scenario, Drain | Resume | Retry | Saturate | Soak)
    }

    pub(super) fn judge_gzip(&mut self, done: &Done) {
        if !self.settings().gzip {
            return;
        }
        let counted = done.subscribers.iter().filter(|one| one.is_counted);
        let mut bytes: Vec<u64> = counted.map(|one| one.body_bytes).collect();
        bytes.sort_unstable();
        let median = bytes.get(bytes.len() / 2).copied().unwrap_or(0);
        let inflated = done.subscribers.iter().filter(|one| one.is_inflated).count();
        let gzip = Gzip {
            inflated,
            counted: bytes.len(),
            plain: done.subscribers.len() - inflated - bytes.len(),
            body_bytes_median: median,
            short: bytes.iter().filter(|one| **one + CONNECTED_SPREAD_BYTES < median).count(),
        };
        self.fault(gzip.short as u64, "counted streams are short of bytes");
        if gzip.inflated == 0 {
            self.report.notes.push("asked for gzip, got none".to_owned());
        }
        self.report.gzip = Some(gzip);
    }

    pub(super) fn judge_stuck(&mut self, done: &Done) {
        let connections = self.settings().stuck;
        if connections == 0 {
            return;
        }
        let memory = &self.report.memory;
        let growth = |kib: Option<u64>| {
            let growth = kib.zip(memory.open_kib).map(|(now, open)| count(now) - count(open));
            growth.map_or(f64::NAN, |growth| per(growth, connections as u64))
        };
        let is_closed = |one: &&Account| one.is_stuck && one.standing == Standing::Ended;
        self.report.stuck = Some(Stuck {
            connections,
            closed: done.subscribers.iter().filter(is_closed).count(),
            gaps: done.tally.gaps_stuck,
            peak_each_kib: growth(memory.peak_kib),
            after_each_kib: growth(memory.after_kib),
        });
    }
}

/// Whether every event of this subscriber was checked and had to come.
fn is_checked(subscriber: &Account) -> bool {
    let is_up = matches!(subscriber.standing, Standing::Open | Standing::Ended);
    is_up && !subscriber.is_stuck && !subscriber.is_counted
}

/// Compressed streams differ by their `connected` events.
const CONNECTED_SPREAD_BYTES: u64 = 256;
