//! Finds the highest rate that can be sustained: doubles while it can, then halves the distance between the highest rate
//! that could be sustained and the lowest that could not.
//!
//! Each step is a short window of its own on the same connections. Afterwards everything still on its way is waited for,
//! so that one step's backlog does not spoil the next one's figures.

use std::io;
use std::time::Duration;

use super::one::Run;
use super::window::Span;
use crate::client::fleet::{Done, Fleet, Tally};
use crate::client::published::Published;
use crate::number::{count, ms, number};
use crate::plan::scenario::Settings;
use crate::report::found::{Found, Saturate, Step};
use crate::report::measured::Traffic;

/// What a step leaves behind for the report, should it be the best.
struct Best {
    span: Span,
    counted: Tally,
    /// Events sent and accepted a second.
    rates: (f64, f64),
}

impl Run {
    /// The search.
    pub(super) fn saturate(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        self.meter.reset_peak();
        self.begin_series(&fleet, None)?;
        let mut found = Saturate::default();
        let mut best = Best { span: Span::default(), counted: Tally::default(), rates: (0.0, 0.0) };
        let mut search = Search::new(self.settings().rate_per_s);
        while let Some(rate) = search.next().filter(|_| found.steps.len() < STEPS_MAX) {
            let (mut step, mut left) = self.step(&mut fleet, rate)?;
            if step.failed_by.is_some() {
                // Another program may have used the cores: a failure has to happen twice.
                found.steps.push(step);
                (step, left) = self.step(&mut fleet, rate)?;
            }
            search.learn(rate, step.failed_by.is_none());
            if step.failed_by.is_none() && found.events_per_s.is_none_or(|best| best < rate) {
                found.events_per_s = Some(rate);
                found.deliveries_per_s = step.deliveries_per_s;
                best = left;
            }
            found.steps.push(step);
        }
        self.take_memory();
        if found.events_per_s.is_none() {
            self.report.faults.push("no rate was sustained".to_owned());
        }
        self.report.found = Some(Found::Saturate(found));
        let done = self.finish(fleet, &best.span, Some(&best.counted))?;
        if let Some(traffic) = &mut self.report.traffic {
            // A rate over all steps would mean nothing.
            (traffic.sent_per_s, traffic.accepted_per_s) = best.rates;
        }
        Ok(done)
    }

    /// Tries one rate.
    fn step(&mut self, fleet: &mut Fleet, rate: u32) -> io::Result<(Step, Best)> {
        let settings = Settings { rate_per_s: rate, ..self.settings().clone() };
        self.progress.say(&format!("trying {rate} events/s"));
        self.counted(fleet)?;
        let window = self.open_window(fleet)?;
        let (before, expected_before) = (fleet.counts().excused, self.expected());
        let feed = self.publish(&settings, count(settings.seconds))?;
        let limit = Duration::from_secs(settings.seconds * 2 + 60);
        self.watch(fleet, limit, |_| feed.is_finished())?;
        let published = feed.join()?;
        self.published.absorb(published.clone());
        self.wait_delivered(fleet)?;
        let span = self.close_window(&window, fleet)?;
        let counted = self.counted(fleet)?;
        let excused = fleet.counts().excused - before;
        let missing = (self.expected() - expected_before).saturating_sub(span.deliveries + excused);
        let mut traffic = Traffic::default();
        span.describe(&mut traffic);
        let step = Step {
            rate_per_s: rate,
            failed_by: why_not(&settings, &published, &counted, (missing, excused)),
            sent_per_s: published.sent_per_s(&settings),
            deliveries_per_s: traffic.deliveries_per_s,
            p50_ms: ms(counted.latency.value_at_quantile(0.5)),
            p99_ms: ms(counted.latency.value_at_quantile(0.99)),
            cpu_percent: traffic.cpu_percent,
            cpu_us_each: traffic.cpu_us_each,
        };
        let rates = (published.sent_per_s(&settings), published.accepted_per_s(&settings));
        Ok((step, Best { span, counted, rates }))
    }
}

/// Why a step was not sustained, if it was not: of its deliveries some are `missing`, others were told by gaps.
fn why_not(
    settings: &Settings,
    published: &Published,
    counted: &Tally,
    (missing, excused): (u64, u64),
) -> Option<String> {
    let p99_ms = ms(counted.latency.value_at_quantile(0.99));
    if let Some(error) = &published.error {
        Some(error.clone())
    } else if counted.gaps > 0 || excused > 0 {
        Some(format!("{} gaps", counted.gaps))
    } else if missing > 0 || counted.duplicated + counted.reordered > 0 {
        Some("events lost, repeated or out of order".to_owned())
    } else if published.fell_behind(settings) {
        Some(format!("only {} events/s taken", number(published.sent_per_s(settings))))
    } else if p99_ms > f64::from(settings.p99_max_ms) {
        Some(format!("p99 over {} ms", settings.p99_max_ms))
    } else {
        None
    }
}

/// Which rate is tried next. Knows nothing but which were sustained.
#[derive(Clone, Copy, Debug)]
struct Search {
    /// Sustained; zero if none was.
    low: u32,
    /// Not sustained, if one was not.
    high: Option<u32>,
    first: u32,
}

impl Search {
    fn new(first: u32) -> Self {
        Self { low: 0, high: None, first }
    }

    fn learn(&mut self, rate: u32, is_sustained: bool) {
        if is_sustained {
            self.low = self.low.max(rate);
        } else {
            self.high = Some(self.high.map_or(rate, |high| high.min(rate)));
        }
    }

    /// `None` once it is known to a twentieth, or the bound is reached.
    fn next(&self) -> Option<u32> {
        match (self.low, self.high) {
            (0, None) => Some(self.first),
            (low, None) => (low < RATE_MAX).then(|| low.saturating_mul(2).min(RATE_MAX)),
            (low, Some(high)) => (high - low > (low / 20).max(1)).then(|| low + (high - low) / 2),
        }
    }
}

/// Steps made: seventeen doublings reach the highest rate from ten, and five halvings a thirtieth; those that fail count
/// twice.
const STEPS_MAX: usize = 40;
const RATE_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where everything up to `limit` is sustained.
    fn search(first: u32, limit: u32) -> (u32, usize) {
        let (mut search, mut steps) = (Search::new(first), 0);
        while let Some(rate) = search.next() {
            search.learn(rate, rate <= limit);
            steps += 1;
        }
        (search.low, steps)
    }

    #[test]
    fn any_limit_is_found_to_a_twentieth() {
        for limit in [1, 2, 9, 10, 11, 37, 1_234, 99_999, 777_777] {
            let (found, steps) = search(10, limit);
            let is_near = found <= limit && limit - found <= (found / 20).max(1);
            assert!(is_near && steps <= STEPS_MAX, "limit {limit}: found {found} in {steps} steps");
        }
        assert_eq!(search(10, 0).0, 0);
        assert_eq!(search(10, u32::MAX).0, RATE_MAX);
    }
}
