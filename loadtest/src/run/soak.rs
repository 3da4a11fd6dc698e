//! A long run of rooms, single events, bursts, and subscribers that leave and come back.
//!
//! Memory is read after a warm-up and at the end, both times with all connected. The growth between shows a leak. History
//! that is still filling up is part of it until every room is full.

use std::io;
use std::time::Duration;

use super::one::Run;
use crate::client::fleet::{Done, Fleet};
use crate::number::count;
use crate::plan::scenario::{Form, Settings};
use crate::report::found::{Found, Soak};

impl Run {
    /// Stretches of single events and of bursts in turns, with churn all the time.
    pub(super) fn soak(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        let seconds = self.settings().seconds;
        let stretch = seconds.div_ceil(8).min(STRETCH_SECONDS_MAX);
        self.begin_series(&fleet, Some(seconds))?;
        self.begin_churn(&fleet)?;
        let start_ns = self.clock.now_ns();
        let elapsed = |run: &Self| Duration::from_nanos(run.clock.now_ns() - start_ns).as_secs();
        let mut soak = Soak::default();
        // The warm-up: one stretch of each kind.
        self.stretch(&mut fleet, stretch, &mut soak)?;
        self.stretch(&mut fleet, stretch, &mut soak)?;
        self.end_churn(&mut fleet)?;
        soak.warm_up_seconds = crate::number::ms(self.clock.now_ns() - start_ns) / 1e3;
        soak.start_kib = self.meter.resident_kib()?;
        self.meter.reset_peak();
        let window = self.open_window(&fleet)?;
        self.begin_churn(&fleet)?;
        while elapsed(self) < seconds {
            self.stretch(&mut fleet, stretch, &mut soak)?;
        }
        self.end_churn(&mut fleet)?;
        // Events for those that came back last.
        self.stretch(&mut fleet, 1, &mut soak)?;
        self.wait_delivered(&mut fleet)?;
        let span = self.close_window(&window, &fleet)?;
        self.take_memory();
        soak.end_kib = self.report.memory.after_kib;
        let signed = |kib: Option<u64>| kib.and_then(|kib| i64::try_from(kib).ok());
        soak.growth_kib = signed(soak.end_kib).zip(signed(soak.start_kib)).map(|(end, start)| end - start);
        soak.left = self.counted(&mut fleet)?.left;
        soak.returned = fleet.counts().returned as u64;
        self.report.found = Some(Found::Soak(soak));
        self.finish(fleet, &span, None)
    }

    /// One stretch: of bursts after one of single events, of single events otherwise.
    fn stretch(&mut self, fleet: &mut Fleet, seconds: u64, soak: &mut Soak) -> io::Result<()> {
        let settings = self.settings().clone();
        let settings = if soak.single_stretches > soak.burst_stretches {
            soak.burst_stretches += 1;
            Settings { form: Form::Array, ..settings }
        } else {
            soak.single_stretches += 1;
            Settings { burst: 1, ..settings }
        };
        let feed = self.publish(&settings, count(seconds))?;
        let limit = Duration::from_secs(seconds * 2 + 60);
        self.watch(fleet, limit, |_| feed.is_finished())?;
        self.published.absorb(feed.join()?);
        // Subscribers that are away get these events later, so the wait is short.
        self.pass(fleet, BETWEEN)
    }
}

const STRETCH_SECONDS_MAX: u64 = 30;
const BETWEEN: Duration = Duration::from_millis(200);
