//! The node's own batches, from being submitted to their answer.
//!
//! Batches become one entry: at once if nothing is under way, else what has gathered. Two entries are under way at most. An
//! entry has a number in the node's life, and keeps it when it is sent again; each attempt has a tag of its own. A batch that
//! came back in the log is answered; what did not come back is sent again once everything was read that was there.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Output, Placed, RefusedWhy, Settings, Ticket, Told};
use crate::order::redis::call::{AppendAnswer, Batch, Became};
use crate::types::moment::Moment;
use crate::types::position::{Epoch, Offset};

/// Entries under way. The script remembers four of each life.
const FLIGHTS_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct Publisher {
    life: String,
    waiting: VecDeque<Item>,
    waiting_bytes: usize,
    /// Invariant: in the order of their numbers, at most [`FLIGHTS_MAX`].
    flights: VecDeque<Flight>,
    next_seq: u64,
    waiting_max: usize,
    waiting_bytes_max: usize,
    entry_events_max: u32,
    entry_bytes_max: usize,
    unknown_after: Duration,
}

/// A batch that was submitted.
#[derive(Debug)]
struct Item {
    ticket: Ticket,
    batch: Batch,
    since: Moment,
}

/// An entry under way.
#[derive(Debug)]
struct Flight {
    seq: u64,
    /// Attempts so far.
    attempt: u32,
    batches: Vec<Batch>,
    /// Who waits for each batch, and since when; `None` if it has its answer.
    waiting: Vec<Option<(Ticket, Moment)>>,
    /// When it was sent over the present connection.
    sent: Option<Moment>,
    /// Whether the present connection brought an answer.
    is_answered: bool,
    /// Whether it came back in the log.
    has_come: bool,
}

impl Flight {
    fn unanswered(&self) -> Vec<Batch> {
        let batch = |(batch, waits): (&Batch, &Option<_>)| match waits {
            Some(_) => batch.clone(),
            None => Batch::answered(),
        };
        self.batches.iter().zip(&self.waiting).map(batch).collect()
    }

    fn is_done(&self) -> bool {
        self.waiting.iter().all(Option::is_none)
    }
}

impl Publisher {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            life: settings.life.clone(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            flights: VecDeque::new(),
            next_seq: 1,
            waiting_max: settings.waiting_max,
            waiting_bytes_max: settings.waiting_bytes_max,
            entry_events_max: settings.entry_events_max,
            entry_bytes_max: settings.entry_bytes_max,
            unknown_after: settings.unknown_after,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there is no place for one more. The first always has one.
    pub(super) fn is_full(&self, batch: &Batch) -> bool {
        let is_over = self.waiting_bytes + batch.body.len() > self.waiting_bytes_max;
        self.waiting.len() >= self.waiting_max || (is_over && self.is_waiting())
    }

    pub(super) fn push(&mut self, now: Moment, ticket: Ticket, batch: Batch) {
        self.waiting_bytes += batch.body.len();
        self.waiting.push_back(Item { ticket, batch, since: now });
    }

    /// The next entry to be sent, if one may be: its number, its tag, its batches.
    pub(super) fn next(&mut self, now: Moment) -> Option<(u64, String, Vec<Batch>)> {
        if !self.flights.iter().any(|flight| flight.sent.is_none()) {
            let flight = self.gather()?;
            self.flights.push_back(flight);
        }
        let life = &self.life;
        let flight = self.flights.iter_mut().find(|flight| flight.sent.is_none())?;
        flight.sent = Some(now);
        flight.attempt += 1;
        let tag = format!("{life}:{}.{}", flight.seq, flight.attempt);
        Some((flight.seq, tag, flight.unanswered()))
    }

    /// Makes an entry of what waits: of anything if nothing is under way that Redis has not answered, of a full one else.
    fn gather(&mut self) -> Option<Flight> {
        let is_idle = self.flights.iter().all(|flight| flight.is_answered || flight.has_come);
        if self.flights.len() >= FLIGHTS_MAX || self.waiting.is_empty() || !(is_idle || self.is_entry_full())
        {
            return None;
        }
        let (mut batches, mut waiting) = (Vec::new(), Vec::new());
        let (mut events, mut bytes) = (0, 0);
        while let Some(item) = self.waiting.front() {
            events += item.batch.count;
            bytes += item.batch.body.len();
            let is_over = events > self.entry_events_max || bytes > self.entry_bytes_max;
            if is_over && !batches.is_empty() {
                break;
            }
            let item = self.waiting.pop_front().expect("it was looked at");
            self.waiting_bytes -= item.batch.body.len();
            waiting.push(Some((item.ticket, item.since)));
            batches.push(item.batch);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let (sent, is_answered, has_come) = (None, false, false);
        Some(Flight { seq, attempt: 0, batches, waiting, sent, is_answered, has_come })
    }

    fn is_entry_full(&self) -> bool {
        let is_over = self.waiting_bytes >= self.entry_bytes_max;
        // Each has an event at least, so this many are looked at at most.
        let most = usize::try_from(self.entry_events_max).unwrap_or(usize::MAX);
        let events = || self.waiting.iter().take(most).map(|item| item.batch.count).sum::<u32>();
        is_over || events() >= self.entry_events_max
    }

    /// The number in a tag of this life.
    fn seq_of(&self, tag: &str) -> Option<u64> {
        let rest = tag.strip_prefix(self.life.as_str())?.strip_prefix(':')?;
        rest.split_once('.')?.0.parse().ok()
    }

    pub(super) fn is_mine(&self, tag: &str) -> bool {
        self.seq_of(tag).is_some()
    }

    fn flight(&mut self, seq: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.seq == seq)
    }

    /// One batch of an entry came back. Returns who waits for it.
    pub(super) fn echoed(&mut self, tag: &str, index: usize) -> Option<Ticket> {
        let seq = self.seq_of(tag)?;
        let waits = self.flight(seq)?.waiting.get_mut(index)?.take()?;
        Some(waits.0)
    }

    /// All of an entry came back. Returns whether it was under way.
    pub(super) fn came(&mut self, tag: &str) -> bool {
        let flight = self.seq_of(tag).and_then(|seq| self.flight(seq));
        let was_under_way = flight.map(|flight| flight.has_come = true).is_some();
        self.land();
        was_under_way
    }

    /// The answer to the entry numbered `seq`, from the order in `epoch`, of which everything up to `applied` was read.
    pub(super) fn answered(
        &mut self,
        seq: u64,
        answer: AppendAnswer,
        epoch: Epoch,
        applied: Offset,
        out: &mut VecDeque<Output>,
    ) {
        let Some(flight) = self.flight(seq) else { return };
        flight.is_answered = true;
        match answer {
            AppendAnswer::Done(_, became) => flight.became(&became, out),
            AppendAnswer::Earlier(last) if last <= applied => flight.was_evicted(last, epoch, out),
            AppendAnswer::Stale => flight.is_unknown(out),
            // An earlier attempt may still be run.
            AppendAnswer::Closed(_) if flight.attempt > 1 => flight.is_unknown(out),
            AppendAnswer::Closed(why) => flight.refuse(RefusedWhy::Closed(why), out),
            // It will come back.
            AppendAnswer::Earlier(_) | AppendAnswer::Elsewhere => {}
        }
        self.land();
    }

    /// Forgets the entries that have their answers.
    fn land(&mut self) {
        self.flights.retain(|flight| !flight.is_done());
    }

    /// The connection is gone, and with it answers. An entry that came back without some of its batches will not have them:
    /// they wait again.
    pub(super) fn disconnected(&mut self) {
        for flight in &mut self.flights {
            (flight.sent, flight.is_answered) = (None, false);
        }
        while let Some(at) = self.flights.iter().rposition(|flight| flight.has_come) {
            let flight = self.flights.remove(at).expect("it was found");
            for (batch, waits) in flight.batches.into_iter().zip(flight.waiting).rev() {
                if let Some((ticket, since)) = waits {
                    self.waiting_bytes += batch.body.len();
                    self.waiting.push_front(Item { ticket, batch, since });
                }
            }
        }
    }

    /// Refuses what was never sent.
    pub(super) fn refuse_waiting(&mut self, why: RefusedWhy, out: &mut VecDeque<Output>) {
        self.waiting_bytes = 0;
        out.extend(self.waiting.drain(..).map(|item| Output::Tell(Told::Refused(item.ticket, why))));
    }

    /// When [`give_up`](Self::give_up) has something to do.
    pub(super) fn give_up_at(&self) -> Option<Moment> {
        let sent = self.flights.iter().flat_map(|flight| flight.waiting.iter().flatten());
        let since = sent.map(|(_, since)| *since).chain(self.waiting.iter().map(|item| item.since)).min();
        since.map(|since| since + self.unknown_after)
    }

    /// Answers those who have waited too long.
    pub(super) fn give_up(&mut self, now: Moment, out: &mut VecDeque<Output>) {
        let is_over = |since: Moment| now.since(since) >= self.unknown_after;
        for waits in self.flights.iter_mut().flat_map(|flight| &mut flight.waiting) {
            if let Some((ticket, _)) = waits.take_if(|(_, since)| is_over(*since)) {
                out.push_back(Output::Tell(Told::Unknown(ticket)));
            }
        }
        while let Some(item) = self.waiting.pop_front_if(|item| is_over(item.since)) {
            self.waiting_bytes -= item.batch.body.len();
            out.push_back(Output::Tell(Told::Refused(item.ticket, RefusedWhy::Away)));
        }
        self.land();
    }

    /// When the oldest was sent that did not come back.
    pub(super) fn outstanding(&self) -> Option<Moment> {
        self.flights.iter().filter_map(|flight| flight.sent).min()
    }
}

impl Flight {
    /// Answers the batches that are not in the entry.
    fn became(&mut self, became: &[Became], out: &mut VecDeque<Output>) {
        for (waits, became) in self.waiting.iter_mut().zip(became) {
            let told = |ticket| match became {
                Became::Appended | Became::Nothing => None,
                Became::Repeat(repeat) => Some(Told::Repeated(ticket, *repeat)),
                Became::Other(index) => Some(Told::Refused(ticket, RefusedWhy::Mismatch(*index))),
            };
            if let Some(told) = waits.and_then(|(ticket, _)| told(ticket)) {
                *waits = None;
                out.push_back(Output::Tell(told));
            }
        }
    }

    /// An earlier attempt has it in the entry that ends at `last`, which the log no longer had when it was read.
    fn was_evicted(&mut self, last: Offset, epoch: Epoch, out: &mut VecDeque<Output>) {
        if self.batches.iter().any(|batch| !batch.once.is_empty()) || self.waiting.contains(&None) {
            // Some may not be in it.
            return self.is_unknown(out);
        }
        let mut last = last;
        for (batch, waits) in self.batches.iter().zip(&mut self.waiting).rev() {
            let first = (last + 1).saturating_sub(batch.count.into());
            if let Some((ticket, _)) = waits.take() {
                out.push_back(Output::Tell(Told::Placed(ticket, Placed { epoch, first, last })));
            }
            last = first.saturating_sub(1);
        }
    }

    fn is_unknown(&mut self, out: &mut VecDeque<Output>) {
        let tickets = self.waiting.iter_mut().filter_map(Option::take);
        out.extend(tickets.map(|(ticket, _)| Output::Tell(Told::Unknown(ticket))));
    }

    fn refuse(&mut self, why: RefusedWhy, out: &mut VecDeque<Output>) {
        let tickets = self.waiting.iter_mut().filter_map(Option::take);
        out.extend(tickets.map(|(ticket, _)| Output::Tell(Told::Refused(ticket, why))));
    }
}
