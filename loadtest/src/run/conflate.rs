//! Updates of many keys in one room that conflates. Some subscribers read slowly.
//!
//! What a subscriber gets of a key may leave versions out, and must not go back. At the end it has the newest of each. Nobody
//! is told of a gap, slow ones neither.

use std::io;
use std::time::Duration;

use super::one::Run;
use crate::client::fleet::{Command, Done, Fleet, Known};
use crate::number::{count, per};
use crate::report::found::Found;
use crate::report::special::Conflate;

impl Run {
    /// Publishes, lets everybody catch up, and asks who has what.
    pub(super) fn conflate(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        let (feed, window) = self.begin_feed(&fleet)?;
        let before = feed.sent();
        self.end_feed(&mut fleet, feed)?;
        let span = self.close_window(&window, &fleet)?;
        let updates = self.published.sent - before;
        self.progress.say("waiting for the last deliveries");
        self.become_quiet(&mut fleet)?;
        self.take_memory();
        self.progress.say("slow subscribers catch up");
        fleet.command(Command::ReadAgain)?;
        self.become_quiet(&mut fleet)?;
        fleet.command(Command::Check(Known::Newest(self.published.sent)))?;
        let counted = self.counted(&mut fleet)?;
        let keys = u64::from(self.settings().keyed.keys);
        let slow = self.settings().keyed.slow as u64;
        let prompt = (self.settings().connections as u64).saturating_sub(slow);
        let each = per(count(counted.deliveries - counted.deliveries_slow), prompt);
        self.report.found = Some(Found::Conflate(Conflate {
            keys,
            updates: self.published.sent,
            each,
            conflated_percent: 100.0 * (1.0 - each / count(self.published.sent.max(1))),
            cpu_us_update: per(span.cpu_us(), updates),
            slow,
            slow_each: per(count(counted.deliveries_slow), slow),
            checked: counted.checked * keys,
        }));
        self.fault(counted.unknown, "keys whose newest version did not come");
        let connected = self.report.opening.connected as u64;
        self.fault(connected.saturating_sub(counted.checked), "subscribers that could not be asked");
        self.finish(fleet, &span, None)
    }

    /// Waits until nothing has come for a while: several times as long as the room gathers updates.
    fn become_quiet(&mut self, fleet: &mut Fleet) -> io::Result<()> {
        let quiet_ns = QUIET_NS + 3 * 1_000_000 * u64::from(self.settings().keyed.conflate_ms);
        let clock = self.clock;
        let mut last = (0, clock.now_ns());
        self.watch(fleet, QUIET_MAX, |counts| {
            let now_ns = clock.now_ns();
            if counts.deliveries != last.0 {
                last = (counts.deliveries, now_ns);
            }
            now_ns - last.1 >= quiet_ns
        })?;
        Ok(())
    }
}

const QUIET_NS: u64 = 500_000_000;
/// What catching up may take.
const QUIET_MAX: Duration = Duration::from_mins(1);
