//! One run: start, open, settle, publish, wait, judge.
//!
//! The measured window begins about a second after the first event, halfway between two publishing steps, and ends when the
//! last expected delivery has come. Server CPU and deliveries are taken at the same two moments.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::progress::Progress;
use super::series::Live;
use crate::client::clock::Clock;
use crate::client::fleet::{Assignment, Fleet};
use crate::client::published::Published;
use crate::number::{count, ms, per};
use crate::plan::job::Job;
use crate::plan::scenario::{Names, Scenario, Settings};
use crate::plan::source::Source;
use crate::report::measured::{Memory, Opening};
use crate::report::run_report::Report;
use crate::target::meter::Meter;
use crate::target::server::Target;

/// Runs `job` against one server with one set of numbers.
pub(super) fn run_one(job: &Job, round: u32, clock: Clock) -> Result<Report, Box<dyn std::error::Error>> {
    let mut job = job.clone();
    job.settings.gzip &= job.source.can_gzip();
    job.settings.tokens &= job.source.can_ask_for_tokens();
    job.settings.require &= job.settings.tokens;
    let progress = Progress::new(format!("{} {} #{round}", job.scenario.name(), job.label), job.progress);
    progress.say("starting");
    let target = Target::start(&job.source, job.scenario, &job.settings)?;
    let meter = Meter::new(&job.source, target.pid)?;
    let mut run = Run::new(job, target, meter, round, clock, progress);
    match run.measure() {
        Ok(()) => Ok(run.report),
        // If the server has ended, its last words say more than the error.
        Err(err) => Err(run.target.obituary().map_or(err.into(), Into::into)),
    }
}

/// A run in progress. Each scenario adds its own steps to it.
pub(super) struct Run {
    pub(super) job: Job,
    pub(super) target: Target,
    pub(super) meter: Meter,
    pub(super) clock: Clock,
    pub(super) assignment: Assignment,
    pub(super) progress: Progress,
    pub(super) live: Live,
    /// Everything published so far.
    pub(super) published: Published,
    pub(super) report: Report,
}

impl Run {
    fn new(job: Job, target: Target, meter: Meter, round: u32, clock: Clock, progress: Progress) -> Self {
        let mut names = Names::default();
        if let Source::Running { .. } = job.source {
            // The moment keeps several runs of one process apart.
            names.prefix = format!("lt{}-{round}-{}-", std::process::id(), clock.now_ns());
        }
        let assignment = Assignment::new(&target, names, job.settings.clone());
        let mut report = Report {
            usage_from: meter.name().to_owned(),
            ..Report::new(job.scenario, job.label.clone(), round, job.settings.clone())
        };
        if let Source::Running { credentials: Some(shown), .. } = &job.source {
            report.notes.push(shown.to_string());
        }
        if job.settings.tokens {
            report.notes.push("every subscriber and the publisher had a token of its own".to_owned());
        }
        if job.settings.require {
            report.notes.push("every event required a permission, and every token had it".to_owned());
        }
        let (live, published) = (Live::default(), Published::default());
        Self { job, target, meter, clock, assignment, progress, live, published, report }
    }

    fn measure(&mut self) -> io::Result<()> {
        if self.job.scenario == Scenario::Presence {
            // All join while events flow.
            let is_large = self.settings().members.joins_midway;
            let done = if is_large { self.presence()? } else { self.small_rooms()? };
            self.judge_opening(&done);
            return Ok(());
        }
        let fleet = self.open()?;
        let done = match self.job.scenario {
            Scenario::Idle | Scenario::Accept => fleet.stop()?,
            Scenario::Drain => self.drain(fleet)?,
            Scenario::Churn => self.churn(fleet)?,
            Scenario::Storm => self.storm(fleet)?,
            Scenario::Resume => self.resume(fleet)?,
            Scenario::Soak => self.soak(fleet)?,
            Scenario::Saturate => self.saturate(fleet)?,
            Scenario::Conflate => self.conflate(fleet)?,
            Scenario::Poll => self.poll(fleet)?,
            Scenario::Retry => self.retry(fleet)?,
            _ => self.traffic(fleet)?,
        };
        self.judge_opening(&done);
        Ok(())
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.job.settings
    }

    /// Opens every connection, and measures that.
    pub(super) fn open(&mut self) -> io::Result<Fleet> {
        warm_up(&self.target, &self.assignment).map_err(|err| at_url(&self.target.url(), &err))?;
        std::thread::sleep(WARM_UP_SETTLE);
        let before_kib = self.meter.resident_kib()?;
        let cpu_before = self.meter.cpu()?;
        let start_ns = self.clock.now_ns();
        let fleet = Fleet::start(&self.assignment, self.clock)?;
        let total = self.settings().connections;
        let pace = total as u64 / u64::from(self.settings().open_rate_per_s);
        self.progress.begin("opening", Some(total as u64));
        let is_open = fleet.wait_open(OPEN_MAX + Duration::from_secs(pace), |connected| {
            self.progress.at(connected as u64, "connections");
        });
        if !is_open {
            self.report.notes.push("the wait for connections timed out".to_owned());
        }
        // Work that a server still has with an accepted connection counts as accepting.
        std::thread::sleep(ACCEPT_SETTLE);
        let cpu = self.meter.cpu()?.zip(cpu_before).map(|(now, before)| now.since(&before));
        self.progress.say("settling");
        std::thread::sleep(match self.job.scenario {
            Scenario::Idle => Duration::from_secs(self.settings().seconds),
            // The rooms' last messages are not in the memory then.
            Scenario::Presence if !self.settings().members.joins_midway => {
                Duration::from_secs(self.settings().seconds)
            }
            _ => SETTLE,
        });
        let open_kib = self.meter.resident_kib()?;
        let counts = fleet.counts();
        let connected = counts.connected;
        let seconds = ms(counts.connected_last_ns.saturating_sub(start_ns)) / 1e3;
        let each = |amount: f64| per(amount, connected as u64);
        self.report.opening = Opening {
            connected,
            failed: total - connected,
            seconds,
            rate_per_s: count(connected as u64) / seconds.max(1e-9),
            cpu_us_each: cpu.map_or(f64::NAN, |cpu| each(ms(cpu.total_ns) * 1e3)),
            ..Opening::default()
        };
        let growth = open_kib.zip(before_kib).map(|(open, before)| count(open) - count(before));
        self.report.memory =
            Memory { before_kib, open_kib, each_kib: growth.map_or(f64::NAN, each), ..Memory::default() };
        Ok(fleet)
    }
}

/// `err`, with the server it came from.
fn at_url(url: &str, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{url}: {err}"))
}

/// Opens one connection up to `connected` and closes it, so that what a server sets up once is not counted.
///
/// A refusal of this one would be a refusal of all, so it is an error at once.
fn warm_up(target: &Target, assignment: &Assignment) -> io::Result<()> {
    let mut socket = TcpStream::connect(target.addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(assignment.request(assignment.settings.connections, b"").as_bytes())?;
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    // The head is enough: a compressed `connected` can't be recognised without inflating it.
    while memchr::memmem::find(&seen, b"\r\n\r\n").is_none() {
        match socket.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => seen.extend_from_slice(&part[..len]),
        }
    }
    refusal(&seen).map_or(Ok(()), Err)?;
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// What a response that begins with `head` says, unless it is a stream.
fn refusal(head: &[u8]) -> Option<io::Error> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let hint = match status {
        b"200" => return None,
        b"401" | b"403" => "; give it --token-key, or --token and --api-key",
        _ => "",
    };
    let line = String::from_utf8_lossy(line);
    Some(io::Error::other(format!(
        "a stream is answered {:?}{hint}",
        line.chars().take(80).collect::<String>()
    )))
}

const WARM_UP_SETTLE: Duration = Duration::from_millis(400);
const ACCEPT_SETTLE: Duration = Duration::from_millis(200);
const SETTLE: Duration = Duration::from_secs(1);
/// What opening may take beyond its own pace.
const OPEN_MAX: Duration = Duration::from_secs(30);
