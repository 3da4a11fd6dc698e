//! A server with an order on disk that is killed again and again (SIGKILL), and started on the same port and folder.
//!
//! Publishers send every event with an `Idempotency-Key` until it is answered; subscribers come back with their last id. At
//! the end each subscriber must have every event that was answered, once, in order, under the id of its answer, and without
//! a gap.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::progress::Progress;
use crate::client::caller::Caller;
use crate::client::survivor::{Heard, Losses, Survivor, losses};
use crate::number::{Random, count};
use crate::plan::job::Job;
use crate::plan::scenario::Scenario;
use crate::plan::source::Source;
use crate::report::found::Found;
use crate::report::measured::Opening;
use crate::report::run_report::Report;
use crate::report::special::Kill;
use crate::target::launch::Launch;
use crate::target::server::Target;

/// The ids that events were answered with, by their numbers.
type Answered = BTreeMap<u64, String>;

/// Runs `job`.
pub(super) fn run(job: &Job, round: u32) -> Result<Report, Box<dyn std::error::Error>> {
    let Source::Server { path, args } = &job.source else {
        return Err("kill: only a server that is started here is killed".into());
    };
    let progress = Progress::new(format!("{} {} #{round}", Scenario::Kill.name(), job.label), job.progress);
    let mut server = Mortal::new(path, args)?;
    let mut found = Kill { start_max_ms: server.start()?, ..Kill::default() };
    let url = format!("http://{}/api/v1/sse", server.launch.addr);
    let running = Source::Running { url, pid: None, admin: None, credentials: None };
    let target = Arc::new(Target::start(&running, job.scenario, &job.settings)?);
    let survivors = subscribe(&target, job.settings.connections)?;
    let publishers = Publishers::start(&target, job.settings.kills.publishers)?;
    let begin = Instant::now();
    kill_again_and_again(&mut server, job, &progress, &publishers.count, &mut found)?;
    let answered = publishers.stop()?;
    found.seconds = begin.elapsed().as_secs_f64();
    progress.say("until all came");
    wait_for(&survivors, answered.len() as u64);
    let heard: Vec<Heard> = survivors.into_iter().map(Survivor::stop).collect();
    Ok(report(job, round, found, &answered, &heard))
}

fn kill_again_and_again(
    server: &mut Mortal,
    job: &Job,
    progress: &Progress,
    answers: &AtomicU64,
    found: &mut Kill,
) -> Result<(), Box<dyn std::error::Error>> {
    let kills = &job.settings.kills;
    let mut random = Random(kills.seed);
    progress.begin("kills", Some(kills.times.into()));
    for kill in 0..kills.times {
        // Every other kill may come before the first answer. If all did, a slow disk would never answer.
        if kill % 2 == 0 {
            wait_for_one_more(answers)?;
        }
        std::thread::sleep(Duration::from_micros(random.below(u64::from(kills.up_ms) * 1_000)));
        server.kill()?;
        found.start_max_ms = found.start_max_ms.max(server.start()?);
        progress.at(u64::from(kill) + 1, "kills");
    }
    Ok(())
}

/// Waits until one more event is answered.
fn wait_for_one_more(answers: &AtomicU64) -> Result<(), Box<dyn std::error::Error>> {
    let (before, deadline) = (answers.load(Ordering::Acquire), Instant::now() + PATIENCE);
    while answers.load(Ordering::Acquire) == before {
        if Instant::now() > deadline {
            return Err("nothing is answered any more".into());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn subscribe(target: &Target, connections: usize) -> Result<Vec<Survivor>, Box<dyn std::error::Error>> {
    let start = |n| Survivor::start(target, ROOM, &format!("u{n}"));
    let survivors = (0..connections).map(start).collect::<io::Result<Vec<_>>>()?;
    let deadline = Instant::now() + PATIENCE;
    while !survivors.iter().all(Survivor::is_open) {
        if Instant::now() > deadline {
            return Err("the subscribers did not get in".into());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(survivors)
}

/// Waits until all have `events`, but not for ever: what is missing then is a fault.
fn wait_for(survivors: &[Survivor], events: u64) {
    let deadline = Instant::now() + PATIENCE;
    while survivors.iter().any(|one| one.count() < events) && Instant::now() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn report(job: &Job, round: u32, mut found: Kill, answered: &Answered, heard: &[Heard]) -> Report {
    let Losses { undeclared, duplicated, reordered, other_ids, lost, gaps, deliveries } =
        losses(answered, heard);
    let returned = heard.iter().map(|one| one.returned.saturating_sub(1)).sum();
    found.kills = job.settings.kills.times.into();
    found.events = answered.len() as u64;
    found.events_per_s = count(found.events) / found.seconds.max(1e-9);
    (found.deliveries, found.returned) = (deliveries, returned);
    (found.undeclared, found.duplicated, found.reordered) = (undeclared, duplicated, reordered);
    (found.other_ids, found.lost, found.gaps) = (other_ids, lost, gaps);
    let mut report = Report::new(job.scenario, job.label.clone(), round, job.settings.clone());
    report.opening = Opening { connected: job.settings.connections, ..Opening::default() };
    let refused = heard.iter().map(|one| one.refused).sum();
    for (faults, what) in [
        (undeclared, "events that were answered did not come, without a gap"),
        (duplicated, "events came twice"),
        (reordered, "events came after newer ones"),
        (other_ids, "events came under another id than that of their answer"),
        (lost, "events were answered, and nobody got them"),
        (gaps, "gaps were told, although nothing may be lost"),
        (refused, "streams were refused"),
        (u64::from(found.events == 0), "runs without an event"),
    ] {
        if faults > 0 {
            report.faults.push(format!("{faults} {what}"));
        }
    }
    // The first few, so that it can be looked into.
    let told = heard.iter().flat_map(|one| &one.gaps).take(3);
    report.notes.extend(told.map(|gap| format!("a gap: {gap}")));
    report.found = Some(Found::Kill(found));
    report
}

/// A server that is killed and started again.
struct Mortal {
    launch: Launch,
    child: Option<Child>,
}

impl Mortal {
    fn new(path: &Path, args: &[String]) -> Result<Self, Box<dyn std::error::Error>> {
        let mut launch = Launch::listening(path)?;
        let order = format!("disk:{}", launch.folder.path().join("order").display());
        launch.command.args(["--admin-listen", "off", "--log-level", "warn", "--order", &order]);
        // No subscriber is away for that many events.
        launch.command.args(["--history-events", "100000", "--history-bytes", "64MiB"]);
        launch.command.args(args);
        Ok(Self { launch, child: None })
    }

    /// Starts it, and waits until it accepts. Returns how long that took, in milliseconds.
    fn start(&mut self) -> Result<f64, Box<dyn std::error::Error>> {
        let begin = Instant::now();
        let log = std::fs::File::create(self.launch.folder.path().join(LOG))?;
        let command = self.launch.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.child.insert(command.spawn()?);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.launch.addr).is_err() {
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(self.launch.folder.path().join(LOG)).unwrap_or_default();
                return Err(format!("the server ended ({status}): {}", log.trim_end()).into());
            }
            if Instant::now() > deadline {
                return Err("the server does not listen".into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    }

    /// Kills it, and waits until it is gone.
    fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = self.kill();
    }
}

/// Those who publish, each one event after the other.
struct Publishers {
    is_stopped: Arc<AtomicBool>,
    /// Events that were answered.
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<io::Result<Answered>>>,
}

impl Publishers {
    fn start(target: &Arc<Target>, publishers: u32) -> io::Result<Self> {
        let (is_stopped, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let start = |publisher: u32| {
            let (target, stop, count) = (Arc::clone(target), Arc::clone(&is_stopped), Arc::clone(&count));
            let thread = std::thread::Builder::new().name(format!("publisher {publisher}"));
            thread.spawn(move || publish(&target, publisher, &stop, &count))
        };
        let threads = (0..publishers).map(start).collect::<io::Result<_>>()?;
        Ok(Self { is_stopped, count, threads })
    }

    /// Ends them after the events that are under way, and returns what was answered.
    fn stop(self) -> Result<Answered, Box<dyn std::error::Error>> {
        self.is_stopped.store(true, Ordering::Release);
        let mut all = Answered::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| "a publisher panicked")??);
        }
        Ok(all)
    }
}

/// Publishes until it is told to stop. Every event is sent until it is answered.
fn publish(target: &Target, publisher: u32, stop: &AtomicBool, count: &AtomicU64) -> io::Result<Answered> {
    let mut answered = Answered::new();
    let mut caller = None;
    for nth in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let number = u64::from(publisher) << 32 | nth;
        let body = format!(r#"{{"room":"{ROOM}","data":{number}}}"#);
        answered.insert(number, answer(target, &mut caller, &format!("event-{number}"), &body)?);
        count.fetch_add(1, Ordering::AcqRel);
    }
    Ok(answered)
}

/// The id that `body` is answered with, however often it has to be sent.
fn answer(target: &Target, caller: &mut Option<Caller>, key: &str, body: &str) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let answer = match caller.take().map_or_else(|| Caller::new(target), Ok) {
            Ok(mut open) => open.publish_once(key, body).map(|(answer, _)| (answer, open)),
            Err(err) => Err(err),
        };
        match answer {
            Ok((answer, open)) if answer.status == 200 => {
                *caller = Some(open);
                return answer.body.id.ok_or_else(|| io::Error::other("an answer without an id"));
            }
            Ok((answer, _)) if answer.status != 503 => {
                let code = answer.body.code.unwrap_or_default();
                return Err(io::Error::other(format!("a publish is answered {} {code}", answer.status)));
            }
            // It was killed, or is not there yet.
            _ => std::thread::sleep(LOOK_AGAIN),
        }
    }
    Err(io::Error::other(format!("{key} is never answered")))
}

const ROOM: &str = "kills";
const LOG: &str = "log";
/// What a start, an answer and the last deliveries may take.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_lost_something_fails() {
        let settings = Scenario::Kill.defaults();
        let source = Source::Server { path: "tidegate".into(), args: Vec::new() };
        let (label, progress) = ("t".to_owned(), crate::plan::job::Mode::Quiet);
        let job = Job { scenario: Scenario::Kill, settings, source, label, progress };
        let answered: Answered = [(1, "a-1".to_owned())].into();
        let right = Heard { events: vec![(1, "a-1".to_owned())], ..Heard::default() };
        let faults = |heard: &[Heard]| report(&job, 1, Kill::default(), &answered, heard).faults;
        assert_eq!(faults(std::slice::from_ref(&right)), Vec::<String>::new());
        assert_eq!(
            faults(&[right, Heard::default()]),
            ["1 events that were answered did not come, without a gap"]
        );
        assert_eq!(
            report(&job, 1, Kill::default(), &Answered::new(), &[]).faults,
            ["1 runs without an event"]
        );
    }

    #[test]
    fn times_between_kills_are_within_their_bound_and_the_same_again() {
        let some = |seed| {
            let mut random = Random(seed);
            (0..100).map(|_| random.below(50)).collect::<Vec<_>>()
        };
        assert!(some(1).iter().all(|time| *time < 50) && some(1) == some(1) && some(1) != some(2));
    }
}
