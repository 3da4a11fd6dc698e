//! A stretch of time whose CPU and deliveries are taken at the same two moments.

use std::io;
use std::time::Duration;

use super::one::Run;
use crate::client::fleet::{Command, Fleet};
use crate::number::{count, ms};
use crate::report::measured::Traffic;
use crate::target::usage::Cpu;

/// The first moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    start_ns: u64,
    deliveries: u64,
    cpu: Option<Cpu>,
    own: Cpu,
}

/// What lies between the two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) seconds: f64,
    pub(super) deliveries: u64,
    /// Of the server, where it can be known.
    pub(super) cpu: Option<Cpu>,
    /// Of this process, and those that hold connections for it.
    pub(super) own: Cpu,
}

impl Run {
    /// Begins a window. Latencies of events published from now on are recorded.
    pub(super) fn open_window(&self, fleet: &Fleet) -> io::Result<Window> {
        fleet.command(Command::Record(self.clock.now_ns()))?;
        let (cpu, own) = (self.meter.cpu()?, own_cpu(fleet)?);
        Ok(Window { start_ns: self.clock.now_ns(), deliveries: fleet.counts().deliveries, cpu, own })
    }

    /// Ends it.
    pub(super) fn close_window(&self, window: &Window, fleet: &Fleet) -> io::Result<Span> {
        let now_ns = self.clock.now_ns();
        // A server that has died shows by its streams, which have all ended.
        let cpu = self.meter.cpu().ok().flatten();
        Ok(Span {
            seconds: ms(now_ns - window.start_ns) / 1e3,
            deliveries: fleet.counts().deliveries - window.deliveries,
            cpu: cpu.zip(window.cpu).map(|(now, before)| now.since(&before)),
            own: own_cpu(fleet)?.since(&window.own),
        })
    }

    /// Deliveries to checked subscribers that everything published so far should have made.
    pub(super) fn expected(&self) -> u64 {
        let settings = self.settings();
        (0..settings.connections)
            .filter(|index| self.assignment.is_checked(*index))
            .map(|index| self.published.counts.get(settings.stream_of(index)).copied().unwrap_or(0))
            .sum()
    }

    /// Waits until every checked subscriber that reads must have everything, or nothing comes any more.
    pub(super) fn wait_delivered(&mut self, fleet: &mut Fleet) -> io::Result<()> {
        let expected = self.expected();
        // Streams that are only counted give no sign, so they get a moment more.
        let quiet_ns = if self.settings().gzip { GZIP_QUIET_NS } else { 0 };
        let clock = self.clock;
        let mut last = (0, clock.now_ns());
        self.watch(fleet, DELIVER_MAX, |counts| {
            let now_ns = clock.now_ns();
            let accounted = counts.deliveries + counts.excused;
            if accounted != last.0 {
                last = (accounted, now_ns);
            }
            let idle_ns = now_ns - last.1;
            (accounted >= expected && idle_ns >= quiet_ns) || idle_ns >= DELIVER_QUIET_NS
        })?;
        Ok(())
    }
}

fn own_cpu(fleet: &Fleet) -> io::Result<Cpu> {
    let mut own = Cpu::of(std::process::id())?;
    for pid in fleet.processes() {
        own.total_ns += Cpu::of(pid)?.total_ns;
    }
    Ok(own)
}

impl Span {
    /// Fills in what a window says about traffic.
    pub(super) fn describe(&self, traffic: &mut Traffic) {
        traffic.window_seconds = self.seconds;
        traffic.window_deliveries = self.deliveries;
        traffic.deliveries_per_s = count(self.deliveries) / self.seconds.max(1e-9);
        traffic.client_percent = ms(self.own.total_ns) / 10.0 / self.seconds.max(1e-9);
        traffic.set_cpu(self.cpu.as_ref());
    }

    /// CPU of the server, microseconds; not a number where it can't be known.
    pub(super) fn cpu_us(&self) -> f64 {
        self.cpu.map_or(f64::NAN, |cpu| ms(cpu.total_ns) * 1e3)
    }
}

const DELIVER_MAX: Duration = Duration::from_secs(30);
/// Nothing for so long, and the rest is lost.
const DELIVER_QUIET_NS: u64 = 3_000_000_000;
const GZIP_QUIET_NS: u64 = 500_000_000;
