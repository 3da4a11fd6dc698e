//! All leave, miss events, and come back with their last id: first within what the server remembers, then beyond it.
//!
//! Events it remembers must be replayed exactly. A subscriber that missed more must be told by `gap`, and must get every
//! event after that.

use std::io;
use std::time::Duration;

use super::churn::BACK_MAX;
use super::one::Run;
use crate::client::fleet::{Command, Done, Fleet, Pace, Tally};
use crate::number::{count, ms, per};
use crate::plan::scenario::{Form, Settings};
use crate::report::found::{Found, Resume};

impl Run {
    /// Both parts.
    pub(super) fn resume(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        self.meter.reset_peak();
        let seconds = self.settings().seconds;
        let window = self.open_window(&fleet)?;
        self.begin_series(&fleet, Some(seconds))?;
        self.live_events(&mut fleet, seconds)?;
        let span = self.close_window(&window, &fleet)?;
        let live = self.counted(&mut fleet)?;

        let missed = u64::from(self.settings().missed);
        self.progress.say("replaying what was missed");
        let (replay, cpu_us, replay_seconds) = self.miss(&mut fleet, missed, true)?;
        self.fault(replay.gaps, "gaps announced although the server remembers what was missed");

        let beyond = u64::from(self.settings().history) * 5 / 4 + 1;
        self.progress.say("coming back for more than is remembered");
        let (beyond_tally, ..) = self.miss(&mut fleet, beyond, false)?;
        // What comes after the gap must come to all.
        self.live_events(&mut fleet, 1)?;
        let last = self.counted(&mut fleet)?;
        let told_gap = beyond_tally.gaps + last.gaps;
        let returned = beyond_tally.reconnect.len();
        self.fault(
            returned.abs_diff(told_gap),
            "subscribers not told by gap exactly once that events are gone",
        );
        self.report.found = Some(Found::Resume(Resume {
            missed,
            replayed: replay.replayed,
            replay_seconds,
            replayed_per_s: count(replay.replayed) / replay_seconds.max(1e-9),
            cpu_us_each: per(cpu_us, replay.replayed),
            missed_beyond: beyond,
            returned_beyond: returned,
            told_gap,
        }));
        if replay.replayed == 0 {
            self.report.faults.push("nothing was replayed".to_owned());
        }
        self.take_memory();
        self.finish(fleet, &span, Some(&live))
    }

    /// All leave, `events` are published in each room, and all come back. Returns what was counted then,
    /// the server's CPU in microseconds, and the seconds from the first reconnect to the last event.
    fn miss(&mut self, fleet: &mut Fleet, events: u64, all_come: bool) -> io::Result<(Tally, f64, f64)> {
        fleet.command(Command::Leave)?;
        self.sync(fleet)?;
        self.publish_at_once(events)?;
        self.counted(fleet)?;
        let window = self.open_window(fleet)?;
        let back_ns = self.clock.now_ns();
        fleet.command(Command::Return(Pace::AsOpened))?;
        self.sync(fleet)?;
        let total = self.settings().connections;
        self.watch(fleet, BACK_MAX, |counts| counts.settled() >= total)?;
        if all_come {
            self.wait_delivered(fleet)?;
        }
        let span = self.close_window(&window, fleet)?;
        let tally = self.counted(fleet)?;
        let last_ns = fleet.counts().delivered_last_ns;
        self.fault(tally.retries, "reconnects failed");
        Ok((tally, span.cpu_us(), ms(last_ns.saturating_sub(back_ns)) / 1e3))
    }

    /// Publishes at the settings' rate, and waits until everything has arrived.
    fn live_events(&mut self, fleet: &mut Fleet, seconds: u64) -> io::Result<()> {
        // Every room gets at least one.
        let rate_per_s = self.settings().rate_per_s.max(u32::try_from(self.settings().rooms).unwrap_or(1));
        let settings = Settings { rate_per_s, ..self.settings().clone() };
        let feed = self.publish(&settings, count(seconds))?;
        let limit = Duration::from_secs(seconds * 2 + 60);
        self.watch(fleet, limit, |_| feed.is_finished())?;
        self.published.absorb(feed.join()?);
        self.wait_delivered(fleet)
    }

    /// Publishes `events` in each room as fast as the server takes them, and waits for its answers.
    fn publish_at_once(&mut self, events: u64) -> io::Result<()> {
        let all = u32::try_from(events * self.settings().rooms as u64).unwrap_or(u32::MAX);
        let settings = Settings { rate_per_s: all, burst: all, form: Form::Array, ..self.settings().clone() };
        let feed = self.publish(&settings, 1.0)?;
        self.published.absorb(feed.join()?);
        Ok(())
    }
}
