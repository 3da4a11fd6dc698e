//! Commits what is proposed to the log, and then applies it: the one thread of an order on disk.
//!
//! All that waits is committed together, with one sync. Publishers that come meanwhile wait for the next. What is decided
//! about a group is decided under the locks of the order; they are free while the disk works.
//!
//! Where publishers do not wait for the disk, a group is applied first, and committed with others within
//! `WRITE_EVERY`. After a failure the next is committed first all the same: what is known to be
//! lost is not answered.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_channel::oneshot;

use crate::hub::Published;
use crate::hub::apply::{Counts, Fate, Planned, Prepared};
use crate::hub::source::Source;
use crate::order::change::Change;
use crate::order::decide::{Decided, Verdict};
use crate::order::disk::files::Folder;
use crate::order::disk::kept::Kept;
use crate::order::disk::log::DiskLog;
use crate::order::disk::unwritten::Unwritten;
use crate::order::entry;
use crate::order::memory::MemoryOrder;
use crate::order::proposals::{Events, Proposal, Proposals};
use crate::order::refused::{Refused, Why};
use crate::types::count::Count;
use crate::types::histogram::{Histogram, TIME_BUCKETS};
use crate::types::moment::Moment;
use crate::types::position::Offset;

/// Bytes of a group before it is committed. One publish may be larger.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// Entries of a group before it is committed. One publish may have more.
const GROUP_ENTRIES_MAX: u64 = 4096;

/// After a failed commit, proposals are refused for this long: a disk that fails is not asked for each of them.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the thread sleeps before it looks for old segments.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counters of an order on disk.
#[derive(Debug)]
pub struct DiskStats {
    /// Groups that were committed.
    pub commits: Count,
    /// Entries that were committed.
    pub entries: Count,
    /// Groups that could not be committed.
    pub failures: Count,
    /// Bytes of all segments.
    pub bytes: AtomicU64,
    /// Number of segments.
    pub segments: AtomicU64,
    /// How long commits took, in microseconds.
    pub times: Histogram<TIME_BUCKETS>,
}

impl Default for DiskStats {
    fn default() -> Self {
        let (commits, entries, failures, bytes, segments) = Default::default();
        Self { commits, entries, failures, bytes, segments, times: Histogram::new(64) }
    }
}

/// The one who commits.
pub struct Committer<F: Folder> {
    order: MemoryOrder,
    proposals: Arc<Proposals>,
    log: DiskLog<F>,
    kept: Kept,
    stats: Arc<DiskStats>,
    waiting: VecDeque<Proposal>,
    /// Until then proposals are refused for this reason.
    paused: Option<(Moment, Why)>,
    /// Groups are applied and answered before they are committed.
    answers_first: bool,
    /// The last commit failed.
    has_failed: bool,
    unwritten: Unwritten,
}

/// What is committed together.
struct Group {
    /// The position of its first entry.
    first: Offset,
    body: Vec<u8>,
    members: Vec<Member>,
    planned: Planned,
}

/// A proposal that was decided about.
enum Member {
    Events(Decided, Offset, oneshot::Sender<Result<Published, Refused>>),
    Change(Change, u64, Offset, oneshot::Sender<Result<(), Refused>>),
    Probe(Arc<Source>, Offset, oneshot::Sender<Result<Published, Refused>>),
}

impl<F: Folder> Committer<F> {
    /// Commits what is proposed to `proposals` to `log`, and applies it to the hub of `order`. `kept` are the changes that
    /// the log has.
    #[must_use]
    pub fn new(
        order: MemoryOrder,
        proposals: Arc<Proposals>,
        log: DiskLog<F>,
        kept: Kept,
        stats: Arc<DiskStats>,
    ) -> Self {
        let (waiting, unwritten) = Default::default();
        let (paused, answers_first, has_failed) = (None, false, false);
        let committer = Self {
            order,
            proposals,
            log,
            kept,
            stats,
            waiting,
            paused,
            answers_first,
            has_failed,
            unwritten,
        };
        committer.note_size();
        committer
    }

    /// The same; whether what is proposed is applied and answered before it is committed.
    #[must_use]
    pub fn answering_first(self, answers_first: bool) -> Self {
        Self { answers_first, ..self }
    }

    /// Commits one group, if there is one. `clock` gives the time, and the time since 1970 in microseconds. Returns false once
    /// no more is proposed.
    pub fn step(&mut self, clock: impl Fn() -> (Moment, u64)) -> bool {
        let patience = self.unwritten.patience(clock().0).unwrap_or(PATIENCE);
        if !self.proposals.take(&mut self.waiting, GROUP_BYTES_MAX, patience) {
            return false;
        }
        let (now, unix_us) = clock();
        if self.waiting.is_empty() {
            let _ = self.write(&clock);
            self.clean(&clock);
            return true;
        }
        if let Some((_, why)) = self.paused.filter(|(until, _)| now < *until) {
            self.waiting.drain(..).for_each(|proposal| proposal.refuse(why));
            return true;
        }
        let group = self.gather(now);
        if self.answers_first && !self.has_failed {
            self.answer(group, now, unix_us);
            if self.is_due(clock().0) {
                let _ = self.write(&clock);
            }
        } else {
            self.commit_and_answer(group, now, unix_us, &clock);
        }
        self.clean(&clock);
        true
    }

    fn commit_and_answer(
        &mut self,
        group: Group,
        now: Moment,
        unix_us: u64,
        clock: impl Fn() -> (Moment, u64),
    ) {
        let committed = self.commit(&group, unix_us);
        let took = u64::try_from(clock().0.since(now).as_micros()).unwrap_or(u64::MAX);
        self.stats.times.record(took, 1);
        match committed {
            Ok(()) => {
                (self.paused, self.has_failed) = (None, false);
                // By the time of its commit: a restart reads the same.
                for member in group.members {
                    self.apply(member, now, unix_us / 1_000_000);
                }
            }
            Err(err) => {
                let why = self.fail(now, &err);
                group.members.into_iter().for_each(|member| self.undo(member, why));
            }
        }
    }

    /// Whether what was answered is to be written now.
    fn is_due(&self, now: Moment) -> bool {
        let is_large =
            self.unwritten.bytes() >= GROUP_BYTES_MAX || self.unwritten.count() >= GROUP_ENTRIES_MAX;
        is_large || self.unwritten.patience(now).is_some_and(|left| left.is_zero())
    }

    /// Refuses proposals for a while.
    fn fail(&mut self, now: Moment, err: &io::Error) -> Why {
        let why = why(err);
        self.stats.failures.add();
        (self.paused, self.has_failed) = (Some((now + PAUSE, why)), true);
        tracing::error!(reason = %err, "the order cannot be written; publishes are refused");
        why
    }

    /// Applies a group, which is written later.
    fn answer(&mut self, group: Group, now: Moment, unix_us: u64) {
        self.unwritten.add(&group.body, group.planned.next() - group.first, now);
        for member in group.members {
            self.apply(member, now, unix_us / 1_000_000);
        }
    }

    /// Writes what was answered before. If that fails, it is lost, and readers from below are told.
    fn write(&mut self, clock: impl Fn() -> (Moment, u64)) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let (now, unix_us) = clock();
        let (body, count) = self.unwritten.take();
        let last = self.log.next() + count - 1;
        let committed = self.log.commit(u32::try_from(count).unwrap_or(u32::MAX), &body, unix_us);
        let after = clock().0;
        self.stats.times.record(u64::try_from(after.since(now).as_micros()).unwrap_or(u64::MAX), 1);
        match committed {
            Ok(_) => {
                self.stats.commits.add();
                self.stats.entries.add_many(count);
                Ok(())
            }
            Err(err) => {
                self.log.pass(last);
                self.fail(after, &err);
                tracing::error!(entries = count, "what was answered before is not on the disk");
                Err(err)
            }
        }
    }

    /// Writes what was answered, and marks a clean end, after which the next start goes on in the same term.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn close(mut self, clock: impl Fn() -> (Moment, u64)) -> io::Result<()> {
        self.write(clock)?;
        self.log.close()
    }

    /// Decides about what waits, as much as fits in a group.
    fn gather(&mut self, now: Moment) -> Group {
        let first = self.log.next() + self.unwritten.count();
        let mut group =
            Group { first, body: vec![entry::VERSION], members: Vec::new(), planned: Planned::from(first) };
        let mut keys = HashSet::new();
        let order = self.order.clone();
        let mut claimed = order.claimed();
        let mut applying = order.hub().applying(Counts::No);
        while group.body.len() < GROUP_BYTES_MAX && group.planned.next() - first < GROUP_ENTRIES_MAX {
            let Some(proposal) = self.waiting.pop_front() else { break };
            match proposal {
                Proposal::Change(change, until, answer) => {
                    entry::put_change(&change, until, &mut group.body);
                    group.members.push(Member::Change(change, until, group.planned.take(), answer));
                }
                Proposal::Probe(source, answer) => {
                    entry::put_tick(&mut group.body);
                    group.members.push(Member::Probe(source, group.planned.take(), answer));
                }
                // Its answer depends on one that is decided with this group: it waits for that.
                Proposal::Events(events) if events.proposed.keys().any(|key| keys.contains(&key)) => {
                    self.waiting.push_front(Proposal::Events(events));
                    break;
                }
                Proposal::Events(events) => {
                    keys.extend(events.proposed.keys());
                    let Events { proposed, bytes, ends, answer } = events;
                    let claimed = (!proposed.is_plain()).then_some(&mut *claimed);
                    let at = group.planned.next();
                    match proposed.decide(claimed, &mut applying, &mut group.planned, now) {
                        Ok(Verdict::Apply(decided)) => {
                            put(&decided, at, &bytes, &ends, &mut group.body);
                            group.members.push(Member::Events(decided, at, answer));
                        }
                        Ok(Verdict::Again(first)) => drop(answer.send(Ok(order.again(first)))),
                        Err(refused) => {
                            let _ = answer.send(Err(refused));
                            // What it would have published is still among the planned versions.
                            break;
                        }
                    }
                }
            }
        }
        group
    }

    fn commit(&mut self, group: &Group, unix_us: u64) -> io::Result<()> {
        let count = group.planned.next() - group.first;
        let Some(count) = u32::try_from(count).ok().filter(|count| *count > 0) else {
            return Ok(());
        };
        let first = self.log.commit(count, &group.body, unix_us)?;
        debug_assert_eq!(first, group.first);
        self.stats.commits.add();
        self.stats.entries.add_many(count.into());
        Ok(())
    }

    fn apply(&mut self, member: Member, now: Moment, unix_s: u64) {
        match member {
            Member::Events(mut decided, first, answer) => {
                let mut claimed = self.order.claimed();
                let mut applying = self.order.hub().applying(Counts::Yes);
                let published = decided.apply(&mut applying, first, now);
                decided.finish(&mut claimed, &published);
                let wakers = applying.finish(now);
                drop(claimed);
                self.order.count(&published);
                for (_, waker) in wakers {
                    waker.wake();
                }
                let _ = answer.send(decided.result(published));
            }
            Member::Change(change, until, position, answer) => {
                self.kept.put(&change, until, position, unix_s);
                let _ = answer.send(Ok(()));
            }
            Member::Probe(source, position, answer) => {
                let mut applying = self.order.hub().applying(Counts::No);
                let connections = applying.apply(position, Prepared::own(&source, "probe"), now);
                for (_, waker) in applying.finish(now) {
                    waker.wake();
                }
                let _ = answer.send(Ok(Published::one(position, connections)));
            }
        }
    }

    fn undo(&mut self, member: Member, why: Why) {
        let refused = Refused::whole(why);
        match member {
            Member::Events(decided, _, answer) => {
                let mut claimed = self.order.claimed();
                let mut applying = self.order.hub().applying(Counts::No);
                decided.undo(&mut claimed, &mut applying);
                drop(applying);
                drop(claimed);
                let _ = answer.send(Err(refused));
            }
            Member::Change(_, _, _, answer) => drop(answer.send(Err(refused))),
            Member::Probe(_, _, answer) => drop(answer.send(Err(refused))),
        }
    }

    /// Removes segments that are too old or too many. Changes in them that are still in force are committed again first.
    fn clean(&mut self, clock: impl Fn() -> (Moment, u64)) {
        let (_, unix_us) = clock();
        // What is committed again comes behind what was answered.
        if self.log.excess(unix_us).is_some() && self.write(&clock).is_err() {
            return;
        }
        while let Some(oldest) = self.log.excess(unix_us) {
            let last = oldest.last;
            let removed = self.carry(last, unix_us).and_then(|()| self.log.remove_oldest());
            if let Err(err) = removed {
                tracing::error!(reason = %err, "the oldest segment of the order cannot be removed");
                break;
            }
        }
        self.note_size();
    }

    fn carry(&mut self, last: Offset, unix_us: u64) -> io::Result<()> {
        let carried = self.kept.up_to(last, unix_us / 1_000_000);
        for part in carried.chunks(CARRIED_MAX) {
            let mut body = vec![entry::VERSION];
            for (change, until) in part {
                entry::put_change(change, *until, &mut body);
            }
            let count = u32::try_from(part.len()).expect("at most CARRIED_MAX");
            let first = self.log.commit(count, &body, unix_us)?;
            for ((change, until), position) in part.iter().zip(first..) {
                self.kept.put(change, *until, position, unix_us / 1_000_000);
            }
        }
        Ok(())
    }

    fn note_size(&self) {
        self.stats.bytes.store(self.log.bytes(), Ordering::Relaxed);
        self.stats.segments.store(self.log.segments().count() as u64, Ordering::Relaxed);
    }
}

/// Changes that are carried in one batch.
const CARRIED_MAX: usize = 1024;

impl Proposal {
    fn refuse(self, why: Why) {
        let refused = Refused::whole(why);
        match self {
            Self::Events(Events { answer, .. }) | Self::Probe(_, answer) => drop(answer.send(Err(refused))),
            Self::Change(_, _, answer) => drop(answer.send(Err(refused))),
        }
    }
}

/// Appends those of `decided` that are new to `body`, and the answer to their request if it is to be remembered. The first is at
/// `first`; the bytes of all that were proposed are in `bytes`, up to each of `ends`.
fn put(decided: &Decided, first: Offset, bytes: &[u8], ends: &[usize], body: &mut Vec<u8>) {
    let mut start = 0;
    for (event, end) in decided.events.iter().zip(ends) {
        if event.fate() == Fate::Published {
            body.extend(&bytes[start..*end]);
            entry::put_subscribers(event.connections(), body);
        }
        start = *end;
    }
    if let Some(claim) = decided.request().filter(|_| decided.count() > 0) {
        entry::put_answer(&claim, &decided.expected(first), body);
    }
}

/// Why nothing could be committed.
fn why(err: &io::Error) -> Why {
    if err.kind() == io::ErrorKind::StorageFull { Why::DiskFull } else { Why::DiskFailed }
}
