//! The link of one node to the order in Redis, as a state machine: what happens goes in, what is to be done comes out.
//!
//! It decides when to connect, where the order is and what of it is shared (`adopt`), what is applied (`follow`), what
//! becomes of the node's own batches (`publish`), and what else has them (`confirm`). It has no socket, no clock and no chance but its seed.
//!
//! ```text
//! Connecting ─> Attaching ─> CatchingUp ─> Live <─> Late
//!     ^  ^                                   │        │
//!     │  └── at once, the first time ────────┴────────┘
//!     └───── Lost, Unfit: after a while
//! ```

mod adopt;
mod confirm;
mod follow;
mod publish;
mod settings;
mod told;

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

use crate::order::redis::call::{AppendAnswer, AppendCall, AttachAnswer, AttachCall, Batch, Whereabouts};
use crate::order::redis::entry::{EntryId, LogEntry};
use crate::order::redis::marks::Marks;
use crate::types::lineage::{Lineage, TERMS_MAX};
use crate::types::moment::{Moment, jittered};
use crate::types::position::{Epoch, Offset};

pub use self::settings::Settings;
pub use self::told::{Adopted, Applied, LinkState, Loss, Placed, RefusedWhy, Told, Unfit};

use self::confirm::Confirmer;
use self::publish::Publisher;

/// Names a batch that was submitted, for its answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ticket(pub u64);

/// A pair of connections, one to append and one to follow; perhaps with a third, to confirm. What belongs to an earlier pair is ignored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConnNo(pub u64);

/// What the owner of the connections has to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a new pair; any earlier one is to be closed.
    Connect,
    /// Close the pair.
    Close,
    /// Run the script `attach`, on the connection that appends.
    Attach(AttachCall),
    /// Read the first entry from this id on, on the connection that appends.
    Probe(EntryId),
    /// Run the script `append`.
    Append(AppendCall),
    /// Write something, and ask whether a replica or the disk has everything up to there: on a connection of its own, because
    /// the answer may take long.
    Confirm,
    /// Read what is behind this id, at most so many entries. Wait for a second if there is nothing.
    Read(EntryId, usize),
}

/// What came out.
#[derive(Clone, Debug)]
pub enum Output {
    /// To be done, with this pair of connections.
    Do(ConnNo, Command),
    /// To be told to whom it concerns, in this order.
    Tell(Told),
}

/// What happened to a pair of connections.
#[derive(Debug)]
pub enum Happened {
    /// It is open; whether the server may be used.
    Connected(Result<(), Unfit>),
    /// The answer to [`Command::Attach`].
    Attached(AttachAnswer),
    /// The answer to [`Command::Probe`].
    Probed(Option<LogEntry>),
    /// The answer to [`Command::Append`] with this `seq`.
    Appended(Option<u64>, AppendAnswer),
    /// The answer to [`Command::Read`]. `None` is an entry that cannot be read; nothing follows it.
    Read(Vec<Option<LogEntry>>),
    /// The answer to [`Command::Confirm`]; false if it took too long.
    Confirmed(bool),
    /// It broke, could not be opened, or answered what cannot be understood.
    Broken,
}

/// What was applied.
#[derive(Debug)]
struct Line {
    lineage: Lineage,
    /// Everything up to here was.
    applied: Offset,
    /// The same as the owner knows it: it is not told where a term begins without events.
    told: Offset,
    /// The entry that was read last.
    at: EntryId,
    /// Invariant: none is above `applied`.
    marks: Marks,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Moment },
    Unfit { until: Moment },
    Connecting { until: Moment },
    Attaching { until: Moment },
    Probing { until: Moment, here: Whereabouts, shared: Offset },
    Following(Following),
}

/// Entries are read.
#[derive(Debug)]
struct Following {
    /// It is caught up when this is applied.
    target: Offset,
    /// Since when it is caught up.
    live: Option<Moment>,
    /// When the last read was begun.
    read: Moment,
    /// Entries to read at a time.
    entries_max: usize,
    /// The last time that an entry of its own came back, or that Redis refused one.
    echoed: Moment,
    /// The tick that has not come back: its tag, and when it was sent.
    tick: Option<(String, Moment)>,
}

/// The link of one node.
#[derive(Debug)]
pub struct Link {
    settings: Settings,
    rng: Rng,
    no: ConnNo,
    phase: Phase,
    state: LinkState,
    line: Option<Line>,
    /// The newest offset of the line's epoch that is known to be given out.
    seen: Offset,
    /// The same of epochs that were left, newest last, [`TERMS_MAX`] at most.
    left: VecDeque<(Epoch, Offset)>,
    /// The same of any epoch.
    high: Offset,
    /// The epoch whose order contradicts the line.
    given_up: Option<Epoch>,
    /// Where an entry was missing, until one is applied.
    hole: Option<(Epoch, Offset)>,
    /// Attempts in a row that came to nothing.
    fails: u32,
    ticks: u64,
    /// When batches that wait are refused; `None` while they go out.
    refuse_at: Option<Moment>,
    publisher: Publisher,
    confirmer: Confirmer,
    out: VecDeque<Output>,
}

impl Link {
    /// A link that begins to connect. `seed` decides about waiting times and names of terms, and must not repeat.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Moment) -> Self {
        let publisher = Publisher::new(&settings);
        let confirmer = Confirmer::new(settings.waiting_max, settings.unknown_after);
        let mut link = Self {
            rng: Rng::with_seed(seed),
            no: ConnNo(0),
            phase: Phase::Waiting { until: now },
            state: LinkState::Lost,
            line: None,
            seen: 0,
            left: VecDeque::new(),
            high: 0,
            given_up: None,
            hole: None,
            fails: 0,
            ticks: 0,
            refuse_at: Some(now + settings.late_after),
            publisher,
            confirmer,
            out: VecDeque::new(),
            settings,
        };
        link.connect(now);
        link
    }

    /// What there is to do and to tell, oldest first. To be asked for after every other call.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// What it does now.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// Everything up to this offset was applied.
    #[must_use]
    pub fn applied(&self) -> Option<Offset> {
        self.line.as_ref().map(|line| line.applied)
    }

    /// A batch is to be appended.
    pub fn submit(&mut self, now: Moment, ticket: Ticket, batch: Batch) {
        let is_away = self.refuse_at.is_some_and(|at| at <= now);
        let refused = if is_away {
            Some(RefusedWhy::Away)
        } else if self.publisher.is_full(&batch) {
            Some(RefusedWhy::Busy)
        } else {
            None
        };
        match refused {
            Some(why) => self.tell(Told::Refused(ticket, why)),
            None => self.publisher.push(now, ticket, batch),
        }
        self.pump(now);
    }

    /// Someone whose batch was applied asks whether something beyond Redis has it too.
    pub fn confirm(&mut self, now: Moment, ticket: Ticket) {
        if !self.confirmer.push(now, ticket) {
            self.tell(Told::Unconfirmed(ticket));
        }
        self.pump(now);
    }

    /// Something happened to the pair of connections `no`.
    pub fn happened(&mut self, now: Moment, no: ConnNo, what: Happened) {
        if no != self.no {
            return;
        }
        match (what, &self.phase) {
            (Happened::Broken, _) => self.lose(now),
            (Happened::Connected(Ok(())), Phase::Connecting { .. }) => self.attach(now),
            (Happened::Connected(Err(why)), Phase::Connecting { .. }) => self.unfit(now, why),
            (Happened::Attached(answer), Phase::Attaching { .. }) => self.attached(now, answer),
            (Happened::Probed(entry), Phase::Probing { .. }) => self.probed(now, entry.as_ref()),
            (Happened::Appended(seq, answer), _) => self.appended(now, seq, answer),
            (Happened::Confirmed(is_confirmed), _) => {
                self.confirmer.answered(is_confirmed, &mut self.out);
                self.pump(now);
            }
            (Happened::Read(entries), Phase::Following(_)) => self.read(now, entries),
            // An answer to what is no longer asked.
            (Happened::Connected(_) | Happened::Attached(_) | Happened::Probed(_) | Happened::Read(_), _) => {
            }
        }
    }

    /// Time has passed. To be called at [`due`](Self::due), and at any other time.
    pub fn wake(&mut self, now: Moment) {
        if self.refuse_at.is_some_and(|at| at <= now) {
            self.publisher.refuse_waiting(RefusedWhy::Away, &mut self.out);
        }
        self.publisher.give_up(now, &mut self.out);
        self.confirmer.give_up(now, &mut self.out);
        match self.phase {
            Phase::Waiting { until } | Phase::Unfit { until } if until <= now => self.connect(now),
            Phase::Connecting { until } | Phase::Attaching { until } | Phase::Probing { until, .. }
                if until <= now =>
            {
                self.lose(now);
            }
            Phase::Following(_) => self.tend(now),
            _ => {}
        }
        self.pump(now);
    }

    /// When [`wake`](Self::wake) has something to do.
    #[must_use]
    pub fn due(&self) -> Moment {
        let phase = match &self.phase {
            Phase::Waiting { until }
            | Phase::Unfit { until }
            | Phase::Connecting { until }
            | Phase::Attaching { until }
            | Phase::Probing { until, .. } => *until,
            Phase::Following(following) => self.tend_at(following),
        };
        let refuse = self.refuse_at.filter(|_| self.publisher.is_waiting());
        [refuse, self.publisher.give_up_at(), self.confirmer.give_up_at()]
            .into_iter()
            .flatten()
            .fold(phase, Moment::min)
    }

    fn tell(&mut self, told: Told) {
        self.out.push_back(Output::Tell(told));
    }

    fn run(&mut self, command: Command) {
        self.out.push_back(Output::Do(self.no, command));
    }

    fn become_state(&mut self, state: LinkState) {
        if self.state != state {
            self.state = state;
            self.tell(Told::State(state));
        }
    }

    fn connect(&mut self, now: Moment) {
        self.no.0 += 1;
        self.phase = Phase::Connecting { until: now + self.settings.connect_within };
        self.become_state(LinkState::Connecting);
        self.run(Command::Connect);
    }

    fn attach(&mut self, now: Moment) {
        self.phase = Phase::Attaching { until: now + self.settings.answer_within };
        self.become_state(LinkState::Attaching);
        let call = AttachCall {
            epoch: self.line.as_ref().map(|line| line.lineage.epoch()),
            seen: self.seen,
            high: self.high,
            given_up: self.given_up,
            fresh: Epoch::new(self.rng.u64(..)),
        };
        self.run(Command::Attach(call));
    }

    fn attached(&mut self, now: Moment, answer: AttachAnswer) {
        match answer {
            AttachAnswer::Here(here) => self.judge(now, here),
            AttachAnswer::Again => self.attach(now),
            AttachAnswer::Foreign => self.unfit(now, Unfit::Format),
        }
    }

    /// The order contradicts what was applied: asks for another one.
    fn give_up_order(&mut self, now: Moment, epoch: Epoch) {
        self.given_up = Some(epoch);
        self.attach(now);
    }

    /// The connections are of no use any more. Another pair is opened: at once if they were of use for a while.
    fn lose(&mut self, now: Moment) {
        let was_live = matches!(&self.phase, Phase::Following(following)
            if following.live.is_some_and(|since| now.since(since) >= self.settings.tick_every));
        self.fails = if was_live { 0 } else { self.fails + 1 };
        self.disconnected(now);
        if self.fails == 0 {
            return self.connect(now);
        }
        let longest = self.settings.backoff_max;
        let backoff = self.settings.backoff_min.saturating_mul(1 << (self.fails - 1).min(16)).min(longest);
        self.wait(now, backoff);
    }

    fn wait(&mut self, now: Moment, time: Duration) {
        self.phase = Phase::Waiting { until: now + jittered(time, self.rng.f64()) };
        self.become_state(LinkState::Lost);
        self.run(Command::Close);
    }

    /// Looked at again after a while: what is wrong may be put right, and nothing else will do.
    fn unfit(&mut self, now: Moment, why: Unfit) {
        self.disconnected(now);
        self.refuse_at = Some(now);
        self.publisher.refuse_waiting(RefusedWhy::Away, &mut self.out);
        self.phase = Phase::Unfit { until: now + self.settings.unfit_every };
        self.become_state(LinkState::Unfit(why));
        self.run(Command::Close);
    }

    /// The order is about to be in another epoch: what was seen of each is kept.
    fn enter(&mut self, epoch: Epoch) {
        let Some(before) = self.line.as_ref().map(|line| line.lineage.epoch()).filter(|it| *it != epoch)
        else {
            return;
        };
        self.left.push_back((before, self.seen));
        if self.left.len() > TERMS_MAX {
            self.left.pop_front();
        }
        self.seen = self.seen_of(epoch);
    }

    /// The newest offset of an epoch that was left that is known to be given out.
    fn seen_of(&self, epoch: Epoch) -> Offset {
        self.left.iter().filter(|(left, _)| *left == epoch).map(|(_, seen)| *seen).max().unwrap_or(0)
    }

    fn disconnected(&mut self, now: Moment) {
        if self.refuse_at.is_none() {
            self.refuse_at = Some(now + self.settings.late_after);
        }
        self.publisher.disconnected();
        self.confirmer.disconnected();
    }
}
