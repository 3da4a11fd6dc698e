//! Workers that publish the same events at the same time, each as often as it has to.

use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use super::caller::{Answer, Caller};
use super::clock::Clock;
use crate::number::add_counts;
use crate::target::server::Target;

/// What the requests with one key were answered with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Requests that were answered at last.
    pub requests: u64,
    /// Of those, with anything but 200.
    pub refused: u64,
    /// Of those, marked as the answer of an earlier one.
    pub replayed: u64,
    /// Answers with another id than the first.
    pub other_ids: u64,
    /// Answers before those, which asked to try again.
    pub busy: u64,
    id: Option<String>,
}

impl Verdict {
    /// Takes note of one request's last answer.
    pub fn see(&mut self, answer: &Answer, busy: u64) {
        self.busy += busy;
        self.requests += 1;
        self.replayed += u64::from(answer.is_replayed);
        if answer.status != 200 {
            self.refused += 1;
            return;
        }
        match &self.id {
            None => self.id.clone_from(&answer.body.id),
            id if *id != answer.body.id => self.other_ids += 1,
            Some(_) => {}
        }
    }

    /// Answers that are not marked although another one was the first, and marked ones for want of a first. Exactly one
    /// answer is not a replay.
    #[must_use]
    pub fn wrongly_marked(&self) -> u64 {
        (self.requests - self.replayed).abs_diff(1)
    }

    /// Adds the sums of another key.
    pub fn absorb(&mut self, other: &Self) {
        add_counts!(self, other; requests, refused, replayed, other_ids, busy);
    }
}

/// Events that every worker publishes at the same time.
#[derive(Debug)]
pub struct Retrier<'a> {
    /// The server.
    pub target: &'a Target,
    /// For the stamps in the events.
    pub clock: Clock,
    /// Workers, each with a connection.
    pub workers: usize,
    /// The room.
    pub room: String,
    /// Bytes of each event's data.
    pub bytes: usize,
}

impl Retrier<'_> {
    /// Publishes the events `first..first + events`, each by all workers at the same moment, with a key for each. Returns a
    /// verdict for each event.
    ///
    /// # Errors
    ///
    /// A worker's connection broke, or a key stays busy.
    pub fn publish_each(&self, first: u64, events: u64) -> io::Result<Vec<Verdict>> {
        let stamp = AtomicU64::new(0);
        let barrier = Barrier::new(self.workers);
        let answers = self.all(|caller| {
            let mut answers = Vec::new();
            // What failed once is not tried again, but the others still wait for this one.
            let mut failed = None;
            for seq in first..first + events {
                if barrier.wait().is_leader() {
                    stamp.store(self.clock.now_ns(), Ordering::Release);
                }
                barrier.wait();
                let body = self.body(seq, stamp.load(Ordering::Acquire));
                if failed.is_none() {
                    match caller.publish_once(&format!("event-{seq}"), &body) {
                        Ok(answer) => answers.push(answer),
                        Err(err) => failed = Some(err),
                    }
                }
            }
            failed.map_or(Ok(answers), Err)
        })?;
        let mut verdicts = vec![Verdict::default(); usize::try_from(events).unwrap_or(0)];
        for answers in answers {
            for (verdict, (answer, busy)) in verdicts.iter_mut().zip(answers) {
                verdict.see(&answer, busy);
            }
        }
        Ok(verdicts)
    }

    /// Publishes event `seq` with `requests` equal requests, divided among all workers.
    ///
    /// # Errors
    ///
    /// As [`Retrier::publish_each`].
    pub fn publish_again_and_again(&self, seq: u64, requests: u64) -> io::Result<Verdict> {
        let body = self.body(seq, self.clock.now_ns());
        let key = format!("event-{seq}");
        let left = AtomicU64::new(requests);
        let barrier = Barrier::new(self.workers);
        let take = |left: u64| left.checked_sub(1);
        let answers = self.all(|caller| {
            let mut answers = Vec::new();
            barrier.wait();
            while left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok() {
                answers.push(caller.publish_once(&key, &body)?);
            }
            Ok(answers)
        })?;
        let mut verdict = Verdict::default();
        answers.iter().flatten().for_each(|(answer, busy)| verdict.see(answer, *busy));
        Ok(verdict)
    }

    /// What every worker brings home.
    fn all<T: Send>(&self, work: impl Fn(&mut Caller) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
        let callers = (0..self.workers).map(|_| Caller::new(self.target)).collect::<io::Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let work = &work;
            let start = |mut caller: Caller| scope.spawn(move || work(&mut caller));
            let workers: Vec<_> = callers.into_iter().map(start).collect();
            let panicked = |_| io::Error::other("a worker panicked");
            workers.into_iter().map(|worker| worker.join().map_err(panicked)?).collect()
        })
    }

    fn body(&self, seq: u64, now_ns: u64) -> String {
        let data = format!("{seq} {now_ns} ");
        let padding = "x".repeat(self.bytes.saturating_sub(data.len()));
        format!(r#"{{"room":"{}","data":"{data}{padding}"}}"#, self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::caller::AnswerBody;

    fn answer(status: u16, id: &str, is_replayed: bool) -> Answer {
        let body = AnswerBody { id: Some(id.to_owned()), ..AnswerBody::default() };
        Answer { status, is_replayed, body }
    }

    #[test]
    fn one_answer_is_the_first_and_the_others_are_marked() {
        let mut verdict = Verdict::default();
        verdict.see(&answer(200, "e-1", true), 2);
        assert_eq!(verdict.wrongly_marked(), 1, "somebody must have been the first");
        verdict.see(&answer(200, "e-1", false), 0);
        verdict.see(&answer(200, "e-1", true), 1);
        assert_eq!(
            (verdict.wrongly_marked(), verdict.other_ids, verdict.refused, verdict.busy),
            (0, 0, 0, 3)
        );
        verdict.see(&answer(200, "e-2", false), 0);
        assert_eq!((verdict.wrongly_marked(), verdict.other_ids), (1, 1));
        verdict.see(&answer(422, "e-2", true), 0);
        assert_eq!(verdict.refused, 1);
    }
}
