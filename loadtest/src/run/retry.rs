//! A storm of retries: everything is published several times, with one idempotency key for each event.
//!
//! Every event exists once, every answer to it names the same id, and all answers but one are marked as replayed. Then so
//! many different keys come that most must be forgotten, and the server's memory stays within a bound.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use super::one::Run;
use super::window::Span;
use crate::client::caller::{Answer, Caller};
use crate::client::fleet::{Done, Fleet};
use crate::client::published::Published;
use crate::client::retrier::{Retrier, Verdict};
use crate::number::count;
use crate::plan::special::Repeats;
use crate::report::found::Found;
use crate::report::special::Retry;

impl Run {
    /// All three parts, and what the subscribers got of it.
    pub(super) fn retry(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        self.meter.reset_peak();
        let window = self.open_window(&fleet)?;
        self.begin_series(&fleet, None)?;
        let first_ns = self.clock.now_ns();
        let mut retry = Retry::default();
        self.storm_of_retries(&mut retry)?;
        self.one_key_again_and_again(&mut retry)?;
        let events = retry.events + 1;
        self.published = Published {
            counts: vec![events],
            offered: events,
            sent: events,
            accepted: events,
            first_ns,
            last_ns: self.clock.now_ns(),
            answered_ns: self.clock.now_ns(),
            ..Published::default()
        };
        self.wait_delivered(&mut fleet)?;
        // What came twice may come late.
        self.pass(&mut fleet, LATE)?;
        let span: Span = self.close_window(&window, &fleet)?;
        self.many_keys(&mut retry)?;
        self.take_memory();
        self.report.found = Some(Found::Retry(retry));
        self.finish(fleet, &span, None)
    }

    fn retrier(&self) -> Retrier<'_> {
        Retrier {
            target: &self.target,
            clock: self.clock,
            workers: self.repeats().workers as usize,
            room: self.assignment.names.room(0),
            bytes: self.settings().bytes,
        }
    }

    fn repeats(&self) -> &Repeats {
        &self.settings().repeats
    }

    /// Each event by all workers at the same moment.
    fn storm_of_retries(&mut self, retry: &mut Retry) -> io::Result<()> {
        let events = u64::from(self.repeats().events);
        self.progress.say("each event from all workers");
        let verdicts = self.retrier().publish_each(0, events)?;
        let mut all = Verdict::default();
        for verdict in &verdicts {
            all.absorb(verdict);
        }
        let marked = verdicts.iter().map(Verdict::wrongly_marked).sum();
        retry.events = events;
        retry.workers = self.repeats().workers.into();
        retry.requests = all.requests;
        self.judge_answers(&all, marked, retry);
        Ok(())
    }

    /// One more event, with far more requests.
    fn one_key_again_and_again(&mut self, retry: &mut Retry) -> io::Result<()> {
        let equal = u64::from(self.repeats().equal);
        self.progress.say("one key again and again");
        let begin = Instant::now();
        let verdict = self.retrier().publish_again_and_again(retry.events, equal)?;
        retry.equal = verdict.requests;
        retry.equal_per_s = count(verdict.requests) / begin.elapsed().as_secs_f64().max(1e-9);
        self.judge_answers(&verdict, verdict.wrongly_marked(), retry);
        Ok(())
    }

    fn judge_answers(&mut self, all: &Verdict, wrongly_marked: u64, retry: &mut Retry) {
        retry.replayed += all.replayed;
        retry.busy += all.busy;
        self.fault(all.refused, "requests with a key refused");
        self.fault(all.other_ids, "answers with another id than the first with their key");
        self.fault(wrongly_marked, "answers wrongly marked, or not marked, as replayed");
    }

    /// Different keys, in arrays, to a room without listeners.
    fn many_keys(&mut self, retry: &mut Retry) -> io::Result<()> {
        let Repeats { keys, remembered, .. } = *self.repeats();
        retry.keys = keys.into();
        retry.remembered = remembered.into();
        let room = self.assignment.names.room(1);
        let mut caller = Caller::new(&self.target)?;
        // History and buffers are full before memory is looked at.
        for _ in 0..WARM_UP_ARRAYS {
            caller.publish(None, &array(&room, 0..ARRAY_EVENTS, false))?;
        }
        let before_kib = self.meter.resident_kib()?;
        self.progress.begin("different keys", Some(retry.keys));
        let begin = Instant::now();
        // The server's tables have grown as far as they do.
        let full = (retry.keys / 2).max(2 * retry.remembered);
        let mut wrong = 0;
        let mut last = String::new();
        for first in (0..retry.keys).step_by(ARRAY_STEP) {
            let end = retry.keys.min(first + ARRAY_EVENTS);
            last = array(&room, first..end, true);
            wrong += u64::from(!is_new(&caller.publish(None, &last)?, end - first));
            self.progress.at(end, "keys");
            if retry.growth_full_kib.is_none() && end >= full {
                retry.growth_full_kib = growth(before_kib, self.meter.resident_kib()?);
            }
        }
        retry.keys_per_s = count(retry.keys) / begin.elapsed().as_secs_f64().max(1e-9);
        retry.growth_kib = growth(before_kib, self.meter.resident_kib()?);
        self.fault(wrong, "arrays of new keys not published in full");
        self.judge_memory(retry);
        self.judge_last(&mut caller, &last, retry.remembered)
    }

    /// Memory has a bound, and has reached it long before the end.
    fn judge_memory(&mut self, retry: &mut Retry) {
        retry.growth_kib_max = retry.keys.min(retry.remembered) * KEY_BYTES_MAX / 1024 + SLACK_KIB;
        let whole = |kib: i64| u64::try_from(kib).unwrap_or(0);
        let growth = retry.growth_kib.map_or(0, whole);
        let over = growth.saturating_sub(retry.growth_kib_max);
        self.fault(over, "KiB more than the keys that are remembered may take");
        let later = retry.growth_kib.zip(retry.growth_full_kib).map_or(0, |(end, full)| whole(end - full));
        let over = later.saturating_sub(SLACK_KIB);
        self.fault(over, "KiB more at the end than when all places for keys had been taken");
    }

    /// The newest keys are known, as many as the server remembers.
    fn judge_last(&mut self, caller: &mut Caller, last: &str, remembered: u64) -> io::Result<()> {
        let events = last.matches("\"once\"").count() as u64;
        if events == 0 || events > remembered {
            return Ok(());
        }
        let body = caller.publish(None, last)?.body;
        let forgotten = events - body.replayed.unwrap_or(0).min(events);
        self.fault(forgotten, "of the newest keys were forgotten");
        Ok(())
    }
}

/// Whether all events of an array were published now.
fn is_new(answer: &Answer, events: u64) -> bool {
    let body = &answer.body;
    answer.status == 200 && body.published == Some(events) && body.replayed.unwrap_or(0) == 0
}

fn growth(before_kib: Option<u64>, now_kib: Option<u64>) -> Option<i64> {
    let signed = |kib: u64| i64::try_from(kib).ok();
    before_kib.and_then(signed).zip(now_kib.and_then(signed)).map(|(before, now)| now - before)
}

/// Events to `room`, each with a key of its own if `has_keys`.
fn array(room: &str, numbers: std::ops::Range<u64>, has_keys: bool) -> String {
    let mut body = String::from("[");
    for number in numbers {
        if body.len() > 1 {
            body.push(',');
        }
        // Writing to a string can't fail.
        let _ = write!(body, r#"{{"room":"{room}","data":"{number}""#);
        if has_keys {
            let _ = write!(body, r#","once":"key-{number}""#);
        }
        body.push('}');
    }
    body.push(']');
    body
}

/// Events in one array: the server takes 4,096.
const ARRAY_EVENTS: u64 = 4_000;
/// The same, to count by.
const ARRAY_STEP: usize = 4_000;
const WARM_UP_ARRAYS: u32 = 10;
/// What one remembered key may take, with the tables around it.
const KEY_BYTES_MAX: u64 = 400;
/// What the allocator may hold beside that.
const SLACK_KIB: u64 = 8 * 1024;
/// Time for what should not come.
const LATE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::client::caller::AnswerBody;

    #[test]
    fn an_array_is_json_with_a_key_for_each_event() {
        let events: Value = serde_json::from_str(&array("r1", 7..9, true)).expect("JSON");
        assert_eq!(events[1], serde_json::json!({"room": "r1", "data": "8", "once": "key-8"}));
        let events: Value = serde_json::from_str(&array("r1", 0..1, false)).expect("JSON");
        assert!(events[0].get("once").is_none() && events.as_array().is_some_and(|all| all.len() == 1));
    }

    #[test]
    fn an_array_of_which_something_was_known_is_not_new() {
        let answer = |status, published, replayed| Answer {
            status,
            body: AnswerBody { published: Some(published), replayed, ..AnswerBody::default() },
            ..Answer::default()
        };
        assert!(is_new(&answer(200, 5, None), 5));
        assert!(!is_new(&answer(200, 4, Some(1)), 5) && !is_new(&answer(503, 5, None), 5));
    }

    #[test]
    fn memory_may_shrink() {
        assert_eq!((growth(Some(7), Some(5)), growth(None, Some(5))), (Some(-2), None));
    }
}
