//! Who is there, in a room of thousands: all join at once, all reload their pages, all leave. Ordinary events flow all the
//! time, and the same is run without presence, so that their latencies can be compared. With `--rooms-of`, many small
//! rooms in place of a large one: what members cost in memory.
//!
//! Messages are counted on every stream. Besides, some streams watch that are no members: they follow the messages as a page
//! would, and see what becomes of the room when all have left.

use std::io;
use std::time::Duration;

use super::churn::BACK_MAX;
use super::one::{Run, run_one};
use super::traffic::FOREVER;
use crate::client::clock::Clock;
use crate::client::fleet::{Command, Done, Fleet, Known, Tally};
use crate::client::watcher::{Roster, Watcher};
use crate::number::ms;
use crate::plan::job::Job;
use crate::plan::special::{Members, Turns};
use crate::report::found::Found;
use crate::report::run_report::Report;
use crate::report::special::{Latencies, Presence};

/// Runs `job` with presence, without, or both. Which of the two comes first changes from round to round.
pub(super) fn run(job: &Job, round: u32, clock: Clock) -> Result<Report, Box<dyn std::error::Error>> {
    let one = |is_on| {
        let mut job = job.clone();
        job.settings.members.is_on = is_on;
        run_one(&job, round, clock)
    };
    match job.settings.members.turns {
        Turns::On => one(true),
        Turns::Off => one(false),
        Turns::Both if round.is_multiple_of(2) => {
            let with = one(true)?;
            Ok(both(with, &one(false)?))
        }
        Turns::Both => {
            let without = one(false)?;
            Ok(both(one(true)?, &without))
        }
    }
}

/// The report of the run with presence, with what the other one is compared for.
fn both(mut with: Report, without: &Report) -> Report {
    let at = |text: &String| format!("without presence: {text}");
    with.faults.extend(without.faults.iter().map(at));
    with.notes.extend(without.notes.iter().map(at));
    if let (Some(Found::Presence(found)), Some(Found::Presence(other))) = (&mut with.found, &without.found) {
        found.without = other.with;
        found.memory_each_kib_without = without.memory.each_kib;
    }
    with
}

impl Run {
    /// One large room: join, calm, reload, leave.
    pub(super) fn presence(&mut self) -> io::Result<Done> {
        let is_on = self.settings().members.is_on;
        let watchers = if is_on { self.watchers()? } else { Vec::new() };
        let mut found = self.nothing_found();
        let start_ns = self.clock.now_ns();
        let feed = self.publish(self.settings(), FOREVER.as_secs_f64())?;
        let mut fleet = self.open()?;
        self.begin_series(&fleet, None)?;
        let join = self.join(&mut fleet, start_ns, &mut found)?;
        self.meter.reset_peak();
        let seconds = Duration::from_secs(self.settings().seconds);
        let window = self.open_window(&fleet)?;
        self.pass(&mut fleet, seconds)?;
        let span = self.close_window(&window, &fleet)?;
        let calm = self.counted(&mut fleet)?;
        self.fault(messages(&calm), "presence messages although nobody came or went");
        let (reload, reload_p99_ms) = self.reload(&mut fleet, &watchers, &mut found)?;
        feed.stop();
        self.published.absorb(feed.join()?);
        self.wait_delivered(&mut fleet)?;
        self.take_memory();
        found.begun = join.presence_begun + reload.presence_begun;
        let left_ns = self.clock.now_ns();
        let seen: usize = watchers.iter().map(|watcher| watcher.roster().messages_ns.len()).sum();
        let done = self.finish(fleet, &span, None)?;
        found.with = Some(Latencies {
            join_p99_ms: p99(&join),
            calm_p99_ms: p99(&calm),
            reload_p99_ms,
            p99_ms: p99(&done.tally),
        });
        self.leave(watchers, (left_ns, seen), &mut found);
        self.report.found = Some(Found::Presence(found));
        Ok(done)
    }

    /// Many small rooms: all join, and everybody knows everybody.
    pub(super) fn small_rooms(&mut self) -> io::Result<Done> {
        let mut found = self.nothing_found();
        let watchers = if self.settings().members.is_on { self.watchers()? } else { Vec::new() };
        let start_ns = self.clock.now_ns();
        let mut fleet = self.open()?;
        self.begin_series(&fleet, None)?;
        let join = self.join(&mut fleet, start_ns, &mut found)?;
        found.begun = join.presence_begun;
        let done = fleet.stop()?;
        self.judge_rosters(watchers.into_iter().map(Watcher::stop).collect::<Vec<_>>().as_slice(), &found);
        self.report.found = Some(Found::Presence(found));
        Ok(done)
    }

    fn nothing_found(&self) -> Presence {
        let settings = self.settings();
        let members = (settings.connections / settings.rooms.max(1)) as u64;
        let memory_each_kib_without = f64::NAN;
        Presence { members, memory_each_kib_without, ..Presence::default() }
    }

    /// Some streams of the first room that are no members.
    fn watchers(&self) -> io::Result<Vec<Watcher>> {
        let room = self.assignment.names.room(0);
        let start = |nth| Watcher::start(&self.target, &room, &format!("w{nth}"), self.clock);
        (0..WATCHERS).map(start).collect()
    }

    /// Waits until every stream knows the number of members, and counts what that took.
    fn join(&mut self, fleet: &mut Fleet, start_ns: u64, found: &mut Presence) -> io::Result<Tally> {
        self.progress.say("until all know how many they are");
        let members = self.settings().members.clone();
        if members.is_on {
            let limit = members.count_interval() * 3 + KNOWN_MAX;
            let unknown = self.wait_known(fleet, found.members, limit)?;
            self.fault(unknown, &format!("streams that don't know of {} members", found.members));
        }
        let tally = self.counted(fleet)?;
        let elapsed = Duration::from_nanos(tally.presence_last_ns.saturating_sub(start_ns));
        found.join_seconds = elapsed.as_secs_f64();
        found.join_messages = messages(&tally);
        // Each room by itself, since small ones name everybody all the time.
        let rooms = self.settings().rooms as u64;
        found.join_messages_max = rooms * members.messages_max(found.members, elapsed);
        let over = found.join_messages.saturating_sub(found.join_messages_max);
        self.fault(over, "more presence messages than there may be while all join");
        if members.is_on {
            let begun = self.settings().connections as u64;
            let lacking = begun.saturating_sub(tally.presence_begun);
            self.fault(lacking, "streams did not begin with a state or a count");
        }
        Ok(tally)
    }

    /// Waits until every stream knows of `total` members. Returns how many don't.
    fn wait_known(&mut self, fleet: &mut Fleet, total: u64, limit: Duration) -> io::Result<u64> {
        let deadline_ns = self.clock.now_ns() + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        loop {
            fleet.command(Command::Check(Known::Members(total)))?;
            let news = fleet.take()?;
            self.live.so_far.merge(&news);
            let up = fleet.counts().up as u64;
            let is_known = news.unknown == 0 && news.checked >= up;
            if is_known || self.clock.now_ns() > deadline_ns {
                return Ok(news.unknown);
            }
            self.pass(fleet, BETWEEN_LOOKS)?;
        }
    }

    /// Every stream closes and comes back within the grace: nobody is told anything. Returns what was counted, and the p99
    /// latency of events until the last was back.
    fn reload(
        &mut self,
        fleet: &mut Fleet,
        watchers: &[Watcher],
        found: &mut Presence,
    ) -> io::Result<(Tally, f64)> {
        self.progress.say("all reload");
        let members = self.settings().members.clone();
        let watched =
            || watchers.iter().map(|watcher| watcher.roster().messages_ns.len() as u64).sum::<u64>();
        let before = watched();
        let over = Duration::from_secs(members.reload_s.into());
        let away = Duration::from_millis(self.settings().away_ms.into());
        let total = self.settings().connections;
        let returned = fleet.counts().returned;
        fleet.command(Command::Reload { over, away })?;
        self.watch(fleet, over + away + BACK_MAX, |counts| counts.returned >= returned + total)?;
        let mut tally = self.counted(fleet)?;
        let p99_ms = p99(&tally);
        // A message that somebody left would come after the grace, and a count an interval later.
        self.pass(fleet, members.grace() + members.count_interval() + SETTLE)?;
        let unknown = if members.is_on { self.wait_known(fleet, found.members, Duration::ZERO)? } else { 0 };
        tally.merge(&self.counted(fleet)?);
        found.reloads = tally.left;
        found.reload_messages = messages(&tally) + watched() - before;
        self.fault((total as u64).saturating_sub(tally.left), "streams did not reload");
        self.fault(found.reload_messages, "presence messages although all came back within the grace");
        self.fault(unknown, &format!("streams that don't know of {} members after a reload", found.members));
        let lacking = if members.is_on { tally.left.saturating_sub(tally.presence_begun) } else { 0 };
        self.fault(lacking, "streams did not begin with a state or a count after a reload");
        Ok((tally, p99_ms))
    }

    /// All have left: those who watch are told so after the grace, and not before.
    fn leave(&mut self, watchers: Vec<Watcher>, (left_ns, seen): (u64, usize), found: &mut Presence) {
        if watchers.is_empty() {
            return;
        }
        self.progress.say("until all are known to have left");
        let members = self.settings().members.clone();
        let limit = members.grace() + members.count_interval() * 3 + KNOWN_MAX;
        let deadline_ns = left_ns + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let is_empty = |watcher: &Watcher| watcher.roster().total == Some(0);
        while !watchers.iter().all(is_empty) && self.clock.now_ns() < deadline_ns {
            std::thread::sleep(Duration::from_millis(20));
        }
        let elapsed = Duration::from_nanos(self.clock.now_ns() - left_ns);
        let rosters: Vec<Roster> = watchers.into_iter().map(Watcher::stop).collect();
        found.leave_seconds = elapsed.as_secs_f64();
        found.leave_messages = (rosters.iter().map(|one| one.messages_ns.len()).sum::<usize>() - seen) as u64;
        found.leave_messages_max = named_max(&members, WATCHERS, elapsed);
        let over = found.leave_messages.saturating_sub(found.leave_messages_max);
        self.fault(over, "more presence messages than there may be while all leave");
        let grace_ns = u64::try_from(members.grace().as_nanos()).unwrap_or(0);
        let is_early = |at_ns: &&u64| **at_ns >= left_ns && **at_ns < left_ns + grace_ns;
        let early = rosters.iter().flat_map(|one| &one.messages_ns).filter(is_early).count();
        self.fault(early as u64, "presence messages before the grace was over");
        let nobody = Presence { members: 0, ..Presence::default() };
        self.judge_rosters(&rosters, &nobody);
    }

    /// What the watchers know at last.
    fn judge_rosters(&mut self, rosters: &[Roster], wanted: &Presence) {
        let is_wrong = |one: &&Roster| {
            one.total != Some(wanted.members)
                || one.names.as_ref().is_some_and(|names| names.len() as u64 != wanted.members)
        };
        let wrong = rosters.iter().filter(is_wrong).count() as u64;
        self.fault(wrong, &format!("watchers that don't know of {} members at last", wanted.members));
        let faults: Vec<String> = rosters.iter().filter_map(|one| one.fault.clone()).collect();
        self.report.faults.extend(faults.into_iter().map(|fault| format!("a watcher: {fault}")));
    }
}

/// Messages besides those that streams begin with.
fn messages(tally: &Tally) -> u64 {
    tally.presence_counts + tally.presence_named
}

/// The most messages to `streams` of a room that names its members: one an interval.
fn named_max(members: &Members, streams: u64, time: Duration) -> u64 {
    Members { members_max: u32::MAX, ..members.clone() }.messages_max(streams, time)
}

fn p99(tally: &Tally) -> f64 {
    if tally.latency.is_empty() { f64::NAN } else { ms(tally.latency.value_at_quantile(0.99)) }
}

/// Streams that watch the first room.
const WATCHERS: u64 = 4;
/// What telling everybody may take beyond the intervals.
const KNOWN_MAX: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::scenario::Scenario;

    fn report(p99_ms: f64, faults: &[&str]) -> Report {
        let mut report = Report::new(Scenario::Presence, "t".to_owned(), 1, Scenario::Presence.defaults());
        let with = Some(Latencies { p99_ms, ..Latencies::default() });
        report.found = Some(Found::Presence(Presence { with, ..Presence::default() }));
        report.faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        report
    }

    #[test]
    fn both_runs_are_in_one_report() {
        let all = both(report(12.0, &["a"]), &report(10.0, &["b"]));
        assert_eq!(all.faults, ["a", "without presence: b"]);
        let Some(Found::Presence(found)) = all.found else { panic!("it was found") };
        assert!((found.ratio() - 1.2).abs() < 1e-9);
    }

    #[test]
    fn who_watches_a_small_room_may_be_told_every_interval() {
        let members = Members { members_max: 200, interval_ms: 100, ..Members::default() };
        assert_eq!(named_max(&members, 4, Duration::from_millis(1_050)), 4 * 3 + 4 * 11);
    }
}
