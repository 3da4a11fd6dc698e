//! Subscribers leave and come back in turns while events flow.
//!
//! The same traffic is measured without churn first. The CPU that the server uses beyond that is the cost of the reconnects.

use std::io;
use std::time::Duration;

use super::one::Run;
use super::traffic::FOREVER;
use crate::client::fleet::{Command, Done, Fleet};
use crate::number::{count, ms};
use crate::report::found::{Churn, Found};

impl Run {
    /// Everything in order over every reconnect.
    pub(super) fn churn(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        self.meter.reset_peak();
        let seconds = self.settings().seconds;
        let calm = Duration::from_secs(seconds.div_ceil(4));
        // Stopped when all are back.
        let feed = self.publish(self.settings(), FOREVER.as_secs_f64())?;
        self.sleep_warm_up();
        let window = self.open_window(&fleet)?;
        self.begin_series(&fleet, Some(calm.as_secs() + seconds))?;
        self.pass(&mut fleet, calm)?;
        let before = self.close_window(&window, &fleet)?;
        let window = self.open_window(&fleet)?;
        self.begin_churn(&fleet)?;
        self.pass(&mut fleet, Duration::from_secs(seconds))?;
        self.end_churn(&mut fleet)?;
        let span = self.close_window(&window, &fleet)?;
        self.progress.say("all are back");
        // Events for those that came back last.
        self.pass(&mut fleet, self.warm_up())?;
        feed.stop();
        self.published.absorb(feed.join()?);
        self.wait_delivered(&mut fleet)?;
        let counted = self.counted(&mut fleet)?;
        let returned = fleet.counts().returned as u64;
        self.take_memory();
        let calm_us = before.cpu_us() / before.seconds * span.seconds;
        self.report.found = Some(Found::Churn(Churn {
            left: counted.left,
            returned,
            retries: counted.retries,
            refused: counted.refused,
            replayed: counted.replayed,
            reconnect_p50_ms: ms(counted.reconnect.value_at_quantile(0.5)),
            reconnect_p99_ms: ms(counted.reconnect.value_at_quantile(0.99)),
            cpu_us_each: (span.cpu_us() - calm_us) / count(returned.max(1)),
        }));
        let done = self.finish(fleet, &span, None)?;
        if returned == 0 {
            self.report.faults.push("no subscriber came back".to_owned());
        }
        Ok(done)
    }

    /// Begins churn by the settings.
    pub(super) fn begin_churn(&self, fleet: &Fleet) -> io::Result<()> {
        let settings = self.settings();
        fleet.command(Command::Churn {
            percent_per_s: settings.churn_percent,
            away: Duration::from_millis(settings.away_ms.into()),
        })
    }

    /// Ends the churn and waits until all are back.
    pub(super) fn end_churn(&mut self, fleet: &mut Fleet) -> io::Result<()> {
        fleet.command(Command::Settle)?;
        self.sync(fleet)?;
        let total = self.settings().connections;
        self.watch(fleet, BACK_MAX, |counts| counts.settled() >= total)?;
        Ok(())
    }
}

/// What coming back may take.
pub(super) const BACK_MAX: Duration = Duration::from_secs(90);
