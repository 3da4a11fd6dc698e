//! Several nodes with one Redis, and a thousand things that go wrong.
//!
//! Publishers send each publish with its `Idempotency-Key` until a node answers it; subscribers come back with their last id, on any
//! node. In the end what each subscriber got between its gaps must be what the log has, and what was answered must be there, unless
//! the documentation says of a fault that it may lose it.

mod cluster;
mod fault;
mod node;
mod publishers;
mod redis;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::cluster::Cluster;
use self::fault::Fault;
use self::publishers::Publishers;
use super::progress::Progress;
use crate::client::herd::{Herd, Kept};
use crate::client::order::verdict::{Answered, Truth, Verdict};
use crate::number::{Random, count};
use crate::plan::job::Job;
use crate::plan::scenario::Scenario;
use crate::plan::source::Source;
use crate::report::found::Found;
use crate::report::measured::Opening;
use crate::report::run_report::Report;
use crate::report::special::Nodes;

/// How often each fault came.
type Faults = BTreeMap<Fault, u64>;

type Failure = Box<dyn std::error::Error>;

/// Runs `job`.
pub(super) fn run(job: &Job, round: u32) -> Result<Report, Failure> {
    let Source::Server { path, args } = &job.source else {
        return Err("nodes: only servers that are started here are killed".into());
    };
    let settings = &job.settings;
    let progress = Progress::new(format!("{} {} #{round}", Scenario::Nodes.name(), job.label), job.progress);
    progress.say("starting");
    let cluster = Cluster::start(path, args, settings.nodes.nodes)?;
    let herd = cluster.listen(settings.connections)?;
    wait_until("the subscribers got in", || {
        herd.seen.opened.load(Ordering::Relaxed) >= settings.connections as u64
    })?;
    let targets = cluster.targets(settings)?;
    let publishers = Publishers::start(&targets, PUBLISHERS_EACH, settings.rate_per_s, settings.burst)?;
    let begin = Instant::now();
    let mut trouble = Trouble { cluster, herd, publishers, faults: Faults::new(), heal_max: Duration::ZERO };
    trouble.all(job, &progress)?;
    let seconds = begin.elapsed().as_secs_f64();
    progress.say("until all came");
    let Trouble { mut cluster, herd, publishers, faults, heal_max } = trouble;
    let answered = publishers.stop()?;
    cluster.look()?;
    let kept = herd.end(&cluster.newest()?, PATIENCE)?;
    let truth = Truth { terms: &cluster.terms, book: &cluster.book, heard: &kept.heard };
    let verdict = truth.judge(&answered);
    let (orders, terms) = cluster.terms.counts();
    let found =
        Nodes { seconds, orders, terms, heal_max_ms: heal_max.as_secs_f64() * 1e3, ..Nodes::default() };
    Ok(report(job, round, &found, (&faults, &answered, &kept), &verdict))
}

/// Everything, while things go wrong.
struct Trouble {
    cluster: Cluster,
    herd: Herd,
    publishers: Publishers,
    faults: Faults,
    /// The longest time until all nodes answered again.
    heal_max: Duration,
}

impl Trouble {
    fn all(&mut self, job: &Job, progress: &Progress) -> Result<(), Failure> {
        let (wanted, mut random) = (u64::from(job.settings.nodes.faults), Random(job.settings.nodes.seed));
        let streams = job.settings.connections as u64;
        self.heal()?;
        self.cluster.look()?;
        progress.begin("faults", Some(wanted));
        let mut done = 0;
        while done < wanted {
            // What the log has by now is known, whatever is lost of it.
            self.cluster.look()?;
            // One in three comes before all is well after the one before.
            let together = if random.below(3) == 0 { 2 } else { 1 };
            for _ in 0..together.min(wanted - done) {
                let fault = Fault::any(&mut random);
                let failed = |err| format!("{fault:?}: {err}");
                self.cluster.strike(fault, &mut random, &self.herd, streams).map_err(failed)?;
                *self.faults.entry(fault).or_default() += 1;
                done += 1;
            }
            self.heal()?;
            self.cluster.look()?;
            progress.at(done, "faults");
        }
        Ok(())
    }

    /// Waits until every node answers again.
    fn heal(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        let counts = || self.publishers.counts.iter().map(|count| count.load(Ordering::Acquire));
        let before: Vec<u64> = counts().collect();
        // One that was under way may still be answered by what was there before, so it takes two.
        while counts().zip(&before).any(|(now, before)| now < before + 2) {
            if let Some(obituary) = self.cluster.obituary()? {
                return Err(obituary.into());
            }
            if begin.elapsed() > PATIENCE || self.publishers.has_failed() {
                return Err(format!("not all nodes answer any more:\n{}", self.cluster.logs()).into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.heal_max = self.heal_max.max(begin.elapsed());
        Ok(())
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(format!("never: {what}").into());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn report(
    job: &Job,
    round: u32,
    found: &Nodes,
    (faults, answered, kept): (&Faults, &[Answered], &Kept),
    verdict: &Verdict,
) -> Report {
    let mut report = Report::new(job.scenario, job.label.clone(), round, job.settings.clone());
    report.opening = Opening { connected: job.settings.connections, ..Opening::default() };
    let events: u64 = answered.iter().map(|one| one.count).sum();
    let told = [
        (verdict.undeclared, "events did not come, without a gap"),
        (verdict.duplicated, "events came, or are there, twice"),
        (verdict.reordered, "events came after newer ones"),
        (verdict.other_ids, "events came under an id that is not theirs"),
        (verdict.lost, "events were answered and are lost, which no fault may do"),
        (verdict.needless, "gaps were told to who had only what is still there"),
        (verdict.given_up, "orders were given up, which no fault explains"),
        (kept.behind, "subscribers did not come to the end"),
        (kept.refused, "streams were refused"),
        (kept.damaged, "streams could not be read"),
        (u64::from(events == 0), "runs without an event"),
    ];
    let told = told.into_iter().filter(|(faults, _)| *faults > 0);
    report.faults = told.map(|(faults, what)| format!("{faults} {what}")).collect();
    let kinds: Vec<String> = faults.iter().map(|(fault, times)| format!("{times} {fault:?}")).collect();
    report.notes.push(kinds.join(", "));
    report.notes.extend(verdict.examples.iter().cloned());
    let faults = faults.values().sum();
    report.found = Some(Found::Nodes(Nodes {
        nodes: job.settings.nodes.nodes.into(),
        faults,
        events,
        events_per_s: count(events) / found.seconds.max(1e-9),
        deliveries: kept.heard.tally.deliveries,
        returned: kept.opened.saturating_sub(job.settings.connections as u64),
        undeclared: verdict.undeclared,
        duplicated: verdict.duplicated,
        reordered: verdict.reordered,
        other_ids: verdict.other_ids,
        lost: verdict.lost,
        needless: verdict.needless,
        gaps: verdict.gaps,
        excused: verdict.excused,
        ..found.clone()
    }));
    report
}

const ROOM: &str = "nodes";
const PUBLISHERS_EACH: usize = 2;
/// What a start, an answer and the last deliveries may take.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_a_fault_fails() {
        let settings = Scenario::Nodes.defaults();
        let source = Source::Server { path: "tidegate".into(), args: Vec::new() };
        let (label, progress) = ("t".to_owned(), crate::plan::job::Mode::Quiet);
        let job = Job { scenario: Scenario::Nodes, settings, source, label, progress };
        let one = Answered { number: 1, count: 2, epoch: "a".into(), last: 2 };
        let faults = |answered: &[Answered], kept: &Kept, verdict: &Verdict| {
            report(&job, 1, &Nodes::default(), (&Faults::new(), answered, kept), verdict).faults
        };
        let right = (Kept::default(), Verdict::default());
        assert_eq!(faults(std::slice::from_ref(&one), &right.0, &right.1), Vec::<String>::new());
        assert_eq!(faults(&[], &right.0, &right.1), ["1 runs without an event"]);
        let lost = Verdict { lost: 3, ..Verdict::default() };
        let told = faults(std::slice::from_ref(&one), &right.0, &lost);
        assert_eq!(told, ["3 events were answered and are lost, which no fault may do"]);
        let behind = Kept { behind: 1, ..Kept::default() };
        assert_eq!(faults(&[one], &behind, &right.1), ["1 subscribers did not come to the end"]);
    }
}
