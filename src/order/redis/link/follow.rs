//! Entries are read one after the other, and applied if each follows the one before it.
//!
//! It follows if it names the tag of the last one and begins at the next offset. If it does not, the node attaches anew. If
//! it still does not then, an entry was taken out of the log or exchanged, and the order is given up.

use super::{Applied, Command, Following, Line, Link, LinkState, Output, Phase, Placed, Told};
use crate::order::redis::call::{AppendAnswer, AppendCall};
use crate::order::redis::entry::{Content, LogEntry, Mark, PlacedBatch};
use crate::types::lineage::Lineage;
use crate::types::moment::Moment;
use crate::types::position::Offset;

/// Entries of one read, at least and at most. One may have a mebibyte.
const READ_MIN: usize = 4;
const READ_MAX: usize = 64;

/// Bytes that one read should bring.
const READ_BYTES: usize = 8 << 20;

/// Why an entry is not applied.
enum Stop {
    /// Another term begins.
    Fork,
    /// It does not follow what was applied.
    Hole,
}

impl Line {
    /// Whether `entry` follows what was applied.
    fn follows(&self, entry: &LogEntry) -> bool {
        let is_next = self.marks.newest().is_none_or(|mark| mark == entry.before);
        let is_dense = match &entry.content {
            Content::Batches(batches) => {
                batches.first().is_some_and(|batch| batch.first == self.applied + 1)
                    && self.is_in_term(entry.id.offset)
            }
            Content::Fork(theirs) => {
                entry.id.offset == theirs.newest().first && self.is_end_before(entry.id.offset)
            }
            Content::Tick => entry.id.offset == self.applied,
        };
        is_next && is_dense
    }

    /// Whether an event at `offset` is within the term that it belongs to, and not behind its end.
    fn is_in_term(&self, offset: Offset) -> bool {
        let term = self.lineage.terms().iter().rev().find(|term| term.first < offset);
        term.is_some_and(|term| offset <= term.last)
    }

    /// Whether everything that the terms before `first` kept was applied.
    fn is_end_before(&self, first: Offset) -> bool {
        let before = self.lineage.terms().iter().rev().find(|term| term.first < first);
        before.is_none_or(|term| term.last == self.applied)
    }

    /// Whether `theirs` begins a term that is not known.
    fn is_unknown(&self, theirs: &Lineage) -> bool {
        let begins = theirs.newest();
        !self.lineage.terms().iter().any(|term| term.epoch == begins.epoch && term.first == begins.first)
    }
}

impl Link {
    /// Attached: entries up to `target` are there to be read.
    pub(super) fn follow(&mut self, now: Moment, target: Offset) {
        let (live, tick, entries_max) = (None, None, READ_MIN);
        self.phase = Phase::Following(Following { target, live, read: now, entries_max, echoed: now, tick });
        self.become_state(LinkState::CatchingUp);
        self.read_on(now);
        self.catch_up(now);
    }

    /// Entries have come.
    pub(super) fn read(&mut self, now: Moment, entries: Vec<Option<LogEntry>>) {
        let largest = entries.iter().flatten().map(LogEntry::bytes).max();
        for entry in entries {
            let taken = entry.map_or(Err(Stop::Hole), |entry| self.take(now, entry));
            match taken {
                Ok(()) => {}
                Err(Stop::Fork) => return self.lose(now),
                Err(Stop::Hole) => return self.lose_at_hole(now),
            }
        }
        if largest.is_none() && self.lacks_entries() {
            // They were there when it attached. The order went back, without a word on the connections: another look tells.
            return self.lose(now);
        }
        if let (Some(largest), Phase::Following(following)) = (largest, &mut self.phase) {
            following.entries_max = (READ_BYTES / largest.max(1)).clamp(READ_MIN, READ_MAX);
        }
        self.read_on(now);
        self.catch_up(now);
        self.tend(now);
        self.pump(now);
    }

    /// Whether it is not caught up, so that there have to be more entries.
    fn lacks_entries(&self) -> bool {
        matches!((&self.phase, &self.line), (Phase::Following(following), Some(line))
            if following.live.is_none() && line.applied < following.target)
    }

    fn take(&mut self, now: Moment, entry: LogEntry) -> Result<(), Stop> {
        let line = self.line.as_mut().expect("it is followed");
        if let Content::Fork(theirs) = &entry.content
            && line.is_unknown(theirs)
        {
            return Err(Stop::Fork);
        }
        if !line.follows(&entry) {
            return Err(Stop::Hole);
        }
        line.at = entry.id;
        match entry.content {
            Content::Tick => self.tick_came(now, &entry.tag),
            Content::Fork(_) => self.move_to(entry.id.offset, &entry.tag),
            Content::Batches(batches) => {
                self.move_to(entry.id.offset, &entry.tag);
                self.applied_line().told = entry.id.offset;
                self.apply(now, &entry.tag, entry.time_ms, batches);
            }
        }
        Ok(())
    }

    fn applied_line(&mut self) -> &mut Line {
        self.line.as_mut().expect("it is followed")
    }

    fn move_to(&mut self, offset: Offset, tag: &str) {
        self.hole = None;
        let line = self.applied_line();
        line.applied = offset;
        line.marks.push(offset, Mark::of(tag));
        self.saw(offset);
    }

    fn apply(&mut self, now: Moment, tag: &str, time_ms: u64, batches: Vec<PlacedBatch>) {
        let lineage = &self.line.as_ref().expect("it is followed").lineage;
        let epoch_of = |offset: Offset| {
            let term = lineage.terms().iter().rev().find(|term| term.first < offset);
            term.map_or(lineage.epoch(), |term| term.epoch)
        };
        let is_mine = self.publisher.is_mine(tag);
        for batch in batches {
            let PlacedBatch { index, first, count, body } = batch;
            let mine = if is_mine { self.publisher.echoed(tag, index) } else { None };
            self.out.push_back(Output::Tell(Told::Apply(Applied { first, count, body, time_ms, mine })));
            if let Some(ticket) = mine {
                let last = first + u64::from(count) - 1;
                let placed = Placed { epoch: epoch_of(last), first, last };
                self.out.push_back(Output::Tell(Told::Placed(ticket, placed)));
            }
        }
        if is_mine && self.publisher.came(tag) {
            self.echoed(now);
        }
    }

    /// Something is missing behind what was applied. The second time at one place it is not for want of looking.
    pub(super) fn lose_at_hole(&mut self, now: Moment) {
        let line = self.applied_line();
        let here = (line.lineage.epoch(), line.applied);
        if self.hole.replace(here) == Some(here) {
            self.given_up = Some(here.0);
        }
        self.lose(now);
    }

    fn read_on(&mut self, now: Moment) {
        let at = self.applied_line().at;
        if let Phase::Following(following) = &mut self.phase {
            following.read = now;
            let entries_max = following.entries_max;
            self.run(Command::Read(at, entries_max));
        }
    }

    /// It is live if everything was applied that was there when it attached.
    fn catch_up(&mut self, now: Moment) {
        let applied = self.applied_line().applied;
        if let Phase::Following(following) = &mut self.phase
            && following.live.is_none()
            && applied >= following.target
        {
            following.live = Some(now);
            following.echoed = now;
            self.refuse_at = None;
            self.become_state(LinkState::Live);
            self.pump(now);
        }
    }

    /// `offset` was given out.
    pub(super) fn saw(&mut self, offset: Offset) {
        self.seen = self.seen.max(offset);
        self.high = self.high.max(offset);
    }

    /// Sends and asks what waits, if there is somewhere to send it.
    pub(super) fn pump(&mut self, now: Moment) {
        let Phase::Following(Following { live: Some(_), .. }) = self.phase else { return };
        let epoch = self.applied_line().lineage.epoch();
        while let Some((seq, tag, batches)) = self.publisher.next(now) {
            let call = AppendCall { epoch, seen: self.seen, seq: Some(seq), tag, batches };
            self.run(Command::Append(call));
        }
        if self.confirmer.next(now) {
            self.run(Command::Confirm);
        }
    }

    /// The answer to an append has come.
    pub(super) fn appended(&mut self, now: Moment, seq: Option<u64>, answer: AppendAnswer) {
        if !matches!(self.phase, Phase::Following(_)) {
            return;
        }
        match &answer {
            AppendAnswer::Elsewhere => return self.lose(now),
            AppendAnswer::Done(newest, _) => self.saw(*newest),
            // Redis is there, and says no.
            AppendAnswer::Closed(_) => self.echoed(now),
            AppendAnswer::Earlier(_) | AppendAnswer::Stale => {}
        }
        let line = self.applied_line();
        let (epoch, applied) = (line.lineage.epoch(), line.applied);
        match (seq, answer) {
            (Some(seq), answer) => self.publisher.answered(seq, answer, epoch, applied, &mut self.out),
            (None, AppendAnswer::Closed(_)) => self.tick_ends(),
            (None, _) => {}
        }
        self.pump(now);
    }

    fn tick_ends(&mut self) {
        if let Phase::Following(following) = &mut self.phase {
            following.tick = None;
        }
    }

    fn tick_came(&mut self, now: Moment, tag: &str) {
        if let Phase::Following(Following { tick: Some((sent, _)), .. }) = &self.phase
            && sent == tag
        {
            self.tick_ends();
            self.echoed(now);
        }
    }

    /// What was sent came back.
    fn echoed(&mut self, now: Moment) {
        if let Phase::Following(following) = &mut self.phase {
            following.echoed = now;
        }
    }

    /// When something that it sent came back last, or it became live.
    #[must_use]
    pub fn echoed_at(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Following(following) if following.live.is_some() => Some(following.echoed),
            _ => None,
        }
    }

    /// The oldest that was sent and did not come back.
    fn outstanding(&self, following: &Following) -> Option<Moment> {
        let tick = following.tick.as_ref().map(|(_, sent)| *sent);
        [tick, self.publisher.outstanding(), self.confirmer.outstanding()].into_iter().flatten().min()
    }

    /// When [`tend`](Self::tend) has something to do.
    pub(super) fn tend_at(&self, following: &Following) -> Moment {
        let lost = following.read + self.settings.lost_after;
        let late = self.outstanding(following).map(|sent| {
            let is_late = self.state == LinkState::Late;
            sent + if is_late { self.settings.lost_after } else { self.settings.late_after }
        });
        let is_idle = following.live.is_some() && following.tick.is_none();
        let tick = is_idle.then(|| following.echoed + self.settings.tick_every);
        [late, tick].into_iter().flatten().fold(lost, Moment::min)
    }

    /// Looks whether what was sent came back, and sends a tick if nothing was.
    pub(super) fn tend(&mut self, now: Moment) {
        let Phase::Following(following) = &self.phase else { return };
        let outstanding = self.outstanding(following).map(|sent| now.since(sent));
        let lost_after = self.settings.lost_after;
        if now.since(following.read) >= lost_after || outstanding.is_some_and(|time| time >= lost_after) {
            return self.lose(now);
        }
        if following.live.is_none() {
            return;
        }
        let is_late = outstanding.is_some_and(|time| time >= self.settings.late_after);
        let is_idle = following.tick.is_none() && now.since(following.echoed) >= self.settings.tick_every;
        self.become_state(if is_late { LinkState::Late } else { LinkState::Live });
        if is_idle {
            self.send_tick(now);
        }
    }

    fn send_tick(&mut self, now: Moment) {
        self.ticks += 1;
        let tag = format!("{}:t{}", self.settings.life, self.ticks);
        if let Phase::Following(following) = &mut self.phase {
            following.tick = Some((tag.clone(), now));
        }
        let epoch = self.applied_line().lineage.epoch();
        let call = AppendCall { epoch, seen: self.seen, seq: None, tag, batches: Vec::new() };
        self.run(Command::Append(call));
    }
}
