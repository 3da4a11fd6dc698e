//! What of a node's history an order shares, and what the node is told of it.
//!
//! The newest term that both know ends somewhere in each of them; up to the lower end they are the same, if the tag there is
//! the same. Without a term in common nothing is shared. An order that is shorter than it can be, or that has another tag,
//! went back without a trace: its ids may name two events each, so it is given up as a whole.

use std::cmp::Ordering;

use super::{Adopted, Command, Line, Link, Loss, Phase, Told};
use crate::order::redis::call::Whereabouts;
use crate::order::redis::entry::{Content, EntryId, LogEntry, Mark};
use crate::order::redis::marks::{Known, Marks};
use crate::types::moment::Moment;
use crate::types::position::Offset;

/// What a look at an order says.
#[derive(Debug, Eq, PartialEq)]
enum Judged {
    /// Nothing was applied yet.
    Start,
    /// No term is known to both.
    Apart,
    /// It is shorter than what was applied of it.
    Contradicts,
    /// It no longer has what is above this offset.
    Evicted(Offset),
    /// It is the same up to this offset if its tag is.
    Same(Offset),
}

/// What the tag at an offset says.
#[derive(Debug, Eq, PartialEq)]
enum Proved {
    Same,
    Other,
    /// The node no longer knows what it applied there.
    Forgotten,
}

/// Compares the order that is `here` with what was applied.
fn judge(line: Option<&Line>, here: &Whereabouts) -> Judged {
    let Some(line) = line else {
        return Judged::Start;
    };
    let Some(end) = line.lineage.shared_with(&here.lineage) else {
        return Judged::Apart;
    };
    let shared = end.min(line.applied);
    if here.newest < shared {
        Judged::Contradicts
    } else if here.floor() <= shared {
        Judged::Same(shared)
    } else {
        Judged::Evicted(shared)
    }
}

/// Compares the tag that the order has at an offset, if any, with what was applied there.
fn prove(line: &Line, shared: Offset, tag: Option<Mark>) -> Proved {
    match line.marks.at(shared) {
        Known::Mark(mark) if tag == Some(mark) => Proved::Same,
        Known::Mark(_) | Known::Nothing => Proved::Other,
        Known::Forgotten => Proved::Forgotten,
    }
}

/// What an entry says of the tag at `offset`, at or before its end.
enum TagAt {
    Is(Mark),
    /// Nothing ends there.
    None,
    /// It begins later.
    Gone,
}

fn tag_at(entry: &LogEntry, offset: Offset) -> TagAt {
    let is_tick = entry.content == Content::Tick;
    if entry.id.offset == offset && !is_tick {
        return TagAt::Is(Mark::of(&entry.tag));
    }
    match (entry.id.offset - entry.events()).cmp(&offset) {
        Ordering::Less => TagAt::None,
        Ordering::Equal => TagAt::Is(entry.before),
        Ordering::Greater => TagAt::Gone,
    }
}

impl Link {
    /// The order is `here`.
    pub(super) fn judge(&mut self, now: Moment, here: Whereabouts) {
        // It was left, and is shorter than it was then.
        if here.newest < self.seen_of(here.lineage.epoch()) {
            return self.give_up_order(now, here.lineage.epoch());
        }
        match judge(self.line.as_ref(), &here) {
            Judged::Start => self.begin(now, &here, None, Loss::Start),
            Judged::Apart => self.begin(now, &here, None, Loss::Restart),
            Judged::Contradicts => self.give_up_order(now, here.lineage.epoch()),
            Judged::Evicted(shared) => self.begin(now, &here, Some(shared), Loss::Evicted),
            Judged::Same(shared) => {
                if here.floor() == shared {
                    let tag = Mark::of(here.tag_at_floor());
                    return self.compare(now, &here, shared, Some(tag));
                }
                self.run(Command::Probe(EntryId::at(shared)));
                let until = now + self.settings.answer_within;
                self.phase = Phase::Probing { until, here, shared };
            }
        }
    }

    /// The first entry from the end of what may be shared has come.
    pub(super) fn probed(&mut self, now: Moment, entry: Option<&LogEntry>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Attaching { until: now });
        let Phase::Probing { here, shared, .. } = phase else { unreachable!("asked in this phase alone") };
        match entry.map(|entry| tag_at(entry, shared)) {
            Some(TagAt::Is(tag)) => self.compare(now, &here, shared, Some(tag)),
            Some(TagAt::None) => self.compare(now, &here, shared, None),
            // It was trimmed since, or taken out: another look tells.
            Some(TagAt::Gone) | None => self.lose_at_hole(now),
        }
    }

    fn compare(&mut self, now: Moment, here: &Whereabouts, shared: Offset, tag: Option<Mark>) {
        let line = self.line.as_ref().expect("something was applied");
        match prove(line, shared, tag) {
            Proved::Same => self.go_on(now, here, shared),
            Proved::Other => self.give_up_order(now, here.lineage.epoch()),
            Proved::Forgotten => self.begin(now, here, None, Loss::Restart),
        }
    }

    /// What was applied up to `shared` is proved to be shared, and the log has what is above.
    fn go_on(&mut self, now: Moment, here: &Whereabouts, shared: Offset) {
        let line = self.line.as_mut().expect("something was applied");
        let loss = if shared < line.told { Loss::Failover } else { Loss::Nothing };
        let is_new = loss != Loss::Nothing || line.lineage != here.lineage;
        line.marks.cut(shared);
        line.applied = shared;
        line.at = EntryId::at(shared);
        if loss != Loss::Nothing {
            self.confirmer.lost(&mut self.out);
        }
        if is_new {
            line.told = shared;
            self.adopt(here, Some(shared), shared, loss);
        }
        self.attached_to(now, here);
    }

    /// The log is read from its oldest entry on.
    fn begin(&mut self, now: Moment, here: &Whereabouts, shared_to: Option<Offset>, loss: Loss) {
        self.confirmer.lost(&mut self.out);
        let from = here.floor();
        let mut marks = Marks::new(self.settings.marks_max);
        marks.push(from, Mark::of(here.tag_at_floor()));
        let lineage = here.lineage.clone();
        self.enter(lineage.epoch());
        self.line = Some(Line { lineage, applied: from, told: from, at: EntryId::at(from), marks });
        self.adopt(here, shared_to, from, loss);
        self.attached_to(now, here);
    }

    fn adopt(&mut self, here: &Whereabouts, shared_to: Option<Offset>, from: Offset, loss: Loss) {
        self.enter(here.lineage.epoch());
        let line = self.line.as_mut().expect("something was applied");
        line.lineage = here.lineage.clone();
        self.tell(Told::Adopt(Adopted { lineage: here.lineage.clone(), shared_to, from, loss }));
    }

    fn attached_to(&mut self, now: Moment, here: &Whereabouts) {
        self.given_up = None;
        self.saw(here.newest);
        self.follow(now, here.newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::redis::call::Oldest;
    use crate::types::lineage::Lineage;
    use crate::types::position::Epoch;

    /// A node that has applied batches of one event, up to `applied`.
    fn line(lineage: Lineage, applied: Offset) -> Line {
        let mut marks = Marks::new(100);
        for offset in applied.saturating_sub(20)..=applied {
            marks.push(offset, Mark::of(&offset.to_string()));
        }
        Line { lineage, applied, told: applied, at: EntryId::at(applied), marks }
    }

    fn here(lineage: Lineage, newest: Offset, oldest: Offset) -> Whereabouts {
        let oldest = Oldest { id: EntryId::at(oldest), tag: "x:1".into(), before: "y".into(), events: 1 };
        Whereabouts { newest, tag: "x:2".into(), lineage, oldest: Some(oldest) }
    }

    fn root(n: u64) -> Lineage {
        Lineage::root(Epoch::new(n), 0)
    }

    fn forked(end: Offset, n: u64) -> Lineage {
        let mut lineage = root(1);
        lineage.fork(end, end, Epoch::new(n));
        lineage
    }

    #[test]
    fn what_is_shared_ends_at_the_lower_end_of_the_newest_common_term() {
        let node = line(root(1), 100);
        let newest = Lineage::first_after(100);
        assert_eq!(judge(None, &here(root(1), 100, 1)), Judged::Start);
        assert_eq!(judge(Some(&node), &here(root(2), newest, 1)), Judged::Apart);
        assert_eq!(judge(Some(&node), &here(root(1), 120, 1)), Judged::Same(100));
        assert_eq!(judge(Some(&node), &here(forked(90, 2), newest, 1)), Judged::Same(90));
        assert_eq!(judge(Some(&node), &here(forked(110, 2), newest, 1)), Judged::Same(100));
        // Two that left the same term at two places.
        let node = line(forked(90, 2), Lineage::first_after(90) + 5);
        assert_eq!(judge(Some(&node), &here(forked(95, 3), newest + 3, 1)), Judged::Same(90));
    }

    #[test]
    fn an_order_that_is_too_short_contradicts() {
        let node = line(forked(90, 2), Lineage::first_after(90) + 5);
        assert_eq!(judge(Some(&node), &here(root(1), 89, 1)), Judged::Contradicts);
        assert_eq!(judge(Some(&node), &here(root(1), 90, 1)), Judged::Same(90));
    }

    #[test]
    fn what_the_log_no_longer_has_is_evicted() {
        let node = line(root(1), 100);
        assert_eq!(judge(Some(&node), &here(root(1), 200, 101)), Judged::Same(100));
        assert_eq!(judge(Some(&node), &here(root(1), 200, 102)), Judged::Evicted(100));
        let empty = |newest| Whereabouts { oldest: None, ..here(root(1), newest, 1) };
        assert_eq!(judge(Some(&node), &empty(100)), Judged::Same(100));
        assert_eq!(judge(Some(&node), &empty(101)), Judged::Evicted(100));
    }

    #[test]
    fn a_tag_proves() {
        let node = line(root(1), 100);
        assert_eq!(prove(&node, 95, Some(Mark::of("95"))), Proved::Same);
        assert_eq!(prove(&node, 95, Some(Mark::of("x"))), Proved::Other);
        assert_eq!(prove(&node, 95, None), Proved::Other);
        assert_eq!(prove(&node, 7, Some(Mark::of("7"))), Proved::Forgotten);
    }
}
