//! What a run amounts to: sums over all listeners, and everything that must not be.

use super::Run;
use crate::fleet::{Done, Listener, Standing};
use crate::publisher::Published;
use crate::report::{Gzip, Stuck, Traffic, count, ms, per, percentiles};
use crate::scenario::Scenario;
use crate::wire::stream::Stream;

impl Run {
    /// Sums over listeners, for everything but the window.
    pub(super) fn tally(&self, done: &Done, published: &Published) -> Traffic {
        let settings = self.settings();
        let checked = || done.listeners.iter().filter(|listener| is_checked(listener));
        let stream = |listener: &Listener| published.counts[settings.stream_of(listener.index)];
        let is_drain = self.job.scenario == Scenario::Drain;
        let lost = |listener: &Listener| {
            // A stream that was meant to end has no tail to lose, only holes.
            if is_drain { listener.track.holes() } else { listener.track.lost(stream(listener)) }
        };
        let lost_first = |one: &Listener| {
            let published = if is_drain { 0 } else { stream(one) };
            one.track.first_lost(published).map(|seq| (one.index, seq))
        };
        let tally = &done.tally;
        let latency = |quantile| ms(tally.latency.value_at_quantile(quantile));
        let ended = |one: &&Listener| one.standing == Standing::Ended && !one.is_stuck;
        let send_seconds = ms(published.last_ns.saturating_sub(published.first_ns)) / 1e3;
        let answer_seconds = ms(published.answered_ns.saturating_sub(published.first_ns)) / 1e3;
        // The first step needs no time; so many events as came after it did.
        let after_first = |events: u64| count(events.saturating_sub(u64::from(settings.burst)));
        Traffic {
            events_offered: published.offered,
            events_sent: published.sent,
            events_accepted: published.accepted,
            requests_refused: published.requests_refused,
            sent_per_s: after_first(published.sent) / send_seconds.max(1e-3),
            accepted_per_s: after_first(published.accepted) / answer_seconds.max(1e-3),
            late_max_ms: ms(published.late_max_ns),
            deliveries_expected: checked().map(stream).sum(),
            deliveries: tally.deliveries,
            lost: checked().map(lost).sum(),
            lost_inside: checked().map(|one| one.track.holes()).sum(),
            lost_first: checked().find_map(lost_first),
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            damaged: tally.damaged,
            gaps: tally.gaps,
            disconnects: done.listeners.iter().filter(ended).count() as u64,
            latency_p50_ms: latency(0.5),
            latency_p90_ms: latency(0.9),
            latency_p99_ms: latency(0.99),
            latency_p999_ms: latency(0.999),
            latency_max_ms: ms(tally.latency.max()),
            ..Traffic::default()
        }
    }

    /// Deliveries of the window, counted streams included: they get what the inflated ones get.
    pub(super) fn scaled(&self, done: &Done, deliveries: u64) -> u64 {
        let counted = done.listeners.iter().filter(|one| one.stream.is_counted()).count() as u64;
        let inflated = done.listeners.iter().filter(|one| one.stream.is_inflated()).count() as u64;
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

    pub(super) fn judge_traffic(&mut self, traffic: &Traffic, published: &Published, done: &Done) {
        self.report.latency_percentiles = percentiles(&done.tally.latency);
        let inside = traffic.lost_inside;
        let first = traffic
            .lost_first
            .map_or(String::new(), |(index, seq)| format!("; first: u{index} waits for {seq}"));
        self.fault(traffic.lost, &format!("events lost, {inside} of them before others{first}"));
        self.fault(traffic.duplicated, "events duplicated");
        self.fault(traffic.reordered, "events reordered");
        self.fault(traffic.damaged, "events damaged");
        self.fault(traffic.gaps, "gaps announced");
        self.fault(traffic.disconnects, "streams ended unasked");
        self.fault(traffic.requests_refused, "publish requests refused");
        let why = done.tally.first_error.clone().unwrap_or_default();
        self.fault(done.tally.malformed, &format!("streams malformed; first: {why}"));
        self.fault(done.tally.foreign, "events nobody here published");
        if let Some(error) = &published.error {
            self.report.faults.push(error.clone());
        }
        if self.job.scenario == Scenario::Drain {
            return;
        }
        let Published { offered, sent, .. } = *published;
        let rate = self.settings().rate_per_s;
        if sent < offered || traffic.sent_per_s < 0.98 * f64::from(rate) {
            let achieved = traffic.sent_per_s;
            self.report.notes.push(format!(
                "fell behind: {rate} events/s offered, {achieved:.1} achieved ({sent} of {offered} events)"
            ));
        }
    }

    pub(super) fn judge_gzip(&mut self, done: &Done) {
        if !self.settings().gzip {
            return;
        }
        let listeners = || done.listeners.iter().map(|listener| &listener.stream);
        let mut bytes: Vec<u64> =
            listeners().filter(|stream| stream.is_counted()).map(Stream::body_bytes).collect();
        bytes.sort_unstable();
        let median = bytes.get(bytes.len() / 2).copied().unwrap_or(0);
        let inflated = listeners().filter(|stream| stream.is_inflated()).count();
        let gzip = Gzip {
            inflated,
            counted: bytes.len(),
            plain: done.listeners.len() - inflated - bytes.len(),
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
            let kib = kib.unwrap_or(memory.open_kib);
            per(count(kib) - count(memory.open_kib), connections as u64)
        };
        let is_closed = |one: &&Listener| one.is_stuck && one.standing == Standing::Ended;
        self.report.stuck = Some(Stuck {
            connections,
            closed: done.listeners.iter().filter(is_closed).count(),
            gaps: done.tally.gaps_stuck,
            peak_each_kib: growth(memory.peak_kib),
            after_each_kib: growth(memory.after_kib),
        });
    }
}

/// Whether every event of this listener was looked at and had to come.
fn is_checked(listener: &Listener) -> bool {
    let is_up = matches!(listener.standing, Standing::Open | Standing::Ended);
    is_up && !listener.is_stuck && !listener.stream.is_counted()
}

/// Compressed streams differ by their `connected` events.
const CONNECTED_SPREAD_BYTES: u64 = 256;
