//! One run: start, open, settle, publish, wait, judge.
//!
//! The measured window begins about a second after the first event, halfway between two publishing steps, and ends when the
//! last expected delivery has come. Server CPU and deliveries are taken at the same two moments.

mod drain;
mod judge;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::fleet::{Done, Fleet, INFLATED, Plan};
use crate::publisher::{Published, Publisher};
use crate::report::{Memory, Opening, Report, count, ms, per};
use crate::scenario::{Names, Scenario, Settings};
use crate::target::{Source, Target};
use crate::ui::Progress;
use crate::usage::{self, Cpu};

/// What to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The scenario.
    pub scenario: Scenario,
    /// Its numbers.
    pub settings: Settings,
    /// The server.
    pub source: Source,
    /// What tables call it.
    pub label: String,
}

/// Runs `job` once.
///
/// # Errors
///
/// The server can't be started, or this process ran out of something. What the server did wrong is not an error but a
/// fault in the report.
pub fn run(job: &Job, round: u32, clock: Clock) -> Result<Report, Box<dyn std::error::Error>> {
    let mut job = job.clone();
    job.settings.gzip &= job.source.can_gzip();
    let progress = Progress::new(format!("{} {} #{round}", job.scenario.name(), job.label));
    progress.say("starting");
    let target = Target::start(&job.source, job.scenario, job.settings.gzip)?;
    let mut run = Run::new(job, target, round, clock, progress);
    match run.measure() {
        Ok(()) => Ok(run.report),
        // A server that died explains most errors better than they do themselves.
        Err(err) => Err(run.target.obituary().map_or(err.into(), Into::into)),
    }
}

struct Run {
    job: Job,
    target: Target,
    clock: Clock,
    plan: Plan,
    progress: Progress,
    report: Report,
}

impl Run {
    fn new(job: Job, target: Target, round: u32, clock: Clock, progress: Progress) -> Self {
        let mut names = Names::default();
        if let Source::Running { .. } = job.source {
            names.prefix = format!("lt{}-{round}-", std::process::id());
        }
        let plan = Plan::new(&target, names, job.settings.clone());
        let report = Report {
            scenario: job.scenario,
            target: job.label.clone(),
            round,
            settings: job.settings.clone(),
            opening: Opening::default(),
            memory: Memory::default(),
            traffic: None,
            gzip: None,
            stuck: None,
            drain: None,
            found: None,
            latency_percentiles: Vec::new(),
            series: Vec::new(),
            faults: Vec::new(),
            notes: Vec::new(),
        };
        Self { job, target, clock, plan, progress, report }
    }

    fn measure(&mut self) -> io::Result<()> {
        let fleet = self.open()?;
        let done = match self.job.scenario {
            Scenario::Idle | Scenario::Accept => fleet.stop()?,
            Scenario::Drain => self.drain(fleet)?,
            _ => self.traffic(fleet)?,
        };
        self.judge_opening(&done);
        Ok(())
    }

    fn settings(&self) -> &Settings {
        &self.job.settings
    }

    /// Opens every connection, and measures that.
    fn open(&mut self) -> io::Result<Fleet> {
        warm_up(&self.target, &self.plan)?;
        std::thread::sleep(WARM_UP_SETTLE);
        let pid = self.target.pid;
        let before_kib = usage::resident_kib(pid)?;
        let cpu_before = Cpu::of(pid)?;
        let start_ns = self.clock.now_ns();
        let fleet = Fleet::start(&self.plan, self.clock)?;
        let total = self.settings().connections;
        let pace = total as u64 / u64::from(self.settings().open_rate_per_s);
        let is_open = fleet.wait_open(OPEN_MAX + Duration::from_secs(pace), |connected| {
            self.progress.say(&format!("{connected} of {total} connected"));
        });
        if !is_open {
            self.report.notes.push("the wait for connections timed out".to_owned());
        }
        // What a server still does about an accepted connection belongs to accepting it.
        std::thread::sleep(ACCEPT_SETTLE);
        let cpu = Cpu::of(pid)?.since(&cpu_before);
        self.progress.say("settling");
        std::thread::sleep(match self.job.scenario {
            Scenario::Idle => Duration::from_secs(self.settings().seconds),
            _ => SETTLE,
        });
        let open_kib = usage::resident_kib(pid)?;
        let shared = fleet.shared();
        let connected = shared.connected.load(std::sync::atomic::Ordering::Acquire);
        let last_ns = shared.connected_last_ns.load(std::sync::atomic::Ordering::Acquire);
        let seconds = ms(last_ns.saturating_sub(start_ns)) / 1e3;
        self.report.opening = Opening {
            connected,
            failed: total - connected,
            seconds,
            rate_per_s: count(connected as u64) / seconds.max(1e-9),
            cpu_us_each: per(ms(cpu.total_ns) * 1e3, connected as u64),
            ..Opening::default()
        };
        self.report.memory = Memory {
            before_kib,
            open_kib,
            each_kib: per(count(open_kib) - count(before_kib), connected as u64),
            ..Memory::default()
        };
        Ok(fleet)
    }

    /// Publishes and waits for everything to arrive.
    fn traffic(&mut self, fleet: Fleet) -> io::Result<Done> {
        let pid = self.target.pid;
        let own = std::process::id();
        usage::reset_peak(pid);
        let step = self.settings().step();
        let warm_up = step.max(Duration::from_secs(1));
        let first_ns = self.clock.now_ns() + START_DELAY_NS;
        let seconds = warm_up.as_secs_f64() + count(self.settings().seconds);
        let feed = self.publish(first_ns, seconds)?;
        let record_after = warm_up.saturating_sub(step / 2);
        let record_after_ns = u64::try_from(record_after.as_nanos()).unwrap_or(0);
        self.clock.sleep_until(first_ns + record_after_ns);
        let deliveries_before = fleet.record(self.clock);
        let record_ns = self.clock.now_ns();
        let (cpu_before, own_before) = (Cpu::of(pid)?, Cpu::of(own)?);
        while !feed.is_finished() {
            self.tell(&feed, &fleet);
            std::thread::sleep(Duration::from_millis(20));
        }
        let published = feed.join()?;
        self.progress.say("waiting for the last deliveries");
        self.wait_delivered(&fleet, &published);
        let end_ns = self.clock.now_ns();
        let deliveries = fleet.deliveries() - deliveries_before;
        let cpu = Cpu::of(pid).unwrap_or(cpu_before).since(&cpu_before);
        let own_cpu = Cpu::of(own)?.since(&own_before);
        self.report.memory.after_kib = usage::resident_kib(pid).ok();
        self.report.memory.peak_kib = usage::peak_kib(pid).ok();
        self.resume_stuck(&fleet);
        let done = fleet.stop()?;
        let window_seconds = ms(end_ns - record_ns) / 1e3;
        let mut traffic = self.tally(&done, &published);
        traffic.window_seconds = window_seconds;
        traffic.window_deliveries = self.scaled(&done, deliveries);
        traffic.deliveries_per_s = count(traffic.window_deliveries) / window_seconds;
        traffic.client_percent = ms(own_cpu.total_ns) / 10.0 / window_seconds;
        traffic.set_cpu(&cpu);
        self.judge_traffic(&traffic, &published, &done);
        self.report.traffic = Some(traffic);
        self.judge_gzip(&done);
        self.judge_stuck(&done);
        Ok(done)
    }

    fn publish(&self, first_ns: u64, seconds: f64) -> io::Result<Publisher> {
        let names = &self.plan.names;
        Publisher::start(&self.target, names, self.settings(), self.clock, first_ns, seconds)
    }

    fn tell(&self, feed: &Publisher, fleet: &Fleet) {
        let (sent, deliveries) = (feed.sent(), fleet.deliveries());
        self.progress.say(&format!("{sent} events sent, {deliveries} deliveries"));
    }

    /// Waits until every checked listener that reads must have everything, or nothing comes any more.
    fn wait_delivered(&self, fleet: &Fleet, published: &Published) {
        let settings = self.settings();
        let checked = |index: &usize| {
            *index >= settings.stuck && (!settings.gzip || index / settings.threads < INFLATED)
        };
        let expected: u64 = (0..settings.connections)
            .filter(checked)
            .map(|index| published.counts[settings.stream_of(index)])
            .sum();
        let mut last = (fleet.deliveries(), Instant::now());
        let deadline = Instant::now() + DELIVER_MAX;
        // Streams that are only counted give no sign, so they get a moment more.
        let quiet = if settings.gzip { GZIP_QUIET } else { Duration::ZERO };
        while Instant::now() < deadline {
            let deliveries = fleet.deliveries();
            if deliveries != last.0 {
                last = (deliveries, Instant::now());
            }
            let idle = last.1.elapsed();
            if (deliveries >= expected && idle >= quiet) || idle >= DELIVER_QUIET {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets stuck listeners read, so that they find out which of them the server has closed.
    fn resume_stuck(&self, fleet: &Fleet) {
        if self.settings().stuck > 0 {
            self.progress.say("stuck listeners read again");
            fleet.resume_stuck();
            std::thread::sleep(RESUME_SETTLE);
        }
    }
}

/// Opens one connection up to `connected` and closes it, so that what a server sets up once is not counted.
fn warm_up(target: &Target, plan: &Plan) -> io::Result<()> {
    let mut socket = TcpStream::connect(target.addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(plan.request(plan.settings.connections).as_bytes())?;
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    // The head is enough: a compressed `connected` can't be recognised without inflating it.
    while memchr::memmem::find(&seen, b"\r\n\r\n").is_none() {
        match socket.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => seen.extend_from_slice(&part[..len]),
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}

const WARM_UP_SETTLE: Duration = Duration::from_millis(400);
const ACCEPT_SETTLE: Duration = Duration::from_millis(200);
const SETTLE: Duration = Duration::from_secs(1);
/// What opening may take beyond its own pace.
const OPEN_MAX: Duration = Duration::from_secs(30);
const START_DELAY_NS: u64 = 50_000_000;
const DELIVER_MAX: Duration = Duration::from_secs(30);
/// Nothing for so long, and the rest is lost.
const DELIVER_QUIET: Duration = Duration::from_secs(3);
const GZIP_QUIET: Duration = Duration::from_millis(500);
/// What stuck listeners get to find out that they were closed.
const RESUME_SETTLE: Duration = Duration::from_secs(3);
