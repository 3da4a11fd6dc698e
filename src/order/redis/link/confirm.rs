//! What is asked for beyond Redis itself: that a replica has what was applied as well, or the disk of Redis.
//!
//! Whoever published asks once its batch was applied. One question is under way at a time, and covers everything that was
//! applied before it was sent; those who ask meanwhile have the next. It goes over the same pair of connections by which
//! that was read, or by which it was proved to be shared: what was lost with another order is never confirmed.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Output, Ticket, Told};
use crate::types::moment::Moment;

#[derive(Debug)]
pub(super) struct Confirmer {
    /// They have the next question.
    waiting: VecDeque<(Ticket, Moment)>,
    /// They have the question that is under way.
    asking: VecDeque<(Ticket, Moment)>,
    /// When it was sent.
    sent: Option<Moment>,
    waiting_max: usize,
    unknown_after: Duration,
}

impl Confirmer {
    pub(super) fn new(waiting_max: usize, unknown_after: Duration) -> Self {
        let (waiting, asking) = (VecDeque::new(), VecDeque::new());
        Self { waiting, asking, sent: None, waiting_max, unknown_after }
    }

    /// Someone asks. Returns false if there is no place.
    pub(super) fn push(&mut self, now: Moment, ticket: Ticket) -> bool {
        let has_place = self.waiting.len() + self.asking.len() < self.waiting_max;
        if has_place {
            self.waiting.push_back((ticket, now));
        }
        has_place
    }

    /// Whether a question is to be sent now.
    pub(super) fn next(&mut self, now: Moment) -> bool {
        let is_due = self.sent.is_none() && !self.waiting.is_empty();
        if is_due {
            self.asking.append(&mut self.waiting);
            self.sent = Some(now);
        }
        is_due
    }

    /// The answer to the question that is under way.
    pub(super) fn answered(&mut self, is_confirmed: bool, out: &mut VecDeque<Output>) {
        self.sent = None;
        let told = if is_confirmed { Told::Confirmed } else { Told::Unconfirmed };
        out.extend(self.asking.drain(..).map(|(ticket, _)| Output::Tell(told(ticket))));
    }

    /// The connections are gone, and with them the answer: it is asked again on others.
    pub(super) fn disconnected(&mut self) {
        self.sent = None;
        while let Some(asking) = self.asking.pop_back() {
            self.waiting.push_front(asking);
        }
    }

    /// A part of what was applied is lost. Whose it is, nobody remembers.
    pub(super) fn lost(&mut self, out: &mut VecDeque<Output>) {
        let all = self.asking.drain(..).chain(self.waiting.drain(..));
        out.extend(all.map(|(ticket, _)| Output::Tell(Told::Unconfirmed(ticket))));
    }

    /// When [`give_up`](Self::give_up) has something to do.
    pub(super) fn give_up_at(&self) -> Option<Moment> {
        let oldest = self.asking.front().or(self.waiting.front());
        oldest.map(|(_, since)| *since + self.unknown_after)
    }

    /// Answers those who have waited too long.
    pub(super) fn give_up(&mut self, now: Moment, out: &mut VecDeque<Output>) {
        let is_over = |(_, since): &mut (Ticket, Moment)| now.since(*since) >= self.unknown_after;
        for queue in [&mut self.asking, &mut self.waiting] {
            while let Some((ticket, _)) = queue.pop_front_if(is_over) {
                out.push_back(Output::Tell(Told::Unconfirmed(ticket)));
            }
        }
    }

    /// When the question was sent that has no answer.
    pub(super) fn outstanding(&self) -> Option<Moment> {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(out: &mut VecDeque<Output>) -> Vec<(u64, bool)> {
        let told = |output| match output {
            Output::Tell(Told::Confirmed(ticket)) => (ticket.0, true),
            Output::Tell(Told::Unconfirmed(ticket)) => (ticket.0, false),
            other => panic!("{other:?}"),
        };
        out.drain(..).map(told).collect()
    }

    /// The question was sent before what it is to cover: only the next one covers that.
    #[test]
    fn who_asks_while_a_question_is_under_way_has_the_next() {
        let (mut confirmer, mut out) = (Confirmer::new(9, SECOND), VecDeque::new());
        assert!(!confirmer.next(Moment(0)));
        assert!(confirmer.push(Moment(0), Ticket(1)) && confirmer.next(Moment(0)));
        assert!(confirmer.push(Moment(1), Ticket(2)) && !confirmer.next(Moment(1)));
        confirmer.answered(true, &mut out);
        assert_eq!(told(&mut out), [(1, true)]);
        assert!(confirmer.next(Moment(2)));
        confirmer.answered(false, &mut out);
        assert_eq!(told(&mut out), [(2, false)]);
    }

    #[test]
    fn what_is_lost_is_not_confirmed_and_what_is_cut_off_is_asked_again() {
        let (mut confirmer, mut out) = (Confirmer::new(9, SECOND), VecDeque::new());
        assert!(confirmer.push(Moment(0), Ticket(1)) && confirmer.next(Moment(0)));
        assert!(confirmer.push(Moment(0), Ticket(2)));
        confirmer.disconnected();
        assert!(told(&mut out).is_empty() && confirmer.next(Moment(1)));
        confirmer.answered(true, &mut out);
        assert_eq!(told(&mut out), [(1, true), (2, true)]);
        assert!(confirmer.push(Moment(2), Ticket(3)));
        confirmer.lost(&mut out);
        assert_eq!(told(&mut out), [(3, false)]);
        assert!(!confirmer.next(Moment(3)));
    }

    #[test]
    fn who_waits_too_long_is_answered_and_there_is_a_bound() {
        let (mut confirmer, mut out) = (Confirmer::new(2, SECOND), VecDeque::new());
        assert!(confirmer.push(Moment(0), Ticket(1)) && confirmer.next(Moment(0)));
        assert!(confirmer.push(Moment(5), Ticket(2)) && !confirmer.push(Moment(5), Ticket(3)));
        assert_eq!(confirmer.give_up_at(), Some(Moment(0) + SECOND));
        confirmer.give_up(Moment(0) + SECOND, &mut out);
        assert_eq!(told(&mut out), [(1, false)]);
        // Its answer is nobody's now.
        confirmer.answered(true, &mut out);
        assert_eq!(told(&mut out), []);
    }
}
