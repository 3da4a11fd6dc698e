//! Plain traffic: all are connected, events are published, every one arrives.

use std::io;
use std::time::Duration;

use super::one::Run;
use super::window::{Span, Window};
use crate::client::fleet::{Command, Done, Fleet, Tally};
use crate::client::publisher::Publisher;
use crate::number::count;
use crate::plan::scenario::Settings;
use crate::target::meter::Meter;

impl Run {
    /// Publishes and waits for everything to arrive.
    pub(super) fn traffic(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        let (feed, window) = self.begin_feed(&fleet)?;
        self.end_feed(&mut fleet, feed)?;
        self.progress.say("waiting for the last deliveries");
        self.wait_delivered(&mut fleet)?;
        let span = self.close_window(&window, &fleet)?;
        self.take_memory();
        self.let_stuck_read(&fleet)?;
        let done = self.finish(fleet, &span, None)?;
        self.judge_gzip(&done);
        self.judge_stuck(&done);
        Ok(done)
    }

    /// Begins to publish for the time that is set, and the window with it.
    pub(super) fn begin_feed(&mut self, fleet: &Fleet) -> io::Result<(Publisher, Window)> {
        self.meter.reset_peak();
        let seconds = self.warm_up().as_secs_f64() + count(self.settings().seconds);
        let feed = self.publish(self.settings(), seconds)?;
        self.sleep_warm_up();
        Ok((feed, self.open_window(fleet)?))
    }

    /// Watches until `feed` has published everything.
    pub(super) fn end_feed(&mut self, fleet: &mut Fleet, feed: Publisher) -> io::Result<()> {
        self.begin_series(fleet, Some(self.settings().seconds))?;
        self.watch(fleet, FOREVER, |_| feed.is_finished())?;
        self.published.absorb(feed.join()?);
        Ok(())
    }

    /// Ends the run: sums, verdict, and the figures of the window. `counted` has its latencies, if they are not those
    /// of the whole run.
    pub(super) fn finish(&mut self, fleet: Fleet, span: &Span, counted: Option<&Tally>) -> io::Result<Done> {
        let done = fleet.stop()?;
        let mut traffic = self.tally(&done, counted.unwrap_or(&done.tally));
        let deliveries = self.scaled(&done, span.deliveries);
        Span { deliveries, ..*span }.describe(&mut traffic);
        if matches!(self.meter, Meter::Metrics(_)) {
            // Metrics don't say how long a process waited.
            traffic.wait_percent = f64::NAN;
        }
        self.judge_traffic(&traffic, &done);
        self.report.traffic = Some(traffic);
        Ok(done)
    }

    /// Publishes as `settings` say for `seconds`, from a moment after now.
    pub(super) fn publish(&self, settings: &Settings, seconds: f64) -> io::Result<Publisher> {
        let first_ns = self.clock.now_ns() + START_DELAY_NS;
        let counts = self.published.counts.clone();
        Publisher::start(
            &self.target,
            &self.assignment.names,
            settings,
            self.clock,
            (first_ns, seconds),
            counts,
        )
    }

    /// What is published before the window: about a second, and at least one step.
    pub(super) fn warm_up(&self) -> Duration {
        self.settings().step().max(Duration::from_secs(1))
    }

    /// Sleeps until the window of events published from now on begins: halfway between two steps.
    pub(super) fn sleep_warm_up(&self) {
        let before = self.warm_up().saturating_sub(self.settings().step() / 2);
        std::thread::sleep(Duration::from_nanos(START_DELAY_NS) + before);
    }

    pub(super) fn take_memory(&mut self) {
        self.report.memory.after_kib = self.meter.resident_kib().ok().flatten();
        self.report.memory.peak_kib = self.meter.peak_kib();
    }

    /// Lets stuck subscribers read, so that they find out which of them the server has closed.
    fn let_stuck_read(&self, fleet: &Fleet) -> io::Result<()> {
        if self.settings().stuck > 0 {
            self.progress.say("stuck subscribers read again");
            fleet.command(Command::ReadAgain)?;
            std::thread::sleep(READ_AGAIN_SETTLE);
        }
        Ok(())
    }
}

/// Time from the start of a publisher to its first event.
const START_DELAY_NS: u64 = 50_000_000;
/// The publisher gives up by itself.
pub(super) const FOREVER: Duration = Duration::from_hours(48);
/// What stuck subscribers get to find out that they were closed.
const READ_AGAIN_SETTLE: Duration = Duration::from_secs(3);
