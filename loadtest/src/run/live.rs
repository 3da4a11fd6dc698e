//! Once a second: a sample for the series, and a line of progress.

use std::io;
use std::time::{Duration, Instant};

use super::one::Run;
use super::series::{Live, line};
use crate::client::fleet::{Counts, Fleet, Tally};
use crate::number::{count, ms};
use crate::report::measured::Second;

impl Run {
    /// From now on there is a sample every second; the bar is so many seconds long, if that is known.
    pub(super) fn begin_series(&mut self, fleet: &Fleet, seconds: Option<u64>) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        self.live = Live {
            start_ns: now_ns,
            next_ns: now_ns + SECOND_NS,
            last_ns: now_ns,
            deliveries: fleet.counts().deliveries,
            cpu_ns: self.meter.cpu()?.map(|cpu| cpu.total_ns),
            so_far: std::mem::take(&mut self.live.so_far),
        };
        self.progress.begin("measuring", seconds);
        Ok(())
    }

    /// Waits until `is_done`, with a sample every second. False when `limit` passed first.
    pub(super) fn watch(
        &mut self,
        fleet: &mut Fleet,
        limit: Duration,
        mut is_done: impl FnMut(&Counts) -> bool,
    ) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            self.sample(fleet)?;
            if is_done(&fleet.counts()) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Lets `time` pass, with a sample every second.
    pub(super) fn pass(&mut self, fleet: &mut Fleet, time: Duration) -> io::Result<()> {
        self.watch(fleet, time, |_| false).map(|_| ())
    }

    /// What the subscribers counted since this was last asked.
    pub(super) fn counted(&mut self, fleet: &mut Fleet) -> io::Result<Tally> {
        let mut tally = std::mem::take(&mut self.live.so_far);
        tally.merge(&fleet.take()?);
        Ok(tally)
    }

    /// Waits until every thread has handled its commands and its counters show that.
    pub(super) fn sync(&mut self, fleet: &mut Fleet) -> io::Result<()> {
        let news = fleet.take()?;
        self.live.so_far.merge(&news);
        // The counters of other processes are a moment old.
        self.pass(fleet, COUNTERS_SETTLE)
    }

    fn sample(&mut self, fleet: &mut Fleet) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        if now_ns < self.live.next_ns {
            return Ok(());
        }
        let news = fleet.take()?;
        let counts = fleet.counts();
        // Walks the server's page tables, which for these servers takes a fraction of a millisecond.
        let resident_kib = self.meter.resident_kib()?;
        let cpu_ns = self.meter.cpu()?.map(|cpu| cpu.total_ns);
        let live = &mut self.live;
        let seconds = ms(now_ns - live.last_ns) / 1e3;
        let used_ns = cpu_ns.zip(live.cpu_ns).map(|(now, before)| now.saturating_sub(before));
        let latency =
            |quantile| (!news.latency.is_empty()).then(|| ms(news.latency.value_at_quantile(quantile)));
        let second = Second {
            seconds: ms(now_ns - live.start_ns) / 1e3,
            connections: counts.up,
            deliveries_per_s: count(counts.deliveries - live.deliveries) / seconds,
            p50_ms: latency(0.5),
            p99_ms: latency(0.99),
            resident_kib,
            cpu_percent: used_ns.map(|used| ms(used) / 10.0 / seconds),
        };
        live.so_far.merge(&news);
        live.deliveries = counts.deliveries;
        live.cpu_ns = cpu_ns;
        live.last_ns = now_ns;
        // After a stall the next sample covers all of it; none is made up.
        live.next_ns = now_ns - (now_ns - live.start_ns) % SECOND_NS + SECOND_NS;
        self.progress.at((now_ns - live.start_ns) / SECOND_NS, &line(&second, &live.so_far));
        self.report.series.push(second);
        Ok(())
    }
}

const SECOND_NS: u64 = 1_000_000_000;
const COUNTERS_SETTLE: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(4);
