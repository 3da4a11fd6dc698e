//! Compares what is in the log with what subscribers got and what publishers were answered.

use std::collections::HashMap;

use super::book::Book;
use super::heard::{Heard, Id, Step};
use super::terms::Terms;

/// Events that were answered together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    /// The number of the first. The others follow.
    pub number: u64,
    /// How many.
    pub count: u64,
    /// The term of the answer's id.
    pub epoch: String,
    /// Its offset, which is that of the last of them.
    pub last: u64,
}

/// What was wrong, over all subscribers and publishers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Events that a subscriber did not get, without a gap.
    pub undeclared: u64,
    /// Events that came twice, or are in one order twice.
    pub duplicated: u64,
    /// Events that came after newer ones.
    pub reordered: u64,
    /// Events that came under an id that the log has for another one, or for none.
    pub other_ids: u64,
    /// Answered events that are not in the log, and no fault may have lost them.
    pub lost: u64,
    /// Gaps that were told to those who had only what is still there.
    pub needless: u64,
    /// Orders that were given up, and no fault explains it.
    pub given_up: u64,
    /// Answered events that a fault lost, as documented.
    pub excused: u64,
    /// Gaps told.
    pub gaps: u64,
    /// The first few that were wrong.
    pub examples: Vec<String>,
}

/// The three that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    /// Which terms there were.
    pub terms: &'a Terms,
    /// What is in the log.
    pub book: &'a Book,
    /// What subscribers got.
    pub heard: &'a Heard,
}

impl Truth<'_> {
    /// Judges everything, with what publishers were answered.
    #[must_use]
    pub fn judge(self, answered: &[Answered]) -> Verdict {
        let tally = self.heard.tally;
        let mut verdict = Verdict {
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            other_ids: tally.other_ids,
            given_up: self.terms.given_up(),
            ..Verdict::default()
        };
        self.judge_steps(&mut verdict);
        self.judge_gaps(&mut verdict);
        self.judge_events(&mut verdict);
        self.judge_log(&mut verdict);
        for one in answered {
            self.judge_answer(one, &mut verdict);
        }
        verdict
    }

    fn judge_steps(self, verdict: &mut Verdict) {
        for (step, times) in &self.heard.steps {
            let missing = self.missing(step);
            if missing > 0 {
                verdict.undeclared += times * missing;
                verdict
                    .show(|| format!("{times} went from {} to {}", self.text(step.from), self.text(step.to)));
            }
        }
    }

    /// How many events of the log are in what was passed over; one if the one place does not lead to the other.
    fn missing(self, step: &Step) -> u64 {
        let [from, to] = [step.from, step.to].map(|id| (self.heard.name(id), id.offset));
        let Some(between) = self.terms.between(from, to) else { return 1 };
        let events = |(epoch, first, last): (&str, u64, u64)| {
            (first + 1..=last).filter(|offset| self.book.at(epoch, *offset).is_some()).count() as u64
        };
        between.into_iter().map(events).sum()
    }

    fn judge_gaps(self, verdict: &mut Verdict) {
        for ((reason, cursor), times) in &self.heard.gaps {
            verdict.gaps += times;
            if let Some(cursor) = cursor.filter(|cursor| self.is_there(*cursor)) {
                verdict.needless += times;
                verdict.show(|| format!("{times} were told {reason} at {}", self.text(cursor)));
            }
        }
    }

    /// Whether everything up to `id` is still there, and so is what followed it.
    fn is_there(self, id: Id) -> bool {
        let found = self.terms.find(self.heard.name(id));
        found.is_some_and(|(order, at)| {
            order.gone.is_none() && order.terms[at].last.is_none_or(|last| id.offset <= last)
        })
    }

    /// What subscribers got is what the log has, so far as it is still there.
    fn judge_events(self, verdict: &mut Verdict) {
        for (epoch, at, number) in self.heard.all() {
            let Some((order, term)) = self.terms.find(epoch) else {
                if self.terms.is_lost(epoch) {
                    continue;
                }
                verdict.other_ids += 1;
                verdict.show(|| format!("{number} came in the term {epoch}, which there never was"));
                continue;
            };
            let offset = whole(order.terms[term].first, at);
            let logged = self.book.at(epoch, offset);
            // The end of an order that is gone may not have been read in time.
            let is_right = logged == Some(number) || (logged.is_none() && order.gone.is_some());
            if order.has(term, offset) && !is_right {
                verdict.other_ids += 1;
                verdict.show(|| format!("{number} came as {epoch}-{offset}, where the log has {logged:?}"));
            }
        }
    }

    /// No event is in one order twice.
    fn judge_log(self, verdict: &mut Verdict) {
        let mut seen = HashMap::new();
        for (epoch, at, number) in self.book.all() {
            let Some((order, term)) = self.terms.find(epoch) else { continue };
            let offset = whole(order.terms[term].first, at);
            if !order.has(term, offset) {
                continue;
            }
            if let Some(other) = seen.insert((std::ptr::from_ref(order), number), (epoch, offset)) {
                verdict.duplicated += 1;
                verdict.show(|| format!("{number} is at {epoch}-{offset} and at {other:?}"));
            }
        }
    }

    fn judge_answer(self, answered: &Answered, verdict: &mut Verdict) {
        let Answered { number, count, epoch, last } = answered;
        for nth in 0..*count {
            let offset = last + nth + 1 - count;
            let found = self.terms.find(epoch).map(|(order, at)| (order, at, order.has(at, offset)));
            let is_excused = match found {
                None => self.terms.is_lost(epoch),
                Some((order, _, true)) => {
                    let logged = self.book.at(epoch, offset);
                    if logged == Some(number + nth) {
                        continue;
                    }
                    logged.is_none() && order.gone == Some(true)
                }
                Some((order, at, false)) => order.terms[at].may_lose,
            };
            if is_excused {
                verdict.excused += 1;
            } else {
                verdict.lost += 1;
                verdict.show(|| format!("{} was answered as {epoch}-{offset}, and is lost", number + nth));
            }
        }
    }

    fn text(self, id: Id) -> String {
        format!("{}-{}", self.heard.name(id), id.offset)
    }
}

impl Verdict {
    fn show(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// The offset that has the place `at` in its term.
fn whole(first: u64, at: u64) -> u64 {
    first & !u64::from(u32::MAX) | at
}

const EXAMPLES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::super::book::Logged;
    use super::super::terms::Excuse;
    use super::*;

    /// Two terms: `a` has 1 to 3, of which 3 is lost; `b` goes on behind 2.
    struct World {
        terms: Terms,
        book: Book,
        heard: Heard,
    }

    fn world(excuse: Excuse) -> World {
        let (mut terms, mut book) = (Terms::default(), Book::default());
        terms.read("a:0", Excuse::default()).expect("terms");
        let fork = |id: &str, tag: &str| Logged { id: id.into(), tag: tag.into(), ..Logged::default() };
        let event = |id: &str, body: &str| {
            let (id, counts, body) = (id.into(), Some("0:1:3".into()), body.into());
            Logged { id, counts, body, tag: "x:1.1".into() }
        };
        let entries = [
            fork("0-0", "a"),
            event("1-0", "#1#"),
            event("2-0", "#2#"),
            event("3-0", "#3#"),
            fork("8589934592-0", "b"),
            event("8589934593-0", "#4#"),
        ];
        for entry in &entries {
            book.take(entry).expect("an entry");
        }
        terms.read("a:0:2,b:8589934592", excuse).expect("terms");
        World { terms, book, heard: Heard::default() }
    }

    const TAIL: Excuse = Excuse { tail: true, all: false };

    impl World {
        /// One subscriber gets these; a number of 0 is a gap.
        fn hears(&mut self, ids: &[(&str, u64)]) {
            let mut cursor = None;
            for (text, number) in ids {
                let id = self.heard.id(text.as_bytes(), cursor).expect("an id");
                if *number == 0 {
                    self.heard.gap(&mut cursor, id, "failover");
                } else {
                    self.heard.event(&mut cursor, id, *number);
                }
            }
        }

        fn judge(&self, answered: &[(u64, &str, u64)]) -> Verdict {
            let answered = answered.iter().map(|(number, epoch, last)| {
                let epoch = (*epoch).to_owned();
                Answered { number: *number, count: 1, epoch, last: *last }
            });
            let Self { terms, book, heard } = self;
            let truth = Truth { terms, book, heard };
            Verdict { examples: Vec::new(), ..truth.judge(&answered.collect::<Vec<_>>()) }
        }
    }

    #[test]
    fn what_was_shared_goes_on_without_a_gap_and_what_was_lost_with_one() {
        let mut world = world(TAIL);
        world.hears(&[("a-1", 1), ("a-2", 2), ("b-8589934593", 4)]);
        world.hears(&[("a-2", 2), ("a-3", 3), ("b-8589934592", 0), ("b-8589934593", 4)]);
        let answers = [(1, "a", 1), (2, "a", 2), (3, "a", 3), (4, "b", 8_589_934_593)];
        assert_eq!(world.judge(&answers), Verdict { gaps: 1, excused: 1, ..Verdict::default() });
    }

    #[test]
    fn each_fault_between_terms_is_found() {
        for (ids, wanted) in [
            (&[("a-1", 1), ("b-8589934593", 4)][..], Verdict { undeclared: 1, ..Verdict::default() }),
            (&[("a-3", 3), ("b-8589934593", 4)], Verdict { undeclared: 1, ..Verdict::default() }),
            (&[("a-2", 2), ("b-8589934592", 0)], Verdict { needless: 1, gaps: 1, ..Verdict::default() }),
            (&[("a-2", 3)], Verdict { other_ids: 1, ..Verdict::default() }),
            (&[("b-8589934594", 5)], Verdict { other_ids: 1, ..Verdict::default() }),
            (&[("c-1", 5)], Verdict { other_ids: 1, ..Verdict::default() }),
        ] {
            let mut world = world(TAIL);
            world.hears(ids);
            assert_eq!(world.judge(&[]), wanted, "{ids:?}");
        }
    }

    #[test]
    fn what_was_answered_is_there_or_excused() {
        let lost = Verdict { lost: 1, ..Verdict::default() };
        assert_eq!(world(Excuse::default()).judge(&[(3, "a", 3)]), lost, "no fault may lose it");
        assert_eq!(world(TAIL).judge(&[(9, "a", 2)]), lost, "the log has another one there");
        assert_eq!(world(TAIL).judge(&[(9, "b", 8_589_934_594)]), lost, "the log does not reach there");
        assert_eq!(world(TAIL).judge(&[(9, "c", 1)]), lost, "there is no such term");
        let mut twice = world(TAIL);
        let again = ("8589934594-0".to_owned(), Some("0:1:3".to_owned()));
        twice
            .book
            .take(&Logged { id: again.0, counts: again.1, body: b"#2#".to_vec(), tag: "x".into() })
            .expect("it");
        assert_eq!(twice.judge(&[]), Verdict { duplicated: 1, ..Verdict::default() });
    }
}
